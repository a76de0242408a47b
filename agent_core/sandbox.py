"""sandbox - what the kernel itself keeps a started program from: Landlock for files, seccomp for the network and the rest.

    with confined(Box(read=("/src",), write=("/tmp/x",))) as enter:
        subprocess.Popen(argv, preexec_fn=enter, ...)

A boxed program sees the system's programs and libraries, what `read` and `write` name, and nothing else; it cannot open sockets
(unless `network`), trace or signal other processes, mount, load kernel code, or push keys into a terminal. Needs no root and no
library. What no version of Landlock covers: looking whether a file exists (stat), and chmod, utime and xattr on files that the
user owns. /proc/self is not there, so a shell's `<(...)` fails. Everything is prepared before the fork; the child makes system
calls only.

Sources: landlock(7), seccomp(2), linux/landlock.h, linux/seccomp.h; system call numbers of x86_64 and aarch64.
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
_NO_NEW_PRIVS, _SET_SECCOMP = 38, 22

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
    "shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195), "semget": (64, 190), "msgget": (68, 186),
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
_CALLS = {"socket": (41, 198), "socketpair": (53, 199), "ioctl": (16, 29), "prlimit64": (302, 261), "clone": (56, 220)}
_CLONE3, _TRUNCATE_CALL = (435, 435), (76, 45)
_NAMESPACES = 0x7E020000  # CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
_X32 = 0x40000000
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_EPERM, _ENOSYS = 1, 38
_LD, _JEQ, _JGE, _JSET, _RET = 0x20, 0x15, 0x35, 0x45, 0x06


@dataclass(frozen=True, slots=True)
class Box:
    """What a program may reach: absolute paths it may read (and run), paths it may write, whether it has a network, and limits."""

    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    network: bool = False
    file_bytes: int = 1 << 30
    memory_bytes: int | None = None
    cpu_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class Level:
    """What this kernel can enforce: the version of Landlock (0: none) and whether there is seccomp for this processor."""

    landlock: int
    seccomp: bool

    @property
    def complete(self) -> bool:
        """Whether a box holds: files and network."""
        return self.landlock > 0 and self.seccomp

    @property
    def text(self) -> str:
        """One line for people."""
        if self.complete:
            return f"files by Landlock (version {self.landlock}), network and system calls by seccomp"
        lacking = [name for name, there in (("Landlock", self.landlock), ("seccomp", self.seccomp)) if not there]
        return f"none: this kernel has no {' and no '.join(lacking)}"


@cache
def level() -> Level:
    """Return what this kernel can enforce."""
    if not sys.platform.startswith("linux"):
        return Level(0, seccomp=False)
    found = _libc().syscall(_CREATE, None, 0, 1)
    return Level(max(0, found), _machine() in _ARCH and _libc().prctl(21, 0, 0, 0, 0) >= 0)


def of_policy(policy: Policy, workspace: str, folder: str = "") -> Box:
    """Return the box that a run's grants make for a command: the workspace to read, what is granted beyond it, `folder` to write.

    A host cannot be told from another by these means, so only a grant for any host gives a network.
    """
    granted: dict[str, list[str]] = {}
    for rule in policy.grants:
        granted.setdefault(rule.capability, []).append(rule.real or rule.root or rule.scope)
    denied = {rule.capability for rule in policy.denies}
    network = "" in granted.get("network", ()) and "network" not in denied
    write = (*granted.get("file-write", ()), *([folder] if folder else []))
    return Box((workspace, *granted.get("file-read", ())), tuple(write), network)


@contextmanager
def confined(box: Box) -> Iterator[Callable[[], None]]:
    """Yield the function that boxes in the process that calls it (between fork and exec). DeniedError if the kernel cannot."""
    found = level()
    if not found.complete:
        raise DeniedError(
            f"programs cannot be confined here ({found.text})", hint="grant with --allow unconfined to run it all the same"
        )
    ruleset = _ruleset(box, found.landlock)
    try:
        program = _filter(box, found.landlock)
        yield lambda: _enter(ruleset, program, box)
    finally:
        os.close(ruleset)


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
        raise DeniedError("the kernel refused a Landlock ruleset", hint="grant with --allow unconfined to run it all the same")
    look = _EXECUTE | _READ_FILE | _READ_DIR
    try:
        _add(ruleset, (*SYSTEM, *box.read), look, handled)
        _add(ruleset, SINKS, _READ_FILE | _WRITE_FILE | _TRUNCATE, handled)
        _add(ruleset, box.write, look | _WRITE_FILE | _TRUNCATE | _REFER | _CHANGE, handled)
    except BaseException:
        os.close(ruleset)
        raise
    return ruleset


def _add(ruleset: int, paths: Iterable[str], rights: int, handled: int) -> None:
    """Add rules; a path that does not exist grants nothing (a file to be made needs its folder)."""
    import stat

    for path in dict.fromkeys(paths):
        try:
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
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


def _filter(box: Box, abi: int) -> tuple[Any, bytes]:
    """Return (struct sock_fprog, its instructions); both must live as long as it is used."""
    import ctypes

    code = b"".join(_packed(*each) for each in _instructions(box, abi))
    buffer = ctypes.create_string_buffer(code, len(code))
    header = (len(code) // 8).to_bytes(2, sys.byteorder) + bytes(6) + ctypes.addressof(buffer).to_bytes(8, sys.byteorder)
    return ctypes.create_string_buffer(header, len(header)), buffer  # type: ignore[return-value]


def _packed(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return code.to_bytes(2, sys.byteorder) + bytes([yes, no]) + value.to_bytes(4, sys.byteorder)


def _instructions(box: Box, abi: int) -> list[tuple[int, ...]]:
    """Return the BPF program as (code, value, jump if true, jump if false)."""
    this = 0 if _machine() == "x86_64" else 1
    refuse = (_RET, _ERRNO | _EPERM)
    lines: list[tuple[int, ...]] = [(_LD, 4), (_JEQ, _ARCH[_machine()], 1, 0), (_RET, _KILL), (_LD, 0)]
    if _machine() == "x86_64":
        lines += [(_JGE, _X32, 0, 1), refuse]
    refused = [numbers[this] for numbers in _REFUSED.values()]
    if abi < 3:
        refused.append(_TRUNCATE_CALL[this])
    for number in refused:
        if number is not None:
            lines += [(_JEQ, number, 0, 1), refuse]
    # glibc falls back from clone3, whose flags a filter cannot see, to clone
    lines += [(_JEQ, _CLONE3[this], 0, 1), (_RET, _ERRNO | _ENOSYS)]
    families = (2, 10) if box.network else ()
    lines += _argument(_CALLS["socket"][this], 0, [(_JEQ, family) for family in families], hit_allows=True)
    lines += _argument(_CALLS["socketpair"][this], 0, [(_JEQ, 1)], hit_allows=True)
    lines += _argument(_CALLS["ioctl"][this], 1, [(_JEQ, _TIOCSTI), (_JEQ, _TIOCLINUX)], hit_allows=False)
    lines += _argument(_CALLS["prlimit64"][this], 0, [(_JEQ, 0)], hit_allows=True)
    lines += _argument(_CALLS["clone"][this], 0, [(_JSET, _NAMESPACES)], hit_allows=False)
    return [*lines, (_RET, _ALLOW)]


def _argument(number: int, argument: int, tests: list[tuple[int, int]], *, hit_allows: bool) -> list[tuple[int, ...]]:
    """Return the lines that decide one call by the low half of one of its arguments."""
    hit, miss = (_ALLOW, _ERRNO | _EPERM) if hit_allows else (_ERRNO | _EPERM, _ALLOW)
    body: list[tuple[int, ...]] = [(_LD, 16 + 8 * argument + (4 if sys.byteorder == "big" else 0))]
    for code, value in tests:
        body += [(code, value, 0, 1), (_RET, hit)]
    body.append((_RET, miss))
    return [(_JEQ, number, 0, len(body)), *body]


# --- in the child --------------------------------------------------------------------------------------------------


def _enter(ruleset: int, program: tuple[Any, bytes], box: Box) -> None:
    """Box this process in. System calls only: other threads of the parent may have held locks when it was forked."""
    import resource

    libc = _libc()
    limits = {
        resource.RLIMIT_CORE: 0, resource.RLIMIT_FSIZE: box.file_bytes, resource.RLIMIT_AS: box.memory_bytes,
        resource.RLIMIT_CPU: box.cpu_seconds,
    }  # fmt: skip
    for kind, most in limits.items():
        if most is not None:
            with suppress(ValueError, OSError):  # a lower limit is in force already
                resource.setrlimit(kind, (most, most))
    done = (
        libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0),
        libc.syscall(_RESTRICT, ruleset, 0),
        libc.prctl(_SET_SECCOMP, 2, program[0], 0, 0),
    )
    if any(done):
        os._exit(126)


def environment(given: Mapping[str, str], home: str, keep: Iterable[str] = ()) -> dict[str, str]:
    """Return a scrubbed environment: PATH, language, time zone, and a home of its own; `keep` names what else may pass."""
    names = {"LANG", "LANGUAGE", "TZ", "TERM", *keep}
    kept = {name: value for name, value in given.items() if name in names or name.startswith("LC_")}
    folders = [folder for folder in given.get("PATH", "").split(":") if folder.startswith("/")]
    path = ":".join(folders) or "/usr/local/bin:/usr/bin:/bin"
    return {**kept, "PATH": path, "HOME": home, "TMPDIR": home}
