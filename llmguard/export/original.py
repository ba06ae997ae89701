"""A model as its maker wrote it, in PyTorch, and what is known about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llmguard.errors import ConfigurationError, MissingExtraError, ModelLoadError
from llmguard.inference.card import Head, TokenizerCard

if TYPE_CHECKING:
    import torch

#: The name of the graph's only output.
OUTPUT = "logits"


@dataclass(frozen=True, slots=True)
class Original:
    """A classifier in PyTorch, ready to be exported.

    Attributes:
        name: how the model directory calls it.
        model: Hugging Face's model, in evaluation mode, with eager attention.
        tokenizer: Hugging Face's fast tokenizer.
        head: what its logits mean.
        columns: for each label of the head the columns of the logits that it stands for.
        window: how texts are cut.
        facts: more for the card: licence, base, languages, description.
    """

    name: str
    model: Any
    tokenizer: Any
    head: Head
    columns: tuple[tuple[int, ...], ...]
    window: TokenizerCard
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The inputs of the graph, in the order of ``module``'s arguments."""
        types = getattr(self.model.config, "type_vocab_size", 0) or 0
        names = self.tokenizer.model_input_names
        more = ("token_type_ids",) if types > 1 and "token_type_ids" in names else ()
        return ("input_ids", "attention_mask", *more)

    def module(self) -> torch.nn.Module:
        """The module that is exported: tensors in, the head's logits out."""
        import torch

        names, columns, model = self.inputs, self.columns, self.model

        class Logits(torch.nn.Module):  # type: ignore[misc, unused-ignore]  # unknown where PyTorch is not installed
            def __init__(self) -> None:
                super().__init__()
                self.model = model

            def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
                logits: torch.Tensor = self.model(**dict(zip(names, tensors, strict=True))).logits
                if columns == tuple((index,) for index in range(logits.shape[-1])):
                    return logits
                parts = [[logits[..., index : index + 1] for index in one] for one in columns]
                return torch.cat([_joined(one, torch) for one in parts], dim=-1)

        return Logits().eval()  # the exporter gives a wrapper its mode back, so it must be the right one

    def graph_tokenizer(self) -> str:
        """``tokenizer.json``, without padding and truncation, which are the engine's."""
        backend = self.tokenizer.backend_tokenizer
        backend.no_padding()
        backend.no_truncation()
        return str(backend.to_str())


def _joined(parts: Sequence[torch.Tensor], torch: Any) -> torch.Tensor:
    """The logarithm of a sum of exponentials: softmax then adds the probabilities of joined columns up.

    Term by term: after a reduction the optimizer loses the shapes and recognises no attention.
    """
    total = parts[0]
    if len(parts) > 1:
        for part in parts[1:]:
            total = torch.maximum(total, part)
        total = total + torch.log(sum(torch.exp(part - total) for part in parts))
    return total


def torch_and_transformers() -> tuple[Any, Any]:
    """The two packages that an export needs.

    Raises:
        MissingExtraError: one is not installed.
    """
    try:
        import torch
        import transformers
    except ImportError as error:
        raise MissingExtraError("exporting a model", str(error.name), "export") from None
    return torch, transformers


def window(model: Any, tokenizer: Any, max_tokens: int | None) -> TokenizerCard:
    """How texts are cut for a model: as long as its positions allow, an eighth shared.

    Raises:
        ConfigurationError: ``max_tokens`` is more than the model can take.
    """
    limits = [tokenizer.model_max_length]
    for name, module in model.named_modules():
        if name.rpartition(".")[2] == "position_embeddings" and hasattr(module, "num_embeddings"):
            # RoBERTa counts positions from the one after padding.
            first = 0 if module.padding_idx is None else module.padding_idx + 1
            limits.append(module.num_embeddings - first)
    limits.append(getattr(model.config, "max_position_embeddings", None) or limits[0])
    limit = int(min(one for one in limits if one > 0))  # some say -1 for "any"
    if max_tokens is not None and max_tokens > limit:
        raise ConfigurationError(f"max_tokens: {max_tokens} is more than the {limit} that the model can take")
    chosen = max_tokens or min(limit, 1 << 16)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    return TokenizerCard(max_tokens=chosen, overlap=chosen // 8, pad_id=pad)


def fits(model: Any, tokenizer: Any, labels: Sequence[str], source: str) -> None:
    """Refuse a tokenizer or labels that belong to another model.

    Raises:
        ModelLoadError: says which numbers differ.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise ModelLoadError("its tokenizer has no fast form, so no tokenizer.json can be made", source=source)
    rows = model.get_input_embeddings().weight.shape[0]
    highest = max(tokenizer.get_vocab().values(), default=-1)
    if highest >= rows:
        raise ModelLoadError(
            f"the tokenizer doesn't fit: its highest token is {highest}, the model has embeddings for {rows}",
            source=source,
        )
    if model.config.num_labels != len(labels):
        raise ModelLoadError(
            f"{len(labels)} labels are named, the model has {model.config.num_labels} outputs", source=source
        )
