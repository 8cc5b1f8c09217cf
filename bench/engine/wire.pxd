"""What the engines of bench share (wire.pyx): a wire with batches in and out, requests with holes, replies checked, latencies.

Requests are built from templates: bytes of a real or invented client with holes for what differs from host to host.
Addresses ending in _be are in network order; times are nanoseconds, of CLOCK_MONOTONIC unless relative to a start.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from ext.net cimport iovec, mmsghdr, sockaddr_in, sockaddr_ll


cdef enum:
    BATCH = 64
    HEAD_BYTES = 42                # Ethernet, IP and UDP headers in front of a framed request
    PAYLOAD_BYTES = 1472
    FRAME_BYTES = 1536
    CONTROL_BYTES = 64
    BUCKETS = 3776                 # of a histogram: 64 a power of two, all of uint64
    SAMPLES = 8                    # faulty replies that are kept for a person to read


cdef enum Fault:                   # what is wrong with a reply; names in wire.FAULTS
    RIGHT
    MALFORMED
    WRONG_MAC
    WRONG_TYPE
    WRONG_ADDRESS
    WRONG_OPTIONS
    UNEXPECTED
    FAULT_COUNT


cdef struct Template:
    uint8_t data[PAYLOAD_BYTES]
    uint16_t length
    uint16_t requested_at          # holes, as offsets; 0 = none.  Option 50
    uint16_t server_at             # option 54
    uint16_t client_id_at          # the MAC in option 61
    uint16_t circuit_at            # four bytes in option 82, sub-option 1
    uint8_t kind                   # option 53
    uint8_t wants                  # message type of the right reply, 0 = silence
    bint ciaddr                    # the host's address goes into ciaddr
    bint unicast                   # framed: to the server alone, from the host's address


cdef struct Peer:                  # one simulated host
    uint8_t mac[6]
    uint16_t relay
    uint32_t address_be            # that it has to get; 0: whatever it gets first
    uint32_t server_id_be          # of the last right reply


cdef struct Answer:                # a reply, as far as it is checked
    uint32_t xid
    uint32_t yiaddr_be
    uint32_t giaddr_be
    uint32_t server_id_be
    uint32_t lease_s
    uint8_t kind
    bint whole                     # its options end where they say
    const uint8_t *mac
    const uint8_t *circuit         # option 82, sub-option 1
    uint8_t circuit_bytes


cdef struct Sample:
    uint8_t data[PAYLOAD_BYTES]
    uint16_t length
    uint32_t peer                  # 0xffffffff: nobody's
    int fault


cdef int64_t now_ns() noexcept nogil
cdef void wake_on_time() noexcept nogil
cdef void count_ns(uint64_t *histogram, int64_t value) noexcept nogil
cdef bint read_answer(const uint8_t *data, size_t length, Answer *answer) noexcept nogil
cdef list counts(uint64_t *histogram)


cdef class Wire:
    cdef int fd, ifindex, stopping
    cdef bint framed, many_relays, unchecked
    cdef uint32_t server_be
    cdef uint16_t server_port_be
    cdef uint8_t server_mac[6]
    cdef uint16_t ip_id
    cdef Peer *peers
    cdef uint32_t peer_count
    cdef Template *templates
    cdef uint32_t template_count, template_room
    cdef uint32_t *relays_be
    cdef uint32_t relay_count
    cdef uint64_t received, blocked, send_errors
    cdef int last_error
    cdef uint64_t faults[FAULT_COUNT]
    cdef Sample samples[SAMPLES]
    cdef unsigned int sample_count
    cdef unsigned int out_count
    cdef mmsghdr out_headers[BATCH]
    cdef iovec out_pieces[BATCH]
    cdef sockaddr_in out_names[BATCH]
    cdef sockaddr_ll out_frames[BATCH]
    cdef uint8_t out_control[BATCH][CONTROL_BYTES]
    cdef uint8_t out_data[BATCH][FRAME_BYTES]
    cdef mmsghdr in_headers[BATCH]
    cdef iovec in_pieces[BATCH]
    cdef uint8_t in_control[BATCH][CONTROL_BYTES]
    cdef uint8_t in_data[BATCH][FRAME_BYTES]

    cdef void wire_up(self) noexcept nogil
    cdef void put(self, uint32_t peer, uint32_t template, uint32_t xid, uint16_t secs) noexcept nogil
    cdef void put_frame(self, uint8_t *at, const Peer *peer, const Template *template) noexcept nogil
    cdef void flush(self) noexcept nogil
    cdef int receive(self) noexcept nogil
    cdef void take(self, const uint8_t *data, size_t length, int64_t when_ns) noexcept nogil
    cdef Fault check(self, const Answer *answer, Peer *peer, const Template *template) noexcept nogil
    cdef void keep(self, const uint8_t *data, size_t length, uint32_t peer, Fault fault) noexcept nogil
    cdef void pause(self, int64_t until_ns) noexcept nogil
