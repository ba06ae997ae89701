"""The drift monitor by its public face: what it notices, what it doesn't, and what it keeps."""

from __future__ import annotations

import os
import random
import re
import signal
import threading
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from llmguard import signals
from llmguard.detectors.drift import Category, DriftMonitor, Numeric, PreviousPrompt, State
from llmguard.errors import ConfigurationError
from llmguard.readings import Alert, Alerting, Gauged
from llmguard.types import (
    Action,
    Decision,
    DetectorRun,
    Finding,
    Monitor,
    Observation,
    Outcome,
    PolicyRef,
    Stage,
    Text,
)


def check(
    content: str,
    *,
    stage: Stage = Stage.INPUT,
    found: tuple[Finding, ...] = (),
    ran: tuple[str, ...] = ("pii",),
    prompt: tuple[str, str, str] = ("", "", ""),
    cohort: Mapping[str, str] | None = None,
) -> Observation:
    runs = tuple([DetectorRun(name, "1", Outcome.PASS) for name in ran])
    decision = Decision(Action.ALLOW, (content,), found, stage, PolicyRef("p", "1", "h"), runs=runs)
    return Observation(decision, (Text(content),), prompt=prompt, cohort=cohort or {})


def call(**numbers: float) -> Observation:
    return Observation(None, numbers=numbers)


def drifted(monitor: DriftMonitor) -> set[str]:
    return {str(alert.attributes["llmguard.drift.feature"]) for alert in monitor.alerts() if not alert.resolved}


