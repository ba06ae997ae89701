from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmguard.errors import ConfigurationError
from llmguard.policy import BreakerSettings, Canary, OnBlock, Policy, Rule
from llmguard.policy_check import deciders
from llmguard.types import Action, Role, Stage

CATEGORIES = {
    "pii": frozenset({"EMAIL_ADDRESS", "CREDIT_CARD"}),
    "secrets": frozenset({"AWS_ACCESS_KEY"}),
    "keywords": frozenset[str](),
}
CARD_AND_MAIL = """\
- {detector: pii, action: flag, categories: [CREDIT_CARD, EMAIL_ADDRESS]}
- {detector: pii, action: block}"""
CARD_THEN_MAIL = """\
- {detector: pii, action: flag, categories: CREDIT_CARD}
- {detector: pii, action: flag, categories: EMAIL_ADDRESS, threshold: 0.1}
- {detector: pii, action: block}"""
RULE = "rules:\n  - detector: pii\n    action: "


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nam: x", "1: unknown key 'nam' (did you mean 'name'?)"),
        ("name: x\nxyz: 1", "2: unknown key 'xyz' (known: alerts, breaker, cache, deadline_ms, "),
        ("name: 5", "1: name: 5 must be text: put it in quotes"),
        ("name: ''", "1: name: '' must not be empty"),
        ("name: x\nversion: 1.0", "2: version: 1.0 must be text: put it in quotes"),
        ("mode: enforc", "1: mode: unknown word 'enforc' (did you mean 'enforce'?)"),
        ("mode: 5", "1: mode: 5: must be enforce, shadow or {canary: share}"),
        ("mode: {canary: 1.5}", "1: mode.canary: 1.5 must be at most 1"),
        ("mode:\n  canary: -1", "2: mode.canary: -1 must be at least 0"),
        ("mode: {canary: '0.1'}", "1: mode.canary: '0.1' must be a number"),
        ("mode: {canry: 0.1}", "1: unknown key 'canry' in mode (did you mean 'canary'?)"),
        ("mode: {}", "1: mode needs the key 'canary'"),
        ("on_block: rais", "1: on_block: unknown word 'rais' (did you mean 'raise'?)"),
        ("on_block: [raise]", "1: on_block: ['raise']: must be raise, fallback, {reply: text} or {retry: times}"),
        ("on_block: {}", "1: on_block: needs reply or retry"),
        ("on_block: {rety: 2}", "1: unknown key 'rety' in on_block (did you mean 'retry'?)"),
        ("on_block: {retry: 11}", "1: on_block.retry: 11 must be at most 10"),
        ("on_block: {retry: 0}", "1: on_block.retry: 0 must be at least 1"),
        ("on_block: {retry: 1.5}", "1: on_block.retry: 1.5 must be a whole number"),
        ("device: cdua", "1: device: unknown device 'cdua' (did you mean 'cuda'?)"),
        ("device: cuda:x", "1: device: unknown device 'cuda:x' (did you mean 'cuda:0'?)"),
        ("device: 'cuda:0 '", "1: device: unknown device 'cuda:0 '"),
        ("deadline_ms: 0", "1: deadline_ms: 0 must be more than 0"),
        ("deadline_ms: .inf", "1: deadline_ms: inf must be a finite number"),
        ("deadline_ms: true", "1: deadline_ms: True must be a number"),
        ("overlap: yes", "1: overlap: 'yes' must be true or false"),
        ("breaker: {failures: 0}", "1: breaker.failures: 0 must be at least 1"),
        ("breaker:\n  failures: 1\n  resets: 1", "3: unknown key 'resets' in breaker (did you mean 'reset_s'?)"),
        ("cache: 10", "1: cache: 10 must be a mapping"),
        ("cache: {entries: -1}", "1: cache.entries: -1 must be at least 0"),
        ("rules: [pii]", "1: rules[0]: 'pii' must be a mapping"),
        ("rules:\n  - {detector: pii}", "2: rules[0] needs the key 'action'"),
        ("rules:\n  - detector: pii\n    actoin: flag", "3: unknown key 'actoin' in rules[0] (did you mean 'action'?)"),
        ("rules:\n  - {}\n  - {x: 1}", "3: unknown key 'x' in rules[1] (known: action, categories, "),
        (RULE + "blok", "3: rules[0].action: unknown word 'blok' (did you mean 'block'?)"),
        (RULE + "9", "3: rules[0].action: 9 must be one of allow, flag, redact, block"),
        (
            RULE + "flag\n    stage: [input,\n      outptu]",
            "5: rules[0].stage[1]: unknown word 'outptu' (did you mean ",
        ),
        (RULE + "flag\n    stage: inptu", "4: rules[0].stage: unknown word 'inptu' (did you mean 'input'?)"),
        (RULE + "flag\n    stage: [input, input]", "4: rules[0].stage: 'input' stands twice"),
        (RULE + "flag\n    stage: []", "4: rules[0].stage: [] must not be empty: leave the key out to mean all"),
        (RULE + "flag\n    stage:", "4: rules[0].stage: None must be one word or a list of words"),
        (RULE + "flag\n    role: usr", "4: rules[0].role: unknown word 'usr' (did you mean 'user'?)"),
        (RULE + "flag\n    categories: []", "4: rules[0].categories: [] must not be empty"),
        (RULE + "flag\n    categories: [A, A]", "4: rules[0].categories: 'A' stands twice"),
        (RULE + "flag\n    categories: [A, 5]", "4: rules[0].categories[1]: 5 must be text: put it in quotes"),
        (RULE + "flag\n    threshold: 1.5", "4: rules[0].threshold: 1.5 must be at most 1"),
        (RULE + "flag\n    threshold: -0.1", "4: rules[0].threshold: -0.1 must be at least 0"),
        (RULE + "flag\n    threshold: .nan", "4: rules[0].threshold: nan must be a finite number"),
        (RULE + "flag\n    deadline_ms: -5", "4: rules[0].deadline_ms: -5 must be more than 0"),
        (RULE + "flag\n    on_failure: close", "4: rules[0].on_failure: unknown word 'close' (did you mean 'closed'?)"),
        (RULE + "allow\n    on_failure: closed", "4: rules[0].on_failure: closed goes with flag, redact and block"),
        (RULE + "flag\n    stream: window", "4: rules[0].stream: unknown word 'window' (did you mean 'windowed'?)"),
        (RULE + "block\n    redaction: mask", "4: rules[0].redaction: goes with action redact, not with block"),
        (RULE + "redact\n    redaction: maks", "4: rules[0].redaction: unknown method 'maks' (did you mean 'mask'?)"),
        (RULE + "redact\n    redaction: {keep: 4}", "4: rules[0].redaction: unknown option 'keep' (did you mean "),
        (RULE + "blok\n    redaction: mask", "3: rules[0].action: unknown word 'blok' (did you mean 'block'?)"),
        ("name: 1\n" + RULE + "blok", "1: name: 1 must be text: put it in quotes"),
        (
            "rules:\n- &r {detector: a, action: flag}\n- *r",
            "2: rules[1] can never fire: the rule on line 2 decides all",
        ),
        ("name: " + "x" * 99 + "\nmode: " + "y" * 99, "2: mode: unknown word '" + "y" * 56 + "..."),
    ],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_what_is_wrong_in_a_file_names_place_key_value_and_word(text: str, message: str, newline: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Policy.parse(text.replace("\n", newline), source="policy.yaml")
    assert str(caught.value).startswith(f"policy.yaml:{message}")
    assert caught.value.line == int(message.partition(":")[0])
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ("- {detector: pij, action: flag}", "2: unknown detector 'pij' (did you mean 'pii'?)"),
        ("- {detector: zzz, action: flag}", "2: unknown detector 'zzz' (known: keywords, pii, secrets)"),
        ("- {detector: pii, action: flag}\ndetectors:\n  scerets: {}", "4: unknown detector 'scerets' (did you mean "),
        (
            "- detector: pii\n  action: flag\n  categories: [CREDIT_CARD,\n    EMAIL_ADRESS]",
            "5: unknown category 'EMAIL_ADRESS' of detector 'pii' (did you mean 'EMAIL_ADDRESS'?)",
        ),
        (
            "- {detector: secrets, action: flag, categories: CREDIT_CARD}",
            "2: unknown category 'CREDIT_CARD' of detector 'secrets' (known: AWS_ACCESS_KEY)",
        ),
        (CARD_AND_MAIL, "3: rules[1] can never fire: the rule on line 2 decides all of its findings first"),
        (CARD_THEN_MAIL, "4: rules[2] can never fire: the rule on line 2 and the rule on line 3 decide all of its "),
        (
            "- {detector: pii, action: redact, redaction: {method: hash, key_env: LLMGUARD_NO_SUCH_KEY}}",
            "2: rules[0].redaction: ",
        ),
    ],
)
def test_what_does_not_fit_the_detectors_says_where(rules: str, message: str) -> None:
    policy = Policy.parse(f"rules:\n{rules}", source="policy.yaml")
    with pytest.raises(ConfigurationError) as caught:
        policy.check_against(CATEGORIES)
    assert str(caught.value).startswith(f"policy.yaml:{message}")


