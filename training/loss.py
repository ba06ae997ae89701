"""What the training minimises: masked losses of all heads."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from training.encode import IGNORED
from training.labels import PLACE
from training.model import Outputs

#: What one known label weighs: the labels that decide 1, one fact in a page more, the finer ones less.
_WEIGHT = {"toxic": 1.0, "user": 1.0, "data": 1.0, "harmful": 1.0, "unsupported": 1.5}
_FALSE = 6.0  # what a false word weighs more than one that is supported; one in ten or fewer is false
_FINER = 0.3
_SMOOTHING = 0.02
_ENTITIES = 1.5


def statement_logit(outputs: Outputs, inside: Tensor, statement: Tensor) -> Tensor:
    """A statement's logit [batch, 1] from its tokens': nearly the largest of them.

    Args:
        outputs: of the model.
        inside: [batch, length], true for the tokens of a pair's second text.
        statement: scale and offset.
    """
    tokens = outputs.grounding.float().squeeze(-1).masked_fill(~inside, -30.0)
    return (torch.logsumexp(2 * tokens, 1, keepdim=True) / 2) * statement[0] + statement[1]


def support_loss(outputs: Outputs, false: Tensor) -> Tensor:
    """Binary cross-entropy of the tokens of which it is known whether they are false, summed over texts.

    Args:
        outputs: of the model.
        false: [batch, length]: 0, 1, or ``IGNORED``.
    """
    known = false != IGNORED
    target = (false == 1).float()
    losses = functional.binary_cross_entropy_with_logits(
        outputs.grounding.float().squeeze(-1), target.clamp(_SMOOTHING, 1 - _SMOOTHING), reduction="none"
    )
    losses = losses * known * (1 + _FALSE * target)
    return (losses.sum(1) / known.sum(1).clamp(min=1).sqrt()).sum()


def label_loss(outputs: Outputs, known: Tensor, weight: Tensor, grounding: Tensor) -> Tensor:
    """Binary cross-entropy over the labels that are known, summed; probabilities as targets, smoothed.

    Args:
        outputs: of the model.
        known: [batch, labels] probabilities in the order of ``labels.LABELS``, NaN where unknown.
        weight: [batch].
        grounding: [batch, 1], see `statement_logit`.
    """
    heads = (outputs.toxicity, outputs.injection, outputs.harmful, grounding)
    logits = torch.cat([head.float() for head in heads], -1)
    mask = ~known.isnan()
    target = known.nan_to_num(0.5).clamp(_SMOOTHING, 1 - _SMOOTHING)
    losses = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    scale = known.new_tensor([_WEIGHT.get(label, _FINER) for label in PLACE])
    return (losses * mask * scale * weight[:, None]).sum()


def entity_loss(outputs: Outputs, entities: Tensor) -> Tensor:
    """Cross-entropy of the tokens of texts with entity labels: a mean over a text's tokens, summed over texts."""
    losses = functional.cross_entropy(
        outputs.entities.float().transpose(1, 2),
        entities,
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
