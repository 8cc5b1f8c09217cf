"""control/plan.py: the rules of the inventory as tables; the ids name the rules (DESIGN section 5, CLUSTO-HTTPD 1, 2, 8)."""

import random
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from control.clusto.model import Attribute, Inventory, Thing
from control.config import Dhcp
from control.plan import (
    INFINITE_S,
    Plan,
    State,
    lease_times,
    parse_address,
    parse_mac,
    plan_hosts,
    read_manager,
    show_mac,
)
from tests.control.inventories import At, Site, attribute, look, row_of

ROUTER, NAME_SERVER, HOST_NAME, DOMAIN, NTP, TFTP_SERVER, TFTP_FILENAME, MAGIC = 3, 6, 12, 15, 42, 66, 67, 208
PXE_OPTIONS = {"66": "tftp_server", "67": "tftp_filename", "208": "pxelinux-magic", "209": "pxelinux-configfile"}


def one(**dhcp: Any) -> Site:
    """A site with the one host `a`, enabled by itself, with these dhcp attributes."""
    site = Site()
    site.host("a", "10.1.0.10", dhcp={"enabled": 1, **dhcp})
    return site


def faults(plan: Plan, name: str = "a") -> str:
    return "; ".join(plan.faults.get(name, []))


# --- MAC addresses ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, want",
    [
        pytest.param("00:11:22:33:44:55", 0x001122334455, id="colons"),
        pytest.param("00-11-22-33-44-55", 0x001122334455, id="dashes"),
        pytest.param("0011.2233.4455", 0x001122334455, id="dots"),
        pytest.param("001122334455", 0x001122334455, id="plain"),
        pytest.param("00:1A:2b:3C:4d:5E", 0x001A2B3C4D5E, id="any-case"),
        pytest.param(" 00:11:22:33:44:55\n", 0x001122334455, id="blanks-around"),
        pytest.param("00:00:00:00:00:00", None, id="all-zero-is-nobody"),
        pytest.param("ff:ff:ff:ff:ff:ff", None, id="broadcast-is-nobody"),
        pytest.param("01:00:5e:00:00:01", None, id="multicast-is-nobody"),
        pytest.param("00:11:22:33:44", None, id="too-short"),
        pytest.param("00:11:22:33:44:55:66", None, id="too-long"),
        pytest.param("00:11:22:33:44:5g", None, id="no-hex"),
        pytest.param("", None, id="empty"),
        pytest.param("٠٠:11:22:33:44:55", None, id="digits-of-another-script"),
    ],
)
def test_parse_mac(text: str, want: int | None) -> None:
    assert parse_mac(text) == want
    if want is not None:
        assert parse_mac(show_mac(want)) == want


# --- enabled ---------------------------------------------------------------------------------------------------------

UNSET = object()


@pytest.mark.parametrize(
    "own, pool, want",
    [
        *[
            pytest.param(UNSET, on, State.SERVED, id=f"on-{on!r}")
            for on in (1, True, "1", "true", "TRUE", "yes", " yes ")
        ],
        *[
            pytest.param(UNSET, off, State.DISABLED, id=f"off-{off!r}")
            for off in (0, False, "0", "false", "False", "no", "", " ", None)
        ],
        *[pytest.param(UNSET, odd, State.QUARANTINED, id=f"odd-{odd!r}") for odd in ("maybe", 2, -1, "on", "11")],
        pytest.param(UNSET, UNSET, State.DISABLED, id="set-nowhere-is-off"),
        pytest.param(0, 1, State.DISABLED, id="own-0-beats-pool-1"),
        pytest.param(1, 0, State.SERVED, id="own-1-beats-pool-0"),
        pytest.param("maybe", 1, State.QUARANTINED, id="own-odd-is-not-passed-over"),
        pytest.param(1, "maybe", State.SERVED, id="own-1-beats-an-odd-pool"),
    ],
)
def test_enabled(own: Any, pool: Any, want: State) -> None:
    site = Site()
    site.pool("boot", **({} if pool is UNSET else {"enabled": pool}))
    site.host("a", "10.1.0.10", pools=["boot"], dhcp={} if own is UNSET else {"enabled": own})
    seen = look(site.plan())
    assert seen.state is want
    assert (seen.addresses == ["10.1.0.10"]) == (want is State.SERVED)
    assert bool(seen.reason) == (want is not State.SERVED)
    assert (faults(site.plan()) == seen.reason) if want is State.QUARANTINED else not site.plan().faults


def test_the_reason_of_a_disabled_host_names_where_it_is_set() -> None:
    site = Site()
    site.pool("off", enabled=0)
    site.host("a", "10.1.0.10", pools=["off"], dhcp={})
    site.host("b", "10.1.0.11", dhcp={})
    plan = site.plan()
    assert look(plan, "a").reason == "dhcp enabled is off (off)"
    assert look(plan, "b").reason == "dhcp enabled is set nowhere"


def test_enabled_is_no_option_and_found_in_any_case() -> None:
    site = Site()
    site.host("a", "10.1.0.10", dhcp={"Enabled": 1})
    plan = site.plan()
    assert look(plan).state is State.SERVED and not plan.faults


# --- the most specific wins ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given_at", range(1, 8))
def test_most_specific_wins(given_at: int) -> None:
    """Bits of given_at: own, pool, the pool's pool."""
    site = Site()
    levels = ("own", "pool", "outer")
    values = {level: {"domain": f"{level}.example"} if given_at >> i & 1 else {} for i, level in enumerate(levels)}
    site.pool("outer", **values["outer"])
    site.pool("pool", pools=["outer"], **values["pool"])
    site.host("a", "10.1.0.10", pools=["pool"], dhcp={"enabled": 1, **values["own"]})
    want = next(level for level in levels if values[level])
    plan = site.plan()
    assert look(plan).options[DOMAIN] == f"{want}.example".encode()
    assert not plan.faults


