"""The boot ledger: for each row of the table, how far its machine has come, what it was told last, and how often it asked.

One memfd that the supervisor keeps, so that it outlives workers, generations and upgrades.  A row's place is its number
(ext/rows.pyx).  An entry bears the row's key; who finds another's there begins it anew.  A machine's requests reach one
worker, which alone writes its entry; of InfiniBand's, which any worker may get, a count may be lost.
"""

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

cimport cython

from ext.classify cimport BMC, IPXE, IPXE_HTTP, OS, SITE_CLASS, firmware_class
from ext.leases cimport Lease
from ext.request cimport Request
from ext.rfc2131 cimport DHCPDISCOVER
from ext.verdict cimport *
from ext.wire cimport load32, load64


cdef enum:
    LEDGER_MAGIC = 0x6764656C      # "ledg"
    LEDGER_VERSION = 1
    LEDGER_PLACES = 1 << 24        # as many as there are numbers; those that nobody has cost no memory
    KEY_BYTES = 7                  # of the beginning of a Lease: MAC and role
    BOOT_ENDS_S = 3600             # who stood in ROM or in a loader for so long ended its boot there: no file takes longer
    REPEAT_S = 66                  # so late a message is repeated at most, with its xid: RFC 2131 section 4.1
    DELAYED_S = 5                  # so late the network brings what a phase said before the one that is there now
    SHORT_BOOTS = 3                # as many that end earlier than the one before change what is usual of a machine
    PHASE_SHIFT = 2                # of a stage: the phase above it,
    STEP_MASK = 3                  # and the step below
    OF_ROW = 0x80
    SILENT = 0x40
    STAYS = 0x20                   # of a message that must not say a class: RFC 2131 table 5
    TROUBLE = 0x10                 # see is_trouble()


cdef enum Phase:                   # of a boot, by who asks
    PHASE_NONE
    PHASE_ROM                      # the card's or the board's firmware, by PXE or HTTP
    PHASE_LOADER                   # iPXE
    PHASE_SYSTEM                   # an installer, an operating system, a BMC


cdef enum Step:                    # of a phase
    STEP_ASKED                     # and has no answer
    STEP_OFFERED
    STEP_ANSWERED                  # by an ACK or BOOTP's reply: it has its address


cdef struct Entry:                # 64 bytes, one cache line.  Times are seconds of the ledger, see LedgerHead
    uint64_t key                   # of the row, ledger_key(); 0: nobody's
    uint32_t first_s               # when it was first heard
    uint32_t last_s                # and last
    uint32_t stage_s               # when it reached the stage
    uint32_t boot_s                # when the boot began
    uint32_t xid_be                # of the request that brought it to the stage
    uint32_t giaddr_be
    uint32_t requests
    uint32_t silent                # of these, without an answer that was due
    uint16_t took_s[2][2]          # from the last answer in ROM, and in LOADER, to the next phase: the last boot, the one
                                   # before; 0: not known
    uint16_t boots                 # begun since first_s, as far as 16 bits count
    uint8_t stage                  # Phase << PHASE_SHIFT | Step, the furthest of this boot
    uint8_t reached                # how far its boots came before, see learn_end(); 0: nobody knows
    uint8_t verdict                # of the last request
    uint8_t client_class           # ClientClass of its firmware
    uint8_t message_type
    uint8_t short_boots            # one after the other that ended earlier than `reached`
    uint32_t again_s               # when it last began anew, or went on, where it had its address before; 0: in this phase not
    uint32_t trouble_s             # when the trouble of its last requests began, where that is_trouble()


cdef struct LedgerHead:            # a page; the entries follow
    uint32_t magic
    uint32_t version
    int64_t epoch_s                # ledger seconds = CLOCK_BOOTTIME + this: since 1970, by the clock as it stood then
    int64_t since_s                # ledger seconds: nothing before is known
    int64_t loaded                 # 1: what the disk kept is in it already
    int64_t resumed_s              # ledger seconds: when that was; nobody is late by the time in which nobody answered
    uint8_t reserved[4096 - 40]
    Entry entries[1]


