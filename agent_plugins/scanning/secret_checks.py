"""secret_checks - whether something shaped like a secret is one.

    judge("github", match, place)      "" it is; DROP it is not; any other text: why it may not be (the finding is lowered a level)

Three kinds of evidence: what the vendor builds in (checksums, fixed alphabets, decodable headers), what placeholders look like
(words such as "example", repeated or counting characters, `${VAR}`), and how much information the characters carry (Shannon's
entropy in bits per character; a random token of 20 or more letters and digits has more than 3.3).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

DROP = "-"
MADE_UP = "it looks made up"
EXEMPT = "it belongs to a test or an example"
_SEQUENCES = "0123456789012345678901234567890 abcdefghijklmnopqrstuvwxyz zyxwvutsrqponmlkjihgfedcba 987654321098765432109876543210"
_RUN = 8
_WORDS = re.compile(
    r"example|placeholder|change_?-?me|redacted|dummy|your_|your-|yourtoken|yourkey|insert|replace_?-?me|xxxxx|sample|fixme|todo_|"
    r"not_?-?a_?-?real|not_?-?real|_here\b|-here\b|foobar|notasecret|fake|mock|\.\.\.|\*\*\*|___|<[a-z]|\$\{|\{\{|%\(|#\{|lorem|ipsum",
    re.IGNORECASE,
)
_REPEAT = re.compile(r"(.)\1{5}")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
_HEX = re.compile(r"[0-9a-fA-F]+")
_DIGEST = re.compile(
    r"(?:sha(?:1|224|256|384|512)|md5|blake2[bs]?)[-:=_]|\$(?:2[aby]|5|6|1|argon2\w*|pbkdf2\S*|scrypt|y)\$|pbkdf2_|scrypt:|argon2",
    re.IGNORECASE,
)
_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


class Place(NamedTuple):
    """Where a match stands: the file's language, whether it is a test or example, and what is before the match."""

    language: str
    exempt: bool
    before: str


def judge(name: str, match: re.Match[str], place: Place) -> str:
    """Return "" for a secret, DROP for none, else why it is doubtful."""
    return _CHECKS[name](match, place) if name else ""


def secret_of(match: re.Match[str]) -> tuple[int, int]:
    """Return where the secret lies: the group `secret`, or `bare`, or the whole match."""
    for group in ("secret", "bare"):
        if group in match.re.groupindex and match.start(group) >= 0:
            return match.span(group)
    return match.span()


def _text(match: re.Match[str]) -> str:
    start, end = secret_of(match)
    return match.string[start:end]


def entropy(text: str) -> float:
    """Return Shannon's entropy of the characters, in bits per character."""
    if not text:
        return 0.0
    return -sum(count / len(text) * math.log2(count / len(text)) for count in Counter(text).values())


def placeholder(text: str) -> bool:
    """Return whether a text says or shows that it stands for something else."""
    return bool(_WORDS.search(text) or _REPEAT.search(text)) or len(set(text)) < min(6, len(text))


def counting(text: str) -> bool:
    """Return whether a text holds eight characters in the order of the alphabet or of the digits, up or down."""
    lowered = text.lower()
    return any(lowered[at : at + _RUN] in _SEQUENCES for at in range(len(lowered) - _RUN + 1))


def _token(match: re.Match[str], _place: Place) -> str:
    text = _text(match)
    if placeholder(text):
        return DROP
    tail = text[4:]
    if len(tail) >= 16 and entropy(tail) < 2.5:
        return DROP
    return MADE_UP if counting(text) else ""


def _mixed(match: re.Match[str], place: Place) -> str:
    """Judge a token whose first characters prove little: it must hold digits, small and capital letters."""
    text = _text(match)
    mixed = any(c.isdigit() for c in text) and any(c.islower() for c in text) and any(c.isupper() for c in text)
    return _token(match, place) if mixed and entropy(text) > 3.5 else DROP


