"""Sequence and token classifiers in Hugging Face's format."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from llmguard.errors import ModelLoadError
from llmguard.export.original import OUTPUT, Original, fits, torch_and_transformers, window
from llmguard.inference.card import Head

_SEQUENCE, _TOKEN = "ForSequenceClassification", "ForTokenClassification"
# BILOU and BIOES mark ends and single tokens, which BIO reads as insides and beginnings.
_BIO = {"B": "B", "I": "I", "L": "I", "E": "I", "M": "I", "U": "B", "S": "B"}


def load(source: str, *, revision: str | None = None, max_tokens: int | None = None) -> Original:
    """Read a classifier.

    Args:
        source: a directory, or ``owner/name`` on the hub.
        revision: of the hub's repository.
        max_tokens: of a window, if fewer than the model allows.

    Raises:
        ModelLoadError: it can't be had or read, is no classifier, or its parts don't fit together.
        MissingExtraError: ``torch`` or ``transformers`` is not installed.
    """
    torch, transformers = torch_and_transformers()
    where: dict[str, Any] = {"local_files_only": True} if Path(source).is_dir() else {"revision": revision}
    try:
        settings = transformers.AutoConfig.from_pretrained(source, trust_remote_code=False, **where)
        kind = _kind(settings, source)
        auto = getattr(transformers, "AutoModel" + kind)
        model = auto.from_pretrained(
            source, config=settings, attn_implementation="eager", dtype=torch.float32, trust_remote_code=False, **where
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(source, trust_remote_code=False, **where)
    except ModelLoadError:
        raise
    except Exception as error:  # noqa: BLE001 - transformers and its parsers raise all sorts, some with long texts
        first = str(error).strip().partition("\n")[0][:200]
        raise ModelLoadError(f"can't be loaded: {type(error).__name__}: {first}", source=source) from None
    labels = [str(settings.id2label[index]) for index in range(settings.num_labels)]
    fits(model, tokenizer, labels, source)
    head, columns = _head(settings, kind, labels, source)
    return Original(
        name=Path(source).name,
        model=model.eval(),
        tokenizer=tokenizer,
        head=head,
        columns=columns,
        window=window(model, tokenizer, max_tokens),
        facts={"licence": "unknown", "base": "" if Path(source).is_dir() else source},
    )


def _kind(settings: Any, source: str) -> str:
    names = settings.architectures or []
    for kind in (_SEQUENCE, _TOKEN):
        if any(name.endswith(kind) for name in names):
            return kind
    said = ", ".join(names) or "no architecture"
    raise ModelLoadError(
        f"{said}: only sequence and token classifiers (…{_SEQUENCE}, …{_TOKEN}) are exported", source=source
    )


def _head(settings: Any, kind: str, labels: list[str], source: str) -> tuple[Head, tuple[tuple[int, ...], ...]]:
    if kind == _TOKEN:
        named = bio(labels, source)
        head = Head(name="tokens", output=OUTPUT, kind="tokens", labels=tuple(named), activation="softmax")
        return head, tuple(named.values())
    if settings.problem_type == "regression":
        raise ModelLoadError("a regression has no probabilities", source=source)
    # As transformers' own pipeline decides it.
    several = settings.problem_type == "multi_label_classification" or settings.num_labels == 1
    activation: Literal["sigmoid", "softmax"] = "sigmoid" if several else "softmax"
    head = Head(name="labels", output=OUTPUT, kind="labels", labels=tuple(labels), activation=activation)
    return head, tuple((index,) for index in range(len(labels)))


def bio(labels: list[str], source: str) -> dict[str, tuple[int, ...]]:
    """BIO labels, "O" first, and the columns of the original that each of them stands for.

    A label without a prefix is an inside; other schemes' ends and single tokens join insides and beginnings.

    Raises:
        ModelLoadError: no label is "O".
    """
    if "O" not in labels:
        raise ModelLoadError("none of its token labels is 'O'", source=source)
    named: dict[str, list[int]] = {"O": [labels.index("O")]}
    for index, label in enumerate(labels):
        if label != "O":
            scheme, dash, category = label.partition("-")
            known = bool(dash and category) and scheme in _BIO
            named.setdefault(f"{_BIO[scheme]}-{category}" if known else f"I-{label}", []).append(index)
    return {label: tuple(columns) for label, columns in named.items()}
