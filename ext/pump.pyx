"""A worker's loop as Python sees it: takes over a slot, adopts generations, runs until it is stopped.

I/O stands in two ways in and out, ext/by_sockets.pxd and ext/by_xdp.pxd, over one struct (ext/loop.pxd); what to say is
answer.pxd's.  Runs without the GIL, allocates nothing, waits for no lock.  A helper thread of the worker
(fastpath/worker.py) offers new generations; the loop swaps them in between two batches and tells it, so that mapping and
unmapping never stall a packet.
"""

cimport cython
from libc.errno cimport errno as c_errno
from libc.stdint cimport uint8_t, uint16_t, uint64_t
from libc.string cimport memset

import os

from ext.by_sockets cimport open_sockets, recover_batch, turn_sockets
from ext.by_xdp cimport recover_rings, turn_rings
from ext.leases cimport Site, attach_table, join_site
from ext.ledger cimport LEDGER_MAGIC, LEDGER_VERSION, LedgerHead, ledger_bytes, open_book
from ext.loop cimport Loop, Way, adopt, tick, wait_for
from ext.mapping cimport Mapping, is_that, map_generation, map_shared, unmap
from ext.mapping import GenerationRejected
from ext.net cimport *
from ext.page cimport *
from ext.places cimport Places
from ext.placing cimport free_places, make_places
from ext.wire cimport swap16
from ext.xsk cimport POOLS_MAX, close_port, open_port


cdef Way[2] WAYS                   # in the order in which a turn looks at them
WAYS[0].turn, WAYS[0].recover = turn_rings, recover_rings
WAYS[1].turn, WAYS[1].recover = turn_sockets, recover_batch


