"""install - put what was built where it is used, one program at a time, each only after it has answered.

`OUT/NAME` and `OUT/NAME.card.json` are replaced in one step each; the shared folders have their content's hash as a name, so an old
program goes on with its own. What nothing refers to any more is removed at the next build: a program that runs now may still load
from it. `OUT/SHA256SUMS` lists everything, `OUT/sbom.cdx.json` what it is made of.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from building.bake import Baked
    from building.freeze import Made

MANIFEST = ".build.json"
SUMS = "SHA256SUMS"
BILL = "sbom.cdx.json"
SECONDS = 60


@dataclass(frozen=True, slots=True)
class Checked:
    """One new executable: how large it is (bytes, its own), or why it is not installed."""

    name: str
    size: int = 0
    problem: str = ""


def check(program: Path, baked: Baked) -> str:
    """Return what is wrong with a new executable: it must give the baked answers both at once and the long way. "" if nothing."""
    with tempfile.TemporaryDirectory() as home:
        for argument in ("--agent-schema", "--version", "--help"):
            quick = _answer(program, [argument], home)
            slow = _answer(program, [argument, argument], home)  # said twice is the same, but nothing that was baked
            if quick != baked.answers[argument]:
                return f"{argument} does not answer what it should: {quick[:200]!r}"
            if slow != baked.answers[argument]:
                return f"{argument} answers otherwise when asked the long way: {slow[:200]!r}"
    return ""


def _answer(program: Path, words: list[str], home: str) -> bytes:
    """Run a program with next to no environment; return stdout, or stderr if it failed."""
    env = {"PATH": os.defpath, "HOME": home, "LC_ALL": "C.UTF-8"}
    try:
        done = subprocess.run(
            [str(program.absolute()), *words], env=env, cwd=home, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS,
            check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"not started: {error}".encode()
    return done.stdout if done.returncode == 0 else done.stderr or f"status {done.returncode}".encode()


def install(made: Made, baked: Iterable[Baked], out: Path) -> list[Checked]:
    """Check each new program where it was made, then put the good ones into `out`. What fails leaves the old one as it is."""
    out.mkdir(parents=True, exist_ok=True)
    results = []
    good = []
    for each in baked:
        program = made.folder / each.source.name
        problem = check(program, each) if program.is_file() else "PyInstaller made no executable"
        results.append(Checked(each.source.name, program.stat().st_size if not problem else 0, problem))
        good += [] if problem else [each]
    if good:
        if made.runtime:
            _take_folder(made.folder / made.runtime, out / made.runtime)
        for each in good:
            _replace(made.folder / each.source.name, out / each.source.name)
            replace_text(out / f"{each.source.name}.card.json", each.answers["--agent-schema"])
        _note(out, {each.source.name: made.runtime for each in good})
    return results


def _take_folder(new: Path, place: Path) -> None:
    """Bring the shared folder beside the old ones; one of the same name is the same."""
    if place.is_dir():
        return
    part = place.with_name(f"{place.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(new, part, symlinks=True)
    part.rename(place)


def _replace(new: Path, place: Path) -> None:
    part = place.with_name(f".{place.name}.part")
    shutil.copyfile(new, part)
    part.chmod(0o755)
    part.replace(place)


def replace_text(place: Path, data: bytes) -> None:
    """Write a file in one step."""
    part = place.with_name(f".{place.name}.part")
    part.write_bytes(data)
    part.replace(place)


# -- what is there -----------------------------------------------------------------------------------------------------------------


def manifest(out: Path) -> dict[str, Any]:
    """Return what the builds before made: {"agents": {name: shared folder or ""}, "spare": [folders to be removed next]}."""
    try:
        found = json.loads((out / MANIFEST).read_bytes())
        return {"agents": dict(found["agents"]), "spare": list(found["spare"])}
    except (OSError, ValueError, KeyError, TypeError):
        return {"agents": {}, "spare": []}


def _note(out: Path, new: Mapping[str, str]) -> None:
    known = manifest(out)
    _save(out, {**known["agents"], **new}, known["spare"])


def _save(out: Path, agents: Mapping[str, str], spare: Iterable[str]) -> None:
    body = {"agents": dict(sorted(agents.items())), "spare": sorted(set(spare))}
    replace_text(out / MANIFEST, (json.dumps(body, indent=1) + "\n").encode())


def remove_gone(out: Path, names: Iterable[str]) -> list[str]:
    """Remove the executables of agents that are no more; return their names. Only what a build put here is touched."""
    known = manifest(out)
    gone = sorted(set(known["agents"]) - set(names))
    for name in gone:
        (out / name).unlink(missing_ok=True)
        (out / f"{name}.card.json").unlink(missing_ok=True)
        del known["agents"][name]
    _save(out, known["agents"], known["spare"])
    return gone


def sweep(out: Path) -> None:
    """Remove the shared folders that were spare after the build before, and note those that are spare now."""
    known = manifest(out)
    used = set(known["agents"].values())
    folders = {path.name for path in out.glob(".runtime-*") if path.is_dir()}
    for name in folders - used:
        if name in known["spare"] or name.endswith(".part"):
            shutil.rmtree(out / name, ignore_errors=True)
    _save(out, known["agents"], {name for name in folders - used if (out / name).is_dir()})


def sums(out: Path) -> str:
    """Return the lines of SHA256SUMS: every file that belongs to the build, by path."""
    known = manifest(out)
    used = {folder for folder in known["agents"].values() if folder}
    paths = [path for name in known["agents"] for path in (out / name, out / f"{name}.card.json") if path.is_file()]
    paths += [path for folder in used for path in (out / folder).rglob("*") if path.is_file() and not path.is_symlink()]
    paths += [path for path in (out / BILL,) if path.is_file()]
    return "".join(f"{digest(path)}  {path.relative_to(out).as_posix()}\n" for path in sorted(paths))


def digest(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def megabytes(paths: Iterable[Path]) -> float:
    """Return the size of files and folders in MB (10^6 bytes), as `ls` counts it."""
    total = 0
    for path in paths:
        inside = path.rglob("*") if path.is_dir() else [path]
        total += sum(file.lstat().st_size for file in inside if not file.is_dir() or file.is_symlink())
    return total / 1e6
