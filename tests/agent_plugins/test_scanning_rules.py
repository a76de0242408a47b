"""The rules over secrets: what each must find, what none may find, and that none can be made slow.

Everything that looks like a secret is put together while the test runs, so that no scanner finds one in this file.
"""

from __future__ import annotations

import base64
import hmac
import json
import random
import re
import string
import time
import zlib

import pytest

from agent_plugins.scanning import rules
from agent_plugins.scanning.engine import scan_text
from agent_plugins.scanning.rules import SEVERITIES, all_rules, find_rule

WORD = string.ascii_letters + string.digits
LOWER = string.ascii_lowercase + string.digits
HEX = "0123456789abcdef"
UPPER = string.ascii_uppercase + string.digits
BASE32 = string.ascii_uppercase + "234567"
URL = WORD + "-_"


def some(count, letters=WORD, seed=7):
    """Return characters without runs that count or repeat, the same in every run; they begin and end with a letter or digit."""
    source = random.Random(f"{seed}{letters}{count}")
    while True:
        made = "".join(source.choice(letters) for _ in range(count))
        if made[:1].isalnum() and made[-1:].isalnum() and not re.search(r"(.)\1\1", made):
            return made


def base62(number):
    digits = string.digits + string.ascii_uppercase + string.ascii_lowercase
    text = ""
    while number:
        number, rest = divmod(number, 62)
        text = digits[rest] + text
    return text.rjust(6, "0")


def checked(prefix):
    """Return a token whose last six characters are the CRC-32 of the rest, as GitHub and npm make them."""
    body = some(30)
    return prefix + "_" + body + base62(zlib.crc32(body.encode()))


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def jwt(claims, key=b"a key that nobody documents anywhere"):
    signed = b64(json.dumps({"alg": "HS256", "typ": "JWT"}).encode()) + "." + b64(json.dumps(claims).encode())
    return signed + "." + b64(hmac.digest(key, signed.encode(), "sha256"))


def pem(kind="RSA "):
    body = "\n".join(some(64, WORD + "+/", seed) for seed in range(12))
    return "-----BEGIN " + kind + "PRIVATE KEY-----\n" + body + "\n-----END " + kind + "PRIVATE KEY-----"


