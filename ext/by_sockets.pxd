"""In and out by UDP sockets: recvmmsg into the page's buffers, sendmmsg; always there, whatever dhcp.io says."""

from libc.stdint cimport int64_t, uint64_t

from ext.latency cimport observe_halves, older_half
from ext.leases cimport prefetch_entry, prefetch_slot
from ext.loop cimport *
from ext.net cimport *
from ext.outbox cimport prepare_frames, prepare_udp
from ext.overload cimport wait_of
from ext.packet cimport PLAIN, URGENT, Packet, Queue, Reply
from ext.page cimport *
from ext.rfc2131 cimport CHADDR_AT, IP_UDP_BYTES


cdef enum:
    IDLE_NS = 50000000             # a quiet loop still shows its heartbeat
    BOOT_TURNS = 16                # a busy loop looks at the boot port in every 16th turn: a system call less a batch


cdef inline void wire_receive(Loop *loop) noexcept nogil:
    """Point the headers into our mapping of the page; lengths and flags stay: they tell what is unanswered."""
    cdef int i
    for i in range(BATCH):
        loop.inbox.pieces[i].iov_base = loop.page.buffers[i]
        loop.inbox.pieces[i].iov_len = RX_BYTES
        loop.inbox.headers[i].msg_hdr.msg_name = &loop.page.names[i]
        loop.inbox.headers[i].msg_hdr.msg_iov = &loop.inbox.pieces[i]
        loop.inbox.headers[i].msg_hdr.msg_iovlen = 1
        loop.inbox.headers[i].msg_hdr.msg_control = loop.page.control[i]


cdef inline void open_sockets(Loop *loop) noexcept nogil:
    """Its descriptors, page and inbox are set.  Without a boot port its place among the ends is skipped: -1."""
    loop.boot_turns = BOOT_TURNS
    wire_receive(loop)
    prepare_udp(&loop.udp_out)
    prepare_udp(&loop.boot_out)
    prepare_frames(&loop.frame_out)
    loop.stamps.rested = True
    stamp(loop, True)              # whether the last worker of this slot left them on or not
    wait_for(loop, loop.wake_fd)
    wait_for(loop, loop.boot_fd)
    wait_for(loop, loop.udp_fd)
    wait_for(loop, loop.urgent_fd)


cdef inline int receive_boot(Loop *loop) noexcept nogil:
    """Into the batch's first places.  The mark is in the page before the first datagram is: whoever recovers the
    batch never takes one for a datagram of the other port."""
    cdef int count = 0
    loop.boot_turns = BOOT_TURNS
    if loop.boot_fd >= 0:
        store_release(&loop.page.boot_count, BOOT_SHARE)
        count = max(0, recvmmsg(loop.boot_fd, loop.inbox.headers, BOOT_SHARE, MSG_DONTWAIT, NULL))
        store_release(&loop.page.boot_count, count)
    return count


cdef inline void describe_datagram(Loop *loop, int i, Packet *packet) noexcept nogil:
    cdef msghdr *header = &loop.inbox.headers[i].msg_hdr
    cdef cmsghdr *cmsg = CMSG_FIRSTHDR(header)
    cdef in_pktinfo *info
    cdef timespec *stamp
    cdef int64_t waited_ns
    packet.data = loop.page.buffers[i]
    packet.length = loop.inbox.headers[i].msg_len
    packet.truncated = (header.msg_flags & MSG_TRUNC) != 0
    packet.source_be = loop.page.names[i].sin_addr.s_addr
    packet.source_port_be = loop.page.names[i].sin_port
    packet.ifindex = packet.destination_be = packet.local_be = 0
    packet.waited_ns = 0
    packet.at_boot_port = <uint64_t>i < loop.page.boot_count
    while cmsg != NULL:
        if cmsg.cmsg_level == IPPROTO_IP and cmsg.cmsg_type == IP_PKTINFO:
            info = <in_pktinfo *>CMSG_DATA(cmsg)
            packet.ifindex = info.ipi_ifindex
            packet.destination_be = info.ipi_addr.s_addr
            packet.local_be = info.ipi_spec_dst.s_addr
        elif loop.now_realtime_ns != 0 and cmsg.cmsg_level == SOL_SOCKET and cmsg.cmsg_type == SCM_TIMESTAMPNS:
            stamp = <timespec *>CMSG_DATA(cmsg)
            waited_ns = loop.now_realtime_ns - (<int64_t>stamp.tv_sec * 1000000000 + stamp.tv_nsec)
            packet.waited_ns = wait_of(&loop.waits, waited_ns, i < loop.urgent_count)
        cmsg = CMSG_NXTHDR(header, cmsg)


cdef inline int64_t since_stamp(Loop *loop, int i, int64_t realtime_ns) noexcept nogil:
    """Of a datagram that came while stamps were on; of one without a stamp, since 1970."""
    cdef msghdr *header = &loop.inbox.headers[i].msg_hdr
    cdef cmsghdr *cmsg = CMSG_FIRSTHDR(header)
    cdef timespec *stamp
    while cmsg != NULL:
        if cmsg.cmsg_level == SOL_SOCKET and cmsg.cmsg_type == SCM_TIMESTAMPNS:
            stamp = <timespec *>CMSG_DATA(cmsg)
            return realtime_ns - (<int64_t>stamp.tv_sec * 1000000000 + stamp.tv_nsec)
        cmsg = CMSG_NXTHDR(header, cmsg)
    return realtime_ns


