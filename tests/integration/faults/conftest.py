"""What the fault tests share: a place for notes of their own, and the table at the end."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest

from harness.images import ensure
from harness.report.terminal import columns
from tests.integration.faults.injection import Cell, Table

_PROPERTY = "fault"


@pytest.fixture
def table(request: pytest.FixtureRequest) -> Iterator[Table]:
    """The cells of one test; its report takes them to the process that prints."""
    table = Table()
    yield table
    for cell in table.cells:
        request.node.user_properties.append((_PROPERTY, list(dataclasses.astuple(cell))))


@pytest.fixture(scope="session", autouse=True)
def _images() -> None:
    """Build what is not there, before anybody waits for a run."""
    ensure(["dask", "redis", "pool"], print)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the fault table as measured."""
    reports = [report for found in terminalreporter.stats.values() for report in found]
    cells = [
        Cell(*values)
        for report in reports
        if getattr(report, "when", "") == "teardown"
        for name, values in report.user_properties
        if name == _PROPERTY
    ]
    if cells:
        terminalreporter.section("fault table")
        rows = [
            (
                cell.fault,
                cell.outcome,
                cell.service,
                "" if cell.detected_s is None else f"{cell.detected_s:.1f}",
                f"{cell.rows_before} -> {cell.rows_after}",
                cell.left or "nothing",
                cell.reason[:70],
            )
            for cell in cells
        ]
        headers = ("fault", "outcome", "service", "row after s", "rows", "left", "reason")
        terminalreporter.write_line(columns(headers, rows))
