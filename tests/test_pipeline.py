"""What detectors can do wrong, and what the guard makes of it."""

import asyncio
import gc
import threading

import pytest
from fakes import Broken, Hanging, Words

from llmguard import Action, Decision, Finding, Guard, Outcome

SECRET = "the marked secret"


def guard_of(*detectors, rules=None, **policy) -> Guard:
    rules = rules or [{"detector": detector.name, "action": "block"} for detector in detectors]
    return Guard({"name": "p", "version": "1", "rules": rules, **policy}, detectors=detectors)


def raises(error: BaseException):
    def answer(texts):
        raise error

    return answer


BROKEN = {
    "raises": (raises(ValueError(SECRET)), "ValueError"),
    "runs out of memory": (raises(MemoryError()), "MemoryError"),
    "recurses too deep": (raises(RecursionError(SECRET)), "RecursionError"),
    "raises TimeoutError itself": (raises(TimeoutError()), "TimeoutError"),
    "returns None": (lambda texts: None, "llmguard.errors.DetectorError"),
    "returns too few lists": (lambda texts: [[] for _ in texts][1:], "llmguard.errors.DetectorError"),
    "returns too many lists": (lambda texts: [[] for _ in texts] + [[]], "llmguard.errors.DetectorError"),
    "returns a generator": (lambda texts: ([] for _ in texts), "llmguard.errors.DetectorError"),
    "NaN score": (lambda texts: [[Finding("BROKEN", float("nan"))] for _ in texts], "llmguard.errors.DetectorError"),
    "score above 1": (lambda texts: [[Finding("BROKEN", 1.5)] for _ in texts], "llmguard.errors.DetectorError"),
    "score is a word": (lambda texts: [[Finding("BROKEN", "high")] for _ in texts], "TypeError"),
    "span after the end": (
        lambda texts: [[Finding("BROKEN", 1.0, (0, 999))] for _ in texts],
        "llmguard.errors.DetectorError",
    ),
    "negative span": (
        lambda texts: [[Finding("BROKEN", 1.0, (-1, 2))] for _ in texts],
        "llmguard.errors.DetectorError",
    ),
    "span turned round": (
        lambda texts: [[Finding("BROKEN", 1.0, (3, 2))] for _ in texts],
        "llmguard.errors.DetectorError",
    ),
    "undeclared category": (lambda texts: [[Finding("OTHER")] for _ in texts], "llmguard.errors.DetectorError"),
    "findings of no kind": (lambda texts: [["BROKEN"] for _ in texts], "llmguard.errors.DetectorError"),
}


@pytest.mark.parametrize("inline", [True, False], ids=["inline", "pooled"])
@pytest.mark.parametrize("case", BROKEN)
@pytest.mark.parametrize(("mode", "expected"), [("closed", Action.BLOCK), ("open", Action.ALLOW)])
def test_a_broken_detector_is_judged_by_the_failure_mode(case: str, inline: bool, mode: str, expected: Action) -> None:
    answer, error = BROKEN[case]
    detector = Broken(answer, inline=inline)
    rules = [{"detector": "broken", "action": "block", "on_failure": mode}]
    with guard_of(detector, rules=rules) as guard:
        decision = guard.check(SECRET)
    assert decision.action is expected
    assert decision.text == ("" if mode == "closed" else SECRET)
    assert decision.unknown == ("broken",)
    assert decision.coverage == (0.0,)
    (run,) = decision.runs
    assert (run.outcome, run.error, run.failure_mode) == (Outcome.ERROR, error, mode)
    assert SECRET not in repr(decision)


def test_closed_redaction_blocks_since_nobody_knows_what_to_redact() -> None:
    rules = [{"detector": "broken", "action": "redact", "on_failure": "closed"}]
    with guard_of(Broken(raises(ValueError())), rules=rules) as guard:
        assert guard.check("x").action is Action.BLOCK


def test_one_failure_leaves_the_other_detectors_answers() -> None:
    rules = [
        {"detector": "broken", "action": "flag", "on_failure": "open"},
        {"detector": "words", "action": "redact", "redaction": "remove"},
    ]
    with guard_of(Broken(raises(ValueError())), Words("words", "bad"), rules=rules) as guard:
        decision = guard.check("a bad word")
    assert decision.text == "a  word"
    assert decision.unknown == ("broken",)
    assert decision.coverage == (0.5,)


@pytest.mark.parametrize("inline", [True, False], ids=["inline", "pooled"])
def test_in_a_batch_only_the_text_that_breaks_a_detector_is_unknown(inline: bool) -> None:
    def answer(texts):
        if any(text.content == "poison" for text in texts):
            raise ValueError
        return [[] for _ in texts]

    with guard_of(Broken(answer, inline=inline), breaker={"failures": 100, "reset_s": 1}) as guard:
        decisions = guard.check_batch(["fine", "poison", "fine"])
        assert [d.action for d in decisions] == [Action.ALLOW, Action.BLOCK, Action.ALLOW]
        assert [d.action for d in decisions] == [guard.check(t).action for t in ("fine", "poison", "fine")]


