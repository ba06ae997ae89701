"""The helpers for users' tests: check_detector catches each broken promise, the fake fakes, capture captures."""

from __future__ import annotations

import math
import re
import subprocess
import sys
import threading
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from opentelemetry import metrics, trace
from opentelemetry._logs import LogRecord, get_logger_provider

from llmguard.detectors.growth import BrokenPromise, check_growth
from llmguard.errors import MissingExtraError
from llmguard.testing import HOSTILE_TEXTS, FakeDetector, capture, check_detector
from llmguard.types import Detector, Finding, Scope, Text


def test_a_sound_detector_passes() -> None:
    fake = FakeDetector(find={"ada": "NAME", "fox": "ANIMAL"})
    check_detector(fake, texts=["ada", "a fox"])
    assert set(fake.texts) >= {*HOSTILE_TEXTS.values(), "ada", "a fox"}


def lying(finding: Any) -> FakeDetector:
    """Gives this finding in every text that is long enough."""
    return FakeDetector(find=lambda text: [finding] if len(text) > 40 else [])


class Broken(FakeDetector):
    """A detector whose answers one of ``SPOILERS`` spoils; named, so that it pickles."""

    def __init__(self, spoil: str) -> None:
        super().__init__(find="ada")
        self.spoil = spoil

    def detect(self, texts: Sequence[Text]) -> Any:
        answers = super().detect(texts)
        return SPOILERS[self.spoil](self, texts, answers)

    def __reduce__(self) -> Any:
        return Broken, (self.spoil if self.spoil != "worse when pickled" else "empty",)


def only_in_threads(self: Broken, texts: Sequence[Text], answers: list[Any]) -> Any:
    return answers if threading.current_thread() is threading.main_thread() else [[] for _ in texts]


SPOILERS: dict[str, Any] = {
    "worse when pickled": lambda self, texts, answers: answers,
    "empty": lambda self, texts, answers: [[] for _ in texts],
    "too few": lambda self, texts, answers: answers[:-1],
    "none": lambda self, texts, answers: None,
    "generator": lambda self, texts, answers: (answer for answer in answers),
    "inner none": lambda self, texts, answers: [None for _ in texts],
    "first call only": lambda self, texts, answers: (
        answers if self.calls <= len(HOSTILE_TEXTS) + 1 else [[] for _ in texts]
    ),
    "batches only": lambda self, texts, answers: answers if len(texts) > 1 else [[] for _ in texts],
    "by place": lambda self, texts, answers: answers if len(texts) < 2 or not texts[0].content else [[] for _ in texts],
    "first batch half": lambda self, texts, answers: answers if len(texts) < 20 else [[] for _ in texts],
    "speaks when empty": lambda self, texts, answers: answers or [[]],
    "threads": only_in_threads,
}


@pytest.mark.parametrize(
    ("detector", "message"),
    [
        (object(), "is no detector: it has no 'name'"),
        (Broken("too few"), "0 answers for 1 texts"),
        (Broken("none"), "detect must return a list of lists, not NoneType"),
        (Broken("generator"), "detect must return a list of lists, not generator"),
        (Broken("inner none"), "each text's answer must be a list, not NoneType"),
        (Broken("first call only"), "sample 'plain': the second call differs from the first"),
        (Broken("batches only"), "sample 'plain': alone it differs from its findings in a batch"),
        (Broken("by place"), "its findings depend on the order of the batch"),
        (Broken("first batch half"), "its findings depend on the texts before it"),
        (Broken("speaks when empty"), "1 answers for 0 texts"),
        (Broken("threads"), "sample 'plain': with eight threads at once it differs"),
        (Broken("worse when pickled"), "sample 'plain': a pickled copy differs"),
        (FakeDetector(raises=OSError("secret")), "sample 'empty': detect raised OSError"),
        (FakeDetector(find=lambda text: []), "does not pickle"),
        (lying("FAKE"), "str is no Finding"),
        (lying(Finding("OTHER")), "'OTHER' is not in its categories"),
        (lying(Finding("FAKE", math.nan)), "the score nan of FAKE is outside [0, 1]"),
        (lying(Finding("FAKE", math.inf)), "the score inf of FAKE is outside [0, 1]"),
        (lying(Finding("FAKE", 1.5)), "the score 1.5 of FAKE is outside [0, 1]"),
        (lying(Finding("FAKE", True)), "the score of FAKE must be a number"),
        (lying(Finding("FAKE", "1")), "the score of FAKE must be a number"),  # type: ignore[arg-type]
        (lying(Finding("FAKE", 1.0, (0, 10**9))), "span (0, 1000000000) is empty or outside [0, "),
        (lying(Finding("FAKE", 1.0, (-1, 2))), "span (-1, 2) is empty or outside"),
        (lying(Finding("FAKE", 1.0, (2, 2))), "span (2, 2) is empty or outside"),
        (lying(Finding("FAKE", 1.0, (0.0, 1))), "the span of FAKE must be a pair of ints"),  # type: ignore[arg-type]
        (lying(Finding("FAKE", 1.0, [0, 1])), "the span of FAKE must be a pair of ints"),  # type: ignore[arg-type]
        (lying(Finding("FAKE", reasons="why")), "reasons of FAKE must be a tuple"),  # type: ignore[arg-type]
    ],
)
def test_each_broken_promise_is_caught(detector: Detector, message: str) -> None:
    with pytest.raises(AssertionError, match=re.escape(message)):
        check_detector(detector)


