"""The house as its imports draw it: rooms, arrows between them, circles, sizes, and the picture docs/house.svg.

A room is a file or a folder directly in a top folder; an arrow is one room that imports another of the same top folder,
by however many files.  Imports within functions count like all others.  `make house` draws the picture anew.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise
from pathlib import Path
from textwrap import wrap

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs/house.svg"
DRAWN = ("control", "fastpath", "bench")  # ext/ is flat, and its order is told by tests/test_tidy.py
TOPS = (*DRAWN, "ext")
SOURCES = (".py", ".pyx", ".pxd", ".c")
_CIMPORT = re.compile(r"\s*from\s+([\w.]+)\s+c?import\s+(.+)|\s*c?import\s+([\w.]+)")
Arrow = tuple[str, str]  # a room, and one that it imports


@dataclass(slots=True)
class House:
    """One top folder.  rooms: name -> its files; arrows: with the files that import so; beyond: what its rooms import
    of other top folders, by folder and room."""

    name: str
    rooms: dict[str, list[Path]] = field(default_factory=dict)
    arrows: dict[Arrow, set[Path]] = field(default_factory=dict)
    beyond: set[str] = field(default_factory=set)


def files_of(folder: Path) -> list[Path]:
    """Sources below it."""
    return sorted(path for path in folder.rglob("*") if path.suffix in SOURCES and "__pycache__" not in path.parts)


def module_of(path: Path) -> str:
    """`control.plan.compile` of control/plan/compile.py; a folder's own name of its __init__.py."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def python_imports(path: Path) -> Iterator[str]:
    """Modules, or names in modules: `from a import b` gives a.b."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def cython_imports(path: Path) -> Iterator[str]:
    for line in path.read_text(encoding="utf-8").splitlines():
        if found := _CIMPORT.match(line):
            names = found[2].strip("() ").split(",") if found[2] else []
            yield from (f"{found[1]}.{name.split()[0]}" for name in names if name.split())
            if found[3]:
                yield found[3]


def imports_of(path: Path) -> Iterator[str]:
    if path.suffix == ".py":
        yield from python_imports(path)
    elif path.suffix in (".pyx", ".pxd"):
        yield from cython_imports(path)


def room_of(name: str) -> str:
    """The second word: a folder or a file of the top folder; empty for the top folder itself."""
    return f"{name}..".split(".")[1]


def house(top: str) -> House:
    """The top folder's own __init__.py is no room: nobody imports it for anything."""
    found = House(top)
    for path in files_of(ROOT / top):
        if not (room := room_of(module_of(path))):
            continue
        found.rooms.setdefault(room, []).append(path)
        for name in imports_of(path):
            head, target = name.partition(".")[0], room_of(name)
            if head == top and target not in ("", room):
                found.arrows.setdefault((room, target), set()).add(path)
            elif head in TOPS and head != top:
                found.beyond.add("ext" if head == "ext" else f"{head}.{target}")
    return found


def reach(arrows: Iterable[Arrow]) -> dict[str, set[str]]:
    """Room -> all that it imports, over others too."""
    arrows = list(arrows)
    found: dict[str, set[str]] = {room: set() for arrow in arrows for room in arrow}
    for start, end in arrows:
        found[start].add(end)
    for middle in found:
        for room in found:
            if middle in found[room]:
                found[room] |= found[middle]
    return found


def circles(arrows: Iterable[Arrow]) -> set[tuple[str, ...]]:
    """Rooms that import each other, by whatever way."""
    seen = reach(arrows)
    return {tuple(sorted(b for b in seen[a] if a in seen[b])) for a in seen if a in seen[a]}


def direct(arrows: Iterable[Arrow]) -> list[Arrow]:
    """Without those that a chain of others says already; of rooms without circles."""
    seen = reach(arrows)
    return sorted((a, b) for a, b in arrows if not any(b in seen[c] for d, c in arrows if d == a and c != b))