TRUE = {
    "aws-access-key-id": [lambda: "AKIA" + some(16, BASE32), lambda: "ASIA" + some(16, BASE32, 8)],
    "aws-secret-key": [lambda: 'aws_secret_access_key = "' + some(40, WORD + "/+") + '"', lambda: "SecretAccessKey: " + some(40)],
    "google-api-key": [lambda: "AIza" + some(35, URL)],
    "google-oauth-secret": [lambda: "GOCSPX-" + some(28, URL)],
    "google-oauth-token": [lambda: "ya29." + some(80, URL)],
    "github-token": [lambda: checked("ghp"), lambda: checked("gho"), lambda: checked("ghs")],
    "github-pat": [lambda: "github" + "_pat_" + some(22) + "_" + some(59)],
    "gitlab-token": [lambda: "glpat-" + some(20, URL), lambda: "glrt-" + some(27, URL) + ".01." + some(9, LOWER)],
    "slack-token": [lambda: "xoxb-" + some(12, string.digits) + "-" + some(24), lambda: "xoxp-" + some(70, WORD)],
    "slack-app-token": [lambda: "xapp-1-A" + some(10, UPPER) + "-" + some(13, string.digits) + "-" + some(64, HEX)],
    "slack-webhook": [lambda: "https://hooks.slack.com/services/T" + some(8, UPPER) + "/B" + some(9, UPPER) + "/" + some(24)],
    "discord-webhook": [lambda: "https://discord.com/api/webhooks/" + some(18, string.digits) + "/" + some(68, URL)],
    "stripe-key": [lambda: "sk_live_" + some(24), lambda: "rk_live_" + some(99)],
    "stripe-test-key": [lambda: "sk_test_" + some(24)],
    "stripe-webhook-secret": [lambda: "whsec_" + some(32)],
    "openai-key": [
        lambda: "sk-" + some(48),
        lambda: "sk-proj-" + some(120, URL),
        lambda: "sk-" + some(20) + "T3Blbk" + "FJ" + some(20, WORD, 3),
    ],
    "anthropic-key": [lambda: "sk-ant-" + "api03-" + some(93, URL) + "AA"],
    "openrouter-key": [lambda: "sk-or-v1-" + some(64, HEX)],
    "huggingface-token": [lambda: "hf_" + some(34, string.ascii_letters)],
    "groq-key": [lambda: "gsk_" + some(52)],
    "xai-key": [lambda: "xai-" + some(80)],
    "replicate-token": [lambda: "r8_" + some(37)],
    "perplexity-key": [lambda: "pplx-" + some(48)],
    "npm-token": [lambda: "//registry/:_authToken=" + checked("npm")],
    "pypi-token": [lambda: "pypi-" + "AgEIcHlwaS5vcmc" + some(140, URL)],
    "rubygems-key": [lambda: "rubygems_" + some(48, HEX)],
    "crates-io-token": [lambda: "cio" + some(32)],
    "docker-hub-token": [lambda: "dckr_pat_" + some(27, URL)],
    "sendgrid-key": [lambda: "SG." + some(22, URL) + "." + some(43, URL)],
    "mailgun-key": [lambda: "key-" + some(32, HEX)],
    "mailchimp-key": [lambda: some(32, HEX) + "-us12"],
    "twilio-token": [lambda: 'TWILIO_AUTH_TOKEN="' + some(32, HEX) + '"'],
    "telegram-token": [lambda: some(10, "123456789") + ":AA" + some(33, URL)],
    "shopify-token": [lambda: "shpat_" + some(32, HEX)],
    "square-token": [lambda: "sq0atp-" + some(22, URL), lambda: "EAAAl" + some(59, URL)],
    "digitalocean-token": [lambda: "dop_v1_" + some(64, HEX)],
    "databricks-token": [lambda: "dapi" + some(32, HEX)],
    "doppler-token": [lambda: "dp.pt." + some(43)],
    "grafana-token": [lambda: "glsa_" + some(32) + "_" + some(8, HEX)],
    "hashicorp-vault-token": [lambda: "hvs." + some(90, URL)],
    "terraform-cloud-token": [lambda: some(14) + ".atlasv1." + some(67, URL)],
    "linear-key": [lambda: "lin_api_" + some(40)],
    "notion-token": [lambda: "ntn_" + some(11, string.digits) + some(35)],
    "postman-key": [lambda: "PMAK-" + some(24, HEX) + "-" + some(34, HEX)],
    "pulumi-token": [lambda: "pul-" + some(40, HEX)],
    "newrelic-key": [lambda: "NRAK-" + some(27, UPPER)],
    "sentry-token": [lambda: "sntryu_" + some(64, HEX), lambda: "sntrys_" + some(120)],
    "atlassian-token": [lambda: "ATATT3" + some(180, URL)],
    "planetscale-token": [lambda: "pscale_tkn_" + some(43, URL)],
    "supabase-token": [lambda: "sbp_" + some(40, HEX)],
    "tailscale-key": [lambda: "tskey-auth-" + some(16) + "-" + some(32)],
    "fly-token": [lambda: "fo1_" + some(43, URL)],
    "age-secret-key": [lambda: "AGE-SECRET-KEY-1" + some(58, "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L")],
    "azure-storage-key": [lambda: "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=" + some(86, WORD + "+/") + "=="],
    "private-key": [
        pem,
        lambda: pem().replace("KEY-----\n", "KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,0A1B2C\n\n", 1),
        lambda: pem("OPENSSH "), lambda: json.dumps({"type": "service_account", "private_key": pem("")}),
    ],
    "jwt": [lambda: jwt({"sub": "u-81723", "scope": "admin"})],
    "url-password": [
        lambda: "postgresql://app:" + some(16) + "@pg-1.prod.acme.io:5432/app",
        lambda: "mongodb+srv://svc:" + some(16) + "@cluster0.k2x.mongodb.net/",
        lambda: "https://deploy:" + some(20) + "@git.acme.io/app.git",
    ],
    "basic-auth-header": [lambda: "Authorization: Basic " + base64.b64encode(("svc:" + some(14)).encode()).decode()],
    "generic-secret": [
        lambda: 'password = "' + some(6) + '#a1Z9"',
        lambda: "DB_PASSWORD = '" + some(14) + "'",
        lambda: 'api_key: str = "' + some(32) + '"',
        lambda: '"clientSecret": "' + some(40) + '",',
        lambda: 'os.environ["SECRET_KEY"] = "' + some(50, WORD + "-_+") + '"',
        lambda: "const authToken = `" + some(32) + "`",
        lambda: "'access_key' => '" + some(24) + "',",
        lambda: 'encryptionKey := "' + some(32, HEX) + '"',
    ],
    "bidirectional-text": [lambda: 'access = "user' + chr(0x202E) + ' # admin"'],
}  # fmt: skip
SECRETS = [rule.id for rule in rules.secret_rules()]
CASES = [(rule, number) for rule, made in TRUE.items() for number in range(len(made))]


