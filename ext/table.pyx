"""Builds generations, checks them, looks into them, and tells two apart; the layout is leases.pxd's.

Builder -> sealed memfd -> Generation (read-only view) -> Pair (base and delta, what the workers answer from).
"""

from cpython.buffer cimport PyBUF_READ
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.errno cimport errno as c_errno
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

import fcntl
import hashlib
import os
from dataclasses import dataclass

from ext.leases cimport *
from ext.net cimport MAP_FAILED, MAP_POPULATE, MAP_SHARED, PROT_READ, PROT_WRITE, mmap, munmap
from ext.wire cimport load32, swap32

STATES = ("served", "disabled", "no-address", "conflict", "quarantined", "tombstone")
TABLE_LAYOUT = TABLE_VERSION
OWN_BYTES_MAX = 0xffff
FILE_BYTES_MAX = 127
MFD_NOEXEC_SEAL = 8                # Linux 6.3; older kernels say EINVAL
assert sizeof(Header) == 184 and sizeof(Slot) == 16 and sizeof(Lease) == 32 and sizeof(Template) == 40


class TableInvalid(ValueError):
    """A table that must not be served, or a row that does not fit into one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the site knows of itself.  Addresses are ints in host order, networks (first, last), prefixes 0..32."""
    networks: tuple = ()           # (first, last), any order, may overlap
    links: tuple = ()              # (ifindex, address, prefix, mtu, served), the primary address of an interface first
    interfaces_limited: bool = False
    server_id: int = 0
    server_ids: tuple = ()
    relays: tuple = ()             # (address, prefix)
    max_nak_age_s: int = 86400


cdef inline uint64_t mix(uint64_t seed, const uint8_t *at, size_t length) noexcept nogil:
    """FNV-1a with a final avalanche: tells contents apart, is no defence against an adversary."""
    cdef size_t i
    cdef uint64_t value = seed ^ <uint64_t>0xcbf29ce484222325
    for i in range(length):
        value = (value ^ at[i]) * <uint64_t>0x100000001b3
    value = (value ^ (value >> 32)) * <uint64_t>0x9E3779B97F4A7C15
    return value ^ (value >> 29)


def checksum(view, header=b"") -> int:
    """64 bits of BLAKE2b over the header (its checksum field zero) and what stands behind it."""
    digest = hashlib.blake2b(header, digest_size=8)
    digest.update(view)
    return int.from_bytes(digest.digest(), "little")


cdef bytes unsummed(const Header *header):
    cdef Header copy = header[0]
    copy.checksum = 0
    return (<const char *>&copy)[:sizeof(copy)]


cdef inline bint are_options(const uint8_t *at, size_t length) noexcept nogil:
    """Whole options one after the other, no PAD, no END: encode.pxd walks and copies them on trust."""
    cdef const uint8_t *end = at + length
    while at < end:
        if at[0] == 0 or at[0] == 255 or end - at < 2 or end - at - 2 < at[1]:
            return False
        at += 2 + at[1]
    return True


cdef object check_blob(bytes options):
    if not are_options(<const uint8_t *><const char *>options, len(options)):
        raise TableInvalid(f"options {options.hex()}: not whole options one after the other")


def merged(networks) -> list:
    """Networks (first, last) -> their union, sorted and disjoint."""
    union = []
    reach = -2
    for first, last in sorted(networks):
        if first > reach + 1:
            union.append((first, last))
        elif last > reach:
            union.append((union.pop()[0], last))
        reach = max(reach, last)
    return union


