"""The decision: what RFC 2131 section 4.3 says of this request, of this host, coming from this place.

Two questions in turn: where does the client stand (its *link*), and is the address that it asks for its own there.  The
table alone answers both, so a restarted or a second server says the same.
"""

cimport cython
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from ext.admit cimport is_ours_or_edge
from ext.classify cimport OS, REBINDING, RENEWING, ClientState, client_state, firmware_class
from ext.leases cimport *
from ext.packet cimport Packet
from ext.places cimport FIRST_BETWEEN, HAS_GROUP, IS_EDGE_ON, IS_IN_PREFIX, IS_KNOWN, IS_OWN, inside_of, search
from ext.request cimport Request
from ext.rfc2131 cimport *
from ext.verdict cimport *
from ext.wire cimport is_broadcast_of, is_host_address, same_network, swap32


cdef struct Decision:
    Host host                      # lease: the one to hand out
    uint8_t reply_type             # DHCPOFFER, DHCPACK, DHCPNAK; 0 for BOOTP
    bint with_address              # yiaddr and the lease times go into the reply (not for INFORM, not for NAK)
    bint to_ciaddr                 # the client has its address configured and wants the answer there
    bint of_boot_service           # by the rules of PXE: 97 comes back
    const Template *template       # of that lease, for the client's class
    uint32_t server_id_be
    uint32_t source_be             # an address of this machine


cdef inline uint32_t client_link(const Request *request) noexcept nogil:
    """The address that names the client's link, in the order of RFC 3527, 3011, 2131; 0: the interface is the link."""
    if request.link_selection_be != 0 and request.bootp.giaddr_be != 0:     # a relay's word, not a client's
        return request.link_selection_be
    if request.subnet_selection_be != 0:
        return request.subnet_selection_be
    return request.bootp.giaddr_be


cdef inline uint32_t relay_server_id(const Request *request) noexcept nogil:
    """The id that clients behind this relay know us by (RFC 5107), 0 without; a relay's word, not a client's."""
    return request.relay_server_id_be if request.bootp.giaddr_be != 0 else 0


cdef inline bint is_connected(const Site *site, uint32_t ifindex, uint32_t address_be) noexcept nogil:
    """True when the address lies in a prefix of the interface itself."""
    cdef uint32_t i
    if cython.unlikely(site.places != NULL):
        return search(site.places, IS_IN_PREFIX, ifindex, swap32(address_be), 0) != 0
    for i in range(site.link_count):
        if (site.links[i].ifindex == ifindex
                and same_network(site.links[i].address_be, address_be, site.links[i].prefix)):
            return True
    return False


cdef inline bint is_unicast(const Packet *packet) noexcept nogil:
    return packet.local_be == packet.destination_be


cdef inline bint is_local(const Site *site, const Packet *packet) noexcept nogil:
    """True when the sender stands on the link that the packet came in on, not behind a router."""
    return (packet.source_be == 0 or not is_unicast(packet)
            or is_connected(site, packet.ifindex, packet.source_be))


cdef inline const Link *link_in(const Site *site, uint32_t ifindex, uint32_t address_be, uint8_t prefix) noexcept nogil:
    """The interface's first address inside a network, NULL when it has none there."""
    cdef uint32_t i, inside
    cdef int64_t at
    if cython.unlikely(site.places != NULL):
        inside = inside_of(prefix)
        at = search(site.places, FIRST_BETWEEN, ifindex, swap32(address_be) & ~inside, swap32(address_be) | inside)
        return site.links + at if at >= 0 else NULL
    for i in range(site.link_count):
        if site.links[i].ifindex == ifindex and same_network(site.links[i].address_be, address_be, prefix):
            return site.links + i
    return NULL


cdef inline const Link *primary_link(const Site *site, uint32_t ifindex) noexcept nogil:
    cdef uint32_t i
    if cython.unlikely(site.places != NULL):
        return link_in(site, ifindex, 0, 0)
    for i in range(site.link_count):
        if site.links[i].ifindex == ifindex:
            return site.links + i
    return NULL


cdef inline uint32_t local_of(const Site *site, const Packet *packet) noexcept nogil:
    """What IP_PKTINFO would say of a datagram that no socket received: the destination where it is an address of ours, the
    interface's first one for a broadcast, 0 for what is not, or no longer, meant for us."""
    cdef const Link *primary
    cdef bint broadcast = packet.destination_be == <uint32_t>0xffffffff
    cdef uint32_t i
    if site.own == NULL:
        return 0
    if cython.unlikely(site.places != NULL):
        if search(site.places, IS_OWN, 0, swap32(packet.destination_be), 0) != 0:
            return packet.destination_be
        broadcast |= search(site.places, IS_EDGE_ON, packet.ifindex, swap32(packet.destination_be), 0) != 0
    else:
        for i in range(site.link_count):
            if site.links[i].address_be == packet.destination_be:
                return packet.destination_be
            broadcast |= (site.links[i].ifindex == packet.ifindex
                          and is_broadcast_of(packet.destination_be, site.links[i].address_be, site.links[i].prefix))
    primary = primary_link(site, packet.ifindex)
    return primary.address_be if broadcast and primary != NULL else 0


