"""Whatever JSON stands in an inventory's records: each is a row, a fault by name or a lost part, never the end."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

from ext.builder import Builder, Surroundings
from ext.table import Generation
from hypothesis import example, given, settings
from hypothesis import strategies as st

from control.config.config import Dhcp
from control.plan.compile import Compiler, Filler
from control.plan.plan import plan_hosts
from control.sources.bulk import scan_members
from control.sources.model import Batch, Inventory, InventoryMalformed, PartLost, Thing, parse_show
from tests.control.inventories import Site

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([1 << 64, -(1 << 80), 2147483648, -2147483648, 0xFFFFFFFF])
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["10.1.0.9", "00:11:22:33:44:77", "/resourcemanager/net", "/pool/boot", "/x", "1", "\ud800"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from(["ip", "dhcp", "port-nic-eth", "hostname", "baseip"]) | SCALARS
SUBKEYS = st.sampled_from(
    [None, "mac", "ipmi-mac", "ipstring", "manager", "osportname", "property", "enabled", "proxy", "domain",
     "tftp_filename", "bootfile_url", "tftp_filename--ipxe", "lease_time", "66", "82", "no such", "pxelinux-magic"]
) | SCALARS  # fmt: skip
ROWS = st.fixed_dictionaries(
    {"key": KEYS, "subkey": SUBKEYS, "number": st.sampled_from([None, 0, 1]) | VALUES, "value": VALUES,
     "datatype": st.sampled_from(["int", "string", "relation"]) | VALUES}
)  # fmt: skip
SOUND = [
    {"key": "port-nic-eth", "subkey": "mac", "number": 1, "value": "00:11:22:33:44:66", "datatype": "string"},
    {"key": "ip", "subkey": "ipstring", "number": 0, "value": "10.1.0.66", "datatype": "string"},
    {"key": "ip", "subkey": "manager", "number": 0, "value": "/resourcemanager/net", "datatype": "relation"},
]
DEEP: Any = 1
for _ in range(200):
    DEEP = [DEEP]


def site() -> Inventory:
    made = Site()
    made.pool("boot", enabled=1)
    made.host("odd", pools=["boot"], mac=(), dhcp={})
    made.host("good", "10.1.0.10", pools=["boot"], dhcp={})
    return made.inventory()


@settings(max_examples=200, deadline=None)
@given(
    st.lists(ROWS | st.sampled_from(SOUND) | VALUES, max_size=6),
    st.sampled_from(["/server/odd", "/pool/boot", "/resourcemanager/net"]),
)
@example([SOUND[0] | {"value": DEEP}], "/server/odd")
@example([SOUND[0] | {"number": True}, *SOUND], "/server/odd")
@example([SOUND[1] | {"number": 1 << 70}, *SOUND], "/server/odd")
def test_any_record_is_planned_or_named(rows: list[Any], where: str) -> None:
    text = json.dumps({"object": where, "attrs": rows, "contents": [], "parents": []})
    inventory = site()
    try:
        thing, _contents = parse_show(json.loads(text), where)
    except InventoryMalformed as error:
        assert len(str(error)) < 400 and str(error).startswith(where)
        return
    attributes = (*inventory.things[where].attributes, *thing.attributes)
    inventory.things[where] = Thing(where, attributes)
    inventory.hosts = [path for path, each in inventory.things.items() if each.has_mac()]
    for config in (Dhcp(), Dhcp(update_ipmi=True)):
        plan = plan_hosts(inventory, config)
        builder = Builder()
        Filler(builder).add_all(plan.rows)
        fd = builder.seal(1, Surroundings(), created_s=1)
        try:
            Generation(fd).verify()
        finally:
            os.close(fd)
        assert "good" in {row.name for row in plan.rows} or where != "/server/odd"


@settings(max_examples=100, deadline=None)
@given(VALUES | st.lists(st.fixed_dictionaries({"/server/odd": st.fixed_dictionaries({"attrs": st.lists(ROWS)})})))
@example([{"x": {"attrs": []}}, {"": {"attrs": []}}])
def test_any_bulk_answer_is_compiled_or_named(contents: Any) -> None:
    """Also when a member's name is no path."""
    text = json.dumps({"contents": contents}).encode()

    def things() -> Iterator[Thing]:
        try:
            yield from scan_members(text, "get_by_name boot")
        except (InventoryMalformed, ValueError, RecursionError) as error:
            raise PartLost(str(error)) from error

    inventory = site()
    done = Compiler(Dhcp()).begin(inventory)
    done.add(Batch("/pool/boot", ["/server/odd"], b"x", things))
    assert len(done.segments) == 1 or done.doubts
    done.assemble(None, set())
