"""Reads generations: checks them, looks into them, tells two apart; the layout is leases.pxd's.

ext/builder.pyx -> sealed memfd -> Generation (read-only view) -> Pair (base and delta, what the workers answer from).
"""

from cpython.buffer cimport PyBUF_READ
from cpython.memoryview cimport PyMemoryView_FromMemory
from cpython.array cimport array as array_of, extend_buffer
from libc.errno cimport errno as c_errno
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memset

import hashlib
import os
from array import array
from dataclasses import dataclass

from ext.classify cimport CLASS_COUNT
from ext.leases cimport *
from ext.net cimport MAP_FAILED, MAP_SHARED, PROT_READ, is_sealed, mmap, munmap
from ext.placing cimport free_places, make_places
from ext.wire cimport swap32

from ext.leases import LeaseState as states_of_rows
from ext.site_classes import ClassNumbers

STATES = tuple([state.name.lower().replace("_", "-") for state in states_of_rows])
TABLE_LAYOUT = TABLE_VERSION
OWN_BYTES_MAX = 0xffff
FILE_BYTES_MAX = 127
MFD_NOEXEC_SEAL = 8                # Linux 6.3; older kernels say EINVAL
assert sizeof(Header) == 128 and sizeof(Section) == 32
assert sizeof(Slot) == 16 and sizeof(Lease) == 32 and sizeof(Template) == 80


class TableInvalid(ValueError):
    """A table that must not be served, or a row that does not fit into one."""


def checksum(view, header=b"") -> int:
    """64 bits of BLAKE2b over the header (its checksum field zero) and what stands behind it."""
    digest = hashlib.blake2b(header, digest_size=8)
    digest.update(view)
    return int.from_bytes(digest.digest(), "little")


cdef bytes unsummed(const Header *header):
    cdef Header copy = header[0]
    copy.checksum = 0
    return (<const char *>&copy)[:sizeof(copy)]


cdef object view_of(const uint8_t *at, uint64_t length):
    return PyMemoryView_FromMemory(<char *>at, length, PyBUF_READ)


def new_memfd(name: str) -> int:
    """A memfd that can be sealed, never executed where the kernel knows how to say so."""
    try:
        return os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL)
    except OSError:                # EINVAL before Linux 6.3
        return os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)