def found(text, path="app.py"):
    return [(finding.rule, finding.severity) for finding in scan_text(path, text).findings]


def test_every_rule_over_secrets_has_an_example():
    assert sorted(TRUE) == sorted(SECRETS)


@pytest.mark.parametrize(("rule", "number"), CASES, ids=[f"{rule}-{number}" for rule, number in CASES])
def test_a_secret_is_found_once_with_its_rule_and_not_printed_whole(rule, number):
    text = TRUE[rule][number]()
    scan = scan_text("app.py", f"first = 1\nvalue = 0; {text}\n")

    assert [(each.rule, each.severity, each.line) for each in scan.findings] == [(rule, find_rule(rule).severity, 2)]
    for random_part in re.findall(r"[A-Za-z0-9+/]{12,}", text):
        if find_rule(rule).kind == "secret" and any(letter.isdigit() for letter in random_part):
            assert random_part[-10:] not in repr(scan)


def test_rules_are_complete_and_their_names_are_unique():
    ids = [rule.id for rule in all_rules()]

    assert len(set(ids)) == len(ids)
    for rule in all_rules():
        assert rule.severity in SEVERITIES
        assert rule.message
        assert rule.why.endswith(".")
        assert rule.fix.endswith(".")
        assert rule.hints
        assert rule.cwe
        re.compile(rule.pattern)
        re.compile(rule.on_line)


@pytest.mark.parametrize(
    "text",
    [
        "AKIA" + "IOSFODNN7" + "EXAMPLE",
        'aws_secret_access_key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCY' + 'EXAMPLEKEY"',
        "ghp_" + "x" * 36,
        "sk-" + "0" * 48,
        "sk_live_" + "your_secret_key_goes_in_here",
        "xoxb-" + "your-token-goes-here-not-real",
        "postgres://user:password@localhost/db",
        "postgres://postgres:postgres@db:5432/app",
        "mysql://${DB_USER}:${DB_PASSWORD}@db.acme.io/app",
        "redis://:{{ password }}@cache.acme.io",
        "amqp://guest:guest@rabbit.acme.io",
        "https://user:s3cr3tP4ss@example.com/x",
        "http://[::1]:8080/a@b",
        'password = "changeme123"',
        'password = "${DB_PASSWORD}"',
        'password = os.environ["DB_PASSWORD1"]',
        'password: "{{ vault.password1 }}"',
        'password = "<your-password-1>"',
        'password = "correct horse battery staple 1"',
        'password_field = "user_password_2"',
        'token = "https://auth.acme.io/oauth2/token1"',
        'token_url = "abcDEF0123456789abcDEF01"',
        'api_key = "' + "a" * 32 + '"',
        'secret_name = "prod/db/password-v2x8"',
        'public_key = "' + some(44) + '"',
        'next_page_token = "' + some(24) + '"',
        'csrf_token = "' + some(32) + '"',
        'password_hash = "$2b$12$' + some(53) + '"',
        'secret = "sha256:' + some(64, HEX) + '"',
        'client_secret = "3f2504e0-4f89-11d3-9a0c-0305e82c3301"',
        "commit 9fceb02d0ae598e95dc970b74767f19372d61af8",
        '"integrity": "sha512-' + some(86) + '=="',
        '"resolved": "https://registry.acme.io/a/-/a-1.0.0.tgz#' + some(40, HEX) + '"',
        "token: V1ServiceAccountTokenProjection",
        'secret: "V1SecretVolumeSource"',
        "-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----",
        "-----BEGIN PUBLIC KEY-----\n" + some(64) + "\n-----END PUBLIC KEY-----",
        jwt({"sub": "1234567890", "name": "John Doe"}),
        jwt({"scope": "read"}, b"your-256-bit-secret"),
        "Authorization: Basic " + base64.b64encode(b"user:password").decode(),
        "Authorization: Basic ${CREDENTIALS}",
        'key = "' + some(32) + '"',
        'cache_key = "' + some(32) + '"',
    ],
    ids=lambda text: re.sub(r"\W+", "-", text)[:40],
)
def test_placeholders_variables_digests_and_names_are_no_secrets(text):
    for path in ("app.py", "config.js", "deploy.yml", ".env"):
        assert found(text + "\n", path) == []


