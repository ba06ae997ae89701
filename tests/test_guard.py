"""What a guard decides, and that every way of asking it decides the same."""

import asyncio
import contextvars
import pickle
import threading
from pathlib import Path

import pytest
from fakes import Words
from hypothesis import given, settings
from hypothesis import strategies as st

from llmguard import Action, Blocked, ConfigurationError, Finding, Guard, Policy, Role, Stage, Text, detector

RULES = [
    {"detector": "words", "categories": ["BAD"], "action": "redact"},
    {"detector": "words", "categories": ["WORSE"], "action": "block"},
    {"detector": "words", "categories": ["ODD"], "action": "flag"},
]


def words_guard(**policy) -> Guard:
    words = Words("words", "bad", "worse", "odd")
    return Guard({"name": "p", "version": "1", "rules": RULES, **policy}, detectors=[words])


@pytest.fixture
def guard():
    with words_guard() as guard:
        yield guard


@pytest.mark.parametrize(
    ("text", "action", "cleared"),
    [
        ("", Action.ALLOW, ""),
        ("fine", Action.ALLOW, "fine"),
        ("an odd one", Action.FLAG, "an odd one"),
        ("a bad one", Action.REDACT, "a <BAD_1> one"),
        ("bad, bad", Action.REDACT, "<BAD_1>, <BAD_1>"),
        ("odd and bad", Action.REDACT, "odd and <BAD_1>"),
        ("bad and worse", Action.BLOCK, ""),
        ("nul \0 bad", Action.REDACT, "nul \0 <BAD_1>"),
        ("lone \ud800 bad \udfff", Action.REDACT, "lone \ud800 <BAD_1> \udfff"),
        ("astral 🦉 bad", Action.REDACT, "astral 🦉 <BAD_1>"),
    ],
)
def test_the_strongest_action_decides(guard: Guard, text: str, action: Action, cleared: str) -> None:
    decision = guard.check(text)
    assert (decision.action, decision.text) == (action, cleared)
    assert decision.modified == (cleared != text)
    assert decision.coverage == (1.0,)
    assert decision.blocked == (action is Action.BLOCK)


def test_several_texts_are_decided_as_a_whole(guard: Guard) -> None:
    decision = guard.check([Text("be bad", Role.SYSTEM), "fine", "bad"])
    assert decision.texts == ("be <BAD_1>", "fine", "<BAD_1>")
    with pytest.raises(ValueError, match="about 3 texts"):
        _ = decision.text
    assert guard.check(["fine", "worse"]).texts == ("", "")
    assert guard.check([]).action is Action.ALLOW


def test_a_stage_without_rules_says_that_nothing_was_looked_at() -> None:
    rules = [{"detector": "words", "stage": "input", "action": "block"}]
    with Guard({"name": "p", "version": "1", "rules": rules}, detectors=[Words("words", "bad")]) as guard:
        assert guard.check("bad", stage="output").coverage == (0.0,)
        assert guard.check("bad").blocked


