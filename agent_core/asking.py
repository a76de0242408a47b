"""asking - one call of an agent: what it is asked (words, stdin, files, records), one run or one tool, and the lists."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, is_dataclass, replace
from typing import TYPE_CHECKING, Any

from agent_core import records, stdin, terminal
from agent_core.cli import settle
from agent_core.errors import InputError, MissingInput, StoreError, UpstreamError, UsageError
from agent_core.options import unknown, written

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agent_core.agent import Job, RunResult
    from agent_core.cli import Command
    from agent_core.config import Settings
    from agent_core.events import Event
    from agent_core.messages import Image, Message
    from agent_core.provider import Provider
    from agent_core.records import Upstream
    from agent_core.tool import Tool

_IMAGES = ((b"\x89PNG", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"GIF8", "image/gif"), (b"%PDF-", "application/pdf"))
_IMAGE_LIMIT = 20 * 1024 * 1024
_HOPS = 3
_APART = {  # by field
    "chat": "tool lines records resume replay dry_run show_prompt",
    "resume": "replay continue_ dry_run show_prompt",
    "replay": "lines records tool continue_ dry_run show_prompt",
    "lines": "records",
    "tool": "attach continue_ show_prompt",
}
_ONE_RUN = ("replay", "session", "continue_", "dry_run", "show_prompt")
_COUNTS = {"call_count": 0, "error_count": 0, "avg_latency_ms": None}


@dataclass(frozen=True, slots=True)
class Asked:
    """What a command line and its input come to."""

    instruction: str
    materials: tuple[tuple[str, str], ...] = ()
    upstream: Upstream | None = None
    images: tuple[Image, ...] = ()

    @property
    def message(self) -> Message:
        """The user's message."""
        from agent_core import messages, task

        return messages.user(task.compose(self.instruction, self.materials), *self.images)

    @property
    def provenance(self) -> tuple[Any, ...]:
        """Where the material came from."""
        before = self.upstream.provenance if self.upstream else ()
        return (*before, *({"ref": origin, "trust": "untrusted"} for origin, _ in self.materials))


def in_rows(command: Command) -> bool:
    """Return whether each row of the input is a run of its own. UsageError for a flag that is about one run only."""
    rows = bool(command.flag("lines") or command.flag("records")) or command.flag("input_format") == "lines"
    for name in _ONE_RUN if rows else ():
        if command.flag(name):
            raise UsageError(f"{written(name)} is about one run, and each row is one", hint="drop one of the two")
    return rows


def one_run(command: Command) -> int:
    """Ask the agent once, print the answer, return the status."""
    from agent_core.agent import execute

    job = replace(job_of(command, Asked("") if _recorded(command) else asked(command)), command=command.chosen)
    settings = settings_of(command)
    if command.flag("dry_run") or command.flag("show_prompt"):
        return _preview(command, job, settings)
    listeners, close = listen(command)
    try:
        result = execute(command.agent, job, settings, listeners)
    finally:
        close()
    return settle(command, result)


def _recorded(command: Command) -> bool:
    """A resumed or replayed run brings its own input."""
    if not (command.flag("resume") or command.flag("replay")):
        return False
    if command.words or command.flag("file") or command.flag("attach"):
        raise UsageError("a resumed or replayed run has its own input", hint="drop the words and files")
    return True


def _preview(command: Command, job: Job, settings: Settings) -> int:
    import json

    from agent_core import preview

    if command.flag("show_prompt"):
        text, rows = preview.messages(command.agent, job, settings)
        return command.out.answer(text, rows)
    made = preview.request(command.agent, job, settings)
    return command.out.answer(json.dumps(made, indent=2, ensure_ascii=False), made)


def settings_of(command: Command) -> Settings:
    """Return the run's settings: what is left of the timeout, and streaming where somebody watches."""
    settings = command.remaining()
    if settings.pattern:
        from agent_core.agent import find_pattern

        find_pattern(settings.pattern, settings)
    watched = command.out.mode == "jsonl" or (command.out.mode == "text" and (terminal.is_terminal(1) or _live(command)))
    return replace(settings, stream=True) if watched else settings


def providers(command: Command, settings: Settings) -> Sequence[Provider]:
    """Return the providers for many runs: chosen, looked up and said once."""
    from agent_core import fittings

    return fittings.route(command.agent, settings, command.out.say)


