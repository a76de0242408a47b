"""sandbox - what the kernel itself keeps a started program from: files, other processes, the network, dangerous system calls.

    with confined(Box(read=("/src",), write=("/tmp/x",))) as way:
        subprocess.Popen(way.argv(argv), preexec_fn=way.enter, pass_fds=way.kept, ...)

A boxed program sees the system's programs and libraries, what `read` and `write` name, and nothing else; it cannot open sockets
(unless `network`), trace or signal other processes, mount, load kernel code, or push keys into a terminal. /proc/self is not there,
so a shell's `<(...)` fails. Two levels do that, both without root; seccomp belongs to either:

    landlock     in the process itself. It does not cover looking whether a file exists (stat), and chmod, utime and xattr on files
                 that the user owns; before version 6 it does not keep off signals; it cannot hide a path beneath a granted one.
    bubblewrap   namespaces made by `bwrap`: what is not granted is not there at all. Needs user namespaces, and costs more.

`auto` takes Landlock where it does all that is asked, else bubblewrap; where neither holds, nothing is run. Everything is prepared
before the fork; the child makes system calls only.

Sources: landlock(7), seccomp(2), bwrap(1), linux/landlock.h, linux/seccomp.h; system call numbers of x86_64 and aarch64.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from agent_core.errors import DeniedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from agent_core.policy import Policy

# Landlock rights (linux/landlock.h), and the ABI from which each is known.
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_CHANGE = sum(1 << bit for bit in (4, 5, 7, 8, 10, 12))  # remove dir, remove file, make dir, regular file, fifo, symlink
_ALL_FIRST = (1 << 13) - 1
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_SINCE = ((2, _REFER), (3, _TRUNCATE), (5, _IOCTL_DEV))
_TCP = 0b11  # bind, connect
_SCOPES = 0b11  # abstract sockets, signals
_CREATE, _ADD, _RESTRICT = 444, 445, 446
_PARENT_DIES, _NO_NEW_PRIVS, _SET_SECCOMP = 1, 38, 22

SYSTEM = (
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store", "/sys/devices/system/cpu",
    # Of /proc only what is about the machine: /proc/PID/environ of the caller would hold its keys.
    "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/loadavg", "/proc/uptime", "/proc/version", "/proc/filesystems",
    "/proc/sys/kernel", "/proc/sys/vm",
    "/etc/alternatives", "/etc/ca-certificates", "/etc/ssl/certs", "/etc/ssl/openssl.cnf", "/etc/ld.so.cache", "/etc/ld.so.conf",
    "/etc/ld.so.conf.d", "/etc/ld.so.preload", "/etc/passwd", "/etc/group", "/etc/hosts", "/etc/host.conf", "/etc/nsswitch.conf",
    "/etc/resolv.conf", "/etc/localtime", "/etc/timezone", "/etc/mime.types", "/etc/magic", "/etc/gitconfig", "/etc/inputrc",
    "/etc/terminfo", "/etc/bash.bashrc", "/etc/profile", "/etc/debian_version", "/etc/os-release", "/run/systemd/resolve",
    "/dev/urandom", "/dev/random", "/dev/zero", "/dev/full",
)  # fmt: skip
SINKS = ("/dev/null", "/dev/zero", "/dev/full")

_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
# name -> number on (x86_64, aarch64); refused whatever the box allows. None: the architecture has no such call.
_REFUSED: dict[str, tuple[int | None, int | None]] = {
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
    "pidfd_getfd": (438, 438), "process_madvise": (440, 440), "perf_event_open": (298, 241), "bpf": (321, 280),
    "userfaultfd": (323, 282), "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    # An id of System V is a small number that can be guessed: refusing to look it up is not enough.
    "shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195), "semget": (64, 190), "semop": (65, 193), "semctl": (66, 191),
    "semtimedop": (220, 192), "msgget": (68, 186), "msgsnd": (69, 189), "msgrcv": (70, 188), "msgctl": (71, 187),
    "mq_open": (240, 180), "mq_unlink": (241, 181), "init_module": (175, 105), "delete_module": (176, 106),
    "finit_module": (313, 273), "kexec_load": (246, 104), "kexec_file_load": (320, 294), "reboot": (169, 142),
    "swapon": (167, 224), "swapoff": (168, 225), "syslog": (103, 116), "quotactl": (179, 60), "quotactl_fd": (443, 443),
    "acct": (163, 89), "settimeofday": (164, 170), "clock_settime": (227, 112), "adjtimex": (159, 171),
    "clock_adjtime": (305, 266), "sethostname": (170, 161), "setdomainname": (171, 162), "open_by_handle_at": (304, 265),
    "vhangup": (153, 58), "iopl": (172, None), "ioperm": (173, None), "modify_ldt": (154, None), "uselib": (134, None),
    "fanotify_init": (300, 262), "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51),
    "unshare": (272, 97), "setns": (308, 268), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442),
}  # fmt: skip
# (x86_64, aarch64), and what the low halves of arguments must be: (argument, mask, values). Anything else is refused.
_WHOLE = 0xFFFFFFFF
_ONLY: tuple[tuple[tuple[int, int], tuple[tuple[int, int, tuple[int, ...]], ...]], ...] = (
    # A datagram pair could be sent to any path: only streams and sequenced packets stay with their other end.
    ((53, 199), ((0, _WHOLE, (1,)), (1, 0xF, (1, 5)))),  # socketpair
    ((141, 140), ((0, _WHOLE, (0, 1)), (1, _WHOLE, (0,)))),  # setpriority: itself, its group
    ((251, 30), ((0, _WHOLE, (1, 2)), (1, _WHOLE, (0,)))),  # ioprio_set: itself, its group
    ((203, 122), ((0, _WHOLE, (0,)),)),  # sched_setaffinity
    ((144, 119), ((0, _WHOLE, (0,)),)),  # sched_setscheduler
    ((142, 118), ((0, _WHOLE, (0,)),)),  # sched_setparam
    ((314, 274), ((0, _WHOLE, (0,)),)),  # sched_setattr
)
_LIMITS, _SET_LIMIT = ((302, 261), (160, 164)), 12  # prlimit64, setrlimit; RLIMIT_MSGQUEUE
_SOCKET, _IOCTL, _CLONE, _CLONE3, _TRUNCATE_CALL = (41, 198), (16, 29), (56, 220), (435, 435), (76, 45)
_NAMESPACES = 0x7E020000  # CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
# TIOCSTI, TIOCLINUX (keys into a terminal), FS_IOC_SETFLAGS, FS_IOC_FSSETXATTR (attributes of files that may only be read)
_IOCTLS = (0x5412, 0x541C, 0x40086602, 0x401C5820)
_X32 = 0x40000000
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_EPERM, _ENOSYS = 1, 38
_LD, _JEQ, _JGE, _JSET, _AND, _RET = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
LEVELS = ("auto", "landlock", "bubblewrap")
_SCOPED = 6  # the version of Landlock from which signals are kept off
_UNCONFINED = "grant with --allow unconfined to run it all the same"


@dataclass(frozen=True, slots=True)
class Box:
    """What a program may reach: absolute paths it may read (and run), paths it may write, whether it has a network, and limits.

    `hidden` and `fixed` are paths beneath those that it may not see, or may see but not change: only bubblewrap can do that.
    `level` is one of LEVELS. `lasting`: the program may outlive the thread that starts it.
    """

    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    network: bool = False
    file_bytes: int = 1 << 30
    memory_bytes: int | None = None
    cpu_seconds: int | None = None
    hidden: tuple[str, ...] = ()
    fixed: tuple[str, ...] = ()
    level: str = "auto"
    lasting: bool = False


@dataclass(frozen=True, slots=True)
class Way:
    """How a program is started inside: `enter` runs between fork and exec, `prefix` goes before its words, `kept` are descriptors.

    `tag` is what the program and all that it starts are known by: a limit that the filter lets none of them change (0: none).
    """

    enter: Callable[[], None]
    prefix: tuple[str, ...] = ()
    kept: tuple[int, ...] = ()
    tag: int = 0

    def argv(self, words: Iterable[str]) -> list[str]:
        """Return the argument list to start."""
        return [*self.prefix, *words]

    def sweep(self) -> None:
        """Kill what is left of the program, wherever it went. bwrap leaves nothing."""
        killed: set[int] = set()
        while self.tag and (found := set(_tagged(self.tag)) - killed):
            for pid in found:
                with suppress(OSError):
                    os.kill(pid, 9)
            killed |= found


@dataclass(frozen=True, slots=True)
class Level:
    """What is in force: `name` is `landlock`, `bubblewrap` or "" (nothing can be), and what was found.

    `landlock`: its version (0: none); `seccomp`: whether there is one for this processor; `bwrap`: the path of a bwrap that works.
    """

    name: str
    landlock: int
    seccomp: bool
    bwrap: str = ""

    @property
    def complete(self) -> bool:
        """Whether a box holds: files and network."""
        return bool(self.name)

    @property
    def text(self) -> str:
        """One line for people."""
        if self.name == "bubblewrap":
            return f"files, processes and network by bubblewrap ({self.bwrap}), system calls by seccomp"
        if self.name:
            lacking = "" if self.landlock >= _SCOPED else "; signals to other programs are not kept off"
            return f"files by Landlock (version {self.landlock}), network and system calls by seccomp{lacking}"
        there = {"Landlock": self.landlock, "seccomp": self.seccomp, "bubblewrap that works": self.bwrap}
        return f"none: there is no {' and no '.join(name for name, found in there.items() if not found)}"


@cache
def level(choice: str = "auto", *, holes: bool = False) -> Level:
    """Return the level that a box gets under a choice of LEVELS; `holes`: it has paths hidden or fixed beneath what is granted.

    bwrap is looked for and tried only where Landlock does not do.
    """
    if not sys.platform.startswith("linux"):
        return Level("", 0, seccomp=False)
    landlock = max(0, _libc().syscall(_CREATE, None, 0, 1))
    seccomp = _machine() in _ARCH and _libc().prctl(21, 0, 0, 0, 0) >= 0
    possible = landlock > 0 and seccomp and not holes and choice != "bubblewrap"
    if possible and (landlock >= _SCOPED or choice == "landlock"):
        return Level("landlock", landlock, seccomp)
    bwrap = _bwrap() if seccomp and choice != "landlock" else ""
    name = "bubblewrap" if bwrap else "landlock" if possible else ""
    return Level(name, landlock, seccomp, bwrap)


@cache
def _bwrap() -> str:
    from agent_core import bubblewrap

    return bubblewrap.found()


def of_policy(policy: Policy, workspace: str, folder: str = "", choice: str = "auto") -> Box:
    """Return the box that a run's grants make for a command: the workspace to read, what is granted beyond it, `folder` to write.

    Deny rules take paths away again, but not the system's own programs under a rule without a scope. A host cannot be told from
    another by these means, so only a grant for any host gives a network. What was a plain path when it was granted and has become a
    link since is left out: an earlier command may have put the link there.
    """
    granted: dict[str, list[str]] = {}
    for rule in policy.grants:
        granted.setdefault(rule.capability, []).append(rule.real or rule.root or rule.scope)
    denied = {rule.capability for rule in policy.denies}
    network = "" in granted.get("network", ()) and "network" not in denied
    unseen, unchanged = (
        tuple(dict.fromkeys(path for rule in policy.denies if rule.capability == name for path in (rule.root, rule.real)))
        for name in ("file-read", "file-write")
    )
    read = tuple(path for path in (workspace, *granted.get("file-read", ())) if _plain(path) and not covered(path, unseen))
    write = tuple(path for path in granted.get("file-write", ()) if _plain(path) and not covered(path, (*unseen, *unchanged)))
    return Box(
        read, (*write, *([folder] if folder else [])), network, hidden=tuple(path for path in unseen if path != "/"),
        fixed=tuple(path for path in unchanged if covered(path, write)), level=choice,
    )  # fmt: skip


def _plain(path: str) -> bool:
    return os.path.realpath(path) == path


def covered(path: str, roots: Iterable[str]) -> bool:
    """Return whether a path is one of the roots or lies beneath one."""
    return any(path == root or path.startswith(root.rstrip("/") + "/") for root in roots)


def system(box: Box) -> tuple[str, ...]:
    """Return the paths of the system that a boxed program may read."""
    return tuple(path for path in SYSTEM if not covered(path, box.hidden)) if box.hidden else SYSTEM


def has_holes(box: Box) -> bool:
    """Return whether paths are to be hidden or fixed beneath granted ones."""
    seen = (*system(box), *box.read, *box.write)
    return any(covered(path, seen) for path in box.hidden) or bool(box.fixed)


@contextmanager
def confined(box: Box) -> Iterator[Way]:
    """Yield the way in for one program at a time. DeniedError if nothing here can hold the box."""
    holes = has_holes(box)
    found = level(box.level, holes=holes)
    if not found.complete:
        why = "paths denied beneath granted ones cannot be hidden" if holes and level(box.level).complete else found.text
        raise DeniedError(f"programs cannot be confined here ({why})", hint=f"install bubblewrap, or {_UNCONFINED}")
    import resource  # noqa: F401 - so that the child need not import it

    if found.name == "bubblewrap":
        from agent_core import bubblewrap

        with bubblewrap.way(box, found.bwrap) as inside:
            yield inside
        return
    ruleset, tag = _ruleset(box, found.landlock), _new_tag()
    try:
        program = _filter(box, truncate=found.landlock >= 3)
        yield Way(lambda: _enter(ruleset, program, box, tag), tag=tag)
    finally:
        os.close(ruleset)


def _new_tag() -> int:
    """Return a limit below the present one by which one program's processes are known; 0 where there is no room for one."""
    import resource

    most = resource.getrlimit(resource.RLIMIT_MSGQUEUE)[1]
    room = most if most != resource.RLIM_INFINITY else 1 << 30
    return 1 + int.from_bytes(os.urandom(4), "big") % (room - 1) if room > 1000 else 0


