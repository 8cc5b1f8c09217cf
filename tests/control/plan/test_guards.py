"""control/plan/guards.py: when the inventory's word is not believed, and that it is believed again."""

import os

import pytest
from ext.addresses import Index, View
from ext.builder import Builder, Surroundings, identity_of_object
from ext.layout5 import identity_of_name
from ext.leases import LeaseState as State
from ext.table import Changes, Generation, Keys, Pair, compare

from control.plan import guards
from control.plan.guards import FLIPS, STEADY, Flips, shrinking

MAC = 0x020000000001


# --- shrinking -------------------------------------------------------------------------------------------------------


def table(*states: State | None, number: int = 1) -> Generation:
    """Host i + 1 in the i-th state, None for one that is not there."""
    builder = Builder()
    template = builder.add_template()
    for host, state in enumerate(states, 1):
        leases = ((0x0A010000 + host, 24, template),) if state is State.SERVED else ()
        leases = ((0, 32, template),) if state is State.PROXIED else leases
        if state is not None:
            builder.add_host(host, name=b"h%d" % host, state=int(state), leases=leases)
    fd = builder.seal(number, Surroundings(), created_s=1)
    try:
        return Generation(fd)
    finally:
        os.close(fd)


ON, OFF, BAD, NONE, TWICE = State.SERVED, State.DISABLED, State.QUARANTINED, State.NO_ADDRESS, State.CONFLICT
PROXY = State.PROXIED


def of_one(mac: int, thing: bytes | int) -> Generation:
    """A table of the host `web` alone, answered at this MAC."""
    builder = Builder()
    leases = ((0x0A010001, 24, builder.add_template()),)
    builder.add_host(mac, name=b"web", state=int(ON), leases=leases, thing=thing)
    fd = builder.seal(1, Surroundings(), created_s=1)
    try:
        return Generation(fd)
    finally:
        os.close(fd)


def verdict(before: Generation, after: Generation, limit: float) -> str | None:
    return shrinking(View(Pair(before), Index(before)), after, compare(Pair(before), after), limit)


def test_the_reason_names_the_counts_the_limit_and_the_way_out() -> None:
    before = table(*[ON] * 10, OFF, number=7)
    after = table(ON, ON, ON, None, None, OFF, BAD, BAD, NONE, TWICE, ON)
    assert verdict(before, after, 0.2) == (
        "7 of 10 hosts would no longer be answered (2 removed, 1 conflict, 1 disabled, 1 no-address, 2 quarantined), "
        "dhcp.max_shrink allows 20%; the table of generation 7 serves on; if this is meant: bootstorm ctl refresh "
        "--force"
    )


@pytest.mark.parametrize("thing", [identity_of_object(b"/server/web"), identity_of_name(b"web")])
def test_another_mac_is_no_loss_whatever_layout_the_table_had(thing: int) -> None:
    """A table of the layout before tells objects apart by name: after an upgrade, too, a site corrects its MAC."""
    assert verdict(of_one(1, thing), of_one(2, b"/server/web"), 0.2) is None
    assert verdict(of_one(1, identity_of_name(b"other")), of_one(2, b"/server/web"), 0.2) is not None


