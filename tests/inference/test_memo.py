import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmguard.inference.memo import Memo, digest


def wait(future: Future[str]) -> str:
    return future.result(30)


@given(st.lists(st.text(max_size=3)), st.lists(st.text(max_size=3)))
def test_texts_that_differ_have_other_keys(one: list[str], other: list[str]) -> None:
    assert (digest(*one) == digest(*other)) == (one == other)


@given(st.lists(st.lists(st.integers(0, 9), max_size=6), max_size=12), st.integers(0, 4))
def test_every_key_gets_its_answer_and_what_is_kept_is_not_asked_again(calls: list[list[int]], size: int) -> None:
    memo: Memo[str] = Memo(size, keep=lambda answer: answer != "3")
    kept: list[int] = []
    for numbers in calls:
        asked: list[int] = []

        def compute(places: list[int], numbers: list[int] = numbers, asked: list[int] = asked) -> list[str]:
            asked += [numbers[place] for place in places]
            return [str(numbers[place]) for place in places]

        assert memo.get([digest(str(n)) for n in numbers], compute, wait) == [str(n) for n in numbers]
        assert len(asked) == len(set(asked))
        assert set(asked) == set(numbers) - set(kept)
        for number in dict.fromkeys(n for n in numbers if n in kept):
            kept.remove(number)
            kept.append(number)
        kept += [n for n in asked if n != 3]
        kept = kept[max(0, len(kept) - size) :]
    memo.clear()
    assert memo.get([digest("0")], lambda places: ["new" for _ in places], wait) == ["new"]


def test_one_computes_and_the_others_wait() -> None:
    memo: Memo[str] = Memo(0, keep=lambda _: True)
    began, go = threading.Event(), threading.Event()
    asked: list[int] = []

    def compute(places: list[int]) -> list[str]:
        asked.extend(places)
        began.set()
        assert go.wait(30)
        return ["x" for _ in places]

    waiting = threading.Semaphore(0)

    def patient(future: Future[str]) -> str:
        waiting.release()
        return future.result(30)

    with ThreadPoolExecutor(5) as pool:
        first = pool.submit(memo.get, [b"k"], compute, patient)
        assert began.wait(30)
        others = [pool.submit(memo.get, [b"k"], compute, patient) for _ in range(4)]
        for _ in others:
            assert waiting.acquire(timeout=30)
        go.set()
        assert [one.result(30) for one in (first, *others)] == [["x"]] * 5
    assert asked == [0]


def test_an_error_is_the_askers_own_and_is_not_kept() -> None:
    memo: Memo[str] = Memo(4, keep=lambda _: True)

    def broken(_: list[int]) -> list[str]:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        memo.get([b"k"], broken, wait)
    assert memo.get([b"k"], lambda places: ["fine" for _ in places], wait) == ["fine"]


def test_who_waited_for_one_that_failed_asks_itself() -> None:
    memo: Memo[str] = Memo(4, keep=lambda _: True)
    began, go, waiting = threading.Event(), threading.Event(), threading.Event()

    def broken(_: list[int]) -> list[str]:
        began.set()
        assert go.wait(30)
        raise RuntimeError("broken")

    def patient(future: Future[str]) -> str:
        waiting.set()
        return future.result(30)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(memo.get, [b"k"], broken, wait)
        assert began.wait(30)
        second = pool.submit(memo.get, [b"k", b"k"], lambda places: ["mine" for _ in places], patient)
        assert waiting.wait(30)
        go.set()
        with pytest.raises(RuntimeError, match="broken"):
            first.result(30)
        assert second.result(30) == ["mine", "mine"]


def test_who_waits_no_longer_gets_its_own_error() -> None:
    memo: Memo[str] = Memo(4, keep=lambda _: True)
    began, go = threading.Event(), threading.Event()

    def slow(places: list[int]) -> list[str]:
        began.set()
        assert go.wait(30)
        return ["late" for _ in places]

    def impatient(_: Future[str]) -> str:
        raise TimeoutError("no longer")

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(memo.get, [b"k"], slow, wait)
        assert began.wait(30)
        with pytest.raises(TimeoutError, match="no longer"):
            memo.get([b"k"], slow, impatient)
        go.set()
        assert first.result(30) == ["late"]
