"""Says at the end of a run how many tests of each layer ran, and what was skipped and why."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import settings

# Other tests run beside these, so that how long an example takes says nothing.
settings.register_profile("beside others", deadline=None)
settings.load_profile("beside others")

LAYERS = ("golden", "property", "sanitizer", "netns", "machines", "faults")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long layers last: a broken parser shows before a client waits for its answer.

    Those that wait are the first of all: nothing else would be left to do beside them."""

    def late(item: pytest.Item) -> list[bool]:
        return [item.get_closest_marker(layer) is not None for layer in reversed(LAYERS)] + [
            item.get_closest_marker("waits") is None
        ]

    items.sort(key=late)
    for item in items:  # of its marks: a folder of the name is a keyword, too
        layer = next((each for each in reversed(LAYERS) if item.get_closest_marker(each)), "unit")
        item.user_properties.append(("layer", layer))


def layer_of(report: pytest.TestReport | pytest.CollectReport) -> str:
    # A module that skips itself reports a collection, which has no properties.
    return next((str(value) for name, value in getattr(report, "user_properties", ()) if name == "layer"), "unit")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    ran: Counter[str] = Counter()
    skipped: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for outcome in ("passed", "failed", "xfailed", "xpassed"):
        ran.update(layer_of(report) for report in terminalreporter.stats.get(outcome, []))
    for report in terminalreporter.stats.get("skipped", []):
        skipped[layer_of(report)] += 1
        if isinstance(report.longrepr, tuple):
            reasons[str(report.longrepr[2]).removeprefix("Skipped: ")] += 1
    terminalreporter.section("layers")
    for layer in ("unit", *LAYERS):
        note = f", {skipped[layer]} skipped" if skipped[layer] else ""
        terminalreporter.write_line(f"{layer:10} {ran[layer]:5} ran{note}")
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"skipped {count}: {reason}")
