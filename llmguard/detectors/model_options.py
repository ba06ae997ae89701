"""The options that every detector with a model has, and what they are worth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmguard.errors import ConfigurationError, nearest

if TYPE_CHECKING:
    from llmguard.inference.card import Head
    from llmguard.inference.encoder import Encoder

FLOOR = 0.05
"""Scores below it are not reported unless asked for: nearly every text has one."""


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """Which model runs where.

    Attributes:
        model: as in ``llmguard.inference.store.open_model``.
        device: as in ``llmguard.inference.session.open_session``.
        runtime: likewise.
        precision: likewise.
        threads: likewise.
    """

    model: str
    device: str = "auto"
    runtime: str = "auto"
    precision: str = "auto"
    threads: int | None = None

    def encoder(self) -> Encoder:
        """The shared encoder.

        Raises:
            ConfigurationError: an option is wrong, the device is not there, or the model can't be loaded.
        """
        from llmguard.inference.encoder import shared

        for option in ("model", "device", "runtime", "precision"):
            value = getattr(self, option)
            if not isinstance(value, str) or not value:
                raise ConfigurationError(f"option {option!r} must be a text, not {value!r}")
        return shared(
            self.model, device=self.device, runtime=self.runtime, precision=self.precision, threads=self.threads
        )


def floor(value: object) -> float:
    """The option ``floor``, checked."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value) or not 0 <= value <= 1:
        raise ConfigurationError(f"option 'floor' must be a number in [0, 1], not {value!r}")
    return float(value)


def chosen_head(encoder: Encoder, detector: str, head: str | None, *kinds: str) -> Head:
    """The head that a detector reads: the one named, else that with the detector's name, else the only one.

    Raises:
        ModelLoadError: the model has no such head.
        ConfigurationError: none is named and there are several, or it is of another kind.
    """
    card = encoder.card
    kinds = kinds or ("labels",)
    kind = " or ".join(map(repr, kinds))
    names = [one.name for one in card.heads if one.kind in kinds]
    if head is None:
        if detector in names:
            head = detector
        elif len(names) == 1:
            head = names[0]
        else:
            raise ConfigurationError(
                f"the model {card.name!r} has {len(names)} heads of the kind {kind} and none is called "
                f"{detector!r}: say which by the option 'head' ({', '.join(names) or 'there is none'})"
            )
    found = card.head(head)
    if found.kind not in kinds:
        raise ConfigurationError(
            f"the head {head!r} of the model {card.name!r} is of the kind {found.kind!r}, not {kind}"
        )
    return found


def chosen_labels(head: Head, labels: Sequence[str] | None, harmless: frozenset[str]) -> tuple[str, ...]:
    """The labels that count: those named, else all that don't say that nothing is wrong.

    Raises:
        ConfigurationError: the head has no such label, or none is left.
    """
    if labels is not None:
        if isinstance(labels, str) or not labels:
            raise ConfigurationError(f"option 'labels' must be a list of one label or more, not {labels!r}")
        for label in labels:
            if label not in head.labels:
                raise ConfigurationError(
                    f"option 'labels': the head {head.name!r} has no label {label!r}{nearest(str(label), head.labels)}"
                )
        return tuple(labels)
    found = tuple([label for label in head.labels if label.lower().replace("-", "_") not in harmless])
    if not found:
        raise ConfigurationError(f"the head {head.name!r} has only labels for harmless texts: {', '.join(head.labels)}")
    return found
