"""Messages: descriptors by name, large ones in a memfd; what is refused has its descriptors closed."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from fastpath.protocol import (
    MESSAGE_BYTES_MAX,
    Begin,
    Channel,
    Enclosed,
    Fds,
    Load,
    MessageRefused,
    Rejected,
    Settings,
    close_all,
    memfd,
)
from tests.fastpath.supervisor.world import open_fds


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    ours, theirs = Channel.pair()
    yield ours, theirs
    ours.close()
    theirs.close()


def test_descriptors_come_by_name_and_are_closed_on_exec(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = ends
    with memfd("one", b"1") as one, memfd("two", b"2") as two:
        ours.send(Load(generation=2, base=1), {"base": one, "delta": two})
    _message, fds = theirs.receive()
    assert os.pread(fds.one("delta"), 9, 0) == b"2" and fds.perhaps("page") == -1 and fds.all("page") == []
    assert not any(os.get_inheritable(fd) for fd in fds)
    base = fds.keep("base")
    assert base not in fds and len(fds) == 1
    close_all([base, *fds])
    with pytest.raises(MessageRefused, match="2 descriptors named pages"):
        Fds.of({"pages": [3, 4]}).one("pages")


def test_what_is_too_large_for_a_message_comes_all_the_same(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = ends
    before, reason = open_fds(), "x" * 3 * MESSAGE_BYTES_MAX
    with memfd("table", b"t") as fd:
        ours.send(Rejected(generation=1, reason=reason), {"base": fd})
    message, fds = theirs.receive()
    assert message.reason == reason and os.pread(fds.one("base"), 9, 0) == b"t"
    close_all(fds)
    assert open_fds() == before


@pytest.mark.parametrize("size", [0, -1, 1 << 40, 8])
def test_an_enclosed_message_that_is_none_is_refused(ends: tuple[Channel, Channel], size: int) -> None:
    ours, theirs = ends
    before = open_fds()
    with memfd("short", b"1234567") as fd:
        ours.send(Enclosed(size=size), [fd, fd])
    with pytest.raises(MessageRefused):
        theirs.receive()
    assert open_fds() == before


def test_who_does_not_take_enclosed_messages_refuses_them(ends: tuple[Channel, Channel]) -> None:
    """The supervisor: one of 64 MB by a worker that was taken over would cost it gigabytes."""
    ours, theirs = ends
    before = open_fds()
    theirs.takes_enclosed = False
    ours.send(Rejected(generation=1, reason="x" * 3 * MESSAGE_BYTES_MAX))
    with pytest.raises(MessageRefused, match="nobody may send here"):
        theirs.receive()
    assert open_fds() == before


def test_halves_of_surrogate_pairs_arrive_written_out(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = ends
    ours.send(Rejected(generation=1, reason="a\ud83d"))
    assert theirs.receive()[0].reason == "a\\ud83d"


def test_settings_within_a_message_are_settings(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = ends
    settings = Settings(config_path="c", workers=2, port=67, state_dir="s", console_path="p", brake_ns=(1, 2))
    ours.send(Begin(settings=settings))
    message, _fds = theirs.receive()
    assert message.settings.workers == 2 and list(message.settings.brake_ns) == [1, 2]


def test_a_descriptor_without_room_for_it_is_told_as_a_cut_message(ends: tuple[Channel, Channel]) -> None:
    """More than one message may carry: the kernel drops the rest and says so."""
    ours, theirs = ends
    before = open_fds()
    with memfd("many", b"") as fd:
        socket.send_fds(ours.sock, [b"\x93\xa5Ready\x80\x90"], [fd] * 250)
    with pytest.raises(MessageRefused, match="cut"):
        theirs.receive()
    assert open_fds() == before
