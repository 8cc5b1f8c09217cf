"""`bootstorm explain`: the three kinds of subject, what they say, and what is wrong with a bad one.

BOOTSTORM_GOLDEN=write makes tests/data/explain/*.txt anew; read the difference before you keep it."""

from __future__ import annotations

import json
import os
import struct
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from ext.classify import ClientClass
from ext.table import Pair
from ext.verdict import Verdict

from control.cli.command_line import main
from control.cli.explain_text import RENDER, plain_what
from control.config.config import Dhcp
from control.explain.classes import discover, said_by_firmware
from control.explain.command import (
    NOTHING,
    Unexplained,
    ask,
    explain,
    from_hosts,
    from_state,
    parse_interface,
    read_hex,
)
from control.explain.explainer import Explainer
from control.explain.offline import Interface, Unusable, assumed, open_table, placed
from control.explain.wording import CLASSES, PLAIN, PURPOSES, VERDICTS, stage_of
from control.messages.capture import Capture, CaptureBroken, Datagram, dhcp_of, read_capture
from control.messages.dissect import differences, dissect
from control.options.table import option_by_code
from control.plan.classes import CLASSES as CLASS_NAMES
from control.plan.classes import EVERYWHERE, NAMES
from control.table.file import TableStore
from ext import codec
from tests.control.inventories import CLIENTS
from tests.ext import inventory, packets
from tests.ext.captures import PCAPS, datagrams, dhcp_captures
from tests.ext.packets import ip, tlv
from tests.ext.sites import ALICE, CONFLICT, DISABLED, HELD, LINKS, OTHER_PORT, STRANGER, TWO, site
from tests.ext.sites import PROXIED as PROXIED_MAC

DATA = Path(__file__).parents[2] / "data" / "explain"
PROXIED = DATA / "proxied.yaml"
HOSTS = DATA / "hosts.yaml"
VM, CLIENT, OFF = "52:54:00:e2:00:01", "02:e2:e0:00:00:11", "52:54:00:e2:00:02"
PLACES = [Interface(*link[:3]) for link in LINKS]


def bootstorm(*arguments: str | Path) -> Result:
    """Without any services.conf of the machine that runs the tests."""
    return CliRunner(env={"HOME": "/nowhere"}).invoke(main, [str(each) for each in arguments])


def explained(subject: str | Path, *options: str | Path) -> str:
    ran = bootstorm("explain", subject, *options)
    assert (ran.exit_code, ran.stderr) == (0, ""), ran.stderr
    return ran.stdout


def as_json(subject: str | Path, *options: str | Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(explained(subject, "--json", *options))
    return found


# --- what a person reads ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, subject, hosts",
    [
        ("ipxe-bios", PCAPS / "ipxe-bios.pcap", HOSTS),
        ("init-reboot-nak", PCAPS / "init-reboot-nak.pcap", HOSTS),
        ("relay82", PCAPS / "relay82.pcap", HOSTS),
        ("machine", CLIENT, HOSTS),
        ("proxied", CLIENT, PROXIED),
    ],
)
def test_golden(name: str, subject: str | Path, hosts: Path) -> None:
    said, path = explained(subject, "--hosts", hosts), DATA / f"{name}.txt"
    if os.environ.get("BOOTSTORM_GOLDEN") == "write":
        path.write_text(said)
    assert said == path.read_text()


@pytest.mark.parametrize("name", dhcp_captures())
@pytest.mark.parametrize("hosts", [("--hosts", HOSTS), ()], ids=["hosts", "no-table"])
def test_every_capture_reads_without_hexadecimal_leftovers(name: str, hosts: tuple[str | Path, ...]) -> None:
    said = explained(PCAPS / f"{name}.pcap", *hosts)
    assert "malformed" not in said and "requests, " in said.splitlines()[-1]
    assert ("there is no table" in said) is (not hosts)


def test_without_a_table_the_capture_still_speaks() -> None:
    said = explained(PCAPS / "ipxe-bios.pcap")
    assert "answer  not known: there is no table to answer from" in said and "--hosts FILE" in said
    assert "in frame 2 10.88.0.1 answers OFFER" in said and "boot server" in said


