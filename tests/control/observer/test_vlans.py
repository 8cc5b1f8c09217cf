"""control/observer/vlans.py: tags beside the frame, the kernel's list of interfaces, and which of them a tag means."""

from __future__ import annotations

import errno
import socket
import struct
from typing import Any

import pytest
from pyroute2.netlink import NLM_F_MULTI
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from control.observer import vlans
from control.observer.vlans import Interface, Tag, Vlans, interfaces_in, read_interfaces, tag_of

TAG = Tag(0x8100, 7)
SOME_TIME = (socket.SOL_SOCKET, 35, bytes(16))


def beside(status: int, control: int, protocol: int = 0x8100, size: int = 20) -> list[tuple[int, int, bytes]]:
    """As recvmsg() gives it: struct tpacket_auxdata."""
    return [SOME_TIME, (263, 8, struct.pack("=IIIHHHH", status, 1, 1, 0, 0, control, protocol)[:size])]


@pytest.mark.parametrize(
    "ancillary, tag",
    [
        pytest.param(beside(0x51, 7), TAG, id="tagged"),
        pytest.param(beside(0x51, 0xE007), TAG, id="with-a-priority"),
        pytest.param(beside(0x51, 7, 0x88A8), Tag(0x88A8, 7), id="a-provider-s"),
        pytest.param(beside(0x11, 7, 0), TAG, id="an-old-kernel-s"),
        pytest.param(beside(0x01, 7), None, id="not-valid"),
        pytest.param(beside(0x51, 0xE000), None, id="a-priority-alone"),
        pytest.param(beside(0x51, 7, size=12), None, id="cut"),
        pytest.param([SOME_TIME], None, id="none"),
    ],
)
def test_the_tag_of_a_datagram(ancillary: list[tuple[int, int, bytes]], tag: Tag | None) -> None:
    assert tag_of(ancillary) == tag


# --- the interfaces --------------------------------------------------------------------------------------------------


def link(index: int, name: str, **attributes: Any) -> bytes:
    """One of the kernel's messages, as pyroute2 writes it."""
    message = ifinfmsg()
    message["index"] = index
    message["header"]["type"], message["header"]["flags"] = 16, NLM_F_MULTI
    message["attrs"] = [("IFLA_IFNAME", name), *((f"IFLA_{key}", value) for key, value in attributes.items())]
    message.encode()
    return bytes(message.data)


def vlan(number: int, **more: Any) -> dict[str, Any]:
    return {"attrs": [("IFLA_INFO_KIND", "vlan"), ("IFLA_INFO_DATA", {"attrs": [("IFLA_VLAN_ID", number)]})], **more}


def test_the_kernel_s_list() -> None:
    bond = {"attrs": [("IFLA_INFO_KIND", "bond")]}
    said = link(2, "eth0", MASTER=5, LINKINFO={"attrs": [("IFLA_INFO_SLAVE_KIND", "bond")]})
    said += link(5, "bond0", MTU=9000, LINKINFO=bond) + link(9, "bond0.7", LINK=5, MASTER=12, LINKINFO=vlan(7))
    done, found = interfaces_in(said)
    assert not done and found == [
        Interface(2, "eth0", "", 0, 5),
        Interface(5, "bond0", "bond"),
        Interface(9, "bond0.7", "vlan", 5, 12, TAG),
    ]
    assert interfaces_in(struct.pack("=IHHIIi", 20, 3, 2, 1, 0, 0)) == (True, [])
    with pytest.raises(OSError, match="does not list"):
        interfaces_in(struct.pack("=IHHIIi", 36, 2, 0, 1, 0, -errno.EPERM) + bytes(16))


def test_a_parent_in_another_namespace_is_none_of_ours() -> None:
    (found,) = interfaces_in(link(9, "eth0.7", LINK=2, LINK_NETNSID=0, LINKINFO=vlan(7)))[1]
    assert (found.parent, found.tag) == (0, TAG)
    assert Vlans(lambda: [Interface(2, "eth0"), found]).interface_of(2, TAG) is None


def test_whatever_is_cut_is_no_end_of_the_observer() -> None:
    said = link(9, "eth0.7", LINK=2, LINKINFO=vlan(7))
    for length in range(len(said)):
        interfaces_in(said[:length])
    interfaces_in(struct.pack("=IHHII", 0, 16, 0, 0, 0) * 3)


def test_this_machine_s_own() -> None:
    found = {each.name: each.ifindex for each in read_interfaces()}
    assert found == {name: index for index, name in socket.if_nameindex()}


# --- which one a tag means -------------------------------------------------------------------------------------------

ETH0, ETH1 = Interface(2, "eth0"), Interface(3, "eth1")
BOND, BRIDGE, VRF = Interface(5, "bond0", "bond"), Interface(12, "br7", "bridge"), Interface(13, "red", "vrf")
OWN = Interface(9, "eth0.7", "vlan", 2, 0, TAG)


@pytest.mark.parametrize(
    "interfaces, at, name",
    [
        pytest.param([ETH0, OWN], 2, "eth0.7", id="of-the-trunk"),
        pytest.param([ETH0, ETH1, OWN], 3, None, id="of-another-trunk"),
        pytest.param([ETH0, OWN._replace(tag=Tag(0x8100, 8))], 2, None, id="of-another-vlan"),
        pytest.param([ETH0, OWN._replace(tag=Tag(0x88A8, 7))], 2, None, id="a-provider-s"),
        pytest.param([ETH0._replace(master=5), BOND, OWN._replace(parent=5)], 2, "eth0.7", id="of-the-bond"),
        pytest.param([ETH0, OWN._replace(master=12), BRIDGE], 2, "br7", id="a-bridge-has-its-address"),
        pytest.param([ETH0, OWN._replace(master=13), VRF], 2, "eth0.7", id="a-vrf-has-not"),
        pytest.param([ETH0._replace(master=13), VRF, OWN._replace(parent=13)], 2, None, id="nor-its-tags"),
        pytest.param([Interface(2, "br0", "bridge", 0, 5), BOND._replace(master=2)], 2, None, id="a-circle"),
        pytest.param([], 2, None, id="nothing-known"),
    ],
)
def test_the_interface_of_a_tag(interfaces: list[Interface], at: int, name: str | None) -> None:
    found = Vlans(lambda: interfaces).interface_of(at, TAG)
    assert (found.name if found is not None else None) == name


def test_the_interfaces_are_read_when_they_may_have_changed(caplog: pytest.LogCaptureFixture) -> None:
    now, reads, interfaces = [100.0], [0], [ETH0]

    def read() -> list[Interface]:
        reads[0] += 1
        if not interfaces:
            raise OSError(errno.ENOBUFS, "no room")
        return list(interfaces)

    known = Vlans(read, lambda: now[0])
    assert reads == [0], "not before a tag is met"
    assert known.interface_of(2, TAG) is known.interface_of(2, TAG) is None and reads == [1]
    interfaces.append(OWN)
    now[0] += vlans.REREAD_S
    assert known.interface_of(2, TAG) == known.interface_of(2, TAG) == OWN and reads == [2]
    interfaces.pop()
    assert known.interface_of(2, TAG) == OWN
    known.forget()
    assert known.interface_of(2, TAG) is None and reads == [3]
    interfaces.clear()
    known.forget()
    assert known.interface_of(2, TAG) is None and "VLAN tags are not understood" in caplog.text
