"""`bootstorm lint`: every fault of a file or an inventory, with file and line, and without a service."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from control.cli.command_line import main
from control.cli.faults_text import print_findings
from control.config.config import Dhcp
from control.explain.lint import LINT_KINDS, Lint, nearest
from control.explain.offline import plan_file
from control.sources.filesource import FileSource
from control.sources.model import Inventory, Reading
from tests.control.inventories import Site, dhcp_attributes
from tests.control.refreshing import inventory_server

HEAD = """networks:
- {base: 10.1.0.0, mask: 255.255.0.0, gateway: 10.1.0.1}
pools:
- name: racks
  dhcp:
    enabled: 1
    tftp_filename: bios.0
"""
GOOD = '- {name: good, mac: "02:00:00:00:00:01", address: 10.1.0.9, pool: racks}\n'


def bootstorm(*arguments: str | Path) -> Result:
    return CliRunner(env={"HOME": "/nowhere"}).invoke(main, [str(each) for each in arguments])


def linted(folder: Path, content: str, *options: str, name: str = "hosts.yaml") -> tuple[int, list[str], str]:
    """Exit code, the lines of findings without the folder, and the last line."""
    path = folder / name
    path.write_text(content)
    ran = bootstorm("lint", path, *options)
    assert ran.stderr == "" and ran.exit_code in (0, 1), ran.output
    *lines, last = ran.stdout.replace(f"{folder}/", "").splitlines()
    return ran.exit_code, lines, last


def found_in(folder: Path, content: str, name: str = "hosts.yaml") -> list[dict[str, Any]]:
    path = folder / name
    path.write_text(content)
    ran = bootstorm("lint", path, "--json")
    found = json.loads(ran.stdout)
    assert found["faults"] == sum(not each["remark"] for each in found["findings"])
    assert found["remarks"] == sum(each["remark"] for each in found["findings"])
    assert ran.exit_code == bool(found["faults"]) and {each["kind"] for each in found["findings"]} <= LINT_KINDS.keys()
    findings: list[dict[str, Any]] = found["findings"]
    return findings


def test_a_file_without_faults(tmp_path: Path) -> None:
    assert linted(tmp_path, f"{HEAD}hosts:\n{GOOD}") == (0, [], "hosts.yaml: 1 hosts, no faults")


@pytest.mark.parametrize(
    "content, said",
    [
        pytest.param(
            f"{HEAD}    tftp_filenme: x\nhosts:\n{GOOD}",
            "hosts.yaml:8: unknown-option: racks: dhcp tftp_filenme: no such option; did you mean tftp_filename?",
            id="unknown-option-of-a-pool",
        ),
        pytest.param(
            f"{HEAD}    nonsense-of-nobody: x\nhosts: []\n",
            "hosts.yaml:8: unknown-option: racks: dhcp nonsense-of-nobody: no such option",
            id="of-a-pool-without-hosts",
        ),
        pytest.param(
            f"{HEAD}hosts:\n{GOOD}- name: idle\n  mac: 02-00-00-00-00-02\n  dhcp:\n    enabled: 0\n    tftp_servr: x\n",
            "hosts.yaml:14: unknown-option: idle: dhcp tftp_servr: no such option; did you mean tftp_server?",
            id="of-a-host-that-is-off",
        ),
        pytest.param(
            f"{HEAD}    lease_time: 1h\nhosts:\n{GOOD}",
            "hosts.yaml:8: bad-value: racks: dhcp option lease_time (51): found '1h'; wanted a whole number "
            "0..4294967295; 1h is 3600 seconds",
            id="lease-time-1h",
        ),
        pytest.param(
            f'{HEAD}hosts:\n{GOOD}- {{name: b, mac: "02:00:00:00:00:02", address: 10.1.0.1, pool: racks}}\n',
            "hosts.yaml:10: gateway-address: b: address 10.1.0.1 is the gateway of 10.1.0.0/16",
            id="gateway",
        ),
        pytest.param(
            f'{HEAD}hosts:\n{GOOD}- {{name: b, mac: "02:00:00:00:00:02", address: 10.1.0.4, pool: rcaks}}\n',
            "hosts.yaml:10: unknown-pool: rcaks: a pool that has no row, so it says nothing; first named in "
            "hosts.yaml: hosts 2 (b); did you mean racks?",
            id="misspelt-pool",
        ),
        pytest.param(
            f"{HEAD}- {{name: other, dhcp: {{tftp_filename: y}}}}\nhosts:\n"
            '- {name: b, mac: "02:00:00:00:00:02", address: 10.1.0.4, pools: [racks, other]}\n',
            "hosts.yaml:7: tie: racks: dhcp tftp_filename = 'bios.0' competes with 'y' of other on the same level; "
            "the first by name counts",
            id="tie",
        ),
        pytest.param(
            f"{HEAD}hosts:\n{GOOD}- {{name: b, mac: junk}}\n",
            "hosts.yaml:10: bad-row: b: hosts 2 (b): mac 'junk'; wanted six octets like 00:11:22:33:44:55 (in YAML "
            "within quotes)",
            id="bad-row",
        ),
        pytest.param(
            f"{HEAD}hosts:\n{GOOD}- {{name: b, container: nowhere}}\n",
            "hosts.yaml:10: unknown-container: b: hosts 2 (b): container nowhere: wanted one that has a row",
            id="container",
        ),
        pytest.param(
            f"{HEAD}hosts:\n{GOOD}{GOOD}",
            "hosts.yaml:10: twice: good: hosts 2 (good): this name stands twice in the file",
            id="twice",
        ),
        pytest.param("hosts: [1, 2\n", "hosts.yaml:2: unread: not YAML: ", id="no-yaml"),
    ],
)  # fmt: skip
def test_a_fault_stands_with_its_file_and_line(tmp_path: Path, content: str, said: str) -> None:
    code, lines, last = linted(tmp_path, content)
    assert code == 1 and len(lines) == 1 and lines[0].startswith(said), lines
    assert ": 1 faults" in last or ", 1 faults" in last


def test_lines_of_csv(tmp_path: Path) -> None:
    content = (
        "base,mask,gateway\n10.1.0.0,255.255.0.0,10.1.0.1\n\nname,dhcp.enabled\nracks,1\n\n"
        "name,mac,address,pool,dhcp.lease_time\na,02:00:00:00:00:01,10.1.0.1,racks,\n"
        "b,02:00:00:00:00:02,10.1.0.2,racks,1h\nc,junk,,,\n"
    )
    code, lines, _last = linted(tmp_path, content, name="hosts.csv")
    assert code == 1 and sorted(line.split(": ")[:3] for line in lines) == [
        ["hosts.csv:10", "bad-row", "c"], ["hosts.csv:8", "gateway-address", "a"], ["hosts.csv:9", "bad-value", "b"],
    ]  # fmt: skip


def test_a_nic_in_two_hosts_and_an_address_of_two(tmp_path: Path) -> None:
    """At once the last of the file to be told, each with its line."""
    rows = (
        '- {name: c, mac: "02:00:00:00:00:0c", address: 10.1.0.12, pool: racks}\n'
        '- {name: d, mac: "02:00:00:00:00:0c", address: 10.1.0.13, pool: racks}\n'
        '- {name: e, mac: "02:00:00:00:00:0e", address: 10.1.0.9, pool: racks}\n'
    )
    _code, lines, _last = linted(tmp_path, f"{HEAD}hosts:\n{GOOD}{rows}")
    assert sorted(line.partition(" belongs")[0] for line in lines) == [
        "hosts.yaml:10: conflict: c: MAC 02:00:00:00:00:0c", "hosts.yaml:11: conflict: d: MAC 02:00:00:00:00:0c",
        "hosts.yaml:12: conflict: e: address 10.1.0.9", "hosts.yaml:9: conflict: good: address 10.1.0.9",
    ]  # fmt: skip


def test_a_boot_file_that_class_values_of_its_pool_hide(tmp_path: Path) -> None:
    """It works as written, and rarely as meant: a remark, which fails only with --strict."""
    head = f"{HEAD}    tftp_filename--uefi-x64: snponly.efi\nhosts:\n"
    own = '- {name: b, mac: "02:00:00:00:00:02", address: 10.1.0.4, pool: racks, dhcp: {tftp_filename: mine%s}}\n'
    code, lines, last = linted(tmp_path, head + own % "")
    assert code == 0 and last == "hosts.yaml: 1 hosts, no faults, 1 remarks"
    assert lines[0].startswith("hosts.yaml:10: remark: hidden-value: b: dhcp tftp_filename: ")
    assert "the classes of tftp_filename--uefi-x64 of racks" in lines[0]
    assert linted(tmp_path, head + own % "", "--strict")[0] == 1
    assert linted(tmp_path, head + own % ", tftp_filename--uefi-x64: also.efi")[1] == [], "said to the class, too"


def test_a_boot_file_that_class_values_of_its_network_hide(tmp_path: Path) -> None:
    network = "networks:\n- {name: leaf7, base: 10.7.0.0, mask: 24, dhcp: {tftp_filename--uefi-x64: other.efi}}\n"
    own = '- {name: b, mac: "02:00:00:00:00:02", address: 10.7.0.4, dhcp: {enabled: 1, tftp_filename: mine}}\n'
    _code, lines, _last = linted(tmp_path, f"{network}hosts:\n{own}")
    assert len(lines) == 1 and "remark: hidden-value: b: " in lines[0], lines
    assert "the classes of tftp_filename--uefi-x64 of leaf7" in lines[0]


@pytest.mark.parametrize(
    "pool, host",
    [
        ("tftp_filename--uefi-x64: mine", ""),
        ("proxy: 1, vendor_specific--os: 'text:x'", ""),
        ("domain: x.example", "leaf8"),
    ],
    ids=["the pool says the same", "no network speaks to a proxied host", "another network's"],
)
def test_a_boot_file_that_is_sent_is_not_called_hidden(tmp_path: Path, pool: str, host: str) -> None:
    networks = (
        "networks:\n- {name: leaf7, base: 10.7.0.0, mask: 24, dhcp: {tftp_filename--uefi-x64: other.efi}}\n"
        "- {name: leaf8, base: 10.8.0.0, mask: 24}\n"
    )
    address = "10.8.0.4" if host else "10.7.0.4"
    text = f"pools:\n- {{name: q, dhcp: {{enabled: 1, {pool}}}}}\nhosts:\n".replace(
        "enabled: 1, enabled: 1", "enabled: 1"
    )
    own = f'- {{name: b, mac: "02:00:00:00:00:02", address: {address}, pool: q, dhcp: {{tftp_filename: mine}}}}\n'
    _code, lines, _last = linted(tmp_path, networks + text + own)
    assert not [line for line in lines if "hidden-value" in line], lines


def test_a_pool_that_is_only_named_is_a_remark_unless_it_looks_misspelt(tmp_path: Path) -> None:
    row = '- {name: b, mac: "02:00:00:00:00:02", address: 10.1.0.4, pools: [racks, quite-another]}\n'
    (finding,) = found_in(tmp_path, f"{HEAD}hosts:\n{row}")
    assert (finding["object"], finding["remark"]) == ("quite-another", True)
    assert nearest("rack08", ["rack07", "rack09"]) is None, "names that are numbered are names of different things"
    assert nearest("Rack_08", ["rack-07", "rack-08"]) == "rack-08"


def test_a_host_without_address_and_networks_that_overlap_are_remarks(tmp_path: Path) -> None:
    networks = (
        "networks:\n- {base: 10.1.0.0, mask: 255.255.0.0}\n- {base: 10.1.8.0, mask: 255.255.255.0, name: small}\n"
    )
    row = 'hosts:\n- {name: b, mac: "02:00:00:00:00:02", dhcp: {enabled: 1}}\n'
    found = found_in(tmp_path, networks + row)
    assert [(each["kind"], each["object"], each["line"], each["remark"]) for each in found] == [
        ("overlap", "small", 3, True), ("no-address", "b", 5, True),
    ]  # fmt: skip
    row = 'hosts:\n- {name: b, mac: "02:00:00:00:00:02", address: 10.1.8.8, dhcp: {enabled: 1}}\n'
    assert [each["kind"] for each in found_in(tmp_path, networks + row)] == ["overlap", "no-network"]


def test_what_services_conf_says_counts(tmp_path: Path) -> None:
    """Names of options, and where nothing else is named its api_url."""
    hosts, conf = tmp_path / "hosts.yaml", tmp_path / "services.conf"
    hosts.write_text(f"{HEAD}    of_the_site: x\nhosts:\n{GOOD}")
    conf.write_text(json.dumps({"dhcp": {"api_url": f"file://{hosts}", "extra_options": {"240": "of_the_site"}}}))
    assert bootstorm("lint", hosts).exit_code == 1
    assert bootstorm("lint", hosts, "-c", conf).exit_code == 0
    ran = bootstorm("lint", "-c", conf)
    assert (ran.exit_code, ran.stdout) == (0, f"file://{hosts}: 1 hosts, no faults\n")


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["/nowhere/hosts.yaml"], "no such file"),
        (["ftp://10.0.0.1/"], "use http:// or https://"),
        (["-c", "/nowhere/services.conf"], "can't be read"),
        (["--nonsense"], "No such option"),
    ],
)
def test_wrong_usage(arguments: list[str], said: str) -> None:
    ran = bootstorm("lint", *arguments)
    assert (ran.exit_code, ran.stdout) == (2, "") and said in ran.stderr


def test_an_inventory_over_http(tmp_path: Path) -> None:
    site = Site()
    site.host("a", "10.1.0.10", dhcp={"enabled": 1, "tftp_filenme": "x"})
    with inventory_server(tmp_path) as inventory:
        site.store_in(inventory.store)
        url = inventory.server.url
        ran = bootstorm("lint", url)
    assert ran.exit_code == 1 and f"{url}: unknown-option: a: dhcp tftp_filenme: no such option" in ran.stdout
    ran = bootstorm("lint", url)
    assert ran.exit_code == 1 and ": unread: " in ran.stdout, "which is not there any more"


def test_networks_that_share_a_link_are_no_fault(tmp_path: Path) -> None:
    rows = [
        f"- {{name: {name}, base: {base}, mask: 255.255.255.0, dhcp: {{shared: vlan20, domain: a.example}}}}"
        for name, base in (("a", "10.20.0.0"), ("b", "10.21.0.0"))
    ]
    assert found_in(tmp_path, "networks:\n" + "\n".join(rows) + "\n") == []


def test_options_of_a_network_without_hosts() -> None:
    site = Site()
    site.things["/resourcemanager/net"] += dhcp_attributes({"domain": "x", "domian-name": "y", "lease_time": "2d"})

    class Network:
        """A source with nothing but that."""

        def read(self) -> Reading:
            return Reading(site.inventory(), iter(()))

        def read_hosts(self, _macs: object, _names: object, _frame: object) -> Inventory:
            raise AssertionError("nobody asked for a host")

    first, second = Lint(Network(), Dhcp()).findings()
    assert first == ("net", "unknown-option", "dhcp domian-name: no such option; did you mean domain-name?", 0, False)
    assert (second.kind, second.reason.rpartition("; ")[2]) == ("bad-value", "2d is 172800 seconds")


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_DATA, (int(sys.argv[1]), resource.RLIM_INFINITY))
from control.cli.command_line import main
from control.cli.faults_text import print_findings
main(sys.argv[2:])
"""