cdef inline bint fits(const Site *site, const Packet *packet, const Request *request, const Lease *lease) noexcept nogil:
    """True when the lease's network is the client's link."""
    cdef uint32_t link = client_link(request)
    if link != 0:
        return same_network(link, lease.address_be, lease.prefix)
    return (link_in(site, packet.ifindex, lease.address_be, lease.prefix) != NULL
            and is_local(site, packet))


cdef inline bint link_is_known(const Site *site, const Packet *packet, const Request *request) noexcept nogil:
    cdef uint32_t link = client_link(request)
    cdef uint32_t i
    if link != 0:
        return in_networks(site, link)
    if not is_local(site, packet):
        return False
    if cython.unlikely(site.places != NULL):
        return search(site.places, IS_KNOWN, packet.ifindex, 0, 0) != 0
    for i in range(site.link_count):
        if site.links[i].ifindex == packet.ifindex and in_networks(site, site.links[i].address_be):
            return True
    return False


cdef inline bint shares_link(const Site *site, const Packet *packet, const Request *request,
                             const Lease *lease) noexcept nogil:
    """True when the inventory says that the lease's network and another, which is the client's link, are on one wire."""
    cdef uint64_t group = group_of(site, lease.address_be, lease.prefix)
    cdef uint32_t link = client_link(request)
    cdef uint32_t i
    if group == 0:
        return False
    if link != 0:
        return group_of(site, link, 32) == group
    if not is_local(site, packet):
        return False
    if cython.unlikely(site.places != NULL):
        return search(site.places, HAS_GROUP, packet.ifindex, group, 0) != 0
    for i in range(site.link_count):
        if (site.links[i].ifindex == packet.ifindex
                and group_of(site, site.links[i].address_be, 32) == group):
            return True
    return False


cdef inline const Lease *lease_beside(const Site *site, const Packet *packet, const Request *request,
                                      const Lease *first, uint32_t wanted_be) noexcept nogil:
    """None of the host's networks is the link: its first lease in one that shares the link, else its first address without
    a network of its own (/32), which the site routes to whatever link of its the host is on."""
    cdef uint8_t i
    if site.shared_count != 0:
        for i in range(first.lease_count):
            if ((wanted_be == 0 or first[i].address_be == wanted_be)
                    and shares_link(site, packet, request, first + i)):
                return first + i
    for i in range(first.lease_count):
        if (first[i].prefix == 32 and (wanted_be == 0 or first[i].address_be == wanted_be)
                and link_is_known(site, packet, request)):
            return first + i
    return NULL


cdef inline const Lease *lease_here(const Site *site, const Packet *packet, const Request *request,
                                    const Lease *first, uint32_t wanted_be) noexcept nogil:
    """The host's first lease that fits the link, and has the wanted address unless that is 0."""
    cdef uint8_t i
    for i in range(first.lease_count):
        if wanted_be != 0 and first[i].address_be != wanted_be:
            continue
        if fits(site, packet, request, first + i):
            return first + i
    return NULL


cdef inline const Lease *lease_at(const Lease *first, uint32_t address_be) noexcept nogil:
    cdef uint8_t i
    for i in range(first.lease_count):
        if first[i].address_be == address_be:
            return first + i
    return NULL


cdef inline const Template *template_for(const Host *host, const Lease *lease, uint8_t client) noexcept nogil:
    return host.table.templates + variant_of(host.table, lease.template_index, client)


cdef inline bint accepts_server_id(const Site *site, const Packet *packet, const Request *request,
                                   const Decision *decision, uint32_t id_be) noexcept nogil:
    """True for every id that one of our replies may have carried, and for dhcp.server_ids (other replicas, VIPs)."""
    cdef uint32_t i
    if id_be == site.own.server_id_be or id_be == relay_server_id(request):
        return True
    for i in range(decision.host.lease.lease_count):       # it is the first: any of them may have been offered
        if id_be == template_for(&decision.host, decision.host.lease + i, request.client_class).server_id_be:
            return True
    if id_be == packet.destination_be and is_unicast(packet):
        return True
    for i in range(site.server_id_count):
        if site.server_ids_be[i] == id_be:
            return True
    return is_ours(site, id_be)


