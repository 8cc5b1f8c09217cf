"""Edits, look-ups, refreshes with and without faults, rollbacks, relinks and restarts in any order, against a model.

No address is ever answered twice, what was looked up is answered as the inventory says, a whole read ends doubts."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from ext.table import row_key
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from control.config.config import Config, Dhcp
from control.planner.jobs import Failed
from control.planner.planner import Planner
from fastpath.protocol import close_all
from tests.control.moving import BMC_PORT, SWITCH, Machine, Moving, addresses_of, check, fresh, mac_text, rows_of
from tests.control.planning import LINKS, OTHER_LINKS, Control, end

NAMES = ("a", "b", "c", "d", "a#")  # "a#" is another object that shows the name a, where its type differs
MACS, ADDRESSES = st.integers(1, 6), st.integers(20, 24)
MACHINES = st.builds(
    Machine,
    mac=MACS,
    addresses=st.lists(ADDRESSES, min_size=1, max_size=2, unique=True),
    enabled=st.sampled_from([True, True, True, False]),
    proxy=st.sampled_from([False, False, False, False, True]),
    part=st.sampled_from(["p", "q"]),
    type_=st.sampled_from(["server", "server", "appliance"]),
    bmc_mac=st.sampled_from([None, None, None, 11, 12, 2, 3]),  # 2, 3: perhaps some host's card
    bmc_address=st.sampled_from([None, None, 23, 24, 25]),
    inside=st.sampled_from([False, False, True]),
)
EDITS = st.one_of(
    st.tuples(st.just("put"), st.sampled_from(NAMES), MACHINES),
    st.tuples(st.just("mac"), st.sampled_from(NAMES), MACS),
    st.tuples(st.just("bmc"), st.sampled_from(NAMES), st.sampled_from([None, 1, 2, 3, 4, 11])),
    st.tuples(st.just("address"), st.sampled_from(NAMES), ADDRESSES),
    st.tuples(st.just("swap"), st.sampled_from(NAMES), st.sampled_from(NAMES)),
    st.tuples(st.just("give"), st.sampled_from(NAMES), st.sampled_from(NAMES)),
    st.tuples(st.just("rename"), st.sampled_from(NAMES), st.sampled_from(NAMES)),
    st.tuples(st.just("delete"), st.sampled_from(NAMES), st.none()),
    st.tuples(st.just("enable"), st.sampled_from(NAMES), st.booleans()),
    st.tuples(st.just("part"), st.sampled_from(NAMES), st.sampled_from(["p", "q"])),
    st.tuples(st.just("type"), st.sampled_from(NAMES), st.sampled_from(["server", "appliance"])),
)
UNREADABLE = st.sets(st.sampled_from([SWITCH, "/server/a", "/server/b", "/server/c", "/appliance/a"]), max_size=2)
LOOK_UPS = st.one_of(
    st.tuples(st.just("mac"), st.one_of(MACS, st.sampled_from([11, 12]))),
    st.tuples(st.just("name"), st.sampled_from(NAMES)),
)


def edit(hosts: dict[str, Machine], what: str, name: str, value: Any) -> None:
    if what == "put":
        hosts[name] = value
    elif name not in hosts:
        return
    elif what == "mac":
        hosts[name].mac = value
    elif what == "bmc":
        hosts[name].bmc_mac = value
    elif what == "address":
        hosts[name].addresses = [value]
    elif what == "swap" and value in hosts:
        hosts[name].addresses, hosts[value].addresses = hosts[value].addresses, hosts[name].addresses
    elif what == "give" and value in hosts and value != name:
        hosts[value].addresses = hosts.pop(name).addresses
    elif what == "rename" and value not in hosts:
        hosts[value] = hosts.pop(name)
    elif what == "delete":
        del hosts[name]
    elif what == "enable":
        hosts[name].enabled = value
    elif what == "part":
        hosts[name].part = value
    elif what == "type":
        hosts[name].type_ = value


class Moves(RuleBasedStateMachine):
    cards = 1  # of a host, at most

    def __init__(self) -> None:
        super().__init__()
        room = Path("/dev/shm")
        self.folder = Path(tempfile.mkdtemp(dir=room if room.is_dir() else None))
        self.config = Config(dhcp=Dhcp(state_dir=self.folder, ipmi_port_name=BMC_PORT, update_ipmi=True))
        self.inventory = Moving()
        self.control = Control()
        self.numbers: dict[int, int] = {}
        self.planner = self.started()

    def started(self) -> Planner:
        made = Planner(self.config, LINKS, self.control.send)
        made.source = self.inventory  # type: ignore[assignment]
        return made

    def teardown(self) -> None:
        end(self.planner)
        self.control.close()
        shutil.rmtree(self.folder)

    @initialize(hosts=st.dictionaries(st.sampled_from(NAMES), MACHINES, max_size=4))
    def begin(self, hosts: dict[str, Machine]) -> None:
        self.inventory.hosts = hosts
        self.planner.refresh(True)

    @rule(edits=st.lists(EDITS, min_size=1, max_size=3))
    def edit(self, edits: list[Any]) -> None:
        for each in edits:
            edit(self.inventory.hosts, *each)

    def look_up(self, kind: str, what: Any, asked: bool = False) -> None:
        self.planner.look_up([mac_text(what)] if kind == "mac" else [], [what] if kind == "name" else [], asked)

    @rule(what=LOOK_UPS, asked=st.booleans())
    def look_up_well(self, what: Any, asked: bool) -> None:
        self.look_up(*what, asked)
        if self.planner.pinned_s or self.planner.frame is None:
            assert isinstance(self.control.last, Failed)
            return
        assert self.planner.served.pair is not None
        want, have = fresh(self.inventory, self.config.dhcp), rows_of(self.planner.served.pair)
        keys = [0x020000000000 + what[1] | role << 48 for role in (0, 1)] if what[0] == "mac" else []
        keys += [key for key, row in (*want.items(), *have.items()) if row["name"] == str(what[1]).encode()]
        for key in keys:
            if b", " in want.get(key, {"name": b""})["name"]:
                continue  # a MAC of two objects: nothing says so to who reads the one that is served with it already
            if addresses_of(have.get(key)):
                assert addresses_of(have[key]) == addresses_of(want.get(key)), f"{key:x}: {have[key]}, wanted {want}"
            if addresses_of(want.get(key)):
                assert addresses_of(have.get(key)), f"silent {key:x}: {have}, wanted {want}"
            if have.get(key, {"state": ""})["state"] == "proxied":
                assert want[key]["state"] == "proxied"

    @rule(edits=st.lists(EDITS, min_size=1, max_size=2), seen=st.sampled_from(["mac", "bmc", "name"]))
    def move_and_look_up(self, edits: list[Any], seen: str) -> None:
        """What an administrator does, and who then asks first."""
        if self.planner.pinned_s or self.planner.frame is None:
            self.planner.refresh(True)
        for what, name, value in edits:
            known = sorted(self.inventory.hosts)
            name = name if what == "put" or name in known or not known else known[len(name) % len(known)]
            edit(self.inventory.hosts, what, name, value)
        for name in dict.fromkeys(name for _what, name, _value in edits if name in self.inventory.hosts):
            host = self.inventory.hosts[name]
            number = host.mac if seen == "mac" else host.bmc_mac
            if seen != "name" and number is not None:
                self.look_up_well(("mac", number), False)
            else:
                self.look_up_well(("name", name.partition("#")[0]), True)

    @rule(what=LOOK_UPS, fail_at=st.integers(0, 1))
    def look_up_badly(self, what: Any, fail_at: int) -> None:
        self.inventory.fail_at = fail_at
        self.look_up(*what)
        self.inventory.fail_at = None

    @rule(address=st.one_of(st.none(), ADDRESSES))
    def move_the_switch(self, address: int | None) -> None:
        self.inventory.switch = address

    @rule(place=st.integers(0, 4), address=st.integers(26, 27))
    def take_the_switch_s_address(self, place: int, address: int) -> None:
        """It is in no table; what it said at the last full read counts for as long as it says so."""
        self.inventory.switch = address
        self.refresh_well()
        if self.inventory.hosts:
            name = sorted(self.inventory.hosts)[place % len(self.inventory.hosts)]
            self.inventory.hosts[name].addresses, self.inventory.switch = [address], None
            self.look_up_well(("name", name.partition("#")[0]), True)

    @rule(what=LOOK_UPS, unreadable=UNREADABLE)
    def look_up_what_cannot_be_read(self, what: Any, unreadable: set[str]) -> None:
        """Some of it, or what it is in.  Who has an address and cannot be read may have it still."""
        self.inventory.unreadable = unreadable
        self.look_up(*what)
        self.inventory.unreadable = set()

    @rule(unreadable=UNREADABLE, force=st.booleans())
    def refresh_what_cannot_be_read(self, unreadable: set[str], force: bool) -> None:
        self.inventory.unreadable = unreadable
        self.planner.refresh(force)
        self.inventory.unreadable = set()

    @rule(
        meanwhile=st.dictionaries(
            st.sampled_from(["p", "q"]), st.tuples(st.lists(EDITS, max_size=3), st.lists(LOOK_UPS, max_size=2))
        ),
        lost=st.sets(st.sampled_from(["p", "q"])),
        missing=st.sets(st.sampled_from(["/server/a", "/server/b", "/appliance/a"]), max_size=1),
        force=st.booleans(),
    )
    def refresh_with_troubles(self, meanwhile: Any, lost: set[str], missing: set[str], force: bool) -> None:
        def before(part: str) -> None:
            edits, look_ups = meanwhile.get(part, ((), ()))
            for what, name, value in edits:
                edit(self.inventory.hosts, what, name, value)
                host = self.inventory.hosts.get(name)
                if host is not None and host.mac is not None and what != "part":
                    self.look_up("mac", host.mac)
                    self.check_all()
            for each in look_ups:
                self.look_up(*each)
                self.check_all()

        # The reader's thread stands still meanwhile: as if control's messages came while it waits.
        self.inventory.before_part, self.inventory.lost, self.inventory.missing = before, lost, missing
        self.planner.refresh(force)
        self.inventory.before_part, self.inventory.lost, self.inventory.missing = (lambda _part: None), set(), set()

    @rule(part=st.sampled_from(["p", "q"]), change=EDITS, torn=ADDRESSES)
    def edit_and_look_up_amid_a_refresh(self, part: str, change: Any, torn: int) -> None:
        """The refresh has read some before the edit, and one of them with half of another edit that is undone by then.
        What was looked up after it is answered as the inventory says, once the refresh is through."""
        what, name, value = change
        hosts = self.inventory.hosts
        self.planner.refresh(True)
        if name not in hosts or what in ("part", "delete", "rename", "give", "type"):
            return
        if what == "put" and (value.type_, value.part) != (hosts[name].type_, hosts[name].part):
            return  # another object, or the same in another part: listed, and not given where the refresh looks for it
        other = value if what == "swap" and value in hosts else name
        whole = list(hosts[other].addresses)
        if torn not in whole:
            hosts[other].addresses = [*whole, torn]  # no address that is answered: there is one in this network

        def before(reading: str) -> None:
            if reading == part:
                hosts[other].addresses = list(whole)
                edit(hosts, what, name, value)
                # One that is not answered stands in no table: that it gave an address up, only its own reading tells.
                for each in dict.fromkeys((name, other)):
                    self.look_up("name", each.partition("#")[0])
                    self.check_all()

        self.inventory.before_part = before
        self.planner.refresh(True)
        self.inventory.before_part = lambda _part: None
        assert self.planner.served.pair is not None
        want, have = fresh(self.inventory, self.config.dhcp), rows_of(self.planner.served.pair)
        for key, row in want.items():
            if row["name"].decode() == name.partition("#")[0] and addresses_of(row):
                assert addresses_of(have.get(key)) == addresses_of(row), f"{key:x}: {have.get(key)}, wanted {row}"

    @rule()
    def refresh_well(self) -> None:
        self.planner.refresh(True)
        assert self.planner.served.pair is not None
        assert rows_of(self.planner.served.pair) == fresh(self.inventory, self.config.dhcp)

    @rule()
    def refresh_while_down(self) -> None:
        self.inventory.down = True
        self.planner.refresh(False)
        self.inventory.down = False

    @rule()
    def go_back(self) -> None:
        self.planner.rollback()

    @rule(links=st.sampled_from([LINKS, OTHER_LINKS]))
    def relink(self, links: Any) -> None:
        self.planner.relink(links)

    @precondition(lambda self: self.planner.served.pair is not None)
    @rule(cold=st.booleans())
    def restart(self, cold: bool) -> None:
        """Of the planner alone, which control gives what it serves; or of everything, from the disk."""
        fds = [os.dup(fd) for fd in self.planner.served.shown_fds() if fd >= 0]
        number = self.planner.served.number
        end(self.planner)
        self.planner = self.started()
        self.planner.served.number = number
        if cold:
            close_all(fds)
            self.planner.load_from_disk()
        else:
            self.planner.adopt(fds[0], fds[1] if len(fds) > 1 else -1)
            self.planner.relink(LINKS)

    @invariant()
    def check_published(self) -> None:
        if any(len(fds) > 1 for fds in self.control.fds):
            check(self.control.pair(), self.cards)
        close_all([fd for fds in self.control.fds for fd in fds])
        self.control.fds.clear()

    def check_all(self) -> None:
        """Also amid a step: a row that goes and comes back in one may bear another number then."""
        self.check_published()
        self.check_numbers()

    @invariant()
    def check_numbers(self) -> None:
        """A row's number is its own, over whatever is kept; it has it for as long as it is there."""
        served = self.planner.served
        if served.pair is None:
            return
        pairs = [served.pair] + ([served.former.pair] if served.former is not None else [])
        kept = [each for pair in pairs for each in (pair.base, pair.delta) if each is not None]
        borne = [(row_key(*key), each.number_of(*key)) for each in kept for key in each.keys()]  # noqa: SIM118
        assert all(number for _key, number in borne), borne
        assert len(dict(borne)) == len({number for _key, number in borne}) == len(set(borne)), borne
        now = {row_key(*key): served.pair.number_of(*key) for key in served.pair.keys()}  # noqa: SIM118
        assert all(self.numbers[key] == number for key, number in now.items() if key in self.numbers), self.numbers
        self.numbers = now


class MovesOfCards(Moves):
    """The same with servers of two cards, one of them or both in use."""

    cards = 2

    @initialize(hosts=st.dictionaries(st.sampled_from(NAMES), MACHINES, max_size=4))
    def begin(self, hosts: dict[str, Machine]) -> None:
        super().begin(hosts)

    @rule(name=st.sampled_from(NAMES), second=st.one_of(st.none(), MACS), ports=st.sampled_from([None, 1, 2, "all"]))
    def plug(self, name: str, second: int | None, ports: Any) -> None:
        if name in self.inventory.hosts:
            self.inventory.hosts[name].second, self.inventory.hosts[name].ports = second, ports


MANY = int(os.environ.get("BOOTSTORM_MOVES", "0"))  # examples: those are not made smaller, that takes minutes
Moves.TestCase.settings = MovesOfCards.TestCase.settings = settings(
    max_examples=MANY or 25,
    phases=[Phase.generate] if MANY else list(Phase),
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestMoves = pytest.mark.property(Moves.TestCase)
TestMovesOfCards = pytest.mark.property(MovesOfCards.TestCase)