def _aws_id(match: re.Match[str], place: Place) -> str:
    """Key ids are Base32: 0, 1, 8 and 9 do not occur."""
    return _token(match, place) or ("AWS issues no such id" if set("0189") & set(_text(match)[4:]) else "")


def _github(match: re.Match[str], place: Place) -> str:
    """The last six characters are the CRC-32 of those after the prefix, in Base62 (GitHub's and npm's documented format)."""
    import zlib

    found = _token(match, place)
    body = _text(match).partition("_")[2]
    value, digits = zlib.crc32(body[:-6].encode()), ""
    while value:
        value, rest = divmod(value, 62)
        digits = _BASE62[rest] + digits
    return found or ("" if digits.rjust(6, "0") == body[-6:] else "its checksum does not fit, so it is made up or damaged")


def _private_key(match: re.Match[str], place: Place) -> str:
    body = re.sub(r"\\[nrt]|[^A-Za-z0-9+/=]", "", _text(match))
    if len(body) < 64 or placeholder(body[:40]) or entropy(body) < 4:
        return DROP
    return EXEMPT if place.exempt else ""


def _json_of(part: str) -> dict[str, object] | None:
    import base64
    import json

    try:
        value = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


_SAMPLE_KEYS = (b"secret", b"your-256-bit-secret", b"a-string-secret-at-least-256-bits-long", b"key", b"password", b"test")


def _signed_by_a_sample(text: str) -> bool:
    """Return whether a token is signed (HS256) with a key that documentation uses."""
    import base64
    import hmac

    signed, _, signature = text.rpartition(".")
    marks = {base64.urlsafe_b64encode(hmac.digest(key, signed.encode(), "sha256")).rstrip(b"=").decode() for key in _SAMPLE_KEYS}
    return signature in marks


def _jwt(match: re.Match[str], place: Place) -> str:
    header, payload, signature = _text(match).split(".", 2)
    head, claims = _json_of(header), _json_of(payload)
    if head is None or claims is None or "alg" not in head or placeholder(signature):
        return DROP
    if claims.get("name") == "John Doe" or claims.get("sub") in {"1234567890", "user", "test"} or _signed_by_a_sample(_text(match)):
        return DROP
    return EXEMPT if place.exempt or place.language == "prose" else ""


_SCHEMES = frozenset({
    "postgres", "postgresql", "mysql", "mariadb", "mongodb", "mongodb+srv", "redis", "rediss", "amqp", "amqps",
    "mssql", "sqlserver", "oracle", "cockroachdb", "clickhouse", "cassandra", "couchdb", "neo4j", "bolt", "kafka",
    "nats", "mqtt", "mqtts", "ldap", "ldaps", "smtp", "smtps", "imap", "imaps", "ftp", "ftps", "sftp", "ssh", "http",
    "https", "ws", "wss", "git", "influxdb", "elasticsearch", "snowflake", "jdbc",
})  # fmt: skip
_WEAK = frozenset({
    "password", "passwd", "pass", "pwd", "secret", "postgres", "root", "admin", "guest", "user", "username", "test",
    "mysql", "mongo", "redis", "rabbitmq", "example", "token", "changeme", "password123", "pass123", "123456",
    "12345", "1234", "hunter2", "foo", "bar", "baz", "abc", "abc123", "pw", "p", "mypassword", "mypass", "dbpass",
    "db_password", "dbpassword", "api_key", "apikey", "access_token", "credentials", "key", "qwerty", "letmein", "sa",
    "none", "null", "true", "false", "port", "psw", "p4ss",
})  # fmt: skip
_SCHEME_BEFORE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,30}$")
_RESERVED = re.compile(
    r"(?:[\w-]{1,60}\.){0,5}(?:example|test|invalid)(?:\.(?:com|org|net|edu))?(?:$|[^\w.])"
    r"|(?:[\w-]{1,60}\.){0,5}(?:domain|foo|bar|site|your[\w-]{0,30}|my[\w-]{0,30})\.(?:com|org|net|tld)",
    re.IGNORECASE,
)
_LOCAL = re.compile(
    r"(?:localhost|127\.|0\.0\.0\.0|\[?::1|host\b|hostname|server\b|db\b|database|postgres|mysql|mongo|redis|rabbitmq|proxy\b|"
    r"(?:[\w-]{1,60}\.){0,5}(?:local|localhost|localdomain)(?:$|[^\w.])|10\.|192\.168\.)",
    re.IGNORECASE,
)


