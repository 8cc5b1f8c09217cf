"""The Python face of answer(): for tests, fuzz corpora, bench and `bootstorm explain`."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t
from libc.string cimport memset

from dataclasses import dataclass

from ext.answer cimport answer as c_answer
from ext.classify cimport client_state, firmware_class
from ext.judge cimport Decision, client_link, fits, is_unicast, link_is_known, local_of, shares_link
from ext.leases cimport LINK_SERVED, ROLE_BMC, SERVED, TOMBSTONE, Lease, Link, Site, state_of
from ext.sightings cimport ClientHistory, count_ack
from ext.latency cimport BOUNDS, Histogram, Stamps, are_wanted, observe_halves, older_half
from ext.overload cimport RELAYS, Shares, Waits, fair_level, is_over_share, note_turn, share_out, wait_of
from ext.packet cimport Packet, Reply as CReply, ROUTE_BROADCAST, ROUTE_FRAME, ROUTE_UDP
from ext.parse cimport parse_request
from ext.request cimport Request
from ext.table cimport Pair
from ext.classify import ClientClass, ClientState
from ext.table import STATES
from ext.verdict cimport GO_ON, Verdict as CVerdict, is_answer
from ext.verdict import Verdict
from ext.wire cimport swap16, swap32

NOT_UNDERSTOOD = (Verdict.IGNORED_NO_TABLE, Verdict.IGNORED_TRUNCATED, Verdict.IGNORED_SHORT, Verdict.IGNORED_NOT_REQUEST,
                  Verdict.IGNORED_COOKIE, Verdict.IGNORED_HARDWARE)
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


@dataclass(frozen=True, slots=True)
class Trace:
    """A reply, and how far answer() went on the way to it.  Addresses are ints in host order, 0: none."""
    reply: Reply
    request: dict                  # as parse() says it; empty when the datagram could not be understood
    told_by: str                   # what names the client's link: "link selection", "subnet selection", "giaddr", ""
    link: int                      # that address; 0: the receiving interface is the link
    mac: int                       # of the row found, 0: none was found, or looked for
    role: str                      # "host", "bmc"
    host: bytes                    # the object's name in the inventory
    state: str                     # one of ext.table.STATES
    address: int                   # of the lease that was chosen, or of the host's first
    prefix: int
    server_id: int                 # option 54 of the answer
    fit: str                       # of that lease to the link: "own" network, "shared" link, "routed" (/32), "" not at all


cdef bytes span(const uint8_t *at, uint16_t length):
    return (<const char *>at)[:length] if length else b""


def parse(bytes datagram not None, *, bint unicast=False) -> dict:
    """What parse_request() makes of a UDP payload; {"verdict": ...} alone when it cannot be understood.

    unicast: it was sent to an address of ours, which tells RENEWING from REBINDING."""
    cdef Request request
    cdef CVerdict verdict = parse_request(&request, <const uint8_t *><const char *>datagram, len(datagram))
    if verdict != GO_ON:
        return {"verdict": Verdict(<int>verdict)}
    return fields_of(&request, unicast)


cdef dict fields_of(const Request *request, bint unicast):
    return {
        "message_type": request.message_type, "xid": swap32(request.bootp.xid_be),
        "chaddr": span(request.bootp.chaddr, request.bootp.hlen), "htype": request.bootp.htype,
        "hops": request.bootp.hops, "flags": swap16(request.bootp.flags_be),
        "ciaddr": swap32(request.bootp.ciaddr_be), "giaddr": swap32(request.bootp.giaddr_be),
        "requested": swap32(request.requested_be), "server_id": swap32(request.server_id_be),
        "link_selection": swap32(request.link_selection_be),
        "relay_server_id": swap32(request.relay_server_id_be),
        "subnet_selection": swap32(request.subnet_selection_be),
        "max_size": request.max_size, "relay_port": bool(request.relay_port),
        "client_id": span(request.client_id.at, request.client_id.length),
        "parameter_list": span(request.parameter_list.at, request.parameter_list.length),
        "vendor_class": span(request.vendor_class.at, request.vendor_class.length),
        "mac": span(request.mac, 6) if request.mac != NULL else b"",
        "client_class": ClientClass(<int>firmware_class(request)), "option_class": request.client_class,
        "client_state": ClientState(<int>client_state(request, unicast)),
        "relay_agent": span(request.relay_agent.at, request.relay_agent.length),
    }


def answer(Pair table, bytes datagram not None, *, uint32_t ifindex=1, uint32_t source=0, uint16_t source_port=68,
           uint32_t destination=0xffffffff, uint32_t local=0, bint truncated=False, int64_t age_s=0,
           size_t capacity=1500, int64_t waited_ns=0, bint at_boot_port=False) -> Reply:
    """One packet through the whole packet path, without sockets.

    destination: of the IP header; local: our own address that the kernel names (equal to destination for unicast).
    waited_ns: in the queue of a worker that does not keep up.  at_boot_port: it came to port 4011.  table None: no
    generation adopted yet.  Returns a Reply; data is empty when the verdict is silence."""
    return trace(table, datagram, ifindex=ifindex, source=source, source_port=source_port, destination=destination,
                 local=local, truncated=truncated, age_s=age_s, capacity=capacity, waited_ns=waited_ns,
                 at_boot_port=at_boot_port).reply


def trace(Pair table, bytes datagram not None, *, uint32_t ifindex=1, uint32_t source=0, uint16_t source_port=68,
          uint32_t destination=0xffffffff, uint32_t local=0, bint truncated=False, int64_t age_s=0,
          size_t capacity=1500, int64_t waited_ns=0, bint at_boot_port=False, bint framed=False,
          bint gone_through=False) -> Trace:
    """As answer(), and what answer() saw on its way: a Trace.

    framed: it came as a frame, of which the kernel says no address of ours.  gone_through: links and relays one by one,
    however many there are (ext/places.pxd)."""
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
    if gone_through:
        site.places = NULL
    site.age_s = age_s
    packet.data = <const uint8_t *><const char *>datagram
    packet.length = len(datagram)
    packet.truncated = truncated
    packet.waited_ns = waited_ns
    packet.at_boot_port = at_boot_port
    packet.ifindex = ifindex
    packet.source_be, packet.source_port_be = swap32(source), swap16(source_port)
    packet.destination_be, packet.local_be = swap32(destination), swap32(local)
    if framed:
        packet.local_be = local_of(&site, &packet)
    reply.data = buffer
    reply.capacity = min(capacity, sizeof(buffer))
    verdict = c_answer(&site, &packet, &request, &decision, &reply)
    if is_answer(verdict):
        said = Reply(Verdict(<int>verdict), (<const char *>buffer)[:reply.length], ROUTES[reply.route], reply.ifindex,
                     swap32(reply.destination_be), swap16(reply.port_be), swap32(reply.source_be),
                     (<const char *>reply.mac)[:6])
    else:
        said = Reply(Verdict(<int>verdict), b"", "", 0, 0, 0, 0, b"")
    return trace_of(said, &site, &packet, &request, &decision)


cdef str fit_of(const Site *site, const Packet *packet, const Request *request, const Lease *lease):
    if lease.state != SERVED:
        return ""
    if fits(site, packet, request, lease):
        return "own"
    if shares_link(site, packet, request, lease):
        return "shared"
    return "routed" if lease.prefix == 32 and link_is_known(site, packet, request) else ""


cdef object trace_of(said, const Site *site, const Packet *packet, const Request *request, const Decision *decision):
    cdef bint understood = request.bootp != NULL and said.verdict not in NOT_UNDERSTOOD
    cdef bint found = decision.host.lease != NULL and decision.host.lease.state != TOMBSTONE
    cdef uint32_t link_be = client_link(request) if understood else 0
    told_by = ""
    if link_be != 0:
        if link_be == request.link_selection_be and request.bootp.giaddr_be != 0:
            told_by = "link selection"
        else:
            told_by = "subnet selection" if link_be == request.subnet_selection_be else "giaddr"
    # Of a capture it may have been sent to another server than us.
    cdef bint alone = is_unicast(packet) or packet.destination_be != <uint32_t>0xffffffff
    fields = fields_of(request, alone) if understood else {}
    if not found:
        return Trace(said, fields, told_by, swap32(link_be), 0, "", b"", "", 0, 0, 0, "")
    lease = decision.host.lease
    return Trace(said, fields, told_by, swap32(link_be), int.from_bytes((<const char *>lease.mac)[:6], "big"),
                 "bmc" if lease.role == ROLE_BMC else "host",
                 (<const char *>decision.host.table.heap + lease.name_at)[:lease.name_bytes], STATES[state_of(lease)],
                 swap32(lease.address_be), lease.prefix, swap32(decision.server_id_be),
                 fit_of(site, packet, request, lease) if understood else "")


def links_of(Pair table not None) -> list:
    """(ifindex, address, prefix, served) of the interfaces that a table was made for, a primary address before others."""
    cdef uint32_t i
    cdef const Link *link
    found = []
    for i in range(table.site.link_count):
        link = table.site.links + i
        found.append((link.ifindex, swap32(link.address_be), link.prefix, bool(link.flags & LINK_SERVED)))
    return found


def fair_share(wanted, uint32_t capacity) -> int:
    """The max-min fair level of ext/overload.pxd: of at most 1,024 relays, what each wants; 2**32 - 1 when all fit."""
    cdef uint32_t[RELAYS] each
    cdef int i
    for i in range(RELAYS):
        each[i] = wanted[i] if i < len(wanted) else 0
    return fair_level(each, capacity)


def loop_rounds(acks) -> list:
    """What ext/sightings.pxd makes of one machine's ACKs in one stage of its boot, [(seconds, xid), ...]: the numbers of
    those at which a boot loop is told."""
    cdef ClientHistory known
    memset(&known, 0, sizeof(known))
    told = []
    for number, (at_s, xid) in enumerate(acks):
        if count_ack(&known, xid, at_s):
            known.told_s = at_s
            told.append(number)
    return told


cdef class Overload:
    """What a worker's loop keeps of waits and shares (ext/overload.pxd), on a clock of the caller's."""
    cdef Waits waits
    cdef Shares shares

    def turn(self, int64_t now_ns, *, bint more_urgent=False, bint more_plain=False) -> bool:
        """After receiving; more: the end of that queue was not seen.  True while each datagram's wait is looked at."""
        note_turn(&self.waits, now_ns, more_urgent, more_plain)
        share_out(&self.shares, &self.waits, now_ns)
        return self.waits.pressed

    def waited(self, int64_t since_stamp_ns, *, bint urgent=False) -> int:
        return wait_of(&self.waits, since_stamp_ns, urgent)

    def refuses(self, int relay, int64_t waited_ns, *, bint urgent=False) -> bool:
        """Counts one datagram of a relay (an index); True: it has had its share."""
        return is_over_share(&self.shares, relay, urgent, waited_ns)


cdef class Latency:
    """A histogram of ext/latency.pxd, and when it wants stamps, on a clock of the caller's."""
    cdef Histogram histogram
    cdef Stamps stamps

    def take(self, waits_ns) -> None:
        """A batch: what each request of it waited, the oldest first."""
        cdef int requests = len(waits_ns)
        observe_halves(&self.histogram, requests, waits_ns[0], waits_ns[min(older_half(requests), requests - 1)])

    def counts(self) -> list:
        return [self.histogram.counts[i] for i in range(BOUNDS + 1)]

    @property
    def sum_ns(self) -> int:
        return self.histogram.sum_ns

    def wants_stamps(self, int64_t now_ns, *, bint pressed=False, bint rested=False, bint emptied=True) -> bool:
        """After a turn.  rested: it came after a sleep; emptied: it reached the end of both queues."""
        self.stamps.rested |= rested
        if emptied:
            self.stamps.end_ns[0] = self.stamps.end_ns[1] = now_ns
        return are_wanted(&self.stamps, pressed, now_ns)
