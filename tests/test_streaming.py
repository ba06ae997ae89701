"""However a text is cut, its stream says what a check says, and lets nothing out that the policy takes out."""

from __future__ import annotations

import asyncio
import gc
import itertools
import re
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from fakes import Pieces, Words
from hypothesis import given, settings
from hypothesis import strategies as st
from work import steps

from llmguard import Action, Blocked, ConfigurationError, Finding, Guard, Scope, Text, detector
from llmguard.types import Incremental
from llmguard.vault import Vault

ALPHABET = "aaabbc <_1>XW.\n\U0001f989\ud800"


@detector("shout", categories=["SHOUT"], scope="sentence", inline=True)
def shout(text: str) -> list[Finding]:
    """Sentences that hold an X and a W, as a whole."""
    return [Finding("SHOUT", 1.0)] if "X" in text and "W" in text else []


@detector("owl", categories=["OWL"], scope="document", inline=True)
def owl(text: str) -> list[Finding]:
    """Three owls anywhere."""
    return [Finding("OWL", 1.0)] if text.count("\U0001f989") >= 3 else []


def guard_of(*rules: dict, detectors: Sequence[object] = (), **policy) -> Guard:
    return Guard({"name": "p", "rules": list(rules), **policy}, detectors=[Pieces(), shout, owl, *detectors])


def cut(text: str, places: Sequence[int]) -> list[str]:
    at = sorted({0, len(text), *(place % (len(text) + 1) for place in places)})
    return [text[a:b] for a, b in itertools.pairwise(at)]


def streamed(guard: Guard, pieces: Sequence[str], **options) -> tuple[str, bool]:
    """What went out, and whether it ended blocked."""
    stream = guard.stream(**options)
    out = ""
    try:
        for piece in pieces:
            out += stream.feed(piece)
        out += stream.close()
    except Blocked:
        return out, True
    return out, False


GUARDS = {
    "redact": [{"detector": "pieces", "action": "redact"}],
    "mask": [{"detector": "pieces", "action": "redact", "redaction": "mask"}],
    "block": [
        {"detector": "pieces", "categories": ["LONG"], "action": "block"},
        {"detector": "pieces", "action": "redact"},
    ],
    "sentence": [{"detector": "shout", "action": "redact"}, {"detector": "pieces", "action": "redact"}],
    "sentence blocks": [{"detector": "shout", "action": "block"}, {"detector": "pieces", "action": "redact"}],
    "document": [{"detector": "owl", "action": "block"}, {"detector": "pieces", "action": "redact"}],
    "flag": [{"detector": "owl", "action": "flag"}, {"detector": "pieces", "action": "redact"}],
}


@pytest.fixture(scope="module", params=GUARDS)
def any_guard(request):
    with guard_of(*GUARDS[request.param]) as guard:
        yield guard


@settings(max_examples=400)
@given(text=st.text(ALPHABET, max_size=60), places=st.lists(st.integers(0, 60), max_size=30))
def test_cutting_does_not_matter(any_guard: Guard, text: str, places: list[int]) -> None:
    decision = any_guard.check(text, stage="output")
    out, blocked = streamed(any_guard, cut(text, places))
    assert blocked == decision.blocked
    if not blocked:
        assert out == decision.text
        return
    first = min(
        finding.span[0] if finding.span else 0 for finding in decision.findings if finding.action is Action.BLOCK
    )
    before = any_guard.check(text[:first], stage="output")
    assert before.blocked or before.text.startswith(out) or (before.text + "<PIECE").startswith(out)


@settings(max_examples=300)
@given(text=st.text(ALPHABET, max_size=60), places=st.lists(st.integers(0, 60), max_size=30))
def test_the_decision_is_that_of_a_check(any_guard: Guard, text: str, places: list[int]) -> None:
    want = any_guard.check(text, stage="output")
    if want.blocked:
        return
    with any_guard.stream() as stream:
        for piece in cut(text, places):
            stream.feed(piece)
        stream.close()
        decision = stream.decision
    assert decision is not None
    assert (decision.action, decision.text, decision.findings) == (want.action, want.text, want.findings)
    assert (decision.coverage, decision.modified, decision.stage) == (want.coverage, want.modified, want.stage)