def _url_password(match: re.Match[str], place: Place) -> str:
    scheme = (_SCHEME_BEFORE.search(place.before) or [""])[0].lower()
    if scheme not in _SCHEMES and scheme.partition("+")[0] not in _SCHEMES:
        return DROP
    from urllib.parse import unquote

    secret, user, host = unquote(match["secret"]), match["user"], match["host"]
    if (
        _is_variable(secret)
        or _is_variable(user)
        or _is_variable(host)
        or not re.search(r"[A-Za-z0-9]", host)
        or _RESERVED.match(host)
    ):
        return DROP
    if secret.lower() in _WEAK or secret.lower() == user.lower() or placeholder(secret) or len(secret) < 6 or counting(secret):
        return DROP
    if place.exempt or _words_only(secret) or place.language == "prose":
        return DROP
    return f"the host is {_brief(host)}" if _LOCAL.match(host) else ""


def _brief(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text[:40])


def _basic_auth(match: re.Match[str], place: Place) -> str:
    import base64

    text = _text(match)
    try:
        user, colon, password = base64.b64decode(text, validate=True).decode("utf-8").partition(":")
    except ValueError:
        return DROP
    if not colon or not user.isprintable() or not password.isprintable() or place.exempt or place.language == "prose":
        return DROP
    return DROP if password.lower() in _WEAK or password == user or len(password) < 6 or placeholder(password) else ""


# -- values that only their name makes secrets ------------------------------------------------------------------------------------

_VARIABLE = re.compile(
    r"[$%]\{?[A-Za-z_(]|\{[^}]{0,80}\}|<[^>]{0,80}>|\{\{|\[\[|@[A-Za-z_]|\$\(|&[a-z]|process\.env|os\.environ|getenv|%[sdr]\b|#\{"
)
_CODE = re.compile(r"[A-Za-z_][\w-]*+(?:\.|::|->|\[|\()[\w\[\]()\"'., :>-]*+")
_NAME_BEFORE = re.compile(r"[A-Za-z0-9_.-]{0,60}$")
_KEYS = re.compile(
    r"(?:api|secret|access|auth|private|encryption|signing|master|license|storage|account|service)[_-]?key$", re.IGNORECASE
)
_INNOCENT_NAME = re.compile(
    r"(?:public|foreign|primary|sort|partition|cache|row|col(?:umn)?|index|csrf|xsrf|next_?page|page|continuation|pagination|sync|dict|"
    r"config|setting|option|env|header|cookie|field|storage|session_?storage|local_?storage|hot|short_?cut|lookup|map|json|yaml|form|i18n|"
    r"translation|label|message|error|bad|no|invalid|missing|wrong|confirm|forgot|reset|show|hide|toggle|has|is|use|need|require[sd]?|"
    r"start|end|begin|stop|eos|bos|pad|unk|mask|sep|cls|special|image|audio|tool|think|next|prev|current|last|first|separator|delimiter|"
    r"comment|keyword|operator|string|lexer|parser|punctuation|test|example|dummy|fake|mock|sample|ssh_?public|ed25519_?public|hash(?:ed)?|"
    r"encrypted|masked|obfuscated|redacted|old|new|sha\d*)[_.-]?$",
    re.IGNORECASE,
)
_BARE = frozenset({"dotenv", "properties", "yaml", "ini", "dockerfile", "shell", "toml", "hcl"})
_STRONG = re.compile(r"[A-Za-z0-9+/=_.~!@#$%^&*?|-]+")


def _is_variable(text: str) -> bool:
    return bool(_VARIABLE.search(text))


