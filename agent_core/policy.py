"""policy - what a run may do: grants given by a person, checked before every tool call, deny by default.

    --allow file-read:docs        read beneath docs (or that one file)      --allow file-write:notes.txt
    --allow network:api.x.org     one host; host:port, *.domain, or nothing for any public host (private ones must be named)
    --allow shell:git             that program only; plain `shell` for any command line
    --allow secret:NAME  --allow database-read:FILE  --allow database-write:FILE  --allow any-name-of-your-own[:SCOPE]

A deny rule (`--deny`, same form) wins over every grant. Paths are relative to the working directory; `~` is the home directory.
Files that others run later (hooks, editor tasks, shell start-up files, agent instructions) can only be written under a grant that
names them. The decision here is made on names; the opening itself is race-free (`agent_core.beneath`).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from agent_core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from agent_core.tool import Tool

PATHS = frozenset({"file-read", "file-write", "database-read", "database-write"})
CAPABILITIES = ("file-read", "file-write", "network", "database-read", "database-write", "shell", "secret")
ALIASES = {
    "net": "network", "shell-exec": "shell", "secret-access": "secret", "fileread": "file-read", "filewrite": "file-write",
    "databaseread": "database-read", "databasewrite": "database-write", "shellexec": "shell", "secretaccess": "secret",
}  # fmt: skip
PORTS = {"http": 80, "https": 443}
_NAME = re.compile(r"[a-z][a-z0-9-]{0,63}")
_HOST = re.compile(r"(?:\*\.)?[a-z0-9_]([a-z0-9_.-]{0,251}[a-z0-9_])?|[0-9a-f:.]{2,45}")
_WORD = re.compile(r"[A-Za-z0-9_./+-]+")
_PROBE = getattr(os, "O_PATH", os.O_RDONLY | os.O_NONBLOCK)
_COMPLEX = frozenset("`$\\<>(){}\r\0")

# Names that something else runs, loads or obeys later, anywhere in a path; compared without case.
LATER_FOLDERS = frozenset({
    ".git", ".hg", ".husky", ".githooks", ".vscode", ".idea", ".devcontainer", ".cursor", ".claude", ".codex", ".gemini",
    ".github", ".circleci", ".ssh", ".direnv", ".gnupg", ".aws", ".kube", ".zed", ".fleet", ".ci", "autostart", "systemd",
    "cron.d", "cron.daily", "profile.d",
})  # fmt: skip
LATER_FILES = frozenset({
    ".envrc", ".bashrc", ".bash_profile", ".bash_login", ".bash_logout", ".bash_aliases", ".profile", ".zshrc", ".zshenv",
    ".zprofile", ".zlogin", ".zlogout", ".kshrc", ".inputrc", ".xinitrc", ".xprofile", ".xsession", ".gitconfig", ".gitmodules",
    ".gitattributes", ".gitlab-ci.yml", ".pre-commit-config.yaml", ".npmrc", ".yarnrc", ".yarnrc.yml", ".pnpmfile.cjs",
    ".pypirc", ".netrc", ".vimrc", ".exrc", ".nvimrc", ".nvim.lua", ".gdbinit", ".lldbinit", ".rprofile", ".pythonrc.py",
    ".pdbrc", ".tool-versions", ".mise.toml", "mise.toml", "agents.md", "agent.md", "claude.md", "claude.local.md", "gemini.md",
    "copilot-instructions.md", ".cursorrules", ".windsurfrules", ".clinerules", ".mcp.json", "mcp.json", "agents.toml",
    "crontab", "sitecustomize.py", "usercustomize.py", "authorized_keys", "jenkinsfile", "skill.md",
})  # fmt: skip
LATER_ENDINGS = (".pth", ".code-workspace", ".service", ".timer", ".desktop")


@dataclass(frozen=True, slots=True)
class Denial:
    """A refusal: why, and the exact option that would permit it ("" when none would). `ask`: a person may say yes once."""

    reason: str
    rule: str = ""
    ask: bool = False

    def line(self) -> str:
        """Return one line for people and models."""
        return f"denied: {self.reason}" + (f" (grant with {self.rule})" if self.rule else "")

    @property
    def grants(self) -> tuple[str, ...]:
        """The grants that `rule` names: what a person's yes amounts to."""
        import shlex

        words = shlex.split(self.rule)
        return tuple(words[place + 1] for place, word in enumerate(words[:-1]) if word == "--allow")

    @property
    def askable(self) -> bool:
        """Whether a person's yes can lift it: not where a deny rule or the form of a path stands against it."""
        return self.ask or bool(self.grants)