@settings(max_examples=300)
@given(text=st.text(ALPHABET, max_size=60), places=st.lists(st.integers(0, 60), max_size=30))
def test_no_more_is_held_back_than_could_still_change(text: str, places: list[int]) -> None:
    with guard_of(*GUARDS["redact"]) as guard:
        stream, came, out = guard.stream(), "", ""
        for piece in cut(text, places):
            came += piece
            out += stream.feed(piece)
            live = re.search(r"ab*\Z", came)
            if not live:
                assert out == guard.check(came, stage="output").text


@settings(max_examples=300)
@given(st.text(ALPHABET, max_size=30), st.lists(st.integers(0, 60), max_size=20))
def test_placeholders_that_arrive_split_are_restored(rest: str, places: list[int]) -> None:
    with guard_of(*GUARDS["redact"]) as guard, guard.conversation("c"):
        asked = guard.check("Please abc and abbc", stage="input").text
        assert asked == "Please <PIECE_1> and <LONG_1>"
        answer = f"{rest}<PIECE_1>{rest}<LONG_1>{rest}<LONG_2>"
        decision = guard.check(answer, stage="output")
        want = guard.vault.restore("c", decision.text)
        assert streamed(guard, cut(answer, places)) == (want, False)
        assert want.endswith("<LONG_2>")


def test_windows_let_go_of_what_they_have_seen() -> None:
    rule = {"detector": "owl", "action": "block", "stream": "windowed"}
    with guard_of(rule, stream={"window": 3}) as guard:
        stream = guard.stream()
        assert stream.feed("one two") == ""
        assert stream.feed(" three") == ""
        assert stream.feed(" four") == "one two three"
        with pytest.raises(Blocked) as caught:
            stream.feed(" \U0001f989\U0001f989\U0001f989 five six ")
        assert caught.value.decision.blocked
        assert caught.value.decision == stream.decision


def test_a_window_looks_back_at_the_one_before() -> None:
    rule = {"detector": "owl", "action": "block", "stream": "windowed"}
    with guard_of(rule, stream={"window": 2}) as guard:
        stream = guard.stream()
        assert stream.feed("\U0001f989 \U0001f989 x") == "\U0001f989 \U0001f989"
        with pytest.raises(Blocked):
            stream.feed(" \U0001f989 y")


def test_what_no_window_saw_blocks_at_the_end() -> None:
    rule = {"detector": "owl", "action": "block", "stream": "windowed"}
    with guard_of(rule, stream={"window": 1}) as guard:
        pieces = ["\U0001f989 a b c ", "\U0001f989 a b c ", "\U0001f989 a b c"]
        out, blocked = streamed(guard, pieces)
        assert blocked
        assert "".join(pieces).startswith(out)


@settings(max_examples=200)
@given(text=st.text(ALPHABET, max_size=80), one=st.lists(st.integers(0, 80)), two=st.lists(st.integers(0, 80)))
def test_windows_are_where_the_text_says_not_where_it_was_cut(text: str, one: list[int], two: list[int]) -> None:
    rule = {"detector": "owl", "action": "block", "stream": "windowed"}
    with guard_of(rule, stream={"window": 4}) as guard:
        first, second = streamed(guard, cut(text, one)), streamed(guard, cut(text, two))
        assert first[1] == second[1]
        assert first == second or first[1]


@detector("early", categories=["EARLY"], scope="document", inline=True)
def early(text: str) -> list[Finding]:
    """What a first window shows, and the whole text does not."""
    return [Finding("EARLY", 1.0, (1, 4))] if text.startswith("ab") and len(text) <= 40 else []


class Shut(Vault):
    """Can't be had the first time."""

    refused = False

    def placeholder(self, *args: Any, **kwargs: Any) -> str:
        if not self.refused:
            self.refused = True
            raise OSError("the vault can't be reached")
        return super().placeholder(*args, **kwargs)


def test_what_windows_saw_is_taken_out_also_where_the_vault_refused_at_first() -> None:
    rules = [
        {"detector": "early", "action": "redact", "stream": "windowed"},
        {"detector": "pieces", "categories": ["PIECE"], "action": "redact"},
    ]
    policy = {"name": "p", "rules": rules, "stream": {"window": 1}}
    with Guard(policy, detectors=[Pieces(), early], vault=Shut()) as guard, guard.stream() as stream:
        assert stream.feed("a" + "b" * 60) == ""  # it may still become a piece
        with pytest.raises(OSError, match="vault"):
            stream.close()
        assert stream.close() == "a<EARLY_1>" + "b" * 57


