"""Layout of one generation of the table, and the look-ups in it.

A generation is one sealed memfd: Header, a directory of sections, and those.  Who reads it takes the kinds of sections that
he knows and skips the others, so that a later kind costs no version.  A *base* holds every host; a *delta* holds what
differs from the base that it names (cumulative: there is never more than one), tombstones included.  Both have the same
layout.  IPv6 rows will be sections of their own: an address is compared with those of its own section alone.  What the site knows of itself (links, networks, server ids) is taken from the delta when
there is one, so that a changed interface costs a small delta and never a new base.

Addresses ending in _be are in network order; everything else is in host order.  ext/table.pyx writes and checks it.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t, int64_t
from libc.stddef cimport size_t
from libc.string cimport memcmp, memcpy, memset

cimport cython

from ext.classify cimport ARCHITECTURE, CLASS_COUNT, HTTP_BOOT, HTTP_TYPES, OS, SITE_CLASS, is_one_of
from ext.places cimport IS_OWN, Places, search
from ext.wire cimport load16, load32, swap16, swap32


cdef extern from *:
    """
    #define BS_PREFETCH(p) __builtin_prefetch(p)
    """
    void prefetch "BS_PREFETCH"(const void *) noexcept nogil


cdef enum:
    TABLE_MAGIC_LOW = 0x74736F62   # "bost"
    TABLE_VERSION = 6              # of the layout and of slot_of(): ext/layout5.pyx reads the one before, others are refused
    SECTIONS_MAX = 64
    IDENTITY_BYTES = 8             # in the heap, in front of a row's own options
    ROLE_HOST = 0
    ROLE_BMC = 1                   # told apart by the inventory's rules; one MAC may have both (shared LOM)
    FLAG_INTERFACES_LIMITED = 1    # only the links with LINK_SERVED may be answered on
    FLAG_BOOTP = 2                 # dhcp.bootp
    FLAG_CONVERTED = 4             # from a layout that knew objects by name alone: identities are BY_NAME
    LINK_SERVED = 1
    TEMPLATE_NO_OVERLOAD = 1       # for clients that cannot read options in file and sname
    TEMPLATE_BROADCAST = 2         # for clients that cannot take a frame before they have an address
    TEMPLATE_BOOTS = 4             # of a PROXIED host: there is something to boot for clients of this class
    RULE_TEXT_BYTES = 29
    CLASS_NUMBERS = 256            # of client classes, built-in ones and the site's
    SITE_CLASSES_MAX = 64
    CLASS_TEXT_BYTES = 64
    CLASS_GROUPS = 255
    ENTRY_SHIFT = 6                # of an entry of the boot ledger: 64 bytes
    HELD_MARK = 0xffffffff         # in the place of the port of a row that is held: no port has that number


cpdef enum LeaseState:
    SERVED
    DISABLED
    NO_ADDRESS
    CONFLICT
    QUARANTINED
    PROXIED                        # another server gives its address: one lease, of address 0, for what it boots
    TOMBSTONE                      # delta only: the host left the inventory
    OTHER_PORT                     # a card of a host at a port that is not served; in no row itself, see state_of()
    HELD                           # not answered because an operator says so; in no row itself either


cdef enum RuleKind:                # what a Rule looks at
    RULE_VENDOR_CLASS              # option 60 begins with the text
    RULE_USER_CLASS                # option 77 begins with the text
    RULE_CLIENT_ID                 # option 61 begins with the text
    RULE_OTHER_MAC                 # option 61 is type 1 and a MAC that is not chaddr
    RULE_REQUESTED                 # option 55 is the text


cdef enum SectionKind:
    SECTION_SLOTS = 1
    SECTION_LEASES
    SECTION_TEMPLATES
    SECTION_NETWORKS
    SECTION_LINKS
    SECTION_SERVER_IDS
    SECTION_RELAYS
    SECTION_RULES
    SECTION_HEAP                   # bytes; the last that every table has
    SECTION_COLUMNS
    SECTION_VARIANTS
    SECTION_CLASS_FIELDS
    SECTION_CLASS_TEXTS
    SECTION_CLASS_NUMBERS
    SECTION_CLASS_NAMES            # bytes: JSON, for people and for tables of other classes
    SECTION_SHARED = 20
    SECTION_BENEATH                # bytes: a generation with the inventory's rows of what an operator has changed; the
                                   # planner's alone
    SECTION_KINDS                  # one more than the last that we know


cdef enum ClassFieldKind:          # what a site's class looks at (ext/site_classes.pxd)
    FIELD_VENDOR_CLASS             # texts: option 60
    FIELD_USER_CLASS               # option 77, its one item where it is a list of one (RFC 3004)
    FIELD_CLIENT_ID                # option 61
    FIELD_MACHINE_GUID             # option 97
    FIELD_ARCHITECTURE             # numbers: the first type of option 93
    FIELD_MAC
    FIELD_RELAY                    # giaddr
    FIELD_LINK                     # the address that names the client's link
    FIELD_ENTERPRISE               # the first enterprise number of option 124, and of 125
    FIELD_PRESENT                  # codes of options that are there
    FIELD_KINDS


cdef packed struct Header:         # 128 bytes; the directory follows
    uint32_t magic
    uint32_t version
    uint64_t generation
    uint64_t base                  # generation of the base that this belongs to; its own number when it is one
    uint64_t total_bytes
    uint64_t checksum              # ext.table.checksum over everything else
    int64_t created_s              # seconds since 1970: when the inventory said so
    uint64_t digest                # of the content of (base, delta), however it was read
    uint64_t base_checksum         # of the base: numbers may come again after a disk was lost
    uint32_t host_count            # rows of hosts, not of BMCs, that are answered in (base, delta)
    uint32_t server_id_be          # dhcp.server_id, 0 when unset
    uint32_t max_nak_age_s
    uint32_t flags
    uint32_t section_count
    uint32_t reserved[11]


cdef packed struct Section:        # 32 bytes
    uint32_t kind                  # SectionKind
    uint32_t size                  # bytes of one record
    uint64_t at
    uint64_t count
    uint64_t reserved


cdef packed struct Slot:
    uint64_t key                   # 0 = free
    uint32_t lease                 # index of the host's first lease
    uint32_t reserved


cdef packed struct Lease:          # 32 bytes, two a cache line; a host's leases stand one after the other
    uint8_t mac[6]
    uint8_t role
    uint8_t state                  # LeaseState, the same in all leases of a host
    uint32_t address_be
    uint32_t template_index        # of a row that is not answered: the number of its port, where that is why
    uint32_t own_at                # heap: options of this host alone, ready to copy; its identity stands in front of them
    uint32_t name_at               # heap: the object's name in the inventory
    uint16_t own_bytes
    uint8_t name_bytes
    uint8_t prefix                 # of the IP manager's network
    uint8_t lease_count            # leases from here to the host's last
    uint8_t number[3]              # the row's own, see ext/rows.pyx, the low octet first; 0: none


cdef packed struct Template:       # what many hosts share; or a variant of that for one client class
    uint32_t options_at            # heap: options, ready to copy
    uint32_t file_at               # heap: boot file name
    uint32_t siaddr_be
    uint32_t server_id_be          # the hosts' own `server_id` attribute, 0 when unset
    uint32_t lease_s
    uint32_t renewal_s
    uint32_t rebinding_s
    uint16_t options_bytes
    uint8_t file_bytes             # at most 127: fits bootp.file with its NUL
    uint8_t flags                  # TEMPLATE_...
    uint64_t content_hash          # of all that the fields above and the variants say, wherever it stands
    uint32_t variants[CLASS_COUNT] # index of the template for each client class, often its own
    uint32_t reserved_too


cdef packed struct Network:        # the union of the IP managers' networks: sorted, disjoint, host order
    uint32_t first
    uint32_t last


cdef packed struct Shared:         # networks that share a link with others: sorted, disjoint, host order
    uint32_t first
    uint32_t last
    uint64_t group                 # hash of its name, never 0


cdef packed struct Link:           # one address of one interface; the primary address first
    uint32_t ifindex
    uint32_t address_be
    uint32_t mtu
    uint8_t prefix
    uint8_t flags
    uint16_t reserved


cdef packed struct Relay:          # dhcp.relays
    uint32_t address_be
    uint8_t prefix
    uint8_t reserved[3]


cdef packed struct Rule:           # who asks, the host or its BMC: the first that fits says; 32 bytes
    uint8_t kind                   # RuleKind
    uint8_t role
    uint8_t length
    uint8_t text[RULE_TEXT_BYTES]


cdef packed struct ClassField:     # one of what the site's classes look at
    uint8_t kind                   # ClassFieldKind
    uint8_t pivots[2]              # texts: the octets by which they are grouped; every text is longer
    uint8_t width                  # texts: groups of one first octet
    uint32_t first                 # its first ClassText or ClassNumber
    uint32_t count
    uint32_t reserved_too
    uint64_t free                  # the classes that do not look at it, a bit each; bit 0 is SITE_CLASS
    uint8_t kinds[2][256]          # texts: which row and column of groups an octet stands for; 0: no text has it
    uint16_t groups[CLASS_GROUPS + 1]    # texts: where those of a row and column begin, row by row; the last is count


cdef packed struct ClassText:      # sorted; 88 bytes
    uint64_t exact                 # the classes of a value that is this text, a bit each
    uint64_t longer                # and of one that goes on after it
    uint16_t length
    uint16_t parent                # the longest other text that this one begins with: its place and one; 0 without
    uint32_t reserved
    uint8_t text[CLASS_TEXT_BYTES]


cdef packed struct ClassNumber:    # sorted, the first from 0
    uint64_t first                 # from here to the next one
    uint64_t classes


cdef struct Table:                 # one mapped generation; header NULL = none
    const Header *header
    const Slot *slots
    const Lease *leases
    const Template *templates
    const uint8_t *heap
    uint32_t slot_count            # power of two, at least twice the hosts
    uint32_t lease_count
    uint32_t template_count
    uint32_t network_count
    uint32_t link_count
    uint32_t server_id_count
    uint32_t relay_count
    uint32_t rule_count
    const Network *networks
    const Link *links
    const uint32_t *server_ids_be
    const Relay *relays
    const Rule *rules
    uint64_t heap_bytes
    const uint8_t *columns         # for each class number: below CLASS_COUNT of Template.variants, above of variants; or NULL
    const uint32_t *variants       # column_count for each template
    const ClassField *class_fields
    const ClassText *class_texts
    const ClassNumber *class_numbers
    uint32_t column_count
    uint32_t variant_count
    uint32_t class_field_count
    uint32_t class_text_count
    uint32_t class_number_count
    const uint8_t *class_names
    uint32_t class_names_bytes
    const Shared *shared
    uint32_t shared_count


cdef struct Site:                  # what answer() knows: the adopted pair and the age of the truth
    Table base
    Table delta
    const Header *own              # of the generation whose links, networks and ids count
    const Network *networks
    const Link *links
    const uint32_t *server_ids_be
    const Relay *relays
    const Rule *rules
    uint32_t network_count
    uint32_t link_count
    uint32_t server_id_count
    uint32_t relay_count
    uint32_t rule_count
    const Shared *shared
    uint32_t shared_count
    int64_t age_s                  # since control last had the inventory's word
    const Places *places           # links and relays to be searched; NULL: they are few, and gone through
    const void *ledger             # entries of the boot ledger (ext/ledger.pxd), to be fetched in time; NULL: there is none


cdef struct Host:                  # a find: the first lease and the generation that it stands in
    const Lease *lease
    const Table *table


cdef inline bint is_answered(uint8_t state) noexcept nogil:
    """True for a row that has templates."""
    return state == SERVED or state == PROXIED


cdef inline uint32_t rare_variant(const Table *table, uint32_t index, uint8_t client) noexcept nogil:
    """Of a class that not every template has a place for: its own column, or that of the nearest wider class."""
    cdef uint8_t column
    if table.columns != NULL:
        column = table.columns[client]
        if column >= CLASS_COUNT:
            return table.variants[index * table.column_count + column - CLASS_COUNT]
    else:
        column = HTTP_BOOT if client >= ARCHITECTURE and is_one_of(HTTP_TYPES, client - ARCHITECTURE) else OS
    return table.templates[index].variants[column]


cdef inline uint32_t variant_of(const Table *table, uint32_t index, uint8_t client) noexcept nogil:
    """The template for clients of one class, often the template itself."""
    if cython.unlikely(client >= CLASS_COUNT):
        return rare_variant(table, index, client)
    return table.templates[index].variants[client]


cdef inline uint8_t state_of(const Lease *lease) noexcept nogil:
    """A card at a port that is not served stands as DISABLED, which builds that know no ports take it for; so does a row
    that is held, which builds that hold none take for such a card: none of them answers it."""
    if lease.state != DISABLED or lease.template_index == 0:
        return lease.state
    return HELD if lease.template_index == HELD_MARK else OTHER_PORT


cdef inline uint32_t number_of(const Lease *lease) noexcept nogil:
    return lease.number[0] | <uint32_t>lease.number[1] << 8 | <uint32_t>lease.number[2] << 16


cdef inline void set_number(Lease *lease, uint32_t number) noexcept nogil:
    lease.number[0], lease.number[1], lease.number[2] = <uint8_t>number, <uint8_t>(number >> 8), <uint8_t>(number >> 16)


cdef inline uint64_t key_of(const uint8_t *mac, uint8_t role) noexcept nogil:
    return ((<uint64_t>1 << 63) | (<uint64_t>role << 48) | (<uint64_t>swap32(load32(mac)) << 16)
            | swap16(load16(mac + 4)))


cdef inline uint32_t slot_of(uint64_t key, uint32_t slot_count) noexcept nogil:
    # Fibonacci hashing on the folded key: vendors count their MACs up in the low bits.  The top bits of the product are
    # the mixed ones: with the low ones MACs at step 4 took 7 probes on average, with these 1.
    return <uint32_t>(((((key ^ (key >> 23)) * <uint64_t>0x9E3779B97F4A7C15) >> 32) * slot_count) >> 32)


cdef inline const Lease *find_in(const Table *table, uint64_t key) noexcept nogil:
    cdef uint32_t at
    if table.header == NULL:
        return NULL
    at = slot_of(key, table.slot_count)
    while table.slots[at].key != 0:
        if table.slots[at].key == key:
            return table.leases + table.slots[at].lease
        at = (at + 1) & (table.slot_count - 1)
    return NULL


cdef inline bint find_lease(const Site *site, const uint8_t *mac, uint8_t role, Host *host) noexcept nogil:
    """The host's first lease: the delta's word counts before the base's.  False when the inventory has no such host."""
    cdef uint64_t key = key_of(mac, role)
    host.table = &site.delta
    host.lease = find_in(&site.delta, key)
    if host.lease == NULL:
        host.table = &site.base
        host.lease = find_in(&site.base, key)
    return host.lease != NULL and host.lease.state != TOMBSTONE


