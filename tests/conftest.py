"""conftest - what every test gets: a clean environment, sockets that stay on this machine, a fake API, agents as processes."""

from __future__ import annotations

import http.client
import ipaddress
import json
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

VENDOR = re.compile(
    r"""AGENT_.* | LLM_.* | .*_API_(KEY|BASE|URL) | .*_BASE_URL | .*_MODEL | AWS_.* | AZURE_OPENAI_.* | OLLAMA_.* | OPENAI_.*
        | (ANTHROPIC|GOOGLE|GEMINI|COHERE|CO|GROQ|MISTRAL|OPENROUTER|TOGETHER|SERPER|BRAVE|SEARXNG)_.* | .*_PROXY | NO_COLOR
        | FORCE_COLOR | CREDENTIALS_DIRECTORY | DBUS_.* | NOTIFY_SOCKET | LISTEN_.* | TRACEPARENT | OTEL_.* | XDG_.*""",
    re.VERBOSE | re.IGNORECASE,
)
FOLDERS = {
    "XDG_CONFIG_HOME": ".config",
    "XDG_DATA_HOME": ".local/share",
    "XDG_STATE_HOME": ".local/state",
    "XDG_CACHE_HOME": ".cache",
}


# --- sockets


def _loopback(host: Any) -> bool:
    if host in ("", None, "localhost", b"localhost"):
        return True
    try:
        return ipaddress.ip_address(host.decode() if isinstance(host, bytes) else str(host)).is_loopback
    except ValueError:
        return False


def _stay_here(event: str, args: tuple[Any, ...]) -> None:
    """Audit hook: no test may reach another machine, whatever library it uses."""
    if event in ("socket.connect", "socket.sendto"):
        address = args[1]
        if isinstance(address, tuple) and not _loopback(address[0]):
            raise RuntimeError(f"a test wanted to reach {address[0]}; tests stay on this machine")


sys.addaudithook(_stay_here)


# --- environment


@pytest.fixture(autouse=True)
def clean_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the test a home of its own and none of the outside's settings and keys. Returns the home."""
    for name in [name for name in os.environ if VENDOR.fullmatch(name)]:  # noqa: TID251 - to clean it, it must be read
        monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("AGENT_ASK", "never")  # a test must not ask the person who runs it
    for name, folder in FOLDERS.items():
        monkeypatch.setenv(name, str(home / folder))
    return home


# --- the fake API


@dataclass(frozen=True)
class FakeApi:
    """A running `scripts/fake-api`."""

    url: str
    process: subprocess.Popen[str]

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.url.rpartition(":")[2])

    def call(self, method: str, path: str, body: str = "") -> Any:
        """Send a request to a control endpoint and return its JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, body.encode())
            response = connection.getresponse()
            data = json.loads(response.read())
        finally:
            connection.close()
        assert response.status == 200, data
        return data

    def script(self, *lines: Any) -> None:
        """Set the replies: text, or a dict as in a script's line."""
        self.call("POST", "/_script", "\n".join(json.dumps(line) for line in lines))

    def fault(self, spec: str) -> None:
        """Set the fault that every request meets: `NAME[:ARG][*TIMES]`, "" for none."""
        self.call("POST", "/_fault", spec)

    def requests(self) -> list[dict[str, Any]]:
        """Return what was sent since the last reset: method, path, query, headers, body."""
        found: list[dict[str, Any]] = self.call("GET", "/_requests")
        return found

    def reset(self) -> None:
        """Forget script, fault and requests."""
        self.call("POST", "/_reset")

    def env(self, key: str = "test-key") -> dict[str, str]:
        """Return the environment that points every vendor's client here."""
        names = ("OPENAI", "ANTHROPIC", "GEMINI", "COHERE", "GROQ", "TOGETHER", "OPENROUTER", "MISTRAL", "AZURE_OPENAI")
        return {
            **{f"{name}_API_KEY": key for name in names},
            **{f"{name}_BASE_URL": f"{self.url}/v1" for name in ("OPENAI", "GROQ", "TOGETHER", "OPENROUTER", "MISTRAL")},
            **{f"{name}_BASE_URL": self.url for name in ("ANTHROPIC", "GEMINI", "COHERE")},
            "AZURE_OPENAI_ENDPOINT": self.url, "OLLAMA_HOST": self.url, "AWS_BEARER_TOKEN_BEDROCK": key, "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": self.url,
        }  # fmt: skip


def _start(*args: str) -> FakeApi:
    program = [sys.executable, str(ROOT / "scripts" / "fake-api"), *args]
    process = subprocess.Popen(program, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("listening on http://127.0.0.1:"), line
    return FakeApi(line.split()[-1], process)


def _stop(api: FakeApi) -> None:
    api.process.terminate()
    api.process.wait(10)
    if api.process.stdout:
        api.process.stdout.close()


@pytest.fixture(scope="session")
def _fake_api_process() -> Iterator[FakeApi]:
    api = _start()
    yield api
    _stop(api)


@pytest.fixture
def fake_api(_fake_api_process: FakeApi) -> FakeApi:
    """Give a fake API as it is after its start (one process serves the whole session)."""
    _fake_api_process.reset()
    return _fake_api_process


@pytest.fixture
def start_fake_api() -> Iterator[Callable[..., FakeApi]]:
    """Give a function that starts a fake API of the test's own, with command line arguments."""
    started: list[FakeApi] = []

    def start(*args: str) -> FakeApi:
        started.append(_start(*args))
        return started[-1]

    yield start
    for api in started:
        _stop(api)


# --- agents


@pytest.fixture
def run_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Give a function that runs `python -m agents.NAME ARGS` in `tmp_path` and returns the finished process."""

    def run(
        name: str,
        *args: str,
        stdin: str | bytes | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        timeout: float = 60,
    ) -> subprocess.CompletedProcess[str]:
        program = [sys.executable, "-m", f"agents.{name.replace('-', '_')}", *args]
        given = stdin.encode("utf-8", "surrogateescape") if isinstance(stdin, str) else stdin
        feed: dict[str, Any] = {"stdin": subprocess.DEVNULL} if given is None else {"input": given}
        with monkeypatch.context() as inner:
            inner.setenv("PYTHONPATH", str(ROOT))
            for key, value in (env or {}).items():
                inner.setenv(key, value)
            done: subprocess.CompletedProcess[bytes]
            done = subprocess.run(program, capture_output=True, cwd=cwd or tmp_path, timeout=timeout, check=False, **feed)
        out, err = (stream.decode("utf-8", "surrogateescape") for stream in (done.stdout, done.stderr))
        return subprocess.CompletedProcess(program, done.returncode, out, err)

    return run


def wait_until(true: Callable[[], bool], seconds: float = 5.0) -> bool:
    """Return whether `true()` becomes true in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.01)
    return true()
