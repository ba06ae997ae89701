import dataclasses

import pytest

from llmguard import Action, Decision, DetectorRun, Finding, Outcome, PolicyRef, Stage, Text


def decision(action: Action, **fields) -> Decision:
    return Decision(action, ("text",), (), Stage.INPUT, PolicyRef("p", "1", "h"), **fields)


def test_actions_are_ordered() -> None:
    assert sorted(Action, key=lambda action: action.severity) == ["allow", "flag", "redact", "block"]


def test_the_nouns_are_frozen() -> None:
    for noun in (Text("x"), Finding("X"), decision(Action.ALLOW)):
        for field in dataclasses.fields(noun):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(noun, field.name, None)


def test_a_block_counts_only_where_it_is_enforced() -> None:
    assert decision(Action.BLOCK).blocked
    assert not decision(Action.BLOCK, enforced=False).blocked
    assert not decision(Action.REDACT).blocked


def test_unknown_and_timings_come_from_the_runs() -> None:
    runs = tuple(DetectorRun(outcome.value, "1", outcome, 0.0, 0.5) for outcome in Outcome)
    seen = decision(Action.ALLOW, runs=runs)
    assert seen.unknown == ("error", "timeout", "open")
    assert seen.timings == dict.fromkeys(("pass", "hit", "error", "timeout", "open"), 0.5)


def test_content_is_not_shown() -> None:
    assert repr(Text("secret")) == "Text(role=<Role.USER: 'user'>, path='')"
    assert "text'" not in repr(decision(Action.ALLOW))
