"""In and out by AF_XDP: the rings of ext/xsk.pxd, which the XDP program fills (dhcp.io = xdp).

A reply that only the kernel's routes and neighbours can place goes by a socket.
"""

from libc.errno cimport errno as c_errno
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from ext.frames cimport HEADER_BYTES, UDP_BYTES, is_intact, neighbour_of, put_ethernet, put_ip_udp, read_headers
from ext.judge cimport local_of
from ext.latency cimport observe_halves, older_half
from ext.leases cimport prefetch_entry, prefetch_slot
from ext.loop cimport *
from ext.net cimport *
from ext.outbox cimport error_index
from ext.overload cimport wait_of
from ext.packet cimport PLAIN, URGENT, Packet, Queue, Reply
from ext.page cimport *
from ext.rfc2131 cimport CHADDR_AT, IP_UDP_BYTES
from ext.verdict cimport *
from ext.xsk cimport *


cdef enum:
    SOCKETS_EVERY = 8              # turns, while frames come in
    COUNT_NS = 1000000000          # between two questions to the kernel what XDP has lost


cdef inline bint describe_frame(Loop *loop, Port *port, Queue queue, uint32_t index, Packet *packet) noexcept nogil:
    """False, and counted: what the kernel would not have brought to a socket either."""
    cdef uint8_t *frame = frame_of(port, queue, index)
    cdef int64_t *stamp = <int64_t *>(frame - STAMP_BYTES)
    if not read_headers(frame, received(port, queue, index).len, packet):
        bump(&loop.page.by_verdict[<int>IGNORED_SHORT], 1)
        return False
    if not is_intact(frame, packet.length + UDP_BYTES):
        bump(&loop.page.by_verdict[<int>IGNORED_CHECKSUM], 1)
        return False
    packet.ifindex = port.pool.ifindex
    packet.local_be = local_of(&loop.site, packet)
    if packet.local_be == 0 and loop.site.own != NULL:
        bump(&loop.page.by_verdict[<int>IGNORED_NO_SERVER_ID], 1)
        return False
    packet.at_boot_port = False
    packet.waited_ns = 0
    if loop.waits.pressed and stamp[0] != 0:
        packet.waited_ns = wait_of(&loop.waits, loop.now_boottime_ns - stamp[0], queue == URGENT)
    stamp[0] = 0               # whoever gets the frame next may have no stamp
    return True


cdef inline void answer_frame(Loop *loop, Port *port, Queue queue, uint32_t index, uint32_t place) noexcept nogil:
    """place: of the batch, for a reply that has to go by a socket."""
    cdef const uint8_t *frame = frame_of(port, queue, index)
    cdef const uint8_t *neighbour
    cdef uint8_t *out
    cdef bint known = False
    cdef Packet packet
    cdef Reply reply
    if not describe_frame(loop, port, queue, index, &packet) or over_share(loop, &packet, queue == URGENT):
        return
    out = free_frame(port)
    reply.data = out + SENDING_AT + HEADER_BYTES if out != NULL else loop.tx[place] + IP_UDP_BYTES
    reply.capacity = TX_BYTES - IP_UDP_BYTES
    if not settle(loop, &packet, &reply):
        return
    neighbour = neighbour_of(frame, &packet, &reply, port.pool.ifindex, &known)
    if out == NULL or not known:
        queue_reply(loop, &reply)
        return
    put_ip_udp(reply.data - IP_UDP_BYTES, &reply, loop.port_be)
    put_ethernet(out + SENDING_AT, neighbour, port.pool.mac)
    post(port, out + SENDING_AT, <uint32_t>(HEADER_BYTES + reply.length))


cdef inline void send_frames(Loop *loop, Port *port) noexcept nogil:
    """What stands in the pool, then what has to go by a socket."""
    cdef uint32_t before = load_acquire32(port.sending.consumer)
    cdef uint32_t left = launch(port) if port.posted != before else 0
    bump(&loop.page.tx, port.posted - left - before)
    if left:
        bump(&loop.page.send_errors[error_index(c_errno)], left)
    send_all(loop)


cdef inline int64_t arrival_of(const Port *port, Queue queue, uint32_t number) noexcept nogil:
    """The XDP program's stamp on a frame of this batch, CLOCK_BOOTTIME; 0: its driver has no room for one."""
    return (<const int64_t *>(frame_of(port, queue, port.lane.answered[<int>queue] + number) - STAMP_BYTES))[0]


cdef inline void observe_ring(Loop *loop, const Port *port, Queue queue, uint32_t frames) noexcept nogil:
    """Before they are answered: who does that takes their stamps off."""
    cdef int64_t oldest_ns, middle_ns
    if frames == 0:
        return
    oldest_ns = arrival_of(port, queue, 0)
    middle_ns = arrival_of(port, queue, min(<uint32_t>older_half(frames), frames - 1))
    if oldest_ns != 0 and middle_ns != 0:
        observe_halves(&loop.page.waits, frames, loop.now_boottime_ns - oldest_ns, loop.now_boottime_ns - middle_ns)


