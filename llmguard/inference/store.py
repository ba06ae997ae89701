"""Where models come from: the wheel, a directory, or a pinned revision on the Hugging Face hub.

Every file that a card names is checked against its sha256 before anything reads it; what the card does not name is
left alone. A file is hashed once in a process, and again when it has changed: 23 MB take 25 ms, so the check costs
less than the session that follows.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from llmguard.errors import ModelLoadError, nearest
from llmguard.inference import hub
from llmguard.inference.card import CARD, TOKENIZER, Card

_BUNDLED = Path(__file__).parent / "models"
_digests: dict[tuple[str, int, int, int], str] = {}


@dataclass(frozen=True, slots=True)
class ModelDirectory:
    """A model on disk whose files are those that its card names.

    Attributes:
        path: the directory.
        card: what it says about itself.
    """

    path: Path
    card: Card

    @property
    def graphs(self) -> dict[str, Path]:
        """The ONNX files by precision."""
        return {precision: self.path / file for precision, file in self.card.graphs.items()}

    @property
    def tokenizer(self) -> Path:
        """The tokenizer's file; it is there if the card has a ``tokenizer``."""
        return self.path / TOKENIZER


def open_model(source: str, *, offline: bool | None = None) -> ModelDirectory:
    """Find a model and check its files.

    Args:
        source: the name of a bundled model, a directory, or ``hf://owner/name@revision[#subfolder]`` with a
            revision of 40 hexadecimal digits. A bare name means the bundled model before a directory.
        offline: take files of the hub from its cache alone; None asks the environment (``HF_HUB_OFFLINE``).

    Raises:
        ModelLoadError: there is no such model, its card is wrong, or a file is missing, damaged or changed.
        MissingExtraError: the hub was named and ``huggingface_hub`` is not installed.
    """
    if source.startswith(hub.SCHEME):
        return verify(_from_hub(source, offline))
    path = _BUNDLED / source if source in bundled() else Path(source)
    if not path.is_dir():
        hint = nearest(source, bundled()) if Path(source).name == source else ""
        raise ModelLoadError(f"there is no model {source!r}{hint}")
    return verify(ModelDirectory(path, Card.load(path / CARD)))


def bundled() -> tuple[str, ...]:
    """The names of the models in the wheel."""
    return tuple(sorted(card.parent.name for card in _BUNDLED.glob(f"*/{CARD}")))


def verify(model: ModelDirectory) -> ModelDirectory:
    """Check every file that the card names; the model comes back.

    Raises:
        ModelLoadError: names the first file that is missing, can't be read, or is not what the card says.
    """
    for name, digest in model.card.files.items():
        path = model.path / name
        try:
            if not path.is_file():
                raise ModelLoadError(f"the file {name!r} of the model {model.card.name!r} is missing", source=str(path))
            size, found = path.stat().st_size, _digest(path)
        except OSError as error:
            raise ModelLoadError(f"can't be read: {error.strerror}", source=str(path)) from None
        if found != digest:
            raise ModelLoadError(
                f"the file {name!r} of the model {model.card.name!r} is truncated, damaged or changed: "
                f"its {size} bytes have the sha256 {found[:12]}…, the card says {digest[:12]}…",
                source=str(path),
            )
    return model


def _digest(path: Path) -> str:
    state = path.stat()
    key = (str(path.resolve()), state.st_size, state.st_mtime_ns, state.st_ctime_ns)
    if key not in _digests:
        with path.open("rb") as file:
            _digests[key] = hashlib.file_digest(file, "sha256").hexdigest()
    return _digests[key]


def _from_hub(source: str, offline: bool | None) -> ModelDirectory:
    place = hub.parse(source)
    card_path = hub.fetch(place, CARD, offline=offline)
    card = Card.load(card_path)
    for name in card.files:
        hub.fetch(place, name, offline=offline)
    return ModelDirectory(card_path.parent, card)
