"""The first process of a container, run here as an ordinary process with real children."""

from __future__ import annotations

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.results.conversation import MarkWriter
from harness.results.rows import columns
from harness.results.schema import InsideRow
from harness.sampling.inside.__main__ import main

TIMEOUT_S = 30


def start(command: list[str], **environment: str) -> subprocess.Popen[str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("HARNESS_")}
    return subprocess.Popen(
        [sys.executable, "-m", "harness.sampling.inside", "--", *command],
        env=clean | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    try:
        out, err = process.communicate(timeout=TIMEOUT_S)
    finally:
        process.kill()
    return process.returncode, out, err


# A service that ends with the given code when it is told to.
UNTIL_TOLD = (
    "import signal, sys, time\n"
    "signal.signal(signal.SIGUSR1, lambda *_: sys.exit({code}))\n"
    "print('ready', flush=True)\n"
    "time.sleep(60)"
)


def wait_for_line(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == line + "\n"


def wait_until(what: str, path: Path) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not path.exists():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def test_where_runs_are_traced_the_service_attends_and_the_sampler_does_not(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "attending"
    program = "import os, sys; print(os.getpid(), os.environ['PYTHONPATH'])"
    code, out, err = finish(start(python(program), HARNESS_ATTENDING=str(folder)))
    assert (code, err) == (0, "")
    pid, path = out.split()
    assert "harness/core/at_start" in path
    assert [found.name for found in folder.iterdir()] == [f"{os.uname().nodename}-{pid}.sock"]


@pytest.mark.parametrize("code", [0, 1, 42, 255])
def test_the_exit_code_is_the_commands(code: int) -> None:
    assert finish(start(python(f"raise SystemExit({code})")))[0] == code


def test_a_command_killed_by_a_signal_gives_128_and_its_number() -> None:
    code, _, _ = finish(start(python("import os; os.kill(os.getpid(), 9)")))
    assert code == 128 + signal.SIGKILL


def test_a_command_that_is_not_there() -> None:
    code, _, err = finish(start(["/no/such/command"]))
    assert code == 127
    assert "/no/such/command: No such file or directory" in err


def test_a_command_that_is_not_executable(tmp_path: Path) -> None:
    (tmp_path / "script").write_text("")
    code, _, err = finish(start([str(tmp_path / "script")]))
    assert code == 126
    assert "Permission denied" in err


def test_no_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--"], {}) == 2
    assert "usage" in capsys.readouterr().err


def test_standard_streams_and_arguments_reach_the_command() -> None:
    process = start(["sh", "-c", 'echo "$1 $HARNESS_TEST"; echo oops >&2', "sh", "a b"],
                    HARNESS_TEST="c")  # fmt: skip
    assert finish(process) == (0, "a b c\n", "oops\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP])
def test_signals_are_passed_on(number: signal.Signals) -> None:
    process = start(
        python(
            "import signal, sys\n"
            f"signal.signal({int(number)}, lambda n, _: sys.exit(100 + n))\n"
            "print('ready', flush=True)\n"
            "while True: signal.pause()"
        )
    )
    wait_for_line(process, "ready")
    process.send_signal(number)
    assert finish(process)[0] == 100 + number


def test_a_command_without_a_handler_ends_by_the_signal() -> None:
    process = start(python("import time; print('ready', flush=True); time.sleep(60)"))
    wait_for_line(process, "ready")
    process.terminate()
    assert finish(process)[0] == 128 + signal.SIGTERM


def test_the_command_starts_with_default_signals_and_nothing_blocked() -> None:
    code = (
        "import signal\n"
        "blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())\n"
        "status = open('/proc/self/status').read()\n"
        "print(sorted(blocked), status.split('SigBlk:')[1].split()[0])"
    )
    assert finish(start(python(code)))[1] == "[] 0000000000000000\n"


def test_orphans_are_reaped_and_do_not_end_it(tmp_path: Path) -> None:
    # As process 1 it inherits orphans; here PR_SET_CHILD_SUBREAPER (36) stands in for that.
    done = tmp_path / "done"
    code = f"""
import ctypes, os, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
from harness.sampling.inside.__main__ import main
service = '''
import os, time
reader, writer = os.pipe()
if os.fork() == 0:           # a child that leaves an orphan behind and ends at once
    pid = os.fork()
    if pid == 0:
        time.sleep(0.2)
        os._exit(7)
    os.write(writer, str(pid).encode())
    os._exit(0)
os.wait()
orphan = int(os.read(reader, 20))
while os.path.exists(f"/proc/{{orphan}}"):   # a zombie would stay
    time.sleep(0.01)
open({str(done)!r}, "w").close()
raise SystemExit(3)
'''
sys.exit(main(["--", sys.executable, "-c", service], {{}}))
"""
    ended = subprocess.run([sys.executable, "-c", code], timeout=TIMEOUT_S, check=False)
    assert ended.returncode == 3
    assert done.exists()


def read_rows(run_dir: Path) -> list[dict[str, str]]:
    with (run_dir / "memory-inside.csv").open(newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    assert reader.fieldnames == columns(InsideRow)
    return rows


def test_samples_marks_and_report(tmp_path: Path) -> None:
    process = start(
        python(
            "import time\nheld = bytearray(50_000_000)\nprint('ready', flush=True)\ntime.sleep(60)"
        ),
        HARNESS_RUN_DIR=str(tmp_path),
        HARNESS_CONTAINER="worker-1",
        HARNESS_INSIDE_INTERVAL="0.01",
    )
    wait_for_line(process, "ready")
    wait_until("first row", tmp_path / "memory-inside.csv")
    with MarkWriter(tmp_path / "marks.csv") as marks:
        marks.write("r1", "run_start")
        time.sleep(0.2)
        marks.write("r1", "run_end")
        time.sleep(0.2)
        marks.write("", "stop")
    wait_until("report", tmp_path / ".sampling" / "inside-worker-1.json")
    process.terminate()
    assert finish(process)[0] == 128 + signal.SIGTERM
    rows = read_rows(tmp_path)
    assert {row["container"] for row in rows} == {"worker-1"}
    assert [key for key in dict.fromkeys(row["run_id"] for row in rows) if key] == ["r1"]
    assert all(int(row["n_procs"]) >= 1 for row in rows)
    of_run = [row for row in rows if row["run_id"] == "r1"]
    assert all(int(row["rss_sum_bytes"]) > 50_000_000 for row in of_run)
    # Unique and proportional set sizes belong to the marks alone.
    assert all(row["uss_sum_bytes"] == "" for row in rows if row["run_id"] != "r1")
    assert 0 <= len([row for row in of_run if row["uss_sum_bytes"]]) <= 2
    times = [int(row["t_mono_ns"]) for row in rows]
    assert times == sorted(times)
    assert rows[0]["host_total_bytes"] != ""
    report = json.loads((tmp_path / ".sampling" / "inside-worker-1.json").read_text())
    assert report["grid"]["ticks"] == len(rows)
    assert report["cpu_ns"] > 0


def test_rows_are_written_out_when_the_command_ends(tmp_path: Path) -> None:
    process = start(
        python(UNTIL_TOLD.format(code=9)),
        HARNESS_RUN_DIR=str(tmp_path),
        HARNESS_CONTAINER="worker-2",
        HARNESS_INSIDE_INTERVAL="0.02",
    )
    wait_for_line(process, "ready")
    wait_until("file", tmp_path / "memory-inside.csv")
    process.send_signal(signal.SIGUSR1)
    assert finish(process)[0] == 9
    rows = read_rows(tmp_path)
    report = json.loads((tmp_path / ".sampling" / "inside-worker-2.json").read_text())
    assert len(rows) == report["grid"]["ticks"]


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"HARNESS_RUN_DIR": "/no/such/directory"}, "sampling stopped: FileNotFoundError"),
        ({"HARNESS_INSIDE_INTERVAL": "soon"}, "could not convert"),
        ({"HARNESS_INSIDE_INTERVAL": "-1"}, "must be positive"),
        ({"HARNESS_READY_PORT": "http"}, "no readiness signal"),
        ({"HARNESS_READY_PORT": "1", "HARNESS_READY_FILE": "/no/dir/x"}, "no readiness signal"),
    ],
)
def test_no_sampling_error_ends_the_service(
    tmp_path: Path, environment: dict[str, str], words: str
) -> None:
    process = start(
        python(UNTIL_TOLD.format(code=5)),
        **{"HARNESS_CONTAINER": "x", "HARNESS_RUN_DIR": str(tmp_path)} | environment,
    )
    assert words in end_after_its_message(process)


def test_a_full_disk_stops_sampling_once_and_not_the_service(tmp_path: Path) -> None:
    (tmp_path / "memory-inside.csv").symlink_to("/dev/full")
    process = start(
        python(UNTIL_TOLD.format(code=5)), HARNESS_RUN_DIR=str(tmp_path), HARNESS_CONTAINER="x"
    )
    assert "No space left on device" in end_after_its_message(process)


def end_after_its_message(process: subprocess.Popen[str]) -> str:
    # The only line of standard error; the service lives on after it.
    wait_for_line(process, "ready")
    assert process.stderr is not None
    message = process.stderr.readline()
    assert process.poll() is None
    process.send_signal(signal.SIGUSR1)
    assert finish(process) == (5, "", "")
    return message


def test_a_service_that_listens_becomes_ready(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        # The port is taken by us already, but it counts only once it is listened on.
        process = start(
            python("import time; print('up', flush=True); time.sleep(60)"),
            HARNESS_READY_PORT=str(server.getsockname()[1]),
            HARNESS_READY_FILE=str(ready),
        )
        wait_for_line(process, "up")
        fifo = tmp_path / "ready.fifo"
        wait_until("pipe", fifo)
        # A blocking check, as the engine would run it.
        check = subprocess.Popen(["cat", str(fifo)])
        with pytest.raises(subprocess.TimeoutExpired):
            check.wait(0.3)
        assert not ready.exists()
        server.listen()
        assert check.wait(TIMEOUT_S) == 0
        assert ready.exists()
    # The next check finds nobody who answers: it sleeps, and costs nothing.
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run(["cat", str(fifo)], timeout=0.3, check=False)
    process.terminate()
    assert finish(process)[0] == 128 + signal.SIGTERM
