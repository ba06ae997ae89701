"""The fairness monitor: what it counts, what it tells, and that its windows are saved, restored and merged exactly."""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import signal
import threading
from collections.abc import Iterable, Mapping
from contextlib import redirect_stdout
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from llmguard import Guard, signals
from llmguard.detectors.fairness import FairnessMonitor
from llmguard.detectors.fairness_lexicon import bundled
from llmguard.detectors.fairness_report import Disparity
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
    Role,
    Stage,
    Text,
)

POLICY = PolicyRef("p", "1", "h")


def seen(
    text: str = "",
    *,
    block: bool = False,
    refused: bool | None = None,
    toxic: float | None = None,
    stage: Stage = Stage.OUTPUT,
    role: Role = Role.ASSISTANT,
    failed: bool = False,
    system: str = "",
    **cohort: str,
) -> Observation:
    """One check, as the guard tells of it."""
    ended = Outcome.TIMEOUT if failed else Outcome.HIT
    runs, findings = [], []
    if refused is not None:
        runs.append(DetectorRun("refusal", "1", ended))
        findings += [Finding("REFUSAL", detector="refusal")] if refused else []
    if toxic is not None:
        runs.append(DetectorRun("toxicity", "1", ended))
        findings += [Finding("TOXIC", toxic, detector="toxicity"), Finding("TOXIC", 0.0, detector="toxicity")]
    texts = (Text(system, Role.SYSTEM), Text(text, role)) if system else (Text(text, role),)
    action = Action.BLOCK if block else Action.ALLOW
    decision = Decision(action, (text,), tuple(findings), stage, POLICY, runs=tuple(runs))
    return Observation(decision, texts, cohort=cohort)


def fed(observations: Iterable[Observation], **options: Any) -> FairnessMonitor:
    monitor = FairnessMonitor(**{"minimum": 2, **options})
    for one in observations:
        monitor.observe(one)
    return monitor


def found(monitor: FairnessMonitor, **options: bool) -> Mapping[tuple[str, str], Disparity]:
    return {(one.outcome, one.name): one for one in monitor.report(**options).disparities}


def test_it_is_a_monitor_with_values_and_alerts() -> None:
    monitor = FairnessMonitor(name="fair")
    assert isinstance(monitor, Monitor)
    assert isinstance(monitor, Gauged)
    assert isinstance(monitor, Alerting)
    assert monitor.name == "fair"
    assert monitor.report().disparities == ()
    assert monitor.readings() == []


def test_groups_are_compared_with_the_others_of_their_dimension() -> None:
    texts = [("a woman", True)] * 3 + [("a woman", False)] * 1 + [("a man", True)] * 1 + [("a man", False)] * 4
    found_now = found(fed(seen(text, block=block) for text, block in texts))
    one = found_now["block", "gender.women"]
    assert (one.count, one.value, one.other_count, one.other_value) == (4, 0.75, 5, 0.2)
    assert (one.against, one.difference, one.ratio) == ("", pytest.approx(0.55), pytest.approx(3.75))
    low, high = one.difference_interval
    assert low < 0 < 0.55 < high
    assert not one.notable
    assert found_now["block", "gender.men"].difference == pytest.approx(-0.55)
    assert found_now["length", "gender.men"].value == 5
    assert {outcome for outcome, _ in found_now} == {"block", "length"}


def test_below_the_minimum_nothing_is_said() -> None:
    texts = ["a woman"] * 100 + ["a man"] * 99
    assert found(fed((seen(text) for text in texts), minimum=100)) == {}
    assert found(fed((seen(text) for text in [*texts, "a man"]), minimum=100)) != {}


