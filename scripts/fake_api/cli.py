"""cli - the command line of fake-api."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import resource
import sys
from pathlib import Path

from fake_api import faults
from fake_api.app import App, Quick
from fake_api.server import serve
from fake_api.talk import Script

HELP = """\
examples:
  fake-api                                     echo the user's words; `call NAME {"json": 1}` makes a tool call
  fake-api --script replies.jsonl              one reply a line: {"text": "hi"}  {"tool_calls": [{"name": "f", "arguments": {}}]}
                                               {"fault": "429:2", "times": 2}  {"text": "for ever", "loop": true}  {"loop": true}
  fake-api --fault '500*2'                     two 500s in each conversation, then well (also: header x-fault, model fault:NAME)
  fake-api --quick --delay-ms 50 --script s    no reading, no recording: for benchmarks
control: GET /_requests /_load /_faults, POST /_script (JSONL) /_fault (NAME) /_reset
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser."""
    made = argparse.ArgumentParser(
        "fake-api", description="A real HTTP server that speaks every vendor's wire format, with faults on demand.", epilog=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    made.add_argument("--host", default="127.0.0.1")
    made.add_argument("--port", type=int, default=0, help="0: any free one (default)")
    made.add_argument("--script", type=Path, metavar="FILE", help="replies, one JSON object a line")
    made.add_argument("--repeat-last", action="store_true", help="the script's last line repeats (default: 400 at its end)")
    per = "a conversation is: key and first user message (default), key, all; header x-conversation wins"
    made.add_argument("--per", choices=("message", "key", "server"), default="message", help=per)
    made.add_argument("--fault", default="", metavar="NAME[:ARG][*TIMES]", help="what every request meets")
    made.add_argument("--list-faults", action="store_true", help="print every fault and stop")
    made.add_argument("--delay-ms", type=float, default=0.0, help="think this long before each reply")
    made.add_argument("--key", default="", help="answer 401 unless requests carry this key")
    made.add_argument("--lenient", action="store_true", help="do not refuse requests that the vendor would refuse")
    made.add_argument("--quick", action="store_true", help="for benchmarks: the reply is chosen by counting assistant turns")
    return made


def main() -> int:
    """Run the server; return the exit status."""
    options = parser().parse_args()
    if options.list_faults:
        print("\n".join(f"{name:16} {what}" for name, what in faults.descriptions().items()))
        return 0
    script = Script(repeat_last=options.repeat_last, per=options.per)
    app = App(script, delay_ms=options.delay_ms, key=options.key, lenient=options.lenient)
    try:
        if options.script:
            app.load(options.script.read_text("utf-8").splitlines())
        app.set_fault(options.fault)
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        print(f"fake-api: {error}", file=sys.stderr)
        return 2
    _many_files()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(app, Quick(app.script) if options.quick else None, options.host, options.port))
    return 0


def _many_files() -> None:
    """Allow as many connections as the system lets us have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