@pytest.mark.parametrize("wider, nearer", [("datacenter", "rack"), ("pool", "rack"), ("rack", "pool")])
def test_no_type_of_container_is_preferred_only_the_level_counts(wider: str, nearer: str) -> None:
    site = Site()
    site.pool("a-wide", type_=wider, domain="wide.example", name_server="10.1.0.7")
    site.pool("z-near", type_=nearer, pools=["a-wide"], domain="near.example")
    site.host("a", "10.1.0.10", pools=["z-near"])
    seen = look(site.plan())
    assert seen.options[DOMAIN] == b"near.example"
    assert seen.options[NAME_SERVER] == bytes([10, 1, 0, 7]), "what only the wider one says still counts"


def test_a_container_on_two_levels_counts_on_the_nearer_one() -> None:
    site = Site()
    site.pool("far", domain="far.example")
    site.pool("near", pools=["far"], domain="near.example")
    site.host("a", "10.1.0.10", pools=["near", "far"])
    plan = site.plan()
    assert look(plan).options[DOMAIN] == b"far.example", "far and near are both direct containers: the first by name"
    assert "far" in faults(plan, "near")


@pytest.mark.parametrize("order", [("a-pool", "b-rack"), ("b-rack", "a-pool")], ids=" then ".join)
def test_a_tie_on_one_level_goes_by_name_and_is_reported(order: Sequence[str]) -> None:
    site = Site()
    site.pool("a-pool", domain="a.example", NTP_server="10.1.0.3")
    site.pool("b-rack", type_="rack", domain="b.example", NTP_server="10.1.0.3")
    site.host("a", "10.1.0.10", pools=order)
    plan = site.plan()
    assert look(plan).options[DOMAIN] == b"a.example"
    assert plan.faults == {
        "b-rack": [
            "dhcp domain = 'b.example' competes with 'a.example' of a-pool on the same level; the first by name counts"
        ]
    }, "equal values are no tie"


def test_enabled_has_ties_too() -> None:
    site = Site()
    site.pool("a", enabled=0)
    site.pool("b", enabled=1)
    site.host("h", "10.1.0.10", pools=["b", "a"], dhcp={})
    plan = site.plan()
    assert look(plan, "h").state is State.DISABLED
    assert "competes" in faults(plan, "b")


def test_a_cycle_of_containers_ends() -> None:
    site = Site()
    site.pool("inner", domain="inner.example")
    site.pool("outer", NTP_server="10.1.0.3")
    site.put("inner", "outer")
    site.put("outer", "inner")
    site.put("inner", "inner")
    site.host("a", "10.1.0.10", pools=["inner"])
    seen = look(site.plan())
    assert seen.options[DOMAIN] == b"inner.example" and seen.options[NTP] == bytes([10, 1, 0, 3])


def test_in_a_cycle_through_a_host_its_neighbours_inherit_from_it() -> None:
    """`a` contains its own pool: for `b`, in the same pool, `a` is a container of the second level."""
    site = Site()
    site.pool("pool")
    site.host("a", "10.1.0.10", pools=["pool"], dhcp={"enabled": 1, "domain": "a.example"})
    site.host("b", "10.1.0.11", pools=["pool"], dhcp={})
    site.put("pool", "a")
    plan = site.plan()
    assert look(plan, "b").options[DOMAIN] == b"a.example"
    assert look(plan, "a").options[DOMAIN] == b"a.example"


def test_a_host_may_be_a_container() -> None:
    site = Site()
    site.host("chassis", "10.1.0.9", dhcp={"enabled": 1, "domain": "chassis.example"})
    site.host("a", "10.1.0.10", pools=["chassis"], dhcp={})
    seen = look(site.plan())
    assert seen.state is State.SERVED and seen.options[DOMAIN] == b"chassis.example"


def test_an_object_in_no_container_is_served_by_its_own_attributes() -> None:
    assert look(one(domain="own.example").plan()).options[DOMAIN] == b"own.example"


@pytest.mark.parametrize("type_", ["server", "appliance", "networkswitch", "powerstrip"])
def test_an_object_of_any_type_is_served(type_: str) -> None:
    site = Site()
    site.host("a", "10.1.0.10", type_=type_)
    assert look(site.plan()).addresses == ["10.1.0.10"]


# --- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "subkey, extra, code",
    [
        pytest.param("NTP_server", {}, NTP, id="the-original's-name"),
        pytest.param("ntp_server", {}, NTP, id="small-letters"),
        pytest.param("Ntp-Server", {}, NTP, id="dash-for-underscore"),
        pytest.param("ntp-servers", {}, NTP, id="ISC's-name"),
        pytest.param("option-42", {}, NTP, id="by-number"),
        pytest.param("Site-Clock", {"42": "site_clock"}, NTP, id="extra_options-name"),
    ],
)
def test_names_of_options(subkey: str, extra: dict[str, str], code: int) -> None:
    plan = one(**{subkey: "10.1.0.3"}).plan(extra_options=extra)
    assert look(plan).options[code] == bytes([10, 1, 0, 3])
    assert not plan.faults


def test_two_spellings_on_two_levels_are_one_option() -> None:
    site = Site()
    site.pool("boot", **{"domain-name": "pool.example"})
    site.host("a", "10.1.0.10", pools=["boot"], dhcp={"enabled": 1, "Domain": "own.example"})
    assert look(site.plan()).options[DOMAIN] == b"own.example"


def test_an_unknown_option_is_reported_with_the_nearest_name() -> None:
    plan = one(**{"domian-name": "x.example"}).plan()
    assert look(plan).state is State.SERVED
    assert faults(plan) == "dhcp domian-name: no such option; did you mean domain-name?"


def test_numbered_attributes_are_a_list_in_the_order_of_their_numbers() -> None:
    site = one()
    rows = [attribute("dhcp", "name_server", f"10.1.0.{number}", number) for number in (9, 2, 5)]
    site.things["/server/a"] += [*rows, attribute("dhcp", "name-server", "10.1.0.99")]
    want = b"".join(bytes([10, 1, 0, last]) for last in (99, 2, 5, 9))
    assert look(site.plan()).options[NAME_SERVER] == want, "without a number: first"


