from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmguard.policy import Policy, Rule
from llmguard.types import Action, Role, Stage

ALLOW, FLAG, REDACT, BLOCK = Action


def policy(*rules: str, **keys: object) -> Policy:
    return Policy.parse({**keys, "rules": [Policy.parse("rules: [{" + rule + "}]").rules[0] for rule in rules]})


EXAMPLE = policy(
    "detector: pii, categories: EMAIL_ADDRESS, role: system, threshold: 0.0, action: allow",
    "detector: pii, stage: [input, output], categories: [CREDIT_CARD, EMAIL_ADDRESS], action: redact",
    "detector: pii, categories: CREDIT_CARD, threshold: 0.2, action: flag",
    "detector: pii, stage: output, threshold: 0.9, action: block",
    "detector: slow, stage: context, action: block, deadline_ms: 50",
    deadline_ms=100,
)


@pytest.mark.parametrize(
    ("stage", "category", "score", "role", "action", "index"),
    [
        ("input", "EMAIL_ADDRESS", 0.9, "user", REDACT, 1),
        ("input", "EMAIL_ADDRESS", 0.5, "user", REDACT, 1),
        ("input", "EMAIL_ADDRESS", 0.49, "user", ALLOW, None),
        ("input", "EMAIL_ADDRESS", 0.9, "system", ALLOW, 0),
        ("output", "EMAIL_ADDRESS", 0.95, "user", REDACT, 1),
        ("output", "URL", 0.95, "user", BLOCK, 3),
        ("output", "URL", 0.89, "user", ALLOW, None),
        ("input", "URL", 1.0, "user", ALLOW, None),
        ("input", "CREDIT_CARD", 0.3, "user", FLAG, 2),
        ("context", "CREDIT_CARD", 1.0, "retrieval", FLAG, 2),
        ("context", "CREDIT_CARD", 0.1, "retrieval", ALLOW, None),
    ],
)
def test_the_first_rule_that_matches_decides(
    stage: str, category: str, score: float, role: str, action: Action, index: int | None
) -> None:
    rule = None if index is None else EXAMPLE.rules[index]
    assert EXAMPLE.plan(Stage(stage)).judge("pii", category, score, Role(role)) == (action, rule)


def test_nothing_is_known_of_a_detector_that_does_not_run() -> None:
    assert EXAMPLE.plan(Stage.INPUT).judge("slow", "X", 1.0, Role.USER) == (ALLOW, None)


def test_what_runs_from_which_score_and_how_long() -> None:
    context = EXAMPLE.plan(Stage.CONTEXT)
    assert context.detectors == ("pii", "slow")
    assert context.thresholds == {"pii": 0.2, "slow": 0.5}
    assert context.deadlines == {"pii": 100.0, "slow": 50.0}
    assert EXAMPLE.plan(Stage.INPUT).detectors == ("pii",)
    assert EXAMPLE.plan(Stage.INPUT).redacts("pii")
    assert not context.redacts("pii")
    assert EXAMPLE.plan(Stage.INPUT) is EXAMPLE.plan(Stage.INPUT)


def test_a_detector_that_all_rules_allow_does_not_run() -> None:
    off = policy("detector: a, threshold: 0.0, action: allow", extends=[])
    assert off.plan(Stage.INPUT).detectors == ()
    child = Policy.parse("extends: default\nrules: [{detector: pii, threshold: 0.0, action: allow}]")
    assert "pii" not in child.plan(Stage.INPUT).detectors
    assert "secrets" in child.plan(Stage.INPUT).detectors


@pytest.mark.parametrize(
    ("rules", "failure"),
    [
        (["action: block"], (BLOCK, "closed")),
        (["action: redact"], (BLOCK, "closed")),
        (["action: flag"], (ALLOW, "open")),
        (["action: flag, on_failure: closed"], (FLAG, "closed")),
        (["action: block, on_failure: open"], (ALLOW, "open")),
        (["action: block, on_failure: open, threshold: 0.9", "action: flag, on_failure: closed"], (FLAG, "closed")),
        (["action: flag, threshold: 0.9", "action: redact"], (BLOCK, "closed")),
        (["action: block, threshold: 0.9", "action: flag, on_failure: closed"], (BLOCK, "closed")),
        (["action: block, categories: A", "action: flag"], (BLOCK, "closed")),
        (["action: flag, stage: input", "action: block, stage: output"], (ALLOW, "open")),
    ],
)
def test_a_failed_detector_is_judged_by_its_closed_rules_at_that_stage(
    rules: list[str], failure: tuple[Action, str]
) -> None:
    assert policy(*(f"detector: a, {rule}" for rule in rules)).plan(Stage.INPUT).failure("a") == failure


def test_a_rule_that_a_child_has_replaced_counts_for_nothing() -> None:
    parent = Rule(detector="a", action="block", deadline_ms=5)
    replaced = Policy(rules=[Rule(detector="a", stage="input", action="flag"), parent])
    assert replaced.plan(Stage.INPUT).failure("a") == (ALLOW, "open")
    assert replaced.plan(Stage.INPUT).deadlines == {"a": 2000.0}
    assert replaced.plan(Stage.OUTPUT).failure("a") == (BLOCK, "closed")
    assert replaced.plan(Stage.OUTPUT).deadlines == {"a": 5.0}


def test_the_first_rule_that_says_a_deadline_gives_it() -> None:
    plan = policy(
        "detector: a, categories: A, action: flag",
        "detector: a, categories: B, action: flag, deadline_ms: 9",
        "detector: a, action: flag, deadline_ms: 3",
    ).plan(Stage.INPUT)
    assert plan.deadlines == {"a": 9.0}


rules = st.builds(
    Rule,
    detector=st.sampled_from(["d", "e"]),
    stage=st.sampled_from([(Stage.INPUT,), (Stage.OUTPUT,), (Stage.INPUT, Stage.OUTPUT)]),
    role=st.sampled_from([None, (Role.USER,), (Role.USER, Role.TOOL)]),
    categories=st.sampled_from([None, ("A",), ("B",), ("A", "B")]),
    threshold=st.sampled_from([0.0, 0.5, 0.9]),
    action=st.sampled_from(list(Action)),
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(rules, max_size=6),
    st.sampled_from(["d", "e"]),
    st.sampled_from(["A", "B", "C"]),
    st.sampled_from([0.0, 0.49, 0.5, 0.9, 1.0]),
    st.sampled_from([Stage.INPUT, Stage.OUTPUT]),
    st.sampled_from(list(Role)),
)
def test_the_look_up_says_what_reading_from_the_top_says(
    listed: list[Rule], detector: str, category: str, score: float, stage: Stage, role: Role
) -> None:
    expected = ALLOW
    for rule in listed:
        if (
            rule.detector == detector
            and stage in rule.stage
            and (rule.role is None or role in rule.role)
            and (rule.categories is None or category in rule.categories)
            and score >= rule.threshold
        ):
            expected = rule.action
            break
    plan = Policy(rules=listed).plan(stage)
    found, rule_found = plan.judge(detector, category, score, role)
    assert found is expected
    assert rule_found is None or rule_found.action is expected
    if expected is not ALLOW:
        assert detector in plan.detectors
        assert score >= plan.thresholds[detector]