def test_an_observing_rule_holds_nothing_back_and_tells() -> None:
    with guard_of({"detector": "pieces", "action": "block", "stream": "observe"}) as guard:
        stream = guard.stream()
        assert [stream.feed("a"), stream.feed("bc"), stream.close()] == ["a", "bc", ""]
        decision = stream.decision
        assert decision is not None
        assert (decision.action, decision.blocked, decision.text) == (Action.FLAG, False, "abc")
        assert [finding.category for finding in decision.findings] == ["PIECE"]


def test_in_shadow_mode_all_goes_out_at_once() -> None:
    with guard_of(*GUARDS["block"], mode="shadow") as guard:
        stream = guard.stream()
        assert [stream.feed("abb"), stream.feed("c"), stream.close()] == ["abb", "c", ""]
        decision = stream.decision
        assert decision is not None
        assert (decision.action, decision.blocked, decision.text) == (Action.BLOCK, False, "abbc")


def test_a_detector_that_does_not_say_what_is_final_has_to_see_the_end() -> None:
    assert not isinstance(Words("words", "bad"), Incremental)
    rule = {"detector": "words", "action": "redact"}
    with guard_of(rule, detectors=[Words("words", "bad")]) as guard:
        stream = guard.stream()
        assert stream.feed("fine. and bad, ") == ""
        assert stream.close() == "fine. and <BAD_1>, "


def test_a_reply_is_said_in_place_of_the_rest() -> None:
    with guard_of(*GUARDS["block"], on_block={"reply": "No."}) as guard:
        stream = guard.stream()
        assert [stream.feed("go abbc"), stream.feed(" on"), stream.close()] == ["No.", "", ""]
        assert stream.decision is not None
        assert stream.decision.blocked


def test_nothing_goes_out_after_a_block() -> None:
    with guard_of(*GUARDS["block"]) as guard:
        stream = guard.stream()
        assert stream.feed("abbb") == ""
        for _ in range(2):
            with pytest.raises(Blocked):
                stream.feed("c and more")
        with pytest.raises(Blocked):
            stream.close()


@pytest.mark.parametrize("mode", ["open", "closed"])
def test_a_detector_that_fails_in_a_stream(mode: str) -> None:
    class Broken(Pieces):
        def detect(self, texts: Sequence[Text]) -> list[list[Finding]]:
            raise RuntimeError("no")

    rule = {"detector": "pieces", "action": "redact", "on_failure": mode}
    with Guard({"name": "p", "rules": [rule]}, detectors=[Broken()]) as guard:
        out, blocked = streamed(guard, ["some ", "text"])
        assert (out, blocked) == (("", True) if mode == "closed" else ("some text", False))


@pytest.mark.parametrize("answer", [-1, 10**6, None, "3", True, RuntimeError("no")])
def test_a_detector_that_says_nonsense_of_what_is_final(answer: object) -> None:
    class Wrong(Pieces):
        def settled(self, text: str) -> int:
            if isinstance(answer, Exception):
                raise answer
            return answer  # type: ignore[return-value]

    rule = {"detector": "pieces", "action": "redact"}
    with Guard({"name": "p", "rules": [rule]}, detectors=[Wrong()]) as guard:
        out, blocked = streamed(guard, ["some ", "text"])
        assert (out, blocked) == ("", True)
        rule["on_failure"] = "open"
    with Guard({"name": "p", "rules": [rule]}, detectors=[Wrong()]) as guard:
        assert streamed(guard, ["some ", "abc"])[1] is False


async def test_slow_detectors_do_not_hold_up_an_event_loop() -> None:
    entered, leave = threading.Event(), threading.Event()

    class Slow(Pieces):
        inline = False

        def detect(self, texts: Sequence[Text]) -> list[list[Finding]]:
            entered.set()
            leave.wait(10)
            return super().detect(texts)

    rule = {"detector": "pieces", "action": "redact", "deadline_ms": 20_000}
    with Guard({"name": "p", "rules": [rule]}, detectors=[Slow()]) as guard:
        stream = guard.stream()
        feeding = asyncio.ensure_future(stream.afeed("say abc now"))
        assert await asyncio.to_thread(entered.wait, 10)
        assert not feeding.done()
        leave.set()
        assert await feeding + await stream.aclose() == "say <PIECE_1> now"


