from typing import Any

import pytest

from llmguard import Guard, Text
from llmguard.detectors.refusal import RefusalDetector
from llmguard.errors import ConfigurationError
from llmguard.testing import check_detector
from llmguard.types import Finding


def found(text: str, **options: list[str]) -> list[Finding]:
    return RefusalDetector(**options).detect([Text(text)])[0]


REFUSALS = [
    ("I'm sorry, but I can't help with that.", 0.97, "en"),
    ("I’m unable to assist with this request.", 0.9, "en"),
    ("I won't provide instructions for that. Ask me something else.", 0.85, "en"),
    ("As an AI language model, I cannot have opinions.", 0.9, "en"),
    ("I must respectfully decline.", 0.9, "en"),
    ("That's not something I can help with.", 0.9, "en"),
    ("Sorry, I can't do that.", 0.97, "en"),
    ("Thank you for asking. This violates our usage policies.", 0.85, "en"),
    ("Es tut mir leid, aber dabei kann ich Ihnen nicht helfen.", 0.97, "de"),
    ("Ich kann diese Frage leider nicht beantworten.", 0.9, "de"),
    ("Je suis désolé, mais je ne peux pas vous aider avec cela.", 0.97, "fr"),
    ("Lo siento, pero no puedo ayudarte con eso.", 0.97, "es"),
    ("Mi dispiace, non posso aiutarti con questa richiesta.", 0.97, "it"),
    ("Desculpe, não posso ajudar com isso.", 0.97, "pt"),
    ("Het spijt me, maar ik kan je daar niet bij helpen.", 0.97, "nl"),
    ("很抱歉,我无法提供这些信息。", 0.97, "zh"),
    ("申し訳ありませんが、その質問にはお答えできません。", 0.97, "ja"),
]

ANSWERS = [
    "Sorry to hear that! Restart the router.",
    "I can't wait to see it. Sure, here is the plan.",
    "I cannot recommend it enough.",
    "You cannot divide by zero. I can give an example.",
    "I can help you with that! First, open the box.",
    "Unfortunately, the train was late. It arrived at noon.",
    "He said: the museum does not allow photographs.",
    "Ich kann es kaum erwarten. Hier ist der Plan.",
    "Paris is the capital of France. You can't miss the tower. It is tall. I can't help you with that.",
    "",
    "...",
]


@pytest.mark.parametrize(("text", "score", "language"), REFUSALS)
def test_refusals_in_the_first_sentences_are_found(text: str, score: float, language: str) -> None:
    (finding,) = found(text)
    assert finding.category == "REFUSAL"
    assert finding.score == score
    assert finding.reasons[0].startswith(language)
    assert finding.span is not None
    assert 0 <= finding.span[0] < finding.span[1] <= len(text)


@pytest.mark.parametrize("text", ANSWERS)
def test_answers_are_no_refusals(text: str) -> None:
    assert found(text) == []


def test_the_span_is_the_sentence_that_refuses() -> None:
    text = "Good question. I cannot share that. Here is a poem."
    (finding,) = found(text)
    assert finding.span is not None
    assert text[slice(*finding.span)] == "I cannot share that."


def test_only_the_languages_that_are_asked_for_are_looked_at() -> None:
    assert found("I can't help with that.", languages=["de"]) == []
    assert found("Dabei kann ich nicht helfen.", languages=["de"])


@pytest.mark.parametrize("languages", ["en", [], ["xx"], 5, [["en"]], {"en": 1, "xx": 2}])
def test_wrong_languages_are_refused(languages: Any) -> None:
    with pytest.raises(ConfigurationError, match="languages"):
        RefusalDetector(languages=languages)


def test_a_rule_makes_it_a_rate() -> None:
    policy = {"rules": [{"detector": "refusal", "stage": "output", "action": "flag"}]}
    with Guard(policy, detectors=[RefusalDetector()]) as guard:
        decisions = guard.check_batch([REFUSALS[0][0], ANSWERS[0]], stage="output")
        assert [[finding.category for finding in one.findings] for one in decisions] == [["REFUSAL"], []]


def test_it_is_a_well_behaved_detector() -> None:
    check_detector(RefusalDetector(), texts=[text for text, _, _ in REFUSALS])
