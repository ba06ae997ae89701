"""One look at the rules: what fires here, what fires in all processes, and who is told of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from llmguard.exporters.alerts.evaluate import FIRING, Evaluator
from llmguard.exporters.alerts.firing import Board, Held
from llmguard.exporters.alerts.measure import GAUGES
from llmguard.exporters.alerts.notice import Group, fingerprint
from llmguard.exporters.alerts.plan import Plan
from llmguard.exporters.alerts.routing import Firing, Receiver, Router, Told
from llmguard.exporters.alerts.rule import Rule
from llmguard.readings import Reading

_LONGEST_HOLD_S = 3600.0

Put = Callable[[list[tuple[str, Group]], float], object]
Failed = Callable[[Exception], object]


class TooManyError(Exception):
    """More alerts fire than are followed."""


class UnknownSinkError(Exception):
    """What another process says fires is for a sink that is not known here; it is told when that process leads."""


class Rounds:
    """Looks at rules in turn. Only its evaluator may be used by several threads at a time.

    Of several processes that share a board each says what fires in it, and one tells: so an alert that fires in any of
    them is told once, and is over when it fires in none.

    Args:
        plan: who is told what.
        receivers: the sinks, by name.
        board: where processes say what fires in them.
        put: takes what is to be told, durably.
        failed: told what went wrong, which is tried again at the next look.

    Attributes:
        evaluator: counts, and says what fires here.
    """

    def __init__(self, plan: Plan, receivers: Mapping[str, Receiver], board: Board, put: Put, failed: Failed) -> None:
        self.evaluator = Evaluator(plan.rules, plan.policy)
        self._plan = plan
        self._receivers = receivers
        self._board = board
        self._put = put
        self._failed = failed
        self._router: Router | None = None
        self._written = True

    @property
    def reads(self) -> bool:
        """Whether a rule is about the values of monitors."""
        return any(rule.kind in GAUGES and (rule.above, rule.below) != (None, None) for rule in self._plan.rules)

    def change(self, plan: Plan, receivers: Mapping[str, Receiver], board: Board, put: Put, now: float) -> None:
        """Go on with another plan; what it leaves as it was keeps its counts and its state.

        Args:
            plan: who is told what from now on.
            receivers: the sinks, by name.
            board: the same or another.
            put: takes what is to be told.
            now: seconds since 1970.
        """
        self._plan, self._receivers, self._put = plan, receivers, put
        self.evaluator.change(plan.rules, plan.policy)
        told = self._router.told() if self._router is not None else None
        if board is not self._board:
            before, self._board, self._router = self._board, board, None
            try:
                before.say((), now)
                if told:
                    board.tell(told)
            except OSError as error:  # who comes next tells again of what fires
                self._failed(error)
            finally:
                before.close()
        elif told is not None:
            self._router = self._made(told, now)

    def look(self, now: float, readings: Sequence[Reading] = (), *, hurry: bool = False) -> None:
        """Evaluate, and tell what is due.

        Args:
            now: seconds since 1970.
            readings: values of monitors.
            hurry: wait for nothing, since this is the end.
        """
        held = self._held(now, readings)
        try:
            self._board.say(held, now)
        except OSError as error:
            self._failed(error)
        if not self._board.leads(now, self._plan.routing.group_wait_s + 2 * self._plan.every_s):
            return
        if self._router is None:
            self._router = self._made(self._known(), now)
        router = self._router
        firing = self._board.all(now, self._failed)
        router.update(firing, now)
        if not {sink for one in firing for sink in one.sinks} <= self._receivers.keys():
            self._failed(UnknownSinkError())
        if router.left:
            self._failed(TooManyError())
        if messages := router.due(now, hurry=hurry):
            try:
                self._put([(message.sink, message.group) for message in messages], now)
            except BaseException:
                self._router = None  # what it holds for told was not
                raise
            self._written = False
        if not self._written:
            self._board.tell(router.told())
            self._written = True

    def _made(self, told: Sequence[Told], now: float) -> Router:
        plan = self._plan
        return Router(plan.routing, self._receivers, plan.inhibitions, plan.silences, told=told, now=now)

    def _known(self) -> list[Told]:
        try:
            return self._board.told()
        except (OSError, ValueError) as error:
            self._failed(error)
            return []

    def _held(self, now: float, readings: Sequence[Reading]) -> list[Held]:
        notices = [notice for notice in self.evaluator.evaluate(now, readings) if not notice.resolved]
        rules = {fingerprint(state.labels): state.rule for state in self.evaluator.states() if state.state == FIRING}
        everybody = tuple(self._plan.sinks)
        return [
            Held(Firing(notice, rule.sinks or everybody), _hold_s(rule) + 3 * self._plan.every_s)
            for notice in notices
            if (rule := rules.get(notice.fingerprint)) is not None
        ]


def _hold_s(rule: Rule) -> float:
    """How long a process that comes in the place of another may need to see the same."""
    if rule.kind in GAUGES:
        return _LONGEST_HOLD_S
    return min((rule.burn.short_s if rule.burn is not None else rule.window_s) + rule.for_s, _LONGEST_HOLD_S)