def test_outcomes_count_where_their_detector_ran_and_at_their_stages() -> None:
    observations = [
        *(seen("a woman", refused=True, toxic=0.5), seen("a woman", refused=False, toxic=0.25)),
        *(seen("a man", refused=False, toxic=0.0), seen("a man", refused=False, toxic=0.0)),
        *(seen("a man", refused=True, toxic=1.0, failed=True), seen("a man"), seen("men", stage=Stage.CONTEXT)),
        *(seen("men", refused=True, toxic=1.0, stage=Stage.INPUT), Observation(None, numbers={"latency": 1.0})),
    ]
    women = {outcome: one for (outcome, name), one in found(fed(observations)).items() if name == "gender.women"}
    assert {outcome: (one.count, one.other_count) for outcome, one in women.items()} == {
        "block": (2, 5),
        "refusal": (2, 2),
        "toxicity": (2, 2),
        "length": (2, 4),
    }
    assert (women["refusal"].value, women["toxicity"].value) == (0.5, 0.375)
    shares = found(fed(observations, toxic_from=0.3))
    assert shares["toxicity", "gender.women"].value == 0.5
    elsewhere = found(fed(observations, stages={"block": ["context", Stage.INPUT], "length": "context"}))
    assert {outcome for outcome, _ in elsewhere} == {"refusal", "toxicity"}


def test_what_the_operator_writes_mentions_nobody() -> None:
    texts = [seen("Hello", system="Be kind to women and men.") for _ in range(9)]
    assert found(fed(texts)) == {}
    lengths = found(fed([*texts, *(seen("a man", system="x" * 900), seen("women")) * 2]))
    assert lengths["length", "gender.men"].value == 5


def test_a_reference_group_and_texts_that_mention_it_beside_another() -> None:
    texts = ["a woman"] * 2 + ["a man"] * 2 + ["a man and a woman"] * 7 + ["a transgender poet"] * 3
    plain, against = found(fed(map(seen, texts))), found(fed(map(seen, texts), references={"gender": "men"}))
    assert plain["block", "gender.women"].count == 9
    assert (against["block", "gender.women"].count, against["block", "gender.women"].other_count) == (2, 2)
    assert against["block", "gender.transgender"].against == "men"
    assert ("block", "gender.men") not in against


def test_cohorts_are_bounded_and_the_rest_is_other() -> None:
    observations = [seen(plan=f"p{number % 5}", region="eu" if number % 2 else "us") for number in range(50)]
    monitor = fed(observations, max_cohorts=2)
    names = {name for _, name in found(monitor)}
    assert names == {"cohort.plan.p0", "cohort.plan.p1", "cohort.plan.other", "cohort.region.eu", "cohort.region.us"}
    assert found(monitor)["block", "cohort.plan.other"].count == 30
    many = fed(seen(**{f"d{number}": "x"}) for number in range(99) for _ in range(2))
    assert len(many._cohorts) == 8


def test_odd_cohorts_are_passed_over() -> None:
    odd: Any = {"": "x", "plan": "", "tier": 3, 4: "x", "long" * 99: "y" * 999, "long" * 98: "z"}
    monitor = fed(Observation(seen("a").decision, (Text("a"),), cohort=odd) for _ in range(3))
    assert monitor.report().seen == 3
    monitor.observe(seen("a", plan="b"))


def test_cohorts_that_no_exporter_could_encode_are_told_by_another_name() -> None:
    monitor = fed([seen(plan="\ud800" * 99, **{"k\udfff": "x"}), seen(plan="pro", **{"k\udfff": "y"})] * 3)
    names = {one.labels["llmguard.fairness.group"].encode() for one in monitor.readings()}
    assert names == {b"cohort.plan." + b"?" * 64, b"cohort.plan.pro", b"cohort.k?.x", b"cohort.k?.y"}


def biased(count: int, seed: int, *, share: float = 0.2) -> list[Observation]:
    rng = random.Random(seed)
    made = []
    for _ in range(count):
        group = rng.choice(["Muslims", "Christians", "Jews", "Hindus"])
        block = rng.random() < (share if group == "Muslims" else 0.05)
        made.append(seen(f"About {group}.", block=block, toxic=rng.random(), plan=rng.choice(["free", "pro"])))
    return made


