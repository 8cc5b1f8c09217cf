"""A new table goes to a few machines first: which tables do, and when the others follow or it is dropped."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, auto

from control.fleet.messages import Content, Have


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    hosts: tuple[str, ...] = ()
    wait_ms: int = 60_000
    rows: int = 100


class Verdict(Enum):
    WAIT = auto()
    PROMOTE = auto()
    DROP = auto()


@dataclass(frozen=True, slots=True)
class Watch:
    """One trial.  well: the canaries that have served it for the whole wait; fault: why it is to be dropped."""

    digest: bytes
    well: frozenset[str] = frozenset()
    fault: str = ""


def needs_trial(canary: Canary, stable: Content, content: Content, changed: int) -> bool:
    """changed: hosts in which it differs from stable."""
    return bool(canary.hosts) and (content.base != stable.base or changed > canary.rows)


def heard(watch: Watch, canary: Canary, hosts: tuple[str, ...], have: Have) -> Watch:
    """hosts: the canaries that the head names.

    Each counts by itself how long it has served this table and what happened since: neither a time in which nothing was
    heard of it, nor one in which it was down, is a time that the table stood."""
    if have.host not in hosts:
        return watch
    if have.bad == watch.digest:
        return replace(watch, fault=f"{have.host}: {have.refused}")
    if have.serves != watch.digest:
        return watch
    if have.restarts or have.abandoned:
        return replace(watch, fault=f"{have.host}: {have.restarts} restarts, {have.abandoned} ABANDONED")
    over = have.served_s * 1000 >= canary.wait_ms
    return replace(watch, well=watch.well | {have.host}) if over else watch


def verdict(watch: Watch, hosts: tuple[str, ...]) -> Verdict:
    if watch.fault:
        return Verdict.DROP
    return Verdict.PROMOTE if watch.well >= set(hosts) else Verdict.WAIT
