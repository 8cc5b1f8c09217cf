"""Every planted fault has its place in the sources of today, and names a test that is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.faults.faults import FAULTS
from tests.planted.faults import EVERY, PLANTED, Moved, Planted, Spot

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: planted.name)
def test_it_has_its_place(planted: Planted) -> None:
    if planted.wants and not (ROOT / planted.wants).exists():
        pytest.skip(f"{planted.wants} is not there yet")
    spot = planted.spot(ROOT)
    assert spot.old != spot.new
    assert (spot.path.endswith((".pyx", ".pxd")) and bool(planted.modules)) or spot.path.endswith(".py")


@pytest.mark.parametrize("planted", [p for p in PLANTED if not p.soak], ids=lambda planted: planted.name)
def test_its_test_is_there(planted: Planted) -> None:
    file, _, name = planted.test.partition("::")
    if not name:
        assert (ROOT / file).exists() or not (ROOT / planted.wants).exists()
        return
    function, _, parameter = name.partition("[")
    assert f"def {function}(" in (ROOT / file).read_text()
    if planted.test.startswith(EVERY):
        assert parameter.rstrip("]") in {fault.name for fault in FAULTS}


def test_a_place_that_moved_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\nx = 1\n")
    planted = Planted("nothing", (Spot("a.py", "x = 1\n", "x = 2\n"), Spot("b.py", "y", "z")), "t", "s")
    with pytest.raises(Moved, match=r"nothing: no place for it any more, looked for a\.py: 'x = 1'; b\.py"):
        planted.spot(tmp_path)
