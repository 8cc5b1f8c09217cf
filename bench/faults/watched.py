"""A troubled site under a load whose every answer is checked against a model: who has which address, and since when.

The model is made from the orders that change the inventory and from nothing that the service says, but that a change
has been adopted: until then the old answer is right as well.
"""

from __future__ import annotations

import contextlib
import random
import time
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any

from bench.engine.forms import DISCOVER, REQUEST, add, form
from bench.engine.ledger import Ledger
from bench.engine.target import population
from bench.engine.underway import UnderWay
from bench.faults.trouble import ADDRESS_BIAS, FIRST_SPARE_MAC, TroubledSite, await_that, troubled_stage
from bench.rig.stage import FIRST_ADDRESS, FIRST_MAC, Stage

SPARE_MACS = 64
ASKING_ON = 32  # cards without a machine that go on asking
PATIENCE_S = 5.0
ADOPT_S = 30.0


@dataclass(slots=True)
class Change:
    """Hosts (indices of MACs) whose right answer changes; how the service is to be told of it."""

    words: str
    peers: list[int]
    refresh: dict[str, Any]  # arguments of the control command; empty with stranger: nobody tells it
    stranger: int = -1  # the MAC whose own DISCOVER has to do


@dataclass(slots=True)
class Watched:
    """Site, load and model.  Indices below `hosts` are the MACs that the hosts began with, those above spare cards."""

    stage: Stage
    site: TroubledSite
    hosts: int
    workers: int
    rate: float
    dice: random.Random
    seconds: float = 60.0
    ledger: Any = None
    load: UnderWay | None = None
    card_of: list[int] = field(default_factory=list)  # node -> index of its MAC
    address_of: list[int] = field(default_factory=list)
    free_cards: list[int] = field(default_factory=list)
    retired: list[int] = field(default_factory=list)  # of no machine any more, and still asking
    pending: list[Change] = field(default_factory=list)
    log: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.card_of = list(range(self.hosts))
        self.address_of = [FIRST_ADDRESS + node for node in range(self.hosts)]
        self.free_cards = list(range(self.hosts, self.hosts + SPARE_MACS))

    # --- the load ----------------------------------------------------------------------------------------------------

    def macs(self) -> list[int]:
        return [FIRST_MAC + i for i in range(self.hosts)] + [FIRST_SPARE_MAC + i for i in range(SPARE_MACS)]

    def mac(self, card: int) -> str:
        return self.macs()[card].to_bytes(6, "big").hex(":")

    def begin(self) -> None:
        """Send from here on, in a thread on the generator's core."""
        right = [0] * (self.hosts + SPARE_MACS)
        objects = list(range(len(right)))
        for node, card in enumerate(self.card_of):
            right[card], objects[card] = self.address_of[node], node
        # A spare card without a machine is an object of its own, which no node is.
        for card in self.free_cards:
            objects[card] = self.hosts + card
        room = 1 << max(16, int(self.rate * PATIENCE_S * 1.5).bit_length())
        sock, known = self.stage.target.open()
        self.ledger = Ledger(
            sock.fileno(),
            **known,
            rate=self.rate,
            seconds=self.seconds,
            first_xid=self.dice.getrandbits(32),
            room=room,
            patience_ns=int(PATIENCE_S * 1e9),
            first_address=FIRST_ADDRESS,
            span=self.hosts,
        )
        macs, _unknown, relays = population(self.macs()).arrays()
        self.ledger.set_peers(macs, array("I", right), relays)
        self.ledger.set_objects(objects)
        for kind in (DISCOVER, REQUEST):
            add(self.ledger, form(kind))
        self.load = UnderWay("ledger", self.ledger, sock, self.stage.cores[1])

    def end(self) -> dict[str, Any]:
        """Send no more, wait until every request is settled; the whole account."""
        assert self.load is not None
        self.load.stop()
        own_drops = self.load.await_end()
        self.load = None
        return dict(self.ledger.totals()) | {"own_drops": own_drops}

    def say(self, words: str) -> None:
        """Into the log of what was done, with the seconds since the first request."""
        self.log.append(f"{(time.monotonic_ns() - self.ledger.began_ns) / 1e9:9.3f} {words}")

    # --- edits -------------------------------------------------------------------------------------------------------

    def node_name(self, node: int) -> str:
        return f"node{node:06d}"

    def put_address(self, node: int, address: int) -> None:
        """As a person would: the address of a machine, in all of its spellings."""
        path = f"/server/{self.node_name(node)}/setattr?key=ip&number=0"
        self.site.order(get=f"{path}&subkey=ipstring&value={IPv4Address(address)}")
        self.site.order(get=f"{path}&datatype=int&value={address - ADDRESS_BIAS}")
        self.site.order(get=f"{path}&subkey=cidr&value={IPv4Address(address)}/12")

    def put_mac(self, node: int, card: int) -> None:
        path = f"/server/{self.node_name(node)}/set_port_attr?porttype=nic-eth&portnum=1&key=mac"
        self.site.order(get=f"{path}&value={self.mac(card)}")

    def swap(self, lookup: bool) -> Change:
        """Two machines exchange their addresses.  lookup: the service is asked to read one of them, else everything."""
        one, two = self.dice.sample(range(self.hosts), 2)
        cards = [self.card_of[one], self.card_of[two]]
        self.address_of[one], self.address_of[two] = self.address_of[two], self.address_of[one]
        self.ledger.begin_change([(cards[0], self.address_of[one]), (cards[1], self.address_of[two])])
        self.put_address(one, self.address_of[one])
        self.put_address(two, self.address_of[two])
        how = {"mac": self.mac(cards[0])} if lookup else {}
        words = f"{self.node_name(one)} and {self.node_name(two)} exchange addresses, read {how or 'in full'}"
        return Change(words, cards, how)

    def recard(self, how: str) -> Change:
        """A machine gets another card.  how: "full", everything is read; "mac", the new card; "asks": nobody tells the
        service, the card's own DISCOVER has to do."""
        node, new = self.dice.randrange(self.hosts), self.free_cards.pop(0)
        old = self.card_of[node]
        self.card_of[node] = new
        self.retired.append(old)
        if len(self.retired) > ASKING_ON:
            # It was a stranger for a while, and comes back as somebody's card when nobody remembers that.
            quiet = self.retired.pop(0)
            self.ledger.hush([quiet])
            self.free_cards.append(quiet)
        self.ledger.set_object(new, node)
        self.ledger.begin_change([(old, 0)])
        self.put_mac(node, new)
        # Now it is plugged in: one that had asked before would rightly not be looked up again for a minute.
        self.ledger.begin_change([(new, self.address_of[node])])
        words = f"{self.node_name(node)} gets the card {self.mac(new)} for {self.mac(old)}"
        if how == "asks":
            return Change(f"{words}, which asks", [old, new], {}, new)
        return Change(f"{words}, read {how}", [old, new], {"mac": self.mac(new)} if how == "mac" else {})

    def contest(self) -> Change:
        """A machine gets the address of another, which keeps it: nobody is answered until a person decides."""
        one, two = self.dice.sample(range(self.hosts), 2)
        cards = [self.card_of[one], self.card_of[two]]
        self.ledger.begin_change([(card, 0) for card in cards])
        self.put_address(one, self.address_of[two])
        words = f"{self.node_name(one)} gets the address of {self.node_name(two)}, which keeps it"
        return Change(words, cards, {})

    def settle(self, contested: Change, lookup: bool = False) -> Change:
        """A person decides: each has its own again.  lookup: the service is told to read one of them alone."""
        one, two = (self.card_of.index(card) for card in contested.peers)
        self.ledger.begin_change([(self.card_of[node], self.address_of[node]) for node in (one, two)])
        self.put_address(one, self.address_of[one])
        how = {"mac": self.mac(self.card_of[one])} if lookup else {}
        return Change(f"{self.node_name(one)} has its own address again, read {how or 'in full'}", contested.peers, how)

    def back_and_forth(self) -> None:
        """What was adopted last is rolled back, then read again; what was adopted before stays.  RuntimeError, OSError:
        the service refuses."""
        self.adopt(self.swap(False))
        change = self.swap(False)
        self.adopt(change)
        one, two = (self.card_of.index(card) for card in change.peers)
        after = [(card, self.address_of[node]) for card, node in zip(change.peers, (one, two), strict=True)]
        before = [(card, self.address_of[node]) for card, node in zip(change.peers, (two, one), strict=True)]
        self.ledger.begin_change(before)
        self.pending.append(change)
        self.site.ask("rollback", answer_s=ADOPT_S)
        self.await_adoption()
        self.ledger.end_change(change.peers)
        self.say(f"rolled back: {change.words}")
        self.rounds(2)
        self.ledger.begin_change(after)
        self.site.ask("refresh", answer_s=ADOPT_S, wait=True, force=True)
        self.close(change)

    def rounds(self, count: int) -> None:
        """So long that every machine asks so often."""
        time.sleep(count * (self.hosts + SPARE_MACS) / self.rate)

    def adopt(self, change: Change) -> None:
        """Have the change served, and hold the service to it from then on.  RuntimeError, OSError: it cannot yet."""
        self.pending.append(change)
        if change.stranger >= 0:
            self.await_known(self.mac(change.stranger))
        else:
            self.site.ask("refresh", answer_s=ADOPT_S, wait=True, **change.refresh)
        self.close(change)

    def await_known(self, mac: str) -> None:
        """Until every worker serves the MAC."""
        await_that(lambda: self.known(mac), bool, f"{mac}, which asks all the time, is known", ADOPT_S)
        self.await_adoption()

    def await_adoption(self) -> None:
        """Until every worker serves what control serves."""
        generation = self.site.status().get("generation", 0)
        await_that(
            self.site.status,
            lambda s: s and all(w["generation"] >= generation for w in s["workers"]),
            f"generation {generation} in every worker",
            ADOPT_S,
        )

    def known(self, mac: str) -> bool:
        with contextlib.suppress(OSError, RuntimeError):
            return bool(self.site.ask("lookup", mac=mac))
        return False

    def close(self, change: Change) -> None:
        self.ledger.end_change(change.peers)
        self.pending.remove(change)
        self.say(f"adopted: {change.words}")

    def catch_up(self) -> None:
        """A full reading adopts whatever could not be adopted meanwhile."""
        if self.pending:
            self.site.ask("refresh", answer_s=ADOPT_S, wait=True, force=True)
            for change in list(self.pending):
                self.close(change)

    # --- what was wrong ----------------------------------------------------------------------------------------------

    def faulty(self) -> list[str]:
        """The first wrong answers and lost requests, in words."""
        said = []
        for kind, sent, when, number, mac, found, wanted, rival in self.ledger.wrong_kept_of():
            right = f"{IPv4Address(wanted)} is right now" if wanted else "it is nobody's card now"
            other = f", which {rival.hex(':')} has" if rival else ""
            said.append(
                f"wrong ({kind}): request {number} of {mac.hex(':')}, sent at {sent:.4f} s, answered at {when:.4f} s "
                f"with {IPv4Address(found)}; {right}{other}"
            )
        for _kind, sent, _when, number, mac, *_rest in self.ledger.lost_kept_of():
            said.append(f"lost: request {number} of {mac.hex(':')}, sent at {sent:.4f} s")
        return said


@contextlib.contextmanager
def watched_site(hosts: int, rate: float, seed: int, seconds: float, workers: int = 2) -> Iterator[Watched]:
    """A troubled site with nothing sent yet."""
    with troubled_stage(hosts, workers) as (stage, site):
        yield Watched(stage, site, hosts, workers, rate, random.Random(seed), seconds)
