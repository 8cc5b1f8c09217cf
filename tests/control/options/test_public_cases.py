"""What people asked of this and of other servers in public, from a host file to the octets of a reply.

tests/data/cases has the inputs; each test is of the whole kind of case, and has that input as one example."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from ext.table import Pair

from control.config.config import Dhcp
from control.explain.command import explain, from_hosts, prepare
from control.explain.offline import Planned, plan_file
from control.messages.capture import Capture
from control.messages.dissect import dissect
from control.plan.contexts import Faults
from control.sources.filesource import FileSource
from ext import codec

CASES = Path(__file__).parents[2] / "data" / "cases"
OPTIONS = CASES / "07-12-options.yaml"
COOKIE = bytes((99, 130, 83, 99))
BOOT_SERVER, BOOT_FILE = 66, 67


def planned(path: Path) -> Planned:
    return plan_file(FileSource(path.as_uri()), Dhcp())


def offers(subject: str | Path, hosts: Path) -> dict[str, dict[int, bytes]]:
    """Of one machine: client class -> its options, what the group of classes shares included."""
    kind, said = explain(str(subject), from_hosts(hosts, Dhcp()))
    assert kind == "machine"
    groups = [group for network in said["networks"] for group in network["groups"]]
    return {
        name: {each["code"]: bytes.fromhex(each["hex"]) for each in group["explained"]["reply"]["options"]}
        | ({-BOOT_SERVER: b"1"} if group["explained"]["reply"]["next_server"] else {})
        | ({-BOOT_FILE: b"1"} if group["explained"]["reply"]["boot_file"] else {})
        for group in groups
        for name in group["classes"]
    }


def mac_of(number: int) -> str:
    return f"02:00:00:00:01:{number:02x}"


def reply_to(case: str, hosts: str) -> dict[str, Any]:
    kind, said = explain((CASES / f"{case}.hex").read_text().strip(), from_hosts(CASES / hosts, Dhcp()))
    assert kind == "datagram"
    reply: dict[str, Any] = said["request"]["reply"]
    return reply


# --- 07: an option by number, in a pool ------------------------------------------------------------------------------


def test_an_option_by_number_in_a_pool_is_sent_and_nobody_goes_dark() -> None:
    path = CASES / "07-pool-row-with-a-number.yaml"
    made = planned(path)
    assert made.faults == Faults() and made.reasons == {}
    for number in (1, 2):
        assert {client: options[239] for client, options in offers(mac_of(number), path).items()}.items() >= {
            ("os", b"http://10.20.0.2/ztp.sh")
        }
    assert set(offers("02:00:00:00:00:01", path)) > {"os"}


@pytest.mark.parametrize("entry", ['"239 ": x', "239: [x, 1.5]", "239: {a: b}", "true: x", "lease_time: 1.5"])
def test_a_bad_option_of_a_pool_costs_that_option_and_nobody_goes_dark(tmp_path: Path, entry: str) -> None:
    text = (CASES / "07-pool-row-with-a-number.yaml").read_text()
    path = tmp_path / "hosts.yaml"
    path.write_text(text.replace('"239": "http://10.20.0.2/ztp.sh"', entry))
    made = planned(path)
    assert [len(reasons) for reasons in made.faults.values()] == [1] and made.reasons == {}
    assert made.faults["switches"][0].startswith("hosts.yaml: pools 2 (switches): dhcp option ")
    told = offers(mac_of(1), path)["os"]
    assert 239 not in told and told[BOOT_FILE].startswith(b"http://10.20.0.2/ztp.json")


# --- 12: options of switches, installers, management cards -----------------------------------------------------------


def test_only_the_two_names_that_are_no_host_names_are_faults() -> None:
    made = planned(OPTIONS)
    long = "this-is-a-rather-long-name-of-a-machine-in-a-datacenter-far-away-indeed"
    assert made.faults.keys() == {"db_01_prod", long} and made.reasons == {}
    assert all("hostname (12)" in reason for reasons in made.faults.values() for reason in reasons)
    for number in (11, 12):
        told = offers(mac_of(number), OPTIONS)["os"]
        assert 12 not in told and 250 in told, "that option alone"


@pytest.mark.parametrize("number", [2, 3], ids=["junos", "junos2"])
def test_sub_option_0_of_43(number: int) -> None:
    image, settings, way = b"/jinstall-qfx-5.tgz", b"leaf1.conf", b"http"
    assert offers(mac_of(number), OPTIONS)["os"][43] == (
        bytes((0, len(image))) + image + bytes((1, len(settings))) + settings + bytes((3, len(way))) + way
    )


def test_a_fingerprint_of_a_certificate_is_text() -> None:
    told = offers(mac_of(6), OPTIONS)["os"]
    assert told[251] == (
        b"04:2A:66:E2:70:84:E7:2D:AF:F7:84:11:D7:10:40:8C:2B:0A:D2:50:2D:3C:04:C0:E9:4C:0A:73:32:66:8B:D1"
    )


def test_an_address_yes_a_boot_no() -> None:
    """An empty boot file is none, for every class, and takes the boot server with it."""
    told = offers(mac_of(8), OPTIONS)
    assert {"os", "bios-pxe", "uefi-x64", "http-boot", "ipxe", "raspberry-pi"} <= told.keys()
    for options in told.values():
        assert {1, 3, 12, 51} <= options.keys()
        assert not {BOOT_SERVER, BOOT_FILE, -BOOT_SERVER, -BOOT_FILE} & options.keys()
    assert {BOOT_SERVER, BOOT_FILE, -BOOT_SERVER, -BOOT_FILE} <= offers(mac_of(4), OPTIONS)["bios-pxe"].keys()


def test_no_boot_for_one_class_alone(tmp_path: Path) -> None:
    path = tmp_path / "hosts.yaml"
    text = OPTIONS.read_text()
    assert ', tftp_filename: ""' in text
    path.write_text(text.replace(', tftp_filename: ""', ""))
    told = offers(mac_of(8), path)
    assert not {BOOT_SERVER, BOOT_FILE} & told["bios-pxe"].keys()
    assert {BOOT_SERVER, BOOT_FILE} <= told["uefi-x64"].keys()


@pytest.mark.parametrize(
    ("number", "code", "want"),
    [
        (1, 72, bytes((10, 20, 0, 9))),
        (4, 43, b"-f system_config.xml -i 192.168.0.130 -u user -p password -n cifs -s 2 -d 0 -t 500"),
        (5, 43, b"5A1D;B2;K4;I192.0.2.222;J80"),
        (9, 43, b"\x06\x01\x08\x74\x03100\xff"),
    ],
    ids=["onie", "dell", "pnp", "tinkvlan"],
)
def test_what_was_right_stays_right(number: int, code: int, want: bytes) -> None:
    assert offers(mac_of(number), OPTIONS)["os"][code] == want


# --- 16, 17: relays --------------------------------------------------------------------------------------------------


def test_a_big_reply_to_a_relay_is_sent_whole() -> None:
    """tests/netns/test_relay_mtu.py has the way that it takes."""
    reply = reply_to("16-big-reply-relayed", "16-hosts.yaml")
    assert (reply["route"], reply["destination"], reply["bytes"] > 1200) == ("udp", "10.99.1.1", True)
    assert {each["code"] for each in reply["options"]} >= {224, 225, 226, 227, 82}


def without_82(reply: bytes) -> bytes:
    """As a relay passes it on that takes 82 off and pads nothing."""
    at = 240
    while reply[at] != 255:
        if reply[at] == 82:
            return reply[:at] + reply[at + 2 + reply[at + 1] :]
        at += 1 if reply[at] == 0 else 2 + reply[at + 1]
    raise AssertionError("no option 82")


def asked(agent: bytes, kind: int = 1) -> bytes:
    head = bytes((1, 1, 6, 1)) + bytes(20) + bytes((10, 20, 0, 1)) + bytes((2, 0, 0, 0, 0, 1)).ljust(208, b"\0")
    wrong = b"\x32\x04" + bytes((10, 20, 0, 99)) if kind == 3 else b""
    return head + COOKIE + bytes((53, 1, kind)) + wrong + bytes((82, len(agent))) + agent + b"\xff"


def answered(pair: Pair, request: bytes) -> bytes:
    ours, relay = int(IPv4Address("10.20.0.254")), int(IPv4Address("10.20.0.1"))
    return bytes(
        codec.answer(pair, request, ifindex=1, source=relay, source_port=67, destination=ours, local=ours).data
    )


def pair_of(hosts: Path) -> Pair:
    explainer, _premises = prepare(from_hosts(hosts, Dhcp()), [], [0x020000000001], Capture())
    assert explainer.pair is not None
    return explainer.pair


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A host file whose replies are short."""
    path = tmp_path / "hosts.yaml"
    path.write_text(
        "networks: [{base: 10.20.0.0, mask: 255.255.255.0}]\n"
        'hosts: [{name: a, mac: "02:00:00:00:00:01", address: 10.20.0.11, dhcp: {enabled: 1}}]\n'
    )
    return path


def test_a_small_reply_is_long_enough_when_the_relay_has_taken_82_off(small: Path) -> None:
    request = bytes.fromhex((CASES / "17-small-reply-relayed.hex").read_text())
    assert len(without_82(answered(pair_of(small), request))) == 300
    assert len(without_82(answered(pair_of(CASES / "00-hosts.yaml"), request))) > 300


@pytest.mark.parametrize("kind", [1, 3], ids=["OFFER", "NAK"])
@pytest.mark.parametrize("length", [4, 22, 60, 200, 255])
def test_300_octets_are_left_whatever_the_relay_had_added(small: Path, kind: int, length: int) -> None:
    agent = bytes((1, length - 2)) + b"x" * (length - 2)
    reply = answered(pair_of(small), asked(agent, kind))
    said = dissect(reply)
    assert said is not None and said.options[82] == agent and said.options[53] == (b"\2" if kind == 1 else b"\6")
    assert len(without_82(reply)) == 300