@pytest.mark.parametrize(
    "before, after, limit, refused",
    [
        pytest.param([ON] * 5, [None, *[ON] * 4], 0.2, False, id="exactly-the-share"),
        pytest.param([ON] * 5, [None, None, *[ON] * 3], 0.2, True, id="one-more"),
        pytest.param([ON] * 5, [OFF, BAD, *[ON] * 3], 0.2, True, id="silent-is-gone-too"),
        pytest.param([ON] * 5, [None] * 5, 1.0, False, id="all-may-go"),
        pytest.param([ON] * 5, [None, *[ON] * 4], 0.0, True, id="nobody-may-go"),
        pytest.param([OFF] * 5, [None] * 5, 0.0, False, id="who-was-not-answered-cannot-go"),
        pytest.param([ON] * 5, [PROXY, PROXY, *[ON] * 3], 0.2, True, id="an-address-from-elsewhere-is-none-from-us"),
        pytest.param([PROXY] * 5, [PROXY, ON, PROXY, None, ON], 0.2, False, id="a-new-address-is-no-loss"),
        pytest.param([PROXY] * 5, [PROXY, OFF, PROXY, None, ON], 0.2, True, id="nothing-to-boot-is-a-loss"),
        pytest.param([], [ON] * 5, 0.0, False, id="from-nothing"),
        pytest.param([ON, ON, OFF, OFF], [ON, ON, None, BAD], 0.0, False, id="only-the-answered-count"),
        pytest.param([ON, ON, OFF], [None, None, *[ON] * 20], 0.2, True, id="new-ones-are-no-excuse"),
        pytest.param([ON] * 3, [None, ON, ON], 0.2, False, id="a-small-site-may-change-one-host"),
        pytest.param([ON] * 3, [OFF, ON, ON], 0.2, False, id="or-switch-it-off"),
        pytest.param([ON] * 3, [OFF, None, ON], 0.2, True, id="but-not-two"),
        pytest.param([ON] * 3, [None, ON, ON], 0.0, True, id="nor-one-if-none-may-go"),
        pytest.param([ON], [None], 0.2, True, id="nor-all-that-it-has"),
    ],
)
def test_what_may_go(before: list[State | None], after: list[State | None], limit: float, refused: bool) -> None:
    reason = verdict(table(*before), table(*after), limit)
    assert (reason is not None) == refused, reason


def test_a_delta_counts_as_what_it_makes_of_its_base() -> None:
    base = table(*[ON] * 10)
    builder = Builder(base)
    for host in (1, 2, 3, 4, 5):
        builder.add_tombstone(host)
    fd = builder.seal(2, Surroundings(), created_s=1)
    pair = Pair(base, Generation(fd))
    after = table(*[None] * 5, None, None, *[ON] * 3)
    reason = shrinking(View(pair, Index(base)), after, compare(pair, after), 0.1)
    assert reason is not None and reason.startswith("2 of 5 hosts would no longer be answered (2 removed)")
    assert "generation 2 serves on" in reason


def test_nothing_changed_is_nothing_gone() -> None:
    before = table(ON)
    assert shrinking(View(Pair(before), Index(before)), table(ON), Changes(Keys(), Keys(), Keys()), 0.0) is None


def hosts(*rows: tuple[int, str], bmc: bool = False) -> Generation:
    """(MAC, path of the object), all served."""
    builder = Builder()
    template = builder.add_template()
    for number, (mac, path) in enumerate(rows, 1):
        name, thing = path.rpartition("/")[2].encode(), path.encode()
        builder.add_host(mac, name=name, leases=((number, 24, template),), thing=thing)
        if bmc:
            builder.add_host(mac, role=1, name=name, leases=((number + 100, 24, template),), thing=thing)
    fd = builder.seal(1, Surroundings(), created_s=1)
    try:
        return Generation(fd)
    finally:
        os.close(fd)


A, B, C, D = ((number, f"/server/{name}") for number, name in enumerate("abcd", 1))


@pytest.mark.parametrize(
    "before, after, lost",
    [
        pytest.param([A], [(9, A[1])], 0, id="the-only-host-has-another-mac"),
        pytest.param([A, B, C, D], [(9, A[1]), (8, B[1]), (7, C[1]), (6, D[1])], 0, id="all-have"),
        pytest.param([A, B, C, D], [(2, A[1]), (1, B[1]), C, D], 0, id="two-swapped-theirs"),
        pytest.param([A], [(1, "/server/z")], 0, id="another-name-at-the-same-mac"),
        pytest.param([A, (9, A[1]), B, C, D], [A, B, C, D], 0, id="one-of-two-cards"),
        pytest.param([A, (9, A[1]), B, (8, B[1]), C, D], [C, D], 2, id="two-hosts-with-two-cards-each"),
        pytest.param([A, B, C, D], [(2, A[1]), C, D], 0, id="one-left-and-another-has-its-card"),
    ],
)
@pytest.mark.parametrize("bmc", [False, True])
def test_hosts_count_and_not_rows(
    before: list[tuple[int, str]], after: list[tuple[int, str]], lost: int, bmc: bool
) -> None:
    reason = verdict(hosts(*before, bmc=bmc), hosts(*after, bmc=bmc), 0.0)
    total = len({path for _mac, path in before})
    assert (reason or "").startswith(
        f"{lost} of {total} hosts would no longer be answered ({lost} removed)" if lost else ""
    )
    assert (reason is not None) == bool(lost)


