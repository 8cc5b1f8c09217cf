"""Client classes in the cases of people who do this job: tests/data/cases, inputs as the source shows them.

Each is explained as an operator would have it explained, from the host file; the right value is that of the source."""

import json
from pathlib import Path
from typing import Any

import pytest
from ext.classify import ClientClass
from ext.site_classes import PARENTS

from control.config.config import Dhcp, parse
from control.explain.classes import discover, said_by_firmware
from control.explain.command import explain, from_hosts
from control.explain.offline import plan_file
from control.plan.classes import NAMES
from control.sources.filesource import FileSource
from tests.ext.packets import DISCOVER, message, tlv

CASES = Path(__file__).parents[2] / "data/cases"
SECRET = "s3cret"
MENU = "060108ff"  # 43: take the boot file of this offer
ROMS = [client for client in ClientClass if ClientClass.PXE in (client, PARENTS[client])]


def site(folder: Path, hosts: str, changes: dict[str, str] | None = None) -> Path:
    """A host file of the cases, with what an operator changes in it."""
    said = (CASES / hosts).read_text()
    for before, after in (changes or {}).items():
        assert before in said
        said = said.replace(before, after)
    path = folder / hosts
    path.write_text(said)
    return path


def classes(*described: dict[str, Any], **dhcp: Any) -> Dhcp:
    return parse(json.dumps({"dhcp": {"classes": list(described), **dhcp}}).encode(), Path("services.conf")).dhcp


class Answer:
    """What is explained of one request: its class, the verdict, the options of the answer as octets."""

    def __init__(self, hosts: Path, payload: bytes | str, config: Dhcp | None = None) -> None:
        text = payload.hex() if isinstance(payload, bytes) else (CASES / payload).read_text()
        _kind, found = explain(text, from_hosts(hosts, config or Dhcp()))
        self.said = found["request"]
        self.client, self.verdict = self.said["class"], self.said["verdict"]
        self.reply = self.said["reply"] or {}
        self.options = {each["code"]: bytes.fromhex(each["hex"]) for each in self.reply.get("options", [])}

    def text(self, code: int) -> str | None:
        return self.options[code].rstrip(b"\0").decode() if code in self.options else None


def faults(hosts: Path, config: Dhcp | None = None) -> dict[str, list[str]]:
    return dict(plan_file(FileSource(f"file://{hosts}"), config or Dhcp()).faults)


# --- 01: two stages of one switch -------------------------------------------------------------------------------------

# The system says nothing of itself: whatever else a switch of this maker asks is asked by its system.
STAGES = (
    {"name": "onie", "match": {"vendor_class": "onie_vendor:*"}},
    {"name": "switch-system", "match": {"oui": "02:00:00"}},
)
SAID = {
    "default-url:": "default-url--onie:",
    'tftp_filename: "http': 'tftp_filename--switch-system: "http',
    "option-239:": "option-239--switch-system:",
}
INSTALLER, CONFIGURATION, SCRIPT = (f"http://10.20.0.2/{name}" for name in ("sonic-broadcom.bin", "ztp.json", "ztp.sh"))


def test_each_stage_of_a_switch_gets_its_own(tmp_path: Path) -> None:
    hosts, config = site(tmp_path, "00-hosts.yaml", SAID), classes(*STAGES)
    onie, sonic = (Answer(hosts, name, config) for name in ("01-onie.hex", "01-sonic.hex"))
    assert (onie.said["mac"], onie.said["address"]) == (sonic.said["mac"], sonic.said["address"])
    assert (onie.client, sonic.client) == ("onie", "switch-system")
    assert [onie.text(code) for code in (114, 67, 239)] == [INSTALLER, None, None]
    assert [sonic.text(code) for code in (114, 67, 239)] == [None, CONFIGURATION, SCRIPT]
    assert onie.said["class_words"] == (
        "a class of this site (dhcp.classes): vendor_class onie_vendor:*; by itself an operating system, an installer "
        "or a management card"
    )
    assert "mac 02:00:00" in sonic.said["class_words"]


def test_who_of_two_classes_has_a_file_of_his_own_need_not_have_all(tmp_path: Path) -> None:
    """One class is enough, where the system may be told what everybody is told."""
    own = {'tftp_filename: "http': f'tftp_filename--onie: "{INSTALLER}", tftp_filename: "http'}
    hosts, config = site(tmp_path, "00-hosts.yaml", own), classes(STAGES[0])
    onie, sonic = (Answer(hosts, name, config) for name in ("01-onie.hex", "01-sonic.hex"))
    assert [onie.text(code) for code in (67, 239)] == [INSTALLER, SCRIPT]
    assert (sonic.client, sonic.text(67), sonic.text(239)) == ("os", CONFIGURATION, SCRIPT)


def test_the_order_decides_where_two_classes_fit(tmp_path: Path) -> None:
    hosts, config = site(tmp_path, "00-hosts.yaml", SAID), classes(*reversed(STAGES))
    assert Answer(hosts, "01-onie.hex", config).client == "switch-system"