def test_a_list_is_replaced_whole_by_a_more_specific_one() -> None:
    site = Site()
    site.pool("boot", name_server=["10.1.0.7", "10.1.0.8"])
    site.host("a", "10.1.0.10", pools=["boot"], dhcp={"enabled": 1, "name_server": "10.1.0.9"})
    assert look(site.plan()).options[NAME_SERVER] == bytes([10, 1, 0, 9])


LONG = "x" * (1 << 20)


@pytest.mark.parametrize(
    "subkey, value",
    [
        pytest.param("domain", "bad\x00name", id="control-character"),
        pytest.param("domain", None, id="NULL"),
        pytest.param("domain", "", id="empty"),
        pytest.param("domain", LONG, id="1-MB"),
        pytest.param("domain", ["one", "two"], id="two-values-where-one-fits"),
        pytest.param("domain", "\ud800", id="lone-surrogate"),
        pytest.param("name_server", "fe80::1", id="IPv6"),
        pytest.param("name_server", 167837706, id="a-number-as-address"),
        pytest.param("interface-mtu", 70000, id="number-out-of-range"),
        pytest.param("interface-mtu", 1 << 4000, id="giant-number"),
        pytest.param("message-type", 5, id="an-option-that-is-computed"),
        pytest.param("lease_time", "abc", id="lease-time-of-letters"),
        pytest.param("lease_time", 0, id="lease-time-0"),
        pytest.param("server_id", "nobody", id="server-id"),
        pytest.param("tftp_server", "\x1b[0m", id="boot-server"),
        pytest.param("tftp_filename", None, id="boot-file"),
    ],
)
@pytest.mark.parametrize("at", ["own", "pool"])
def test_a_bad_value_costs_the_option_not_the_host(subkey: str, value: Any, at: str) -> None:
    """It is reported where it stands, briefly, and what a wider container says is not used in its place."""
    good = {
        "domain": "wide.example", "name_server": "10.1.0.8", "interface-mtu": 9000, "lease_time": 1000,
        "server_id": "10.1.0.5", "tftp_server": "10.1.0.5", "tftp_filename": "/wide.0",
    }  # fmt: skip
    site = Site()
    site.pool("wide", **{key: text for key, text in good.items() if key == subkey})
    site.pool("pool", pools=["wide"], NTP_server="10.1.0.3", **({subkey: value} if at == "pool" else {}))
    site.host(
        "a", "10.1.0.10", pools=["pool"], dhcp={"enabled": 1, "log_server": "10.1.0.4", **({subkey: value} if at == "own" else {})}
    )  # fmt: skip
    plan = site.plan()
    seen = look(plan)
    assert seen.state is State.SERVED and seen.template is not None
    assert seen.options.keys() == {1, ROUTER, 7, HOST_NAME, 28, NTP}
    assert (seen.template.lease_s, seen.template.server_id, seen.template.siaddr, seen.template.file) == (
        3600,
        0,
        0,
        b"",
    )
    assert list(plan.faults) == [{"own": "a", "pool": "pool"}[at]]
    assert len(str(plan.faults)) < 500
    str(plan.faults).encode()


def test_a_fault_of_a_shared_container_is_reported_once() -> None:
    site = Site()
    site.pool("boot", enabled=1, nonsense=1)
    for number in range(3):
        site.host(f"h{number}", f"10.1.0.1{number}", pools=["boot"], dhcp={"hostname": f"x{number}"})
    assert site.plan().faults == {"boot": ["dhcp nonsense: no such option"]}


def test_hosts_of_one_pool_share_one_template() -> None:
    site = Site()
    site.pool("boot", enabled=1, domain="x.example")
    for number in range(3):
        site.host(f"h{number}", f"10.1.0.1{number}", pools=["boot"], dhcp={})
    templates = [row.leases[0][2] for row in site.plan().rows]
    assert templates[0] is templates[1] is templates[2]


def test_hosts_of_one_pool_with_other_values_of_their_own_do_not() -> None:
    site = Site()
    site.pool("boot", enabled=1, lease_time=1000, domain="x.example")
    site.host("a", "10.1.0.10", pools=["boot"], dhcp={"lease_time": 2000})
    site.host("b", "10.1.0.11", pools=["boot"], dhcp={"tftp_server": "10.1.0.3"})
    site.host("c", "10.1.0.12", pools=["boot"], dhcp={"domain": "y.example"})
    site.host("d", "10.1.0.13", pools=["boot"], dhcp={"lease_time": "2000"})
    plan = site.plan()
    got = {name: look(plan, name) for name in "abcd"}
    assert [seen.template.lease_s for seen in got.values() if seen.template] == [2000, 1000, 1000, 2000]
    assert got["b"].options[TFTP_SERVER] == b"10.1.0.3\0" and TFTP_SERVER not in got["a"].options
    assert got["c"].options[DOMAIN] == b"y.example" and got["a"].options[DOMAIN] == b"x.example"


@pytest.mark.parametrize(
    "attributes, want",
    [
        pytest.param({"pxelinux-configfile": "/c"}, "f100757e", id="any-pxelinux-subkey"),
        pytest.param({"PXELinux_pathprefix": "/c"}, "f100757e", id="in-any-spelling"),
        pytest.param({"pxelinux-magic": "01:02:03:04"}, "01020304", id="its-own-value"),
        pytest.param({"pxelinux-magic": "01:02:03:04", "pxelinux-configfile": "/c"}, "01020304", id="sent-once"),
        pytest.param({"domain": "pxelinux"}, None, id="not-for-a-value"),
    ],
)
@pytest.mark.parametrize("at", ["own", "pool"])
def test_pxelinux_magic(attributes: dict[str, str], want: str | None, at: str) -> None:
    site = Site()
    site.pool("boot", enabled=1, **(attributes if at == "pool" else {}))
    site.host("a", "10.1.0.10", pools=["boot"], dhcp=attributes if at == "own" else {})
    found = look(site.plan(extra_options=PXE_OPTIONS)).options.get(MAGIC)
    assert (found and found.hex()) == want


