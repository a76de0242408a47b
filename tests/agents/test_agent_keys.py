"""Tests of agent-keys: every source of keys with real files, commands and a real keyring, what is never shown, and encryption."""

from __future__ import annotations

import http.server
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from agent_core import database
from agents import agent_keys

ROOT = Path(__file__).resolve().parents[2]
KEY = "Zq7-made-up-value-93xKpL"
MARKER = "zebrafinch"
BACKEND = """
import json, os
from keyring.backend import KeyringBackend
class Keyring(KeyringBackend):
    priority = 1
    file = os.environ["RING_FILE"]
    def _all(self):
        return json.load(open(self.file)) if os.path.exists(self.file) else {}
    def get_password(self, service, name):
        return self._all().get(f"{service}/{name}")
    def set_password(self, service, name, value):
        json.dump({**self._all(), f"{service}/{name}": value}, open(self.file, "w"))
    def delete_password(self, service, name):
        json.dump({each: value for each, value in self._all().items() if each != f"{service}/{name}"}, open(self.file, "w"))
"""


@pytest.fixture
def keys(run_agent):
    return lambda *args, **more: run_agent("agent-keys", *args, **more)


@pytest.fixture
def home(clean_environment):
    return clean_environment


@pytest.fixture
def config(home):
    folder = home / ".config" / "agents"
    folder.mkdir(parents=True, mode=0o700)
    return folder


@pytest.fixture
def ring(tmp_path):
    """Give the environment in which the keyring library keeps its passwords in a file of ours."""
    pytest.importorskip("keyring")
    folder = tmp_path / "backend"
    folder.mkdir()
    (folder / "filering.py").write_text(BACKEND)
    return {
        "PYTHONPATH": f"{ROOT}:{folder}", "PYTHON_KEYRING_BACKEND": "filering.Keyring", "RING_FILE": str(folder / "ring.json"),
    }  # fmt: skip


def put_in(place, config, tmp_path, ring, value, name="OPENAI_API_KEY"):
    """Put a key into one of the places; return the environment that belongs to it."""
    match place:
        case "environment":
            return {name: value}
        case "key command":
            (config / "config.toml").write_text(
                f'key_command = ["sh", "-c", "test $0 = {name} && cat {tmp_path}/pass", "{{name}}"]\n'
            )
            (tmp_path / "pass").write_text(f"{value}\n")
            return {}
        case "keyring":
            Path(ring["RING_FILE"]).write_text(json.dumps({f"agents/{name}": value}))
            return ring
        case "credential":
            (tmp_path / "credentials").mkdir()
            (tmp_path / "credentials" / name).write_text(f"{value}\n")
            return {"CREDENTIALS_DIRECTORY": str(tmp_path / "credentials")}
    (config / "keys.toml").write_text(f'{name} = "{value}"\n')
    (config / "keys.toml").chmod(0o600)
    return {}


PLACES = ("environment", "key command", "keyring", "credential", "key file")


# --- where keys come from


def test_the_order_of_the_places_is_that_of_the_contract(keys, config, tmp_path, ring):
    env = {}
    for place in PLACES:
        env |= put_in(place, config, tmp_path, ring, f"value-from-{place.replace(' ', '-')}")
    assert keys("get", "openai", "--reveal", env=env).stdout.strip() == "value-from-environment"
    left = list(PLACES)
    while left:
        row = json.loads(keys("check", "openai", "--json", env=env).stdout)["data"]["structuredContent"][0]
        assert row["source"] == left[0]
        match left.pop(0):
            case "environment":
                del env["OPENAI_API_KEY"]
            case "key command":
                (config / "config.toml").unlink()
            case "keyring":
                Path(ring["RING_FILE"]).unlink()
            case "credential":
                del env["CREDENTIALS_DIRECTORY"]
            case _:
                (config / "keys.toml").unlink()
    assert keys("get", "openai", "--reveal", env=env).returncode == 78


