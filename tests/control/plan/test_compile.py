"""control/plan/compile.py: what is unchanged is not planned again, what is in doubt stays, and the parts make the
whole."""

from __future__ import annotations

import random
from typing import Any

import pytest
from ext.builder import Builder
from ext.leases import LeaseState as State
from ext.table import Generation, Pair, row_key
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from control.config.config import Dhcp
from control.plan import compile as compile_module
from control.plan.compile import Assembled, Compiler, Filler
from control.plan.networks import claimed
from control.plan.plan import Rules, plan_hosts
from control.plan.rows import Plan
from control.sources.model import CONTAINERS, Attribute, Batch, Inventory, Thing
from tests.control.inventories import OFFSET, At, Site, attribute
from tests.control.plan.test_plan_property import sites
from tests.control.readings import Parts, sealed, states

SPLIT = {"p": ["a", "b"], "q": ["c", "d"], "single": ["e"]}
NOBODY: set[int] = set()


def site(*, p: dict[str, Any] | None = None, gateway: str = "10.1.0.1", **own: dict[str, Any]) -> Site:
    """a and b in pool p, c and d in pool q inside p, e in none; own: attributes of hosts."""
    made = Site(gateway=gateway)
    made.pool("p", **({"enabled": 1} | (p or {})))
    made.pool("q", pools=["p"], domain="q.example")
    for number, (name, pools) in enumerate({"a": ["p"], "b": ["p"], "c": ["q"], "d": ["q"], "e": []}.items()):
        made.host(name, f"10.1.0.1{number}", pools=pools, dhcp=own.get(name, {} if pools else None))
    return made


def assembled(parts: Parts, compiler: Compiler | None = None, served: Pair | None = None) -> Assembled:
    return parts.compile(compiler or Compiler(Dhcp())).assemble(served, NOBODY)


def whole(plan: Plan) -> Generation:
    builder = Builder()
    Filler(builder).add_all(plan.rows)
    return sealed(builder)


# --- what is planned again -------------------------------------------------------------------------------------------


def test_the_parts_make_the_table_that_the_whole_makes() -> None:
    made = sealed(assembled(Parts(site(), SPLIT)))
    assert made.digest == whole(site().plan()).digest and made.host_count == 5


def test_what_is_unchanged_is_not_planned_again() -> None:
    compiler = Compiler(Dhcp())
    first = Parts(site(), SPLIT)
    digest = sealed(assembled(first, compiler)).digest
    assert first.taken == ["a", "b", "c", "d", "e"]
    again = Parts(site(), SPLIT)
    done = again.compile(compiler)
    assert (again.taken, done.kept_segments, done.hosts) == ([], 3, 5)
    assert sealed(done.assemble(None, NOBODY)).digest == digest


@pytest.mark.parametrize(
    "change, planned",
    [
        pytest.param({"p": {"tftp_filename": "/x"}}, "abcd", id="a-container-and-all-below-it"),
        pytest.param({"d": {"domain": "own.example"}}, "cd", id="a-host-and-its-part"),
        pytest.param({"e": {"enabled": 0}}, "e", id="a-single-host"),
        pytest.param({"gateway": "10.1.0.254"}, "abcde", id="a-manager-and-everybody"),
    ],
)
def test_a_change_plans_again_whom_it_concerns(change: dict[str, Any], planned: str) -> None:
    compiler = Compiler(Dhcp())
    assembled(Parts(site(), SPLIT), compiler)
    parts = Parts(site(**change), SPLIT)
    made = sealed(assembled(parts, compiler))
    assert "".join(parts.taken) == planned
    assert made.digest == whole(site(**change).plan()).digest


def test_a_host_that_moves_to_another_pool_is_planned_again_though_it_says_the_same() -> None:
    compiler = Compiler(Dhcp())
    assembled(Parts(site(), SPLIT), compiler)
    moved = site()
    moved.members["/pool/p"].remove("/server/b")
    moved.put("b", "q")
    parts = Parts(moved, SPLIT)
    made = sealed(assembled(parts, compiler))
    assert parts.taken == ["a", "b"] and made.digest == whole(moved.plan()).digest