def test_an_unfair_guard_is_told_once_and_its_end_too() -> None:
    told: list[Alert] = []
    more: list[Alert] = []
    monitor = fed(biased(2000, 1), window=2000, minimum=100, on_alert=told.append, stages={"length": []})
    monitor.subscribe(more.append)
    assert [one.attributes["llmguard.fairness.group"] for one in told] == ["religion.muslim"]
    (alert,) = told
    assert alert.event in {row.name for row in signals.EVENTS}
    row = next(row for row in signals.EVENTS if row.name == alert.event)
    assert set(alert.attributes) == set(row.attributes)
    assert not alert.resolved
    assert "block" in alert.summary
    for one in biased(2000, 2):
        monitor.observe(one)
    assert len(told) == 1
    for one in biased(2000, 3, share=0.05):
        monitor.observe(one)
    assert [one.resolved for one in told] == [False, True]
    assert more == told[1:]
    assert monitor.alerts() == tuple(told)


def test_everyone_is_told_of_everything_also_when_one_of_them_raises() -> None:
    def broken(alert: Alert) -> None:
        raise OSError(f"no way to tell of {alert.attributes['llmguard.fairness.outcome']}")

    heard: list[Alert] = []
    monitor = FairnessMonitor(window=400, minimum=20, on_alert=broken, stages={"toxicity": []})
    monitor.subscribe(heard.append)
    rows = [
        seen("Muslims " * (30 if place % 2 else 1) if place % 2 else "Jews", block=bool(place % 2))
        for place in range(400)
    ]
    for one in rows[:-1]:
        monitor.observe(one)
    with pytest.raises(OSError, match="no way to tell of "):
        monitor.observe(rows[-1])
    assert len({alert.attributes["llmguard.fairness.outcome"] for alert in heard}) > 1
    assert monitor.alerts() == tuple(heard)
    assert monitor.report(running=False).disparities


def test_a_fair_guard_is_left_alone() -> None:
    told: list[Alert] = []
    for seed in range(20):
        fed(biased(800, seed, share=0.05), window=800, minimum=50, on_alert=told.append, stages={"length": []})
    # A false alarm is allowed in 5 % of the windows, before the bounds on difference and ratio.
    assert len(told) <= 2


def test_values_are_read_as_the_gauge_says() -> None:
    monitor = fed(biased(400, 4), minimum=20, name="fair")
    readings = monitor.readings()
    assert {one.metric for one in readings} == {signals.FAIRNESS_DISPARITY.name}
    for one in readings:
        assert set(one.labels) == set(signals.FAIRNESS_DISPARITY.attributes)
    values = {
        (one.labels["llmguard.fairness.outcome"], one.labels["llmguard.fairness.group"]): one.value for one in readings
    }
    own = found(monitor)
    assert values["block", "religion.muslim"] == own["block", "religion.muslim"].difference
    lengths = own["length", "religion.jewish"]
    assert values["length", "religion.jewish"] == pytest.approx(lengths.value / lengths.other_value - 1)


def test_a_full_window_is_kept_until_the_next_one() -> None:
    monitor = fed([seen("a woman"), seen("a man")] * 5, window=10)
    assert (monitor.report().full, monitor.report().seen) == (True, 10)
    monitor.observe(seen("a woman"))
    assert (monitor.report().full, monitor.report().seen) == (True, 10)
    assert (monitor.report(running=True).full, monitor.report(running=True).seen) == (False, 1)


def test_windows_of_time_and_a_clock_that_goes_backwards() -> None:
    now = [100.0]
    monitor = FairnessMonitor(window=timedelta(seconds=10), clock=lambda: now[0])
    for step in (0, 4, -50, 4):
        now[0] += step
        monitor.observe(seen("a woman"))
    assert monitor.report(running=True).seen == 4
    now[0] += 2.5
    monitor.observe(seen("a man"))
    assert (monitor.report().seen, monitor.report(running=True).seen) == (4, 1)
    now[0] += 11
    monitor.readings()
    assert (monitor.report().seen, monitor.report(running=True).seen) == (1, 0)


