"""OpenSSL's ciphers through ctypes give what `cryptography` gives, and open nothing that was altered."""

from __future__ import annotations

import os
import random

import pytest

from agent_core.libcrypto import Cipher, InvalidTag

KINDS = ("aes-256-gcm", "chacha20-poly1305")


@pytest.mark.parametrize("kind", KINDS)
def test_both_give_the_same_bytes_and_open_each_others(kind):
    aead = pytest.importorskip("cryptography.hazmat.primitives.ciphers.aead")
    chance = random.Random(7)
    for _ in range(300):
        key, nonce = os.urandom(32), os.urandom(12)
        data, bound = chance.randbytes(chance.choice((0, 1, 15, 16, 17, 1000, 70_000))), chance.randbytes(chance.randrange(40))
        judge = aead.AESGCM(key) if kind == KINDS[0] else aead.ChaCha20Poly1305(key)

        sealed = Cipher(kind, key).encrypt(nonce, data, bound)

        assert sealed == judge.encrypt(nonce, data, bound)
        assert Cipher(kind, key).decrypt(nonce, sealed, bound) == data


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_altered_is_opened(kind):
    key, nonce = os.urandom(32), os.urandom(12)
    sealed = Cipher(kind, key).encrypt(nonce, b"some text", b"place")
    for place in range(len(sealed)):
        altered = sealed[:place] + bytes([sealed[place] ^ 1]) + sealed[place + 1 :]
        with pytest.raises(InvalidTag):
            Cipher(kind, key).decrypt(nonce, altered, b"place")
    for bad in (
        (nonce, sealed, b"other"),
        (os.urandom(12), sealed, b"place"),
        (nonce, sealed[:-1], b"place"),
        (nonce, b"", b"place"),
    ):
        with pytest.raises(InvalidTag):
            Cipher(kind, key).decrypt(*bad)
    with pytest.raises(InvalidTag):
        Cipher(kind, os.urandom(32)).decrypt(nonce, sealed, b"place")


def test_a_key_of_another_length_is_refused():
    with pytest.raises(ValueError, match="32"):
        Cipher(KINDS[0], b"short")
