"""Files that are not what they should be: circles, broken blocks, other encodings, very long lines, very many lines."""

from __future__ import annotations

import os
import random
import string
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from control.importers.command import Wish, WrongUsage, guessed, import_file
from control.importers.reading import Unreadable
from tests.control.importers.support import SITES, faults, imported, lost, of_text, reasons, rows, written

NET = "subnet 10.0.0.0 netmask 255.0.0.0 { }\n"
HOST = "host a { hardware ethernet 02:00:00:00:00:01; fixed-address 10.1.0.9; }\n"


def test_includes_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "other.conf").write_text('host b { hardware ethernet 02:00:00:00:00:02; fixed-address 10.1.0.8; }\n'
                                         'include "dhcpd.conf";\n')  # fmt: skip
    found = of_text(tmp_path, f'{NET}include "other.conf";\ninclude "nosuch.conf";\n{HOST}')
    assert lost(found) == ['dhcpd.conf:3 include "nosuch.conf"', 'other.conf:2 include "dhcpd.conf"'], reasons(found)
    assert "includes itself" in reasons(found) and set(rows(tmp_path, found)["hosts"]) == {"a", "b"}
    found = of_text(tmp_path, f"conf-file={tmp_path}/dnsmasq.conf\n", "dnsmasq.conf")
    assert "includes itself" in reasons(found)
    found = of_text(tmp_path, '{"Dhcp4": {"subnet4": [ <?include "kea.conf"?> ]}}', "kea.conf")
    assert "includes itself" in reasons(found)


def test_a_file_that_includes_itself_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "link.conf").symlink_to("dhcpd.conf")
    found = of_text(tmp_path, f'{NET}{HOST}include "link.conf";\n')
    assert lost(found) == ['dhcpd.conf:3 include "link.conf"'] and "a" in rows(tmp_path, found)["hosts"]


@pytest.mark.parametrize(
    "text, named",
    [
        (NET + HOST + "}\n", "dhcpd.conf:3 }"),
        (NET + HOST + "group {\n", "dhcpd.conf:3 {"),
        (NET + HOST + 'option domain-name "x;\n', 'dhcpd.conf:3 option domain-name " x'),
        (NET + HOST + "host\n", "dhcpd.conf:3 host"),
        (NET + HOST + "class\n", None),
        (NET + HOST + "subnet\n", None),
        (NET + HOST + "if\n", None),
        (NET + HOST + "if (((((\n", None),
        (NET + HOST + "option\n", None),
        (NET + HOST + "option x code 7 = \n", None),
        (NET + HOST + "include;\n", "dhcpd.conf:3 include"),
        (NET + HOST + "\0\x01\x7f;\n", "dhcpd.conf:3 \0\x01\x7f"),
    ],
)
def test_a_broken_statement_costs_that_statement(tmp_path: Path, text: str, named: str | None) -> None:
    found = of_text(tmp_path, text)
    assert "a" in rows(tmp_path, found)["hosts"]
    assert all(line.startswith("dhcpd.conf:") for line in lost(found))
    if named is not None:
        assert lost(found) == [named], reasons(found)


def test_blocks_without_end(tmp_path: Path) -> None:
    deep = 5_000
    found = of_text(
        tmp_path, NET + HOST + "group { " * deep + "} " * deep + HOST.replace("01;", "02;").replace("a {", "b {")
    )
    assert "blocks 41 deep" in reasons(found) and "a" in rows(tmp_path, found)["hosts"]
    found = of_text(tmp_path, f'{NET}{HOST}if {"(" * deep}exists user-class{")" * deep} {{ filename "x"; }}\n')
    assert "an expression 60 deep" in reasons(found)
    with pytest.raises(Unreadable, match="64 deep"):
        of_text(tmp_path, '{"Dhcp4": ' + "[" * deep, "kea.conf")


def test_latin_1(tmp_path: Path) -> None:
    text = f'# Rack im S\u00fcdfl\u00fcgel\n{NET}{HOST}option root-path "caf\u00e9";\n'
    for encoding in ("latin-1", "utf-8", "utf-8-sig"):
        found = of_text(tmp_path, text.encode(encoding))
        assert not lost(found), reasons(found)
        assert "a" in rows(tmp_path, found)["hosts"]


def test_lines_of_a_megabyte(tmp_path: Path) -> None:
    long = "x" * (1 << 20)
    quoted = of_text(tmp_path, f'{NET}{HOST}option root-path "{long}";\noption domain-name "{long}\n')
    assert [line[:14] for line in lost(quoted)] == ["dhcpd.conf:3 o", "dhcpd.conf:4 o"]
    assert all(len(note.line()) < 600 for note in quoted.notes)
    many = of_text(tmp_path, f"{NET}{HOST}option domain-name-servers {', '.join(['10.1.0.1'] * 100_000)};\n")
    assert lost(many)[0].startswith("dhcpd.conf:3 option domain-name-servers 10.1.0.1")
    text = f"dhcp-range=10.1.0.0,static,255.255.0.0\ndhcp-option={long}\ndhcp-host={',' * 100_000}\n"
    masq = of_text(tmp_path, text, "dnsmasq.conf")
    assert [line.split()[0] for line in lost(masq)] == ["dnsmasq.conf:1", "dnsmasq.conf:2", "dnsmasq.conf:3"]
    for text in (f'{{"{long}": 1}}', f'{{"Dhcp4": {{"{long}": 1, "x": {"9" * 5000} }}}}', f"/*{long}"):
        try:
            assert lost(of_text(tmp_path, text, "kea.conf"))
        except (Unreadable, WrongUsage) as error:
            assert len(str(error)) < 600