def test_a_container_in_no_host_s_way_and_an_attribute_that_is_no_option_change_nothing() -> None:
    compiler = Compiler(Dhcp())
    assembled(Parts(site(), SPLIT), compiler)
    other = site()
    other.pool("idle", enabled=0)
    other.things["/pool/p"].append(attribute("owner", None, "me"))
    parts = Parts(other, SPLIT)
    assembled(parts, compiler)
    assert parts.taken == []


def test_a_part_that_is_gone_takes_its_hosts_along() -> None:
    compiler = Compiler(Dhcp())
    assembled(Parts(site(), SPLIT), compiler)
    done = Parts(site(), {"p": ["a", "b"]}).compile(compiler)
    assert states(sealed(done.assemble(None, NOBODY))).keys() == {b"a", b"b"}
    assert list(compiler.segments) == ["p"], "nor is it remembered"


def test_what_was_refused_is_no_base_for_the_next_one() -> None:
    compiler = Compiler(Dhcp())
    assembled(Parts(site(), SPLIT), compiler)
    Parts(site(p={"domain": "x.example"}), SPLIT).compile(compiler, keep=False)
    parts = Parts(site(), SPLIT)
    parts.compile(compiler)
    assert parts.taken == [], "the one before the refused one is"


def test_faults_and_reasons_of_a_part_that_is_kept_are_told_again() -> None:
    compiler = Compiler(Dhcp())
    content = site(p={"lease_time": "abc"}, e={"enabled": "perhaps"}, b={"nonsense": 1})
    content.things["/resourcemanager/bad"] = [attribute("baseip", "property", "10.x")]
    first = assembled(Parts(content, SPLIT), compiler)
    again = assembled(Parts(content, SPLIT), compiler)
    assert first.faults == again.faults and first.faults.keys() == {"p", "e", "b", "bad"}
    assert (first.reasons, first.quarantined) == (again.reasons, again.quarantined)
    assert len(first.reasons) == 1 == first.quarantined


# --- what is in doubt ------------------------------------------------------------------------------------------------


def refreshed(compiler: Compiler, parts: Parts, served: Pair) -> tuple[Generation, Any]:
    """As planner/planner.py does it: what could not be read stays as it is served."""
    done = parts.compile(compiler)
    lost = done.objects_lost()
    carried = {row_key(*key) for key in served.keys() if served.lookup(*key)["identity"] in lost}  # noqa: SIM118
    return sealed(done.assemble(served, carried), 2), done


def test_a_part_that_is_lost_stays_exactly_as_served_while_the_others_change() -> None:
    compiler = Compiler(Dhcp())
    served = Pair(sealed(assembled(Parts(site(), SPLIT), compiler)))
    parts = Parts(site(p={"tftp_filename": "/new"}, e={"enabled": 0}), SPLIT)
    parts.lost["p"] = "GET /query/get_by_name: status 500"
    made, done = refreshed(compiler, parts, served)
    macs = {row["name"]: row["mac"] for row in (served.lookup(*key) for key in served.keys())}  # noqa: SIM118
    for name in (b"a", b"b"):
        assert made.lookup(macs[name]) == served.lookup(macs[name])
    assert made.lookup(macs[b"c"])["leases"][0]["template"]["file"] == b"/new"
    assert made.lookup(macs[b"e"])["state"] == "disabled" and len(made) == 5
    assert done.lost == {"/server/a", "/server/b"} and set(done.stale) == {"p"}
    assert done.doubts == ["GET /query/get_by_name: status 500; its 2 objects stay as they were"]
    parts.lost.clear()
    made, done = refreshed(compiler, parts, Pair(made))
    assert made.lookup(macs[b"a"])["leases"][0]["template"]["file"] == b"/new" and not done.doubts
    assert parts.taken == ["a", "b"], "the others had been planned already"


