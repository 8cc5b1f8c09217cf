"""control/plan/classes.py and its use in plan.py: what each client class receives, from attributes and unasked."""

from typing import Any

import pytest
from ext.classify import ClientClass

from control.plan.classes import CLASSES, NO_PROXY_WAIT, RASPBERRY_MENU, ClientClasses
from tests.control.inventories import CLIENTS, Site, decode, look, row_of, variant

EVERYBODY = set(CLIENTS)
HTTP = {client for client in CLIENTS if client.name.startswith("HTTP_BOOT")}
IPXE = {ClientClass.IPXE, ClientClass.IPXE_HTTP}


def site(pool: dict[str, Any], host: dict[str, Any] | None = None) -> Site:
    made = Site()
    made.pool("boot", enabled=1, **pool)
    made.host("a", "10.1.0.10", pools=["boot"], dhcp=host or {})
    return made


def by_class(made: Site) -> dict[ClientClass, dict[int, bytes]]:
    """Every option that the host gets, its own included, by class; the times of the template as 51, siaddr as 0."""
    row = row_of(made.plan(), "a")
    ((_address, _prefix, template),) = row.leases
    found = {}
    for client in CLIENTS:
        chosen = variant(template, client)
        shared, own = decode(chosen.options), decode(row.own)
        assert not shared.keys() & own.keys()
        found[client] = shared | own | {51: chosen.lease_s.to_bytes(4, "big")}
    return found


def files(made: Site) -> dict[ClientClass, bytes | None]:
    return {client: options.get(67) for client, options in by_class(made).items()}


def test_without_classes_all_get_the_same_file() -> None:
    found = files(site({"tftp_filename": "/pxelinux.0"}))
    assert {client for client, file in found.items() if file == b"/pxelinux.0\0"} == EVERYBODY - HTTP
    assert {found[client] for client in HTTP} == {None}  # a path is an error to it


def test_a_value_for_the_class_beats_one_without() -> None:
    found = files(site({"tftp_filename": "undionly.kpxe", "tftp_filename--uefi-x64": "snponly.efi"}))
    assert found[ClientClass.UEFI_X64] == b"snponly.efi\0"
    assert found[ClientClass.BIOS_PXE] == b"undionly.kpxe\0"


def test_wherever_it_stands() -> None:
    """A server's own boot file cannot send iPXE round in a circle."""
    found = files(site({"tftp_filename--ipxe": "menu.ipxe"}, {"tftp_filename": "undionly.kpxe"}))
    assert found[ClientClass.IPXE] == found[ClientClass.IPXE_HTTP] == b"menu.ipxe\0"
    assert found[ClientClass.BIOS_PXE] == b"undionly.kpxe\0"


def test_among_equals_the_most_specific_object_wins() -> None:
    found = files(site({"tftp_filename--ipxe": "menu.ipxe"}, {"tftp_filename--ipxe": "mine.ipxe"}))
    assert found[ClientClass.IPXE] == b"mine.ipxe\0"


def test_the_narrower_class_first() -> None:
    found = files(site({"tftp_filename--ipxe": "menu.ipxe", "tftp_filename--ipxe-http": "http://x/menu.ipxe"}))
    assert found[ClientClass.IPXE] == b"menu.ipxe\0"
    assert found[ClientClass.IPXE_HTTP] == b"http://x/menu.ipxe\0"


@pytest.mark.parametrize(
    "spelling", ["tftp_filename--uefi-x64", "tftp_filename--UEFI_X64", "bootfile-name--uefi-x64", "67--uefi-x64"]
)
def test_spellings(spelling: str) -> None:
    made = site({spelling: "a.efi"})
    assert files(made)[ClientClass.UEFI_X64] == b"a.efi\0"
    assert not made.plan().faults


def test_an_unusable_value_costs_its_class_the_option() -> None:
    made = site({"lease_time": 7200, "lease_time--ipxe": "abc"})
    found = by_class(made)
    assert found[ClientClass.OS][51] == (7200).to_bytes(4, "big")
    assert found[ClientClass.IPXE][51] == (3600).to_bytes(4, "big")
    assert "abc" in str(made.plan().faults["boot"])


