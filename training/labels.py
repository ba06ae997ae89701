"""The heads of guard-mini, the order of their labels, and one training example."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

TOXICITY = ("toxic", "insult", "threat", "identity_attack", "obscene", "sexual")
INJECTION = ("user", "data")
HARMFUL = ("harmful",)
GROUNDING = ("unsupported",)
HEADS: Mapping[str, tuple[str, ...]] = {
    "toxicity": TOXICITY,
    "injection": INJECTION,
    "harmful": HARMFUL,
    "grounding": GROUNDING,
}
LABELS: tuple[str, ...] = tuple(label for labels in HEADS.values() for label in labels)
PLACE: Mapping[str, int] = {label: place for place, label in enumerate(LABELS)}

CATEGORIES = ("PERSON", "LOCATION", "ORGANIZATION", "ADDRESS")
BIO: tuple[str, ...] = ("O", *(f"{kind}-{category}" for category in CATEGORIES for kind in "BI"))
#: Added to the logits of names: what is trained on has more places and organisations than other texts have. Chosen on
#: dev in steps of .2, by the sum of F1 over presidio_synth_v2 and wikigold; the card says it, too.
BIO_BIAS: Mapping[str, float] = {
    label: {"LOCATION": -0.8, "ORGANIZATION": -0.4}[label[2:]]
    for label in BIO
    if label[2:] in ("LOCATION", "ORGANIZATION")
}

UNKNOWN = math.nan
Span = tuple[int, int, str]


@dataclass(frozen=True, slots=True)
class Example:
    """One text and what is known of it.

    Attributes:
        text: as it was written.
        source: the set that it is from.
        known: probability by label; a label that is not here teaches nothing.
        context: of a groundedness pair, what the text must keep to.
        false: of such a pair, the places of words that the context doesn't support, with the category "" where nobody
            knows which; None where nobody knows at all.
        spans: entities; None where nobody looked for them. A category of "" marks what nobody knows.
        focus: the part that makes the text what its labels say; a window without it is no positive.
        group: rows of one group share a split and a batch.
        weight: of its loss.
        identity: the group of people that it speaks of.
    """

    text: str
    source: str
    known: Mapping[str, float] = field(default_factory=dict)
    context: str = ""
    false: tuple[Span, ...] | None = None
    spans: tuple[Span, ...] | None = None
    focus: tuple[int, int] | None = None
    group: str = ""
    weight: float = 1.0
    identity: str = ""