@dataclass(frozen=True, slots=True)
class Grant:
    """One rule. For paths `root` is the absolute name as given and `real` what it was, links resolved, when the rule was made."""

    capability: str
    scope: str = ""
    root: str = ""
    real: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a path lies beneath a grant. `links`: links that stay beneath it may be followed; `given`: the grant's own name."""

    root: str
    rest: str
    links: bool
    given: str


@dataclass(frozen=True)
class Policy:
    """The rules of one run. `yes` answers only what a person would be asked; it never stands in for a grant.

    `confirms`: what is granted, but only with a person's yes each time.
    """

    grants: tuple[Grant, ...] = ()
    denies: tuple[Grant, ...] = ()
    yes: bool = False
    confirms: tuple[Grant, ...] = ()
    cwd: str = "/"
    memo: dict[str, str] = field(default_factory=dict, compare=False, repr=False)

    @staticmethod
    def of(
        allow: Iterable[str] = (),
        deny: Iterable[str] = (),
        *,
        yes: bool = False,
        workspace: str = ".",
        confirm: Iterable[str] = (),
    ) -> Policy:
        """Return the policy that `--allow`, `--deny`, `--confirm` and `--yes` make; scopes are relative to `workspace`.

        Raises:
            UsageError: a rule cannot be read.
        """
        cwd = _absolute(workspace, ".")
        grants = tuple(parse_grant(text, cwd) for text in allow)
        denies, confirms = (tuple(parse_grant(text, cwd) for text in rules) for rules in (deny, confirm))
        return Policy(grants, denies, yes, confirms, cwd)

    def plus(self, grants: Iterable[str]) -> Policy:
        """Return the policy with further grants (of a person, for one call)."""
        return replace(self, grants=(*self.grants, *(parse_grant(text, self.cwd) for text in grants)))

    def check(self, name: str, capability: str, scope: str | None = None, workspace: str = "") -> Denial | None:
        """Return why the tool called `name` may not use the capability on that scope; None when it may."""
        capability = canonical(capability)
        if capability in PATHS and scope is not None:
            return self._path(name, capability, scope, workspace)
        if capability == "network" and scope is not None:
            return self._host(name, scope)
        if capability == "shell" and scope is not None:
            return self._shell(name, scope)
        return self._plain(name, capability, scope)

    def places(self, capability: str, path: str, workspace: str = "") -> list[Place]:
        """Return where the path lies beneath the grants that cover it, the closest grant first."""
        target = _absolute(path, workspace or self.cwd)
        links = capability == "file-read" and not self._rules(self.denies, capability)
        roots = [(root, grant) for grant in self._rules(self.grants, capability) for root in {grant.root, grant.real}]
        if capability == "file-read" and "outputs" in self.memo:
            kept = self.memo["outputs"]
            roots.append((kept, Grant(capability, "", kept, kept)))
        found = [
            (len(root), Place(grant.real, _rest(target, root), links, grant.root))
            for root, grant in roots
            if _beneath(target, root)
        ]
        return [place for _, place in sorted(found, key=lambda pair: -pair[0])]

    def escape(self, name: str, capability: str, path: str, workspace: str = "") -> Denial:
        """Return the denial of a path that leads out of what is granted."""
        shown = _shown(_absolute(path, workspace or self.cwd), self.cwd)
        rule = allow(capability, shown)
        return Denial(f"{name}: {shown} leads outside of what is granted, or through a symbolic link", rule)

    def withholds(self, capability: str, scope: str) -> bool:
        """Return whether a deny rule covers that plain scope."""
        return any(_covers_plain(rule.scope, scope) for rule in self._rules(self.denies, capability))

    def host(self, host: str, port: int) -> str:
        """Return how a host is granted: `named` exactly, by a `wild` card, `any` host, or "" (not at all)."""
        if any(_host_rule(rule.scope, host, port) for rule in self._rules(self.denies, "network")):
            return ""
        found = {_host_rule(rule.scope, host, port) for rule in self._rules(self.grants, "network")}
        return next((kind for kind in ("named", "wild", "any") if kind in found), "")

    def outputs(self) -> str:
        """Return a private folder for outputs that are too large to show; what is in it may be read back."""
        if "outputs" not in self.memo:
            import tempfile

            self.memo["outputs"] = os.path.realpath(tempfile.mkdtemp(prefix="agent-outputs-"))
        return self.memo["outputs"]

    def _rules(self, rules: tuple[Grant, ...], capability: str) -> list[Grant]:
        return [rule for rule in rules if rule.capability == capability]

    def _plain(self, name: str, capability: str, scope: str | None) -> Denial | None:
        if capability in CAPABILITIES and scope is None and self._rules(self.denies, capability):
            return Denial(f"{name} needs {capability}, which a --deny rule limits")
        if self.withholds(capability, scope or ""):
            return Denial(f"{name} may not use {_scoped(capability, scope)} (a --deny rule)")
        if any(_covers_plain(rule.scope, scope or "") for rule in self._rules(self.grants, capability)):
            return None
        return Denial(f"{name} needs {_scoped(capability, scope)}", allow(capability, scope or ""))

    def _path(self, name: str, capability: str, path: str, workspace: str) -> Denial | None:
        if not _encodable(path):
            return Denial(f"{name}: a path has no NUL byte and no broken characters")
        target = _absolute(path, workspace or self.cwd)
        shown = _shown(target, self.cwd)
        places = self.places(capability, path, workspace)
        for spelling in (target, *(_joined(place) for place in places)):
            if any(_beneath(spelling, root) for rule in self._rules(self.denies, capability) for root in (rule.root, rule.real)):
                return Denial(f"{name} may not use {capability}:{shown} (a --deny rule)")
        if not places:
            return Denial(f"{name} needs {capability}:{shown}", allow(capability, shown))
        if capability in {"file-write", "database-write"}:
            places = [place for place in places if self._may_write(place)]
            if not places:
                return Denial(
                    f"{name}: {shown} may be run or obeyed by other programs, so a grant must name it", allow(capability, shown)
                )
        return None if any(_reachable(place) for place in places) else self.escape(name, capability, path, workspace)

    def _may_write(self, place: Place) -> bool:
        """Return whether a place is no run-later file, or the grant names it: not by a folder above, nor by a link to it."""
        target = _joined(place)
        inside = _rest(target, self.cwd) if _beneath(self.cwd, place.root) and _beneath(target, self.cwd) else place.rest
        behind_link = runs_later(_shown(place.root, self.cwd)) and not runs_later(_shown(place.given, self.cwd))
        return not behind_link and not (place.rest and runs_later(inside))

    def _host(self, name: str, url: str) -> Denial | None:
        found = host_of(url)
        if found is None:
            return Denial(f"{name}: {_brief(url)} is no http or https address with a plain host name")
        host, port = found
        place = authority(host, port)
        if any(_host_rule(rule.scope, host, port) for rule in self._rules(self.denies, "network")):
            return Denial(f"{name} may not use network:{place} (a --deny rule)")
        kind = self.host(host, port)
        if not kind:
            return Denial(f"{name} needs network:{place}", allow("network", place))
        if kind != "named" and is_private_name(host):
            return Denial(f"{name}: {place} is a private address, so a grant must name it", allow("network", place))
        return None

    def _shell(self, name: str, command: str) -> Denial | None:
        """An unscoped grant allows any command line, a scoped one simple commands of that program (convenience, not a wall)."""
        grants, denies = self._rules(self.grants, "shell"), self._rules(self.denies, "shell")
        wanted = programs(command)
        denied = {rule.scope for rule in denies}
        if "" in denied or (denied and (wanted is None or denied & {each.rpartition("/")[2] for each in wanted})):
            return Denial(f"{name} may not run this (a --deny rule)")
        granted = {rule.scope for rule in grants}
        if "" in granted:
            return None
        if wanted is None:
            return Denial(f"{name} needs shell: the command line is more than plain commands", allow("shell"))
        lacking = [each for each in dict.fromkeys(wanted) if each not in granted]
        if not lacking and wanted:
            return None
        rule = " ".join(allow("shell", each) for each in lacking)
        return Denial(f"{name} needs {', '.join(f'shell:{each}' for each in lacking) or 'shell'}", rule or allow("shell"))


