"""deploy - the files that an installation needs beside the programs, all from what the agents say of themselves.

DIR/systemd/NAME@.service, NAME@.timer     one job a start: reads jobs/%i.in, writes jobs/%i.out
DIR/man/NAME.1                             manual pages
DIR/completions/NAME.bash, _NAME, NAME.fish
DIR/Containerfile                          an image with the programs and nothing else
"""

from __future__ import annotations

import platform
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from building.bake import Baked

SHELLS = {"bash": "{}.bash", "zsh": "_{}", "fish": "{}.fish"}
CONTAINER = """# The suite in an image: the first stage builds, the second holds the programs and what they link to, no Python.
#   podman build -f Containerfile -t agents .        (in the checkout)
#   echo 'hello pipes' | podman run -i --rm agents text-processor make this uppercase
ARG DEBIAN={debian}
FROM docker.io/library/python:{python}-slim-${{DEBIAN}} AS build
RUN apt-get update && apt-get install -y --no-install-recommends binutils && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN scripts/environment dev && scripts/build --no-register --out /opt/agents

FROM docker.io/library/debian:${{DEBIAN}}-slim
COPY --from=build /opt/agents /opt/agents
RUN useradd --create-home --uid 10001 agent
ENV PATH=/opt/agents:/usr/bin:/bin LANG=C.UTF-8
USER agent
WORKDIR /home/agent
# Keys come in at run time (--env OPENAI_API_KEY, or a secret as a file); none is ever in the image.
CMD ["text-processor", "--help"]
"""
TIMER = """[Unit]
Description={name} on %i.in, every day

[Timer]
OnCalendar=daily
RandomizedDelaySec=10min
Persistent=true

[Install]
WantedBy=timers.target
"""


def write(baked: Sequence[Baked], place: Path) -> list[Path]:
    """Write all of it under a folder; return the paths."""
    made = []
    for path, text in (*((path, text) for each in baked for path, text in _of(each)), ("Containerfile", container())):
        file = place / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
        made.append(file)
    return made


def container() -> str:
    """Return the Containerfile, for the Python that this is."""
    return CONTAINER.format(debian="bookworm", python=".".join(platform.python_version_tuple()[:2]))


def _of(each: Baked) -> Iterator[tuple[str, str]]:
    name = each.source.name
    yield f"systemd/{name}@.service", each.answers["--agent-schema=systemd"].decode()
    yield f"systemd/{name}@.timer", TIMER.format(name=name)
    yield f"man/{name}.1", each.answers["--agent-schema=man"].decode()
    for shell, form in SHELLS.items():
        script = _completion(each, shell)
        if script:
            yield f"completions/{form.format(name)}", script


def _completion(each: Baked, shell: str) -> str:
    """Return a completion script; "" where the program makes none."""
    import subprocess

    program = [sys.executable, str(each.source.path), "--completion", shell]
    done = subprocess.run(program, capture_output=True, stdin=subprocess.DEVNULL, check=False, text=True)
    return done.stdout if done.returncode == 0 else ""
