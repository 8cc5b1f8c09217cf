"""The registrar, a child process of control: takes one machine after the other through registration.py, over HTTP.

A site's factory runs in here as well.  It may hang, raise or end the process: the coordinator sees that and starts
another.
"""

from __future__ import annotations

import logging
import os
import select
import threading
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address
from pathlib import Path

from control.clusto.client.objects import connect
from control.config.config import MAX_FILE_BYTES, Config, parse_accepted
from control.discovery.jobs import (
    KINDS,
    Granted,
    Intent,
    Outcome,
    Progress,
    RegistrarBegin,
    Reserved,
    Reserves,
    Stage,
    Waits,
    Work,
)
from control.discovery.registrar.factories import Factories
from control.discovery.registrar.facts import Facts
from control.discovery.registrar.inventory import Inventory
from control.discovery.registrar.lead import Lead, Page
from control.discovery.registrar.names import Names
from control.discovery.registrar.registration import Registration
from control.discovery.states import State
from fastpath.process.log_forms import about
from fastpath.process.logs import configure_logging, leave
from fastpath.protocol import Channel, ChannelClosed, close_all

log = logging.getLogger("bootstorm.discovery")


class Registrar:
    """One machine at a time.  Its channel is the coordinator's."""

    def __init__(self, channel: Channel, config: Config, lead: Lead | None = None) -> None:
        """lead: in a fleet, whether this machine may write."""
        self.channel = channel
        self.api_url = config.dhcp.api_url
        api = connect(config.dhcp.api_url, config.dhcp.api_token, ca=config.dhcp.api_ca)
        api.heard = self.progress
        if lead is not None:
            api.permit, api.connect_retries = lead.permit, 0
        self.requests = 0
        inventory = Inventory(api, dry=config.snmp.dry_run)
        facts = Facts(inventory)
        factories = Factories(inventory, facts, config.snmp.rackfactory, self.stage, self.reserved)
        names = Names(inventory, config.snmp.name_manager)
        limit = config.snmp.max_macs_per_port
        self.registration = Registration(inventory, facts, names, factories, limit, self.intend)
        self.mac = ""

    def progress(self) -> None:
        """After each answer of the inventory, of whatever thread of a factory's."""
        self.requests += 1
        self.channel.send(Progress(requests=self.requests))

    def stage(self, text: str) -> None:
        self.channel.send(Stage(text=text))

    def intend(self, name: str) -> bool:
        """Raises Waits when the coordinator cannot keep the name."""
        self.channel.send(Intent(mac=self.mac, name=name))
        granted, fds = self.channel.receive()
        close_all(fds)
        if not isinstance(granted, Granted):
            raise TypeError(f"registrar: found {type(granted).__name__}, wanted Granted")
        if granted.fault:
            raise Waits(granted.fault)
        return granted.ok

    def reserved(self, addresses: Sequence[IPv4Address]) -> list[str]:
        """Of each what has it, although the inventory knows of nobody; "" for nothing."""
        self.channel.send(Reserves(addresses=[int(address) for address in addresses]))
        reserved, fds = self.channel.receive()
        close_all(fds)
        if not isinstance(reserved, Reserved) or len(reserved.words) != len(addresses):
            raise TypeError(
                f"registrar: found {type(reserved).__name__}, wanted Reserved of {len(addresses)} addresses"
            )
        return reserved.words

    def serve(self) -> None:
        """Until the coordinator closes the channel.  Raises ChannelClosed."""
        while True:
            work, fds = self.channel.receive()
            close_all(fds)
            if not isinstance(work, Work):
                raise TypeError(f"registrar: found {type(work).__name__}, wanted Work")
            self.mac = work.mac
            self.channel.send(self.outcome(work))

    def outcome(self, work: Work) -> Outcome:
        if self.api_url.startswith("file:"):
            reason = f"dhcp.api_url is {self.api_url}: a file that is only read; add the server to it by hand"
            return Outcome(mac=work.mac, state=State.WAITS, reason=reason)
        if self.api_url.startswith(("http+hosts:", "https+hosts:")):
            reason = f"dhcp.api_url is {self.api_url}: an inventory that is only read; add the server there by hand"
            return Outcome(mac=work.mac, state=State.WAITS, reason=reason)
        try:
            return self.registration.run(work)
        except (ChannelClosed, KeyboardInterrupt):
            raise
        except Exception as bug:  # one machine's fault must not stop the others, and must not pass silently
            log.exception("discovery: %s", work.mac, extra=about(mac=work.mac))
            reason = f"internal fault, see the log: {type(bug).__name__}: {str(bug)[:200]}"
            return Outcome(mac=work.mac, state=State.WAITS, reason=reason)


def end_with(fd: int) -> None:
    """Ends the process when the coordinator does: the next coordinator's registrar must not meet one that is still at
    work."""
    poll = select.poll()
    poll.register(fd, 0)  # POLLHUP comes unasked
    poll.poll()
    os._exit(0)  # without a line more: it has to be now


def main(fd: int, page_of: Callable[[int], Page]) -> None:
    """The process.  fd: its channel to the coordinator; page_of: of a fleet's page, by its descriptor."""
    configure_logging()
    os.nice(5)  # workers answer first, also where they share a core with us
    channel = Channel.of_fd(fd, KINDS)
    try:
        begin, fds = channel.receive()
        if not isinstance(begin, RegistrarBegin):
            raise TypeError(f"registrar: the first message is {type(begin).__name__}, wanted RegistrarBegin")
        config, _refused = parse_accepted(os.pread(fds[0], MAX_FILE_BYTES, 0), Path(begin.config_path))  # control told
        lead = Lead(page_of(fds[1]), begin.place) if len(fds) > 1 else None
        close_all(fds)
        threading.Thread(target=end_with, args=(channel.fileno(),), daemon=True).start()
        Registrar(channel, config, lead).serve()
    except ChannelClosed:
        leave()  # whatever threads a site's factory may have left
