from pathlib import Path

import pytest
from mini import mini

from llmguard import Guard, Text
from llmguard.detectors.groundedness import GroundednessDetector
from llmguard.detectors.registry import load
from llmguard.testing import check_detector
from llmguard.types import Role

SOURCE = Text("the sun rises", Role.RETRIEVAL)


@pytest.fixture(scope="module", params=[False, True], ids=["by statement", "by word"])
def detector(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> GroundednessDetector:
    model = str(mini(tmp_path_factory.mktemp("models") / "mini", by_word=request.param))
    made = load("groundedness", {"model": model, "device": "cpu"})
    assert isinstance(made, GroundednessDetector)
    return made


def test_a_text_is_judged_by_the_documents_beside_it(detector: GroundednessDetector) -> None:
    texts = [SOURCE, Text("the moon rises", Role.ASSISTANT), Text("the sun", Role.ASSISTANT)]
    nothing, wrong, right = detector.detect(texts)
    assert nothing == right == []
    assert wrong[0].category == "UNGROUNDED"
    assert wrong[0].score > 0.99
    assert wrong[0].span is None


@pytest.mark.parametrize(
    "texts", [[Text("the moon", Role.ASSISTANT)], [SOURCE], [Text(" ", Role.TOOL), Text("moon")], []]
)
def test_without_documents_or_answers_there_is_nothing_to_judge(
    detector: GroundednessDetector, texts: list[Text]
) -> None:
    assert detector.score(texts) == [[] for _ in texts]


def test_the_worst_sentence_of_an_answer_is_named(detector: GroundednessDetector) -> None:
    answer = "the sun. " * 60 + "the moon. " + "the sun. " * 60
    (finding,) = detector.detect([SOURCE, Text(answer, Role.ASSISTANT)])[1]
    assert finding.span is not None
    assert answer[slice(*finding.span)] == "the moon."
    assert finding.reasons[:2] == ("mini 1", "sentence 61 of 121")


def test_a_sentence_is_supported_by_the_piece_of_a_long_document_that_supports_it_best(
    detector: GroundednessDetector,
) -> None:
    long = Text("a good day " * 200, Role.TOOL)
    assert detector.detect([long, SOURCE, Text("the sun", Role.ASSISTANT)])[2] == []
    assert detector.detect([long, Text("the moon " * 60, Role.ASSISTANT)])[1][0].score > 0.99


def test_a_model_that_scores_words_says_where_the_unsupported_ones_stand(tmp_path: Path) -> None:
    made = GroundednessDetector(model=str(mini(tmp_path / "mini", by_word=True)), device="cpu")
    answer = "the sun rises. the moon moon rises."
    (finding,) = made.detect([SOURCE, Text(answer, Role.ASSISTANT)])[1]
    assert finding.span == (15, 35)
    assert finding.reasons == ("mini 1", "sentence 2 of 2", "least supported from 19 to 28")
    assert answer[19:28] == "moon moon"


def test_it_is_a_well_behaved_detector(detector: GroundednessDetector) -> None:
    check_detector(detector, texts=["the moon"])


def test_one_check_is_never_judged_by_the_documents_of_another(detector: GroundednessDetector) -> None:
    policy = {"rules": [{"detector": "groundedness", "stage": "output", "action": "block"}]}
    with Guard(policy, detectors=[detector]) as guard:
        moon = Text("the moon", Role.ASSISTANT)
        with_source, without = guard.check_batch([[SOURCE, moon], [moon]], stage="output")
        assert with_source.blocked
        assert not without.blocked
        with guard.conversation("c"):
            assert guard.check([SOURCE, moon], stage="output").blocked
            assert guard.check([SOURCE, Text("moon moon", Role.ASSISTANT)], stage="output").blocked
