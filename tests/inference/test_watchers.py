import gc
from collections.abc import Sequence

from llmguard.inference.watchers import Everyone, watch


class Noting:
    def __init__(self) -> None:
        self.seen: list[tuple[object, ...]] = []

    def batch(self, name: str, size: int, tokens: int, queued: Sequence[float]) -> None:
        self.seen.append((name, size, tokens, tuple(queued)))

    def queue(self, name: str, delta: int) -> None:
        self.seen.append((name, delta))

    def shed(self, name: str, reason: str) -> None:
        self.seen.append((name, reason))


def test_all_who_watch_are_told_as_long_as_they_live() -> None:
    one, other, told = Noting(), Noting(), Everyone()
    watch(one)
    watch(other)
    told.batch("m", 2, 9, [0.5, 0.25])
    told.queue("m", 3)
    del other
    gc.collect()
    told.shed("m", "full")
    assert one.seen == [("m", 2, 9, (0.5, 0.25)), ("m", 3), ("m", "full")]