cdef class Builder:
    """Collects hosts and templates; seal() makes a generation of them.  base: the Generation that a delta belongs to."""
    cdef Lease *leases
    cdef uint32_t lease_count, lease_room, host_rows
    cdef int64_t host_count
    cdef uint64_t digest
    cdef bytearray heap
    cdef list templates
    cdef dict template_index
    cdef list template_hashes
    cdef Generation base

    def __cinit__(self, base=None):
        self.base = base
        self.heap = bytearray()
        self.templates = []
        self.template_hashes = []
        self.template_index = {}
        if base is not None:
            self.host_count = self.base.table.header.host_count
            self.digest = self.base.table.header.digest

    def __dealloc__(self):
        PyMem_Free(self.leases)

    def add_template(self, *, bytes options=b"", bytes file=b"", uint32_t siaddr=0, uint32_t server_id=0,
                     uint32_t lease_s=3600, uint32_t renewal_s=1600, uint32_t rebinding_s=3150) -> int:
        """Index of the template with this content; equal ones are one.  options: encoded, without 51, 53, 54, 58, 59."""
        key = (options, file, siaddr, server_id, lease_s, renewal_s, rebinding_s)
        known = self.template_index.get(key)
        if known is not None:
            return known
        if len(file) > FILE_BYTES_MAX:
            raise TableInvalid(f"boot file of {len(file)} bytes: the field takes {FILE_BYTES_MAX}")
        if len(options) > OWN_BYTES_MAX:
            raise TableInvalid(f"options of {len(options)} bytes: a template takes {OWN_BYTES_MAX}")
        check_blob(options)
        content = repr(key).encode()
        self.template_index[key] = len(self.templates)
        self.template_hashes.append(mix(1, <const uint8_t *>content, len(content)))
        self.templates.append((self.store(options), self.store(file), key))
        return len(self.templates) - 1

    cdef uint32_t store(self, bytes content) except? 0xffffffff:
        at = len(self.heap)
        if at + len(content) >= 0xffffffff:
            raise TableInvalid("the heap of one generation takes 4 GiB")
        self.heap += content
        return at

    cdef Lease *new_lease(self) except NULL:
        cdef uint32_t room
        cdef void *grown
        if self.lease_count == self.lease_room:
            room = max(1024, self.lease_room * 2)
            grown = PyMem_Realloc(self.leases, <size_t>room * sizeof(Lease))
            if grown == NULL:
                raise MemoryError(f"{room} leases")
            self.leases = <Lease *>grown
            self.lease_room = room
        self.lease_count += 1
        memset(&self.leases[self.lease_count - 1], 0, sizeof(Lease))
        return &self.leases[self.lease_count - 1]

    def add_host(self, uint64_t mac, *, int state=0, bytes name=b"", bytes own=b"", leases=(), int role=0):
        """One host.  mac: 48-bit int; name: the object's, at most 255 bytes; own: encoded options of this host alone;
        leases: (address, prefix, template index), the preferred first; needed for state 0 (served) only."""
        cdef Lease *lease
        cdef uint32_t own_at, name_at
        cdef int left = len(leases)
        if (left == 0) == (state == SERVED) or left > 255:
            raise TableInvalid(f"host {name.decode('utf-8', 'replace')}: {left} addresses in state {STATES[state]}")
        if mac >> 48:
            raise TableInvalid(f"MAC {mac:#x} has more than 48 bits")
        check_blob(own)
        for address, prefix, template in leases:
            if not (0 < address <= 0xffffffff and 0 <= prefix <= 32 and 0 <= template < len(self.templates)):
                raise TableInvalid(f"host {name.decode('utf-8', 'replace')}: no lease ({address}, {prefix}, {template})")
        if len(own) > OWN_BYTES_MAX or len(name) > 255:
            raise TableInvalid(f"host {name.decode('utf-8', 'replace')}: {len(own)} bytes of options, "
                               f"{len(name)} of name; a lease takes {OWN_BYTES_MAX} and 255")
        own_at = self.store(own)
        inside = own.find(name)    # nearly always the host name option holds it already
        name_at = own_at + inside if inside >= 0 else self.store(name)
        first = self.lease_count
        for address, prefix, template in (leases or ((0, 0, 0),)):
            lease = self.new_lease()
            for i in range(6):
                lease.mac[i] = (mac >> (40 - 8 * i)) & 0xff
            lease.role, lease.state = role, state
            lease.address_be = swap32(address)
            lease.prefix = prefix
            lease.template_index = template
            lease.own_at, lease.own_bytes = own_at, len(own)
            lease.name_at, lease.name_bytes = name_at, len(name)
            lease.lease_count = left or 1
            left -= 1
        self.count_host(first, role, state)

    cdef void count_host(self, uint32_t first, int role, int state) except *:
        """Keep host_count and digest of the pair: a delta's row stands for the base's row of the same host."""
        cdef const Lease *old = NULL
        self.host_rows += 1
        if self.base is not None:
            old = find_in(&self.base.table, key_of(self.leases[first].mac, role))
        if old != NULL:
            self.digest -= self.base.host_hash(old)
            self.host_count -= old.state == SERVED
        if state != TOMBSTONE:
            self.digest += self.row_hash(first)
            self.host_count += state == SERVED

    cdef uint64_t row_hash(self, uint32_t first) except? 0:
        cdef uint64_t value = 0
        cdef uint32_t i
        cdef const uint8_t *heap = <const uint8_t *><char *>self.heap
        for i in range(self.leases[first].lease_count):
            value = lease_hash(value, &self.leases[first + i], heap,
                               self.template_hashes[self.leases[first + i].template_index]
                               if self.leases[first].state == SERVED else 0)
        return value

    def add_tombstone(self, uint64_t mac, int role=0):
        """A delta's word that the host left."""
        self.add_host(mac, state=TOMBSTONE, role=role)

    def copy_host(self, Generation source not None, uint64_t mac, int role=0):
        """Take a host over from another generation, its templates with it."""
        row = source.lookup(mac, role)
        if row is None:
            raise TableInvalid(f"generation {source.number} has no host {mac:012x}")
        leases = tuple((lease["address"], lease["prefix"], self.add_template(**lease["template"]))
                       for lease in row["leases"])
        self.add_host(mac, state=STATES.index(row["state"]), name=row["name"], own=row["own"], leases=leases, role=role)

    def seal(self, uint64_t generation, surroundings, *, int64_t created_s) -> int:
        """A sealed memfd with everything added so far; the caller owns the fd.  Raises TableInvalid on a MAC given twice.

        generation: its number, above the base's.  created_s: seconds since 1970 of the inventory's word."""
        cdef Header header
        memset(&header, 0, sizeof(header))
        header.magic, header.version = TABLE_MAGIC_LOW, TABLE_VERSION
        header.generation = generation
        header.base = self.base.number if self.base is not None else generation
        header.base_checksum = self.base.table.header.checksum if self.base is not None else 0
        header.created_s = created_s
        header.digest = self.digest
        header.host_count = self.host_count
        header.lease_count = self.lease_count
        header.slot_count = 16
        while header.slot_count < 2 * self.host_rows or header.slot_count <= self.lease_count:
            header.slot_count *= 2
        sections = self.sections(&header, surroundings)
        fd = new_memfd(f"bootstorm-table-{generation}")
        try:
            self.write(fd, &header, sections)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS,
                        fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE)
        except BaseException:
            os.close(fd)
            raise
        return fd

    cdef list sections(self, Header *header, surroundings):
        """Fill in counts and offsets; the small sections' bytes in the order in which they are written."""
        cdef Template template
        cdef Link link
        cdef Relay relay
        cdef uint64_t at = padded(sizeof(Header))
        templates, links, relays, networks, ids = (bytearray() for _ in range(5))
        for i, (options_at, file_at, key) in enumerate(self.templates):
            memset(&template, 0, sizeof(template))
            template.options_at, template.file_at = options_at, file_at
            template.options_bytes, template.file_bytes = len(key[0]), len(key[1])
            template.siaddr_be, template.server_id_be = swap32(key[2]), swap32(key[3])
            template.lease_s, template.renewal_s, template.rebinding_s = key[4:]
            template.content_hash = self.template_hashes[i]
            templates += (<const char *>&template)[:sizeof(template)]
        for ifindex, address, prefix, mtu, served in surroundings.links:
            memset(&link, 0, sizeof(link))
            link.ifindex, link.address_be, link.prefix, link.mtu = ifindex, swap32(address), prefix, mtu
            link.flags = LINK_SERVED if served else 0
            links += (<const char *>&link)[:sizeof(link)]
        for address, prefix in surroundings.relays:
            memset(&relay, 0, sizeof(relay))
            relay.address_be, relay.prefix = swap32(address), prefix
            relays += (<const char *>&relay)[:sizeof(relay)]
        union = merged(surroundings.networks)
        for first, last in union:
            networks += first.to_bytes(4, "little") + last.to_bytes(4, "little")
        for address in surroundings.server_ids:
            ids += address.to_bytes(4, "big")
        header.template_count, header.link_count = len(self.templates), len(surroundings.links)
        header.relay_count, header.network_count = len(surroundings.relays), len(union)
        header.server_id_count = len(surroundings.server_ids)
        header.server_id_be = swap32(surroundings.server_id)
        header.max_nak_age_s = surroundings.max_nak_age_s
        header.flags = FLAG_INTERFACES_LIMITED if surroundings.interfaces_limited else 0
        header.slots_at = at
        header.leases_at = at = padded(at + <uint64_t>header.slot_count * sizeof(Slot))
        header.templates_at = at = padded(at + <uint64_t>self.lease_count * sizeof(Lease))
        header.networks_at = at = padded(at + len(templates))
        header.links_at = at = padded(at + len(networks))
        header.server_ids_at = at = padded(at + len(links))
        header.relays_at = at = padded(at + len(ids))
        header.heap_at = at = padded(at + len(relays))
        header.heap_bytes = len(self.heap)
        header.total_bytes = padded(at + len(self.heap))
        return [(header.templates_at, templates), (header.networks_at, networks), (header.links_at, links),
                (header.server_ids_at, ids), (header.relays_at, relays), (header.heap_at, self.heap)]

    cdef void write(self, int fd, Header *header, list sections) except *:
        cdef uint8_t *at
        cdef uint32_t i
        cdef bint twice = False
        os.ftruncate(fd, header.total_bytes)
        at = <uint8_t *>mmap(NULL, header.total_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0)
        if at == MAP_FAILED:
            raise OSError(c_errno, f"cannot map a new generation of {header.total_bytes} bytes")
        try:
            with nogil:
                if self.lease_count:
                    memcpy(at + header.leases_at, self.leases, <size_t>self.lease_count * sizeof(Lease))
                i = 0
                while i < self.lease_count and not twice:
                    twice = not put_slot(<Slot *>(at + header.slots_at), header.slot_count,
                                         key_of(self.leases[i].mac, self.leases[i].role), i)
                    i += 0 if twice else self.leases[i].lease_count
            if twice:
                raise TableInvalid(f"MAC {(<const char *>self.leases[i].mac)[:6].hex(':')} was added twice")
            for offset, content in sections:
                memcpy(at + <uint64_t>offset, <const char *><char *>(<bytearray>content), len(content))
            header.checksum = checksum(view_of(at + sizeof(Header), header.total_bytes - sizeof(Header)),
                                       unsummed(header))
            memcpy(at, header, sizeof(Header))
        finally:
            munmap(at, header.total_bytes)


