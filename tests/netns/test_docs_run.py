"""The commands of README.md and docs/ as they stand there, in their order, on private networks: README's block by a
newcomer, the others against one service (`make test-docs`)."""

from __future__ import annotations

import json
import re
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from bench.lab.clients import tiny
from bench.lab.lab import Host, Lab, Process
from tests.ext import packets
from tests.fences import NOT_RUN, ROOT, Command, Fence, commands, fences

pytestmark = pytest.mark.netns

LIMIT_S = 120.0
MAC, ADDRESS = "02:00:00:00:00:01", "10.20.0.11"
HOSTS = """\
networks: [{base: 10.20.0.0, mask: 255.255.255.0, gateway: 10.20.0.1}]
pools: [{name: racks, dhcp: {enabled: 1, tftp_server: 10.20.0.2, tftp_filename: %s}}]
containers: [{name: rack7, driver: basicrack}]
hosts:
- {name: node1, mac: "02:00:00:00:00:01", address: 10.20.0.11, pool: racks}
- {name: node2, mac: "02:00:00:00:00:02", address: 10.20.0.12, pool: racks, dhcp: {enabled: 0}}
- {name: node7, mac: "02:00:00:00:00:07", address: 10.20.0.17, pool: racks, rack: rack7, ru: 1}
"""
# What a document says of other machines -> what stands for it here.
HERE = {
    "/etc/clusto --interface": "etc --interface",
    "--socket /var/lib/bootstorm/control.sock": "--socket state/control.sock",
    "0101060012345678...": packets.discover(0x020000000001).hex(),
    "events --follow": "events",
    "/etc/dhcp/dhcpd.conf -o hosts.yaml": "dhcpd.conf -o imported.yaml",
}
# Commands that fail on this site, and what they say.
ELSEWHERE = {
    "ctl -c services.conf adopt": "nobody knows where it is",
    "ctl -c services.conf observed": 'dhcp.mode is "serve"',
    "bootstorm ctl fleet": "services.conf has no section fleet",  # of fleets: tests/fleet/real
}
DHCPD = """\
subnet 10.20.0.0 netmask 255.255.255.0 { option routers 10.20.0.1; }
host node1 { hardware ethernet 02:00:00:00:00:01; fixed-address 10.20.0.11; }
"""


class Site(NamedTuple):
    host: Host
    folder: Path

    def sh(self, script: str) -> tuple[int, str, str]:
        """Exit code, standard output, standard error of a script in the folder, with `bootstorm` on the path."""
        done = self.host.run(["sh", "-c", self.begin + script], timeout=LIMIT_S, check=False)
        return done.returncode, done.stdout, done.stderr

    @property
    def begin(self) -> str:
        folder = shlex.quote(str(self.folder))
        return f"cd {folder}; PATH={folder}/.venv/bin:$PATH; export PATH; "


def site_on(host: Host) -> Site:
    """A folder like that of a clone, on a machine without state of its own."""
    folder = host.scratch / "clone"
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name, text in (
        ("bootstorm", f'PYTHONPATH={shlex.quote(str(ROOT))} exec {shlex.quote(sys.executable)} -P -m control "$@"'),
        ("sudo", 'exec "$@"'),
    ):
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    host.run(["mount", "-t", "tmpfs", "none", "/var/lib"])
    return Site(host, folder)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    if reason := Lab.available():
        pytest.skip(reason)
    if Path("/etc/clusto/services.conf").exists():
        pytest.skip("this machine has a services.conf of its own, which commands without -c would find")
    with Lab() as made:
        yield made


def of_file(name: str) -> list[Fence]:
    return [fence for fence in fences() if fence.file == name and not fence.first.startswith(tuple(NOT_RUN))]


def test_a_newcomer_pastes_readme_s_block_and_a_machine_boots(lab: Lab) -> None:
    server, client = lab.host("newcomer"), lab.host("machine")
    lab.wire(server, client, a_if="eth1", b_if="cl", a_addr="10.20.0.2/24", b_mac=MAC)
    site = site_on(server)
    (block,) = [fence for fence in of_file("README.md") if "bootstorm init" in fence.text]
    shell = server.popen(["sh", "-ec", f"{site.begin}\n{block.text}\necho pasted\nwait"])
    shell.wait_for("pasted", LIMIT_S)
    said = shell.log()
    for line in (
        "machines of hosts.yaml that ask on eth1 (10.20.0.2/24) are answered", "services.conf: good",
        "hosts.yaml: 1 hosts, no faults", "hosts       1 answered",
    ):  # fmt: skip
        assert line in said, said
    lease = tiny(client, "cl")
    assert (lease.address, lease.boot_file, lease.server_id) == (ADDRESS, "/pxelinux.0", "10.20.0.2")