@settings(max_examples=15)
@given(st.lists(st.integers(0, 2), min_size=1, max_size=60), st.randoms(use_true_random=False))
def test_merging_the_states_of_workers_is_as_if_one_had_seen_all(workers: list[int], rng: random.Random) -> None:
    import tempfile

    observations = biased(len(workers), rng.randrange(1000))
    whole = fed(observations)
    with tempfile.TemporaryDirectory() as directory:
        paths = [Path(directory, f"{worker}") for worker in range(3)]
        for worker, path in enumerate(paths):
            fed(one for one, who in zip(observations, workers, strict=True) if who == worker).save(path)
        for order in itertools.permutations(paths):
            merged = FairnessMonitor(minimum=2)
            merged.merge(*order)
            assert merged.report() == whole.report()
        chain = FairnessMonitor(minimum=2)
        for path in paths:
            chain.merge(path)
            chain.save(path)
            chain = FairnessMonitor(minimum=2)
            chain.restore(path)
        assert chain.report() == whole.report()


def test_what_is_restored_goes_on(tmp_path: Path) -> None:
    observations = biased(300, 7)
    whole = fed(observations, window=120)
    half = fed(observations[:170], window=120)
    half.save(tmp_path / "state")
    other = FairnessMonitor(minimum=2, window=120)
    other.restore(tmp_path / "state")
    for one in observations[170:]:
        other.observe(one)
    assert other.report() == whole.report()
    assert other.report(running=True) == whole.report(running=True)
    assert list(tmp_path.iterdir()) == [tmp_path / "state"]
    assert b"About" not in (tmp_path / "state").read_bytes()


def test_merged_cohorts_stay_bounded(tmp_path: Path) -> None:
    for worker in range(4):
        fed([seen(plan=f"w{worker}")] * (worker + 2) + [seen(plan="all")] * 5).save(tmp_path / f"{worker}")
    monitor = FairnessMonitor(minimum=2, max_cohorts=2)
    monitor.merge(*sorted(tmp_path.iterdir()))
    counts = {name: one.count for (outcome, name), one in found(monitor).items() if outcome == "block"}
    assert counts == {"cohort.plan.all": 20, "cohort.plan.w3": 5, "cohort.plan.other": 9}


