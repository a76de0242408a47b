"""engine - run the rules over one text and say where they match.

    scan_text("app.py", text).findings            a whole file
    scan_diff(text).findings                      what a diff adds

A comment on the line of a finding, or alone on the line above it, accepts it when it names the rule and gives a reason:

    subprocess.run(command, shell=True)  # security: ignore[python-shell] the command is built from our own table

Findings carry positions in the file (line and column from 1, columns in characters), a line of code with every secret masked, and
a fingerprint that survives moved lines. No finding holds a secret whole.
"""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_right
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from agent_plugins.scanning import secret_checks
from agent_plugins.scanning.languages import code_view, documentation, is_exempt, is_minified, language_of
from agent_plugins.scanning.rules import SEVERITIES, Rule, compiled, find_rule, is_rule, secret_rules

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

MOST = 1000  # findings of one rule in one text
EXCERPT = 160
_IGNORE = re.compile(r"(?:#|//|--|/\*|<!--|;|%)[ \t]{0,8}security:[ \t]{0,4}ignore\[([\w\-, ]{1,400})\][ \t:-]{0,8}([^\n]{0,400})")
_LINE_END = re.compile("\n")
_LOWER = {code: code + 32 for code in range(65, 91)}
_REASON = re.compile(r"[^\W\d_]{3}")


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding. `accepted` is why it does not count ("" when it counts), `by` who said so: comment or baseline."""

    rule: str
    severity: str
    path: str
    line: int
    column: int
    end_line: int
    end_column: int
    message: str
    excerpt: str = ""
    fingerprint: str = ""
    accepted: str = ""
    by: str = ""
    id: str = ""


@dataclass(frozen=True, slots=True)
class Scan:
    """What came of texts: findings (accepted ones too), remarks, and what was `missed`: not read though it should be."""

    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    missed: tuple[str, ...] = ()
    files: int = 0
    characters: int = 0


class Raw(NamedTuple):
    """A match before it has a place in a file: the span in the text, and the span of the secret (empty for code)."""

    rule: Rule
    start: int
    end: int
    secret: tuple[int, int]
    severity: str
    note: str


@dataclass(frozen=True, slots=True)
class Source:
    """One text with what is known of it. `lines` maps its lines to those of the file, `added` are the lines that count."""

    path: str
    text: str
    language: str
    exempt: bool
    whole: bool = True
    lines: Sequence[int] = ()
    added: frozenset[int] | None = None
    memo: dict[str, Any] = field(default_factory=dict)

    @property
    def starts(self) -> list[int]:
        """Where the lines begin."""
        if "starts" not in self.memo:
            self.memo["starts"] = [0, *(found.end() for found in _LINE_END.finditer(self.text))]
        found: list[int] = self.memo["starts"]
        return found

    def documents_at(self, at: int) -> bool:
        """Return whether a place lies in documentation within the code."""
        if "documents" not in self.memo:
            self.memo["documents"] = documentation(self.text, self.language)
        return any(start <= at < end for start, end in self.memo["documents"])


@dataclass(frozen=True, slots=True)
class Options:
    """What a scan heeds: rules that are switched off, and whether comments may accept findings."""

    disabled: frozenset[str] = frozenset()
    heed_comments: bool = True


DEFAULT = Options()


def scan_text(path: str, text: str, options: Options = DEFAULT, *, name: str = "") -> Scan:
    """Scan a whole text; `name` (default: the path) decides the language and whether it counts as a test or example."""
    text = _unified(text)
    known = name or path
    source = Source(path, text, language_of(known, text), is_exempt(known))
    found, notes = _scan(source, options)
    return Scan(tuple(_fingerprinted(found)), tuple(notes), (), 1, len(text))


def scan_diff(text: str, options: Options = DEFAULT) -> Scan:
    """Scan what a diff adds."""
    from agent_plugins.scanning.diffs import added

    notes: list[str] = []
    missed: list[str] = []
    found: list[Finding] = []
    paths = set()
    for piece in added(text, notes, missed):
        paths.add(piece.path)
        path, code = piece.path, piece.text
        source = Source(path, code, language_of(path, code), is_exempt(path), piece.whole, piece.lines, piece.added)
        some, said = _scan(source, options)
        found += some
        notes += said
    return Scan(tuple(_fingerprinted(found)), tuple(notes), tuple(missed), len(paths), len(text))


def joined(scans: Iterable[Scan]) -> Scan:
    """Return several scans as one, ordered by path and line, each finding with an id (F1, F2 …)."""
    given = list(scans)
    found = sorted(
        (finding for scan in given for finding in scan.findings), key=lambda one: (one.path, one.line, one.column, one.rule)
    )
    numbered = tuple(replace(finding, id=f"F{number}") for number, finding in enumerate(found, 1))
    notes = tuple(dict.fromkeys(note for scan in given for note in scan.notes))
    missed = tuple(dict.fromkeys(text for scan in given for text in scan.missed))
    return Scan(numbered, notes, missed, sum(scan.files for scan in given), sum(scan.characters for scan in given))


def _unified(text: str) -> str:
    text = text.removeprefix("\ufeff")
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def _scan(source: Source, options: Options) -> tuple[list[Finding], list[str]]:
    raw = [match for match in (*_secrets(source), *_code(source)) if match.rule.id not in options.disabled]
    raw = _without_overlaps(raw)
    hidden = [match.secret for match in raw if match.secret[1] > match.secret[0]]
    made = [(match, finding) for match in raw if (finding := _finding(source, match, hidden)) is not None]
    notes: list[str] = []
    if not options.heed_comments or "security:" not in source.text:
        return [finding for _, finding in made], notes
    comments = _comments(source, notes)
    return [_judged(source, match, finding, comments) for match, finding in made], notes


# -- matching ----------------------------------------------------------------------------------------------------------


def _applies(rule: Rule, text: str, lowered: str) -> bool:
    within = lowered if rule.ignore_case else text
    for hint in rule.hints:
        if hint in within:
            return not rule.also or any(each in within for each in rule.also)
    return False


def _secrets(source: Source) -> Iterator[Raw]:
    text, lowered = source.text, _lowered(source.text)
    ascii_only = text.isascii()
    for rule in secret_rules():
        if (ascii_only and rule.kind == "text") or (source.language == "lock" and rule.id != "private-key"):
            continue
        within = lowered if rule.ignore_case else text
        count = 0
        for match in _matches(rule, text, within):
            raw = _judged_match(source, rule, match)
            if raw is not None:
                yield raw
                count += 1
            if count >= MOST:
                break


def _lowered(text: str) -> str:
    """Return the text in lower case with every character at its place (a few non-ASCII letters become two)."""
    lowered = text.lower()
    return lowered if len(lowered) == len(text) else text.translate(_LOWER)


def _matches(rule: Rule, text: str, within: str) -> Iterator[re.Match[str]]:
    """Yield the matches of a rule: looked for only where one of its hints is, which is many times as fast as searching."""
    if rule.also and not any(each in within for each in rule.also):
        return
    pattern = None
    for hint in rule.hints:
        at = within.find(hint)
        if at < 0:
            continue
        pattern = pattern or compiled(rule.pattern, re.IGNORECASE if rule.ignore_case else 0)
        if rule.within:
            yield from pattern.finditer(text)
            return
        while at >= 0:
            match = pattern.match(text, at)
            if match is not None:
                yield match
            at = within.find(hint, at + 1)


def _judged_match(source: Source, rule: Rule, match: re.Match[str]) -> Raw | None:
    """Return what a match of a secret's shape comes to; None when it is no secret."""
    if rule.kind != "secret":
        return None if source.language == "prose" or source.exempt else Raw(rule, *match.span(), (0, 0), rule.severity, "")
    exempt = source.exempt or (source.language == "python" and source.documents_at(match.start()))
    place = secret_checks.Place(source.language, exempt, source.text[max(0, match.start() - 80) : match.start()])
    doubt = secret_checks.judge(rule.check, match, place)
    if doubt == secret_checks.DROP:
        return None
    start, end = secret_checks.secret_of(match)
    lowered = 2 if doubt == secret_checks.EXEMPT else 1 if doubt else 0
    severity = SEVERITIES[max(0, SEVERITIES.index(rule.severity) - lowered)]
    span = (start, end) if rule.id != "private-key" else match.span()
    return Raw(rule, *span, (start, end), severity, doubt)


