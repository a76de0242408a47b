"""commands - typed functions as the subcommands of an agent; flags, help and card come from their signatures.

    def add(text: str, kind: Literal["long", "short"] = "long", importance: float = 0.5) -> Answer: ...
    agent = Agent(__doc__, commands=[add, recall], default="recall")

`agent-mem add "two words" --kind long`: a parameter without a default is a word, one with a default a flag. The last word may
be `str` (the rest, joined) or `list[str]` (the rest). `stdin` receives standard input. A parameter named like a general flag
has that flag's value. Parameters annotated `Command` and `Settings` receive the call and its settings.

A function whose first parameter is annotated `Task` is a pattern: calling it is a run like any other, with the remaining words as
instruction, a journal, a budget, resume and replay. Its words and flags are recorded with the run.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from agent_core.errors import AgentError, UsageError
from agent_core.options import OPTIONS, Option, unknown, written

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from agent_core.agent import Agent
    from agent_core.cli import Command
    from agent_core.signature import Parameter, Signature

_GENERAL = {option.field: option for option in OPTIONS}
_KINDS = {str: "text", int: "int", float: "number", bool: "flag"}
_SUPPLIED = ("Task", "Command", "Settings")


@dataclass(frozen=True, slots=True)
class Spec:
    """One command: its name, function, manual, the words it takes, its flags, and who supplies the other parameters."""

    name: str
    function: Callable[..., Any]
    manual: str
    words: tuple[Parameter, ...]
    flags: tuple[Parameter, ...]
    supplied: Mapping[str, str]

    @property
    def is_run(self) -> bool:
        """Whether calling it is a run of an agent."""
        return "Task" in self.supplied.values()

    @property
    def usage(self) -> str:
        """The words as the help shows them."""
        return " ".join([self.name, *(_shown_word(word) for word in self.words if word.name != "stdin")])

    @property
    def summary(self) -> str:
        """The first line of the manual."""
        return self.manual.partition("\n")[0]


def _shown_word(word: Parameter) -> str:
    name = word.name.rstrip("_").upper()
    return f"[{name}...]" if _shape(word.annotation, word.name)[2] else name


def name_of(function: Callable[..., Any]) -> str:
    """Return the command's name for a function."""
    return function.__name__.rstrip("_").replace("_", "-")


@cache
def spec(function: Callable[..., Any]) -> Spec:
    """Return what a function's signature says."""
    from agent_core import signature

    supplied = {name: kind for name, note in function.__annotations__.items() if (kind := _supplied(note)) and name != "return"}
    read = signature.read(function, skip=tuple(supplied))
    manual, _ = signature.docstring(function.__doc__ or "")
    words = tuple(each for each in read.parameters if _is_word(each))
    flags = tuple(each for each in read.parameters if not _is_word(each))
    _check(function, read)
    return Spec(name_of(function), function, manual, words, flags, supplied)


def _is_word(parameter: Parameter) -> bool:
    from agent_core.signature import MISSING

    return parameter.default is MISSING and parameter.name != "stdin"


def _supplied(annotation: Any) -> str:
    written = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    word = written.strip("'\"").rpartition(".")[2]
    return word if word in _SUPPLIED else ""


def _check(function: Callable[..., Any], read: Signature) -> None:
    for parameter in read.parameters:
        if parameter.name != "stdin":
            _shape(parameter.annotation, f"{function.__name__}: {parameter.name}")


def _shape(annotation: Any, where: str) -> tuple[str, tuple[str, ...], bool]:
    """Return (kind, choices, repeat) for an annotation. TypeError for one that a command line cannot express."""
    import types
    import typing

    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in {types.UnionType, typing.Union}:
        plain = [each for each in arguments if each is not type(None)]
        if len(plain) == 1:
            return _shape(plain[0], where)
    if origin is typing.Literal:
        return "text", tuple(str(each) for each in arguments), False
    if origin in {list, tuple} and arguments:
        kind, choices, _ = _shape(arguments[0], where)
        return kind, choices, True
    if annotation in _KINDS:
        return _KINDS[annotation], (), False
    raise TypeError(f"command {where}: {annotation!r} cannot be a flag or a word")


def options(agent: Agent) -> tuple[Option, ...]:
    """Return the flags of all commands of an agent, one row a name."""
    rows: dict[str, Option] = {}
    for function in agent.commands:
        for row in own_options(spec(function)):
            known = rows.setdefault(row.name, row)
            if (known.kind, known.repeat) != (row.kind, row.repeat):
                raise TypeError(f"--{row.name} has two types in the commands of {agent.name}")
            if known.choices != row.choices:
                rows[row.name] = Option(row.name, known.help, known.kind, key=known.key, repeat=known.repeat, group="Commands")
    return tuple(rows.values())


def own_options(one: Spec) -> tuple[Option, ...]:
    """Return the flags that a command adds to the general ones."""
    return tuple(_option(one, each) for each in one.flags if each.name != "stdin" and each.name.rstrip("_") not in _GENERAL)


