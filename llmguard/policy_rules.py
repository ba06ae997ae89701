"""The words of a policy: rules and settings, each value with its limits."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    ModelWrapValidatorHandler,
    Tag,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from llmguard import policy_check, policy_source
from llmguard.errors import ConfigurationError, nearest
from llmguard.inference import remote_address
from llmguard.types import Action, Role, Stage

T = TypeVar("T")

_DEVICES = ("auto", "cpu", "cuda", "cuda:0", "tensorrt", "grpc://host:port", "http://host:port", "https://host/model")
_DEVICE = re.compile(rf"auto|cpu|tensorrt|cuda(:\d{{1,3}})?|{remote_address.PATTERN}")
_INSIDE: ContextVar[bool] = ContextVar("llmguard_policy_reading", default=False)


@contextmanager
def reading() -> Iterator[None]:
    """While a policy is read, its parts leave their errors to it, which knows the lines."""
    token = _INSIDE.set(True)
    try:
        yield
    finally:
        _INSIDE.reset(token)


def _first_paragraph(schema: dict[str, Any]) -> dict[str, str]:
    return {"description": schema["description"].partition("\n\n")[0]}


class Strict(BaseModel):
    """A frozen model without unknown keys, whose errors are ours.

    Raises:
        ConfigurationError: a key is unknown or missing, or a value is out of its limits.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True, extra="forbid", json_schema_extra=lambda schema: schema.update(_first_paragraph(schema))
    )

    @model_validator(mode="wrap")
    @classmethod
    def _read(cls, data: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        if _INSIDE.get() or isinstance(data, cls):
            return handler(data)
        try:
            return handler(data)
        except ValidationError as error:
            raise policy_check.translated(error, policy_source.from_mapping(data), cls.known_keys()) from None

    def said(self) -> dict[str, Any]:
        """Its keys and values, without what was worked out from them."""
        return {key: getattr(self, key) for key in type(self).model_fields}

    def __getstate__(self) -> dict[Any, Any]:
        # What is cached may hold a key: it is looked up again where the copy is used.
        return {**super().__getstate__(), "__dict__": self.said()}

    @classmethod
    def known_keys(cls) -> dict[str, Any]:
        """The keys that it has, with those of its parts below them."""
        fields = cls.model_fields.items()
        parts = {field.alias or key: _part(field.annotation) for key, field in fields}
        return {key: part.known_keys() if part is not None else None for key, part in parts.items()}


def _part(annotation: Any) -> type[Strict] | None:
    if isinstance(annotation, type) and issubclass(annotation, Strict):
        return annotation
    return next(filter(None, map(_part, get_args(annotation))), None)


def _listed(value: object) -> object:
    if isinstance(value, str):
        return (value,)
    return tuple(sorted(value)) if isinstance(value, (set, frozenset)) else value


def _distinct(values: tuple[T, ...]) -> tuple[T, ...]:
    for position, value in enumerate(values):
        if value in values[:position]:
            raise ValueError(f"{str(value)!r} stands twice")
    return values


def _device(value: str) -> str:
    if not _DEVICE.fullmatch(value):
        raise ValueError(f"unknown device {value!r}{nearest(value, _DEVICES)}")
    return value


def _kind(value: object) -> str | None:
    if isinstance(value, str):
        return "word"
    return "options" if isinstance(value, (Mapping, Strict)) else None


def _word_or_options(what: str) -> Discriminator:
    return Discriminator(_kind, custom_error_type="kind", custom_error_message=f"must be {what}")


Word = Annotated[str, Field(min_length=1)]
Words = Annotated[
    tuple[Word, ...], AfterValidator(_distinct), BeforeValidator(_listed, json_schema_input_type=Word | list[Word])
]
Categories = Annotated[
    tuple[Word, ...],
    Field(min_length=1),
    AfterValidator(_distinct),
    BeforeValidator(_listed, json_schema_input_type=Word | Annotated[list[Word], Field(min_length=1)]),
]
Stages = Annotated[
    tuple[Stage, ...],
    Field(min_length=1),
    AfterValidator(_distinct),
    BeforeValidator(_listed, json_schema_input_type=Stage | Annotated[list[Stage], Field(min_length=1)]),
]
Actions = Annotated[
    tuple[Action, ...],
    Field(min_length=1),
    AfterValidator(_distinct),
    BeforeValidator(_listed, json_schema_input_type=Action | Annotated[list[Action], Field(min_length=1)]),
]
Roles = Annotated[
    tuple[Role, ...],
    Field(min_length=1),
    AfterValidator(_distinct),
    BeforeValidator(_listed, json_schema_input_type=Role | Annotated[list[Role], Field(min_length=1)]),
]
Switch = Annotated[bool, Field(strict=True)]
Share = Annotated[float, Field(strict=True, ge=0.0, le=1.0, allow_inf_nan=False)]
Positive = Annotated[float, Field(strict=True, gt=0.0, allow_inf_nan=False)]
Milliseconds = Positive
Device = Annotated[
    str, AfterValidator(_device), WithJsonSchema({"type": "string", "pattern": f"^({_DEVICE.pattern})$"})
]


class Canary(Strict):
    """The mode in which only a share of the conversations is decided about."""

    canary: Share = Field(description="Share of the conversations, from 0 to 1.")


class OnBlock(Strict):
    """What a guarded call does in place of raising ``Blocked``: it tries again, and then it replies."""

    reply: Word | None = Field(default=None, description="This text is the answer.")
    retry: Annotated[int, Field(strict=True, ge=1, le=10)] | None = Field(
        default=None, description="How many times the model is asked again, with the reasons."
    )

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.reply is None and self.retry is None:
            raise ValueError("needs reply or retry")
        return self


class BreakerSettings(Strict):
    """When a failing detector is given a rest."""

    failures: Annotated[int, Field(strict=True, ge=1)] = Field(default=5, description="Failures in a row that open it.")
    reset_s: Positive = Field(default=30.0, description="Seconds until one probe may pass.")


class StreamSettings(Strict):
    """How streams are looked at."""

    window: Annotated[int, Field(strict=True, ge=1, le=100_000)] = Field(
        default=32, description="Tokens of a window, for rules that say stream: windowed."
    )


class CacheSettings(Strict):
    """What is remembered of a conversation."""

    entries: Annotated[int, Field(strict=True, ge=0)] = Field(
        default=10_000, description="Texts per conversation; 0: none."
    )


Mode = Annotated[
    Annotated[Literal["enforce", "shadow"], Tag("word")] | Annotated[Canary, Tag("options")],
    _word_or_options("enforce, shadow or {canary: share}"),
]
OnBlockOrWord = Annotated[
    Annotated[Literal["raise", "fallback"], Tag("word")] | Annotated[OnBlock, Tag("options")],
    _word_or_options("raise, fallback, {reply: text} or {retry: times}"),
]


_METHODS = {"enum": ["placeholder", "mask", "hash", "encrypt", "remove"]}
_REDACTION = {
    "anyOf": [
        _METHODS,
        {
            "type": "object",
            "properties": {
                "method": _METHODS,
                "keep_last": {"type": "integer", "minimum": 0},
                "mask_char": {"type": "string", "minLength": 1, "maxLength": 1},
                "key_env": {"type": "string"},
            },
            "additionalProperties": False,
        },
    ]
}


def _failure(rule: dict[str, Any]) -> Literal["open", "closed"]:
    return "closed" if rule.get("action") in (Action.BLOCK, Action.REDACT) else "open"


class Rule(Strict):
    """Which findings of which stage and role lead to which action.

    Raises:
        ConfigurationError: a key is unknown or missing, or a value is out of its limits.
    """

    detector: Word = Field(description="Whose findings.")
    stage: Stages = Field(default=tuple(Stage), description="When the text is looked at; all stages by default.")
    role: Roles | None = Field(default=None, description="Who the text comes from; anyone by default.")
    categories: Categories | None = Field(default=None, description="What was found; anything by default.")
    threshold: Share = Field(default=0.5, description="The lowest score that the rule is about.")
    action: Action = Field(description="What happens: allow, flag, redact or block.")
    redaction: Annotated[str | dict[str, Any] | None, WithJsonSchema(_REDACTION)] = Field(
        default=None,
        repr=False,
        description="How: placeholder, mask, hash, encrypt or remove; or {method: ...} with options.",
    )
    on_failure: Literal["open", "closed"] = Field(
        default_factory=_failure, description="Whether it counts as a finding that the detector could not say."
    )
    deadline_ms: Milliseconds | None = Field(default=None, description="Milliseconds for the detector at these stages.")
    stream: Literal["strict", "windowed", "observe"] = Field(
        default="strict", description="How long a stream is held back."
    )

    @field_validator("redaction")
    @classmethod
    def _how(cls, value: Any, info: ValidationInfo) -> Any:
        if value is None or "action" not in info.data:
            return value
        from llmguard.redaction import Redaction

        if info.data["action"] is not Action.REDACT:
            raise ValueError(f"goes with action redact, not with {info.data['action']!s}")
        try:
            Redaction.parse(value)
        except ConfigurationError as error:
            raise ValueError(error.message.removeprefix("redaction: ")) from None
        return value

    @field_validator("on_failure")
    @classmethod
    def _nothing_to_close(cls, value: str, info: ValidationInfo) -> str:
        if value == "closed" and info.data.get("action") is Action.ALLOW:
            raise ValueError("closed goes with flag, redact and block: allow stops nothing when the detector fails")
        return value

    @cached_property
    def how(self) -> Any:
        """The ``Redaction`` of its findings, with its key looked up.

        Raises:
            ConfigurationError: the key is missing or does not fit.
        """
        from llmguard.redaction import Redaction

        return Redaction.parse(self.redaction or "placeholder").ready()
