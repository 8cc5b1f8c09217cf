"""The files of deploy/ as data, and promtool where it is installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.deploy.expressions import Scraped

ROOT = Path(__file__).resolve().parents[2]
PROMETHEUS = ROOT / "deploy/prometheus"
ALERTS, TESTS = PROMETHEUS / "alerts.yml", PROMETHEUS / "tests.yml"


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def read_scrape(text: str) -> Scraped:
    scraped = Scraped()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            scraped.add(sample.name, sample.labels)
    return scraped


def promtool(*arguments: str, given: str = "") -> str:
    """What it says; fails the test where it ends with a fault, and skips it where it is not installed."""
    tool = shutil.which("promtool")
    if tool is None:
        pytest.skip("promtool is not installed (package prometheus); the Python checks of the same files have run")
    ran = subprocess.run([tool, *arguments], input=given, capture_output=True, text=True, timeout=120)
    said = ran.stdout + ran.stderr
    assert ran.returncode == 0, said
    return said
