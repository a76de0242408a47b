"""The table of flags: the parser, judged by the typer app that is made from the same table."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent_core import options, typer_app
from agent_core.errors import UsageError
from agent_core.options import OPTIONS, Option, help_text, nearest, parse, table

# A value of --agent-schema needs `=`, which typer has no word for; help would print and leave.
COMPARED = tuple(option for option in OPTIONS if option.optional is None and option.name != "help")
PIECES = [
    *[f"--{option.name}" for option in COMPARED], *[f"-{option.short}" for option in COMPARED if option.short],
    "-jq", "-qj", "-vf", "-ffile", "-f=file", "-jx", "-", "--", "", "word", "1", "-1", "0.5", "--model=", "--model=a=b", "--json=1", "--nope",
    "--max-steps=3", "--max-steps=x", "--temperature=0.5", "--temperature=9", "--color=always", "--color", "never", "--cache=maybe",
    "--budget=1.5", "--timeout=2m", "--rate=60/m", "--allow=a", "--file=x", "--in", "jsonl", "é", "--mod",
]  # fmt: skip


def by_typer(argv: list[str]) -> dict | str:
    import typer

    seen: list[dict] = []
    command = typer.main.get_command(typer_app.app("demo", "demo - x", COMPARED, seen.append))
    try:
        command.main(list(argv), standalone_mode=False)
    except Exception as error:  # noqa: BLE001 - typer's own errors, whatever their class
        assert getattr(error, "exit_code", None) == 2, error
        return "usage"
    given = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in seen[0].items()
        if value not in (None, False, [], ()) and name != "words"
    }
    return given | {"words": tuple(seen[0]["words"] or ())}


def by_us(argv: list[str]) -> dict | str:
    try:
        parsed = parse(argv, COMPARED)
    except UsageError:
        return "usage"
    return {name: value for name, value in parsed.values.items() if value is not False} | {"words": parsed.words}


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=5))
@example(["--model", "--", "x"])
@example(["-f", "-", "word"])
@example(["--file", "a", "--file=b", "-fc"])
@example(["--temperature", "-1"])
@example(["word", "--json", "more", "--", "--json"])
@example(["-qjv"])
@example(["--max-steps", "1", "--max-steps", "2"])
def test_the_parser_reads_a_command_line_as_typer_does(argv):
    assert by_us(argv) == by_typer(argv)


def test_an_unknown_flag_names_the_nearest_ones():
    with pytest.raises(UsageError, match="no flag --modle") as caught:
        parse(["--modle", "x"], OPTIONS)

    assert "--model" in caught.value.hint


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--model"], "--model needs a value"), (["--json=1"], "--json takes no value"), (["-jx"], "no flag -x"),
        (["--color=red"], "no 'red'"), (["--temperature", "3"], "more than 2"), (["--max-steps", "0"], "less than 1"),
        (["--temperature", "nan"], "is not a number"), (["--timeout", "soon"], "is not seconds"), (["--budget", "-1"], "is not an amount"),
        (["--max-steps", "9" * 40], "is not a whole number"), (["--rate", "0/s"], "is not a number per s"), (["--rate", "20"], "such as 60/min"), (["--file", ""], "is not a path"),
        (["--mcp"], "no flag --mcp"), (["--serve"], "no flag --serve"), (["--daemon"], "no flag --daemon"),
    ],
)  # fmt: skip
def test_a_bad_command_line_says_what_is_wrong(argv, says):
    with pytest.raises(UsageError) as caught:
        parse(argv, OPTIONS)

    assert says in str(caught.value)
    assert caught.value.status == 2


@pytest.mark.parametrize(
    ("argv", "name", "value"),
    [
        (["--timeout", "1.5"], "timeout", 1.5), (["--timeout", "2m"], "timeout", 120.0), (["--timeout", "50ms"], "timeout", 0.05),
        (["--budget", "$0.25"], "budget", Decimal("0.25")), (["--rate", "5/s"], "rate", (5.0, 1.0)), (["--rate", "60/h"], "rate", (60.0, 3600.0)),
        (["--agent-schema"], "agent_schema", "card"), (["--agent-schema=mcp"], "agent_schema", "mcp"),
        (["--allow", "a", "--allow=b"], "allow", ("a", "b")), (["-fx"], "file", ("x",)), (["--in", "json"], "input_format", "json"),
    ],
)  # fmt: skip
def test_values_are_converted_to_their_kind(argv, name, value):
    assert parse(argv, OPTIONS).values[name] == value


def test_a_bare_agent_schema_takes_no_word():
    assert parse(["--agent-schema", "word"], OPTIONS).words == ("word",)


def test_every_flag_has_help_a_group_and_a_unique_name():
    assert all(option.help and option.group != "More" for option in OPTIONS)
    assert len(table()) == len(OPTIONS)


def test_a_flag_that_is_defined_twice_is_refused():
    with pytest.raises(UsageError, match="--model is defined twice"):
        table([Option("model", "again", "text")])
    with pytest.raises(UsageError, match="-j is defined twice"):
        table([Option("jump", "again", short="j")])


def test_plain_help_begins_with_the_manual_and_names_every_flag():
    text = help_text("demo", "demo - shows\n\n    $ demo x\n", OPTIONS)

    assert text.startswith("demo - shows\n\n    $ demo x\n")
    assert all(f"--{option.name}" in text for option in OPTIONS)


def test_nearest_names_are_best_first_and_prefixes_count():
    assert nearest("upercase", ["lowercase", "uppercase"])[0] == "uppercase"
    assert nearest("temp", ["temperature", "model"]) == ["temperature"]
    assert options.unknown("tool", "zzz", ["a", "b"]).hint == "known: a, b"
