"""Datagram -> Request: offsets into the receive buffer, no copies.

A malformed option is skipped or ends the list; the packet is refused only when it cannot be understood (FIELD: servers
that refuse whole packets for one bad option leave machines dark).
"""

cimport cython
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy, memset

from ext.classify cimport classify
from ext.request cimport JOINED_BYTES, TYPE_BROKEN, Request, Span
from ext.rfc2131 cimport *
from ext.verdict cimport *
from ext.wire cimport load32, swap32


cdef enum:
    # Of those that clients send, a bit each; 0: plain BOOTP.
    MESSAGE_TYPES = (1 << 0 | 1 << DHCPDISCOVER | 1 << DHCPREQUEST | 1 << DHCPDECLINE | 1 << DHCPRELEASE
                     | 1 << DHCPINFORM)


cdef inline void parse_relay_agent(Request *request, const uint8_t *at, uint16_t length) noexcept nogil:
    cdef const uint8_t *end = at + length
    request.relay_agent.at = at
    request.relay_agent.length = length
    while end - at >= 2 and end - at - 2 >= at[1]:
        if at[0] == RELAY_LINK_SELECTION and at[1] == 4:
            request.link_selection_be = load32(at + 2)
        elif at[0] == RELAY_SERVER_ID and at[1] == 4:
            request.relay_server_id_be = load32(at + 2)
        elif at[0] == RELAY_SOURCE_PORT:
            request.relay_port = True
        elif at[0] == RELAY_CISCO_LINK and at[1] == 4:           # the standard's counts, wherever it stands
            if request.link_selection_be == 0:
                request.link_selection_be = load32(at + 2)
        elif at[0] == RELAY_CISCO_SERVER_ID and at[1] == 4:      # without data: RFC 6607's, which is echoed
            if request.relay_server_id_be == 0:
                request.relay_server_id_be = load32(at + 2)
        at += 2 + at[1]


cdef inline bint join_bytes(Request *request, const uint8_t *at, uint16_t length) noexcept nogil:
    if JOINED_BYTES - request.joined_bytes < length:
        return False
    memcpy(request.joined + request.joined_bytes, at, length)
    request.joined_bytes += length
    return True


cdef inline void keep_span(Request *request, Span *span, const uint8_t *at, uint8_t length) noexcept nogil:
    """The option, or one more part of it (RFC 3396 section 7); a part that finds no room is left out."""
    cdef const uint8_t *place
    if span.length == 0:
        span.at = at
        span.length = length
        return
    place = request.joined + request.joined_bytes
    if span.at + span.length != place:                           # the first part still stands in the datagram
        if not join_bytes(request, span.at, span.length):
            return
        span.at = place
    if join_bytes(request, at, length):
        span.length += length


cdef inline void find_mac(Request *request) noexcept nogil:
    """chaddr; for InfiniBand, which has none (RFC 4390), the 48-bit name that firmware makes of the port's GUID, which
    ends the client id: without the two bytes in its middle.  Some send only the 48 bits, after the type 32."""
    cdef const Span *id = &request.client_id
    cdef const uint8_t *guid
    if request.bootp.hlen >= 6:                                  # octets beyond hlen are no address (RFC 2131 section 2)
        request.mac = &request.bootp.chaddr[0]
    elif request.bootp.htype == HTYPE_INFINIBAND and id.length == 7 and id.at[0] == HTYPE_INFINIBAND:
        request.mac = id.at + 1
    elif request.bootp.htype == HTYPE_INFINIBAND and id.length >= 9:
        guid = id.at + id.length - 8
        memcpy(request.pseudo_mac, guid, 3)
        memcpy(request.pseudo_mac + 3, guid + 5, 3)
        request.mac = request.pseudo_mac


