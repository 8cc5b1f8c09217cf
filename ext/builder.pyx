"""Writes generations: collects rows, finds who claims what somebody else has, seals; the layout is leases.pxd's.

Builder -> sealed memfd; ext/table.pyx reads what this writes.
"""

from cpython.mem cimport PyMem_Calloc, PyMem_Free, PyMem_Malloc, PyMem_Realloc
from libc.errno cimport errno as c_errno
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport bsearch, qsort
from libc.string cimport memcpy, memset

import fcntl
import os

from ext.classify cimport CLASS_COUNT, SITE_CLASS
from ext.leases cimport *
from ext.rows cimport Numbers, count_hosts, put_slot
from ext.net cimport MAP_FAILED, MAP_POPULATE, MAP_SHARED, PROT_READ, PROT_WRITE, mmap, munmap
from ext.table cimport Generation, are_options, lease_hash, mix, unsummed, view_of
from ext.table import FILE_BYTES_MAX, OWN_BYTES_MAX, STATES, TableInvalid, checksum, new_memfd
from ext.site_classes import ClassNumbers, class_sections
from ext.surroundings import ROLES as ROLES, RULES as RULES, Surroundings as Surroundings, merged as merged
from ext.surroundings import sections_of
from ext.wire cimport swap32


TEMPLATE_FIELDS = ("options", "file", "siaddr", "server_id", "lease_s", "renewal_s", "rebinding_s", "flags")
TEMPLATE_FLAGS = {"no-overload": TEMPLATE_NO_OVERLOAD, "broadcast": TEMPLATE_BROADCAST, "boots": TEMPLATE_BOOTS}


def by_kind(variant) -> tuple:
    """The order of variants: built-in classes by number, then the site's by name."""
    return isinstance(variant[0], str), variant[0]


cdef object check_blob(bytes options):
    if not are_options(<const uint8_t *><const char *>options, len(options)):
        raise TableInvalid(f"options {options.hex()}: not whole options one after the other")


cdef struct Claim:                 # an address that an object has without being answered with it
    uint32_t address
    uint32_t name_at
    uint64_t identity
    uint8_t name_bytes


cdef int by_value(const void *left, const void *right) noexcept nogil:
    cdef uint64_t a = (<const uint64_t *>left)[0], b = (<const uint64_t *>right)[0]
    return (a > b) - (a < b)


cdef uint64_t mac_then_role(const Lease *lease) noexcept nogil:
    """The rows of one MAC stand side by side when sorted by this."""
    return (key_of(lease.mac, lease.role) & (<uint64_t>1 << 48) - 1) << 1 | lease.role


cdef void *room_for(void *old, uint64_t count, size_t size) except NULL:
    cdef void *grown = PyMem_Realloc(old, count * size)
    if grown == NULL:
        raise MemoryError(f"{count} rows of {size} bytes")
    return grown


cdef uint64_t identity_from(object thing, bytes name) except? 0:
    """thing: how the source tells the object apart (bytes), an identity that is known already (int), or None: by the name
    that is shown."""
    if thing is None:
        thing = name
    if isinstance(thing, int):
        return <uint64_t>thing
    return mix(2, <const uint8_t *><const char *><bytes>thing, len(thing)) & ~(<uint64_t>1 << 63)


def identity_of_object(bytes thing not None) -> int:
    """As add_host makes it of the same bytes, and lookup() gives it back."""
    return identity_from(thing, b"")


