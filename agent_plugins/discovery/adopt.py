"""adopt - register a program, because somebody asked for it: the one place of discovery where a program is started.

    adopted(program, settings)       the entry, whether anything changed, and how far the program was shut in meanwhile

The program is asked for `--agent-schema`. If it answers with a card it is an agent. Else it is asked for `--help`, and becomes a
tool whose card is made from that: name, description, arguments, stdin. It is never called with bare words, and always with an
argument list (no shell), an environment of a few plain variables, an empty folder as home and working directory that is removed
afterwards, no stdin, limits on time, output, CPU time and file sizes, and the kernel sandbox where there is one. `level` says what
was in force. The hash is taken before and after: a program that changed meanwhile is not registered.
"""

from __future__ import annotations

import os
import re
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent_core import catalogue
from agent_core.errors import ContractError, DeniedError, Failed, InputError, UsageError

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator, Mapping, Sequence

    from agent_core.catalogue import Entry
    from agent_core.sandbox import Way

SECONDS = 10.0
LARGEST = 1024 * 1024
CPU_SECONDS = 10
FILE_BYTES = 64 * 1024 * 1024  # a single-file executable unpacks itself
PATH = "/usr/local/bin:/usr/bin:/bin"
LIMITS = "argument list, scrubbed environment, empty folder, no stdin, time, output and resource limits"
_TICK = 0.05
_STOCK = "a command-line program (its help says no more)"
_ABOUT = re.compile(r"^(?:description|about|name)\s*:?\s*$", re.IGNORECASE)
_SKIP = re.compile(r"^(?:usage|synopsis|options?|arguments?|commands?|examples?)\b|^\s*-|^or:", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Adopted:
    """What adopting came to. `level` says how the program was shut in while it was asked."""

    entry: Entry
    new: bool
    level: str


@dataclass(frozen=True, slots=True)
class Said:
    """What a program said: its status (negative: the signal that ended it), stdout and stderr, and why it was stopped."""

    status: int
    out: str
    err: str
    stopped: str = ""


@dataclass(frozen=True, slots=True)
class Terms:
    """How a program is adopted.

    `name`: registered under this, in place of its own; `replace`: the name may be taken away from another program; `seconds`: the
    time for each question; `read`: folders it may read besides its own and the system's.
    """

    name: str = ""
    replace: bool = False
    seconds: float = SECONDS
    read: tuple[str, ...] = ()


def adopted(program: str, settings: Any, terms: Terms | None = None) -> Adopted:
    """Ask a program what it is and register it.

    Args:
        program: a path, or a name on the PATH.
        settings: the run's settings: data_dir, environment.
        terms: how.

    Raises:
        UsageError: there is no such program, or its name cannot be one.
        DeniedError: the name belongs to another program.
        InputError, ContractError: its card is none, or it changed while it was asked.
        Failed: it cannot be started, or says nothing in the sandbox.
    """
    terms = terms or Terms()
    path = located(program, settings.environment)
    before = catalogue.hash_of(path)
    card, level = _asked(path, terms, settings)
    made = catalogue.entry_of(terms.name or card["name"], [str(path)], card, "adopt")
    if made.sha256 != before:
        raise ContractError(f"{path.name} changed while it was asked", hint="try again when nothing writes to it")
    _free(made, settings, replace=terms.replace)
    return Adopted(made, catalogue.write(settings.data_dir, made), level)


def located(program: str, environment: Mapping[str, str]) -> Path:
    """Return the absolute path of an executable file. A name without a slash is looked up in absolute folders of the PATH.

    Raises:
        UsageError: there is none.
    """
    import shutil

    if not program or "\0" in program:
        raise UsageError("adopt needs a program", hint="agent-find adopt /usr/bin/jq")
    if "/" in program:
        path = Path(program).expanduser().absolute()
        if path.is_file() and os.access(path, os.X_OK):
            return path
        raise UsageError(f"{program[:200]!r} is no executable file", hint="name a program, with its path or on the PATH")
    places = [folder for folder in environment.get("PATH", PATH).split(os.pathsep) if folder.startswith("/")]
    found = shutil.which(program, path=os.pathsep.join(places))
    if found is None:
        raise UsageError(f"no program {program[:80]!r} on the PATH", hint="name it with its path")
    return Path(found)


def _free(entry: Entry, settings: Any, *, replace: bool) -> None:
    """Check that the name is free, or already this program's: nobody takes over a name by calling itself so."""
    known = next((each for each in catalogue.read(settings.data_dir)[0] if each.name == entry.name), None)
    if known is not None and known.program != entry.program and not replace:
        raise DeniedError(
            f"{entry.name} is registered already, as {known.program}", hint="choose another with --name, or --replace it"
        )


# -- asking ------------------------------------------------------------------------------------------------------------------------


def _asked(path: Path, terms: Terms, settings: Any) -> tuple[Mapping[str, Any], str]:
    """Return the program's card, its own or one made from its help, and the level of the sandbox."""
    read = [str(Path(folder).expanduser().absolute()) for folder in terms.read]
    environment, choice = settings.environment, getattr(settings, "sandbox", "auto")
    said, level = run([str(path), "--agent-schema"], terms.seconds, environment, read, choice)
    card = _card(said)
    if card is not None:
        return catalogue.checked_card(card), level
    said, level = run([str(path), "--help"], terms.seconds, environment, read, choice)
    if not _help(said) and said.status != 0 and level.startswith("kernel"):
        raise Failed(
            f"{path.name} says nothing of itself in the sandbox{_last(said.err)}",
            hint="--read FOLDER lets it read more, --read / all",
        )
    return program_card(terms.name or name_of(path), said), level


def _last(text: str) -> str:
    from agent_core import terminal

    lines = [line for line in text.splitlines() if line.strip()]
    return f": {terminal.clean(lines[-1], keep_newlines=False)[:200]}" if lines else ""


def _card(said: Said) -> Any:
    """Return the card that a program printed, None if it printed none. What claims to be a card has to be one."""
    import json

    if said.status != 0 or said.stopped:
        return None
    try:
        data = json.loads(said.out)
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict) or data.get("schema") != catalogue.CARD:
        return None
    if "digest" in data and data["digest"] != catalogue.digest_of(data):
        raise InputError("the card's digest is not that of its content", hint="the program or its card was changed by hand")
    return data


