"""options - the one table of flags, and the small parser that reads a command line with it.

A flag is a row of data. Parsing, plain help, rich help (typer), completion, environment names, configuration keys and the
card are all readings of the table, so they cannot disagree. The parser follows getopt_long as typer does (a test compares the
two over many command lines): `--flag value`, `--flag=value`, `-f value`, `-fvalue`, `-jq`, words anywhere, `--` ends options.
It exists because importing typer costs more than the rest of a short run.

    >>> parse(["-q", "hello", "--model=m1", "--", "-x"], OPTIONS).values
    {'quiet': True, 'model': 'm1'}
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from agent_core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

SCHEMA_VIEWS = ("card", "mcp", "a2a", "openai", "skill", "man", "cli", "wire", "systemd")


@dataclass(frozen=True, slots=True)
class Option:
    """One flag.

    `kind` is a key of KINDS. `repeat` collects values in a tuple. `optional` is the value of a bare `--name` (then a value
    needs `=`). `setting` options are also read from the environment (`env`) and from configuration files (`key`). `plugin` is the
    module that does what the flag says: it is imported only where the flag is set.
    """

    name: str
    help: str
    kind: str = "flag"
    short: str = ""
    default: Any = None
    choices: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    metavar: str = ""
    group: str = "More"
    repeat: bool = False
    optional: str | None = None
    setting: bool = False
    key: str = ""
    plugin: str = ""
    parse: Callable[[str], Any] | None = None

    @property
    def field(self) -> str:
        """The name in settings and configuration files."""
        return self.key or self.name.replace("-", "_")

    @property
    def env(self) -> str:
        """The environment variable of a setting, or nothing."""
        return f"AGENT_{self.field.upper()}" if self.setting else ""

    @property
    def takes_value(self) -> bool:
        """Whether a value follows."""
        return self.kind != "flag"

    @property
    def shown(self) -> str:
        """The word for the value in help."""
        if self.metavar or not self.takes_value:
            return self.metavar
        return "|".join(self.choices) if self.choices else KINDS[self.kind][0]


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a command line says: values by field name (only those given) and the words."""

    values: Mapping[str, Any] = field(default_factory=dict)
    words: tuple[str, ...] = ()


def _whole(text: str) -> int:
    if len(text) > 18:
        raise ValueError
    return int(text)


def _number(text: str) -> float:
    value = float(text)
    if value != value or value in (float("inf"), float("-inf")):  # noqa: PLR0124 - NaN is the value unequal to itself
        raise ValueError
    return value


_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def _seconds(text: str) -> float:
    for unit in ("ms", "s", "m", "h", "d"):
        if text.endswith(unit):
            return _number(text[: -len(unit)]) * _UNITS[unit]
    return _number(text)


def _money(text: str) -> Any:
    from decimal import Decimal

    from agent_core.money import pico

    plain = text.removeprefix("$")
    pico(plain)
    return Decimal(plain)


def _rate(text: str) -> tuple[float, float]:
    count, _, unit = text.partition("/")
    value = _number(count)
    unit = {"sec": "s", "min": "m", "hour": "h", "day": "d"}.get(unit, unit)
    if value <= 0 or unit not in {"s", "m", "h", "d"}:
        raise ValueError
    return value, _UNITS[unit]


def _text(text: str) -> str:
    return text


def _flag(text: str) -> bool:
    known = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False, "": False}
    if text.lower() not in known:
        raise ValueError
    return known[text.lower()]


def _path(text: str) -> str:
    if not text or "\0" in text:
        raise ValueError
    return text


# kind -> (word in help, what is expected, converter of text)
KINDS: dict[str, tuple[str, str, Callable[[str], Any]]] = {
    "flag": ("", "true or false", _flag),
    "text": ("TEXT", "text", _text),
    "path": ("FILE", "a path", _path),
    "int": ("N", "a whole number", _whole),
    "number": ("NUMBER", "a number", _number),
    "seconds": ("SECONDS", "seconds, or a number with ms, s, m or h", _seconds),
    "money": ("USD", "an amount in USD such as 0.25", _money),
    "rate": ("N/UNIT", "a number per s, min, h or day, such as 60/min", _rate),
}