cdef class Builder:
    """Collects hosts and templates; seal() makes a generation of them.  base: the Generation that a delta belongs to."""
    cdef Lease *leases
    cdef uint32_t lease_count, lease_room, host_rows
    cdef Claim *claims
    cdef uint32_t claim_count, claim_room
    cdef uint64_t digest
    cdef bint is_converted         # has rows of a layout that told objects apart by name
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
            self.digest = self.base.table.header.digest

    def __dealloc__(self):
        PyMem_Free(self.leases)
        PyMem_Free(self.claims)

    def __len__(self) -> int:
        """Rows."""
        return self.host_rows

    def add_template(self, *, bytes options=b"", bytes file=b"", uint32_t siaddr=0, uint32_t server_id=0,
                     uint32_t lease_s=3600, uint32_t renewal_s=1600, uint32_t rebinding_s=3150, uint8_t flags=0,
                     dict variants=None) -> int:
        """Index of the template with this content; equal ones are one.  options: encoded, without 51, 53, 54, 58, 59;
        flags: TEMPLATE_... of leases.pxd.

        variants: ClientClass, or the name of a class of the site -> the same arguments but this one, for clients that get
        something else: than everybody, where it is one of the first CLASS_COUNT; than its wider class, where it is not."""
        fields = (options, file, siaddr, server_id, lease_s, renewal_s, rebinding_s, flags)
        others = {client if isinstance(client, str) else int(client): self.add_template(**other)
                  for client, other in sorted((variants or {}).items(), key=by_kind)}
        if any(not 0 <= client < SITE_CLASS for client in others if isinstance(client, int)):
            raise TableInvalid(f"client classes {list(others)}: wanted 0 to {SITE_CLASS - 1}, or names")
        key = (fields, tuple(others.items()))
        known = self.template_index.get(key)
        if known is not None:
            return known
        if len(file) > FILE_BYTES_MAX:
            raise TableInvalid(f"boot file of {len(file)} bytes: the field takes {FILE_BYTES_MAX}")
        if len(options) > OWN_BYTES_MAX:
            raise TableInvalid(f"options of {len(options)} bytes: a template takes {OWN_BYTES_MAX}")
        check_blob(options)
        said = repr((fields, [(client, self.template_hashes[index]) for client, index in others.items()])).encode()
        self.template_index[key] = len(self.templates)
        self.template_hashes.append(mix(1, <const uint8_t *><const char *>said, len(said)))
        self.templates.append((self.store(options), self.store(file), fields, others))
        return len(self.templates) - 1

    cdef dict template(self, uint32_t index):
        """As add_template takes it."""
        _options_at, _file_at, fields, others = self.templates[index]
        made = dict(zip(TEMPLATE_FIELDS, fields))
        if others:
            made["variants"] = {client: self.template(other) for client, other in others.items()}
        return made

    cdef uint32_t store(self, bytes content) except? 0xffffffff:
        return self.store_all(content)

    cdef uint32_t store_all(self, content) except? 0xffffffff:
        at = len(self.heap)
        if at + len(content) >= 0xffffffff:
            raise TableInvalid("the heap of one generation takes 4 GiB")
        self.heap += content
        return at

    cdef Lease *new_leases(self, uint32_t count) except NULL:
        """Room for some more behind the last; filled with zeros."""
        cdef Lease *fresh
        if self.lease_room - self.lease_count < count:
            room = max(1024, self.lease_room + self.lease_room // 2, self.lease_count + count)
            self.leases = <Lease *>room_for(self.leases, room, sizeof(Lease))
            self.lease_room = room
        fresh = self.leases + self.lease_count
        memset(fresh, 0, count * sizeof(Lease))
        self.lease_count += count
        return fresh

    def add_claim(self, uint32_t address, bytes name not None, object thing=None):
        """An object that is not answered with this address, but has it: nobody else may get it.  thing: as in add_host."""
        cdef Claim *claim
        if self.claim_count == self.claim_room:
            room = max(64, self.claim_room * 2)
            self.claims = <Claim *>room_for(self.claims, room, sizeof(Claim))
            self.claim_room = room
        claim = self.claims + self.claim_count
        claim.address, claim.name_bytes = address, <uint8_t>min(255, len(name))
        claim.name_at = self.store(name)
        claim.identity = identity_from(thing, name)
        self.claim_count += 1

    def add_host(self, uint64_t mac, *, int state=0, bytes name=b"", bytes own=b"", leases=(), int role=0,
                 object thing=None, uint32_t port=0):
        """One host.  mac: 48-bit int, or a row's key, which has the role above that; name: the object's, as it is shown,
        at most 255 bytes; own: encoded options of this host alone;
        thing: how the source tells the object apart (bytes), or an identity as lookup() gives it; None: by its name;
        leases: (address, prefix, template index), the preferred first; needed where STATES says served, and one of
        (0, 32, template index) for proxied;
        port: of a card in state other-port, its number."""
        cdef Lease *lease
        cdef uint32_t own_at, name_at
        cdef int left = len(leases)
        cdef uint64_t identity = identity_from(thing, name)
        if (left == 0) == is_answered(state) or left > 255:
            raise TableInvalid(f"host {name.decode('utf-8', 'replace')}: {left} addresses in state {STATES[state]}")
        role |= mac >> 48
        if role > ROLE_BMC:
            raise TableInvalid(f"MAC {mac:#x} has more than 48 bits, and what is above them is no role")
        check_blob(own)
        for address, prefix, template in leases:
            if not (0 <= address <= 0xffffffff and (address > 0) == (state == SERVED) and 0 <= prefix <= 32
                    and 0 <= template < len(self.templates)):
                raise TableInvalid(f"host {name.decode('utf-8', 'replace')}: no lease ({address}, {prefix}, {template})")
        if len(own) > OWN_BYTES_MAX or len(name) > 255:
            raise TableInvalid(f"host {name.decode('utf-8', 'replace')}: {len(own)} bytes of options, "
                               f"{len(name)} of name; a lease takes {OWN_BYTES_MAX} and 255")
        self.is_converted |= is_by_name(identity)
        own_at = self.store((<const char *>&identity)[:IDENTITY_BYTES] + own) + IDENTITY_BYTES
        inside = own.find(name)    # nearly always the host name option holds it already
        name_at = own_at + inside if inside >= 0 else self.store(name)
        first = self.lease_count
        if (port != 0) != (state == OTHER_PORT):
            raise TableInvalid(f"host {name.decode('utf-8', 'replace')}: port {port} in state {STATES[state]}")
        if state == HELD:
            port = HELD_MARK
        if state == OTHER_PORT or state == HELD:
            state = DISABLED
        for address, prefix, template in (leases or ((0, 0, port),)):
            lease = self.new_leases(1)
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
        self.count_row(first, role, state)

    cdef void count_row(self, uint32_t first, int role, int state) except *:
        """Keep the digest of the pair: a delta's row stands for the base's row of the same host."""
        cdef const Lease *old = NULL
        self.host_rows += 1
        if self.base is not None:
            old = find_in(&self.base.table, key_of(self.leases[first].mac, role))
        if old != NULL:
            self.digest -= self.base.host_hash(old)
        if state != TOMBSTONE:
            self.digest += self.row_hash(first)

    cdef uint64_t row_hash(self, uint32_t first) except? 0:
        cdef uint64_t value = self.identity_at(first)
        cdef uint32_t i
        cdef const uint8_t *heap = <const uint8_t *><char *>self.heap
        for i in range(self.leases[first].lease_count):
            value = lease_hash(value, &self.leases[first + i], heap,
                               self.template_hashes[self.leases[first + i].template_index]
                               if is_answered(self.leases[first].state) else self.leases[first].template_index)
        return value

    cdef uint64_t identity_at(self, uint32_t lease) noexcept:
        cdef uint64_t identity
        memcpy(&identity, <const char *>self.heap + self.leases[lease].own_at - IDENTITY_BYTES, IDENTITY_BYTES)
        return identity

    def append(self, Builder other not None, skip=frozenset(), held=frozenset(), objects=frozenset(),
               outdated=frozenset()):
        """Take over the rows and claims of another builder.  Neither has a base.

        Left out are rows whose keys are in `skip`, and rows and claims of `outdated` objects (identities): as if they were
        not there.  Rows whose keys are in `held`, or of some `objects`, are left out, too, and what they would have been
        answered with becomes a claim: it is nobody else's."""
        cdef uint32_t heap_at = len(self.heap), at = 0, i
        cdef const Lease *first
        cdef Lease *copy
        cdef Claim claim
        cdef uint64_t key, identity
        cdef bint whole = not (skip or held or objects or outdated)
        cdef list indexes = [self.add_template(**other.template(index)) for index in range(len(other.templates))]
        if self.base is not None or other.base is not None:
            raise TableInvalid("rows of a delta cannot be taken over: they count against its base")
        heap_at = self.store_all(other.heap)
        self.is_converted |= other.is_converted
        while at < other.lease_count:
            first = other.leases + at
            if not whole:
                key, identity = row_key(first), other.identity_at(at)
                if key in skip or identity in outdated:
                    at += first.lease_count
                    continue
                if key in held or identity in objects:
                    self.claim_leases(other, at)
                    at += first.lease_count
                    continue
            at += first.lease_count
            copy = self.new_leases(first.lease_count)
            memcpy(copy, first, first.lease_count * sizeof(Lease))
            for i in range(first.lease_count):
                copy[i].own_at += heap_at
                copy[i].name_at += heap_at
                if is_answered(first.state):
                    copy[i].template_index = indexes[copy[i].template_index]
            self.host_rows += 1
            if not whole:
                self.digest += self.row_hash(<uint32_t>(copy - self.leases))
        if whole:
            self.digest += other.digest
        if other.claim_count:
            self.claims = <Claim *>room_for(self.claims, self.claim_count + other.claim_count, sizeof(Claim))
            self.claim_room = self.claim_count + other.claim_count
            for i in range(other.claim_count):
                claim = other.claims[i]
                if outdated and claim.identity in outdated:
                    continue
                claim.name_at += heap_at
                self.claims[self.claim_count] = claim
                self.claim_count += 1

    cdef int claim_leases(self, Builder other, uint32_t at) except -1:
        """What a row of another builder would be answered with."""
        cdef const Lease *first = other.leases + at
        cdef uint32_t i
        if first.state == SERVED:
            for i in range(first.lease_count):
                self.add_claim(swap32(first[i].address_be), other.name_of(first.name_at, first.name_bytes),
                               other.identity_at(at))
        return 0

    def hosts(self) -> int:
        """That are answered, by the pair where this is a delta: objects, however many cards they have."""
        if self.base is None:
            return count_hosts(self.leases, self.lease_count, <const uint8_t *><char *>self.heap)
        from ext.addresses import Index

        return Index(self.base).hosts_with(self.answered())

    def answered(self) -> list:
        """[(key, identity, whether it is a host's and answered)] of all rows."""
        cdef uint32_t at = 0
        found = []
        while at < self.lease_count:
            found.append((row_key(self.leases + at), self.identity_at(at), is_served_host(self.leases + at)))
            at += self.leases[at].lease_count
        return found

    def holdings(self, objects) -> list:
        """[(address, name, identity)]: what some objects (identities) are answered with or have without that."""
        cdef uint32_t at = 0, i
        cdef const Lease *first
        found = []
        while at < self.lease_count:
            first = self.leases + at
            identity = self.identity_at(at)
            if first.state == SERVED and identity in objects:
                name = self.name_of(first.name_at, first.name_bytes)
                found += [(swap32(first[i].address_be), name, identity) for i in range(first.lease_count)]
            at += first.lease_count
        for i in range(self.claim_count):
            if self.claims[i].identity in objects:
                name = self.name_of(self.claims[i].name_at, self.claims[i].name_bytes)
                found.append((self.claims[i].address, name, self.claims[i].identity))
        return found

    def objects(self, among=None) -> set:
        """Identities of the rows' objects.  among: only those that are in this set."""
        cdef uint32_t at = 0
        found = set()
        while at < self.lease_count:
            identity = self.identity_at(at)
            if among is None or identity in among:
                found.add(identity)
            at += self.leases[at].lease_count
        return found

    def contested(self) -> tuple:
        """({MAC: [(key, name, identity)]}, {address: [(key or None, name, identity)]}): all rows of MACs that have several
        in one role, or some of several objects; and addresses that several objects have.  An identity is as in lookup()."""
        return self.contested_macs(), self.contested_addresses()

    cdef dict contested_macs(self):
        cdef uint64_t *keys = <uint64_t *>PyMem_Malloc((self.host_rows + 1) * sizeof(uint64_t))
        cdef uint32_t at = 0, count = 0, shared = 0, i
        if keys == NULL:
            raise MemoryError(f"{self.host_rows} keys")
        while at < self.lease_count:
            keys[count] = mac_then_role(self.leases + at)
            at += self.leases[at].lease_count
            count += 1
        qsort(keys, count, sizeof(uint64_t), by_value)
        macs = {keys[i] >> 1 for i in range(1, count) if keys[i] == keys[i - 1]}
        for i in range(1, count):      # in place: the MACs that have both roles, nearly all of a BMC on its host's card
            if keys[i] == (keys[i - 1] | 1) and keys[i] != keys[i - 1]:
                keys[shared] = keys[i] >> 1
                shared += 1
        try:
            macs |= self.macs_of_several(keys, shared)
        finally:
            PyMem_Free(keys)
        found = {}
        at = 0
        while macs and at < self.lease_count:
            mac = mac_then_role(self.leases + at) >> 1
            if mac in macs:
                found.setdefault(mac, []).append(self.owner(at))
            at += self.leases[at].lease_count
        return found

    cdef set macs_of_several(self, const uint64_t *macs, uint32_t count):
        """Those of some MACs, sorted, whose rows are of several objects."""
        cdef uint64_t *first = <uint64_t *>PyMem_Calloc(count + 1, sizeof(uint64_t))  # identity and 1; 0: no row yet
        cdef const uint64_t *place
        cdef uint64_t mac, identity
        cdef uint32_t at = 0
        found = set()
        if first == NULL:
            raise MemoryError(f"{count} MACs")
        while count and at < self.lease_count:
            mac = mac_then_role(self.leases + at) >> 1
            place = <const uint64_t *>bsearch(&mac, macs, count, sizeof(uint64_t), by_value)
            if place != NULL:
                identity = self.identity_at(at) + 1
                if first[place - macs] == 0:
                    first[place - macs] = identity
                elif first[place - macs] != identity:
                    found.add(mac)
            at += self.leases[at].lease_count
        PyMem_Free(first)
        return found

    cdef dict contested_addresses(self):
        """Sorted (address, ordinal): leases first, then claims."""
        cdef uint64_t total = <uint64_t>self.lease_count + self.claim_count
        cdef uint64_t *owned = <uint64_t *>PyMem_Malloc((total + 1) * sizeof(uint64_t))
        cdef uint32_t count = 0, i
        if owned == NULL:
            raise MemoryError(f"{total} addresses")
        for i in range(self.lease_count):
            if self.leases[i].state == SERVED:
                owned[count] = (<uint64_t>swap32(self.leases[i].address_be) << 32) | i
                count += 1
        for i in range(self.claim_count):
            owned[count] = (<uint64_t>self.claims[i].address << 32) | (self.lease_count + i)
            count += 1
        qsort(owned, count, sizeof(uint64_t), by_value)
        groups = {}
        for i in range(1, count):
            if owned[i] >> 32 == owned[i - 1] >> 32:
                group = groups.setdefault(owned[i] >> 32, [])
                if not group:
                    group.append(self.owner(owned[i - 1] & 0xffffffff))
                group.append(self.owner(owned[i] & 0xffffffff))
        PyMem_Free(owned)
        return {address: owners for address, owners in groups.items()
                if len({identity for _key, _name, identity in owners}) > 1}

    cdef tuple owner(self, uint32_t ordinal):
        cdef const Lease *lease
        cdef const Claim *claim
        if ordinal < self.lease_count:
            lease = self.leases + ordinal
            return row_key(lease), self.name_of(lease.name_at, lease.name_bytes), self.identity_at(ordinal)
        claim = self.claims + (ordinal - self.lease_count)
        return None, self.name_of(claim.name_at, claim.name_bytes), claim.identity

    cdef bytes name_of(self, uint32_t at, uint8_t length):
        return bytes(self.heap[at:at + length])

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
        self.add_host(mac, state=STATES.index(row["state"]), name=row["name"], own=row["own"], leases=leases, role=role,
                      thing=row["identity"], port=row.get("port", 0))

    def seal(self, uint64_t generation, surroundings, *, int64_t created_s, Numbers numbers=None, hosts=None,
             bytes beneath=b"") -> int:
        """A sealed memfd with everything added so far; the caller owns the fd.  Raises TableInvalid on a MAC given twice.

        generation: its number, above the base's.  created_s: seconds since 1970 of the inventory's word.
        numbers: for the rows, which bear none without.  hosts: that are answered, where somebody knows it already.
        beneath: as Generation.beneath gives it back."""
        cdef Header header
        cdef uint32_t slot_count = 16
        memset(&header, 0, sizeof(header))
        header.magic, header.version = TABLE_MAGIC_LOW, TABLE_VERSION
        header.generation = generation
        header.base = self.base.number if self.base is not None else generation
        header.base_checksum = self.base.table.header.checksum if self.base is not None else 0
        header.created_s = created_s
        header.digest = self.digest
        if hosts is None:
            hosts = self.hosts()
        header.host_count = hosts
        if numbers is not None:
            numbers.give(self.leases, self.lease_count)
        header.server_id_be = swap32(surroundings.server_id)
        header.max_nak_age_s = surroundings.max_nak_age_s
        header.flags = ((FLAG_INTERFACES_LIMITED if surroundings.interfaces_limited else 0)
                        | (FLAG_BOOTP if surroundings.bootp else 0)
                        | (FLAG_CONVERTED if self.is_converted else 0))
        while slot_count < 2 * self.host_rows or slot_count <= self.lease_count:
            slot_count *= 2
        small = self.small_sections(surroundings)
        if beneath:
            small.append((SECTION_BENEATH, bytearray(beneath)))
        fd = new_memfd(f"bootstorm-table-{generation}")
        try:
            self.write(fd, &header, slot_count, small)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS,
                        fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE)
        except BaseException:
            os.close(fd)
            raise
        return fd

    cdef list small_sections(self, surroundings):
        """(kind, bytes) of all but slots and leases, in the order in which they are written."""
        cdef Template template
        templates = bytearray()
        classes = ClassNumbers(surroundings.classes) if self.base is None else self.base.classes
        for i, (options_at, file_at, key, others) in enumerate(self.templates):
            memset(&template, 0, sizeof(template))
            for client in range(CLASS_COUNT):
                template.variants[client] = others.get(client, i)
            template.options_at, template.file_at = options_at, file_at
            template.options_bytes, template.file_bytes = len(key[0]), len(key[1])
            template.siaddr_be, template.server_id_be = swap32(key[2]), swap32(key[3])
            template.lease_s, template.renewal_s, template.rebinding_s, template.flags = key[4:]
            template.content_hash = self.template_hashes[i]
            templates += (<const char *>&template)[:sizeof(template)]
        others = [said for _options, _file, _fields, said in self.templates]
        rules = surroundings.classes if self.base is None else ()
        return [(SECTION_TEMPLATES, templates), *sections_of(surroundings), (SECTION_HEAP, self.heap),
                *class_sections(others, classes, rules)]

    cdef void write(self, int fd, Header *header, uint32_t slot_count, list small) except *:
        cdef uint8_t *at
        cdef Section directory[SECTIONS_MAX]
        cdef uint32_t i = 0
        cdef bint twice = False
        cdef uint64_t end
        memset(directory, 0, sizeof(directory))
        header.section_count = 2 + <uint32_t>len(small)
        end = padded(sizeof(Header) + header.section_count * sizeof(Section))
        wanted = [(SECTION_SLOTS, slot_count * sizeof(Slot)), (SECTION_LEASES, self.lease_count * sizeof(Lease))]
        for kind, length in wanted + [(kind, len(content)) for kind, content in small]:
            directory[i].kind, directory[i].size, directory[i].at = kind, record_bytes(kind), end
            directory[i].count = <uint64_t>length // directory[i].size
            end = padded(end + <uint64_t>length)
            i += 1
        header.total_bytes = end
        os.ftruncate(fd, header.total_bytes)
        at = <uint8_t *>mmap(NULL, header.total_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0)
        if at == MAP_FAILED:
            raise OSError(c_errno, f"cannot map a new generation of {header.total_bytes} bytes")
        try:
            memcpy(at + sizeof(Header), directory, header.section_count * sizeof(Section))
            with nogil:
                if self.lease_count:
                    memcpy(at + directory[1].at, self.leases, <size_t>self.lease_count * sizeof(Lease))
                i = 0
                while i < self.lease_count and not twice:
                    twice = not put_slot(<Slot *>(at + directory[0].at), slot_count,
                                         key_of(self.leases[i].mac, self.leases[i].role), i)
                    i += 0 if twice else self.leases[i].lease_count
            if twice:
                raise TableInvalid(f"MAC {(<const char *>self.leases[i].mac)[:6].hex(':')} was added twice")
            for i in range(2, header.section_count):
                content = <bytearray>small[i - 2][1]
                memcpy(at + directory[i].at, <const char *><char *>(<bytearray>content), len(content))
            header.checksum = checksum(view_of(at + sizeof(Header), header.total_bytes - sizeof(Header)),
                                       unsummed(header))
            memcpy(at, header, sizeof(Header))
        finally:
            munmap(at, header.total_bytes)


cdef inline bint is_served_host(const Lease *lease) noexcept nogil:
    return is_answered(lease.state) and lease.role == ROLE_HOST


cdef inline uint64_t row_key(const Lease *lease) noexcept nogil:
    """The MAC, and above its 48 bits the role."""
    return key_of(lease.mac, lease.role) & ~(<uint64_t>1 << 63)


cdef inline uint64_t padded(uint64_t at) noexcept nogil:
    return (at + 63) & ~<uint64_t>63


def delta_builder(Generation base not None, Generation new not None, changes) -> Builder:
    """A Builder of the delta that turns `base` into `new`; changes = compare(Pair(base), new)."""
    builder = Builder(base)
    for mac, role in (*changes.added, *changes.changed):
        builder.copy_host(new, mac, role)
    for mac, role in changes.removed:
        builder.add_tombstone(mac, role)
    return builder