class Growing(FakeDetector):
    """A detector that says of growing texts what a test wants; finds words, and numbers behind a ``#``."""

    def __init__(self, settled: Any = 8, context: Any = 8, span: bool = True) -> None:
        self.answers = settled, context, span
        super().__init__(find=self.find, categories=["WORD", "NUMBER"])

    def find(self, text: str) -> list[Finding]:
        if not self.answers[2]:
            return [Finding("WORD")] if "ada" in text else []
        words = [Finding("WORD", 1.0, match.span()) for match in re.finditer(r"\bada\b", text)]
        return words + [Finding("NUMBER", 1.0, match.span()) for match in re.finditer(r"(?<=#)[0-9]", text)]

    def settled(self, text: str) -> Any:
        answer = self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return max(0, len(text) - answer) if isinstance(answer, int) else answer

    def context(self, text: str, start: int) -> Any:
        answer = self.answers[1]
        return max(0, start - answer) if isinstance(answer, int) else answer

    def __reduce__(self) -> Any:
        return Growing, self.answers


def test_a_detector_that_speaks_true_of_growing_texts_passes() -> None:
    check_detector(Growing(settled=4, context=1), texts=["ada #1 ada", "#123 ada"])


@pytest.mark.parametrize(
    ("detector", "message"),
    [
        (Growing(settled=0), "settled: a finding before that place changes"),
        (Growing(settled=2), "settled: a finding before that place changes"),
        (Growing(context=0), "on the findings behind 5 differ"),
        (Growing(settled=None), "sample 'empty': settled: gives None for 0 code points"),
        (Growing(settled=-3), "sample 'empty': settled: gives 3 for 0 code points"),
        (Growing(settled=OSError("ada")), "sample 'empty': settled or context raised OSError"),
        (Growing(context=-2), "sample 'empty': context: gives 2 for 0, which is no place before that"),
        (Growing(context=1.0), "context: gives 1.0 for 0, which is no place before that"),
        (Growing(span=False), "a finding of WORD has no span, so that no part of a text is ever settled"),
    ],
)
def test_each_promise_of_a_growing_text_is_caught_when_broken(detector: FakeDetector, message: str) -> None:
    with pytest.raises(AssertionError, match=re.escape(message)) as caught:
        check_detector(detector, texts=["say #1 to ada"])
    assert "say #1" not in str(caught.value)


class Forgetful(Growing):
    """Takes a short text for a whole one."""

    def settled(self, text: str) -> int:
        return len(text) if len(text) < 12 else max(0, len(text) - 4)


def test_a_text_looked_at_from_its_middle_must_settle_no_more_than_the_whole() -> None:
    with pytest.raises(BrokenPromise, match=r"settled: from \d+ on a finding before \d+ changes"):
        check_growth(Forgetful(context=1), "a long enough text for ada")


def test_no_message_shows_a_text() -> None:
    with pytest.raises(AssertionError) as caught:
        check_detector(FakeDetector(find="tell nobody", score=2.0), texts=["tell nobody"])
    assert "texts[0]" in str(caught.value)
    assert "nobody" not in str(caught.value)