def _option(one: Spec, parameter: Parameter) -> Option:
    kind, offered, repeat = _shape(parameter.annotation, one.name)
    choices = tuple(each for each in offered if each)  # "" stands for a flag that was not given
    name = parameter.name.rstrip("_").replace("_", "-")
    if kind == "flag" and parameter.default is True:
        name = f"no-{name}"
    return Option(
        name, f"{one.name}: {parameter.description or parameter.name}", kind, short=name if len(name) == 1 else "",
        default=None if kind == "flag" or repeat else parameter.default, choices=choices, repeat=repeat, group="Commands",
        key=_field(parameter, kind),
    )  # fmt: skip


def _field(parameter: Parameter, kind: str) -> str:
    name = parameter.name.rstrip("_")
    return f"no_{name}" if kind == "flag" and parameter.default is True else name


def find(agent: Agent, words: Sequence[str]) -> tuple[Spec, list[str]]:
    """Return the command that the words name and the words that are its own. UsageError for none."""
    names = {name_of(function): function for function in agent.commands}
    if words and words[0] in names:
        return spec(names[words[0]]), list(words[1:])
    if agent.default and (not words or spec(names[agent.default]).words):
        return spec(names[agent.default]), list(words)
    if not words:
        raise UsageError("which command?", hint=", ".join(names))
    raise unknown("command", words[0], names)


