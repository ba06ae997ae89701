from __future__ import annotations

import dataclasses
import inspect
import json
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from llmguard.detectors.registry import load
from llmguard.errors import ConfigurationError
from llmguard.policy import BreakerSettings, CacheSettings, Canary, OnBlock, Policy, Rule
from llmguard.policy_source import PRESETS
from llmguard.redaction import Method, Redaction
from llmguard.types import Action, PolicyRef, Role, Stage

PAGE = Path(__file__).parents[1] / "docs" / "policy.md"
EXAMPLE = """
name: support-bot
version: "2026-11-21"
extends: default
mode: {canary: 0.1}
device: auto
on_block: {reply: "I can't help with that."}
rules:
  - {detector: pii, stage: [input, output], categories: [CREDIT_CARD, EMAIL_ADDRESS], action: redact}
  - {detector: toxicity, stage: output, threshold: 0.8, action: block, stream: windowed, deadline_ms: 50}
detectors:
  pii: {languages: [en], countries: [us, uk]}
"""


def test_a_policy_says_what_was_written() -> None:
    policy = Policy.parse(EXAMPLE)
    assert (policy.name, policy.version, policy.mode) == ("support-bot", "2026-11-21", Canary(canary=0.1))
    assert policy.on_block == OnBlock(reply="I can't help with that.")
    assert policy.detectors["pii"] == {"languages": ["en"], "countries": ["us", "uk"]}
    pii, toxicity = policy.rules[:2]
    assert (pii.stage, pii.role, pii.categories) == (
        (Stage.INPUT, Stage.OUTPUT),
        None,
        ("CREDIT_CARD", "EMAIL_ADDRESS"),
    )
    assert (pii.threshold, pii.action, pii.on_failure, pii.stream) == (0.5, Action.REDACT, "closed", "strict")
    assert (toxicity.stage, toxicity.deadline_ms, toxicity.stream) == ((Stage.OUTPUT,), 50.0, "windowed")
    assert policy.detector_names[:2] == ("pii", "toxicity")


def test_what_is_left_out_has_a_default() -> None:
    policy = Policy()
    assert (policy.mode, policy.device, policy.on_block) == ("enforce", "auto", "raise")
    assert (policy.overlap, policy.deadline_ms) == (False, 2000.0)
    assert (policy.breaker, policy.cache) == (BreakerSettings(failures=5, reset_s=30.0), CacheSettings(entries=10_000))
    assert (policy.rules, policy.detectors, policy.files) == ((), {}, ())
    rule = Rule(detector="a", action="allow")
    assert (rule.stage, rule.role, rule.categories, rule.threshold) == (tuple(Stage), None, None, 0.5)
    assert [Rule(detector="a", action=action).on_failure for action in Action] == ["open", "open", "closed", "closed"]


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:1", "tensorrt", "grpc://host:8001", "grpc://[::1]:80"])
def test_devices(device: str) -> None:
    assert Policy(device=device).device == device


def test_yaml_json_mapping_python_and_file_say_the_same(tmp_path: Path) -> None:
    data = yaml.safe_load(EXAMPLE)
    (tmp_path / "p.yaml").write_text(EXAMPLE)
    (tmp_path / "p.json").write_text(json.dumps(data, indent="\t"))
    policies = [
        Policy.parse(EXAMPLE),
        Policy.parse(json.dumps(data)),
        Policy.parse(data),
        Policy(**{**data, "rules": [Rule(**rule) for rule in data["rules"]]}),
        Policy.load(tmp_path / "p.yaml"),
        Policy.load(str(tmp_path / "p.json")),
        Policy.from_any(tmp_path / "p.json"),
        Policy.from_any(data),
        Policy.from_any(Policy.parse(data)),
        pickle.loads(pickle.dumps(Policy.parse(data))),
    ]
    assert {policy.hash for policy in policies} == {policies[0].hash}
    assert set(policies) == {policies[0]}
    assert Policy.from_any(None) == Policy.preset("default")