def name_of(path: Path) -> str:
    """Return the name that a program of that path gets: its file name in lower case with dashes. UsageError if nothing is left."""
    name = re.sub(r"[^a-z0-9]+", "-", path.name.lower()).strip("-")[:64]
    if not name:
        raise UsageError(f"{path.name[:80]!r} makes no name", hint="give one with --name")
    return name


def program_card(name: str, said: Said) -> dict[str, Any]:
    """Return the card of an ordinary program, made from what it said to `--help`."""
    card: dict[str, Any] = {
        "schema": catalogue.CARD,
        "kind": "program",
        "name": catalogue.checked_name(name),
        "version": "",
        "description": description(_help(said)),
        "when_to_use": "",
        "tags": list(dict.fromkeys(["program", name])),
        "stdin": "optional",
        "input_schema": {
            "type": "object",
            "properties": {
                "args": {"type": "array", "items": {"type": "string"}, "description": "command-line arguments, passed as they are"},
                "stdin": {"type": "string", "description": "text for its standard input"},
            },
            "required": [],
        },
        "output_schema": {"type": "string"},
        "input_media_types": ["text/plain"],
        "output_media_types": ["text/plain"],
        "capabilities": [],
        "tools": [],
        "permissions": [],
        "examples": [],
        "network_hosts": None,
        "cost_class": None,
    }
    return {**card, "digest": catalogue.digest_of(card)}


def _help(said: Said) -> str:
    """Return the text of a help. A line or two from a program that failed are its complaint, not its help."""
    text = said.out if said.out.strip() else said.err
    failed = said.status != 0 or bool(said.stopped)
    return "" if failed and len(text.splitlines()) < 4 and not text.lower().lstrip().startswith("usage") else text


def description(text: str) -> str:
    r"""Return what a help text says the program is for: the line after DESCRIPTION, About or NAME, else its first line of prose.

    >>> description("Usage: wc [OPTION]... [FILE]...\nPrint newline counts for each FILE.\n")
    'Print newline counts for each FILE.'
    """
    from agent_core import terminal

    lines = [terminal.clean(line, keep_newlines=False).strip() for line in text[:LARGEST].splitlines()[:400]]
    for at, line in enumerate(lines):
        if _ABOUT.match(line):
            lines = lines[at + 1 :] + lines[:at]
            break
        found = re.match(r"(?:description|about)\s*[:\N{EM DASH}-]\s+(.+)", line, re.IGNORECASE)
        if found:
            return found[1][:300]
    start = next((at for at, line in enumerate(lines) if not _SKIP.match(line) and len(line.split()) > 2), None)
    return _STOCK if start is None else _sentence(lines[start:])


def _sentence(lines: Sequence[str]) -> str:
    """Return the first sentence: up to its full stop, a blank line or something that is no prose."""
    taken: list[str] = []
    for line in lines[:5]:
        if not line or (taken and _SKIP.match(line)):
            break
        taken.append(line)
        if line.endswith((".", "!", ":")):
            break
    return re.split(r"(?<=[.!])\s", " ".join(taken), maxsplit=1)[0][:300]


# -- running it --------------------------------------------------------------------------------------------------------------------