@pytest.fixture(scope="module")
def served(lab: Lab) -> Iterator[Site]:
    """The documents' site, whose node1 has just booted, with a capture of that."""
    server, client = lab.host("server"), lab.host("client")
    lab.wire(server, client, a_if="eth1", b_if="cl", a_addr="10.20.0.2/24", b_mac=MAC)
    site = site_on(server)
    (site.folder / "etc").mkdir()
    (site.folder / "hosts.yaml").write_text(HOSTS % "/pxelinux.0")
    (site.folder / "dhcpd.conf").write_text(DHCPD)
    conf = {
        "dhcp": {"api_url": f"file://{site.folder}/hosts.yaml", "state_dir": str(site.folder / "state"), "workers": 2,
                 "interfaces": ["eth1"]},
        "snmp": {},
    }  # fmt: skip
    (site.folder / "services.conf").write_text(json.dumps(conf))
    service = server.popen(["sh", "-c", site.begin + "exec bootstorm serve -c services.conf"])
    assert site.sh("bootstorm ctl -c services.conf status --wait 60")[0] == 0, service.log()
    assert tiny(client, "cl").address == ADDRESS
    assert site.sh("bootstorm ctl -c services.conf recent --pcap storm.pcap")[0] == 0
    yield site
    service.stop()


def all_commands() -> Iterator[tuple[Fence, Command]]:
    for name in ("configuration.md", "inventory.md", "operations.md"):
        for fence in of_file(name):
            yield from ((fence, each) for each in commands(fence) if "bootstorm " in each.line)


def change_the_inventory(site: Site, command: str) -> None:
    """So that there is something to show, or to go back from."""
    if not re.search(r" (diff|rollback)$", command):
        return
    hosts = site.folder / "hosts.yaml"
    hosts.write_text(HOSTS % ("/rescue.0" if "pxelinux" in hosts.read_text() else "/pxelinux.0"))
    assert site.sh("bootstorm ctl -c services.conf refresh --wait")[0] == 0


def inventory_on(site: Site) -> Process:
    """The embedded one, empty, at its usual port."""
    process = site.host.popen(["sh", "-c", f"{site.begin} exec bootstorm inventory --dsn sqlite:///example.db"])
    process.wait_for("listening on", LIMIT_S)
    return process


def skeleton(line: str) -> str:
    return re.sub(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}|[\d.,]+", "#", line)


def in_etc(site: Site, said: str) -> str:
    """As a machine says it whose files are where documents have them."""
    return said.strip().replace(str(site.folder), "/etc/clusto")


@pytest.mark.docs
def test_every_command_does_what_its_document_says(served: Site) -> None:
    """The exit code is 1 where the output that is shown says so; a line that is shown alone is that line, but for its
    numbers."""
    faults, started = [], time.monotonic()
    asked: list[Process] = []
    tried = list(all_commands())
    for fence, command in tried:
        line = command.line
        for there, here in HERE.items():
            line = line.replace(there, here)
        if line.startswith("bootstorm init"):
            line = line.replace("bootstorm init", "cd etc; rm -f *; bootstorm init", 1).replace("init etc", "init .")
        if line.endswith("9996"):
            line = f"timeout -s TERM 5 {line}; test $? -eq 124 || test $? -eq 0"
        change_the_inventory(served, command.line)
        if " http://127.0.0.1:9996" in line and not asked:
            asked.append(inventory_on(served))
        code, out, err = served.sh(line)
        expected = next((said for words, said in ELSEWHERE.items() if words in line), None)
        fails = expected is not None or "\n".join(command.shown).startswith("bootstorm: ")
        wanted = 1 if fails else 0
        if code != wanted or "Traceback" in err or (expected or "") not in err:
            faults.append(f"{fence.name}: {line}: exit code {code}, wanted {wanted}\n{out}{err}")
        elif (
            len(command.shown) == 1
            and not wanted
            and skeleton(said := in_etc(served, out + err)) != skeleton(command.shown[0])
        ):
            faults.append(f"{fence.name}: {line}\nfound  {said}\nwanted {command.shown[0]}")
        if line.endswith(" rollback"):
            served.sh("bootstorm ctl -c services.conf refresh --force --wait")
    for inventory in asked:
        inventory.stop()
    print(f"{len(tried)} commands in {time.monotonic() - started:.1f} s")
    assert not faults, "\n\n".join(faults)
    assert len(tried) > 40


@pytest.mark.docs
def test_the_python_client_s_example(served: Site) -> None:
    (program,) = [fence for fence in of_file("inventory.md") if fence.language == "python"]
    (served.folder / "example.py").write_text(program.text)
    inventory = inventory_on(served)
    code, out, err = served.sh(f"PYTHONPATH={ROOT} {sys.executable} -P example.py")
    assert code == 0, out + err
    inventory.stop()