@cython.final
cdef class Pump:
    cdef Loop loop
    cdef bint running
    cdef Mapping base_map, delta_map
    cdef Places *places            # of the pair
    cdef readonly str ledger_fault # why none is kept, "" where one is or none was given

    def __cinit__(self):
        cdef Loop *loop = &self.loop
        self.ledger_fault = ""
        loop.udp_fd = loop.urgent_fd = loop.boot_fd = loop.packet_fd = loop.adopted_fd = loop.bell_fd = -1
        loop.wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        loop.swapped_fd = os.eventfd(0, os.EFD_CLOEXEC)

    def __dealloc__(self):
        cdef int i
        unmap(&self.base_map)
        unmap(&self.delta_map)
        free_places(self.places)
        for i in range(POOLS_MAX):
            close_port(&self.loop.ports[i])
        if self.loop.page != NULL:
            munmap(self.loop.page, inbox_at() + sizeof(Inbox))
        if self.loop.site_page != NULL:
            munmap(self.loop.site_page, sizeof(SitePage))
        if self.loop.book.head != NULL:
            munmap(self.loop.book.head, ledger_bytes())

    def assign(self, *, int udp_fd, int urgent_fd, int packet_fd, int page_fd, int site_fd, int adopted_fd, int bell_fd,
               int port, int boot_fd=-1, int boot_port=0, int ledger_fd=-1, bint observe=False, brake_ns=(0, 0)):
        """Take over a slot: its sockets, its page with whatever the last worker left in it, and the doorbells.

        boot_fd: of boot_port, -1 where there is none.  ledger_fd: -1 where none is kept; one of another layout is let be, and
        so is one for which there is no address space: ledger_fault says so.
        observe: decide and record everything, send nothing.
        brake_ns: the benches' brake, for each answer and each other datagram."""
        cdef Loop *loop = &self.loop
        loop.brake_answer_ns, loop.brake_other_ns = brake_ns
        loop.observing = observe
        loop.page = <Page *>map_shared(page_fd, inbox_at() + sizeof(Inbox))
        loop.inbox = <Inbox *>(<uint8_t *>loop.page + inbox_at())
        loop.site_page = <SitePage *>map_shared(site_fd, sizeof(SitePage))
        loop.udp_fd, loop.urgent_fd, loop.packet_fd, loop.boot_fd = udp_fd, urgent_fd, packet_fd, boot_fd
        loop.adopted_fd, loop.bell_fd = adopted_fd, bell_fd
        loop.port_be, loop.boot_port_be = swap16(<uint16_t>port), swap16(<uint16_t>boot_port)
        if ledger_fd >= 0 and not observe:     # what is not sent brings nobody further
            self.open_ledger(ledger_fd)
        open_sockets(loop)

    cdef int open_ledger(self, int fd) except -1:
        cdef LedgerHead *head
        if os.fstat(fd).st_size != ledger_bytes():
            return 0
        try:
            head = <LedgerHead *>map_shared(fd, ledger_bytes())
        except OSError as error:
            self.ledger_fault = str(error)
            return 0
        if head.magic == LEDGER_MAGIC and head.version == LEDGER_VERSION:
            open_book(&self.loop.book, head)
            self.loop.site.ledger = head.entries
        else:
            munmap(head, ledger_bytes())
        return 0

    def assign_pool(self, int pool_fd, int plain_fd, int urgent_fd, int slot):
        """Take over this slot's part of an XDP pool as well; its sockets' fds stay with us, the pool's may be closed."""
        cdef Loop *loop = &self.loop
        open_port(&loop.ports[loop.port_count], pool_fd, plain_fd, urgent_fd, slot)
        loop.port_count += 1
        wait_for(loop, plain_fd)
        wait_for(loop, urgent_fd)

    def load(self, int base_fd, int delta_fd=-1) -> int:
        """Adopt a pair of sealed generations and return the number that the loop answers from now on.

        Called by the helper thread while run() runs, by anyone before.  Maps and populates here, waits for the loop to
        swap, unmaps the old here.  Raises GenerationRejected with the reason; then the old pair stays, of unknown age until
        another one is adopted: the inventory's word is about the one that was refused."""
        cdef Site site
        cdef Mapping base, delta, old_base, old_delta
        cdef Places *old_places
        cdef bint keep = False
        cdef const char *fault
        cdef uint64_t news
        memset(&site, 0, sizeof(site))
        site.ledger = self.loop.book.head.entries if self.loop.book.head != NULL else NULL
        base.at = delta.at = NULL
        try:
            if self.loop.site.base.header != NULL:
                keep = is_that(base_fd, self.loop.site.base.header.generation, self.loop.site.base.header.checksum)
            base = self.base_map if keep else map_generation(base_fd)
            if delta_fd >= 0:
                delta = map_generation(delta_fd)
            fault = attach_table(&site.base, base.at, base.bytes)
            if fault == NULL and delta.at != NULL:
                fault = attach_table(&site.delta, delta.at, delta.bytes)
            if fault == NULL:
                fault = join_site(&site)
            if fault != NULL:
                raise GenerationRejected(f"generation fds {base_fd}, {delta_fd}: {fault.decode()}; "
                                         f"keeping generation {self.generation}")
        except BaseException:
            store_release_int(&self.loop.behind, 1)
            if not keep:
                unmap(&base)
            unmap(&delta)
            raise
        old_base, old_delta, old_places = self.base_map, self.delta_map, self.places
        self.base_map, self.delta_map = base, delta
        site.places = self.places = make_places(&site)
        if self.running:
            with nogil:
                exchange(&self.loop.offered, &site)
                eventfd_write(self.loop.wake_fd, 1)
                while eventfd_read(self.loop.swapped_fd, &news) != 0 and c_errno == EINTR:
                    pass               # the loop still reads the old pair
        else:
            self.loop.site = site
        store_release_int(&self.loop.behind, 0)
        if not keep:
            unmap(&old_base)
        unmap(&old_delta)
        free_places(old_places)
        return self.generation

    @property
    def generation(self) -> int:
        return self.loop.site.own.generation if self.loop.site.own != NULL else 0

    def stop(self):
        """Ask the loop to finish its batch and to return from run()."""
        store_release_int(&self.loop.stopping, 1)
        eventfd_write(self.loop.wake_fd, 1)

    def run(self):
        """Answer until stop().  First what the last worker of this slot received and did not finish."""
        cdef int way, first = 0 if self.loop.port_count else 1     # no rings without AF_XDP
        self.loop.page.pid = os.getpid()
        self.running = True
        with nogil:
            tick(&self.loop)
            adopt(&self.loop)
            for way in range(first, 2):
                WAYS[way].recover(&self.loop)
            while not load_acquire_int(&self.loop.stopping):
                for way in range(first, 2):
                    if WAYS[way].turn(&self.loop):
                        break
        self.running = False
        self.loop.page.pid = 0


def confine(bytes program not None):
    """Install a seccomp program (fastpath/privileges/confine.py) in this process, before it starts threads; for good.

    Raises OSError when the kernel refuses."""
    if bs_confine(<const char *>program, len(program)) != 0:
        raise OSError(c_errno, f"seccomp: {os.strerror(c_errno)}")