cdef inline void observe_queue(Loop *loop, int first, int end, Queue queue, bint emptied) noexcept nogil:
    """What was just taken from one queue.  It cannot have come before we last saw the queue's end, whatever its stamps
    say: clocks are set.  Without stamps that is all we know."""
    cdef int64_t seen_ns = loop.stamps.end_ns[<int>queue]
    cdef int64_t most_ns = loop.now_boottime_ns - seen_ns
    cdef int64_t now_ns, oldest_ns, middle_ns
    if emptied:
        loop.stamps.end_ns[<int>queue] = loop.now_boottime_ns
    if end <= first:
        return
    if loop.stamps.on:
        now_ns = clock_ns(CLOCK_REALTIME)
        oldest_ns = since_stamp(loop, first, now_ns)
        middle_ns = since_stamp(loop, min(first + older_half(end - first), end - 1), now_ns)
        observe_halves(&loop.page.waits, end - first, min(oldest_ns, most_ns), min(middle_ns, most_ns))
    elif seen_ns != 0:
        observe_halves(&loop.page.waits, end - first, most_ns, most_ns // 2 if emptied else most_ns)


cdef inline void answer_one(Loop *loop, int i) noexcept nogil:
    cdef Packet packet
    cdef Reply reply
    describe_datagram(loop, i, &packet)
    if over_share(loop, &packet, i < loop.urgent_count):
        return
    reply.data = loop.tx[i] + IP_UDP_BYTES
    reply.capacity = TX_BYTES - IP_UDP_BYTES
    if settle(loop, &packet, &reply):
        queue_reply(loop, &reply)


cdef inline void answer_batch(Loop *loop) noexcept nogil:
    """Everything with a length; the lengths go back to 0 only when all replies are with the kernel."""
    cdef int i
    cdef uint64_t received = 0
    for i in range(BATCH):
        if loop.inbox.headers[i].msg_len == 0:
            continue
        received += 1
        prefetch_slot(&loop.site, loop.page.buffers[i] + CHADDR_AT)
    if received > 1:
        for i in range(BATCH):
            if loop.inbox.headers[i].msg_len != 0:
                prefetch_rows(loop, loop.page.buffers[i])
        for i in range(BATCH):
            if loop.inbox.headers[i].msg_len != 0:
                prefetch_entry(&loop.site, loop.page.buffers[i] + CHADDR_AT)
    begin_sending(loop)
    for i in range(BATCH):
        if loop.inbox.headers[i].msg_len != 0:
            answer_one(loop, i)
    bump(&loop.page.rx, received)
    brake(loop, loop.udp_out.count + loop.frame_out.count, received)
    send_all(loop)
    observe_answers(loop, loop.udp_out.count + loop.boot_out.count + loop.frame_out.count)
    for i in range(BATCH):
        loop.inbox.headers[i].msg_len = 0
    loop.page.boot_count = 0
    ring(loop)


cdef inline void recover_batch(Loop *loop) noexcept nogil:
    """Answer what a dead worker had received; answers are idempotent.  One by one: if one of them is what killed it,
    the others do not go with it, and that one is given up when it has ended RECOVERIES_MAX workers."""
    cdef Packet packet
    cdef int i
    for i in range(BATCH):
        if loop.inbox.headers[i].msg_len == 0:
            continue
        loop.page.recoveries += 1
        if loop.page.recoveries < RECOVERIES_MAX:
            begin_sending(loop)
            answer_one(loop, i)
            send_all(loop)
            bump(&loop.page.rx, 1)
            bump(&loop.page.recovered, 1)
        else:
            describe_datagram(loop, i, &packet)
            abandon(loop, &packet)
        loop.inbox.headers[i].msg_len = 0
        loop.page.recoveries = 0
    loop.page.boot_count = 0
    ring(loop)


cdef inline bint turn_sockets(Loop *loop) noexcept nogil:
    """One batch; where nothing came on any way, sleep until something does."""
    cdef int i, count, boot = 0
    cdef uint64_t news
    if loop.offered != NULL:
        adopt(loop)
    for i in range(BATCH):
        loop.inbox.headers[i].msg_hdr.msg_namelen = sizeof(sockaddr_in)
        loop.inbox.headers[i].msg_hdr.msg_controllen = CONTROL_BYTES
    loop.boot_turns -= 1
    if loop.boot_turns <= 0:
        boot = receive_boot(loop)
    count = boot + max(0, recvmmsg(loop.urgent_fd, loop.inbox.headers + boot, URGENT_SHARE, MSG_DONTWAIT, NULL))
    loop.urgent_count = count
    count += max(0, recvmmsg(loop.udp_fd, loop.inbox.headers + count, BATCH - count, MSG_DONTWAIT, NULL))
    tick(loop)
    observe_queue(loop, boot, loop.urgent_count, URGENT, loop.urgent_count - boot < URGENT_SHARE)
    observe_queue(loop, loop.urgent_count, count, PLAIN, count < BATCH)
    look_at_waits(loop, loop.urgent_count - boot == URGENT_SHARE or (loop.busy and loop.more_frames[<int>URGENT]),
                  count == BATCH or (loop.busy and loop.more_frames[<int>PLAIN]))
    if count > 0:
        answer_batch(loop)
        return True
    if loop.busy:                  # no rest while frames keep coming
        return True
    loop.stamps.rested = True
    if not loop.stamps.on:         # what wakes us is to have one
        stamp(loop, True)
    pause_until(loop.ends, loop.wait_count, IDLE_NS)
    if loop.ends[1].revents:
        loop.boot_turns = 0
    if loop.ends[0].revents:
        eventfd_read(loop.wake_fd, &news)
    return True