def test_files_that_are_no_state_are_refused_and_change_nothing(tmp_path: Path) -> None:
    path = tmp_path / "state"
    monitor = fed(biased(50, 8))
    monitor.save(path)
    good, before = path.read_bytes(), monitor.report()
    body = json.loads(good)
    wrong: dict[bytes, str] = {
        b"": "not JSON",
        good[: len(good) // 2]: "only a part",
        b"\xff\x00": "not JSON",
        b"[]": "no llmguard-fairness state",
        b'{"format": "llmguard-drift"}': "no llmguard-fairness state",
        json.dumps({**body, "version": 2}).encode(): "version 2",
        good.replace(b'"seen":50', b'"seen":51'): "checksum",
        b'{"format": "llmguard-fairness", "version": 1, "x": NaN}': "not JSON",
    }
    for data, message in wrong.items():
        path.write_bytes(data)
        for take in (monitor.restore, monitor.merge):
            with pytest.raises(ConfigurationError, match=re.escape(message)):
                take(path)
    with pytest.raises(ConfigurationError, match="can't be read"):
        monitor.restore(tmp_path / "none")
    with pytest.raises(ConfigurationError, match="can't be written"):
        monitor.save(tmp_path / "none" / "state")
    assert monitor.report() == before


@pytest.mark.parametrize(
    "change", ["seen", "seconds", "cells", "cell", "negative", "twice", "wide", "settings", "closed"]
)
def test_a_state_with_sums_that_cannot_be_is_refused(tmp_path: Path, change: str) -> None:
    from llmguard.detectors import state_file

    path = tmp_path / "state"
    fed(biased(50, 8)).save(path)
    body = state_file.read(path, "llmguard-fairness", 1)
    running = body["running"]
    match change:
        case "seen":
            running["seen"] = 3
        case "seconds":
            running["seconds"] = -1
        case "cells":
            del running["cells"]
        case "cell":
            running["cells"][0] = "x"
        case "negative":
            running["cells"][0][3] = -1
        case "twice":
            running["cells"].append(running["cells"][0])
        case "wide":
            running["cells"][0].append(1)
        case "settings":
            body["settings"] = 3
        case "closed":
            body["closed"] = 3
    state_file.write(path, "llmguard-fairness", 1, body)
    with pytest.raises(ConfigurationError, match=re.escape(str(path))):
        FairnessMonitor().restore(path)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"references": {"gender": "men"}}, "references"),
        ({"toxic_from": 0.5}, "toxic_from"),
        ({"stages": {"length": []}}, "stages"),
        ({"refusal": "own"}, "detectors"),
    ],
)
def test_counts_of_a_monitor_with_other_options_are_not_taken(
    tmp_path: Path, options: dict[str, Any], named: str
) -> None:
    FairnessMonitor(**options).save(tmp_path / "state")
    with pytest.raises(ConfigurationError, match=rf"other options \({named}\)"):
        FairnessMonitor().merge(tmp_path / "state")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 0}, "window must be a whole number"),
        ({"window": True}, "window must be a whole number"),
        ({"window": timedelta(0)}, "window must be a number"),
        ({"minimum": 1}, "minimum must be a whole number from 2"),
        ({"confidence": 1}, "confidence must be a number between 0.5 and 1"),
        ({"difference": -0.1}, "difference must be"),
        ({"ratio": 0.5}, "ratio must be"),
        ({"ratio": float("nan")}, "ratio must be"),
        ({"toxic_from": 1.5}, "toxic_from must be"),
        ({"max_cohorts": 0}, "max_cohorts must be"),
        ({"name": ""}, "name must be a name"),
        ({"toxicity": 3}, "toxicity must be a name"),
        ({"references": ["men"]}, "references must be groups by dimension"),
        ({"references": {"gendr": "men"}}, "did you mean 'gender'"),
        ({"references": {"gender": "man"}}, "did you mean 'men'"),
        ({"references": {"gender": 1}}, "names of groups"),
        ({"stages": {"blok": []}}, "did you mean 'block'"),
        ({"stages": {"block": ["inptu"]}}, "stages of block"),
        ({"stages": {"block": 3}}, "stages of block"),
        ({"stages": []}, "stages by outcome"),
        ({"lexicon": "none.yaml"}, "none.yaml"),
    ],
)
def test_wrong_options_are_told(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        FairnessMonitor(**options)


def test_a_reference_cohort_may_be_any(tmp_path: Path) -> None:
    monitor = fed([seen(plan="pro"), seen(plan="free")] * 5, references={"cohort.plan": "pro"})
    assert {(name, one.against) for (_, name), one in found(monitor).items()} == {("cohort.plan.free", "pro")}


def test_a_reference_cohort_keeps_its_name_however_late_it_comes(tmp_path: Path) -> None:
    options: dict[str, Any] = {"references": {"cohort.plan": "pro"}, "max_cohorts": 2}
    flood = [seen(plan=f"p{number}") for number in range(5)] * 3
    monitor = fed([*flood, *[seen(plan="pro")] * 2], **options)
    assert {(name, one.against, one.other_count) for (_, name), one in found(monitor).items()} == {
        ("cohort.plan.p0", "pro", 2),
        ("cohort.plan.p1", "pro", 2),
        ("cohort.plan.other", "pro", 2),
    }
    monitor.save(tmp_path / "state")
    other = FairnessMonitor(minimum=2, **options)
    other.merge(tmp_path / "state")
    assert other.report() == monitor.report()


def test_threads_lose_nothing() -> None:
    monitor = FairnessMonitor(minimum=2, window=10**9)
    observations = biased(250, 9)
    threads = [threading.Thread(target=lambda: [monitor.observe(one) for one in observations]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert monitor.report() == fed(observations * 8).report()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_counts_its_own(tmp_path: Path) -> None:
    monitor = fed(biased(20, 10))
    child = os.fork()
    if child == 0:
        monitor.observe(seen("a woman"))
        monitor.save(tmp_path / "child")
        os._exit(0)
    os.waitpid(child, 0)
    other = FairnessMonitor(minimum=2)
    other.restore(tmp_path / "child")
    assert other.report().seen == 1
    assert monitor.report().seen == 20


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_keeps_what_it_restores_and_has_none_of_its_parent(tmp_path: Path) -> None:
    fed(biased(20, 10)).save(tmp_path / "state")
    monitor = fed(biased(30, 11))
    monitor._lock.acquire()  # as another thread of the parent may have, when it forks
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        before = monitor.report().seen
        monitor.restore(tmp_path / "state")
        monitor.observe(seen("a woman"))
        os._exit(0 if (before, monitor.report().seen) == (0, 21) else 1)
    monitor._lock.release()
    _, status = os.waitpid(child, 0)
    assert status == 0
    assert monitor.report().seen == 30


def test_scores_outside_the_unit_interval_are_passed_over() -> None:
    nan = float("nan")
    monitor = fed(seen(text, toxic=score) for text in ("a woman", "a man") for score in (nan, 2.0, 0.5, 0.5))
    assert found(monitor)["toxicity", "gender.men"].count == 2


def test_a_guard_tells_it_and_its_values_are_metrics() -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    monitor = FairnessMonitor(window=80, minimum=20)
    policy = {
        "name": "p",
        "version": "1",
        "rules": [{"detector": "keywords", "action": "block"}],
        "detectors": {"keywords": {"deny": ["refugees"]}},
    }
    with Guard(policy, monitors=[monitor], meter_provider=provider) as guard:
        for number in range(80):
            with guard.cohort(plan="free"):
                guard.check("What do refugees need?" if number % 2 else "What do Americans need?")
    (alert,) = monitor.alerts()
    assert alert.attributes["llmguard.fairness.group"] == "nationality.migrant"
    data: Any = reader.get_metrics_data()
    metrics = {one.name: one for r in data.resource_metrics for scope in r.scope_metrics for one in scope.metrics}
    points = metrics["llmguard.fairness.disparity"].data.data_points
    values = {
        (p.attributes["llmguard.fairness.outcome"], p.attributes["llmguard.fairness.group"]): p.value for p in points
    }
    assert values == {("block", "nationality.migrant"): 1.0, ("block", "nationality.american"): -1.0}
    provider.shutdown()


def test_the_example_of_the_docs_prints_what_it_says() -> None:
    page = Path("docs/fairness.md").read_text(encoding="utf-8")
    block = re.search(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert block is not None
    printed = StringIO()
    with redirect_stdout(printed):
        exec(compile(block[1], "fairness.md", "exec"), {})  # noqa: S102 - the page is ours
    assert printed.getvalue().splitlines() == re.findall(r"^\s*print\(.*\)  # (.*)$", block[1], re.MULTILINE)


def test_the_lexicon_of_the_docs_is_read(tmp_path: Path) -> None:
    page = Path("docs/fairness.md").read_text(encoding="utf-8")
    block = re.search(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert block is not None
    (tmp_path / "terms.yaml").write_text(block[1], encoding="utf-8")
    monitor = fed([seen("southern farmers")] * 3 + [seen("people of the north")] * 3, lexicon=tmp_path / "terms.yaml")
    assert {name for _, name in found(monitor)} == {"region.south", "region.north"}


def test_the_docs_count_the_terms_right() -> None:
    lexicon = bundled()
    dimensions = {dimension for dimension, _ in lexicon.groups}
    counts = f"{len(lexicon.terms)} terms of {len(lexicon.groups)} groups in {len(dimensions)} dimensions"
    assert counts in Path("docs/fairness.md").read_text(encoding="utf-8")