def test_a_part_that_was_never_read_has_nothing_to_stay_as() -> None:
    parts = Parts(site(), SPLIT)
    parts.lost["p"] = "no"
    made, done = refreshed(Compiler(Dhcp()), parts, Pair(sealed(Builder())))
    assert states(made).keys() == {b"c", b"d", b"e"} and done.lost == {"/server/a", "/server/b"}


@pytest.mark.parametrize("missing", ["a", "e"], ids=["of-a-part", "all-of-a-part"])
def test_a_host_that_is_listed_and_not_given_stays_as_it_is_served(missing: str) -> None:
    compiler = Compiler(Dhcp())
    served = Pair(sealed(assembled(Parts(site(), SPLIT), compiler)))
    parts = Parts(site(p={"tftp_filename": "/new"}), SPLIT)
    parts.missing.add(f"/server/{missing}")
    made, done = refreshed(compiler, parts, served)
    ((mac, _role),) = served.with_name(missing.encode())
    assert made.lookup(mac) == served.lookup(mac) and len(made) == 5
    key = "p" if missing == "a" else "single"
    assert done.doubts == [f"1 objects of {key} stay as they were: {missing} listed but not given"]
    parts.missing.clear()
    made, done = refreshed(compiler, parts, Pair(made))
    assert made.digest == whole(site(p={"tftp_filename": "/new"}).plan()).digest and not done.doubts
    assert missing in parts.taken, "the part was not taken for a whole one"


def test_a_reader_s_own_fault_of_a_missing_host_is_its_reason() -> None:
    done = Compiler(Dhcp()).begin(Inventory())
    batch = Batch("single hosts", ["/server/a", "/server/b"], b"x", list, {"b": ["cannot be read: status 500"]})
    done.add(batch)
    assert done.assemble(None, NOBODY).faults == {"b": ["cannot be read: status 500"]}
    assert done.lost == {"/server/a", "/server/b"}
    assert done.doubts == ["2 objects of single hosts stay as they were: b cannot be read: status 500"]


def test_who_comes_along_uninvited_or_twice_is_passed_over() -> None:
    """A bulk answer holds everybody in the container, also those that another part is about."""
    things = site().inventory().things
    done = Compiler(Dhcp()).begin(Parts(site(), {}).reading().frame)
    given = [things["/server/a"], things["/server/c"], things["/server/a"]]
    done.add(Batch("p", ["/server/a"], b"x", lambda: given))
    assert states(sealed(done.assemble(None, NOBODY))) == {b"a": "served"} and not done.doubts


def test_carried_rows_are_the_served_ones_or_none() -> None:
    """Of a host that was looked up meanwhile, or flips: what the parts say of it does not count."""
    compiler = Compiler(Dhcp())
    old = Parts(site(), SPLIT)
    served = Pair(sealed(assembled(old, compiler)))
    macs = {name: served.with_name(name)[0][0] for name in (b"a", b"c")}
    stranger = 0x020000000099
    content = site(p={"tftp_filename": "/new"})
    content.host("new", "10.1.0.50", mac="02:00:00:00:00:99")
    done = Parts(content, SPLIT | {"new": ["new"]}).compile(compiler)
    made = sealed(done.assemble(served, {macs[b"a"], macs[b"c"], stranger}))
    assert made.lookup(stranger) is None, "it is not served, so it stays away"
    for mac in macs.values():
        assert made.lookup(mac) == served.lookup(mac)
    assert made.host_count == 5
    free = sealed(done.assemble(served, NOBODY))
    assert free.lookup(stranger)["state"] == "served" and free.lookup(macs[b"a"]) != served.lookup(macs[b"a"])


