"""What answered machines said last of themselves, and whose word concerns a second machine.

Control's own memory, which no other process sees.  Workers tell it of each machine in each stage of its boot
(ext/sightings.pxd): some hundred thousand times in a storm, of which a handful are news.  All of them end here, in compiled
code; control/service/machines/identities.py makes findings of the news alone.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcmp, memcpy, memset

from cpython.bytes cimport PyBytes_FromStringAndSize

from dataclasses import dataclass

from ext.classify cimport OS
from ext.classify import ClientClass
from ext.leases cimport ROLE_BMC, ROLE_HOST, prefetch
from ext.page cimport Event
from ext.wire cimport swap32

cdef uint64_t NOBODY = ~<uint64_t>0      # no MAC has 64 bits

cdef enum:
    MOST = 400000                  # a hundred thousand machines with ROM, iPXE, system and BMC
    ROOM = 1024                    # power of two; four times that when it is full
    ETHERNET = 1                   # first byte of a client-id: a MAC follows
    DUID = 255                     # IAID and DUID follow (RFC 4361)

cdef Said *NOWHERE = NULL
CLIENT_ID_BYTES = sizeof(NOWHERE.client_id)    # one that fills it may have been longer


@dataclass(frozen=True, slots=True)
class News:
    """One sighting that concerns more than the machine itself."""
    same: bytes                    # identity that another machine has, too; b"" none
    left: bytes                    # identity that a machine does not say any more, and another one does; b"" none
    shared: bool                   # another card uses its address, or did
    used_ns: int                   # when this card was last ACKed with that address before, CLOCK_BOOTTIME; 0 never


cdef inline uint64_t mac_of(const uint8_t *mac) noexcept nogil:
    cdef uint64_t value = 0
    cdef int i
    for i in range(6):
        value = value << 8 | mac[i]
    return value


cdef inline str mac_text(uint64_t mac):
    return mac.to_bytes(6, "big").hex(":")


cdef inline uint32_t bucket_of(uint64_t value, uint32_t room) noexcept nogil:
    return <uint32_t>(((value ^ (value >> 23)) * <uint64_t>0x9E3779B97F4A7C15) >> 32) & (room - 1)


cdef inline uint64_t hash_of(const uint8_t *at, size_t length) noexcept nogil:
    cdef uint64_t value = length, word
    cdef size_t i = 0
    while i < length:
        word = 0
        memcpy(&word, at + i, min(<size_t>8, length - i))
        value = (value ^ word) * <uint64_t>0x9E3779B97F4A7C15
        value ^= value >> 29
        i += 8
    return value


cdef inline uint8_t identity_place(const uint8_t *client_id, size_t length) noexcept nogil:
    """Where in a client-id that begins which no other machine should have: in RFC 4361's form with the DUID, since the
    IAID before it is the interface's."""
    return 5 if client_id[0] == DUID and length > 8 else 0


cdef inline const uint8_t *identity_of(const Said *said) noexcept nogil:
    return said.client_id + said.identity_at


cdef inline bint says(const Said *said, const uint8_t *identity, size_t length) noexcept nogil:
    return said.identity_bytes == length and memcmp(identity_of(said), identity, length) == 0


cdef void find_identity(Said *said) noexcept nogil:
    """What of the client-id no other machine should have.

    One of zeros or ones alone is a board without a GUID, and one that may have been cut off is not compared."""
    cdef const uint8_t *client_id = said.client_id
    cdef uint8_t length = said.client_id_bytes
    cdef int i
    said.identity_at = said.identity_bytes = 0
    if length <= 2 or length >= sizeof(said.client_id):
        return
    if client_id[0] == ETHERNET and length == 7 and mac_of(client_id + 1) == said.mac:
        return
    said.identity_at = identity_place(client_id, length)
    for i in range(said.identity_at + 2, length):
        if client_id[i] != client_id[said.identity_at + 1]:
            said.identity_bytes = length - said.identity_at
            return


cdef inline uint32_t address_of(const Event *event) noexcept nogil:
    """That a machine was ACKed with, in network order; 0 of a BMC."""
    if event.role != ROLE_HOST:
        return 0
    return event.ciaddr_be if event.ciaddr_be else event.requested_be


cdef inline uint64_t value_of(const Said *said, int chain) noexcept nogil:
    if chain == BY_MAC:
        return said.mac
    return hash_of(identity_of(said), said.identity_bytes) if chain == BY_IDENTITY else said.address_be


