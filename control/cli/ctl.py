"""The client of the control socket, and how its answers look to a person."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from control.cli import explain_text
from control.cli.observed_text import kinds_of, only_kind, render_observed, status_line
from control.explain import overridden, recent
from control.service_client import CallFailed, ServiceClient
from fastpath.process.escape import shown, shown_all

FAILED = 1
UNKNOWN_TRAPS_SHOWN = 10  # pairs of trap and sender


class Client(ServiceClient):
    """as_json: print the result as JSON instead of text."""

    def __init__(self, path: str, as_json: bool = False) -> None:
        super().__init__(path)
        self.as_json = as_json

    def show(self, command: str, arguments: dict[str, Any]) -> Any:
        """Print the answer, and return it; exit 1 with one line on stderr when there is none."""
        return self.print_answer(command, lambda: self.call(command, arguments))

    def show_with_bar(self, command: str, arguments: dict[str, Any]) -> Any:
        """The same, with a progress bar on a terminal's stderr meanwhile."""
        if self.as_json or not sys.stderr.isatty():
            return self.show(command, arguments)
        with click.progressbar(length=1, label=command, file=sys.stderr) as bar:

            def follow(progress: dict[str, Any]) -> None:
                bar.label, bar.length = f"{command}: {shown(progress['stage'])}", max(progress["total"], 1)
                bar.update(progress["done"] - bar.pos)

            return self.print_answer(command, lambda: self.call(command, arguments, follow))

    def show_pages(self, command: str, page: int, rows: str = "changes", same: str | None = "generation") -> None:
        """The answer in pages of so many rows, however many there are.  same: what no other refresh may change."""

        def all_pages() -> Any:
            result = self.call(command, {"offset": 0, "limit": page})
            while len(result[rows]) < result["total"]:
                more = self.call(command, {"offset": len(result[rows]), "limit": page})
                if same is None and not more[rows]:
                    break
                if same is not None and (more[same] != result[same] or not more[rows]):
                    raise CallFailed(f"{command}: another refresh came meanwhile; ask again")
                result[rows] += more[rows]
            return result

        self.print_answer(command, all_pages)

    def show_observed(self, mac: str | None, kind: str | None, strict: bool = False) -> None:
        """All hosts with differences, in as many answers as it takes.  kind: of the differences that are shown; strict:
        with those that are set aside."""
        wanted = {"mac": mac} | ({"strict": True} if strict else {})

        def ask() -> Any:
            result = self.call("observed", wanted)
            more = result["more"]
            while more:  # ends: each answer goes on behind the last name
                told = self.call("observed", wanted | {"after": result["hosts"][-1]["mac"]})
                result["hosts"] += told["hosts"]
                more = told["more"]
            if kind is None:
                return result
            if (known := kinds_of(result)) and kind not in known:
                raise CallFailed(f"observed: --kind: found {kind!r}, wanted one of {', '.join(known)}")
            return only_kind(result, kind)

        self.print_answer("observed", ask)

    def show_packets(self, mac: str | None, last: int | None) -> None:
        """The flight recorders: the newest `last`, or as many as fit a person's eye."""

        def ask() -> Any:
            recording = recent.collect(self.call, mac, recent.LISTED if last is None else last)
            return recent.for_json(recording) if self.as_json else recording

        self.print_answer("packets", ask)

    def save_packets(self, path: Path, mac: str | None, last: int | None) -> None:
        """The same as a capture, by default all that there is; says on stderr what was written."""
        try:
            said = recent.write_capture(recent.collect(self.call, mac, last), path)
        except (CallFailed, OSError) as failed:
            fault = f"{path}: {failed.strerror}" if isinstance(failed, OSError) else str(failed)
            click.echo(f"bootstorm: {shown(fault)}", err=True)
            sys.exit(FAILED)
        click.echo(shown(said), err=True)

    def print_answer(self, command: str, ask: Callable[[], Any]) -> Any:
        try:
            result = ask()
        except CallFailed as failed:
            click.echo(f"bootstorm: {shown(str(failed))}", err=True)
            sys.exit(FAILED)
        self.print_result(command, result)
        return result

    def print_result(self, command: str, result: Any) -> None:
        if self.as_json:
            click.echo(json.dumps(result, indent=2))
        else:
            click.echo("\n".join(RENDER[command](shown_all(result))))


