"""Names of people, places and organisations, and addresses: a model's token labels as spans of the text."""

from __future__ import annotations

from collections.abc import Sequence

from llmguard.detectors.model_options import ModelOptions, chosen_head
from llmguard.detectors.token_names import Names
from llmguard.types import Finding

CATEGORIES = {
    "ADDRESS": "STREET_ADDRESS",
    "LOC": "LOCATION",
    "GPE": "LOCATION",
    "ORG": "ORGANIZATION",
    "PER": "PERSON",
}
"""What other people's models call what Presidio has a name for."""


class EntityReader:
    """The names that a model sees in texts; how tokens become names is said in `Names`.

    Args:
        options: which model runs where.
        head: the output with the labels of tokens; by default ``entities``, or the only one.

    Raises:
        ConfigurationError: an option is wrong or does not fit the model.
        ModelLoadError: the model can't be loaded.
    """

    def __init__(self, options: ModelOptions, head: str | None = None) -> None:
        self.encoder = options.encoder()
        self._head = chosen_head(self.encoder, "entities", head, "tokens")
        self._names = Names(self._head.labels, self._head.words)
        self._category = {kind: CATEGORIES.get(kind.upper(), kind.upper()) for kind in self._names.kinds}
        self.categories = frozenset(self._category.values())
        card = self.encoder.card
        self.version = f"{card.name}.{card.version}.{self.encoder.session.precision}"
        self._reason = f"{card.name} {card.version}"

    def findings(self, contents: Sequence[str]) -> list[list[Finding]]:
        """The names in each text, by place; a score is the mean probability of the kind over the words of the name."""
        found: list[list[Finding]] = []
        for content, encoded in zip(contents, self.encoder.encode(contents), strict=True):
            windows = [
                (window.offsets, row[self._head.name])
                for window, row in zip(encoded.windows, encoded.rows, strict=True)
            ]
            found.append(
                [
                    Finding(self._category[name.kind], name.score, (name.start, name.end), reasons=(self._reason,))
                    for name in self._names.read(content, windows)
                ]
            )
        return found
