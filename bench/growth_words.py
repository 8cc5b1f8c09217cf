"""Why a curve of bench/growth.py bends, in a sentence: the server's growth beside its control's, both measured."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol

from bench.record import DISTURBED, DISTURBED_FLOOR, FLOOR


class Place(Protocol):
    """A point of a curve, as bench/growth.py has it."""

    @property
    def label(self) -> str: ...
    @property
    def replies_s(self) -> float: ...
    @property
    def cpu_ns(self) -> float | None: ...
    @property
    def disturbance(self) -> float: ...
    @property
    def controls(self) -> dict[str, float | None]: ...


def why(axis: str, points: Sequence[Place]) -> str:
    """axis: a name of growth.AXES.  Growth within the bound of noise is said to be none."""
    known = [each for each in points if each.cpu_ns is not None]
    if len(known) < 2:
        return "fewer than two points have a figure"
    first, last = known[0], known[-1]
    grown = _grown(first.cpu_ns, last.cpu_ns)
    assert grown is not None
    said = f"from {first.label} to {last.label} a reply costs {_signed(grown)} ns"
    bound = noise(known) * (first.cpu_ns or 0.0)
    if abs(grown) <= bound:
        return f"{said}: no more than noise explains here ({bound:,.0f} ns), so no bend"
    said += f", most of it {_step(known)}"
    return f"{said}; {_CAUSES[axis](first, last, grown)}"


def noise(points: Sequence[Place]) -> float:
    """Share of a figure that two runs differ by, more on a disturbed machine."""
    busy = any(each.disturbance > DISTURBED for each in points)
    return (DISTURBED_FLOOR if busy else FLOOR) / 100


def _grown(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else after - before


def _signed(value: float) -> str:
    return f"{abs(value):,.0f} {'more' if value >= 0 else 'less'}"


def _step(points: Sequence[Place]) -> str:
    """Between which two neighbours it changes most."""
    steps = [
        (abs(after.cpu_ns - before.cpu_ns), before.label, after.label)
        for before, after in pairwise(points)
        if before.cpu_ns is not None and after.cpu_ns is not None
    ]
    _size, before, after = max(steps)
    return f"between {before} and {after}"


def _share(part: float | None, whole: float) -> str:
    return "no figure" if part is None else f"{part:,.0f} ns ({100 * part / whole:.0f} %)"


def _hosts(first: Place, last: Place, grown: float) -> str:
    path = _grown(first.controls["path"], last.controls["path"])
    few = _grown(first.controls["path_few_hosts"], last.controls["path_few_hosts"])
    said = f"the packet path without I/O grows by {_share(path, grown)} of that"
    if path is None or few is None:
        return said
    if path > 0 and few < path / 2:
        return (
            f"{said}, and by {few:,.0f} ns when only 1,000 of the same table's hosts ask: rows that the "
            "caches do not hold, not more steps to find them"
        )
    return (
        f"{said}, and by {few:,.0f} ns when the same table is asked for 1,000 of its hosts only: not the caches alone"
    )


def _workers(first: Place, last: Place, _grown_ns: float) -> str:
    cores = int(first.controls["cores"] or 1)
    speed = last.replies_s / first.replies_s if first.replies_s else 0.0
    if cores == 1:
        return (
            f"all share one core here, so this is what sharing costs ({speed:.2f} x the replies), not what more bring"
        )
    return f"on {cores} cores {last.label} workers give {speed:.2f} x the replies of one"


def _like_the_echo(first: Place, last: Place, grown: float) -> str:
    echo = _grown(first.controls["echo"], last.controls["echo"])
    said = f"the echo, which thinks nothing, grows by {_share(echo, grown)} of that"
    if echo is None:
        return said
    return f"{said}: " + ("the kernel's part" if echo >= grown / 2 else "ours, not the kernel's")


def _way(first: Place, last: Place, _grown_ns: float) -> str:
    return (
        f"{last.label} requests come as broadcasts and their replies leave by the packet socket with a checksum of "
        f"ours, {first.label} ones by the routed UDP socket"
    )


_CAUSES = {"hosts": _hosts, "workers": _workers, "relays": _like_the_echo, "way": _way, "length": _like_the_echo}