def test_the_hash_is_of_what_is_said_not_of_how() -> None:
    one = Policy.parse("name: a\nrules: [{detector: d, stage: [input], action: block}]")
    same = Policy.parse(
        "rules:\n- action: block\n  detector: d\n  on_failure: closed\n  stage: input\nname: a\nmode: enforce"
    )
    assert one.hash == same.hash
    assert re.fullmatch("[0-9a-f]{16}", one.hash)
    assert one.ref == PolicyRef("a", "", one.hash)
    for change in (
        {"name": "b"},
        {"version": "1"},
        {"mode": "shadow"},
        {"detectors": {"d": {"x": 1}}},
        {"rules": ()},
        {"deadline_ms": 1},
    ):
        changed = one.model_copy(update=change)
        assert changed.hash != one.hash
        assert changed != one
        assert changed.plan(Stage.INPUT) is not one.plan(Stage.INPUT)


def test_the_hash_and_the_words_of_a_policy_hold_no_key() -> None:
    rules = [
        Rule(detector="d", action="redact", redaction={"method": "hash", "key": bytes([n]) * 32}) for n in (65, 66)
    ]
    one, other = (Policy(rules=[rule]) for rule in rules)
    assert one.hash == other.hash
    assert "AAAA" not in repr(one)
    assert "AAAA" not in repr(rules[0])


def test_sets_have_one_order() -> None:
    rule = Rule(detector="d", categories={"C", "A", "B"}, stage={Stage.OUTPUT, Stage.INPUT}, action="flag")
    assert (rule.categories, rule.stage) == (("A", "B", "C"), (Stage.INPUT, Stage.OUTPUT))
    one, other = (Policy(detectors={"d": {"x": words}}) for words in ({"a", "b"}, ["a", "b"]))
    assert one.hash == other.hash


def test_a_policy_is_like_no_other_kind_of_thing() -> None:
    assert Policy() != {}
    assert Policy.model_validate(Policy()) == Policy()


def test_a_policy_can_not_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Policy().name = "x"
    with pytest.raises(ValueError, match="frozen"):
        Rule(detector="d", action="flag").threshold = 0.1


def test_how_a_rule_redacts() -> None:
    assert Rule(detector="d", action="redact").how == Redaction("placeholder")
    mask = {"method": "mask", "keep_last": 4}
    rule = Rule(detector="d", action="redact", redaction=mask)
    assert rule.how == Redaction("mask", keep_last=4)
    assert rule.how is rule.how


def test_a_looked_up_key_does_not_travel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMGUARD_HASH_KEY", "a key of this very test")
    rule = Rule(detector="d", action="redact", redaction="hash")
    assert rule.how.key == b"a key of this very test"
    assert b"a key of this" not in pickle.dumps(rule)
    assert "key of this" not in str(Policy(rules=[rule]).model_dump())


def test_an_error_of_the_guard_says_where_the_detector_is_named() -> None:
    policy = Policy.parse("rules:\n- {detector: a, action: flag}\ndetectors:\n  b: {}\n", source="p.yaml")
    assert str(policy.error("no", detector="a")) == "p.yaml:2: no"
    assert str(policy.error("no", detector="b")) == "p.yaml:4: no"
    assert isinstance(Policy().error("no", detector="c"), ConfigurationError)


def test_enforce_and_shadow_are_for_everybody() -> None:
    assert Policy(mode="enforce").enforced("x")
    assert not Policy(mode="shadow").enforced("x")
    assert Policy(mode=Canary(canary=1)).enforced("x")
    assert not Policy(mode=Canary(canary=0)).enforced("x")


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=30), st.floats(0, 1), st.floats(0, 1))
def test_a_conversation_never_changes_sides_and_stays_in_when_the_share_grows(key: str, a: float, b: float) -> None:
    small, large = (Policy(name="p", mode={"canary": share}) for share in sorted((a, b)))
    assert small.enforced(key) == small.enforced(key) == Policy.parse(small.model_dump()).enforced(key)
    assert large.enforced(key) >= small.enforced(key)


def test_a_canary_takes_its_share_and_policies_take_different_ones() -> None:
    keys = [f"conversation-{n}" for n in range(10_000)]
    policies = [Policy(name=name, mode={"canary": 0.1}) for name in "ab"]
    one, other = ({key for key in keys if policy.enforced(key)} for policy in policies)
    for chosen in (one, other):
        assert abs(len(chosen) - 1000) < 5 * (10_000 * 0.1 * 0.9) ** 0.5  # five standard deviations; keys are fixed
    assert len(one & other) < 200


