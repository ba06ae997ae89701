"""What the training minimises: masked losses of all heads."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from training.encode import IGNORED
from training.labels import BIO, PLACE
from training.model import Outputs

#: What one known label weighs: the labels that decide 1, one fact in a page more, the finer ones less.
_WEIGHT = {"toxic": 1.0, "user": 1.0, "data": 1.0, "harmful": 1.0, "unsupported": 1.5}
_FINER = 0.3
_SMOOTHING = 0.02
_ENTITIES = 1.5
_OUTSIDE = 0.4  # what a token outside every entity weighs; nine of ten are


def label_loss(outputs: Outputs, known: Tensor, weight: Tensor) -> Tensor:
    """Binary cross-entropy over the labels that are known, summed; probabilities as targets, smoothed.

    Args:
        outputs: of the model.
        known: [batch, labels] probabilities in the order of ``labels.LABELS``, NaN where unknown.
        weight: [batch].
    """
    heads = (outputs.toxicity, outputs.injection, outputs.harmful, outputs.grounding)
    logits = torch.cat([head.float() for head in heads], -1)
    mask = ~known.isnan()
    target = known.nan_to_num(0.5).clamp(_SMOOTHING, 1 - _SMOOTHING)
    losses = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    scale = known.new_tensor([_WEIGHT.get(label, _FINER) for label in PLACE])
    return (losses * mask * scale * weight[:, None]).sum()


def entity_loss(outputs: Outputs, entities: Tensor) -> Tensor:
    """Cross-entropy of the tokens of texts with entity labels: a mean over a text's tokens, summed over texts."""
    scale = outputs.entities.new_full((len(BIO),), 1.0).float()
    scale[0] = _OUTSIDE
    losses = functional.cross_entropy(
        outputs.entities.float().transpose(1, 2),
        entities,
        weight=scale,
        ignore_index=IGNORED,
        reduction="none",
        label_smoothing=_SMOOTHING,
    )
    tokens = (entities != IGNORED).sum(1).clamp(min=1)
    return _ENTITIES * (losses.sum(1) / tokens.sqrt() / 2).sum()


def embedding_loss(outputs: Outputs, base: Tensor) -> Tensor:
    """One minus the cosine to the base's own sentence embedding, summed.

    Args:
        outputs: of the model.
        base: [batch, n], of unit length.
    """
    return (1 - (outputs.embedding.float() * base).sum(-1)).sum()
