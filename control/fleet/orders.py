"""What becomes of a head, but for its mark: a new table, a trial promoted or dropped, an operator's order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from control.fleet.messages import KEPT_MAX, Content, Head, Order, Verb
from control.fleet.wire import Reason, Refused


def kept_with(head: Head, new: Content) -> tuple[Content, ...]:
    """What one can go back to, once `new` is stable."""
    older = [content for content in (head.stable, *head.kept) if content.digest != new.digest]
    return tuple(older[:KEPT_MAX])


def with_table(head: Head, new: Content, canaries: tuple[str, ...]) -> Head:
    """canaries: who has it first; none: everybody at once."""
    if canaries:
        return replace(head, trial=new, canary=canaries)
    return replace(head, stable=new, trial=None, canary=(), kept=kept_with(head, new))


def promoted(head: Head) -> Head:
    """Of a head with a trial."""
    return head if head.trial is None else with_table(head, head.trial, ())


def dropped(head: Head) -> Head:
    return head if head.trial is None else replace(head, trial=None, canary=(), failed=head.trial.digest)


def obeyed(head: Head, order: Order) -> Head:
    """Raises Refused."""
    if order.number != head.orders + 1:
        raise Refused(Reason.OLD_ORDER, f"number {order.number}, the next is {head.orders + 1}")
    head = replace(head, orders=order.number)
    if order.verb is Verb.HOLD:
        return replace(head, held=True)
    if order.verb is Verb.RELEASE:
        return replace(head, held=False, pinned=False, failed=b"")
    if order.verb is Verb.PROMOTE:
        if head.trial is None or head.trial.digest != order.digest:
            raise Refused(Reason.NO_TARGET, f"no trial of {order.digest.hex()}")
        return promoted(head)
    for content in head.kept:
        if content.digest == order.digest:
            return replace(with_table(dropped(head), content, ()), pinned=True, held=False)
    raise Refused(Reason.NO_TARGET, f"{order.digest.hex()} is none of the {len(head.kept)} tables that are kept")


def target(verb: Verb, trial: bytes, kept: Sequence[bytes], beginning: str) -> bytes:
    """Digest of the table that an order is about; nothing where it is about none.  trial: or nothing; kept: the latest
    first; beginning: hexadecimal, of the one to go back to, the latest unless said.  Raises Refused."""
    if verb is Verb.PROMOTE and not trial:
        raise Refused(Reason.NO_TARGET, "there is no trial")
    if verb is not Verb.ROLLBACK:
        return trial if verb is Verb.PROMOTE else b""
    for digest in kept:
        if digest.hex().startswith(beginning):
            return digest
    there = ", ".join(digest.hex()[:12] for digest in kept) or "none"
    raise Refused(Reason.NO_TARGET, f"no table {beginning} is kept; there are: {there}")