def convert(option: Option, text: str) -> Any:
    """Return the value that a text stands for; UsageError that says what is expected."""
    if option.choices:
        if text not in option.choices:
            raise UsageError(f"{label(option)}: no {text!r}", hint=f"one of {', '.join(option.choices)}")
        return text
    _, expected, converter = KINDS[option.kind]
    try:
        value = (option.parse or converter)(text)
    except ValueError:
        raise UsageError(f"{label(option)}: {text[:80]!r} is not {expected}", hint=f"see --help for --{option.name}") from None
    return check_range(option, value)


def check_range(option: Option, value: Any) -> Any:
    """Return the value if it is within the option's limits; UsageError if not."""
    if option.low is not None and value < option.low:
        raise UsageError(f"{label(option)}: {value} is less than {option.low:g}", hint=_range(option))
    if option.high is not None and value > option.high:
        raise UsageError(f"{label(option)}: {value} is more than {option.high:g}", hint=_range(option))
    return value


def label(option: Option) -> str:
    """Return the flag as written on a command line."""
    return f"--{option.name}"


def written(field: str) -> str:
    """Return the general flag of a field as written on a command line."""
    return next(label(row) for row in OPTIONS if row.field == field)


def _range(option: Option) -> str:
    if option.low is not None and option.high is not None:
        return f"from {option.low:g} to {option.high:g}"
    return f"at least {option.low:g}" if option.low is not None else f"at most {option.high:g}"


def nearest(word: str, names: Iterable[str], count: int = 3) -> list[str]:
    """Return the names that look most like the word, best first."""
    import difflib

    listed = list(dict.fromkeys(names))
    starts = sorted(name for name in listed if len(word) > 1 and name.startswith(word))
    return list(dict.fromkeys([*difflib.get_close_matches(word, listed, n=count, cutoff=0.55), *starts]))[:count]


def unknown(what: str, word: str, names: Iterable[str]) -> UsageError:
    """Return the error for a name that does not exist, with the nearest that do."""
    listed = list(names)
    near = nearest(word, listed)
    shown = near or listed[:12]
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(shown)}" if shown else ""
    return UsageError(f"no {what} {word[:80]!r}", hint=hint)


def parse(argv: Sequence[str], options: Sequence[Option]) -> Parsed:
    """Read a command line. UsageError for an unknown flag (with the nearest ones), a bad, missing or unwanted value."""
    reader = _Reader(list(argv), {option.name: option for option in options}, {o.short: o for o in options if o.short})
    while reader.rest:
        reader.take(reader.rest.pop(0))
    return Parsed({name: _value(*given) for name, given in reader.values.items()}, tuple(reader.words))


def _value(option: Option, texts: list[str]) -> Any:
    """Return what was given for a flag: of several texts the last one counts, unless the flag collects them."""
    if not option.takes_value:
        return True
    return tuple(convert(option, text) for text in texts) if option.repeat else convert(option, texts[-1])


@dataclass(slots=True)
class _Reader:
    """The state of one parse."""

    rest: list[str]
    long: Mapping[str, Option]
    short: Mapping[str, Option]
    values: dict[str, tuple[Option, list[str]]] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)

    def take(self, arg: str) -> None:
        if arg == "--":
            self.words += self.rest
            self.rest.clear()
        elif arg.startswith("--"):
            self.take_long(arg)
        elif arg.startswith("-") and arg != "-":
            self.take_short(arg[1:])
        else:
            self.words.append(arg)

    def take_long(self, arg: str) -> None:
        name, equals, value = arg[2:].partition("=")
        option = self.long.get(name)
        if option is None:
            near = [f"--{found}" for found in nearest(name, self.long)]
            raise UsageError(f"no flag --{name[:80]}", hint=f"did you mean {' or '.join(near)}?" if near else "see --help")
        if not option.takes_value and equals:
            raise UsageError(f"{label(option)} takes no value", hint=f"write {label(option)} alone")
        self.keep(option, value if equals else None)

    def take_short(self, letters: str) -> None:
        while letters:
            letter, letters = letters[0], letters[1:]
            option = self.short.get(letter)
            if option is None:
                raise UsageError(f"no flag -{letter}", hint="see --help")
            if option.takes_value:
                self.keep(option, letters or None)
                return
            self.keep(option, None)

    def keep(self, option: Option, value: str | None) -> None:
        if not option.takes_value:
            self.values[option.field] = (option, [])
            return
        if value is None and option.optional is not None:
            value = option.optional
        if value is None:
            if not self.rest:
                raise UsageError(f"{label(option)} needs a value", hint=f"{label(option)} {option.shown}")
            value = self.rest.pop(0)
        self.values.setdefault(option.field, (option, []))[1].append(value)