def prompted(command: Command) -> Command:
    """Return the call with the text that `--system @FILE[#NAME]` names; its version and hash go into the run's record.

    Only the flag may name a file: a setting of somebody's project could otherwise send any file to a model.
    """
    given = command.flag("system") or ""
    if not given.startswith("@"):
        return command
    from agent_core import prompt

    found = prompt.load_prompt(given[1:])
    extra = {**command.settings.extra, "prompt_file": found.record()}
    return replace(command, settings=replace(command.settings, system=found.text, extra=extra))


def check_flags(command: Command) -> None:
    """UsageError for flags that exclude each other, and for a `--provider` or `--workspace` there is not.

    Before anything is read or sent, and also where nothing needs it: what is given is never passed over in silence.
    """
    for one, other in ((one, other) for one, others in _APART.items() if command.flag(one) for other in others.split()):
        if command.flag(other):
            raise UsageError(f"{written(one)} and {written(other)} exclude each other", hint="drop one of the two")
    for name in ("resume", "replay", "session"):
        if command.flag(name) == "":  # an unset variable of a script: a new run would be something else than was asked for
            raise UsageError(f"{written(name)}: '' is no name", hint="is a variable empty?")
    folder = command.flag("workspace")
    if folder and not os.path.isdir(command.settings.workspace):  # noqa: PTH112 - no pathlib on this path
        raise UsageError(f"--workspace: {folder} is no folder", hint="name one that exists")
    if command.flag("provider"):
        from agent_core import choose

        choose.check(command.flag("provider"), command.settings)


def check_grants(command: Command) -> None:
    """UsageError for a rule on the command line whose capability is a slip of the pen: it would permit or forbid nothing."""
    given = [rule for name in ("allow", "deny", "confirm") for rule in command.flag(name) or ()]
    if not given:
        return
    from agent_core import policy
    from agent_core.options import nearest

    known = {need.capability.partition(":")[0] for tool in command.agent.tools.tools for need in tool.needs}
    known |= {*policy.CAPABILITIES, "agent", "mcp", "unconfined"}
    for rule in given:
        name = policy.parse_grant(rule, command.settings.workspace).capability
        if name not in known and nearest(name, known):
            raise unknown("capability", name, sorted(known))


def _live(command: Command) -> bool:
    settings = command.settings
    return settings.verbose and not settings.quiet and terminal.decorated(2, settings.color, settings.environment)


def job_of(command: Command, what: Asked, history: Sequence[Message] = ()) -> Job:
    """Return the job; a session brings its history."""
    from agent_core.agent import Job

    session, said, before = _session(command)
    return Job(
        what.message,
        history=(*said, *history),
        session=session,
        resume=command.flag("resume") or "",
        replay=command.flag("replay") or "",
        provenance=(*before, *what.provenance),
        traceparent=command.out.source().traceparent,
    )


def _session(command: Command) -> tuple[str, tuple[Message, ...], tuple[Any, ...]]:
    """Return the session's name, what was said in it, and what it had seen, as provenance."""
    name = command.settings.session
    if not name and not command.flag("continue_"):
        return "", (), ()
    from agent_core import running, sessions, taint
    from agent_core.store import open_store

    store = open_store(running.store_path(command.settings))
    try:
        name = name or sessions.last_session(store, command.agent.name) or ""
        if not name:
            raise UsageError("there is no session to continue", hint="begin one with --session NAME")
        seen = sessions.labels(store, name)
        return name, tuple(sessions.history(store, name)), (taint.row(f"session:{name}", seen),) if seen else ()
    finally:
        store.close()


# -- input -----------------------------------------------------------------------------------------------------------------------


def asked(command: Command) -> Asked:
    """Read everything the command line names. Words are the instruction; without words stdin is."""
    instruction = " ".join(command.words)
    files = command.flag("file") or ()
    begun = bool(instruction or files or command.settings.extra.get("mcp_prompt"))
    told = bool(begun or command.flag("attach") or command.chosen[0])
    data = _stdin(command, told, dash="-" in command.parsed.words or "-" in files)
    materials, images = given(command)
    if data is None:
        return Asked(instruction, materials, None, images)
    texts, upstream = read_input(command, data)
    if begun:
        return Asked(instruction, (*(("stdin", text) for text in texts), *materials), upstream, images)
    return Asked("\n".join(texts), materials, upstream, images)