cdef object view_of(const uint8_t *at, uint64_t length):
    return PyMemoryView_FromMemory(<char *>at, length, PyBUF_READ)


cdef inline uint64_t padded(uint64_t at) noexcept nogil:
    return (at + 63) & ~<uint64_t>63


cdef inline bint put_slot(Slot *slots, uint32_t slot_count, uint64_t key, uint32_t lease) noexcept nogil:
    cdef uint32_t at = slot_of(key, slot_count)
    while slots[at].key != 0:
        if slots[at].key == key:
            return False
        at = (at + 1) & (slot_count - 1)
    slots[at].key = key
    slots[at].lease = lease
    return True


cdef inline uint64_t lease_hash(uint64_t seed, const Lease *lease, const uint8_t *heap,
                                uint64_t template_hash) noexcept nogil:
    cdef uint64_t value = seed ^ template_hash
    value = mix(value, lease.mac, 12)                      # mac, role, state, address: they stand side by side
    value = mix(value ^ lease.prefix, heap + lease.own_at, lease.own_bytes)
    return mix(value, heap + lease.name_at, lease.name_bytes)


def new_memfd(name: str) -> int:
    """A memfd that can be sealed, never executed where the kernel knows how to say so."""
    try:
        return os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL)
    except OSError:                # EINVAL before Linux 6.3
        return os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)