def decide(policy: Policy, tool: Tool, arguments: Mapping[str, Any], workspace: str = "") -> Denial | None:
    """Return why a call with these checked arguments is refused; None when it may run.

    A destructive tool that declares no need is what a person is asked about; `--yes` answers that and nothing else.
    """
    for need in tool.needs:
        capability, _, fixed = need.capability.partition(":")
        if need.checked:
            if not any(rule.capability == capability for rule in policy.grants):
                return Denial(f"{tool.name} needs {capability}", allow(capability))
            continue
        for scope in _scopes(arguments.get(need.parameter)) if need.parameter else [fixed or None]:
            denial = policy.check(tool.name, capability, scope, workspace)
            if denial is not None:
                return denial
    if tool.destructive and not tool.needs and not policy.yes and policy.check(tool.name, "tool", tool.name):
        return Denial(f"{tool.name} changes things for good", f"--yes or {allow('tool', tool.name)}", ask=True)
    return None


NEVER_BY_YES = frozenset({"secret", "unconfined"})


def confirmation(policy: Policy, tool: Tool, arguments: Mapping[str, Any], workspace: str = "") -> Denial | None:
    """Return what a person has to confirm about a call that is granted; None for nothing. `--yes` answers, but not for secrets."""
    for need in tool.needs if policy.confirms else ():
        capability, _, fixed = need.capability.partition(":")
        if policy.yes and capability not in NEVER_BY_YES:
            continue
        rules = tuple(rule for rule in policy.confirms if rule.capability == capability)
        for scope in _scopes(arguments.get(need.parameter)) if need.parameter else [fixed or None]:
            # A rule to confirm covers a scope just as a grant would.
            if rules and replace(policy, grants=rules, denies=(), memo={}).check(tool.name, capability, scope, workspace) is None:
                return Denial(f"{tool.name} would use {_scoped(capability, scope)}, which is to be confirmed", ask=True)
    return None