def test_a_bad_magic_of_one_host_is_no_matter_of_its_neighbours() -> None:
    """Both hide the pool's option 208 behind their own: the good value goes out once, the bad one not at all."""
    for good, bad in (("a", "b"), ("b", "a")):
        site = Site()
        site.pool("boot", enabled=1)
        site.host(good, "10.1.0.10", pools=["boot"], dhcp={"pxelinux-magic": "01:02:03:04"})
        site.host(bad, "10.1.0.11", pools=["boot"], dhcp={"pxelinux-magic": ""})
        plan = site.plan(extra_options=PXE_OPTIONS)
        assert look(plan, good).options[MAGIC] == bytes.fromhex("01020304")
        assert MAGIC not in look(plan, bad).options
        assert list(plan.faults) == [bad]


def test_server_id_comes_from_the_most_specific() -> None:
    site = Site()
    site.pool("boot", enabled=1, server_id="10.1.0.2")
    site.host("a", "10.1.0.10", pools=["boot"], dhcp={})
    site.host("b", "10.1.0.11", pools=["boot"], dhcp={"dhcp-server-identifier": "10.1.0.3"})
    ids = [seen.template.server_id for name in "ab" if (seen := look(site.plan(), name)).template]
    assert ids == [int(IPv4Address("10.1.0.2")), int(IPv4Address("10.1.0.3"))]
    assert 54 not in look(site.plan()).options, "the packet path writes it"


def test_classless_routes_are_sent_as_given() -> None:
    """RFC 3442: a client that takes 121 ignores option 3; both go out, the route list is nobody's but the operator's."""
    seen = look(one(**{"classless-static-routes": "10.9.0.0/16 10.1.0.1"}).plan())
    assert seen.options[121] == bytes([16, 10, 9, 10, 1, 0, 1])
    assert seen.options[ROUTER] == bytes([10, 1, 0, 1])


# --- lease times -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lease, renewal, rebinding, want",
    [
        pytest.param(None, None, None, (3600, 1600, 3150), id="defaults"),
        pytest.param(7200, None, None, (7200, 1600, 3150), id="longer-lease-keeps-T1-T2"),
        pytest.param(1000, None, None, (1000, 500, 875), id="RFC2131-4.4.5-half-and-7/8"),
        pytest.param(3151, None, None, (3151, 1600, 3150), id="T2-just-below"),
        pytest.param(3150, None, None, (3150, 1600, 2756), id="T2-equal-is-not-below"),
        pytest.param(1700, None, None, (1700, 850, 1487), id="T1-above-the-new-T2"),
        pytest.param(None, 3600, None, (3600, 1800, 3150), id="own-T1-not-below"),
        pytest.param(None, 3200, None, (3600, 1800, 3150), id="own-T1-above-T2"),
        pytest.param(None, None, 4000, (3600, 1600, 3150), id="own-T2-not-below"),
        pytest.param(None, 10, 20, (3600, 10, 20), id="own-T1-T2"),
        pytest.param(INFINITE_S, None, None, (INFINITE_S, 1600, 3150), id="infinite"),
        pytest.param(INFINITE_S, 4_000_000, 5_000_000, (INFINITE_S, 4_000_000, 5_000_000), id="infinite-own-T1-T2"),
    ],
)
def test_lease_times(lease: int | None, renewal: int | None, rebinding: int | None, want: tuple[int, int, int]) -> None:
    times = {"lease_time": lease, "renewal_time": renewal, "rebinding_time": rebinding}
    encoded = [value.to_bytes(4, "big") if value is not None else None for value in times.values()]
    assert lease_times(*encoded) == want
    seen = look(one(**{key: value for key, value in times.items() if value is not None}).plan())
    assert seen.template is not None
    assert (seen.template.lease_s, seen.template.renewal_s, seen.template.rebinding_s) == want
    assert not {51, 58, 59} & seen.options.keys(), "the packet path writes them"


def test_a_lease_time_may_be_text() -> None:
    seen = look(one(lease_time="7200", renewal_time=" 900 ").plan())
    assert seen.template and (seen.template.lease_s, seen.template.renewal_s) == (7200, 900)


# --- boot server and file --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", ["own", "pool"])
def test_boot_attributes_fill_the_header_and_the_options(at: str) -> None:
    """Also without the extra_options of the original's example."""
    boot = {"tftp_server": "10.1.0.5", "tftp_filename": "/pxelinux.0"}
    site = Site()
    site.pool("boot", **(boot if at == "pool" else {}))
    site.host("a", "10.1.0.10", pools=["boot"], dhcp={"enabled": 1, **(boot if at == "own" else {})})
    seen = look(site.plan())
    assert seen.template and (seen.template.siaddr, seen.template.file) == (
        int(IPv4Address("10.1.0.5")),
        b"/pxelinux.0",
    )
    assert (seen.options[TFTP_SERVER], seen.options[TFTP_FILENAME]) == (b"10.1.0.5\0", b"/pxelinux.0\0")


def test_a_name_as_boot_server_goes_out_as_an_option_only() -> None:
    seen = look(one(tftp_server="tftp.example.org").plan())
    assert seen.template and seen.template.siaddr == 0
    assert seen.options[TFTP_SERVER] == b"tftp.example.org\0"


@pytest.mark.parametrize("length, in_header", [(1, True), (127, True), (128, False), (300, False)])
def test_a_long_boot_file_goes_out_as_an_option_only(length: int, in_header: bool) -> None:
    seen = look(one(tftp_filename="f" * length).plan())
    assert seen.template and seen.template.file == (b"f" * length if in_header else b"")
    assert seen.options[TFTP_FILENAME] == b"f" * length + b"\0"


