"""Decision -> reply bytes and where they go.

Most of a reply was rendered by control beforehand: the encoder copies the template's and the host's option blobs and
patches what belongs to this packet.  Only when that exceeds what the client takes are options picked one by one.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy, memset

from ext.judge cimport Decision, is_connected, primary_link
from ext.leases cimport *
from ext.packet cimport *
from ext.request cimport Request
from ext.rfc2131 cimport *
from ext.verdict cimport *
from ext.wire cimport *


cdef extern from *:
    """
    #include <string.h>
    /* Out of line: within encode_reply() it costs every reply registers, and only relays that add option 82 need it. */
    static __attribute__((noinline)) uint8_t *bs_pad(uint8_t *at, uint8_t *least, uint8_t *end) {
        if (least > end)
            least = end;
        if (at >= least)
            return at;
        memset(at, 0, least - at);
        return least;
    }
    """
    uint8_t *pad "bs_pad"(uint8_t *at, uint8_t *least, uint8_t *end) nogil


cdef packed struct Times:          # three options as they stand on the wire (RFC 2132 sections 9.2, 9.11, 9.12)
    uint8_t lease_code, lease_bytes
    uint32_t lease_be
    uint8_t renewal_code, renewal_bytes
    uint32_t renewal_be
    uint8_t rebinding_code, rebinding_bytes
    uint32_t rebinding_be


cdef packed struct Opening:        # the first two options of every reply (RFC 2132 sections 9.6, 9.7)
    uint8_t type_code, type_bytes, type
    uint8_t id_code, id_bytes
    uint32_t id_be


cdef inline void choose_route(const Site *site, const Packet *packet, const Request *request,
                              const Decision *decision, Reply *reply) noexcept nogil:
    """Where the reply goes: RFC 2131 section 4.1 in the order of DESIGN section 3, the first row that fits."""
    cdef const Bootp *bootp = request.bootp
    cdef bint ethernet = bootp.htype == HTYPE_ETHERNET
    reply.ifindex = packet.ifindex
    reply.from_boot_port = packet.at_boot_port
    reply.source_be = decision.source_be
    reply.port_be = swap16(CLIENT_PORT)
    memcpy(reply.mac, bootp.chaddr, 6)
    if bootp.giaddr_be != 0:
        reply.route = ROUTE_UDP
        reply.destination_be = bootp.giaddr_be
        reply.port_be = packet.source_port_be if request.relay_port else swap16(SERVER_PORT)
    elif decision.reply_type == DHCPNAK:
        reply.route = ROUTE_BROADCAST
        reply.destination_be = 0xffffffff
    elif decision.to_ciaddr:
        reply.destination_be = bootp.ciaddr_be
        if packet.at_boot_port:
            reply.port_be = packet.source_port_be
        # 4,000 on-link clients overflow the kernel's neighbour table silently; a frame needs no neighbour.
        reply.route = ROUTE_FRAME if ethernet and is_connected(site, packet.ifindex, bootp.ciaddr_be) else ROUTE_UDP
    elif swap16(bootp.flags_be) & FLAG_BROADCAST or not ethernet or decision.template.flags & TEMPLATE_BROADCAST:
        reply.route = ROUTE_BROADCAST
        reply.destination_be = 0xffffffff
    else:
        reply.route = ROUTE_FRAME
        reply.destination_be = decision.host.lease.address_be


cdef inline size_t room_for(const Site *site, const Packet *packet, const Request *request) noexcept nogil:
    """Most bytes of UDP payload that the client takes: min(max(option 57, 576), MTU) - 28; of BOOTP its 300."""
    cdef const Link *link = primary_link(site, packet.ifindex)
    cdef size_t mtu = link.mtu if link != NULL else 1500
    cdef size_t client = request.max_size if request.max_size > CLIENT_MTU_MIN else CLIENT_MTU_MIN
    if request.message_type == 0:
        client = REPLY_BYTES_MIN + IP_UDP_BYTES
    # What the relay added, the relay takes away again: it does not count against the client (RFC 3046 section 2.2).
    client += request.relay_agent.length + 2 if request.relay_agent.length else 0
    return (client if client < mtu else mtu) - IP_UDP_BYTES


cdef inline bint is_requested(const Request *request, uint8_t code) noexcept nogil:
    cdef uint16_t i
    for i in range(request.parameter_list.length):
        if request.parameter_list.at[i] == code:
            return True
    return False


cdef inline uint16_t whole_option(const uint8_t *at, const uint8_t *end) noexcept nogil:
    """Bytes of the option at `at` with the further parts of the same code (RFC 3396), which must stay together."""
    cdef const uint8_t *next = at + 2 + at[1]
    while end - next >= 2 and next[0] == at[0]:
        next += 2 + next[1]
    return <uint16_t>(next - at)


cdef inline void pick_options(const Request *request, const uint8_t *at, uint16_t length, bint requested,
                              Sink *sinks) noexcept nogil:
    """Copy the options of a blob that are (or are not) in the client's list, each into the first of the three sinks
    (options, file, sname) that takes it whole."""
    cdef const uint8_t *end = at + length
    cdef uint16_t size
    cdef int i
    while end - at >= 2:
        size = whole_option(at, end)
        if is_requested(request, at[0]) == requested:
            for i in range(3):
                if sinks[i].end - sinks[i].at >= size:
                    put_bytes(&sinks[i], at, size)
                    break
        at += size


cdef inline void put_fitting(const Request *request, const Decision *decision, Reply *reply, Sink *sink) noexcept nogil:
    """Requested options first; what the options field cannot hold goes into file (when it has no boot file) and sname
    (RFC 2132 section 9.3); what fits nowhere is left out."""
    cdef const Table *table = decision.host.table
    cdef const Lease *lease = decision.host.lease
    cdef const Template *template = decision.template
    cdef Bootp *bootp = <Bootp *>reply.data
    cdef Sink[3] sinks
    cdef uint8_t overload = 0
    cdef bint requested
    cdef bint may_overload = request.message_type != 0 and not template.flags & TEMPLATE_NO_OVERLOAD
    sinks[0] = sink[0]
    sinks[0].end -= 3                                            # option 52 itself
    sinks[1].at = bootp.file
    sinks[1].end = bootp.file + (sizeof(bootp.file) - 1 if may_overload and template.file_bytes == 0 else 0)
    sinks[2].at = bootp.sname
    sinks[2].end = bootp.sname + (sizeof(bootp.sname) - 1 if may_overload else 0)                # and its own End
    sinks[1].full = sinks[2].full = False
    for requested in (True, False):
        pick_options(request, table.heap + template.options_at, template.options_bytes, requested, sinks)
        pick_options(request, table.heap + lease.own_at, lease.own_bytes, requested, sinks)
    sink.at = sinks[0].at
    if sinks[1].at != bootp.file:
        sinks[1].at[0] = OPTION_END
        overload |= OVERLOAD_FILE
    if sinks[2].at != bootp.sname:
        sinks[2].at[0] = OPTION_END
        overload |= OVERLOAD_SNAME
    if overload:
        put_option8(sink, OPTION_OVERLOAD, overload)


cdef inline void put_opening(Sink *sink, const Decision *decision) noexcept nogil:
    cdef Opening opening
    opening.type_code, opening.type_bytes, opening.type = OPTION_MESSAGE_TYPE, 1, decision.reply_type
    opening.id_code, opening.id_bytes, opening.id_be = OPTION_SERVER_ID, 4, decision.server_id_be
    put_bytes(sink, &opening, sizeof(Opening))


cdef inline void put_times(Sink *sink, const Template *template) noexcept nogil:
    """51, 58, 59 in one block: each of its own costs three bounds checks a packet."""
    cdef Times times
    times.lease_code, times.renewal_code, times.rebinding_code = OPTION_LEASE_TIME, OPTION_RENEWAL_TIME, OPTION_REBINDING_TIME
    times.lease_bytes = times.renewal_bytes = times.rebinding_bytes = 4
    times.lease_be = swap32(template.lease_s)
    times.renewal_be = swap32(template.renewal_s)
    times.rebinding_be = swap32(template.rebinding_s)
    put_bytes(sink, &times, sizeof(Times))


cdef inline void put_lease(const Request *request, const Decision *decision, Reply *reply, Sink *sink) noexcept nogil:
    """What an OFFER and an ACK say: times (not for INFORM, RFC 2131 section 4.3.5, nor BOOTP, whose leases never end),
    template, the host's own."""
    cdef const Table *table = decision.host.table
    cdef const Lease *lease = decision.host.lease
    cdef const Template *template = decision.template
    cdef Bootp *bootp = <Bootp *>reply.data
    bootp.siaddr_be = template.siaddr_be
    memcpy(bootp.file, table.heap + template.file_at, template.file_bytes)
    if decision.with_address:
        bootp.yiaddr_be = lease.address_be
    if decision.with_address and decision.reply_type != 0:
        put_times(sink, template)
    if <size_t>(sink.end - sink.at) >= <size_t>template.options_bytes + lease.own_bytes:
        memcpy(sink.at, table.heap + template.options_at, template.options_bytes)
        memcpy(sink.at + template.options_bytes, table.heap + lease.own_at, lease.own_bytes)
        sink.at += template.options_bytes + lease.own_bytes
    else:
        put_fitting(request, decision, reply, sink)