def hanging_guard(detector: Hanging, mode: str = "closed") -> Guard:
    rules = [{"detector": "hanging", "action": "block", "on_failure": mode, "deadline_ms": 20}]
    return guard_of(detector, rules=rules, breaker={"failures": 2, "reset_s": 3600})


@pytest.mark.parametrize(("mode", "expected"), [("closed", Action.BLOCK), ("open", Action.ALLOW)])
def test_a_hanging_detector_is_a_timeout_at_its_deadline(mode: str, expected: Action) -> None:
    detector = Hanging()
    with hanging_guard(detector, mode) as guard:
        decision = guard.check(SECRET)
        assert decision.action is expected
        assert decision.runs[0].outcome is Outcome.TIMEOUT
        assert decision.runs[0].seconds >= 0.02
        assert decision.unknown == ("hanging",)
        detector.released.set()


async def test_a_hanging_detector_does_not_hold_up_the_event_loop() -> None:
    detector = Hanging()
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    with hanging_guard(detector) as guard:
        ticking = asyncio.create_task(tick())
        decision = await guard.acheck(SECRET)
        ticking.cancel()
        detector.released.set()
    assert decision.runs[0].outcome is Outcome.TIMEOUT
    assert ticks > 3


def test_a_detectors_time_is_its_own() -> None:
    slow, quick = Hanging("slow"), Words("quick", "bad", inline=False)
    rules = [
        {"detector": name, "action": "flag", "deadline_ms": 200, "on_failure": "open"} for name in ("slow", "quick")
    ]
    with guard_of(slow, quick, rules=rules) as guard:
        runs = {run.detector: run for run in guard.check("fine").runs}
        slow.released.set()
    assert runs["slow"].outcome is Outcome.TIMEOUT
    ends = {name: run.started + run.seconds for name, run in runs.items()}
    assert ends["quick"] < ends["slow"]  # though it was asked after the other had been given up


def test_the_breaker_opens_and_spares_the_next_calls() -> None:
    detector = Hanging()
    with hanging_guard(detector) as guard:
        outcomes = [guard.check("x").runs[0].outcome for _ in range(4)]
        detector.released.set()
    assert outcomes == [Outcome.TIMEOUT, Outcome.TIMEOUT, Outcome.OPEN, Outcome.OPEN]
    assert detector.calls == 2


def test_an_open_breaker_is_judged_by_the_failure_mode_and_never_silent() -> None:
    detector = Broken(raises(ValueError()))
    rules = [{"detector": "broken", "action": "block", "on_failure": "open"}]
    with guard_of(detector, rules=rules, breaker={"failures": 1, "reset_s": 3600}) as guard:
        guard.check("x")
        decision = guard.check("x")
    assert decision.action is Action.ALLOW
    assert decision.unknown == ("broken",)
    assert decision.runs[0].outcome is Outcome.OPEN


def test_after_the_rest_a_probe_brings_it_back() -> None:
    broken = threading.Event()
    broken.set()

    def answer(texts):
        if broken.is_set():
            raise ValueError
        return [[] for _ in texts]

    with guard_of(Broken(answer), breaker={"failures": 1, "reset_s": 0.001}) as guard:
        assert guard.check("x").runs[0].outcome is Outcome.ERROR
        broken.clear()
        while guard.check("x").runs[0].outcome is Outcome.OPEN:
            pass
        assert guard.check("x").runs[0].outcome is Outcome.PASS


def test_when_a_cheap_detector_blocks_the_expensive_ones_do_not_run() -> None:
    cheap, dear = Words("cheap", "bad"), Words("dear", "worse", inline=False)
    with guard_of(dear, cheap) as guard:
        assert guard.check("bad").action is Action.BLOCK
        assert dear.calls == 0
        decisions = guard.check_batch(["bad", "worse", "good"])
    assert dear.texts == ["worse", "good"]
    assert [d.action for d in decisions] == [Action.BLOCK, Action.BLOCK, Action.ALLOW]
    assert [run.outcome for run in decisions[0].runs] == [Outcome.HIT, Outcome.SKIPPED]
    assert decisions[0].coverage == (1.0,)


@pytest.mark.parametrize("mode", ["enforce", "shadow"])
def test_a_score_that_the_policy_allows_is_no_hit(mode: str) -> None:
    rules = [{"detector": "words", "threshold": 0.5, "action": "flag"}]
    for score, action, outcome in ((0.4, Action.ALLOW, Outcome.PASS), (0.6, Action.FLAG, Outcome.HIT)):
        with guard_of(Words("words", "bad", score=score), rules=rules, mode=mode) as guard:
            seen = guard.check("bad")
        assert [finding.action for finding in seen.findings] == [action]
        assert [run.outcome for run in seen.runs] == [outcome]


