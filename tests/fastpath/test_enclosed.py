"""fastpath/protocol.py: messages that are larger than a datagram travel in a memfd, and nobody notices."""

from __future__ import annotations

import os
from collections.abc import Iterator

import msgpack
import pytest

from fastpath import protocol
from fastpath.protocol import MESSAGE_BYTES_MAX, Channel, Enclosed, MessageRefused, Rejected, UnknownKind, memfd, pack


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    ours, theirs = Channel.pair()
    yield ours, theirs
    ours.close()
    theirs.close()


def open_fds() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("size", [0, MESSAGE_BYTES_MAX - 200, MESSAGE_BYTES_MAX, 20 * MESSAGE_BYTES_MAX])
def test_a_message_of_any_size_arrives_with_its_fds(ends: tuple[Channel, Channel], size: int) -> None:
    ours, theirs = ends
    message = Rejected(generation=1, reason="x" * size)
    before = open_fds()
    with memfd("test", b"content") as fd:
        ours.send(message, [fd])
    got, fds = theirs.receive()
    assert got == message
    assert [os.pread(fd, 100, 0) for fd in fds] == [b"content"]
    for fd in fds:
        os.close(fd)
    assert open_fds() == before


def test_there_is_a_limit(ends: tuple[Channel, Channel], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "ENCLOSED_BYTES_MAX", 100_000)
    with pytest.raises(ValueError, match="a message has at most 100000"):
        ends[0].send(Rejected(generation=1, reason="x" * 100_000))


@pytest.mark.parametrize("said", [0, -1, 11, 1 << 40])
def test_a_size_that_is_not_there_is_refused(ends: tuple[Channel, Channel], said: int) -> None:
    ours, theirs = ends
    before = open_fds()
    with memfd("test", b"0123456789") as fd:
        ours.send(Enclosed(size=said), [fd])
    with pytest.raises(MessageRefused, match="an enclosed message of"):
        theirs.receive()
    assert open_fds() == before


def test_an_enclosed_message_within_another_is_none(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = ends
    with memfd("test", pack(Enclosed(size=5))) as fd:
        ours.send(Enclosed(size=len(pack(Enclosed(size=5)))), [fd])
    with pytest.raises(UnknownKind):
        theirs.receive()


def test_halves_of_surrogate_pairs_are_written_out(ends: tuple[Channel, Channel]) -> None:
    """JSON of an inventory may have them: {"name": "\\ud800"}."""
    ours, theirs = ends
    ours.send(Rejected(generation=1, reason="a\ud800b"))
    assert theirs.receive()[0].reason == "a\\ud800b"
    assert msgpack.packb("a") == b"\xa1a"