cdef inline size_t ledger_bytes() noexcept nogil:
    return sizeof(LedgerHead) + (<size_t>LEDGER_PLACES - 1) * sizeof(Entry)


cdef inline uint64_t ledger_key(const Lease *lease) noexcept nogil:
    return load64(<const uint8_t *>lease) & ((<uint64_t>1 << 8 * KEY_BYTES) - 1)


cdef struct Book:                  # a writer's own: where it writes, and what it looks up for each packet
    LedgerHead *head               # NULL: no ledger is kept
    uint32_t now_s                 # seconds of the ledger
    uint8_t of_class[128]          # ClientClass -> Phase << PHASE_SHIFT
    uint8_t of_verdict[64]         # Verdict -> 0: is of no row; or OF_ROW, perhaps SILENT, and the Step


cdef inline Phase phase_of(uint8_t client) noexcept nogil:
    """client: a built-in ClientClass."""
    if client == OS or client == BMC:
        return PHASE_SYSTEM
    return PHASE_LOADER if client == IPXE or client == IPXE_HTTP else PHASE_ROM


cdef inline bint is_of_row(uint8_t verdict) noexcept nogil:
    """True for what is decided about a row that was found, and is that row's own affair."""
    return (verdict <= NOTED_DECLINE or IGNORED_DISABLED <= verdict <= IGNORED_QUARANTINED
            or IGNORED_OTHER_LINK <= verdict <= IGNORED_NO_ROOM or verdict == IGNORED_HELD)


cdef inline bint is_trouble(uint8_t verdict) noexcept nogil:
    """True for what a machine cannot go on with.  Who takes another server's offer goes on with that."""
    return verdict >= NAKED and verdict != NOTED_RELEASE and verdict != IGNORED_OTHER_SERVER


cdef inline Step step_of(uint8_t verdict) noexcept nogil:
    """A NAK is none: its client asks anew."""
    if verdict == OFFERED or verdict == OFFERED_PROXY:
        return STEP_OFFERED
    return STEP_ANSWERED if verdict < NAKED else STEP_ASKED


cdef inline void open_book(Book *book, LedgerHead *head) noexcept nogil:
    cdef uint8_t i
    memset(book, 0, sizeof(Book))
    book.head = head
    for i in range(128):
        book.of_class[i] = <uint8_t>(phase_of(i) << PHASE_SHIFT)
    for i in range(64):
        if i < GO_ON and is_of_row(i):
            book.of_verdict[i] = <uint8_t>(OF_ROW | (SILENT if i > NOTED_DECLINE else 0) | step_of(i)
                                           | (STAYS if i == NOTED_RELEASE or i == NOTED_DECLINE else 0)
                                           | (TROUBLE if is_trouble(i) else 0))


cdef inline void learn_end(Entry *entry, uint32_t now_s) noexcept nogil:
    """At the end of a boot: is that how far its boots come?

    A system is.  Who began anew within BOOT_ENDS_S of an early phase was reset there, by a person or a watchdog, and says
    nothing; who stood there longer either boots from its disk, or hung: the first time, and at the third boot in a row
    that ends earlier than those before, it is believed."""
    cdef uint8_t last = entry.stage if entry.again_s == 0 else entry.stage & ~STEP_MASK | STEP_ANSWERED
    if last >> PHASE_SHIFT < PHASE_SYSTEM and (last & STEP_MASK == STEP_ASKED or now_s - entry.stage_s < BOOT_ENDS_S):
        return
    if last >> PHASE_SHIFT < entry.reached >> PHASE_SHIFT:
        entry.short_boots += 1
        if entry.short_boots < SHORT_BOOTS:
            return
    entry.reached = last
    entry.short_boots = 0


cdef inline void begin_boot(Entry *entry, uint8_t stage, uint32_t now_s) noexcept nogil:
    learn_end(entry, now_s)
    entry.stage = stage
    entry.stage_s = entry.boot_s = now_s
    entry.again_s = 0
    entry.boots += entry.boots != 0xffff