def test_a_carried_row_contests_an_address_with_everybody_else() -> None:
    compiler = Compiler(Dhcp())
    served = Pair(sealed(assembled(Parts(site(), SPLIT), compiler)))
    thief = site()
    thief.things["/server/e"] = [row for row in thief.things["/server/e"] if row.key != "ip"]
    thief.things["/server/e"] += thief.bound(At("10.1.0.10"))
    parts = Parts(thief, SPLIT)
    parts.lost["p"] = "no"
    made, _done = refreshed(compiler, parts, served)
    assert {name: state for name, state in states(made).items() if state != "served"} == {
        b"a": "conflict",
        b"e": "conflict",
    }


def test_who_was_in_conflict_with_a_part_that_is_lost_stays_so() -> None:
    """Nothing says that the conflict is over: answering would give one address to two machines."""
    compiler = Compiler(Dhcp())
    content = site()
    content.host("f", "10.1.0.10", pools=["p"], dhcp={})
    split = SPLIT | {"f": ["f"]}
    served = Pair(sealed(assembled(Parts(content, split), compiler)))
    assert states(served)[b"a"] == states(served)[b"f"] == "conflict"
    parts = Parts(content, split)
    parts.lost["p"] = "no"
    made, _done = refreshed(compiler, parts, served)
    assert states(made)[b"f"] == "conflict"


def test_the_address_of_a_switch_in_a_part_that_is_lost_is_still_the_switch_s() -> None:
    compiler = Compiler(Dhcp())
    content = site()
    content.host("sw", "10.1.0.60", mac=(), type_="networkswitch", dhcp={})
    split = SPLIT | {"switches": ["sw"]}
    served = Pair(sealed(assembled(Parts(content, split), compiler)))
    content.host("thief", "10.1.0.60")
    parts = Parts(content, split | {"thief": ["thief"]})
    parts.lost["switches"] = "no"
    made, _done = refreshed(compiler, parts, served)
    assert states(made)[b"thief"] == "conflict"


@pytest.mark.parametrize("what", ["switch", "disabled", "second"])
def test_what_somebody_has_who_is_listed_and_not_given_is_still_his(what: str) -> None:
    """The last read knew it: an address that he is not answered with is in no table."""
    compiler = Compiler(Dhcp())
    content = site()
    if what == "switch":
        content.host("z", "10.1.0.60", mac=(), type_="networkswitch", dhcp={})
    elif what == "disabled":
        content.host("z", "10.1.0.60", dhcp={"enabled": 0})
    else:
        content.host("z", "10.1.0.59", "10.1.0.60")
    split = SPLIT | {"single": ["e", "z"]}
    served = Pair(sealed(assembled(Parts(content, split), compiler)))
    content.host("thief", "10.1.0.60")
    for _again in range(2):
        parts = Parts(content, split | {"thief": ["thief"]})
        parts.missing.add(content.path("z"))
        made, _done = refreshed(compiler, parts, served)
        assert states(made)[b"thief"] == "conflict"
    made, _done = refreshed(compiler, Parts(content, split | {"thief": ["thief"]}), served)
    assert states(made)[b"thief"] == "conflict"


def test_an_address_in_conflict_is_nobody_s_while_somebody_unrelated_cannot_be_read() -> None:
    """Who is in conflict stays so then; what they have is not free for a third one."""
    compiler = Compiler(Dhcp())
    content = site()
    content.host("f", "10.1.0.10", pools=["p"], dhcp={})
    split = SPLIT | {"f": ["f"]}
    served = Pair(sealed(assembled(Parts(content, split), compiler)))
    content.host("third", "10.1.0.10")
    parts = Parts(content, split | {"third": ["third"]})
    parts.missing.add("/server/e")
    made, _done = refreshed(compiler, parts, served)
    assert {states(made)[name] for name in (b"a", b"f", b"third")} == {"conflict"}


