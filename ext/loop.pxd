"""One worker's loop: what it works with, and what every way in and out shares: one account of each datagram.

A way (ext/by_sockets.pxd, ext/by_xdp.pxd) receives, has each datagram settled here, and sends.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

from ext.answer cimport answer
from ext.judge cimport Decision
from ext.leases cimport Site, prefetch_lease
from ext.latency cimport Stamps, are_wanted, observe
from ext.ledger cimport Book, enter
from ext.net cimport *
from ext.outbox cimport Outbox, queue_frame, queue_udp, send
from ext.overload cimport Shares, Waits, is_over_share, note_turn, relay_of, share_out
from ext.packet cimport ROUTE_UDP, Packet, Reply
from ext.page cimport *
from ext.record cimport record
from ext.request cimport Request
from ext.rfc2131 cimport CHADDR_AT, Bootp
from ext.sightings cimport Notebook, may_record, note, prefetch_known, sight
from ext.verdict cimport *
from ext.xsk cimport POOLS_MAX, Port


cdef enum:
    TX_BYTES = 1536
    BRAKE_DEBT_NS = 50000000       # of a bench's brake: delays that are made up for


cdef struct Loop:
    Page *page
    Inbox *inbox
    SitePage *site_page
    Book book
    int udp_fd, urgent_fd, boot_fd, packet_fd, wake_fd, swapped_fd, adopted_fd, bell_fd
    uint16_t port_be, boot_port_be
    bint observing                 # decide and record everything, send nothing
    int stopping
    Site site
    void *offered                  # Site *, from the helper thread to the loop
    int behind                     # the newest pair could not be adopted: what is confirmed is not what we have
    int64_t now_boottime_ns
    int64_t now_realtime_ns        # 0 while nobody looks at waits one by one
    Notebook notebook
    bint asleep                    # control may be, and something was told to it
    Shares shares
    Waits waits
    Stamps stamps
    int64_t brake_answer_ns, brake_other_ns, braked_ns
    Outbox udp_out, frame_out, boot_out
    uint8_t tx[BATCH][TX_BYTES]
    pollfd ends[4 + 2 * POOLS_MAX]  # what the loop sleeps on: its own bell, the boot port, all queues
    int wait_count
    # of ext/by_sockets.pxd
    int boot_turns                 # until the boot port is looked at next
    int urgent_count               # of the batch: its first ones are REQUESTs
    # of ext/by_xdp.pxd
    Port ports[POOLS_MAX]          # none of these where dhcp.io is socket
    int port_count
    bint busy                      # frames came in the last turn
    bint more_frames[2]            # then: more waited than was taken, by Queue
    uint32_t turns
    int64_t counted_ns


cdef struct Way:                   # in and out
    bint (*turn)(Loop *loop) noexcept nogil          # True: it worked; the ways behind it need not be looked at now
    void (*recover)(Loop *loop) noexcept nogil       # what the last worker of this slot received and did not finish


cdef inline void wait_for(Loop *loop, int fd) noexcept nogil:
    loop.ends[loop.wait_count].fd = fd
    loop.ends[loop.wait_count].events = POLLIN
    loop.wait_count += 1


cdef inline void look_at_age(Loop *loop) noexcept nogil:
    """The word in the site page is about the pair that control published last and that every worker had adopted."""
    if load_acquire_int(&loop.behind):
        loop.site.age_s = <int64_t>1 << 62                   # unknown
    else:
        loop.site.age_s = loop.now_boottime_ns // 1000000000 - loop.site_page.confirmed_boottime_s


cdef inline void tick(Loop *loop) noexcept nogil:
    loop.now_boottime_ns = clock_ns(CLOCK_BOOTTIME)
    if loop.book.head != NULL:
        loop.book.now_s = <uint32_t>(loop.now_boottime_ns // 1000000000 + loop.book.head.epoch_s)
    look_at_age(loop)
    store_release(&loop.page.heartbeat_ns, clock_ns(CLOCK_MONOTONIC))


cdef inline void adopt(Loop *loop) noexcept nogil:
    """Between two batches: swap in what the helper offers, and show it in the page (the acknowledgement)."""
    cdef Site *site = <Site *>exchange(&loop.offered, NULL)
    if site != NULL:
        loop.site = site[0]
        look_at_age(loop)     # the pair comes without one, and whoever adopts may answer before the next tick
    if loop.site.own != NULL and loop.page.generation != loop.site.own.generation:
        store_release(&loop.page.generation, loop.site.own.generation)
        eventfd_write(loop.adopted_fd, 1)
    if site != NULL:
        eventfd_write(loop.swapped_fd, 1)


cdef inline void stamp(Loop *loop, int on) noexcept nogil:
    """Whether the next datagrams that are taken out bring their stamps along."""
    cdef int failed = setsockopt(loop.udp_fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof(on))
    failed |= setsockopt(loop.urgent_fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof(on))
    loop.stamps.on = on and not failed


cdef inline void look_at_waits(Loop *loop, bint more_urgent, bint more_plain) noexcept nogil:
    """After receiving: do we reach the end of the queues?  What each datagram waited counts only while we do not."""
    cdef bint wanted
    note_turn(&loop.waits, loop.now_boottime_ns, more_urgent, more_plain)
    wanted = are_wanted(&loop.stamps, loop.waits.pressed, loop.now_boottime_ns)
    if wanted != loop.stamps.on:
        stamp(loop, wanted)
    share_out(&loop.shares, &loop.waits, loop.now_boottime_ns)
    loop.now_realtime_ns = clock_ns(CLOCK_REALTIME) if loop.waits.pressed else 0


cdef inline void prefetch_rows(Loop *loop, const uint8_t *data) noexcept nogil:
    prefetch_lease(&loop.site, data + CHADDR_AT)
    prefetch_known(&loop.notebook, data + CHADDR_AT)


cdef inline bint over_share(Loop *loop, const Packet *packet, bint urgent) noexcept nogil:
    cdef uint32_t relay = relay_of(&loop.shares, packet.data, packet.ifindex)
    if is_over_share(&loop.shares, relay, urgent, packet.waited_ns):
        bump(&loop.page.by_verdict[<int>IGNORED_SHARE], 1)
        return True
    return False


cdef inline bint settle(Loop *loop, const Packet *packet, Reply *reply) noexcept nogil:
    """Decide, count, record and tell, whichever way the request came; True: the reply is to be sent."""
    cdef Request request
    cdef Decision decision
    cdef Verdict verdict = answer(&loop.site, packet, &request, &decision, reply)
    bump(&loop.page.by_verdict[<int>verdict], 1)
    if loop.book.head != NULL:
        enter(&loop.book, decision.host.lease, &request, verdict)
    if is_of_stranger(verdict) and not may_record(&loop.notebook, loop.now_boottime_ns):
        bump(&loop.page.records_left_out, 1)
    else:
        record(loop.page.records, loop.page.records_written, loop.now_boottime_ns, packet, verdict, reply,
               not loop.observing)
        bump(&loop.page.records_written, 1)
    if is_event(verdict):
        loop.asleep |= note(loop.page, &loop.notebook, loop.now_boottime_ns, &loop.site, packet, &request, verdict)
    elif verdict == ACKED:
        loop.asleep |= sight(loop.page, &loop.notebook, loop.now_boottime_ns, packet, &request, &decision)
    return is_answer(verdict) and not loop.observing


cdef inline void abandon(Loop *loop, const Packet *packet) noexcept nogil:
    """Count and report without looking at more than the fixed header."""
    cdef Request request
    bump(&loop.page.by_verdict[<int>ABANDONED], 1)
    memset(&request, 0, sizeof(request))
    if packet.length >= sizeof(Bootp):
        request.bootp = <const Bootp *>packet.data
        loop.asleep |= note(loop.page, &loop.notebook, loop.now_boottime_ns, &loop.site, packet, &request, ABANDONED)


cdef inline void brake(Loop *loop, uint64_t answered, uint64_t received) noexcept nogil:
    """A bench's: sleep until a worker that takes so long for each would be done, on an absolute schedule, so that a
    busy machine changes little about its capacity."""
    cdef int64_t now, cost
    if loop.brake_answer_ns == 0 and loop.brake_other_ns == 0:
        return
    now = clock_ns(CLOCK_MONOTONIC)
    cost = <int64_t>answered * loop.brake_answer_ns + <int64_t>(received - answered) * loop.brake_other_ns
    loop.braked_ns = max(loop.braked_ns, now - BRAKE_DEBT_NS) + cost
    if loop.braked_ns > now:
        pause_until(NULL, 0, loop.braked_ns - now)


cdef inline void begin_sending(Loop *loop) noexcept nogil:
    loop.udp_out.count = loop.frame_out.count = loop.boot_out.count = 0


cdef inline void queue_reply(Loop *loop, const Reply *reply) noexcept nogil:
    if reply.route == ROUTE_UDP:
        queue_udp(&loop.boot_out if reply.from_boot_port else &loop.udp_out, reply)
    else:
        queue_frame(&loop.frame_out, reply, loop.boot_port_be if reply.from_boot_port else loop.port_be)


cdef inline void send_all(Loop *loop) noexcept nogil:
    send(&loop.udp_out, loop.udp_fd, loop.page)
    send(&loop.boot_out, loop.boot_fd, loop.page)
    send(&loop.frame_out, loop.packet_fd, loop.page)


cdef inline void observe_answers(Loop *loop, unsigned int replies) noexcept nogil:
    """After they were given to the kernel."""
    if replies != 0:
        observe(&loop.page.answers, clock_ns(CLOCK_BOOTTIME) - loop.now_boottime_ns, replies)


cdef inline void ring(Loop *loop) noexcept nogil:
    """After the replies have left: waking control once a batch, not once an event, and clients come first."""
    if loop.asleep:
        loop.asleep = False
        eventfd_write(loop.bell_fd, 1)