def render_discovered_machine(row: dict[str, Any]) -> list[str]:
    places = [f"{p['switch']} port {p['port']}" + (f" VLAN {p['vlan']}" if p["vlan"] else "") for p in row["places"]]
    where = f"{row['switch']} port {row['port']}" if row["switch"] else ", ".join(places) or "seen by DHCP only"
    roles = f", asks as {' and '.join(row['roles'])}" if row["roles"] else ""
    lines = [f"{row['mac']}  {row['state']:<10}  {row['server'] or '-'}  {where}{roles}"]
    if row["reason"]:
        lines.append(f"    {row['reason']}")
    lines += [f"    done: {step}" for step in row["did"]]
    lines += [f"    note: {note}" for note in row["notes"]]
    if row["again_in_s"] is not None:
        lines.append(f"    looked at again in {row['again_in_s']:.0f} s")
    return lines


def render_discovered(found: dict[str, Any]) -> list[str]:
    states = ", ".join(f"{count} {state}" for state, count in sorted(found["states"].items()))
    lines = [f"{found['total']} machines" + (f": {states}" if states else "")]
    for row in found["machines"]:
        lines += render_discovered_machine(row)
    lines += [f"uplink  {switch} port {port}: what is behind it is left out" for switch, port in found["uplinks"]]
    return lines


def render_strangers(strangers: dict[str, Any]) -> list[str]:
    """A line where dhcp.drop_strangers is on."""
    if "dropped" in strangers:
        return [f"strangers   {strangers['dropped']:,} dropped by the kernel, {strangers['passed']:,} passed"]
    return [f"strangers   NOT DROPPED: {strangers['reason']}"] if strangers.get("state") == "failed" else []


def unknown_age(status: dict[str, Any]) -> str:
    reason = status.get("table_age_reason")
    return f"unknown, so that no NAK is sent: {reason}" if reason else "never confirmed"


def render_status(status: dict[str, Any]) -> list[str]:
    age = status["table_age_s"]
    lines = [
        f"generation  {status['generation']} (base {status['base']}, digest {status['digest']})",
        f"hosts       {status['hosts']} answered, {status['quarantined']} quarantined, {status['table_bytes']:,} bytes",
        f"inventory   {status['inventory']}"
        + (f": {status['inventory_reason']}" if status["inventory_reason"] else ""),
        f"table age   {unknown_age(status) if age is None else f'{age:.0f} s'}",
    ]
    lines += render_boots(status.get("boots") or {})
    if status.get("build"):
        lines.append(f"bootstorm   {status['version']}, build {status['build']}")
    if status.get("mode") == "observe":
        observed = status["observed"]
        lines.append(
            status_line(observed) if observed else "observing   nothing is sent; the observer has said nothing yet"
        )
    if (health := status.get("health")) and not health["ready"]:
        lines.append(f"NOT READY   {health['reason']}")
    if (boot_port := status.get("boot_port")) and boot_port["state"] == "failed":
        lines.append(f"boot port   {boot_port['reason']}")
    if status.get("slowed_down_ns"):
        answer_ns, other_ns = status["slowed_down_ns"]
        lines.append(
            f"SLOWED DOWN for a bench: {answer_ns:,} ns an answer, {other_ns:,} ns any other datagram; restart it"
        )
    lines += [f"REFUSED     {fault}" for fault in status.get("config_refused") or ()]
    lines += render_strangers(status.get("strangers") or {})
    if status.get("io") == "xdp" or status.get("io_reason"):
        lines.append("io          xdp" if status["io"] == "xdp" else f"io          SOCKETS: {status['io_reason']}")
    if status["pinned_s"] is not None:
        lines.append(f"PINNED      for {status['pinned_s']:.0f} s by ctl rollback; ctl refresh --force ends that")
    lines += overridden.render_status(status.get("overrides") or {})
    lines += [f"in doubt    {doubt}" for doubt in status["doubts"]]
    if status["refresh"]["stage"]:
        refresh = status["refresh"]
        lines.append(f"refreshing  {refresh['stage']} {refresh['done']}/{refresh['total']}")
    lines += ["workers", *(f"  {line}" for line in render_workers(status["workers"]))]
    lines += render_latency(status.get("latency") or {})
    lines.append("counters")
    lines += [f"  {count:>12,}  {name}" for name, count in sorted(status["counters"].items(), key=lambda c: -c[1])]
    lines += [f"  {count:>12,}  not sent: {name}" for name, count in sorted(status["send_errors"].items())]
    lines += render_identities(status["identities"], status["other_servers"])
    lines += render_traps(status["traps"])
    lines += render_limits(status.get("limits") or {})
    if status.get("metrics") not in (None, "serving", "off"):
        lines.append(f"metrics     NONE: {status['metrics']}")
    if status["faults_total"]:
        lines.append(f"faults in the inventory ({status['faults_total']} objects; all of them: ctl faults)")
        lines += [f"  {name}: {'; '.join(reasons)}" for name, reasons in status["faults"].items()]
    return lines


