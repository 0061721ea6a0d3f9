"""Being the first process of a container: start the service, pass on signals, reap orphans.

Signals stay blocked and are taken with ``sigtimedwait``. Two properties of the kernel make this
right for process 1: a blocked signal is queued even where the default action would be ignored,
and no handler can interrupt anything.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence

_FORWARDED = frozenset(
    {
        signal.SIGTERM,
        signal.SIGINT,
        signal.SIGHUP,
        signal.SIGQUIT,
        signal.SIGUSR1,
        signal.SIGUSR2,
        signal.SIGWINCH,
        signal.SIGCONT,
    }
)
_WAITED = _FORWARDED | {signal.SIGCHLD}
_NOT_FOUND = 127
_NOT_EXECUTABLE = 126


def _environment() -> dict[str, str]:
    """Return the command's environment: where runs are traced, all of its processes attend."""
    if not os.environ.get("HARNESS_ATTENDING"):
        return dict(os.environ)
    # It takes what few commands need.
    from harness.core.attend import attending_environment  # noqa: PLC0415

    return attending_environment(os.environ)


class Supervisor:
    """Starts a command as its child and looks after it while ``wait`` is called.

    ``exit_code`` is ``None`` until the child has ended, then its code, or 128 + n after signal n.
    A command that cannot be started ends at once with 127 (not found) or 126, as in a shell, and
    ``error`` says why.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self.exit_code: int | None = None
        self.error = ""
        self._pid = -1
        inherited = signal.pthread_sigmask(signal.SIG_BLOCK, _WAITED)
        try:
            self._pid = os.posix_spawnp(
                command[0],
                list(command),
                _environment(),
                setsigmask=inherited,
                # Python ignores these two; the service must start with the defaults.
                setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
            )
        except FileNotFoundError as error:
            self.exit_code = _NOT_FOUND
            self.error = f"{command[0]}: {error.strerror}"
        except OSError as error:
            self.exit_code = _NOT_EXECUTABLE
            self.error = f"{command[0]}: {error.strerror}"

    @property
    def ended(self) -> bool:
        """Whether the child has ended."""
        return self.exit_code is not None

    def wait(self, seconds: float) -> None:
        """Handle signals as they come, until one came or ``seconds`` have passed."""
        if self.ended:
            return
        got = signal.sigtimedwait(_WAITED, max(seconds, 0))
        if got is not None:
            self._handle(got)

    def run(self) -> int:
        """Wait until the child has ended and return the exit code."""
        while self.exit_code is None:
            self._handle(signal.sigwaitinfo(_WAITED))
        return self.exit_code

    def _handle(self, got: signal.struct_siginfo) -> None:
        if got.si_signo == signal.SIGCHLD:
            self._reap()
        elif got.si_code <= 0:
            # Sent by a process. What the terminal sends (a code above 0) has reached the child
            # already: it is in the same process group.
            try:
                os.kill(self._pid, got.si_signo)
            except ProcessLookupError:
                self._reap()

    def _reap(self) -> None:
        # One SIGCHLD may stand for several children; orphans come to process 1 as well.
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._pid and not (os.WIFSTOPPED(status) or os.WIFCONTINUED(status)):
                code = os.waitstatus_to_exitcode(status)
                self.exit_code = code if code >= 0 else 128 - code
