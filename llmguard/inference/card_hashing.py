"""What the card of a model of the kind ``nano`` says about its table of integers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from llmguard.inference.card import Head


class Hashing(BaseModel):
    """What the integers of a ``nano`` model's table mean.

    Attributes:
        scheme: which features a text has; `kernels.hashing` knows one.
        window: blocks of about 512 characters that are scored as one.
        scales: for each label of all heads, in order; a logit is ``scale * sum / sqrt(features) + bias``.
        biases: likewise.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    scheme: int = Field(ge=1)
    window: int = Field(ge=1, le=1 << 10)
    scales: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...]
    biases: tuple[Annotated[float, Field(allow_inf_nan=False)], ...]


def check(hashing: Hashing | None, heads: Iterable[Head]) -> None:
    """Whether a card of the kind ``nano`` holds together.

    Raises:
        ValueError: it doesn't; says what would be right.
    """
    if hashing is None:
        raise ValueError("a nano model needs the key 'hashing'")
    labels = 0
    for head in heads:
        labels += len(head.labels)
        if (head.kind, head.activation, head.aggregate) != ("labels", "sigmoid", "max"):
            raise ValueError(f"the head {head.name!r} of a nano model must be of labels, with sigmoid and max")
    if {len(hashing.scales), len(hashing.biases)} != {labels}:
        raise ValueError(f"hashing: {labels} labels need as many scales and biases")
