from __future__ import annotations

import threading
import time

from harness.results.settled import SETTLED, TIMED_OUT
from harness.sampling.own_processes import settle_own_processes


def test_a_runner_that_grows_has_not_settled() -> None:
    held: list[bytearray] = []
    stop = threading.Event()

    def grow() -> None:
        while not stop.is_set() and len(held) < 300:
            held.append(bytearray(b"x") * 2**20)
            time.sleep(0.01)

    thread = threading.Thread(target=grow)
    thread.start()
    try:
        settled = settle_own_processes(0.2, 2**20, 1.0)("0001-none-1")
    finally:
        stop.set()
        thread.join()
    assert settled.verdict == TIMED_OUT


def test_a_runner_that_rests_has_settled() -> None:
    assert settle_own_processes(0.1, 2**22, 30.0)("0001-none-1").verdict == SETTLED
