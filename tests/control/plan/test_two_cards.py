"""Servers with several network cards, from the host file to the answer: the documents' example, and public cases."""

import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from ext.builder import Surroundings
from ext.table import Generation, Pair
from ext.verdict import Verdict

from control.cli.command_line import main
from control.config.config import Dhcp
from control.plan.compile import Compiler
from control.sources.filesource import FileSource
from ext import codec
from tests.ext.packets import discover, ip

ROOT = Path(__file__).parents[3]
CASES = ROOT / "tests" / "data" / "cases"
HOSTS = """\
networks: [{base: 10.20.0.0, mask: 255.255.255.0}]
hosts:
- {name: node1, macs: ["02:00:00:00:00:01", "02:00:00:00:00:61"], address: 10.20.0.11, dhcp: {enabled: 1%s}}
"""


def pair_of(path: Path) -> Pair:
    reading = FileSource(f"file://{path}").read()
    done = Compiler(Dhcp()).begin(reading.frame)
    for batch in reading.batches:
        done.add(batch)
    around = Surroundings(networks=tuple(done.rules.networks), links=((2, ip("10.20.0.1"), 24, 1500, True),))
    return Pair(Generation(done.assemble(None, set()).rows.seal(1, around, created_s=1)))


def asked(pair: Pair, mac: int) -> tuple[Verdict, str]:
    reply = codec.answer(pair, discover(mac), ifindex=2, local=ip("10.20.0.1"))
    return reply.verdict, ".".join(map(str, reply.data[16:20])) if reply.data else ""


def test_the_example_of_the_documents(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "inventory.md").read_text()
    section = text.partition("## Several network cards")[2]
    (example,) = re.findall(r"```yaml\n(.*?)```", section.partition("\n## ")[0], re.DOTALL)
    file = tmp_path / "hosts.yaml"
    file.write_text(example)
    pair = pair_of(file)
    found = {mac: asked(pair, 0x020000000000 + mac) for mac in (0x60, 0x61, 0x70, 0x71)}
    assert found == {
        0x60: (Verdict.OFFERED, "10.20.0.90"), 0x61: (Verdict.OFFERED, "10.20.0.90"),
        0x70: (Verdict.OFFERED, "10.20.0.100"), 0x71: (Verdict.OFFERED, "10.20.0.101"),
    }  # fmt: skip
    assert pair.top.host_count == 2


def explain(hosts: Path, message: str) -> str:
    ran = CliRunner(env={"HOME": "/nowhere"}).invoke(main, ["explain", "--hosts", str(hosts), message])
    assert ran.exit_code == 0, ran.output
    return ran.stdout


MESSAGE = (CASES / "04-second-nic.hex").read_text().strip()


def test_a_second_card_is_known_and_the_reason_true(tmp_path: Path) -> None:
    file = tmp_path / "hosts.yaml"
    file.write_text(HOSTS % "")
    said = explain(file, MESSAGE)
    assert "the machine is known, and this is a network card of it that is not served" in said
    assert "port-nic-eth 2 of node1 is not one of its boot_ports" in said and "node1 (host), other-port" in said


def test_a_second_card_boots_where_it_may(tmp_path: Path) -> None:
    file = tmp_path / "hosts.yaml"
    file.write_text(HOSTS % ", boot_ports: 2")
    assert "10.20.0.11" in explain(file, MESSAGE) and asked(pair_of(file), 0x020000000001)[0] == (
        Verdict.IGNORED_OTHER_PORT
    )


def test_a_card_that_nobody_has_is_a_stranger() -> None:
    said = explain(CASES / "00-hosts.yaml", MESSAGE)
    assert "the inventory has no machine with this MAC address" in said


def test_two_rows_with_one_address_stay_a_conflict_that_names_both() -> None:
    pair = pair_of(CASES / "04-two-rows-one-address.yaml")
    assert {asked(pair, mac)[0] for mac in (0x020000000002, 0x020000000003)} == {Verdict.IGNORED_CONFLICT}


@pytest.mark.parametrize("row", ["", ", boot_ports: all"])
def test_a_look_up_by_the_second_card_finds_its_host(tmp_path: Path, row: str) -> None:
    file = tmp_path / "hosts.yaml"
    file.write_text(HOSTS % row)
    source = FileSource(f"file://{file}")
    found: Any = source.read_hosts(["02:00:00:00:00:61"], [], source.read().frame)
    assert found.hosts == ["/server/node1"]
