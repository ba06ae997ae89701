import pytest

from llmguard import Guard, Text
from llmguard.detectors.consistency import Consistency, ConsistencyDetector, consistency
from llmguard.testing import check_detector
from llmguard.types import Role

ANSWERS = [
    "The bridge was built by Ada Wong in 1932. It crosses the river Elm.",
    "It crosses the river Elm. The bridge was built by Ada Wong in 1932.",
    "The bridge crosses the river Elm. It was built by John Frey in 1957.",
]


@pytest.fixture(scope="module")
def detector() -> ConsistencyDetector:
    return ConsistencyDetector(model="none")


def test_sentences_that_other_answers_lack_are_doubtful() -> None:
    found = consistency(ANSWERS, model="none")
    built = [ANSWERS[0][slice(*doubt.span)] for doubt in found.answers[0] if doubt.supporting < 2]
    assert built == ["The bridge was built by Ada Wong in 1932."]
    odd = max(found.answers[2], key=lambda doubt: doubt.score)
    assert ANSWERS[2][slice(*odd.span)] == "It was built by John Frey in 1957."
    assert odd.supporting == 0
    assert 0 < found.score < 1


def test_answers_may_come_one_by_one() -> None:
    assert consistency(iter(ANSWERS), model="none") == consistency(ANSWERS, model="none")  # type: ignore[arg-type]


def test_answers_that_say_the_same_agree() -> None:
    assert consistency(["The bridge is old.", "The bridge is old."], model="none").score == 0.0


@pytest.mark.parametrize("answers", [[], ["One."], ["One.", ""], ["", " "]])
def test_fewer_than_two_answers_agree(answers: list[str]) -> None:
    found = consistency(answers, model="none")
    assert isinstance(found, Consistency)
    assert found.score == 0.0
    assert len(found.answers) == len(answers)


@pytest.mark.parametrize("answers", ["one text", [1, 2], [b"x", "y"], None, iter(["x", 2])])
def test_answers_are_texts(answers: object) -> None:
    with pytest.raises(TypeError, match="answers must be a sequence of strings"):
        consistency(answers, model="none")  # type: ignore[arg-type]


def test_the_choices_of_one_call_are_compared(detector: ConsistencyDetector) -> None:
    texts = [Text(one, Role.ASSISTANT, f"/choices/{index}/message/content") for index, one in enumerate(ANSWERS)]
    found = detector.score(texts)
    odd = found[2][0]
    assert odd.category == "INCONSISTENT"
    assert odd.span is not None
    assert ANSWERS[2][slice(*odd.span)] == "It was built by John Frey in 1957."
    assert "supported by 0 of 2 other answers" in odd.reasons


def test_parts_of_one_answer_are_no_choices(detector: ConsistencyDetector) -> None:
    parts = [Text(one, Role.ASSISTANT, f"/content/{index}/text") for index, one in enumerate(ANSWERS)]
    assert detector.score(parts) == [[], [], []]
    same = [Text(one, Role.ASSISTANT, "/choices/0/message/content") for one in ANSWERS]
    assert detector.score(same) == [[], [], []]
    assert detector.score([Text(one, Role.USER) for one in ANSWERS]) == [[], [], []]


def test_it_works_through_a_guard(detector: ConsistencyDetector) -> None:
    policy = {"rules": [{"detector": "consistency", "stage": "output", "threshold": 0.7, "action": "flag"}]}
    with Guard(policy, detectors=[detector]) as guard:
        decision = guard.check([Text(one, Role.ASSISTANT) for one in ANSWERS], stage="output")
        assert {finding.text for finding in decision.findings if finding.action == "flag"} == {2}
        assert guard.check(ANSWERS[0], stage="output").findings == ()


def test_it_is_a_well_behaved_detector(detector: ConsistencyDetector) -> None:
    check_detector(detector, texts=ANSWERS)