cdef inline void parse_option(Request *request, uint8_t code, const uint8_t *at, uint8_t length) noexcept nogil:
    if code == OPTION_MESSAGE_TYPE:
        if length == 1 and at[0] != 0 and request.message_type in (0, TYPE_BROKEN):
            request.message_type = at[0]
        elif request.message_type == 0:                          # no BOOTP
            request.message_type = TYPE_BROKEN
    elif code == OPTION_REQUESTED_ADDRESS:
        if length == 4:
            request.requested_be = load32(at)
    elif code == OPTION_SERVER_ID:
        if length == 4:
            request.server_id_be = load32(at)
    elif code == OPTION_PARAMETER_LIST:
        keep_span(request, &request.parameter_list, at, length)
    elif code == OPTION_MAX_SIZE:
        if length == 2:
            request.max_size = (<uint16_t>at[0] << 8) | at[1]
    elif code == OPTION_VENDOR_CLASS:
        keep_span(request, &request.vendor_class, at, length)
    elif code == OPTION_USER_CLASS:
        keep_span(request, &request.user_class, at, length)
    elif code == OPTION_ARCHITECTURE:
        keep_span(request, &request.architecture, at, length)
    elif code == OPTION_MACHINE_GUID:
        keep_span(request, &request.machine_guid, at, length)
    elif code == OPTION_IPXE:
        keep_span(request, &request.ipxe, at, length)
    elif code == OPTION_CLIENT_ID:
        keep_span(request, &request.client_id, at, length)
    elif code == OPTION_OVERLOAD:
        if length == 1:
            request.overload = at[0] & (OVERLOAD_FILE | OVERLOAD_SNAME)
    elif code == OPTION_SUBNET_SELECTION:
        if length == 4:
            request.subnet_selection_be = load32(at)
    elif code == OPTION_RELAY_AGENT:
        if request.relay_agent.length == 0:                      # a second one would be the client's forgery
            parse_relay_agent(request, at, length)


cdef inline void parse_options(Request *request, const uint8_t *at, const uint8_t *end) noexcept nogil:
    """Walk one option area; stops at End, or where a length points past the area."""
    cdef uint8_t code, length
    while at < end:
        code = at[0]
        if code == OPTION_PAD:
            at += 1
            continue
        if code == OPTION_END or end - at < 2:
            return
        length = at[1]
        if end - at - 2 < length:
            return
        parse_option(request, code, at + 2, length)
        at += 2 + length


cdef inline Verdict parse_request(Request *request, const uint8_t *data, size_t length) noexcept nogil:
    """RFC 2131 section 2.  Returns GO_ON when the request can be judged, else why not."""
    cdef const Bootp *bootp = <const Bootp *>data
    cdef uint8_t overload
    memset(request, 0, <const uint8_t *>request.joined - <const uint8_t *>request)
    if length < BOOTP_BYTES:
        return IGNORED_SHORT
    request.bootp = bootp
    if bootp.op != BOOTREQUEST:
        return IGNORED_NOT_REQUEST
    if bootp.cookie_be != swap32(COOKIE):
        return IGNORED_COOKIE
    if bootp.hlen > 16 or (bootp.htype == HTYPE_ETHERNET and bootp.hlen != 6):
        return IGNORED_HARDWARE
    parse_options(request, data + BOOTP_BYTES, data + length)
    # RFC 2131 section 4.1: options first, then file, then sname; what those two fields say of 52 itself is not followed.
    overload = request.overload
    if cython.unlikely(overload != 0):
        if overload & OVERLOAD_FILE:
            parse_options(request, bootp.file, bootp.file + sizeof(bootp.file))
        if overload & OVERLOAD_SNAME:
            parse_options(request, bootp.sname, bootp.sname + sizeof(bootp.sname))
    if request.client_id.length == 1:                            # RFC 2132 section 9.14: at least 2
        request.client_id.length = 0
    find_mac(request)
    request.client_class = <uint8_t>classify(request)
    if request.message_type > DHCPINFORM or not (MESSAGE_TYPES >> request.message_type) & 1:
        return IGNORED_MESSAGE_TYPE
    return GO_ON
