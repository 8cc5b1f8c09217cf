"""Replies on their way out by sockets: filled in one by one, given to the kernel by one sendmmsg, never waited for."""

from libc.errno cimport errno as c_errno
from libc.stdint cimport uint8_t, uint16_t
from libc.string cimport memcpy, memset

from ext.frames cimport put_ip_udp
from ext.net cimport *
from ext.packet cimport ROUTE_FRAME, Reply
from ext.page cimport BATCH, CONTROL_BYTES, Page
from ext.rfc2131 cimport IP_UDP_BYTES
from ext.wire cimport swap16


cdef struct Outbox:                # one sendmmsg: the kernel's UDP socket, or frames by the packet socket
    mmsghdr headers[BATCH]
    iovec pieces[BATCH]
    sockaddr_in names[BATCH]
    sockaddr_ll frame_names[BATCH]
    uint8_t control[BATCH][CONTROL_BYTES]
    unsigned int count


cdef inline int error_index(int error) noexcept nogil:
    """Index into ext.page.SEND_ERROR_NAMES."""
    cdef int i
    cdef int[12] known
    known[:] = [EAGAIN, ENOBUFS, ENETUNREACH, EHOSTUNREACH, EACCES, EPERM, EINVAL, ENETDOWN, ENODEV, ENXIO, EMSGSIZE,
                ECONNREFUSED]
    for i in range(12):
        if known[i] == error:
            return i
    return 12


cdef inline void prepare_udp(Outbox *udp) noexcept nogil:
    """What stays the same in every message."""
    cdef int i
    cdef msghdr *header
    cdef cmsghdr *cmsg
    for i in range(BATCH):
        header = &udp.headers[i].msg_hdr
        udp.names[i].sin_family = AF_INET
        header.msg_name = &udp.names[i]
        header.msg_namelen = sizeof(sockaddr_in)
        header.msg_iov = &udp.pieces[i]
        header.msg_iovlen = 1
        header.msg_control = udp.control[i]
        header.msg_controllen = CMSG_SPACE(sizeof(in_pktinfo))
        cmsg = CMSG_FIRSTHDR(header)
        cmsg.cmsg_level = IPPROTO_IP
        cmsg.cmsg_type = IP_PKTINFO
        cmsg.cmsg_len = CMSG_LEN(sizeof(in_pktinfo))


cdef inline void prepare_frames(Outbox *frames) noexcept nogil:
    cdef int i
    cdef msghdr *header
    for i in range(BATCH):
        header = &frames.headers[i].msg_hdr
        frames.frame_names[i].sll_family = AF_PACKET
        frames.frame_names[i].sll_protocol = swap16(ETH_P_IP)
        frames.frame_names[i].sll_halen = 6
        header.msg_name = &frames.frame_names[i]
        header.msg_namelen = sizeof(sockaddr_ll)
        header.msg_iov = &frames.pieces[i]
        header.msg_iovlen = 1


cdef inline void queue_udp(Outbox *box, const Reply *reply) noexcept nogil:
    cdef unsigned int at = box.count
    cdef in_pktinfo *info = <in_pktinfo *>CMSG_DATA(CMSG_FIRSTHDR(&box.headers[at].msg_hdr))
    info.ipi_ifindex = 0           # the route decides; only the source is ours to say
    info.ipi_spec_dst.s_addr = reply.source_be
    box.names[at].sin_addr.s_addr = reply.destination_be
    box.names[at].sin_port = reply.port_be
    box.pieces[at].iov_base = reply.data
    box.pieces[at].iov_len = reply.length
    box.count = at + 1


cdef inline void queue_frame(Outbox *box, const Reply *reply, uint16_t port_be) noexcept nogil:
    cdef unsigned int at = box.count
    put_ip_udp(reply.data - IP_UDP_BYTES, reply, port_be)
    box.frame_names[at].sll_ifindex = reply.ifindex
    if reply.route == ROUTE_FRAME:
        memcpy(box.frame_names[at].sll_addr, reply.mac, 6)
    else:
        memset(box.frame_names[at].sll_addr, 0xff, 6)
    box.pieces[at].iov_base = reply.data - IP_UDP_BYTES
    box.pieces[at].iov_len = IP_UDP_BYTES + reply.length
    box.count = at + 1


cdef inline void send(Outbox *box, int fd, Page *page) noexcept nogil:
    """Never waits: a reply that the kernel does not take at once, nor when asked again, is counted and skipped."""
    cdef unsigned int at = 0
    cdef int sent
    cdef bint again = False
    while at < box.count:
        sent = sendmmsg(fd, box.headers + at, box.count - at, MSG_DONTWAIT)
        if sent > 0:
            bump(&page.tx, sent)
            at += sent
            again = True       # a short count hides the error of the next one: the coming call is its second try
        elif c_errno != EINTR:
            if again:
                bump(&page.send_errors[error_index(c_errno)], 1)
                at += 1
            again = not again
