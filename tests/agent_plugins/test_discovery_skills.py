"""Tests of skills: cards and SKILL.md are read as text, broken ones are reported, the rest load."""

from __future__ import annotations

import os

import pytest

from agent_plugins.discovery import skills

GOOD = 'name = "review"\ndescription = "review a change"\nversion = "1.0"\nauthor = "me"\ncapabilities = ["review", "security"]\n'


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "skills"
    path.mkdir()
    return path


def skill_md(folder, name, front, body="Do as you like."):
    (folder / name).mkdir()
    (folder / name / "SKILL.md").write_text(f"---\n{front}\n---\n\n{body}\n")


def test_a_card_has_its_fields_and_may_point_at_an_agent(folder):
    (folder / "review.toml").write_text(GOOD + 'agent = "code-reviewer"\n')

    (skill,), problems = skills.load(folder)
    assert problems == []
    assert (skill.name, skill.description, skill.version, skill.author) == ("review", "review a change", "1.0", "me")
    assert (skill.capabilities, skill.target) == (("review", "security"), ("agent", "code-reviewer"))


def test_a_folder_that_is_not_there_has_no_skills(tmp_path):
    assert skills.load(tmp_path / "nowhere") == ([], [])


BROKEN = {
    "no TOML": "name = ",
    "no name": 'description = "x"',
    "no description": 'name = "x"',
    "an empty name": 'name = ""\ndescription = "x"',
    "a name with a slash": 'name = "../x"\ndescription = "x"',
    "a number for a name": 'name = 7\ndescription = "x"',
    "an unknown key": GOOD + "run = 'rm'",
    "a capability that is a number": 'name = "x"\ndescription = "x"\ncapabilities = [1]',
    "an agent with a path": GOOD + 'agent = "/bin/sh"',
    "two targets": GOOD + 'agent = "a"\ntool = "b:c"',
    "a description without end": f'name = "x"\ndescription = "{"x" * 2000}"',
    "a file without end": GOOD + "#" * skills.LARGEST,
    "deep nesting": "a = " + "[" * 5000,
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_a_broken_card_is_reported_and_the_rest_load(text, folder):
    (folder / "a-broken.toml").write_text(text)
    (folder / "good.toml").write_text(GOOD)

    found, problems = skills.load(folder)
    assert [skill.name for skill in found] == ["review"]
    assert len(problems) == 1
    assert problems[0].startswith("a-broken.toml: ")


def test_everything_wrong_with_a_card_is_said_at_once(folder):
    (folder / "x.toml").write_text('version = 1\nauthor = 2\ncapabilities = "a"\n')

    _, (problem,) = skills.load(folder)
    for word in ("name is missing", "description is missing", "version is no text", "author is no text", "capabilities is no list"):
        assert word in problem


def test_a_second_skill_of_a_name_is_reported(folder):
    (folder / "a.toml").write_text(GOOD)
    (folder / "b.toml").write_text(GOOD)

    found, problems = skills.load(folder)
    assert len(found) == 1
    assert problems == ["b.toml: there is another skill review"]


def test_a_pipe_and_a_dangling_link_do_not_stop_the_rest(folder):
    os.mkfifo(folder / "a.toml")
    (folder / "b.toml").symlink_to(folder / "nowhere")
    (folder / "good.toml").write_text(GOOD)

    found, problems = skills.load(folder)
    assert [skill.name for skill in found] == ["review"]
    assert len(problems) == 2


FRONTS = {
    "plain": ("name: pdf\ndescription: Work with PDF files.", "Work with PDF files."),
    "double quotes": ('name: "pdf"\ndescription: "Read: \\"PDF\\" # files"', 'Read: "PDF" # files'),
    "single quotes": ("name: 'pdf'\ndescription: 'It''s for: PDF'", "It's for: PDF"),
    "a comment": ("name: pdf # short\ndescription: Work # with care", "Work"),
    "a folded block": ("name: pdf\ndescription: >-\n  Work with\n  PDF files.\nlicense: MIT", "Work with PDF files."),
    "a literal block": ("name: pdf\ndescription: |\n  Work with\n  PDF files.", "Work with PDF files."),
    "a continued line": ("name: pdf\ndescription: Work with\n  PDF files.", "Work with PDF files."),
    "other keys": ("name: pdf\nmetadata:\n  name: other\n  tags: [a, b]\nallowed-tools: Bash\ndescription: Work", "Work"),
    "windows lines": ("name: pdf\r\ndescription: Work\r", "Work"),
}


@pytest.mark.parametrize(("front", "description"), FRONTS.values(), ids=FRONTS)
def test_an_agent_skill_is_read_by_its_front_matter(front, description, folder):
    skill_md(folder, "pdf", front)

    (skill,), problems = skills.load(folder)
    assert problems == []
    assert (skill.name, skill.description, skill.target) == ("pdf", description, ("", ""))


BROKEN_FRONTS = {
    "no name": "description: x",
    "no description": "name: pdf",
    "another name than its folder": "name: other\ndescription: x",
    "an unquoted colon": "name: pdf\ndescription: do this: that",
    "an anchor": "name: pdf\ndescription: &x y",
    "a list": "name: pdf\ndescription: [x]",
    "a quote that does not end": 'name: pdf\ndescription: "x',
    "a bad escape": 'name: pdf\ndescription: "\\q"',
    "a capital name": "name: PDF\ndescription: x",
}


@pytest.mark.parametrize("front", BROKEN_FRONTS.values(), ids=BROKEN_FRONTS)
def test_broken_front_matter_is_reported_and_the_rest_load(front, folder):
    skill_md(folder, "pdf", front)
    skill_md(folder, "good", "name: good\ndescription: fine")

    found, problems = skills.load(folder)
    assert [skill.name for skill in found] == ["good"]
    assert len(problems) == 1
    assert problems[0].startswith("pdf/SKILL.md: ")


def test_without_front_matter_it_is_no_skill_and_the_body_is_never_read_as_one(folder):
    (folder / "x").mkdir()
    (folder / "x" / "SKILL.md").write_text("# x\nname: x\ndescription: y\n---\n")

    assert skills.load(folder) == ([], ["x/SKILL.md: no front matter between --- lines"])


def test_yaml_agrees_about_the_forms_that_are_read(folder):
    yaml = pytest.importorskip("yaml")
    for front, description in FRONTS.values():
        data = yaml.safe_load(front.replace("\r", ""))

        assert " ".join(data["description"].split()) == description
