"""Who has an address, and which rows an object has: indexes beside the generations of a pair, and the invariant of all that is
published: no address in two answered rows of different objects, and no MAC that is one's card and another's BMC.

An index is two sorted arrays, (address, lease) and (half of an identity, lease), 16 bytes a row.  Rows of IPv6 will have an
index of their own: addresses of two families are never compared with each other.
"""

from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memset

from ext.leases cimport *
from ext.table cimport Generation, Pair
from ext.wire cimport swap32

cdef enum:
    DIGITS = 3                     # of 11 bits: the 32 that are sorted by
    DIGIT_BITS = 11


cdef void sort_by_high_half(uint64_t *keys, uint64_t *room, uint32_t count) noexcept nogil:
    """LSD radix sort of the upper 32 bits; keys of one upper half stay in their order.  The result is in `room`."""
    cdef uint32_t starts[DIGITS][1 << DIGIT_BITS]
    cdef uint64_t *swapped
    cdef uint32_t i, digit, at, sum, many
    cdef int turn
    memset(starts, 0, sizeof(starts))
    for i in range(count):
        for turn in range(DIGITS):
            starts[turn][(keys[i] >> (32 + turn * DIGIT_BITS)) & ((1 << DIGIT_BITS) - 1)] += 1
    for turn in range(DIGITS):
        sum = 0
        for digit in range(1 << DIGIT_BITS):
            many = starts[turn][digit]
            starts[turn][digit] = sum
            sum += many
        for i in range(count):
            digit = (keys[i] >> (32 + turn * DIGIT_BITS)) & ((1 << DIGIT_BITS) - 1)
            at = starts[turn][digit]
            room[at] = keys[i]
            starts[turn][digit] = at + 1
        swapped = keys
        keys = room
        room = swapped


cdef uint32_t first_of(const uint64_t *sorted, uint32_t count, uint32_t high) noexcept nogil:
    """Place of the first key with this upper half, or of the next higher one."""
    cdef uint32_t low = 0, end = count, middle
    while low < end:
        middle = low + ((end - low) >> 1)
        if sorted[middle] >> 32 < high:
            low = middle + 1
        else:
            end = middle
    return low


cdef uint64_t row_key(const Lease *lease) noexcept nogil:
    return key_of(lease.mac, lease.role) & ~(<uint64_t>1 << 63)