def words_of(found: House, room: str) -> str:
    """What a room says that it is: the first sentence of its file or of its __init__.py, without the command's name."""
    folder = ROOT / found.name / room
    text = (folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")).read_text(encoding="utf-8")
    said = " ".join((ast.get_docstring(ast.parse(text)) or "").split("\n\n")[0].split())
    sentence = re.split(r"(?<!\.)\.(?: |$)", said)[0]
    return re.sub(r"^(`[^`]*`(,| and)? ?)+: ", "", sentence).replace("`", "")


def words_in_lines(found: House, room: str) -> list[str]:
    return wrap(words_of(found, room), WORDS_WIDTH, max_lines=WORDS_LINES, placeholder=" ...")


# --- the picture -----------------------------------------------------------------------------------------------------

BOX, GAP, LINE = 206, 26, 13  # pixels: a room's width, between two, a line of text
HEAD, FOOT = 22, 8  # above and below a room's words
WORDS_LINES, WORDS_WIDTH = 3, 31  # characters
SPACE = 64  # between two layers, for the arrows
WAY = 18  # the width that an arrow takes where it passes a layer
MARGIN = 20
WIDEST = 6  # rooms beside each other
ENTRY = "__main__"  # the words of the command line: it imports whatever they name, and nobody imports it
PROCESSES = {
    "control": {"service", "planner", "observer", "discovery", "cli"},
    "fastpath": {"supervisor", "worker"},
    "bench": set[str](),
}
STYLE = """\
text { font: 11px sans-serif; fill: #222 } .name { font-weight: bold; font-size: 13px } .top { font-size: 17px;
font-weight: bold } .small { fill: #555 } rect { fill: #f3f3ee; stroke: #999 } .process { fill: #dcebf7;
stroke: #38729c } .entry { fill: #fff; stroke-dasharray: 4 3 } path { fill: none; stroke: #667; stroke-width: 1.1 }
"""


@dataclass(slots=True, eq=False)
class Spot:
    """A room, or the place where an arrow passes a layer."""

    room: str
    layer: int
    width: int
    x: float = 0.0
    above: list[Spot] = field(default_factory=list)
    below: list[Spot] = field(default_factory=list)

    @property
    def middle(self) -> float:
        return self.x + self.width / 2


def layers_of(rooms: Iterable[str], arrows: list[Arrow]) -> dict[str, int]:
    """0 for the lowest: each room stands above all that it imports, as low as there is room for it."""
    found: dict[str, int] = {}
    left = sorted(rooms)
    while left:
        ready = [room for room in left if all(b in found for a, b in arrows if a == room)]
        for room in ready:
            layer = max((found[b] + 1 for a, b in arrows if a == room), default=0)
            while sum(other == layer for other in found.values()) >= WIDEST:
                layer += 1
            found[room] = layer
            left.remove(room)
    return found


def spots_of(rooms: Iterable[str], arrows: list[Arrow]) -> tuple[list[list[Spot]], list[list[Spot]]]:
    """The layers, and each arrow's way through them from above."""
    levels = layers_of(rooms, arrows)
    layers: list[list[Spot]] = [[] for _ in range(max(levels.values()) + 1)]
    by_room = {room: Spot(room, level, BOX) for room, level in sorted(levels.items())}
    for spot in by_room.values():
        layers[spot.layer].append(spot)
    ways = []
    for start, end in arrows:
        way = [by_room[start]]
        for level in range(levels[start] - 1, levels[end], -1):
            way.append(Spot("", level, WAY))
            layers[level].append(way[-1])
        way.append(by_room[end])
        for one, other in pairwise(way):
            one.below.append(other)
            other.above.append(one)
        ways.append(way)
    return layers, ways


def put_in_line(layer: list[Spot], wanted: dict[int, float]) -> None:
    """In their order, each as near as possible to where it wants to be, and none upon another."""
    at = float("-inf")
    for spot in layer:  # from the left: not before the one before
        at = spot.x = max(wanted[id(spot)] - spot.width / 2, at)
        at += spot.width + GAP
    at = float("inf")
    for spot in reversed(layer):  # from the right: half of the way back
        latest = at - spot.width - GAP
        home = wanted[id(spot)] - spot.width / 2
        spot.x = min(max(home, (spot.x + home) / 2), latest)
        at = spot.x
    for one, other in pairwise(layer):
        other.x = max(other.x, one.x + one.width + GAP)


def arrange(layers: list[list[Spot]], start: int) -> None:
    """The order within each layer by the middle of the neighbours, down and up again some times."""
    for layer in layers:
        at = 0.0
        for spot in layer:
            spot.x = at
            at += spot.width + GAP
    for turn in range(24):
        down = turn % 2 == 0
        for layer in reversed(layers) if down else layers:
            wanted = {}
            for spot in layer:
                beside = spot.above if down else spot.below
                wanted[id(spot)] = sum(other.middle for other in beside) / len(beside) if beside else spot.middle
            layer.sort(key=lambda spot: (round(wanted[id(spot)], 3), spot.room))
            put_in_line(layer, wanted)
    left = min(spot.x for layer in layers for spot in layer)
    for layer in layers:
        for spot in layer:
            spot.x += start - left


def panel(found: House, left: int, top: int) -> tuple[list[str], int, int]:
    """(SVG elements of a top folder, where it ends to the right and below)."""
    arrows = direct(found.arrows)
    layers, ways = spots_of(found.rooms, arrows)
    arrange(layers, left)
    lines = {room: words_in_lines(found, room) for room in found.rooms}
    highs = [
        HEAD + FOOT + LINE * max((len(lines[spot.room]) for spot in layer if spot.room), default=0) for layer in layers
    ]
    tops, at = [0] * len(layers), top + 66
    for level in range(len(layers) - 1, -1, -1):
        tops[level] = at
        at += highs[level] + SPACE
    made = [
        f'<text class="top" x="{left}" y="{top + 24}">{found.name}/</text>',
        f'<text class="small" x="{left}" y="{top + 42}">{escape(said(found))}</text>',
    ]
    for way in ways:
        points = []
        for spot in way:
            if spot is not way[0]:
                points.append((place(spot, way), tops[spot.layer]))
            if spot is not way[-1]:
                points.append((place(spot, way), tops[spot.layer] + highs[spot.layer]))
        made.append(curve(points))
    for layer in layers:
        for spot in layer:
            if spot.room:
                made += box(found, spot, tops[spot.layer], highs[spot.layer], lines[spot.room])
    right = max(spot.x + spot.width for layer in layers for spot in layer)
    return made, int(right), at - SPACE


def place(spot: Spot, way: list[Spot]) -> float:
    """Where an arrow leaves or meets a room: spread over its width, in the order of where they come from or go to."""
    if not spot.room:
        return spot.middle
    beside = sorted(spot.below if spot is way[0] else spot.above, key=lambda other: other.middle)
    neighbour = way[1] if spot is way[0] else way[-2]
    return spot.x + spot.width * (beside.index(neighbour) + 1) / (len(beside) + 1)


def curve(points: list[tuple[float, int]]) -> str:
    """Down through pairs of points: bent between layers, straight within one."""
    (x, y), *rest = points
    way = [f"M{x:.0f} {y}"]
    for number, (next_x, next_y) in enumerate(rest):
        if number % 2:
            way.append(f"L{next_x:.0f} {next_y}")
        else:
            half = (y + next_y) // 2
            way.append(f"C{x:.0f} {half} {next_x:.0f} {half} {next_x:.0f} {next_y}")
        x, y = next_x, next_y
    return f'<path marker-end="url(#end)" d="{" ".join(way)}"/>'


def box(found: House, spot: Spot, top: int, high: int, lines: list[str]) -> list[str]:
    kind = "entry" if spot.room == ENTRY else "process" if spot.room in PROCESSES[found.name] else "subject"
    folder = (ROOT / found.name / spot.room).is_dir()
    name = spot.room + ("/" if folder else ".py")
    made = [
        f'<rect class="{kind}" x="{spot.x:.0f}" y="{top}" width="{spot.width}" height="{high}" rx="4"/>',
        f'<text class="name" x="{spot.x + 8:.0f}" y="{top + 16}">{name}</text>',
    ]
    made += [
        f'<text x="{spot.x + 8:.0f}" y="{top + HEAD + LINE * number + 9}">{escape(line)}</text>'
        for number, line in enumerate(lines)
    ]
    return made


def said(found: House) -> str:
    count = f"{len(found.rooms)} rooms, {len(found.arrows)} arrows"
    return f"{count}; of other folders it imports {', '.join(sorted(found.beyond)) or 'nothing'}"


def picture() -> str:
    """control and fastpath side by side, bench below."""
    first, right, lowest = panel(house("control"), MARGIN, 40)
    second, widest, low = panel(house("fastpath"), right + 60, 40)
    third, right, at = panel(house("bench"), MARGIN, max(lowest, low) + 40)
    widest, at = max(widest, right) + MARGIN, at + MARGIN
    caption = (
        "Rooms and who imports whom, drawn from the imports by make house. An arrow that a chain of others says "
        "already is counted but not drawn. Blue: processes; dashed: the words of a command line; the rest: subjects."
    )
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {widest} {at}" width="{widest}" height="{at}">',
        f"<style>{STYLE}</style>",
        '<marker id="end" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0L8 4L0 8z" style="fill:#667;stroke:none"/></marker>',
        f'<rect x="0" y="0" width="{widest}" height="{at}" style="fill:#fff;stroke:none"/>',
        f'<text class="small" x="{MARGIN}" y="26">{escape(caption)}</text>',
        *first,
        *second,
        *third,
        "</svg>\n",
    ])  # fmt: skip


def main() -> None:
    PICTURE.write_text(picture(), encoding="utf-8")
    for name in DRAWN:
        sys.stdout.write(f"{name}: {said(house(name))}\n")


if __name__ == "__main__":
    main()
