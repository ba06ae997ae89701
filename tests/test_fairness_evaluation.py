"""Fairness evaluated in Python: by detectors, by a guard, and what is refused."""

from collections.abc import Sequence

import pytest

from llmguard import ConfigurationError, DetectorError, Finding, Guard, Stage, TelemetrySettings, detector
from llmguard.examples import Example, Kind
from llmguard.fairness_evaluation import Options, Verdict, detectors_judge, evaluate_fairness, policy_judge


def labelled(*texts: str, label: int = 0) -> list[Example]:
    return [Example(text, Kind.CLASSIFICATION, label=label) for text in texts]


def test_each_text_is_judged_once_and_in_batches() -> None:
    asked: list[str] = []
    sizes: list[int] = []
    told: list[tuple[int, int]] = []

    def judge(texts: Sequence[str]) -> list[Verdict]:
        asked.extend(texts)
        sizes.append(len(texts))
        return [Verdict("same", 0.5) for _ in texts]

    examples = labelled("a gay man", "a gay man", "a lesbian man", "the weather")
    found = evaluate_fairness(judge, examples, Options(batch_size=4, minimum=1), progress=lambda *n: told.append(n))
    assert len(asked) == len(set(asked)) == told[-1][0] == told[-1][1]
    assert max(sizes) == 4
    assert found.auc is None
    assert found.flips is not None
    assert (found.flips.flip_rate, found.flips.mean_absolute_difference) == (0, 0)
    assert found.terms["gay"].texts == 2


def test_rare_terms_are_left_out() -> None:
    def judge(texts: Sequence[str]) -> list[Verdict]:
        return [Verdict("found", 1.0) for _ in texts]

    found = evaluate_fairness(judge, labelled(*["a Sikh"] * 3, "a Jew"), Options(minimum=2))
    assert (list(found.terms), list(found.flips_by_term), list(found.groups)) == (["Sikh"], ["Sikh"], ["religion.sikh"])
    assert found.flips is not None
    assert found.flips.texts == 4


@detector("unfair", categories=["BAD", "ODD"])
def unfair(text: str) -> list[Finding]:
    return [Finding("BAD", 0.4 + 0.2 * ("Sikh" in text)), Finding("ODD", 0.9)] if text else []


def test_detectors_judge_by_a_threshold_their_categories_and_aliases() -> None:
    assert detectors_judge([unfair])(["a Sikh", "a Jew", ""]) == [("found", 0.9), ("found", 0.9), ("passed", -1.0)]
    judge = detectors_judge([unfair], categories=["WRONG"], aliases={"BAD": "WRONG"})
    assert [verdict.decision for verdict in judge(["a Sikh", "a Jew"])] == ["found", "passed"]
    found = evaluate_fairness(judge, labelled("a Sikh", "a Jew"), Options(minimum=1))
    assert found.flips_by_term["Sikh"].flip_rate == 1
    assert found.flips_by_term["Sikh"].mean_difference == pytest.approx(0.2)


def test_names_that_no_detector_finds_are_told() -> None:
    with pytest.raises(ConfigurationError, match=r"category 'BAAD' .*did you mean 'BAD'"):
        detectors_judge([unfair], categories=["BAAD"])
    with pytest.raises(ConfigurationError, match="alias 'BAAD'"):
        detectors_judge([unfair], aliases={"BAAD": "WRONG"})


def test_what_is_wrong_is_told_before_the_texts_are_judged() -> None:
    def judge(texts: Sequence[str]) -> list[Verdict]:
        raise AssertionError

    with pytest.raises(ConfigurationError, match="no row's labels have 'whom'"):
        evaluate_fairness(judge, labelled("a Sikh"), Options(group_by=("whom",)))
    with pytest.raises(ConfigurationError, match="no text mentions"):
        evaluate_fairness(judge, labelled("the weather"))
    with pytest.raises(ConfigurationError, match="not on spans"):
        evaluate_fairness(judge, [*labelled("a Sikh"), Example("a Jew", Kind.SPANS)])


def test_a_guard_judges_by_its_actions() -> None:
    rules = [{"detector": "unfair", "categories": ["BAD"], "threshold": 0.5, "action": "redact", "stage": "output"}]
    policy = {"name": "p", "version": "1", "rules": rules}
    with Guard(policy, detectors=[unfair], telemetry=TelemetrySettings(enabled=False)) as guard:
        judge = policy_judge(guard, stage=Stage.OUTPUT, categories=["BAD"])
        assert judge(["a Sikh", "a Jew"])[0] == ("redact", pytest.approx(0.6))
        assert [verdict.decision for verdict in judge(["a Sikh", "a Jew", ""])] == ["redact", "allow", "allow"]


def test_a_detector_that_fails_ends_it() -> None:
    @detector("broken", categories=["BAD"])
    def broken(text: str) -> list[Finding]:
        raise RuntimeError(text)

    with pytest.raises(DetectorError, match="RuntimeError") as error:
        evaluate_fairness(detectors_judge([broken]), labelled("a gay man"))
    assert "gay" not in str(error.value)
    policy = {"name": "p", "version": "1", "rules": [{"detector": "broken", "action": "block"}]}
    with (
        Guard(policy, detectors=[broken], telemetry=TelemetrySettings(enabled=False)) as guard,
        pytest.raises(DetectorError, match="could not say"),
    ):
        evaluate_fairness(policy_judge(guard), labelled("a gay man"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"swaps": -1}, "swaps -1 is not at least 0"),
        ({"minimum": 0}, "minimum 0"),
        ({"batch_size": 0}, "batch_size 0"),
        ({"confidence": 1.0}, "confidence 1.0"),
    ],
)
def test_wrong_options_are_told(options: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Options(**options)  # type: ignore[arg-type]


def test_there_must_be_something_to_judge_and_somebody_who_does() -> None:
    with pytest.raises(ConfigurationError, match="one example"):
        evaluate_fairness(detectors_judge([unfair]), [])
    with pytest.raises(ConfigurationError, match="one detector"):
        detectors_judge([])
    with pytest.raises(ConfigurationError, match="outside"):
        detectors_judge([unfair], threshold=-1)
