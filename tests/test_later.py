import os
import subprocess
import sys
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmguard.later import Later


def test_items_are_done_in_order_without_a_flush() -> None:
    done: list[int] = []
    last = threading.Event()

    def work(item: int) -> None:
        done.append(item)
        if item == 99:
            last.set()

    later = Later(work)
    for item in range(100):
        later.add(item)
    assert last.wait(10)
    assert done == list(range(100))


def test_it_wakes_up_again_after_a_rest() -> None:
    done: list[int] = []
    seen = threading.Semaphore(0)

    def work(item: int) -> None:
        done.append(item)
        seen.release()

    later = Later(work)
    for item in range(5):
        later.add(item)
        assert seen.acquire(timeout=10)
    assert done == list(range(5))


def test_a_flush_does_everything_at_once() -> None:
    done: list[int] = []
    later = Later(done.append)
    for item in range(1000):
        later.add(item)
    later.flush()
    assert done == list(range(1000))


@given(st.lists(st.integers(0, 9)), st.integers(0, 30))
@settings(max_examples=50)
def test_no_more_waits_than_there_is_room_for(sizes: list[int], room: int) -> None:
    done: list[int] = []
    later = Later(done.append, size=lambda item: item, room=room)
    for at, size in enumerate(sizes, 1):
        later.add(size)
        assert sum(sizes[:at]) - sum(done) <= room + 9  # one may be under way on the other thread
    later.flush()
    assert done == sizes


def test_past_the_limit_the_caller_helps_and_nothing_is_lost() -> None:
    done: list[int] = []
    later = Later(done.append, limit=10)
    threads = [threading.Thread(target=lambda: [later.add(n) for n in range(2000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    later.flush()
    assert sorted(done) == sorted(list(range(2000)) * 4)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system can't fork")
def test_a_forked_child_does_its_own_items_and_not_its_parents() -> None:
    program = """
import os, threading
from llmguard.later import Later
done = []
later = Later(done.append)
later.add("parent")
pid = os.fork()
if pid == 0:
    later.add("child")
    later.flush()
    os._exit(0 if done == ["child"] else 1)
_, status = os.waitpid(pid, 0)
later.flush()
print(os.waitstatus_to_exitcode(status), done)
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "0 ['parent']\n"


def test_work_may_add_and_flush() -> None:
    done: list[int] = []
    later: Later[int]

    def work(item: int) -> None:
        done.append(item)
        if item < 3:
            later.add(item + 1)
            later.flush()

    later = Later(work)
    thread = threading.Thread(target=lambda: (later.add(0), later.flush()), daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert done == [0, 1, 2, 3]