def test_each_machine_s_way_in_short() -> None:
    said = explained(PCAPS / "ovmf-pxe-x4.pcap").partition("frame 1,")[0]
    assert said.count("network boot of 64-bit UEFI firmware, then the boot loader iPXE") == 4
    assert said.count("and boots snponly.efi from 10.88.0.1") == said.count("and boots boot.ipxe from 10.88.0.1") == 4
    assert "looks for a server 2 times; 10.88.0.1 offers" in explained(PCAPS / "ipxe-bios.pcap")
    assert "looks for a server 3 times in 2.0 s, and nobody answers in this capture" in explained(
        PCAPS / "udhcpc-noserver.pcap"
    )
    assert "10.88.0.1 refuses the address that it asks for" in explained(PCAPS / "init-reboot-nak.pcap")
    assert "and 190 machines more" in explained(PCAPS / "perfdhcp-200.pcap")


def test_plain_words_are_of_options_and_stand_once() -> None:
    codes = [code for words in PURPOSES.values() for code in words]
    assert len(codes) == len(set(codes)) and all(option_by_code(code).name for code in codes if code > 0)
    assert plain_what("option 3 router") == f"{PLAIN[3]} (option 3 router)"
    assert (plain_what("boot file"), plain_what("message"), plain_what("option 250 x")) == (
        "boot file", "message", "option 250 x",
    )  # fmt: skip


def test_every_verdict_and_class_has_words() -> None:
    assert list(VERDICTS) == [verdict.name for verdict in Verdict if verdict.name != "GO_ON"]
    assert all(meaning for meaning, _advice in VERDICTS.values())
    assert CLASSES.keys() == CLASS_NAMES.keys()
    assert all(CLASSES.values())


def test_a_terminal_gets_colours_and_a_pipe_none() -> None:
    lines = RENDER["machine"](explain(VM, from_hosts(HOSTS, Dhcp()))[1])
    assert any("\x1b[" in line for line in lines)
    assert "\x1b[" not in explained(VM, "--hosts", HOSTS)


def test_a_capture_s_requests_to_port_4011_are_judged_as_such() -> None:
    rom = tlv(60, b"PXEClient:Arch:00000:UNDI:002001")
    asked = Datagram(
        1,
        0.0,
        ip("10.1.0.150"),
        68,
        ip("10.1.0.1"),
        4011,
        packets.request(PROXIED_MAC, ciaddr="10.1.0.150", options=rom),
    )
    (said,) = Explainer(site(), PLACES).capture(Capture([asked]))
    assert (said["stage"], said["verdict"], said["missed"]) == ("REQUEST at port 4011", "ACKED_BOOT", None)
    (said,) = Explainer(site(), PLACES).capture(Capture([asked._replace(destination_port=67)]))
    assert said["verdict"] == "IGNORED_PROXY"


# --- by the workers' code --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", dhcp_captures())
def test_the_verdicts_are_those_of_answer(name: str) -> None:
    """Where each request came in is found out from the capture; the replay is told."""
    pair = inventory.pair()
    found = Explainer(pair, [Interface(*link[:3]) for link in inventory.LINKS]).capture(
        read_capture(PCAPS / f"{name}.pcap")
    )
    asked = [datagram for datagram in datagrams(name) if datagram.payload[0] == 1]
    replies = [inventory.replay(pair, datagram) for datagram in asked]
    assert [said["verdict"] for said in found] == [reply.verdict.name for reply in replies]
    for said, reply in zip(found, replies, strict=True):
        assert (said["reply"] is not None) == bool(reply.data)
        if said["reply"] is not None:
            assert said["reply"]["destination"] == str(IPv4Address(reply.destination))
            assert said["reply"]["source"] == str(IPv4Address(reply.source))


def test_a_trace_shows_how_far_it_went() -> None:
    place = {"ifindex": 2, "local": ip("10.1.0.1")}
    found = codec.trace(site(), packets.discover(ALICE), **place)
    assert (found.mac, found.role, found.host, found.state) == (ALICE, "host", b"alice", "served")
    assert (found.address, found.prefix, found.server_id) == (ip("10.1.0.50"), 24, ip("10.1.0.1"))
    assert (found.told_by, found.link) == ("", 0) and found.request["client_class"] is ClientClass.OS
    assert found.reply == codec.answer(site(), packets.discover(ALICE), **place)
    unknown = codec.trace(site(), packets.discover(STRANGER), **place)
    assert (unknown.mac, unknown.host, unknown.state) == (0, b"", "") and unknown.request["message_type"] == 1
    short = codec.trace(site(), b"\1" * 100)
    assert short.request == {} and short.reply.verdict is Verdict.IGNORED_SHORT
    assert codec.trace(None, packets.discover(ALICE)).reply.verdict is Verdict.IGNORED_NO_TABLE