def _code(source: Source) -> Iterator[Raw]:
    if source.language == "python":
        yield from _python(source)
    if source.language in {"", "python", "prose", "lock", "json"} or is_minified(source.text, source.path):
        return
    views: dict[tuple[str, bool], str] = {}
    lowered = ""
    for language, text, offset in _parts(source):
        for rule in _code_rules(language):
            if rule.ignore_case and not lowered:
                lowered = text.lower()
            if _applies(rule, text, lowered):
                key = (language, rule.strings)
                if key not in views or offset:
                    views[key] = code_view(text, source.language, strings=rule.strings)
                yield from _code_matches(source, rule, views[key], offset)


def _parts(source: Source) -> Iterator[tuple[str, str, int]]:
    """Yield (language, text, where it begins) of what is in a file: workflow files hold scripts."""
    yield source.language, source.text, 0
    if source.language == "yaml" and ("runs-on" in source.text or ".github/" in source.path or "using:" in source.text):
        yield "workflow-file", source.text, 0
        from agent_plugins.scanning.workflows import scripts

        for start, end in scripts(source.text):
            yield "workflow", source.text[start:end], start


def _code_rules(language: str) -> Iterator[Rule]:
    from agent_plugins.scanning.code_rules import CODE

    return (rule for rule in CODE if language in rule.languages)


