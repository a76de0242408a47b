"""sbom - the bill of materials of the executables: CycloneDX 1.6, from what is installed and was put in."""

from __future__ import annotations

import hashlib
import json
import platform
import tomllib
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from building import closure
from building.discover import ROOT

if TYPE_CHECKING:
    from building.closure import Part


def bill(epoch: int) -> str:
    """Return the bill as JSON; the same inputs give the same text. `epoch`: the time it states, in seconds."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    parts = closure.parts()
    root = {"type": "application", "bom-ref": project["name"], "name": project["name"], "version": project["version"]}
    body: dict[str, Any] = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"timestamp": datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), "component": root},
        "components": [*(_component(part) for part in parts.values()), *_beneath()],
        "dependencies": [
            {"ref": project["name"], "dependsOn": sorted(_ref(parts[name]) for name in closure.wanted(project["dependencies"]))},
            *({"ref": _ref(part), "dependsOn": sorted(_ref(parts[name]) for name in part.requires)} for part in parts.values()),
        ],
    }
    seed = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    body["serialNumber"] = f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, seed)}"
    return json.dumps(body, indent=2, ensure_ascii=False) + "\n"


def _ref(part: Part) -> str:
    return f"pkg:pypi/{part.name.lower().replace('_', '-')}@{part.version}"


def _component(part: Part) -> dict[str, Any]:
    made: dict[str, Any] = {
        "type": "library", "bom-ref": _ref(part), "name": part.name, "version": part.version, "purl": _ref(part),
        "description": part.summary,
    }  # fmt: skip
    if part.licence:
        made["licenses"] = [{"license": {"name": part.licence}}]
    return made


def _beneath() -> list[dict[str, Any]]:
    """Return what is neither from PyPI nor ours: the interpreter and the libraries that come with it."""
    import ssl
    import zlib

    versions = {
        "python": platform.python_version(),
        "openssl": ssl.OPENSSL_VERSION.split()[1],
        "zlib": zlib.ZLIB_RUNTIME_VERSION,
        "sqlite": _sqlite(),
        "pyinstaller-bootloader": _pyinstaller(),
    }
    return [
        {
            "type": "library",
            "bom-ref": f"pkg:generic/{name}@{version}",
            "name": name,
            "version": version,
            "purl": f"pkg:generic/{name}@{version}",
        }
        for name, version in versions.items()
    ]


def _sqlite() -> str:
    try:
        from pysqlite3 import dbapi2 as sqlite
    except ImportError:
        import sqlite3 as sqlite
    return str(sqlite.sqlite_version)


def _pyinstaller() -> str:
    from importlib.metadata import version

    return version("pyinstaller")
