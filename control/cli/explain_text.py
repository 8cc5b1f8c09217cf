"""How an explanation looks to a person: explain/explainer.py's dicts -> lines, with colours that click.echo takes off
again where standard output is no terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import click

from control.explain.story import steps_of
from control.explain.wording import FIELDS, PLAIN, PURPOSES, SAME_AS, purpose_of

_LABEL = 8
_VALUE_MAX = 60
STORIES_MAX, STRAYS_MAX = 10, 20
FIELDS_NAMED = {name.replace("_", " "): code for name, code in FIELDS.items()}
STEPS = "four steps to an address: DISCOVER (who has one for me?), OFFER, REQUEST (I take that), ACK (it is yours)"


def row(label: str, text: str, colour: str | None = None) -> str:
    """One line of an explanation, a label in front of the first of each kind."""
    head = click.style(f"  {label:<{_LABEL}}", dim=True) if label else " " * (_LABEL + 2)
    return f"{head}{click.style(text, fg=colour) if colour else text}"


def title(said: dict[str, Any], host: str | None = None) -> str:
    name = f" ({host})" if host else ""
    who = f" of {said['mac']}{name}" if said["mac"] else ""
    return click.style(f"{said['stage']}{who}: {said['stage_words']}", bold=True)


def render_request(said: dict[str, Any], before: Before | None = None) -> list[str]:
    """One request with its outcome.  before: what was shown of a capture so far, so that nothing is shown twice."""
    lines = [title(said, said["host"])]
    if said["class"]:
        lines.append(row("who", f"{said['class_words']} [{said['class']}]"))
    lines += [row("", text) for text in said["says"]]
    if said.get("origin") is not None:
        lines.append(row("", f"it is the relay's copy of frame {said['origin']}"))
    if said.get("missed"):
        text = f"none: it is sent to {said['missed']} alone, which is not this server; were it ours:"
        lines.append(row("answer", text, "yellow"))
    if said["verdict"] is None:
        lines.append(row("answer", f"not known: {said['meaning']}", "yellow"))
    else:
        lines += render_outcome(said, before)
    if said.get("passed_on"):
        frames = " and ".join(str(frame) for frame in said["passed_on"])
        lines.append(row("seen", f"a relay passes it on in frame {frames}; who answers, answers that"))
    if said.get("unanswered"):
        lines.append(row("seen", "nobody answers it in this capture", "yellow"))
    for reply in said.get("seen", ()):
        lines += render_seen(reply, said["verdict"] is not None, before)
    return lines


class Before:
    """What a capture's replies have said, by who got it: frame of the first time."""

    def __init__(self) -> None:
        self.known: dict[str, int] = {}

    def frame_of(self, content: Any, mac: str, frame: int) -> int | None:
        """The frame in which the same was said before; None for the first time.  OFFER and ACK are alike but for 53."""
        if isinstance(content, dict):
            options = [option for option in content["options"] if option["code"] != 53]
            content = [content["address"], content["next_server"], content["boot_file"], options]
        first = self.known.setdefault(repr((mac, content)), frame)
        return None if first == frame else first


def render_outcome(said: dict[str, Any], before: Before | None = None) -> list[str]:
    lines = []
    if said["link_words"]:
        place = f"{said['link']}: " if said["link"] else ""
        lines.append(row("where", f"{place}{said['link_words']}"))
    if said["host"] is not None:
        address = f", {said['address']}" if said["address"] else ""
        lines.append(row("record", f"{said['host']} ({said['role']}), {said['state']}{address}"))
    if said["fit"]:
        lines.append(row("", said["fit"]))
    if said["relay_agent"] and not said["reply"]:
        lines.append(row("relay", f"its note (option 82): {said['relay_agent']}"))
    reply = said["reply"]
    what = reply["message"] if reply else "none"
    colour = ("red" if what == "NAK" else "green") if reply else "yellow"
    lines.append(row("answer", f"{what}: {said['meaning']} [{said['verdict']}]", colour))
    if said["reason"]:
        lines.append(row("reason", said["reason"]))
    if said["advice"]:
        lines.append(row("to do", said["advice"]))
    if reply:
        lines.append(row("goes", route_words(reply)))
        known = before.frame_of(reply, said["mac"], said["frame"]) if before is not None else None
        lines += render_message(reply) if known is None else [row("says", f"the same as our reply to frame {known}")]
    return lines


def route_words(reply: dict[str, Any]) -> str:
    target = f"{reply['destination']}, port {reply['port']}"
    how = {
        "udp": f"by UDP to {target}",
        "frame": f"as an Ethernet frame to {reply['to_mac']}, addressed to {target}",
        "broadcast": f"as a broadcast to {target}",
    }[reply["route"]]
    return f"{how}; from {reply['source']}, {reply['bytes']} bytes"