def test_what_fits_passes() -> None:
    Policy.parse(
        "rules:\n- {detector: pii, action: flag, categories: CREDIT_CARD}\n- {detector: pii, action: block}\n"
        "- {detector: keywords, action: block}\n- {detector: pii, action: redact, threshold: 0.2, redaction: mask}\n"
        "detectors: {secrets: {entropy: 3}}"
    ).check_against(CATEGORIES)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("of: {detector: pij}", "5: alerts.rules[0].of.detector: no rule of this policy has the detector 'pij' (did "),
        ("of: {detector: pii, category: EMAIL}", "5: alerts.rules[0].of.category: no detector that is meant finds 'EM"),
        ("of: {detector: keywords, category: CREDIT_CARD}", "5: alerts.rules[0].of.category: no detector that is me"),
        ("of: {category: [CREDIT_CARD, CARD]}", "5: alerts.rules[0].of.category: no detector that is meant finds"),
        (
            "of: {category: CREDIT_CARD}, kind: ratio, among: {detector: [pii, pij]}",
            "5: alerts.rules[0].among.detector: no rule of this policy has the detector 'pij' (did you mean 'pii'?)",
        ),
        ("of: {detector: pii, category: CREDIT_CARD}", ""),
        ("of: {category: AWS_ACCESS_KEY}, kind: ratio, among: {detector: [pii, secrets]}", ""),
    ],
)
def test_an_alert_about_what_nobody_finds_says_where(said: str, message: str) -> None:
    rules = "rules:\n- {detector: pii, action: flag}\nalerts:\n  rules:\n"
    policy = Policy.parse(f"{rules}  - {{alert: A, above: 0.5, {said}}}", source="policy.yaml")
    if not message:
        policy.check_against(CATEGORIES)
        return
    with pytest.raises(ConfigurationError) as caught:
        policy.check_against(CATEGORIES)
    assert str(caught.value).startswith(f"policy.yaml:{message}")