cdef inline void prefetch_slot(const Site *site, const uint8_t *mac) noexcept nogil:
    """First pass over a batch: a million hosts' slots do not fit a cache (670 ns a look-up without, DESIGN section 4)."""
    if site.base.header != NULL:
        prefetch(site.base.slots + slot_of(key_of(mac, ROLE_HOST), site.base.slot_count))


cdef inline void prefetch_lease(const Site *site, const uint8_t *mac) noexcept nogil:
    """Second pass: the slot has arrived, now the lease and the host's own options."""
    cdef const Lease *lease = find_in(&site.base, key_of(mac, ROLE_HOST))
    if lease != NULL:
        prefetch(lease)
        prefetch(site.base.heap + lease.own_at)


cdef inline void prefetch_entry(const Site *site, const uint8_t *mac) noexcept nogil:
    """Third pass: the lease has arrived, now the row's entry in the boot ledger, 64 MB of them for a million hosts."""
    cdef const Lease *lease
    if site.ledger == NULL:
        return
    lease = find_in(&site.base, key_of(mac, ROLE_HOST))
    if lease != NULL:
        prefetch(<const uint8_t *>site.ledger + (<size_t>number_of(lease) << ENTRY_SHIFT))


cdef inline bint in_networks(const Site *site, uint32_t address_be) noexcept nogil:
    """True when an IP manager of the inventory contains the address."""
    cdef uint32_t address = swap32(address_be)
    cdef uint32_t low = 0, high = site.network_count, middle
    while low < high:
        middle = (low + high) >> 1
        if site.networks[middle].last < address:
            low = middle + 1
        else:
            high = middle
    return low < site.network_count and site.networks[low].first <= address


