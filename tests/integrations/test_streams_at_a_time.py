"""A thousand streams at a time through ``llmguard serve`` as a process of its own."""

import pytest

from benchmarks import streams


@pytest.mark.slow
def test_a_thousand_streams_run_to_their_end_and_take_little_memory() -> None:
    guarded, handed_on = streams.seen_of(streams.GUARDED), streams.seen_of(streams.HANDED_ON)
    assert (guarded.ended, handed_on.ended) == (streams.STREAMS, streams.STREAMS)
    assert not guarded.kilobytes - handed_on.kilobytes >= streams.BOUND_KB


def test_a_few_do() -> None:
    assert streams.seen_of(streams.GUARDED, 3).ended == 3
