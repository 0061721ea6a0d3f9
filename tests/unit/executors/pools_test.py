from __future__ import annotations

import os
import signal
from concurrent.futures import ProcessPoolExecutor

from harness.executors._pools import ask_pool, trim_pool


def test_a_pool_that_broke_is_told_in_words() -> None:
    with ProcessPoolExecutor(2) as pool:
        os.kill(pool.submit(os.getpid).result(), signal.SIGKILL)
        assert trim_pool(pool, 2, int) == ("2 of 2 pool workers",)


def test_every_worker_of_a_pool_is_asked_and_answers_once() -> None:
    with ProcessPoolExecutor(3) as pool:
        answers = ask_pool(pool, 3, os.getpid, 20)
        assert sorted(answers) == sorted(pool._processes)