def _tagged(tag: int) -> Iterator[int]:
    """Yield the processes that carry a tag."""
    import resource

    with suppress(OSError):
        for name in os.listdir("/proc"):  # noqa: PTH208 - no pathlib on this path
            with suppress(OSError, ValueError):
                if resource.prlimit(int(name), resource.RLIMIT_MSGQUEUE)[1] == tag:
                    yield int(name)


@cache
def _libc() -> Any:
    import ctypes

    return ctypes.CDLL(None, use_errno=True)


@cache
def _machine() -> str:
    # A 32-bit interpreter on a 64-bit kernel has other numbers.
    return os.uname().machine if sys.maxsize > 2**32 else ""


# --- Landlock ------------------------------------------------------------------------------------------------------


def _handled(abi: int) -> int:
    return _ALL_FIRST | sum(right for since, right in _SINCE if abi >= since)


def _ruleset(box: Box, abi: int) -> int:
    """Return the descriptor of a ruleset with the box's paths."""
    handled = _handled(abi)
    fields = [handled]
    if abi >= 4:
        fields.append(0 if box.network else _TCP)
    if abi >= 6:
        fields.append(_SCOPES)
    attributes = b"".join(field.to_bytes(8, sys.byteorder) for field in fields)
    ruleset = int(_libc().syscall(_CREATE, attributes, len(attributes), 0))
    if ruleset < 0:
        raise DeniedError("the kernel refused a Landlock ruleset", hint=_UNCONFINED)
    look = _EXECUTE | _READ_FILE | _READ_DIR
    try:
        _add(ruleset, (*system(box), *_spared(box.read)), look, handled)
        _add(ruleset, SINKS, _READ_FILE | _WRITE_FILE | _TRUNCATE, handled)
        _add(ruleset, _spared(box.write), look | _WRITE_FILE | _TRUNCATE | _REFER | _CHANGE, handled)
        if "/" in {*box.read, *box.write}:
            _add(ruleset, ("/",), _READ_DIR, handled)
    except BaseException:
        os.close(ruleset)
        raise
    return ruleset


