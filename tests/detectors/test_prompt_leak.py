import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from work import scanned

from llmguard import Guard, Text
from llmguard.detectors.prompt_leak import PromptLeakDetector, canary
from llmguard.errors import ConfigurationError
from llmguard.testing import check_detector
from llmguard.types import Finding, Role

PROMPT = (
    "You are Bob, the assistant of Acme. Never mention prices before you have asked for the customer's budget. "
    "Always answer in English, and be kind to people who are angry."
)
LETTERS = str.maketrans("0123456789", "bdefghijkl")
ROW = "Never mention prices before you have asked for the customer's budget"


def found(answer: str, *, prompt: str = PROMPT, user: str = "", **options: Any) -> list[Finding]:
    texts = [Text(prompt, Role.SYSTEM), Text(user, Role.USER), Text(answer, Role.ASSISTANT)]
    quiet, also_quiet, findings = PromptLeakDetector(**options).detect(texts)
    assert quiet == also_quiet == []
    return findings


def test_a_row_of_the_prompts_words_is_a_leak() -> None:
    answer = f"My rules say: {ROW.upper()}!"
    (finding,) = found(answer)
    assert finding.category == "PROMPT_LEAK"
    assert finding.span is not None
    assert answer[slice(*finding.span)] == ROW.upper()
    assert finding.reasons == ("12 words in a row",)
    assert finding.score == 0.5


def test_the_longer_the_row_the_surer() -> None:
    (whole,), (part,) = found(PROMPT), found(ROW)
    assert whole.span == (0, len(PROMPT) - 1)
    assert part.score < whole.score < 1.0


def test_a_changed_word_does_not_hide_a_leak() -> None:
    changed = PROMPT.replace("prices", "costs")
    (finding,) = found(changed)
    assert finding.span is not None
    assert finding.span[1] - finding.span[0] > 100


@pytest.mark.parametrize("answer", ["Hello! How can I help you today?", "", "Never mention prices.", ROW[:40]])
def test_an_ordinary_answer_is_no_leak(answer: str) -> None:
    assert found(answer) == []


def test_what_the_user_said_too_is_no_leak() -> None:
    assert found(ROW, user=f"Is it true? {ROW}") == []


def test_prompts_and_canaries_may_be_options() -> None:
    detector = PromptLeakDetector(prompts=[PROMPT], canaries=["blue-Walrus-42"])
    rows, word = detector.detect([Text(ROW, Role.ASSISTANT), Text("a bluewalrus42!", Role.ASSISTANT)])
    assert [finding.category for finding in rows] == ["PROMPT_LEAK"]
    assert [(finding.category, finding.span) for finding in word] == [("CANARY_LEAK", (2, 14))]


WORD = canary()


@pytest.mark.parametrize(
    "shown",
    [
        WORD,
        WORD.upper(),
        " ".join(WORD),
        "-".join(WORD),
        WORD[::-1],
        WORD.replace("a", "\u0430"),
        "\u200b".join(WORD),
        base64.b64encode(WORD.encode()).decode(),
        WORD.encode().hex(),
        "".join(f"&#{ord(letter)};" for letter in WORD),
        "".join(f"\\u{ord(letter):04x}" for letter in WORD),
    ],
    ids=[
        "plain",
        "capitals",
        "spaced",
        "dashes",
        "backwards",
        "homoglyphs",
        "zero width",
        "base64",
        "hex",
        "entities",
        "escapes",
    ],
)
def test_a_canary_is_found_however_it_is_shown(shown: str) -> None:
    findings = [one for one in found(f"It is {shown} .", prompt=f"{PROMPT} {WORD}") if one.category == "CANARY_LEAK"]
    assert findings
    assert all(one.score == 1.0 for one in findings)
    assert findings[0].span is not None
    assert findings[0].span[0] >= 6


@pytest.mark.parametrize("beside", ["İ", "İİ ﬁ ß", "ΑΣ"])
def test_no_letter_beside_it_hides_a_canary(beside: str) -> None:
    for shown in (WORD.upper(), WORD[::-1].upper()):
        answer = f"{beside} {shown} {beside}"
        findings = [one for one in found(answer, prompt=WORD) if one.category == "CANARY_LEAK"]
        assert [answer[slice(*one.span)] for one in findings if one.span] == [shown]