def test_a_token_that_fails_its_own_checksum_is_found_one_level_lower():
    token = checked("ghp")
    other = token[:-1] + ("a" if token[-1] != "a" else "b")
    scan = scan_text("app.py", f"t = '{other}'\n")

    assert [(each.rule, each.severity) for each in scan.findings] == [("github-token", "medium")]
    assert "checksum" in scan.findings[0].message


def test_a_token_that_counts_is_found_one_level_lower():
    assert found("sk_live_" + "1234567890abcdefghijklmn" + "\n") == [("stripe-key", "medium")]


def test_guesses_by_name_are_left_out_of_tests_docs_and_documentation_strings():
    text = 'password = "' + some(10) + '#1"\n'

    assert found(text) == [("generic-secret", "medium")]
    for path in ("tests/test_app.py", "docs/a.py", "README.md", "spec/fixtures/a.rb", "settings.example.py", "app.test.ts"):
        assert found(text, path) == []
    assert found(f'"""Do this:\n\n    {text}\n"""\n') == []


def test_a_vendors_token_is_found_in_tests_and_documentation_as_well():
    for path in ("tests/test_app.py", "docs/a.md", "README.md"):
        assert found(checked("ghp") + "\n", path) == [("github-token", "high")]


def test_private_keys_in_tests_are_low():
    assert found(pem(), "tests/data/server.key") == [("private-key", "low")]
    assert found(pem(), "deploy/server.key") == [("private-key", "high")]


def test_values_without_quotes_count_in_configuration_only():
    text = "DB_PASSWORD=" + some(16) + "\n"

    for path in (".env", "prod.env", "app.properties", "deploy.sh", "Dockerfile", "app.ini"):
        assert found(text, path) == [("generic-secret", "medium")], path
    assert found("password = compute1(value2)\n", "app.py") == []
    assert found("password: settings.db.password1\n", "a.yml") == []


def test_lock_files_hold_hashes():
    text = '{"token": "' + some(40, HEX) + '"}'

    assert found(text, "data.json") == [("generic-secret", "medium")]
    assert found(text, "package-lock.json") == []


HOSTILE = {
    "letters": "a" * 1_000_000,
    "quotes": "\"'" * 400_000,
    "passwords": "password" * 100_000,
    "passwords-assigned": "password='" * 40_000,
    "assigned": "secret: " * 100_000,
    "dotted": "token=" + "a." * 400_000,
    "calls": "x.y(" * 250_000,
    "jwt": "eyJ" + "a" * 1_000_000,
    "jwts": "eyJaaaaaaaaaaaa." * 60_000,
    "pem": "-----BEGIN PRIVATE KEY-----" * 40_000,
    "pem-body": "-----BEGIN PRIVATE KEY-----" + "A" * 1_000_000,
    "addresses": "a://b:" * 150_000,
    "schemes": "a" * 500_000 + "://" + "b" * 500_000,
    "at": "://a:b" + "c" * 1_000_000,
    "aws": "AKIA" * 250_000,
    "names": "secret_access_key" * 50_000,
    "comments": "# security: ignore[" * 50_000,
    "tokens": ("sk-" + "a" * 60) * 15_000,
    "dashes": "-us" * 300_000,
    "blanks": "password" + " " * 1_000_000,
    "lines": "\n" * 1_000_000,
    "basic": "authorization basic " * 50_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_line_takes_time_in_proportion_to_its_length(name):
    text = HOSTILE[name]
    began = time.process_time()
    scan_text("a.txt", text)
    scan_text("a.env", text)

    assert time.process_time() - began < 8  # seconds for 2 MB; a quadratic rule takes hours
