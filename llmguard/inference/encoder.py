"""One model, ready to be asked: texts to windows, windows in batches through the graph, logits to probabilities.

Detectors that name the same model share one encoder, and what they ask about the same text one forward pass.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmguard import limits
from llmguard.errors import DeadlineError, InferenceError, ModelLoadError
from llmguard.inference.batcher import Batcher
from llmguard.inference.heads import calibrate
from llmguard.inference.memo import Memo, digest
from llmguard.inference.session import Session, open_session
from llmguard.inference.store import ModelDirectory, open_model
from llmguard.inference.tokenizer import Tokenizer
from llmguard.inference.watchers import Everyone
from llmguard.inference.windows import Window

#: Windows of one batch, and tokens with padding: what a CPU gains from batching it has gained by then.
MAX_ITEMS, MAX_TOKENS = 64, 8192
#: Answers that are kept for whoever asks the same next, and the windows of one that is small enough.
KEPT, KEPT_WINDOWS = 512, 16

Row = dict[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Encoded:
    """What a model says about one text.

    Attributes:
        windows: what it read, in order; none for a text without a printed character.
        rows: for each window its heads by name: probabilities [labels] or [tokens, labels], or an embedding [n].
    """

    windows: tuple[Window, ...]
    rows: tuple[Row, ...]

    def stacked(self, head: str) -> NDArray[np.float32]:
        """One row a window, [windows, n]; of a head that has a row a window."""
        return np.stack([row[head] for row in self.rows])


class Encoder:
    """A model with its tokenizer, session and queue; safe to share between threads.

    Args:
        model: a verified directory of the kind ``encoder``.
        session: a loaded graph of it.
        max_items: windows of a batch.
        max_tokens: tokens of a batch, padding included.
        max_delay_s: how long a window waits for company.
        preferred: sizes at which a batch waits no longer.
        queue_limit: windows that may wait.

    Raises:
        ModelLoadError: graph, tokenizer and card don't fit together.
    """

    def __init__(
        self,
        model: ModelDirectory,
        session: Session,
        *,
        max_items: int = MAX_ITEMS,
        max_tokens: int = MAX_TOKENS,
        max_delay_s: float = 0.0,
        preferred: Sequence[int] = (),
        queue_limit: int = 4096,
    ) -> None:
        card = model.card
        if card.kind != "encoder" or card.tokenizer is None:
            raise ModelLoadError(f"the model {card.name!r} is of the kind {card.kind!r}, not 'encoder'")
        self.card = card
        self.session = session
        self._pad = card.tokenizer.pad_id
        self._heads = card.heads
        _check(model, session)
        self._tokenizer = Tokenizer(model.tokenizer, card.tokenizer)
        self._batcher: Batcher[Window, Row] = Batcher(
            self._run,
            length=_length,
            max_items=max_items,
            max_tokens=max_tokens,
            preferred=preferred,
            max_delay_s=max_delay_s,
            queue_limit=queue_limit,
            observer=Everyone(),
            name=card.name,
        )
        self._fits()
        self._new_memo()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_forked(weakref.WeakMethod(self._new_memo)))

    def _new_memo(self) -> None:
        self._memo: Memo[Encoded] = Memo(KEPT, lambda encoded: len(encoded.rows) <= KEPT_WINDOWS)

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """What the model says about each text; all of every text is looked at.

        Raises:
            DeadlineError: the answer would come too late.
            OverloadError: too many windows wait.
            InferenceError: the run failed, or its answer is none.
        """
        return self._memo.get(
            [digest(text) for text in texts],
            lambda places: self._answer(self._tokenizer.windows([texts[place] for place in places])),
            _wait,
        )

    def encode_pairs(self, contexts: Sequence[str], texts: Sequence[str]) -> list[Encoded]:
        """What the model says about each text beside its context; a window for every part of a long context.

        Raises:
            DeadlineError: the answer would come too late.
            OverloadError: too many windows wait.
            InferenceError: the run failed, its answer is none, or there are more than 16,384 windows.
        """
        if len(contexts) != len(texts):
            raise ValueError(f"{len(contexts)} contexts and {len(texts)} texts don't pair")
        known = {context: digest(context) for context in dict.fromkeys(contexts)}
        return self._memo.get(
            [known[context] + digest(text) for context, text in zip(contexts, texts, strict=True)],
            lambda places: self._answer(
                self._tokenizer.pairs([contexts[place] for place in places], [texts[place] for place in places])
            ),
            _wait,
        )

    def forget(self) -> None:
        """Drop the answers that are kept."""
        self._memo.clear()

    def close(self) -> None:
        """Refuse new texts, and let go of the model."""
        if self._batcher.close():
            self.session.close()

    def _answer(self, windows: list[list[Window]]) -> list[Encoded]:
        flat = [window for own in windows for window in own]
        rows = iter(self._batcher.answer(flat, deadline=limits.deadline.get(), tenant=limits.tenant.get()))
        return [Encoded(tuple(own), tuple([next(rows) for _ in own])) for own in windows]

    def _run(self, windows: Sequence[Window]) -> list[Row]:
        size = max([len(window.ids) for window in windows])
        ids = np.full((len(windows), size), self._pad, np.int64)
        mask = np.zeros((len(windows), size), np.int64)
        types = np.zeros((len(windows), size), np.int64)
        for place, window in enumerate(windows):
            count = len(window.ids)
            ids[place, :count] = window.ids
            mask[place, :count] = 1
            types[place, :count] = window.type_ids
        feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
        out = self.session.run({name: feeds[name] for name in self.session.inputs})
        rows: list[Row] = [{} for _ in windows]
        for head in self._heads:
            logits = out[head.output]
            if logits.ndim != (3 if head.by_token else 2) or len(logits) != len(windows):
                raise InferenceError(f"the model's output {head.output!r} has the shape {logits.shape}")
            for row, own in zip(rows, calibrate(logits, head, self.session.precision), strict=True):
                row[head.name] = own
        for row, window in zip(rows, windows, strict=True):
            for head in self._heads:
                if head.by_token:
                    row[head.name] = row[head.name][: len(window.ids)]
        return rows

    def _fits(self) -> None:
        """Whether a first run says what the card says, and the graph knows the tokenizer's last token.

        A token that it does not know is an error in ONNX Runtime, and reads as nothing at all in OpenVINO: there the
        last token must say something else than one that no vocabulary has.
        """
        last, beyond = [
            Window(0, 1, *(np.array(values, np.int32) for values in ([token], [0], [[0, 1]])))
            for token in (self._tokenizer.size - 1, self._tokenizer.size + 1)
        ]
        try:
            known = self._run([last])[0]
        except InferenceError as error:
            raise ModelLoadError(f"the parts of the model {self.card.name!r} don't fit together: {error}") from error
        try:
            unknown = self._run([beyond])[0]
        except InferenceError:
            return
        if all([np.array_equal(known[head], unknown[head]) for head in known]):
            raise ModelLoadError(
                f"the parts of the model {self.card.name!r} don't fit together: its graph does not know the token "
                f"{self._tokenizer.size - 1} of its tokenizer"
            )


def _check(model: ModelDirectory, session: Session) -> None:
    unknown = set(session.inputs) - {"input_ids", "attention_mask", "token_type_ids"}
    if unknown or "input_ids" not in session.inputs:
        raise ModelLoadError(
            f"the graph of the model {model.card.name!r} has the inputs {', '.join(sorted(session.inputs))}: it must "
            "take input_ids and may take attention_mask and token_type_ids"
        )
    for head in model.card.heads:
        if head.output not in session.outputs:
            raise ModelLoadError(
                f"the graph of the model {model.card.name!r} has no output {head.output!r}: "
                f"it has {', '.join(session.outputs)}"
            )


def _length(window: Window) -> int:
    return len(window.ids)


def _wait(future: Future[Encoded]) -> Encoded:
    """For what another thread computes, as long as the answer is of use here."""
    until = limits.deadline.get()
    try:
        return future.result(None if until is None else max(0.0, until - time.monotonic()))
    except FutureTimeoutError:
        if future.done():
            raise
        raise DeadlineError("another caller's run of the same text did not end in time") from None


def _forked(method: weakref.WeakMethod[Any]) -> Any:
    def begin_anew() -> None:
        if (alive := method()) is not None:
            alive()

    return begin_anew


_shared: weakref.WeakValueDictionary[tuple[Any, ...], Encoder] = weakref.WeakValueDictionary()
_loading = threading.Lock()


def shared(
    source: str, *, device: str = "auto", runtime: str = "auto", precision: str = "auto", threads: int | None = None
) -> Encoder:
    """The encoder of a model, loaded once for all who name it with the same settings while one of them is alive.

    Args:
        source: as in `open_model`; of a model on a server its card and tokenizer are used.
        device: as in `open_session`.
        runtime: likewise.
        precision: likewise.
        threads: likewise.

    Raises:
        ModelLoadError: the model can't be loaded.
        DeviceError: the device can't be used.
    """
    with _loading:
        model = open_model(source)
        key = (str(model.path.resolve()), tuple(sorted(model.card.files.items())), device, runtime, precision, threads)
        found = _shared.get(key)
        if found is None:
            session = open_session(
                model.graphs, device=device, runtime=runtime, precision=precision, threads=threads, card=model.card
            )
            found = _shared[key] = Encoder(model, session)
        return found