def parse_grant(text: str, cwd: str = ".") -> Grant:
    """Return the rule `CAP[:SCOPE]` stands for.

    Raises:
        UsageError: no capability, or a scope that cannot be read.
    """
    name, colon, scope = text.partition(":")
    capability = canonical(name)
    if not _NAME.fullmatch(capability) or "\0" in scope or (colon and not scope):
        raise UsageError(f"--allow {_brief(text)}: not CAP[:SCOPE]", hint=f"capabilities: {', '.join(CAPABILITIES)}")
    if capability in PATHS:
        root = _absolute(os.path.expanduser(scope), cwd) if scope else "/"  # noqa: PTH111 - Path would cost start-up time
        return Grant(capability, scope, root, os.path.realpath(root))
    if capability == "network" and scope:
        found = _authority(_bare_authority(scope))
        if found is None:
            raise UsageError(f"--allow {_brief(text)}: no host", hint="network:HOST, network:HOST:PORT or network:*.DOMAIN")
        return Grant(capability, authority(*found, usual=()))
    return Grant(capability, scope)


def canonical(capability: str) -> str:
    """Return the usual spelling: lower case, dashes, no aliases."""
    name, colon, scope = capability.partition(":")
    name = name.strip().lower().replace("_", "-")
    return f"{ALIASES.get(name, name)}{colon}{scope}"


