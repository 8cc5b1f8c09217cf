"""How what the observer saw looks to a person: `ctl observed`, and a line of `ctl status`."""

from __future__ import annotations

from typing import Any

import click

from control.observer.shadow import BOTH_SILENT, DIFFERENT, NOT_SEEN, ONLY_THEY, ONLY_WE, SAME, difference_words

_RESULTS = (SAME, DIFFERENT, ONLY_THEY, ONLY_WE, BOTH_SILENT, NOT_SEEN)
_HEADS = {
    SAME: "the same", DIFFERENT: "different", ONLY_THEY: "only they answer", ONLY_WE: "only we would answer",
    BOTH_SILENT: "both silent", NOT_SEEN: "no reply can be seen there",
}  # fmt: skip
# Of control/observer: shadow.py (silence, address), differences.py; each option is a kind, too: "option 6 dns_servers".
KINDS = (
    "address", "message", "silence", "boot file", "place of the boot file", "next server", "server name", "lease time",
)  # fmt: skip
LINKS_SHOWN = 20
_COLOURS = {SAME: "green", DIFFERENT: "red", ONLY_THEY: "red", ONLY_WE: "yellow"}


def status_line(totals: dict[str, Any]) -> str:
    counts, hosts = totals["counts"], totals["hosts"]
    differing = sum(hosts[result] for result in (DIFFERENT, ONLY_THEY, ONLY_WE))
    line = (
        f"observing   {counts['requests']:,} requests, {counts['replies']:,} replies of others: "
        f"{counts[SAME]:,} the same, {counts[DIFFERENT]:,} different, {counts[ONLY_THEY]:,} only they, "
        f"{counts[ONLY_WE]:,} only we; {hosts[SAME]:,} hosts the same, {differing:,} not"
    )
    return line + (f"; {totals['dropped']:,} dropped" if totals["dropped"] else "")


def render_observed(told: dict[str, Any]) -> list[str]:
    totals, lines = told["totals"], []
    if told["mac"] is None:
        lines += render_totals(totals)
    elif not told["hosts"]:
        lines.append(f"{told['mac']}: nothing was seen of it")
    for host in told["hosts"]:
        shown = render_host(host, told["now_s"], whole=told["mac"] is not None)
        lines += ["", *shown] if lines else shown
    return lines


def kinds_of(told: dict[str, Any]) -> list[str]:
    """What differences there may be: those of every reply, and the options that were found to differ."""
    return [*KINDS, *sorted(told["totals"]["kinds"].keys() - KINDS)]


def only_kind(told: dict[str, Any], kind: str) -> dict[str, Any]:
    """The same with one kind of difference, and the hosts that have it."""
    hosts = []
    for host in told["hosts"]:
        stages = [
            stage | {"differences": [each for each in stage["differences"] if each["kind"] == kind], "set_aside": []}
            for stage in host["stages"]
        ]
        if stages := [stage for stage in stages if stage["differences"]]:
            hosts.append(host | {"stages": stages})
    return told | {"hosts": hosts}


def render_totals(totals: dict[str, Any]) -> list[str]:
    counts = totals["counts"]
    servers = ", ".join(f"{server} ({count:,})" for server, count in sorted(totals["servers"].items())) or "none"
    lines = [
        f"seen        {counts['requests']:,} requests ({counts['repeats']:,} of them again), "
        f"{counts['replies']:,} replies, {totals['dropped']:,} dropped",
        f"servers     {servers}",
        "exchanges   " + ", ".join(f"{counts[result]:,} {result}" for result in _RESULTS),
    ]
    if totals["kinds"]:
        kinds = sorted(totals["kinds"].items(), key=lambda item: (-item[1], item[0]))
        lines.append("differences " + ", ".join(f"{count:,} {kind}" for kind, count in kinds))
    if totals.get("set_aside"):
        reasons = sorted(totals["set_aside"].items(), key=lambda item: (-item[1], item[0]))
        lines += [f"{'' if at else 'set aside':<11} {count:,} {why}" for at, (why, count) in enumerate(reasons)]
    lines.append("hosts       " + ", ".join(f"{count:,} {result}" for result, count in totals["hosts"].items()))
    besides = (
        ("other server id", "replies under another server id (54)"), ("other order", "with options in another order"),
        ("told by requests", "judged by what the client says, no reply was seen"),
        ("stray replies", "replies without a request"), ("no table", "requests before there was a table"),
        ("not watched", "requests too many to be followed"), ("not noted", "comparisons of hosts beyond the limit"),
        ("proxied", "of hosts whose address the other server shall give"),
    )  # fmt: skip
    notes = [f"{counts[name]:,} {words}" for name, words in besides if counts[name]]
    lines += [f"besides     {', '.join(notes)}"] if notes else []
    tagged = sorted(totals.get("tagged", {}).items())
    links = ", ".join(f"{link} ({count:,})" for link, count in tagged[:LINKS_SHOWN])
    links += f" and {len(tagged) - LINKS_SHOWN} more" if tagged[LINKS_SHOWN:] else ""
    return lines + ([f"tagged      {links}: this machine has no interface for that"] if links else [])


def render_host(host: dict[str, Any], now_s: float, whole: bool = False) -> list[str]:
    """whole: with each difference that was set aside."""
    name = f" ({host['host']})" if host["host"] else ""
    lines = [click.style(f"{host['mac']}{name}", bold=True)]
    for stage in host["stages"]:
        times = "once" if stage["times"] == 1 else f"{stage['times']:,} times"
        server = f", server {stage['server']}" if stage["server"] else ""
        guess = ", by what the client says" if stage["by"] == "request" else ""
        head = f"  {stage['stage']}: {_HEADS[stage['result']]}"
        when = f"{times}, last {max(0.0, now_s - stage['seen_s']):.0f} s ago"
        lines.append(click.style(head, fg=_COLOURS.get(stage["result"])) + f" ({when}{server}{guess})")
        lines += [f"      {difference_words(each)}{because(each)}" for each in stage["differences"]]
        aside = [f"set aside: {difference_words(each)}{because(each)}" for each in stage.get("set_aside", ())]
        if aside and not whole:
            aside = [f"{len(aside)} more set aside (--strict)"]
        lines += [click.style(f"      {line}", dim=True) for line in aside]
        if host.get("reason") and stage["result"] == ONLY_THEY:
            lines.append(f"      why: {host['reason']}")
    return lines


def because(each: dict[str, str]) -> str:
    """Why no client acts otherwise for a difference."""
    return f" ({each['why']})" if "why" in each else ""
