"""Sleeping until the next tick, but waking at once for a new mark or a request to stop.

The runner waits for every mark to be acknowledged. Looking for marks once per tick would make it
wait half an interval on average; directory notification (``F_NOTIFY``, sent as SIGIO) ends the
sleep the moment anything in the run directory is written, at no cost while nothing is. Kernels
without it only lose that: marks are then seen at the next tick.
"""

from __future__ import annotations

import fcntl
import os
import signal

# Other files of the run directory ring too, a few times a second. The bound keeps a busy one
# from turning the sampler into a spinning loop; past it, marks wait for the tick.
_RINGS_PER_TICK = 8


class Doorbell:
    """Waits by ``sigtimedwait``: its signals stay blocked and no handler ever runs.

    ``stop`` is true after SIGTERM. SIGINT is ignored: a Ctrl-C reaches the whole process group,
    and the parent says when sampling ends.
    """

    def __init__(self, directory: str) -> None:
        self.stop = False
        self.rings = False
        self._left = _RINGS_PER_TICK
        self._wanted = {signal.SIGTERM, signal.SIGIO}
        signal.pthread_sigmask(signal.SIG_BLOCK, self._wanted)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        events = fcntl.DN_MODIFY | fcntl.DN_CREATE | fcntl.DN_MULTISHOT
        try:
            fcntl.fcntl(self._fd, fcntl.F_NOTIFY, events)
        except OSError:
            return
        self.rings = True

    def refill(self) -> None:
        """Allow early wake-ups again, once per tick."""
        self._left = _RINGS_PER_TICK

    def sleep(self, seconds: float) -> bool:
        """Sleep at most ``seconds``; return whether something in the directory changed."""
        wanted = self._wanted if self._left else {signal.SIGTERM}
        got = signal.sigtimedwait(wanted, seconds)
        if got is None:
            return False
        if got.si_signo == signal.SIGTERM:
            self.stop = True
            return False
        self._left -= 1
        return True

    def close(self) -> None:
        """Stop listening."""
        os.close(self._fd)