def test_a_keyring_without_a_desktop_is_no_error(keys, config, tmp_path):
    put_in("key file", config, tmp_path, {}, KEY)
    found = keys("check", "openai", env={"DBUS_SESSION_BUS_ADDRESS": "unix:path=/nowhere"})

    assert (found.returncode, found.stdout, found.stderr) == (0, "openai  OPENAI_API_KEY from the key file\n", "")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_key_file_that_others_may_read_stops_everything_that_needs_it(keys, config, tmp_path, mode):
    put_in("key file", config, tmp_path, {}, KEY)
    (config / "keys.toml").chmod(mode)
    for found in (keys("get", "openai", "--reveal"), keys("set", "groq", stdin="another-key-9")):
        assert (found.returncode, found.stdout) == (78, "")
        assert "chmod 600" in found.stderr
        assert KEY not in found.stderr


def test_a_folder_in_which_others_may_exchange_the_key_file_is_refused(keys, config, tmp_path):
    put_in("key file", config, tmp_path, {}, KEY)
    config.chmod(0o777)
    found = keys("get", "openai", "--reveal")

    assert found.returncode == 78
    assert "written by others" in found.stderr


def test_a_credential_that_is_no_text_is_an_error_and_no_traceback(keys, tmp_path):
    (tmp_path / "OPENAI_API_KEY").write_bytes(b"\xff\xfe\0")
    found = keys("check", "openai", env={"CREDENTIALS_DIRECTORY": str(tmp_path)})

    assert found.returncode == 78
    assert "not UTF-8" in found.stderr


# --- set, get, list, rm


def test_set_keeps_a_key_privately_and_nothing_but_get_shows_it(keys, home):
    done = keys("set", "openai", stdin=f"{KEY}\n")
    file = home / ".config" / "agents" / "keys.toml"

    assert done.returncode == 0
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    shown = [keys("list"), keys("list", "--json"), keys("check"), keys("path"), keys("--show-config"), keys("get", "openai"), done]
    assert all(KEY not in each.stdout + each.stderr for each in shown)
    assert shown[0].stdout == "OPENAI_API_KEY  ********  key file\n"
    assert shown[5].returncode == 2
    assert keys("get", "openai", "--reveal").stdout == f"{KEY}\n"
    assert json.loads(keys("get", "openai", "--reveal", "--json").stdout)["data"]["structuredContent"]["value"] == KEY


def test_other_keys_of_the_file_stay_and_no_litter(keys, config, tmp_path):
    put_in("key file", config, tmp_path, {}, KEY, "GROQ_API_KEY")
    keys("set", "OPENAI_API_KEY", stdin="one-more-key")
    keys("set", "openai", stdin="its-successor")
    assert keys("get", "groq", "--reveal").stdout.strip() == KEY
    assert keys("get", "openai", "--reveal").stdout.strip() == "its-successor"
    assert keys("rm", "openai").returncode == 0
    again = keys("rm", "openai")

    assert again.returncode == 2
    assert sorted(file.name for file in config.iterdir()) == ["keys.toml", "keys.toml.lock"]
    assert (config / "keys.toml").read_text() == f'GROQ_API_KEY = "{KEY}"\n'


def test_sets_at_once_are_all_kept(home, tmp_path):
    (tmp_path / "value").write_text("made-up-value")
    names = [f"NUMBER_{number}_KEY" for number in range(16)]
    children = []
    for name in names:
        child = os.fork()
        if not child:
            os.dup2(os.open(tmp_path / "value", os.O_RDONLY), 0)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            status = 1
            try:
                agent_keys.main(["set", name])
            except SystemExit as end:
                status = end.code
            os._exit(status)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * len(names)

    text = (home / ".config" / "agents" / "keys.toml").read_text()
    assert all(f"{name} = " in text for name in names)


@pytest.mark.parametrize(
    ("words", "stdin", "status", "says"),
    [
        (("opnai",), "x", 2, "did you mean openai"),
        (("EDITOR",), "x", 2, "no name of a secret"),
        (("openai",), None, 66, "no key for OPENAI_API_KEY"),
        (("openai",), "\n", 66, "no key for OPENAI_API_KEY"),
        (("openai",), "two\nlines", 65, "one line"),
        (("openai",), "esc\x1b[2J", 65, "one line"),
        (("openai",), "x" * 70_000, 65, "one line"),
        (("ENCRYPTION_KEY",), "x", 78, "32 bytes"),
        (("openai", KEY), "x", 2, "never an argument"),
        ((KEY,), "x", 2, "never an argument"),
        ((), "x", 2, "needs NAME"),
    ],
)
def test_what_cannot_be_kept_is_refused_and_nothing_is_written(keys, home, words, stdin, status, says):
    done = keys("set", *words, stdin=stdin)

    assert (done.returncode, done.stdout) == (status, "")
    assert says in done.stderr
    assert KEY not in done.stderr
    assert not (home / ".config" / "agents" / "keys.toml").exists()