@pytest.mark.parametrize(
    "fields, told_by, link",
    [
        ({"giaddr": "10.9.0.1"}, "giaddr", "10.9.0.1"),
        ({"giaddr": "10.9.0.1", "agent": tlv(5, "10.8.0.9")}, "link selection", "10.8.0.9"),
        ({"options": tlv(118, "10.8.0.0")}, "subnet selection", "10.8.0.0"),
        ({"options": tlv(118, "10.8.0.0"), "giaddr": "10.9.0.1"}, "subnet selection", "10.8.0.0"),
        ({}, "", "0.0.0.0"),
    ],
)
def test_what_names_the_link(fields: dict[str, Any], told_by: str, link: str) -> None:
    found = codec.trace(site(), packets.discover(TWO, **fields), ifindex=2, local=ip("10.1.0.1"))
    assert (found.told_by, found.link) == (told_by, ip(link))


def test_links_of_a_table() -> None:
    assert codec.links_of(site()) == [(*link[:3], link[4]) for link in LINKS]


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_a_made_up_discover_is_of_its_class(client: ClientClass) -> None:
    found = codec.parse(discover(ALICE, said_by_firmware(client), ip("10.9.0.1")))
    assert (found["client_class"], found["message_type"], found["giaddr"]) == (client, 1, ip("10.9.0.1"))
    assert found["chaddr"] == packets.mac_bytes(ALICE)


# --- a machine -------------------------------------------------------------------------------------------------------


def test_each_network_and_a_relay_where_the_server_is_not() -> None:
    networks = Explainer(site(), PLACES).machine(TWO)["networks"]
    assert [network["network"] for network in networks] == ["10.1.0.0/24", "10.9.0.0/24"]
    assert networks[1]["by"] == "by a relay, assumed at 10.1.0.254", "the router that its template names"
    assert networks[0]["groups"][0]["explained"]["reply"]["address"] == "10.1.0.60"
    assert sum(len(group["classes"]) for group in networks[0]["groups"]) == len(EVERYWHERE)


@pytest.mark.parametrize(
    "mac, verdict, state",
    [
        (DISABLED, "IGNORED_DISABLED", "disabled"),
        (OTHER_PORT, "IGNORED_OTHER_PORT", "other-port"),
        (HELD, "IGNORED_HELD", "held"),
        (CONFLICT, "IGNORED_CONFLICT", "conflict"),
        (STRANGER, "IGNORED_UNKNOWN_MAC", None),
    ],
)
def test_why_a_machine_is_not_answered(mac: int, verdict: str, state: str | None) -> None:
    found = Explainer(site(), PLACES, reason_of=lambda text: f"because of {text}").machine(mac)
    (network,) = found["networks"]
    (group,) = network["groups"]
    assert (group["explained"]["verdict"], found["state"], group["explained"]["reply"]) == (verdict, state, None)
    said = "\n".join(RENDER["machine"](found | {"premises": []}))
    assert VERDICTS[verdict][0] in said and VERDICTS[verdict][1] in said and "because of " in said


def test_the_reason_of_the_host_file() -> None:
    said = explained(OFF, "--hosts", HOSTS)
    assert "e2e-off, disabled" in said and "dhcp enabled is off (e2e-off)" in said


# --- who gave an option ----------------------------------------------------------------------------------------------


def origins(mac: str, name: str, file: Path = HOSTS) -> dict[int, str]:
    _kind, found = explain(mac, from_hosts(file, Dhcp()))
    group = next(group for group in found["networks"][0]["groups"] if name in group["classes"])
    return {option["code"]: option["origin"] for option in group["explained"]["reply"]["options"]}


def test_who_gave_an_option() -> None:
    everybody, ipxe = origins(VM, "os"), origins(VM, "ipxe")
    assert everybody[67] == "pool racks, tftp_filename" and ipxe[67] == "pool racks, tftp_filename--ipxe"
    assert everybody[1] == everybody[3] == "network net-10-88-0-0" and everybody[51] == "default"
    assert everybody[15] == "server e2e-vm, domain" and everybody[12] == "name of server e2e-vm"
    assert ipxe[175] == "every ipxe" and 175 not in everybody and everybody[54] == "this server"