def test_a_lost_part_stays_as_it_is_served_and_not_as_it_was_read() -> None:
    """It was rolled back, or looked up, or what was read of it last was incomplete."""
    compiler = Compiler(Dhcp())
    served = Pair(sealed(assembled(Parts(site(), SPLIT), compiler)))
    mistake = Parts(site(p={"enabled": 0}), SPLIT)
    mistake.missing.add("/server/b")
    mistake.compile(compiler)
    parts = Parts(site(), SPLIT)
    parts.lost["p"] = "no"
    made, _done = refreshed(compiler, parts, served)
    assert states(made) == dict.fromkeys((b"a", b"b", b"c", b"d", b"e"), "served")
    assert made.digest == served.top.digest


def test_containers_alone_are_no_inventory() -> None:
    """All parts are lost, but for those who contain others and have addresses themselves: nothing is confirmed."""
    content = site()
    content.host("sw", "10.1.0.60", mac=(), type_="networkswitch", dhcp={})
    parts = Parts(content, {CONTAINERS: ["sw"]} | SPLIT)
    parts.lost = dict.fromkeys(SPLIT, "no")
    assert parts.compile(Compiler(Dhcp()), keep=False).knows_nothing
    del parts.lost["q"]
    assert not parts.compile(Compiler(Dhcp()), keep=False).knows_nothing


# --- conflicts between parts -----------------------------------------------------------------------------------------


def contested(second: dict[str, Any]) -> tuple[Assembled, dict[bytes, str]]:
    content = site()
    content.host("x", second.pop("address", "10.1.0.99"), **second)
    made = assembled(Parts(content, SPLIT | {"other": ["x"]}))
    assert sealed(made).digest == whole(content.plan()).digest
    return made, states(sealed(made))


def test_one_mac_in_two_parts() -> None:
    made, found = contested({"mac": "00:11:22:33:44:01"})
    reason = "MAC 00:11:22:33:44:01 belongs to a and x"
    assert found == {b"a, x": "conflict", b"b": "served", b"c": "served", b"d": "served", b"e": "served"}
    assert made.faults == {"a": [reason], "x": [reason]} and made.reasons == {"00:11:22:33:44:01": reason}


def test_one_address_in_two_parts() -> None:
    made, found = contested({"address": "10.1.0.12"})
    reason = "address 10.1.0.12 belongs to c and x"
    assert {name for name, state in found.items() if state == "conflict"} == {b"c", b"x"}
    assert made.faults == {"c": [reason], "x": [reason]} and set(made.reasons.values()) == {reason}


@pytest.mark.parametrize(
    "thief",
    [
        pytest.param({"mac": (), "type_": "networkswitch"}, id="a-switch"),
        pytest.param({"dhcp": {"enabled": 0}}, id="a-host-with-DHCP-off"),
        pytest.param({"mac": "junk"}, id="a-host-with-a-MAC-that-is-none"),
    ],
)
def test_the_address_of_who_is_not_answered_in_another_part(thief: dict[str, Any]) -> None:
    made, found = contested({"address": "10.1.0.13"} | thief)
    assert found[b"d"] == "conflict" and found.get(b"x") in (None, "disabled")
    assert made.faults["d"] == ["address 10.1.0.13 belongs to d and x"] == made.faults["x"][-1:]


def test_a_conflict_that_is_over_is_over_without_planning_anything_again() -> None:
    compiler = Compiler(Dhcp())
    content = site()
    content.host("x", "10.1.0.12")
    assembled(Parts(content, SPLIT | {"other": ["x"]}), compiler)
    parts = Parts(site(), SPLIT)
    made = assembled(parts, compiler)
    assert parts.taken == [] and not made.faults and not made.reasons
    assert sealed(made).digest == whole(site().plan()).digest


def test_reasons_are_bounded_and_those_of_conflicts_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compile_module, "REPORT_LINES_MAX", 2)
    content = site(**{name: {"enabled": "perhaps"} for name in "abcde"})
    content.host("x", "10.1.0.50")
    content.host("y", "10.1.0.50")
    made = assembled(Parts(content, SPLIT | {"other": ["x", "y"]}))
    assert made.quarantined == 5
    assert list(made.reasons.values())[:2] == ["address 10.1.0.50 belongs to x and y"] * 2
    assert len(made.reasons) <= 2 + 2 * 3, "so many of each part"