cdef class Generation:
    """A read-only view of one generation behind an fd, which may be closed afterwards."""

    def __cinit__(self, int fd):
        cdef const char *fault
        self.bytes = os.fstat(fd).st_size
        if self.bytes < sizeof(Header):
            raise TableInvalid(f"{self.bytes} bytes, a header alone has {sizeof(Header)}")
        self.at = mmap(NULL, self.bytes, PROT_READ, MAP_SHARED, fd, 0)
        if self.at == MAP_FAILED:
            self.at = NULL
            raise OSError(c_errno, f"cannot map generation fd {fd}")
        fault = attach_table(&self.table, self.at, self.bytes)
        if fault != NULL:
            raise TableInvalid(fault.decode())

    def __dealloc__(self):
        if self.at != NULL:
            munmap(self.at, self.bytes)

    @property
    def number(self) -> int:
        return self.table.header.generation

    @property
    def base_number(self) -> int:
        """Equal to number for a base."""
        return self.table.header.base

    @property
    def created_s(self) -> int:
        return self.table.header.created_s

    @property
    def host_count(self) -> int:
        """Hosts that are answered, in this base or in the pair that this delta makes with its base."""
        return self.table.header.host_count

    @property
    def digest(self) -> str:
        """Of the content, the same whichever way it was read: 16 hex digits."""
        return f"{self.table.header.digest:016x}"

    @property
    def size(self) -> int:
        """Bytes."""
        return self.bytes

    @property
    def networks(self) -> tuple:
        """(first, last) of the inventory's networks, disjoint and sorted."""
        cdef const uint32_t *at = <const uint32_t *>(<const uint8_t *>self.at + self.table.header.networks_at)
        return tuple((at[2 * i], at[2 * i + 1]) for i in range(self.table.header.network_count))

    def __len__(self) -> int:
        """Rows: hosts in every state, tombstones included."""
        return sum(1 for _ in self.keys())

    def keys(self):
        """(mac, role) of every row."""
        cdef uint32_t at = 0
        while at < self.table.header.lease_count:
            key = key_of(self.table.leases[at].mac, self.table.leases[at].role)
            yield key & 0xffffffffffff, (key >> 48) & 0x7fff
            at += max(<uint8_t>1, self.table.leases[at].lease_count)

    def with_address(self, uint32_t address) -> list:
        """(mac, role) of the rows that hand out an address; a scan, 10 ms in a million hosts."""
        cdef uint32_t at, wanted = swap32(address)
        found = []
        for at in range(self.table.header.lease_count):
            if self.table.leases[at].address_be == wanted and self.table.leases[at].state == SERVED:
                key = key_of(self.table.leases[at].mac, self.table.leases[at].role)
                found.append((key & 0xffffffffffff, (key >> 48) & 0x7fff))
        return found

    def with_name(self, bytes name not None) -> list:
        """(mac, role) of the rows of an object; a scan like with_address."""
        cdef uint32_t at = 0
        cdef const Lease *lease
        cdef uint8_t length = <uint8_t>min(255, len(name))
        cdef const char *wanted = name
        found = []
        while at < self.table.header.lease_count:
            lease = self.table.leases + at
            at += max(<uint8_t>1, lease.lease_count)
            if lease.name_bytes == length and memcmp(self.table.heap + lease.name_at, wanted, length) == 0:
                key = key_of(lease.mac, lease.role)
                found.append((key & 0xffffffffffff, (key >> 48) & 0x7fff))
        return found

    cdef uint64_t host_hash(self, const Lease *first) noexcept nogil:
        cdef uint64_t value = 0
        cdef uint8_t i
        for i in range(first.lease_count):
            value = lease_hash(value, first + i, self.table.heap,
                               self.table.templates[first[i].template_index].content_hash
                               if first.state == SERVED else 0)
        return value

    cdef object template_dict(self, uint32_t index):
        cdef const Template *template = self.table.templates + index
        return {
            "options": (<const char *>self.table.heap + template.options_at)[:template.options_bytes],
            "file": (<const char *>self.table.heap + template.file_at)[:template.file_bytes],
            "siaddr": swap32(template.siaddr_be), "server_id": swap32(template.server_id_be),
            "lease_s": template.lease_s, "renewal_s": template.renewal_s, "rebinding_s": template.rebinding_s,
        }

    def lookup(self, uint64_t mac, int role=0):
        """The row of a host as a dict (name, state, own, leases with template contents), None when there is none."""
        cdef const Lease *first = find_in(&self.table, (<uint64_t>1 << 63) | (<uint64_t>role << 48) | mac)
        if first == NULL:
            return None
        return {
            "mac": mac, "role": role, "state": STATES[first.state],
            "name": (<const char *>self.table.heap + first.name_at)[:first.name_bytes],
            "own": (<const char *>self.table.heap + first.own_at)[:first.own_bytes],
            "leases": [{"address": swap32(first[i].address_be), "prefix": first[i].prefix,
                        "template": self.template_dict(first[i].template_index)}
                       for i in range(first.lease_count)] if first.state == SERVED else [],
        }

    def verify(self):
        """Check everything that a file from a disk can get wrong: checksum, every index, every heap reference.

        Raises TableInvalid.  Workers check the bounds of the sections only; whoever publishes calls this first."""
        cdef const Header *header = self.table.header
        cdef const Lease *lease
        cdef uint32_t i, free = 0
        if header.checksum != checksum(view_of(<uint8_t *>self.at + sizeof(Header), self.bytes - sizeof(Header)),
                                       unsummed(header)):
            raise TableInvalid(f"generation {self.number}: checksum differs, the content is damaged")
        for i in range(header.slot_count):
            if self.table.slots[i].key == 0:
                free += 1
            elif self.table.slots[i].lease >= header.lease_count:
                raise TableInvalid(f"generation {self.number}: slot {i} points past the leases")
            else:
                lease = self.table.leases + self.table.slots[i].lease
                if key_of(lease.mac, lease.role) != self.table.slots[i].key:
                    raise TableInvalid(f"generation {self.number}: slot {i} names another host's lease")
        if free == 0:
            raise TableInvalid(f"generation {self.number}: no free slot, a look-up would never end")
        for i in range(header.link_count):
            if (<const Link *>(<uint8_t *>self.at + header.links_at))[i].prefix > 32:
                raise TableInvalid(f"generation {self.number}: link {i} is impossible")
        for i in range(header.relay_count):
            if (<const Relay *>(<uint8_t *>self.at + header.relays_at))[i].prefix > 32:
                raise TableInvalid(f"generation {self.number}: relay {i} is impossible")
        for i in range(header.template_count):
            if (self.table.templates[i].options_at + <uint64_t>self.table.templates[i].options_bytes > header.heap_bytes
                    or self.table.templates[i].file_at + <uint64_t>self.table.templates[i].file_bytes > header.heap_bytes
                    or self.table.templates[i].file_bytes > FILE_BYTES_MAX
                    or not are_options(self.table.heap + self.table.templates[i].options_at,
                                       self.table.templates[i].options_bytes)):
                raise TableInvalid(f"generation {self.number}: template {i} is impossible")
        for i in range(header.lease_count):
            lease = self.table.leases + i
            if (lease.own_at + <uint64_t>lease.own_bytes > header.heap_bytes or lease.prefix > 32
                    or lease.name_at + <uint64_t>lease.name_bytes > header.heap_bytes
                    or lease.lease_count == 0 or lease.lease_count > header.lease_count - i
                    or lease.state > TOMBSTONE
                    or not are_options(self.table.heap + lease.own_at, lease.own_bytes)
                    or (lease.state == SERVED and lease.template_index >= header.template_count)):
                raise TableInvalid(f"generation {self.number}: lease {i} is impossible")