def test_a_batch_is_one_call_of_each_detector() -> None:
    first, second = Words("first", "a"), Words("second", "b", inline=False)
    with guard_of(first, second) as guard:
        guard.check_batch([f"text {n}" for n in range(100)])
    assert (first.calls, second.calls) == (1, 1)


def test_a_large_batch_is_cut_so_that_a_deadline_is_for_work_of_a_bounded_size() -> None:
    words = Words("words", "bad")
    texts = ["fine " * 80_000, "bad", "fine " * 100_000, "fine " * 80_000, "bad"]
    with guard_of(words) as guard:
        decisions = guard.check_batch(texts)
    assert words.calls == 2
    assert words.texts == texts
    assert [d.blocked for d in decisions] == [False, True, False, False, True]


def test_long_texts_leave_the_callers_thread_so_that_a_deadline_holds() -> None:
    threads: set[int] = set()

    def answer(texts):
        threads.add(threading.get_ident())
        return [[] for _ in texts]

    with guard_of(Broken(answer)) as guard:
        guard.check("short")
        assert threads == {threading.get_ident()}
        threads.clear()
        guard.check("long " * 20_000)
        assert threads
        assert threading.get_ident() not in threads


def test_findings_carry_their_detector_text_and_action() -> None:
    rules = [{"detector": "words", "action": "flag", "threshold": 0.4}]
    with guard_of(Words("words", "bad", score=0.4), rules=rules) as guard:
        decision: Decision = guard.check(["good", "bad"])
    (finding,) = decision.findings
    assert (finding.detector, finding.text, finding.action, finding.span) == ("words", 1, Action.FLAG, (0, 3))
    assert decision.action is Action.FLAG
    assert decision.texts == ("good", "bad")


def test_a_hundred_thousand_findings_are_all_redacted() -> None:
    content = "bad " * 100_000
    rules = [{"detector": "words", "action": "redact", "redaction": "remove", "deadline_ms": 60_000}]
    with guard_of(Words("words", "bad"), rules=rules) as guard:
        decision = guard.check(content)
    assert len(decision.findings) == 100_000
    assert decision.text == " " * 100_000
    assert decision.coverage == (1.0,)


async def test_a_cancelled_check_leaves_the_guard_usable() -> None:
    detector = Hanging()
    rules = [{"detector": "hanging", "action": "block", "deadline_ms": 60_000}]
    with guard_of(detector, rules=rules) as guard:
        task = asyncio.create_task(guard.acheck("x"))
        await asyncio.to_thread(detector.begun.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        detector.released.set()
        assert (await guard.acheck("x")).action is Action.ALLOW


@pytest.mark.parametrize("deadline_ms", [20, 60_000], ids=["after its deadline", "in time"])
async def test_an_error_of_a_detector_is_not_logged_by_the_event_loop(
    deadline_ms: int, caplog: pytest.LogCaptureFixture
) -> None:
    entered, go, left = threading.Event(), threading.Event(), threading.Event()

    def answer(texts):
        entered.set()
        go.wait()
        left.set()
        raise ValueError(texts[0].content)

    rules = [{"detector": "broken", "action": "block", "deadline_ms": deadline_ms}]
    with guard_of(Broken(answer, inline=False), rules=rules) as guard:
        task = asyncio.create_task(guard.acheck(SECRET))
        await asyncio.to_thread(entered.wait, 10)
        if deadline_ms > 1000:
            go.set()
        decision = await task
        go.set()
        await asyncio.to_thread(left.wait, 10)
        await asyncio.to_thread(guard.check, "x")  # the worker has handed its answer over by now
    assert decision.unknown == ("broken",)
    del task
    await asyncio.sleep(0)
    gc.collect()
    assert SECRET not in caplog.text
    assert caplog.records == []


@pytest.mark.parametrize("inline", [True, False], ids=["inline", "pooled"])
def test_a_batch_that_fails_as_the_probe_does_not_shut_the_breaker_for_good(inline: bool) -> None:
    broken = threading.Event()
    broken.set()

    def answer(texts):
        if broken.is_set():
            raise ValueError
        return [[] for _ in texts]

    with guard_of(Broken(answer, inline=inline), breaker={"failures": 1, "reset_s": 0.001}) as guard:
        assert guard.check("x").runs[0].outcome is Outcome.ERROR
        deadline = threading.Event()
        deadline.wait(0.01)
        assert Outcome.ERROR in [decision.runs[0].outcome for decision in guard.check_batch(["x", "y"])]
        broken.clear()
        for _ in range(200):
            if guard.check("x").runs[0].outcome is Outcome.PASS:
                break
            deadline.wait(0.01)
        assert guard.check("x").runs[0].outcome is Outcome.PASS


def test_a_detector_on_a_worker_that_exits_is_only_a_broken_detector() -> None:
    with guard_of(Broken(raises(SystemExit(1)), inline=False)) as guard:
        decision = guard.check("x")
    assert decision.runs[0].error == "SystemExit"