def test_half_a_letter_in_a_name_harms_nothing() -> None:
    """JSON can say it; the table cannot."""
    content = site()
    content.host("h\ud800", "10.1.0.50")
    parts = Parts(content, SPLIT | {"odd": ["h\ud800"]})
    assert states(sealed(assembled(parts)))[b"h\\ud800"] == "served"


# --- properties ------------------------------------------------------------------------------------------------------


def comparable(faults: dict[str, list[str]]) -> dict[str, list[str]]:
    return {name: sorted(reasons) for name, reasons in faults.items()}


@pytest.mark.property
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(first=sites(), second=sites(), count=st.integers(1, 4), chance=st.randoms(use_true_random=False))
def test_any_split_says_what_the_whole_says(first: Site, second: Site, count: int, chance: random.Random) -> None:
    """Also when a compiler knows parts of another site under the same names, and when it is asked twice."""
    compiler = Compiler(Dhcp())
    for content in (first, second, second):
        split: dict[str, list[str]] = {str(number): [] for number in range(count)}
        for path in content.things:
            chance.choice(list(split.values())).append(path.split("/", 2)[2])
        parts = Parts(content, split)
        done = parts.compile(compiler)
        made = done.assemble(None, NOBODY)
        plan = content.plan()
        assert sealed(made).digest == whole(plan).digest
        assert states(sealed(made)) == states(whole(plan))
        assert comparable(made.faults) == comparable(plan.faults)
        assert made.quarantined >= len({row.thing for row in plan.rows if row.state is State.QUARANTINED})
        again = parts.compile(compiler)
        assert parts.taken == [] and again.kept_segments == count
        assert sealed(again.assemble(None, NOBODY)).digest == sealed(made).digest


@pytest.mark.property
@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(content=sites())
def test_the_quick_path_says_what_the_rules_say(content: Site) -> None:
    check_quick_path(content.inventory(), Dhcp())


USUAL: tuple[Attribute, ...] = (
    Attribute("port-nic-eth", "mac", 1, "00:11:22:33:44:01", "string"),
    Attribute("port-nic-eth", "osportname", 1, "eth0", "string"),
    Attribute("ip", None, 0, 0x0A010005 - OFFSET, "int"),
    Attribute("ip", "ipstring", 0, "10.1.0.5", "string"),
    Attribute("ip", "manager", 0, "/resourcemanager/n1", "relation"),
    Attribute("ip", "cidr", 0, "10.1.0.5/28", "string"),
    Attribute("ip", "osportname", 0, "eth0", "string"),
    Attribute("port-nic-eth", "mac", 2, "00:11:22:33:44:02", "string"),
    Attribute("system", "memory", None, 128, "int"),
)
VALUES = [
    None, 1, 0, "", "eth1", "ipmi", "10.1.0.6", "10.1.0.0", "10.1.0.15", "10.1.0.1", "10.1.0.05", "10.2.0.1", "::1",
    "10.1.0.5 ", "00-11-22-33-44-02", "00:11:22:33:44:0A", "01:11:22:33:44:01", "00:00:00:00:00:00",
    0x0A010006 - OFFSET, "/resourcemanager/n2", "/resourcemanager/gone", "h.example", True, 1.5,
]  # fmt: skip
CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("drop"), st.integers(0, 8)),
        st.tuples(st.just("value"), st.integers(0, 7), st.sampled_from(VALUES)),
        st.tuples(st.just("number"), st.integers(0, 7), st.sampled_from([None, 0, 1, 2, -1, "2"])),
        st.tuples(st.just("again"), st.integers(0, 7), st.sampled_from(VALUES)),
        st.tuples(
            st.just("more"), st.sampled_from(["hostname", "dhcp", "port-nic-eth", "ip"]), st.sampled_from(VALUES)
        ),
    ),
    max_size=3,
)
LABEL = "h" * 63
NAMES = st.sampled_from(
    [
        *("h", "h.example", " h ", "h h", "é", "h\x7f", "h\n", "a/b", "-", "h_1", "-h", "h-", "h.", "h..h", "1"),
        *(LABEL, f"{LABEL}h", ".".join([LABEL] * 4), f"h{'.h' * 128}", "text:h_1", "hex:68"),
    ]
)


