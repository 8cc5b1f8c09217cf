"""The house stays a house: few rooms, few arrows between them, none upwards, no circle; the picture shows what is."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.house import DRAWN, ENTRY, PICTURE, ROOT, SOURCES, circles, files_of, house, picture, said

# Rooms and arrows at most, __main__.py counted with the others; the folder's __init__.py is none.
LIMITS = {"control": (19, 65), "fastpath": (10, 20), "bench": (22, 90)}
FILES_MAX = 16  # in a folder, an __init__.py that only says what the room is left out
FLAT = ROOT / "ext"  # its .pxd files have an order of their own: tests/test_tidy.py
# From below: a room imports rooms of its own line and of those above it in this list.  `*`: all others.
ORDER = {
    "control": (
        "config mac service_client options messages clusto sources plan table explain importers fleet",  # subjects
        "planner discovery observer",  # processes
        "service",  # starts planner and registrars
        "board",  # what it may ask is the service's to say
        "cli",
        ENTRY,
    ),
    "fastpath": ("protocol process privileges sockets", "worker supervisor", "trial", ENTRY),
    "bench": ("lab", "engine", "report", "rig", "faults peers", "*", ENTRY),
}


@pytest.mark.parametrize("top", DRAWN)
def test_rooms_and_arrows(top: str) -> None:
    found = house(top)
    print(f"{top}: {said(found)}")
    rooms, arrows = LIMITS[top]
    assert len(found.rooms) <= rooms and len(found.arrows) <= arrows, said(found)


@pytest.mark.parametrize("top", DRAWN)
def test_no_circles(top: str) -> None:
    assert circles(house(top).arrows) == set()


@pytest.mark.parametrize("top", DRAWN)
def test_nothing_runs_up(top: str) -> None:
    found = house(top)
    line_of = {room: number for number, line in enumerate(ORDER[top]) for room in line.split()}
    rest = line_of.get("*")
    unknown = found.rooms.keys() - line_of.keys()
    assert rest is not None or not unknown, f"give them a line in ORDER: {unknown}"
    upward = [
        f"{top}/{start} imports {top}/{end}: {', '.join(sorted(path.name for path in paths))}"
        for (start, end), paths in found.arrows.items()
        if line_of.get(start, rest) < line_of.get(end, rest)  # type: ignore[operator]
    ]
    assert upward == []


def test_no_folder_has_too_many_files() -> None:
    files = [path for top in (*DRAWN, "tests") for path in files_of(ROOT / top)]
    sizes = Counter(path.parent for path in files if path.suffix in SOURCES and path.name != "__init__.py")
    print("most files:", ", ".join(f"{path.relative_to(ROOT)} {count}" for path, count in sizes.most_common(5)))
    assert {str(path.relative_to(ROOT)): count for path, count in sizes.items() if count > FILES_MAX} == {}


def test_a_room_s_own_file_has_words_only() -> None:
    """No __init__.py does anything; but clusto's client, which people import by that name."""
    client = ROOT / "control/clusto/client/__init__.py"
    files = [path for top in DRAWN for path in files_of(ROOT / top) if path.name == "__init__.py" and path != client]
    busy = [str(path.relative_to(ROOT)) for path in files if "import" in path.read_text().rpartition('"""')[2]]
    assert busy == [] and len(files) > 20


def test_the_picture_is_the_house() -> None:
    assert PICTURE.read_text(encoding="utf-8") == picture(), "the imports have changed: make house"