cdef inline void answer_frames(Loop *loop, Port *port, uint32_t urgent, uint32_t plain) noexcept nogil:
    """The indices in the pool move on only when all replies are with the kernel."""
    cdef Lane *lane = port.lane
    cdef const uint8_t *frame
    cdef uint32_t i, posted = port.posted
    for i in range(urgent):
        prefetch_slot(&loop.site, frame_of(port, URGENT, lane.taken[1] + i) + HEADER_BYTES + CHADDR_AT)
    for i in range(plain):
        prefetch_slot(&loop.site, frame_of(port, PLAIN, lane.taken[0] + i) + HEADER_BYTES + CHADDR_AT)
    if urgent + plain > 1:
        for i in range(urgent):
            prefetch_rows(loop, frame_of(port, URGENT, lane.taken[1] + i) + HEADER_BYTES)
        for i in range(plain):
            prefetch_rows(loop, frame_of(port, PLAIN, lane.taken[0] + i) + HEADER_BYTES)
        for i in range(urgent):
            prefetch_entry(&loop.site, frame_of(port, URGENT, lane.taken[1] + i) + HEADER_BYTES + CHADDR_AT)
        for i in range(plain):
            prefetch_entry(&loop.site, frame_of(port, PLAIN, lane.taken[0] + i) + HEADER_BYTES + CHADDR_AT)
    observe_ring(loop, port, URGENT, urgent)
    observe_ring(loop, port, PLAIN, plain)
    store_release32(&lane.taken[1], lane.taken[1] + urgent)
    store_release32(&lane.taken[0], lane.taken[0] + plain)
    begin_sending(loop)
    for i in range(urgent):
        answer_frame(loop, port, URGENT, lane.answered[1] + i, i)
    for i in range(plain):
        answer_frame(loop, port, PLAIN, lane.answered[0] + i, urgent + i)
    bump(&loop.page.rx, urgent + plain)
    brake(loop, urgent + plain, urgent + plain)
    send_frames(loop, port)
    observe_answers(loop, port.posted - posted + loop.udp_out.count + loop.boot_out.count + loop.frame_out.count)
    store_release32(&lane.answered[1], lane.taken[1])
    store_release32(&lane.answered[0], lane.taken[0])
    ring(loop)


cdef inline void recover_frames(Loop *loop, Port *port) noexcept nogil:
    """As recover_batch(), of one pool."""
    cdef Lane *lane = port.lane
    cdef Packet packet
    cdef int queue
    finish_for_the_dead(port)
    for queue in range(2):
        while lane.answered[queue] != lane.taken[queue]:
            lane.recoveries += 1
            if lane.recoveries < RECOVERIES_MAX:
                begin_sending(loop)
                answer_frame(loop, port, <Queue>queue, lane.answered[queue], 0)
                send_frames(loop, port)
                bump(&loop.page.rx, 1)
                bump(&loop.page.recovered, 1)
            elif describe_frame(loop, port, <Queue>queue, lane.answered[queue], &packet):
                abandon(loop, &packet)
            store_release32(&lane.answered[queue], lane.answered[queue] + 1)
            lane.recoveries = 0


cdef inline void recover_rings(Loop *loop) noexcept nogil:
    cdef int i
    for i in range(loop.port_count):
        recover_frames(loop, &loop.ports[i])
    ring(loop)


cdef inline void count_lost(Loop *loop) noexcept nogil:
    cdef uint64_t total = 0
    cdef int i
    for i in range(loop.port_count):
        total += lost(&loop.ports[i])
    store_release(&loop.page.frames_lost, total)
    loop.counted_ns = loop.now_boottime_ns


cdef inline bint turn_rings(Loop *loop) noexcept nogil:
    """One batch of each pool.  False when nothing came, and now and then: the sockets are to be looked at."""
    cdef Port *port
    cdef uint32_t urgent, plain
    cdef int i
    loop.busy = loop.more_frames[<int>PLAIN] = loop.more_frames[<int>URGENT] = False
    for i in range(loop.port_count):
        port = &loop.ports[i]
        urgent = min(waiting(port, URGENT), <uint32_t>URGENT_SHARE)
        plain = min(waiting(port, PLAIN), <uint32_t>BATCH - urgent)
        if urgent + plain != 0:
            loop.busy = True
            loop.more_frames[<int>URGENT] |= urgent == URGENT_SHARE
            loop.more_frames[<int>PLAIN] |= urgent + plain == BATCH
            if loop.offered != NULL:
                adopt(loop)
            tick(loop)
            answer_frames(loop, port, urgent, plain)
        give_back(port)
    if loop.now_boottime_ns - loop.counted_ns > COUNT_NS:
        count_lost(loop)
    loop.turns += 1
    if not loop.busy or loop.turns % SOCKETS_EVERY == 0:
        return False
    look_at_waits(loop, loop.more_frames[<int>URGENT], loop.more_frames[<int>PLAIN])
    return True
