"""control/service/watch.py: the file is followed whatever leads to it and however it is replaced; a half-written one is
not."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from control.service import watch
from control.service.watch import Watched, follow, look

SOON_S, NOT_S = 2.0, 0.2


def made(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def followed(path: Path, *steps: Callable[[], Any]) -> None:
    """Only the last step is a change."""

    async def run() -> None:
        with contextlib.closing(Watched(path)) as file:
            await file.begin()
            await changed(file, steps)

    async def changed(file: Watched, steps: tuple[Callable[[], Any], ...]) -> None:
        waiting = asyncio.ensure_future(file.change())
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
        patch.setattr(watch, "Thread", no_thread_at_first())
        followed(linked, lambda: (tmp_path / "real1/h.csv").unlink())
    assert "cannot watch" in caplog.text and "Too many open files; changes there are seen within" in caplog.text


def no_thread_at_first() -> Callable[..., Any]:
    refusals = iter(range(3))

    class Refused(threading.Thread):
        def start(self) -> None:
            if next(refusals, None) is not None:
                raise RuntimeError("can't start new thread")
            super().start()

    return Refused


class Hung:
    """In the place of look(): the file's server does not answer, until it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answers, self.asked, self.most, self.now = threading.Event(), 0, 0, 0
        self.guard = threading.Lock()
        monkeypatch.setattr(watch, "look", self.look)

    def look(self, path: Path) -> watch.Seen:
        with self.guard:
            self.asked, self.now = self.asked + 1, self.now + 1
            self.most = max(self.most, self.now)
        assert self.answers.wait(10.0)
        with self.guard:
            self.now -= 1
        return look(path)


async def soon(good: Callable[[], bool]) -> None:
    async with asyncio.timeout(SOON_S):
        while not good():
            await asyncio.sleep(0.005)


def test_a_file_system_that_does_not_answer_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control's loop goes on, and a configuration that names the file again, or another one, makes no more threads."""
    path, other = made(tmp_path / "conf/h.csv", "one"), made(tmp_path / "other/h.csv", "two")
    hung, told, wanted = Hung(monkeypatch), list[float](), [path]

    async def run() -> None:
        another = asyncio.Event()
        following = asyncio.ensure_future(follow(lambda: wanted[0], another, told.append))
        await soon(lambda: hung.asked == 1)
        for name in (path, other, path, other, path):
            wanted[0] = name
            another.set()
            await asyncio.sleep(0.02)
        assert hung.most == 2 and not told, "one for each of the two files"
        hung.answers.set()
        await soon(lambda: len(told) == 1)
        assert told[0] > 0, "who has read since then reads again"
        path.write_text("second")
        await soon(lambda: len(told) == 2)
        following.cancel()
        await asyncio.wait([following])

    asyncio.run(run())


def test_what_is_written_before_the_first_look_or_between_two_changes_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = made(tmp_path / "conf/h.csv", "one")
    hung = Hung(monkeypatch)

    async def run() -> None:
        with contextlib.closing(Watched(path)) as file:
            beginning = asyncio.ensure_future(file.begin())
            await soon(lambda: hung.asked == 1)
            hung.answers.set()
            await beginning
            path.write_text("two: nobody waits for a change yet")
            await asyncio.wait_for(file.change(), SOON_S)
            path.write_text("three, likewise")
            await asyncio.wait_for(file.change(), SOON_S)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(file.change(), NOT_S)

    asyncio.run(run())


def test_links_without_end(tmp_path: Path) -> None:
    os.symlink("b", tmp_path / "a")
    os.symlink("a", tmp_path / "b")
    assert look(tmp_path / "a").state is None and len(look(tmp_path / "a").steps) < 60
    followed(tmp_path / "a", swapped(tmp_path / "b", str(made(tmp_path / "c", "x"))))
