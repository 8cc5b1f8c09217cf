"""The machine's own limit: a server that thinks nothing and sends every request back as a reply.

Full: what a worker has around its thinking (reuseport group, steering programs, IP_PKTINFO in and out, a destination a
reply, batches of 64).  Bare: one peer, no options.  A figure of a server stands beside these two.
"""

cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from ext.net cimport *
from ext.rfc2131 cimport BOOTREPLY, Bootp
from ext.wire cimport swap16

cdef enum:
    BATCH = 64
    BYTES = 1536
    CONTROL = 128
    IDLE_NS = 50000000


@cython.final
cdef class Echo:
    """Answers on a bound UDP socket (bare: a connected one) until stop().  reply_bytes: size of a reply."""
    cdef int fd, stopping
    cdef bint bare
    cdef unsigned int reply_bytes
    cdef uint64_t replies, refused
    cdef mmsghdr in_headers[BATCH]
    cdef mmsghdr out_headers[BATCH]
    cdef iovec in_pieces[BATCH]
    cdef iovec out_pieces[BATCH]
    cdef sockaddr_in names[BATCH]
    cdef sockaddr_in targets[BATCH]
    cdef uint8_t in_control[BATCH][CONTROL]
    cdef uint8_t out_control[BATCH][CONTROL]
    cdef uint8_t in_data[BATCH][BYTES]
    cdef uint8_t out_data[BATCH][BYTES]

    def __cinit__(self, int fd, *, bint bare, unsigned int reply_bytes=300, int relay_port=67):
        cdef int i
        cdef cmsghdr *cmsg
        if not sizeof(Bootp) <= reply_bytes <= BYTES:
            raise ValueError(f"replies of {reply_bytes} bytes, wanted {sizeof(Bootp)} to {BYTES}")
        self.fd, self.bare, self.reply_bytes = fd, bare, reply_bytes
        for i in range(BATCH):
            self.in_pieces[i].iov_base, self.in_pieces[i].iov_len = self.in_data[i], BYTES
            self.out_pieces[i].iov_base, self.out_pieces[i].iov_len = self.out_data[i], reply_bytes
            self.in_headers[i].msg_hdr.msg_iov, self.in_headers[i].msg_hdr.msg_iovlen = &self.in_pieces[i], 1
            self.out_headers[i].msg_hdr.msg_iov, self.out_headers[i].msg_hdr.msg_iovlen = &self.out_pieces[i], 1
            if bare:
                continue
            self.in_headers[i].msg_hdr.msg_name = &self.names[i]
            self.in_headers[i].msg_hdr.msg_control = self.in_control[i]
            self.targets[i].sin_family, self.targets[i].sin_port = AF_INET, swap16(relay_port)
            self.out_headers[i].msg_hdr.msg_name = &self.targets[i]
            self.out_headers[i].msg_hdr.msg_namelen = sizeof(sockaddr_in)
            self.out_headers[i].msg_hdr.msg_control = self.out_control[i]
            self.out_headers[i].msg_hdr.msg_controllen = CMSG_SPACE(sizeof(in_pktinfo))
            cmsg = CMSG_FIRSTHDR(&self.out_headers[i].msg_hdr)
            cmsg.cmsg_level, cmsg.cmsg_type = IPPROTO_IP, IP_PKTINFO
            cmsg.cmsg_len = CMSG_LEN(sizeof(in_pktinfo))

    def stop(self):
        store_release_int(&self.stopping, 1)

    @property
    def counts(self) -> tuple:
        """Replies sent, and replies that the kernel did not take."""
        return self.replies, self.refused

    def run(self):
        """Until stop()."""
        with nogil:
            while not load_acquire_int(&self.stopping):
                self.turn()

    cdef void turn(self) noexcept nogil:
        cdef int i, count
        cdef unsigned int at = 0
        cdef pollfd wait
        if not self.bare:
            for i in range(BATCH):
                self.in_headers[i].msg_hdr.msg_namelen = sizeof(sockaddr_in)
                self.in_headers[i].msg_hdr.msg_controllen = CONTROL
        count = recvmmsg(self.fd, self.in_headers, BATCH, MSG_DONTWAIT, NULL)
        if count <= 0:
            wait.fd, wait.events, wait.revents = self.fd, POLLIN, 0
            pause_until(&wait, 1, IDLE_NS)
            return
        for i in range(count):
            self.reply(i)
        while at < count:
            i = sendmmsg(self.fd, self.out_headers + at, count - at, MSG_DONTWAIT)
            if i > 0:
                self.replies += i
                at += i
            else:
                self.refused += 1
                at += 1

    cdef void reply(self, int i) noexcept nogil:
        cdef Bootp *bootp = <Bootp *>self.out_data[i]
        cdef cmsghdr *cmsg
        cdef in_pktinfo *info
        cdef in_pktinfo *source
        memcpy(self.out_data[i], self.in_data[i], min(self.in_headers[i].msg_len, self.reply_bytes))
        bootp.op = BOOTREPLY
        if self.bare:
            return
        self.targets[i].sin_addr.s_addr = bootp.giaddr_be
        cmsg = CMSG_FIRSTHDR(&self.in_headers[i].msg_hdr)
        source = <in_pktinfo *>CMSG_DATA(CMSG_FIRSTHDR(&self.out_headers[i].msg_hdr))
        while cmsg != NULL:
            if cmsg.cmsg_level == IPPROTO_IP and cmsg.cmsg_type == IP_PKTINFO:
                info = <in_pktinfo *>CMSG_DATA(cmsg)
                source.ipi_ifindex = 0
                source.ipi_spec_dst = info.ipi_spec_dst
            cmsg = CMSG_NXTHDR(&self.in_headers[i].msg_hdr, cmsg)
