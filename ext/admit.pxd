"""What is refused before any look-up: for its age, its kind, its place, or because it names nobody."""

cimport cython
from libc.stdint cimport uint32_t

from ext.leases cimport *
from ext.overload cimport patience_ns
from ext.packet cimport Packet
from ext.places cimport IS_ALLOWED, IS_EDGE, IS_OWN, IS_SERVED, search
from ext.request cimport Request
from ext.verdict cimport *
from ext.wire cimport is_broadcast_of, is_host_address, same_network, swap32


cdef inline bint is_ours_or_edge(const Site *site, uint32_t address_be) noexcept nogil:
    """An address of this machine, or the first or the last of the network of one, which no host has."""
    cdef uint32_t i
    if cython.unlikely(site.places != NULL):
        return (search(site.places, IS_OWN, 0, swap32(address_be), 0) != 0
                or search(site.places, IS_EDGE, 0, swap32(address_be), 0) != 0)
    for i in range(site.link_count):
        if (site.links[i].address_be == address_be
                or is_broadcast_of(address_be, site.links[i].address_be, site.links[i].prefix)):
            return True
    return False


cdef inline bint is_allowed_relay(const Site *site, uint32_t address_be) noexcept nogil:
    cdef uint32_t i
    if cython.unlikely(site.places != NULL and site.relay_count != 0):
        return search(site.places, IS_ALLOWED, 0, swap32(address_be), 0) != 0
    for i in range(site.relay_count):
        if same_network(address_be, site.relays[i].address_be, site.relays[i].prefix):
            return True
    return site.relay_count == 0


cdef inline Verdict check_place(const Site *site, const Packet *packet, const Request *request) noexcept nogil:
    """Closed interfaces and impossible relays are refused; GO_ON when the place is good."""
    cdef uint32_t giaddr = request.bootp.giaddr_be
    cdef uint32_t i
    cdef bint served = (site.own.flags & FLAG_INTERFACES_LIMITED) == 0
    if cython.unlikely(site.places != NULL):
        served = served or search(site.places, IS_SERVED, packet.ifindex, 0, 0) != 0
        if giaddr != 0 and is_ours_or_edge(site, giaddr):
            return IGNORED_GIADDR
    else:
        for i in range(site.link_count):
            if site.links[i].ifindex == packet.ifindex and site.links[i].flags & LINK_SERVED:
                served = True
            if giaddr != 0 and (site.links[i].address_be == giaddr
                                or is_broadcast_of(giaddr, site.links[i].address_be, site.links[i].prefix)):
                return IGNORED_GIADDR
    if not served:
        return IGNORED_INTERFACE
    if giaddr != 0:
        if not is_host_address(giaddr):
            return IGNORED_GIADDR
        if not is_allowed_relay(site, giaddr):
            return IGNORED_RELAY
    return GO_ON


cdef inline Verdict admit(const Site *site, const Packet *packet, const Request *request) noexcept nogil:
    """GO_ON for a request whose host is worth looking up."""
    cdef Verdict verdict
    if packet.waited_ns != 0 and packet.waited_ns > patience_ns(request):
        return IGNORED_LATE
    if request.message_type == 0 and not site.own.flags & FLAG_BOOTP:
        return IGNORED_BOOTP
    verdict = check_place(site, packet, request)
    if verdict == GO_ON and request.mac == NULL:
        return IGNORED_UNKNOWN_MAC
    return verdict