def given(command: Command) -> tuple[tuple[tuple[str, str], ...], tuple[Image, ...]]:
    """Return the texts of `--file` and the images of `--attach`; a file named `-` is stdin, which others read."""
    materials = tuple((name, _material(command, name)) for name in command.flag("file") or () if name != "-")
    return materials, tuple(_image(command, name) for name in command.flag("attach") or ())


def _stdin(command: Command, instruction: bool, *, dash: bool) -> bytes | None:
    return stdin.read(rules(command, instruction=instruction, dash=dash))


def rules(command: Command, *, instruction: bool, dash: bool = False) -> stdin.Rules:
    """Return the rules for stdin: the card's word, unless there is an instruction where the card takes none."""
    given = command.agent.stdin == "required" and any(name != "-" for name in command.flag("file") or ())
    kind = "optional" if given else command.agent.stdin  # a file is the input that is required
    return stdin.Rules(
        kind, instruction, dash, bool(command.flag("no_stdin")), command.settings.max_input, command.deadline, command.out.say
    )


def read_input(command: Command, data: bytes) -> tuple[tuple[str, ...], Upstream | None]:
    """Return the texts of an input by `--in`, and what upstream's records said of themselves."""
    kind = command.flag("input_format") or "auto"
    if kind in {"auto", "json", "jsonl"} and records.looks_like_records(data):
        return _from_upstream(command, data)
    if kind in {"json", "jsonl"}:
        _check_json(data, lines=kind == "jsonl")
    return (stdin.text_of(data),), None


def _from_upstream(command: Command, data: bytes) -> tuple[tuple[str, ...], Upstream]:
    upstream = records.read(data, command.settings.on_upstream_error)
    command.out.upstream = upstream
    if command.out.mode == "jsonl":
        for summary in upstream.summaries:
            command.out.record("upstream", summary)
    if not any(upstream.texts):
        raise UpstreamError("the stages before sent nothing to work on", hint="see their stderr")
    return upstream.texts, upstream


def _check_json(data: bytes, *, lines: bool) -> None:
    import json

    for number, piece in enumerate(data.splitlines() if lines else [data], 1):
        try:
            if piece.strip():
                json.loads(piece)
        except (ValueError, RecursionError):
            where = f"line {number} of stdin" if lines else "stdin"
            raise InputError(f"{where} is not JSON", hint="see --in") from None


def _material(command: Command, name: str) -> str:
    return stdin.text_of(_bytes(name, command.settings.max_input, command.deadline))


def _bytes(name: str, limit: int, deadline: float | None) -> bytes:
    if name.startswith(("http://", "https://")):
        return fetched(name, limit, deadline)
    try:
        # The bytes of the command line, whatever the locale takes names for.
        with open(name.encode("utf-8", "surrogateescape"), "rb") as file:  # noqa: PTH123 - no pathlib on this path
            data = file.read(limit + 1)
    except IsADirectoryError:
        raise InputError(f"{name} is a folder", hint="name a file") from None
    except (OSError, ValueError) as error:
        raise MissingInput(f"cannot read {name}: {getattr(error, 'strerror', None) or error}", hint="see --file") from None
    if len(data) > limit:
        raise InputError(f"{name} is larger than {limit} bytes", hint="send less, or raise --max-input")
    return data


def fetched(url: str, limit: int, deadline: float | None) -> bytes:
    """Return the body of a page, at most `limit` bytes of it; redirects are followed a few times, to http and https only."""
    from urllib.parse import urljoin

    from agent_core import drive
    from agent_core.ops import Http
    from agent_core.provider import Request

    def program(address: str) -> Any:
        return (yield Http(Request("GET", address, (("accept", "*/*"),), b""), deadline, limit=limit))

    for _ in range(_HOPS + 1):
        response = drive.run(program(url), lambda _event: None)
        if response.status in {301, 302, 303, 307, 308} and "location" in response.headers:
            url = urljoin(url, response.headers["location"])
            if not url.startswith(("http://", "https://")):
                break
        elif response.status == 200:
            return bytes(response.body)
        else:
            raise MissingInput(f"cannot read {url[:200]}: the server says {response.status}", hint="see --file")
    raise MissingInput(f"cannot read {url[:200]}: it only redirects", hint="see --file")


def _image(command: Command, name: str) -> Image:
    from agent_core.messages import Image

    if name.startswith(("http://", "https://")):
        return Image("", url=name)
    data = _bytes(name, min(_IMAGE_LIMIT, command.settings.max_input), command.deadline)
    kind = next((kind for magic, kind in _IMAGES if data.startswith(magic)), "")
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        kind = "image/webp"
    if not kind:
        raise InputError(f"{name} is no image", hint="--attach takes PNG, JPEG, GIF, WebP and PDF; --file takes text")
    return Image(kind, data)


