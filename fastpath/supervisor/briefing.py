"""The first message to each kind of child, and what of the kept descriptors goes with it, by name."""

from __future__ import annotations

from collections.abc import Mapping

from fastpath.process.build import BUILD_NAME
from fastpath.protocol import Assign, Begin, Listen, Load, Message, Settings, Watch
from fastpath.supervisor.descriptors import Kept

Named = Mapping[str, int | list[int]]
Told = tuple[Message, Named]


def for_control(settings: Settings, kept: Kept, restarts: dict[str, int]) -> Told:
    fds: dict[str, int | list[int]] = {
        "config": kept.config,
        "console": kept.console,
        "site": kept.site_page,
        "adopted": kept.adopted_bell,
        "events": kept.event_bell,
        "turns": kept.turns,
        "pages": kept.pages,
        **kept.table_by_name(),
    }
    if kept.ledger >= 0:
        fds["ledger"] = kept.ledger
    if kept.known >= 0:
        fds["known"] = kept.known
    if kept.traps:
        fds |= {"trap_queue": kept.traps.queue, "trap_channel": kept.traps.control}
    if kept.control_end >= 0:
        fds["observer"] = kept.control_end
    begin = Begin(
        settings=settings,
        generation=kept.generation,
        base=kept.base_generation,
        restarts=restarts,
        traps_fault=kept.traps_fault,
        boot_fault=kept.boot_fault,
        known_fault=kept.known_fault,
        io="xdp" if kept.xdp else "socket",
        io_reason=kept.io_reason,
        build=BUILD_NAME,
    )
    return begin, fds


def for_observer(settings: Settings, kept: Kept) -> Told:
    fds = {"tap": kept.tap, "site": kept.site_page, "control": kept.observer_end, "turns": kept.turns}
    return Watch(interfaces=settings.interfaces), fds


def for_receiver(settings: Settings, kept: Kept) -> Told:
    assert kept.traps is not None
    traps = kept.traps
    fds = {"udp": traps.udp, "queue": traps.queue, "control": traps.receiver}
    listen = Listen(config_path=settings.config_path, state_dir=settings.state_dir)
    return listen, {"config": kept.config, "turns": kept.turns} | fds


def for_worker(settings: Settings, kept: Kept, slot: int) -> Told:
    assign = Assign(
        slot=slot,
        port=settings.port,
        boot_port=settings.boot_port if kept.slots[slot].boot >= 0 else 0,
        observe=settings.mode == "observe",
        brake_ns=settings.brake_ns,
    )
    return assign, kept.slot_fds(slot)


def of_table(kept: Kept) -> Told:
    return Load(generation=kept.generation, base=kept.base_generation), kept.table_by_name()
