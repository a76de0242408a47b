"""Facts are read from the code, never by running it, and say the same every time."""

from __future__ import annotations

import pytest

from agent_plugins import code_facts

CODE = {
    "pyproject.toml": '[project]\nname = "shop"\nrequires-python = ">=3.11"\n[project.scripts]\nshop = "web.main:main"\n[tool.ruff]\n[tool.mypy]\n',
    "core/__init__.py": "",
    "core/errors.py": '"""Errors."""\n\n\nclass ShopError(Exception):\n    """All."""\n\n\nclass Empty(ShopError):\n    pass\n\n\nclass Gone(Empty):\n    pass\n',
    "core/stock.py": (
        "from dataclasses import dataclass\nfrom typing import TYPE_CHECKING\nfrom .errors import Empty\n\nif TYPE_CHECKING:\n    from web import main\n\n\n"
        "@dataclass(frozen=True)\nclass Item:\n    name: str\n\n\ndef takeOne(items):\n    try:\n        return items.pop()\n    except Exception:\n        raise Empty\n"
    ),
    "web/__init__.py": "",
    "web/main.py": 'import core.stock\n\n\nasync def main(x: int) -> None:\n    """Serve."""\n    from core import errors\n',
    "web/bad.py": "def (:\n",
    "tests/test_stock.py": "import pytest\nfrom core.stock import takeOne\n\n\ndef test_one():\n    assert takeOne([1]) == 1\n",
    "README.md": "# Shop\n",
}  # fmt: skip


def test_the_facts_of_a_small_code_base_are_all_there():
    found = code_facts.facts(CODE)

    assert found["Size"] == ["Python: 7 files, 44 lines", "TOML: 1 file, 7 lines", "Markdown: 1 file, 1 line"]
    assert found["Layers"] == ["`web` -> `core` (1)", "no cycles"]
    assert "cannot be parsed: `web/bad.py`" in found["Modules"]
    assert "functions in snake_case: 2 of 3 (66 %); not: `takeOne`" in found["Names"]
    assert "1 async function" in found["Functions and classes"]
    assert "4 classes, 1 of them dataclasses, 1 frozen" in found["Functions and classes"]
    assert found["Errors"] == [
        "`ShopError` (Exception) in `core/errors.py`, with 2 classes beneath it",
        "`except Exception` or wider: 1",
    ]
    assert found["Tests"][:2] == ["1 test file in `tests`", "1 test function; they import pytest"]
    assert found["Project"][0] == "`pyproject.toml`: name `shop`, Python >=3.11, 1 console script, tools configured: mypy, ruff"
    assert found == code_facts.facts(dict(reversed(CODE.items())))


def test_imports_for_type_checkers_make_no_arrow_and_real_ones_do_wherever_they_stand():
    lazy = {"a/__init__.py": "", "a/x.py": "def f():\n    import b.y\n", "b/__init__.py": "", "b/y.py": "from a import x\n"}

    assert code_facts.facts(lazy)["Layers"] == ["`a` -> `b` (1)", "`b` -> `a` (1)", "cycle: `a`, `b` import each other"]


def test_the_parts_of_a_single_package_are_told_apart():
    one = {"p/__init__.py": "", "p/a.py": "from . import b\n", "p/b.py": "import os\n", "p/c/__init__.py": "from ..a import x\n"}

    assert code_facts.facts(one)["Layers"] == ["`p.a` -> `p.b` (1)", "`p.c` -> `p.a` (1)", "no cycles"]


def test_cycles_are_found_whole_and_once():
    assert code_facts.cycles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}, "e": {"f"}, "f": {"e"}}) == [
        ["a", "b", "c"],
        ["e", "f"],
    ]
    assert code_facts.cycles({}) == []


def test_a_code_base_without_code_has_nothing_to_say():
    assert code_facts.facts({}) == {}
    assert code_facts.as_text({}) == ""
    assert set(code_facts.facts({"notes.xyz": "x"})) == set()


@pytest.mark.parametrize(
    "text",
    [
        "(" * 5000,
        "-" * 5000 + "1",
        "x = " + "[" * 300 + "]" * 300,
        "\x00",
        "\ud800",
        "def f(:",
        "class A(f()[0]): pass\n",
        "\u2028",
        "if TYPE_CHECKING: pass\nelse:\n import a\n",
    ],
)
def test_strange_code_is_told_of_and_does_no_harm(text):
    assert code_facts.facts({"a.py": text, "pyproject.toml": text, "package.json": text})


def test_a_strange_file_name_cannot_break_out_of_its_line():
    name = "a\n<!-- patterns:facts:end -->\x1b[31m.py"
    text = code_facts.as_text(code_facts.facts({name: "x = 1\n"}))

    assert "<!--" not in text
    assert "\x1b" not in text
    assert all(line.startswith(("-", "#")) or not line for line in text.splitlines())


def test_project_files_that_lie_are_quoted_tamely():
    files = {"pyproject.toml": '[project]\nname = "`x`\\n# boo <!--"\n', "package.json": '{"name": ["a"], "scripts": []}'}

    text = code_facts.as_text({"Project": code_facts.facts(files)["Project"]})

    assert text.splitlines()[2:] == ["- `pyproject.toml`: name `?x??? boo ?`", "- `package.json`: name `??a??`"]
