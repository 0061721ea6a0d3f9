"""The docker view: the engine's stats API, about once a second, as a cross-check.

This room knows nothing of Docker: whoever has the connection hands over one iterable of decoded
messages per container. The engine sets the pace (1.00 s for one container to 1.04 s for twenty).
"""

from __future__ import annotations

import threading
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from harness.results.directory import RunDirectory
from harness.results.rows import columns
from harness.results.schema import DockerRow, row_line
from harness.sampling.marks import MarksTail
from harness.sampling.report import ViewReport, write_report
from harness.sampling.writer import LineWriter

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType

SAMPLES_FILE = RunDirectory(Path()).memory("docker").name
MARKS_FILE = RunDirectory(Path()).marks.name


def parse(
    message: Mapping[str, Any], *, run_id: str, container: str, t_mono_recv_ns: int
) -> DockerRow | None:
    """Return a stats message as a row; ``None`` for one without memory figures.

    The engine sends such messages for a container that has ended. ``mem_usage_cli_bytes`` is
    what ``docker stats`` prints: usage less total_inactive_file (v1) or inactive_file (v2), if
    that is smaller than the usage (calculateMemUsageUnixNoCache in docker/cli).
    """
    memory = message.get("memory_stats") or {}
    usage = memory.get("usage")
    if usage is None:
        return None
    details = memory.get("stats") or {}
    inactive = details.get("total_inactive_file", details.get("inactive_file"))
    smaller = inactive is not None and inactive < usage
    return DockerRow(
        run_id=run_id,
        container=container,
        t_mono_recv_ns=t_mono_recv_ns,
        t_read_unix_ns=parse_time(message.get("read") or ""),
        usage_bytes=usage,
        inactive_file_bytes=inactive,
        mem_usage_cli_bytes=usage - inactive if smaller else usage,
        max_usage_bytes=memory.get("max_usage"),
        limit_bytes=memory.get("limit"),
        cpu_total_ns=((message.get("cpu_stats") or {}).get("cpu_usage") or {}).get("total_usage"),
    )


def parse_time(text: str) -> int | None:
    """Return an RFC 3339 time with up to nanoseconds as UNIX nanoseconds; ``None`` if unset.

    Go's zero time (year 1) stands for a value that was never read.
    """
    seconds, _, rest = text.partition(".")
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    zone = rest[len(digits) :] if rest else ""
    try:
        whole = datetime.fromisoformat(seconds + zone)
    except ValueError:
        return None
    if whole.year == 1 or whole.tzinfo is None:
        return None
    return int(whole.timestamp()) * 1_000_000_000 + int(digits.ljust(9, "0")[:9])


class DockerView:
    """Follows the containers' stats streams and writes ``memory-docker.csv``.

    One daemon thread per container; ``stream_errors`` are the exceptions by which a stream may
    break off, which ends that container's rows and is noted in the report. On exit the threads
    are given ``timeout_s`` together: each ends with its stream's next message. ``shift_ns`` is
    added to this machine's monotonic clock, where the containers have another one.
    """

    def __init__(
        self,
        run_dir: str | Path,
        marks: str | Path | None = None,
        *,
        stream_errors: tuple[type[Exception], ...] = (OSError, ValueError),
        timeout_s: float = 3.0,
        shift_ns: int = 0,
    ) -> None:
        self._shift_ns = shift_ns
        self._run_dir = Path(run_dir)
        self._stream_errors = stream_errors
        self._timeout_s = timeout_s
        self._marks = MarksTail(str(marks or self._run_dir / MARKS_FILE))
        self._writer = LineWriter(str(self._run_dir / SAMPLES_FILE), columns(DockerRow))
        # Guards marks, writer and the figures below, and that nothing is written after the end.
        self._lock = threading.Lock()
        self._stopped = False
        self._rows: dict[str, int] = {}
        self._absent: dict[str, str] = {}
        self._threads: list[threading.Thread] = []

    def follow(self, container: str, stream: Iterable[Mapping[str, Any]]) -> None:
        """Start following one container's stream."""
        self._rows[container] = 0
        thread = threading.Thread(
            target=self._consume, args=(container, stream), name=f"stats {container}", daemon=True
        )
        self._threads.append(thread)
        thread.start()

    def _consume(self, container: str, stream: Iterable[Mapping[str, Any]]) -> None:
        try:
            for message in stream:
                if not self._take(container, message):
                    return
        except self._stream_errors as error:
            with self._lock:
                if not self._stopped:
                    self._absent[container] = f"the stats stream broke off: {error}"

    def _take(self, container: str, message: Mapping[str, Any]) -> bool:
        t_mono_ns = time.monotonic_ns() + self._shift_ns
        with self._lock:
            if self._stopped:
                return False
            self._marks.poll()
            row = parse(
                message,
                run_id=self._marks.current_run,
                container=container,
                t_mono_recv_ns=t_mono_ns,
            )
            if row is not None:
                self._writer.write(row_line(row))
                self._writer.flush_if_due()
                self._rows[container] += 1
        return True

    def stop(self) -> None:
        """End all threads within the time given and write file and report."""
        with self._lock:
            if self._stopped:
                return
            self._stopped = True
            self._writer.close()
            self._marks.close()
        deadline = time.monotonic() + self._timeout_s
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0))
        for container, rows in self._rows.items():
            if not rows:
                self._absent.setdefault(container, "the engine sent no memory figures")
        report = ViewReport(
            view="docker", name="engine", absent=self._absent, details={"rows": self._rows}
        )
        write_report(self._run_dir, report)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