cdef inline uint64_t group_of(const Site *site, uint32_t address_be, uint8_t prefix) noexcept nogil:
    """Of networks on one link, the group that has the whole network of an address; 0: none has."""
    cdef uint32_t address = swap32(address_be)
    cdef uint32_t inside = <uint32_t>0xffffffff >> prefix if prefix < 32 else 0
    cdef uint32_t low = 0, high = site.shared_count, middle
    while low < high:
        middle = (low + high) >> 1
        if site.shared[middle].last < address:
            low = middle + 1
        else:
            high = middle
    if (low == site.shared_count or site.shared[low].first > address & ~inside
            or site.shared[low].last < address | inside):
        return 0
    return site.shared[low].group


cdef inline bint is_ours(const Site *site, uint32_t address_be) noexcept nogil:
    cdef uint32_t i
    if cython.unlikely(site.places != NULL):
        return search(site.places, IS_OWN, 0, swap32(address_be), 0) != 0
    for i in range(site.link_count):
        if site.links[i].address_be == address_be:
            return True
    return False


cdef inline uint64_t identity_of(const Table *table, const Lease *lease) noexcept nogil:
    """Which object of the inventory a row is of: a hash of how its source tells objects apart, not of the shown name.
    Its top bit is set in what was read from a layout that knew names alone."""
    cdef uint64_t identity
    memcpy(&identity, table.heap + lease.own_at - IDENTITY_BYTES, IDENTITY_BYTES)
    return identity


