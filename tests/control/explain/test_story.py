"""control/explain/story.py, and what a person reads of it: how each machine's way through a capture ends."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import click
import pytest

from control.cli.explain_text import STRAYS_MAX, render_capture, story_of
from control.explain import explainer
from control.explain.command import ask
from control.explain.explainer import Explainer, strays_of
from control.explain.pairing import pair
from control.messages.capture import Capture, Datagram
from control.service.explaining import explained, read_datagrams
from tests.control.explain.test_explain import HOSTS, PLACES, as_json
from tests.control.explain.test_explain import explained as shown
from tests.control.explain.test_pairing import CLIENT, OTHER, RELAY, SERVER, Wire
from tests.ext.captures import PCAPS
from tests.ext.packets import ACK, BROADCAST, DECLINE, DISCOVER, INFORM, NAK, OFFER, RELEASE, REQUEST, ip, message, tlv
from tests.ext.sites import ALICE, site

NAME = "02:00:00:00:00:01"
TAKES = tlv(50, CLIENT) + tlv(54, SERVER)


def told(wire: Wire) -> dict[str, Any]:
    return told_of(wire.datagrams)


def told_of(datagrams: list[Datagram]) -> dict[str, Any]:
    found = explained(Explainer(site(), PLACES), "capture", Capture(datagrams))
    return found | {"premises": [], "frames": 9, "skipped": {}}


def story(wire: Wire) -> list[str]:
    """Of the only machine, without its head."""
    found = told(wire)
    return story_of(NAME, found["requests"], found["strays"])[1:]


def lines_of(wire: Wire) -> list[str]:
    return [click.unstyle(line).strip() for line in render_capture(told(wire))]


def recorded(name: str) -> list[str]:
    said = shown(PCAPS / f"{name}.pcap", "--hosts", HOSTS).partition("in short\n")[2].partition("\n\nframe 1,")[0]
    return [line.strip() for line in said.splitlines()[2:]]


# --- recorded --------------------------------------------------------------------------------------------------------

OFFERED = "0.0 s  10.88.0.1 offers it 10.88.0.11"
HAS = "has 10.88.0.11 by the word of 10.88.0.1, and boots boot.ipxe from 10.88.0.1"
ENDS = {
    "decline": [
        "0.0 s  refuses 10.88.0.11 of 10.88.0.1: somebody else uses it",
        "10.0 s  looks for a server, and nobody answers in this capture",
    ],
    "dhcpcd-decline": [
        "0.0 s  refuses 10.88.0.11 of 10.88.0.1: somebody else uses it",
        "1.0 s  looks for a server 2 times in 3.4 s, and nobody answers in this capture",
    ],
    "release": ["0.0 s  gives 10.88.0.11 back to 10.88.0.1"],
    "udhcpc-noserver": ["0.0 s  looks for a server 3 times in 2.0 s, and nobody answers in this capture"],
    "dhcpcd-test": ["0.0 s  takes no offer in this capture"],
}


@pytest.mark.parametrize("name", ENDS)
def test_how_a_recorded_story_ends(name: str) -> None:
    assert recorded(name)[-len(ENDS[name]) :] == ENDS[name]


def test_a_recorded_lease_from_its_beginning_to_its_end() -> None:
    offered, has, prolonged, gone = recorded("udhcpc-renew")
    assert offered == OFFERED and has.endswith(HAS)
    assert prolonged.endswith("10.88.0.1 prolongs 10.88.0.11") and "gives 10.88.0.11 back to 10.88.0.1" in gone
    assert recorded("renew")[-1].endswith("10.88.0.1 prolongs 10.88.0.11 3 times")


def test_every_machine_of_a_capture_without_a_server() -> None:
    said = shown(PCAPS / "noserver-ipxe-and-ovmf.pcap")
    assert "looks for a server 4 times in 7.1 s, and nobody answers in this capture" in said
    assert "looks for a server 7 times in 71.6 s, and nobody answers in this capture" in said
    assert said.count("seen    nobody answers it in this capture") == 11


def test_both_sides_of_a_recorded_relay(tmp_path: Path) -> None:
    """As on the relay itself: one request, one reply, and the server is not the relay."""
    frames = sorted(frame for name in ("relay82", "relay82-clientside") for frame in frames_of(name))
    head = (PCAPS / "relay82.pcap").read_bytes()[:24]
    path = tmp_path / "both.pcap"
    path.write_bytes(head + b"".join(record for _time, record in frames))
    found = as_json(path, "--hosts", HOSTS)
    assert [said["origin"] for said in found["requests"]] == [None, 1, None, 5]
    assert [len(said["seen"]) for said in found["requests"]] == [0, 1, 0, 1] and found["strays"] == []
    (reply,) = found["requests"][1]["seen"]
    assert (reply["server"], reply["relay"], reply["copies"]) == ("10.88.0.1", "10.77.0.1", [4])
    link = found["requests"][0]["link"]
    assert link == "10.77.0.0/24", "where its own side of the relay is, not where the server sends from"
    said = shown(path, "--hosts", HOSTS)
    assert said.count("10.88.0.1 offers it 10.77.0.11 (relay 10.77.0.1)") == 1 and "nobody answers" not in said
    assert "in frame 3 10.88.0.1 answers OFFER by relay 10.77.0.1, which passes it on in frame 4; " in said
    assert "it is the relay's copy of frame 1" in said and "a relay passes it on in frame 2" in said
    assert "4 requests, 2 replies to them, 8 frames" in said


def frames_of(name: str) -> list[tuple[tuple[int, int], bytes]]:
    """(time, record) of a classic capture."""
    content, at, found = (PCAPS / f"{name}.pcap").read_bytes(), 24, []
    order = "<" if content[0] in (0xD4, 0x4D) else ">"
    while at < len(content):
        seconds, fraction, length = struct.unpack_from(f"{order}III", content, at)
        found.append(((seconds, fraction), content[at : at + 16 + length]))
        at += 16 + length
    return found


def test_the_client_s_side_names_the_server_and_not_the_relay() -> None:
    said = shown(PCAPS / "relay-clientside.pcap", "--hosts", HOSTS)
    assert "10.88.0.1 offers it 10.77.0.11 (relay 10.77.0.1)" in said and "10.77.0.1 offers" not in said
    assert "in frame 2 10.88.0.1 answers OFFER by relay 10.77.0.1" in said


# --- made up ---------------------------------------------------------------------------------------------------------


def test_each_reply_is_shown_under_its_own_request() -> None:
    """A second server's late OFFER, and ACKs under one xid."""
    wire = Wire()
    wire.ask(DISCOVER), wire.say(OFFER), wire.ask(REQUEST, options=TAKES), wire.say(OFFER, server=OTHER), wire.say(ACK)
    wire.ask(REQUEST, after_s=60.0, ciaddr=CLIENT), wire.say(ACK)
    seen = {said["frame"]: [reply["frame"] for reply in said["seen"]] for said in told(wire)["requests"]}
    assert seen == {1: [2, 4], 3: [5], 6: [7]}
    assert [line[12:] for line in story(wire)] == [
        f"{SERVER} offers it {CLIENT}", f"{OTHER} offers it {CLIENT}",
        f"has {CLIENT} by the word of {SERVER}", f"{SERVER} prolongs {CLIENT}",
    ]  # fmt: skip


