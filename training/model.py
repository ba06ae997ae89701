"""guard-mini in PyTorch: one encoder, six heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from training.labels import BIO, GROUNDING, HARMFUL, INJECTION, TOXICITY

TYPES = 8
_HIDDEN = 192
_MATCHED = 128
_AWAY = 1e4  # taken off the logit of a token that must not be looked at; within the range of half precision


class Outputs(NamedTuple):
    """Logits, in the order of the graph's outputs; ``embedding`` has unit length.

    ``grounding`` [batch, length, 1] says of each token of a pair's second text how little the first supports it.
    """

    toxicity: Tensor
    injection: Tensor
    harmful: Tensor
    grounding: Tensor
    entities: Tensor
    embedding: Tensor


class GuardMini(nn.Module):
    """A BERT encoder whose labels read the mean, the maximum and the first of its token vectors.

    The mean says what a text is about, the maximum finds a word or a short order in a long text.

    Args:
        encoder: a ``transformers.BertModel`` without pooler.
    """

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder = encoder
        size = encoder.config.hidden_size
        self.toxicity = _head(3 * size, len(TOXICITY))
        self.injection = _head(3 * size, len(INJECTION))
        self.harmful = _head(3 * size, len(HARMFUL))
        self.support = Support(size)
        self.entities = nn.Linear(size, len(BIO))
        self.embedding = nn.Linear(size, size)
        with torch.no_grad():
            self.embedding.weight.copy_(torch.eye(size))
            self.embedding.bias.zero_()

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Outputs:
        """All heads.

        Args:
            input_ids: [batch, length].
            attention_mask: likewise, 1 for tokens and 0 for padding.
            token_type_ids: likewise, segment + 2 * case.
        """
        states = self.encoder(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
        ).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(states.dtype)
        mean = mean_pool(states, mask)
        largest = (states - (1 - mask) * 1e4).max(1).values
        pooled = torch.cat([mean, largest, states[:, 0]], -1)
        embedding = self.embedding(mean)
        return Outputs(
            self.toxicity(pooled),
            self.injection(pooled),
            self.harmful(pooled),
            self.support(states, self.encoder.embeddings.word_embeddings(input_ids), attention_mask, token_type_ids),
            self.entities(states),
            embedding / embedding.norm(dim=-1, keepdim=True).clamp(min=1e-6),
        )


class Support(nn.Module):
    """How little the first text of a pair supports each token of the second.

    Each token looks for what is nearest to it in the first text, by its word and by its meaning, and is compared with
    what it finds ("decomposable attention", Parikh et al., EMNLP 2016, on top of the encoder's own).

    Args:
        size: of a token's vector.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.meaning = nn.Linear(size, _MATCHED, bias=False)
        nn.init.orthogonal_(self.meaning.weight)
        self.sharpness = nn.Parameter(torch.tensor([8.0, 8.0]))
        self.compare = nn.Sequential(
            nn.Linear(3 * size + 2, _MATCHED), nn.GELU(), nn.Dropout(0.1), nn.Linear(_MATCHED, len(GROUNDING))
        )
        #: Of the largest logit of a text's tokens, smoothed: what makes a statement's logit of it, in training alone.
        self.statement = nn.Parameter(torch.tensor([1.0, 0.0]))

    def forward(self, states: Tensor, words: Tensor, mask: Tensor, types: Tensor) -> Tensor:
        """Logits [batch, length, 1].

        Args:
            states: [batch, length, size], the encoder's.
            words: likewise, the tokens' own vectors, whatever stands around them.
            mask: [batch, length], 0 for padding.
            types: likewise, odd in the second text.
        """
        away = ((1 - mask * (1 - types % 2)).to(states.dtype) * _AWAY).unsqueeze(1)
        meanings = nn.functional.normalize(self.meaning(states), dim=-1)
        named = nn.functional.normalize(words.to(states.dtype), dim=-1)
        alike, same = meanings @ meanings.transpose(1, 2), named @ named.transpose(1, 2)
        found = (self.sharpness[0] * alike + self.sharpness[1] * same - away).softmax(-1).to(states.dtype) @ states
        nearest = torch.stack([(alike - away).max(-1).values, (same - away).max(-1).values], -1)
        nearest = nearest.clamp(min=-1).to(states.dtype)
        logits: Tensor = self.compare(torch.cat([states, (states - found).abs(), states * found, nearest], -1))
        return logits


def mean_pool(states: Tensor, mask: Tensor) -> Tensor:
    """The mean of the token vectors [batch, length, n] under a mask [batch, length, 1]."""
    return (states * mask).sum(1) / mask.sum(1).clamp(min=1)


def _head(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.Dropout(0.1), nn.Linear(inputs, _HIDDEN), nn.GELU(), nn.Dropout(0.1), nn.Linear(_HIDDEN, outputs)
    )


def load_base(path: Path, attention: str = "eager") -> Any:
    """The base encoder.

    Args:
        path: a directory with config.json and model.safetensors.
        attention: "eager" is what the exporter writes in plain operators; on two cores it also trained faster than
            "sdpa" (by 15 % at 48 tokens, 50 % at 256, bfloat16).
    """
    from transformers import BertModel, logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    return BertModel.from_pretrained(path, attn_implementation=attention, add_pooling_layer=False)


def widen(encoder: Any, vocabulary: Mapping[str, int], words: Mapping[int, Sequence[str]]) -> None:
    """Add token types and emoji to an encoder.

    Types for case start as the row of their segment; the base has two rows, of which it uses the first.
    A new token starts as the mean of its name's words, as far as the vocabulary has them.
    """
    embeddings = encoder.embeddings
    with torch.no_grad():
        old = embeddings.token_type_embeddings.weight
        kinds = nn.Embedding(TYPES, old.shape[1])
        kinds.weight.copy_(old[torch.arange(TYPES) % 2])
        embeddings.token_type_embeddings = kinds
        rows = embeddings.word_embeddings.weight
        tokens = nn.Embedding(len(vocabulary), rows.shape[1], padding_idx=0)
        tokens.weight[: len(rows)] = rows
        for place, name in words.items():
            known = [vocabulary[word] for word in name if word in vocabulary and vocabulary[word] < len(rows)]
            tokens.weight[place] = rows[known or [vocabulary["[UNK]"]]].mean(0)
        embeddings.word_embeddings = tokens
    encoder.config.type_vocab_size = TYPES
    encoder.config.vocab_size = len(vocabulary)