def render_latency(latency: dict[str, Any]) -> list[str]:
    """A line for each of the two."""
    lines = []
    for name, key in (("waits", "wait"), ("answers", "answer")):
        if (found := latency.get(key)) is not None:
            half, most, all_ = (
                lasting(found[figure], latency["bounds_s"]) for figure in ("p50_s", "p99_s", "max_bucket_s")
            )
            words = f": p50 {half}, p99 {most}, longest {all_}" if found["count"] else ""
            lines.append(f"{name:<11} {found['count']:,} in {latency['window_s']:.0f} s{words}")
    return lines


def lasting(seconds: float | None, bounds_s: list[float]) -> str:
    """None: longer than the last bound."""
    if seconds is None:
        return f"over {bounds_s[-1]:.3g} s"
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} us"
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def render_boots(boots: dict[str, Any]) -> list[str]:
    """Of all rows of the table: in which state they are, and how far their machines are."""
    states = {state: sum(counts.values()) for state, counts in boots.get("states", {}).items()}
    if not sum(states.values()):
        return []
    words = ", ".join(f"{many:,} {state}" for state, many in states.items() if many)
    lines = [f"rows        {sum(states.values()):,} cards and BMCs: {words}"]
    progress: dict[str, int] = {}
    for counts in boots["states"].values():
        for word, many in counts.items():
            progress[word] = progress.get(word, 0) + many
    said = ", ".join(f"{many:,} {'not heard' if word == 'never' else word}" for word, many in progress.items() if many)
    return [*lines, f"boots       {said} since {datetime.fromtimestamp(boots['since_s'], UTC):%Y-%m-%d %H:%M:%SZ}"]


def render_identities(found: dict[str, Any], others: dict[str, Any]) -> list[str]:
    lines = ["identities  {seen} machines seen, {cloned} client-ids of several, {loops} in a boot loop".format(**found)]
    for clone in found["clones"][:5]:
        names = ", ".join(each["host"] or each["mac"] for each in clone["shown"])
        rest = clone["machines"] - len(clone["shown"])
        lines.append(f"  {clone['client_id']}: {names}{f' and {rest} more' if rest else ''}")
    for server, other in others.items():
        words = "named in {requests} requests, the last of {host} on {place}".format(**other)
        lines.append(f"other server {server}: {words}")
    return lines


def render_limits(limits: dict[str, Any]) -> list[str]:
    """A line for each door where somebody was refused."""
    lines = []
    for door in ("control", "metrics"):
        refused = (limits.get(door) or {}).get("refused") or {}
        if refused:
            words = ", ".join(f"{count:,} {reason}" for reason, count in sorted(refused.items()))
            lines.append(f"{door:<11} connections refused: {words}")
    return lines


def render_traps(traps: dict[str, Any]) -> list[str]:
    """Nothing where no traps are to be received."""
    if traps["state"] != "receiving":
        return [f"traps       NONE: {traps['reason']}"] if traps["state"] == "failed" else []
    lines = [
        f"traps       {traps['received']:,} received, {traps['decoded']:,} decoded, {traps['unknown']:,} unknown, "
        f"{traps['queued']:,} queued; {traps['seen']:,} MAC addresses"
    ]
    lines += [f"  BELIEVED FROM NOBODY: {traps['advice']}"] if traps.get("advice") else []
    lines += [f"  {count:>12,}  dropped: {reason}" for reason, count in traps["dropped"].items()]
    lines += [f"  {count:>12,}  addresses skipped: {reason}" for reason, count in traps["skipped"].items()]
    unknown = traps.get("unknown_traps", [])  # an older service names none
    for row in unknown[:UNKNOWN_TRAPS_SHOWN]:
        trap = f"{row['trap']} ({row['name']})" if row["name"] else row["trap"] or "without snmpTrapOID"
        lines.append(f"  {row['count']:>12,}  unknown: {trap} from {row['sender']}")
    if (more := len(unknown) - UNKNOWN_TRAPS_SHOWN) > 0:
        lines.append(f"{'':>14}  and {more} more: ctl status --json")
    return lines


def render_refresh(figures: dict[str, Any]) -> list[str]:
    line = (
        "generation {generation}: {hosts} hosts, {added} added, {changed} changed, {removed} removed, "
        "{quarantined} quarantined, {seconds:.2f} s".format(**figures)
    )
    if "unsaved" in figures:
        return [line, f"A RESTART ENDS IT: {figures['unsaved']}; repair that, then `ctl rollback` again"]
    if found := figures.get("fleet"):
        silent = f"; not heard of, and not waited for: {', '.join(found['silent'])}" if found["silent"] else ""
        return [line, f"served by {found['machines']} machines of the shard{silent}"]
    return [line]


