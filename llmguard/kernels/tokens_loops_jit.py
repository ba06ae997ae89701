"""The compiled half of `tokens_loops`: for each distance, how long a sequence has equalled itself so far back."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from llmguard.kernels.compiling import kernel

_i = types.int64
_state = types.Array(types.int32, 1, "C")
_ids = types.Array(types.int32, 1, "C", readonly=True)

#: What stands at the head of a state: longest period, place of the newest id, ids since the last proof, room, period.
PERIODS, AT, SEEN, ROOM, FOUND, HEAD = 0, 1, 2, 3, 4, 16


@kernel(types.boolean(_state, types.int32))
def add(state: Any, new: Any) -> Any:
    """Takes one more id; whether the sequence now ends in a loop, whose period is then ``state[FOUND]``.

    One pass over the periods, whatever came before: a run of agreements grows by one or ends. Ids stand with the
    newest first, so that the pass reads its three rows in order.

    Args:
        state: the head, then for each period the run that proves it, for each the run so far, and the ids.
        new: the id.
    """
    periods, at, seen, room = state[PERIODS], state[AT], state[SEEN], state[ROOM]
    proof = state[HEAD : HEAD + periods]
    runs = state[HEAD + periods : HEAD + 2 * periods]
    ids = state[HEAD + 2 * periods :]
    before = ids[at : at + periods]
    proven = np.int32(0)
    for period in range(min(periods, seen)):
        run = (runs[period] + np.int32(1)) * np.int32(before[period] == new)
        runs[period] = run
        proven |= np.int32(run >= proof[period])
    if at == 0:
        at = room - periods
        ids[at + 1 : room] = ids[0 : periods - 1]
    else:
        at -= 1
    ids[at] = new
    state[AT] = at
    state[SEEN] = min(seen + 1, periods)
    if not proven:
        return False
    for period in range(periods):
        if runs[period] >= proof[period]:
            state[FOUND] = period + 1
            break
    runs[:] = 0
    state[SEEN] = 0
    return True


@kernel(_i(_state, _ids, _i))
def follow(state: Any, ids: Any, start: Any) -> Any:
    """`add` for ``ids[start:]`` up to the first proof: how many were taken, or minus as many where the last proved."""
    for place in range(start, len(ids)):
        if add(state, ids[place]):
            return start - place - 1
    return len(ids) - start


@kernel(_i(_state, _ids, _i), nogil=True)
def follow_long(state: Any, ids: Any, start: Any) -> Any:
    """`follow` without the interpreter's lock."""
    return follow(state, ids, start)


@kernel(_i(_state))
def pending(state: Any) -> Any:
    """How many of the last ids may belong to the repetition that completes a proof still to come."""
    periods = state[PERIODS]
    most = 0
    for period in range(periods):
        left = state[HEAD + period] - state[HEAD + periods + period]
        most = max(most, period + 1 - left)
    return most