def test_the_machine_s_own_word_counts_and_every_option_has_an_origin(tmp_path: Path) -> None:
    file = tmp_path / "hosts.yaml"
    file.write_text(
        HOSTS.read_text().replace("{domain: vm.example}", "{tftp_filename: own.0, subnet_mask: 255.255.0.0}")
        + "# changed\n"
    )
    found = origins(VM, "os", file)
    assert found[67] == "server e2e-vm, tftp_filename" and found[1] == "server e2e-vm, subnet_mask"
    for client in EVERYWHERE:
        assert None not in origins(VM, NAMES[client], file).values(), client


# --- a capture -------------------------------------------------------------------------------------------------------


def test_a_request_for_another_server() -> None:
    found = as_json(PCAPS / "ipxe-bios.pcap", "--hosts", HOSTS, "--interface", "10.88.0.7/24")
    assert [each["verdict"] for each in found["requests"]] == ["OFFERED", "OFFERED", "IGNORED_OTHER_SERVER"]
    assert found["requests"][2]["seen"][0]["differences"] is None
    assert "server: 10.88.0.7/24" in found["premises"]


def test_a_renewal_that_is_not_sent_to_us() -> None:
    said = explained(PCAPS / "renew.pcap", "--hosts", HOSTS, "--interface", "10.88.0.7/24")
    assert "none: it is sent to 10.88.0.1 alone, which is not this server" in said
    assert "REQUEST, renewing of 02:e2:e0:00:00:11" in said


def test_what_a_reply_says_otherwise() -> None:
    ours = dissect(packets.message(5, ALICE, tlv(51, b"\0\0\x0e\x10") + tlv(3, "10.1.0.1"), yiaddr="10.1.0.50"))
    theirs = dissect(packets.message(5, ALICE, tlv(51, b"\0\0\0\x3c") + tlv(15, b"a.b"), yiaddr="10.1.0.51"))
    assert ours is not None and theirs is not None and differences(ours, ours) == []
    assert differences(ours, theirs) == [
        {"what": "address", "ours": "10.1.0.50", "theirs": "10.1.0.51"},
        {"what": "option 3 router", "ours": "10.1.0.1", "theirs": "-"},
        {"what": "option 15 domain", "ours": "-", "theirs": "a.b"},
        {"what": "option 51 lease_time", "ours": "1 h", "theirs": "1 min"},
    ]


def test_the_same_reply_is_no_difference(tmp_path: Path) -> None:
    """A capture of our own service: its answers are ours."""
    payload = packets.discover(int(VM.replace(":", ""), 16))
    found = from_hosts(HOSTS, Dhcp())
    assert found.pair is not None
    pair = placed(found.pair, [Interface(1, ip("10.88.0.1"), 24)], Dhcp())
    reply = codec.answer(pair, payload, ifindex=1, local=ip("10.88.0.1"))
    frames = [frame(payload), frame(reply.data, source="10.88.0.1", ports=(67, 68))]
    file = capture_file(tmp_path / "own.pcap", frames)
    (said,) = as_json(file, "--hosts", HOSTS)["requests"]
    assert said["seen"][0]["differences"] == []
    assert "in frame 2 10.88.0.1 answers OFFER: the same as ours" in explained(file, "--hosts", HOSTS)


@pytest.mark.parametrize(
    ("asked", "unicast", "stage"),
    [
        ({"requested": "10.1.0.50", "server_id": "10.1.0.1"}, False, "REQUEST, selecting"),
        ({"requested": "10.1.0.50"}, False, "REQUEST, init-reboot"),
        ({"ciaddr": "10.1.0.50"}, True, "REQUEST, renewing"),
        ({"ciaddr": "10.1.0.50"}, False, "REQUEST, rebinding"),
        ({}, False, "REQUEST"),
    ],
)
def test_a_request_s_stage_is_the_state_by_which_it_is_judged(asked: dict[str, Any], unicast: bool, stage: str) -> None:
    assert stage_of(codec.parse(packets.request(ALICE, **asked), unicast=unicast))[0] == stage


