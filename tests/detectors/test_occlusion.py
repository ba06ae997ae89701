from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmguard import Finding, Guard, Text, detector
from llmguard.detectors.occlusion import PARTS, contributions
from llmguard.errors import ConfigurationError


@detector("shouting", categories=["BAD", "WORSE"])
def shouting(text: str) -> Iterator[Finding]:
    words = text.split()
    if "idiot" in words:
        yield Finding("BAD", 0.4 + 0.5 * ("you" in words))


def parts(text: str) -> dict[str, float]:
    return {text[slice(*one.span)]: round(one.weight, 6) for one in contributions(shouting, Text(text), "BAD")}


def test_the_words_that_drove_a_score_come_first_with_their_weights() -> None:
    assert list(parts("you are an idiot today").items())[:3] == [("idiot", 0.9), ("you", 0.5), ("are", 0.0)]


def test_sentences_come_before_their_words_where_there_are_several() -> None:
    found = parts("All is well. Are you an idiot or so? The sun shines.")
    assert found["Are you an idiot or so?"] == 0.9
    assert found["All is well."] == 0.0
    assert found["idiot"] == 0.9
    assert "shines." not in found


@given(st.text(alphabet="ab .!\né", max_size=400))
def test_every_part_lies_in_the_text(text: str) -> None:
    for one in contributions(shouting, Text(text), "BAD"):
        assert 0 <= one.span[0] < one.span[1] <= len(text)
        assert -1 <= one.weight <= 1


def test_a_huge_text_costs_a_bounded_number_of_questions() -> None:
    asked: list[int] = []

    class Counting:
        name, version, scope, inline = "counting", "1", shouting.scope, True
        categories = frozenset({"BAD"})

        def score(self, texts: list[Text]) -> list[list[Finding]]:
            asked.append(len(texts))
            return [[] for _ in texts]

        detect = score

    assert len(contributions(Counting(), Text("well. " * 10_000), "BAD")) <= 2 * PARTS
    assert sum(asked) <= 2 * PARTS + 1


def test_a_category_that_the_detector_has_not_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="no category 'PII'"):
        contributions(shouting, Text("x"), "PII")


def test_a_guard_explains_its_findings() -> None:
    with Guard({"rules": [{"detector": "shouting", "action": "flag"}]}, detectors=[shouting]) as guard:
        (finding,) = guard.check("you are an idiot").findings
        first = guard.explain(finding, "you are an idiot")[0]
        assert first.span == (11, 16)
        assert guard.explain(finding, Text("you are an idiot"))[0] == first
        with pytest.raises(ConfigurationError, match="no detector 'other'"):
            guard.explain(Finding("BAD", detector="other"), "x")
        with pytest.raises(TypeError, match="not int"):
            guard.explain(finding, 3)  # type: ignore[arg-type]