def test_the_fake_finds_counts_and_remembers() -> None:
    fake = FakeDetector("mine", find="ab", category="AB", score=0.4)
    assert fake.detect([Text("ab ab"), Text("")]) == [[Finding("AB", 0.4, (0, 2)), Finding("AB", 0.4, (3, 5))], []]
    assert (fake.calls, fake.texts, fake.name) == (1, ["ab ab", ""], "mine")
    assert FakeDetector().detect([Text("x")]) == [[]]


def by_length(text: str) -> Iterable[Finding]:
    return [Finding("LONG")] if len(text) > 3 else []


def test_the_fake_finds_by_function() -> None:
    fake = FakeDetector(find=by_length, categories=["LONG"])
    assert fake.detect([Text("abc"), Text("abcd")]) == [[], [Finding("LONG")]]
    check_detector(fake)


def test_the_fake_fails_and_lies() -> None:
    with pytest.raises(OSError, match="gone"):
        FakeDetector(raises=OSError("gone")).detect([Text("x")])
    assert FakeDetector(answer=None).detect([Text("x")]) is None
    (liar,) = FakeDetector(find="x", score=math.nan).detect([Text("x")])[0]
    assert math.isnan(liar.score)


def test_the_fake_hangs_until_released() -> None:
    fake = FakeDetector(find="x", hang=True)
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(fake.detect([Text("x")])))
    thread.start()
    assert fake.entered.wait(10)
    assert answers == []
    fake.release()
    thread.join(10)
    assert answers == [[[Finding("FAKE", 1.0, (0, 1))]]]
    assert len(fake.detect([Text("x")])[0]) == 1


def test_capture_catches_all_three_signals_and_leaves_the_globals_alone() -> None:
    before = (trace.get_tracer_provider(), metrics.get_meter_provider(), get_logger_provider())
    with capture() as seen:
        with seen.tracer_provider.get_tracer("test").start_as_current_span("outer"):
            seen.meter_provider.get_meter("test").create_counter("hits").add(2, {"kind": "x"})
            seen.logger_provider.get_logger("test").emit(LogRecord(body="hello"))
            ended = len(seen.spans)
        assert ended == 0
        assert [span.name for span in seen.spans] == ["outer"]
    assert [span.name for span in seen.spans] == ["outer"]
    assert [(point.value, dict(point.attributes)) for point in seen.metrics()["hits"]] == [(2, {"kind": "x"})]
    assert [record.body for record in seen.logs] == ["hello"]
    assert (trace.get_tracer_provider(), metrics.get_meter_provider(), get_logger_provider()) == before


def test_capture_samples_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    with capture() as seen, seen.tracer_provider.get_tracer("test").start_as_current_span("one"):
        pass
    assert len(seen.spans) == 1


def test_without_metrics_there_are_none() -> None:
    with capture() as seen:
        assert seen.metrics() == {}


def test_a_missing_sdk_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(MissingExtraError, match=r"llmguard\[otel\]"), capture():
        pass


def test_the_sdk_is_loaded_by_capture_alone() -> None:
    code = "import sys, llmguard.testing; print([m for m in sys.modules if m.startswith('opentelemetry.sdk')])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


@pytest.mark.parametrize(("step", "inline", "fine"), [(1e-4, False, True), (1e-2, False, False), (1e-4, True, False)])
def test_a_models_scores_may_differ_in_their_last_digits(step: float, inline: bool, fine: bool) -> None:
    class Wavering:
        name, version, scope = "wavering", "1", Scope.DOCUMENT
        categories = frozenset({"X"})

        def __init__(self) -> None:
            self.inline = inline

        def detect(self, texts: Sequence[Text]) -> list[list[Finding]]:
            return [[Finding("X", 0.5 + step * (len(texts) == 1))] for _ in texts]

        def __reduce__(self) -> tuple[object, ...]:
            return _wavering, ()

    found = Wavering()
    _kept[0] = found
    if fine:
        check_detector(found)
    else:
        with pytest.raises(AssertionError, match="alone it differs"):
            check_detector(found)


_kept: list[object] = [None]


def _wavering() -> object:
    return _kept[0]