def test_the_other_stages() -> None:
    assert [stage_of({"message_type": kind})[0] for kind in (1, 4, 7, 8)] == [
        "DISCOVER", "DECLINE", "RELEASE", "INFORM",
    ]  # fmt: skip


# --- captures as files -----------------------------------------------------------------------------------------------


def frame(payload: bytes, source: str = "0.0.0.0", ports: tuple[int, int] = (68, 67), vlan: bool = False) -> bytes:
    udp = struct.pack("!HHHH", *ports, 8 + len(payload), 0) + payload
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0) + packets.quad(source) + b"\xff" * 4
    return bytes(12) + (b"\x81\x00\x00\x07" if vlan else b"") + b"\x08\x00" + header + udp


def capture_file(path: Path, frames: list[bytes], order: str = "<") -> Path:
    content = struct.pack(f"{order}IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    for number, each in enumerate(frames):
        content += struct.pack(f"{order}IIII", number, 500_000, len(each), len(each)) + each
    path.write_bytes(content)
    return path


def pcapng_file(path: Path, frames: list[bytes], order: str) -> Path:
    def block(kind: int, body: bytes) -> bytes:
        body += bytes(-len(body) % 4)
        return struct.pack(f"{order}II", kind, len(body) + 12) + body + struct.pack(f"{order}I", len(body) + 12)

    content = block(0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1))
    content += block(1, struct.pack(f"{order}HHI", 1, 0, 0) + struct.pack(f"{order}HHB3x", 9, 1, 3))
    for number, each in enumerate(frames):
        content += block(6, struct.pack(f"{order}5I", 0, 0, number * 1000 + 500, len(each), len(each)) + each)
    path.write_bytes(content + block(5, bytes(12)))
    return path


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("write", [capture_file, pcapng_file])
def test_both_formats_in_both_byte_orders(tmp_path: Path, write: Any, order: str) -> None:
    payload = packets.discover(ALICE)
    other = frame(payload, ports=(53, 53))
    file = write(tmp_path / "a.pcap", [frame(payload), other, b"\0" * 60, frame(payload, vlan=True)], order)
    capture = read_capture(file)
    assert [datagram.payload for datagram in capture.datagrams] == [payload, payload]
    assert [(datagram.frame, datagram.time_s) for datagram in capture.datagrams] == [(1, 0.5), (4, 3.5)]
    assert (capture.frames, capture.skipped) == (4, {"other UDP ports": 1, "no IPv4": 1})
    assert "skipped: 1 no IPv4, 1 other UDP ports" in explained(file, "--hosts", HOSTS)


def test_frames_that_are_no_dhcp() -> None:
    whole = frame(packets.discover(ALICE))
    fragment = whole[:20] + b"\x20\x00" + whole[22:]
    assert dhcp_of(1, whole[:-10], 1, 0.0) == "cut by the capture"
    assert dhcp_of(1, fragment, 1, 0.0) == "fragments of IPv4"
    assert dhcp_of(1, whole[:23] + b"\x06" + whole[24:], 1, 0.0) == "no UDP"
    assert dhcp_of(101, whole[14:], 1, 0.0) == dhcp_of(1, whole, 1, 0.0)
    assert dhcp_of(113, bytes(14) + whole[12:], 1, 0.0) == dhcp_of(1, whole, 1, 0.0)
    assert all(isinstance(dhcp_of(1, whole[:length], 1, 0.0), str) for length in range(len(whole)))


@pytest.mark.parametrize("write", [capture_file, pcapng_file])
def test_a_capture_cut_anywhere_is_one_line(tmp_path: Path, write: Any) -> None:
    path = write(tmp_path / "cut.pcap", [frame(packets.discover(ALICE))] * 2, "<")
    content = path.read_bytes()
    refused = 0
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        try:
            read_capture(path)
        except CaptureBroken as broken:
            refused += 1
            assert str(path) in str(broken) and "\n" not in str(broken)
    assert refused > len(content) // 7 - 5, "only between two frames it is whole"


def test_a_broken_capture_names_file_and_frame(tmp_path: Path) -> None:
    path = capture_file(tmp_path / "cut.pcap", [frame(packets.discover(ALICE))] * 2)
    path.write_bytes(path.read_bytes()[:-5])
    ran = bootstorm("explain", path, "--hosts", HOSTS)
    assert (ran.exit_code, ran.stdout) == (1, "")
    assert f"{path}: frame 2: a frame ends after" in ran.stderr and ran.stderr.count("\n") == 1


