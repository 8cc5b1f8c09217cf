"""Reads tables of layout 5, the one before leases.pxd's, into the present layout.

Layout 5 had a header with fixed places for nine sections, and told objects apart by name alone; its records are those of
layout 6.  With layout 7 a reader of layout 6 takes this one's place.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

import mmap
import os

from ext.builder import ROLES, RULES, Builder, Surroundings
from ext.classify cimport CLASS_COUNT
from ext.leases cimport *
from ext.table cimport mix
from ext.table import Generation, TableInvalid, checksum
from ext.wire cimport swap32

LAYOUT = 5


cdef packed struct Header5:        # 192 bytes
    uint32_t magic
    uint32_t version
    uint64_t generation
    uint64_t base
    uint64_t total_bytes
    uint64_t checksum
    int64_t created_s
    uint64_t digest
    uint32_t host_count
    uint32_t slot_count
    uint32_t lease_count
    uint32_t template_count
    uint32_t network_count
    uint32_t link_count
    uint32_t server_id_count
    uint32_t relay_count
    uint32_t server_id_be
    uint32_t max_nak_age_s
    uint32_t flags
    uint32_t rule_count
    uint64_t slots_at
    uint64_t leases_at
    uint64_t templates_at
    uint64_t networks_at
    uint64_t links_at
    uint64_t server_ids_at
    uint64_t relays_at
    uint64_t heap_at
    uint64_t heap_bytes
    uint64_t base_checksum
    uint64_t rules_at


class OtherBase(TableInvalid):
    """A delta whose base is not there any more: no damage."""


def layout_of(int fd) -> int:
    """Of the table behind an fd; 0 for what is none."""
    cdef const uint8_t *at
    head = os.pread(fd, 8, 0)
    at = head
    if len(head) < 8 or (<const uint32_t *>at)[0] != TABLE_MAGIC_LOW:
        return 0
    return (<const uint32_t *>at)[1]


def convert(int base_fd, int delta_fd=-1) -> tuple:
    """(base fd, delta fd or -1) in the present layout, sealed, of what lies behind fds of layout 5, which stay the caller's.

    Same numbers, rows and surroundings; objects are told apart by name.  Raises TableInvalid with the damage, also for a
    delta of another base (OtherBase)."""
    old = Old(base_fd)
    if old.header.base != old.header.generation:
        raise TableInvalid("the base is a delta")
    fd = old.rewritten(None)
    if delta_fd < 0:
        return fd, -1
    try:
        younger = Old(delta_fd)
        if (younger.header.base != old.header.generation or younger.header.base_checksum != old.header.checksum
                or younger.header.generation <= old.header.generation):
            raise OtherBase("the delta belongs to another base")
        return fd, younger.rewritten(Generation(fd))
    except BaseException:
        os.close(fd)
        raise


cdef class Old:
    """A table of layout 5, mapped and checked."""
    cdef object content
    cdef const uint8_t[::1] octets
    cdef const uint8_t *at
    cdef Header5 header
    cdef const Lease *leases
    cdef const Template *templates
    cdef const uint8_t *heap

    def __cinit__(self, int fd):
        if os.fstat(fd).st_size < sizeof(Header5):
            raise TableInvalid(f"{os.fstat(fd).st_size} bytes, a header of layout 5 alone has {sizeof(Header5)}")
        self.content = mmap.mmap(fd, 0, prot=mmap.PROT_READ)
        self.octets = self.content
        self.at = &self.octets[0]
        memcpy(&self.header, self.at, sizeof(Header5))
        self.check()
        self.leases = <const Lease *>(self.at + self.header.leases_at)
        self.templates = <const Template *>(self.at + self.header.templates_at)
        self.heap = self.at + self.header.heap_at

    cdef void check(self) except *:
        cdef Header5 *header = &self.header
        cdef Header5 unsummed = self.header
        unsummed.checksum = 0
        if header.magic != TABLE_MAGIC_LOW or header.version != LAYOUT:
            raise TableInvalid("no table of layout 5")
        if header.total_bytes != <uint64_t>len(self.octets):
            raise TableInvalid("its length is not what the header says")
        if header.checksum != checksum(memoryview(self.content)[sizeof(Header5):],
                                       (<const char *>&unsummed)[:sizeof(Header5)]):
            raise TableInvalid("checksum differs, the content is damaged")
        for at, count, size in ((header.leases_at, header.lease_count, sizeof(Lease)),
                                (header.templates_at, header.template_count, sizeof(Template)),
                                (header.networks_at, header.network_count, sizeof(Network)),
                                (header.links_at, header.link_count, sizeof(Link)),
                                (header.server_ids_at, header.server_id_count, 4),
                                (header.relays_at, header.relay_count, sizeof(Relay)),
                                (header.rules_at, header.rule_count, sizeof(Rule)),
                                (header.heap_at, header.heap_bytes, 1)):
            if at % 8 != 0 or at > header.total_bytes or count * size > header.total_bytes - at:
                raise TableInvalid("a section reaches over its end")

    cdef bytes text(self, uint64_t at, uint32_t length):
        if at + length > self.header.heap_bytes:
            raise TableInvalid("a record points past the heap")
        return (<const char *>self.heap + at)[:length]

    cdef int rewritten(self, base) except -1:
        """A sealed memfd in the present layout.  base: the Generation that this delta belongs to, in the present layout."""
        cdef uint32_t at = 0, i
        cdef const Lease *first
        builder = Builder(base)
        indexes = [builder.add_template(**self.template(i)) for i in range(self.header.template_count)]
        while at < self.header.lease_count:
            first = self.leases + at
            if first.lease_count == 0 or first.lease_count > self.header.lease_count - at or first.state > TOMBSTONE:
                raise TableInvalid(f"lease {at} is impossible")
            at += first.lease_count
            key = key_of(first.mac, first.role) & ~(<uint64_t>1 << 63)
            if first.state == TOMBSTONE:
                builder.add_tombstone(key)
                continue
            leases = []
            for i in range(first.lease_count if is_answered(first.state) else 0):
                if first[i].template_index >= self.header.template_count:
                    raise TableInvalid(f"lease {at} is impossible")
                leases.append((swap32(first[i].address_be), first[i].prefix, indexes[first[i].template_index]))
            name = self.text(first.name_at, first.name_bytes)
            builder.add_host(key, state=first.state, name=name, own=self.text(first.own_at, first.own_bytes),
                             leases=leases, thing=identity_of_name(name))
        return builder.seal(self.header.generation, self.surroundings(), created_s=self.header.created_s,
                            hosts=self.header.host_count)

    cdef dict template(self, uint32_t index, bint whole=True):
        """As Builder.add_template takes it."""
        cdef const Template *template = self.templates + index
        cdef uint32_t client
        made = {
            "options": self.text(template.options_at, template.options_bytes),
            "file": self.text(template.file_at, template.file_bytes),
            "siaddr": swap32(template.siaddr_be), "server_id": swap32(template.server_id_be),
            "lease_s": template.lease_s, "renewal_s": template.renewal_s, "rebinding_s": template.rebinding_s,
            "flags": template.flags,
        }
        if whole:
            made["variants"] = {}
            for client in range(CLASS_COUNT):
                if template.variants[client] >= self.header.template_count:
                    raise TableInvalid(f"template {index} is impossible")
                if template.variants[client] != index:
                    made["variants"][client] = self.template(template.variants[client], False)
        return made

    cdef object surroundings(self):
        cdef const Network *networks = <const Network *>(self.at + self.header.networks_at)
        cdef const Link *links = <const Link *>(self.at + self.header.links_at)
        cdef const Relay *relays = <const Relay *>(self.at + self.header.relays_at)
        cdef const Rule *rules = <const Rule *>(self.at + self.header.rules_at)
        cdef const uint32_t *ids = <const uint32_t *>(self.at + self.header.server_ids_at)
        cdef uint32_t i
        kinds, roles = {kind: key for key, kind in RULES.items()}, {role: key for key, role in ROLES.items()}
        for i in range(self.header.rule_count):
            if rules[i].kind not in kinds or rules[i].role not in roles or rules[i].length > RULE_TEXT_BYTES:
                raise TableInvalid(f"rule {i} is impossible")
        return Surroundings(
            networks=tuple((networks[i].first, networks[i].last) for i in range(self.header.network_count)),
            links=tuple((links[i].ifindex, swap32(links[i].address_be), links[i].prefix, links[i].mtu,
                         bool(links[i].flags & LINK_SERVED)) for i in range(self.header.link_count)),
            interfaces_limited=bool(self.header.flags & FLAG_INTERFACES_LIMITED),
            server_id=swap32(self.header.server_id_be),
            server_ids=tuple(swap32(ids[i]) for i in range(self.header.server_id_count)),
            relays=tuple((swap32(relays[i].address_be), relays[i].prefix) for i in range(self.header.relay_count)),
            max_nak_age_s=self.header.max_nak_age_s,
            bootp=bool(self.header.flags & FLAG_BOOTP),
            rules=tuple((kinds[rules[i].kind], roles[rules[i].role], (<const char *>rules[i].text)[:rules[i].length])
                        for i in range(self.header.rule_count)),
        )


def identity_of_name(bytes name not None) -> int:
    """Of rows whose layout knew no more than the object's name; told apart from others by the top bit."""
    return name_identity(mix(2, <const uint8_t *><const char *>name, len(name)))