def _spared(paths: Iterable[str]) -> list[str]:
    """Return the paths without /proc, whatever was granted: `/proc/PID/environ` of the caller would hold its keys."""
    found: list[str] = []
    for path in map(os.path.realpath, paths):
        if path == "/":
            found += [f"/{name}" for name in os.listdir("/") if name != "proc"]  # noqa: PTH208 - no pathlib on this path
        elif not covered(path, ("/proc",)):
            found.append(path)
    return found


def _add(ruleset: int, paths: Iterable[str], rights: int, handled: int) -> None:
    """Add rules; a path that does not exist grants nothing (a file to be made needs its folder). Only the system's may be links."""
    import stat

    from agent_core import beneath

    for path in dict.fromkeys(paths):
        try:
            place = os.open(path, os.O_PATH | os.O_CLOEXEC) if path in SYSTEM else beneath.plain(path, os.O_PATH)
        except OSError:
            continue
        try:
            allowed = rights & handled
            if not stat.S_ISDIR(os.fstat(place).st_mode):
                allowed &= _OF_FILES
            rule = allowed.to_bytes(8, sys.byteorder) + place.to_bytes(4, sys.byteorder)
            if _libc().syscall(_ADD, ruleset, 1, rule, 0) != 0:
                raise DeniedError(f"the kernel refused a rule for {path}", hint="grant another path")
        finally:
            os.close(place)