KINDS = {"string": str, "number": (int, float), "integer": int, "boolean": bool, "object": dict, "array": list}
#: JSON Schema's keywords that the policy's schema uses: (limit, value, schema, root) to whether the value passes.
#: Each is asked about values of its own kind alone; another keyword fails the test.
KEYWORDS: dict[str, tuple[Any, Any]] = {
    "$ref": (object, lambda limit, value, _, root: _accepts(root["$defs"][limit.split("/")[-1]], value, root)),
    "type": (
        object,
        lambda limit, value, *_: (
            value is None
            if limit == "null"
            else isinstance(value, KINDS[limit]) and isinstance(value, bool) == (limit == "boolean")
        ),
    ),
    "enum": (object, lambda limit, value, *_: value in limit),
    "anyOf": (object, lambda limit, value, _, root: any(_accepts(one, value, root) for one in limit)),
    "oneOf": (object, lambda limit, value, _, root: sum(_accepts(one, value, root) for one in limit) == 1),
    "properties": (
        dict,
        lambda limit, value, _, root: all(_accepts(limit[key], value[key], root) for key in limit if key in value),
    ),
    "additionalProperties": (
        dict,
        lambda limit, value, schema, root: all(
            _accepts(limit, item, root) if isinstance(limit, dict) else limit
            for key, item in value.items()
            if key not in schema.get("properties", {})
        ),
    ),
    "required": (dict, lambda limit, value, *_: set(limit) <= set(value)),
    "items": (list, lambda limit, value, _, root: all(_accepts(limit, item, root) for item in value)),
    "minItems": (list, lambda limit, value, *_: len(value) >= limit),
    "minLength": (str, lambda limit, value, *_: len(value) >= limit),
    "maxLength": (str, lambda limit, value, *_: len(value) <= limit),
    "pattern": (str, lambda limit, value, *_: re.search(limit, value) is not None),
    "minimum": ((int, float), lambda limit, value, *_: value >= limit),
    "maximum": ((int, float), lambda limit, value, *_: value <= limit),
    "exclusiveMinimum": ((int, float), lambda limit, value, *_: value > limit),
    "exclusiveMaximum": ((int, float), lambda limit, value, *_: value < limit),
    **dict.fromkeys(("title", "description", "default", "$defs", "$schema"), (object, lambda *_: True)),
}


def _accepts(schema: Mapping[str, Any], value: Any, root: Mapping[str, Any]) -> bool:
    rows = [(KEYWORDS[keyword], limit) for keyword, limit in schema.items()]
    return all(passes(limit, value, schema, root) for (kind, passes), limit in rows if isinstance(value, kind))


def test_the_json_schema_takes_what_the_policy_takes() -> None:
    schema = json.loads(json.dumps(Policy.json_schema()))
    files = [path.read_text() for path in sorted(PRESETS.glob("*.yaml"))]
    for text in [
        *files,
        EXAMPLE,
        "on_block: {retry: 2, reply: nope}\ndevice: grpc://h:1",
        "extends: [a.yaml, default]",
        "alerts: {rules: [{alert: A, of: {stage: input}, among: {}, burn: {objective: 0.9}}]}",
        "alerts: {sinks: {a: {kind: slack}}}",
        "alerts: {silences: [{match: {a: b}, from: 2026-01-01T00:00Z, until: 2026-01-02T00:00Z}]}",
    ]:
        assert _accepts(schema, yaml.safe_load(text), schema), text


@pytest.mark.parametrize(
    "text",
    [
        "nam: x",
        "mode: canary",
        "mode: {canary: 2}",
        "on_block: no such word",
        "on_block: {retry: 11}",
        "device: gpu",
        "deadline_ms: 0",
        "rules: [{detector: a}]",
        "rules: [{detector: a, action: blok}]",
        "rules: [{detector: a, action: flag, stage: []}]",
        "rules: [{detector: a, action: flag, stage: [inptu]}]",
        "rules: [{detector: a, action: flag, threshold: 1.1}]",
        "rules: [{detector: a, action: redact, redaction: maks}]",
        "rules: [{detector: a, action: redact, redaction: {keep: 2}}]",
        "alerts: {rules: [{alert: A, kind: x, above: 1}]}",
        "alerts: {rules: [{above: 1}]}",
        "alerts: {rules: [{alert: A, above: 1, of: {stag: input}}]}",
        "alerts: {rules: [{alert: A, kind: burn, among: {}, burn: {objective: 1}}]}",
        "alerts: {sinks: {a: {kind: x}}}",
        "alerts: {silences: [{match: 3, from: 2026-01-01T00:00Z, until: 2026-01-02T00:00Z}]}",
    ],
)
def test_the_json_schema_refuses_what_the_policy_refuses(text: str) -> None:
    schema = json.loads(json.dumps(Policy.json_schema()))
    assert not _accepts(schema, yaml.safe_load(text), schema)
    with pytest.raises(ConfigurationError):
        Policy.parse(text)


