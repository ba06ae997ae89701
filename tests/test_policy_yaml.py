from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmguard.errors import ConfigurationError
from llmguard.policy_yaml import MAX_BYTES, Mark, from_text


def read(text: str) -> dict[str, object]:
    return from_text(text, "p.yaml").data


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("x: no", "no"),
        ("x: [us, no, on, yes, off]", ["us", "no", "on", "yes", "off"]),
        ("x: 2026-11-21", "2026-11-21"),
        ("x: 12:30:00", "12:30:00"),
        ("x: true", True),
        ("x: False", False),
        ("x: ~", None),
        ("x:", None),
        ("x: 010", 10),
        ("x: 0x1F", 31),
        ("x: 0o17", 15),
        ("x: -3", -3),
        ("x: 1e3", 1000.0),
        ("x: .5", 0.5),
        ("x: -.inf", float("-inf")),
        ("x: '1'", "1"),
        ("x: !!str 1", "1"),
        ('x: "\\ud83d\\ude00"', "\N{GRINNING FACE}"),
        ("x: {<<: {a: 1, b: 2}, b: 3}", {"a": 1, "b": 3}),
        ("x: {<<: [{a: 1}, {a: 2, c: 4}]}", {"a": 1, "c": 4}),
        ("y: &y [1]\nx: *y", [1]),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: object) -> None:
    assert read(text)["x"] == value
    assert type(read(text)["x"]) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "p.yaml: the policy is empty"),
        ("# only a comment\n", "p.yaml: the policy is empty"),
        ("- a", "p.yaml:1: a policy is a mapping of keys"),
        ("a: 1\nb: [", "p.yaml:2: not valid YAML"),
        ("a: 1\nb: *nobody", "p.yaml:2: not valid YAML: found undefined alias 'nobody'"),
        ("a: 1\n---\na: 2", "p.yaml:2: not valid YAML: expected a single document in the stream"),
        ("a: 1\nb: \x00", "p.yaml:2: not valid YAML: special characters are not allowed"),
        ("a: 1\nb: 2\na: 3", "p.yaml:3: the key 'a' stands twice, first on line 1"),
        ("a:\n  - {b: 1,\n     b: 2}", "p.yaml:3: the key 'b' stands twice, first on line 2"),
        ("a: 1\n2: b", "p.yaml:2: a key must be text: put it in quotes"),
        ("a: 1\n[b]: c", "p.yaml:2: a key must be text: put it in quotes"),
        ("a: 1\nb: !!python/object/apply:os.getcwd []", "p.yaml:2: the tag 'tag:yaml.org,2002:python/object/apply"),
        ("a: !mine x", "p.yaml:1: the tag '!mine' is not read"),
        ("a: !!set {x}", "p.yaml:1: the tag 'tag:yaml.org,2002:set' is not read"),
        ("a: !!binary aGk=", "p.yaml:1: the tag 'tag:yaml.org,2002:binary' is not read"),
        ("a: !!int x", "p.yaml:1: not a value of the kind int"),
        ("a: !!bool x", "p.yaml:1: not a value of the kind bool"),
        (f"a: 1\nb: {'9' * 5000}", "p.yaml:2: not a value of the kind int"),
        ("a: {<<: 1}", "p.yaml:1: << merges mappings alone"),
        ('a: "\\ud83d"', "p.yaml:1: half of a surrogate pair"),
        ("a: &a\n  b: *a", "aliases expand too far"),
        ("[" * 10_000, "p.yaml:1: not valid YAML: nested deeper than 32 levels"),
        ("a: " + "x" * MAX_BYTES, "p.yaml: a policy has at most 1048576 bytes"),
    ],
)
def test_what_is_wrong_says_where(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(text)
    assert str(caught.value).startswith(message) or message in str(caught.value)
    assert caught.value.source == "p.yaml"


def test_an_alias_bomb_is_refused_before_it_is_built() -> None:
    layers = ["l0: &l0 [x,x,x,x,x,x,x,x,x,x]"]
    layers += [f"l{n}: &l{n} [{','.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 12)]
    with pytest.raises(ConfigurationError, match="aliases expand too far"):
        read("\n".join(layers))


def test_marks_lead_to_keys_and_items() -> None:
    document = from_text(
        "name: x\nrules:\n  - detector: a\n    stage: [input,\n      output]\n  - {detector: b}\n", "p"
    )
    assert document.where(("name",)) == Mark("p", 1)
    assert document.where(("rules", 0)) == Mark("p", 3)
    assert document.where(("rules", 0, "stage", 1)) == Mark("p", 5)
    assert document.where(("rules", 1, "detector")) == Mark("p", 6)
    assert document.where(("rules", 1, "no such key")) == Mark("p", 6)
    assert document.where(("rules", 7)) == Mark("p", 2)
    assert document.where(("nothing",)) == Mark("p", 1)


def test_long_option_lists_get_no_mark_for_each_item() -> None:
    document = from_text("detectors:\n  keywords:\n    deny: [" + ", ".join(["w"] * 1000) + "]", "p")
    assert len(document.marks) < 10


def test_json_may_be_indented_by_tabs() -> None:
    assert read(json.dumps({"a": {"b": [1, 2.5e-7, None, "\ttab"]}}, indent="\t")) == {
        "a": {"b": [1, 2.5e-7, None, "\ttab"]}
    }
    with pytest.raises(ConfigurationError, match=r"p\.yaml:2: not valid YAML"):
        read('{"a": [\n\t1,}')


def test_json_strings_hold_what_yaml_would_refuse_or_fold() -> None:
    odd = "a\x7fb\x85c\u2028d\ufffee\N{GRINNING FACE}"
    assert read(json.dumps({odd: odd}, ensure_ascii=False)) == {odd: odd}


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=100, deadline=None)
@given(data=st.dictionaries(st.text(max_size=8), values, max_size=4), ascii_only=st.booleans())
def test_json_reads_as_json(data: dict[str, object], ascii_only: bool) -> None:
    text = json.dumps(data, indent=1, ensure_ascii=ascii_only)
    assert read(text) == json.loads(text)
