"""Growth curves: the sentence under a curve follows from its figures, and the curves' sites are what they say."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import growth
from bench.growth import Point, site
from bench.lab.lab import Lab
from bench.report.growth_words import why
from bench.report.picture import draw_growth
from bench.rig import load
from bench.rig.stage import invented


def places(*costs: float | None, noise: float = 0.01, disturbance: float = 0.0, **controls: list[float]) -> list[Point]:
    return [
        Point(
            x=i, label=f"p{i}", replies_s=1e5 / (i + 1), cpu_ns=cost, noise=noise, disturbance=disturbance,
            controls={name: values[i] for name, values in controls.items()},
        )
        for i, cost in enumerate(costs)
    ]  # fmt: skip


HOSTS = {"path": [100.0, 100.0, 190.0], "path_few_hosts": [100.0, 100.0, 105.0]}


@pytest.mark.parametrize(
    "axis, points, want",
    [
        pytest.param("hosts", places(8000, None, None), "fewer than two points", id="no-figures"),
        pytest.param("hosts", places(8000, 8010, 8100, **HOSTS), "more than noise explains here (240 ns)", id="flat"),
        pytest.param("hosts", places(8000, 8010, 9000, disturbance=0.5, **HOSTS), "here (2,000 ns)", id="disturbed"),
        pytest.param("hosts", places(8000, 8010, 8900, noise=0.2, **HOSTS), "noise explains here (1,600", id="noisy"),
        pytest.param("hosts", places(1000, 1010, 1100, **HOSTS), "between p1 and p2; the packet path", id="where"),
        pytest.param("hosts", places(1000, 1010, 1100, **HOSTS), "90 ns more, 90 % of that, and 5 ns", id="parts"),
        pytest.param("hosts", places(1000, 1010, 1100, **HOSTS), "rows that no cache holds", id="caches"),
        pytest.param(
            "hosts", places(1000, 1010, 1100, path=HOSTS["path"], path_few_hosts=HOSTS["path"]),
            "not the caches alone", id="not-caches",
        ),
        pytest.param("relays", places(1000, 1400, echo=[500, 850]), "mostly the kernel's part", id="kernel"),
        pytest.param("length", places(1000, 1400, echo=[500, 510]), "mostly ours", id="ours"),
        pytest.param("length", places(1000, 700, echo=[500, 510]), "300 ns less", id="less"),
        pytest.param("workers", places(1000, 1400, cores=[1, 1]), "all share one core here", id="one-core"),
        pytest.param("workers", places(1000, 1400, cores=[3, 3]), "on 3 cores p1 workers give 0.50 x", id="cores"),
        pytest.param("way", places(1000, 1400), "no control takes the two apart", id="way"),
    ],
)  # fmt: skip
def test_why(axis: str, points: list[Point], want: str) -> None:
    assert want in why(axis, points)


def test_every_axis_has_words_and_a_picture(tmp_path: Path) -> None:
    for axis in growth.AXES:
        assert why(axis, places(8000, 8001, echo=[1, 1]))
    panels = {name: places(8000, 9000, None, echo=[1, 2, 3]) for name in ("relays", "length")}
    assert "<svg" in draw_growth(panels, tmp_path / "growth.svg", "title").read_text()


@pytest.mark.netns
@pytest.mark.alone
@pytest.mark.skipif(Lab.available() is not None, reason=str(Lab.available()))
def test_a_site_with_many_relays_and_long_replies() -> None:
    """More relays than a wire may have neighbours without a router, and an option that makes replies long."""
    relays = 1000
    with site(relays, relays=relays, padding=650) as stage:
        found = load.start(stage.target, invented(relays, relays), 2000.0, 2 * relays, tail_s=10.0).wait()
        assert found.answered == found.offered == 2 * relays, found.lines()
        assert 900 < growth.reply_length(stage, relays) < 1100
