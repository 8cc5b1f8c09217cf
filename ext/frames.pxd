"""Ethernet, IP and UDP headers around a DHCP message: written for what we send ourselves, read where the kernel did not.

RFC 791, RFC 768, RFC 1071.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy, memset

from ext.packet cimport ROUTE_FRAME, ROUTE_UDP, Packet, Reply
from ext.rfc2131 cimport IP_UDP_BYTES
from ext.wire cimport load32, swap16


cdef enum:
    ETHERNET_BYTES = 14
    HEADER_BYTES = 42              # Ethernet, IP without options, UDP
    UDP_BYTES = 8
    IP_UDP = 17


cdef inline uint32_t sum16(const uint8_t *at, size_t length, uint32_t total) noexcept nogil:
    """RFC 1071, words as they lie in memory."""
    cdef uint16_t word
    while length > 1:
        memcpy(&word, at, 2)
        total += word
        at += 2
        length -= 2
    if length:
        total += at[0]             # little-endian: the odd byte is the low one of its word
    return total


cdef inline uint16_t fold16(uint32_t total) noexcept nogil:
    total = (total & 0xffff) + (total >> 16)
    total = (total & 0xffff) + (total >> 16)
    return <uint16_t>~total


cdef inline void put_ip_udp(uint8_t *at, const Reply *reply, uint16_t port_be) noexcept nogil:
    """IP and UDP headers in front of the payload (RFC 791, RFC 768), UDP checksum computed.  Without DF: what is sent to
    a relay may meet a smaller MTU on its way.  Pieces of one datagram are told from another's by the identification, so
    that has to differ where the content does (RFC 6864): the checksum does."""
    cdef uint16_t udp_be = swap16(<uint16_t>(8 + reply.length))
    cdef uint16_t value
    cdef uint32_t total
    memset(at, 0, IP_UDP_BYTES)
    at[0] = 0x45
    value = swap16(<uint16_t>(IP_UDP_BYTES + reply.length))
    memcpy(at + 2, &value, 2)
    at[8] = 64
    at[9] = IP_UDP
    memcpy(at + 12, &reply.source_be, 4)
    memcpy(at + 16, &reply.destination_be, 4)
    memcpy(at + 20, &port_be, 2)
    memcpy(at + 22, &reply.port_be, 2)
    memcpy(at + 24, &udp_be, 2)
    total = sum16(at + 12, 8, 0) + swap16(IP_UDP) + udp_be
    value = fold16(sum16(at + 20, 8 + reply.length, total))
    if value == 0:
        value = 0xffff
    memcpy(at + 26, &value, 2)
    if reply.route == ROUTE_UDP:
        memcpy(at + 4, &value, 2)
    value = fold16(sum16(at, 20, 0))
    memcpy(at + 10, &value, 2)


cdef inline void put_ethernet(uint8_t *at, const uint8_t *to, const uint8_t *source) noexcept nogil:
    """to: NULL for everybody."""
    if to != NULL:
        memcpy(at, to, 6)
    else:
        memset(at, 0xff, 6)
    memcpy(at + 6, source, 6)
    at[12] = 0x08
    at[13] = 0x00


cdef inline bint read_headers(const uint8_t *frame, size_t length, Packet *packet) noexcept nogil:
    """Fill in what the headers say; length: of the frame, whose kind the XDP program has looked at.  False: lengths that do
    not fit into each other."""
    cdef size_t datagram
    if length < HEADER_BYTES:
        return False
    datagram = (<size_t>frame[38] << 8) | frame[39]
    if datagram < UDP_BYTES or datagram > length - (HEADER_BYTES - UDP_BYTES):
        return False
    packet.data = frame + HEADER_BYTES
    packet.length = datagram - UDP_BYTES
    packet.truncated = False
    memcpy(&packet.source_be, frame + 26, 4)
    memcpy(&packet.source_port_be, frame + 34, 2)
    memcpy(&packet.destination_be, frame + 30, 4)
    return True


cdef inline bint is_intact(const uint8_t *frame, size_t datagram) noexcept nogil:
    """True when the UDP checksum fits, is absent, or was left to a network card that never saw the frame: then it holds the
    sum of the pseudo header alone, as between two ends of a veth.  datagram: bytes from the UDP header on."""
    cdef uint16_t given, length_be = swap16(<uint16_t>datagram)
    cdef uint32_t pseudo = sum16(frame + 26, 8, 0) + swap16(IP_UDP) + length_be
    memcpy(&given, frame + 40, 2)
    return given == 0 or given == <uint16_t>~fold16(pseudo) or fold16(sum16(frame + 34, datagram, pseudo)) == 0


cdef inline const uint8_t *neighbour_of(const uint8_t *frame, const Packet *packet, const Reply *reply,
                                        uint32_t ifindex, bint *known) noexcept nogil:
    """The Ethernet address that the reply goes to, NULL for everybody; known: False where only the kernel's routes and
    neighbours can tell.

    A reply to the address that the request came from goes back to the neighbour that brought it."""
    known[0] = reply.route != ROUTE_UDP and reply.ifindex == ifindex
    if reply.route == ROUTE_FRAME:
        return reply.mac
    if reply.route == ROUTE_UDP and reply.destination_be == packet.source_be and not frame[6] & 1:
        known[0] = True
        return frame + 6
    return NULL