def test_a_key_is_asked_for_on_the_terminal_and_not_shown_there(home):
    pid, terminal = pty.fork()
    if not pid:
        os.environ["PYTHONPATH"] = str(ROOT)  # noqa: TID251 - of the child
        os.execv(sys.executable, [sys.executable, "-m", "agents.agent_keys", "set", "openai"])  # noqa: S606
    shown = b""
    sent = False
    end = time.monotonic() + 20
    while time.monotonic() < end:
        ready, _, _ = select.select([terminal], [], [], 0.1)
        try:
            shown += os.read(terminal, 4096) if ready else b""
        except OSError:
            break
        if b"OPENAI_API_KEY: " in shown and not sent:
            sent = True
            os.write(terminal, f"{KEY}\n".encode())
    assert os.waitpid(pid, 0)[1] == 0
    os.close(terminal)

    assert sent
    assert KEY.encode() not in shown
    assert KEY in (home / ".config" / "agents" / "keys.toml").read_text()


def test_the_keyring_takes_a_key_gives_it_and_forgets_it(keys, ring, home):
    done = keys("set", "openai", "--to", "keyring", stdin=KEY, env=ring)

    assert done.returncode == 0
    assert KEY not in done.stdout + done.stderr
    assert not (home / ".config" / "agents" / "keys.toml").exists()
    assert keys("list", env=ring).stdout == "OPENAI_API_KEY  ********  keyring\n"
    assert keys("get", "openai", "--reveal", env=ring).stdout.strip() == KEY
    assert keys("rm", "openai", env=ring).returncode == 0
    assert keys("check", "openai", env=ring).returncode == 3


def test_a_key_that_another_one_hides_is_said_to_be_hidden(keys):
    done = keys("set", "openai", stdin=KEY, env={"OPENAI_API_KEY": "from-the-environment"})

    assert "environment comes first" in done.stderr
    assert "environment (also: key file)" in keys("list", env={"OPENAI_API_KEY": "from-the-environment"}).stdout


# --- check --live


@pytest.mark.parametrize("vendor", ["openai", "openai-responses", "anthropic", "gemini", "groq", "cohere"])
def test_live_asks_the_service_for_its_models_with_the_vendors_own_headers(keys, fake_api, vendor):
    done = keys("check", vendor, "--live", env=fake_api.env(KEY))

    assert done.returncode == 0, done.stderr
    assert re.search(rf"^{vendor}  \w+_API_KEY from the environment, accepted \([1-9]\d* models\)$", done.stdout)
    (sent,) = fake_api.requests()
    assert sent["method"] == "GET"
    assert any(KEY in str(value) for _, value in dict(sent["headers"]).items())


class Refusing(http.server.BaseHTTPRequestHandler):
    """Refuses everything, and repeats the key as some services do."""

    def do_GET(self):
        body = json.dumps(
            {"error": {"message": f"Incorrect API key: {self.headers['authorization']}", "type": "invalid_request_error"}}
        )
        self.send_response(401)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *words):
        pass


def test_a_rejected_key_ends_with_77_and_is_not_repeated(keys):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        env = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": f"http://127.0.0.1:{server.server_port}/v1"}
        done = keys("check", "openai", "--live", env=env)
        server.shutdown()

    assert (done.returncode, done.stdout) == (77, "")
    assert KEY not in done.stderr


# --- nothing shows a key


EVERYTHING = ((), ("--json",), ("--jsonl",), ("-v", "--stream"), ("--show-config",), ("--dry-run",), ("--show-prompt",))


