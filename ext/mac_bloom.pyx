"""The MACs that the inventory knows, where the kernel's filter can look them up: a Bloom filter in the memory of a BPF map.

Whoever holds the map's fd writes by mmap, without a system call and without a capability.  It has no false negatives: a MAC
that was added is known.  Nothing is ever taken out; that a removed host still passes costs a datagram that a worker ignores.
fastpath/sockets/unknown_mac_filter.py has the program that reads it.
"""

from libc.errno cimport errno as c_errno
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from ext.leases cimport TOMBSTONE, Lease
from ext.net cimport MAP_FAILED, MAP_SHARED, PROT_READ, PROT_WRITE, load_acquire, mmap, munmap, store_release
from ext.table cimport Generation, Pair

cdef enum:
    BITS_LOG = 24                  # 2 MB: 16 bits a host for a million, of whom one stranger in 400 looks like one
    PROBES = 4
    READY_AT = 0                   # words of 8 bytes in front of the bits; what the filter writes has cache lines of its own
    BUDGET_AT = 8
    DROPPED_AT = 64
    PASSED_AT = 128
    TICK_AT = 192
    USED_AT = 200
    BITS_AT = 4096
    BYTES = 4096 + 2097152

KNOWN_PROBES, KNOWN_BYTES, KNOWN_BITS_AT, KNOWN_BITS_MASK = PROBES, BYTES, BITS_AT, (1 << BITS_LOG) - 1
KNOWN_READY_AT, KNOWN_BUDGET_AT, KNOWN_DROPPED_AT, KNOWN_PASSED_AT = READY_AT, BUDGET_AT, DROPPED_AT, PASSED_AT
KNOWN_TICK_AT, KNOWN_USED_AT = TICK_AT, USED_AT
KNOWN_MIX = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9


cdef enum:
    OUI_BYTES = 1 << 21            # a bit for each of 2^24


cdef inline uint64_t mixed(uint64_t mac) noexcept nogil:
    """The same as in the filter: bits 40 to 63 are the first place, the rest the step to the next ones."""
    cdef uint64_t value = mac * <uint64_t>0x9E3779B97F4A7C15
    value = (value ^ (value >> 32)) * <uint64_t>0xBF58476D1CE4E5B9
    return value ^ (value >> 29)


cdef inline uint64_t bit_of(uint64_t hashed, int probe) noexcept nogil:
    """As the filter in the kernel counts them (fastpath/sockets/unknown_mac_filter.py)."""
    return ((hashed >> 40) + <uint64_t>probe * ((hashed >> 16) | 1)) & ((1 << BITS_LOG) - 1)


cdef class KnownMacs:
    """The map behind fd, which stays the caller's."""
    cdef uint8_t *at
    cdef uint64_t base_number, base_checksum   # of the last one that was added

    def __cinit__(self, int fd):
        cdef void *at = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
        if at == MAP_FAILED:
            raise OSError(c_errno, f"cannot map the known MACs behind fd {fd} ({KNOWN_BYTES} bytes)")
        self.at = <uint8_t *>at

    def __dealloc__(self):
        if self.at != NULL:
            munmap(self.at, BYTES)

    cdef uint64_t *word(self, size_t at) noexcept nogil:
        return <uint64_t *>(self.at + at)

    cdef void put(self, uint64_t mac) noexcept nogil:
        cdef uint64_t hashed = mixed(mac), bit
        cdef int i
        for i in range(PROBES):
            bit = bit_of(hashed, i)
            self.word(BITS_AT)[bit >> 6] |= <uint64_t>1 << (bit & 63)

    cdef bint has(self, uint64_t mac) noexcept nogil:
        cdef uint64_t hashed = mixed(mac), bit
        cdef int i
        for i in range(PROBES):
            bit = bit_of(hashed, i)
            if not self.word(BITS_AT)[bit >> 6] >> (bit & 63) & 1:
                return False
        return True

    def __contains__(self, uint64_t mac) -> bool:
        return self.has(mac)

    def follow(self, Pair pair not None):
        """All hosts of a pair, before anybody answers from it.  A base that was there before costs nothing."""
        cdef uint64_t number = pair.base.table.header.generation
        cdef uint64_t checksum = pair.base.table.header.checksum
        if number != self.base_number or checksum != self.base_checksum:
            self.add(pair.base)
        self.base_number, self.base_checksum = number, checksum
        if pair.delta is not None:
            self.add(pair.delta)

    cdef void add(self, Generation table):
        """Every host of it, answered or not.  From the first one on, strangers may be dropped."""
        cdef uint32_t i
        cdef const Lease *lease
        cdef uint64_t mac
        cdef int octet
        with nogil:
            for i in range(table.table.lease_count):
                lease = table.table.leases + i
                if lease.state == TOMBSTONE:
                    continue
                mac = 0
                for octet in range(6):
                    mac = mac << 8 | lease.mac[octet]
                self.put(mac)
            store_release(self.word(READY_AT), 1)

    def counts(self) -> dict:
        """dropped: strangers' datagrams that no worker saw; passed: those within the budget."""
        return {"dropped": load_acquire(self.word(DROPPED_AT)), "passed": load_acquire(self.word(PASSED_AT))}


cdef class KnownOuis:
    """The first three octets of the MACs that the inventory knows, hosts' and BMCs': a bit for each that there can be."""
    cdef uint8_t *bits
    cdef uint64_t base_number, base_checksum, top_number

    def __cinit__(self):
        self.bits = <uint8_t *>calloc(1, OUI_BYTES)
        if self.bits == NULL:
            raise MemoryError(f"no {OUI_BYTES} bytes for the known OUIs")

    def __dealloc__(self):
        free(self.bits)

    def follow(self, Pair pair not None):
        """Those of a pair and, as long as its base is the same, of what was before.  Nothing new costs nothing."""
        cdef uint64_t number = pair.base.table.header.generation
        cdef uint64_t checksum = pair.base.table.header.checksum
        if number != self.base_number or checksum != self.base_checksum:
            memset(self.bits, 0, OUI_BYTES)
            self.add(pair.base)
            self.base_number, self.base_checksum, self.top_number = number, checksum, number
        if pair.delta is not None and pair.delta.table.header.generation != self.top_number:
            self.add(pair.delta)
            self.top_number = pair.delta.table.header.generation

    cdef void add(self, Generation table):
        cdef uint32_t i, oui
        cdef const Lease *lease
        with nogil:
            for i in range(table.table.lease_count):
                lease = table.table.leases + i
                if lease.state == TOMBSTONE:
                    continue
                oui = <uint32_t>lease.mac[0] << 16 | <uint32_t>lease.mac[1] << 8 | lease.mac[2]
                self.bits[oui >> 3] |= <uint8_t>(1 << (oui & 7))

    def __contains__(self, uint64_t mac) -> bool:
        cdef uint64_t oui = mac >> 24 & 0xffffff
        return bool(self.bits[oui >> 3] >> (oui & 7) & 1)
