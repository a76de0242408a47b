"""languages - which language a file is in, what is only a comment or a string there, and what is a test or an example.

language_of("deploy.yml")                       "yaml"
"""

from __future__ import annotations

import re
from functools import cache

_ENDINGS = {
    ending: language
    for language, endings in {
        "python": "py pyi pyw",
        "javascript": "js jsx mjs cjs ts tsx mts cts vue svelte",
        "shell": "sh bash zsh ksh bats",
        "go": "go",
        "java": "java kt kts scala groovy",
        "c": "c h cc cpp cxx hpp hh hxx m mm",
        "rust": "rs",
        "php": "php phtml",
        "ruby": "rb rake",
        "yaml": "yml yaml",
        "json": "json jsonc json5 webmanifest ipynb",
        "toml": "toml",
        "ini": "ini cfg conf cnf editorconfig npmrc pypirc netrc",
        "properties": "properties",
        "dotenv": "env envrc",
        "hcl": "tf tfvars hcl",
        "dockerfile": "dockerfile",
        "make": "mk",
        "prose": "md rst txt adoc html htm po pot tex csv tsv svg",
    }.items()
    for ending in endings.split()
}
_NAMES = {
    "dockerfile": "dockerfile", "containerfile": "dockerfile", "makefile": "make", "gnumakefile": "make", "jenkinsfile": "java",
    "rakefile": "ruby", "gemfile": "ruby", ".npmrc": "ini", ".pypirc": "ini", ".netrc": "ini",
    ".bashrc": "shell", ".profile": "shell",
    ".bash_profile": "shell", ".zshrc": "shell",
}  # fmt: skip
_LOCKS = frozenset({
    "package-lock.json", "npm-shrinkwrap.json", "yarn.lock", "pnpm-lock.yaml", "poetry.lock", "uv.lock", "pdm.lock", "pipfile.lock",
    "cargo.lock", "gemfile.lock", "composer.lock", "go.sum", "flake.lock", "packages.lock.json", "gradle.lockfile", "bun.lock",
    "podfile.lock", "mix.lock", "pubspec.lock", "deno.lock", ".terraform.lock.hcl", "module.bazel.lock", "requirements.lock",
})  # fmt: skip
_EXEMPT_FOLDERS = frozenset({
    "test", "tests", "testing", "__tests__", "__mocks__", "mocks", "spec", "specs", "fixture", "fixtures", "testdata",
    "test-data", "test_data", "example", "examples", "sample", "samples", "demo", "demos", "doc", "docs",
    "documentation", "cassettes", "e2e", "benchmark", "benchmarks", "stories",
})  # fmt: skip
_EXEMPT_NAME = re.compile(
    r"(?:test_.*|conftest\.py|.*_tests?\.\w+|.*[.-](?:test|spec|stories|fixture|mock)\.\w+|.*Tests?\.(?:java|kt|cs|scala|php)|.*_spec\.rb"
    r"|.*\.(?:example|sample|template|tmpl|dist|tpl|j2)|(?:example|sample|template)s?[._-].*|.*[._-](?:example|sample|template)s?\.\w+)"
)
_SHEBANG = re.compile(r"#!\s*\S*/(?:env\s+(?:-S\s+)?)?([a-z]+)")
_RUNS = {"python": "python", "node": "javascript", "ruby": "ruby", "php": "php"} | dict.fromkeys(
    ("sh", "bash", "zsh", "ksh", "dash"), "shell"
)
_LOOKS_PYTHON = re.compile(r"^(?:import \w|from [\w.]+ import |(?:async )?def \w+\(|class \w+[(:])", re.MULTILINE)