def run(
    argv: Sequence[str], seconds: float, environment: Mapping[str, str], read: Sequence[str] = (), choice: str = "auto"
) -> tuple[Said, str]:
    """Run a program shut in as the module says; return what it said and the level of the sandbox.

    `choice` is one of `sandbox.LEVELS`. DeniedError where that one cannot be had, though another could.
    """
    from agent_core import sandbox

    with (
        sandbox.scratch("adopt-") as folder,
        shut_in(Path(folder), (*readable(Path(argv[0]), environment), *read), choice) as (way, level),
    ):
        try:
            return _run(argv, scrubbed(folder, environment), folder, seconds, way), level
        finally:
            way.sweep()


def scrubbed(folder: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a program that is asked: nothing of ours but the time zone."""
    plain = {
        "PATH": PATH, "HOME": folder, "TMPDIR": folder, "LC_ALL": "C.UTF-8", "LANG": "C.UTF-8", "TERM": "dumb", "NO_COLOR": "1",
        "PAGER": "cat", "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip
    return {**plain, **({"TZ": environment["TZ"]} if "TZ" in environment else {})}


@contextmanager
def shut_in(folder: Path, read: Sequence[str], choice: str = "auto") -> Iterator[tuple[Way, str]]:
    """Yield the way in which the program is started, and in words what that is worth.

    In the kernel's sandbox it writes into `folder` alone, reads the system and `read`, and has no network. Where there is no such
    sandbox the limits are all there is, and the level says so.
    """
    from agent_core import sandbox

    level = sandbox.level(choice)
    if not level.complete and choice == "auto":
        yield sandbox.Way(_limit), f"no kernel sandbox here; {LIMITS}"
        return
    box = sandbox.Box(tuple(read), (str(folder),), file_bytes=FILE_BYTES, cpu_seconds=CPU_SECONDS, level=choice)
    with sandbox.confined(box) as way:

        def enter() -> None:
            _limit()
            way.enter()

        yield replace(way, enter=enter), f"kernel sandbox: {level.text}; {LIMITS}"


def readable(program: Path, environment: Mapping[str, str]) -> list[str]:
    """Return what a program may read besides the system: itself, the folder it lies in, and this suite with its interpreter.

    The home directory, what is above it and folders for temporary files are no program's own folder.
    """
    import tempfile

    home = Path(environment.get("HOME") or Path.home()).resolve()
    shared = {home, *home.parents, Path(tempfile.gettempdir()).resolve()}
    own = [path for path in {program.parent, program.resolve().parent} if path.resolve() not in shared]
    suite = [sys.prefix, sys.base_prefix, *(path for path in sys.path if Path(path).is_absolute())]
    kept = (path for path in map(Path, suite) if path.resolve() not in shared)
    return sorted({str(program), str(program.resolve()), *map(str, own), *map(str, kept)})


def _limit() -> None:
    import resource

    limits = {
        resource.RLIMIT_CPU: CPU_SECONDS,
        resource.RLIMIT_FSIZE: FILE_BYTES,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: 256,
    }
    for what, most in limits.items():
        hard = resource.getrlimit(what)[1]
        value = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (value, value))


def _run(argv: Sequence[str], env: Mapping[str, str], folder: str, seconds: float, way: Way) -> Said:
    import subprocess

    try:
        child = subprocess.Popen(
            way.argv(argv), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=folder, env=dict(env),
            start_new_session=True, close_fds=True, pass_fds=way.kept,
            preexec_fn=way.enter,  # noqa: PLW1509 - no thread is running here
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        raise Failed(f"cannot start {argv[0]}: {getattr(error, 'strerror', None) or error}") from None
    try:
        out, err, stopped = _heard(child, seconds)
    finally:
        _kill(child)
    return Said(child.returncode, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"), stopped)


def _heard(child: subprocess.Popen[bytes], seconds: float) -> tuple[bytes, bytes, str]:
    """Return (stdout, stderr, why it was stopped). What outlives the program in the background is not waited for."""
    import selectors
    import time
    from subprocess import TimeoutExpired

    heard: dict[int, bytearray] = {}
    until = time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        for stream in (child.stdout, child.stderr):
            if stream is not None:
                heard[stream.fileno()] = bytearray()
                selector.register(stream, selectors.EVENT_READ)
        stopped = ""
        while selector.get_map() and not stopped:
            ready = selector.select(_TICK)
            for key, _ in ready:
                data = os.read(key.fd, 65_536)
                heard[key.fd] += data
                if not data:
                    selector.unregister(key.fileobj)
            if not ready and child.poll() is not None:
                break
            stopped = _reason(heard, until)
    out, err = (bytes(each) for each in heard.values())
    with suppress(TimeoutExpired):
        child.wait(max(0.0, until - time.monotonic()) if not stopped else 0)
    return out, err, stopped


def _reason(heard: Mapping[int, bytearray], until: float) -> str:
    import time

    if any(len(each) > LARGEST for each in heard.values()):
        return "it wrote too much"
    return "it took too long" if time.monotonic() > until else ""


def _kill(child: subprocess.Popen[bytes]) -> None:
    import signal

    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    for stream in (child.stdout, child.stderr):
        if stream is not None:
            stream.close()
