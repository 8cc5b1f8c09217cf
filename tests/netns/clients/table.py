"""pytest plugin (`-p tests.netns.clients.table`): prints at the end of a run one table, client x case x result x time.

A row for each test that has the marker `client`.  Times come from the wire where tcpdump saw it (netns/conftest.py puts
them into the report), from power on to the end of the boot for machines, and last the whole test's.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass

import pytest

ROW = "client-row"
OUTCOMES = ("passed", "failed", "error", "skipped", "xfailed", "xpassed")
HEAD = ("client", "case", "result", "asked to ACK", "slowest answer", "boot", "test")


@dataclass(frozen=True, slots=True)
class Row:
    """Times in seconds, None where nothing was measured."""

    client: str
    case: str
    result: str
    until_ack: float | None = None
    slowest: float | None = None
    boot: float | None = None
    test: float | None = None

    def cells(self) -> tuple[str, ...]:
        def shown(seconds: float | None) -> str:
            return "" if seconds is None else f"{1000 * seconds:.1f} ms" if seconds < 0.1 else f"{seconds:.2f} s"

        return self.client, self.case, self.result, *map(shown, (self.until_ack, self.slowest, self.boot, self.test))


def render(rows: Iterable[Row]) -> list[str]:
    """Lines of the table, sorted by client; what was skipped says why instead of times."""
    table = [HEAD, *(row.cells() for row in sorted(rows, key=lambda row: row.client))]
    short = [cells for cells in table if not cells[2].startswith("skipped")]
    widths = [max(len(cells[column]) for cells in (table if column < 2 else short)) for column in range(len(HEAD))]
    return [
        "  ".join(
            cell.ljust(width) if column < 3 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ).rstrip()
        for cells in table
    ]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if marker := item.get_closest_marker("client"):
        client = str(marker.args[0])
        name, _, parameters = item.name.partition("[")
        rest = [part for part in parameters.rstrip("]").replace(client, "").split("-") if part]
        case = name.removeprefix("test_").replace("_", " ") + (f" ({', '.join(rest)})" if rest else "")
        report.user_properties.append((ROW, f"{client}\n{case}"))
    return report


def row_of(report: pytest.TestReport, outcome: str) -> Row | None:
    told = dict(report.user_properties)
    if ROW not in told:
        return None
    client, case = str(told[ROW]).split("\n")
    if outcome == "skipped":
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        return Row(client, case, f"skipped: {str(reason).removeprefix('Skipped: ')}")
    seconds = [told[name] if isinstance(told.get(name), float) else None for name in ("until_ack", "slowest", "boot")]
    return Row(client, case, outcome, *seconds, report.duration)  # type: ignore[arg-type]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [(report, outcome) for outcome in OUTCOMES for report in terminalreporter.stats.get(outcome, [])]
    if rows := [row for report, outcome in reports if (row := row_of(report, outcome)) is not None]:
        terminalreporter.section("clients")
        for line in render(rows):
            terminalreporter.write_line(line)
