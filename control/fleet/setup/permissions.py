"""What each user of the engine may say and hear, by subject, and why: the accounts of deploy/nats and of `fleet init`.

Each is a list of (why, subjects); subjects are as NATS writes them.
"""

from __future__ import annotations

from typing import Final, NamedTuple

HUB: Final = "hub"  # its JetStream domain

Allowed = tuple[tuple[str, tuple[str, ...]], ...]


class Role(NamedTuple):
    publish: Allowed
    subscribe: Allowed


def _streams(shard: str) -> tuple[str, str]:
    return f"KV_fleet-{shard}", f"fleet-{shard}-blobs"


def _reads(shard: str, api: str) -> tuple[str, ...]:
    keys, blobs = _streams(shard)
    return f"{api}.STREAM.MSG.GET.{keys}", f"{api}.DIRECT.GET.{keys}.>", f"{api}.DIRECT.GET.{blobs}.>"


def _makes(shard: str) -> tuple[str, ...]:
    api = "$JS.API.STREAM"
    return tuple(f"{api}.{verb}.{stream}" for stream in _streams(shard) for verb in ("INFO", "CREATE"))


def _speaks(shard: str, name: str) -> tuple[str, tuple[str, ...]]:
    subjects = (f"fleet.{shard}.have.{name}", f"fleet.{shard}.ask", f"fleet.{shard}.order")
    return "what it serves, in its own name; questions to the leader; orders, which count by their signature", subjects


def leader(shard: str, name: str) -> Role:
    """A machine that may lead."""
    _keys, blobs = _streams(shard)
    return Role(
        publish=(
            _speaks(shard, name),
            ("to lead: that there is a new head, and answers to those who ask",
             (f"fleet.{shard}.announce", f"fleet.{shard}.inbox.>")),
            ("to lead: lease, head and tables, each a message of a stream",
             (f"$KV.fleet-{shard}.lease", f"$KV.fleet-{shard}.head", f"fleet.{shard}.blob.>")),
            ("to read them", _reads(shard, "$JS.API")),
            ("to make streams that are missing, and to take tables out that no head names; never to change or delete "
             "a stream", (*_makes(shard), f"$JS.API.STREAM.PURGE.{blobs}")),
        ),
        subscribe=(
            ("new heads, and the answers to its own questions",
             (f"fleet.{shard}.announce", f"fleet.{shard}.inbox.{name}.>")),
            ("to lead: what the others have, ask and order",
             (f"fleet.{shard}.have.>", f"fleet.{shard}.ask", f"fleet.{shard}.order")),
        ),
    )  # fmt: skip


def follower(shard: str, name: str) -> Role:
    """A machine that never leads: it writes nothing, and cannot speak or hear as another."""
    return Role(
        publish=(_speaks(shard, name), ("to read lease, head and tables", _reads(shard, "$JS.API"))),
        subscribe=(
            ("new heads, and the answers to its own questions",
             (f"fleet.{shard}.announce", f"fleet.{shard}.inbox.{name}.>")),
        ),
    )  # fmt: skip


def behind_a_leaf(shard: str, name: str) -> Role:
    """A follower whose engine is a leaf node that mirrors the hub's streams."""
    near = follower(shard, name)
    return near._replace(
        publish=(
            *near.publish,
            ("at the hub: the lease, and what the mirror has not got yet", _reads(shard, f"$JS.{HUB}.API")),
            ("to make the mirrors where they are missing", _makes(shard)),
        )
    )


def leaf_node(shard: str) -> Role:
    """The leaf node itself, as the hub knows it: no more than its machines need, and the streams that it mirrors."""
    keys, blobs = _streams(shard)
    api = f"$JS.{HUB}.API"
    consumers = tuple(
        subject
        for stream in (keys, blobs)
        for subject in (f"{api}.CONSUMER.CREATE.{stream}", f"{api}.CONSUMER.CREATE.{stream}.>")
    )
    return Role(
        publish=(
            ("what its machines say, ask and order",
             (f"fleet.{shard}.have.>", f"fleet.{shard}.ask", f"fleet.{shard}.order")),
            ("what they read at the hub", _reads(shard, api)),
            ("its mirrors: a consumer for each stream, and the answers to its flow control",
             (*consumers, "$JS.FC.>")),
        ),
        subscribe=(
            ("new heads, and answers to its machines", (f"fleet.{shard}.announce", f"fleet.{shard}.inbox.>")),
            ("its mirrors: what the hub sends them, and the answers to the making of their consumers",
             (f"fleet.{shard}.mirror.>", "$JSC.R.>")),
        ),
    )  # fmt: skip