cdef inline uint64_t name_identity(uint64_t hashed) noexcept nogil:
    return hashed | <uint64_t>1 << 63


cdef inline bint is_by_name(uint64_t identity) noexcept nogil:
    return identity >> 63


cdef inline bint is_same_object(const Table *one_table, const Lease *one,
                                const Table *other_table, const Lease *other) noexcept nogil:
    cdef uint64_t mine = identity_of(one_table, one), theirs = identity_of(other_table, other)
    if is_by_name(mine) or is_by_name(theirs):
        return one.name_bytes == other.name_bytes and memcmp(
            one_table.heap + one.name_at, other_table.heap + other.name_at, one.name_bytes) == 0
    return mine == theirs


cdef inline uint32_t record_bytes(uint32_t kind) noexcept nogil:
    """Of a kind of section, 0 for one that we do not know."""
    if kind == SECTION_SLOTS:
        return sizeof(Slot)
    if kind == SECTION_LEASES:
        return sizeof(Lease)
    if kind == SECTION_TEMPLATES:
        return sizeof(Template)
    if kind == SECTION_NETWORKS:
        return sizeof(Network)
    if kind == SECTION_LINKS:
        return sizeof(Link)
    if kind == SECTION_SERVER_IDS:
        return 4
    if kind == SECTION_RELAYS:
        return sizeof(Relay)
    if kind == SECTION_RULES:
        return sizeof(Rule)
    if kind == SECTION_SHARED:
        return sizeof(Shared)
    if kind == SECTION_VARIANTS:
        return 4
    if kind == SECTION_CLASS_FIELDS:
        return sizeof(ClassField)
    if kind == SECTION_CLASS_TEXTS:
        return sizeof(ClassText)
    if kind == SECTION_CLASS_NUMBERS:
        return sizeof(ClassNumber)
    return (kind == SECTION_HEAP or kind == SECTION_COLUMNS or kind == SECTION_CLASS_NAMES
            or kind == SECTION_BENEATH)