cdef inline bint encode_reply(const Site *site, const Packet *packet, const Request *request,
                              const Decision *decision, Reply *reply) noexcept nogil:
    """RFC 2131 table 3.  False when not even the mandatory options fit."""
    cdef const Bootp *asked = request.bootp
    cdef Bootp *bootp = <Bootp *>reply.data
    cdef Sink sink
    cdef size_t room = room_for(site, packet, request)
    cdef size_t tail = 1                                         # End
    cdef uint16_t client_id = request.client_id.length if request.message_type != 0 else 0
    cdef bint with_guid = decision.of_boot_service and request.machine_guid.length == GUID_BYTES
    if room > reply.capacity:
        room = reply.capacity
    if client_id:
        tail += long_option_bytes(client_id)
    if request.relay_agent.length:
        tail += <size_t>2 + request.relay_agent.length
    if request.subnet_selection_be != 0:
        tail += 6
    if with_guid:
        tail += 2 + GUID_BYTES
    if room < REPLY_BYTES_MIN or room < BOOTP_BYTES + 3 + 6 + 18 + 3 + tail:     # 53, 54, 51, 58, 59, room for 52
        return False
    memset(bootp, 0, BOOTP_BYTES)
    bootp.op = BOOTREPLY
    bootp.htype = asked.htype
    bootp.hlen = asked.hlen
    bootp.xid_be = asked.xid_be
    bootp.flags_be = asked.flags_be
    bootp.giaddr_be = asked.giaddr_be
    memcpy(bootp.chaddr, asked.chaddr, sizeof(bootp.chaddr))
    bootp.cookie_be = swap32(COOKIE)
    sink.at = reply.data + BOOTP_BYTES
    sink.end = reply.data + room - tail
    sink.full = False
    if decision.reply_type != 0:
        put_opening(&sink, decision)
    if decision.reply_type == DHCPNAK:
        if asked.giaddr_be != 0:
            bootp.flags_be |= swap16(FLAG_BROADCAST)             # RFC 2131 section 4.3.2: the relay must broadcast it
    else:
        if decision.reply_type != DHCPOFFER:
            bootp.ciaddr_be = asked.ciaddr_be
        if decision.template.flags & TEMPLATE_BROADCAST:
            bootp.flags_be |= swap16(FLAG_BROADCAST)             # for the relay
        put_lease(request, decision, reply, &sink)
    sink.end += tail
    if request.subnet_selection_be != 0:                         # RFC 3011 section 2: clients want it back
        put_option32(&sink, OPTION_SUBNET_SELECTION, request.subnet_selection_be)
    if with_guid:                                                # RFC 4578 section 2.3
        put_option(&sink, OPTION_MACHINE_GUID, request.machine_guid.at, GUID_BYTES)
    if client_id:                                                # RFC 6842
        put_long_option(&sink, OPTION_CLIENT_ID, request.client_id.at, client_id)
    if request.relay_agent.length:                               # RFC 3046 section 2.2: last
        put_option(&sink, OPTION_RELAY_AGENT, request.relay_agent.at, <uint8_t>request.relay_agent.length)
        put_end(&sink)
        # The relay takes it off again and pads nothing: what it passes on has to be long enough.
        sink.at = pad(sink.at, reply.data + REPLY_BYTES_MIN + 2 + request.relay_agent.length, sink.end)
    else:
        put_end(&sink)
    reply.length = sink.at - reply.data
    if reply.length < REPLY_BYTES_MIN:
        memset(sink.at, 0, REPLY_BYTES_MIN - reply.length)
        reply.length = REPLY_BYTES_MIN
    choose_route(site, packet, request, decision, reply)
    return not sink.full