# --- seccomp -------------------------------------------------------------------------------------------------------


def _filter(box: Box, *, truncate: bool) -> tuple[Any, bytes]:
    """Return (struct sock_fprog, its instructions); both must live as long as it is used."""
    import ctypes

    code = instructions(box, truncate=truncate)
    buffer = ctypes.create_string_buffer(code, len(code))
    header = (len(code) // 8).to_bytes(2, sys.byteorder) + bytes(6) + ctypes.addressof(buffer).to_bytes(8, sys.byteorder)
    return ctypes.create_string_buffer(header, len(header)), buffer  # type: ignore[return-value]


def instructions(box: Box, *, truncate: bool = True) -> bytes:
    """Return the seccomp program of a box, as struct sock_filter[]. `truncate`: something else sees to truncate(2)."""
    return b"".join(_packed(*each) for each in _lines(box, truncate=truncate))


def _packed(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return code.to_bytes(2, sys.byteorder) + bytes([yes, no]) + value.to_bytes(4, sys.byteorder)


def _lines(box: Box, *, truncate: bool) -> list[tuple[int, ...]]:
    """Return the BPF program as (code, value, jump if true, jump if false)."""
    this = 0 if _machine() == "x86_64" else 1
    refuse = (_RET, _ERRNO | _EPERM)
    lines: list[tuple[int, ...]] = [(_LD, 4), (_JEQ, _ARCH[_machine()], 1, 0), (_RET, _KILL), (_LD, 0)]
    if _machine() == "x86_64":
        lines += [(_JGE, _X32, 0, 1), refuse]
    refused = [numbers[this] for numbers in _REFUSED.values()]
    if not truncate:
        refused.append(_TRUNCATE_CALL[this])
    for number in refused:
        if number is not None:
            lines += [(_JEQ, number, 0, 1), refuse]
    # glibc falls back from clone3, whose flags a filter cannot see, to clone
    lines += [(_JEQ, _CLONE3[this], 0, 1), (_RET, _ERRNO | _ENOSYS)]
    for numbers, who in zip(_LIMITS, (True, False), strict=True):
        lines += _limits(numbers[this], who=who)
    for numbers, tests in _ONLY:
        lines += _only(numbers[this], tests)
    # IPv4 and IPv6; streams and datagrams, nothing raw
    lines += _only(_SOCKET[this], ((0, _WHOLE, (2, 10) if box.network else ()), (1, 0xF, (1, 2))))
    lines += _but(_IOCTL[this], 1, [(_JEQ, value) for value in _IOCTLS])
    lines += _but(_CLONE[this], 0, [(_JSET, _NAMESPACES)])
    return [*lines, (_RET, _ALLOW)]


def _only(number: int, tests: Iterable[tuple[int, int, tuple[int, ...]]]) -> list[tuple[int, ...]]:
    """Return the lines that allow a call only with certain values in the low halves of its arguments."""
    body: list[tuple[int, ...]] = []
    for argument, mask, values in tests:
        body += [(_LD, _low(argument)), (_AND, mask)]
        body += [(_JEQ, value, len(values) - at, 0) for at, value in enumerate(values)]
        body.append((_RET, _ERRNO | _EPERM))
    return [(_JEQ, number, 0, len(body) + 1), *body, (_RET, _ALLOW)]


def _limits(number: int, *, who: bool) -> list[tuple[int, ...]]:
    """Return the lines that keep a limit's call to the caller itself (`who`: it names a process), and off the tag."""
    refuse = (_RET, _ERRNO | _EPERM)
    own = [(_LD, _low(0)), (_JEQ, 0, 1, 0), refuse] if who else []
    body = [*own, (_LD, _low(1 if who else 0)), (_JEQ, _SET_LIMIT, 1, 0), (_RET, _ALLOW)]
    if who:  # reading it (no new value: both halves of the address are zero) is as free as ever
        body += [(_LD, 32), (_JEQ, 0, 1, 0), refuse, (_LD, 36), (_JEQ, 0, 1, 0), refuse, (_RET, _ALLOW)]
    else:
        body.append(refuse)
    return [(_JEQ, number, 0, len(body)), *body]


def _but(number: int, argument: int, tests: list[tuple[int, int]]) -> list[tuple[int, ...]]:
    """Return the lines that allow a call unless the low half of an argument meets a test."""
    body: list[tuple[int, ...]] = [(_LD, _low(argument))]
    for code, value in tests:
        body += [(code, value, 0, 1), (_RET, _ERRNO | _EPERM)]
    body.append((_RET, _ALLOW))
    return [(_JEQ, number, 0, len(body)), *body]


def _low(argument: int) -> int:
    return 16 + 8 * argument + (4 if sys.byteorder == "big" else 0)


# --- in the child --------------------------------------------------------------------------------------------------


def _enter(ruleset: int, program: tuple[Any, bytes], box: Box, tag: int) -> None:
    """Box this process in. System calls only: other threads of the parent may have held locks when it was forked."""
    limit(box, tag)
    libc = _libc()
    if not box.lasting:
        libc.prctl(_PARENT_DIES, 9, 0, 0, 0)
    done = (
        libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0),
        libc.syscall(_RESTRICT, ruleset, 0),
        libc.prctl(_SET_SECCOMP, 2, program[0], 0, 0),
    )
    if any(done):
        os._exit(126)


def limit(box: Box, tag: int = 0) -> None:
    """Set the box's limits for this process, and the tag."""
    import resource

    limits = {
        resource.RLIMIT_CORE: 0, resource.RLIMIT_FSIZE: box.file_bytes, resource.RLIMIT_AS: box.memory_bytes,
        resource.RLIMIT_CPU: box.cpu_seconds, resource.RLIMIT_MSGQUEUE: tag or None,
    }  # fmt: skip
    for kind, most in limits.items():
        if most is not None:
            with suppress(ValueError, OSError):  # a lower limit is in force already
                resource.setrlimit(kind, (most, most))


@contextmanager
def scratch(prefix: str) -> Iterator[str]:
    """Yield a new folder for a boxed program and remove it with whatever was left there, folders without rights among it.

    tempfile.TemporaryDirectory is no match for that: some versions of it change the rights of what a link leads to (CVE-2023-6597).
    """
    import shutil
    import stat
    import tempfile

    folder = os.path.realpath(tempfile.mkdtemp(prefix=prefix))
    try:
        yield folder
    finally:
        with suppress(OSError):
            os.chmod(folder, 0o700)  # noqa: PTH101 - no pathlib on this path
            for _, names, _, at in os.fwalk(folder):
                for name in names:
                    if stat.S_ISDIR(os.stat(name, dir_fd=at, follow_symlinks=False).st_mode):
                        os.chmod(name, 0o700, dir_fd=at)
        shutil.rmtree(folder, ignore_errors=True)


def environment(given: Mapping[str, str], home: str, keep: Iterable[str] = ()) -> dict[str, str]:
    """Return a scrubbed environment: PATH, language, time zone, and a home of its own; `keep` names what else may pass."""
    names = {"LANG", "LANGUAGE", "TZ", "TERM", *keep}
    kept = {name: value for name, value in given.items() if name in names or name.startswith("LC_")}
    folders = [folder for folder in given.get("PATH", "").split(":") if folder.startswith("/")]
    path = ":".join(folders) or "/usr/local/bin:/usr/bin:/bin"
    return {**kept, "PATH": path, "HOME": home, "TMPDIR": home}