def render_message(message: dict[str, Any]) -> list[str]:
    """What a reply says, by purpose: in plain words, the value, who gave it, and its name in the protocol."""
    origins = message.get("origins", {})
    fields = {code: (message[word], origins.get(word) or "") for word, code in FIELDS.items() if message[word]}
    groups: dict[str, list[tuple[int, tuple[str, str, str, str]]]] = {}

    def add(code: int, value: str, origin: str, names: str) -> None:
        group, rank, plain = purpose_of(code)
        groups.setdefault(group, []).append((rank, (plain, value, origin, names)))

    for option in message["options"]:
        code, origin = option["code"], option.get("origin") or ""
        names = f"option {code} {option['name']}"
        same = next(
            (field for field, each in fields.items() if SAME_AS.get(field) == code and each[0] == option["value"]), 0
        )
        if same:
            del fields[same]
            names = f"{purpose_of(same)[2]} and {names}" if purpose_of(same)[2] != purpose_of(code)[2] else names
        if code != 53:  # the message's own kind, which the answer's line says
            add(code, option["value"], origin, names)
            for number, part, text in option["parts"]:
                groups[purpose_of(code)[0]].append(
                    (purpose_of(code)[1], (f"  {part}", text, "", f"sub-option {number}"))
                )
    for code, (value, origin) in fields.items():
        add(code, value, origin, "")
    rows = [(group, each) for group in PURPOSES for _rank, each in sorted(groups.get(group, ()), key=lambda e: e[0])]
    widths = [max((len(each[at]) for _group, each in rows), default=0) for at in range(3)]
    widths[1] = min(_VALUE_MAX, widths[1])
    lines, before = [], ""
    for group, (plain, value, origin, names) in rows:
        source = f"<- {origin}" if origin else ""
        text = f"{plain:<{widths[0]}}  {value:<{widths[1]}}"
        aside = f"{source:<{widths[2] + 3}}  {names}" if widths[2] else names
        text = f"{text}  {click.style(aside.rstrip(), dim=True)}" if aside.strip() else text.rstrip()
        lines.append(row(group if group != before else "", text))
        before = group
    return lines


def render_seen(reply: dict[str, Any], known: bool, before: Before | None) -> list[str]:
    """What the capture's server said to it."""
    said = reply["content"] if reply["differences"] is None else reply["differences"]
    server = reply.get("server", reply["source"])
    earlier = before.frame_of(said, server, reply["frame"]) if before is not None and said else None
    head = f"in frame {reply['frame']} {who_answers(reply)}"
    if reply["differences"] is None:
        lines = [row("seen", f"{head}{', we do not' if known else ''}")]
        if earlier is not None:
            return [*lines, row("", f"it says the same as in frame {earlier}")]
        return lines + render_message(reply["content"])
    if not reply["differences"]:
        return [row("seen", f"{head}: the same as ours")]
    if earlier is not None:
        return [row("seen", f"{head}; it differs from ours as in frame {earlier}")]
    lines = [row("seen", f"{head}; it differs from ours:")]
    return lines + render_differences(reply["differences"], "theirs", "ours")


def who_answers(reply: dict[str, Any]) -> str:
    """The server, told apart from the relay that passes on what it says."""
    server, relay = reply.get("server", reply["source"]), reply.get("relay")
    own = server if reply["source"] in (server, relay) else f"{server} (from {reply['source']})"
    again = " and ".join(str(frame) for frame in reply.get("copies", ()))
    by = f" by relay {relay}" if relay else ""
    return f"{own} answers {reply['message']}{by}{f', which passes it on in frame {again}' if again else ''}"


def render_differences(found: Iterable[dict[str, str]], first: str, second: str) -> list[str]:
    """first, second: names of "theirs" and "ours"."""
    names = {"theirs": first, "ours": second}
    return [
        row("", f"{plain_what(each['what'])}: {names['theirs']} {each['theirs']}, {names['ours']} {each['ours']}")
        for each in found
    ]


def plain_what(what: str) -> str:
    """What differences() names, in the words of the listing: gateway (option 3 router), for option 3 router."""
    if what in FIELDS_NAMED:
        return PLAIN[FIELDS_NAMED[what]]
    code = what.split()[1] if what.startswith("option ") else ""
    return f"{purpose_of(int(code))[2]} ({what})" if code.isdigit() and int(code) in PLAIN else what


# --- the three kinds -------------------------------------------------------------------------------------------------


def render_capture(result: dict[str, Any]) -> list[str]:
    strays = result.get("strays", [])
    lines, before = [*render_premises(result), *render_story(result["requests"], strays)], Before()
    for said in result["requests"]:
        stamp = click.style(f"frame {said['frame']}, {said['seconds']:.3f} s", fg="cyan")
        first, *others = render_request(said, before)
        lines += ["", f"{stamp}  {first}", *others]
    replies = sum(len(said["seen"]) for said in result["requests"])
    skipped = ", ".join(f"{count} {what}" for what, count in sorted(result["skipped"].items()))
    lines += ["", *render_strays(strays)] if strays else []
    lines += ["", f"{len(result['requests'])} requests, {replies} replies to them, {result['frames']} frames"]
    return lines + ([f"skipped: {skipped}"] if skipped else [])


