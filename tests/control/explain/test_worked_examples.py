"""The worked examples of docs/inventory.md: configuration and host file as they stand there, asked by each kind of
client that the table below them lists; what the table says is what is answered."""

import re
from pathlib import Path

import pytest
from ext.classify import ClientClass

from control.config.config import parse
from control.explain.classes import discover, said_by_firmware
from control.explain.offline import plan_file
from control.plan.classes import CLASSES
from control.sources.filesource import FileSource
from tests.control.explain.test_public_cases import CASES, Answer

DOCUMENT = Path(__file__).parents[3] / "docs/inventory.md"
EXAMPLES = ("An installer and its system on one MAC", "Every kind of machine in one pool")
ASKS = {"onie": "01-onie.hex", "switch-system": "01-sonic.hex", "os": "09-idrac-shared-lom.hex"}


def example(heading: str) -> tuple[str, str, list[list[str]]]:
    """services.conf, host file, rows of the table."""
    found = re.search(rf"^### {re.escape(heading)}\n(.*?)(?=^##)", DOCUMENT.read_text(), re.DOTALL | re.MULTILINE)
    assert found is not None
    (conf,), (hosts,) = (re.findall(rf"^```{kind}\n(.*?)^```", found[1], re.DOTALL | re.M) for kind in ("json", "yaml"))
    rows = [line.strip("| ").split(" | ") for line in found[1].splitlines() if line.startswith("| ")]
    return conf, hosts, [row for row in rows[2:] if len(row) == 3]


@pytest.mark.parametrize("heading", EXAMPLES)
def test_an_example_of_the_documents(tmp_path: Path, heading: str) -> None:
    conf, said, rows = example(heading)
    hosts = tmp_path / "hosts.yaml"
    hosts.write_text(said)
    config = parse(conf.encode(), Path("services.conf")).dhcp
    assert not plan_file(FileSource(f"file://{hosts}"), config).faults
    mac = int(re.findall(r'mac: "([0-9a-f:]+)"', said)[0].replace(":", ""), 16)
    gets = {int(code): value for *_, cell in rows for code, value in re.findall(r"(\d+) = `([^`]+)`", cell)}
    assert len(rows) >= 2
    for _words, cell, wanted in rows:
        name = cell.strip("`")
        case = ASKS.get(name)
        asked = case or discover(mac, said_by_firmware(CLASSES[name]))
        found = Answer(hosts, asked, config)
        own = {int(code): value for code, value in re.findall(r"(\d+) = `([^`]+)`", wanted)}
        assert (found.client, found.verdict) == (name, "OFFERED"), name
        if case == "09-idrac-shared-lom.hex":
            assert (found.said["role"], found.said["address"]) == ("bmc", "10.20.0.51/24")
            assert found.text(67) == "undionly.kpxe", "what everybody gets is the card's, too"
            del found.options[67]
        assert {code: found.text(code) for code in gets if code in found.options} == own


def test_the_examples_ask_as_the_cases_do() -> None:
    """The machines of the cases have the MACs of the examples."""
    assert {name: (CASES / file).exists() for name, file in ASKS.items()} == dict.fromkeys(ASKS, True)
    assert said_by_firmware(ClientClass.OS) == b""
