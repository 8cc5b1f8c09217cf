"""`bootstorm import`: what it writes, what it says, its exit codes; and what `lint` and `inventory load` make of it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from control.cli import import_command
from control.cli.command_line import main
from control.importers import command
from control.importers.writing import flow, row
from tests.control.importers.support import SITES

SITE = SITES / "dhcpd/dhcpd.conf"
NET = "subnet 10.0.0.0 netmask 255.0.0.0 { option routers 10.0.0.1; }\n"
SECONDS_MAX, MEMORY_KB_MAX = 10, 300 << 10


def bootstorm(*arguments: str | Path) -> Result:
    return CliRunner(env={"HOME": "/nowhere"}).invoke(main, [str(each) for each in arguments])


@pytest.mark.parametrize(
    "name, code, hosts",
    [("dhcpd/dhcpd.conf", 1, 6), ("dnsmasq/dnsmasq.conf", 1, 8), ("kea/kea-dhcp4.conf", 1, 4), ("ethers", 1, 2)],
)
def test_from_a_file_to_a_served_inventory(tmp_path: Path, name: str, code: int, hosts: int) -> None:
    path = tmp_path / "hosts.yaml"
    networks = ["--network", "10.70.0.0/24"] if name == "ethers" else []
    ran = bootstorm("import", SITES / name, "-o", path, *networks)
    assert (ran.exit_code, ran.stdout) == (code, ""), ran.output
    assert f" {hosts} hosts" in ran.stderr.splitlines()[-1]
    for line in ran.stderr.splitlines()[:-1]:
        place, what = line.split(": ")[:2]
        assert Path(place.rpartition(":")[0]).is_file() and int(place.rpartition(":")[2]) > 0
        assert what in ("not carried over", "not needed")
    linted = bootstorm("lint", path)
    assert linted.exit_code == 0 and f"{hosts} hosts, no faults" in linted.stdout, linted.stdout
    loaded = bootstorm("inventory", "--dsn", f"sqlite:///{tmp_path}/site.db", "load", path)
    assert loaded.exit_code == 0, loaded.output


def test_all_was_carried_over(tmp_path: Path) -> None:
    conf = tmp_path / "dhcpd.conf"
    conf.write_text(NET + "authoritative;\nhost a { hardware ethernet 02:00:00:00:00:01; fixed-address 10.1.0.9; }\n")
    ran = bootstorm("import", conf)
    assert ran.exit_code == 0, ran.output
    assert yaml.safe_load(ran.stdout)["hosts"] == [
        {"name": "a", "mac": "02:00:00:00:00:01", "address": "10.1.0.9", "pool": "imported"}
    ]
    assert "not needed: authoritative: " in ran.stderr


def test_the_report_as_json(tmp_path: Path) -> None:
    ran = bootstorm("import", SITE, "-o", tmp_path / "hosts.yaml", "--json")
    said = json.loads(ran.stdout)
    assert (ran.exit_code, said["hosts"], said["networks"], said["lost"]) == (1, 6, 3, 1)
    assert said["output"] == str(tmp_path / "hosts.yaml") and said["format"] == "dhcpd"
    lost = [note for note in said["notes"] if note["lost"]]
    assert [(note["file"], note["line"]) for note in lost] == [(str(SITE), 62)]
    assert set(lost[0]) == {"file", "line", "text", "reason", "lost"}


def test_no_file_is_replaced_without_force(tmp_path: Path) -> None:
    path = tmp_path / "hosts.yaml"
    path.write_text("mine")
    ran = bootstorm("import", SITE, "-o", path)
    assert ran.exit_code == 2 and "is there already; --force replaces it" in ran.stderr and path.read_text() == "mine"
    assert bootstorm("import", SITE, "-o", path, "--force").exit_code == 1 and path.read_text().startswith("# Imported")
    assert [each.name for each in tmp_path.iterdir()] == ["hosts.yaml"]
    missing = bootstorm("import", SITE, "-o", tmp_path / "nosuch/hosts.yaml")
    assert missing.exit_code == 1 and missing.stderr.endswith("No such file or directory\n")


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["/nosuch"], "does not exist"),
        ([SITE, "--from", "nosuch"], "is not one of"),
        ([SITE, "--network", "10.0.0.0/33"], "--network: "),
        ([SITE, "--server-address", "nowhere"], "--server-address: "),
        ([SITE, "--network", "10.0.0.0/8"], "is dhcpd's and has its own"),
        ([SITE, "--server-address", "10.0.0.1"], "--server-address is for dnsmasq"),
        ([Path(__file__).parents[3] / "LICENSE"], "its format is not known; --from says it"),
    ],
)
def test_wrong_usage(arguments: list[str | Path], said: str) -> None:
    ran = bootstorm("import", *arguments)
    assert ran.exit_code == 2 and said in ran.stderr, ran.output


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "kea.conf").write_text('{"Dhcp4": {')
    ran = bootstorm("import", tmp_path / "kea.conf")
    assert ran.exit_code == 1 and ran.stdout == "" and "it is not Kea's JSON" in ran.stderr
    assert ran.stderr.count("\n") == 1


def test_a_services_conf_with_the_classes(tmp_path: Path) -> None:
    hosts, conf = tmp_path / "hosts.yaml", tmp_path / "services.conf"
    ran = bootstorm("import", SITES / "kea/kea3.conf", "-o", hosts, "--conf", conf)
    assert ran.exit_code == 1, ran.output
    said = json.loads(conf.read_text())["dhcp"]
    assert said["api_url"] == f"file://{hosts}" and [each["name"] for each in said["classes"]] == ["acme-tel"]
    assert bootstorm("lint", "-c", conf).exit_code == 0
    assert bootstorm("import", SITES / "kea/kea3.conf", "--conf", conf).exit_code == 2


def test_the_formats_of_the_command_are_those_of_the_room() -> None:
    assert import_command.FORMATS == command.FORMATS


_VALUES = st.recursive(
    st.text(max_size=20)
    | st.integers(-(2**63), 2**63 - 1)
    | st.sampled_from(["yes", "1.5", "~", "- a", "a: b", "1:30"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
)


@settings(max_examples=50, deadline=None)
@given(_VALUES)
def test_what_is_written_is_read_as_the_same(value: object) -> None:
    assert yaml.safe_load(flow(value)) == value
    fields = {"name": "a b", "dhcp": {"x": value, "y": "z" * 120}}
    assert yaml.safe_load(row(fields)) == [fields]


@pytest.mark.long
def test_50_000_hosts_take_seconds_and_little_memory(tmp_path: Path) -> None:
    count = 50_000
    conf = tmp_path / "dhcpd.conf"
    with conf.open("w") as stream:
        stream.write(NET + "next-server 10.0.0.2; option arch code 93 = unsigned integer 16;\n")
        stream.write('if option arch = 00:07 { filename "x.efi"; } else { filename "x.0"; }\n')
        for at in range(count):
            group = f'group {{ option root-path "/srv/{at}";\n' if at % 100 == 0 else ""
            mac = (0x020000000000 + at).to_bytes(6, "big").hex(":")
            address = f"10.{at >> 14}.{at >> 7 & 127}.{at % 128 + 2}"
            stream.write(
                f"{group}  host node{at} {{\n    hardware ethernet {mac};\n    fixed-address {address};\n"
                f'    option host-name "node{at}";\n    filename "grub/node{at % 7}.efi";\n  }}\n'
                f"{'}' if at % 100 == 99 else ''}\n"
            )
    argv = [sys.executable, "-m", "control", "import", str(conf), "-o", str(tmp_path / "hosts.yaml")]
    argv += ["--conf", str(tmp_path / "services.conf")]
    began = time.monotonic()
    code = (
        "import resource, subprocess, sys; ran = subprocess.run(sys.argv[1:]).returncode; "
        "used = resource.getrusage(resource.RUSAGE_CHILDREN); "
        "sys.stdout.write(f'{ran} {used.ru_maxrss} {used.ru_utime + used.ru_stime}')"
    )
    ran = subprocess.run([sys.executable, "-c", code, *argv], capture_output=True, text=True, check=True)
    exit_code, memory_kb, seconds = ran.stdout.split()
    sys.stdout.write(
        f"{count} hosts: {float(seconds):.1f} s of CPU, {time.monotonic() - began:.1f} s, {memory_kb} KB\n"
    )
    assert int(exit_code) == 0, ran.stderr[-2_000:]
    assert float(seconds) < SECONDS_MAX and int(memory_kb) < MEMORY_KB_MAX
    assert sum(line.startswith("- name: node") for line in (tmp_path / "hosts.yaml").read_text().splitlines()) == count