# --- host names ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "extra, own, pool, want",
    [
        pytest.param((), {}, {}, b"a", id="the-object's-name"),
        pytest.param((("hostname", None, "alias"),), {}, {}, b"alias", id="attribute-hostname"),
        pytest.param((("hostname", "any", "alias"),), {}, {}, b"alias", id="attribute-hostname-any-subkey"),
        pytest.param((("hostname", None, ""),), {}, {}, b"a", id="empty-attribute-hostname"),
        pytest.param((("hostname", None, None),), {}, {}, b"a", id="NULL-attribute-hostname"),
        pytest.param((("hostname", None, "alias"),), {"hostname": "own"}, {}, b"own", id="dhcp-hostname"),
        pytest.param(
            (("hostname", None, "alias"),), {}, {"host-name": "all"}, b"all", id="dhcp-hostname-of-a-container"
        ),
        pytest.param((("hostname", None, "new\nline"),), {}, {}, None, id="control-characters-are-not-sent"),
        pytest.param((("hostname", None, "\ud800"),), {}, {}, None, id="lone-surrogate"),
        pytest.param((("hostname", None, LONG),), {}, {}, None, id="1-MB"),
        pytest.param((("hostname", None, "ü" * 128),), {}, {}, None, id="longer-than-one-option"),
        pytest.param((("hostname", None, "café"),), {}, {}, "café".encode(), id="beyond-ASCII"),
    ],
)
def test_host_name(extra: Sequence[tuple[str, str | None, Any]], own: Any, pool: Any, want: bytes | None) -> None:
    site = Site()
    site.pool("boot", enabled=1, **pool)
    site.host("a", "10.1.0.10", pools=["boot"], dhcp=own, extra=[attribute(*row) for row in extra])
    plan = site.plan()
    seen = look(plan)
    assert seen.state is State.SERVED
    assert seen.options.get(HOST_NAME) == want
    assert ("a" in plan.faults) == (want is None)
    assert len(str(plan.faults)) < 500


# --- networks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "network, gateway, address, mask, broadcast",
    [
        pytest.param("10.1.0.0/24", "10.1.0.1", "10.1.0.10", "255.255.255.0", "10.1.0.255", id="private"),
        pytest.param("8.20.30.0/24", "8.20.30.1", "8.20.30.53", "255.255.255.0", "8.20.30.255", id="public"),
        pytest.param("172.16.0.0/12", None, "172.31.255.254", "255.240.0.0", "172.31.255.255", id="no-gateway"),
        pytest.param("10.1.0.8/31", "10.1.0.8", "10.1.0.9", "255.255.255.254", "10.1.0.9", id="RFC3021"),
        pytest.param("10.1.0.8/32", None, "10.1.0.8", "255.255.255.255", "10.1.0.8", id="host-route"),
        pytest.param("10.1.0.77/24", None, "10.1.0.10", "255.255.255.0", "10.1.0.255", id="baseip-inside-the-network"),
    ],
)
def test_the_network_s_options(network: str, gateway: str | None, address: str, mask: str, broadcast: str) -> None:
    site = Site(network, gateway)
    site.host("a", address)
    plan = site.plan()
    options = look(plan).options
    assert options.get(ROUTER) == (IPv4Address(gateway).packed if gateway else None)
    assert (options[1], options[28]) == (IPv4Address(mask).packed, IPv4Address(broadcast).packed)
    assert [(str(IPv4Address(first)), str(IPv4Address(last))) for first, last in plan.networks][0][1] == broadcast


def test_attributes_replace_what_the_network_says() -> None:
    site = Site()
    site.pool("boot", enabled=1, router="10.1.0.2")
    site.host("a", "10.1.0.10", pools=["boot"], dhcp={"subnet_mask": "255.255.0.0"})
    options = look(site.plan()).options
    assert (options[ROUTER], options[1]) == (bytes([10, 1, 0, 2]), bytes([255, 255, 0, 0]))


@pytest.mark.parametrize(
    "manager, reason",
    [
        pytest.param({"network": None}, "IP manager without baseip", id="no-baseip"),
        pytest.param({"network": "10.1.0.0/24", "netmask": "255.0.255.0"}, "'255.0.255.0'", id="mask-with-a-hole"),
        pytest.param({"network": "10.1.0.0/24", "gateway": "none"}, "'none'", id="gateway-of-letters"),
        pytest.param({"network": "fe80::/24"}, "'fe80::'", id="IPv6"),
        pytest.param({"network": LONG + "/24"}, "IP manager with baseip", id="1-MB"),
    ],
)
def test_an_unusable_manager_is_reported_and_its_addresses_are_not_served(manager: dict[str, Any], reason: str) -> None:
    site = Site(None)
    site.network("net", **manager)
    site.network("good", "10.2.0.0/24")
    site.host("a", "10.1.0.10")
    site.host("b", At("10.2.0.10", "good"))
    plan = site.plan()
    assert reason in faults(plan, "net") and len(str(plan.faults)) < 800
    assert look(plan, "a").state is State.QUARANTINED
    assert look(plan, "a").reason == "address 10.1.0.10: its manager /resourcemanager/net is not usable"
    assert look(plan, "b").state is State.SERVED
    assert plan.networks == [(0x0A020000, 0x0A0200FF)]


# --- addresses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address, reason",
    [
        pytest.param(At("10.2.0.10"), "lies outside its manager's network 10.1.0.0/24", id="outside-its-manager"),
        pytest.param(At("10.1.0.10", "gone"), "manager /resourcemanager/gone is not usable", id="manager-is-gone"),
        pytest.param(At("10.9.0.10", ""), "has no manager, and 0 managers contain it", id="no-manager-contains-it"),
        pytest.param(At("10.3.0.10", ""), "has no manager, and 2 managers contain it", id="two-managers-contain-it"),
        pytest.param(At("10.1.0.0"), "is the network or broadcast address", id="network-address"),
        pytest.param(At("10.1.0.255"), "is the network or broadcast address", id="broadcast-address"),
        pytest.param(At("10.1.0.1"), "is the gateway of 10.1.0.0/24", id="gateway"),
        pytest.param(At("127.0.0.5", "all"), "is not an address of a host", id="loopback"),
        pytest.param(At("239.1.2.3", "all"), "is not an address of a host", id="multicast"),
        pytest.param(At("240.0.0.1", "all"), "is not an address of a host", id="reserved"),
        pytest.param(At("255.255.255.255", "all"), "is not an address of a host", id="limited-broadcast"),
        pytest.param(At("0.0.0.0", "all"), "is not an address of a host", id="zero"),
        pytest.param(At("0.1.2.3", "all"), "is not an address of a host", id="network-0"),
        pytest.param(At("fe80::1"), "'fe80::1' (ip number 0) is no IPv4 address", id="IPv6"),
        pytest.param(At("10.1.0.010"), "'10.1.0.010' (ip number 0) is no IPv4 address", id="leading-zero"),
        pytest.param(At("10.1.0.10/24"), "is no IPv4 address", id="with-prefix"),
        pytest.param(At(LONG), "is no IPv4 address", id="1-MB"),
    ],
)  # fmt: skip
def test_an_unusable_address_quarantines_the_host(address: At, reason: str) -> None:
    site = Site()
    site.network("left", "10.3.0.0/24")
    site.network("right", "10.3.0.0/16")
    if address.manager == "all":
        site.network("all", "0.0.0.0/0")
    site.host("a", address)
    site.host("b", "10.1.0.11")
    plan = site.plan()
    assert look(plan).state is State.QUARANTINED
    assert reason in look(plan).reason and len(look(plan).reason) < 300
    assert faults(plan) == look(plan).reason
    assert look(plan, "b").state is State.SERVED and list(plan.faults) == ["a"]


