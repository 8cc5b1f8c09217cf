"""Why a curve of bench/growth.py bends, in a sentence: the server's growth beside its control's, both measured."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol

from bench.report.record import DISTURBED, DISTURBED_FLOOR, FLOOR


class Place(Protocol):
    """A point of a curve, as bench/growth.py has it."""

    @property
    def label(self) -> str: ...
    @property
    def replies_s(self) -> float: ...
    @property
    def cpu_ns(self) -> float | None: ...
    @property
    def noise(self) -> float: ...
    @property
    def disturbance(self) -> float: ...
    @property
    def controls(self) -> dict[str, float | None]: ...


def why(axis: str, points: Sequence[Place]) -> str:
    """axis: a name of growth.AXES.  Growth within the bound of noise is said to be none."""
    known = [(each, each.cpu_ns) for each in points if each.cpu_ns is not None]
    if len(known) < 2:
        return "fewer than two points have a figure"
    (first, before), (last, after) = known[0], known[-1]
    said = f"from {first.label} to {last.label} a reply costs {_signed(after - before)}"
    bound = noise([each for each, _ in known]) * before
    if abs(after - before) <= bound:
        return f"{said}: no more than noise explains here ({bound:,.0f} ns), so no bend"
    _size, left, right = max((abs(b - a), one.label, other.label) for (one, a), (other, b) in pairwise(known))
    return f"{said}, most of it between {left} and {right}; {_CAUSES[axis](first, last, after - before)}"


def noise(points: Sequence[Place]) -> float:
    """Share of a figure that two runs differ by: seen in the runs themselves, and more on a disturbed machine."""
    busy = any(each.disturbance > DISTURBED for each in points)
    return max((DISTURBED_FLOOR if busy else FLOOR) / 100, *(each.noise for each in points))


def _grown(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else after - before


def _signed(value: float) -> str:
    return f"{abs(value):,.0f} ns {'more' if value >= 0 else 'less'}"


def _beside(what: str, part: float | None, whole: float) -> str:
    """The control's growth beside the server's."""
    if part is None:
        return f"{what} has no figure"
    share = f", {100 * part / whole:.0f} % of that" if part * whole > 0 else ""
    return f"{what} costs {_signed(part)}{share}"


def _hosts(first: Place, last: Place, grown: float) -> str:
    path = _grown(first.controls["path"], last.controls["path"])
    few = _grown(first.controls["path_few_hosts"], last.controls["path_few_hosts"])
    said = _beside("the packet path without I/O", path, grown)
    if path is None or few is None:
        return said
    said += f", and {_signed(few)} when only 1,000 of the same table's hosts ask: "
    return said + ("rows that no cache holds" if few < path / 2 else "not the caches alone")


def _workers(first: Place, last: Place, _grown_ns: float) -> str:
    cores = int(first.controls["cores"] or 1)
    known = first.replies_s and last.replies_s
    speed = f"{last.replies_s / first.replies_s:.2f} x" if known else "nobody knows how many of"
    if cores == 1:
        return f"all share one core here: this is what sharing costs ({speed} the replies), not what more bring"
    return f"on {cores} cores {last.label} workers give {speed} the replies of one"


def _like_the_echo(first: Place, last: Place, grown: float) -> str:
    echo = _grown(first.controls["echo"], last.controls["echo"])
    said = _beside("the echo, which thinks nothing,", echo, grown)
    if echo is None:
        return said
    return f"{said}: " + ("mostly the kernel's part" if echo / grown >= 0.5 else "mostly ours, not the kernel's")


def _way(first: Place, last: Place, _grown_ns: float) -> str:
    return (
        f"{last.label} requests are broadcasts and their replies leave by a packet socket, {first.label} ones go by "
        "UDP both ways; no control takes the two apart"
    )


_CAUSES = {"hosts": _hosts, "workers": _workers, "relays": _like_the_echo, "way": _way, "length": _like_the_echo}
