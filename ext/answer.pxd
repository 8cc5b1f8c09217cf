"""The story of one packet: parse -> find_host -> judge -> encode.  Bytes and table in, verdict and bytes out.

Pure: no I/O, no clock, no allocation.  The worker, the tests, the fuzzer, the bench and `bootstorm explain` all call this.
"""

from ext.classify cimport classify
from ext.encode cimport encode_reply
from ext.judge cimport Decision, check_place, judge
from ext.leases cimport FLAG_BOOTP, Site
from ext.overload cimport patience_ns
from ext.packet cimport Packet, Reply
from ext.parse cimport Request, parse_request
from ext.roles cimport find_host
from ext.verdict cimport *
from ext.wire cimport is_broadcast_of


cdef inline Verdict answer(const Site *site, const Packet *packet, Request *request, Decision *decision,
                           Reply *reply) noexcept nogil:
    """The verdict is the counter's index; `reply` is complete when is_answer(verdict).

    request and decision are the caller's memory, and show how far the way went: for events and explain.
    request.bootp is NULL for a datagram that is too short."""
    cdef Verdict verdict
    request.bootp = NULL
    if site.own == NULL:
        return IGNORED_NO_TABLE
    if packet.truncated:
        return IGNORED_TRUNCATED
    verdict = parse_request(request, packet.data, packet.length)
    if verdict != GO_ON:
        return verdict
    if packet.waited_ns != 0 and packet.waited_ns > patience_ns(request, classify(request)):
        return IGNORED_LATE
    if request.message_type == 0 and not site.own.flags & FLAG_BOOTP:
        return IGNORED_BOOTP
    verdict = check_place(site, packet, request)
    if verdict != GO_ON:
        return verdict
    if request.mac == NULL:
        return IGNORED_UNKNOWN_MAC
    verdict = find_host(site, request, &decision.host)
    if verdict != GO_ON:
        return verdict
    decision.client_class = classify(request)
    verdict = judge(site, packet, request, decision)
    if is_answer(verdict):
        if is_broadcast_of(request.bootp.giaddr_be, decision.host.lease.address_be, decision.host.lease.prefix):
            return IGNORED_GIADDR
        if not encode_reply(site, packet, request, decision, reply):
            return IGNORED_NO_ROOM
    return verdict