cdef inline bint choose_ids(const Site *site, const Packet *packet, const Request *request,
                            Decision *decision) noexcept nogil:
    """server-id and source address (DESIGN section 3).  False when there is nothing to answer with."""
    cdef const Lease *lease = decision.host.lease
    cdef const Link *link
    cdef uint32_t ours
    decision.template = template_for(&decision.host, lease, request.client_class)
    if is_unicast(packet):
        ours = packet.destination_be
    else:
        link = link_in(site, packet.ifindex, lease.address_be, lease.prefix)
        if link == NULL:
            link = primary_link(site, packet.ifindex)
        ours = link.address_be if link != NULL else 0
    decision.server_id_be = ours
    if site.own.server_id_be != 0:
        decision.server_id_be = site.own.server_id_be
    if decision.template.server_id_be != 0:
        decision.server_id_be = decision.template.server_id_be
    if relay_server_id(request) != 0:
        decision.server_id_be = relay_server_id(request)
    if request.server_id_be != 0 and request.message_type == DHCPREQUEST and not packet.at_boot_port:
        decision.server_id_be = request.server_id_be       # accepted before: the client compares it with the OFFER's
    decision.source_be = ours
    if decision.server_id_be != ours and not packet.at_boot_port and is_ours(site, decision.server_id_be):
        decision.source_be = decision.server_id_be         # at the boot port clients wait for a reply from where they asked
    return decision.server_id_be != 0 and decision.source_be != 0


cdef inline Verdict refuse(const Site *site, const Packet *packet, const Request *request, Decision *decision) noexcept nogil:
    """NAK, but only where we know the host, the link, and that our truth is fresh (RFC 2131 section 4.3.2)."""
    if not link_is_known(site, packet, request):
        return IGNORED_NAK_UNKNOWN_LINK
    if site.age_s > site.own.max_nak_age_s:
        return IGNORED_NAK_STALE_TABLE
    decision.reply_type = DHCPNAK
    return NAKED


cdef inline Verdict confirm_lease(const Site *site, const Request *request, Decision *decision) noexcept nogil:
    """The client uses ciaddr already and has the answer sent there; a wrong one is not refused, its lease will end."""
    cdef const Lease *lease = lease_at(decision.host.lease, request.bootp.ciaddr_be)
    if lease == NULL or is_ours(site, request.bootp.ciaddr_be):
        return IGNORED_CIADDR
    decision.host.lease = lease
    decision.to_ciaddr = True
    return ACKED


cdef inline Verdict judge_request(const Site *site, const Packet *packet, const Request *request,
                                  Decision *decision) noexcept nogil:
    """DHCPREQUEST by the state of its client (RFC 2131 section 4.3.2)."""
    cdef ClientState state = client_state(request, is_unicast(packet))
    cdef const Lease *lease
    if request.server_id_be != 0 and not accepts_server_id(site, packet, request, decision, request.server_id_be):
        return IGNORED_OTHER_SERVER
    decision.reply_type = DHCPACK
    decision.with_address = True
    if state == RENEWING or state == REBINDING:
        return confirm_lease(site, request, decision)
    # SELECTING, INIT_REBOOT; and who names no address at all gets the one that we would have offered.
    lease = lease_here(site, packet, request, decision.host.lease, request.requested_be)
    if cython.unlikely(lease == NULL):
        lease = lease_beside(site, packet, request, decision.host.lease, request.requested_be)
    if lease != NULL:
        decision.host.lease = lease
        return ACKED
    if request.requested_be == 0:
        return IGNORED_OTHER_LINK
    decision.with_address = False
    return refuse(site, packet, request, decision)


cdef inline Verdict judge_inform(const Site *site, const Request *request, Decision *decision) noexcept nogil:
    cdef Verdict verdict = confirm_lease(site, request, decision)
    decision.reply_type = DHCPACK
    return ACKED_INFORM if verdict == ACKED else verdict


cdef inline Verdict judge_bootp(const Site *site, const Packet *packet, const Request *request,
                                Decision *decision) noexcept nogil:
    """RFC 951 section 7.3: a client that knows its address says it in ciaddr and wants the rest only."""
    cdef uint32_t ciaddr = request.bootp.ciaddr_be
    cdef const Lease *lease
    if ciaddr != 0:
        lease = lease_at(decision.host.lease, ciaddr)
        if lease == NULL or is_ours(site, ciaddr):
            return IGNORED_CIADDR
        decision.to_ciaddr = True
    else:
        lease = lease_here(site, packet, request, decision.host.lease, 0)
        if cython.unlikely(lease == NULL):
            lease = lease_beside(site, packet, request, decision.host.lease, 0)
        if lease == NULL:
            return IGNORED_OTHER_LINK
    decision.host.lease = lease
    decision.reply_type = 0
    decision.with_address = True
    return ANSWERED_BOOTP


