"""Both trampolines against a real server that misbehaves: the same outcome, in time."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from agent_core import connections, drive
from agent_core.effects import Ask
from agent_core.errors import AuthError, BadReply, CallTimeout, ConfigError, DeadlineError, RateLimited, ServerError, TransportError
from agent_core.messages import user
from agent_core.ops import Completed, Http, Invoke, Sleep, Spawn
from agent_core.provider import Provider, Request
from agent_providers.openai_chat import codec


def sync(program):
    return drive.run(program, lambda event: None)


def through_asyncio(program):
    async def main():
        try:
            return await drive.arun(program, lambda event: None)
        finally:
            connections.close()

    return asyncio.run(main())


both = pytest.mark.parametrize("run", [sync, through_asyncio])


def ask(api, *, deadline=None, stream=False, limit=1 << 20):
    provider = Provider("openai", "m", codec, f"{api.url}/v1", "key")
    deltas = []

    def program():
        request = codec.encode(Ask([user("hi")]), provider, stream=stream)
        decoder = codec.decoder(provider) if stream else None
        answer = yield Http(request, deadline, decoder, deltas.append, limit)
        return answer if stream else codec.decode(answer, provider)

    return program(), deltas


@both
def test_an_answer_arrives_whole(fake_api, run):
    fake_api.script("hello")

    assert run(ask(fake_api)[0]).text == "hello"


@both
def test_a_streamed_answer_arrives_in_pieces_and_whole(fake_api, run):
    fake_api.script("hello there you")
    program, deltas = ask(fake_api, stream=True)

    assert run(program).text == "hello there you"
    assert "".join(delta.text for delta in deltas) == "hello there you"


@both
@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("401", AuthError),
        ("429:1", RateLimited),
        ("500", ServerError),
        ("cut-json", BadReply),
        ("html", BadReply),
        ("reset", TransportError),
        ("huge", BadReply),
    ],
)
def test_a_fault_has_the_same_kind_in_both(fake_api, run, fault, kind):
    fake_api.fault(fault)

    with pytest.raises(kind):
        run(ask(fake_api)[0])


@both
@pytest.mark.parametrize("fault", ["hang", "drip:50"])
def test_neither_silence_nor_a_slow_drip_beats_the_deadline(fake_api, run, fault):
    fake_api.fault(fault)
    began = time.monotonic()

    with pytest.raises(CallTimeout):
        run(ask(fake_api, deadline=began + 0.5)[0])
    assert time.monotonic() - began < 2


@both
def test_a_server_that_is_not_there_is_a_transport_error(fake_api, run):
    class Gone:
        url = "http://127.0.0.1:9"

    with pytest.raises(TransportError):
        run(ask(Gone)[0])


@both
def test_many_requests_share_connections(fake_api, run):
    fake_api.script(*["x"] * 5, {"loop": True})

    def program():
        texts = []
        for _ in range(5):
            texts.append((yield from ask(fake_api)[0]).text)  # noqa: PERF401 - a generator cannot yield inside a comprehension
        return texts

    assert run(program()) == ["x"] * 5


def test_a_program_that_only_computes_is_stopped_soon_after_the_deadline():
    ended = []

    def stubborn():
        try:
            while True:
                try:
                    sum(range(1000))
                except Exception:  # noqa: BLE001, S112 - as careless code does
                    continue
        finally:
            ended.append("cleaned up")
        yield

    began = time.monotonic()
    with pytest.raises(DeadlineError):
        drive.run(stubborn(), lambda event: None, began + 0.1)

    assert 0.1 < time.monotonic() - began < 0.1 + drive.WRAP_UP + 2
    assert ended == ["cleaned up"]
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_program_may_come_to_its_end_after_the_deadline():
    def late():
        yield Sleep(0.15)
        return "partial"

    assert drive.run(late(), lambda event: None, time.monotonic() + 0.05) == "partial"


def test_off_the_main_thread_a_program_runs_all_the_same(fake_api):
    fake_api.script("from a thread")
    box = []
    thread = threading.Thread(target=lambda: box.append(sync(ask(fake_api)[0]).text))
    thread.start()
    thread.join(20)

    assert box == ["from a thread"]


@both
def test_a_program_is_started_by_argument_list_and_its_output_is_kept(run):
    def program():
        return (yield Spawn(["cat", "-"], b"x; echo $HOME\n"))

    assert run(program()) == Completed(0, b"x; echo $HOME\n", b"")


@both
def test_a_program_that_overruns_is_killed_with_its_children(run, tmp_path):
    mark = tmp_path / "late"

    def program():
        return (yield Spawn(["sh", "-c", f"(sleep 1; touch {mark}) & echo begun; sleep 30"], deadline=time.monotonic() + 0.5))

    began = time.monotonic()
    done = run(program())
    assert (done.stopped, done.stdout) == ("timeout", b"begun\n")
    assert time.monotonic() - began < 5
    time.sleep(1.2)
    assert not mark.exists()


def fetch(url, headers=()):
    return (yield Http(Request("GET", url, headers, b"")))


def served_once(server, seen):
    connection, _ = server.accept()
    with connection:
        seen.append(connection.recv(65536).decode("latin-1"))
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Kind: plain\r\n\r\nok")


@pytest.mark.parametrize(
    ("path", "target"), [("/a?b=1&c=%20", "/a?b=1&c=%20"), ("/prix/é à?x=ü#part", "/prix/%C3%A9%20%C3%A0?x=%C3%BC"), ("", "/")]
)
def test_an_address_is_sent_as_it_is_or_escaped(path, target):
    seen = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=served_once, args=(server, seen), daemon=True).start()
        port = server.getsockname()[1]
        answer = sync(fetch(f"http://127.0.0.1:{port}{path}"))
    line, *headers = seen[0].split("\r\n")

    assert line == f"GET {target} HTTP/1.1"
    assert {f"host: 127.0.0.1:{port}", "accept-encoding: identity"} <= set(headers)
    assert not [header for header in headers if header.startswith("content-length")]
    assert (answer.status, answer.headers["x-kind"], answer.body) == (200, "plain", b"ok")


@pytest.mark.parametrize(
    ("url", "headers"), [("http://127.0.0.1:1\n/", ()), ("http://127.0.0.1:99999/", ()), ("http://127.0.0.1:1/", (("x", "é"),))]
)
def test_what_cannot_be_sent_is_a_configuration_error(url, headers):
    with pytest.raises(ConfigError, match="not usable"):
        sync(fetch(url, headers))


def serve(server, peers):
    def talk(connection):
        with connection:
            while connection.recv(65536):
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    while True:
        try:
            connection, peer = server.accept()
        except OSError:
            return
        peers.append(peer)
        threading.Thread(target=talk, args=(connection,), daemon=True).start()


def test_a_loop_that_ends_leaves_the_connections_of_another_thread_alone():
    peers = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, args=(server, peers), daemon=True).start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"

        async def main():
            try:
                await drive.arun(fetch(url), lambda event: None)
                await asyncio.to_thread(through_asyncio, fetch(url))
                return await drive.arun(fetch(url), lambda event: None)
            finally:
                connections.close()

        assert asyncio.run(main()).body == b"ok"
        server.shutdown(socket.SHUT_RDWR)
    assert len(peers) == 2


def test_the_time_of_a_tool_that_runs_an_agent_itself_goes_on_after_it():
    def inner():
        return (yield Invoke(int, {}, time.monotonic() + 5))

    def work():
        drive.run(inner(), lambda _event: None)
        end = time.monotonic() + 3
        while time.monotonic() < end:
            pass

    def outer():
        return (yield Invoke(work, {}, time.monotonic() + 0.3))

    with pytest.raises(TimeoutError):
        drive.run(outer(), lambda _event: None)


def test_a_first_signal_while_programs_are_waited_for_at_the_end_leaves_none_of_them():
    code = """
import subprocess
from agent_core import cli, processes
words = ["/bin/sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.1; done"]
child = subprocess.Popen(words, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
child.stdout.readline()
processes._live[child.pid] = processes._Live("m" * 16, 20.0)
cli._signals(cli.Out("x", "1"))
print(child.pid, flush=True)
cli._leave(6, at_once=True)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        child = int(process.stdout.readline())
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        try:
            status = process.wait(5)
        finally:
            alive = (
                Path(f"/proc/{child}/stat").exists()
                and Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
            )
            if alive:
                os.killpg(child, signal.SIGKILL)

    assert (status, alive) == (-signal.SIGINT, False)
