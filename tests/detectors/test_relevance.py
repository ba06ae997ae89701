from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from mini import mini
from work import steps

from llmguard import Text
from llmguard.detectors.relevance import RelevanceDetector, overlaps
from llmguard.errors import ConfigurationError
from llmguard.inference.encoder import Encoded, Encoder
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
    assert detector.cosines(question, [answer]) == [0.0]
    (score,) = detector.irrelevances(question, [answer])
    assert 0.0 < score < 1.0


def test_the_share_of_the_words_that_come_back() -> None:
    assert overlaps("When did the prices rise?", ["The price rose.", "Who knows?"]) == [1.0, 0.0]
    assert overlaps("What is it?", ["Anything."]) == [0.0]


@pytest.mark.parametrize("options", [{"model": ""}, {"floor": -1}, {"model": "none", "head": "embedding"}])
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        RelevanceDetector(**options)


def test_a_head_that_is_no_embedding_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="embedding"):
        RelevanceDetector(model=str(mini(tmp_path / "mini")), head="toxicity", device="cpu")


def test_it_is_a_well_behaved_detector(detector: RelevanceDetector) -> None:
    check_detector(detector, texts=["When does the sun rise?"])


def test_a_question_is_read_once_for_all_its_answers() -> None:
    detector = RelevanceDetector(model="none")

    def work(words: int, answers: int) -> int:
        question = Text(" ".join([f"word{number}" for number in range(words)]), Role.USER)
        texts = [question, *(Text("so", Role.ASSISTANT) for _ in range(answers))]
        return steps(lambda: detector.score(texts), "llmguard.detectors")

    work(300, 1)  # stems are kept
    assert work(300, 50) - work(100, 50) < 1.1 * (work(300, 1) - work(100, 1))


def test_a_model_reads_a_question_once_for_all_its_answers(
    detector: RelevanceDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    encode = Encoder.encode

    def counted(self: Encoder, texts: Sequence[str]) -> list[Encoded]:
        asked.extend(texts)
        return encode(self, texts)

    monkeypatch.setattr(Encoder, "encode", counted)
    together = detector.score([QUESTION, ABOUT, ASIDE])
    assert asked.count(QUESTION.content) == bool(asked)
    alone = [detector.score([QUESTION, answer])[1][0].score for answer in (ABOUT, ASIDE)]
    assert [found[0].score for found in together[1:]] == pytest.approx(alone, abs=1e-3)
