"""How long a run will take, learnt from the runs before: a fixed part and so much a token."""

from __future__ import annotations

import math

#: What a run counts for after one more: the last 20 say two thirds.
_DECAY = 0.95
#: A run that took longer than so many times what was expected (a page fault, a busy machine) counts as that much.
_OUTLIER = 4.0
#: Seconds after which an estimate no longer refuses anything: else one bad guess would keep away the runs that
#: correct it.
TRUST_S = 1.0


class RunTime:
    """Least squares of seconds over padded tokens, weighted exponentially towards the last runs.

    The first run is left out: it holds what a runtime does only once. Where all runs were of about the same size, the
    time is taken to be proportional to it.
    """

    __slots__ = ("_last", "_warm", "_weight", "_x", "_xx", "_xy", "_y", "fixed", "per_token")

    def __init__(self) -> None:
        self._warm = False
        self._weight = self._x = self._y = self._xx = self._xy = 0.0
        self._last = -math.inf
        #: Seconds that any run takes, and seconds a padded token.
        self.fixed = 0.0
        self.per_token = 0.0

    @property
    def worth(self) -> float:
        """Padded tokens that cost as much as one more run: how much padding it pays to add to a batch."""
        return self.fixed / self.per_token if self.per_token else math.inf

    def trusted(self, now: float) -> bool:
        """Whether a run was seen in the last second."""
        return now - self._last < TRUST_S

    def seconds(self, tokens: int) -> float:
        """How long a run of so many padded tokens takes; 0 before anything is known."""
        return self.fixed + self.per_token * tokens

    def learn(self, tokens: int, seconds: float, now: float) -> None:
        """One run took so long.

        Args:
            tokens: padded.
            seconds: of the run.
            now: when it ended, in monotonic seconds.
        """
        if not self._warm:
            self._warm = True
            return
        self._last = now
        if self._weight:
            seconds = min(seconds, _OUTLIER * self.seconds(tokens))
        self._weight = self._weight * _DECAY + 1
        self._x = self._x * _DECAY + tokens
        self._y = self._y * _DECAY + seconds
        self._xx = self._xx * _DECAY + tokens * tokens
        self._xy = self._xy * _DECAY + tokens * seconds
        self._fit()

    def _fit(self) -> None:
        mean_x, mean_y = self._x / self._weight, self._y / self._weight
        variance = self._xx / self._weight - mean_x * mean_x
        varied = variance > 1e-3 * mean_x * mean_x
        slope = (self._xy / self._weight - mean_x * mean_y) / variance if varied else math.inf
        fixed = mean_y - slope * mean_x
        if slope < 0:
            self.fixed, self.per_token = mean_y, 0.0
        elif fixed < 0:
            self.fixed, self.per_token = 0.0, mean_y / mean_x
        else:
            self.fixed, self.per_token = fixed, slope
