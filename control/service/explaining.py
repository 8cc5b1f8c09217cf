"""`ctl explain` inside the service: machines and packets, answered from the running table, with who said what.

The table is this process's own; which object gave an option only the planner can tell, and it is asked with a time
limit: without its word the explanation says so and stands.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from ext.classify import ClientClass
from ext.codec import links_of
from ext.table import Pair

from control.explain.command import DATAGRAM_BYTES_MAX, askers
from control.explain.explainer import Explainer, begin_of, strays_of
from control.explain.offline import Interface
from control.explain.pairing import pair
from control.mac import parse_mac
from control.messages.capture import Capture, Datagram
from control.messages.dissect import dissect
from control.plan.classes import Client
from control.planner.jobs import RefreshFailed
from control.planner.replies import Origins
from control.service.served_table import ServedTable

ORIGINS_LIMIT_S = 3.0
LEASES_MAX = 256  # in one question to the planner
DATAGRAMS_MAX = 256  # in one piece of a capture; the console's own limit is 64 KiB
FindOrigins = Callable[[list[tuple[int, int]], float], Awaitable[Origins]]


class Unexplainable(Exception):
    """One clear line for the client."""


async def explain(
    arguments: dict[str, Any],
    table: ServedTable,
    reason_of: Callable[[str], str | None],
    find_origins: FindOrigins | None,
) -> dict[str, Any]:
    """{"kind": "machine", "datagram" or "capture", "premises", ...} as of explain/command.py.  Raises Unexplainable.

    find_origins: None for who may only read, and does not make us ask the inventory.
    arguments: "mac"; or "datagram", the octets behind the UDP header; or "capture", rows of capture.Datagram."""
    pair = table.pair
    if pair is None:
        raise Unexplainable("there is no table yet: the inventory has not been read")
    kind, subject, macs = read_subject(arguments)
    origins, words = await origins_of(pair, macs, find_origins)
    links = [link for link in links_of(pair) if link[1] >> 24 != 127]
    # What a relay sends is taken to come in on the first: one that is served.
    places = [Interface(*place) for *place, _served in sorted(links, key=lambda link: not link[3])]

    def origin_of(mac: int, client: Client, address: int) -> dict[int, str]:
        """Only classes that may get something of their own are told of; another has what its wider one has."""
        classes = pair.base.classes
        number = classes.of(client if isinstance(client, str) else int(client))
        while number != ClientClass.OS and (mac, classes.said(number), address) not in origins.said:
            number = classes.parent(number)
        return origins.said.get((mac, classes.said(number), address), {})

    explainer = Explainer(pair, places, reason_of, origin_of)
    premises = [f"table: generation {table.generation}, as the workers have it", words]
    # Beside the loop: a table does not change, and a long capture would hold everybody else up.
    return {"kind": kind, "premises": premises} | await asyncio.to_thread(explained, explainer, kind, subject)


def explained(explainer: Explainer, kind: str, subject: Any) -> dict[str, Any]:
    if kind == "machine":
        return explainer.machine(subject)
    if kind == "datagram":
        return {"request": explainer.datagram(subject)}
    paired = pair(subject.datagrams)
    return {"requests": explainer.capture(subject, paired), "strays": strays_of(paired, begin_of(subject))}


def read_subject(arguments: dict[str, Any]) -> tuple[str, Any, list[int]]:
    """(kind, what Explainer takes, the machines in it)."""
    if "datagram" in arguments:
        payload = arguments["datagram"]
        if not isinstance(payload, bytes) or len(payload) > DATAGRAM_BYTES_MAX:
            raise Unexplainable(f"datagram: wanted at most {DATAGRAM_BYTES_MAX} octets")
        message = dissect(payload)
        return "datagram", payload, [int.from_bytes(message.chaddr[:6], "big")] if message is not None else []
    if "capture" in arguments:
        capture = Capture(read_datagrams(arguments["capture"]))
        return "capture", capture, askers(capture)
    mac = parse_mac(str(arguments.get("mac")))
    if mac is None:
        raise Unexplainable(
            f"{arguments.get('mac')!r} is no MAC address, wanted one such as 00:11:22:33:44:55, a capture or a datagram"
        )
    return "machine", mac, [mac]


def read_datagrams(rows: Any) -> list[Datagram]:
    if not isinstance(rows, list) or len(rows) > DATAGRAMS_MAX:
        raise Unexplainable(f"capture: wanted at most {DATAGRAMS_MAX} datagrams in one piece")
    for row in rows:
        match row:
            case [int(), int() | float(), *numbers, bytes()] if len(numbers) == 4:
                fits = all(isinstance(number, int) and 0 <= number < 1 << 32 for number in numbers)
            case _:
                fits = False
        if not fits:
            raise Unexplainable(f"capture: found {str(row)[:80]}, wanted {', '.join(Datagram._fields)}")
    return [Datagram(*row) for row in rows]


async def origins_of(pair: Pair, macs: list[int], find_origins: FindOrigins | None) -> tuple[Origins, str]:
    """What is known of who gave the options, and a line about that."""
    leases = [
        (mac, lease["address"])
        for mac in macs
        for role in (0, 1)
        for lease in (pair.lookup(mac, role) or {"leases": []})["leases"]
    ]
    nothing = Origins({})
    if not leases:
        return nothing, "who gave the options (<-): none of these machines is answered"
    if find_origins is None:
        return nothing, "who gave the options: not asked for, since that takes the right to change (control.allow_uids)"
    try:
        found = await find_origins(leases[:LEASES_MAX], ORIGINS_LIMIT_S)
    except RefreshFailed as failed:
        return nothing, f"who gave the options: not known now ({failed}); what follows is the table's word"
    rest = f", of the first {LEASES_MAX} addresses" if len(leases) > LEASES_MAX else ""
    return found, f"who gave the options (<-): as the inventory says at this moment{rest}"
