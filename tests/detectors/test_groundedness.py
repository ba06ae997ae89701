from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mini import mini
from work import steps

from llmguard import Guard, Text
from llmguard.detectors import grounding_models
from llmguard.detectors.groundedness import GroundednessDetector
from llmguard.detectors.grounding_claims import claims
from llmguard.detectors.grounding_models import PairReader
from llmguard.detectors.registry import load
from llmguard.errors import ConfigurationError, InferenceError
from llmguard.testing import check_detector
from llmguard.types import Finding, Role

SOURCE = Text("the sun rises", Role.RETRIEVAL)
REPORT = (
    "Revenue rose 4 percent to 1.2 million dollars in the third quarter of 2021, said Mary Poe of Acme Corp in "
    "Los Angeles. The board meets on Friday and votes on the merger. Growth will not continue, the company warned."
)


@pytest.fixture(scope="module", params=[False, True], ids=["by statement", "by word"])
def detector(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> GroundednessDetector:
    model = str(mini(tmp_path_factory.mktemp("models") / "mini", by_word=request.param))
    made = load("groundedness", {"model": model, "device": "cpu"})
    assert isinstance(made, GroundednessDetector)
    return made


@pytest.fixture(scope="module")
def by_words() -> GroundednessDetector:
    return GroundednessDetector(model="none")


def judged(detector: GroundednessDetector, answer: str, documents: Sequence[str] = (REPORT,)) -> list[Finding]:
    texts = [*(Text(document, Role.RETRIEVAL) for document in documents), Text(answer, Role.ASSISTANT)]
    return detector.score(texts)[-1]


def test_a_text_is_judged_by_the_documents_beside_it(detector: GroundednessDetector) -> None:
    texts = [SOURCE, Text("the moon rises", Role.ASSISTANT), Text("the sun", Role.ASSISTANT)]
    nothing, wrong, right = detector.score(texts)
    assert nothing == []
    assert wrong[0].category == "UNGROUNDED"
    assert wrong[0].span == (0, 14)
    assert wrong[0].score > 0.9 > 0.4 > right[0].score


@pytest.mark.parametrize(
    "texts",
    [
        [Text("the moon", Role.ASSISTANT)],
        [SOURCE],
        [Text(" ", Role.TOOL), Text("moon", Role.ASSISTANT)],
        [SOURCE, Text("what of the moon?", Role.USER), Text("the moon", Role.SYSTEM)],
        [SOURCE, Text(" \n", Role.ASSISTANT)],
        [],
    ],
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


def test_every_sentence_that_is_likely_unsupported_is_named(by_words: GroundednessDetector) -> None:
    answer = "Revenue rose 9 percent. The board meets on Friday. John Smith of Globex said so in 1999."
    found = judged(by_words, answer)
    assert [answer[slice(*finding.span)] for finding in found if finding.span] == [
        "Revenue rose 9 percent.",
        "John Smith of Globex said so in 1999.",
    ]


def test_a_sentence_is_supported_by_the_piece_of_a_long_document_that_supports_it_best(
    detector: GroundednessDetector,
) -> None:
    long = Text("a good day " * 200, Role.TOOL)
    assert detector.score([long, SOURCE, Text("the sun", Role.ASSISTANT)])[2][0].score < 0.4
    assert detector.detect([long, Text("the moon " * 60, Role.ASSISTANT)])[1][0].score > 0.9


def test_a_model_that_scores_words_says_where_the_unsupported_ones_stand(tmp_path: Path) -> None:
    made = GroundednessDetector(model=str(mini(tmp_path / "mini", by_word=True)), device="cpu")
    answer = "the sun rises. the moon moon rises."
    (finding,) = made.detect([SOURCE, Text(answer, Role.ASSISTANT)])[1]
    assert finding.span == (15, 35)
    assert finding.reasons[:3] == ("mini 1", "sentence 2 of 2", "least supported from 19 to 28")
    assert answer[19:28] == "moon moon"


@pytest.mark.parametrize(
    ("right", "wrong", "why"),
    [
        ("Revenue was $1,200,000 in Q3 2021.", "Revenue was $1,300,000 in Q3 2021.", "numbers absent"),
        ("Revenue rose four per cent.", "Revenue fell four per cent.", "opposite words"),
        ("Mary Poe of Acme said it in LA.", "Mary Poe of Globex said it in LA.", "names absent"),
        ("The board meets on Friday.", "The board meets on Sunday.", "another of its kind"),
        ("Growth will not continue.", "Growth will continue.", "negation differs"),
    ],
)
def test_words_alone_tell_a_changed_fact(by_words: GroundednessDetector, right: str, wrong: str, why: str) -> None:
    (good,), (bad,) = judged(by_words, right), judged(by_words, wrong)
    assert bad.score > good.score
    assert why in bad.reasons
    assert why not in good.reasons


def test_the_best_passage_is_told_by_its_place_and_never_by_its_text(by_words: GroundednessDetector) -> None:
    (finding,) = judged(by_words, "The board votes on Friday.", ["Nothing here.", REPORT])
    (place,) = [reason for reason in finding.reasons if reason.startswith("best passage")]
    start = REPORT.index("The board")
    end = REPORT.index(" Growth")
    assert place == f"best passage: document 2 from {start} to {end}"


def test_words_alone_need_no_model(by_words: GroundednessDetector) -> None:
    assert by_words.version.startswith("2+words.")
    assert "guard" not in by_words.version
    assert judged(by_words, "The moon is made of green cheese.")[0].score > 0.7


def test_an_inference_model_takes_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = str(mini(tmp_path / "mini"))
    with pytest.raises(ConfigurationError, match="no label for entailment"):
        GroundednessDetector(model="none", nli=model, device="cpu")
    monkeypatch.setattr(grounding_models, "_ENTAILED", ("toxic",))
    made = GroundednessDetector(model="none", nli=model, device="cpu")
    assert "mini.1" in made.version
    entailed, not_entailed = judged(made, "the idiot", ["the sun"])[0], judged(made, "the sun", ["the sun"])[0]
    assert entailed.score < 0.1 < 0.9 < not_entailed.score


@pytest.mark.parametrize(
    "options", [{"model": ""}, {"floor": 2}, {"model": "none", "head": "grounding"}, {"model": "none", "nli": 3}]
)
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        GroundednessDetector(**options)


def test_it_is_a_well_behaved_detector(detector: GroundednessDetector, by_words: GroundednessDetector) -> None:
    check_detector(detector, texts=["the moon"])
    check_detector(by_words, texts=["the moon"])


@pytest.mark.parametrize(
    "text", ["\0" * 50, "½ ٣ 4e9 1:2:3 9" * 50, "ﷺ\u0301" * 99, "1" * 5000, "a" * 9000, "A B C " * 500, "x.\n" * 2000]
)
def test_hostile_texts_are_judged_on_both_sides(by_words: GroundednessDetector, text: str) -> None:
    for answer, document in ((text, REPORT), (REPORT, text), (text, text)):
        for finding in judged(by_words, answer, [document]):
            assert 0.0 <= finding.score <= 1.0
            assert finding.span is not None
            assert 0 <= finding.span[0] < finding.span[1] <= len(answer)


def test_one_check_is_never_judged_by_the_documents_of_another(detector: GroundednessDetector) -> None:
    policy = {"rules": [{"detector": "groundedness", "stage": "output", "threshold": 0.8, "action": "block"}]}
    with Guard(policy, detectors=[detector]) as guard:
        moon = Text("the moon", Role.ASSISTANT)
        with_source, without = guard.check_batch([[SOURCE, moon], [moon]], stage="output")
        assert with_source.blocked
        assert not without.blocked
        with guard.conversation("c"):
            assert guard.check([SOURCE, moon], stage="output").blocked
            assert guard.check([SOURCE, Text("moon moon", Role.ASSISTANT)], stage="output").blocked


def wordy(count: int, start: int = 0) -> str:
    return " ".join([f"word{number}x" for number in range(start, start + count)])


@pytest.mark.parametrize("mark", [" ", ". "], ids=["one long passage", "many passages"])
def test_the_work_grows_with_the_lengths_and_not_with_their_product(by_words: GroundednessDetector, mark: str) -> None:
    def work(size: int) -> int:
        document = mark.join([wordy(10, 10 * at) for at in range(size)])
        answer = " ".join([f"{wordy(3, at)} said so." for at in range(size)])
        judged(by_words, answer, [document])  # stems are kept
        return steps(lambda: judged(by_words, answer, [document]), "llmguard.detectors")

    assert work(80) < 2.2 * work(40)


def test_a_passage_that_many_sentences_are_near_to_is_cut_out_once(
    detector: GroundednessDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []

    def told(_: object, sentences: Sequence[str], passages: Sequence[Sequence[str]]) -> list[None]:
        shown.extend(text for own in passages for text in own)
        return [None] * len(sentences)

    monkeypatch.setattr(PairReader, "cosines", told)
    judged(detector, "the sun. " * 20, ["the sun rises on a good day. the moon rises on the sun."])
    assert len(shown) == 40
    assert len({id(text) for text in shown}) == 2


def test_premises_of_too_many_long_passages_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grounding_models, "_ENTAILED", ("toxic",))
    monkeypatch.setattr(grounding_models, "_PREMISES", 10_000)
    made = GroundednessDetector(model="none", nli=str(mini(tmp_path / "mini")), device="cpu")
    passages = [f"the sun{number} " * 150 for number in range(9)]
    near = [f"the sun{one} sun{other}." for one in range(9) for other in range(one)]
    assert judged(made, near[0], [".\n".join(passages)])
    assert judged(made, " ".join([near[0]] * 50), [".\n".join(passages)])
    with pytest.raises(InferenceError, match="longer than 10000 characters") as caught:
        judged(made, " ".join(near), [".\n".join(passages)])
    assert "sun" not in str(caught.value)


NOTHING = [
    "I'm sorry, but I can't help with that.",
    "I’m sorry, but I can’t assist with that request.",
    "I cannot answer this question.",
    "As an AI language model, I cannot share that.",
    "I don't know.",
    "Thank you for asking!",
    "Hello! How can I help you today?",
    "Let me know if you have any further questions.",
    "Es tut mir leid, aber dabei kann ich nicht helfen.",
    "Je suis désolé, je ne peux pas vous aider.",
]


@pytest.mark.parametrize("answer", NOTHING)
def test_a_sentence_that_claims_nothing_is_no_finding(
    detector: GroundednessDetector, by_words: GroundednessDetector, answer: str
) -> None:
    for own in (detector, by_words):
        assert judged(own, answer) == []
    (finding,) = judged(by_words, f"{answer} Revenue fell 9 percent.")
    assert finding.span is not None
    assert finding.span[0] == len(answer) + 1
    assert f"sentence {answer.count('!') + 2 if answer[:6] == 'Hello!' else 2} of" in " ".join(finding.reasons)


@pytest.mark.parametrize(
    "answer",
    [
        "I can't help with that because Mary Poe resigned.",
        "I'm sorry, but I can't help with 3 of them.",
        "I cannot share that the merger failed.",
        "As an AI language model, I cannot share that Globex lied.",
        "Yes.",
        "No, you can.",
        "Hello, Revenue fell.",
        "The board can't help with that and will share nothing with investors.",
        "I can't help with that." + " I can't help with that," * 20,
        "Es tut mir leid, aber ich kann nicht helfen, da der Umsatz der Firma im Westen des Landes stark fiel.",
    ],
)
def test_a_sentence_that_claims_anything_is_judged(by_words: GroundednessDetector, answer: str) -> None:
    assert judged(by_words, answer)


@given(st.sampled_from(NOTHING[:8]), st.sampled_from(["Globex", "merger", "7", "profits", "doubled"]), st.data())
def test_a_sentence_with_another_word_in_it_claims_something(answer: str, word: str, data: st.DataObject) -> None:
    parts = answer.split()
    parts.insert(data.draw(st.integers(0, len(parts))), word)
    assert claims(" ".join(parts))