def test_a_taken_offer_that_nobody_confirms() -> None:
    wire = Wire()
    wire.ask(DISCOVER), wire.say(OFFER), wire.ask(REQUEST, options=TAKES), wire.ask(REQUEST, after_s=4.0, options=TAKES)
    assert story(wire)[-1] == f"     0.0 s  takes the offer {CLIENT} of {SERVER} 2 times in 4.0 s, " + (
        "and nobody answers in this capture"
    )


@pytest.mark.parametrize(
    "asked, words",
    [
        ({"kind": REQUEST, "options": tlv(50, CLIENT)}, f"asks for {CLIENT}, which it had"),
        ({"kind": REQUEST, "ciaddr": CLIENT}, f"asks any server to prolong {CLIENT}"),
        ({"kind": INFORM, "ciaddr": CLIENT}, "asks for the rest"),
        ({"kind": None}, "asks (message type 0)"),
    ],
)
def test_what_nobody_answers(asked: dict[str, Any], words: str) -> None:
    wire = Wire()
    wire.ask(asked.pop("kind"), **asked)
    assert story(wire) == [f"     0.0 s  {words}, and nobody answers in this capture"]
    assert "seen    nobody answers it in this capture" in lines_of(wire)


def test_a_renewal_that_its_server_does_not_answer() -> None:
    wire = Wire()
    wire.see(message(REQUEST, ALICE, ciaddr="10.1.0.50"), "10.1.0.50", (68, 67), ip("10.1.0.1"), 0.0)
    assert story(wire) == ["     0.0 s  asks its server to prolong 10.1.0.50, and nobody answers in this capture"]


def test_after_an_answer_it_may_still_end_in_silence() -> None:
    wire = Wire()
    wire.ask(REQUEST, options=tlv(50, CLIENT)), wire.say(NAK, yiaddr=0), wire.ask(DISCOVER, xid=2)
    refused, silence = story(wire)
    assert refused.endswith(f"{SERVER} refuses the address that it asks for")
    assert silence.endswith("looks for a server, and nobody answers in this capture")


def test_what_a_relay_passes_on_and_nobody_answers() -> None:
    wire = Wire()
    for _ in range(2):
        wire.ask(DISCOVER, after_s=4.0), wire.relay(DISCOVER)
    (line,) = story(wire)
    assert line.endswith(f"looks for a server 2 times in 4.0 s by relay {RELAY}, and nobody answers in this capture")


def test_a_relay_that_does_not_pass_the_answer_on() -> None:
    wire = Wire()
    wire.ask(DISCOVER), wire.relay(DISCOVER), wire.say_to_relay(OFFER)
    offered, end = story(wire)
    assert offered.endswith(f"offers it {CLIENT} (relay {RELAY}); the relay does not pass it on in this capture")
    assert end.endswith("takes no offer in this capture")
    alone = Wire()
    alone.relay(DISCOVER), alone.say_to_relay(OFFER)
    assert "does not pass" not in story(alone)[0], "the client's side is not in that capture"


