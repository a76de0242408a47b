"""bubblewrap - the box of `agent_core.sandbox` by means of `bwrap`: what is not granted is not there.

    found()                          the path of a bwrap that works here, or ""; it is tried once, with an empty box
    with way(box, path) as inside:   inside.argv(words), inside.enter and inside.kept for subprocess.Popen

The program gets user, process, IPC and mount namespaces of its own and, unless the box has a network, an empty network; no
capabilities, no setuid, a session of its own, and the same seccomp filter as under Landlock. It dies with the thread that started
it, and all that it started dies with it, sessions of their own or not. /proc holds what is about the machine and no processes,
whatever was granted. Environment and descriptors must be clean before: bwrap keeps them.

Sources: bwrap(1) 0.8; user_namespaces(7).
"""

# pathlib costs more to import than this module does:
# ruff: noqa: PTH100, PTH110, PTH112, PTH114, PTH120

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from agent_core import sandbox
from agent_core.errors import DeniedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from agent_core.sandbox import Box, Way

SECONDS = 5.0  # for the trial
_ALONE = (
    "--die-with-parent", "--new-session", "--unshare-user-try", "--unshare-pid", "--unshare-ipc", "--unshare-uts",
    "--unshare-cgroup-try", "--cap-drop", "ALL",
)  # fmt: skip
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_READ, _WRITE = "--ro-bind", "--bind"


def found() -> str:
    """Return the path of a bwrap that works here, or nothing: it may be missing, and namespaces may be forbidden."""
    import subprocess

    from agent_core import config

    path = _installed(config.environ().get("PATH", ""))
    if not path:
        return ""
    try:
        with way(sandbox.Box((path,)), path) as inside:
            tried = subprocess.run(
                inside.argv([path, "--version"]), stdin=subprocess.DEVNULL, capture_output=True, env={}, cwd="/", check=False,
                timeout=SECONDS, start_new_session=True, pass_fds=inside.kept, preexec_fn=inside.enter,
            )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ""
    return path if tried.returncode == 0 else ""


def _installed(path: str) -> str:
    """Return the first bwrap on PATH that belongs to the system: a folder of PATH may be part of somebody's repository."""
    for folder in path.split(os.pathsep):
        program = f"{folder}/bwrap"
        if folder.startswith("/") and sandbox.covered(os.path.realpath(program), sandbox.SYSTEM) and os.access(program, os.X_OK):
            return program
    return ""


@contextmanager
def way(box: Box, path: str) -> Iterator[Way]:
    """Yield the way into a box by the bwrap at `path`. DeniedError for a path to be kept unchanged that is not there."""
    _check_fixed(box)
    handle = os.memfd_create("agent-seccomp")
    try:
        os.write(handle, sandbox.instructions(box))

        def enter() -> None:
            os.lseek(handle, 0, os.SEEK_SET)
            sandbox.limit(box)

        # bwrap dies with the thread that starts it: a shell in between has but one, and lasts.
        shell = ("/bin/sh", "-c", '"$@"; exit $?', "sh") if box.lasting else ()
        yield sandbox.Way(enter, (*shell, path, *arguments(box), "--seccomp", str(handle), "--"), (handle,))
    finally:
        os.close(handle)


def _check_fixed(box: Box) -> None:
    """What is not there cannot be mounted read-only, so nothing would keep a command from making it."""
    kept = [path for path in (*box.fixed, *box.hidden) if os.path.exists(path)]
    missing = next((path for path in box.fixed if not os.path.exists(path) and not sandbox.covered(path, kept)), "")
    if missing:
        raise DeniedError(f"nothing would keep a command from making {missing}", hint="make it first, or drop its deny rule")


def arguments(box: Box) -> list[str]:
    """Return the options of bwrap that make a box: its namespaces and, parents before children, what is seen in it."""
    seen = _seen(sandbox.system(box), _READ) | _seen(box.read, _READ) | _seen(box.write, _WRITE)
    placed: list[tuple[str, tuple[str, ...]]] = [(name, ("--dev-bind", name, name)) for name in _DEVICES if os.path.exists(name)]
    placed += [(at, (kind, real, at)) for at, (kind, real) in seen.items() if not _needless(at, seen)]
    shut = [] if "/" in seen else ["/"]
    if "/" in seen:
        placed.append(("/proc", ("--tmpfs", "/proc")))
        shut.append("/proc")
        placed += [(name, (_READ, name, name)) for name in sandbox.SYSTEM if name.startswith("/proc/") and os.path.exists(name)]
    hidden = [name for name in map(os.path.realpath, box.hidden) if os.path.exists(name)]
    fixed = [name for name in map(os.path.realpath, box.fixed) if os.path.exists(name) and not sandbox.covered(name, hidden)]
    for name in (*hidden, *fixed):
        # A folder above could be renamed, and the next command would find everything at another place: what is mounted cannot be.
        placed += [(above, (_WRITE, above, above)) for above in _above(name) if _writable(above, seen) and above not in seen]
    for name in hidden:
        if os.path.isdir(name):
            placed.append((name, ("--tmpfs", name)))
            shut.append(name)
        else:
            placed.append((name, (_READ, "/dev/null", name)))  # without `dev` it cannot even be opened
    placed += [(name, (_READ, name, name)) for name in fixed]
    # The sort is stable: of several for one place the later one lies on top.
    words = [word for _, options in sorted(placed, key=lambda each: each[0].split("/")) for word in options]
    words += [word for name in shut for word in ("--remount-ro", name)]
    return [*_ALONE, *(() if box.network else ("--unshare-net",)), *words]


def _seen(paths: Iterable[str], kind: str) -> dict[str, tuple[str, str]]:
    """Return what is put where: place -> (option, source). A link stays a link, and what it leads to is there, too."""
    found: dict[str, tuple[str, str]] = {}
    for path in paths:
        at, real = os.path.abspath(path), os.path.realpath(path)
        if not os.path.exists(real) or at in _DEVICES or (path not in sandbox.SYSTEM and sandbox.covered(real, ("/proc",))):
            continue
        found[real] = (kind, real)
        if at != real:
            found[at] = ("--symlink" if os.path.islink(at) else kind, real)
    return found


def _above(path: str) -> list[str]:
    """Return the folders above a path, but the top."""
    steps = path.split("/")
    return ["/".join(steps[:count]) for count in range(2, len(steps))]


def _writable(path: str, seen: dict[str, tuple[str, str]]) -> bool:
    return any(kind == _WRITE and sandbox.covered(path, (at,)) for at, (kind, _) in seen.items())


def _needless(at: str, seen: dict[str, tuple[str, str]]) -> bool:
    """Return whether a place is there already by something above it, with the same rights."""
    kind, real = seen[at]
    above = at
    while above != "/":
        above = os.path.dirname(above)
        if above in seen and (at != real or seen[above][0] in {kind, _WRITE, "--symlink"}):
            return True
    return False
