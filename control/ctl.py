"""The client of the control socket, and how its answers look to a person."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Callable
from typing import Any

import click
import msgpack

TIMEOUT_S = 1000.0  # a full refresh of a large site takes minutes
FAILED = 1


class CallFailed(Exception):
    """One clear line for stderr."""


class Client:
    """One call a connection.  as_json: print the result as JSON instead of text."""

    def __init__(self, path: str, as_json: bool = False) -> None:
        self.path = path
        self.as_json = as_json

    def call(self, command: str, arguments: dict[str, Any]) -> Any:
        """The result.  Raises CallFailed with the service's word, or why it cannot be reached."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(TIMEOUT_S)
            try:
                sock.connect(self.path)
                sock.sendall(msgpack.packb({"id": 1, "cmd": command, "args": arguments}))
                reply = self.read_reply(sock)
            except OSError as error:
                raise CallFailed(
                    f"control socket {self.path}: {error.strerror or error}; is `bootstorm serve` running, and is this "
                    "its control.socket?"
                ) from error
        if not reply.get("ok"):
            raise CallFailed(str(reply.get("error")))
        return reply["result"]

    def read_reply(self, sock: socket.socket) -> dict[str, Any]:
        unpacker = msgpack.Unpacker(raw=False, strict_map_key=False)
        while data := sock.recv(1 << 16):
            try:
                unpacker.feed(data)
                for reply in unpacker:
                    if isinstance(reply, dict) and ("result" in reply or not reply.get("ok")):
                        return reply
                    raise ValueError(f"found {str(reply)[:80]!r}")
            except (ValueError, msgpack.UnpackException, msgpack.BufferFull) as error:
                raise CallFailed(f"control socket {self.path}: no answer of bootstorm's ({error})") from error
        raise CallFailed(f"control socket {self.path}: closed without an answer")

    def show(self, command: str, arguments: dict[str, Any]) -> None:
        """Print the answer; exit 1 with one line on stderr when there is none."""
        try:
            result = self.call(command, arguments)
        except CallFailed as failed:
            click.echo(f"bootstorm: {failed}", err=True)
            sys.exit(FAILED)
        if self.as_json:
            click.echo(json.dumps(result, indent=2))
        else:
            click.echo("\n".join(RENDER[command](result)))


def render_status(status: dict[str, Any]) -> list[str]:
    age = status["table_age_s"]
    lines = [
        f"generation  {status['generation']} (base {status['base']}, digest {status['digest']})",
        f"hosts       {status['hosts']} answered, {status['quarantined']} quarantined, {status['table_bytes']:,} bytes",
        f"inventory   {status['inventory']}"
        + (f": {status['inventory_reason']}" if status["inventory_reason"] else ""),
        f"table age   {'never confirmed' if age is None else f'{age:.0f} s'}",
    ]
    if status["refresh"]["stage"]:
        refresh = status["refresh"]
        lines.append(f"refreshing  {refresh['stage']} {refresh['done']}/{refresh['total']}")
    lines += ["workers", *(f"  {line}" for line in render_workers(status["workers"]))]
    lines.append("counters")
    lines += [f"  {count:>12,}  {name}" for name, count in sorted(status["counters"].items(), key=lambda c: -c[1])]
    lines += [f"  {count:>12,}  not sent: {name}" for name, count in sorted(status["send_errors"].items())]
    if status["faults_total"]:
        lines.append(f"faults in the inventory ({status['faults_total']} objects)")
        lines += [f"  {name}: {'; '.join(reasons)}" for name, reasons in status["faults"].items()]
    return lines


def render_refresh(figures: dict[str, Any]) -> list[str]:
    return [
        "generation {generation}: {hosts} hosts, {added} added, {changed} changed, {removed} removed, "
        "{quarantined} quarantined, {seconds:.2f} s".format(**figures)
    ]


def render_lookup(found: dict[str, Any]) -> list[str]:
    lines = [f"{found['mac']}  {found['host']}  {found['state']}" + (f": {found['reason']}" if found["reason"] else "")]
    for lease in found["leases"]:
        lines.append(f"  {lease['address']}/{lease['prefix']}  lease {lease['lease_s']} s")
        lines.append(f"    next server {lease['siaddr']}, boot file {lease['file'] or '-'}")
        lines += [f"    option {code:>3} = {value}" for code, value in lease["options"].items()]
    return lines


def render_workers(workers: list[dict[str, Any]]) -> list[str]:
    return [
        f"{w['slot']}: pid {w['pid'] or '-'}, generation {w['generation']}, received {w['rx']:,}, sent {w['tx']:,}"
        + (f", recovered {w['recovered']:,}" if w["recovered"] else "")
        for w in workers
    ]


def render_recent(warnings: list[dict[str, Any]]) -> list[str]:
    from control.events import sentence

    return [f"{warning['seconds_ago']:9.1f} s ago  {sentence(warning)}" for warning in warnings] or ["nothing"]


RENDER: dict[str, Callable[[Any], list[str]]] = {
    "status": render_status,
    "refresh": render_refresh,
    "lookup": render_lookup,
    "workers": render_workers,
    "recent": render_recent,
}
