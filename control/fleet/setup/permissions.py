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


def _journal(shard: str) -> str:
    return f"fleet-{shard}-journal"


def _makes(*streams: str) -> tuple[str, ...]:
    api = "$JS.API.STREAM"
    return tuple(f"{api}.{verb}.{stream}" for stream in streams for verb in ("INFO", "CREATE"))


def _speaks(shard: str, name: str) -> tuple[str, tuple[str, ...]]:
    said = f"fleet.{shard}.have.{name}", f"fleet.{shard}.seen.{name}", f"fleet.{shard}.ask", f"fleet.{shard}.order"
    return (
        "in its own name: what it serves, whom it saw and wants looked up; questions to the leader; orders, which "
        "count by their signature", said,
    )  # fmt: skip


def leader(shard: str, name: str) -> Role:
    """A machine that may lead."""
    keys, blobs = _streams(shard)
    journal = _journal(shard)
    return Role(
        publish=(
            _speaks(shard, name),
            ("to lead: that there is a new head, and answers to those who ask",
             (f"fleet.{shard}.announce", f"fleet.{shard}.inbox.>")),
            ("to lead: lease, head, tables and discovery's journal, each a message of a stream",
             (f"$KV.fleet-{shard}.lease", f"$KV.fleet-{shard}.head", f"fleet.{shard}.blob.>",
              f"fleet.{shard}.journal.>")),
            ("to read them", (*_reads(shard, "$JS.API"), f"$JS.API.STREAM.MSG.GET.{journal}")),
            ("to make streams that are missing, and to take out tables that no head names and machines that are "
             "registered; never to change or delete a stream",
             (*_makes(keys, blobs, journal), f"$JS.API.STREAM.PURGE.{blobs}", f"$JS.API.STREAM.PURGE.{journal}")),
        ),
        subscribe=(
            ("new heads, and what is said to it alone",
             (f"fleet.{shard}.announce", f"fleet.{shard}.inbox.{name}.>")),
            ("to lead: what the others have, see, ask and order",
             (f"fleet.{shard}.have.>", f"fleet.{shard}.seen.>", f"fleet.{shard}.ask", f"fleet.{shard}.order")),
        ),
    )  # fmt: skip


def follower(shard: str, name: str) -> Role:
    """A machine that never leads: it writes nothing, and cannot speak or hear as another."""
    return Role(
        publish=(_speaks(shard, name), ("to read lease, head and tables", _reads(shard, "$JS.API"))),
        subscribe=(
            ("new heads, and what is said to it alone",
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
            ("to make the mirrors where they are missing", _makes(*_streams(shard))),
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
            ("what its machines have, see, ask and order",
             (f"fleet.{shard}.have.>", f"fleet.{shard}.seen.>", f"fleet.{shard}.ask", f"fleet.{shard}.order")),
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