# --- what the subject is ---------------------------------------------------------------------------------------------


def test_hexadecimal_is_a_datagram() -> None:
    payload = packets.discover(int(VM.replace(":", ""), 16), options=tlv(60, b"PXEClient"))
    said = explained(payload.hex(), "--hosts", HOSTS)
    assert f"DISCOVER of {VM} (e2e-vm)" in said and "answer  OFFER" in said and "[bios-pxe]" in said
    relayed = packets.discover(int(CLIENT.replace(":", ""), 16), giaddr="10.77.0.1")
    found = as_json("0x" + relayed.hex(), "--hosts", HOSTS)["request"]
    assert (found["address"], found["reply"]["destination"]) == ("10.77.0.11/24", "10.77.0.1")
    assert read_hex(payload.hex(":")) == payload
    assert "IGNORED_SHORT" in explained("0102", "--hosts", HOSTS)


@pytest.mark.parametrize("text", ["525400e20001", "52-54-00-E2-00-01", "5254.00e2.0001", VM])
def test_any_spelling_of_a_mac(text: str) -> None:
    assert as_json(text, "--hosts", HOSTS)["host"] == "e2e-vm"


@pytest.mark.parametrize(
    "arguments, code, said",
    [
        (["nonsense"], 1, "neither a MAC address, nor a file that is there, nor a datagram's octets"),
        ([VM], 1, "a machine needs a table"),
        (["00" * 2000], 1, "2000 octets"),
        (["x" * 5000], 1, "(5000 characters)"),
        ([str(HOSTS)], 1, "wanted a pcap or pcapng capture"),
        ([str(DATA)], 1, "Is a directory"),
        ([VM, "--hosts", "/nowhere/hosts.yaml"], 2, "does not exist"),
        ([VM, "--interface", "10.1.0.1"], 2, "wanted ADDRESS/PREFIX"),
        ([VM, "--interface", "10.1.0.256/24"], 2, "wanted ADDRESS/PREFIX"),
        ([], 2, "Missing argument"),
    ],
)
def test_what_cannot_be_explained(arguments: list[str], code: int, said: str) -> None:
    ran = bootstorm("explain", *arguments)
    assert (ran.exit_code, ran.stdout) == (code, "") and said in ran.stderr
    assert code == 2 or ran.stderr.count("\n") == 1


def test_a_host_file_that_is_none(tmp_path: Path) -> None:
    file = tmp_path / "hosts.yaml"
    file.write_text("[not, a, mapping]\n")
    ran = bootstorm("explain", VM, "--hosts", file)
    assert (ran.exit_code, ran.stdout) == (1, "") and str(file.name) in ran.stderr


def test_interfaces() -> None:
    assert parse_interface("10.20.0.2/24") == (ip("10.20.0.2"), 24)
    for text in ("10.20.0.2/0", "10.20.0.2/33", "10.20.0.2/x", "/24"):
        with pytest.raises(ValueError, match="wanted ADDRESS/PREFIX"):
            parse_interface(text)


# --- the table of a service ------------------------------------------------------------------------------------------


def test_the_table_in_the_state_folder_is_only_read(tmp_path: Path) -> None:
    found = from_hosts(HOSTS, Dhcp())
    assert found.pair is not None
    conf = tmp_path / "services.conf"
    conf.write_text(json.dumps({"dhcp": {"state_dir": str(tmp_path)}}))
    ran = bootstorm("explain", VM, "-c", conf)
    assert (ran.exit_code, "no table there" in ran.stderr) == (1, True)
    save(found.pair, tmp_path)
    before = {path: path.stat() for path in tmp_path.iterdir()}
    said = explained(VM, "-c", conf)
    assert f"table: generation 1 in {tmp_path}, 2 machines" in said and "OFFER" in said
    damaged = tmp_path / "table.base"
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == {
        path: stat.st_mtime_ns for path, stat in before.items()
    }
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"\xff")
    ran = bootstorm("explain", VM, "-c", conf)
    assert (ran.exit_code, str(damaged) in ran.stderr) == (1, True)
    assert damaged.exists() and len(list(tmp_path.iterdir())) == len(before), "only a service puts it aside"
    with pytest.raises(Unusable):
        open_table(tmp_path)