cdef class Index:
    """Of one generation, which it keeps."""
    cdef readonly Generation rows
    cdef uint64_t *by_address
    cdef uint64_t *by_object
    cdef uint32_t address_count, row_count
    cdef list doubles              # places in by_address where an address begins that several objects are answered with
    cdef list crossed              # rows of BMCs whose MACs are cards of other objects, one of the two answered

    def __cinit__(self, Generation rows not None):
        cdef uint64_t *room
        cdef size_t size = <size_t>(rows.table.lease_count + 1) * sizeof(uint64_t)
        self.rows = rows
        self.doubles = []
        self.crossed = []
        self.by_address = <uint64_t *>PyMem_RawMalloc(size)
        self.by_object = <uint64_t *>PyMem_RawMalloc(size)
        room = <uint64_t *>PyMem_RawMalloc(size)
        if self.by_address == NULL or self.by_object == NULL or room == NULL:
            PyMem_RawFree(room)
            raise MemoryError(f"an index of {rows.table.lease_count} rows")
        with nogil:
            self.fill(room)
        PyMem_RawFree(room)
        self.find_doubles()
        self.find_crossed()
        rows.numbers_borne()       # here, with whatever else is slow once a base

    def __dealloc__(self):
        PyMem_RawFree(self.by_address)
        PyMem_RawFree(self.by_object)

    def __len__(self) -> int:
        """Rows."""
        return self.row_count

    cdef void fill(self, uint64_t *room) noexcept nogil:
        cdef const Table *table = &self.rows.table
        cdef const Lease *lease
        cdef uint32_t i = 0, j
        cdef uint8_t count
        while i < table.lease_count:
            lease = table.leases + i
            count = lease.lease_count
            if lease.state == SERVED:
                for j in range(count):
                    room[self.address_count] = (<uint64_t>swap32(lease[j].address_be) << 32) | (i + j)
                    self.address_count += 1
            i += count
        sort_by_high_half(room, self.by_address, self.address_count)
        i = 0
        while i < table.lease_count:
            if table.leases[i].state != TOMBSTONE:
                room[self.row_count] = (identity_of(table, table.leases + i) << 32) | i
                self.row_count += 1
            i += table.leases[i].lease_count
        sort_by_high_half(room, self.by_object, self.row_count)

    cdef const Lease *lease_at(self, uint64_t packed) noexcept nogil:
        return self.rows.table.leases + <uint32_t>packed

    cdef bint is_answered_host(self, uint64_t identity, set left_out):
        """Whether an object has an answered row that is no BMC's, besides those of some keys."""
        cdef const Lease *lease
        cdef uint32_t half = <uint32_t>identity, i = first_of(self.by_object, self.row_count, half)
        while i < self.row_count and self.by_object[i] >> 32 == half:
            lease = self.lease_at(self.by_object[i])
            i += 1
            if (lease.role == ROLE_HOST and is_answered(lease.state) and identity_of(&self.rows.table, lease) == identity
                    and (not left_out or row_key(lease) not in left_out)):
                return True
        return False

    def hosts_with(self, list rows) -> int:
        """Hosts that are answered by this base and a delta.  rows: the delta's, as of Builder.answered()."""
        cdef const Lease *old
        cdef set keys = {key for key, _identity, _answered in rows}
        cdef set now = {identity for _key, identity, answered in rows if answered}
        cdef set touched = set(), settled = set()
        cdef int64_t hosts = self.rows.host_count
        for key, identity, answered in rows:
            old = find_in(&self.rows.table, (<uint64_t>1 << 63) | <uint64_t>key)
            if old != NULL and old.role == ROLE_HOST and is_answered(old.state):
                if answered and identity_of(&self.rows.table, old) == identity:
                    settled.add(identity)  # before and after: nearly all changes are of this kind
                    continue
                touched.add(identity_of(&self.rows.table, old))
            touched.add(identity)
        touched -= settled
        for identity in touched:
            hosts += identity in now or self.is_answered_host(identity, keys)
            hosts -= self.is_answered_host(identity, set())
        return hosts

    cdef void find_doubles(self) except *:
        cdef uint32_t i, begin = 0
        cdef bint differ = False
        cdef const Table *table = &self.rows.table
        for i in range(1, self.address_count + 1):
            if i < self.address_count and self.by_address[i] >> 32 == self.by_address[begin] >> 32:
                differ |= not is_same_object(table, self.lease_at(self.by_address[i]),
                                             table, self.lease_at(self.by_address[begin]))
                continue
            if differ:
                self.doubles.append(begin)
            begin, differ = i, False


    cdef void find_crossed(self) except *:
        cdef const Table *table = &self.rows.table
        cdef const Lease *lease
        cdef const Lease *card
        cdef uint32_t at = 0
        while at < table.lease_count:
            lease = table.leases + at
            if lease.role == ROLE_BMC:
                card = find_in(table, key_of(lease.mac, ROLE_HOST))
                if (card != NULL and (is_answered(card.state) or is_answered(lease.state))
                        and not is_same_object(table, card, table, lease)):
                    self.crossed.append(at)
            at += lease.lease_count


