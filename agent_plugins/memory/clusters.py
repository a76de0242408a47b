"""clusters - k-means over vectors of length one, the same result every time.

    clusters(vectors, k=8, rounds=10)      [Cluster(members=(0, 3, 4), centre={…}), …]

It begins with the first vector; each further centre is the vector that is least like all centres so far (farthest point: Gonzalez,
Theoretical Computer Science 38, 1985), until there are k, or none is left that is less like them than `alike`: eight clusters for
nine notes on one thing would be no clusters. Likeness is the cosine; ties go to the earlier one. No randomness anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent_plugins.memory.vectors import cosine, unit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Vector = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Cluster:
    """Members by number, in order, and their mean direction."""

    members: tuple[int, ...]
    centre: Vector


def clusters(vectors: Sequence[Vector], k: int, rounds: int, alike: float = 1.0) -> list[Cluster]:
    """Return at most k clusters that are not empty, in the order of their first centres; k is at most the number of vectors."""
    centres: list[Vector] = farthest(vectors, min(k, len(vectors)), alike)
    if not centres:
        return []
    nearest = _assigned(vectors, centres)
    for _ in range(rounds):
        centres = [
            _mean([vectors[at] for at in range(len(vectors)) if nearest[at] == number]) or old for number, old in enumerate(centres)
        ]
        moved = _assigned(vectors, centres)
        if moved == nearest:
            break
        nearest = moved
    groups = [tuple(at for at in range(len(vectors)) if nearest[at] == number) for number in range(len(centres))]
    return [Cluster(group, centre) for group, centre in zip(groups, centres, strict=True) if group]


def farthest(vectors: Sequence[Vector], k: int, alike: float = 1.0) -> list[Vector]:
    """Return the first centres: the first vector, then always the one least like those chosen, while it is less than `alike`."""
    if not vectors or k < 1:
        return []
    chosen = [0]
    likeness = [cosine(vectors[0], vector) for vector in vectors]
    while len(chosen) < k:
        at = min((at for at in range(len(vectors)) if at not in chosen), key=lambda at: (likeness[at], at))
        if likeness[at] >= alike:
            break
        chosen.append(at)
        likeness = [max(known, cosine(vectors[at], vector)) for known, vector in zip(likeness, vectors, strict=True)]
    return [vectors[at] for at in chosen]


def _assigned(vectors: Sequence[Vector], centres: Sequence[Vector]) -> list[int]:
    return [max(range(len(centres)), key=lambda number: (cosine(vector, centres[number]), -number)) for vector in vectors]


def _mean(members: Sequence[Vector]) -> dict[str, float]:
    total: dict[str, float] = {}
    for member in members:
        for word, weight in member.items():
            total[word] = total.get(word, 0.0) + weight
    return unit(total)