def test_a_lease_that_is_given_back_and_one_that_is_refused() -> None:
    wire = Wire()
    wire.ask(DECLINE, options=TAKES), wire.ask(RELEASE, options=tlv(54, SERVER), ciaddr=CLIENT), wire.ask(RELEASE)
    assert [line[12:] for line in story(wire)] == [
        f"refuses {CLIENT} of {SERVER}: somebody else uses it", f"gives {CLIENT} back to {SERVER}",
        "gives its address back",
    ]  # fmt: skip


def test_a_rest_that_is_told_does_not_hide_the_lease() -> None:
    wire = Wire()
    wire.ask(REQUEST, options=TAKES), wire.say(ACK), wire.ask(INFORM, ciaddr=CLIENT), wire.say(ACK, yiaddr=0)
    has, rest = story(wire)
    assert f"has {CLIENT} by" in has and "is told the rest by" in rest


def test_replies_without_a_request_are_told() -> None:
    wire = Wire()
    wire.ask(DISCOVER), wire.say(OFFER), wire.say(ACK), wire.say(9)
    assert [line[12:] for line in story(wire)][1:] == [
        f"has {CLIENT} by the word of {SERVER}", f"{SERVER} tells it to renew",
    ]  # fmt: skip
    end = f"{SERVER} answers ACK ({CLIENT}) to {NAME}: to no request that stands before it here"
    assert f"frame 3, 0.020 s  {end}" in lines_of(wire)
    assert lines_of(wire)[-1] == "1 requests, 1 replies to them, 9 frames"
    for _ in range(STRAYS_MAX):
        wire.say(ACK)
    assert "and 2 more such replies" in lines_of(wire)


def test_a_server_that_answers_from_another_address() -> None:
    wire = Wire()
    wire.ask(DISCOVER)
    wire.see(message(OFFER, ALICE, tlv(54, SERVER), op=2, yiaddr=CLIENT), OTHER, (67, 68), BROADCAST, 0.1)
    assert any(f"in frame 2 {SERVER} (from {OTHER}) answers OFFER" in line for line in lines_of(wire))


def test_a_running_service_tells_them_too(tmp_path: Path) -> None:
    """It gets the capture in pieces, and what it says of them is put together with the times of the whole."""
    path = tmp_path / "lost.pcap"
    records = [record for name in ("udhcpc-noserver", "dhclient") for _time, record in frames_of(name)]
    path.write_bytes((PCAPS / "dhclient.pcap").read_bytes()[:24] + b"".join(records[:3] + records[4:]))  # no DISCOVER
    found = ask(path, lambda _command, said: told_of(read_datagrams(said["capture"])))
    alone = as_json(path)
    assert [said["frame"] for said in found["strays"]] == [4] == [said["frame"] for said in alone["strays"]]
    assert found["strays"][0]["seconds"] == alone["strays"][0]["seconds"] != 0.0


def test_only_so_many_requests_wait_for_a_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explainer, "WAITING_MAX", 1)
    wire = Wire()
    wire.ask(DISCOVER), wire.ask(DISCOVER), wire.say(OFFER)
    assert explainer.captured_replies(Capture(wire.datagrams)) == {2: ip(SERVER)}


def test_a_reply_to_a_relay_says_nothing_of_the_client_s_wire() -> None:
    wire = Wire()
    wire.ask(DISCOVER), wire.relay(DISCOVER), wire.say_to_relay(OFFER)
    assert explainer.captured_replies(Capture(wire.datagrams)) == {2: ip(SERVER)}
    wire.say_from_relay(OFFER)
    assert explainer.captured_replies(Capture(wire.datagrams)) == {1: ip(RELAY), 2: ip(SERVER)}


def test_what_an_earlier_build_explains_is_told_as_far_as_it_goes() -> None:
    """`ctl` of a new build may ask a service that has not been restarted yet."""
    wire = Wire()
    wire.ask(DISCOVER), wire.say(OFFER), wire.ask(DECLINE, options=TAKES)
    found = told(wire)
    for said in found["requests"]:
        for word in ("names", "origin", "passed_on", "unanswered"):
            del said[word]
        for reply in said["seen"]:
            for word in ("server", "relay", "copies", "reached_client"):
                del reply[word]
    del found["strays"]
    said = "\n".join(click.unstyle(line) for line in render_capture(found))
    assert f"{SERVER} offers it {CLIENT}" in said and "refuses the address: somebody else uses it" in said


def test_strays_have_their_times() -> None:
    wire = Wire()
    wire.ask(DISCOVER), wire.say(ACK, after_s=1.5)
    (stray,) = strays_of(pair(wire.datagrams), wire.datagrams[0].time_s)
    assert (stray["seconds"], stray["frame"], stray["mac"]) == (1.5, 2, NAME)
