"""Bytes to checked values: msgpack with bounds, and a named refusal for everything that is not as it should be."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any, Final

import msgpack

Check = Callable[[Any], Any]  # what a field was sent as -> its value; raises Refused
TEXT_BYTES_MAX: Final = 255
COUNT_MAX: Final = (1 << 53) - 1


class Reason(StrEnum):
    """Why something is refused, in logs, `have` and metrics."""

    TOO_LONG = "too-long"
    NOT_MSGPACK = "not-msgpack"
    NOT_A_RECORD = "not-a-record"
    UNKNOWN_VERSION = "unknown-version"
    OTHER_KIND = "other-kind"
    MISSING_FIELD = "missing-field"
    WRONG_FIELD = "wrong-field"
    UNKNOWN_KEY = "unknown-key"
    WRONG_SIGNATURE = "wrong-signature"
    OTHER_SHARD = "other-shard"
    OTHER_HOST = "other-host"  # said for another than the engine lets its sender speak for
    BEHIND = "behind"  # a head before the newest that was accepted
    FORKED = "forked"  # another head in the same place
    OTHER_LAYOUT = "other-layout"  # a table of another build
    BLOB_MISSING = "blob-missing"
    BLOB_WRONG = "blob-wrong"  # not the bytes that the head names
    TABLE_WRONG = "table-wrong"  # not the rows that the head names, or damaged
    GUARDED = "guarded"  # max_shrink and its like
    OLD_ORDER = "old-order"  # of another head than the present one
    NO_TARGET = "no-target"  # an order for a table that is not there


class Refused(ValueError):
    """What came is not used.  what: the field, and what was found and wanted."""

    def __init__(self, reason: Reason, what: str = "") -> None:
        super().__init__(f"{reason}: {what}" if what else str(reason))
        self.reason = reason


def packed(value: object) -> bytes:
    return bytes(msgpack.packb(value))


def unpacked(raw: bytes, most: int) -> Any:
    """One msgpack value of at most that many bytes.  Raises Refused."""
    if len(raw) > most:
        raise Refused(Reason.TOO_LONG, f"{len(raw)} bytes, at most {most} are read")
    try:
        return msgpack.unpackb(raw, raw=False, strict_map_key=True, max_ext_len=0)
    except ValueError as fault:
        raise Refused(Reason.NOT_MSGPACK, str(fault)[:TEXT_BYTES_MAX]) from fault


def wrong(found: object, wanted: str) -> Refused:
    return Refused(Reason.WRONG_FIELD, f"{repr(found)[:40]}, wanted {wanted}")


def whole(most: int = COUNT_MAX, least: int = 0) -> Check:
    def check(value: Any) -> int:
        if type(value) is not int or not least <= value <= most:
            raise wrong(value, f"a whole number from {least} to {most}")
        return value

    return check


def flag(value: Any) -> bool:
    if type(value) is not bool:
        raise wrong(value, "true or false")
    return value


def text(most: int = TEXT_BYTES_MAX, least: int = 0) -> Check:
    """Printable: it goes into logs and onto terminals."""

    def check(value: Any) -> str:
        if type(value) is not str or not least <= len(value.encode()) <= most or not value.isprintable():
            raise wrong(value, f"{least} to {most} bytes of printable text")
        return value

    return check


def octets(most: int, least: int = 0) -> Check:
    def check(value: Any) -> bytes:
        if type(value) is not bytes or not least <= len(value) <= most:
            raise wrong(value, f"{least} to {most} octets")
        return value

    return check


def maybe(check: Check) -> Check:
    return lambda value: None if value is None else check(value)


def several(check: Check, most: int) -> Check:
    def check_all(value: Any) -> tuple[Any, ...]:
        if type(value) is not list or len(value) > most:
            raise wrong(value, f"a list of at most {most}")
        return tuple([check(each) for each in value])

    return check_all


def fixed(make: Callable[..., Any], *checks: Check) -> Check:
    """A tuple with a meaning for each place.  More places than are known here are a later build's, and ignored."""

    def check_places(value: Any) -> Any:
        if type(value) is not list or not len(checks) <= len(value) <= 2 * len(checks):
            raise wrong(value, f"a list of {len(checks)}")
        return make(*[check(each) for check, each in zip(checks, value, strict=False)])

    return check_places
