"""typer_app - the typer program that the table of flags stands for: rich help, completion, and the judge of our parser.

Imported only for help on a terminal, for completion, and by the test that compares it with `agent_core.options.parse`.
"""

from __future__ import annotations

import inspect
import keyword
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent_core.errors import AgentError
from agent_core.options import Option, convert

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def app(name: str, doc: str, options: Sequence[Option], receive: Callable[[dict[str, Any]], None]) -> typer.Typer:
    """Return a typer app of one command with the table's flags; `receive` gets all values by field name, and `words`."""
    rich = typer.Typer(
        name=name,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": []},
    )

    def command(**values: Any) -> None:
        receive(values)

    command.__doc__ = doc
    words = Annotated[list[str] | None, typer.Argument(metavar="WORDS", show_default=False, help="what to do; - reads stdin")]
    parameters = [inspect.Parameter("words", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=words)]
    parameters += [_parameter(option) for option in options]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    rich.command(name=name, context_settings={"help_option_names": []})(command)
    return rich


def _parameter(option: Option) -> inspect.Parameter:
    names = [f"--{option.name}", *([f"-{option.short}"] if option.short else [])]
    info: dict[str, Any] = {"help": option.help, "rich_help_panel": option.group, "show_default": False}
    given = option.default not in (None, "", (), False)
    if given:
        info["help"] = f"{option.help} [default: {option.default}]"
    if option.takes_value and option.optional is None:
        info |= {"parser": _parser(option), "metavar": option.shown, "autocompletion": _completer(option)}
        kind: Any = list[str] if option.repeat else str | None
        default: Any = None
    else:
        info["metavar"] = f"[={option.shown}]" if option.takes_value else " "
        kind, default = bool, False
    annotation = Annotated[kind, typer.Option(*names, **info)]
    field = f"{option.field}_" if keyword.iskeyword(option.field) else option.field  # `--from`
    return inspect.Parameter(field, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _parser(option: Option) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        try:
            return convert(option, text)
        except AgentError as error:
            raise typer.BadParameter(error.line()) from None

    parse.__name__ = option.shown
    return parse


def _completer(option: Option) -> Callable[[str], list[str]]:
    def complete(incomplete: str) -> list[str]:
        return [choice for choice in option.choices if choice.startswith(incomplete)]

    return complete


def show_help(name: str, doc: str, options: Sequence[Option]) -> None:
    """Print rich help: the manual with its examples first, then the flags in panels."""
    from rich.markup import escape
    from typer.rich_utils import rich_format_help

    # A paragraph that begins with \b keeps its line breaks: examples must not be joined.
    manual = "\n\n".join(f"\b\n{escape(paragraph)}" for paragraph in doc.strip().split("\n\n"))
    command = typer.main.get_command(app(name, manual, options, lambda _values: None))
    with command.make_context(name, [], resilient_parsing=True) as context:
        rich_format_help(obj=command, ctx=context, markup_mode="rich")


def variable(name: str) -> str:
    """Return the environment variable by which a completion script asks."""
    return f"_{name.upper().replace('-', '_')}_COMPLETE"


def completion_script(name: str, shell: str) -> str:
    """Return the script for bash, zsh or fish."""
    script: str = _completion().get_completion_script(prog_name=name, complete_var=variable(name), shell=shell)
    return script.strip() + "\n"


def complete(name: str, doc: str, options: Sequence[Option], instruction: str) -> int:
    """Answer a completion script; prints the proposals."""
    _completion().completion_init()
    command = typer.main.get_command(app(name, doc, options, lambda _values: None))
    return int(_completion().shell_complete(command, {}, name, variable(name), instruction))


def _completion() -> Any:
    import typer.completion

    return typer.completion
