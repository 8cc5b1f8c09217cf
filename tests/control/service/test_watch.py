"""control/service/watch.py: the file is followed whatever leads to it and however it is replaced; a half-written one is
not."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from control.service import watch
from control.service.watch import look, wait_for_change

SOON_S, NOT_S = 2.0, 0.2


def made(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def followed(path: Path, *steps: Callable[[], Any]) -> None:
    """Only the last step is a change."""

    async def run() -> None:
        waiting = asyncio.ensure_future(wait_for_change(path, asyncio.Event()))
        for step in steps:
            await asyncio.wait([waiting], timeout=NOT_S if step is not steps[0] else 0.05)
            assert not waiting.done(), "there was no change yet"
            step()
        await asyncio.wait_for(waiting, SOON_S)

    asyncio.run(run())


def swapped(link: Path, target: str) -> Callable[[], None]:
    def swap() -> None:
        aside = link.with_name("..tmp")
        os.symlink(target, aside)
        os.rename(aside, link)

    return swap


@pytest.fixture
def linked(tmp_path: Path) -> Path:
    """As Kubernetes lays out a ConfigMap."""
    made(tmp_path / "real1/h.csv", "one")
    made(tmp_path / "real2/h.csv", "second")
    (tmp_path / "conf").mkdir()
    os.symlink("../real1", tmp_path / "conf/..data")
    os.symlink("..data/h.csv", tmp_path / "conf/h.csv")
    return tmp_path / "conf/h.csv"


def test_a_file_that_is_written_or_renamed_over(tmp_path: Path) -> None:
    path = made(tmp_path / "conf/h.csv", "one")
    followed(path, lambda: path.write_text("two"))
    followed(path, lambda: made(tmp_path / "conf/other", "x"), lambda: os.rename(tmp_path / "conf/other", path))


def test_links(linked: Path, tmp_path: Path) -> None:
    followed(linked, lambda: (tmp_path / "real1/h.csv").write_text("written behind two links"))
    followed(linked, lambda: made(tmp_path / "real2/x", "x"), swapped(linked.parent / "..data", "../real2"))
    followed(linked, lambda: (tmp_path / "real2/h.csv").write_text("the new target is watched, too"))
    followed(linked, swapped(linked, str(tmp_path / "real1/h.csv")))


def test_a_link_to_the_folder(linked: Path, tmp_path: Path) -> None:
    os.symlink("conf", tmp_path / "etc")
    path = tmp_path / "etc/../etc/h.csv"
    made(tmp_path / "new/h.csv", "of another folder")
    followed(path, (tmp_path / "etc").unlink, lambda: os.symlink("new", tmp_path / "etc"))


def test_a_folder_that_is_replaced(tmp_path: Path) -> None:
    path = made(tmp_path / "above/conf/h.csv", "one")
    made(tmp_path / "new/h.csv", "second")
    followed(
        path,
        lambda: os.rename(path.parent, tmp_path / "old"),
        lambda: os.rename(tmp_path / "new", path.parent),
    )
    followed(path, lambda: path.write_text("and then the file in it"))
    made(tmp_path / "newer/conf/h.csv", "third one")
    followed(
        path,
        lambda: os.rename(tmp_path / "above", tmp_path / "older"),
        lambda: os.rename(tmp_path / "newer", tmp_path / "above"),
    )


def test_a_folder_that_is_made_anew_and_a_file_that_is_half_written(tmp_path: Path) -> None:
    """Nothing is read before the writer has closed it."""
    path = tmp_path / "above/conf/h.csv"
    files: list[Any] = []
    followed(
        path,
        path.parent.parent.mkdir,
        path.parent.mkdir,
        lambda: files.append(path.open("w")),
        lambda: files[0].write("a half") and files[0].flush(),
        lambda: files[0].close(),
    )


@pytest.mark.parametrize("without", ["inotify", "watches"])
def test_what_inotify_does_not_tell_is_seen_all_the_same(
    linked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, without: str
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(watch, "RECHECK_S", 0.02)
    monkeypatch.setattr(*((watch, "Inotify") if without == "inotify" else (watch.Inotify, "add_watch")), refuse)
    followed(linked, lambda: (tmp_path / "real1/h.csv").write_text("as on NFS"))
    with monkeypatch.context() as patch:
        patch.setattr(watch.asyncio, "to_thread", no_thread_at_first())
        followed(linked, lambda: (tmp_path / "real1/h.csv").unlink())
    assert "cannot watch" in caplog.text and "Too many open files; changes there are seen within" in caplog.text


def no_thread_at_first() -> Callable[..., Any]:
    refusals, to_thread = iter(range(3)), asyncio.to_thread

    async def start(*arguments: Any) -> Any:
        if next(refusals, None) is not None:
            raise RuntimeError("can't start new thread")
        return await to_thread(*arguments)

    return start


def test_links_without_end(tmp_path: Path) -> None:
    os.symlink("b", tmp_path / "a")
    os.symlink("a", tmp_path / "b")
    assert look(tmp_path / "a").state is None and len(look(tmp_path / "a").steps) < 60
    followed(tmp_path / "a", swapped(tmp_path / "b", str(made(tmp_path / "c", "x"))))