cdef inline void go_further(Entry *entry, uint8_t stage, uint32_t now_s) noexcept nogil:
    cdef uint8_t left = entry.stage >> PHASE_SHIFT
    cdef uint32_t spent_s = now_s - max(entry.stage_s, entry.again_s)
    cdef uint16_t *took
    if stage >> PHASE_SHIFT != left:
        if entry.stage & STEP_MASK == STEP_ANSWERED and left < PHASE_SYSTEM and spent_s < BOOT_ENDS_S:
            took = entry.took_s[left - PHASE_ROM]
            took[1] = took[0]
            took[0] = <uint16_t>max(<uint32_t>1, spent_s)
        entry.again_s = 0
    entry.stage = stage
    if entry.again_s == 0:
        entry.stage_s = now_s
    else:
        entry.again_s = now_s


cdef inline void advance(Entry *entry, uint8_t stage, uint32_t now_s, const Request *request) noexcept nogil:
    """Another stage than the one in the entry.  A boot begins with an earlier phase than before, or with a DISCOVER of a
    system that had its answer; whoever asks anew in the phase in which he stands is in it since he came there: his
    offer or his boot file did not arrive, or one iPXE loaded another; but he has to take his address again.  After
    BOOT_ENDS_S it is another boot all the same."""
    cdef uint32_t xid_be = request.bootp.xid_be
    cdef uint8_t phase = entry.stage >> PHASE_SHIFT
    if stage > entry.stage:
        if entry.stage == 0:
            begin_boot(entry, stage, now_s)
        else:
            go_further(entry, stage, now_s)
    elif (xid_be == entry.xid_be   # later: there are ROMs that have one xid for ever, and give it to the iPXE that they load
          and now_s - max(entry.stage_s, entry.again_s) < <uint32_t>(REPEAT_S if stage >> PHASE_SHIFT == phase else DELAYED_S)):
        return
    elif (stage >> PHASE_SHIFT == phase
          and (entry.stage & STEP_MASK != STEP_ANSWERED or request.message_type != DHCPDISCOVER)):
        return
    elif stage >> PHASE_SHIFT == phase and phase < PHASE_SYSTEM and now_s - entry.stage_s < BOOT_ENDS_S:
        entry.stage = stage
        entry.again_s = now_s
    else:
        begin_boot(entry, stage, now_s)
    entry.xid_be = xid_be


cdef inline Entry *entry_of(const Book *book, const Lease *lease) noexcept nogil:
    return book.head.entries + (load32(&lease.lease_count) >> 8)       # number_of() of it, in one load


cdef inline void enter(const Book *book, const Lease *lease, const Request *request, Verdict verdict) noexcept nogil:
    """One request of a machine, and what became of it, where that is of a row."""
    cdef uint8_t what = book.of_verdict[<int>verdict], client, stage
    cdef uint64_t key
    cdef Entry *entry
    if not what & OF_ROW:
        return
    entry, key = entry_of(book, lease), ledger_key(lease)
    client = request.client_class
    if cython.unlikely(client >= SITE_CLASS):
        client = <uint8_t>firmware_class(request)
    stage = book.of_class[client] | (what & STEP_MASK)
    if cython.unlikely(entry.key != key):
        memset(entry, 0, sizeof(Entry))
        entry.key = key
        entry.first_s = book.now_s
    if cython.unlikely(what & STAYS):
        client = entry.client_class
        stage = entry.stage if entry.stage != 0 else <uint8_t>(PHASE_SYSTEM << PHASE_SHIFT | STEP_ANSWERED)
    if stage != entry.stage:
        advance(entry, stage, book.now_s, request)
    if cython.unlikely(what & TROUBLE):
        if not is_trouble(entry.verdict):
            entry.trouble_s = book.now_s
    entry.last_s = book.now_s
    entry.giaddr_be = request.bootp.giaddr_be
    entry.requests += 1
    if what & SILENT:
        entry.silent += 1
    entry.verdict = <uint8_t>verdict
    entry.client_class = client
    entry.message_type = request.message_type
