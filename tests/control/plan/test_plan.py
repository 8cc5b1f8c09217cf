"""control/plan/plan.py: the rules of the inventory as tables whose ids name the rules (docs/inventory.md)."""

from collections.abc import Sequence
from ipaddress import IPv4Address
from typing import Any

import pytest
from ext.leases import LeaseState as State

from control.mac import parse_mac, show_mac
from control.plan.rows import Plan
from control.plan.templates import INFINITE_S, lease_times
from tests.control.inventories import Site, attribute, look

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
    own = {subkey: value} if at == "own" else {}
    site.host("a", "10.1.0.10", pools=["pool"], dhcp={"enabled": 1, "log_server": "10.1.0.4", **own})
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
    """RFC 3442: a client that takes 121 ignores option 3.  Both go out; the list of routes is the operator's alone."""
    seen = look(one(**{"classless-static-routes": "10.9.0.0/16 10.1.0.1"}).plan())
    assert seen.options[121] == bytes([16, 10, 9, 10, 1, 0, 1])
    assert seen.options[ROUTER] == bytes([10, 1, 0, 1])


# --- lease times -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lease, renewal, rebinding, want",
    [
        pytest.param(None, None, None, (3600, 1600, 3150), id="defaults"),
        pytest.param(3600, None, None, (3600, 1800, 3150), id="the-default-said"),
        pytest.param(43200, None, None, (43200, 21600, 37800), id="longer-lease-longer-T1-T2"),
        pytest.param(43200, 600, None, (43200, 600, 37800), id="longer-lease-own-T1"),
        pytest.param(43200, None, 6000, (43200, 6000, 6000), id="longer-lease-own-T2-below-its-half"),
        pytest.param(43200, 6000, 600, (43200, 21600, 600), id="longer-lease-own-T1-above-own-T2"),
        pytest.param(1000, None, None, (1000, 500, 875), id="RFC2131-4.4.5-half-and-7/8"),
        pytest.param(3151, None, 3150, (3151, 1575, 3150), id="T2-just-below"),
        pytest.param(3150, None, 3150, (3150, 1575, 2756), id="T2-equal-is-not-below"),
        pytest.param(1700, 1600, None, (1700, 850, 1487), id="T1-above-the-new-T2"),
        pytest.param(None, 3600, None, (3600, 1800, 3150), id="own-T1-not-below"),
        pytest.param(None, 3200, None, (3600, 1800, 3150), id="own-T1-above-T2"),
        pytest.param(None, None, 4000, (3600, 1600, 3150), id="own-T2-not-below"),
        pytest.param(None, 10, 20, (3600, 10, 20), id="own-T1-T2"),
        pytest.param(INFINITE_S, None, None, (INFINITE_S, INFINITE_S, INFINITE_S), id="infinite"),
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
        pytest.param((("hostname", None, "café"),), {}, {}, None, id="beyond-ASCII"),
        pytest.param((("hostname", None, "db_01"),), {}, {}, None, id="underscore"),
        pytest.param((), {"hostname": "db_01"}, {"hostname": "all"}, None, id="dhcp-hostname-with-underscore"),
        pytest.param((), {"hostname": "text:db_01"}, {}, b"db_01", id="said-to-be-sent-as-it-is"),
        pytest.param((("hostname", None, "a" * 63 + ".example.org"),), {}, {}, b"a" * 63 + b".example.org", id="63"),
        pytest.param((("hostname", None, "a" * 64 + ".example.org"),), {}, {}, None, id="64"),
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
