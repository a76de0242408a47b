r"""rules - what a rule is, and the secrets that are known by their shape.

    find_rule("github-token").why

A rule is a row of data. A secret's `pattern` is tried where one of `hints` begins (in the lower-cased text when `ignore_case`), or,
when the hint stands `within` it, searched for where the hint occurs at all; so does the pattern of a code rule. The group `secret`
(else the whole match) is what is judged and masked. Every quantifier is bounded or possessive and no pattern begins with a
repetition, so a search takes time linear in the text (tests/agent_plugins/test_scanning_rules.py holds each to that).

The shapes are those the vendors document; where a vendor builds in a checksum, `check` names the function that recomputes it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

SEVERITIES = ("low", "medium", "high")


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule.

    `kind` is secret, code or text; `languages` are those of `languages.language_of` (empty: all). `check` names a function of
    `secret_checks`; `shown` is how many first characters of a secret may be printed. `also`: one of these must be in the text, too.
    `on_line`: a pattern that the match's line must satisfy as well. `strings`: the pattern looks into string literals. Python's
    rules are decided by `python_calls`; their pattern only says whether a text is worth the parsing.
    """

    id: str
    severity: str
    message: str
    why: str
    fix: str
    pattern: str = ""
    hints: tuple[str, ...] = ()
    languages: frozenset[str] = frozenset()
    kind: str = "secret"
    check: str = "token"
    shown: int = 4
    ignore_case: bool = False
    also: tuple[str, ...] = ()
    on_line: str = ""
    strings: bool = False
    cwe: int = 798
    within: bool = False


_WHY = "Whoever can read this text, or any clone or backup of it, can use the secret."
_FIX = "Revoke it where it was issued, read its successor from the environment or a secret store, and remove it from history."
_B = r"(?<![A-Za-z0-9_-])"  # a token begins and ends where a word does
_E = r"(?![A-Za-z0-9_-])"


def _token(id_: str, what: str, body: str, *hints: str, check: str = "token", shown: int = 4, severity: str = "high") -> Rule:
    return Rule(id_, severity, what, _WHY, _FIX, f"{_B}(?P<secret>{body}){_E}", hints, check=check, shown=shown)


def _token_around(id_: str, what: str, body: str, hint: str, *, shown: int = 4, severity: str = "high") -> Rule:
    """Return a rule for a token whose fixed part is not at its beginning."""
    return Rule(id_, severity, what, _WHY, _FIX, f"{_B}(?P<secret>{body}){_E}", (hint,), shown=shown, within=True)


def _assigned(id_: str, what: str, name: str, body: str, *hints: str, check: str = "token", severity: str = "high") -> Rule:
    """Return a rule for a value without a shape of its own that is known by the name it is given to."""
    pattern = rf"(?:{name})[\"'\]]{{0,2}}\s{{0,4}}(?:=>|:=|=|:|,)\s{{0,4}}[\"']?(?P<secret>{body})(?![A-Za-z0-9/+=_-])"
    return Rule(id_, severity, what, _WHY, _FIX, pattern, hints, check=check, shown=2, ignore_case=True)