@pytest.mark.parametrize("place", PLACES)
def test_a_key_from_anywhere_is_in_no_output_and_no_file(place, run_agent, config, tmp_path, ring, fake_api):
    env = put_in(place, config, tmp_path, ring, KEY)
    kept = {file for file in tmp_path.rglob("*") if file.is_file() and KEY.encode() in file.read_bytes()}
    env |= {"OPENAI_BASE_URL": f"{fake_api.url}/v1", "AGENT_PROVIDER": "openai"}
    fake_api.script(*[{"content": f"it is {KEY}, backwards {KEY[::-1]}, in hex {KEY.encode().hex()}", "model": KEY}] * 12)
    flags = EVERYTHING if place == "environment" else (("-v", "--json"), ("--dry-run",))
    outputs = [run_agent("assistant", f"say {KEY}", *each, env=env) for each in flags]
    assert all(each.returncode == 0 for each in outputs), outputs
    fake_api.fault("echo-key")
    outputs.append(run_agent("assistant", KEY, "--debug", "--json", env=env))
    assert outputs[-1].returncode == 77
    outputs += [run_agent("agent-log", *words, env=env) for words in (("export", "last"), ("list",))]
    outputs.append(run_agent("agent-keys", "list", env=env))

    assert any(KEY in str(each["headers"]) for each in fake_api.requests())
    for each in outputs:
        for form in (KEY, KEY[::-1], KEY.encode().hex()):
            assert form not in each.stdout + each.stderr, each.args
    for file in tmp_path.rglob("*"):
        if file.is_file() and file not in kept:
            assert not any(form in file.read_bytes() for form in (KEY.encode(), KEY.encode().hex().encode())), file


# --- encryption


def files_with(folder, word):
    return [file.name for file in folder.rglob("*") if file.is_file() and word.encode() in file.read_bytes()]


def test_encrypt_rotate_and_off_keep_every_run(keys, run_agent, home):
    for number in range(3):
        run_agent("assistant", "--provider", "offline", f"{MARKER} {number}")
    before = run_agent("agent-log", "export", "last").stdout
    data = home / ".local" / "share" / "agents"
    assert files_with(data, MARKER)
    on = keys("encrypt", "on")
    assert re.fullmatch(r"encrypted \d+ records, key 1 active\n", on.stdout)
    assert files_with(home, MARKER) == []
    run_agent("assistant", "--provider", "offline", f"{MARKER} later")
    assert files_with(home, MARKER) == []
    assert re.fullmatch(r"re-encrypted \d+ records, key 2 active\n", keys("rotate").stdout)
    ring = (home / ".config" / "agents" / "keyring.toml").read_text()
    assert ring.count("retired") == 1
    status = json.loads(keys("encrypt", "status", "--json").stdout)["data"]["structuredContent"]
    assert (status["state"], status["clear"], status["number"], len(status["keys"])) == ("on", 0, 2, 1)
    assert [line.split()[-1] for line in run_agent("agent-log", "list").stdout.splitlines()[1:]] == ["later", "2", "1", "0"]
    keys("rotate", "--forget")
    assert (home / ".config" / "agents" / "keyring.toml").read_text().count("secret") == 1
    off = keys("encrypt", "off")
    assert "in the clear" in off.stdout

    (home / ".config" / "agents" / "keyring.toml").unlink()
    runs = [line.split()[0] for line in run_agent("agent-log", "list").stdout.splitlines()[1:]]
    assert run_agent("agent-log", "export", runs[1]).stdout == before


@pytest.mark.parametrize("algorithm", ["aes-256-gcm", "chacha20-poly1305"])
def test_both_algorithms_serve(keys, run_agent, algorithm):
    run_agent("assistant", "--provider", "offline", MARKER)
    keys("encrypt", "on", "--algorithm", algorithm)

    assert algorithm in keys("encrypt", "status").stdout
    assert MARKER in run_agent("agent-log", "list").stdout


def test_an_agent_without_the_key_answers_and_says_it_is_not_recorded_and_the_log_ends_with_78(keys, run_agent, home):
    run_agent("assistant", "--provider", "offline", MARKER)
    keys("encrypt", "on")
    ring = home / ".config" / "agents" / "keyring.toml"
    ring.rename(home / "kept")
    database_file = home / ".local" / "share" / "agents" / "agents.db"
    before = database_file.read_bytes()

    told = run_agent("assistant", "--provider", "offline", MARKER)
    assert (told.returncode, bool(told.stdout)) == (0, True)
    assert "the run is not recorded" in told.stderr
    assert "encrypted" in told.stderr
    for done in (
        run_agent("agent-log", "list"),
        keys("rotate"),
        keys("encrypt", "off"),
        keys("encrypt", "on"),
        keys("export-key", "--reveal"),
    ):
        assert (done.returncode, done.stdout) == (78, "")
    assert not ring.exists()
    assert database_file.read_bytes() == before
    (home / "kept").rename(ring)
    assert MARKER in run_agent("agent-log", "list").stdout


