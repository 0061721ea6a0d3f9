from __future__ import annotations

from pathlib import Path

from harness.report.ahead import ReportAhead


def test_a_report_that_cannot_be_made_is_one_line_and_no_error(tmp_path: Path) -> None:
    report = ReportAhead(page=True)
    report.start()
    tables, said = report.write(tmp_path / "missing")
    assert tables == ""
    assert said.startswith("No report (")
    assert "missing: not a directory" in said
    assert said.endswith(f"'harness report {tmp_path}/missing' makes one")
    assert "\n" not in said
