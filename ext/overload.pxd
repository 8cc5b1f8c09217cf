"""What a worker leaves unanswered when more comes than it can answer: requests that their clients have given up, and what one
relay sends beyond its share.  Both go by how long datagrams wait; while waits are short nobody is refused.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t
from libc.string cimport memcpy, memset

from ext.classify cimport IPXE, IPXE_HTTP, OS
from ext.packet cimport PLAIN, QUEUES, URGENT
from ext.request cimport Request
from ext.rfc2131 cimport DHCPREQUEST, GIADDR_AT
from ext.wire cimport load32


cdef enum:
    RELAYS = 1024                  # power of two: relays are told apart by a hash of giaddr
    RELAYS_SHIFT = 22              # 32 less its bits
    WINDOW_NS = 50000000
    SALT_WINDOWS = 20
    STORM_NS = 2000000000          # for so long a long queue may be a storm, which ends: then it is better waited than refused
    STORM_SLACK = 8                # datagrams a window, for relays of few
    LEFT_OVER = 4                  # windows' shares that are kept for a relay
    NO_LIMIT = 0xffffffff
    PRESSING_NS = 75000000         # a third of the shortest patience: from this wait on, shares apply
    DRAIN_NS = 1000000000          # in about so long, waits that are too long have got shorter
    DRAIN_MOST = 10                # per cent of the capacity that are held back for it
    LOAD_MAX = 8
    KEPT = 90                      # per cent of an estimate that a worse window leaves of it
    NEWS = 25                      # per cent of a new estimate in a smoothed one
    WORRY_NS = 20000000            # no end of the queue seen for so long: what each datagram waited is looked at
    TURN_MAX_NS = 20000000         # a longer turn of the loop means that we stood still
    CALM_NS = 1000000000           # without worry for so long: not any more


cdef struct Waits:                 # of one worker
    int64_t turn_ns                # the last turn of the loop, CLOCK_BOOTTIME; 0 before the first
    int64_t worried_ns             # when a queue was last without an end for WORRY_NS
    bint pressed                   # worried of late: what each datagram waited is looked at, by its stamp
    int64_t busy_ns[QUEUES]        # for which we have taken from it and not reached its end; standing still left out
    int64_t longest_ns[QUEUES]     # that what was taken in this turn can have waited


cdef struct Shares:                # of one worker, in this window
    int64_t window_ns              # its begin, CLOCK_BOOTTIME
    uint32_t level                 # most that one relay gets: the max-min fair share of the last window
    uint32_t salt                  # of the hash, another after SALT_WINDOWS: no relay meets the same others all the time
    uint32_t windows               # since then
    uint32_t answered
    int64_t long_ns                # since when waits have been long; 0: they are not
    int64_t waited_ns[QUEUES]      # the longest wait seen, by queue
    int64_t waited_before_ns[QUEUES]   # the same of the last window
    double capacity                # answers of a window, by the best of the last ones
    double load                    # how many times as many come as are taken out, smoothed
    int64_t lately_ns[QUEUES]      # how long what was taken last had waited
    uint32_t wanted[RELAYS]
    int32_t given[RELAYS]          # less than 0: left over of earlier windows, for those who do not ask evenly
    int32_t urgent[RELAYS]         # of those given: REQUESTs


cdef inline int64_t patience_ns(const Request *request) noexcept nogil:
    """How long a client waits before it asks again, less a tenth for the answer's way.  An answer after that meets a client
    that has another request under way, which stands in our queue behind this one.

    iPXE: 1 s, and 0.25 s for REQUEST; PXE and UEFI ROMs: 4 s by the book, 3.6 s measured; of systems the least is 2 s."""
    if request.client_class == IPXE or request.client_class == IPXE_HTTP:
        return 225000000 if request.message_type == DHCPREQUEST else 900000000
    return 1800000000 if request.client_class == OS else 3200000000


cdef inline void note_turn(Waits *waits, int64_t now_ns, bint more_urgent, bint more_plain) noexcept nogil:
    """After receiving.  more: a queue gave all that it was asked for, so its end was not seen.

    Whatever its stamp says, a datagram that we could have reached has not waited longer than we have worked without reaching
    the end of its queue.  So neither a queue that grew while a worker was replaced or stood still nor a step of the clock
    counts as overload."""
    cdef int64_t took_ns = now_ns - waits.turn_ns if waits.turn_ns != 0 else 0
    cdef bint more[QUEUES]
    cdef int queue
    cdef bint worried = False
    waits.turn_ns = now_ns
    more[<int>PLAIN], more[<int>URGENT] = more_plain, more_urgent
    for queue in range(QUEUES):
        waits.longest_ns[queue] = waits.busy_ns[queue] + min(took_ns, <int64_t>TURN_MAX_NS)
        waits.busy_ns[queue] = waits.longest_ns[queue] if more[queue] else 0
        worried |= waits.busy_ns[queue] > WORRY_NS
    if worried:
        waits.worried_ns = now_ns
    if worried or now_ns - waits.worried_ns > CALM_NS:
        waits.pressed = worried


cdef inline int64_t wait_of(const Waits *waits, int64_t since_stamp_ns, bint urgent) noexcept nogil:
    """Of a datagram of this turn, by its stamp; one that has none is taken for new."""
    return max(0, min(since_stamp_ns, waits.longest_ns[<int>URGENT if urgent else <int>PLAIN]))


cdef inline uint32_t relay_of(const Shares *shares, const uint8_t *data, uint32_t ifindex) noexcept nogil:
    """Index into Shares; all clients of an interface that ask without a relay count as one: who floods can make up MACs.
    data: a receive buffer, however little of it was filled."""
    cdef uint32_t giaddr = load32(data + GIADDR_AT)
    return (((giaddr if giaddr != 0 else ifindex) ^ shares.salt) * <uint32_t>0x9E3779B1) >> RELAYS_SHIFT


cdef inline bint is_over_share(Shares *shares, uint32_t relay, bint urgent, int64_t waited_ns) noexcept nogil:
    """Counts one datagram.  True: what we take out has waited long, and its relay has had its share of this window; REQUESTs
    count against REQUESTs alone.  Long in one queue is long: who floods with REQUESTs keeps everybody's DISCOVERs waiting."""
    cdef int queue = <int>URGENT if urgent else <int>PLAIN
    shares.wanted[relay] += 1
    shares.lately_ns[queue] = waited_ns
    shares.waited_ns[queue] = max(shares.waited_ns[queue], waited_ns)
    if (max(shares.lately_ns[<int>PLAIN], shares.lately_ns[<int>URGENT]) > PRESSING_NS
            and (shares.urgent[relay] if urgent else shares.given[relay]) >= <int64_t>shares.level):
        return True
    shares.answered += 1
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