def _words_only(text: str) -> bool:
    """Return whether a text is words: no digit beyond a short number at the end of one, as identifiers and phrases are."""
    parts = [part for part in re.split(r"[^A-Za-z0-9]+", text) if part]
    pieces = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", text)
    if text.isalnum() and len(pieces) > 1 and sum(map(len, pieces)) >= max(len(text) - 2, 3.5 * len(pieces)):
        return True  # V1SecretVolumeSource
    return all(
        re.fullmatch(r"(?:[A-Z]?[a-z]+|[A-Z]+|[a-zA-Z][a-z]*[A-Z][a-z]+(?:[A-Z][a-z]+)*)\d{0,2}|\d{1,4}|v\d+", part)
        for part in parts
    )


def _generic(match: re.Match[str], place: Place) -> str:
    bare = match["bare"] is not None
    value = match["bare"] if bare else match["secret"]
    if place.exempt or place.language == "prose" or (bare and not _bare_counts(match, place)):
        return DROP
    if not bare and match["op"].strip() == "" and place.language not in _BARE:
        return DROP  # `token "…"` assigns nothing in most languages
    name = (_NAME_BEFORE.search(place.before) or [""])[0] + match[0][: match.start("close") - match.start()]
    if name.lower().endswith("key") and not _KEYS.search(name):
        return DROP
    return DROP if _innocent(name) or _no_value(value) else _strength(name.lower(), value)


def _bare_counts(match: re.Match[str], place: Place) -> bool:
    """Return whether a value without quotes is text in this language, not code."""
    return place.language in _BARE and match["op"].strip() in {"=", ":"} and not _CODE.fullmatch(match["bare"])


def _innocent(name: str) -> bool:
    stem = re.sub(
        r"(?:passw(?:or)?d|passwd|passphrase|pwd|secret|token|api_?-?key|(?:secret|access|auth|private|encryption|signing|master)_?-?key"
        r"|client_?-?secret|credentials?)$", "", name, flags=re.IGNORECASE,
    )  # fmt: skip
    return bool(stem and _INNOCENT_NAME.search(stem))


def _no_value(value: str) -> bool:
    """Return whether a value is something else than a secret: a variable, a placeholder, an address, a path, a digest, words."""
    return (
        _is_variable(value)
        or placeholder(value)
        or not _STRONG.fullmatch(value)
        or value.startswith(
            (
                "http:",
                "https:",
                "/",
                "./",
                "../",
                "~/",
                "arn:",
                "urn:",
                "data:",
                "--",
                "projects/",
                "vault:",
                "ENC[",
                "env:",
                "file:",
            )
        )
        or bool(_UUID.fullmatch(value) or _DIGEST.search(value) or re.fullmatch(r"[\d.,:/-]+", value))
        or _words_only(value)
    )


def _strength(name: str, value: str) -> str:
    """Judge what is left: passwords by their kinds of characters, tokens by length and entropy."""
    letters, digits = any(c.isalpha() for c in value), any(c.isdigit() for c in value)
    if not (letters and digits):
        return DROP
    if re.search(r"passw|pwd|passphrase", name):
        kinds = sum((any(c.islower() for c in value), any(c.isupper() for c in value), any(not c.isalnum() for c in value)))
        if value.lower() in _WEAK or kinds < 1 + (len(value) < 12):
            return DROP
        return MADE_UP if counting(value) or re.search(r"passw|secret", value, re.IGNORECASE) else ""
    if len(value) < 16 or entropy(value) < (2.8 if _HEX.fullmatch(value) else 3.3):
        return DROP
    if _HEX.fullmatch(value) and len(value) < 24:
        return DROP
    return MADE_UP if counting(value) else ""


_CHECKS: dict[str, Callable[[re.Match[str], Place], str]] = {
    "token": _token,
    "mixed": _mixed,
    "aws_id": _aws_id,
    "github": _github,
    "private_key": _private_key,
    "jwt": _jwt,
    "url_password": _url_password,
    "basic_auth": _basic_auth,
    "generic": _generic,
}