@pytest.mark.parametrize(
    "rows, want",
    [
        pytest.param([(None, 0x0A01000A - (1 << 31))], ["10.1.0.10"], id="int-alone"),
        pytest.param([("ipstring", "10.1.0.10")], ["10.1.0.10"], id="ipstring-alone"),
        pytest.param([("ipstring", None), (None, 0x0A01000A - (1 << 31))], ["10.1.0.10"], id="NULL-ipstring"),
        pytest.param([(None, 0x0A01000A)], [], id="int-that-is-not-offset"),
        pytest.param([(None, 0x0A01000A + (1 << 31))], [], id="int-beyond-32-bits-is-not-wrapped-around"),
        pytest.param([(None, -(1 << 40))], [], id="int-far-below"),
        pytest.param([("cidr", "10.1.0.10/24")], [], id="neither"),
    ],
)
def test_where_an_address_is_written(rows: Sequence[tuple[str | None, Any]], want: list[str]) -> None:
    site = Site()
    manager = attribute("ip", "manager", "/resourcemanager/net", 4)
    site.host("a", extra=[manager, *(attribute("ip", subkey, value, 4) for subkey, value in rows)])
    assert look(site.plan()).addresses == want


def test_an_address_without_manager_belongs_to_the_one_that_contains_it() -> None:
    site = Site()
    site.network("other", "10.2.0.0/24", "10.2.0.1")
    site.host("a", At("10.2.0.10", ""))
    seen = look(site.plan())
    assert seen.addresses == ["10.2.0.10"] and seen.options[ROUTER] == bytes([10, 2, 0, 1])


def test_the_manager_that_is_named_counts_where_several_contain_an_address() -> None:
    site = Site("10.1.0.0/16", "10.1.0.1")
    site.network("narrow", "10.1.7.0/24", "10.1.7.1")
    site.host("a", At("10.1.7.10", "narrow"))
    site.host("b", At("10.1.7.11", "net"))
    plan = site.plan()
    assert row_of(plan, "a").leases[0][1] == 24 and look(plan, "a").options[ROUTER] == bytes([10, 1, 7, 1])
    assert row_of(plan, "b").leases[0][1] == 16 and look(plan, "b").options[ROUTER] == bytes([10, 1, 0, 1])


def test_two_addresses_in_one_network_the_lowest_number_counts() -> None:
    site = Site()
    site.host("a", At("10.1.0.20", number=8), At("10.1.0.10", number=7), At("10.1.0.30", number=9))
    plan = site.plan()
    assert look(plan).addresses == ["10.1.0.10"]
    assert [line.split()[1] for line in plan.faults["a"]] == ["10.1.0.20", "10.1.0.30"]
    assert all("10.1.0.10 in the same network was bound first" in line for line in plan.faults["a"])


def test_two_networks_are_two_leases_each_with_its_own_network_options() -> None:
    site = Site()
    site.network("other", "10.2.0.0/16", None)
    site.host("a", At("10.2.0.10", "other", 3), At("10.1.0.10", "net", 2))
    plan = site.plan()
    assert look(plan).addresses == ["10.1.0.10", "10.2.0.10"], "the address that was bound first is preferred"
    assert look(plan, lease=0).options[ROUTER] == bytes([10, 1, 0, 1])
    assert ROUTER not in look(plan, lease=1).options and look(plan, lease=1).options[1] == bytes([255, 255, 0, 0])
    assert not plan.faults


def test_one_bad_address_of_two_is_reported_and_the_other_served() -> None:
    site = Site()
    site.host("a", At("10.1.0.255", number=1), At("10.1.0.10", number=2))
    plan = site.plan()
    assert look(plan).addresses == ["10.1.0.10"] and "10.1.0.255" in faults(plan)


def test_a_host_without_address() -> None:
    site = Site()
    site.host("a")
    seen = look(site.plan())
    assert (seen.state, seen.reason) == (State.NO_ADDRESS, "no address bound")


@pytest.mark.parametrize(
    "update_ipmi, port, want",
    [
        pytest.param(True, "ipmi", [], id="the-card's-address-is-not-the-host's"),
        pytest.param(False, "ipmi", ["10.1.0.10"], id="only-with-update_ipmi"),
        pytest.param(True, "eth0", ["10.1.0.10"], id="another-port"),
    ],
)
def test_addresses_of_the_ipmi_port(update_ipmi: bool, port: str, want: list[str]) -> None:
    site = Site()
    site.host("a", At("10.1.0.10", port=port))
    assert look(site.plan(update_ipmi=update_ipmi)).addresses == want


def test_the_ipmi_port_has_the_configured_name() -> None:
    site = Site()
    site.host("a", At("10.1.0.10", port="bmc"), "10.1.0.11")
    assert look(site.plan(update_ipmi=True, ipmi_port_name="bmc")).addresses == ["10.1.0.11"]


