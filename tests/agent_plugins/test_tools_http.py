"""http_fetch and web_search against real servers on this machine, which must be named by a grant."""

from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_core.policy import Policy, decide
from agent_core.tool import Context, ToolError
from agent_plugins.tools.http import MAX_BODY, Call, addresses, follow, http_fetch
from agent_plugins.tools.page import html_text
from agent_plugins.tools.search import web_search

PAGE = "<html><head><title>A &amp; B</title><style>x{}</style></head><body><h1>Hi</h1><p>one <b>two</b><script>evil()</script></p></body></html>"


BRAVE = {"web": {"results": [{"title": "T", "url": "u", "description": "a <strong>b</strong>"}, 3]}}
SEARXNG = {"results": [{"title": "S", "url": "u", "content": None}] * 30}
PAGES = {
    "/loop": (302, "text/plain", b"", {"Location": "/loop"}),
    **{f"/{status}": (status, "text/plain", b"", {}) for status in (404, 500, 401)},
    "/big": (200, "text/plain", b"x" * (MAX_BODY + 100_000), {}),
    "/image": (200, "image/png", b"\x89PNG\0", {}),
    "/latin": (200, "text/plain; charset=latin-1", b"caf\xe9", {}),
    "/gzip": (200, "text/plain", b"", {"Content-Encoding": "gzip"}),
    "/res/v1/web/search": (200, "application/json", json.dumps(BRAVE).encode(), {}),
    "/search": (200, "application/json", json.dumps(SEARXNG).encode(), {}),
}