def _rows(group: str, *rows: Option) -> tuple[Option, ...]:
    return tuple(replace(row, group=group) for row in rows)


def _set(name: str, kind: str, text: str, **rest: Any) -> Option:
    return Option(name, text, kind, setting=True, **rest)


_OUTPUT = _rows(
    "Output",
    Option("json", "print one JSON record, also on failure", short="j"),
    Option("jsonl", "print records as they happen, one JSON object a line"),
    _set("quiet", "flag", "nothing on stderr", short="q", default=False),
    _set("verbose", "flag", "steps, tools and cost on stderr", short="v", default=False),
    _set("stream", "flag", "print the answer as it arrives, also into a pipe", default=False),
    _set("color", "text", "colour on terminals", choices=("auto", "always", "never"), default="auto"),
    _set("debug", "flag", "show tracebacks", default=False),
    _set("output-schema", "path", "JSON Schema that the answer must satisfy", default=""),
)
_INPUT = _rows(
    "Input",
    Option(
        "in", "what stdin holds", "text", choices=("auto", "text", "json", "jsonl", "lines"), default="auto", key="input_format"
    ),
    Option("file", "a file, an http(s) URL or - (stdin) as material", "path", short="f", repeat=True, metavar="PATH|URL|-"),
    Option("attach", "an image, by path or URL", "path", short="a", repeat=True, metavar="PATH|URL"),
    Option("no-stdin", "do not touch stdin"),
    Option("lines", "one run for each line of stdin"),
    Option("records", "one run for each JSON record of stdin"),
    _set("jobs", "int", "rows worked on at a time", low=1, high=256, default=1),
    _set("max-input", "int", "most bytes of one input", low=1, default=256 * 1024 * 1024, metavar="BYTES"),
    _set("on-upstream-error", "text", "what a failed stage before means", choices=("fail", "skip", "use-partial"), default="fail"),
)
_MODEL = _rows(
    "Model",
    _set("provider", "text", "whose model; a,b falls over from a to b (see --list-models)", default="", metavar="NAME[,NAME]"),
    _set("model", "text", "which model", default="", metavar="NAME"),
    _set("base-url", "text", "address of the provider's API", default="", metavar="URL"),
    _set("script", "path", "replies for the provider `scripted`", default=""),
    _set("temperature", "number", "sampling temperature", low=0, high=2),
    _set("max-tokens", "int", "most tokens of a reply", low=1),
    _set("system", "text", "system prompt, in place of the agent's own; on the command line also @FILE[#NAME]", default=""),
    _set("persona", "text", "who answers", default="", metavar="NAME"),
    _set("pattern", "text", "how the agent works", default="", metavar="NAME"),
    _set("protocol", "text", "how tools are called", choices=("auto", "native", "text"), default="auto"),
    _set("cache", "text", "reuse recorded replies", choices=("off", "on", "only"), default="off"),
    Option("list-models", "print the known models with prices, and exit"),
)
_LIMITS = _rows(
    "Limits",
    _set("max-steps", "int", "most replies of the model", low=1, high=10_000, default=10),
    _set("timeout", "seconds", "total time; status 124", low=0.001),
    _set("call-timeout", "seconds", "time of one model call", low=0.001, default=120.0),
    _set("grace", "seconds", "what called programs have to end when the run is cancelled", low=0, default=30.0),
    _set("budget", "money", "most money of the run"),
    _set("retry", "int", "extra attempts of a failed call", low=0, high=100, default=2),
    _set("rate", "rate", "most calls of a model in a time, of all processes", plugin="agent_plugins.resources"),
)
_TOOLS = _rows(
    "Tools and permissions",
    _set("allow", "text", "permit a capability, e.g. file-write:out", repeat=True, default=(), metavar="CAP[:SCOPE]"),
    _set("deny", "text", "forbid a capability, whatever else is allowed", repeat=True, default=(), metavar="CAP[:SCOPE]"),
    _set("confirm", "text", "permit only with a person's yes each time", repeat=True, default=(), metavar="CAP[:SCOPE]"),
    _set(
        "ask",
        "text",
        "who decides what needs a person: the terminal, nobody (refuse), or somebody later (status 5)",
        choices=("tty", "never", "park"),
        default="tty",
    ),
    Option("yes", "say yes to --confirm and to tools that destroy; grants nothing", setting=True, default=False),
    _set("sandbox", "text", "what confines commands", choices=("auto", "landlock", "bubblewrap"), default="auto"),
    Option("tool", "run one tool directly, without a model", "text", metavar="NAME"),
    Option("list-tools", "print the tools, and exit"),
    Option("dry-run", "print the first request and send nothing"),
    Option("show-prompt", "print the first messages and send nothing"),
)
_RUNS = _rows(
    "Runs",
    Option("chat", "hold a conversation"),
    _set("session", "text", "keep the conversation under a name", default="", metavar="NAME"),
    Option("continue", "go on with the latest session", key="continue_"),
    Option("resume", "go on with an interrupted run; `last` is the latest", "text", metavar="RUN"),
    Option("replay", "repeat a recorded run without a network", "text", metavar="RUN"),
    _set("data-dir", "path", "where runs are kept", default="", metavar="DIR"),
    _set("workspace", "path", "folder the tools work in", default="", metavar="DIR"),
    _set("profile", "text", "use the [profile.NAME] tables of the configuration", default="", metavar="NAME"),
    _set("env-file", "path", "read NAME=VALUE lines beneath the environment", default=""),
    Option("show-config", "print each setting with its origin, and exit"),
)
_MEMORY = "agent_plugins.memory"
_CONTEXT = "agent_plugins.context"
_RESOURCES = "agent_plugins.resources"
_MCP = "agent_plugins.mcp"
_OBSERVE = "agent_plugins.observe"
_PLUGINS = _rows(
    "Plugins",
    _set("memory", "flag", "recall what was remembered, and remember this run", default=False, plugin=_MEMORY),
    _set("memory-recalls", "int", "most items of memory given to a run", low=0, default=3),
    _set("memory-tokens", "int", "most tokens of memory given to a run", low=1),
    _set("embed", "text", "compare by meaning: vectors of that model; without it by words", default="", metavar="PROVIDER/MODEL"),
    _set(
        "context",
        "text",
        "files, folders, URLs or globs as material",
        repeat=True,
        default=(),
        metavar="DIR|FILE|URL|GLOB",
        plugin=_CONTEXT,
    ),
    _set("context-tokens", "int", "most tokens of context", low=1, default=32_000),
    _set(
        "instructions",
        "flag",
        "take AGENTS.md and SKILL.md of the working tree as guidance",
        default=False,
        plugin=_CONTEXT,
    ),
    _set("concurrency", "int", "most calls of a model at once, of all processes", low=1, plugin=_RESOURCES),
    _set("token-rate", "rate", "most tokens of a model in a time, of all processes", plugin=_RESOURCES),
    _set("cost-rate", "rate", "most USD for a model in a time, of all processes", metavar="USD/UNIT", plugin=_RESOURCES),
    _set("daily-budget", "money", "most money of all runs of a day (UTC)", plugin=_RESOURCES),
    _set("tier", "text", "limits by name: low, mid, high, or one of [tiers]", metavar="NAME", default="", plugin=_RESOURCES),
    _set("breaker", "text", "rest after N failures in a row, e.g. 5/30", default="", metavar="N/SECONDS", plugin=_RESOURCES),
    _set("dedup", "seconds", "share the answer of an equal request made within that time", plugin=_RESOURCES),
    _set(
        "back-pressure",
        "text",
        "refuse a run beyond HARD runs in flight, warn beyond SOFT",
        default="",
        metavar="HARD/SOFT",
        plugin=_RESOURCES,
    ),
    _set("priority", "text", "who waits less at a limit", choices=("low", "normal", "high", "critical"), default="normal"),
    _set("no-wait", "flag", "at a limit refuse (status 75) instead of waiting", default=False, plugin=_RESOURCES),
    _set(
        "mcp-server",
        "text",
        "use the tools of an MCP server: a command line or a URL",
        repeat=True,
        default=(),
        metavar="COMMAND|URL",
        plugin=_MCP,
    ),
    _set("mcp-config", "path", "use the servers of a file with `mcpServers`", default="", plugin=_MCP),
    _set(
        "mcp-prompt",
        "text",
        "begin with a prompt of an MCP server: 'NAME KEY=VALUE ...'",
        default="",
        metavar="PROMPT",
        plugin=_MCP,
    ),
    _set(
        "otel",
        "text",
        "send spans to an OTLP endpoint (`env`: where OTEL_EXPORTER_OTLP_ENDPOINT says)",
        default="",
        metavar="URL",
        plugin=_OBSERVE,
    ),
    _set("log", "path", "append structured logs (JSON lines) to a file", default="", plugin=_OBSERVE),
    _set("log-level", "text", "what is logged: LEVEL, or PART=LEVEL and so on", default="info", metavar="LEVEL"),
    Option("plugins", "print the plugins and which are on, and exit", key="list_plugins"),
)
_ABOUT = _rows(
    "About",
    Option("agent-schema", "print the card or a VIEW of it", "text", optional="card", choices=SCHEMA_VIEWS, metavar="VIEW"),
    Option("completion", "print a completion script", "text", choices=("bash", "zsh", "fish")),
    Option("version", "print the version, and exit"),
    Option("help", "print this, and exit", short="h"),
)
OPTIONS: tuple[Option, ...] = (*_INPUT, *_OUTPUT, *_MODEL, *_LIMITS, *_TOOLS, *_RUNS, *_PLUGINS, *_ABOUT)