def render_strays(strays: list[dict[str, Any]]) -> list[str]:
    lines = []
    for reply in strays[:STRAYS_MAX]:
        stamp = click.style(f"frame {reply['frame']}, {reply['seconds']:.3f} s", fg="cyan")
        whom = f" to {reply['mac']}" if reply["mac"] else ""
        address = f" ({reply['address']})" if reply["address"] else ""
        lines.append(f"{stamp}  {who_answers(reply)}{address}{whom}: to no request that stands before it here")
    rest = len(strays) - STRAYS_MAX
    return lines + ([f"and {rest} more such replies"] if rest > 0 else [])


def render_story(requests: list[dict[str, Any]], strays: list[dict[str, Any]]) -> list[str]:
    """Each machine's way through a capture in short, before the details."""
    machines: dict[str, list[dict[str, Any]]] = {}
    for said in requests:
        machines.setdefault(said["mac"] or "", []).append(said)
    machines.pop("", None)
    if not machines:
        return []
    lost: dict[str, list[dict[str, Any]]] = {}
    for reply in strays:
        lost.setdefault(reply["mac"] or "", []).append(reply)
    lines = ["", click.style("in short", bold=True), f"  {STEPS}"]
    for mac in list(machines)[:STORIES_MAX]:
        lines += [f"  {line}" for line in story_of(mac, machines[mac], lost.get(mac, []))]
    rest = len(machines) - STORIES_MAX
    return lines + ([f"  and {rest} machines more"] if rest > 0 else [])


def story_of(mac: str, requests: list[dict[str, Any]], strays: list[dict[str, Any]]) -> list[str]:
    """Who, and then a line for each step that it gets on."""
    host = next((said["host"] for said in requests if said["host"]), None)
    kinds = dict.fromkeys(said["class_words"] for said in requests if said["class"])
    head = f"{mac}{f' ({host})' if host else ''}, {', then '.join(kinds) or 'of an unknown kind'}:"
    return [head, *(f"{step.seconds:8.1f} s  {step.words}" for step in steps_of(requests, strays))]


def render_premises(result: dict[str, Any]) -> list[str]:
    """What the explanation takes for granted, and what is wrong in it."""
    lines = [click.style(line, dim=True) for line in result["premises"]]
    for fault in result.get("faults", ()):
        lines.append(click.style(f"fault: {fault['object']}: {fault['reason']} [{fault['kind']}]", fg="yellow"))
    if others := result.get("other_faults"):
        words = f"{others:,} faults of other objects; `bootstorm lint` lists them"
        lines.append(click.style(words, dim=True))
    return lines


def render_datagram(result: dict[str, Any]) -> list[str]:
    return [*render_premises(result), "", *render_request(result["request"])]


def render_machine(result: dict[str, Any]) -> list[str]:
    """A machine: its reply in each of its networks, and what client classes get otherwise."""
    head = f"{result['mac']}  {result['host'] or 'not in the table'}" + (
        f", {result['state']}" if result["state"] else ""
    )
    lines = [*render_premises(result), click.style(head, bold=True)]
    if result["reason"]:
        lines.append(row("reason", result["reason"]))
    for network in result["networks"]:
        if network["network"]:
            lines += ["", click.style(f"in {network['network']}, {network['by']}", fg="cyan")]
        first, *others = network["groups"]
        said = first["explained"]
        lines.append(row("asked", f"DISCOVER of {', '.join(first['classes'])}"))
        lines += render_outcome(said | {"reason": None})
        answered = said["reply"] is not None
        for group in others:
            outcome = group["explained"]
            lines.append(row("but", f"for {', '.join(group['classes'])}: {outcome['verdict']}", "cyan"))
            if answered or outcome["reply"] is None:
                lines += render_group(group)
            else:  # the first that hears anything, all the others are measured by it
                lines += render_outcome(dict.fromkeys(said) | {"verdict": outcome["verdict"]} | told_of(outcome))
                answered = True
    return lines


def told_of(outcome: dict[str, Any]) -> dict[str, Any]:
    return {word: outcome[word] for word in ("meaning", "advice", "reply")}


def render_group(group: dict[str, Any]) -> list[str]:
    """What this class gets otherwise than the first one, with who says so."""
    reply = group["explained"]["reply"]
    origins = (
        {f"option {each['code']} {each['name']}": each.get("origin") for each in reply["options"]} if reply else {}
    )
    lines = []
    for each in group["differs"]:
        origin = origins.get(each["what"])
        what = plain_what(each["what"])
        text = f"{what}: {each['ours']}" if each["ours"] != "-" else f"no {what}"
        lines.append(row("", text + (click.style(f"  <- {origin}", dim=True) if origin else "")))
    return lines


RENDER: dict[str, Callable[[dict[str, Any]], list[str]]] = {
    "capture": render_capture,
    "datagram": render_datagram,
    "machine": render_machine,
}
