"""A detector of scope sentence is given sentences, however its texts come: a stream finds what a check finds."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from llmguard.detectors import sentences
from llmguard.errors import DetectorError
from llmguard.types import Detector, Finding, Text


class Sentencewise:
    """Shows a detector each sentence as a text of its own, and puts its findings back in their places.

    Args:
        detector: of scope sentence. A finding of it that has no span is about its sentence.
    """

    def __init__(self, detector: Detector) -> None:
        self._detector = detector

    def detect(self, texts: Sequence[Text]) -> list[list[Finding]]:
        """The findings in all sentences of each text.

        Raises:
            DetectorError: the detector did not answer with one list a sentence, or outside of it.
        """
        places = [sentences.sentences(text.content) for text in texts]
        parts = [
            Text(text.content[start:end], text.role, text.path)
            for text, spans in zip(texts, places, strict=True)
            for start, end in spans
        ]
        if not parts:
            return [[] for _ in texts]
        answer = self._detector.detect(parts)
        if not isinstance(answer, Sequence) or len(answer) != len(parts):
            raise DetectorError(self._detector.name, f"did not give {len(parts)} lists for {len(parts)} sentences")
        left = iter(answer)
        return [[self._moved(found, span) for span in spans for found in next(left)] for spans in places]

    def settled(self, text: str) -> int:
        """See `types.Incremental`: up to the end of the last whole sentence."""
        return sentences.settled(text)

    def context(self, text: str, start: int) -> int:
        """See `types.Incremental`: from the beginning of the sentence that the place is in."""
        return sentences.beginning(text, start)

    def _moved(self, found: Finding, sentence: tuple[int, int]) -> Finding:
        length = sentence[1] - sentence[0]
        start, end = found.span or (0, length)
        if not 0 <= start <= end <= length:
            raise DetectorError(self._detector.name, "a finding's span is outside the sentence")
        return dataclasses.replace(found, span=(start + sentence[0], end + sentence[0]))