GENERAL = frozenset(row.field for row in OPTIONS)


def table(*more: Iterable[Option]) -> tuple[Option, ...]:
    """Return the table with an agent's and the plugins' flags; UsageError where a name is taken twice."""
    rows = [*OPTIONS, *(option for options in more for option in options)]
    seen: set[str] = set()
    for row in rows:
        for name in (f"--{row.name}", f"-{row.short}" if row.short else f"--{row.name}\0", row.field + "\0field"):
            if name in seen:
                raise UsageError(f"the flag {name.partition(chr(0))[0]} is defined twice", hint="rename it where it was added")
            seen.add(name)
    return tuple(rows)


def usage(name: str) -> str:
    """Return the usage line."""
    return f"usage: {name} [FLAGS] [--] [WORDS...]"


def help_text(name: str, doc: str, options: Sequence[Option]) -> str:
    """Return plain help: what it is, examples and all from the manual (`doc`), then the flags by group."""
    return "\n".join([doc.strip("\n") or name, "", usage(name), *flag_lines(options)]) + "\n"


def flag_lines(options: Sequence[Option]) -> list[str]:
    """Return the lines of help for flags, group by group."""
    width = min(30, 2 + max((len(_left(option)) for option in options), default=0))
    lines: list[str] = []
    for group in dict.fromkeys(option.group for option in options):
        lines += ["", f"{group}:"]
        lines += [_help_line(option, width) for option in options if option.group == group]
    return lines


def _left(option: Option) -> str:
    short = f"-{option.short}, " if option.short else "    "
    if option.optional is not None:
        return f"{short}--{option.name}[={option.shown}]"
    return f"{short}--{option.name}" + (f" {option.shown}" if option.takes_value else "")


def _help_line(option: Option, width: int) -> str:
    left = f"  {_left(option)}"
    given = "" if option.default in (None, "", (), False) else f" (default {option.default})"
    text = option.help + given
    return f"{left:<{width + 2}}  {text}" if len(left) <= width + 2 else f"{left}\n{'':<{width + 4}}{text}"