_TOKENS = (
    _token("aws-access-key-id", "AWS access key id", r"(?:AKIA|ASIA)[A-Z0-9]{16}", "AKIA", "ASIA", check="aws_id"),
    _assigned(
        "aws-secret-key",
        "AWS secret access key",
        "secret_?access_?key|aws_?secret(?:_?key)?",
        "[A-Za-z0-9/+]{40}",
        "secret_access_key",
        "secretaccesskey",
        "secret_accesskey",
        "secretaccess_key",
        "aws_secret",
        "awssecret",
    ),
    _token("google-api-key", "Google API key", r"AIza[A-Za-z0-9_-]{35}", "AIza"),
    _token("google-oauth-secret", "Google OAuth client secret", r"GOCSPX-[A-Za-z0-9_-]{28}", "GOCSPX-", shown=7),
    _token("google-oauth-token", "Google OAuth access token", r"ya29\.[A-Za-z0-9_-]{40,400}+", "ya29.", shown=5, severity="medium"),
    _token("github-token", "GitHub token", r"gh[pousr]_[A-Za-z0-9]{36}", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", check="github"),
    _token("github-pat", "GitHub fine-grained token", r"github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}", "github_pat_", shown=11),
    _token(
        "gitlab-token",
        "GitLab token",
        r"gl(?:pat|ptt|dt|rt|cbt|ft|soat|imt|agent|oas|ffct)-[A-Za-z0-9_-]{20,300}+(?:\.[a-z0-9]{2}\.[a-z0-9]{9})?",
        "glpat-",
        "glptt-",
        "gldt-",
        "glrt-",
        "glcbt-",
        "glft-",
        "glsoat-",
        "glimt-",
        "glagent-",
        "gloas-",
        "glffct-",
        shown=6,
    ),
    _token(
        "slack-token",
        "Slack token",
        r"xox[abeoprs]-(?:[0-9]-)?[A-Za-z0-9-]{20,250}+",
        "xox",
        shown=5,
    ),
    _token("slack-app-token", "Slack app token", r"xapp-[0-9]-[A-Z0-9]{8,12}-[0-9]{10,14}-[a-f0-9]{64}", "xapp-", shown=5),
    _token(
        "slack-webhook",
        "Slack webhook address",
        r"hooks\.slack\.com/(?:services|workflows|triggers)/[A-Z0-9]{8,12}/[A-Z0-9]{8,14}/[A-Za-z0-9]{20,40}+",
        "hooks.slack.com/",
        shown=16,
        severity="medium",
    ),
    _token_around(
        "discord-webhook",
        "Discord webhook address",
        r"discord(?:app)?\.com/api/webhooks/[0-9]{17,20}/[A-Za-z0-9_-]{60,80}+",
        "/api/webhooks/",
        shown=12,
        severity="medium",
    ),
    _token("stripe-key", "Stripe live key", r"[rs]k_live_[A-Za-z0-9]{24,247}+", "sk_live_", "rk_live_", shown=8),
    _token(
        "stripe-test-key", "Stripe test key", r"[rs]k_test_[A-Za-z0-9]{24,247}+", "sk_test_", "rk_test_", shown=8, severity="low"
    ),
    _token("stripe-webhook-secret", "Stripe webhook secret", r"whsec_[A-Za-z0-9+/=]{32,64}+", "whsec_", shown=6),
    _token(
        "openai-key",
        "OpenAI API key",
        r"sk-(?:(?:proj|svcacct|admin|service)-[A-Za-z0-9_-]{40,250}+|[A-Za-z0-9]{20}T3BlbkFJ[A-Za-z0-9]{20}|[A-Za-z0-9]{48})",
        "sk-",
        shown=3,
    ),
    _token("anthropic-key", "Anthropic API key", r"sk-ant-[a-z0-9]{3,10}-[A-Za-z0-9_-]{80,130}+", "sk-ant-", shown=7),
    _token("openrouter-key", "OpenRouter API key", r"sk-or-v1-[a-f0-9]{64}", "sk-or-v1-", shown=9),
    _token("huggingface-token", "Hugging Face token", r"hf_[A-Za-z]{34}", "hf_", shown=3),
    _token("groq-key", "Groq API key", r"gsk_[A-Za-z0-9]{52}", "gsk_"),
    _token("xai-key", "xAI API key", r"xai-[A-Za-z0-9]{80}", "xai-"),
    _token("replicate-token", "Replicate token", r"r8_[A-Za-z0-9]{37}", "r8_", shown=3),
    _token("perplexity-key", "Perplexity API key", r"pplx-[A-Za-z0-9]{48}", "pplx-"),
    _token("npm-token", "npm access token", r"npm_[A-Za-z0-9]{36}", "npm_", check="github"),
    _token("pypi-token", "PyPI upload token", r"pypi-AgE[A-Za-z0-9_-]{60,250}+", "pypi-AgE", shown=5),
    _token("rubygems-key", "RubyGems API key", r"rubygems_[a-f0-9]{48}", "rubygems_", shown=9),
    _token("crates-io-token", "crates.io token", r"cio[A-Za-z0-9]{32}", "cio", shown=3, check="mixed"),
    _token("docker-hub-token", "Docker Hub token", r"dckr_(?:pat|oat)_[A-Za-z0-9_-]{27,40}+", "dckr_", shown=9),
    _token("sendgrid-key", "SendGrid API key", r"SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}", "SG.", shown=3),
    _token("mailgun-key", "Mailgun API key", r"key-[a-f0-9]{32}", "key-"),
    _token_around("mailchimp-key", "Mailchimp API key", r"[a-f0-9]{32}-us[0-9]{1,2}", "-us"),
    _assigned("twilio-token", "Twilio auth token", "twilio_?(?:auth_?)?token", "[a-f0-9]{32}", "twilio"),
    _token_around("telegram-token", "Telegram bot token", r"[0-9]{8,10}:AA[A-Za-z0-9_-]{33}", ":AA"),
    _token("shopify-token", "Shopify token", r"shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}", "shp", shown=6),
    _token("square-token", "Square token", r"(?:sq0(?:atp|csp)-[A-Za-z0-9_-]{22,43}|EAAA[lE][A-Za-z0-9_-]{59})", "sq0", "EAAA"),
    _token("digitalocean-token", "DigitalOcean token", r"do[opr]_v1_[a-f0-9]{64}", "dop_v1_", "doo_v1_", "dor_v1_", shown=7),
    _token("databricks-token", "Databricks token", r"dapi[a-f0-9]{32}(?:-[0-9])?", "dapi"),
    _token(
        "doppler-token",
        "Doppler token",
        r"dp\.(?:pt|st|ct|sa|scim|audit)\.(?:[a-z0-9_-]{2,35}+\.)?[A-Za-z0-9]{40,44}",
        "dp.",
        shown=5,
    ),
    _token("grafana-token", "Grafana service account token", r"glsa_[A-Za-z0-9]{32}_[a-f0-9]{8}", "glsa_", shown=5),
    _token("hashicorp-vault-token", "HashiCorp Vault token", r"hv[sbr]\.[A-Za-z0-9_-]{24,300}+", "hvs.", "hvb.", "hvr."),
    _token_around(
        "terraform-cloud-token", "Terraform Cloud token", r"[A-Za-z0-9]{14}\.atlasv1\.[A-Za-z0-9_-]{60,70}+", ".atlasv1."
    ),
    _token("linear-key", "Linear API key", r"lin_(?:api|oauth)_[A-Za-z0-9]{40,64}+", "lin_", shown=8),
    _token("notion-token", "Notion integration token", r"ntn_[0-9]{11}[A-Za-z0-9]{32,35}", "ntn_"),
    _token("postman-key", "Postman API key", r"PMAK-[a-f0-9]{24}-[a-f0-9]{34}", "PMAK-", shown=5),
    _token("pulumi-token", "Pulumi access token", r"pul-[a-f0-9]{40}", "pul-"),
    _token(
        "newrelic-key",
        "New Relic key",
        r"NR(?:AK|II|RA|IQ|JS)-[A-Za-z0-9]{27,42}+",
        "NRAK-",
        "NRII-",
        "NRRA-",
        "NRIQ-",
        "NRJS-",
        shown=5,
    ),
    _token("sentry-token", "Sentry token", r"sntr(?:ys_[A-Za-z0-9+/=_-]{60,400}+|yu_[a-f0-9]{64})", "sntrys_", "sntryu_", shown=7),
    _token(
        "atlassian-token",
        "Atlassian API token",
        r"AT(?:ATT3|CTT3|BB)[A-Za-z0-9_=-]{28,300}+",
        "ATATT3",
        "ATCTT3",
        "ATBB",
        check="mixed",
    ),
    _token("planetscale-token", "PlanetScale token", r"pscale_(?:tkn|pw|oauth)_[A-Za-z0-9_.-]{32,64}+", "pscale_", shown=10),
    _token(
        "supabase-token", "Supabase token", r"sb(?:p_[a-f0-9]{40}|_secret_[A-Za-z0-9_-]{22}_[A-Za-z0-9_-]{8})", "sbp_", "sb_secret_"
    ),
    _token("tailscale-key", "Tailscale key", r"tskey-[a-z]{2,12}-[A-Za-z0-9]{8,20}-[A-Za-z0-9]{20,50}+", "tskey-", shown=6),
    _token("fly-token", "Fly.io token", r"fo1_[A-Za-z0-9_-]{43}", "fo1_"),
    _token(
        "age-secret-key", "age secret key", r"AGE-SECRET-KEY-1[QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L]{58}", "AGE-SECRET-KEY-1", shown=15
    ),
    _assigned(
        "azure-storage-key",
        "Azure storage account key",
        "AccountKey|account_key",
        r"[A-Za-z0-9+/]{86}==",
        "accountkey",
        "account_key",
    ),
    Rule(
        "private-key",
        "high",
        "Private key",
        _WHY,
        _FIX,
        r"-----BEGIN (?:[A-Z0-9]{2,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----"
        r"(?:(?:\\[nrt]|\s){0,8}[A-Z][A-Za-z]{2,12}(?:-[A-Za-z]{2,12})?: [^\n\\]{1,120}){0,4}"
        r"(?P<secret>[A-Za-z0-9+/=\s\\:,.\"'()]{64,20000}+)",
        ("-----BEGIN ",),
        check="private_key",
        shown=0,
    ),
    Rule(
        "jwt",
        "medium",
        "JSON Web Token",
        _WHY,
        _FIX,
        rf"{_B}(?P<secret>eyJ[A-Za-z0-9_-]{{10,2000}}+\.eyJ[A-Za-z0-9_-]{{10,4000}}+\.[A-Za-z0-9_-]{{20,1000}}+)",
        ("eyJ",),
        check="jwt",
        shown=3,
    ),
    Rule(
        "url-password",
        "high",
        "Password in an address",
        _WHY,
        _FIX,
        r"(?<=[A-Za-z0-9])://(?P<user>[^\s:/@\"'`<>,;|\\(){}]{0,80}+):(?P<secret>[^\s@/\"'`<>|\\]{3,120}+)"
        r"@(?P<host>[^\s/\"'`<>:?#,;|\\)]{1,120}+)",
        ("://",),
        check="url_password",
        shown=0,
        cwe=522,
    ),
    Rule(
        "basic-auth-header",
        "medium",
        "Basic authorization with user and password",
        _WHY,
        _FIX,
        r"basic\s{1,4}(?P<secret>[A-Za-z0-9+/]{12,200}+={0,2})(?![A-Za-z0-9+/=])",
        ("basic ",),
        check="basic_auth",
        shown=0,
        ignore_case=True,
        also=("authorization",),
    ),
    Rule(
        "generic-secret",
        "medium",
        "A secret is assigned",
        _WHY,
        _FIX,
        r"(?:passw(?:or)?d|passphrase|pwd|secret|token|(?:api|access|auth|private|encryption|signing|master)?[_-]?key|credentials?)"
        r"(?P<close>[\"'\]]{0,2})(?P<op>\s{0,8}(?::\s{0,4}[A-Za-z_.]{1,30}(?:\[[a-z]{1,10}\])?(?:\s{0,2}\|\s{0,2}None)?\s{0,4}=(?!=)"
        r"|=>|:=|\|\|=|\?\?=|\?=|==(?!=)|=(?![=>~])|:(?![:=])|\s{1,4}(?=[\"'])))\s{0,8}"
        r"(?:(?P<prefix>[A-Za-z]{0,2})(?P<quote>[\"'`])(?P<secret>[^\"'`\n\\]{8,256}+)(?P=quote)|(?P<bare>[^\s\"'`,;()<>]{8,256}+))",
        (
            "password",
            "passwd",
            "passphrase",
            "pwd",
            "secret",
            "token",
            "apikey",
            "accesskey",
            "authkey",
            "privatekey",
            "encryptionkey",
            "signingkey",
            "masterkey",
            "_key",
            "-key",
            "credential",
        ),
        check="generic",
        shown=2,
        ignore_case=True,
    ),
    Rule(
        "bidirectional-text",
        "medium",
        "Characters that show code in another order than it runs",
        "Bidirectional controls in source make a reviewer see something else than the compiler (CVE-2021-42574).",
        "Remove the characters, or write them as escapes.",
        "[\u202a-\u202e\u2066-\u2069]",
        ("\u202a", "\u202b", "\u202d", "\u202e", "\u2066", "\u2067", "\u2068"),
        kind="text",
        check="",
        cwe=1007,
        within=True,
    ),
)


def all_rules() -> tuple[Rule, ...]:
    """Return every rule: secrets, code of all languages, Python's."""
    from agent_plugins.scanning.code_rules import CODE, PYTHON

    return (*_TOKENS, *CODE, *PYTHON)


def secret_rules() -> tuple[Rule, ...]:
    """Return the rules that apply to any text."""
    return _TOKENS


@cache
def _by_id() -> dict[str, Rule]:
    return {rule.id: rule for rule in all_rules()}


def find_rule(id_: str) -> Rule:
    """Return a rule by its name. KeyError if there is none."""
    return _by_id()[id_]


def is_rule(id_: str) -> bool:
    """Return whether a rule of that name exists."""
    return id_ in _by_id()


@cache
def compiled(pattern: str, flags: int = 0) -> re.Pattern[str]:
    """Return a pattern, compiled when it is first needed."""
    return re.compile(pattern, flags)
