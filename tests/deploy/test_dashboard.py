"""deploy/grafana: the dashboard is what its list of panels makes, and every expression finds its series in a scrape."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.borrowed import loaded
from tests.deploy.expressions import faults
from tests.deploy.support import ROOT, promtool, read_scrape

SCRIPT = ROOT / "deploy/grafana/make_dashboard.py"


made = loaded(SCRIPT)
DASHBOARD: dict[str, Any] = made.dashboard()
EXPRESSIONS = [(panel["title"], target["expr"]) for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]


def test_the_file_is_what_the_list_makes() -> None:
    assert made.FILE.read_text(encoding="utf-8") == made.text(), f"write it anew: python3 {SCRIPT.relative_to(ROOT)}"


@pytest.mark.parametrize("title, expression", EXPRESSIONS)
def test_every_expression_finds_its_series_in_a_scrape(title: str, expression: str, scrape: str) -> None:
    assert faults(expression, read_scrape(scrape)) == [], title
    assert 'instance=~"$instance"' in expression, "the choice of servers counts"


def test_every_legend_has_its_labels(scrape: str) -> None:
    """{{verdict}} of an expression that has no verdict is an empty name."""
    scraped = read_scrape(scrape)
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            labels = [part.split("}}")[0] for part in target["legendFormat"].split("{{")[1:]]
            assert labels, panel["title"]
            assert faults(f"sum by ({', '.join(labels)}) ({target['expr']})", scraped) == [], panel["title"]


def test_the_page_has_room_for_all_and_each_its_own() -> None:
    seen: set[tuple[int, int]] = set()
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids) and json.loads(json.dumps(DASHBOARD)) == DASHBOARD
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"])
                 for y in range(place["y"], place["y"] + place["h"])}  # fmt: skip
        assert not cells & seen, panel["title"]
        seen |= cells


def test_promtool_takes_every_expression() -> None:
    """As rules, since promtool reads expressions in no other way offline; Grafana's variables are given a value."""
    lines = ["groups:", "  - name: dashboard", "    rules:"]
    for number, (_title, expression) in enumerate(EXPRESSIONS):
        plain = expression.replace("$__rate_interval", "1m").replace("$instance", ".*")
        lines += [f"      - record: panel:{number}", f"        expr: {json.dumps(plain)}"]
    said = promtool("check", "rules", "/dev/stdin", given="\n".join(lines) + "\n")
    assert f"{len(EXPRESSIONS)} rules found" in said