# --- MACs of objects -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mac", ["01:00:5e:00:00:01", "00:00:00:00:00:00", "garbage", "", LONG])
def test_a_garbage_mac_is_reported_and_makes_no_row(mac: str) -> None:
    site = Site()
    site.host("a", "10.1.0.10", mac=mac)
    site.host("b", "10.1.0.11")
    plan = site.plan()
    assert [row.name for row in plan.rows] == ["b"]
    assert "is no MAC address of a single card" in faults(plan) and len(faults(plan)) < 300


def test_one_mac_in_two_spellings_on_one_object_is_one_mac() -> None:
    site = Site()
    site.host("a", "10.1.0.10", mac=["00:11:22:33:44:55", "00-11-22-33-44-55"])
    plan = site.plan()
    assert look(plan).state is State.SERVED and not plan.faults


def test_two_macs_on_port_1_are_not_answered() -> None:
    site = Site()
    site.host("a", "10.1.0.10", mac=["00:11:22:33:44:55", "00:11:22:33:44:56"])
    plan = site.plan()
    assert [(row.mac, row.state) for row in plan.rows] == [
        (0x001122334455, State.QUARANTINED),
        (0x001122334456, State.QUARANTINED),
    ]
    assert "has 2 MACs" in faults(plan)


def test_only_port_1_counts() -> None:
    site = Site()
    site.host("a", "10.1.0.10", mac=(), extra=[attribute("port-nic-eth", "mac", "00:11:22:33:44:55", 2)])
    assert site.plan().rows == []


# --- conflicts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "second", ["00:11:22:33:44:5a", "00:11:22:33:44:5A", "00-11-22-33-44-5a", "0011.2233.445a"], ids=str
)
@pytest.mark.parametrize("enabled", [1, 0])
def test_two_objects_with_one_mac_are_both_not_answered(second: str, enabled: int) -> None:
    site = Site()
    site.host("a", "10.1.0.10", mac="00:11:22:33:44:5a")
    site.host("b", "10.1.0.11", mac=second, dhcp={"enabled": enabled})
    site.host("c", "10.1.0.12")
    plan = site.plan()
    conflict = "MAC 00:11:22:33:44:5a belongs to a and b"
    assert [(row.name, row.state) for row in plan.rows] == [("c", State.SERVED), ("a, b", State.CONFLICT)]
    assert plan.rows[1].reason == conflict and plan.faults == {"a": [conflict], "b": [conflict]}


@pytest.mark.parametrize("enabled", [1, 0], ids=["both-enabled", "the-other-is-disabled"])
def test_two_objects_with_one_address_are_both_not_answered(enabled: int) -> None:
    site = Site()
    site.host("a", "10.1.0.10")
    site.host("b", "10.1.0.10", dhcp={"enabled": enabled})
    site.host("c", "10.1.0.12")
    plan = site.plan()
    conflict = "address 10.1.0.10 belongs to a and b"
    assert (look(plan, "a").state, look(plan, "a").reason) == (State.CONFLICT, conflict)
    assert look(plan, "b").state is (State.CONFLICT if enabled else State.DISABLED)
    assert look(plan, "c").state is State.SERVED
    assert plan.faults == {"a": [conflict], "b": [conflict]}


def test_a_switch_s_address_is_nobody_else_s() -> None:
    site = Site()
    site.host("sw", "10.1.0.10", type_="networkswitch", mac=(), dhcp={})
    site.host("a", "10.1.0.10")
    plan = site.plan()
    assert look(plan).reason == "address 10.1.0.10 belongs to a and sw"
    assert [row.name for row in plan.rows] == ["a"] and list(plan.faults) == ["a", "sw"]


def test_an_address_that_is_written_twice_on_one_object_is_no_conflict() -> None:
    site = Site()
    site.host("a", "10.1.0.10", "10.1.0.10")
    assert look(site.plan()).addresses == ["10.1.0.10"]


def test_an_address_in_the_reach_of_two_managers_is_still_one_address() -> None:
    site = Site()
    site.network("wide", "10.0.0.0/8")
    site.host("a", At("10.1.0.10", "net"))
    site.host("b", At("10.1.0.10", "wide"))
    plan = site.plan()
    assert {row.state for row in plan.rows} == {State.CONFLICT}


def test_a_conflict_over_one_of_two_addresses_silences_the_host() -> None:
    site = Site()
    site.network("other", "10.2.0.0/24")
    site.host("a", "10.1.0.10", At("10.2.0.10", "other"))
    site.host("b", At("10.2.0.10", "other"))
    assert [row.state for row in site.plan().rows] == [State.CONFLICT, State.CONFLICT]


# --- a bad record never harms the rest -------------------------------------------------------------------------------


def many_networks(site: Site) -> None:
    for number in range(260):
        site.network(f"n{number}", f"10.{2 + number // 256}.{number % 256}.0/24")
    site.host("a", *(At(f"10.{2 + number // 256}.{number % 256}.9", f"n{number}") for number in range(260)))


def many_options(site: Site) -> None:
    site.host("a", "10.1.0.10", dhcp={"enabled": 1} | {f"option-{code}": "x" * 1400 for code in range(150, 254)})


def many_shared_options(site: Site) -> None:
    site.pool("big", enabled=1, **{f"option-{code}": "x" * 1400 for code in range(150, 254)})
    site.host("a", "10.1.0.10", pools=["big"], dhcp={})