def _code_matches(source: Source, rule: Rule, view: str, offset: int) -> Iterator[Raw]:
    flags = re.MULTILINE | (re.IGNORECASE if rule.ignore_case else 0)
    count = 0
    for match in compiled(rule.pattern, flags).finditer(view):
        start, end = match.start() + offset, match.end() + offset
        if rule.on_line and not _line_satisfies(source, rule, start):
            continue
        severity = _tempered(source, rule.severity)
        if severity:
            yield Raw(rule, start, end, (0, 0), severity, "")
            count += 1
        if count >= MOST:
            return


def _line_satisfies(source: Source, rule: Rule, start: int) -> bool:
    first = source.starts[bisect_right(source.starts, start) - 1]
    end = source.text.find("\n", start)
    line = source.text[first : end if end >= 0 else len(source.text)][:2000]
    return compiled(rule.on_line).search(line) is not None


def _tempered(source: Source, severity: str) -> str:
    """Return how bad a dangerous call is here: in tests and examples the worst are reported as low, the rest is not ("")."""
    return severity if not source.exempt else "low" if severity == "high" else ""


def _python(source: Source) -> Iterator[Raw]:
    from agent_plugins.scanning.code_rules import PYTHON

    # In tests and examples only what may be high is reported, see `_tempered`.
    candidates = [rule for rule in PYTHON if rule.severity == "high" or not source.exempt]
    wanted = {rule.id for rule in candidates if _applies(rule, source.text, "") and compiled(rule.pattern).search(source.text)}
    if not wanted:
        return
    from agent_plugins.scanning.python_calls import dangerous

    for hit in dangerous(source.text, wanted, whole=source.whole):
        rule = find_rule(hit.rule)
        start, end = _offset(source, hit.line, hit.column), _offset(source, hit.end_line, hit.end_column)
        severity = _tempered(source, hit.severity or rule.severity)
        if severity:
            yield Raw(rule, start, end, (0, 0), severity, hit.note)


def _offset(source: Source, line: int, column: int) -> int:
    """Return the place in the text of a line (from 1) and a column in UTF-8 bytes (from 0)."""
    if not 0 < line <= len(source.starts):
        return len(source.text)
    start = source.starts[line - 1]
    if source.text.isascii():
        return start + column
    end = source.text.find("\n", start)
    data = source.text[start : end if end >= 0 else len(source.text)].encode("utf-8", "surrogateescape")
    return start + len(data[:column].decode("utf-8", "surrogateescape"))


def _without_overlaps(raw: Sequence[Raw]) -> list[Raw]:
    """Leave out a weaker secret rule's match over the same characters (a GitHub token is also a generic one), and doubles."""
    kept: list[Raw] = []
    taken: list[tuple[int, int]] = []
    for match in raw:
        start, end = match.secret
        if end > start and any(start < other and begin < end for begin, other in taken[-200:]):
            continue
        if end > start:
            taken.append((start, end))
        elif any(match.rule is each.rule and match.start == each.start for each in kept[-50:]):
            continue
        kept.append(match)
    return kept


# -- findings ----------------------------------------------------------------------------------------------------------


def _finding(source: Source, match: Raw, hidden: Sequence[tuple[int, int]]) -> Finding | None:
    """Return the finding of a match, None when it lies on lines that do not count."""
    row, column = _place(source, match.start)
    end_row, end_column = _place(source, max(match.end - 1, match.start))
    rows = range(row, end_row + 1)
    if source.added is not None:
        counting = [each for each in rows if each <= len(source.lines) and source.lines[each - 1] in source.added]
        if not counting:
            return None
        row, column = (row, column) if counting[0] == row else (counting[0], 1)
    line = source.lines[row - 1] if source.lines else row
    end_line = source.lines[min(end_row, len(source.lines)) - 1] if source.lines else end_row
    return Finding(
        match.rule.id, match.severity, source.path, line, column, max(line, end_line), end_column + 1, _message(source, match),
        _excerpt(source, row, hidden), _hashed_secret(source, match),
    )  # fmt: skip