cdef inline const void *records_of(const Section *section, const uint8_t *start, uint32_t *count) noexcept nogil:
    """Where a section's records begin, and how many there are: none of one that is not there."""
    count[0] = <uint32_t>section.count if section != NULL else 0
    return start + section.at if section != NULL else NULL


cdef inline const char *attach_classes(Table *table, const uint8_t *start, const Section **known) noexcept nogil:
    """What a generation has where classes beyond the first CLASS_COUNT get something of their own."""
    cdef uint32_t columns
    table.columns = <const uint8_t *>records_of(known[<int>SECTION_COLUMNS], start, &columns)
    table.variants = <const uint32_t *>records_of(known[<int>SECTION_VARIANTS], start, &table.variant_count)
    table.class_fields = <const ClassField *>records_of(
        known[<int>SECTION_CLASS_FIELDS], start, &table.class_field_count)
    table.class_texts = <const ClassText *>records_of(known[<int>SECTION_CLASS_TEXTS], start, &table.class_text_count)
    table.class_numbers = <const ClassNumber *>records_of(
        known[<int>SECTION_CLASS_NUMBERS], start, &table.class_number_count)
    table.class_names = <const uint8_t *>records_of(known[<int>SECTION_CLASS_NAMES], start, &table.class_names_bytes)
    if table.columns != NULL and columns != CLASS_NUMBERS:
        return b"not a column for each class"
    table.column_count = table.variant_count // table.template_count if table.template_count != 0 else 0
    if table.column_count * table.template_count != table.variant_count:
        return b"another number of variants than of templates"
    return NULL


