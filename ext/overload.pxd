"""What a worker leaves unanswered when more comes than it can answer: requests that their clients have given up, and what one
relay sends beyond its share.  While a worker keeps up, nothing of this applies.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from ext.classify cimport IPXE, IPXE_HTTP, OS, ClientClass
from ext.parse cimport Request
from ext.rfc2131 cimport DHCPREQUEST
from ext.wire cimport load32


cdef enum:
    RELAYS = 256                   # power of two: relays are told apart by a hash of giaddr
    WINDOW_NS = 50000000
    GIADDR_AT = 24
    NO_LIMIT = 0xffffffff


cdef struct Shares:                # of one worker, in this window
    int64_t window_ns              # its begin, CLOCK_BOOTTIME
    uint32_t level                 # most that one relay gets: the max-min fair share of the last window
    bint pressed
    uint32_t wanted[RELAYS]
    uint32_t given[RELAYS]
    uint32_t urgent[RELAYS]        # of those given: REQUESTs


cdef inline int64_t patience_ns(const Request *request, ClientClass client) noexcept nogil:
    """How long a client waits before it asks again, less a tenth for the answer's way.  An answer after that meets a client
    that has another request under way, which stands in our queue behind this one.

    iPXE: 1 s, and 0.25 s for REQUEST; PXE and UEFI ROMs: 4 s by the book, 3.6 s measured; of systems the least is 2 s."""
    if client == IPXE or client == IPXE_HTTP:
        return 225000000 if request.message_type == DHCPREQUEST else 900000000
    return 1800000000 if client == OS else 3200000000


cdef inline uint32_t relay_of(const uint8_t *data) noexcept nogil:
    """Index into Shares; all clients that ask without a relay count as one.  data: a receive buffer, however little of it
    was filled."""
    return (load32(data + GIADDR_AT) * <uint32_t>0x9E3779B1) >> 24


cdef inline bint is_over_share(Shares *shares, uint32_t relay, bint urgent, bint pressing) noexcept nogil:
    """Counts one datagram.  True: its relay has had its share of this window; REQUESTs count against REQUESTs alone."""
    shares.wanted[relay] += 1
    shares.pressed |= pressing
    if pressing and (shares.urgent[relay] if urgent else shares.given[relay]) >= shares.level:
        return True
    shares.given[relay] += 1
    shares.urgent[relay] += urgent
    return False


cdef inline uint32_t fair_level(const uint32_t *wanted, uint32_t capacity) noexcept nogil:
    """The most that one may have so that all together have at most `capacity` and nobody could have more without somebody
    who has less losing some: whoever wants less than an equal part leaves the rest to the others."""
    cdef uint32_t left = capacity, others = 0, level = 0, last = NO_LIMIT
    cdef int i
    for i in range(RELAYS):
        others += wanted[i] != 0
    while others != 0 and others != last:
        last = others
        level = left // others if left >= others else 1
        left, others = capacity, 0
        for i in range(RELAYS):
            if wanted[i] <= level:
                left = left - wanted[i] if left > wanted[i] else 0
            else:
                others += 1
    return level if others != 0 else <uint32_t>NO_LIMIT


cdef inline void begin_window(Shares *shares, int64_t now_ns) noexcept nogil:
    """When the last one is over: what it could answer is what this one will be able to."""
    cdef uint64_t answered = 0
    cdef int64_t took_ns = now_ns - shares.window_ns
    cdef int i, relays = 0
    if took_ns < WINDOW_NS:
        return
    for i in range(RELAYS):
        answered += shares.given[i]
        relays += shares.wanted[i] != 0
    # One relay alone takes nothing from others; and a window in which we stood still says nothing of what we can do.
    if shares.pressed and relays > 1 and took_ns < 2 * WINDOW_NS:
        shares.level = fair_level(shares.wanted, <uint32_t>(answered * WINDOW_NS // <uint64_t>took_ns))
    else:
        shares.level = NO_LIMIT
    shares.window_ns = now_ns
    shares.pressed = False
    memset(shares.wanted, 0, sizeof(shares.wanted))
    memset(shares.given, 0, sizeof(shares.given))
    memset(shares.urgent, 0, sizeof(shares.urgent))
