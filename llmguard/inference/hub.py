"""Files of a pinned revision on the Hugging Face hub, through its own client and cache."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from llmguard.errors import MissingExtraError, ModelLoadError

#: How a model on the hub is named.
SCHEME = "hf://"

_PLACE = re.compile(
    r"hf://(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)"
    r"(@(?P<revision>[^#]*))?(#(?P<folder>[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)*))?",
    re.ASCII,
)
_COMMIT = re.compile("[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class Place:
    """A folder of a repository at a commit.

    Attributes:
        repo: ``owner/name``.
        revision: the commit, 40 hexadecimal digits.
        folder: inside the repository, or "".
    """

    repo: str
    revision: str
    folder: str = ""


def parse(source: str) -> Place:
    """Read ``hf://owner/name@revision[#folder]``.

    Raises:
        ModelLoadError: it is written otherwise, or the revision is a branch or a tag, which can move.
    """
    found = _PLACE.fullmatch(source)
    if found is None:
        raise ModelLoadError(f"{source!r} is not hf://owner/name@revision[#folder]")
    revision = found["revision"] or ""
    if not _COMMIT.fullmatch(revision):
        said = f"{revision!r} can move" if revision else "none is given"
        raise ModelLoadError(f"{source!r}: a revision is a commit's 40 hexadecimal digits; {said}")
    return Place(found["repo"], revision, found["folder"] or "")


def fetch(place: Place, name: str, *, offline: bool | None = None) -> Path:
    """The path of a file in the hub's cache, downloaded if it is not there.

    Args:
        place: where it lies.
        name: the file, relative to the folder.
        offline: the cache alone; None asks the environment.

    Raises:
        ModelLoadError: it is not there, or can't be reached.
        MissingExtraError: ``huggingface_hub`` is not installed.
    """
    try:
        from huggingface_hub import constants, hf_hub_download
    except ImportError:
        raise MissingExtraError("a model from the hub", "huggingface_hub", "hub") from None
    if offline is None:
        offline = bool(constants.HF_HUB_OFFLINE)
    path = f"{place.folder}/{name}" if place.folder else name
    try:
        return Path(hf_hub_download(place.repo, path, revision=place.revision, local_files_only=offline))
    except (OSError, ValueError) as error:
        why = "it is not in the cache, and offline was asked for" if offline else _why(error)
        raise ModelLoadError(f"{name!r} of {place.repo}@{place.revision[:12]} can't be had: {why}") from None


def _why(error: Exception) -> str:
    """The hub's errors in a line: their own texts go on over several, with request numbers."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(error).__name__.removesuffix("Error")).lower()
    status = getattr(getattr(error, "response", None), "status_code", None)
    return f"{words} (HTTP {status})" if status else words