cdef class View:
    """A pair as it is served, by address and by object.  base: the Index of the pair's base; the delta's is made here.

    Addresses are ints in host order; a row's key is its MAC with the role above the 48 bits."""
    cdef readonly Pair pair
    cdef Index base, delta

    def __cinit__(self, Pair pair not None, Index base not None):
        if base.rows is not pair.base:
            raise ValueError(f"the index is of generation {base.rows.number}, the base is {pair.base.number}")
        self.pair, self.base = pair, base
        self.delta = Index(pair.delta) if pair.delta is not None else None

    cdef bint is_current(self, Index index, const Lease *lease) noexcept nogil:
        """False for a row of the base that the delta says something of."""
        return index is self.delta or find_in(&self.pair.site.delta, key_of(lease.mac, lease.role)) == NULL

    def twice(self) -> dict:
        """{address: [(key, name, identity)]} of what several objects are answered with: empty, or it must not be served."""
        cdef uint32_t i, last = 0
        found = {}
        for begin in self.base.doubles:
            self.note_contested(<uint32_t>(self.base.by_address[<uint32_t>begin] >> 32), found)
        if self.delta is not None:
            for i in range(self.delta.address_count):
                if i == 0 or self.delta.by_address[i] >> 32 != last:
                    last = <uint32_t>(self.delta.by_address[i] >> 32)
                    self.note_contested(last, found)
        return found

    def crossed(self) -> dict:
        """{MAC: [(key, name, identity)]} of cards that are BMCs of other objects, and answered as either: as twice()."""
        cdef uint32_t i
        found = {}
        for at in self.base.crossed:
            self.note_crossed(self.base.lease_at(at), found)
        if self.delta is not None:
            for i in range(self.delta.row_count):
                self.note_crossed(self.delta.lease_at(self.delta.by_object[i]), found)
        return found

    cdef void note_crossed(self, const Lease *lease, dict found) except *:
        cdef Host card, bmc
        if (not find_lease(&self.pair.site, lease.mac, ROLE_HOST, &card)
                or not find_lease(&self.pair.site, lease.mac, ROLE_BMC, &bmc)
                or not (is_answered(card.lease.state) or is_answered(bmc.lease.state))
                or is_same_object(card.table, card.lease, bmc.table, bmc.lease)):
            return
        rows = [self.owner(&card), self.owner(&bmc)]
        found[rows[0][0]] = rows

    cdef tuple owner(self, const Host *host):
        cdef Generation rows = self.pair.delta if host.table == &self.pair.site.delta else self.pair.base
        return tuple(rows.owner(host.lease))

    cdef void note_contested(self, uint32_t address, dict found) except *:
        cdef const Lease *first = NULL
        cdef const Table *first_table = NULL
        cdef const Lease *lease
        cdef Index index
        cdef uint32_t i
        cdef bint differ = False
        for index in (self.base, self.delta):
            if index is None:
                continue
            i = first_of(index.by_address, index.address_count, address)
            while i < index.address_count and index.by_address[i] >> 32 == address:
                lease = index.lease_at(index.by_address[i])
                i += 1
                if not self.is_current(index, lease):
                    continue
                if first == NULL:
                    first, first_table = lease, &index.rows.table
                elif not is_same_object(first_table, first, &index.rows.table, lease):
                    differ = True
        if differ:
            found[address] = self.owners(address)

    cdef list owners(self, uint32_t address):
        """(key, name, identity) of the rows that are answered with an address."""
        cdef const Lease *lease
        cdef Index index
        cdef uint32_t i
        found = []
        for index in (self.base, self.delta):
            if index is None:
                continue
            i = first_of(index.by_address, index.address_count, address)
            while i < index.address_count and index.by_address[i] >> 32 == address:
                lease = index.lease_at(index.by_address[i])
                if self.is_current(index, lease):
                    found.append(tuple(index.rows.owner(lease)))
                i += 1
        return found

    def with_addresses(self, addresses) -> set:
        """Keys of the rows that are answered with one of some addresses."""
        return {key for address in addresses for key, _name, _identity in self.owners(address)}

    def of_objects(self, identities) -> set:
        """Keys of the rows of some objects, in any state.  identities: as lookup() gives them."""
        cdef const Lease *lease
        cdef Index index
        cdef uint32_t i, half
        cdef uint64_t wanted
        found = set()
        for index in (self.base, self.delta):
            if index is None:
                continue
            for identity in identities:
                wanted = identity
                half = <uint32_t>wanted
                i = first_of(index.by_object, index.row_count, half)
                while i < index.row_count and index.by_object[i] >> 32 == half:
                    lease = index.lease_at(index.by_object[i])
                    if identity_of(&index.rows.table, lease) == wanted and self.is_current(index, lease):
                        found.add(row_key(lease))
                    i += 1
        return found

    def answered_hosts(self, among=None) -> set:
        """Identities of the objects that have an answered row which is no BMC's.  among: only those that are in this set."""
        cdef const Lease *lease
        cdef Index index
        cdef uint32_t i
        found = set()
        for index in (self.base, self.delta):
            if index is None:
                continue
            for i in range(index.row_count):
                lease = index.lease_at(index.by_object[i])
                if lease.role != ROLE_HOST or not is_answered(lease.state) or not self.is_current(index, lease):
                    continue
                identity = identity_of(&index.rows.table, lease)
                if among is None or identity in among:
                    found.add(identity)
        return found