cdef class Generation:
    """A read-only view of one generation behind the fd of a sealed memfd, which may be closed afterwards."""

    def __cinit__(self, int fd):
        cdef const char *fault
        self.bytes = os.fstat(fd).st_size
        if self.bytes < sizeof(Header):
            raise TableInvalid(f"{self.bytes} bytes, a header alone has {sizeof(Header)}")
        if not is_sealed(fd):
            raise TableInvalid(f"generation fd {fd}: not sealed, it could change or end while it is read")
        self.at = mmap(NULL, self.bytes, PROT_READ, MAP_SHARED, fd, 0)
        if self.at == MAP_FAILED:
            self.at = NULL
            raise OSError(c_errno, f"cannot map generation fd {fd}")
        fault = attach_table(&self.table, self.at, self.bytes)
        if fault != NULL:
            raise TableInvalid(fault.decode())
        try:
            self.classes = ClassNumbers.read((<const char *>self.table.class_names)[:self.table.class_names_bytes]
                                        if self.table.class_names != NULL else b"")
        except ValueError as damaged:
            raise TableInvalid(f"the names of the client classes are damaged: {damaged}") from damaged

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
        return tuple((self.table.networks[i].first, self.table.networks[i].last)
                     for i in range(self.table.network_count))

    @property
    def site_classes(self) -> bytes:
        """All that a base says of the site's client classes, to compare; rows of other classes need a new base."""
        return b"".join(
            self.section_bytes(each) for each in (SECTION_CLASS_NAMES, SECTION_CLASS_FIELDS, SECTION_CLASS_TEXTS,
                                                  SECTION_CLASS_NUMBERS))

    cdef bytes section_bytes(self, uint32_t kind):
        cdef const Section *section = <const Section *>(<const uint8_t *>self.at + sizeof(Header))
        cdef uint32_t i
        for i in range(self.table.header.section_count):
            if section[i].kind == kind:
                return (<const char *>self.at + section[i].at)[:section[i].count * section[i].size]
        return b""

    @property
    def shared(self) -> tuple:
        """(first, last, group) of the networks that share a link with others, disjoint and sorted."""
        return tuple((self.table.shared[i].first, self.table.shared[i].last, self.table.shared[i].group)
                     for i in range(self.table.shared_count))

    @property
    def beneath(self) -> bytes:
        """A generation with the inventory's rows of what an operator has changed in this delta; empty without."""
        return self.section_bytes(SECTION_BENEATH)

    @property
    def is_converted(self) -> bool:
        """True when rows come from a layout that told objects apart by name alone: a refresh replaces it as a whole."""
        return bool(self.table.header.flags & FLAG_CONVERTED)

    def __len__(self) -> int:
        """Rows: hosts in every state, tombstones included."""
        return sum(1 for _ in self.keys())

    def keys(self):
        """(mac, role) of every row."""
        cdef uint32_t at = 0
        while at < self.table.lease_count:
            key = key_of(self.table.leases[at].mac, self.table.leases[at].role)
            yield key & 0xffffffffffff, (key >> 48) & 0x7fff
            at += max(<uint8_t>1, self.table.leases[at].lease_count)

    def with_address(self, uint32_t address) -> list:
        """(mac, role) of the rows that hand out an address; a scan, 10 ms in a million hosts."""
        cdef uint32_t at, wanted = swap32(address)
        found = []
        for at in range(self.table.lease_count):
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
        while at < self.table.lease_count:
            lease = self.table.leases + at
            at += max(<uint8_t>1, lease.lease_count)
            if lease.name_bytes == length and memcmp(self.table.heap + lease.name_at, wanted, length) == 0:
                key = key_of(lease.mac, lease.role)
                found.append((key & 0xffffffffffff, (key >> 48) & 0x7fff))
        return found

    def in_state(self, str state not None) -> list:
        """(mac, role) of the rows in a state of STATES."""
        cdef uint32_t at = 0
        cdef int wanted = STATES.index(state)
        found = []
        while at < self.table.lease_count:
            if state_of(self.table.leases + at) == wanted:
                found.append(unpacked(key_of(self.table.leases[at].mac, self.table.leases[at].role)))
            at += max(<uint8_t>1, self.table.leases[at].lease_count)
        return found

    def with_names(self, wanted) -> dict:
        """name -> [(mac, role)] of the rows of many objects at once.  wanted: a set of bytes."""
        cdef uint32_t at = 0
        cdef const Lease *lease
        found = {}
        while at < self.table.lease_count:
            lease = self.table.leases + at
            at += max(<uint8_t>1, lease.lease_count)
            name = (<const char *>self.table.heap + lease.name_at)[:lease.name_bytes]
            if name in wanted:
                found.setdefault(name, []).append(unpacked(key_of(lease.mac, lease.role)))
        return found

    def number_of(self, uint64_t mac, int role=0) -> int:
        """A row's own number; 0 for one without, and for no row.  mac: or a row's key, as in lookup."""
        cdef const Lease *first = find_in(&self.table, (<uint64_t>1 << 63) | (<uint64_t>role << 48) | mac)
        return number_of(first) if first != NULL else 0

    def numbers_borne(self) -> bytes:
        """A bit for each number that a row bears, tombstones too, in words of 8 bytes; read once, and kept."""
        cdef uint32_t i, highest = 0
        cdef uint8_t *bits
        if self.borne is None:
            for i in range(self.table.lease_count):
                highest = max(highest, number_of(self.table.leases + i))
            made = bytearray((highest // 64 + 1) * 8)
            bits = made
            for i in range(self.table.lease_count):
                bits[number_of(self.table.leases + i) >> 3] |= <uint8_t>(1 << (self.table.leases[i].number[0] & 7))
            self.borne = bytes(made)
        return self.borne

    def content_hash(self, uint64_t mac, int role=0) -> int:
        """Of everything that a host's row says; 0 when there is none.  mac: or a row's key, as in lookup."""
        cdef const Lease *first = find_in(&self.table, (<uint64_t>1 << 63) | (<uint64_t>role << 48) | mac)
        return self.host_hash(first) if first != NULL else 0

    cdef uint64_t host_hash(self, const Lease *first, bint with_identity=True) noexcept nogil:
        cdef uint64_t value = identity_of(&self.table, first) if with_identity else 0
        cdef uint8_t i
        for i in range(first.lease_count):
            value = lease_hash(value, first + i, self.table.heap,
                               self.table.templates[first[i].template_index].content_hash
                               if is_answered(first.state) else first.template_index)
        return value

    cdef object template_dict(self, uint32_t index, bint whole=True):
        """whole: with what clients of other classes get, as far as it differs."""
        cdef const Template *template = self.table.templates + index
        variants = {} if not whole else {
            client: self.template_dict(variant, False) for client, variant in self.variants_of(index)
        }
        return {
            **({"variants": variants} if variants else {}),
            "options": (<const char *>self.table.heap + template.options_at)[:template.options_bytes],
            "file": (<const char *>self.table.heap + template.file_at)[:template.file_bytes],
            "siaddr": swap32(template.siaddr_be), "server_id": swap32(template.server_id_be),
            "lease_s": template.lease_s, "renewal_s": template.renewal_s, "rebinding_s": template.rebinding_s,
            "flags": template.flags,
        }

    def own_columns(self) -> list:
        """ClassNumbers of the classes beyond the first CLASS_COUNT that some template has something of its own for."""
        return [client for client in range(CLASS_COUNT, CLASS_NUMBERS if self.table.columns != NULL else 0)
                if self.table.columns[client] >= CLASS_COUNT
                and self.table.columns[<uint8_t>self.classes.parent(client)] != self.table.columns[client]]

    cdef list variants_of(self, uint32_t index):
        """(class, template index) of those that get something else: than the template of one of the first CLASS_COUNT, than
        their wider class of the others.  A class of the site goes by its name."""
        cdef const Template *template = self.table.templates + index
        cdef uint32_t client, variant
        cdef int wider
        found = [(client, template.variants[client]) for client in range(CLASS_COUNT)
                 if template.variants[client] != index]
        for client in self.own_columns():
            wider = self.classes.parent(client)
            variant = variant_of(&self.table, index, client)
            if variant != variant_of(&self.table, index, wider):
                found.append((self.classes.said(client), variant))
        return found

    def lookup(self, uint64_t mac, int role=0):
        """The row of a host as a dict (name, state, own, leases with template contents, `port` of one that is not served), None
        when there is none.

        mac: 48 bits; or a row's key, which has the role above them."""
        cdef const Lease *first = find_in(&self.table, (<uint64_t>1 << 63) | (<uint64_t>role << 48) | mac)
        if first == NULL:
            return None
        return {
            "mac": mac & 0xffffffffffff, "role": first.role, "state": STATES[state_of(first)],
            "name": (<const char *>self.table.heap + first.name_at)[:first.name_bytes],
            "identity": identity_of(&self.table, first),
            "own": (<const char *>self.table.heap + first.own_at)[:first.own_bytes],
            "leases": [{"address": swap32(first[i].address_be), "prefix": first[i].prefix,
                        "template": self.template_dict(first[i].template_index)}
                       for i in range(first.lease_count)] if is_answered(first.state) else [],
            **({"port": first.template_index} if state_of(first) == OTHER_PORT else {}),
        }

    cdef list owner(self, const Lease *lease):
        """[key, name, identity] of a lease's row."""
        return [key_of(lease.mac, lease.role) & ~(<uint64_t>1 << 63),
                (<const char *>self.table.heap + lease.name_at)[:lease.name_bytes], identity_of(&self.table, lease)]

    cdef bint variants_exist(self, uint32_t index) noexcept:
        cdef uint32_t client
        for client in range(CLASS_NUMBERS):
            if variant_of(&self.table, index, client) >= self.table.template_count:
                return False
        return True

    cdef bint is_proxied_right(self, const Lease *lease) noexcept:
        """Without an address a reply can only be broadcast.  The variants exist: the templates were looked at before."""
        cdef uint32_t client
        for client in range(CLASS_NUMBERS):
            if not self.table.templates[variant_of(&self.table, lease.template_index, client)].flags & TEMPLATE_BROADCAST:
                return False
        return lease.address_be == 0 and lease.prefix == 32 and lease.lease_count == 1

    cdef void verify_classes(self) except *:
        """Columns before the variants that they point to; and all that a request's octets lead to."""
        cdef uint32_t i, k, count
        cdef const ClassField *field
        for i in range(CLASS_NUMBERS if self.table.columns != NULL else 0):
            if self.table.columns[i] >= CLASS_COUNT + self.table.column_count:
                raise TableInvalid(f"generation {self.number}: client class {i} has no column")
        for i in range(self.table.class_field_count):
            field = self.table.class_fields + i
            count = (self.table.class_text_count if field.kind <= FIELD_MACHINE_GUID
                     else self.table.class_number_count)
            if (field.kind >= FIELD_KINDS or field.count == 0 or field.first > count or field.count > count - field.first
                    or (field.kind <= FIELD_MACHINE_GUID and not self.texts_are_right(field))):
                raise TableInvalid(f"generation {self.number}: field {i} of the client classes is impossible")

    cdef bint texts_are_right(self, const ClassField *field) noexcept:
        cdef uint32_t i
        cdef const ClassText *text
        cdef uint32_t rows = 0, columns = 0
        for i in range(CLASS_GROUPS):
            if field.groups[i] > field.groups[i + 1] or field.groups[i + 1] > field.count:
                return False
        for i in range(256):
            rows, columns = max(rows, <uint32_t>field.kinds[0][i]), max(columns, <uint32_t>field.kinds[1][i])
        if field.pivots[0] > field.pivots[1] or rows * field.width + columns >= CLASS_GROUPS:
            return False
        for i in range(field.count):
            text = self.table.class_texts + field.first + i
            if text.length > CLASS_TEXT_BYTES or text.length <= field.pivots[1] or text.parent > i:
                return False
        return True

    def verify(self):
        """Check everything that a file from a disk can get wrong: checksum, every index, every heap reference.

        Raises TableInvalid.  Workers check the bounds of the sections only; whoever publishes calls this first."""
        cdef const Header *header = self.table.header
        cdef const Lease *lease
        cdef uint32_t i, free = 0
        if header.checksum != checksum(view_of(<uint8_t *>self.at + sizeof(Header), self.bytes - sizeof(Header)),
                                       unsummed(header)):
            raise TableInvalid(f"generation {self.number}: checksum differs, the content is damaged")
        for i in range(self.table.slot_count):
            if self.table.slots[i].key == 0:
                free += 1
            elif self.table.slots[i].lease >= self.table.lease_count:
                raise TableInvalid(f"generation {self.number}: slot {i} points past the leases")
            else:
                lease = self.table.leases + self.table.slots[i].lease
                if key_of(lease.mac, lease.role) != self.table.slots[i].key:
                    raise TableInvalid(f"generation {self.number}: slot {i} names another host's lease")
        if free == 0:
            raise TableInvalid(f"generation {self.number}: no free slot, a look-up would never end")
        for i in range(self.table.link_count):
            if self.table.links[i].prefix > 32:
                raise TableInvalid(f"generation {self.number}: link {i} is impossible")
        for i in range(self.table.relay_count):
            if self.table.relays[i].prefix > 32:
                raise TableInvalid(f"generation {self.number}: relay {i} is impossible")
        for i in range(self.table.rule_count):
            if (self.table.rules[i].length > RULE_TEXT_BYTES
                    or self.table.rules[i].role > ROLE_BMC):
                raise TableInvalid(f"generation {self.number}: rule {i} is impossible")
        self.verify_classes()
        for i in range(self.table.shared_count):
            if (self.table.shared[i].group == 0 or self.table.shared[i].first > self.table.shared[i].last
                    or (i and self.table.shared[i].first <= self.table.shared[i - 1].last)):
                raise TableInvalid(f"generation {self.number}: shared network {i} is impossible")
        for i in range(self.table.template_count):
            if (self.table.templates[i].options_at + <uint64_t>self.table.templates[i].options_bytes > self.table.heap_bytes
                    or self.table.templates[i].file_at + <uint64_t>self.table.templates[i].file_bytes > self.table.heap_bytes
                    or self.table.templates[i].file_bytes > FILE_BYTES_MAX
                    or not are_options(self.table.heap + self.table.templates[i].options_at,
                                       self.table.templates[i].options_bytes)
                    or not self.variants_exist(i)):
                raise TableInvalid(f"generation {self.number}: template {i} is impossible")
        for i in range(self.table.lease_count):
            lease = self.table.leases + i
            if (lease.own_at < IDENTITY_BYTES or lease.own_at + <uint64_t>lease.own_bytes > self.table.heap_bytes or lease.prefix > 32
                    or lease.name_at + <uint64_t>lease.name_bytes > self.table.heap_bytes
                    or lease.lease_count == 0 or lease.lease_count > self.table.lease_count - i
                    or lease.state > TOMBSTONE
                    or not are_options(self.table.heap + lease.own_at, lease.own_bytes)
                    or (is_answered(lease.state) and lease.template_index >= self.table.template_count)
                    or (lease.state == PROXIED and not self.is_proxied_right(lease))):
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
        self.places = self.site.places = make_places(&self.site)

    def __dealloc__(self):
        free_places(self.places)

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

    def holder_of(self, mac: int, role: int = 0) -> Generation:
        """The one of the two whose row of a host counts."""
        return self.delta if self.delta is not None and self.delta.lookup(mac, role) is not None else self.base

    def with_names(self, wanted) -> list:
        """(mac, role) of the hosts of many objects, in any state.  wanted: a set of bytes."""
        found = [key for keys in self.base.with_names(wanted).values() for key in keys]
        if self.delta is not None:
            found = [key for key in found if self.delta.lookup(*key) is None]
            found += [key for keys in self.delta.with_names(wanted).values() for key in keys]
        return [key for key in found if self.lookup(*key) is not None]

    def content_hash(self, mac: int, role: int = 0) -> int:
        """Of everything that a host's row says; 0 when there is none."""
        return self.holder_of(mac, role).content_hash(mac, role) if self.lookup(mac, role) is not None else 0

    def number_of(self, mac: int, role: int = 0) -> int:
        """As Generation.number_of."""
        return self.holder_of(mac, role).number_of(mac, role)

    def in_state(self, state: str) -> list:
        """(mac, role) of the hosts in a state of STATES, other than "tombstone"."""
        return self.current("in_state", state)

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


class Keys:
    """Many (mac, role) pairs at 8 bytes each: a million changes are nothing special."""
    __slots__ = ("packed",)

    def __init__(self, packed=()):
        self.packed = packed if isinstance(packed, array) else array("Q", packed)

    def __len__(self) -> int:
        return len(self.packed)

    def __iter__(self):
        return (unpacked(key) for key in self.packed)

    def __getitem__(self, place):
        found = self.packed[place]
        return [unpacked(key) for key in found] if isinstance(place, slice) else unpacked(found)

    def __eq__(self, other) -> bool:
        return list(self) == list(other)

    def __repr__(self) -> str:
        return repr(list(self))


def row_key(mac: int, role: int) -> int:
    """One number for a row: the MAC, and above its 48 bits the role."""
    return mac | role << 48


cdef inline object unpacked(uint64_t key):
    return key & 0xffffffffffff, (key >> 48) & 0x7fff


@dataclass(frozen=True, slots=True)
class Changes:
    """What differs between two tables."""
    added: Keys
    changed: Keys
    removed: Keys

    def __len__(self) -> int:
        return len(self.added) + len(self.changed) + len(self.removed)


cdef class KeyList:
    cdef array_of keys

    def __cinit__(self):
        self.keys = array("Q")

    cdef void add(self, uint64_t key) except *:
        extend_buffer(self.keys, <char *>&key, 1)


cdef void compare_rows(const Table *rows, const Table *younger, const Site *other, Pair pair, Pair other_pair,
                       KeyList absent, KeyList differing) except *:
    """The keys of a pair's rows, as far as a younger table says nothing of them, that another pair has not, or has
    otherwise.  differing may be None."""
    cdef Host host
    cdef uint32_t at = 0
    cdef uint64_t key
    cdef const Lease *first
    cdef Generation mine, theirs
    cdef bint both
    while rows.header != NULL and at < rows.lease_count:
        first = rows.leases + at
        at += first.lease_count
        key = key_of(first.mac, first.role)
        if first.state == TOMBSTONE or (younger != NULL and find_in(younger, key) != NULL):
            continue
        if not find_lease(other, first.mac, first.role, &host):
            absent.add(key)
        elif differing is not None:
            mine = pair.base if rows == &pair.site.base else pair.delta
            theirs = other_pair.base if host.table == &other.base else other_pair.delta
            both = not (is_by_name(identity_of(rows, first)) or is_by_name(identity_of(host.table, host.lease)))
            if mine.host_hash(first, both) != theirs.host_hash(host.lease, both):
                differing.add(key)


def compare(Pair old, new not None) -> Changes:
    """What changed from the old pair (None: everything is new) to a base or another pair."""
    cdef Pair now = new if isinstance(new, Pair) else Pair(new)
    cdef KeyList added = KeyList(), changed = KeyList(), removed = KeyList()
    cdef Site nothing
    cdef const Site *before = &nothing
    memset(&nothing, 0, sizeof(nothing))
    if old is not None:
        before = &old.site
    compare_rows(&now.site.base, &now.site.delta, before, now, old, added, changed)
    compare_rows(&now.site.delta, NULL, before, now, old, added, changed)
    if old is not None:
        compare_rows(&old.site.base, &old.site.delta, &now.site, old, now, removed, None)
        compare_rows(&old.site.delta, NULL, &now.site, old, now, removed, None)
    return Changes(Keys(added.keys), Keys(changed.keys), Keys(removed.keys))