cdef inline const char *attach_table(Table *table, const void *at, uint64_t bytes) noexcept nogil:
    """Point a Table into a mapped generation after checking its bounds.  NULL, or what is wrong with it."""
    cdef const Header *header = <const Header *>at
    cdef const uint8_t *start = <const uint8_t *>at
    cdef const Section *section = <const Section *>(start + sizeof(Header))
    cdef const Section *known[SECTION_KINDS]
    cdef uint32_t i
    if bytes < sizeof(Header):
        return b"shorter than a header"
    if header.magic != TABLE_MAGIC_LOW:
        return b"no table: wrong magic"
    if header.version != TABLE_VERSION:
        return b"another version of the layout"
    if header.total_bytes != bytes:
        return b"its length is not what the header says"
    if header.section_count > SECTIONS_MAX or bytes - sizeof(Header) < header.section_count * sizeof(Section):
        return b"the directory of sections reaches over its end"
    memset(known, 0, sizeof(known))
    for i in range(header.section_count):
        if (section[i].at % 8 != 0 or section[i].at > bytes or section[i].size == 0 or section[i].count >> 32 != 0
                or section[i].count > (bytes - section[i].at) // section[i].size
                or section[i].at < sizeof(Header) + header.section_count * sizeof(Section)):
            return b"a section reaches over its end"
        if section[i].kind >= SECTION_KINDS or record_bytes(section[i].kind) == 0:
            continue
        if section[i].size != record_bytes(section[i].kind):
            return b"another size of record in a section"
        if known[section[i].kind] != NULL:
            return b"a section stands there twice"
        known[section[i].kind] = section + i
    for i in range(1, SECTION_HEAP + 1):
        if known[i] == NULL:
            return b"a section is missing"
    table.slot_count = <uint32_t>known[<int>SECTION_SLOTS].count
    table.lease_count = <uint32_t>known[<int>SECTION_LEASES].count
    if table.slot_count == 0 or table.slot_count & (table.slot_count - 1) or table.slot_count <= table.lease_count:
        return b"slot_count is no power of two above lease_count"
    table.template_count = <uint32_t>known[<int>SECTION_TEMPLATES].count
    table.network_count = <uint32_t>known[<int>SECTION_NETWORKS].count
    table.link_count = <uint32_t>known[<int>SECTION_LINKS].count
    table.server_id_count = <uint32_t>known[<int>SECTION_SERVER_IDS].count
    table.relay_count = <uint32_t>known[<int>SECTION_RELAYS].count
    table.rule_count = <uint32_t>known[<int>SECTION_RULES].count
    table.heap_bytes = known[<int>SECTION_HEAP].count
    table.header = header
    table.slots = <const Slot *>(start + known[<int>SECTION_SLOTS].at)
    table.leases = <const Lease *>(start + known[<int>SECTION_LEASES].at)
    table.templates = <const Template *>(start + known[<int>SECTION_TEMPLATES].at)
    table.networks = <const Network *>(start + known[<int>SECTION_NETWORKS].at)
    table.links = <const Link *>(start + known[<int>SECTION_LINKS].at)
    table.server_ids_be = <const uint32_t *>(start + known[<int>SECTION_SERVER_IDS].at)
    table.relays = <const Relay *>(start + known[<int>SECTION_RELAYS].at)
    table.rules = <const Rule *>(start + known[<int>SECTION_RULES].at)
    table.heap = start + known[<int>SECTION_HEAP].at
    table.shared = <const Shared *>records_of(known[<int>SECTION_SHARED], start, &table.shared_count)
    return attach_classes(table, start, known)


cdef inline const char *join_site(Site *site) noexcept nogil:
    """Base and delta are attached (delta.header may be NULL): take the site's words from the younger one.
    NULL, or why the two do not belong together."""
    cdef const Header *own = site.base.header
    cdef const Table *words = &site.base
    if own.base != own.generation:
        return b"the base is a delta"
    if site.delta.header != NULL:
        if (site.delta.header.base != own.generation or site.delta.header.base_checksum != own.checksum
                or site.delta.header.generation <= own.generation):
            return b"the delta belongs to another base"
        # One that says nothing is of a build that knows no classes of the site.
        if site.delta.class_names_bytes != 0 and (
                site.delta.class_names_bytes != site.base.class_names_bytes
                or memcmp(site.delta.class_names, site.base.class_names, site.base.class_names_bytes) != 0):
            return b"the delta has other client classes than its base"
        words = &site.delta
    site.own = words.header
    site.networks, site.network_count = words.networks, words.network_count
    site.links, site.link_count = words.links, words.link_count
    site.server_ids_be, site.server_id_count = words.server_ids_be, words.server_id_count
    site.relays, site.relay_count = words.relays, words.relay_count
    site.rules, site.rule_count = words.rules, words.rule_count
    site.shared, site.shared_count = words.shared, words.shared_count
    return NULL
