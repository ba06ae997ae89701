"""Keys, and the authenticated encryption that they are for."""

from __future__ import annotations

import base64
import binascii
import os
import secrets
from typing import TYPE_CHECKING

from llmguard.errors import ConfigurationError, MissingExtraError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

HASH_KEY = "LLMGUARD_HASH_KEY"
"""Environment variable of the key for hashes: any text of at least 16 bytes."""

ENCRYPTION_KEY = "LLMGUARD_ENCRYPTION_KEY"
"""Environment variable of the key for encryption: 32 bytes in base64."""

NONCE_BYTES = 12
TAG_BYTES = 16
_CIPHER_KEY_BYTES = 32
# FIPS 198-1 asks for keys no shorter than the strength wanted; 128 bits.
_HASH_KEY_BYTES = 16


def hash_key(key: bytes | None, variable: str = HASH_KEY) -> bytes:
    """The key for keyed hashes: the one given, or the environment variable's bytes.

    Raises:
        ConfigurationError: there is none, or it is shorter than 16 bytes.
    """
    found = key if key is not None else _environment(variable, "hash").encode("utf-8", "surrogateescape")
    if len(found) < _HASH_KEY_BYTES:
        raise ConfigurationError(f"redaction 'hash': the key must be at least {_HASH_KEY_BYTES} bytes")
    return found


def encryption_key(key: bytes | None, variable: str = ENCRYPTION_KEY) -> bytes:
    """The key for encryption: the one given, or the environment variable's, decoded.

    Raises:
        ConfigurationError: there is none, or it is not 32 bytes.
    """
    if key is None:
        written = _environment(variable, "encrypt").strip().replace("-", "+").replace("_", "/")
        try:
            key = base64.b64decode(written, validate=True)
        except (binascii.Error, ValueError):
            raise ConfigurationError(
                f"redaction 'encrypt': the environment variable {variable} is not base64"
            ) from None
    if len(key) != _CIPHER_KEY_BYTES:
        raise ConfigurationError(f"redaction 'encrypt': the key must be {_CIPHER_KEY_BYTES} bytes, not {len(key)}")
    return key


def _environment(variable: str, method: str) -> str:
    found = os.environ.get(variable, "")
    if not found:
        raise ConfigurationError(f"redaction {method!r} needs a key: set the environment variable {variable}")
    return found


def cipher(feature: str, key: bytes) -> AESGCM:
    """AES-256-GCM under a key of 32 bytes.

    Raises:
        ConfigurationError: the key has another length.
        MissingExtraError: cryptography is not installed.
    """
    if not isinstance(key, bytes) or len(key) != _CIPHER_KEY_BYTES:
        raise ConfigurationError(f"{feature}: the key must be {_CIPHER_KEY_BYTES} bytes (AES-256)")
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError as error:
        raise MissingExtraError(feature, "cryptography", "vault") from error
    return AESGCM(key)


def seal(aead: AESGCM, value: str, about: str) -> bytes:
    """A value, encrypted and bound to ``about``: a random 96-bit nonce, the ciphertext, the tag.

    NIST SP 800-38D, 8.2.2 and 8.3: with random nonces, at most 2**32 values under one key.
    """
    nonce = secrets.token_bytes(NONCE_BYTES)
    return nonce + aead.encrypt(nonce, value.encode("utf-8", "surrogatepass"), about.encode("utf-8", "surrogatepass"))


def unseal(aead: AESGCM, sealed: bytes, about: str) -> str:
    """What ``seal`` was given.

    Raises:
        cryptography.exceptions.InvalidTag: the key, ``about`` or a byte differs.
    """
    plain = aead.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], about.encode("utf-8", "surrogatepass"))
    return plain.decode("utf-8", "surrogatepass")
