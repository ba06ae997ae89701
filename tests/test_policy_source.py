from __future__ import annotations

from pathlib import Path

import pytest

from llmguard.errors import ConfigurationError
from llmguard.policy import Policy
from llmguard.policy_yaml import MAX_BYTES


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)


def names(policy: Policy) -> list[str]:
    return [rule.detector for rule in policy.rules]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_childs_rules_come_first_and_its_keys_win(tmp_path: Path) -> None:
    write(
        tmp_path,
        base="name: base\nversion: '1'\nmode: shadow\noverlap: true\nbreaker: {failures: 9, reset_s: 1}\n"
        "detectors:\n  a: {x: 1, y: 1}\n  b: {z: 1}\n"
        "rules:\n  - {detector: base, action: flag}\n",
        child="extends: base.yaml\nmode: enforce\nbreaker: {failures: 3}\n"
        "detectors:\n  a: {y: 2}\n  c:\n"
        "rules:\n  - {detector: child, action: flag}\n",
    )
    policy = Policy.load("child.yaml")
    assert names(policy) == ["child", "base"]
    assert (policy.mode, policy.overlap) == ("enforce", True)
    assert (policy.breaker.failures, policy.breaker.reset_s) == (3, 30.0), "a key is taken as a whole"
    assert policy.detectors == {"a": {"x": 1, "y": 2}, "b": {"z": 1}, "c": {}}
    assert (policy.name, policy.version) == ("policy", ""), "name and version are not inherited"
    assert policy.extends == ()
    assert policy.files == (Path("child.yaml"), Path("base.yaml"))


def test_several_are_read_in_order_and_a_shared_one_once_and_last(tmp_path: Path) -> None:
    write(
        tmp_path,
        root="rules: [{detector: root, action: flag}]",
        a="extends: root.yaml\ndeadline_ms: 1\nrules: [{detector: a, action: flag}]",
        b="extends: root.yaml\ndeadline_ms: 2\nrules: [{detector: b, action: flag}]",
        top="extends: [a.yaml, b.yaml]\nrules: [{detector: top, action: flag}]",
    )
    policy = Policy.load("top.yaml")
    assert names(policy) == ["top", "a", "b", "root"]
    assert policy.deadline_ms == 1


def test_many_layers_that_share_are_read_in_no_time(tmp_path: Path) -> None:
    write(tmp_path, l0="rules: [{detector: l0, action: flag}]", m0="rules: [{detector: m0, action: flag}]")
    for n in range(1, 25):
        both = f"extends: [l{n - 1}.yaml, m{n - 1}.yaml]\n"
        write(tmp_path, **{f"l{n}": both, f"m{n}": both})
    assert names(Policy.load("l24.yaml")) == ["l0", "m0"]


def test_paths_start_from_the_file_that_names_them(tmp_path: Path) -> None:
    (tmp_path / "team" / "deep").mkdir(parents=True)
    write(tmp_path, base="rules: [{detector: base, action: flag}]")
    write(tmp_path / "team", mid="extends: ../base.yaml\n")
    write(tmp_path / "team" / "deep", leaf="extends: ../mid.yaml\n")
    assert names(Policy.load("team/deep/leaf.yaml")) == ["base"]
    assert names(Policy.parse({"extends": "mid.yaml"}, source="team/made up")) == ["base"]
    assert names(Policy(extends="team/mid.yaml")) == ["base"]
    (tmp_path / "base.yaml").write_text("rules:\n  - {detector: base, action: blok}\n")
    with pytest.raises(ConfigurationError) as caught:
        Policy.load("team/deep/leaf.yaml")
    assert str(caught.value) == "base.yaml:2: rules[0].action: unknown word 'blok' (did you mean 'block'?)"


