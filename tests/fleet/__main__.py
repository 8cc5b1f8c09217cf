"""`make sim`: schedules of the fleet under their seeds, then every planted fault, until each is found.

A schedule that breaks a rule is printed as its story, with as few troubles as still break it.  Exit 1 when one does, or
when a planted fault is not found within the runs.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from tests.fleet.planted import PLANTED, Planted
from tests.fleet.world import World, play, shrunk

AT_ONCE = 100  # schedules a task
STORIES_MAX = 3


def batch(first: int, last: int) -> tuple[int, int, list[tuple[int, str, str]], int, Counter[str]]:
    """(schedules, events, [(seed, rule, what)], longest time to settle, troubles of all) of seeds first to last - 1."""
    events, longest, broken, troubles = 0, 0, [], Counter[str]()
    gc.disable()  # nothing of a schedule outlives it for long: a fifth of the time
    for seed in range(first, last):
        world = World(seed)
        story = world.run()
        events += story.events
        longest = max(longest, story.settled_ms)
        troubles.update(trouble.name for trouble in world.troubles)
        if story.broken is not None:
            broken.append((seed, story.broken.rule, str(story.broken)))
    gc.enable()
    return last - first, events, broken, longest, troubles


def search(number: int, first: int, runs: int) -> tuple[int, int, str]:
    """(which planted fault, schedules until it was found or 0, what was broken)."""
    gc.disable()
    with PLANTED[number].planted():
        for seed in range(first, first + runs):
            story = play(seed)
            if story.broken is not None:
                return number, seed - first + 1, str(story.broken)
    return number, 0, ""


def clean(pool: ProcessPoolExecutor, first: int, runs: int) -> tuple[dict[str, Any], list[tuple[int, str, str]]]:
    began = time.monotonic()
    starts = range(first, first + runs, AT_ONCE)
    done = events = longest = 0
    broken: list[tuple[int, str, str]] = []
    troubles = Counter[str]()
    for count, of_batch, faults, settled, seen in pool.map(
        batch, starts, [min(start + AT_ONCE, first + runs) for start in starts]
    ):
        done, events, longest = done + count, events + of_batch, max(longest, settled)
        broken += faults
        troubles += seen
    took = time.monotonic() - began
    result = {
        "first": first, "schedules": done, "events": events, "seconds": round(took, 1), "broken": len(broken),
        "schedules_per_s": round(done / took, 1), "longest_to_settle_s": longest / 1000,
        "troubles": dict(sorted(troubles.items())),
    }  # fmt: skip
    return result, broken


def planted(pool: ProcessPoolExecutor, first: int, runs: int) -> Iterator[tuple[Planted, int, str]]:
    count = len(PLANTED)
    for number, found, what in pool.map(search, range(count), [first] * count, [runs] * count):
        yield PLANTED[number], found, what


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fleet", description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000, help="schedules, and at most so many for a planted fault")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="one schedule: its story")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", choices=("clean", "planted"))
    parser.add_argument("--json", type=Path, help="the result, to this file")
    asked = parser.parse_args()
    if asked.seed is not None:
        story = play(asked.seed, told=True)
        say("\n".join(story.lines))
        return 1 if story.broken else 0
    result: dict[str, Any] = {}
    bad = False
    with ProcessPoolExecutor(asked.jobs) as pool:
        if asked.only != "planted":
            result["clean"], broken = clean(pool, asked.first, asked.runs)
            say(json.dumps(result["clean"], indent=1))
            for seed, rule, what in broken[:STORIES_MAX]:
                story, without = shrunk(seed, rule)
                say(f"\nseed {seed}: {what}\nwithout troubles {sorted(without)}:\n" + "\n".join(story.lines))
            say("".join(f"seed {seed}: {what}\n" for seed, _rule, what in broken[STORIES_MAX:]))
            bad = bool(broken)
        if asked.only != "clean":
            result["planted"] = {}
            for fault, found, what in planted(pool, asked.first, asked.runs):
                result["planted"][fault.name] = {"schedules": found, "broken": what}
                say(f"{fault.name:50} {f'found after {found:6}' if found else 'NOT FOUND':20} {what}")
                bad = bad or not found
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=1) + "\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