def test_the_name_that_onie_s_documents_use_is_known(tmp_path: Path) -> None:
    hosts = site(tmp_path, "00-hosts.yaml")
    assert faults(hosts) == {}
    assert Answer(hosts, "01-onie.hex").text(114) == "http://10.20.0.2/sonic-broadcom.bin"


# --- 02, 03: architectures --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hosts", ["00-hosts.yaml", "00-hosts-proxy.yaml"])
def test_bluefield_boots_as_64_bit_arm(tmp_path: Path, hosts: str) -> None:
    found = Answer(site(tmp_path, hosts), "02-bluefield-pxe.hex")
    assert (found.client, found.text(67), found.text(66)) == ("uefi-arm64", "snponly-arm64.efi", "10.20.0.2")
    assert found.verdict == ("OFFERED_PROXY" if "proxy" in hosts else "OFFERED")


@pytest.mark.parametrize(
    "case, client",
    [
        ("03-petitboot.hex", "power-opal"),
        ("03-uboot-arm64-pxeclient.hex", "uboot-arm64"),
        ("03-uboot-arm64-vci.hex", "uboot-arm64"),
    ],
)
@pytest.mark.parametrize("proxy", [False, True], ids=["", "proxy"])
def test_an_architecture_is_a_class(tmp_path: Path, case: str, client: str, proxy: bool) -> None:
    hosts = "00-hosts-proxy.yaml" if proxy else "00-hosts.yaml"
    found = Answer(site(tmp_path, hosts), case)
    assert (found.client, found.text(67)) == (client, "undionly.kpxe")
    assert found.verdict == ("OFFERED_PROXY" if proxy else "OFFERED")
    everybody_s = "    tftp_filename: undionly.kpxe\n"
    for said_to in (client, "pxe"):  # its own, its parent's
        own = site(tmp_path, hosts, {everybody_s: f"{everybody_s}    tftp_filename--{said_to}: own.img\n"})
        assert Answer(own, case).text(67) == "own.img"


@pytest.mark.parametrize("client", ROMS, ids=lambda client: client.name)
@pytest.mark.parametrize("proxy", [False, True], ids=["", "proxy"])
def test_every_registered_rom_is_known_and_boots(tmp_path: Path, client: ClientClass, proxy: bool) -> None:
    hosts = site(tmp_path, "00-hosts-proxy.yaml" if proxy else "00-hosts.yaml")
    found = Answer(hosts, discover(0x020000000001, said_by_firmware(client)))
    assert found.client == NAMES[client]
    assert found.verdict == ("OFFERED_PROXY" if proxy else "OFFERED") and found.text(67)


AS_BEFORE = (
    {"name": "ipxe-first", "parent": "ipxe", "match": {"user_class": "iPXE*"}},
    {"name": "as-before", "parent": "os", "match": {"architecture": [12, 13, 14, 21, 22, 27]}},
    {"name": "bluefield", "parent": "os", "match": {"vendor_class": "NVIDIA/BF/PXE*"}},
)


@pytest.mark.parametrize("case", ["02-bluefield-pxe.hex", "03-petitboot.hex", "03-uboot-arm64-pxeclient.hex"])
def test_what_was_a_system_s_can_be_so_again(tmp_path: Path, case: str) -> None:
    """The way back that CHANGELOG.md names."""
    line = "    tftp_filename--uefi-arm64: snponly-arm64.efi\n"
    hosts = site(tmp_path, "00-hosts.yaml", {line: f"{line}    tftp_filename--os: system.img\n"})
    assert Answer(hosts, case, classes(*AS_BEFORE)).text(67) == "system.img"
    assert Answer(hosts, case).text(67) != "system.img"
    proxied = site(tmp_path, "00-hosts-proxy.yaml")
    assert Answer(proxied, case, classes(*AS_BEFORE)).verdict == "IGNORED_PROXY"


# --- 09: a management card's profile ----------------------------------------------------------------------------------

BMC = Dhcp(update_ipmi=True)


def test_a_management_card_s_profile_is_for_it_alone(tmp_path: Path) -> None:
    hosts = site(tmp_path, "09-idrac.yaml", {"vendor_specific:": "vendor_specific--bmc:"})
    card = Answer(hosts, "09-idrac-shared-lom.hex", BMC)
    assert (card.said["role"], card.said["address"]) == ("bmc", "10.20.0.51/24")
    assert SECRET in str(card.text(43)) and 60 not in card.options
    system = message(DISCOVER, 0x020000000001, tlv(60, b"anaconda-Linux"))
    for asks in ("09-host-bios-pxe.hex", "09-host-uefi-pxe.hex", system):
        host = Answer(hosts, asks, BMC)
        assert (host.said["role"], host.said["address"], host.text(67)) == ("host", "10.20.0.11/24", "pxelinux.0")
        assert 43 not in host.options and SECRET.encode() not in b"".join(host.options.values())


# --- 09b: a 43 that is not PXE's --------------------------------------------------------------------------------------