def allow(capability: str, scope: str = "") -> str:
    """Return the option that grants it, quoted for a shell where needed."""
    import shlex

    return f"--allow {shlex.quote(_scoped(capability, scope))}"


def runs_later(path: str) -> bool:
    """Return whether other programs run, load or obey what is written there."""
    *folders, name = [step.casefold() for step in path.split("/")]
    return name in LATER_FILES or name.endswith(LATER_ENDINGS) or not LATER_FOLDERS.isdisjoint([*folders, name])


# -- paths ------------------------------------------------------------------------------------------------------------------------


def _absolute(path: str, base: str) -> str:
    """Return an absolute, normalised path (on names only). `//x` is `/x`."""
    # Path has nothing that works on names only, and resolving here is exactly what must not happen.
    found = os.path.normpath(os.path.join(os.path.abspath(base), path))  # noqa: PTH100, PTH118
    return f"/{found.lstrip('/')}"


def _beneath(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip("/") + "/")


def _rest(path: str, root: str) -> str:
    return path[len(root.rstrip("/")) :].lstrip("/")


def _joined(place: Place) -> str:
    return f"{place.root.rstrip('/')}/{place.rest}".rstrip("/") or "/"


def _shown(path: str, cwd: str) -> str:
    """Return the path as a rule would name it: relative where it lies beneath the working directory."""
    if path == cwd:
        return "."
    if cwd == "/" or not _beneath(path, cwd):
        return path
    rest = _rest(path, cwd)
    return f"./{rest}" if rest.startswith("~") else rest


def _reachable(place: Place) -> bool:
    """Return whether the path stays beneath the grant now (opening it checks again, in one step)."""
    from agent_core import beneath

    try:
        os.close(beneath.open_at(place.root, place.rest, _PROBE, links=place.links))
    except beneath.EscapeError:
        return False
    except (OSError, ValueError):
        return True
    return True


def _encodable(path: str) -> bool:
    try:
        return b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        return False


# -- hosts ------------------------------------------------------------------------------------------------------------------------


def host_of(url: str) -> tuple[str, int] | None:
    """Return host and port of an http(s) URL (or of a bare host[:port]); None when it has no plain host."""
    if re.search(r"[\s\\\x00-\x1f\x7f]", url):
        return None
    scheme, sep, rest = url.partition("://")
    if not sep:
        return _authority(url)
    if scheme.lower() not in PORTS:
        return None
    found = _authority(re.split(r"[/?#]", rest, maxsplit=1)[0])
    return None if found is None or "*" in found[0] else (found[0], found[1] or PORTS[scheme.lower()])


def authority(host: str, port: int, usual: Iterable[int] = (80, 443)) -> str:
    """Return host[:port]; port 0 (any) and the usual ones are left out."""
    name = f"[{host}]" if ":" in host else host
    return name if port in {0, *usual} else f"{name}:{port}"


def is_private_name(host: str) -> bool:
    """Return whether a host is this machine or a private address by its very name."""
    if host == "localhost" or host.endswith((".localhost", ".local", ".internal")):
        return True
    import ipaddress

    try:
        return not is_public(str(ipaddress.ip_address(host)))
    except ValueError:
        # 127.1, 0x7f000001 and 2130706433 are addresses to some resolvers
        return re.fullmatch(r"(0x[0-9a-f]+|[0-9]+)(\.(0x[0-9a-f]+|[0-9]+))*", host) is not None


