"""SNMP messages for the tests: written here, recorded from net-snmp, or from captures."""

from __future__ import annotations

import functools
import os
import shlex
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from control.config.config import Snmp, SnmpUser
from control.discovery.traps.ber import oid
from control.discovery.traps.budgets import EngineTime
from control.discovery.traps.engine import Clocks
from control.discovery.traps.queue import Datagram
from control.discovery.traps.reader import TrapReader

CASES = Path(__file__).parents[3] / "data/cases"
MAC_CHANGED = "1.3.6.1.4.1.9.9.215.2.0.1"
HISTORY = "1.3.6.1.4.1.9.9.215.1.1.8.1"
LEARNT = bytes.fromhex("01000a02e2e0000011000500")
SWITCH = (10 << 24) + (88 << 16) + 9  # 10.88.0.9
ENGINE = bytes.fromhex("80004fb8050102030405060708")
SENDER_ENGINE = "0x8000000903020000000009"
_SECRETS = {
    "auth": "sha", "auth_password": "authpass12", "privacy": "aes", "privacy_password": "privpass12",
}  # fmt: skip
USERS = (SnmpUser(name="sw1", engine_id=SENDER_ENGINE, **_SECRETS), SnmpUser(name="mgr1", **_SECRETS))
AS_SW1 = ["-e", SENDER_ENGINE, "-u", "sw1", "-a", "SHA", "-A", "authpass12", "-x", "AES", "-X", "privpass12"]


def tlv(tag: int, *contents: bytes) -> bytes:
    content = b"".join(contents)
    if len(content) < 0x80:
        return bytes((tag, len(content))) + content
    octets = (len(content).bit_length() + 7) // 8
    return bytes((tag, 0x80 | octets)) + len(content).to_bytes(octets, "big") + content


def binding(name: str, tag: int, value: bytes) -> bytes:
    return tlv(0x30, tlv(0x06, oid(name)), tlv(tag, value))


HEAD = (
    binding("1.3.6.1.2.1.1.3.0", 0x43, b"\x30\x39"),
    binding("1.3.6.1.6.3.1.1.4.1.0", 0x06, oid(MAC_CHANGED)),
)


def message(*bindings: bytes, community: bytes = b"public", version: int = 1, pdu: int = 0xA7) -> bytes:
    """v2c: request-id 1, no error."""
    content = tlv(0x02, b"\x01"), tlv(0x02, b"\0"), tlv(0x02, b"\0"), tlv(0x30, *bindings)
    return tlv(0x30, tlv(0x02, bytes((version,))), tlv(0x04, community), tlv(pdu, *content))


def told(trap: str, *rows: bytes, form: str = "v2c") -> bytes:
    """A notification of any kind.  form: v1 (by RFC 3584 section 3.2), v2c or inform."""
    if form != "v1":
        head = HEAD[0], binding("1.3.6.1.6.3.1.1.4.1.0", 0x06, oid(trap))
        return message(*head, *rows, pdu=0xA6 if form == "inform" else 0xA7)
    *enterprise, specific = trap.split(".")
    enterprise = enterprise[:-1] if enterprise[-1] == "0" else enterprise
    fields = tlv(0x06, oid(".".join(enterprise))), tlv(0x40, b"\x0a\x09\x09\x09"), tlv(0x02, b"\6")
    content = *fields, tlv(0x02, bytes((int(specific),))), tlv(0x43, b"\x7b"), tlv(0x30, *rows)
    return tlv(0x30, tlv(0x02, b"\0"), tlv(0x04, b"public"), tlv(0xA4, *content))