def changed(rows: tuple[Attribute, ...], changes: list[Any]) -> tuple[Attribute, ...]:
    made = list(rows)
    for what, at, *value in changes:
        if what == "more":
            made.append(Attribute(at, None, None, value[0], "string"))
        elif at < len(made):
            if what == "drop":
                del made[at]
            elif what == "again":
                made.append(made[at]._replace(value=value[0]))
            else:
                made[at] = made[at]._replace(**{what: value[0]})
    return tuple(made)


OPTIONS = st.sampled_from([{}, {"domain": "n"}, {"domain--uefi-x64": "r", "shared": "v"}, {"shared": "w"}])


@pytest.mark.property
@settings(deadline=None, max_examples=250)
@given(
    changes=CHANGES,
    name=NAMES,
    ipmi=st.booleans(),
    domain=st.booleans(),
    said=st.tuples(OPTIONS, OPTIONS),
    ports=st.sampled_from([(), 1, 2, "all", 0]),
)
def test_the_quick_path_on_hosts_that_are_nearly_usual(
    changes: Any, name: str, ipmi: bool, domain: bool, said: tuple[dict[str, Any], dict[str, Any]], ports: Any
) -> None:
    content = Site(None)
    content.network("n1", "10.1.0.0/28", "10.1.0.1", **said[0])
    content.network("n2", "10.1.0.0/29", "10.1.0.2", **said[1])
    content.network("n3", "10.2.0.0/30")
    content.pool(
        "p", enabled=1, **({"domain": "x"} if domain else {}), **({"boot_ports": ports} if ports != () else {})
    )
    content.host("known", At("10.1.0.4", "n1"), At("10.1.0.3", "n2"), At("10.2.0.2", "n3"), pools=["p"], dhcp={})
    content.things[f"/server/{name}"] = list(changed(USUAL, changes))
    content.members["/pool/p"].append(f"/server/{name}")
    usual = check_quick_path(content.inventory(), Dhcp(update_ipmi=ipmi, ipmi_port_name="ipmi"))
    event(f"usual: {usual > 0}")


def test_the_quick_path_is_taken() -> None:
    """Or the two tests above would compare nothing."""
    content = site()
    assert check_quick_path(content.inventory(), Dhcp()) == 4, "all but e, which says something of its own"


def check_quick_path(inventory: Inventory, config: Dhcp) -> int:
    """How many hosts went it; each of them as by all rules, without a fault and without a claim."""
    rules = Rules(inventory, config)
    for thing in inventory.things.values():
        rules.plan(thing)
    usual = 0
    for thing in inventory.things.values():
        context = rules.context(thing.path)
        rows = rules.usual_rows(thing, context)
        if rows is not None:
            usual += 1
            rules.faults.clear()
            assert sorted(rules.unusual_rows(thing, context)) == sorted(rows), thing
            assert not rules.faults
            assert claimed(thing.addresses()) == {address for address, _prefix, _template in rows[0].leases}
    return usual


def test_a_thing_without_anything_is_nobody() -> None:
    rules = Rules(Inventory(), Dhcp())
    assert rules.plan(Thing("/server/a", ())) == ([], [])


def test_plan_hosts_is_the_same_code() -> None:
    """So that what test_plan*.py prove holds for what is compiled."""
    inventory = site().inventory()
    assert [row.state for row in plan_hosts(inventory, Dhcp()).rows] == [State.SERVED] * 5