@pytest.mark.parametrize("wrong", [5, b"bytes", None, ["fine", 5], [["nested"]], {"text": "x"}])
def test_what_is_no_text_is_refused_by_type(guard: Guard, wrong: object) -> None:
    with pytest.raises(TypeError, match="str, Text or a sequence of them, not"):
        guard.check(wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        guard.check_batch([wrong])  # type: ignore[list-item]


def test_a_batch_is_not_one_string(guard: Guard) -> None:
    assert guard.check_batch([]) == []
    with pytest.raises(TypeError, match="sequence of texts, not str"):
        guard.check_batch("fine")


def test_unknown_stages_and_roles_name_the_nearest(guard: Guard) -> None:
    with pytest.raises(ConfigurationError, match=r"unknown stage 'ouput' \(did you mean 'output'\?\)"):
        guard.check("x", stage="ouput")
    with pytest.raises(ConfigurationError, match="unknown role 'usr'"):
        guard.check("x", role="usr")


def essence(decision):
    return (
        decision.action,
        decision.texts,
        decision.findings,
        decision.coverage,
        decision.unknown,
        decision.enforced,
        [(run.detector, run.outcome) for run in decision.runs],
    )


PIECES = ["bad", "worse", "odd", "fine", "é", "🦉", "\ud800", "<BAD_1>", "<BAD_2>", "<", ">", " "]
texts = st.lists(st.lists(st.sampled_from(PIECES)).map("".join), max_size=6)
turns = st.lists(st.lists(st.sampled_from([p for p in PIECES if p != "worse"])).map("".join), min_size=1, max_size=5)


@settings(max_examples=150, deadline=None)
@given(texts, st.sampled_from(["enforce", "shadow", {"canary": 0.5}]), st.booleans())
def test_sync_async_and_batch_decide_the_same(texts: list[str], mode: object, inline: bool) -> None:
    words = Words("words", "bad", "worse", "odd", inline=inline)
    with Guard({"name": "p", "version": "1", "mode": mode, "rules": RULES}, detectors=[words]) as guard:
        one_by_one = [essence(guard.check(text)) for text in texts]
        assert [essence(d) for d in guard.check_batch(texts)] == one_by_one

        async def ask():
            alone = [essence(d) for d in await asyncio.gather(*(guard.acheck(text) for text in texts))]
            return alone, [essence(d) for d in await guard.acheck_batch(texts)]

        assert asyncio.run(ask()) == (one_by_one, one_by_one)


def test_shadow_mode_decides_but_changes_nothing() -> None:
    with words_guard(mode="shadow") as guard:
        decision = guard.check("bad and worse")
    assert decision.action is Action.BLOCK
    assert (decision.enforced, decision.blocked, decision.text) == (False, False, "bad and worse")


def test_a_canary_share_of_the_conversations_is_enforced_and_stays_so() -> None:
    with words_guard(mode={"canary": 0.3}) as guard:

        def enforced(name: str) -> bool:
            with guard.conversation(name):
                return guard.check("bad").enforced

        first = [enforced(f"c{n}") for n in range(400)]
        assert first == [enforced(f"c{n}") for n in range(400)]
        assert 0.2 < sum(first) / 400 < 0.4


def test_in_a_conversation_placeholders_go_on_and_unchanged_texts_are_not_scanned_again() -> None:
    words = Words("words", "bad", "odd", "worse")
    with Guard({"name": "p", "version": "1", "rules": RULES}, detectors=[words]) as guard:
        history = ["a bad start", "fine"]
        with guard.conversation("c"):
            first = guard.check(history)
            assert words.texts == history
            second = guard.check([*history, "odd"])
            assert words.texts == [*history, "odd"]
            again = guard.check([*history, "odd"])
        assert words.texts == [*history, "odd"]
        assert first.texts == ("a <BAD_1> start", "fine")
        assert second.texts == again.texts == ("a <BAD_1> start", "fine", "odd")
        assert second.action is again.action is Action.REDACT
        assert second.findings == again.findings
        assert again.coverage == (1.0,) * 3
        assert [run.outcome for run in again.runs] == ["skipped"]
        with guard.conversation("d"):
            guard.check("fine")
        assert words.texts[-1] == "fine"


def test_a_failed_look_is_not_remembered() -> None:
    class Flaky(Words):
        def detect(self, texts):
            found = super().detect(texts)
            if self.calls == 1:
                raise ValueError
            return found

    flaky = Flaky("words", "bad", "worse", "odd")
    with Guard({"name": "p", "version": "1", "rules": RULES}, detectors=[flaky]) as guard, guard.conversation("c"):
        assert guard.check("fine").blocked
        assert not guard.check("fine").blocked
        assert flaky.calls == 2


@settings(max_examples=100, deadline=None)
@given(turns)
def test_what_a_conversation_redacts_its_vault_restores(turns: list[str]) -> None:
    with words_guard() as guard, guard.conversation("c"):
        cleared = [guard.check(turn).text for turn in turns]
        assert [guard.vault.restore("c", text) for text in cleared] == turns
        assert not any("bad" in text for text in cleared)


def test_ten_megabytes_are_looked_at_to_the_last_character() -> None:
    content = "fine " * 2_000_000 + "worse"
    with words_guard(deadline_ms=60_000) as guard:
        decision = guard.check(content)
    assert decision.blocked
    assert decision.findings[0].span == (len(content) - 5, len(content))
    assert decision.coverage == (1.0,)


def test_threads_do_not_mix_texts_up(guard: Guard) -> None:
    wrong = []

    def ask(name: str) -> None:
        for n in range(100):
            with guard.conversation(name):
                decision = guard.check(f"{name} {n} bad")
            if decision.text != f"{name} {n} <BAD_1>":
                wrong.append(decision.text)

    threads = [threading.Thread(target=ask, args=(f"t{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_nothing_of_a_text_is_in_what_may_be_logged(guard: Guard) -> None:
    decision = guard.check("worse than a marked secret")
    assert "marked" not in f"{decision!r} {Blocked(decision)} {Text('a marked secret')!r} {guard!r}"
    assert str(Blocked(decision)) == "blocked at stage 'input' by policy 'p' version '1': words/WORSE"
    assert "<BAD" not in repr(guard.check("a bad one"))


def test_a_decision_pickles(guard: Guard) -> None:
    decision = guard.check("bad and odd")
    assert pickle.loads(pickle.dumps(decision)) == decision


def test_own_detectors_come_ready_made() -> None:
    @detector("competitor", categories=["mention"])
    def competitor(text: str):
        at = text.find("Initech")
        if at >= 0:
            yield Finding("mention", 0.9, (at, at + 7))

    rules = [{"detector": "competitor", "action": "redact", "redaction": "mask"}]
    with Guard({"name": "p", "version": "1", "rules": rules}, detectors=[competitor]) as guard:
        assert guard.check("Ask Initech instead").text == "Ask ******* instead"
    with pytest.raises(ConfigurationError, match="two of the given detectors are named"):
        Guard({"name": "p", "version": "1", "rules": rules}, detectors=[competitor, competitor])
    with pytest.raises(ConfigurationError, match="function is no detector"):
        Guard({"name": "p", "version": "1", "rules": rules}, detectors=[lambda text: []])  # type: ignore[list-item]


def test_an_unknown_detector_names_the_file_the_line_and_the_nearest(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text("name: p\nversion: '1'\nrules:\n  - {detector: unicod, action: block}\n")
    with pytest.raises(
        ConfigurationError, match=r"policy\.yaml:4: unknown detector 'unicod' \(did you mean 'unicode'\?\)"
    ):
        Guard(file)


def test_wrong_options_name_the_file_the_line_and_the_option(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(
        "name: p\nrules:\n  - {detector: unicode, action: flag}\n  - {detector: token_stats, action: flag}\n"
        "detectors:\n  token_stats:\n    max_tokns: 5\n"
    )
    with pytest.raises(ConfigurationError, match=r"policy\.yaml:6: .*'max_tokns'.*max_tokens"):
        Guard(file)


def test_reload_changes_the_policy_and_a_broken_one_changes_nothing(guard: Guard) -> None:
    assert guard.check("odd").action is Action.FLAG
    guard.reload({"name": "p", "version": "2", "rules": [{"detector": "words", "action": "block"}]})
    assert guard.check("odd").blocked
    assert guard.check("odd").policy.version == "2"
    with pytest.raises(ConfigurationError, match="unknown detector"):
        guard.reload({"name": "p", "version": "3", "rules": [{"detector": "wods", "action": "block"}]})
    assert guard.policy.version == "2"


def test_a_watched_file_is_followed_and_a_broken_one_ignored(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"

    def write(version: int, action: str) -> None:
        fresh = tmp_path / "fresh"
        fresh.write_text(f"name: p\nversion: '{version}'\nrules:\n  - {{detector: words, action: {action}}}\n")
        fresh.replace(file)

    write(1, "flag")
    with Guard(file, detectors=[Words("words", "bad")], watch=True) as guard:
        write(2, "blok")
        write(3, "block")
        waited = threading.Event()
        for _ in range(600):
            if guard.policy.version == "3":
                break
            waited.wait(0.05)
        assert guard.check("bad").blocked
    with pytest.raises(ConfigurationError, match="watch=True needs a policy from a file"):
        Guard(Policy.preset("observe").model_copy(update={"rules": ()}), watch=True)


@pytest.mark.parametrize("name", ["", None, 5])
def test_a_conversation_needs_an_id(guard: Guard, name: object) -> None:
    with pytest.raises(ConfigurationError, match="id must be a string"):
        guard.conversation(name)  # type: ignore[arg-type]


def test_a_closed_guard_says_so() -> None:
    guard = Guard(
        {"name": "p", "version": "1", "rules": [{"detector": "words", "action": "block", "on_failure": "open"}]},
        detectors=[Words("words", "bad", inline=False)],
    )
    guard.close()
    decision = guard.check("bad")
    assert decision.unknown == ("words",)
    assert decision.runs[0].error == "llmguard.errors.LlmGuardError"


def test_stages_imply_roles(guard: Guard) -> None:
    rules = [{"detector": "words", "role": "tool", "action": "block"}]
    with Guard({"name": "p", "version": "1", "rules": rules}, detectors=[Words("words", "bad")]) as guard:
        assert guard.check("bad", stage=Stage.TOOL_RESULT).blocked
        assert not guard.check("bad", stage=Stage.INPUT).blocked
        assert guard.check("bad", stage=Stage.INPUT, role=Role.TOOL).blocked


def test_scopes_may_be_entered_in_one_context_and_left_in_another() -> None:
    with words_guard() as guard:
        for scope in (guard.tenant("acme"), guard.prompt("greeting"), guard.conversation("c")):
            contextvars.copy_context().run(scope.__enter__)
            contextvars.copy_context().run(scope.__exit__, None, None, None)