def test_presets_are_extended_by_name() -> None:
    base = Policy.preset("default")
    child = Policy.parse({"name": "mine", "extends": "default", "rules": [{"detector": "mine", "action": "flag"}]})
    assert child.rules[1:] == base.rules
    assert child.files == ()
    assert Policy(extends=["default"], rules=[{"detector": "mine", "action": "flag"}]).rules == child.rules


def test_a_broken_rule_of_the_child_keeps_its_own_line_and_place(tmp_path: Path) -> None:
    write(
        tmp_path,
        base="rules:\n  - {detector: a, action: flag}\n  - {detector: b, action: flg}\n",
        child="extends: base.yaml\nrules:\n  - {detector: c, action: flag}\n",
    )
    with pytest.raises(ConfigurationError, match=r"^base\.yaml:3: rules\[2\]\.action: unknown word 'flg'"):
        Policy.load("child.yaml")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a": "extends: a.yaml"}, "a.yaml:1: extends goes in a circle: a.yaml -> a.yaml"),
        (
            {"a": "name: a\nextends: b.yaml", "b": "extends:\n  - default\n  - ./c.yaml", "c": "extends: b.yaml"},
            "c.yaml:1: extends goes in a circle: b.yaml -> c.yaml -> b.yaml",
        ),
        (
            {"a": "extends: b.yaml", "b": "extends: a.yaml"},
            "b.yaml:1: extends goes in a circle: a.yaml -> b.yaml -> a.yaml",
        ),
        ({"a": "name: a\nextends: b.yaml"}, "a.yaml:2: extends 'b.yaml': there is no file 'b.yaml'"),
        ({"a": "extends: defualt"}, "a.yaml:1: extends an unknown preset 'defualt' (did you mean 'default'?)"),
        ({"a": "extends: [default,\n  strct]"}, "a.yaml:2: extends an unknown preset 'strct' (did you mean 'strict'?)"),
        ({"a": "extends: 5"}, "a.yaml:1: extends takes the name of a preset, a path, or a list of them"),
        ({"a": "extends: [{}]"}, "a.yaml:1: extends takes the name of a preset, a path, or a list of them"),
        ({"a": "rules: {detector: a}"}, "a.yaml:1: rules must be a list"),
        ({"a": "name: a\ndetectors: [pii]"}, "a.yaml:2: detectors must be a mapping of names to options"),
        ({"a": "detectors:\n  pii: on"}, "a.yaml:2: detectors.pii must be a mapping of options"),
        ({"a": "extends: b.yaml", "b": "x: 1\nx: 2"}, "b.yaml:2: the key 'x' stands twice, first on line 1"),
    ],
)
def test_what_is_wrong_with_layers(tmp_path: Path, files: dict[str, str], message: str) -> None:
    write(tmp_path, **files)
    with pytest.raises(ConfigurationError) as caught:
        Policy.load("a.yaml")
    assert str(caught.value) == message


def test_a_circle_through_a_link_is_seen(tmp_path: Path) -> None:
    write(tmp_path, a="extends: link.yaml")
    (tmp_path / "link.yaml").symlink_to(tmp_path / "a.yaml")
    with pytest.raises(ConfigurationError, match=r"a\.yaml -> link\.yaml"):
        Policy.load("a.yaml")


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"name: a\nversion: caf\xe9\n")
    (tmp_path / "big.yaml").write_bytes(b"#" * (MAX_BYTES + 1))
    (tmp_path / "marked.yaml").write_bytes(b"\xef\xbb\xbfname: marked\n")
    for path, message in [
        ("latin.yaml", "latin.yaml:2: the policy file is not UTF-8"),
        ("big.yaml", "big.yaml: a policy has at most 1048576 bytes"),
        ("none.yaml", "none.yaml: the policy file can't be read: No such file or directory"),
        (str(tmp_path), f"{tmp_path}: the policy file can't be read: Is a directory"),
    ]:
        with pytest.raises(ConfigurationError) as caught:
            Policy.load(path)
        assert str(caught.value) == message
    assert Policy.load("marked.yaml").name == "marked"