def sent(monitor: DriftMonitor, count: int, length: int, seed: int = 0) -> None:
    rng = random.Random(seed)
    for _ in range(count):
        monitor.observe(check("word " * rng.randint(length // 2, length * 2)))


def test_it_is_a_monitor_with_gauges_and_alerts() -> None:
    monitor = DriftMonitor()
    assert isinstance(monitor, Monitor)
    assert isinstance(monitor, Gauged)
    assert isinstance(monitor, Alerting)


def test_longer_inputs_are_noticed_once() -> None:
    heard: list[Alert] = []
    monitor = DriftMonitor(500, window=512, on_drift=heard.append)
    sent(monitor, 1500, 20)
    assert monitor.alerts() == ()
    sent(monitor, 500, 40, seed=1)
    assert drifted(monitor) == {"input.length", "input.tokens"}
    assert set(monitor.drifting) == {"input.length", "input.tokens"}
    assert len(heard) == 2
    (row,) = [row for row in signals.EVENTS if row.name == heard[0].event]
    assert heard[0].attributes.keys() == set(row.attributes)
    assert heard[0].attributes["llmguard.drift.window"] == "512 calls"
    assert float(heard[0].attributes["llmguard.drift.p_value"]) < 1e-4


def test_everyone_is_told_of_everything_also_when_one_of_them_raises() -> None:
    def broken(alert: Alert) -> None:
        raise OSError(f"no way to tell of {alert.attributes['llmguard.drift.feature']}")

    heard: list[Alert] = []
    monitor = DriftMonitor(300, window=320, features=[Numeric("a"), Numeric("b")], on_drift=broken)
    monitor.subscribe(heard.append)
    for _ in range(500):
        monitor.record({"a": 0.0, "b": 0.0})

    def changed() -> None:
        for _ in range(100):
            monitor.record({"a": 1.0, "b": 1.0})

    with pytest.raises(OSError, match="no way to tell of a"):
        changed()
    assert {alert.attributes["llmguard.drift.feature"] for alert in heard} == {"a", "b"}
    assert monitor.alerts() == tuple(heard)


def test_what_is_as_before_again_is_told_too() -> None:
    monitor = DriftMonitor(500, window=512)
    sent(monitor, 500, 20)
    sent(monitor, 300, 40, seed=1)
    assert monitor.drifting
    sent(monitor, 1500, 20, seed=2)
    assert monitor.drifting == ()
    assert [alert.resolved for alert in monitor.alerts()] == [False, False, True, True]


def test_the_scores_of_a_detector_are_followed_once_it_is_there() -> None:
    monitor = DriftMonitor(300, window=320, features=["scores"])
    hit = (Finding("EMAIL_ADDRESS", 0.9, (0, 4), "pii"),)
    for at in range(600):
        monitor.observe(check("some text", found=hit if at % 20 == 0 else ()))
    for at in range(300):
        monitor.observe(check("some text", found=hit if at % 3 == 0 else ()))
    assert drifted(monitor) == {"input.score.pii"}


@pytest.mark.parametrize("reference", [400, timedelta(seconds=400)])
def test_a_detector_that_comes_later_gets_a_reference_of_its_own(reference: int | timedelta, tmp_path: Path) -> None:
    clock = Clock()

    def made() -> DriftMonitor:
        return DriftMonitor(reference, window=320, features=["scores", "refusal", "length"], clock=clock)

    monitor = made()
    rng = random.Random(0)

    def checks(count: int, share: float, ran: tuple[str, ...], stage: Stage = Stage.OUTPUT) -> None:
        for _ in range(count):
            clock.now += 1
            found = (Finding("REFUSAL", 0.9, (0, 4), "refusal"),) if ran[1:] and rng.random() < share else ()
            monitor.observe(check("some text", stage=stage, found=found, ran=ran))

    checks(700, 0.0, ("pii",))
    checks(300, 0.1, ("pii", "refusal"))
    assert "output.refusal" not in monitor.scores()
    monitor.save(tmp_path / "state.json")
    monitor = made()
    monitor.restore(tmp_path / "state.json")
    checks(1000, 0.1, ("pii", "refusal"))
    assert {"output.refusal", "output.score.refusal", "output.score.pii"} <= monitor.scores().keys()
    assert monitor.alerts() == ()
    checks(200, 0.8, ("pii", "refusal"))
    assert drifted(monitor) == {"output.refusal", "output.score.refusal"}


def test_what_comes_later_costs_the_others_nothing_of_their_window() -> None:
    told: list[int] = []
    for late in (-1, 2200):
        monitor = DriftMonitor(500, window=640, features=["scores", "length"])
        rng = random.Random(1)
        at = 0
        while not monitor.alerts():
            size = rng.choice([3, 9, 30]) if at < 500 else rng.choice([3, 9, 9, 30])
            monitor.observe(check("x" * size, ran=("pii", "toxicity") if at == late else ("pii",)))
            at += 1
        told.append(at)
    assert told[0] == told[1] > 2200


def test_a_detector_that_could_not_say_has_no_score() -> None:
    monitor = DriftMonitor(features=["scores"])
    decision = check("x").decision
    assert decision is not None
    failed = Decision(
        Action.ALLOW, ("x",), (), Stage.INPUT, decision.policy, runs=(DetectorRun("pii", "1", Outcome.ERROR),)
    )
    monitor.observe(Observation(failed, (Text("x"),)))
    assert "input.score.pii" not in monitor.state().tables["input"].columns


def test_more_refusals_are_noticed_where_somebody_looks_for_them() -> None:
    monitor = DriftMonitor(400, window=512, features=["refusal"])
    refusal = (Finding("REFUSAL", 1.0, None, "refusal"),)
    for at in range(1200):
        often = 100 if at < 800 else 4
        found = refusal if at % often == 0 else ()
        monitor.observe(check("no", stage=Stage.OUTPUT, found=found, ran=("refusal",)))
    assert drifted(monitor) == {"output.refusal"}
    blind = DriftMonitor(400, features=["refusal"])
    blind.observe(check("no", stage=Stage.OUTPUT))
    assert blind.state().tables["output"].columns["output.refusal"].seen.missing == 1


def test_slower_and_dearer_calls_are_noticed() -> None:
    monitor = DriftMonitor(400, window=512)
    rng = np.random.default_rng(0)
    for at in range(1000):
        slow, dear = (1.0, 1.0) if at < 700 else (1.5, 4.0)
        latency, cost = rng.lognormal(0, 0.3) * slow, rng.lognormal(-9, 0.3) * dear
        monitor.observe(call(latency=latency, cost=cost, output_tokens=100))
    assert drifted(monitor) == {"latency", "cost"}


def test_own_features_are_read_off_observations() -> None:
    plan = Category("plan", lambda seen: seen.cohort.get("plan"), source="input")
    monitor = DriftMonitor(300, window=320, features=[plan])
    for at in range(900):
        monitor.observe(check("x", cohort={"plan": "free" if at < 600 or at % 2 else "gold"}))
    assert drifted(monitor) == {"plan"}
    assert monitor.state().tables["input"].columns["plan"].seen.named() == {"free": 750, "gold": 150}


def test_a_word_that_is_called_other_is_a_word_like_others(tmp_path: Path) -> None:
    path = tmp_path / "march.json"
    words = ["other", "a", "other", "b", "c"]
    march = DriftMonitor(100, features=[Category("word")])
    for at in range(1000):
        march.record({"word": words[at % 5]})
    assert march.state().tables["record"].columns["word"].seen.named()["other"] == 400
    march.save(path)
    april = DriftMonitor(path, window=320, features=[Category("word")])
    for at in range(600):
        april.record({"word": words[at % 5]})
    assert april.alerts() == ()


def test_a_word_that_never_came_before_is_noticed() -> None:
    monitor = DriftMonitor(300, window=320, features=[Category("model")])
    for at in range(700):
        monitor.record({"model": "old" if at < 600 else "new"})
    assert drifted(monitor) == {"model"}


def test_a_constant_that_changes_is_noticed() -> None:
    monitor = DriftMonitor(300, window=320, features=[Numeric("value")])
    for at in range(700):
        monitor.record({"value": 7.0 if at < 600 else 6.0})
    assert drifted(monitor) == {"value"}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), None])
