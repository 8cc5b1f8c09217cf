"""What a PromQL expression asks of a scrape: series by name and labels, as far as that can be told without Prometheus.

No parser of the whole language: selectors, and the labels that by, on and without name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

SCRAPER = frozenset({"job", "instance"})  # labels that Prometheus adds
OWN = {"up"}  # series that it makes itself
WORDS = {"by", "on", "without", "group_left", "group_right", "unless", "and", "or", "bool", "ignoring", "offset"}
FUNCTIONS = {"sum", "count", "max", "min", "rate", "increase", "absent", "avg", "histogram_quantile"}
_SELECTOR = re.compile(r"\b([a-zA-Z_:][\w:]*)\s*(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'\s*(\w+)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"\s*(?:,|$)')
_GROUPING = re.compile(r"\b(?:by|on|without|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')

Labels = Mapping[str, str]


@dataclass(slots=True)
class Scraped:
    """series: name -> the label sets that it has."""

    series: dict[str, list[Labels]] = field(default_factory=dict)

    def add(self, name: str, labels: Labels) -> None:
        self.series.setdefault(name, []).append(labels)


def faults(expression: str, scraped: Scraped) -> list[str]:
    """Why an expression would find nothing: names, labels and values that no series of the scrape has."""
    found: list[str] = []
    plain = re.sub(r"\[[^\]]*\]", "", expression)  # ranges
    groupings = [label.strip() for part in _GROUPING.findall(plain) for label in part.split(",") if label.strip()]
    plain = _GROUPING.sub(lambda match: match[0].split("(")[0], plain)
    known = set(SCRAPER)
    asked = 0
    for name, matchers in selectors(plain):
        if name in WORDS or name in FUNCTIONS:
            continue
        asked += 1
        if name in OWN:
            continue
        if name not in scraped.series:
            found.append(f"no series {name}")
            continue
        known |= {label for labels in scraped.series[name] for label in labels}
        found += [f"{name}: {fault}" for fault in unmatched(matchers, scraped.series[name])]
    found += [f"no series here has the label {label}" for label in groupings if label not in known]
    return found if asked else [*found, "it asks for no series"]


def selectors(expression: str) -> Iterable[tuple[str, str]]:
    """(name, what stands in its braces).  Words in strings are none."""
    strings: list[str] = []

    def hide(match: re.Match[str]) -> str:
        strings.append(match[0])
        return f'"{len(strings) - 1}"'

    hidden = _STRING.sub(hide, expression)
    for match in _SELECTOR.finditer(hidden):
        braces = re.sub(r'"(\d+)"', lambda number: strings[int(number[1])], match[2] or "")
        yield match[1], braces


def unmatched(matchers: str, series: list[Labels]) -> list[str]:
    found, at = [], 0
    for match in _MATCHER.finditer(matchers):
        if match.start() != at:
            break
        at = match.end()
        label, operator, wanted = match.groups()
        if label in SCRAPER:
            continue
        values = {labels[label] for labels in series if label in labels}
        if not values:
            found.append(f"no label {label}")
        elif operator in ("=", "!="):
            found += [] if wanted in values else [f"{label} is never {wanted}"]
        else:  # each alternative has to be something
            parts = wanted.split("|") if not re.search(r"[(\[]", wanted) else [wanted]
            found += [f"{label} never fits {part}" for part in parts if not any(re.fullmatch(part, v) for v in values)]
    return found if at == len(matchers) else [*found, f"cannot be read: {{{matchers}}}"]