# -- one tool --------------------------------------------------------------------------------------------------------------------


def one_tool(command: Command) -> int:
    """Run one tool on words, files or stdin, without a model."""
    from agent_core.agent import execute_tool
    from agent_core.tool import ArgumentProblem

    tool = tool_of(command)
    if command.flag("resume"):
        raise UsageError("--tool and --resume exclude each other", hint="only the rows of --lines and --records can be resumed")
    name = tool.name
    try:
        arguments = _arguments(command, tool)
    except ArgumentProblem as error:
        raise UsageError(str(error), hint=error.hint) from None
    if command.flag("dry_run"):
        text = f"{name} {dict(arguments)}"
        return command.out.answer(text, {"tool": name, "arguments": dict(arguments)})
    listeners, close = listen(command)
    try:
        result = execute_tool(command.agent, name, arguments, command.remaining(), listeners)
    finally:
        close()
    return settle(command, whole(result))


def whole(result: RunResult) -> RunResult:
    """Return a tool's result with all of its text: what a model sees is capped, what a person or a pipe gets is not."""
    if result.error is not None or result.structured is None:
        return result
    from agent_core import redact
    from agent_core.tool import render

    return replace(result, output=redact.redact(render(result.structured)[0]))


def tool_of(command: Command) -> Tool:
    """Return the tool that `--tool` names; UsageError with the nearest names if there is none."""
    name = str(command.flag("tool"))
    tool = command.agent.tools.get(name)
    if tool is None:
        raise unknown("tool", name, [each.name for each in command.agent.tools.tools])
    return tool


def _arguments(command: Command, tool: Tool) -> dict[str, Any]:
    """Return the tool's arguments: a JSON object fills parameters, other text the sole one.

    A file, or stdin, fills what is still missing.
    """
    properties, required = (tool.parameters.get(key, ()) for key in ("properties", "required"))
    if not command.parsed.words:
        return dict(tool.from_text(_tool_input(command, wanted=bool(required), spare=not required) if properties else ""))
    known = dict(tool.from_text(" ".join(command.words))) if command.words else {}
    missing = [name for name in required if name not in known]
    if len(missing) == 1 and ("-" in command.parsed.words or known):
        text = _tool_input(command, wanted="-" in command.parsed.words)
        return {**known, missing[0]: text} if text else known
    if command.flag("file"):
        raise UsageError(f"{tool.name} has no parameter left for a file", hint="drop the words, or --file")
    return known


def _tool_input(command: Command, *, wanted: bool, spare: bool = False) -> str:
    """Return files or stdin without the last line end, as a shell's substitution has it; `spare`: the tool needs nothing of it."""
    texts = [text for _, text in given(command)[0]]
    dash = "-" in command.parsed.words or (not texts and bool(command.flag("file")))
    if not texts or dash:
        texts += _tool_stdin(command, wanted=wanted, spare=spare, dash=dash)
    text = "\n".join(texts).removesuffix("\n")
    if not text.isascii() and any("\udc80" <= letter <= "\udcff" for letter in text):
        raise InputError(
            f"{'the file' if command.flag('file') else 'stdin'} is not UTF-8", hint="convert it, for example with iconv"
        )
    return text


def _tool_stdin(command: Command, *, wanted: bool, spare: bool, dash: bool) -> Sequence[str]:
    kind = "optional" if spare or (command.agent.stdin == "none" and wanted) else command.agent.stdin
    needed = replace(rules(command, instruction=not wanted, dash=dash), stdin=kind)
    data = stdin.read(needed)
    return () if data is None else read_input(command, data)[0]


# -- lists -----------------------------------------------------------------------------------------------------------------------


def list_tools(command: Command) -> int:
    """Print the agent's tools; records also say how often each was called, how often that failed, and how long a call takes."""
    from agent_core import card

    tools = command.agent.tools.tools
    counts = _tool_counts(command) if command.out.mode != "text" else {}
    rows = [{**row, **_COUNTS, **counts.get(row["name"], {})} for row in card.tool_rows(tools)]
    return command.out.answer(card.tool_lines(tools), rows)


