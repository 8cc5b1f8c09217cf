"""One machine's way into the inventory: where it was seen, whose port that is, a new server if it must be, its MAC.

Every step reads before it writes and may be repeated; the order is such that a crash between any two requests leaves
something that the next try recognises: a name that is on disk before it is taken, then a server with the MAC, then one
in its place, and last the switch's end of the connection.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from control.clusto.client.api import ClustoError, NotSent
from control.discovery.jobs import Outcome, Waits, Work
from control.discovery.registrar import roles
from control.discovery.registrar.building import Declared
from control.discovery.registrar.factories import Builder, Factories
from control.discovery.registrar.facts import Facts, Switch
from control.discovery.registrar.inventory import NIC, Entity, Far, Inventory, Row, Step, name_of, setting
from control.discovery.registrar.names import Intend, Names, untouched
from control.discovery.states import State
from control.discovery.trapseen import NUMBERINGS, Port, numbered
from control.mac import same_mac

KEY: Final = f"port-{NIC}"
BOOTSTRAP: Final = "bootstrap"
REASON_CHARS: Final = 1_000  # an error names its whole request
UPLINK_TYPES: Final = ("networkswitch",)


@dataclass(frozen=True, slots=True)
class Spot:
    """One place where the machine was seen, as the inventory knows it."""

    switch: Switch
    port: int
    vlan: int
    far: Far
    vlans: tuple[Any, ...]  # that the inventory has there

    @property
    def text(self) -> str:
        return f"{self.switch.name} port {self.port}"


@dataclass(slots=True)
class Progress:
    """What becomes the outcome."""

    state: State | None = None
    server: str = ""
    made: bool = False  # just now
    spot: Spot | None = None
    did: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    uplinks: list[list[str | int]] = field(default_factory=list)

    def outcome(self, mac: str, state: State, reason: str = "", answered: bool = False) -> Outcome:
        return Outcome(
            mac=mac,
            state=state,
            reason=reason[:REASON_CHARS],
            server=name_of(self.server),
            switch=self.spot.switch.name if self.spot else "",
            port=self.spot.port if self.spot else 0,
            did=self.did,
            notes=self.notes,
            answered=answered,
            uplinks=self.uplinks,
        )


class Registration:
    """The steps.  intend: puts a server's name on disk before it is made; max_macs: of one server (snmp's)."""

    def __init__(
        self, inventory: Inventory, facts: Facts, names: Names, factories: Factories, max_macs: int, intend: Intend
    ) -> None:
        self.inventory = inventory
        self.facts = facts
        self.names = names
        self.factories = factories
        self.max_macs = max_macs
        self.intend = intend

    def run(self, work: Work) -> Outcome:
        """Never raises for what the inventory or a factory does wrong: that is a reason to wait or to try again."""
        progress = Progress()
        try:
            owners = self.inventory.owners_of_mac(work.mac)
            owners = sorted({*owners, *self.owners_by_name(work, {name_of(path) for path in owners})})
            if work.places:
                self.place(work, owners, progress)
            elif len(owners) == 1:
                progress.server = owners[0]
            elif owners:
                raise Waits(f"{work.mac} stands at {', '.join(owners)}; wanted one; correct the inventory")
            if not progress.server:
                return progress.outcome(work.mac, progress.state or State.UNKNOWN)
            return self.record_roles(work, progress)
        except Waits as waits:
            return progress.outcome(work.mac, progress.state or State.WAITS, str(waits))
        except NotSent as lost:
            self.facts.forget()  # whoever leads now changes what was read
            return progress.outcome(work.mac, State.RETRY, str(lost))
        except ClustoError as error:
            self.facts.forget()  # what was read may be as wrong as what failed
            state = State.DOWN if error.status is None else State.RETRY if error.status >= 500 else State.WAITS
            return progress.outcome(work.mac, state, str(error))

    def owners_by_name(self, work: Work, known: Collection[str]) -> list[str]:
        """The inventory is asked for texts and does not find a MAC of mixed case, which a full read has understood.

        known: names of those that were found."""
        found = [self.inventory.entity(name) for name in work.served.split(", ") if name and name not in known]
        return sorted(entity.path for entity in found if entity is not None and roles.confirmed(entity, work.mac))

    # --- where it was seen ---------------------------------------------------------------------------------------

    def place(self, work: Work, owners: list[str], progress: Progress) -> None:
        """Sets progress.server, or progress.state where the machine is not to get one."""
        spots, faults, off = self.spots(work, progress)
        if len(spots) > 1:
            seen = ", ".join(spot.text for spot in spots)
            raise Waits(f"{work.mac} was seen on {seen} at the same time; wanted one port: a loop, or an uplink?")
        if not spots:
            if faults:
                raise Waits("; ".join(faults))
            progress.state = State.OFF if off else State.UPLINK
            raise Waits("; ".join(off) if off else "the port leads to another switch")
        spot = progress.spot = spots[0]
        if spot.far.path is not None:
            progress.server = self.behind(work, owners, spot, progress)
        else:
            progress.server = self.on_free_port(work, owners, spot, progress)

    def spots(self, work: Work, progress: Progress) -> tuple[list[Spot], list[str], list[str]]:
        """Places that count, and why others do not: what is wrong there, or that discovery is off."""
        spots: list[Spot] = []
        faults: list[str] = []
        off: list[str] = []
        for address, said, vlan in work.places:
            try:
                switch = self.facts.switch(str(address))
                if switch.off and not work.adopted:
                    off.append(switch.off)
                    continue
                port = switch.port_of(said)
                if (NIC, port) not in self.facts.ports(switch.path):
                    what, attribute = by_what(said)
                    raise Waits(f"switch {switch.name} has no {NIC} port {port} ({what}): correct its snmp {attribute}")
                if any((spot.switch.path, spot.port) == (switch.path, port) for spot in spots):
                    continue  # one port by two of its numbers
                spot = self.spot(switch, port, int(vlan))
                if isinstance(said, str) and numbered(said).refused and not work.adopted:
                    raise Waits(
                        f"port security of {spot.text} does not admit {work.mac}: ctl adopt {work.mac} goes on with it"
                    )
            except Waits as waits:
                faults.append(str(waits))
                continue
            if spot.far.path is not None and spot.far.path.split("/")[1] in UPLINK_TYPES:
                progress.uplinks.append([address, said])
                continue
            spots.append(spot)
        return spots, faults, off

    def spot(self, switch: Switch, port: int, vlan: int) -> Spot:
        """As the inventory has it now."""
        said: dict[str | None, list[Any]] = {}
        for row in self.inventory.rows(switch.path, KEY):
            if row.number == port:
                said.setdefault(row.subkey, []).append(row.value)
        path, number = (next(iter(said.get(subkey, ())), None) for subkey in ("connection", "otherportnum"))
        return Spot(switch, port, vlan, Far(path or None, number), tuple(said.get("vlan", ())))

    # --- a port that something is connected to -------------------------------------------------------------------

    def behind(self, work: Work, owners: list[str], spot: Spot, progress: Progress) -> str:
        """The server at the port: the MAC's own, or one that gains a MAC."""
        server = spot.far.path
        assert server is not None
        if owners and owners != [server]:
            raise Waits(
                f"{work.mac} stands at {', '.join(owners)} and was seen on {spot.text}, where {server} is connected; "
                "it moved, or the inventory is wrong: correct one of the two"
            )
        if name_of(server) == work.name:  # an earlier try came so far, and perhaps no farther
            self.build(self.builder_of(spot), server, spot, progress)
            progress.state = State.REGISTERED
        elif not owners:
            entity = self.existing(server)
            known = len(entity.all(BOOTSTRAP, "mac"))
            if known >= self.max_macs and not work.adopted:
                raise Waits(f"{server} on {spot.text} has {known} MACs already (snmp.max_macs_per_port): a hub?")
            what = f"{name_of(server)} bootstrap mac = {work.mac}"
            self.write(progress, what, lambda: self.add_mac(server, work.mac))
            progress.notes.append(f"one more MAC behind {spot.text}, kept as a bootstrap MAC of {name_of(server)}")
        steps = self.vlan_steps(spot, progress, overwrite=False)
        if not self.inventory.dry:
            self.inventory.carry_out(steps)
        self.tell_vlan(steps, spot, progress)
        return server

    # --- a port that nothing is connected to ---------------------------------------------------------------------

    def on_free_port(self, work: Work, owners: list[str], spot: Spot, progress: Progress) -> str:
        if len(owners) > 1:
            owners = self.without_twins(work, owners, spot)
        if owners:
            entity = self.existing(owners[0])
            self.check_movable(work, entity, spot)
            return self.complete(entity.path, self.builder_of(spot), spot, progress)
        builder = self.builder_of(spot)
        occupant = builder.occupant(spot.switch.name, spot.port)
        builder.check(spot.switch.name, spot.port)
        if occupant:
            self.check_occupant(work, self.existing(occupant), spot, builder.nic(spot.switch.name, spot.port))
        if self.inventory.dry:
            progress.did += self.would(work, builder, spot, occupant)
            progress.state = State.WOULD
            return ""
        if occupant:
            # Found by its rack unit again, so its place comes first: a MAC on a server whose other NIC is connected
            # already would look like one that moved.
            self.complete(occupant, builder, spot, progress)
            self.add_mac(occupant, work.mac)
            return occupant
        made = self.make(work, builder, spot, progress)
        mac = Row(BOOTSTRAP, work.mac, "mac")
        self.inventory.add(made.path, mac)  # the name was free, or nothing stood on it
        made.rows.append(mac)
        server = self.alone(work, made.path, spot)
        return self.complete(server, builder, spot, progress, made if server == made.path else None)

    def builder_of(self, spot: Spot) -> Builder:
        return self.factories.of(self.facts.sole_rack(spot.switch))

    def check_movable(self, work: Work, owner: Entity, spot: Spot) -> None:
        """Raises Waits unless the owner of the MAC is a server that we, or a person, left unconnected for this."""
        elsewhere = connections(owner) - {(spot.switch.path, spot.port), (spot.switch.path, None)}
        if elsewhere:
            at = ", ".join(f"{name_of(path)}:{port}" for path, port in sorted(elsewhere, key=str))
            raise Waits(
                f"{work.mac} belongs to {owner.path}, connected to {at}, and was seen on {spot.text}: it moved; "
                "disconnect it there in the inventory, and it is connected here"
            )
        marked = any(same_mac(value, work.mac) for value in owner.all(BOOTSTRAP, "mac"))
        if not marked and not work.adopted:
            raise Waits(
                f"{work.mac} belongs to {owner.path}, which the inventory has connected nowhere; seen on {spot.text}: "
                f"ctl adopt {work.mac} puts it there"
            )

    @staticmethod
    def check_occupant(work: Work, occupant: Entity, spot: Spot, nic: int) -> None:
        """The layout's rack unit holds a server without this MAC: the same machine only if it can be.  nic 0: any."""
        has = "" if occupant.type == "server" else f", a {occupant.type}"
        if nic:
            macs, at = occupant.all(KEY, "mac", nic), occupant.one(KEY, "connection", nic)
            port = occupant.one(KEY, "otherportnum", nic)
            if macs and not work.adopted:
                has += f" with {NIC} {nic} mac {macs[0]}"
            if at and (at, port) != (spot.switch.path, spot.port):
                has += f" with {NIC} {nic} connected to {name_of(at)}:{port}"
        if has:
            raise Waits(
                f"{work.mac} on {spot.text}: its rack unit holds {occupant.path}{has}; another machine is there now, "
                "or the layout is wrong: correct the inventory"
            )

    def would(self, work: Work, builder: Builder, spot: Spot, occupant: str) -> list[str]:
        driver = builder.drivers(spot.switch.name, spot.port)[0]
        server = f"take {occupant}" if occupant else f"make a {driver} named like {self.names.upcoming()}"
        mac = f"bootstrap mac = {work.mac}"
        vlan = [f"VLAN {spot.vlan} of {spot.text}"] if spot.vlan else []
        return [server, mac, *vlan, *builder.would(spot.switch.name, spot.port)]

    def make(self, work: Work, builder: Builder, spot: Spot, progress: Progress) -> Entity:
        """A new server; the one that an interrupted try had just made when it is there."""
        drivers = builder.drivers(spot.switch.name, spot.port)
        if work.name:
            entity = self.inventory.entity(work.name)
            if entity is not None and untouched(entity, drivers):
                return entity
        name = work.name if work.name and self.inventory.entity(work.name) is None else ""
        path, driver = self.names.create(drivers, name, self.intend)
        progress.made = True
        progress.did.append(f"made {path} ({driver})")
        return Entity(path, driver)

    def alone(self, work: Work, server: str, spot: Spot) -> str:
        """Another registrar, of another bootstorm, may have made one for the same MAC at the same time."""
        owners = self.inventory.owners_of_mac(work.mac)
        return server if owners == [server] else self.settled(work, owners, server, spot)

    def without_twins(self, work: Work, owners: list[str], spot: Spot) -> list[str]:
        ours = next((path for path in owners if name_of(path) == work.name), "")
        if not ours or self.inventory.dry:
            raise Waits(f"{work.mac} stands at {', '.join(owners)}; wanted one; correct the inventory")
        return [self.settled(work, owners, ours, spot)]

    def settled(self, work: Work, owners: list[str], ours: str, spot: Spot) -> str:
        """Of servers made for one MAC at the same time the first by name stays; each maker deletes its own."""
        found = [entity for path in owners if (entity := self.inventory.entity(name_of(path))) is not None]
        for entity in found:
            fresh = all(row.key == BOOTSTRAP for row in entity.rows) and not entity.parents
            if entity.path != ours and not fresh and connections(entity) - {(spot.switch.path, spot.port)}:
                raise Waits(f"{work.mac} stands at {', '.join(owners)}; wanted one; correct the inventory")
        if min(owners) == ours:
            return ours
        mine = next(entity for entity in found if entity.path == ours)
        if mine.parents or any(row.key != BOOTSTRAP for row in mine.rows):
            raise Waits(f"{work.mac} stands at {', '.join(owners)}, and {ours} is in use; delete one of them")
        self.inventory.delete(ours)
        return min(owners)

    def complete(
        self, server: str, builder: Builder, spot: Spot, progress: Progress, known: Entity | None = None
    ) -> str:
        """known: the server as it was just made."""
        if self.inventory.dry:
            progress.did += [f"complete {server}", *builder.would(spot.switch.name, spot.port)]
            progress.state = State.WOULD
            return ""
        progress.server = server
        vlan = self.vlan_steps(spot, progress, overwrite=True)
        self.build(builder, server, spot, progress, vlan, known)
        self.tell_vlan(vlan, spot, progress)
        progress.state = State.REGISTERED
        return server

    def build(
        self,
        builder: Builder,
        server: str,
        spot: Spot,
        progress: Progress,
        also: Sequence[Step] = (),
        known: Entity | None = None,
    ) -> None:
        """add_server, and a look whether it did: a factory's word alone connects nothing."""
        if self.inventory.dry:
            progress.did.append(f"complete {server}")
            return
        if isinstance(builder, Declared):
            progress.did += builder.add(server, spot.switch.path, spot.port, also, known)
            return  # ours has written it, or has raised
        self.inventory.carry_out(also)
        progress.did += builder.add(server, spot.switch.path, spot.port)
        far = self.inventory.ports(spot.switch.path).get((NIC, spot.port), Far(None, None))
        if far.path != server:
            raise Waits(f"{builder.what} did not connect {server} to {spot.text} (found {far.path}); correct it")

    # --- attributes ----------------------------------------------------------------------------------------------

    def existing(self, path: str) -> Entity:
        entity = self.inventory.entity(name_of(path))
        if entity is None:
            raise Waits(f"{path} went away while it was read; the next trap starts anew")
        return entity

    def write(self, progress: Progress, what: str, change: Callable[[], None]) -> None:
        if not self.inventory.dry:
            change()
        progress.did.append(what)

    def add_mac(self, server: str, mac: str) -> None:
        """Not twice: an earlier try may have done it."""
        if not any(row.subkey == "mac" and same_mac(row.value, mac) for row in self.inventory.rows(server, BOOTSTRAP)):
            self.inventory.add(server, Row(BOOTSTRAP, mac, "mac"))

    def vlan_steps(self, spot: Spot, progress: Progress, *, overwrite: bool) -> list[Step]:
        """overwrite: when the machine is registered; later VLANs come and go with what runs there and are only told."""
        if not spot.vlan:
            return []  # the trap did not say
        row = Row(KEY, spot.vlan, "vlan", spot.port)
        there = list(spot.vlans)
        if not there or (overwrite and there != [spot.vlan]):
            if len(there) > 1:
                progress.notes.append(f"{spot.text} has {len(there)} VLANs in the inventory: not changed")
                return []
            return setting(spot.switch.path, row)
        if there[0] != spot.vlan:
            progress.notes.append(f"{spot.text}: VLAN {there[0]} in the inventory, {spot.vlan} seen: not changed")
        return []

    @staticmethod
    def tell_vlan(steps: Sequence[Step], spot: Spot, progress: Progress) -> None:
        """When it was carried out."""
        if steps:
            progress.did.append(f"VLAN {spot.vlan} of {spot.text}")

    def record_roles(self, work: Work, progress: Progress) -> Outcome:
        if progress.made and not work.roles:
            return progress.outcome(work.mac, State.REGISTERED)
        server = self.existing(progress.server)
        spot = progress.spot
        if work.roles and not self.inventory.dry:
            switch, port = (spot.switch.path, spot.port) if spot else ("", 0)
            bmc = work.bmc_word or (work.lasting and spot is not None)  # the inventory has the server on that port
            did, notes = roles.record(self.inventory, server, work.mac, work.roles, switch, port, bmc=bmc)
            progress.did += did
            progress.notes += notes
        done = roles.confirmed(server, work.mac)
        state = progress.state or State.REGISTERED
        if done:
            state = State.CONFIRMED if progress.did else State.KNOWN
        if self.inventory.dry and progress.did:
            state = State.WOULD
        answered = bool(progress.did) and bool(server.all(KEY, "mac", 1) or server.all(KEY, "ipmi-mac", 1))
        return progress.outcome(work.mac, state, answered=answered)


def by_what(said: Port) -> tuple[str, str]:
    """How a trap named a port, and the attribute of the switch that maps it."""
    if isinstance(said, str):
        return said, NUMBERINGS[numbered(said).numbering]
    return f"bridge port {said}", "port_map"


def connections(server: Entity) -> set[tuple[str, int | None]]:
    """(path, port) of everything that the server's NICs are connected to."""
    found: set[tuple[str, int | None]] = set()
    for row in server.rows:
        if (row.key, row.subkey) == (KEY, "connection") and row.value:
            port = server.one(KEY, "otherportnum", row.number) if row.number is not None else None
            found.add((row.value, port))
    return found
