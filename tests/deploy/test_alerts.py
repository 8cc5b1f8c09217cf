"""deploy/prometheus: alerts that can fire, at what a server really says; with promtool, that they do and do not."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from tests.deploy.expressions import faults
from tests.deploy.support import ALERTS, ROOT, TESTS, alerts, promtool, read_scrape

RULES = alerts()
GROUPS: list[dict[str, Any]] = yaml.safe_load(TESTS.read_text(encoding="utf-8"))["tests"]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_every_expression_finds_its_series_in_a_scrape(rule: dict[str, Any], scrape: str) -> None:
    assert faults(rule["expr"], read_scrape(scrape)) == []


def test_the_expressions_of_the_old_table_find_nothing(scrape: str) -> None:
    """They stood in the documentation for long."""
    scraped = read_scrape(scrape)
    assert "no series refresh_interval" in faults("bootstorm_table_age_seconds > 3 * refresh_interval", scraped)
    assert faults('rate(bootstorm_verdicts_total{verdict="IGNORED_TOO_LATE"}[1m]) > 0', scraped)


def test_every_alert_says_whom_it_wakes_and_what_is_wrong() -> None:
    assert len({rule["alert"] for rule in RULES}) == len(RULES) > 20
    for rule in RULES:
        assert rule["labels"]["severity"] in ("page", "ticket"), rule
        assert list(rule["annotations"]) == ["summary"] and len(rule["annotations"]["summary"]) < 100, rule


def test_every_alert_is_explained() -> None:
    text = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    found = re.search(r"<!-- alerts:begin -->\n(.*?)<!-- alerts:end -->", text, re.DOTALL)
    assert found is not None
    rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in found[1].splitlines()[2:]]
    assert {row[0].strip("`"): row[1] for row in rows} == {r["alert"]: r["labels"]["severity"] for r in RULES}
    assert all(len(row) == 4 and row[3] for row in rows), "each says what to do"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_every_alert_has_a_test_that_fires_and_one_that_does_not(rule: dict[str, Any]) -> None:
    name = rule["alert"]
    looks = [(group, look) for group in GROUPS for look in group["alert_rule_test"] if look["alertname"] == name]
    assert {bool(look["exp_alerts"]) for _group, look in looks} == {True, False}
    for group, look in looks:
        instances = {
            found for series in group["input_series"] for found in re.findall('instance="(.)', series["series"])
        }
        assert {"a", "b"} <= instances, f"{group['name']}: one server alone"
        for expected in look["exp_alerts"]:
            assert expected["exp_labels"]["severity"] == rule["labels"]["severity"]
            assert expected["exp_labels"].get("instance", "a:67") == "a:67", "b stays short of it"


def test_the_series_of_the_tests_are_those_of_a_scrape(scrape: str) -> None:
    """Or the tests would prove something about alerts that nobody will ever see."""
    scraped = read_scrape(scrape)
    wrong = []
    for group in GROUPS:
        for series in group["input_series"]:
            selector = re.sub(r'(worker|digest|shard)="[^"]*"', r'\1=~".+"', series["series"])
            wrong += faults(selector, scraped)
    assert wrong == []


# --- with promtool ---------------------------------------------------------------------------------------------------


def test_promtool_finds_nothing_to_say_about_the_metrics(scrape: str) -> None:
    assert promtool("check", "metrics", given=scrape).strip() == ""


def test_promtool_takes_the_rules() -> None:
    assert f"{len(RULES)} rules found" in promtool("check", "rules", str(ALERTS))


def test_promtool_runs_the_tests_of_the_rules() -> None:
    assert "SUCCESS" in promtool("test", "rules", str(TESTS))