def test_a_preset_may_name_categories_that_options_leave_out() -> None:
    names = Policy.preset("default").detector_names
    few = {name: frozenset({"CREDIT_CARD", "TAG_CHARACTER"}) for name in names}
    Policy.preset("default").check_against(few)
    Policy.parse("extends: default").check_against(few)
    child = Policy.parse("extends: default\nrules:\n- {detector: pii, categories: US_SSN, action: flag}")
    with pytest.raises(ConfigurationError, match="policy:3: unknown category 'US_SSN'"):
        child.check_against(few)


@pytest.mark.parametrize(
    ("first", "second", "fires"),
    [
        ("action: block", "action: flag", False),
        ("action: block, threshold: 0.9", "action: flag, threshold: 0.5", True),
        ("action: block, threshold: 0.5", "action: flag, threshold: 0.9", False),
        ("action: block, stage: input", "action: flag", True),
        ("action: block", "action: flag, stage: input", False),
        ("action: block, role: user", "action: flag", True),
        ("action: block, role: [system, user, assistant, tool, retrieval]", "action: flag", False),
        ("action: block, categories: A", "action: flag", True),
        ("action: block, categories: A", "action: flag, categories: [A, B]", True),
        ("action: block, categories: [B, A]", "action: flag, categories: [A, B]", False),
        ("action: block", "action: flag, categories: A", False),
    ],
)
def test_a_rule_that_earlier_ones_leave_nothing_is_refused(first: str, second: str, fires: bool) -> None:
    text = f"rules:\n- {{detector: a, {first}}}\n- {{detector: a, {second}}}\n- {{detector: b, action: flag}}"
    if fires:
        assert len(Policy.parse(text).rules) == 3
    else:
        with pytest.raises(ConfigurationError, match=r"policy:3: rules\[1\] can never fire"):
            Policy.parse(text)