@pytest.mark.parametrize("make", [many_networks, many_options, many_shared_options])
def test_what_no_table_can_hold_quarantines_the_host(make: Callable[[Site], None]) -> None:
    site = Site()
    make(site)
    site.host("b", "10.1.0.11")
    plan = site.plan()
    assert look(plan).state is State.QUARANTINED and "a" in plan.faults
    assert look(plan, "b").state is State.SERVED


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(Attribute("dhcp", "domain", None, {"an": "object"}, "json"), id="an-object-as-value"),
        pytest.param(Attribute("dhcp", "lease_time", None, [1, 2], "json"), id="a-list-as-value"),
        pytest.param(Attribute("dhcp", "lease_time", None, 1.5, "float"), id="a-fraction"),
        pytest.param(Attribute("dhcp", "enabled", 1, ["yes"], "json"), id="a-list-as-enabled"),
        pytest.param(Attribute("dhcp", None, None, "x", "string"), id="no-subkey"),
        pytest.param(Attribute("dhcp", "x" * 256, None, "x", "string"), id="long-subkey"),
        pytest.param(Attribute("dhcp", "domain", -5, "x", "string"), id="negative-number"),
        pytest.param(Attribute("ip", "ipstring", None, "10.1.0.9", "string"), id="address-without-number"),
        pytest.param(Attribute("ip", "manager", 0, ["/x"], "json"), id="a-list-as-manager"),
        pytest.param(Attribute("hostname", None, None, ["x"], "json"), id="a-list-as-hostname"),
        pytest.param(Attribute("port-nic-eth", "mac", 1, None, "string"), id="NULL-mac"),
    ],
)
def test_an_odd_attribute_does_not_harm_other_hosts(bad: Attribute) -> None:
    site = Site()
    site.host("a", extra=[bad])
    site.things["/server/a"] += site.bound(At("10.1.0.10", number=0))
    site.host("b", "10.1.0.11")
    plan = site.plan()
    assert look(plan, "b").state is State.SERVED
    assert [row.name for row in plan.rows] == ["a", "b"]


def test_nothing_at_all() -> None:
    assert plan_hosts(Inventory(), Dhcp()) == Plan()


# --- properties ------------------------------------------------------------------------------------------------------

NETWORKS = {"n1": "10.1.0.0/28", "n2": "10.1.0.0/29", "n3": "10.2.0.0/30", "n4": None}
ADDRESSES = ["10.1.0.1", "10.1.0.2", "10.1.0.3", "10.1.0.9", "10.1.0.15", "10.2.0.1", "10.2.0.2", "nonsense"]
MACS = ["00:11:22:33:44:01", "00:11:22:33:44:02", "00-11-22-33-44-02", "00:11:22:33:44:03", "00:11:22:33:44:0A", "junk"]
VALUES = {
    "enabled": [1, 1, "yes", 0, "maybe"],
    "domain": ["a.example", "b.example", "", 7],
    "lease_time": [1000, "1000", "abc"],
    "tftp_server": ["10.1.0.2", "name"],
    "pxelinux-magic": ["01:02:03:04", "", "05:06:07:08"],
    "pxelinux-configfile": ["/c"],
    "hostname": ["h"],
    "router": ["10.1.0.14", "nowhere"],
}


def some(draw: st.DrawFn, choices: Sequence[Any], most: int) -> list[Any]:
    return draw(st.lists(st.sampled_from(choices), max_size=most, unique=True))


@st.composite
def sites(draw: st.DrawFn) -> Site:
    site = Site(None)
    for name, network in NETWORKS.items():
        site.network(name, network, draw(st.sampled_from([None, "10.1.0.1"])))

    def dhcp(least: dict[str, Any]) -> dict[str, Any]:
        return least | {key: draw(st.sampled_from(VALUES[key])) for key in some(draw, list(VALUES), 3)}

    pools = [f"p{number}" for number in range(draw(st.integers(0, 3)))]
    for pool in pools:
        site.pool(pool, **dhcp({"enabled": 1}))
    hosts = [f"h{number}" for number in range(draw(st.integers(1, 6)))]
    for name in hosts:
        bound = [
            At(text, draw(st.sampled_from(["n1", "n2", "n3", "n4", "gone", ""]))) for text in some(draw, ADDRESSES, 3)
        ]
        site.host(name, *bound, mac=some(draw, MACS, 2), pools=some(draw, pools, 2), dhcp=dhcp({}))
    for pool in pools:
        for container in some(draw, [*pools, *hosts], 2):
            site.put(pool, container)
    return site


def comparable(plan: Plan) -> tuple[Any, ...]:
    return plan.rows, {name: sorted(reasons) for name, reasons in plan.faults.items()}, sorted(plan.networks)


@pytest.mark.property
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(site=sites(), extra=st.sampled_from([{}, PXE_OPTIONS]), seed=st.integers(0, 1 << 16))
def test_a_plan_is_safe_and_does_not_depend_on_any_order(site: Site, extra: dict[str, str], seed: int) -> None:
    inventory = site.inventory()
    plan = plan_hosts(inventory, Dhcp(extra_options=extra))
    owners: dict[int, str] = {}
    for row in plan.rows:
        assert (row.state is State.SERVED) == bool(row.leases)
        assert (row.state is State.SERVED) != bool(row.reason)
        if row.state is not State.SERVED:
            continue
        thing = inventory.things[f"/server/{row.name}"]
        assert row.mac in {parse_mac(text) for text in thing.mac()}
        bound = {int(parse_address(at)): at for at in thing.addresses() if at.text != "nonsense"}
        for lease, (address, prefix, _template) in enumerate(row.leases):
            assert address not in owners, f"{IPv4Address(address)}: {owners[address]} and {row.name}"
            owners[address] = row.name
            named = bound[address].manager
            usable = [path for path in inventory.managers if path != "/resourcemanager/n4"]
            assert named is None or named in usable
            networks = [read_manager(inventory.things[path]).network for path in ([named] if named else usable)]
            (network,) = [network for network in networks if IPv4Address(address) in network]
            assert network.prefixlen == prefix
            look(plan, row.name, lease)
    assert len({row.mac for row in plan.rows}) == len(plan.rows)
    assert comparable(plan_hosts(shuffled(inventory, random.Random(seed)), Dhcp(extra_options=extra))) == comparable(
        plan
    )


def shuffled(inventory: Inventory, dice: random.Random) -> Inventory:
    """The same, in another order wherever an order says nothing."""

    def mixed(items: Any) -> list[Any]:
        return dice.sample(list(items), len(items))

    things = {path: Thing(path, tuple(mixed(thing.attributes))) for path, thing in mixed(inventory.things.items())}
    parents = {path: mixed(containers) for path, containers in mixed(inventory.parents.items())}
    return Inventory(things=things, parents=parents, hosts=mixed(inventory.hosts), managers=mixed(inventory.managers))