def is_public(address: str) -> bool:
    """Return whether an address is public: not private, loopback, link-local, multicast or reserved, in whatever form."""
    import ipaddress

    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        number = int(found)
        inner = found.ipv4_mapped or found.sixtofour
        if inner is None and number >> 32 == 0x64FF9B << 64:  # NAT64
            inner = ipaddress.IPv4Address(number & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
        if number >> 32 == 0 or found.teredo or found.is_site_local or number >> 80 == 0x64FF9B0001:
            return False
    return found.is_global and not found.is_multicast and not found.is_reserved


def _bare_authority(scope: str) -> str:
    """Accept a whole URL as a scope: its host counts."""
    return re.split(r"[/?#]", scope.partition("://")[2], maxsplit=1)[0] if "://" in scope else scope


def _authority(text: str) -> tuple[str, int] | None:
    """Return (host, port or 0) of host, host:port or [v6]:port; user names are refused."""
    host, _, port = text.partition("]")[0].lstrip("["), "", text.rpartition("]")[2].lstrip(":")
    if not text.startswith("["):
        host, _, port = text.partition(":")
        if ":" in port:  # a bare IPv6 address
            host, port = text, ""
    try:
        host = host if host.isascii() else host.encode("idna").decode()
    except UnicodeError:
        return None
    host = host.lower().rstrip(".")
    if not _HOST.fullmatch(host) or not (port.isascii() and (port.isdigit() or not port)) or int(port[:6] or 0) > 65535:
        return None
    return host, int(port or 0)


def _host_rule(scope: str, host: str, port: int) -> str:
    """Return how a rule covers a host, "" when it does not."""
    if not scope:
        return "any"
    found = _authority(scope)
    if found is None or found[1] not in {0, port}:
        return ""
    name = found[0]
    if name.startswith("*."):
        return "wild" if host.endswith(name[1:]) else ""
    return "named" if name == host else ""


# -- programs and names -----------------------------------------------------------------------------------------------------------


def programs(command: str) -> list[str] | None:
    """Return the programs that a simple command line runs (joined by | && || ; or line ends); None when it is anything more.

    Substitutions, redirections, variables, escapes, comments, background jobs, groups and assignments are "more".
    """
    words: list[str] = []
    found: list[str] = []
    for piece in re.finditer(r"'[^']*'|\"[^\"]*\"|\|\||&&|[|;\n]|[^\s'\"|;&]+|[ \t]+|.", command, re.DOTALL):
        text = piece.group()
        if text in {"|", "||", "&&", ";", "\n"}:
            if words and not _simple(words, found):
                return None
            words = []
        elif _is_more(text):
            return None
        else:
            words.append(text)
    if "".join(words).strip() and not _simple(words, found):
        return None
    return found


def _is_more(text: str) -> bool:
    """Return whether a piece is an open quote, a background job, a comment, or holds a character that a shell would act on."""
    if text in {"'", '"', "&"}:
        return True
    return text[0] != "'" and (text[0] == "#" or not _COMPLEX.isdisjoint(text))


def _simple(words: list[str], found: list[str]) -> bool:
    """Note the program of one command; its first word must be a plain word, not quoted, glued or assigned."""
    line = "".join(words).strip()
    if not line:
        return True
    first = re.split(r"[ \t]", line, maxsplit=1)[0]
    if not _WORD.fullmatch(first):
        return False
    found.append(first)
    return True


def _scopes(value: Any) -> list[str]:
    if value is None:
        return []
    return [str(item) for item in value] if isinstance(value, list | tuple) else [str(value)]


def _covers_plain(rule: str, scope: str) -> bool:
    return (
        not rule
        or rule == scope
        or scope.startswith(f"{rule}/")
        or (rule.endswith("*") and scope.startswith(rule[:-1]) and bool(scope))
    )


def _scoped(capability: str, scope: str | None) -> str:
    return f"{capability}:{scope}" if scope else capability


def _brief(text: str) -> str:
    return "".join(each if each.isprintable() else "?" for each in text[:80])