def test_the_json_schema_knows_the_ways_to_redact() -> None:
    word, options = Policy.json_schema()["$defs"]["Rule"]["properties"]["redaction"]["anyOf"]
    assert tuple(word["enum"]) == get_args(Method)
    known = {option.name for option in dataclasses.fields(Redaction)} - {"key"}  # bytes: not from a file
    assert set(options["properties"]) == known


@pytest.mark.parametrize("name", ["default", "strict", "observe"])
def test_presets(name: str) -> None:
    policy = Policy.preset(name)
    assert (policy.name, policy.version) == (name, "2026-11-21")
    assert set(policy.detector_names) == {
        "pii",
        "secrets",
        "unicode",
        "keywords",
        "injection_rules",
        "token_stats",
    }


@pytest.mark.parametrize(
    ("stage", "detector", "category", "score", "actions"),
    [
        ("output", "secrets", "AWS_ACCESS_KEY", 1.0, "redact block flag"),
        ("input", "secrets", "AWS_ACCESS_KEY", 1.0, "redact redact flag"),
        ("input", "secrets", "AWS_ACCESS_KEY", 0.4, "allow redact flag"),
        ("tool_call", "pii", "EMAIL_ADDRESS", 1.0, "redact redact flag"),
        ("context", "pii", "PHONE_NUMBER", 0.4, "redact redact flag"),
        ("input", "pii", "US_DRIVER_LICENSE", 0.3, "allow redact flag"),
        ("input", "pii", "US_BANK_NUMBER", 0.05, "allow allow allow"),
        ("input", "pii", "DATE_TIME", 0.8, "allow flag flag"),
        ("tool_result", "injection_rules", "OVERRIDE", 0.9, "block block flag"),
        ("input", "injection_rules", "OVERRIDE", 0.6, "flag block flag"),
        ("output", "injection_rules", "OVERRIDE", 0.9, "allow flag flag"),
        ("output", "unicode", "TAG_CHARACTER", 1.0, "block block flag"),
        ("input", "unicode", "TAG_CHARACTER", 1.0, "block block flag"),
        ("input", "unicode", "MIXED_SCRIPT", 0.9, "flag flag flag"),
        ("input", "token_stats", "LOOP", 0.9, "flag flag flag"),
        ("input", "keywords", "KEYWORD", 1.0, "block block flag"),
    ],
)
def test_what_presets_decide(stage: str, detector: str, category: str, score: float, actions: str) -> None:
    for preset, action in zip(("default", "strict", "observe"), actions.split(), strict=True):
        plan = Policy.preset(preset).plan(Stage(stage))
        assert plan.judge(detector, category, score, Role.USER)[0] == action, preset


def test_presets_name_categories_that_there_are() -> None:
    """``check_against`` trusts presets, since options may leave categories out; so nothing else would see a typo."""
    from presidio_analyzer import predefined_recognizers

    classes = [value for value in vars(predefined_recognizers).values() if isinstance(value, type)]
    parameters = [inspect.signature(one).parameters.get("supported_entity") for one in classes]
    entities = {parameter.default for parameter in parameters if parameter is not None}
    for preset in ("default", "strict", "observe"):
        for rule in Policy.preset(preset).rules:
            known = entities if rule.detector == "pii" else load(rule.detector, {}).categories
            assert set(rule.categories or ()) <= known, rule.detector


def test_how_presets_fail() -> None:
    assert Policy.preset("default").plan(Stage.INPUT).failure("pii") == (Action.BLOCK, "closed")
    for stage in Stage:
        strict, observe = (Policy.preset(name).plan(stage) for name in ("strict", "observe"))
        assert {mode for _, mode in strict.failures.values()} == {"closed"}
        assert set(observe.failures.values()) == {(Action.ALLOW, "open")}


def test_the_page_names_every_key_and_its_examples_are_policies() -> None:
    text = PAGE.read_text()
    for model in (Policy, Rule, BreakerSettings, CacheSettings, OnBlock, Canary):
        for key in model.model_fields:
            assert f"`{key}`" in text, key
    examples = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert len(examples) > 2
    for example in examples:
        Policy.parse(example)
