import contextvars
import os
import subprocess
import sys
import threading
from concurrent.futures import wait

import pytest

from llmguard.errors import LlmGuardError
from llmguard.workers import Workers


@pytest.fixture
def workers():
    pool = Workers(size=2)
    yield pool
    pool.close()


def test_results_and_exceptions_come_back(workers: Workers) -> None:
    assert workers.submit(lambda: 6 * 7).future.result(10) == 42

    def fails() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        workers.submit(fails).future.result(10)


def test_many_tasks_from_many_threads_all_end(workers: Workers) -> None:
    results: list[int] = []

    def submit(start: int) -> None:
        tasks = [workers.submit(lambda n=n: n) for n in range(start, start + 200)]
        results.extend(task.future.result(10) for task in tasks)  # type: ignore[misc]

    threads = [threading.Thread(target=submit, args=(base,)) for base in range(0, 1600, 200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == list(range(1600))


def test_a_task_sees_the_callers_context(workers: Workers) -> None:
    variable = contextvars.ContextVar("variable", default="outside")
    variable.set("inside")
    assert workers.submit(variable.get).future.result(10) == "inside"


def test_hung_threads_are_replaced(workers: Workers) -> None:
    release = threading.Event()
    begun = [threading.Event(), threading.Event()]

    def hang(event: threading.Event) -> None:
        event.set()
        release.wait()

    hung = [workers.submit(lambda event=event: hang(event)) for event in begun]
    for event in begun:
        assert event.wait(10)
    waiting = workers.submit(lambda: "done")
    assert not waiting.future.done()
    for task in hung:
        workers.abandon(task)
    assert waiting.future.result(10) == "done"
    release.set()
    wait([task.future for task in hung], 10)
    assert [workers.submit(lambda: 1).future.result(10) for _ in range(20)] == [1] * 20


def test_a_task_that_has_not_begun_is_dropped() -> None:
    workers = Workers(size=1)
    release = threading.Event()
    ran = threading.Event()
    first = workers.submit(lambda: release.wait())
    second = workers.submit(ran.set)
    workers.abandon(second)
    release.set()
    first.future.result(10)
    assert workers.submit(lambda: "next").future.result(10) == "next"
    assert not ran.is_set()
    workers.close()


def test_too_many_hung_threads_are_refused_by_name() -> None:
    workers = Workers(size=2, lost=1)
    release, begun = threading.Event(), threading.Event()

    def hang() -> None:
        begun.set()
        release.wait()

    task = workers.submit(hang)
    assert begun.wait(10)
    workers.abandon(task)
    workers.abandon(task)  # counted once
    with pytest.raises(LlmGuardError, match="1 detector threads hang"):
        workers.submit(lambda: None)
    release.set()
    workers.close()


def test_a_closed_pool_refuses() -> None:
    workers = Workers()
    assert workers.submit(lambda: 1).future.result(10) == 1
    workers.close()
    workers.close()
    with pytest.raises(LlmGuardError, match="closed"):
        workers.submit(lambda: None)


def test_a_hung_thread_does_not_keep_the_process_alive() -> None:
    program = """
import threading
from llmguard.workers import Workers
begun = threading.Event()
def hang():
    begun.set()
    threading.Event().wait()
Workers().submit(hang)
begun.wait(10)
print("end")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "end\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system can't fork")
def test_a_forked_child_has_threads_of_its_own() -> None:
    program = """
import os
from llmguard.workers import Workers
workers = Workers()
assert workers.submit(lambda: 1).future.result(10) == 1
pid = os.fork()
if pid == 0:
    os._exit(0 if workers.submit(lambda: 2).future.result(10) == 2 else 1)
_, status = os.waitpid(pid, 0)
print(os.waitstatus_to_exitcode(status))
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "0\n"