def not_found(figures: dict[str, Any]) -> list[str]:
    """A line for each host that was to be read, and that neither the inventory nor the table has."""
    if figures["removed"]:
        return []
    step = "see to its spelling; capitals count in names"
    return [
        f"NOT FOUND: {shown(each)} is neither in the inventory nor in the table; {step}"
        for each in figures.get("missing") or ()
    ]


def render_diff(diff: dict[str, Any]) -> list[str]:
    signs = {(False, True): "+", (True, True): "~", (True, False): "-"}
    lines = [f"generation {diff['generation']} ({diff['origin']}) changed {diff['total']} hosts"]
    for change in diff["changes"]:
        old, new = change["old"], change["new"]
        lines.append(f"{signs[old is not None, new is not None]} {change['mac']}  {change['host']}")
        for word in sorted((old or {}).keys() | (new or {}).keys()):
            was, now = (old or {}).get(word), (new or {}).get(word)
            lines.append(f"    {word}: {'-' if was is None else was} -> {'-' if now is None else now}")
    return lines


def render_lookup(found: dict[str, Any]) -> list[str]:
    name = found["host"] + (" (BMC)" if found.get("role") == "bmc" else "")
    lines = [f"{found['mac']}  {name}  {found['state']}" + (f": {found['reason']}" if found["reason"] else "")]
    for lease in found["leases"]:
        if lease["address"] is not None:
            lines.append(f"  {lease['address']}/{lease['prefix']}  lease {lease['lease_s']} s")
        lines.append(f"    next server {lease['siaddr']}, boot file {lease['file'] or '-'}")
        lines += [f"    option {code:>3} = {value}" for code, value in lease["options"].items()]
        for name, said in lease["classes"].items():
            words = (f"{word} = {'-' if value in (None, '') else value}" for word, value in sorted(said.items()))
            lines.append(f"    but for {name}: {', '.join(words)}")
    lines += overridden.render_once(found.get("overrides") or ())
    lines += [render_boot(row) for row in found.get("boots", ()) if row["stage"]]
    return lines + [render_seen_as(said) for said in found["seen"]]


def render_boot(row: dict[str, Any]) -> str:
    words = f"  {'BMC: ' if row['role'] == 'bmc' else ''}{row['progress']} at {row['stage']}"
    return words + (f": {row['reason']}" if row["reason"] else "")


def render_seen_as(said: dict[str, Any]) -> str:
    words = f"  seen {said['seconds_ago']:.0f} s ago as {said['class']}{' (BMC)' if said['role'] == 'bmc' else ''}"
    if said["vendor_class"]:
        words += f", {said['vendor_class']}"
    words += f", client-id {said['client_id']}" if said["client_id"] else ", without client-id"
    if said["other_mac"]:
        words += f" (another card's, {said['other_mac']})"
    return words + (f" (of {', '.join(said['shared_with'])}, too)" if said["shared_with"] else "")


def render_workers(workers: list[dict[str, Any]]) -> list[str]:
    return [
        f"{w['slot']}: pid {w['pid'] or '-'}, generation {w['generation']}, received {w['rx']:,}, sent {w['tx']:,}"
        + (f", recovered {w['recovered']:,}" if w["recovered"] else "")
        + (f", LOST {w['frames_lost']:,} for want of room" if w["frames_lost"] else "")
        for w in workers
    ]


def render_recent(warnings: list[dict[str, Any]]) -> list[str]:
    from control.explain.sentences import sentence

    return [f"{warning['seconds_ago']:9.1f} s ago  {sentence(warning)}" for warning in warnings] or ["nothing"]


RENDER: dict[str, Callable[[Any], Iterable[str]]] = {
    "status": render_status,
    "refresh": render_refresh,
    "rollback": render_refresh,
    "diff": render_diff,
    "lookup": render_lookup,
    "explain": lambda result: explain_text.RENDER[result["kind"]](result),
    "workers": render_workers,
    "recent": render_recent,
    "packets": recent.render,
    "observed": render_observed,
    "discovered": render_discovered,
    "hold": overridden.render_changed,
    "once": overridden.render_changed,
    "release": overridden.render_released,
    "overrides": overridden.render_overrides,
    "adopt": render_discovered_machine,
    "ignore": render_discovered_machine,
    "unignore": render_discovered_machine,
}
