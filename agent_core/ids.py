"""ids - names of runs (short, sortable by time, safe in a file name and on a command line) and positions in them."""

from __future__ import annotations

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32 (crockford.com/base32.html), lower case
RANDOM_BITS = 50
RANDOM_BYTES = 7


def new_run_id(now: float, random_bytes: bytes) -> str:
    """Return 20 characters: 50 bits of time (milliseconds since 1970), then 50 of the random bits (7 bytes or more)."""
    noise = int.from_bytes(random_bytes[:RANDOM_BYTES], "big") & ((1 << RANDOM_BITS) - 1)
    number = (int(now * 1000) & ((1 << 50) - 1)) << RANDOM_BITS | noise
    return "".join(ALPHABET[number >> shift & 31] for shift in range(95, -1, -5))


def normal(reference: str) -> str:
    """Return what a person typed as the alphabet spells it: lower case, o is 0, i and l are 1."""
    return reference.strip().lower().replace("o", "0").replace("i", "1").replace("l", "1")


def position(path: str) -> tuple[int, ...]:
    """Return an event's path as numbers, so that "10" comes after "9" and "2.0" right after "2"."""
    return tuple(int(part) if part.isdecimal() else -1 for part in path.split(".")) if path else ()