def test_a_child_may_decide_all_that_its_parent_would() -> None:
    policy = Policy.parse("extends: default\nrules:\n- {detector: pii, threshold: 0.0, action: allow}")
    assert policy.rules[0].action is Action.ALLOW


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Rule(detector="a", action="blok"), "action: unknown word 'blok' (did you mean 'block'?)"),
        (lambda: Rule(detector="a"), "the policy needs the key 'action'"),
        (lambda: Policy(nam="x"), "unknown key 'nam' (did you mean 'name'?)"),
        (lambda: Policy(rules=[{"detector": "a", "action": "x"}]), "rules[0].action: unknown word 'x' (known: allow, "),
        (lambda: Policy(rules=[Rule(detector="a", action="flag"), 5]), "rules[1]: 5 must be a mapping"),
        (lambda: Policy(extends="defalt"), "extends an unknown preset 'defalt' (did you mean 'default'?)"),
        (lambda: Canary(canary=2), "canary: 2 must be at most 1"),
        (lambda: OnBlock(retry="x"), "retry: 'x' must be a whole number"),
        (lambda: BreakerSettings(reset_s=0), "reset_s: 0 must be more than 0"),
        (lambda: Policy.preset("stric"), "unknown preset 'stric' (did you mean 'strict'?)"),
        (lambda: Policy.parse([]), "a policy is a mapping of keys, not list"),
        (lambda: Policy.from_any(5), "a policy is a Policy, a mapping or a path, not int"),
        (lambda: Policy.from_any("strict"), "there is no file 'strict'; the preset is Policy.preset('strict')"),
        (lambda: Policy().model_copy(update={"mode": "shado"}), "mode: unknown word 'shado' (did you mean 'shadow'?)"),
    ],
)
def test_python_gets_the_same_errors(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make()
    assert str(caught.value).startswith(message)


subsets = st.sampled_from([None, ("a",), ("b",), ("a", "b")])
rules = st.builds(
    Rule,
    detector=st.just("d"),
    stage=st.sampled_from([(Stage.INPUT,), (Stage.OUTPUT,), (Stage.INPUT, Stage.OUTPUT)]),
    role=st.sampled_from([None, (Role.USER,), tuple(Role)]),
    categories=subsets,
    threshold=st.sampled_from([0.0, 0.5, 0.9]),
    action=st.sampled_from(list(Action)),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(rules, max_size=6), st.sampled_from([None, {"d": frozenset({"a", "b"})}, {"d": frozenset({"a"})}]))
def test_deciders_are_those_of_a_search_over_all_findings(
    policy: list[Rule], known: dict[str, frozenset[str]] | None
) -> None:
    """Twin: try every finding on either side of a threshold against every rule."""
    categories = sorted(known["d"]) if known else ["a", "b", "something else"]
    policy = [rule for rule in policy if not known or set(rule.categories or ()) <= known["d"]]
    fired = set()
    for stage, role, category, score in product(Stage, Role, categories, (0.0, 0.4, 0.5, 0.8, 0.9, 1.0)):
        for index, rule in enumerate(policy):
            if (
                stage in rule.stage
                and (rule.role is None or role in rule.role)
                and (rule.categories is None or category in rule.categories)
                and score >= rule.threshold
            ):
                fired.add(index)
                break
    assert {index for index, by in enumerate(deciders(policy, known)) if not by} == fired
