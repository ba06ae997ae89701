"""A model directory is written as a whole or not at all."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llmguard.errors import ConfigurationError
from llmguard.inference import card_yaml
from llmguard.inference.card import CARD, Card
from llmguard.inference.store import ModelDirectory, verify


@contextmanager
def staged(target: Path, *, replace: bool = False) -> Iterator[Path]:
    """A directory beside the target that takes its place when the block ends well, and is removed when not.

    Args:
        target: must not exist, or be an empty directory, unless ``replace``.
        replace: what stands there gives way.

    Raises:
        ConfigurationError: something stands there, or it can't be written.
    """
    if target.exists() and not replace and (not target.is_dir() or any(target.iterdir())):
        raise ConfigurationError(f"{str(target)!r} is there already: name a directory that is not")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        stage = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise ConfigurationError(f"{str(target)!r} can't be written: {error.strerror}") from None
    try:
        yield stage
        stage.chmod(0o755)
        _swap(stage, target)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def finish(folder: Path, said: Mapping[str, Any]) -> Card:
    """Write the card of a directory whose other files are all there.

    Args:
        folder: its files get their checksums.
        said: the card but for ``format`` and ``files``.

    Raises:
        ModelLoadError: the card would be wrong.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != CARD)
    digests = {}
    for path in files:
        with path.open("rb") as file:
            digests[path.relative_to(folder).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    text = card_yaml.write({"format": 1, **said, "files": digests})
    card = Card.parse(text, str(folder / CARD))
    (folder / CARD).write_text(card.text(), encoding="utf-8")
    return card


def copy(model: ModelDirectory, target: Path) -> ModelDirectory:
    """Copy a model's card and the files that it names, and nothing else.

    Raises:
        ConfigurationError: something stands at the target.
        ModelLoadError: a copy is not what the card says.
    """
    with staged(target) as stage:
        for name in model.card.files:
            (stage / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(model.path / name, stage / name)
        shutil.copyfile(model.path / CARD, stage / CARD)
        verify(ModelDirectory(stage, model.card))
    return ModelDirectory(target, model.card)


def _swap(stage: Path, target: Path) -> None:
    """Rename, which is atomic; a directory that gives way stands aside until the new one is in its place."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        stage.replace(target)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.old.", dir=target.parent))
    target.replace(aside / "old")
    try:
        stage.replace(target)
    except OSError:
        (aside / "old").replace(target)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