# language -> comments and strings, alternatives of one pattern; strings have their contents in the group after the quote
_HASH = r"(?P<c>(?<![^\s;&|(])#[^\n]*+)"
_SLASHES = r"(?P<c>//[^\n]*+|/\*[\s\S]*?(?:\*/|\Z))"
_PLAIN = r"(?P<q>[\"'])(?P<s>(?:(?!(?P=q))[^\\\n]|\\.)*+)(?P=q)?"
_TEMPLATE = (
    r"(?P<t>`(?:[^`\\$]|\\.|\$(?!\{)|\$\{(?:[^{}`]|`[^`]{0,2000}`|\{[^{}]{0,2000}\}){0,2000}+\})*+`)"  # one level of nesting
)
_VIEWS = {
    "c": rf"{_SLASHES}|{_PLAIN}",
    "java": rf"{_SLASHES}|{_PLAIN}",
    "go": rf"{_SLASHES}|{_PLAIN}",
    "rust": rf"{_SLASHES}|(?P<q>\")(?P<s>(?:[^\\\"]|\\[\s\S])*+)\"?",
    "javascript": rf"{_SLASHES}|{_TEMPLATE}|{_PLAIN}",
    "php": rf"(?P<c>//[^\n]*+|#(?!\[)[^\n]*+|/\*[\s\S]*?(?:\*/|\Z))|{_PLAIN}",
    "ruby": rf"{_HASH}|{_PLAIN}",
    "shell": r"(?P<c>(?<![^\s;&|(])#[^\n]*+)|(?P<q>')(?P<s>[^']*+)'?",
    "dockerfile": r"(?P<c>^[ \t]*+#[^\n]*+)",
    "make": r"(?P<c>^[ \t@]*+#[^\n]*+)",
    "yaml": r"(?P<c>(?<!\S)#[^\n]*+)",
}


_DOCUMENTED = re.compile(
    r"#[^\n]*+|(?P<doc>^[ \t]*+[rRuU]{0,2}(?:\"\"\"[\s\S]*?(?:\"\"\"|\Z)|'''[\s\S]*?(?:'''|\Z)))"
    r"|\"\"\"[\s\S]*?(?:\"\"\"|\Z)|'''[\s\S]*?(?:'''|\Z)|\"(?:\\.|[^\"\\\n])*+\"|'(?:\\.|[^'\\\n])*+'",
    re.MULTILINE,
)


def documentation(text: str, language: str) -> list[tuple[int, int]]:
    """Return where a Python text documents: the spans of strings that stand alone at the beginning of a line."""
    if language != "python":
        return []
    return [match.span() for match in _DOCUMENTED.finditer(text) if match["doc"]]


def language_of(path: str, text: str = "") -> str:
    """Return a file's language by its name, else by its first line, "" when unknown."""
    name = path.rpartition("/")[2].lower()
    if name in _LOCKS or name.endswith((".lock", ".sum", ".map")):
        return "lock"
    if name in _NAMES or name.startswith(("dockerfile.", ".env")):
        return _NAMES.get(name) or ("dockerfile" if name.startswith("docker") else "dotenv")
    found = _ENDINGS.get(name.rpartition(".")[2], "") if "." in name else ""
    return found or _by_content(text)


def _by_content(text: str) -> str:
    first = _SHEBANG.match(text)
    if first is not None:
        return _RUNS.get(first[1], "")
    if text.startswith("<?php"):
        return "php"
    return "python" if _LOOKS_PYTHON.search(text, 0, 20_000) else ""


def is_exempt(path: str) -> bool:
    """Return whether a path is one of tests, examples or documentation, where secrets are usually made up."""
    *folders, name = path.split("/")
    return not _EXEMPT_FOLDERS.isdisjoint(folder.lower() for folder in folders) or bool(_EXEMPT_NAME.fullmatch(name))


def is_minified(text: str, path: str) -> bool:
    """Return whether a text is made for machines: few, very long lines."""
    return ".min." in path or ("\n" not in text[:5000] and len(text) > 5000) or len(text) > 400 * (text.count("\n") + 20)


@cache
def _view(language: str) -> re.Pattern[str]:
    return re.compile(_VIEWS[language], re.MULTILINE)


def code_view(text: str, language: str, *, strings: bool = False) -> str:
    """Return the text with comments blanked, and the contents of strings unless `strings`; every character keeps its place."""
    if language not in _VIEWS:
        return text
    return _view(language).sub(_keep_strings if strings else _blank, text)


def _keep_strings(match: re.Match[str]) -> str:
    return _spaces(match[0]) if match.lastgroup == "c" else match[0]


def _blank(match: re.Match[str]) -> str:
    if match.lastgroup == "t":
        return re.sub(r"[^`${}\n]", " ", match[0])  # that something is put in must stay visible
    if match.lastgroup == "c" or "s" not in match.re.groupindex:
        return _spaces(match[0])
    start, end = match.span("s")
    whole, at = match[0], match.start()
    return whole[: start - at] + _spaces(match["s"]) + whole[end - at :]


def _spaces(text: str) -> str:
    return " " * len(text) if "\n" not in text else re.sub(r"[^\n]", " ", text)