# --- flips -----------------------------------------------------------------------------------------------------------


class Host:
    """One host over several refreshes: what the inventory says, what is served in the end."""

    def __init__(self, first: str) -> None:
        self.flips = Flips()
        self.served = first

    def read(self, contents: str) -> str:
        """For every letter, a content at one refresh ("-": not there): "!" when it was held, "." when not."""
        return "".join(self.refresh(content) for content in contents)

    def refresh(self, content: str) -> str:
        changed = [MAC] if content != self.served else []
        held = self.flips.note(changed, lambda _mac: number(self.served), lambda _mac: number(content))
        if MAC not in held:
            self.served = content
        return "!" if held else "."


def number(content: str) -> int:
    return 0 if content == "-" else ord(content)


def test_a_host_that_flips_is_held_at_its_third_return() -> None:
    host = Host("A")
    assert host.read("BABA") == "...!" and FLIPS == 3
    assert host.served == "B", "as it was served before the return that was one too many"
    assert host.read("BABABA") == "!!!!!!" and host.served == "B", "for as long as it goes on"


def test_it_is_released_when_the_inventory_says_the_same_three_times() -> None:
    host = Host("A")
    assert host.read("BABA") == "...!"
    assert host.read("AA") == "!." and STEADY == 3, "three reads that agree, the first included"
    assert host.served == "A" and not host.flips.watched
    assert host.read("BAB") == "...", "and begins anew"


def test_two_equal_reads_are_not_enough() -> None:
    host = Host("A")
    assert host.read("BABAABB") == "...!!!!" and host.served == "B"
    assert host.read("B") == "." and host.served == "B"


@pytest.mark.parametrize(
    "contents",
    [
        pytest.param("BCDEFGHIJK", id="always-something-new"),
        pytest.param("BABCBABCBA", id="not-three-in-a-row"),
        pytest.param("BAAABBBAAABBBAAA", id="slowly"),
        pytest.param("BABBBABAAABAB", id="with-a-rest-in-between"),
        pytest.param("BBBBBBBBBB", id="once"),
    ],
)
def test_a_host_that_only_changes_is_not_held(contents: str) -> None:
    host = Host("A")
    assert "!" not in host.read(contents) and host.served == contents[-1]


@pytest.mark.parametrize("first, contents", [("A", "-A-A"), ("-", "A-A-")], ids=["comes-and-goes", "is-new-and-goes"])
def test_not_to_be_there_is_a_content(first: str, contents: str) -> None:
    host = Host(first)
    assert host.read(contents) == "...!" and host.served == contents[2]


def test_the_others_are_not_held() -> None:
    flips = Flips()
    served = {1: 10, 2: 20}
    for turn, read in enumerate([{1: 11, 2: 21}, {1: 10, 2: 22}, {1: 11, 2: 23}, {1: 10, 2: 24}]):
        changed = [mac for mac in (1, 2) if read[mac] != served[mac]]
        held = flips.note(changed, served.__getitem__, read.__getitem__)
        assert held == ({1} if turn == 3 else set())
        served |= {mac: content for mac, content in read.items() if mac not in held}


def test_a_change_of_a_whole_site_is_somebody_s_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not even remembered: a million hosts renamed to and fro would fill the memory."""
    monkeypatch.setattr(guards, "WATCHED_MAX", 3)
    flips = Flips()
    assert flips.note(range(4), lambda _mac: 1, lambda _mac: 2) == set() and not flips.watched
    flips.note(range(3), lambda _mac: 1, lambda _mac: 2)
    assert len(flips.watched) == 3
    flips.note([7], lambda _mac: 1, lambda _mac: 2)
    assert len(flips.watched) == 3, "bounded"


def test_who_is_watched_already_is_seen_in_a_change_of_a_whole_site(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guards, "WATCHED_MAX", 3)
    flips = Flips()
    contents, held = iter("BABA"), set[int]()
    for turn, content in enumerate(contents):
        mass = range(100) if turn == 2 else [MAC]
        held = flips.note({*mass, MAC}, lambda _mac: ord("A"), lambda _mac, read=content: ord(read))  # type: ignore[misc]
    assert held == {MAC}
