"""The host's handle on the cgroup sampler process."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from harness.core.errors import InfrastructureError
from harness.sampling.child import SamplerChild

if TYPE_CHECKING:
    from types import TracebackType

    from harness.sampling.cgroup.config import SamplerConfig

# Starting Python takes 50 ms, but a minute is not too much for a loaded or emulated machine.
_READY_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class SamplerAnswer:
    """What the sampler said when it was ready.

    ``names`` are the containers it reads, ``absent`` maps what it cannot read to the reason.
    """

    priority: str
    names: list[str]
    absent: dict[str, str]


class CgroupSamplerProcess:
    """Runs the host sampler while in its context; marks are acknowledged from entry to exit.

    Raises InfrastructureError if the sampler does not become ready.
    """

    def __init__(self, config: SamplerConfig) -> None:
        self._config = config
        self._child: SamplerChild | None = None
        self.answer = SamplerAnswer(priority="", names=[], absent={})

    def __enter__(self) -> Self:
        self._child = SamplerChild("harness.sampling.cgroup.sampler")
        try:
            self._child.send(self._config.to_json())
            line = self._child.read_line(_READY_TIMEOUT_S)
        except BrokenPipeError:
            line = None
        if line is None:
            code = self._child.stop(_STOP_TIMEOUT_S)
            raise InfrastructureError(
                f"the host's memory sampler did not start (exit code {code}); its message is above"
            )
        answer = json.loads(line)
        self.answer = SamplerAnswer(answer["priority"], answer["names"], answer["absent"])
        return self

    @property
    def pid(self) -> int:
        """Process number of the sampler, while in the context."""
        assert self._child is not None
        return self._child.pid

    def poll(self) -> int | None:
        """Return the sampler's exit code if it has ended."""
        return None if self._child is None else self._child.poll()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._child is not None:
            self._child.stop(_STOP_TIMEOUT_S)
            self._child = None
