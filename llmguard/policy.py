"""What a policy says, and what it decides: findings in, actions out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from hashlib import blake2b, sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, ModelWrapValidatorHandler, PrivateAttr, ValidationError, ValidationInfo, model_validator

from llmguard import policy_check, policy_source
from llmguard.errors import ConfigurationError
from llmguard.policy_alerts import AlertSettings
from llmguard.policy_plan import StagePlan, planned
from llmguard.policy_rules import (
    BreakerSettings,
    CacheSettings,
    Canary,
    Device,
    Milliseconds,
    Mode,
    OnBlock,
    OnBlockOrWord,
    Rule,
    StreamSettings,
    Strict,
    Switch,
    Word,
    Words,
    reading,
)
from llmguard.policy_yaml import Document, from_text
from llmguard.types import PolicyRef, Stage

if TYPE_CHECKING:
    from llmguard.policy_yaml import KeyPath

__all__ = ["BreakerSettings", "CacheSettings", "Canary", "OnBlock", "Policy", "Rule", "StagePlan"]


class Policy(Strict):
    """A named, versioned list of rules, and how the guard behaves around them.

    Rules are read from the top: the first one that matches a finding decides it, so ``action: allow``
    exempts. Immutable; what it extends is merged in when it is made.

    Raises:
        ConfigurationError: something is wrong; names the file, the line, the key and the nearest right word.
    """

    name: Word = Field(default="policy", description="What telemetry and errors call it.")
    version: str = Field(default="", description="Changes with the policy; a date does well.")
    extends: Words = Field(
        default=(), description="A preset or a path, or a list of them; empty once they are merged in."
    )
    mode: Mode = Field(default="enforce", description="enforce, shadow (decide, change nothing), or {canary: share}.")
    device: Device = Field(
        default="auto", description="Of models: auto, cpu, cuda, cuda:0, tensorrt, grpc://host:port, https://host/name."
    )
    on_block: OnBlockOrWord = Field(default="raise", description="raise, {reply: text}, {retry: times}, or fallback.")
    overlap: Switch = Field(default=False, description="Start the call while its input is still being checked.")
    deadline_ms: Milliseconds = Field(default=2000.0, description="For each detector whose rules say none.")
    breaker: BreakerSettings = Field(default=BreakerSettings(), description="When a failing detector is given a rest.")
    cache: CacheSettings = Field(default=CacheSettings(), description="What is remembered of a conversation.")
    stream: StreamSettings = Field(default=StreamSettings(), description="How streams are looked at.")
    detectors: dict[str, dict[str, Any]] = Field(default={}, description="Options of detectors by name.")
    rules: tuple[Rule, ...] = Field(default=(), description="The first one that matches a finding decides it.")
    alerts: AlertSettings = Field(default=AlertSettings(), description="When somebody is told, who, and how often.")

    _document: Document = PrivateAttr(default_factory=lambda: Document({}))

    @model_validator(mode="wrap")
    @classmethod
    def _read(cls, data: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        if isinstance(data, cls):
            return handler(data)
        document = info.context
        if not isinstance(document, Document):
            document = policy_source.resolve(policy_source.from_mapping(data), Path())
        with reading():
            try:
                policy = handler(document.data)
            except ValidationError as error:
                raise policy_check.translated(error, document, cls.known_keys()) from None
        policy._document = Document({}, document.marks, document.files)  # noqa: SLF001 - it is of this class
        return policy

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a policy file, YAML or JSON, and what it extends.

        Raises:
            ConfigurationError: it can't be read, or something in it is wrong.
        """
        path = Path(path)
        return cls._of(policy_source.from_file(path), path.parent)

    @classmethod
    def parse(cls, data: Mapping[str, Any] | str, source: str = "") -> Self:
        """A policy from a mapping, or from a text in YAML or JSON.

        Args:
            data: what it says.
            source: how errors call it; relative paths in ``extends`` start from its folder.

        Raises:
            ConfigurationError: something in it is wrong.
        """
        if isinstance(data, str):
            document = from_text(data, source or "policy")
        else:
            document = policy_source.from_mapping(data, source)
        return cls._of(document, Path(source).parent)

    @classmethod
    def preset(cls, name: str) -> Self:
        """A policy that comes with llmguard: ``default``, ``strict`` or ``observe``.

        Raises:
            ConfigurationError: there is none of that name.
        """
        return cls._of(policy_source.preset(name), policy_source.PRESETS)

    @classmethod
    def from_any(cls, policy: Policy | Mapping[str, Any] | str | Path | None) -> Policy:
        """A policy from whatever names one: itself, a mapping, a path, or None for the preset ``default``.

        Raises:
            ConfigurationError: something in it is wrong.
        """
        if policy is None:
            return cls.preset("default")
        if isinstance(policy, Policy):
            return policy
        if isinstance(policy, Mapping):
            return cls.parse(policy)
        if not isinstance(policy, (str, Path)):
            raise ConfigurationError(f"a policy is a Policy, a mapping or a path, not {type(policy).__name__}")
        if str(policy) in policy_source.preset_names() and not Path(policy).exists():
            raise ConfigurationError(f"there is no file {str(policy)!r}; the preset is Policy.preset({str(policy)!r})")
        return cls.load(policy)

    @classmethod
    def _of(cls, document: Document, base: Path) -> Self:
        document = policy_source.resolve(document, base)
        policy = cls.model_validate(document.data, context=document)
        policy_check.unreachable(policy, document)
        return policy

    @classmethod
    def json_schema(cls) -> dict[str, Any]:
        """The JSON Schema of a policy file, for editors."""
        return {"$schema": "https://json-schema.org/draft/2020-12/schema", **cls.model_json_schema()}

    @cached_property
    def hash(self) -> str:
        """16 hexadecimal digits of the SHA-256 of what the policy says, whatever file or order of keys says it."""
        said = {name: value for name, value in self.model_dump().items() if name != "extends"}
        canonical = json.dumps(_canonical(said), sort_keys=True, separators=(",", ":"))
        return sha256(canonical.encode()).hexdigest()[:16]

    @cached_property
    def ref(self) -> PolicyRef:
        """Name, version and hash."""
        return PolicyRef(self.name, self.version, self.hash)

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that it was read from, its own first; presets are not among them."""
        return self._document.files

    @property
    def detector_names(self) -> tuple[str, ...]:
        """The detectors that it names, in rules or in ``detectors``, in order."""
        return tuple(dict.fromkeys([*(rule.detector for rule in self.rules), *self.detectors]))

    def plan(self, stage: Stage) -> StagePlan:
        """What one stage runs and decides; made once."""
        return self.plans[stage]

    @cached_property
    def plans(self) -> Mapping[Stage, StagePlan]:
        """The plans of all stages."""
        return {stage: planned(self.rules, stage, self.deadline_ms) for stage in Stage}

    @property
    def reply(self) -> str | None:
        """What is said where something is blocked; None where the policy does not reply."""
        return None if isinstance(self.on_block, str) else self.on_block.reply

    @property
    def retries(self) -> int:
        """How often an answer that is blocked is asked for again."""
        return 0 if isinstance(self.on_block, str) else self.on_block.retry or 0

    @property
    def falls_back(self) -> bool:
        """Whether a fallback is called where something is blocked."""
        return self.on_block == "fallback"

    def enforced(self, key: str) -> bool:
        """Whether decisions about this key count: by the mode, and for a canary by a stable hash.

        A key is always in or always out, and stays in when the share grows.

        Args:
            key: what must not change sides in its midst: a conversation's id.
        """
        if isinstance(self.mode, str):
            return self.mode == "enforce"
        word = f"{self.name}\0{key}".encode("utf-8", "surrogatepass")
        return int.from_bytes(blake2b(word, digest_size=8).digest()) < int(self.mode.canary * 2**64)

    def check_against(self, categories: Mapping[str, frozenset[str]]) -> None:
        """Refuse what does not fit the detectors that there are.

        Args:
            categories: the categories of each detector, by its name.

        Raises:
            ConfigurationError: a detector or a category is unknown, a rule can never fire, or the key of a
                redaction is missing. A preset may name categories that a detector's options leave out.
        """
        policy_check.against(self, self._document, categories)

    def error(self, message: str, *, detector: str, options: bool = False) -> ConfigurationError:
        """An error that says where the policy names a detector first, or where its options stand."""
        path: KeyPath = ("detectors", detector)
        for index, rule in enumerate(self.rules if not options else ()):
            if rule.detector == detector:
                path = ("rules", index, "detector")
                break
        return self._document.error(message, path)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A changed copy, checked like any other policy."""
        return type(self)(**{**self.said(), **(update or {})})

    def __eq__(self, other: object) -> bool:
        return self.said() == other.said() if isinstance(other, Policy) else NotImplemented

    def __hash__(self) -> int:
        return int(self.hash, 16)


def _canonical(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _canonical(item) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(str(item) for item in value)
    if isinstance(value, (list, tuple)):
        return [_canonical(item) for item in value]
    if value is None or isinstance(value, (str, int, float)):
        return value
    return f"{type(value).__module__}.{type(value).__qualname__}"  # nothing else comes from a file; keys stay out