cdef inline bint is_sender(const Site *site, const Packet *packet, uint32_t ciaddr_be) noexcept nogil:
    """True when ciaddr is where the datagram came from, and can be a client's: for clients whose address we do not know."""
    return ciaddr_be == packet.source_be and is_host_address(ciaddr_be) and not is_ours_or_edge(site, ciaddr_be)


cdef inline Verdict judge_at_boot_port(const Site *site, const Packet *packet, const Request *request,
                                       Decision *decision) noexcept nogil:
    """PXE 2.1: who has an address by now asks what to boot.  Relays never come here; the answer goes to the sender."""
    cdef const Lease *lease = decision.host.lease
    if ((request.message_type != DHCPREQUEST and request.message_type != DHCPINFORM) or request.bootp.giaddr_be != 0
            or firmware_class(request) == OS or not is_sender(site, packet, request.bootp.ciaddr_be)):
        return IGNORED_BOOT_PORT
    if lease.state == PROXIED:
        if not template_for(&decision.host, lease, request.client_class).flags & TEMPLATE_BOOTS:
            return IGNORED_PROXY
    else:
        lease = lease_at(lease, request.bootp.ciaddr_be)
        if lease == NULL:
            return IGNORED_CIADDR
        decision.host.lease = lease
    decision.reply_type = DHCPACK
    decision.to_ciaddr = decision.of_boot_service = True
    return ACKED_BOOT


cdef inline Verdict judge_proxied(const Site *site, const Packet *packet, const Request *request,
                                  Decision *decision) noexcept nogil:
    """A host whose address another server gives: what it boots is ours to say, on whatever link, and nothing else."""
    if not template_for(&decision.host, decision.host.lease, request.client_class).flags & TEMPLATE_BOOTS:
        return IGNORED_PROXY
    decision.of_boot_service = True
    if request.message_type == DHCPDISCOVER:
        decision.reply_type = DHCPOFFER
        return OFFERED_PROXY
    if request.message_type != DHCPINFORM:
        return IGNORED_PROXY
    if request.bootp.giaddr_be == 0 and not is_sender(site, packet, request.bootp.ciaddr_be):
        return IGNORED_CIADDR
    decision.reply_type = DHCPACK
    decision.to_ciaddr = True
    return ACKED_INFORM


cdef inline Verdict judge_state(uint8_t state) noexcept nogil:
    if state == DISABLED:
        return IGNORED_DISABLED
    if state == OTHER_PORT:
        return IGNORED_OTHER_PORT
    if state == HELD:
        return IGNORED_HELD
    if state == NO_ADDRESS:
        return IGNORED_NO_ADDRESS
    if state == CONFLICT:
        return IGNORED_CONFLICT
    return IGNORED_QUARANTINED


cdef inline Verdict judge(const Site *site, const Packet *packet, const Request *request,
                          Decision *decision) noexcept nogil:
    """decision.host holds the host's first lease; on an answering verdict the decision is complete."""
    cdef Verdict verdict
    cdef const Lease *lease
    decision.with_address = False
    decision.to_ciaddr = False
    decision.of_boot_service = False
    if not is_answered(decision.host.lease.state):
        return judge_state(state_of(decision.host.lease))
    if packet.at_boot_port:
        verdict = judge_at_boot_port(site, packet, request, decision)
    elif decision.host.lease.state == PROXIED:
        verdict = judge_proxied(site, packet, request, decision)
    elif request.message_type == DHCPREQUEST:
        verdict = judge_request(site, packet, request, decision)
    elif request.message_type == DHCPDISCOVER:
        lease = lease_here(site, packet, request, decision.host.lease, 0)
        if cython.unlikely(lease == NULL):
            lease = lease_beside(site, packet, request, decision.host.lease, 0)
        if lease == NULL:
            return IGNORED_OTHER_LINK
        decision.host.lease = lease
        decision.reply_type = DHCPOFFER
        decision.with_address = True
        verdict = OFFERED
    elif request.message_type == DHCPINFORM:
        verdict = judge_inform(site, request, decision)
    elif request.message_type == 0:
        verdict = judge_bootp(site, packet, request, decision)
    elif request.message_type == DHCPRELEASE:
        return NOTED_RELEASE
    elif request.server_id_be != 0 and not accepts_server_id(site, packet, request, decision, request.server_id_be):
        return IGNORED_OTHER_SERVER
    else:
        return NOTED_DECLINE
    if is_answer(verdict):
        if verdict != NAKED and is_ours(site, decision.host.lease.address_be):
            return IGNORED_CONFLICT                        # with this very machine
        if not choose_ids(site, packet, request, decision):
            return IGNORED_NO_SERVER_ID
        if is_broadcast_of(request.bootp.giaddr_be, decision.host.lease.address_be, decision.host.lease.prefix):
            return IGNORED_GIADDR                          # only the host's row says how long its network's prefix is
    return verdict