def test_what_is_no_number_counts_as_missing(value: float | None) -> None:
    monitor = DriftMonitor(100, features=[Numeric("value")])
    for _ in range(300):
        monitor.record({"value": value})
    monitor.record({})
    assert monitor.alerts() == ()
    assert monitor.state().tables["record"].columns["value"].seen.missing == 301


def test_what_an_own_feature_gives_by_mistake_counts_as_missing() -> None:
    wrong = Category("word", lambda _: 3.0, source="input")  # type: ignore[arg-type, return-value]
    number = Numeric("number", lambda _: "three", source="input")  # type: ignore[arg-type, return-value]
    monitor = DriftMonitor(100, features=[wrong, number])
    monitor.observe(check("x"))
    columns = monitor.state().tables["input"].columns
    assert (columns["word"].seen.missing, columns["number"].seen.missing) == (1, 1)


def test_values_of_the_wrong_kind_are_refused() -> None:
    monitor = DriftMonitor(features=[Numeric("value"), Category("word")])
    with pytest.raises(ConfigurationError, match="'value' is a number, not a str"):
        monitor.record({"value": "high"})
    with pytest.raises(ConfigurationError, match="'word' is a word, not a int"):
        monitor.record({"word": 3})
    with pytest.raises(ConfigurationError, match="no feature 'other' is recorded"):
        monitor.record({"other": 1.0})


def test_shuffled_calls_raise_no_alarm() -> None:
    rng = np.random.default_rng(3)
    names = [f"feature {at}" for at in range(12)]
    monitor = DriftMonitor(2000, features=[Numeric(name) for name in names])
    for row in rng.lognormal(3, 1, (12_000, 12)).tolist():
        monitor.record(dict(zip(names, row, strict=True)))
    assert monitor.alerts() == ()


def test_after_an_alarm_the_next_calls_may_make_the_reference() -> None:
    monitor = DriftMonitor(400, window=512, features=[Numeric("value")], adapt=True)
    rng = np.random.default_rng(0)
    for level in (0.0, 3.0, 6.0):
        for value in rng.normal(level, 1.0, 1500):
            monitor.record({"value": float(value)})
    assert len(monitor.alerts()) == 2
    assert monitor.drifting == ()


