"""Pictures of the benches (SVG or PNG, by the file's ending): latency over time, searches, funnels, comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.report.growth_words import Place
from bench.report.outcome import Result
from bench.report.record import DISTURBED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 9.0, 5.0
BLUE, ORANGE, GREEN, RED, GREY = "#1f6feb", "#d9730d", "#2da44e", "#cf222e", "#8c959f"
COLORS = (BLUE, ORANGE, GREEN, RED, GREY, "#8250df", "#bf3989", "#1b7c83")
MARKS_NAMED = 40  # more names than that hide the curve


class NoPictures(RuntimeError):
    """matplotlib is not there."""


def _figure(rows: int = 1, columns: int = 1, *, shared: bool = True) -> tuple[Figure, Any]:
    try:
        import matplotlib
    except ImportError as error:
        raise NoPictures("pictures need matplotlib: pip install 'bootstorm[bench]'") from error
    matplotlib.use("Agg")  # no window, no display
    matplotlib.rcParams["svg.hashsalt"] = "bootstorm"  # the same figures give the same bytes
    from matplotlib import pyplot

    size = (max(WIDTH, 3.0 * columns), HEIGHT)
    return pyplot.subplots(rows, columns, figsize=size, sharex=shared and rows > 1, layout="constrained")


def _save(figure: Figure, path: Path) -> Path:
    from matplotlib import pyplot

    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)
    return path


def _plain(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def draw_load(result: Result, path: Path, title: str) -> Path:
    """Requests and replies over time above, the worst latency of each moment below."""
    figure, (above, below) = _figure(2)
    times = [at for at, *_ in result.timeline]
    width = times[1] - times[0] if len(times) > 1 else 1.0
    above.step(times, [row[1] / width for row in result.timeline], where="post", color=GREY, label="offered/s")
    above.step(times, [row[2] / width for row in result.timeline], where="post", color=BLUE, label="answered/s")
    above.set_title(title)
    above.legend()
    _plain(above, "", "a second")
    worst = [(at, 1000 * row_worst) for at, _sent, answered, _late, row_worst in result.timeline if answered]
    below.plot([at for at, _ in worst], [value for _, value in worst], color=ORANGE, linewidth=1)
    below.axhline(1000 * result.limit_s, color=RED, linewidth=0.8, linestyle="--")
    below.set_yscale("log")
    _plain(below, "seconds", "worst latency, ms")
    return _save(figure, path)


def draw_search(trials: Mapping[str, Sequence[Result]], path: Path, title: str) -> Path:
    """Offered against answered, a curve for each of the servers (name -> what was tried)."""
    figure, axes = _figure()
    most = 0.0
    for color, (name, results) in zip((BLUE, GREEN, ORANGE, RED), trials.items(), strict=False):
        points = sorted((trial.offered_rate, trial.answered_rate) for trial in results)
        most = max([most, *(x for x, _ in points)])
        axes.plot([x for x, _ in points], [y for _, y in points], marker="o", color=color, label=name)
    axes.plot([0, most], [0, most], color=GREY, linewidth=0.8, linestyle="--")
    axes.set_title(title)
    axes.legend()
    _plain(axes, "requests offered a second", "replies a second")
    return _save(figure, path)


def draw_funnel(funnel: dict[str, list[tuple[float, int]]], hosts: int, path: Path, title: str) -> Path:
    """How many hosts had got how far, over time: a curve a step (name -> (seconds, hosts so far))."""
    figure, axes = _figure()
    from matplotlib import colormaps

    shades = colormaps["viridis"]
    for i, (name, points) in enumerate(funnel.items()):
        color = shades(0.9 * i / max(1, len(funnel) - 1))
        axes.step([at for at, _ in points], [count for _, count in points], where="post", color=color, label=name)
    axes.axhline(hosts, color=GREY, linewidth=0.8, linestyle="--")
    axes.set_title(title)
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))
    _plain(axes, "seconds after power-on", "hosts")
    return _save(figure, path)


def draw_overload(
    moments: Sequence[tuple[float, float]], width_s: float, capacity: float, path: Path, title: str
) -> Path:
    """Requests and replies in time a second over time; the capacity dashed."""
    figure, axes = _figure()
    times = [i * width_s for i in range(len(moments))]
    axes.step(times, [offered for offered, _ in moments], where="post", color=GREY, label="offered/s")
    axes.step(times, [good for _, good in moments], where="post", color=BLUE, label="answered in time/s")
    axes.axhline(capacity, color=RED, linewidth=0.8, linestyle="--", label="capacity")
    axes.set_ylim(bottom=0)
    axes.set_title(title)
    axes.legend()
    _plain(axes, "seconds", "a second")
    return _save(figure, path)


def draw_core(points: Sequence[tuple[int, float, float]], path: Path, title: str) -> Path:
    """Hosts against ns a packet, least and median."""
    figure, axes = _figure()
    axes.plot([hosts for hosts, *_ in points], [least for _, least, _ in points], marker="o", color=BLUE, label="least")
    axes.plot([hosts for hosts, *_ in points], [mid for *_, mid in points], marker="o", color=GREY, label="median")
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_title(title)
    axes.legend()
    _plain(axes, "hosts in the table", "ns a packet")
    return _save(figure, path)


def draw_bars(rows: Sequence[tuple[str, float, float]], path: Path, title: str) -> Path:
    """Replies a second of each server (name, replies/s, share of disturbance); disturbed ones are pale."""
    figure, axes = _figure()
    colors = [BLUE if name == "bootstorm" else GREY if "echo" in name else GREEN for name, *_ in rows]
    drawn = axes.barh([name for name, *_ in rows], [replies for _, replies, _ in rows], color=colors)
    for bar, (_, _, disturbance) in zip(drawn, rows, strict=True):
        bar.set_alpha(1.0 if disturbance <= DISTURBED else 0.5)
    axes.bar_label(drawn, [f"{replies:,.0f}" for _, replies, _ in rows], padding=4)
    axes.margins(x=0.12)
    axes.invert_yaxis()
    axes.set_title(title + (" (pale: disturbed)" if any(share > DISTURBED for *_, share in rows) else ""))
    _plain(axes, "replies a second", "")
    return _save(figure, path)


def draw_soak(
    waits: Sequence[tuple[float, int, int, int]],
    marks: Sequence[tuple[float, str]],
    memory: Sequence[tuple[float, str, float]],
    path: Path,
    title: str,
) -> Path:
    """Of each stretch (s, sent, answered, longest wait in ns); faults (s, name); memory (s, kind of process, MB)."""
    figure, (above, middle, below) = _figure(3)
    times = [row[0] for row in waits]
    width = times[1] - times[0] if len(times) > 1 else 1.0
    above.plot(times, [row[1] / width for row in waits], color=GREY, linewidth=0.8, label="asked/s")
    above.plot(times, [row[2] / width for row in waits], color=BLUE, linewidth=0.8, label="answered/s")
    above.set_ylim(bottom=0)
    above.legend(fontsize="small")
    above.set_title(title)
    _plain(above, "", "a second")
    middle.plot(times, [max(row[3], 1) / 1e6 for row in waits], color=ORANGE, linewidth=0.8)
    for at, name in marks if len(marks) <= MARKS_NAMED else ():
        middle.annotate(name, (at, 1), rotation=90, fontsize=4, va="bottom")
    for at, _name in marks:
        middle.axvline(at, color=GREY, linewidth=0.2)
    middle.set_yscale("log")
    _plain(middle, "", "longest wait, ms")
    for color, kind in zip(COLORS, sorted({kind for _at, kind, _mb in memory}), strict=False):
        points = [(at, mb) for at, its, mb in memory if its == kind]
        below.plot([at for at, _ in points], [mb for _, mb in points], ".", markersize=2, color=color, label=kind)
    below.set_ylim(bottom=0)
    below.legend(fontsize="x-small", ncols=4)
    _plain(below, "seconds", "its own memory, MB")
    return _save(figure, path)


def draw_growth(panels: Mapping[str, Sequence[Place]], path: Path, title: str) -> Path:
    """A column an axis (its name -> its points): replies a second above, ns a reply below; the controls dashed."""
    figure, grid = _figure(2, len(panels), shared=False)
    for column, (name, points) in enumerate(panels.items()):
        above, below = (row if len(panels) == 1 else row[column] for row in grid)
        labels = [each.label for each in points]
        above.plot(labels, [each.replies_s for each in points], marker="o", color=BLUE)
        below.plot(labels, [each.cpu_ns or float("nan") for each in points], marker="o", color=BLUE, label="bootstorm")
        for color, control in zip((GREY, ORANGE, GREEN), ("echo", "path", "few_hosts"), strict=True):
            if any(each.controls.get(control) for each in points):
                values = [each.controls.get(control) or float("nan") for each in points]
                below.plot(labels, values, marker=".", linestyle="--", color=color, label=control.replace("_", " "))
        for axes, y in ((above, "replies a second"), (below, "CPU ns a reply")):
            axes.set_ylim(bottom=0)
            axes.tick_params(axis="x", labelrotation=30)
            _plain(axes, name if axes is below else "", y if column == 0 else "")
        below.legend(fontsize="small")
    figure.suptitle(title)
    return _save(figure, path)


def draw_comparison(rows: Sequence[tuple[str, float, float]], path: Path, title: str) -> Path:
    """Change of each figure in percent with its noise bound (name, change, noise)."""
    figure, axes = _figure()
    names = [name for name, *_ in rows]
    axes.barh(names, [change for _, change, _ in rows], xerr=[noise for *_, noise in rows], color=BLUE, capsize=3)
    axes.axvline(0, color=GREY, linewidth=0.8)
    axes.set_title(title)
    axes.invert_yaxis()
    _plain(axes, "change in %, with the bound of noise", "")
    return _save(figure, path)
