"""pytest plugin (`-p tests.netns.under_load.faulttable`): prints at the end of a run what every fault cost
(bench/faults/trial.py)."""

from __future__ import annotations

import json

import pytest

from bench.faults.trial import Row, render

ROW = "fault-row"


def property_of(row: Row) -> tuple[str, str]:
    """For `record_property`, which carries it from the test to the end of the run, over processes too."""
    told = row.record()
    del told["good"]
    return ROW, json.dumps(told)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [report for outcome in ("passed", "failed") for report in terminalreporter.stats.get(outcome, [])]
    told = [value for report in reports for name, value in report.user_properties if name == ROW]
    if rows := [Row(**json.loads(str(value))) for value in told]:
        terminalreporter.section("faults")
        for line in render(sorted(rows, key=lambda row: (row.fault != "calm", row.fault))):
            terminalreporter.write_line(line)