@pytest.mark.long
def test_300_lines_that_nobody_understands_among_50_000(tmp_path: Path) -> None:
    bad = random.Random(7).sample(range(50_000), 300)
    macs = [(0x020000000000 + at).to_bytes(6, "big").hex(":") for at in range(50_000)]
    lines = [f"dhcp-host={mac},10.1.{at >> 8}.{at & 255},h{at}" for at, mac in enumerate(macs, 1)]
    for at in bad:
        lines[at] = f"dhcp-hots=02:00:00:00:00:00,10.1.0.1,h{at}"
    lines[0:0] = ["port=0", "dhcp-range=10.1.0.0,static,255.255.0.0", "dhcp-option=3"]
    found = of_text(tmp_path, "\n".join(lines), "dnsmasq.conf")
    wanted = sorted(at + 4 for at in bad)
    outside = {note.place.line for note in found.notes if note.lost} - set(wanted)
    assert not outside and sum(note.lost for note in found.notes) == 300
    assert len(found.rows.hosts) == 49_700


def test_whatever_is_no_configuration(tmp_path: Path) -> None:
    for name, text in (("x", ""), ("x", "hello\n"), ("x", "\0" * 100)):
        (tmp_path / name).write_text(text)
        with pytest.raises(WrongUsage, match="--from says it: dhcpd, dnsmasq, kea, ethers, dhcp-hostsfile"):
            guessed(tmp_path / name)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(Unreadable, match="no regular file"):
        import_file(Wish(tmp_path / "fifo"))
    with pytest.raises(Unreadable, match="no regular file"):
        import_file(Wish(tmp_path))
    with pytest.raises(Unreadable, match="no Dhcp4 in it"):
        of_text(tmp_path, '{"Dhcp6": {}}', "kea.conf")
    with pytest.raises(Unreadable, match=r"kea.conf:2: found nonsense; wanted a name"):
        of_text(tmp_path, "{\nnonsense", "kea.conf")


@pytest.mark.parametrize(
    "name, form",
    [("dhcpd/dhcpd.conf", "dhcpd"), ("dhcpd/racks/hosts.conf", "dhcpd"), ("dnsmasq/dnsmasq.conf", "dnsmasq"),
     ("dnsmasq/hosts", "dhcp-hostsfile"), ("kea/kea-dhcp4.conf", "kea"), ("kea/kea3.conf", "kea"),
     ("ethers", "ethers")],
)  # fmt: skip
def test_the_format_is_guessed(name: str, form: str) -> None:
    assert guessed(SITES / name) == form


_WORDS = st.sampled_from(
    [
        "subnet",
        "netmask",
        "10.0.0.0",
        "255.0.0.0",
        "{",
        "}",
        "{",
        "}",
        ";",
        ";",
        ";",
        "host",
        "group",
        "pool",
        "class",
        "match",
        "if",
        "elsif",
        "else",
        "option",
        "arch",
        "code",
        "93",
        "=",
        "unsigned",
        "integer",
        "16",
        "exists",
        "user-class",
        "substring",
        "(",
        ")",
        ",",
        "0",
        "9",
        '"PXEClient"',
        '"',
        "filename",
        "next-server",
        "10.1.0.1",
        "hardware",
        "ethernet",
        "02:00:00:00:00:01",
        "fixed-address",
        "range",
        "subclass",
        "shared-network",
        "include",
        "supersede",
        "not",
        "and",
        "or",
        "domain-name",
        "routers",
        "space",
        "vendor-option-space",
        "encapsulate",
        "text",
        "#",
        "\n",
    ]
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_WORDS, max_size=60))
def test_any_words_of_dhcpd_conf(tmp_path: Path, words: list[str]) -> None:
    found = of_text(tmp_path, NET + HOST + " ".join(words), format="dhcpd")
    assert faults(written(tmp_path, found)) is not None


_LETTERS = st.text(string.printable, max_size=200)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_LETTERS, st.sampled_from(["dhcpd", "dnsmasq", "kea", "ethers", "dhcp-hostsfile"]))
def test_any_text(tmp_path: Path, text: str, form: str) -> None:
    try:
        found = of_text(tmp_path, text, format=form)
    except Unreadable:
        assert form == "kea"
        return
    rows(tmp_path, found)


def test_the_same_file_gives_the_same_text(tmp_path: Path) -> None:
    for name in ("dhcpd/dhcpd.conf", "dnsmasq/dnsmasq.conf", "kea/kea-dhcp4.conf"):
        once, again = (written(tmp_path, imported(SITES / name)).read_text() for _ in range(2))
        assert once == again
