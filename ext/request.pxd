"""What parsing makes of a datagram: offsets into the receive buffer, numbers, and the class of the client.  Types alone."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t

from ext.rfc2131 cimport Bootp


cdef struct Span:
    const uint8_t *at
    uint16_t length


cdef enum:
    JOINED_BYTES = 1024            # of options that came in parts (RFC 3396)
    TYPE_BROKEN = 255              # option 53 that says nothing


cdef struct Request:
    const Bootp *bootp
    const uint8_t *mac             # 6 bytes that name the host; NULL when the request has none
    uint8_t message_type           # option 53, 0 when absent: plain BOOTP
    uint8_t client_class           # one of ext.classify.ClientClass, or of the site's own (ext/site_classes.pxd)
    uint8_t overload               # option 52
    bint relay_port                # option 82 sub-option 19: answer to the source port (RFC 8357)
    uint16_t max_size              # option 57, host order, 0 when absent
    uint32_t requested_be          # option 50, 0 when absent
    uint32_t server_id_be          # option 54, 0 when absent
    uint32_t link_selection_be     # option 82 sub-option 5 (RFC 3527), else Cisco's 150
    uint32_t relay_server_id_be    # option 82 sub-option 11: the id that the relay wants clients to see (RFC 5107)
    uint32_t subnet_selection_be   # option 118 (RFC 3011)
    Span client_id                 # option 61
    Span parameter_list            # option 55
    Span vendor_class              # option 60
    Span relay_agent               # option 82, echoed as it came
    Span user_class                # option 77
    Span architecture              # option 93
    Span machine_guid              # option 97
    Span ipxe                      # option 175
    uint8_t pseudo_mac[6]
    uint16_t joined_bytes
    uint8_t joined[JOINED_BYTES]   # the last field: it is never cleared