def _place(source: Source, at: int) -> tuple[int, int]:
    row = bisect_right(source.starts, at)
    return row, at - source.starts[row - 1] + 1


def _message(source: Source, match: Raw) -> str:
    start, end = match.secret
    shown = f": {masked(source.text[start:end], match.rule.shown)}" if end > start and match.rule.id != "private-key" else ""
    return f"{match.rule.message}{shown}{f'; {match.note}' if match.note else ''}"


def masked(secret: str, shown: int) -> str:
    """Return a secret as it may be printed: its first characters (at most a quarter) and its length."""
    head = secret[: min(shown, len(secret) // 4)]
    return f"{head}… ({len(secret)} characters)"


def _excerpt(source: Source, row: int, hidden: Sequence[tuple[int, int]]) -> str:
    """Return the line without its secrets and its control characters, at most EXCERPT characters."""
    start = source.starts[row - 1]
    end = source.starts[row] - 1 if row < len(source.starts) else len(source.text)
    end = min(end, start + 4000)
    out, at = [], start
    for first, last in sorted(hidden):
        if last <= start or first >= end:
            continue
        out += [source.text[at : max(first, at)], "[secret]"]
        at = max(at, last)
    text = " ".join("".join([*out, source.text[at:end]]).split())
    from agent_core import redact, terminal

    return terminal.clean(redact.redact(text), keep_newlines=False)[:EXCERPT]


def _hashed_secret(source: Source, match: Raw) -> str:
    """Return twelve bits of a hash of the secret: enough to notice another one, too few to guess a weak one by."""
    start, end = match.secret
    return hashlib.blake2b(source.text[start:end].encode("utf-8", "surrogatepass")).hexdigest()[:3] if end > start else ""


def _fingerprinted(found: Iterable[Finding]) -> Iterator[Finding]:
    """Give each finding its fingerprint: rule, path, masked line, some bits of the secret, and its number among equals."""
    seen: dict[str, int] = {}
    for finding in found:
        base = f"{finding.rule}\0{finding.path}\0{finding.excerpt}\0{finding.fingerprint}"
        number = seen[base] = seen.get(base, 0) + 1
        digest = hashlib.blake2b(f"{base}\0{number}".encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
        yield replace(finding, fingerprint=digest)


# -- comments that accept ----------------------------------------------------------------------------------------------


def _comments(source: Source, notes: list[str]) -> dict[int, dict[str, str]]:
    """Return row -> {rule: reason} of the comments that accept findings; what is wrong with one is noted."""
    found: dict[int, dict[str, str]] = {}
    for match in _IGNORE.finditer(source.text):
        row, column = _place(source, match.start())
        reason = match[2].removesuffix("*/").removesuffix("-->").strip()
        line = source.lines[row - 1] if source.lines and row <= len(source.lines) else row
        where = f"{source.path}:{line}"
        rules = [each.strip() for each in match[1].split(",") if each.strip()]
        unknown = [each for each in rules if not is_rule(each)]
        if unknown:
            notes.append(f"{where}: no rule {unknown[0]} to ignore")
        if not _REASON.search(reason):
            notes.append(f"{where}: an ignore comment without a reason does not count")
            continue
        alone = source.text[source.starts[row - 1] : source.starts[row - 1] + column - 1].strip() == ""
        for target in (row, row + 1) if alone else (row,):
            found.setdefault(target, {}).update(dict.fromkeys(rules, reason[:200]))
    return found


def _judged(source: Source, match: Raw, finding: Finding, comments: dict[int, dict[str, str]]) -> Finding:
    first, _ = _place(source, match.start)
    last, _ = _place(source, max(match.end - 1, match.start))
    for row in {first, last}:
        reason = comments.get(row, {}).get(finding.rule)
        if reason:
            return replace(finding, accepted=_flat(reason), by="comment")
    return finding


def _flat(text: str) -> str:
    from agent_core import redact, terminal

    return terminal.clean(redact.redact(" ".join(text.split())), keep_newlines=False)


def worst(findings: Collection[Finding]) -> str:
    """Return the highest severity of the findings that count, "" when there is none."""
    levels = [SEVERITIES.index(finding.severity) for finding in findings if not finding.accepted]
    return SEVERITIES[max(levels)] if levels else ""
