"""deploy/nats as control/fleet/setup/engines.py has it, with example names.  After a change there:

python -m tests.control.fleet.setup.examples
"""

from __future__ import annotations

from control.fleet.setup import engines
from control.fleet.setup.engines import ACCOUNTS, CONF, Plan
from tests.house import ROOT

FOLDER = ROOT / "deploy/nats"
NODES = tuple(f"nats{number}.example.org" for number in (1, 2, 3))
THREE = Plan(shard="main", leaders=("dhcp1", "dhcp2"), followers=("dhcp3",), engine="three", servers=NODES)
LEAF = Plan(
    shard="main", leaders=("dhcp1", "dhcp2"), followers=("dhcp3", "dhcp4"), engine="hub-leaf",
    servers=("hub.example.org", "leaf.example.org"),
)  # fmt: skip
PLACES = {"three-nodes": (THREE, NODES[0]), "hub": (LEAF, LEAF.servers[0]), "leaf": (LEAF, LEAF.servers[1])}


def keys_of(plan: Plan) -> dict[str, str]:
    """From the environment of nats-server: a file that was copied as it is lets nobody in."""
    return {name: f"${name.upper()}" for name in (*plan.leaders, *plan.followers)}


def files() -> dict[str, str]:
    """Path below deploy/nats -> text."""
    found = {}
    for place, (plan, server) in PLACES.items():
        found[f"{place}/{CONF}"] = engines.configuration(plan, server, "$HUB")
        found[f"{place}/{ACCOUNTS}"] = engines.accounts(plan, server, keys_of(plan), "$LEAF")
    return found


if __name__ == "__main__":
    for name, text in files().items():
        path = FOLDER / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
