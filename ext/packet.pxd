"""What comes to answer() and what leaves it: a received datagram with its place, a reply with its way.  Types alone."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t


cdef enum Queue:                   # of a worker: its two sockets, of each way in
    PLAIN
    URGENT                         # REQUESTs, as far as their first option says so: they are nearer to done
    QUEUES


cdef struct Packet:                # one received datagram
    const uint8_t *data
    size_t length
    bint truncated
    uint32_t ifindex
    uint32_t source_be
    uint16_t source_port_be
    uint32_t destination_be        # of the IP header
    uint32_t local_be              # ours: equal to destination_be when the datagram was unicast to us
    int64_t waited_ns              # in our queue; 0 while we keep up
    bint at_boot_port              # came to PXE's port 4011, not to 67


cdef enum Route:
    ROUTE_UDP                      # the kernel routes it: relays, clients behind a router
    ROUTE_FRAME                    # an Ethernet frame to one MAC: the client cannot answer ARP yet
    ROUTE_BROADCAST                # an Ethernet broadcast out of the interface that the request came in on


cdef struct Reply:
    uint8_t *data                  # IP_UDP_BYTES of headroom stand before it
    size_t capacity
    size_t length
    Route route
    uint32_t ifindex               # ROUTE_FRAME, ROUTE_BROADCAST
    uint32_t destination_be
    uint16_t port_be
    uint32_t source_be
    uint8_t mac[6]                 # ROUTE_FRAME
    bint from_boot_port            # by port 4011, not by 67
