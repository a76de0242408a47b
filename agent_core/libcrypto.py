"""libcrypto - the AEAD ciphers of the OpenSSL that Python's `ssl` loads anyway, where the package `cryptography` is not there.

    Cipher("aes-256-gcm", key).encrypt(nonce, data, bound) -> ciphertext and tag
    Cipher("aes-256-gcm", key).decrypt(nonce, sealed, bound) -> data; InvalidTag if it was altered

Nothing is implemented here: each call is OpenSSL's EVP interface (EVP_EncryptInit_ex(3)), reached by ctypes. A test compares it
with `cryptography` over many messages. Frozen executables have this one; `cryptography` would add 12 MB.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

TAG_BYTES = 16
_SET_IVLEN, _GET_TAG, _SET_TAG = 0x9, 0x10, 0x11
_CIPHERS = {"aes-256-gcm": "EVP_aes_256_gcm", "chacha20-poly1305": "EVP_chacha20_poly1305"}


class InvalidTag(Exception):  # noqa: N818 - named as in `cryptography`
    """What was to be opened is not what was sealed."""


@cache
def _library() -> Any:
    """Return OpenSSL's libcrypto. ImportError if this Python has none that can be used."""
    import _ssl
    import ctypes
    import ctypes.util

    names = [getattr(_ssl, "__file__", None), "libcrypto.so.3", "libcrypto.so.1.1", ctypes.util.find_library("crypto")]
    for name in names:
        try:
            # The symbols of what _ssl is linked with are found through it: the very library that is loaded already.
            library = ctypes.CDLL(name) if name else None
            if library is not None and library.EVP_CIPHER_CTX_new is not None:
                return _typed(library, ctypes)
        except (OSError, AttributeError):
            continue
    raise ImportError("no OpenSSL library found")


def _typed(library: Any, ctypes: Any) -> Any:
    pointer, number, text = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
    out = ctypes.POINTER(number)
    for name in _CIPHERS.values():
        getattr(library, name).restype = pointer
        getattr(library, name).argtypes = []
    library.EVP_CIPHER_CTX_new.restype = pointer
    library.EVP_CIPHER_CTX_new.argtypes = []
    library.EVP_CIPHER_CTX_free.argtypes = [pointer]
    library.EVP_CIPHER_CTX_ctrl.argtypes = [pointer, number, number, pointer]
    library.EVP_CipherInit_ex.argtypes = [pointer, pointer, pointer, text, text, number]
    library.EVP_CipherUpdate.argtypes = [pointer, pointer, out, text, number]
    library.EVP_CipherFinal_ex.argtypes = [pointer, pointer, out]
    return library


class Cipher:
    """One key of one algorithm, with the methods of `cryptography`'s AEAD classes."""

    def __init__(self, algorithm: str, key: bytes) -> None:
        """Keep the key (32 bytes). ImportError without a usable OpenSSL, ValueError for a key of another length."""
        if len(key) != 32:
            raise ValueError("the key must have 32 bytes")
        self._library = _library()
        self._kind = getattr(self._library, _CIPHERS[algorithm])()
        self._key = key

    def encrypt(self, nonce: bytes, data: bytes, bound: bytes) -> bytes:
        """Return ciphertext and tag; `bound` is authenticated with them."""
        sealed, tag = self._run(nonce, data, bound, None)
        return sealed + tag

    def decrypt(self, nonce: bytes, sealed: bytes, bound: bytes) -> bytes:
        """Return what was sealed; InvalidTag if anything of it, the nonce or `bound` is different."""
        if len(sealed) < TAG_BYTES:
            raise InvalidTag
        return self._run(nonce, sealed[:-TAG_BYTES], bound, sealed[-TAG_BYTES:])[0]

    def _run(self, nonce: bytes, data: bytes, bound: bytes, tag: bytes | None) -> tuple[bytes, bytes]:
        """Encrypt, or decrypt with the tag to be met."""
        import ctypes

        library, length = self._library, ctypes.c_int(0)
        context = library.EVP_CIPHER_CTX_new()
        if not context:
            raise MemoryError
        encrypting = 1 if tag is None else 0
        made, found = ctypes.create_string_buffer(len(data) + TAG_BYTES), ctypes.create_string_buffer(TAG_BYTES)
        try:
            steps: tuple[Callable[[], Any], ...] = (
                lambda: library.EVP_CipherInit_ex(context, self._kind, None, None, None, encrypting),
                lambda: library.EVP_CIPHER_CTX_ctrl(context, _SET_IVLEN, len(nonce), None),
                lambda: library.EVP_CipherInit_ex(context, None, None, self._key, nonce, encrypting),
                lambda: library.EVP_CipherUpdate(context, None, ctypes.byref(length), bound, len(bound)),
                lambda: library.EVP_CipherUpdate(context, made, ctypes.byref(length), data, len(data)),
            )
            if not all(step() == 1 for step in steps):
                raise RuntimeError("OpenSSL refused to begin")
            size = length.value
            if tag is not None:
                library.EVP_CIPHER_CTX_ctrl(context, _SET_TAG, TAG_BYTES, ctypes.create_string_buffer(tag, TAG_BYTES))
            if library.EVP_CipherFinal_ex(context, ctypes.byref(made, size), ctypes.byref(length)) != 1:
                raise InvalidTag
            if tag is None and library.EVP_CIPHER_CTX_ctrl(context, _GET_TAG, TAG_BYTES, found) != 1:
                raise RuntimeError("OpenSSL gave no tag")
            return made.raw[: size + length.value], found.raw
        finally:
            library.EVP_CIPHER_CTX_free(context)