def test_a_wrong_encryption_key_ends_with_78_and_touches_nothing(keys, run_agent, home):
    good, wrong = (os.urandom(32).hex() for _ in range(2))
    run_agent("assistant", "--provider", "offline", MARKER, env={"ENCRYPTION_KEY": good})
    assert files_with(home, MARKER) == []
    log = [run_agent("agent-log", "list", env={"ENCRYPTION_KEY": value}) for value in (good, wrong, "not a key")]
    assert [each.returncode for each in log] == [0, 78, 78]
    assert run_agent("assistant", "--provider", "offline", "x", env={"ENCRYPTION_KEY": "not a key"}).returncode == 78

    same = keys("rotate", env={"ENCRYPTION_KEY": good})
    assert (same.returncode, "ENCRYPTION_KEY_OLD" in same.stderr) == (2, True)
    done = keys("rotate", env={"ENCRYPTION_KEY": wrong, "ENCRYPTION_KEY_OLD": good})
    assert done.returncode == 0
    assert MARKER in run_agent("agent-log", "list", env={"ENCRYPTION_KEY": wrong}).stdout
    assert good not in "".join(each.stdout + each.stderr for each in (*log, same, done))


def test_an_exported_key_opens_the_store_anywhere(keys, run_agent, home):
    run_agent("assistant", "--provider", "offline", MARKER)
    keys("encrypt", "on")
    assert keys("export-key").returncode == 2
    key = keys("export-key", "--reveal").stdout.strip()
    (home / ".config" / "agents" / "keyring.toml").unlink()

    assert MARKER in run_agent("agent-log", "list", env={"ENCRYPTION_KEY": key}).stdout


def test_a_replayed_and_a_resumed_run_are_the_same_when_encrypted(keys, run_agent, tmp_path):
    (tmp_path / "s.jsonl").write_text('{"tool_calls": [{"name": "calc", "arguments": {"expression": "6*7"}}]}\n"it is 42"\n')
    run_agent("assistant", "6*7?", "--provider", "scripted", "--script", "s.jsonl")
    keys("encrypt", "on")
    for flag in ("--replay", "--resume"):
        again = run_agent("assistant", flag, "last", "--no-stdin")
        assert (again.returncode, again.stdout) == (0, "it is 42\n"), again.stderr

    assert files_with(tmp_path / "home", "it is 42") == []


@pytest.mark.slow
def test_the_real_rotation_killed_again_and_again_ends_with_every_row_readable(keys, run_agent, home):
    for number in range(3):
        run_agent("assistant", "--provider", "offline", f"{MARKER} {number}")
    keys("encrypt", "on")
    program = [sys.executable, "-m", "agents.agent_keys", "rotate"]
    for turn in range(8):
        child = subprocess.Popen(program, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.1 + turn * 0.012)
        child.send_signal(signal.SIGKILL)
        child.wait()
    two = [subprocess.Popen(program, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    assert all(each.wait() == 0 for each in two), [each.communicate() for each in two]
    for each in two:
        each.communicate()

    status = json.loads(keys("encrypt", "status", "--json").stdout)["data"]["structuredContent"]
    assert (status["state"], status["clear"], len(status["keys"])) == ("on", 0, 1)
    assert run_agent("agent-log", "list").stdout.count(MARKER) == 3


def test_an_altered_record_is_told_of_with_status_4_when_the_others_get_a_new_key(keys, run_agent, home):
    run_agent("assistant", "--provider", "offline", MARKER)
    keys("encrypt", "on")
    connection = database.driver().connect(home / ".local" / "share" / "agents" / "agents.db", isolation_level=None)
    (seq, data), *_ = connection.execute("SELECT seq, data FROM events").fetchall()
    connection.execute("UPDATE events SET data = ? WHERE seq = ?", (data[:-1] + bytes([data[-1] ^ 1]), seq))
    connection.close()
    done = keys("rotate", "--json")

    assert done.returncode == 4
    assert json.loads(done.stdout)["data"]["structuredContent"]["lost"] == 1
    assert "retired" not in (home / ".config" / "agents" / "keyring.toml").read_text()
