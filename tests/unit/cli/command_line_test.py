"""What the command line says to somebody who types: hints, examples, completions."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli import bench, completion, main
from harness.cli import list as listing
from harness.cli._parser import Parser, meant
from harness.core.errors import UsageError
from tests.rundirs import write_run_directory


def test_all_missing_flags_are_named_at_once() -> None:
    with pytest.raises(
        UsageError, match=r"^--stage-task-counts, --stage-bytes-sizes and --task-sl"
    ):
        bench.main(["--executor", "dask", "--ps-connector", "redis"])
    with pytest.raises(UsageError, match=r"^--executor, --ps-connector, --stage-task-counts"):
        bench.main([])


def test_a_word_that_was_meant_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    parser = Parser(prog="harness x")
    parser.add_argument("--tables-only", action="store_true")
    parser.add_argument("--executor", choices=("dask", "parsl"))
    with pytest.raises(UsageError, match="did you mean --tables-only"):
        parser.parse_args(["--tabels-only"])
    with pytest.raises(UsageError, match="did you mean dask"):
        parser.parse_args(["--executor", "dsk"])
    assert meant("zzz", ["--repeat"]) == ""
    assert main.main(["bnch"]) == 2
    assert "did you mean bench?" in capsys.readouterr().err


def test_help_has_groups_and_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["--help"]) == 0
    said = capsys.readouterr().out
    assert said.index("begin:") < said.index("look at results:") < said.index("this machine:")
    assert all(f"\n  {name} " in said for name in main._commands())
    assert "more:" not in said
    with pytest.raises(SystemExit):
        bench.main(["--help"])
    first = capsys.readouterr().out.splitlines()[:10]
    assert any(line.startswith("  harness bench --executor dask") for line in first)


@pytest.mark.parametrize("command", main._commands())
def test_every_help_has_an_example_within_the_first_screen(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert _helped(command) == 0
    screen = capsys.readouterr().out.splitlines()[:24]
    assert "example:" in screen
    example = screen[screen.index("example:") + 1]
    assert example.startswith("  ")
    assert f"harness {command}" in example
    # What stands above the flags fits a small terminal.
    flags = next(
        n for n, line in enumerate(screen) if line in ("options:", "positional arguments:")
    )
    assert max(map(len, screen[:flags])) <= 80


def _helped(command: str) -> int:
    try:
        return main.main([command, "--help"])
    except SystemExit as done:
        return int(done.code or 0)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("harness re", {"report", "reproduce"}),
        ("harness report --ta", {"--tables-only"}),
        ("harness bench --executor p", {"parsl", "process"}),
        ("harness nothing --x", set()),
    ],
)
def test_a_shell_that_asks_is_answered(line: str, expected: set[str], tmp_path: Path) -> None:
    answer = tmp_path / "answer"
    asks = {
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_IFS": " ",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(answer),
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
    }
    subprocess.run(
        [sys.executable, "-m", "harness"], env=os.environ | asks, check=True, capture_output=True
    )
    assert set(answer.read_text().split() if answer.exists() else []) == expected


def test_completion_is_there_for_three_shells(capsys: pytest.CaptureFixture[str]) -> None:
    for shell in completion.SHELLS:
        assert completion.main([shell]) == 0
        assert "harness" in capsys.readouterr().out


def test_the_list_sorts_counts_and_is_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, makespan in (("a", 3.0), ("b", 2.0)):
        times = {"none": [makespan]}
        write_run_directory(tmp_path / name, {"none": [1]}, makespans=times, events=False)
    manifest = tmp_path / "a" / "manifest.json"
    text = manifest.read_text().replace('"seed": 0', '"seed": 0, "modes": ["none"]')
    manifest.write_text(text.replace('"csv_file"', '"repeat": 5, "csv_file"'))
    assert listing.main([str(tmp_path), "--sort", "makespan"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[0] for row in rows] == ["b", "a"]
    assert rows[1][4:7] == ["1", "of", "5"]
    assert listing.main([str(tmp_path), "--json"]) == 0
    said = capsys.readouterr().out
    assert '"planned": 5' in said
    assert '"none": 3.0' in said
