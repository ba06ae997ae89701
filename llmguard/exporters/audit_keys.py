"""The two keys of an audit log: one signs its checkpoints, one encrypts its records."""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import secrets
from collections.abc import Callable
from hashlib import sha256
from typing import TYPE_CHECKING

from llmguard.errors import ConfigurationError, MissingExtraError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

SIGNING_KEY = "LLMGUARD_AUDIT_SIGNING_KEY"
"""Environment variable of the key that signs checkpoints: the 32 bytes of an Ed25519 private key in base64."""

PUBLIC_KEY = "LLMGUARD_AUDIT_PUBLIC_KEY"
"""Environment variable of the keys that checkpoints are checked by: 32 bytes each in base64, with commas between."""

ENCRYPTION_KEY = "LLMGUARD_AUDIT_ENCRYPTION_KEY"
"""Environment variable of the key that records are encrypted by: 32 bytes in base64; more, after commas, only read."""

_BYTES = 32
_NONCE = 12


def key_bytes(what: str, given: bytes | str | None, variable: str) -> tuple[bytes, ...]:
    """Keys of 32 bytes: the one given (bytes, or base64), or those of the environment variable, commas between.

    Raises:
        ConfigurationError: one is not 32 bytes, or no base64.
    """
    where = what
    if given is None:
        where = f"the environment variable {variable}"
        words: list[bytes | str] = [word for word in os.environ.get(variable, "").split(",") if word.strip()]
    else:
        words = [given]
    return tuple([_decoded(where, word) for word in words])


def _decoded(where: str, key: bytes | str) -> bytes:
    if isinstance(key, str):
        try:
            key = base64.b64decode(key.strip().replace("-", "+").replace("_", "/"), validate=True)
        except (binascii.Error, ValueError):
            raise ConfigurationError(f"{where} is not base64") from None
    if not isinstance(key, bytes) or len(key) != _BYTES:
        raise ConfigurationError(f"{where} must be {_BYTES} bytes, or these in base64")
    return key


def new_key() -> bytes:
    """A new key for signing or for encryption: 32 random bytes."""
    return secrets.token_bytes(_BYTES)


def public_key(signing_key: bytes) -> bytes:
    """The 32 bytes by which others check what a key has signed.

    Raises:
        MissingExtraError: cryptography is not installed.
    """
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    except ImportError as error:
        raise MissingExtraError("audit: signatures", "cryptography", "vault") from error
    return Ed25519PrivateKey.from_private_bytes(signing_key).public_key().public_bytes_raw()


def key_id(public: bytes) -> str:
    """The name of a public key: the first 16 digits of its SHA-256."""
    return sha256(public).hexdigest()[:16]


def signer(signing_key: bytes) -> Callable[[bytes], bytes]:
    """Signs bytes by Ed25519 (RFC 8032).

    Raises:
        MissingExtraError: cryptography is not installed.
    """
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    except ImportError as error:
        raise MissingExtraError("audit: signatures", "cryptography", "vault") from error
    return Ed25519PrivateKey.from_private_bytes(signing_key).sign


def signed(public: bytes, signature: bytes, data: bytes) -> bool:
    """Whether the signature is of these bytes, by the private half of this key.

    Raises:
        ConfigurationError: this is no public key.
        MissingExtraError: cryptography is not installed.
    """
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError as error:
        raise MissingExtraError("audit: signatures", "cryptography", "vault") from error
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, data)
    except InvalidSignature:
        return False
    except ValueError:
        raise ConfigurationError("audit: this is no public key of Ed25519") from None
    return True


def cipher_id(key: bytes) -> str:
    """The name of a key for encryption, which tells nothing about it."""
    return hmac.digest(key, b"llmguard audit key id", "sha256").hex()[:16]


class FileCipher:
    """Encrypts the records of one file, under a key of its own.

    NIST SP 800-38D allows 2**32 random nonces a key, which a busy log reaches within days. So each file has the key
    HMAC-SHA256(key, its salt): a key derivation in counter mode with one block, NIST SP 800-108. What is encrypted is
    bound to the log, the file and the sequence, and is found nowhere else.

    Args:
        key: 32 bytes.
        salt: of the file.
        log: id of the log.
        number: of the file.

    Raises:
        MissingExtraError: cryptography is not installed.
    """

    def __init__(self, key: bytes, salt: str, log: str, number: int) -> None:
        try:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        except ImportError as error:
            raise MissingExtraError("audit: encryption", "cryptography", "vault") from error
        own = hmac.digest(key, b"\x01llmguard audit file\x00" + salt.encode() + b"\x00\x01\x00", "sha256")
        self._aead: AESGCM = AESGCM(own)
        self._about = f"llmguard-audit\0{log}\0{number}\0"

    def seal(self, n: int, body: str) -> str:
        """A body, encrypted, as a JSON string of base64: a nonce, the ciphertext, the tag."""
        nonce = os.urandom(_NONCE)
        sealed = self._aead.encrypt(nonce, body.encode(), f"{self._about}{n}".encode())
        return f'"{binascii.b2a_base64(nonce + sealed, newline=False).decode()}"'

    def unseal(self, n: int, sealed: str) -> bytes:
        """What `seal` was given.

        Raises:
            ConfigurationError: the key, the place or a byte differs.
        """
        from cryptography.exceptions import InvalidTag

        try:
            data = base64.b64decode(sealed, validate=True)
            return self._aead.decrypt(data[:_NONCE], data[_NONCE:], f"{self._about}{n}".encode())
        except (InvalidTag, ValueError):
            raise ConfigurationError(f"audit: the record of sequence {n} can't be decrypted by this key") from None