class Site(BaseHTTPRequestHandler):
    """A few pages with a life of their own."""

    def do_GET(self):
        self.server.seen.append((self.command, self.path, dict(self.headers.items()), b""))
        path = self.path.partition("?")[0]
        status, kind, body, more = PAGES.get(path, (200, "text/html; charset=utf-8", PAGE.encode(), {}))
        if path.startswith("/to/"):
            status, more = 302, {"Location": self.path.removeprefix("/to/")}
        self.reply(status, kind, body, more)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append((self.command, self.path, dict(self.headers.items()), body))
        rows = [{"title": "One &amp; two", "link": "https://x.org", "snippet": "S" * 900, "position": 1}]
        self.reply(
            self.server.status, "application/json", self.server.answer or json.dumps({"organic": rows, "credits": 1}).encode()
        )

    def reply(self, status, kind, body, more=None):
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **(more or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        return


@pytest.fixture(scope="module")
def site():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def url(site):
    site.seen, site.status, site.answer = [], 200, b""
    return f"http://127.0.0.1:{site.server_port}"


def context(*allow, **more):
    return Context(Policy.of(allow), **more)


def named(url, **more):
    return context(f"network:{url.partition('://')[2]}", **more)


def failing(call, kind):
    with pytest.raises(ToolError) as caught:
        call()
    assert caught.value.kind == kind
    return str(caught.value)


@contextmanager
def raw(answer):
    """A server that sends `answer` piece by piece (a number: a pause) to whoever connects."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stop = threading.Event()

        def serve():
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                for piece in answer:
                    if stop.is_set():
                        return
                    try:
                        time.sleep(piece) if isinstance(piece, float) else connection.sendall(piece)
                    except OSError:
                        return

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        stop.set()
        thread.join()


def test_a_page_is_fetched_as_text_when_its_host_is_named(url, site):
    assert http_fetch(url, named(url)) == "A & B\nHi\none two"
    headers = site.seen[0][2]
    assert headers["Accept-Encoding"] == "identity"
    assert headers["Host"] == url[7:]


@pytest.mark.parametrize("grants", [(), ("network",), ("network:example.com",), ("network:*.0.0.1",), ("network:127.0.0.1:1",)])
def test_this_machine_is_refused_unless_a_grant_names_it(url, site, grants):
    text = failing(lambda: http_fetch(url, context(*grants)), "denied")

    assert f"--allow network:{url[7:]}" in text
    assert decide(Policy.of(grants), http_fetch, {"url": url}) is not None
    assert site.seen == []


@pytest.mark.parametrize(
    "host",
    ["localhost", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "[::ffff:127.0.0.1]", "[::1]", "0.0.0.0", "0", "127.0.0.1."],  # noqa: S104 - addresses to refuse
)
def test_other_spellings_of_this_machine_are_refused_too(url, site, host):
    port = url.rpartition(":")[2]

    for grants in (("network",), ("network:127.0.0.1",)):
        if (host, grants) != ("127.0.0.1.", ("network:127.0.0.1",)):  # that one is the same name
            failing(lambda grants=grants: http_fetch(f"http://{host}:{port}/", context(*grants)), "denied")
    assert site.seen == []


def test_a_name_that_resolves_to_a_private_address_is_refused_at_the_address():
    import socket as sockets

    name = sockets.gethostname()
    try:
        found = {row[4][0] for row in sockets.getaddrinfo(name, 80, type=sockets.SOCK_STREAM)}
    except OSError:
        pytest.skip("this machine does not know its own name")
    assert found
    assert "private address" in failing(lambda: addresses(context("network"), name, 80), "denied")
    assert addresses(context(f"network:{name}"), name, 80)


@pytest.mark.parametrize(
    "bad",
    [
        "ftp://x.org",
        "file:///etc/passwd",
        "http://user:pw@x.org",
        "http://x.org\\@y",
        "http://",
        "x",
        "http://x y",
        "http://a\r\nb",
        "javascript:1",
        "//x.org",
    ],
)
def test_only_plain_http_addresses_are_taken(bad):
    with pytest.raises(ToolError):
        http_fetch(bad, context("network"))


def test_redirects_are_walked_with_the_same_checks(url, site):
    assert http_fetch(f"{url}/to/{url}/x", named(url)).startswith("A & B")
    assert http_fetch(f"{url}/to//x", named(url)).startswith("A & B")
    assert "redirects" in failing(lambda: http_fetch(f"{url}/loop", named(url)), "permanent")
    port = int(url.rpartition(":")[2])
    for target in (f"http://localhost:{port}/x", "http://169.254.169.254/latest", "file:///etc/passwd", "http://10.0.0.1/"):
        site.seen.clear()
        failing(lambda target=target: http_fetch(f"{url}/to/{target}", context(f"network:127.0.0.1:{port}", "network")), "denied")
        assert len(site.seen) == 1


def test_headers_do_not_travel_with_a_redirect(url, site):
    follow(named(url), Call(f"{url}/to/{url}/x", headers=(("x-key", "secret"),)))

    assert ["x-key" in {name.lower() for name in headers} for _, _, headers, _ in site.seen] == [True, False]


def test_statuses_have_kinds(url):
    failing(lambda: http_fetch(f"{url}/404", named(url)), "not_found")
    failing(lambda: http_fetch(f"{url}/500?key=s3", named(url)), "transient")
    assert "s3" not in failing(lambda: http_fetch(f"{url}/401?key=s3", named(url)), "permanent")


def test_large_binary_encoded_and_foreign_bodies_are_presented(url):
    big = http_fetch(f"{url}/big", named(url))

    assert len(big) < 60_000
    assert "longer than 2 MiB" in big
    assert http_fetch(f"{url}/image", named(url)) == "[image/png, 5 bytes, not text]"
    assert http_fetch(f"{url}/latin", named(url)) == "café"
    assert "not text" in http_fetch(f"{url}/gzip", named(url))


OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ([b"rubbish\r\n\r\n"], "permanent"), ([], "permanent"), ([OK, b"Content-Length: 99\r\n\r\nshort"], "permanent"), ([b"HTTP/1.1 200 OK\r\nA: " + b"x" * 200_000], "permanent"),
        ([OK, b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"], "permanent"), ([OK, *([b"a", 0.05] * 100)], "transient"), ([0.05] * 100, "transient"),
        ([OK + b"Content-Length: 100\r\n\r\n", *([b"a", 0.05] * 90)], "transient"),
    ],
)  # fmt: skip
def test_broken_and_slow_servers_are_tool_errors_in_time(answer, kind):
    with raw(answer) as url:
        began = time.monotonic()
        failing(lambda: http_fetch(url, named(url, deadline=time.monotonic() + 0.6)), kind)
        assert time.monotonic() - began < 1.5


def test_a_closed_port_is_transient():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    failing(lambda: http_fetch(f"http://127.0.0.1:{port}", context(f"network:127.0.0.1:{port}")), "transient")


@settings(max_examples=60, deadline=1000)
@given(st.text(alphabet="<>/!-&;#ab\"' =[]?", max_size=300))
def test_any_page_becomes_text(page):
    assert "\n\n" not in html_text(page)


@pytest.mark.parametrize(
    "piece", ["<", "<a ", "<!--", "</", "<a b='", "&#", "<![x", "<?", "<script>", "</script ", "<!DOCTYPE ", "<div>"]
)
def test_a_hostile_page_costs_linear_time(piece):
    began = time.monotonic()

    html_text(piece * (2_000_000 // len(piece)))

    assert time.monotonic() - began < 8


def search_context(url, **environ):
    return named(
        url, environ=environ, settings={"search": {"serper_url": url, "brave_url": url, "searxng_url": ""}}, tool=web_search
    )


def test_serper_is_asked_as_it_wants_and_trimmed(url, site):
    rows = web_search("unix pipes", search_context(url, SERPER_API_KEY="k1"))

    assert rows == [{"title": "One & two", "link": "https://x.org", "snippet": "S" * 500}]
    method, path, headers, body = site.seen[0]
    assert (method, path, headers["X-API-KEY"]) == ("POST", "/search", "k1")
    assert json.loads(body)["q"] == "unix pipes"


def test_brave_and_searxng_are_asked_when_they_are_set_up(url, site):
    assert web_search("a b", search_context(url, BRAVE_API_KEY="k2")) == [{"title": "T", "link": "u", "snippet": "a b"}]
    assert (site.seen[0][1], site.seen[0][2]["X-Subscription-Token"]) == ("/res/v1/web/search?q=a+b&count=5", "k2")
    found = web_search("a", named(url, environ={"SEARXNG_URL": url}, tool=web_search), count=100)
    assert (len(found), found[0]) == (20, {"title": "S", "link": "u", "snippet": ""})
    assert site.seen[1][1] == "/search?q=a&format=json"


def test_without_a_key_only_this_tool_is_off(url):
    text = failing(lambda: web_search("x", search_context(url)), "permanent")
    assert text == "web_search is off: set SERPER_API_KEY or BRAVE_API_KEY or SEARXNG_URL"
    other = named(url, environ={"SERPER_API_KEY": "k"}, settings={"search": {"engine": "brave"}}, tool=web_search)
    assert failing(lambda: web_search("x", other), "permanent") == "web_search is off: set BRAVE_API_KEY"


def test_a_search_needs_a_grant_for_its_service():
    bare = context(environ={"SERPER_API_KEY": "k"}, tool=web_search)

    assert decide(bare.policy, web_search, {"query": "x"}).rule == "--allow network"
    assert "--allow network:google.serper.dev" in failing(lambda: web_search("x", bare), "denied")


@pytest.mark.parametrize(
    ("status", "answer", "kind"),
    [(403, b"", "permanent"), (429, b"", "transient"), (500, b"{}", "transient"), (200, b"<html>", "transient")],
)
def test_a_service_that_fails_is_a_tool_error_without_the_key(url, site, status, answer, kind):
    site.status, site.answer = status, answer or b"no"

    assert "k-secret" not in failing(lambda: web_search("x", search_context(url, SERPER_API_KEY="k-secret")), kind)


@pytest.mark.parametrize("answer", [b"{}", b"[]", b'{"organic": 3}', b'{"organic": [1, null, {"title": 5}]}', b"null"])
def test_odd_results_are_left_out(url, site, answer):
    site.answer = answer

    found = web_search("x", search_context(url, SERPER_API_KEY="k"))

    assert all(set(row.values()) == {""} for row in found)
