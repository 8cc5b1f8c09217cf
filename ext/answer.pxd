"""The story of one packet: parse -> admit -> find_host -> judge -> encode.  Bytes and table in, verdict and bytes out.

Pure: no I/O, no clock, no allocation.  The worker, the tests, the fuzzer, the bench and `bootstorm explain` all call this.
"""

cimport cython

from ext.admit cimport admit
from ext.encode cimport encode_reply
from ext.judge cimport Decision, judge
from ext.leases cimport Site
from ext.packet cimport Packet, Reply
from ext.parse cimport parse_request
from ext.request cimport Request
from ext.roles cimport find_host
from ext.site_classes cimport apart, choose_class
from ext.verdict cimport *


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
    if verdict == GO_ON:
        verdict = admit(site, packet, request)
    if verdict == GO_ON:
        verdict = find_host(site, request, &decision.host)
    if verdict == GO_ON:
        if cython.unlikely(site.base.class_field_count != 0):
            request.client_class = apart(choose_class)(site, request, packet.data + packet.length,
                                                       packet.ifindex)
        verdict = judge(site, packet, request, decision)
    if is_answer(verdict) and not encode_reply(site, packet, request, decision, reply):
        return IGNORED_NO_ROOM
    return verdict