cdef inline bint is_linked(const Said *said, int chain) noexcept nogil:
    return (chain == BY_MAC or (chain == BY_IDENTITY and said.identity_bytes != 0)
            or (chain == BY_ADDRESS and said.address_be != 0))


cdef class Sighted:
    """most: stages of machines; the one that was silent for longest makes room."""

    def __cinit__(self, uint32_t most=MOST):
        self.most = max(most, <uint32_t>1)
        self.count = 1             # the place NONE
        self.room = ROOM
        self.said = <Said *>calloc(ROOM, sizeof(Said))
        self.heads = <uint32_t *>calloc(CHAINS * ROOM, sizeof(uint32_t))
        if self.said == NULL or self.heads == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.said)
        free(self.heads)

    # --- one sighting ------------------------------------------------------------------------------------------------

    def hear(self, event):
        """One sighting as WorkerPage.drain() gives it (ext/page.pyx): News, or None when it is nobody else's affair."""
        cdef Event told
        memset(&told, 0, sizeof(Event))
        told.boottime_ns = event["boottime_ns"]
        told.ciaddr_be, told.requested_be = swap32(event["ciaddr"]), swap32(event["requested"])
        told.client_class = ClientClass[event["class"]]
        told.role = ROLE_BMC if event["role"] == "bmc" else ROLE_HOST
        told.vendor_bytes = filled(told.vendor, sizeof(told.vendor), event["vendor_class"])
        told.client_id_bytes = filled(told.client_id, sizeof(told.client_id), event["client_id"])
        filled(told.mac, sizeof(told.mac), bytes.fromhex(event["mac"].replace(":", "")))
        return self.take(&told)

    cdef object take(self, const Event *event):
        """As hear(); raises MemoryError for the very first machines only."""
        cdef uint64_t mac = mac_of(event.mac)
        cdef uint32_t address_be = address_of(event)
        cdef uint32_t at
        cdef int64_t used_ns = 0
        cdef bint shared
        cdef Said *said
        left, same = b"", b""
        shared = self.is_shared(mac, address_be, &used_ns)
        at = self.find(mac, event.client_class, event.role)
        if at == NONE:
            at, left = self.new_place()
            said = self.said + at
            memset(said, 0, sizeof(Said))
            said.mac, said.client_class, said.role = mac, event.client_class, event.role
            self.machines += self.first_of(mac) == NONE
            self.link(BY_MAC, at)
        else:
            said = self.said + at
            self.forget_age(at)
        self.seen_now(at)
        said.seen_ns = event.boottime_ns
        said.vendor_bytes = event.vendor_bytes
        memcpy(said.vendor, event.vendor, sizeof(said.vendor))
        if said.client_id_bytes != event.client_id_bytes or memcmp(said.client_id, event.client_id, event.client_id_bytes):
            left = self.renamed(at, event) or left
        if address_be and address_be != said.address_be:
            self.unlink(BY_ADDRESS, at)
            said.address_be = address_be
            self.link(BY_ADDRESS, at)
        if said.identity_bytes and self.sayer(identity_of(said), said.identity_bytes, mac) != NONE:
            same = identity_bytes(said)
        return News(same, left, shared, used_ns) if same or left or shared else None

    # Nearly all that take() costs in a storm is waiting for memory: who drains the ring tells what comes.

    cdef void foresee_heads(self, const Event *event) noexcept nogil:
        """A later event: the beginnings of its chains."""
        cdef uint8_t identity_at = identity_place(event.client_id, event.client_id_bytes)
        prefetch(self.head(BY_MAC, mac_of(event.mac)))
        prefetch(self.head(BY_ADDRESS, address_of(event)))
        prefetch(self.head(BY_IDENTITY, hash_of(event.client_id + identity_at, event.client_id_bytes - identity_at)))

    cdef void foresee_said(self, const Event *event) noexcept nogil:
        """One that comes soon, of which foresee_heads() was told: what stands first in its chains."""
        cdef uint32_t by_mac = self.head(BY_MAC, mac_of(event.mac))[0]
        cdef uint32_t by_address = self.head(BY_ADDRESS, address_of(event))[0]
        prefetch(self.said + by_mac)
        prefetch(<const uint8_t *>(self.said + by_mac) + 64)
        if by_address != by_mac:
            prefetch(self.said + by_address)
            prefetch(<const uint8_t *>(self.said + by_address) + 64)

    cdef object renamed(self, uint32_t at, const Event *event):
        """The machine says another client-id than before; the identity that it leaves to others."""
        cdef Said *said = self.said + at
        former = identity_bytes(said)
        self.unlink(BY_IDENTITY, at)
        said.client_id_bytes = event.client_id_bytes
        memcpy(said.client_id, event.client_id, sizeof(said.client_id))
        find_identity(said)
        self.link(BY_IDENTITY, at)
        return self.left_to_others(former)

    cdef object left_to_others(self, bytes identity):
        return identity if identity and self.sayer(identity, len(identity), NOBODY) != NONE else b""

    cdef bint is_shared(self, uint64_t mac, uint32_t address_be, int64_t *used_ns) noexcept:
        """Whether another card has used the address; used_ns: when this one did."""
        cdef uint32_t at = self.head(BY_ADDRESS, address_be)[0] if address_be else <uint32_t>NONE
        cdef const Said *said
        cdef bint shared = False
        while at != NONE:
            said = self.said + at
            if said.address_be == address_be:
                if said.mac != mac:
                    shared = True
                elif said.seen_ns > used_ns[0]:
                    used_ns[0] = said.seen_ns
            at = said.links[BY_ADDRESS].next
        return shared

    # --- places ------------------------------------------------------------------------------------------------------

    cdef tuple new_place(self):
        """(a place in no chain, the identity that who had it leaves to others)."""
        cdef uint32_t at
        if self.count <= self.most and (self.count < self.room or self.grow()):
            self.count += 1
            return self.count - 1, b""
        at = self.oldest
        former = identity_bytes(self.said + at)
        self.forget_age(at)
        for chain in range(CHAINS):
            self.unlink(chain, at)
        self.machines -= self.first_of(self.said[at].mac) == NONE
        return at, self.left_to_others(former)

    cdef bint grow(self) noexcept:
        """Four times the room, since all are linked anew; False where there is no memory for it: then the oldest make room from now on."""
        cdef uint32_t room = 4 * self.room
        cdef uint32_t at
        cdef int chain
        cdef uint32_t *heads = <uint32_t *>calloc(CHAINS * room, sizeof(uint32_t))
        cdef Said *said = <Said *>realloc(self.said, room * sizeof(Said)) if heads != NULL else NULL
        if said == NULL:
            free(heads)
            self.most = self.count - 1
            return False
        free(self.heads)
        self.said, self.heads, self.room = said, heads, room
        for chain in range(CHAINS):
            for at in range(1, self.count):
                self.link(chain, at)
        return True

    cdef uint32_t *head(self, int chain, uint64_t value) noexcept nogil:
        return self.heads + <size_t>chain * self.room + bucket_of(value, self.room)

    cdef void link(self, int chain, uint32_t at) noexcept:
        cdef Said *said = self.said + at
        cdef uint32_t *head
        if not is_linked(said, chain):
            return
        head = self.head(chain, value_of(said, chain))
        said.links[chain].next = head[0]
        said.links[chain].before = NONE
        if head[0] != NONE:
            self.said[head[0]].links[chain].before = at
        head[0] = at

    cdef void unlink(self, int chain, uint32_t at) noexcept:
        """While it still says what it is linked by."""
        cdef const Said *said = self.said + at
        cdef const Link *link = &said.links[chain]
        if not is_linked(said, chain):
            return
        if link.next != NONE:
            self.said[link.next].links[chain].before = link.before
        if link.before != NONE:
            self.said[link.before].links[chain].next = link.next
        else:
            self.head(chain, value_of(said, chain))[0] = link.next

    cdef void seen_now(self, uint32_t at) noexcept:
        cdef Link *age = &self.said[at].age
        age.next, age.before = self.newest, NONE
        if self.newest != NONE:
            self.said[self.newest].age.before = at
        self.newest = at
        if self.oldest == NONE:
            self.oldest = at

    cdef void forget_age(self, uint32_t at) noexcept:
        cdef const Link *age = &self.said[at].age
        if age.next != NONE:
            self.said[age.next].age.before = age.before
        else:
            self.oldest = age.before
        if age.before != NONE:
            self.said[age.before].age.next = age.next
        else:
            self.newest = age.next

    # --- searches ----------------------------------------------------------------------------------------------------

    cdef uint32_t first_of(self, uint64_t mac) noexcept:
        """What the machine said in some stage."""
        cdef uint32_t at = self.head(BY_MAC, mac)[0]
        while at != NONE and self.said[at].mac != mac:
            at = self.said[at].links[BY_MAC].next
        return at

    cdef uint32_t find(self, uint64_t mac, uint8_t client_class, uint8_t role) noexcept:
        cdef uint32_t at = self.head(BY_MAC, mac)[0]
        cdef const Said *said
        while at != NONE:
            said = self.said + at
            if said.mac == mac and said.client_class == client_class and said.role == role:
                break
            at = said.links[BY_MAC].next
        return at

    cdef uint32_t sayer(self, const uint8_t *identity, size_t length, uint64_t but) noexcept:
        """A stage of another machine than `but` in which it has the identity."""
        cdef uint32_t at = self.head(BY_IDENTITY, hash_of(identity, length))[0]
        while at != NONE and (self.said[at].mac == but or not says(self.said + at, identity, length)):
            at = self.said[at].links[BY_IDENTITY].next
        return at

    # --- for identities.py -------------------------------------------------------------------------------------------

    def words_of(self, str mac) -> list:
        """(class, role, client-id, vendor class, CLOCK_BOOTTIME in ns, identity or b"") of each stage, in no order."""
        cdef uint64_t wanted = int(mac.replace(":", ""), 16)
        cdef uint32_t at = self.head(BY_MAC, wanted)[0]
        cdef const Said *said
        words = []
        while at != NONE:
            said = self.said + at
            if said.mac == wanted:
                words.append((
                    ClientClass(said.client_class).name, role_name(said.role),
                    PyBytes_FromStringAndSize(<char *>said.client_id, said.client_id_bytes),
                    PyBytes_FromStringAndSize(<char *>said.vendor, said.vendor_bytes), said.seen_ns, identity_bytes(said),
                ))
            at = said.links[BY_MAC].next
        return words

    def sayers(self, bytes identity, uint32_t most) -> dict:
        """MAC -> CLOCK_BOOTTIME in ns at which it last said it; at most `most` machines, who began last first."""
        cdef uint32_t at = self.head(BY_IDENTITY, hash_of(identity, len(identity)))[0]
        cdef const Said *said
        found = {}
        while at != NONE:
            said = self.said + at
            if says(said, identity, len(identity)):
                if said.mac in found:
                    found[said.mac] = max(found[said.mac], said.seen_ns)
                elif len(found) < most:
                    found[said.mac] = said.seen_ns
                else:
                    break
            at = said.links[BY_IDENTITY].next
        return {mac_text(each): seen_ns for each, seen_ns in found.items()}

    def count_sayers(self, bytes identity) -> int:
        """Machines that say it in some stage."""
        cdef uint32_t at = self.head(BY_IDENTITY, hash_of(identity, len(identity)))[0]
        cdef uint32_t other, machines = 0
        cdef const Said *said
        while at != NONE:
            said = self.said + at
            if says(said, identity, len(identity)):
                other = self.first_of(said.mac)
                while other != at and not (self.said[other].mac == said.mac
                                           and says(self.said + other, identity, len(identity))):
                    other = self.said[other].links[BY_MAC].next
                machines += other == at
            at = said.links[BY_IDENTITY].next
        return machines

    def users_of(self, uint32_t address) -> dict:
        """MAC -> (whether it was its system, CLOCK_BOOTTIME in ns) of each card's last use of an address."""
        cdef uint32_t address_be = swap32(address)
        cdef uint32_t at = self.head(BY_ADDRESS, address_be)[0]
        cdef const Said *said
        found = {}
        while at != NONE:
            said = self.said + at
            if said.address_be == address_be and found.get(said.mac, (False, -1))[1] < said.seen_ns:
                found[said.mac] = (said.client_class == OS, said.seen_ns)
            at = said.links[BY_ADDRESS].next
        return {mac_text(each): last for each, last in found.items()}


cdef uint8_t filled(uint8_t *at, size_t room, bytes content) except? 255:
    """As much of it as there is room for."""
    cdef uint8_t length = <uint8_t>min(room, <size_t>len(content))
    memcpy(at, <const char *>content, length)
    return length


cdef str role_name(uint8_t role):
    return "bmc" if role == ROLE_BMC else "host"


cdef bytes identity_bytes(const Said *said):
    return PyBytes_FromStringAndSize(<const char *>identity_of(said), said.identity_bytes)