def test_streams_of_many_threads_do_not_mix() -> None:
    with guard_of(*GUARDS["redact"]) as guard:
        failures: list[str] = []

        def read(number: int) -> None:
            text = f"{number} abc {number} abbc {number} " * 20
            out, _ = streamed(guard, [text[at : at + 3] for at in range(0, len(text), 3)])
            if out != guard.check(text, stage="output").text:
                failures.append(str(number))

        threads = [threading.Thread(target=read, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []


def test_values_without_a_conversation_are_forgotten_with_the_stream() -> None:
    with guard_of(*GUARDS["redact"]) as guard:
        assert streamed(guard, ["abc"]) == ("<PIECE_1>", False)
        stream = guard.stream()
        stream.feed("abc.")
        stream.abandon()
        assert len(guard.vault) == 0


@pytest.mark.parametrize(("piece", "problem"), [(b"abc", "decode it first"), (None, "NoneType"), (3, "int")])
def test_a_piece_is_a_string(piece: object, problem: str) -> None:
    with guard_of(*GUARDS["redact"]) as guard, pytest.raises(TypeError, match=problem):
        guard.stream().feed(piece)  # type: ignore[arg-type]


def test_after_its_end_a_stream_takes_no_more() -> None:
    with guard_of(*GUARDS["redact"]) as guard:
        stream = guard.stream()
        stream.feed("a")
        assert [stream.close(), stream.close()] == ["a", ""]
        with pytest.raises(ValueError, match="has ended"):
            stream.feed("more")


def test_unknown_stages_are_errors() -> None:
    with guard_of(*GUARDS["redact"]) as guard, pytest.raises(ConfigurationError, match="did you mean 'output'"):
        guard.stream(stage="outptu")


def test_memory_of_a_long_stream_is_that_of_its_text() -> None:
    import tracemalloc

    with guard_of(*GUARDS["redact"]) as guard:
        pieces = ["so ", "it ", "goes ", "on.", " "] * 2000
        streamed(guard, pieces[:100])
        gc.collect()
        tracemalloc.start()
        stream = guard.stream()
        for piece in pieces:
            stream.feed(piece)
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        stream.abandon()
        assert held < 3 * sum(map(len, pieces)) + 120_000


def test_the_scope_of_a_sentence_detector_is_the_sentence_in_checks_too() -> None:
    assert shout.scope is Scope.SENTENCE
    with guard_of({"detector": "shout", "action": "redact"}) as guard:
        assert guard.check("An X! One W! X and W! So.", stage="output").text == "An X! One W! <SHOUT_1> So."


@settings(max_examples=300)
@given(text=st.text("abc q\n", max_size=60), one=st.lists(st.integers(0, 60)), two=st.lists(st.integers(0, 60)))
def test_windows_that_redact_do_so_wherever_a_text_is_cut(text: str, one: list[int], two: list[int]) -> None:
    rule = {"detector": "pieces", "action": "redact", "stream": "windowed"}
    with guard_of(rule, stream={"window": 2}) as guard:
        first, second = streamed(guard, cut(text, one)), streamed(guard, cut(text, two))
        assert first[1] == second[1]
        if not first[1]:
            assert first == second
            assert not re.search("ab+c", first[0])


def test_a_window_is_not_surprised_by_what_the_one_before_took_out() -> None:
    rule = {"detector": "pieces", "action": "redact", "stream": "windowed"}
    with guard_of(rule, stream={"window": 2}) as guard:
        pieces = [f"{word} " for word in ["one", "abc", "two", "three", "four", "five", "six"]]
        assert streamed(guard, pieces) == ("one <PIECE_1> two three four five six ", False)


def test_what_is_told_too_late_blocks() -> None:
    class Late(Pieces):
        def settled(self, text: str) -> int:
            return len(text)

    rule = {"detector": "pieces", "action": "redact"}
    with Guard({"name": "p", "rules": [rule]}, detectors=[Late()]) as guard:
        assert streamed(guard, ["x a", "bc", " y"]) == ("x a", True)


def test_after_it_was_given_up_nothing_goes_out() -> None:
    with guard_of(*GUARDS["redact"]) as guard:
        stream = guard.stream()
        stream.feed("so ")
        stream.abandon()
        with pytest.raises(ValueError, match="has ended"):
            stream.feed("more")
        assert stream.close() == ""
        assert stream.decision is None


def test_a_stream_in_shadow_mode_leaves_the_vault_alone() -> None:
    with guard_of(*GUARDS["redact"], mode="shadow") as guard, guard.conversation("c"):
        assert streamed(guard, ["abc"], stage="input") == ("abc", False)
        assert len(guard.vault) == 0


async def test_a_close_that_was_cancelled_may_be_made_again() -> None:
    leave = threading.Event()

    class Slow(Words):
        def detect(self, texts: Sequence[Text]) -> list[list[Finding]]:
            leave.wait(10)
            return super().detect(texts)

    rule = {"detector": "slow", "action": "block", "deadline_ms": 20_000}
    with Guard({"name": "p", "rules": [rule]}, detectors=[Slow("slow", "bad", inline=False)]) as guard:
        stream = guard.stream()
        await stream.afeed("so bad")
        closing = asyncio.ensure_future(stream.aclose())
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        leave.set()
        with pytest.raises(Blocked):
            await stream.aclose()


HELD = [{"detector": "owl", "action": "block"}, {"detector": "pieces", "categories": ["LONG"], "action": "block"}]


def test_what_is_held_back_to_the_end_can_still_end_the_stream() -> None:
    with guard_of(*HELD) as guard:
        stream = guard.stream()
        assert [stream.feed("so abc "), stream.feed("ab"), stream.feed("b")] == ["", "", ""]
        with pytest.raises(Blocked) as caught:
            stream.feed("c and much more")
        decision, checked = caught.value.decision, guard.check("so abc abbc", stage="output")
        assert decision == stream.decision
        assert (decision.action, decision.texts, decision.coverage) == (Action.BLOCK, ("",), checked.coverage)
        assert set(decision.findings) <= set(checked.findings)
        assert [(finding.category, finding.span) for finding in decision.findings] == [("LONG", (7, 11))]
        assert [(run.detector, run.outcome.value) for run in decision.runs] == [("pieces", "hit"), ("owl", "skipped")]


@settings(max_examples=300)
@given(
    text=st.lists(st.sampled_from([*ALPHABET, "abc", "abbc", "\U0001f989 "]), max_size=20).map("".join),
    places=st.lists(st.integers(0, 60), max_size=30),
    stage=st.sampled_from(["output", "input"]),
)
def test_what_is_held_back_ends_as_soon_as_a_check_can_say_nothing_else(
    text: str, places: list[int], stage: str
) -> None:
    with guard_of(*HELD, {"detector": "pieces", "action": "redact"}) as guard:
        want, long = guard.check(text, stage=stage), re.search("abb+c", text)
        stream, came, out = guard.stream(stage=stage), 0, ""
        try:
            for piece in cut(text, places):
                assert not long or came < long.end()
                came += len(piece)
                assert stream.feed(piece) == ""
            out = stream.close()
        except Blocked:
            assert want.blocked
        decision = stream.decision
        assert decision is not None
        assert (decision.action, decision.text, out) == (want.action, want.text, want.text)
        assert set(decision.findings) <= set(want.findings)
        assert long or decision.findings == want.findings


def test_a_loop_is_ended_also_beside_a_rule_that_wants_the_whole_answer() -> None:
    from llmguard.detectors.prompt_leak import PromptLeakDetector
    from llmguard.detectors.runaway import RunawayDetector

    rules = [{"detector": name, "action": "block"} for name in ("runaway", "prompt_leak")]
    said, closed = 0, []
    with Guard({"name": "p", "rules": rules}, detectors=[RunawayDetector(), PromptLeakDetector()]) as guard:

        @guard
        def talk(question: str):
            nonlocal said
            try:
                for piece in ["As I said: "] + ["no, never. "] * 1_000:
                    said += len(piece)
                    yield piece
            finally:
                closed.append(True)

        with pytest.raises(Blocked) as caught:
            "".join(talk("What did you say?"))
        assert (said, closed) == (253, [True])
        assert [finding.category for finding in caught.value.decision.findings] == ["RUNAWAY"]


def test_a_look_that_fails_decides_nothing_where_all_is_held_back() -> None:
    class Touchy(Pieces):
        def detect(self, texts: Sequence[Text]) -> list[list[Finding]]:
            if not texts[0].content.endswith("."):
                raise RuntimeError("no")
            return super().detect(texts)

    class Lost(Pieces):
        def settled(self, text: str) -> int:
            raise RuntimeError("no")

    for broken in (Touchy(), Lost()):
        with Guard({"name": "p", "rules": HELD}, detectors=[broken, owl]) as guard:
            assert streamed(guard, ["some ", "text", "."]) == ("some text.", False)
            assert streamed(guard, ["some ", "abbc", "."]) == ("", True)


def test_what_was_taken_out_before_is_told_where_the_stream_is_blocked() -> None:
    with guard_of(*GUARDS["block"]) as guard:
        stream = guard.stream()
        assert stream.feed("an abc ") == "an <PIECE_1> "
        with pytest.raises(Blocked) as caught:
            stream.feed("abbc")
        found = [(finding.category, finding.action) for finding in caught.value.decision.findings]
        assert found == [("PIECE", Action.REDACT), ("LONG", Action.BLOCK)]


def test_what_a_rule_lets_be_may_lie_across_what_has_gone_out() -> None:
    class Chained(Pieces):
        """``ab…bc``, or what goes from a c to a d and is in none of them; a c may begin one, so it waits."""

        def detect(self, texts: Sequence[Text]) -> list[list[Finding]]:
            return [
                [
                    Finding("PIECE" if m[0][0] == "a" else "LONG", 1.0, m.span())
                    for m in re.finditer("ab+c|c.{3}d", one.content)
                ]
                for one in texts
            ]

        def settled(self, text: str) -> int:
            under_way = re.search(r"(?:ab*|c.{0,3})\Z", text)
            return under_way.start() if under_way else len(text)

    rules = [
        {"detector": "pieces", "categories": ["PIECE"], "action": "flag"},
        {"detector": "pieces", "action": "redact"},
    ]
    with Guard({"name": "p", "rules": rules}, detectors=[Chained()]) as guard:
        text = "." * 255 + "abcxxxd cxxxd."
        assert streamed(guard, list(text)) == (guard.check(text, stage="output").text, False)


def test_many_findings_cost_no_more_each_than_few() -> None:
    with guard_of(*GUARDS["mask"]) as guard:

        def closed(size: int) -> int:
            stream = guard.stream()
            stream.feed("abc " * size)
            return steps(stream.close, "llmguard.growing", "llmguard.outgoing", "llmguard.hits")

        closed(1)
        assert closed(800) < 5 * closed(200)


@settings(max_examples=200)
@given(
    text=st.lists(st.sampled_from(["abc", "ab", "b" * 9, "c", "\U0001f989", " ", "."]), max_size=20).map("".join),
    one=st.lists(st.integers(0, 60)),
    window=st.integers(1, 4),
)
def test_the_last_window_is_looked_at_however_patient_the_last_look_was(text: str, one: list[int], window: int) -> None:
    rules = [{"detector": "owl", "action": "redact", "stream": "windowed"}, {"detector": "pieces", "action": "redact"}]
    with guard_of(*rules, stream={"window": window}) as guard:
        first, second, third = streamed(guard, cut(text, one)), streamed(guard, list(text)), streamed(guard, [text])
        assert first[1] == second[1] == third[1]
        assert first[1] or first == second == third
        assert not guard.check(text, stage="output").blocked or first[1]


def test_a_window_that_ends_where_the_text_does_is_looked_at_before_its_end() -> None:
    @detector("long", categories=["LONG"], scope="document", inline=True)
    def long(text: str) -> list[Finding]:
        """Texts of forty letters and more, as a whole."""
        return [Finding("LONG", 1.0, (0, len(text)))] if len(text) >= 40 else []

    rule = {"detector": "long", "action": "redact", "stream": "windowed"}
    with guard_of(rule, detectors=[long], stream={"window": 4}) as guard:
        text = "x" * 64 + "y"
        outcomes = {streamed(guard, [text[:at], *text[at:]])[1] for at in range(len(text))}
        assert outcomes == {True}  # one in which the whole text stands is not the window that was let out
