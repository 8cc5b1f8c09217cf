"""Leasequery (RFC 4388) in words: a relay asks a server about a lease, and no machine asks for anything.  Pure."""

from __future__ import annotations

from typing import Any, Final, TypeGuard

from control.messages.dissect import Message, describe_option

_CLIENT_ID, _ASSOCIATED = 61, 92
STAGES: Final[dict[str, str]] = {
    "LEASEQUERY": "a relay, or what stands in its place, asks a server about a lease (RFC 4388)",
    "LEASEUNASSIGNED": "a server's answer to a leasequery: it has that address to give, and nobody has it",
    "LEASEUNKNOWN": "a server's answer to a leasequery: it knows nothing of that",
    "LEASEACTIVE": "a server's answer to a leasequery: somebody has that address",
}
UNANSWERED: Final = (
    "this server answers no leasequery: relays learn nothing from it",
    "nothing, unless the relay drops packets of machines that it knows nothing of (IP source guard): switch leasequery "
    "off there",
)


def is_leasequery(message: Message | None) -> TypeGuard[Message]:
    return message is not None and message.kind in STAGES


def said_by(message: Message, judged: bool) -> dict[str, Any]:
    """What is told of it in place of what is told of a machine's request; the hardware address is that asked about.

    judged: there is a table to answer from."""
    found = {
        "stage": message.kind,
        "stage_words": STAGES[message.kind],
        "mac": None,
        "says": subject_of(message),
    } | dict.fromkeys(("class", "class_words", "link", "link_words", "host", "role", "state", "reason", "address"))
    if message.kind == "LEASEQUERY" and judged:
        found["meaning"], found["advice"] = UNANSWERED
    return found


def subject_of(message: Message) -> list[str]:
    """Section 6.1: by address, by hardware address, or by client identifier, the first that is there."""
    mac = message.chaddr[:6].hex(":") if any(message.chaddr) else ""
    client_id = message.options.get(_CLIENT_ID, b"")
    client = describe_option(_CLIENT_ID, client_id)["value"] if client_id else ""
    if message.kind == "LEASEACTIVE":
        others = message.options.get(_ASSOCIATED, b"")
        found = [f"{message.ciaddr or 'no address'} belongs to {mac or client or 'somebody'}"]
        if others:
            found.append(f"so do {describe_option(_ASSOCIATED, others)['value']}")
    elif message.kind == "LEASEQUERY":
        by_machine = f"which addresses {mac} has" if mac else f"which addresses the client id {client} has"
        asks = f"who has {message.ciaddr}" if message.ciaddr else by_machine if mac or client else "about nothing"
        found = [f"it asks {asks}"]
    else:
        found = [f"it is about {message.ciaddr or mac or client or 'nothing'}"]
    if message.giaddr:
        found.append(f"the relay {message.giaddr} asks, and gets the answer")
    return found