def _tool_counts(command: Command) -> dict[str, dict[str, Any]]:
    """Return {tool: its counts} over all kept runs of the agent; looking creates no store, and one that cannot be read has none."""
    from agent_core import readings
    from agent_core.running import store_path

    try:
        found = command.store().of_kind("tool.finished", command.agent.name) if store_path(command.settings).exists() else []
    except StoreError as error:
        command.out.say(error.line())
        return {}
    return {count.name: asdict(count) for count in readings.tool_counts(found)}


def list_plugins(command: Command) -> int:
    """Print the plugins: what is built in, what the configuration names, what it could name."""
    from agent_core import plugins

    rows = plugins.listing(command.settings)
    return command.out.answer(plugins.listed(rows), rows)


def list_models(command: Command) -> int:
    """Print the providers: their known models with windows and dated prices, or what there is to say of them."""
    from importlib import import_module

    known = import_module("agent_providers")
    rows = [_row(row) for row in known.models()]
    rows += [{"vendor": name, "model": None, "note": note} for name, note in known.unlisted().items()]
    return command.out.answer("".join(f"{_model_line(row)}\n" for row in rows), rows)


def _row(row: Any) -> dict[str, Any]:
    return dict(asdict(row)) if is_dataclass(row) and not isinstance(row, type) else dict(row)


def _model_line(row: dict[str, Any]) -> str:
    if not row["model"]:
        return f"{row['vendor']}  {row['note']}"
    prices = [str(price) for price in row.get("prices") or () if price is not None]
    bill = f"USD/M tokens in {prices[0]}, out {prices[1]} ({row.get('basis')})" if len(prices) > 1 else "price unknown"
    window = f"{row['window']} tokens" if row.get("window") else "window unknown"
    return f"{row.get('vendor')}:{row.get('model')}  {window}, {bill}"


def show_config(command: Command) -> int:
    """Print every setting with its value and origin."""
    from agent_core import config, redact, sandbox

    rows = [(name, _clean(value, redact.redact), origin) for name, value, origin in config.shown(command.settings)]
    rows.append(("confinement", sandbox.level(command.settings.sandbox).text, "this machine"))
    text = "".join(f"{name} = {_toml(value)}  # {origin}\n" for name, value, origin in rows)
    return command.out.answer(text, {name: {"value": value, "origin": origin} for name, value, origin in rows})


def _clean(value: Any, redact: Callable[[str], str]) -> Any:
    if isinstance(value, list):
        return [_clean(item, redact) for item in value]
    return redact(value) if isinstance(value, str) else value


def _toml(value: Any) -> str:
    import json

    return '""' if value is None else json.dumps(value, ensure_ascii=False)


# -- listening -------------------------------------------------------------------------------------------------------------------


def listen(command: Command) -> tuple[list[Callable[[Event], None]], Callable[[], None]]:
    """Return what listens to a run's events, and what to call when it is over."""
    out, settings = command.out, command.settings
    listeners: list[Callable[[Event], None]] = []
    if out.mode == "jsonl":
        listeners.append(lambda event: _as_record(command, event))
    elif out.mode == "text" and _may_stream(command):
        listeners.append(lambda event: _piece(command, event))
    if settings.quiet:
        return listeners, lambda: None
    if not settings.verbose:
        return [*listeners, lambda event: _notice(command, event)], lambda: None
    from agent_core import view

    shown: view.View = view.Live(command.agent.name) if _live(command) else view.Plain(out.say)
    return [*listeners, shown, lambda event: _notice(command, event, failures=False)], shown.close


def _as_record(command: Command, event: Event) -> None:
    made = records.of_event(event)
    if made is not None:
        command.out.record(*made)


def _may_stream(command: Command) -> bool:
    """Text may leave before it is complete: asked for, or a terminal; not where the answer is checked or rendered at its end."""
    agent = command.agent
    plain = agent.reply is None and agent.render is None and not command.settings.output_schema
    return plain and (command.settings.stream or terminal.is_terminal(1))


def _piece(command: Command, event: Event) -> None:
    # A provisional text may still turn into tool calls: only what is sure to be the answer goes to stdout.
    if event.kind == "delta" and event.data.get("text") and not event.data.get("provisional"):
        command.out.piece(str(event.data["text"]))


def _notice(command: Command, event: Event, *, failures: bool = True) -> None:
    retried = event.kind == "model.failed" and failures and event.data.get("retry_in") is not None
    if event.kind == "notice" or retried:
        command.out.say(records.notice_text(event))
