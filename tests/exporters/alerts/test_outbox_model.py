"""The outbox against a list that is looked through from its beginning each time."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from alert_sinks import group
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from llmguard.exporters.alerts.notice import Group
from llmguard.exporters.alerts.outbox import Outbox
from llmguard.exporters.alerts.outbox_claims import (
    DEAD,
    DELIVERED,
    WAITING,
    Claim,
    Ending,
    Settled,
    claim,
    retry,
    settle,
    sinks,
)

LEASE = 45.0
MOST = 6
SINKS, OWNERS = ("x", "y"), ("one", "two")
_sinks, _owners = st.sampled_from(SINKS), st.sampled_from(OWNERS)
_groups = st.lists(
    st.builds(group, st.sampled_from("ab"), over=st.booleans(), started=st.sampled_from([1.0, 2.0])),
    min_size=1,
    max_size=3,
)


@dataclass
class Row:
    id: str
    sink: str
    group: Group
    due: float
    dead: bool = False
    outdated: bool = False
    attempts: int = 0


@dataclass
class Known:
    """What a sink is thought to be."""

    owner: str = ""
    until: float = 0.0
    paused: float = 0.0
    gone: bool = False


@dataclass
class Model:
    rows: list[Row] = field(default_factory=list)
    sinks: dict[str, Known] = field(default_factory=lambda: {name: Known() for name in SINKS})
    dropped: int = 0

    def put(self, id_: str, sink: str, told: Group, now: float) -> None:
        (notice,) = told.notices
        for row in reversed(self.group(sink, told.key)):
            (old,) = row.group.notices
            if (old.started, old.resolved) != (notice.started, notice.resolved):
                break
            self.rows.remove(row)
        due = max([now, *(row.due for row in self.group(sink, told.key))])
        self.rows.append(Row(id_, sink, told, due, dead=self.sinks[sink].gone))

    def group(self, sink: str, key: str) -> list[Row]:
        return [row for row in self.rows if (row.sink, row.group.key, row.dead) == (sink, key, False)]

    def make_room(self) -> None:
        while len(self.rows) > MOST:
            ranks = [2 if not row.dead else 0 if row.group.resolved or row.outdated else 1 for row in self.rows]
            del self.rows[ranks.index(min(ranks))]
            self.dropped += 1

    def due(self, sink: str, owner: str, now: float) -> list[str]:
        known = self.sinks[sink]
        if known.gone or (known.owner not in ("", owner) and now < known.until) or now < known.paused:
            return []
        first: dict[str, Row] = {}
        for row in self.rows:
            if row.sink == sink and not row.dead:
                first.setdefault(row.group.key, row)
        return [row.id for row in self.rows if row in first.values() and row.due <= now]


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.path = Path(self.directory.name) / "a.sqlite"
        self.outbox = self.opened()
        self.model = Model()
        self.now = 1000.0
        self.claims: dict[tuple[str, str], Claim] = {}

    def opened(self) -> Outbox:
        return Outbox(self.path, max_messages=MOST, fsync=False)

    def teardown(self) -> None:
        self.outbox.close()
        self.directory.cleanup()

    @rule(sink=_sinks, groups=_groups)
    def put(self, sink: str, groups: list[Group]) -> None:
        ids = self.outbox.put([(sink, one) for one in groups], self.now)
        for id_, one in zip(ids, groups, strict=True):
            self.model.put(id_, sink, one, self.now)
        self.model.make_room()

    @rule(seconds=st.sampled_from([1.0, 10.0, 50.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(sink=_sinks, owner=_owners, most=st.integers(1, 4))
    def claim(self, sink: str, owner: str, most: int) -> None:
        taken = claim(self.outbox.file, sink, owner, self.now, LEASE, most)
        expected = self.model.due(sink, owner, self.now)[:most]
        assert [one.id for one in taken.messages] == expected
        if expected:
            self.model.sinks[sink].owner, self.model.sinks[sink].until = owner, self.now + LEASE
            self.claims[sink, owner] = taken
        else:
            assert taken.again > self.now

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), pause=st.sampled_from([0.0, 5.0]), gone=st.integers(0, 9), recovered=st.booleans())
    def settle(self, data: st.DataObject, pause: float, gone: int, recovered: bool) -> None:
        sink, owner = data.draw(st.sampled_from(sorted(self.claims)))
        taken = self.claims.pop((sink, owner))
        states = [data.draw(st.sampled_from([DELIVERED, WAITING, DEAD])) for _ in taken.messages]
        settled = [Settled(one, state, self.now + 7, "why") for one, state in zip(taken.messages, states, strict=True)]
        end = Ending(self.now, self.now + pause, gone="gone" if gone == 0 else "", recovered=recovered)
        settle(self.outbox.file, sink, owner, settled, end)
        known = self.model.sinks[sink]
        mine = known.owner == owner
        for one, state in zip(taken.messages, states, strict=True):
            rows = [row for row in self.model.rows if row.id == one.id]
            if state == DELIVERED:
                for row in rows:
                    self.model.rows.remove(row)
                self.outdate(sink, one.key, one.seq)
            elif mine:
                for row in rows:
                    row.due, row.dead, row.attempts = self.now + 7, state == DEAD, row.attempts + 1
                    later = self.model.group(sink, one.key)
                    for other in later[later.index(row) + 1 :] if state == WAITING else ():
                        other.due = max(other.due, row.due)
        if mine:
            known.owner, known.until, known.paused, known.gone = "", 0.0, end.paused, bool(end.gone)
            for row in self.model.rows:
                if row.sink == sink:
                    row.dead = row.dead or known.gone
                    row.due = min(row.due, self.now) if recovered and not row.dead else row.due

    def outdate(self, sink: str, key: str, seq: int) -> None:
        earlier = {one.id for one in self.outbox.messages() if one.seq < seq}
        for row in self.model.rows:
            if row.dead and (row.sink, row.group.key) == (sink, key) and row.id in earlier:
                row.outdated = True

    @rule(sink=st.sampled_from(["", *SINKS]))
    def retry_all(self, sink: str) -> None:
        changed = retry(self.outbox.file, self.now, sink=sink)
        rows = [row for row in self.model.rows if sink in ("", row.sink) and not row.outdated]
        assert changed == len(rows)
        self.revive(rows, sink)

    @precondition(lambda self: self.model.rows)
    @rule(data=st.data())
    def retry_one(self, data: st.DataObject) -> None:
        row = data.draw(st.sampled_from(self.model.rows))
        assert retry(self.outbox.file, self.now, ids=[row.id]) == 1
        self.revive([row], row.sink)

    def revive(self, rows: list[Row], sink: str) -> None:
        for row in rows:
            row.dead = row.outdated = False
            row.due, row.attempts = self.now, 0
            for other in self.model.group(row.sink, row.group.key):
                other.due = min(other.due, self.now)
        for name in {sink} if sink else set(SINKS):
            self.model.sinks[name].gone, self.model.sinks[name].paused = False, 0.0

    @rule()
    def open_again(self) -> None:
        self.outbox.close()
        self.outbox = self.opened()

    @invariant()
    def the_same(self) -> None:
        kept = [(one.id, one.sink, one.key, one.dead, one.outdated, one.attempts) for one in self.outbox.messages()]
        assert kept == [
            (row.id, row.sink, row.group.key, row.dead, row.outdated, row.attempts) for row in self.model.rows
        ]
        for one in sinks(self.outbox.file):
            assert bool(one.gone) is self.model.sinks[one.name].gone
            assert one.dead == len([row for row in self.model.rows if row.sink == one.name and row.dead])


TestOutbox = Machine.TestCase
TestOutbox.settings = settings(
    max_examples=12, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


@pytest.mark.slow
def test_many_more() -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Machine,
        settings=settings(
            max_examples=300, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
        ),
    )