def number(name: str, value: int, tag: int = 0x02) -> bytes:
    """A binding with an INTEGER, or with another type of numbers."""
    return binding(name, tag, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def case(name: str) -> tuple[str, list[tuple[str, str, str]]]:
    """Of a command `snmptrap -v 2c -c public HOST '' TRAP NAME TYPE VALUE ...`: its trap, and its bindings."""
    words = shlex.split((CASES / name).read_text())
    assert words[:5] == ["snmptrap", "-v", "2c", "-c", "public"], words
    rows = words[8:]
    return words[7], list(zip(rows[::3], rows[1::3], rows[2::3], strict=True))


def case_rows(rows: list[tuple[str, str, str]]) -> list[bytes]:
    return [
        binding(name, 0x04, bytes.fromhex(value)) if kind == "x" else number(name, int(value))
        for name, kind, value in rows
    ]


def mac_trap(*histories: bytes, community: bytes = b"public", pdu: int = 0xA7) -> bytes:
    rows = (binding(f"{HISTORY}.2.{17 + index}", 0x04, value) for index, value in enumerate(histories))
    return message(*HEAD, *rows, community=community, pdu=pdu)


def numbered(number: int, port: int = 5) -> bytes:
    """A trap with a MAC address of its own."""
    return mac_trap(b"\x01\x00\x0a\x02\x00" + number.to_bytes(4, "big") + port.to_bytes(2, "big") + b"\x00")


def v1_trap(agent: bytes, history: bytes = LEARNT) -> bytes:
    row = binding(f"{HISTORY}.2.17", 0x04, history)
    fields = tlv(0x06, oid("1.3.6.1.4.1.9.9.215.2")), tlv(0x40, agent), tlv(0x02, b"\6"), tlv(0x02, b"\1")
    content = *fields, tlv(0x43, b"\x7b"), tlv(0x30, row)
    return tlv(0x30, tlv(0x02, b"\0"), tlv(0x04, b"public"), tlv(0xA4, *content))


def address_binding(address: str) -> bytes:
    return binding("1.3.6.1.6.3.18.1.3.0", 0x40, socket.inet_aton(address))


def reader(**snmp: object) -> TrapReader:
    """One that has heard nothing yet.  At most one of a kind is in use: building an engine takes half a second."""
    made = _reader(tuple(({"communities": ("public",), "users": USERS} | snmp).items()))
    made.recent.clear()
    made.engine.clocks.latest.clear()
    made.budget = EngineTime()
    return made


@functools.cache
def _reader(snmp: tuple[tuple[str, object], ...]) -> TrapReader:
    return TrapReader(Snmp(**dict(snmp)), ENGINE, 7, Clocks())  # type: ignore[arg-type]


def datagram(content: bytes, source: int = SWITCH, port: int = 50_000, at_s: float = 1000.0) -> Datagram:
    return Datagram(int(at_s * 1e9), source, port, (10 << 24) + 1, content)


def needs_net_snmp() -> None:
    if shutil.which("snmptrap") is None:
        pytest.skip("snmptrap is not installed (Debian package snmp)")


def snmptrap(folder: Path, to: int, *arguments: str, history: str = LEARNT.hex(" "), check: bool = True) -> int:
    """Run the real one; its exit code.  folder: for its state."""
    environment = os.environ | {"MIBS": "", "SNMP_PERSISTENT_DIR": str(folder), "SNMPCONFPATH": str(folder)}
    argv = ["snmptrap", *arguments, f"127.0.0.1:{to}"]
    if arguments[:2] == ("-v", "1"):
        argv += ["1.3.6.1.4.1.9.9.215.2", "10.9.9.9", "6", "1", "123"]
    else:
        argv += ["12345", MAC_CHANGED]
    done = subprocess.run(
        [*argv, f"{HISTORY}.2.17", "x", history], env=environment, capture_output=True, text=True, timeout=120
    )
    assert not check or done.returncode == 0, done.stderr
    return done.returncode


def recorded(folder: Path, *arguments: str) -> bytes:
    """What snmptrap would send: one datagram."""
    needs_net_snmp()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink:
        sink.bind(("127.0.0.1", 0))
        sink.settimeout(60)
        snmptrap(folder, sink.getsockname()[1], *arguments)
        return sink.recv(65536)


def received(folder: Path, name: str) -> bytes:
    """What the command of a public case sends: one datagram."""
    environment = os.environ | {"MIBS": "", "SNMP_PERSISTENT_DIR": str(folder), "SNMPCONFPATH": str(folder)}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink:
        sink.bind(("127.0.0.1", 0))
        sink.settimeout(60)
        argv = shlex.split((CASES / name).read_text())
        argv[5] = f"127.0.0.1:{sink.getsockname()[1]}"
        subprocess.run(argv, env=environment, check=True, timeout=120)
        return sink.recv(65536)