class Clock:
    """Seconds that the test says."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_windows_of_time_follow_the_clock_and_stand_still_when_it_is_set_back() -> None:
    clock = Clock()
    monitor = DriftMonitor(timedelta(hours=1), window=timedelta(hours=1), features=[Numeric("value")], clock=clock)
    rng = np.random.default_rng(0)

    def hour(level: float) -> None:
        for value in rng.normal(level, 1.0, 720):
            clock.now += 5.0
            monitor.record({"value": float(value)})

    hour(0.0)
    hour(0.0)
    clock.now -= 86_400
    hour(0.0)
    assert monitor.alerts() == ()
    clock.now += 10 * 86_400  # nobody called for days
    hour(1.0)
    assert drifted(monitor) == {"value"}


def test_versions_of_a_prompt_are_compared_with_the_one_before() -> None:
    monitor = DriftMonitor(PreviousPrompt(calls=300), window=320, features=["length"])
    rng = random.Random(0)
    for version, length in (("1", 20), ("2", 20), ("3", 60)):
        for _ in range(600):
            words = "word " * rng.randint(length // 2, length * 2)
            monitor.observe(check(words, prompt=("greeting", version, "")))
            monitor.observe(check("x" * rng.randint(1, 5), prompt=("other", "1", "")))
    (alert,) = monitor.alerts()
    assert alert.attributes["llmguard.drift.reference"] == "input greeting@2"
    assert alert.attributes["llmguard.drift.feature"] == "input.length greeting@3"
    assert alert.summary.startswith("input.length greeting@3 has drifted")
    assert monitor.drifting == ("input.length greeting@3",)


def test_versions_that_are_compared_with_the_same_one_have_values_of_their_own() -> None:
    monitor = DriftMonitor(PreviousPrompt(calls=300), window=320, features=["length"])
    for version, calls, size in (("1", 400, 3), ("2", 200, 3), ("3", 200, 9)):
        for _ in range(calls):
            monitor.observe(check("x" * size, prompt=("greeting", version, "")))
    readings = monitor.readings()
    assert {one.labels["llmguard.drift.reference"] for one in readings} == {"input greeting@1"}
    assert len({tuple(sorted(one.labels.items())) for one in readings}) == len(readings)
    scores = monitor.scores()
    assert scores["input.length greeting@2"]["psi"] < 0.1 < 1 < scores["input.length greeting@3"]["psi"]


def test_a_prompt_is_never_taken_for_another_one(tmp_path: Path) -> None:
    monitor = DriftMonitor(PreviousPrompt(calls=1), features=["length"])
    for prompt in (("a", "b@c", ""), ("a@b", "c", ""), ("a%40b", "c", ""), ("a", "\ud800", ""), ("a b", "c d", "")):
        monitor.observe(check("x", prompt=prompt))
        monitor.observe(check("x", prompt=prompt))
    tables = monitor.state().tables
    assert {name: table.calls for name, table in tables.items()} == {
        "input a@b@c": 2,
        "input a%40b@c": 2,
        "input a%2540b@c": 2,
        "input a@?": 2,
        "input a b@c d": 2,
    }
    assert [name for name, table in tables.items() if table.origin != "own"] == ["input a@?"]
    monitor.save(tmp_path / "state.json")
    again = DriftMonitor(PreviousPrompt(calls=1), features=["length"])
    again.restore(tmp_path / "state.json")
    assert list(again.state().tables) == list(tables)
    assert again.state().digest() == monitor.state().digest()


def test_versions_without_end_are_forgotten() -> None:
    monitor = DriftMonitor(PreviousPrompt(calls=1), features=["length"])
    for version in range(200):
        monitor.observe(check("x", prompt=(f"greeting {version % 3}", f"{version}@x", "")))
    tables = monitor.state().tables
    assert list(tables) == [f"input greeting {at % 3}@{at}@x" for at in range(136, 200)]
    assert tables["input greeting 1@199@x"].origin == "input greeting 1@196@x"


def test_a_saved_monitor_is_a_reference(tmp_path: Path) -> None:
    path = tmp_path / "march.json"
    march = DriftMonitor(300, features=["length", "scores"])
    sent(march, 800, 20)
    march.save(path)
    april = DriftMonitor(path, window=320, features=["length", "scores"])
    sent(april, 500, 20, seed=5)
    assert april.alerts() == ()
    sent(april, 400, 60)
    assert drifted(april) == {"input.length"}


def test_gauges_say_how_far_each_feature_is_from_its_reference() -> None:
    monitor = DriftMonitor(400, window=512, features=[Numeric("value"), Category("word")])
    rng = np.random.default_rng(0)
    for at, value in enumerate(rng.normal(10, 1, 800)):
        monitor.record({"value": float(value) + (at >= 400), "word": "a" if at % (2 if at < 400 else 4) else "b"})
    found = monitor.scores()
    assert found["value"].keys() == {"psi", "jensen_shannon", "ks", "wasserstein"}
    assert found["word"].keys() == {"psi", "jensen_shannon", "chi_square"}
    assert found["value"]["wasserstein"] == pytest.approx(1.0, abs=0.15)
    assert found["value"]["ks"] == pytest.approx(0.38, abs=0.08)  # 2 Phi(1/2) - 1
    assert found["value"]["psi"] > 0.5
    for reading in monitor.readings():
        assert reading.metric == signals.DRIFT_SCORE.name
        assert reading.labels.keys() == set(signals.DRIFT_SCORE.attributes)


def test_threads_lose_no_call() -> None:
    monitor = DriftMonitor(300, window=320, features=[Numeric("value"), Category("word")])

    def work(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(1000):
            monitor.record({"value": rng.random(), "word": rng.choice("abc")})

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    columns = monitor.state().tables["record"].columns
    assert columns["value"].seen.n == columns["word"].seen.n == 4000


def test_names_without_end_count_as_one() -> None:
    monitor = DriftMonitor(200, features=[Category("word")])
    for at in range(1000):
        monitor.record({"word": f"name {at}"})
    named = monitor.state().tables["record"].columns["word"].seen.named()
    assert len(named) == 256
    assert named["other"] == 745


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_process_counts_anew_and_keeps_the_reference() -> None:
    monitor = DriftMonitor(200, window=320, features=[Numeric("value")])
    rng = random.Random(0)
    for _ in range(500):
        monitor.record({"value": rng.random()})
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        for _ in range(300):
            monitor.record({"value": rng.random() + 2})
        column = monitor.state().tables["record"].columns["value"]
        known = column.reference.n if column.reference else 0
        os.write(writer, f"{column.seen.n} {known} {len(monitor.alerts())}".encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 100) == b"300 200 1"
    os.close(reader)
    os.close(writer)
    assert monitor.state().tables["record"].calls == 500


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("held", ["_lock", "_learning"])
def test_a_process_that_was_forked_in_the_midst_of_a_call_neither_waits_nor_counts_twice(held: str) -> None:
    monitor = DriftMonitor(200, window=320, features=[Numeric("value"), "token_histogram"])
    for at in range(500):
        monitor.record({"value": float(at % 7)})
    reader, writer = os.pipe()
    with getattr(monitor, held):
        child = os.fork()
    if not child:
        signal.alarm(20)
        said = [len(monitor.readings()), len(monitor.drifting), sum(t.calls for t in monitor.state().tables.values())]
        monitor.observe(check("some words"))
        os.write(writer, repr([*said, monitor.state().tables["input"].calls]).encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    assert os.read(reader, 100) == b"[0, 0, 0, 1]"
    os.close(reader)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reference": 10}, "reference must be a number of calls from 100 up"),
        ({"reference": True}, "reference must be"),
        ({"reference": PreviousPrompt(calls=0)}, "must be a number of calls from 1 up, not 0"),
        ({"reference": PreviousPrompt(calls=2.5)}, "must be a number of calls from 1 up"),  # type: ignore[arg-type]
        ({"reference": timedelta(0)}, "longer than no time"),
        ({"window": 3}, "window must be a number of calls from 64 up"),
        ({"window": "day"}, "window must be"),
        ({"false_alarms": 0}, "false_alarms"),
        ({"false_alarms": float("nan")}, "false_alarms"),
        ({"name": ""}, "name"),
        ({"features": []}, "nothing can drift"),
        ({"features": "length"}, "must be a list"),
        ({"features": ["lenght"]}, "did you mean 'length'"),
        ({"features": [3]}, "not int"),
        ({"features": ["length", "length"]}, "two features"),
        ({"features": [Numeric("")]}, "not empty"),
        ({"features": [Numeric("x", low=1)]}, "half a range"),
        ({"features": [Numeric("x", low=2, high=1)]}, "range"),
        ({"features": [Numeric("x", source="input")]}, "must either be read"),
        ({"features": [Numeric("x", lambda _: 1.0, source="inptu")]}, "did you mean 'input'"),
        ({"reference": "nowhere/at-all.json"}, "can't be read"),
    ],
)
def test_wrong_options_are_said(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        DriftMonitor(**options)  # type: ignore[arg-type]


def test_a_reference_with_other_bins_is_refused() -> None:
    wide, narrow = Numeric("value", low=0, high=10), Numeric("value", low=0, high=1)
    known = DriftMonitor(100, features=[wide])
    known.record({"value": 0.5})
    monitor = DriftMonitor(known.state(), features=[narrow])
    with pytest.raises(ConfigurationError, match="different bins"):
        monitor.record({"value": 0.5})


def test_no_text_is_in_what_it_keeps() -> None:
    monitor = DriftMonitor(100, features=["length", "tokens", "scores", "token_histogram"])
    for _ in range(150):
        monitor.observe(check("marzipan"))
    state = monitor.state()
    assert isinstance(state, State)
    assert "marzipan" not in repr(monitor.alerts())
    assert "marzipan" not in str(state._body())


def test_the_examples_of_the_docs_run(capsys: pytest.CaptureFixture[str]) -> None:
    page = Path("docs/drift.md").read_text("utf-8")
    for block in re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        exec(compile(block, "docs/drift.md", "exec"), {})  # noqa: S102 - the page is ours
    assert capsys.readouterr().out == "1000\n"