def test_a_43_that_is_not_pxe_s_does_not_make_the_offer_a_boot_server_s(tmp_path: Path) -> None:
    hosts = site(tmp_path, "09b-uefi-43-not-pxe.yaml")
    found = Answer(hosts, "09b-uefi-x64-discover.hex")
    assert (found.client, found.options[43].hex(), 60 in found.options) == ("uefi-x64", "f1040a140005", False)
    assert (found.text(66), found.reply["next_server"], found.text(67)) == ("10.20.0.7", "10.20.0.7", "boot.efi")
    assert faults(hosts) == {}


@pytest.mark.parametrize(
    "said, is_pxe",
    [
        ("discovery-control=8", True), ("0x060108ff", True), ("0x0a0400505845", True), ("0x0801ff", True),
        ("0x47047f0000010601 08".replace(" ", ""), True),
        ("241=ip:10.20.0.5", False), ("0x470106", False), ("0x7404aabbccdd", False), ("0x0608", False),
        ("-f system_config.xml", False), ("0xff060108", False), ("0x0000", False),
    ],
)  # fmt: skip
def test_60_is_sent_for_what_43_says(tmp_path: Path, said: str, is_pxe: bool) -> None:
    hosts = site(tmp_path, "09b-uefi-43-not-pxe.yaml", {'"241=ip:10.20.0.5"': f'"{said}"'})
    found = Answer(hosts, "09b-uefi-x64-discover.hex")
    assert 43 in found.options and found.text(60) == ("PXEClient" if is_pxe else None)


def test_who_says_60_himself_is_believed(tmp_path: Path) -> None:
    hosts = site(tmp_path, "09b-uefi-43-not-pxe.yaml", {"enabled: 1,": "enabled: 1, vendor_class_id--pxe: PXEClient,"})
    assert Answer(hosts, "09b-uefi-x64-discover.hex").text(60) == "PXEClient"
    assert 60 not in Answer(hosts, message(DISCOVER, 0x020000000001)).options


def test_a_proxied_rom_is_not_sent_another_s_43_and_a_fault_names_it(tmp_path: Path) -> None:
    hosts = site(tmp_path, "09b-uefi-43-not-pxe.yaml", {"enabled: 1,": "enabled: 1, proxy: 1,"})
    found = Answer(hosts, "09b-uefi-x64-discover.hex")
    assert (found.verdict, found.options[43].hex(), found.text(60)) == ("OFFERED_PROXY", MENU, "PXEClient")
    ((name, (line,)),) = faults(hosts).items()
    assert name == "mixed" and line.startswith(
        "dhcp vendor_specific = '241=ip:10.20.0.5' has none of PXE's sub-options 6, 8, 9, 10: with proxy it is not sent"
    )
    for ours in ("vendor_specific--os:", "vendor_specific--bmc:"):
        quiet = site(
            tmp_path, "09b-uefi-43-not-pxe.yaml", {"enabled: 1,": "enabled: 1, proxy: 1,", "vendor_specific:": ours}
        )
        said = [line for lines in faults(quiet).values() for line in lines]  # here BMCs are not told apart
        assert all("vendor_specific--bmc reaches nobody" in line for line in said)


# --- 23: HTTP boot ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "case, client, url",
    [
        ("23-httpboot-x64.hex", "http-boot-x64", "http://10.20.0.2/x64/shimx64.efi"),
        ("23-httpboot-arm64.hex", "http-boot-arm64", "http://10.20.0.2/arm64/shimaa64.efi"),
        ("23-httpboot-bios.hex", "http-boot-bios", "http://10.20.0.2/x64/shimx64.efi"),
    ],
)
@pytest.mark.parametrize("said_to", ["uefi-arm64", "http-boot-arm64"])
def test_http_boot_of_each_architecture_gets_its_url(
    tmp_path: Path, case: str, client: str, url: str, said_to: str
) -> None:
    """A URL that is said to a ROM's class is for HTTP boot on the same architecture: no ROM loads one over PXE."""
    hosts = site(tmp_path, "23-httpboot.yaml", {"bootfile_url--uefi-arm64": f"bootfile_url--{said_to}"})
    found = Answer(hosts, case)
    assert (found.client, found.text(67), found.text(60)) == (client, url, "HTTPClient")
    assert 66 not in found.options and faults(hosts) == {}


def test_a_bios_that_boots_from_a_url_may_have_its_own(tmp_path: Path) -> None:
    own = {"bootfile_url:": 'bootfile_url--bios-pxe: "http://10.20.0.2/bios.img", bootfile_url:'}
    hosts = site(tmp_path, "23-httpboot.yaml", own)
    assert Answer(hosts, "23-httpboot-bios.hex").text(67) == "http://10.20.0.2/bios.img"
    assert Answer(hosts, "23-httpboot-x64.hex").text(67) == "http://10.20.0.2/x64/shimx64.efi"
    rom = Answer(hosts, discover(0x020000000001, said_by_firmware(ClientClass.BIOS_PXE)))
    assert rom.text(67) == "undionly.kpxe"
