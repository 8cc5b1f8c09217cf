"""One machine's way through a capture in short: what it asks, who answers, and how it ends.  Pure: made of what
control/explain/explainer.py says of each request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Said = Mapping[str, Any]
HERE = "in this capture"
ENDS = ("DECLINE", "RELEASE")
PROLONGING = ("REQUEST, renewing", "REQUEST, rebinding")


@dataclass(slots=True)
class Step:
    """seconds: since the machine's first datagram.  who: (kind of step, server, relay), to know it again."""

    seconds: float
    words: str
    who: tuple[str, str, str | None] = ("", "", None)
    times: int = 1
    frame: int = 0


def steps_of(requests: Sequence[Said], strays: Iterable[Said] = ()) -> list[Step]:
    """requests, strays: of this machine.  A request that both sides of a relay show is one."""
    frames = {said["frame"] for said in requests}
    copies: dict[int, list[Said]] = {}
    for said in requests:
        if said.get("origin") in frames:
            copies.setdefault(said["origin"], []).append(said)
    every = sorted([*requests, *strays], key=lambda said: said["frame"])
    story = Story(every[0]["seconds"] if every else 0.0)
    for said in every:
        if "seen" not in said:
            story.answered(said, said, [])
        elif said.get("origin") not in frames:
            story.asked(said, copies.get(said["frame"], []))
    return story.end()


@dataclass(slots=True)
class Story:
    """tries: requests of one stage that nobody has answered, each with the relays that passed it on."""

    begun_s: float
    steps: list[Step] = field(default_factory=list)
    tries: list[tuple[Said, list[str]]] = field(default_factory=list)

    def tell(self, said: Said, words: str, who: tuple[str, str, str | None] = ("", "", None), times: int = 1) -> None:
        self.steps.append(Step(said["seconds"] - self.begun_s, words, who, times, said["frame"]))

    def asked(self, said: Said, copies: Sequence[Said]) -> None:
        """copies: what relays made of it."""
        stage = said["stage"]
        if stage in ENDS:
            self.give_up()
            self.tell(said, ended(said))
            return
        if self.tries and self.tries[0][0]["stage"] != stage:
            self.give_up()
        relays = dict.fromkeys(names_of(each)["relay"] for each in (said, *copies))
        self.tries.append((said, [relay for relay in relays if relay]))
        replies = sorted((reply for each in (said, *copies) for reply in each["seen"]), key=lambda each: each["frame"])
        for reply in replies:
            self.answered(said, reply, self.tries)
            self.tries = []

    def answered(self, said: Said, reply: Said, tries: Sequence[Any]) -> None:
        """reply: of said["seen"], or a stray, which is its own `said`.  tries: what it answers, the newest last."""
        server, relay, message = reply.get("server", reply["source"]), reply.get("relay"), reply["message"]
        stage, by = said.get("stage", ""), f" (relay {relay})" if relay else ""
        prolongs = message == "ACK" and stage in PROLONGING
        who = (f"{message} {stage}" if message == "ACK" else message, server, relay)
        before = self.known(who)
        if prolongs:
            times = 1 + (before.times if before is not None else 0)
            again = f" {times} times" if times > 1 else ""
            words = f"{server} prolongs {reply['address'] or 'its lease'}{by}{again}"
        else:
            times = max(1, len(tries)) + (before.times if before is not None else 0)
            words = told(reply, server, by, times)
        if not reply.get("reached_client", True) and said is not reply and names_of(said)["relay"] is None:
            words += f"; the relay does not pass it on {HERE}"
        if before is not None:
            self.steps.remove(before)
        self.tell(said, words, who, times)

    def known(self, who: tuple[str, str, str | None]) -> Step | None:
        """The same answer to its asking before; of several servers' offers, each one's."""
        for step in reversed(self.steps):
            if step.who == who:
                return step
            if step.who[0] != "OFFER" or who[0] != "OFFER":
                return None
        return None

    def give_up(self) -> None:
        if not self.tries:
            return
        said, relays = self.tries[0][0], dict.fromkeys(relay for _, each in self.tries for relay in each)
        words, last = wish(said), self.tries[-1][0]
        if len(self.tries) > 1:
            words += f" {len(self.tries)} times in {last['seconds'] - said['seconds']:.1f} s"
        words += f" by relay {' and '.join(relays)}" if relays else ""
        self.tell(said, f"{words}, and nobody answers {HERE}", times=len(self.tries))
        self.tries = []

    def end(self) -> list[Step]:
        self.give_up()
        if self.steps and self.steps[-1].who[0] == "OFFER":
            last = self.steps[-1]
            self.steps.append(Step(last.seconds, f"takes no offer {HERE}"))
        return self.steps


def names_of(said: Said) -> Mapping[str, str | None]:
    """The addresses that a request names; none where an earlier build explained it."""
    return said.get("names") or dict.fromkeys(("ciaddr", "requested", "server_id", "relay"))


def ended(said: Said) -> str:
    """What a machine says that wants no reply."""
    names, server = names_of(said), names_of(said)["server_id"]
    if said["stage"] == "DECLINE":
        return (
            f"refuses {names['requested'] or 'the address'}{f' of {server}' if server else ''}: somebody else uses it"
        )
    return f"gives {names['ciaddr'] or 'its address'} back{f' to {server}' if server else ''}"


def wish(said: Said) -> str:
    """What a request that nobody answers was for."""
    names, stage = names_of(said), said["stage"]
    address = names["requested"] or names["ciaddr"] or "an address"
    server = f" of {names['server_id']}" if names["server_id"] else ""
    wishes = {
        "DISCOVER": "looks for a server",
        "REQUEST, selecting": f"takes the offer {address}{server}",
        "REQUEST, init-reboot": f"asks for {address}, which it had",
        "REQUEST, renewing": f"asks its server to prolong {address}",
        "REQUEST, rebinding": f"asks any server to prolong {address}",
        "INFORM": "asks for the rest",
    }
    return wishes.get(stage, f"asks ({stage})")


def told(reply: Said, server: str, by: str, times: int) -> str:
    """One reply.  times: how often it was asked for."""
    content, address = reply["content"], reply["address"]
    if reply["message"] == "OFFER":
        looked = f"looks for a server {times} times; " if times > 1 else ""
        return f"{looked}{server} offers it {address or 'no address, but what to boot'}{by}"
    if reply["message"] == "FORCERENEW":
        return f"{server} tells it to renew{by}"
    if reply["message"] == "NAK":
        return f"{server} refuses the address that it asks for{by}"
    has = f"has {address}" if address else "is told the rest"
    file = next((each["value"] for each in content["options"] if each["code"] == 67), None) or content["boot_file"]
    source = f" from {content['next_server']}" if content["next_server"] and file and "://" not in file else ""
    return f"{has} by the word of {server}{by}" + (f", and boots {file}{source}" if file else "")