cdef class Pair:
    """A base and its delta (or None), as the workers answer from them."""

    def __cinit__(self, Generation base not None, Generation delta=None):
        cdef const char *fault
        memset(&self.site, 0, sizeof(self.site))
        self.base, self.delta = base, delta
        self.site.base = base.table
        if delta is not None:
            self.site.delta = delta.table
        fault = join_site(&self.site)
        if fault != NULL:
            raise TableInvalid(f"generations {base.number} and {delta.number if delta else None}: {fault.decode()}")

    @property
    def top(self) -> Generation:
        """The younger of the two: number, host_count, digest of the pair."""
        return self.delta if self.delta is not None else self.base

    def lookup(self, uint64_t mac, int role=0):
        """As Generation.lookup; a tombstone is None."""
        row = self.delta.lookup(mac, role) if self.delta is not None else None
        if row is None:
            row = self.base.lookup(mac, role)
        return None if row is None or row["state"] == "tombstone" else row

    def with_address(self, address: int) -> list:
        """(mac, role) of the hosts that are answered with an address."""
        return self.current("with_address", address)

    def with_name(self, name: bytes) -> list:
        """(mac, role) of the hosts of an object of the inventory, in any state."""
        return self.current("with_name", name)

    def current(self, scan: str, wanted) -> list:
        """What the delta finds, and what the base finds of hosts that the delta says nothing about."""
        found = getattr(self.base, scan)(wanted)
        if self.delta is not None:
            found = [key for key in found if self.delta.lookup(*key) is None] + getattr(self.delta, scan)(wanted)
        return found

    def keys(self):
        """(mac, role) of every host in any state."""
        if self.delta is None:
            yield from self.base.keys()
            return
        changed = set(self.delta.keys())
        for key in self.base.keys():
            if key not in changed:
                yield key
        for key in changed:
            if self.delta.lookup(*key)["state"] != "tombstone":
                yield key


