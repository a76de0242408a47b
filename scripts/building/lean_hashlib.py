"""hashlib of a frozen program: the interpreter's own digests at once, OpenSSL's (3 ms to load) when it is there or is needed."""

import sys

_OWN = {
    "md5": "_md5", "sha1": "_sha1", "sha224": "_sha256", "sha256": "_sha256", "sha384": "_sha512", "sha512": "_sha512",
    "blake2b": "_blake2", "blake2s": "_blake2",
}  # fmt: skip


def __getattr__(name):
    if name.startswith("__"):  # `from hashlib import …` asks for __path__
        raise AttributeError(name)
    if name in _OWN and "_ssl" not in sys.modules:
        value = getattr(__import__(_OWN[name]), name)
    else:
        import full_hashlib

        value = getattr(full_hashlib, name)
    globals()[name] = value
    return value
