"""Takes what was found out of a text, in one of five ways, and lets no part of it through."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast, get_args

from llmguard.errors import ConfigurationError, VaultError, nearest
from llmguard.overlap import clusters, resolve
from llmguard.placeholder import MAX_PLACEHOLDER_LENGTH, label, unfinished
from llmguard.sealing import (
    ENCRYPTION_KEY,
    HASH_KEY,
    NONCE_BYTES,
    TAG_BYTES,
    cipher,
    encryption_key,
    hash_key,
    seal,
    unseal,
)
from llmguard.types import Action, Finding
from llmguard.vault import Vault, VaultScope

__all__ = [
    "MAX_PLACEHOLDER_LENGTH",
    "Method",
    "Redaction",
    "Redactions",
    "Vault",
    "VaultScope",
    "decrypt",
    "redact",
    "resolve",
    "unfinished",
]

Method = Literal["placeholder", "mask", "hash", "encrypt", "remove"]
"""How a finding is replaced."""

_METHODS: tuple[str, ...] = get_args(Method)
_OPTIONS = {"keep_last": ("mask",), "mask_char": ("mask",), "key": ("hash", "encrypt"), "key_env": ("hash", "encrypt")}
_HASH_DIGITS = 16
# The shortest token holds an empty value: nonce and tag, in base64 without padding.
_TOKEN = re.compile(rf"<([A-Z][A-Z0-9_]*):enc:([A-Za-z0-9_-]{{{(NONCE_BYTES + TAG_BYTES) * 4 // 3 + 1},}})>")


@dataclass(frozen=True, slots=True)
class Redaction:
    """How findings are taken out of a text.

    Attributes:
        method: ``placeholder`` puts ``<EMAIL_ADDRESS_1>``, which a vault can restore; ``mask`` a character for each one
            but the last ``keep_last``, and never leaves more than half; ``hash`` the first 16 hexadecimal digits of
            HMAC-SHA-256; ``encrypt`` AES-256-GCM, which ``decrypt`` undoes; ``remove`` nothing.
        keep_last: how many code points at the end a mask leaves.
        mask_char: what a mask puts.
        key: for hash and encrypt; hidden from ``repr``. None takes it from the environment.
        key_env: the environment variable with the key; "" means LLMGUARD_HASH_KEY or LLMGUARD_ENCRYPTION_KEY.

    Raises:
        ConfigurationError: an option is wrong, or belongs to another method.
    """

    method: Method = "placeholder"
    keep_last: int = 0
    mask_char: str = "*"
    key: bytes | None = field(default=None, repr=False)
    key_env: str = ""

    def __post_init__(self) -> None:
        if self.method not in _METHODS:
            raise ConfigurationError(f"redaction: unknown method {self.method!r}{nearest(str(self.method), _METHODS)}")
        for option in dataclasses.fields(self):
            owners = _OPTIONS.get(option.name, ())
            if owners and self.method not in owners and getattr(self, option.name) != option.default:
                raise ConfigurationError(
                    f"redaction {self.method!r} has no {option.name}: it is for {' and '.join(owners)}"
                )
        if type(self.keep_last) is not int or self.keep_last < 0:
            raise ConfigurationError(f"redaction: keep_last must be a whole number from 0, not {self.keep_last!r}")
        if not isinstance(self.mask_char, str) or len(self.mask_char) != 1 or not self.mask_char.isprintable():
            raise ConfigurationError("redaction: mask_char must be one printable character")
        if self.mask_char in "<>":
            raise ConfigurationError("redaction: mask_char must not be < or >, which placeholders are made of")
        if self.key is not None and not isinstance(self.key, bytes):
            raise ConfigurationError("redaction: key must be bytes; in a file, name an environment variable by key_env")
        if not isinstance(self.key_env, str):
            raise ConfigurationError("redaction: key_env must be the name of an environment variable")

    @classmethod
    def parse(cls, value: str | Mapping[str, object] | Redaction) -> Redaction:
        """A redaction from what a policy says: a method's name, or a mapping with ``method`` and its options.

        Raises:
            ConfigurationError: the method or an option is unknown, or has a wrong value.
        """
        if isinstance(value, Redaction):
            return value
        if isinstance(value, str):
            return cls(cast("Method", value))
        if not isinstance(value, Mapping):
            raise ConfigurationError(f"redaction: a method's name or a mapping is needed, not {type(value).__name__}")
        options = [option.name for option in dataclasses.fields(cls)]
        for option in value:
            if option not in options:
                raise ConfigurationError(f"redaction: unknown option {option!r}{nearest(str(option), options)}")
        return cls(**cast("dict[str, Any]", dict(value)))

    def ready(self) -> Redaction:
        """The same with its key looked up and tried, so that a missing one shows before the first request.

        Raises:
            ConfigurationError: the key is missing or has the wrong length.
            MissingExtraError: ``encrypt`` needs cryptography, which is not installed.
        """
        if self.method == "hash":
            return dataclasses.replace(self, key=hash_key(self.key, self.key_env or HASH_KEY))
        if self.method == "encrypt":
            key = encryption_key(self.key, self.key_env or ENCRYPTION_KEY)
            cipher("redaction 'encrypt'", key)
            return dataclasses.replace(self, key=key)
        return self

    def replace(self, category: str, value: str, *, whole: bool = True) -> str:
        """What goes into the text for a value, for every method but ``placeholder``, which gets no number here.

        Args:
            category: what the value is.
            value: what is taken out.
            whole: False where the value covers more than its finding: a mask then keeps nothing.
        """
        if self.method == "remove":
            return ""
        if self.method == "mask":
            kept = min(self.keep_last, len(value) // 2) if whole else 0
            return self.mask_char * (len(value) - kept) + value[len(value) - kept :]
        name = label(category)
        if self.method == "hash":
            key = hash_key(self.key, self.key_env or HASH_KEY)
            digest = hmac.digest(key, value.encode("utf-8", "surrogatepass"), "sha256").hex()
            return f"<{name}:hmac-sha256:{digest[:_HASH_DIGITS]}>"
        if self.method == "encrypt":
            key = encryption_key(self.key, self.key_env or ENCRYPTION_KEY)
            sealed = seal(cipher("redaction 'encrypt'", key), value, name)
            return f"<{name}:enc:{base64.urlsafe_b64encode(sealed).decode().rstrip('=')}>"
        return f"<{name}>"


Redactions = Redaction | Mapping[Finding, Redaction] | Callable[[Finding], Redaction]
"""One redaction for all findings, or one for each."""

_PLACEHOLDER = Redaction()


def redact(
    content: str,
    findings: Sequence[Finding],
    redactions: Redactions = _PLACEHOLDER,
    vault: Vault | None = None,
    scope: str = "",
    restorable: bool = True,
) -> str:
    """The text without the code points of any finding whose action is redact; linear in both.

    With a vault, placeholders and ``restorable``, ``vault.scoped(scope).restore`` gives the text back, whatever it
    holds; so look-alikes of placeholders are escaped too, also when there are no findings.

    Args:
        content: the text.
        findings: in any order, overlapping or not; those with another action are left alone.
        redactions: how to replace them.
        vault: what placeholders are taken from. Without one, and for values it has no room for, a placeholder is
            ``<EMAIL_ADDRESS>``, for good; ``vault.refused`` counts the latter.
        scope: the conversation's id; needed with a vault.
        restorable: False for what the model wrote: its findings aren't restored, placeholders in it are let be.

    Raises:
        ConfigurationError: the scope is empty beside a vault, or a key is missing.
        DetectorError: a finding's span is outside the text.
        KeyError: ``redactions`` is a mapping and says nothing of a finding.
    """
    own = None if vault is None else vault.scoped(scope)
    escapes = own is not None and restorable and "<" in content
    chosen = [finding for finding in findings if finding.action is Action.REDACT]
    runs, held = _taken_apart(content, chosen, redactions, numbered=own is not None)
    if own is None:
        return runs[0]
    # Before the findings get their numbers, so that a look-alike is more likely to be skipped than to be escaped.
    if escapes:
        runs = [own.escape(run) for run in runs]
    numbered = [_placeholder(own, category, value, restorable) for category, value in held]
    return "".join([piece for pair in zip(runs, numbered, strict=False) for piece in pair]) + runs[-1]


def _taken_apart(
    content: str, findings: Sequence[Finding], redactions: Redactions, *, numbered: bool
) -> tuple[list[str], list[tuple[str, str]]]:
    """The text around the findings that get a number, and those: one run of text more than there are of them."""
    runs: list[str] = []
    held: list[tuple[str, str]] = []
    run: list[str] = []
    at = 0
    for start, end, winner in clusters(findings, len(content)):
        run.append(content[at:start])
        at = end
        redaction = _chosen(redactions, winner)
        if numbered and redaction.method == "placeholder":
            runs.append("".join(run))
            run = []
            held.append((winner.category, content[start:end]))
        else:
            whole = winner.span is None or winner.span == (start, end)
            run.append(redaction.replace(winner.category, content[start:end], whole=whole))
    run.append(content[at:])
    runs.append("".join(run))
    return runs, held


def _chosen(redactions: Redactions, finding: Finding) -> Redaction:
    if isinstance(redactions, Redaction):
        return redactions
    if isinstance(redactions, Mapping):
        return redactions[finding]
    return redactions(finding)


def _placeholder(own: VaultScope, category: str, value: str, restorable: bool) -> str:
    try:
        return own.placeholder(category, value, restorable)
    except VaultError:
        return _PLACEHOLDER.replace(category, value)


def decrypt(text: str, key: bytes | None = None) -> str:
    """The text with the originals in place of what ``encrypt`` put.

    What only looks like an encrypted value, or was encrypted under another key, stays as it is.

    Args:
        text: any text.
        key: 32 bytes; None takes them from LLMGUARD_ENCRYPTION_KEY.

    Raises:
        ConfigurationError: the key is missing or has the wrong length.
        MissingExtraError: cryptography is not installed.
        VaultError: there are encrypted values, and the key opens none of them.
    """
    aead = cipher("decrypting", encryption_key(key))
    from cryptography.exceptions import InvalidTag

    found = opened = 0

    def original(match: re.Match[str]) -> str:
        nonlocal found, opened
        found += 1
        try:
            sealed = base64.urlsafe_b64decode(match[2] + "=" * (-len(match[2]) % 4))
            value = unseal(aead, sealed, match[1])
        except (binascii.Error, InvalidTag):
            return match[0]
        opened += 1
        return value

    plain = _TOKEN.sub(original, text)
    if found and not opened:
        raise VaultError(f"the key opens none of the {found} encrypted values in the text")
    return plain