def arguments(one: Spec, words: Sequence[str], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that words and flags (by field) make. UsageError for a missing or superfluous word."""
    made = dict(_words(one, list(words)))
    for parameter in one.flags:
        if parameter.name == "stdin":
            continue
        kind, _, repeat = _shape(parameter.annotation, one.name)
        key = _field(parameter, kind)
        given = values.get(key)
        if given is not None:
            made[parameter.name] = list(given) if repeat else (not given) if key.startswith("no_") and kind == "flag" else given
    _check_choices(one, made)
    return made


def _check_choices(one: Spec, made: Mapping[str, Any]) -> None:
    for parameter in (*one.words, *one.flags):
        if parameter.name in made:
            _, choices, repeat = _shape(parameter.annotation, one.name)
            for value in made[parameter.name] if repeat else [made[parameter.name]]:
                if choices and value is not None and str(value) not in choices:
                    raise _no_choice(parameter, str(value), choices, flag=parameter in one.flags)


def _no_choice(parameter: Parameter, value: str, choices: Sequence[str], *, flag: bool) -> UsageError:
    name = parameter.name.rstrip("_")
    if flag:
        return UsageError(f"--{name.replace('_', '-')}: no {value!r}", hint=f"one of {', '.join(filter(None, choices))}")
    return unknown(name.replace("_", " "), value, choices)


def _words(one: Spec, words: list[str]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for place, parameter in enumerate(one.words):
        kind, _, repeat = _shape(parameter.annotation, one.name)
        if repeat:
            made[parameter.name], words = [_converted(one, parameter, kind, word) for word in words], []
            continue
        if not words:
            raise UsageError(f"{one.name} needs {parameter.name.rstrip('_').upper()}", hint=f"usage: {one.usage}")
        last = place == len(one.words) - 1
        text = " ".join(words) if last and kind == "text" and not one.is_run else words[0]
        words = [] if last and kind == "text" and not one.is_run else words[1:]
        made[parameter.name] = _converted(one, parameter, kind, text)
    if words and not one.is_run:
        raise UsageError(f"{one.name} takes no word {words[0][:80]!r}", hint=f"usage: {one.usage}")
    return made


def _converted(one: Spec, parameter: Parameter, kind: str, word: str) -> Any:
    from agent_core.options import convert

    return convert(Option(f"{one.name} {parameter.name}", "", kind), word) if kind != "text" else word


def instruction(one: Spec, words: Sequence[str]) -> list[str]:
    """Return the words of a run that are not its parameters: the instruction."""
    return list(words[len(one.words) :])


def check_flags(agent: Agent, one: Spec, values: Mapping[str, Any]) -> None:
    """UsageError for a flag that only another command of the agent has."""
    mine = {option.field for option in own_options(one)}
    for option in options(agent):
        if values.get(option.field) is not None and option.field not in mine:
            owners = [name_of(each) for each in agent.commands if option.field in {row.field for row in own_options(spec(each))}]
            raise UsageError(f"{one.name} has no flag --{option.name}", hint=f"it belongs to {', '.join(owners)}")


def supply(one: Spec, made: dict[str, Any], **given: Any) -> dict[str, Any]:
    """Add what the engine supplies (Task, Command, Settings) to the arguments."""
    return {**made, **{name: given[kind] for name, kind in one.supplied.items()}}


# --- calling one ---------------------------------------------------------------------------------------------------


def call(command: Command) -> int:
    """Do what the command line asks; return the status."""
    from agent_core import asking

    one, words = find(
        command.agent, command.words if not command.flag("resume") and not command.flag("replay") else _again(command)
    )
    check_flags(command.agent, one, command.parsed.values)
    if one.is_run:
        made = arguments(one, words, {**command.parsed.values, **_set(command)}) if words or not _recorded(command) else {}
        rest = instruction(one, words)
        dash = ("-",) if "-" in command.parsed.words else ()
        chosen = replace(command, parsed=replace(command.parsed, words=(*rest, *dash)), chosen=(one.name, made))
        if asking.in_rows(command):
            from agent_core import rows

            return rows.run(chosen)
        return asking.one_run(chosen)
    if asking.in_rows(command):
        raise UsageError(f"{one.name} is no run: it takes no rows", hint="drop --lines or --records")
    _check_general(command, one)
    made = arguments(one, words, {**_set(command), **command.parsed.values})
    if any(parameter.name == "stdin" for parameter in one.flags):
        made |= _stdin(command, one)
    return _shown(command, one.function(**supply(one, made, Command=command, Settings=command.settings)))


def _check_general(command: Command, one: Spec) -> None:
    """UsageError for a general flag, or `-`, with which a command that is no run does nothing: nothing given is passed over."""
    taken = {parameter.name.rstrip("_") for parameter in one.flags}
    for name in ("dry_run", "show_prompt", "file", "attach", "continue_"):
        if command.flag(name) and name.rstrip("_") not in taken:
            raise UsageError(f"{one.name} takes no {written(name)}", hint=f"usage: {one.usage}")
    if command.agent.stdin == "none" and "-" in command.parsed.words:
        raise UsageError(f"{one.name} does not read stdin", hint="drop the `-`")


def _recorded(command: Command) -> bool:
    return bool(command.flag("resume") or command.flag("replay"))


def _again(command: Command) -> list[str]:
    """Return the words of a resumed or replayed run: the command's name alone, as it was recorded."""
    if command.words:
        raise UsageError("a resumed or replayed run has its own command and input", hint="drop the words")
    ref = command.flag("resume") or command.flag("replay")
    store = command.store()
    start = next(iter(store.events(store.run(ref, command.agent.name if ref == "last" else None).id)), None)
    name = (start.data.get("command") or [""])[0] if start is not None else ""
    if not name:
        raise UsageError(f"run {ref} is no run of {command.agent.name}", hint="agent-log list shows the runs")
    return [name]


def _set(command: Command) -> dict[str, Any]:
    """Return the settings a parameter may be named after."""
    return {name: getattr(command.settings, name, None) for name in _GENERAL if hasattr(command.settings, name)}


def _stdin(command: Command, one: Spec) -> dict[str, Any]:
    from agent_core import asking, stdin
    from agent_core.signature import MISSING

    parameter = next(each for each in one.flags if each.name == "stdin")
    needed = parameter.default is MISSING
    rules = asking.rules(command, instruction=not needed, dash="-" in command.parsed.words)
    data = stdin.read(replace(rules, stdin="required" if needed else "optional"))
    if data is None:
        return {}
    return {"stdin": data if parameter.annotation is bytes else stdin.text_of(data)}


def _shown(command: Command, value: Any) -> int:
    """Print what a command returned."""
    from agent_core.task import Answer
    from agent_core.tool import render

    if value is None:
        return 0 if command.out.mode == "text" or command.out.done else command.out.answer("", None)
    if isinstance(value, AgentError):
        raise value
    answer = value if isinstance(value, Answer) else Answer(*((value, None) if isinstance(value, str) else _json(render(value)[1])))
    if command.out.mode == "text":
        if answer.text:
            command.out.text(answer.text)
    else:
        from agent_core import records

        command.out.finish(records.plain_data(answer.text, answer.value, answer.status, command.out.upstream))
    return answer.status


def _json(value: Any) -> tuple[str, Any]:
    import json

    return json.dumps(value, ensure_ascii=False, indent=2), value


# --- readings ------------------------------------------------------------------------------------------------------


def help_section(agent: Agent) -> str:
    """Return the list of commands for the help."""
    rows = [(spec(each).usage, spec(each).summary) for each in agent.commands]
    width = min(34, max((len(left) for left, _ in rows), default=0))
    lines = [f"  {left:<{width}}  {right}" if len(left) <= width else f"  {left}\n  {'':<{width}}  {right}" for left, right in rows]
    return "\n".join(["Commands:", *lines])


def manual(one: Spec, name: str) -> str:
    """Return the help of one command."""
    from agent_core.options import flag_lines

    lines = [
        f"usage: {name} {one.usage} [FLAGS]",
        "",
        one.manual,
        *flag_lines(own_options(one)),
        "",
        f"{name} --help shows all flags.",
    ]
    return "\n".join(lines) + "\n"


def rows(agent: Agent) -> list[dict[str, Any]]:
    """Return the commands for the card: name, description, input schema."""
    from agent_core import signature

    found = []
    for function in agent.commands:
        one = spec(function)
        named = [each for each in (*one.words, *one.flags) if each.name != "stdin"]
        # An empty sequence as default is none at all to a caller.
        plain = [replace(each, default=None) if each.default == () else each for each in named]
        found.append({"name": one.name, "description": one.manual, "input_schema": signature.plain_schema(plain) or {}})
    return found
