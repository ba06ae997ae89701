from pathlib import Path
from typing import Any

import pytest
from mini import mini

from llmguard import Text
from llmguard.detectors.relevance import RelevanceDetector, overlap
from llmguard.errors import ConfigurationError
from llmguard.testing import check_detector
from llmguard.types import Role

QUESTION = Text("When does the sun rise in Paris?", Role.USER)
ABOUT = Text("In Paris the sun rises at six.", Role.ASSISTANT)
ASIDE = Text("Bananas are cheap.", Role.ASSISTANT)


@pytest.fixture(scope="module", params=["none", "mini"])
def detector(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> RelevanceDetector:
    if request.param == "none":
        return RelevanceDetector(model="none")
    return RelevanceDetector(model=str(mini(tmp_path_factory.mktemp("models") / "mini")), device="cpu")


def test_an_answer_about_something_else_is_less_relevant(detector: RelevanceDetector) -> None:
    _, (about,), (aside,) = detector.score([QUESTION, ABOUT, ASIDE])
    assert about.category == aside.category == "IRRELEVANT"
    assert 0.0 <= about.score < aside.score <= 1.0
    assert about.span is None


def test_the_last_question_counts(detector: RelevanceDetector) -> None:
    other = Text("Which fruit is cheap, bananas?", Role.USER)
    found = detector.score([QUESTION, other, ABOUT, ASIDE])
    assert found[3][0].score < found[2][0].score


@pytest.mark.parametrize("texts", [[], [QUESTION], [ABOUT], [Text(" ", Role.USER), ABOUT], [QUESTION, Text("")]])
def test_without_a_question_or_an_answer_there_is_nothing_to_judge(
    detector: RelevanceDetector, texts: list[Text]
) -> None:
    assert detector.score(texts) == [[] for _ in texts]


@pytest.mark.parametrize(("question", "answer"), [("", "the moon"), ("the moon", " "), ("", "")])
def test_of_nothing_the_cosine_is_nothing(detector: RelevanceDetector, question: str, answer: str) -> None:
    assert detector.cosine(question, answer) == 0.0
    assert 0.0 < detector.irrelevance(question, answer) < 1.0


def test_the_share_of_the_words_that_come_back() -> None:
    assert overlap("When did the prices rise?", "The price rose.") == 1.0
    assert overlap("What is it?", "Anything.") == 0.0


@pytest.mark.parametrize("options", [{"model": ""}, {"floor": -1}, {"model": "none", "head": "embedding"}])
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        RelevanceDetector(**options)


def test_a_head_that_is_no_embedding_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="embedding"):
        RelevanceDetector(model=str(mini(tmp_path / "mini")), head="toxicity", device="cpu")


def test_it_is_a_well_behaved_detector(detector: RelevanceDetector) -> None:
    check_detector(detector, texts=["When does the sun rise?"])
