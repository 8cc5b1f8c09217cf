"""A head as it stands in the store: signed bytes, and whether they count here."""

from __future__ import annotations

from dataclasses import dataclass

from control.fleet.canary import Canary
from control.fleet.messages import HEAD_BYTES_MAX, Head, Mark, Order, decode, encode
from control.fleet.signing import AROUND_BYTES, Keys, Signer, opened, sealed
from control.fleet.wire import Reason, Refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What a machine of the fleet is told once.  keys: of leaders; operators: whose orders count; layout: of tables
    that this build reads; version: of this build, for who looks at it."""

    host: str
    shard: str
    signer: Signer
    keys: Keys
    operators: Keys
    layout: int
    canary: Canary
    version: str = ""


def read_head(site: Site, raw: bytes) -> Head:
    """Raises Refused."""
    head = decode(Head, opened(raw, site.keys, HEAD_BYTES_MAX))
    if head.shard != site.shard:
        raise Refused(Reason.OTHER_SHARD, f"{head.shard}, this machine is of {site.shard}")
    return head


def judged(site: Site, raw: bytes, newest: Mark, newest_raw: bytes) -> Head:
    """The head, if a responder that has accepted `newest` may accept this one.  Raises Refused.

    One that is BEHIND came from a replica that lags, or is replayed: what is served stays."""
    head = read_head(site, raw)
    if head.mark < newest:
        raise Refused(Reason.BEHIND, f"{tuple(head.mark)}, {tuple(newest)} was accepted here")
    if head.mark == newest and raw != newest_raw:
        raise Refused(Reason.FORKED, f"another head of {tuple(newest)} was accepted here")
    return head


def sealed_head(site: Site, head: Head) -> bytes:
    return sealed(encode(head), site.signer)


def read_order(site: Site, raw: bytes) -> Order:
    """Raises Refused."""
    order = decode(Order, opened(raw, site.operators, 512 + AROUND_BYTES))
    if order.shard != site.shard:
        raise Refused(Reason.OTHER_SHARD, f"{order.shard}, this machine is of {site.shard}")
    return order