@dataclass(frozen=True, slots=True)
class Changes:
    """What differs between two tables: lists of (mac, role)."""
    added: list
    changed: list
    removed: list

    def __len__(self) -> int:
        return len(self.added) + len(self.changed) + len(self.removed)


def compare(Pair old, Generation new not None) -> Changes:
    """What changed from the old pair (None: everything is new) to a base."""
    cdef Host host
    cdef uint32_t at = 0
    cdef const Lease *first
    cdef Generation holder
    added, changed, removed = [], [], []
    while at < new.table.header.lease_count:
        first = new.table.leases + at
        at += first.lease_count
        key = key_of(first.mac, first.role)
        row = (key & 0xffffffffffff, (key >> 48) & 0x7fff)
        if old is None or not find_lease(&old.site, first.mac, first.role, &host):
            added.append(row)
            continue
        holder = old.delta if host.table == &old.site.delta else old.base
        if holder.host_hash(host.lease) != new.host_hash(first):
            changed.append(row)
    if old is not None:
        removed = [key for key in old.keys()
                   if find_in(&new.table, (<uint64_t>1 << 63) | (<uint64_t>key[1] << 48) | <uint64_t>key[0]) == NULL]
    return Changes(added, changed, removed)


def delta_builder(base: Generation, new: Generation, changes: Changes) -> Builder:
    """A Builder of the delta that turns `base` into `new`; changes = compare(Pair(base), new)."""
    builder = Builder(base)
    for mac, role in (*changes.added, *changes.changed):
        builder.copy_host(new, mac, role)
    for mac, role in changes.removed:
        builder.add_tombstone(mac, role)
    return builder
