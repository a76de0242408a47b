"""archive - one file with all modules of the suite, in the form that building.front reads."""

from __future__ import annotations

import marshal
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import CodeType

MAGIC = b"AGENTS01"
# Loaded for people on a terminal, or hardly ever: small counts for more than quick.
COLD = frozenset((
    "argparse", "attr", "asyncio", "click", "email", "html", "http", "idna", "jsonschema", "markdown_it", "mdurl", "platformdirs",
    "pygments", "referencing", "rich", "shellingham", "typer", "zipfile",
))  # fmt: skip
Recorded = tuple[dict[str, Any], dict[Any, Any]]


def pack(modules: Mapping[str, tuple[bool, CodeType]], recorded: Mapping[str, Recorded]) -> bytes:
    """Return the archive of modules: name -> (is a package, code)."""
    index, body = {}, bytearray(b"\0")
    for name in sorted(modules):
        package, code = modules[name]
        functions, patterns = recorded.get(name, ({}, {}))
        blob = _stable((code, functions, patterns))
        cold = name.partition(".")[0] in COLD
        blob = zlib.compress(blob, 9) if cold else blob
        index[name] = (package, -len(body) if cold else len(body), len(blob))
        body += blob
    head = _stable(index)
    return MAGIC + len(head).to_bytes(4, "little") + head + bytes(body)


def _stable(value: Any) -> bytes:
    """Return marshalled bytes that depend on the value alone: marshal marks what is referenced often, and that differs by run."""
    return marshal.dumps(marshal.loads(marshal.dumps(value)))  # noqa: S302 - our own bytes


def read_pyz(path: str) -> dict[str, tuple[bool, CodeType]]:
    """Return the modules of PyInstaller's archive; namespace packages have no code and are left out."""
    from PyInstaller.archive.readers import ZlibArchiveReader
    from PyInstaller.loader.pyimod01_archive import PYZ_ITEM_PKG

    reader = ZlibArchiveReader(path)
    found = {}
    for name, (kind, *_) in reader.toc.items():
        code = reader.extract(name)
        if code is not None:
            found[name] = (kind == PYZ_ITEM_PKG, code)
    return found


def read_zip(path: str) -> dict[str, tuple[bool, CodeType]]:
    """Return the modules of PyInstaller's base_library.zip."""
    import zipfile

    found = {}
    with zipfile.ZipFile(path) as file:
        for member in file.namelist():
            stem = member.removesuffix(".pyc").replace("/", ".")
            name = stem.removesuffix(".__init__")
            found[name] = (name != stem, marshal.loads(file.read(member)[16:]))  # noqa: S302 - just built
    return found