cdef inline uint32_t median(const uint32_t *wanted) noexcept nogil:
    """Of those that want something: the least that half of them do not exceed."""
    cdef uint32_t low = 0, high = NO_LIMIT, middle, within, relays = 0
    cdef int i
    for i in range(RELAYS):
        relays += wanted[i] != 0
    while low < high:
        middle = low + (high - low) // 2
        within = 0
        for i in range(RELAYS):
            within += wanted[i] != 0 and wanted[i] <= middle
        if 2 * within >= relays:
            high = middle
        else:
            low = middle + 1
    return low


cdef inline double load_factor(const Shares *shares, int64_t took_ns) noexcept nogil:
    """How many times as many came as were taken out: while a wait grows by d, what came in took - d was taken in took."""
    cdef int64_t grown_ns = 0
    cdef int queue
    for queue in range(QUEUES):
        if shares.waited_before_ns[queue] != 0:
            grown_ns = max(grown_ns, shares.waited_ns[queue] - shares.waited_before_ns[queue])
    return <double>took_ns / max(took_ns - grown_ns, took_ns / LOAD_MAX)


cdef inline uint32_t next_level(Shares *shares, int64_t now_ns, int64_t took_ns) noexcept nogil:
    """What each relay gets in the next window.  The last one could answer so many, less something while waits are long, or they
    would stay so; and wanted are not those alone that we came to take out.

    While it may be a storm, in which all want much alike, only who wants far more than most is held to a share: to refuse
    what the clients have the patience for would help nobody."""
    cdef int64_t waited_ns = max(shares.waited_ns[<int>PLAIN], shares.waited_ns[<int>URGENT])
    cdef double room, load
    cdef uint32_t level, usual
    cdef int i, relays = 0
    for i in range(RELAYS):
        relays += shares.wanted[i] != 0
    # A window in which little was left to answer says nothing of what we can do.
    shares.capacity = max(<double>shares.answered * WINDOW_NS / took_ns, shares.capacity * KEPT / 100)
    if waited_ns <= PRESSING_NS or relays < 2:     # one relay alone takes nothing from others
        shares.load, shares.long_ns = 1, 0
        return NO_LIMIT
    if shares.long_ns == 0:
        shares.long_ns = now_ns
    usual = median(shares.wanted)
    load = load_factor(shares, took_ns)
    shares.load = max(load, shares.load + (load - shares.load) * NEWS / 100)
    for i in range(RELAYS):
        shares.wanted[i] = <uint32_t>(shares.wanted[i] * shares.load)
    room = 1 - min(<double>(waited_ns - PRESSING_NS) / DRAIN_NS, <double>DRAIN_MOST / 100)
    level = fair_level(shares.wanted, <uint32_t>(shares.capacity * room))
    return max(level, 2 * usual + STORM_SLACK) if now_ns - shares.long_ns < STORM_NS else level


cdef inline void carry_over(Shares *shares) noexcept nogil:
    """Into the next window: what a relay left over of its share, and at most one share that it has had too much."""
    cdef int32_t level = <int32_t>min(shares.level, <uint32_t>1000000)
    cdef int i
    shares.windows += 1
    if shares.level == NO_LIMIT or shares.windows >= SALT_WINDOWS:
        shares.windows = 0
        shares.salt = shares.salt * 1664525 + 1013904223
        memset(shares.given, 0, sizeof(shares.given))
        memset(shares.urgent, 0, sizeof(shares.urgent))
        return
    for i in range(RELAYS):
        shares.given[i] = min(max(shares.given[i] - level, -LEFT_OVER * level), level)
        shares.urgent[i] = min(max(shares.urgent[i] - level, -LEFT_OVER * level), level)


cdef inline void share_out(Shares *shares, const Waits *waits, int64_t now_ns) noexcept nogil:
    """After note_turn().  When a window is over: what it could answer is what the next one will be able to."""
    cdef int64_t took_ns = now_ns - shares.window_ns
    cdef int queue
    for queue in range(QUEUES):
        if waits.longest_ns[queue] <= PRESSING_NS:
            shares.lately_ns[queue] = 0
    if took_ns < WINDOW_NS:
        return
    shares.level = next_level(shares, now_ns, took_ns)
    shares.window_ns = now_ns
    shares.answered = 0
    carry_over(shares)
    memcpy(shares.waited_before_ns, shares.waited_ns, sizeof(shares.waited_ns))
    memset(shares.waited_ns, 0, sizeof(shares.waited_ns))
    memset(shares.wanted, 0, sizeof(shares.wanted))
