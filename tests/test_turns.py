import asyncio
import os
import subprocess
import sys
import threading

import pytest

from llmguard import turns
from llmguard.turns import Turns


def test_one_thread_at_a_time() -> None:
    free = Turns()
    inside, most, without = 0, 0, 0

    def work() -> None:
        nonlocal inside, most, without
        for _ in range(50):
            turn = free.take()
            if turn is None:
                without += 1
                continue
            inside += 1
            most = max(most, inside)
            inside -= 1
            turn.release()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert without == 0


def test_who_waits_in_vain_goes_ahead_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "_PATIENCE_S", 0.01)
    held = Turns()
    turn = held.take()
    assert turn is not None
    assert held.take() is None
    turn.release()
    assert held.take() is turn


def test_as_many_at_once_as_there_are_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "_PATIENCE_S", 0.01)
    held = Turns(2)
    assert held.take() is not held.take()
    assert held.take() is None


async def test_a_thread_with_an_event_loop_never_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "_PATIENCE_S", 3600.0)
    held = Turns()
    assert held.take() is not None
    assert await asyncio.sleep(0, held.take()) is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system can't fork")
def test_a_forked_child_starts_with_it_free() -> None:
    program = """
import os
from llmguard.turns import Turns
held = Turns()
held.take()
pid = os.fork()
if pid == 0:
    os._exit(0 if held.take() is not None else 1)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "0\n"
