"""The Python face of answer(): for tests, fuzz corpora, bench and `bootstorm explain`."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t
from libc.string cimport memset

from dataclasses import dataclass

from ext.answer cimport answer as c_answer
from ext.classify cimport classify
from ext.classify import ClientClass
from ext.encode cimport Reply as CReply, ROUTE_BROADCAST, ROUTE_FRAME, ROUTE_UDP
from ext.judge cimport Decision, Packet
from ext.leases cimport Site
from ext.parse cimport Request, parse_request
from ext.table cimport Pair
from ext.verdict cimport VERDICT_COUNT, Verdict as CVerdict, is_answer
from ext.verdict import Verdict
from ext.wire cimport swap16, swap32

ROUTES = {ROUTE_UDP: "udp", ROUTE_FRAME: "frame", ROUTE_BROADCAST: "broadcast"}


@dataclass(frozen=True, slots=True)
class Reply:
    """Where a reply goes and what it says.  Addresses are ints in host order."""
    verdict: object
    data: bytes
    route: str                     # "udp", "frame", "broadcast"
    ifindex: int
    destination: int
    port: int
    source: int
    mac: bytes


cdef bytes span(const uint8_t *at, uint16_t length):
    return (<const char *>at)[:length] if length else b""


def parse(bytes datagram not None) -> dict:
    """What parse_request() makes of a UDP payload; {"verdict": ...} alone when it cannot be understood."""
    cdef Request request
    cdef CVerdict verdict = parse_request(&request, <const uint8_t *><const char *>datagram, len(datagram))
    if verdict != VERDICT_COUNT:
        return {"verdict": Verdict(<int>verdict)}
    return {
        "message_type": request.message_type, "xid": swap32(request.bootp.xid_be),
        "chaddr": span(request.bootp.chaddr, request.bootp.hlen), "htype": request.bootp.htype,
        "hops": request.bootp.hops, "flags": swap16(request.bootp.flags_be),
        "ciaddr": swap32(request.bootp.ciaddr_be), "giaddr": swap32(request.bootp.giaddr_be),
        "requested": swap32(request.requested_be), "server_id": swap32(request.server_id_be),
        "link_selection": swap32(request.link_selection_be),
        "subnet_selection": swap32(request.subnet_selection_be),
        "max_size": request.max_size, "relay_port": bool(request.relay_port),
        "client_id": span(request.client_id.at, request.client_id.length),
        "parameter_list": span(request.parameter_list.at, request.parameter_list.length),
        "vendor_class": span(request.vendor_class.at, request.vendor_class.length),
        "client_class": ClientClass(<int>classify(&request)),
        "relay_agent": span(request.relay_agent.at, request.relay_agent.length),
    }


def answer(Pair table, bytes datagram not None, *, uint32_t ifindex=1, uint32_t source=0, uint16_t source_port=68,
           uint32_t destination=0xffffffff, uint32_t local=0, bint truncated=False, int64_t age_s=0,
           size_t capacity=1500) -> Reply:
    """One packet through the whole packet path, without sockets.

    destination: of the IP header; local: our own address that the kernel names (equal to destination for unicast).
    table None: no generation adopted yet.  Returns a Reply; data is empty when the verdict is silence."""
    cdef uint8_t buffer[2048]
    cdef Packet packet
    cdef Request request
    cdef Decision decision
    cdef CReply reply
    cdef Site site
    cdef CVerdict verdict
    memset(&site, 0, sizeof(site))
    memset(&decision, 0, sizeof(decision))
    if table is not None:
        site = table.site
    site.age_s = age_s
    packet.data = <const uint8_t *><const char *>datagram
    packet.length = len(datagram)
    packet.truncated = truncated
    packet.ifindex = ifindex
    packet.source_be, packet.source_port_be = swap32(source), swap16(source_port)
    packet.destination_be, packet.local_be = swap32(destination), swap32(local)
    reply.data = buffer
    reply.capacity = min(capacity, sizeof(buffer))
    verdict = c_answer(&site, &packet, &request, &decision, &reply)
    if not is_answer(verdict):
        return Reply(Verdict(<int>verdict), b"", "", 0, 0, 0, 0, b"")
    return Reply(Verdict(<int>verdict), (<const char *>buffer)[:reply.length], ROUTES[reply.route], reply.ifindex,
                 swap32(reply.destination_be), swap16(reply.port_be), swap32(reply.source_be),
                 (<const char *>reply.mac)[:6])
