"""What a called agent may do is never more than what its caller may, nor more than what it was given itself."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_core import ceiling, config, errors
from agent_core.policy import Policy


def settings(tmp_path, allow=(), deny=(), **more):
    return config.load({"allow": allow, "deny": deny, **more}, {}, str(tmp_path))


@pytest.mark.parametrize(
    ("own", "above", "left"),
    [
        (["file-read:/w/docs"], ["file-read:/w"], ["file-read:/w/docs"]), (["file-read:/w"], ["file-read:/w/docs"], ["file-read:/w/docs"]),
        (["file-read"], ["file-read:/w"], ["file-read:/w"]), (["file-read:/w"], ["file-read:/wx"], []), (["file-write:/w"], ["file-read:/w"], []),
        (["file-read:/w/../etc"], ["file-read:/w"], []), (["network"], ["network:api.x.org"], ["network:api.x.org"]),
        (["network:api.x.org"], ["network:*.x.org"], ["network:api.x.org"]), (["network:*.a.x.org"], ["network:*.x.org"], ["network:*.a.x.org"]),
        (["network:evilx.org"], ["network:*.x.org"], []), (["network:api.x.org:8080"], ["network:api.x.org:80"], []),
        (["network:api.x.org"], ["network:api.x.org:8080"], ["network:api.x.org:8080"]), (["network"], ["network"], ["network"]),
        (["network"], ["network:localhost"], []), (["network:127.0.0.1:80"], ["network"], []), (["network:localhost"], ["network:localhost:9"], ["network:localhost:9"]),
        (["network:[::1]:80"], ["network:[::1]"], ["network:[::1]:80"]), (["shell"], ["shell:git"], ["shell:git"]), (["shell:rm"], ["shell:git"], []),
        (["secret:A"], ["secret:A"], ["secret:A"]), (["tool:a*"], ["tool:ab*"], ["tool:ab*"]), (["tool:ab"], ["tool:a*"], ["tool:ab"]),
        ([], ["shell"], []), (["shell"], [], []), (["mcp:a/b"], ["mcp:a"], ["mcp:a/b"]), (["mcp:a"], ["mcp:a/b"], ["mcp:a/b"]), (["mcp:ab/c"], ["mcp:a"], []),
        (["shell:git/x"], ["shell:git"], []),
    ],
)  # fmt: skip
def test_grants_are_cut_to_what_both_cover(tmp_path, own, above, left):
    text = json.dumps({"allow": above, "deny": [], "yes": False})

    assert list(ceiling.lowered(settings(tmp_path, own), text).allow) == left


def test_denials_add_up_and_yes_holds_only_for_both(tmp_path):
    above = ceiling.of(settings(tmp_path, ["shell"], ["file-write:out", "shell:rm"], yes=True))
    low = ceiling.lowered(settings(tmp_path / "sub", ["shell"], ["network"], yes=True), above)

    assert low.deny == ("network", f"file-write:{tmp_path}/out", "shell:rm")
    assert low.yes
    assert not ceiling.lowered(settings(tmp_path, yes=True), ceiling.of(settings(tmp_path))).yes
    assert not ceiling.lowered(settings(tmp_path), above).yes


def test_what_the_caller_has_to_confirm_its_children_have_to_confirm_too(tmp_path):
    caller = config.load({"allow": ("shell",), "confirm": ("shell",)}, {}, str(tmp_path))
    child = config.load({"allow": ("shell",), "confirm": ("network",)}, {"AGENT_CEILING": ceiling.of(caller)}, str(tmp_path))

    assert child.confirm == ("network", "shell")
    assert ceiling.lowered(child, '{"allow": [], "deny": [], "yes": false}').confirm == ("network", "shell")


def test_a_link_that_leads_out_of_what_the_caller_may_is_not_kept(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link").symlink_to("/etc")
    above = ceiling.of(settings(tmp_path, ["file-read:in"]))

    assert ceiling.lowered(settings(tmp_path, ["file-read:in/link"]), above).allow == ()
    low = ceiling.lowered(settings(tmp_path, ["file-read:/"]), above)
    policy = Policy.of(low.allow, low.deny, workspace=str(tmp_path))
    assert policy.check("t", "file-read", str(tmp_path / "in" / "link" / "passwd")) is not None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "[]",
        "{}",
        "null",
        '{"allow": ["?"], "deny": [], "yes": true}',
        '{"allow": [], "deny": []}',
        '{"allow": 5, "deny": [], "yes": 1}',
    ],
)
def test_a_ceiling_that_cannot_be_read_is_an_error_and_not_the_sky(tmp_path, text):
    with pytest.raises(errors.ConfigError):
        ceiling.lowered(settings(tmp_path, ["shell"]), text)


PATHS = st.lists(st.sampled_from(["a", "b", "..", "c.txt"]), max_size=4).map(lambda steps: "/" + "/".join(steps))
HOSTS = st.sampled_from(
    ["", ":x.org", ":*.x.org", ":api.x.org", ":api.x.org:81", ":*.api.x.org", ":localhost", ":10.0.0.1", ":*.org:81"]
)
RULES = st.lists(
    PATHS.map(lambda path: f"file-read:{path}")
    | HOSTS.map(lambda host: f"network{host}")
    | st.sampled_from(["shell", "shell:git", "tool:a*", "tool:ab"]),
    max_size=4,
)
ASKED = PATHS.map(lambda path: ("file-read", path)) | st.sampled_from(
    [
        ("network", f"https://{host}/")
        for host in ("x.org", "api.x.org", "api.x.org:81", "y.api.x.org", "localhost", "10.0.0.1", "evilx.org")
    ]
    + [("shell", "git status"), ("shell", "rm x"), ("tool", "ab"), ("tool", "b")]
)


@given(RULES, RULES, RULES, ASKED)
def test_whatever_is_permitted_below_is_permitted_by_both(own, above, denied, asked):
    def rules(allow, deny=()):
        return SimpleNamespace(allow=tuple(allow), deny=tuple(deny), confirm=(), yes=False, workspace="/")

    class Plain(SimpleNamespace):
        pass

    both = [(one, other) for one in ceiling._read(json.dumps({"allow": own, "deny": [], "yes": False}))[0]
            for other in ceiling._read(ceiling.of(rules(above)))[0]]  # fmt: skip
    kept = [ceiling._text(made) for one, other in both if (made := ceiling._both(one, other)) is not None]
    low = Policy.of(kept, denied, workspace="/")
    if low.check("t", *asked) is None:
        assert Policy.of(own, workspace="/").check("t", *asked) is None
        assert Policy.of(above, denied, workspace="/").check("t", *asked) is None