def test_a_hundred_thousand_faults_are_told_as_they_are_found(tmp_path: Path) -> None:
    """With less memory than they would take together, and in time that is in proportion."""

    def run(rows: int) -> tuple[int, float]:
        path = tmp_path / "hosts.csv"
        text = "".join(
            f"h{n},02:00:{n >> 24 & 255:02x}:{n >> 16 & 255:02x}:{n >> 8 & 255:02x}:{n & 255:02x},10.1.0.1,x,1h\n"
            for n in range(1, rows // 2 + 1)
        )
        head = "base,mask,gateway\n10.1.0.0,255.255.0.0,10.1.0.1\n\nname,mac,address,dhcp.enabled,dhcp.lease_time\n"
        path.write_text(head + text.replace(",x,", ",1,"))
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        argv = [sys.executable, "-P", "-c", LIMITED, str(300 << 20), "lint", str(path)]
        ran = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert ran.returncode == 1, ran.stderr[-500:]
        return ran.stdout.count("\n"), resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before

    lines, seconds = run(20_000)
    # Two of each host; its claim on the gateway's address contests nobody else's but those of all others.
    assert lines >= 20_001 and seconds < 20


def test_lint_says_what_the_service_would_say_and_more(tmp_path: Path) -> None:
    rows = (
        '- {name: b, mac: "02:00:00:00:00:02", addresses: [10.1.0.1, 10.1.0.9, 10.66.0.1], pool: racks}\n'
        '- {name: c, mac: "02:00:00:00:00:02", address: 10.1.0.10, pools: [racks, off], dhcp: {router: x}}\n'
        "- {name: d, mac: junk}\n- 7\n"
    )
    path = tmp_path / "hosts.yaml"
    path.write_text(f"{HEAD}    nonsense-of-nobody: 1\n- {{name: off, dhcp: {{enabled: 0}}}}\nhosts:\n{GOOD}{rows}")
    served = plan_file(FileSource(f"file://{path}"), Dhcp()).faults
    told = {(each.object, each.reason) for each in Lint(FileSource(f"file://{path}"), Dhcp()).findings()}
    assert {(name, reason) for name, reasons in served.items() for reason in reasons} <= told and len(served) > 5


def test_a_terminal_shows_how_far_it_is_and_nothing_of_it_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "hosts.yaml"
    path.write_text(f"{HEAD}hosts:\n{GOOD}- 7\n")
    for terminal in (True, False):
        monkeypatch.setattr(sys.stderr, "isatty", lambda terminal=terminal: terminal, raising=False)
        assert print_findings("hosts.yaml", Dhcp(api_url=f"file://{path}"), as_json=False, strict=False) == 1
        out, err = capsys.readouterr()
        assert out.count("\n") == 2 and ("hosts.yaml: hosts 2" in err) == terminal
        assert not terminal or err.endswith("\r\x1b[K"), "taken away"
