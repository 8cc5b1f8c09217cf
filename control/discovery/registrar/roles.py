"""From a MAC that was seen to one that counts: what a machine's own DHCP says it is, a host or a BMC, is recorded.

A MAC that stands somewhere is never replaced, so that two who disagree cannot make the inventory flip.  One request,
which anybody on the wire can forge, makes no BMC of a MAC, and nothing makes one of a NIC's own.
"""

from __future__ import annotations

from collections.abc import Collection

from control.discovery.registrar.inventory import NIC, Entity, Inventory, Row
from control.discovery.sighting import BMC, BOOT, HOST
from control.mac import same_mac

KEY = f"port-{NIC}"


def nic_of(server: Entity, mac: str, switch: str, port: int) -> int:
    """The NIC that a host's MAC belongs to: where it stands already, the one connected to where it was seen, or 1."""
    for number in server.numbers(KEY, "mac", mac):
        return number
    for number in server.numbers(KEY, "connection", switch) if switch else []:
        if server.one(KEY, "otherportnum", number) == port:
            return number
    connected = [row.number for row in server.rows if (row.key, row.subkey) == (KEY, "connection") and row.value]
    return connected[0] if not switch and len(connected) == 1 and connected[0] else 1


def record(
    inventory: Inventory, server: Entity, mac: str, roles: Collection[str], switch: str, port: int, *, bmc: bool = False
) -> tuple[list[str], list[str]]:
    """Writes `mac` or `ipmi-mac` where nothing stands yet.  What it wrote, and what it did not and why.

    bmc: more than one request, which anybody can forge, says that this is a BMC."""
    did: list[str] = []
    notes: list[str] = []
    wanted: list[tuple[str, int]] = []
    known_bmc = BMC in roles or bool(server.numbers(KEY, "ipmi-mac", mac))
    nics = nics_of(server, mac)
    if BMC in roles and not server.numbers(KEY, "ipmi-mac", mac):
        if nics:
            notes.append(
                f"{mac} asked as a BMC and is {server.name}'s {' and '.join(nics)}: not recorded as an ipmi-mac; "
                "a card that shares it is answered all the same once an address is bound to its port"
            )
        elif bmc:
            wanted.append(("ipmi-mac", 1))
        else:
            notes.append(
                f"{mac} asked as a BMC of {server.name}: recorded when it asks again an hour later, on a switch port "
                f"that the inventory has connected to that server, or by ctl adopt {mac}"
            )
    if BOOT in roles or (HOST in roles and not known_bmc):
        wanted.append(("mac", nic_of(server, mac, switch, port)))
    elif HOST in roles and not nics:
        notes.append(f"{mac} asked both as a BMC and as a host that does not boot: taken for the BMC's")
    for subkey, number in wanted:
        there = server.all(KEY, subkey, number)
        where = f"{server.name} {NIC} {number} {subkey}"
        if not there:
            row = Row(KEY, mac, subkey, number)
            inventory.set(server.path, [row])
            server.rows.append(row)
            did.append(f"{where} = {mac}")
        elif not any(same_mac(value, mac) for value in there):
            notes.append(f"{where} is {', '.join(map(str, there))} in the inventory, {mac} was seen: not changed")
    return did, notes


def nics_of(server: Entity, mac: str) -> list[str]:
    """The ports, of any kind, whose own MAC this is."""
    return [
        f"{row.key.removeprefix('port-')} {row.number}"
        for row in server.rows
        if row.key.startswith("port-") and row.subkey == "mac" and same_mac(row.value, mac)
    ]


def confirmed(server: Entity, mac: str) -> bool:
    return bool(server.numbers(KEY, "mac", mac) or server.numbers(KEY, "ipmi-mac", mac))
