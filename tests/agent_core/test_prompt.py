"""Templates, sections, personas and prompt files."""

from __future__ import annotations

import contextlib
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_core.errors import ConfigError, UsageError
from agent_core.prompt import SECTIONS, Filled, Persona, compose, fill, load_prompt, load_prompts, master, persona, personas
from agent_core.store import open_store


def test_a_value_is_never_looked_at_again():
    assert fill("{a} {b}", {"a": "{b}", "b": "{a} {{a}}"}) == Filled("{b} {a} {{a}}")


def test_a_placeholder_without_a_value_is_an_error_that_names_it():
    with pytest.raises(ConfigError, match='"question"'):
        fill("{name}: {question}", {"name": "n"})


def test_values_that_no_placeholder_wants_are_reported_and_do_no_harm():
    assert fill("{a}", {"a": "1", "b": "2"}) == Filled("1", ("b",))


def test_other_braces_stand_for_themselves():
    template = '{"a": {"b": {}}} ${x} {1} {a b} }} {{'

    assert fill(template.replace("${x}", ""), {}).text == template.replace("${x}", "")
    assert fill("{{name}}", {}).text == "{name}"


@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), st.text(), min_size=3))
def test_filling_is_one_join_whatever_the_values(values):
    assert fill("<{a}|{b}|{c}>", values).text == f"<{values['a']}|{values['b']}|{values['c']}>"


def test_the_master_prompt_has_its_sections_in_order_and_only_those_with_a_value():
    text = master({"question": "why?", "goal": "Be useful.", "tools": "- t: d", "examples": ""})

    assert text == "Be useful.\n\nYou have these tools:\n\n- t: d\n\nQuestion: why?"
    assert list(SECTIONS) == ["goal", "tools", "format", "exit", "examples", "history", "question", "scratchpad"]


def test_a_section_can_be_replaced_or_dropped_but_not_invented():
    assert master({"goal": "g", "tools": "t"}, {"tools": "({tools})", "goal": ""}) == "(t)"
    with pytest.raises(ConfigError, match="moral"):
        master({"goal": "g"}, {"moral": "x"})


def test_the_five_personas_are_there():
    assert sorted(personas()) == ["assistant", "coder", "critic", "researcher", "teacher"]
    for name in personas():
        who = persona(name)
        assert who.name == name
        assert who.role
        assert who.tone
        assert who.system
        assert who.constraints


def test_an_unknown_persona_is_a_usage_error_that_lists_the_known_ones():
    with pytest.raises(UsageError) as caught:
        persona("pirate")
    assert "pirate" in str(caught.value)
    assert "assistant, coder, critic, researcher, teacher" in caught.value.hint


def test_a_folder_adds_personas_and_replaces_built_in_ones(tmp_path):
    (tmp_path / "pirate.toml").write_text('role = "a pirate"\ntone = "rough"\nconstraints = ["Say arr."]\n')
    (tmp_path / "coder.toml").write_text('name = "coder"\nsystem = "Only Rust."\n')

    assert persona("pirate", [tmp_path]) == Persona("pirate", "a pirate", "rough", "", ("Say arr.",))
    assert persona("coder", [tmp_path]).system == "Only Rust."
    assert persona(str(tmp_path / "pirate.toml")).tone == "rough"


@pytest.mark.parametrize("text", ["role = 3", "constraints = 'x'", "constraints = [1]", "color = 'red'", "not toml", "\x00", "é"])
def test_a_file_that_is_no_persona_is_a_configuration_error(tmp_path, text):
    path = tmp_path / "odd.toml"
    path.write_bytes(text.encode("latin-1"))

    with pytest.raises(ConfigError, match=r"odd\.toml"):
        persona(str(path))


def test_a_missing_persona_file_is_a_configuration_error(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.toml"):
        persona(str(tmp_path / "none.toml"))


def test_a_composed_prompt_says_who_what_how_and_within_which_limits():
    who = Persona("p", "a pirate", "rough", "You are a pirate.", ("Say arr.", "Be brief."))

    assert (
        compose(who, "Count words.")
        == "You are a pirate.\n\nCount words.\n\nTone: rough.\n\nKeep to this:\n- Say arr.\n- Be brief."
    )
    assert compose(Persona("p", role="a pirate"), "") == "You are a pirate."
    assert compose(None, "Count words.") == "Count words."


def test_a_prompt_file_has_a_version_and_a_hash(tmp_path):
    path = tmp_path / "prompts.toml"
    path.write_text('[prompts.short]\nversion = "2"\ntext = "Be short."\n[prompts.long]\ntext = "Be long."\n')
    found = load_prompts(path)

    assert found["short"].record() == {"name": "short", "version": "2", "sha256": hashlib.sha256(b"Be short.").hexdigest()}
    assert found["long"].version == ""
    assert load_prompt(f"{path}#long").text == "Be long."
    with pytest.raises(UsageError, match="several"):
        load_prompt(str(path))
    with pytest.raises(UsageError, match="medium"):
        load_prompt(f"{path}#medium")


def test_a_text_file_is_one_prompt(tmp_path):
    path = tmp_path / "brief.md"
    path.write_text("Be brief.\n")

    assert load_prompt(str(path)).record() == {"name": "brief", "version": "", "sha256": hashlib.sha256(b"Be brief.\n").hexdigest()}


@pytest.mark.parametrize(
    "text", ["", "[prompts]", "prompts = 1", "[prompts.x]\nversion = '1'", "[prompts.x]\ntext = 1", "[prompts]\nx = 1"]
)
def test_a_toml_file_without_prompts_is_a_configuration_error(tmp_path, text):
    path = tmp_path / "p.toml"
    path.write_text(text)

    with pytest.raises(ConfigError, match=r"p\.toml"):
        load_prompts(path)


def test_a_system_prompt_may_come_from_a_file_and_its_version_and_hash_are_recorded(run_agent, tmp_path):
    (tmp_path / "prompts.toml").write_text(
        '[prompts.short]\nversion = "2"\ntext = "Be short."\n[prompts.long]\ntext = "Be long."\n'
    )
    done = run_agent("assistant", "--system", "@prompts.toml#short", "--show-prompt", "hi")
    assert "Be short." in done.stdout

    words = ("-q", "--data-dir", "data", "--provider", "offline", "--system", "@prompts.toml#short", "hi")
    assert run_agent("assistant", *words).returncode == 0
    with contextlib.closing(open_store(tmp_path / "data" / "agents.db")) as store:
        (start,) = store.of_kind("run.started", "assistant")
    assert start.data["settings"]["system"] == "Be short."
    assert start.data["extra"]["prompt_file"]["version"] == "2"
    assert run_agent("assistant", "--system", "@prompts.toml#medium", "hi").returncode == 2
    assert run_agent("assistant", "--system", "@nothing.md", "hi").returncode == 78