def test_an_unknown_class_is_reported_with_the_known_ones() -> None:
    (reason,) = site({"tftp_filename--uefi": "a.efi"}).plan().faults["boot"]
    assert "tftp_filename--uefi" in reason and "uefi-x64" in reason


def test_own_options_for_a_class_leave_the_others_alone() -> None:
    found = by_class(site({"domain": "pool.example"}, {"domain--os": "os.example", "NTP_server": "10.1.0.3"}))
    assert found[ClientClass.OS][15] == b"os.example"
    assert found[ClientClass.IPXE][15] == b"pool.example"
    assert all(options[42] == bytes([10, 1, 0, 3]) for options in found.values())


def test_http_boot_needs_a_url_and_its_class_back() -> None:
    found = by_class(site({"tftp_filename": "a.efi", "tftp_server": "10.1.0.2", "bootfile_url": "http://x/a.efi"}))
    options = found[ClientClass.HTTP_BOOT]
    assert (options[67], options[60]) == (b"http://x/a.efi", b"HTTPClient")
    assert 66 not in options
    assert found[ClientClass.IPXE_HTTP][67] == b"http://x/a.efi"
    assert found[ClientClass.UEFI_X64][67] == b"a.efi\0"
    assert all(60 not in found[client] for client in EVERYBODY - HTTP - {ClientClass.RASPBERRY_PI})


def test_a_url_as_file_is_one_too() -> None:
    found = by_class(site({"tftp_filename--http-boot": "https://x/a.efi"}))
    assert found[ClientClass.HTTP_BOOT][67] == b"https://x/a.efi"


def test_bootfile_url_must_be_one() -> None:
    made = site({"bootfile_url": "/a.efi"})
    assert by_class(made)[ClientClass.HTTP_BOOT].get(60) is None
    assert "http://" in str(made.plan().faults["boot"])


def test_ipxe_does_not_wait_for_a_proxy() -> None:
    found = by_class(site({}))
    assert {client for client, options in found.items() if 175 in options} == IPXE
    assert found[ClientClass.IPXE][175] == NO_PROXY_WAIT


def test_what_somebody_says_of_175_stays() -> None:
    found = by_class(site({}, {"175": "0x010105"}))
    assert all(options[175] == b"\x01\x01\x05" for options in found.values())


@pytest.mark.parametrize("where", ["pool", "host"])
def test_pxe_clients_hear_their_class_with_a_menu_and_only_then(where: str) -> None:
    """A 43 of another kind says nothing of PXE: with 60 = PXEClient, UEFI would take the offer for a BINL server's."""
    other = by_class(site({"vendor_specific": "0xf10c69703a31302e32302e302e35"}))
    assert {client for client, options in other.items() if options.get(60) == b"PXEClient"} == set()
    menu = {"vendor_specific": "0x060103ff"}
    found = by_class(site(menu if where == "pool" else {}, menu if where == "host" else {}))
    with_class = {client for client, options in found.items() if options.get(60) == b"PXEClient"}
    assert with_class == EVERYBODY - HTTP - IPXE - {ClientClass.OS}
    assert all(options[43] == bytes.fromhex("060103ff") for options in found.values())


def test_a_raspberry_finds_its_text() -> None:
    options = by_class(site({"tftp_server": "10.1.0.2"}))[ClientClass.RASPBERRY_PI]
    assert (options[43], options[60]) == (RASPBERRY_MENU, b"PXEClient")


def test_os_is_what_it_was() -> None:
    made = site({"tftp_filename": "/pxelinux.0", "tftp_server": "10.1.0.2"})
    assert look(made.plan()).options[67] == b"/pxelinux.0\0"
    assert not {43, 60, 175} & look(made.plan()).options.keys()


@pytest.mark.parametrize("name", CLASSES)
def test_names_obey_clustos_rule_for_subkeys(name: str) -> None:
    import re

    assert re.fullmatch(r"[A-Za-z_]+[0-9A-Za-z_-]*", f"tftp_filename--{name}")
    assert ClientClasses().split(f"tftp_filename--{name}") == ("tftp_filename", name)