def save(pair: Pair, folder: Path) -> None:
    """As a service does, from a fresh generation of the same rows."""
    from ext.builder import Builder, Surroundings

    builder = Builder()
    for mac, role in pair.base.keys():  # noqa: SIM118
        builder.copy_host(pair.base, mac, role)
    fd = builder.seal(1, Surroundings(networks=pair.top.networks), created_s=5)
    try:
        TableStore(folder).save(pair, fd, -1, 1_700_000_000.0)
    finally:
        os.close(fd)


def test_the_delta_counts_and_configuration_too() -> None:
    base = site()
    other = placed(base, PLACES, Dhcp())
    moved = placed(other, [Interface(7, ip("10.1.0.9"), 24)], Dhcp())
    assert codec.links_of(moved) == [(7, ip("10.1.0.9"), 24, True)]
    assert moved.lookup(ALICE) == base.lookup(ALICE)


def test_assumed_addresses_are_free() -> None:
    found = assumed(site(), [TWO], [ip("10.1.0.3"), ip("10.44.0.1"), ip("10.9.0.1")], {ip("10.9.0.1")})
    assert [str(each) for each in found[:2]] == ["10.1.0.3/24", "10.9.0.254/24"], "a relay's address is not ours"
    assert "10.44.0.1/24" in map(str, found)


def test_nothing_known() -> None:
    with pytest.raises(Unexplained, match="needs a table"):
        explain(VM, NOTHING)
    with pytest.raises(Unexplained, match="no table there"):
        from_state(Dhcp(state_dir=Path("/nowhere")))
    assert from_state(Dhcp(state_dir=Path("/nowhere")), named=False) is NOTHING


# --- faults ----------------------------------------------------------------------------------------------------------

FAULTY = """
networks:
- {base: 10.1.0.0, mask: 255.255.0.0, gateway: 10.1.0.1}
pools:
- {name: racks, dhcp: {enabled: 1, tftp_filenme: x}}
- {name: others, dhcp: {enabled: 1, nonsense-of-nobody: x}}
hosts:
- {name: a, mac: "02:00:00:00:00:0a", address: 10.1.0.10, pool: racks, dhcp: {lease_time: 1h}}
- {name: b, mac: "02:00:00:00:00:0b", address: 10.1.0.1, pool: others}
- {name: c, mac: "02:00:00:00:00:0c", address: 10.1.0.12, pool: others}
- {name: d, mac: "02:00:00:00:00:0c", address: 10.1.0.13, pool: racks}
"""


@pytest.mark.parametrize(
    "mac, objects, others",
    [
        pytest.param("02:00:00:00:00:0a", ["a", "racks"], 4, id="its-own-and-its-pool-s"),
        pytest.param("02:00:00:00:00:0b", ["b", "others"], 4, id="quarantined"),
        pytest.param("02:00:00:00:00:0c", ["c", "d", "others", "racks"], 2, id="both-in-a-conflict"),
        pytest.param("02:00:00:00:00:99", [], 6, id="a-stranger"),
    ],
)
def test_the_faults_of_a_machine_and_a_count_of_the_others(
    tmp_path: Path, mac: str, objects: list[str], others: int
) -> None:
    file = tmp_path / "hosts.yaml"
    file.write_text(FAULTY)
    found = as_json(mac, "--hosts", file)
    assert sorted(fault["object"] for fault in found["faults"]) == objects and found["other_faults"] == others
    datagram = packets.discover(int(mac.replace(":", ""), 16)).hex()
    assert as_json(datagram, "--hosts", file)["faults"] == found["faults"], "of who sent it"
    said = explained(mac, "--hosts", file)
    for fault in found["faults"]:
        assert f"fault: {fault['object']}: {fault['reason']} [{fault['kind']}]\n" in said
    assert f"{others} faults of other objects; `bootstorm lint` lists them\n" in said


@pytest.mark.parametrize("name", ["db01", "fe02", "ad01", "cafe"])
def test_a_name_that_could_be_octets_is_a_name_to_explain(name: str) -> None:
    said: list[dict[str, Any]] = []

    def call(_command: str, arguments: dict[str, Any]) -> dict[str, Any]:
        said.append(arguments)
        return {}

    ask(name, call)
    assert said == [{"mac": name}]