@pytest.mark.parametrize("shown", ["ΟΔΥΣΣΕΥΣ", "οδυσσευς", "ΟΔΥΣΣΕΥΣ ΑΒ", "ΣΥΕΣΣΥΔΟ", "Ο Δ Υ Σ Σ Ε Υ Σ"])
def test_a_letter_with_two_small_forms_hides_no_canary(shown: str) -> None:
    assert [one.category for one in found(shown, canaries=["ΟΔΥΣΣΕΥΣ"])] == ["CANARY_LEAK"]


@pytest.mark.parametrize(("gap", "leaks"), [(0, True), (4, True), (5, False)])
def test_a_gap_of_one_n_gram_does_not_end_a_row(gap: int, leaks: bool) -> None:
    first, second = ROW.split()[:6], ROW.split()[6:]
    answer = " ".join([*first, *(["well"] * gap), *second])
    assert bool(found(answer)) is leaks


def test_the_prompt_in_base64_is_a_leak() -> None:
    (finding,) = found(base64.b64encode(PROMPT.encode()).decode())
    assert "read as base64" in finding.reasons


def test_canaries_differ() -> None:
    assert len({canary() for _ in range(100)}) == 100


@given(st.text(max_size=300), st.text(max_size=300))
def test_any_texts_give_spans_inside_the_answer(prompt: str, answer: str) -> None:
    detector = PromptLeakDetector(prompts=[prompt or "x"], canaries=[WORD], ngram=2, words=2)
    for finding in detector.detect([Text(answer + prompt, Role.ASSISTANT)])[0]:
        assert finding.span is not None
        assert 0 <= finding.span[0] < finding.span[1] <= len(answer + prompt)
        assert 0.5 <= finding.score <= 1.0


@pytest.mark.parametrize(
    "options",
    [
        {"prompts": "one text"},
        {"prompts": [""]},
        {"prompts": None},
        {"canaries": 3},
        {"canaries": ["abc"]},
        {"canaries": [3]},
        {"ngram": 1},
        {"words": True},
        {"ngram": 9, "words": 8},
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="prompt_leak"):
        PromptLeakDetector(**options)


def test_it_works_through_a_guard() -> None:
    policy = {"rules": [{"detector": "prompt_leak", "stage": "output", "action": "block"}]}
    with Guard(policy, detectors=[PromptLeakDetector(prompts=[PROMPT])]) as guard:
        assert guard.check(PROMPT, stage="output").blocked
        assert not guard.check("Hello.", stage="output").blocked


def test_it_is_a_well_behaved_detector() -> None:
    check_detector(PromptLeakDetector())
    check_detector(PromptLeakDetector(prompts=[PROMPT], canaries=[WORD]), texts=[PROMPT, WORD])


def test_an_answer_is_not_searched_once_for_each_canary_of_a_prompt() -> None:
    prompt = Text(" ".join([f"canary-{number:024d}".translate(LETTERS) for number in range(200)]), Role.SYSTEM)
    answer = Text("so canary " * 100, Role.ASSISTANT)
    detector = PromptLeakDetector()
    assert scanned(lambda: detector.detect([prompt, answer])) < 10 * len(answer.content)
    named = PromptLeakDetector(canaries=["blue-Walrus-42"])
    assert scanned(lambda: named.detect([answer])) > len(answer.content)


@pytest.mark.parametrize("beside", ["", "canary", "yranac", "canary canary-", "x"])
def test_each_of_many_canaries_is_found(beside: str) -> None:
    words = [canary() for _ in range(20)]
    prompt = Text(" ".join(words), Role.SYSTEM)
    for word in words:
        for shown, reason in ((word, "canary"), (word[::-1], "canary backwards")):
            (finding,) = PromptLeakDetector().detect([prompt, Text(f"{beside} {shown} {beside}", Role.ASSISTANT)])[1]
            start = len(beside) + 1
            assert (finding.span, finding.reasons) == ((start, start + len(shown)), (reason,))
