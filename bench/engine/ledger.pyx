"""A load without an end and the account of it: every request is answered rightly, wrongly, late, or lost, by the moment.

For runs of hours: the memory does not grow with the number of requests.  What is right may change meanwhile: a host's
address is set anew while it runs, and for as long as the change is under way its old answer is right as well.  Open loop,
without the GIL, as blast.pyx; waits count from the real send, what this generator was late by is counted on its own.
"""

cimport cython
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from bench.engine.wire cimport *
from ext.net cimport load_acquire_int
from ext.rfc2131 cimport DHCPACK, DHCPNAK, DHCPOFFER
from ext.wire cimport swap32

WRONGS = ("address", "stranger answered", "NAK", "type", "form", "never asked", "twice")

cdef enum:
    MOMENT_NS = 10000000
    TURN_NS = 4000000              # a turn of the loop takes a fraction of that: beyond it, somebody else had the core
    KEPT = 16                      # wrong answers and lost requests that are kept for a person to read
    DEAF_SPELLS = 256
    DISCOVERS = 0                  # the two templates
    REQUESTS = 1
    NOBODY = 0xffffffff


cdef enum Wrong:
    NOT_ITS_ADDRESS                # of nobody else here either
    STRANGER_ANSWERED              # a MAC that the inventory does not know got an address
    REFUSED                        # a NAK for the address that is the host's
    OTHER_TYPE
    BAD_FORM                       # truncated, no lease time, no server, another giaddr, another MAC
    NEVER_ASKED
    TWICE                          # an address that another object has at this moment
    WRONG_COUNT


cdef struct Shot:
    int64_t sent_ns                # of CLOCK_MONOTONIC
    uint32_t peer
    uint32_t asked_be              # REQUEST: the address in it
    uint32_t version               # of the host's expectation when it was sent
    uint32_t epoch                 # of all expectations
    uint8_t template
    bint answered
    bint loose


cdef struct Hope:                  # what a host has to get now; its Peer's address is what it was offered last
    uint32_t right_be              # 0: silence
    uint32_t other_be              # the same before, right while the change is under way
    uint32_t version
    uint32_t silent_version        # the last one under which silence was right, be it as the old or as the new answer
    uint32_t object                # two hosts of one object are one machine with two cards
    bint loose                     # a change is under way
    bint told                      # a stranger says nothing until somebody introduces it


cdef struct Holder:                # who was ACKed an address last
    uint32_t peer
    uint32_t epoch


cdef struct Moment:
    uint32_t sent
    uint32_t answered
    uint32_t silent                # rightly
    uint32_t lost
    uint32_t unheard               # sent while nobody held the socket
    uint32_t wrong
    uint32_t twice
    int64_t wait_ns                # longest
    int64_t late_ns                # longest that a send was late by


cdef struct Kept:
    int64_t sent_ns
    int64_t when_ns
    uint32_t number
    uint32_t peer
    uint32_t yiaddr_be
    uint32_t wanted_be
    uint32_t rival                 # the host that has the address
    int wrong


@cython.final
cdef class Ledger(Wire):
    """Requests at a fixed rate for at most `seconds`.  set_peers(), set_objects(), add two templates (DISCOVER, REQUEST),
    then run() in a thread of its own; everything else may be called meanwhile.

    room: requests that may wait for their answer at a time, a power of two; patience_ns: after that one is lost."""
    cdef Shot *shots
    cdef Hope *hopes
    cdef Holder *holders
    cdef Moment *moments
    cdef Kept wrongs[KEPT]
    cdef Kept losses[KEPT]
    cdef int64_t deaf[DEAF_SPELLS][2]
    cdef int deaf_count, wrong_kept, lost_kept
    cdef uint32_t next, settled, mask, first_xid, first_address, span, epoch, moment_count, at_peer, rounds
    cdef double rate
    cdef int64_t start_ns, patience_ns, ended_ns, stalled_ns
    cdef uint64_t sent_total, answered_total, silent_total, lost_total, unheard_total, wrong_total, twice_total
    cdef uint64_t duplicate_total, stray_total, skipped_total
    cdef uint64_t latency[BUCKETS]

    def __cinit__(self, int fd, *, double rate, double seconds, uint32_t first_xid=1, uint32_t room=1 << 18,
                  int64_t patience_ns=5000000000, uint32_t first_address=0, uint32_t span=0, **_rest):
        if rate <= 0 or seconds <= 0 or room & (room - 1) or rate * patience_ns / 1e9 > room * 0.9:
            raise ValueError(f"{rate}/s for {seconds} s, room for {room}: wanted a power of two above what waits in "
                             f"{patience_ns / 1e9:g} s")
        self.rate, self.first_xid, self.mask, self.patience_ns = rate, first_xid, room - 1, patience_ns
        self.first_address, self.span = first_address, span
        self.moment_count = <uint32_t>((seconds * 1e9 + 2 * patience_ns) // MOMENT_NS + 2)
        self.shots = <Shot *>calloc(room, sizeof(Shot))
        self.holders = <Holder *>calloc(max(span, 1), sizeof(Holder))
        self.moments = <Moment *>calloc(self.moment_count, sizeof(Moment))
        if self.shots == NULL or self.holders == NULL or self.moments == NULL:
            raise MemoryError(f"{room} requests, {span} addresses, {self.moment_count} moments")
        memset(self.holders, 0xff, max(span, 1) * sizeof(Holder))
        self.epoch = 1

    def __dealloc__(self):
        free(self.shots)
        free(self.hopes)
        free(self.holders)
        free(self.moments)

    def set_objects(self, objects):
        """The object of each host, a number; the same for two MACs of one machine.  After set_peers().  Hosts with
        address 0 are strangers: they say nothing before introduce()."""
        cdef uint32_t i
        if self.hopes != NULL or len(objects) != self.peer_count or self.peer_count == 0:
            raise ValueError(f"{len(objects)} objects for {self.peer_count} hosts: wanted as many, once")
        self.hopes = <Hope *>calloc(self.peer_count, sizeof(Hope))
        if self.hopes == NULL:
            raise MemoryError(f"{self.peer_count} hosts")
        for i in range(self.peer_count):
            self.hopes[i].object = objects[i]
            self.hopes[i].right_be = self.peers[i].address_be
            self.hopes[i].told = self.peers[i].address_be != 0
            self.hopes[i].version = 1
            self.hopes[i].silent_version = self.hopes[i].right_be == 0

    def set_object(self, uint32_t peer, uint32_t number):
        """This MAC is another machine's from now on."""
        self.hopes[peer].object = number

    # --- what is right, and since when ----------------------------------------------------------------------------

    def begin_change(self, changes):
        """(host, address) pairs, address 0 for silence: from now on the old and the new answer are right, and none."""
        cdef uint32_t peer, address
        for peer, address in changes:
            if peer >= self.peer_count:
                raise ValueError(f"host {peer}, there are {self.peer_count}")
            self.hopes[peer].other_be = self.hopes[peer].right_be
            self.hopes[peer].loose = True
            self.hopes[peer].version += 1
            self.hopes[peer].told = True
            self.hopes[peer].right_be = swap32(address)
            if address == 0 or self.hopes[peer].other_be == 0:
                self.hopes[peer].silent_version = self.hopes[peer].version
        self.epoch += 1

    def end_change(self, peers):
        """From now on only the new answer is right for requests of these hosts."""
        cdef uint32_t peer
        for peer in peers:
            self.hopes[peer].loose = False
            self.hopes[peer].version += 1
            if self.hopes[peer].right_be == 0:
                self.hopes[peer].silent_version = self.hopes[peer].version
        self.epoch += 1

    def hush(self, peers):
        """These hosts say nothing more."""
        cdef uint32_t peer
        for peer in peers:
            self.hopes[peer].told = False

    def open_deaf(self, int64_t from_ns):
        """Nobody holds the socket from that moment (of CLOCK_MONOTONIC) on; what gets no answer is unheard, not lost."""
        if self.deaf_count == DEAF_SPELLS:
            raise ValueError(f"more than {DEAF_SPELLS} spells of deafness")
        self.deaf[self.deaf_count][0], self.deaf[self.deaf_count][1] = from_ns, 0x7fffffffffffffff
        self.deaf_count += 1

    def close_deaf(self, int64_t to_ns):
        """Somebody holds the socket again."""
        self.deaf[self.deaf_count - 1][1] = to_ns

    def spells(self) -> list:
        """(from, to) in ns of CLOCK_MONOTONIC: when nobody held the socket."""
        return [(self.deaf[i][0], min(self.deaf[i][1], now_ns())) for i in range(self.deaf_count)]

    # --- the loop ---------------------------------------------------------------------------------------------------

    def run(self):
        """Send until stop() or until the time is over, then wait for the last answers."""
        if self.hopes == NULL or self.template_count != 2:
            raise ValueError(f"{self.template_count} templates, objects {'' if self.hopes else 'not '}set: wanted "
                             f"DISCOVER and REQUEST, and set_objects() before run()")
        with nogil:
            wake_on_time()
            self.start_ns = now_ns() + 1000000
            self.send_all()
            self.await_rest()
            self.ended_ns = now_ns()

    cdef void send_all(self) noexcept nogil:
        cdef int64_t now, due, before = now_ns(), allowed = TURN_NS, period = <int64_t>(1e9 / self.rate)
        cdef int64_t last_ns = self.start_ns + (<int64_t>self.moment_count - 1) * MOMENT_NS - 2 * self.patience_ns
        cdef uint64_t turn = 0     # appointed times that are over, kept or not
        while not load_acquire_int(&self.stopping):
            now = now_ns()
            if now >= last_ns:
                return
            if now - before > allowed:
                self.stalled_ns += now - before - (allowed - TURN_NS)
            before, allowed = now, TURN_NS
            self.settle(now)
            due = self.start_ns + <int64_t>(turn * (1e9 / self.rate))
            while due <= now and self.out_count < BATCH:
                if self.next - self.settled > self.mask:
                    self.skipped_total += 1        # more wait than there is room for: the server is far gone
                else:
                    self.send_one(now, due)
                turn += 1
                due = self.start_ns + <int64_t>(turn * (1e9 / self.rate))
            self.flush()
            if self.receive() == 0 and due > now_ns():
                allowed += max(due - now_ns(), 0)
                self.pause(due)

    cdef void send_one(self, int64_t now, int64_t due) noexcept nogil:
        cdef Shot *shot
        cdef Moment *moment
        cdef uint32_t peer = self.at_peer
        cdef uint32_t tried = 0
        while not self.hopes[peer].told and tried < self.peer_count:
            peer = self.after(peer)
            tried += 1
        self.at_peer = self.after(peer)
        if tried == self.peer_count:
            return
        shot = &self.shots[self.next & self.mask]
        shot.sent_ns, shot.peer, shot.answered = now, peer, False
        shot.version, shot.epoch, shot.loose = self.hopes[peer].version, self.epoch, self.hopes[peer].loose
        shot.template = REQUESTS if self.rounds & 1 and self.peers[peer].address_be != 0 else DISCOVERS
        shot.asked_be = self.peers[peer].address_be if shot.template == REQUESTS else 0
        moment = self.moment(now)
        moment.sent += 1
        moment.late_ns = max(moment.late_ns, now - due)
        self.put(peer, shot.template, self.first_xid + self.next, 0)
        self.next += 1
        self.sent_total += 1

    cdef uint32_t after(self, uint32_t peer) noexcept nogil:
        if peer + 1 < self.peer_count:
            return peer + 1
        self.rounds += 1
        return 0

    cdef Moment *moment(self, int64_t at_ns) noexcept nogil:
        cdef int64_t i = (at_ns - self.start_ns) // MOMENT_NS
        return &self.moments[min(max(i, 0), <int64_t>self.moment_count - 1)]

    cdef void settle(self, int64_t now) noexcept nogil:
        """Close the account of requests whose time is over."""
        cdef Shot *shot
        while self.settled != self.next:
            shot = &self.shots[self.settled & self.mask]
            if not shot.answered:
                if now - shot.sent_ns < self.patience_ns:
                    return
                self.settle_silent(shot)
            self.settled += 1

    cdef void settle_silent(self, const Shot *shot) noexcept nogil:
        cdef Hope *hope = &self.hopes[shot.peer]
        cdef Moment *moment = self.moment(shot.sent_ns)
        cdef int i
        # An exchange passes through a moment in which two machines have one address: whoever reads then answers neither.
        if shot.loose or shot.version <= hope.silent_version:
            moment.silent += 1
            self.silent_total += 1
            return
        for i in range(self.deaf_count):
            if self.deaf[i][0] <= shot.sent_ns <= self.deaf[i][1]:
                moment.unheard += 1
                self.unheard_total += 1
                return
        moment.lost += 1
        self.lost_total += 1
        self.keep_one(self.losses, &self.lost_kept, shot, self.settled, 0, 0, NOBODY, 0)

    cdef void await_rest(self) noexcept nogil:
        while self.settled != self.next:
            if self.receive() == 0:
                self.pause(now_ns() + 1000000)
            self.settle(now_ns())

    # --- answers ----------------------------------------------------------------------------------------------------

    cdef void take(self, const uint8_t *data, size_t length, int64_t when_ns) noexcept nogil:
        cdef Answer answer
        cdef uint32_t number
        cdef Shot *shot
        if not read_answer(data, length, &answer):
            self.stray_total += 1
            return
        number = answer.xid - self.first_xid
        if self.next - number - 1 > self.mask or <int64_t>number >= <int64_t>self.next:
            self.stray_total += 1  # older than there is room for, or of an earlier run
            return
        shot = &self.shots[number & self.mask]
        if shot.answered:
            self.duplicate_total += 1
        self.judge(&answer, shot, number, when_ns)
        if not shot.answered:
            shot.answered = True
            if <int32_t>(number - self.settled) >= 0:
                self.time_answer(shot, when_ns)

    cdef void time_answer(self, const Shot *shot, int64_t when_ns) noexcept nogil:
        cdef Moment *moment = self.moment(shot.sent_ns)
        moment.answered += 1
        moment.wait_ns = max(moment.wait_ns, when_ns - shot.sent_ns)
        self.answered_total += 1
        count_ns(self.latency, when_ns - shot.sent_ns)

    cdef void judge(self, const Answer *answer, const Shot *shot, uint32_t number, int64_t when_ns) noexcept nogil:
        """Every answer is judged, second ones to the same request too."""
        cdef Hope *hope = &self.hopes[shot.peer]
        cdef Peer *peer = &self.peers[shot.peer]
        cdef const Template *template = &self.templates[shot.template]
        cdef bint changing = shot.loose or hope.loose or shot.version != hope.version
        cdef bint gives = answer.kind != DHCPNAK
        cdef Peer whole
        if gives:                  # the form of it, with whatever address it bears
            whole = peer[0]
            whole.address_be = answer.yiaddr_be
            if answer.kind == template.wants and self.check(answer, &whole, template) != RIGHT:
                self.note_wrong(BAD_FORM, answer, shot, number, when_ns, NOBODY)
                return
            if answer.kind == template.wants and answer.kind == DHCPACK and not changing:
                self.note_holder(answer, shot, number, when_ns)
            elif answer.kind == template.wants and answer.kind == DHCPOFFER:
                peer.address_be, peer.server_id_be = answer.yiaddr_be, answer.server_id_be
        if answer.kind == DHCPNAK:
            if not changing and (shot.asked_be == hope.right_be or hope.right_be == 0):
                self.note_wrong(REFUSED, answer, shot, number, when_ns, NOBODY)
        elif answer.kind != template.wants:
            self.note_wrong(OTHER_TYPE, answer, shot, number, when_ns, NOBODY)
        elif answer.yiaddr_be != hope.right_be and not (changing and answer.yiaddr_be == hope.other_be):
            self.note_wrong(STRANGER_ANSWERED if hope.right_be == 0 else NOT_ITS_ADDRESS, answer, shot, number,
                            when_ns, NOBODY)

    cdef void note_holder(self, const Answer *answer, const Shot *shot, uint32_t number, int64_t when_ns) noexcept nogil:
        """An address that two objects were ACKed while nothing changed: said without asking what would be right."""
        cdef uint32_t at = swap32(answer.yiaddr_be) - self.first_address
        cdef Holder *holder
        if at >= self.span:
            return
        holder = &self.holders[at]
        if (holder.peer != NOBODY and holder.epoch == shot.epoch
                and self.hopes[holder.peer].object != self.hopes[shot.peer].object):
            self.twice_total += 1
            self.moment(shot.sent_ns).twice += 1
            self.note_wrong(TWICE, answer, shot, number, when_ns, holder.peer)
        holder.peer, holder.epoch = shot.peer, shot.epoch

    cdef void note_wrong(self, Wrong wrong, const Answer *answer, const Shot *shot, uint32_t number, int64_t when_ns,
                         uint32_t rival) noexcept nogil:
        self.wrong_total += 1
        self.moment(shot.sent_ns).wrong += 1
        self.keep_one(self.wrongs, &self.wrong_kept, shot, number, when_ns, answer.yiaddr_be, rival, wrong)

    cdef void keep_one(self, Kept *room, int *count, const Shot *shot, uint32_t number, int64_t when_ns,
                       uint32_t yiaddr_be, uint32_t rival, int wrong) noexcept nogil:
        cdef Kept *kept
        if count[0] < KEPT:
            kept = &room[count[0]]
            kept.sent_ns, kept.when_ns, kept.number, kept.peer = shot.sent_ns, when_ns, number, shot.peer
            kept.yiaddr_be, kept.wanted_be, kept.rival = yiaddr_be, self.hopes[shot.peer].right_be, rival
            kept.wrong = wrong
            count[0] += 1

    # --- figures ----------------------------------------------------------------------------------------------------

    @property
    def began_ns(self) -> int:
        """CLOCK_MONOTONIC of the first request."""
        return self.start_ns

    def totals(self) -> dict:
        """What became of everything so far; `waiting` is neither answered nor lost yet."""
        return {
            "sent": self.sent_total, "answered": self.answered_total, "silent": self.silent_total,
            "lost": self.lost_total, "unheard": self.unheard_total, "wrong": self.wrong_total,
            "twice": self.twice_total, "duplicate": self.duplicate_total, "stray": self.stray_total,
            "skipped": self.skipped_total, "waiting": <uint32_t>(self.next - self.settled),
            "stalled_ns": self.stalled_ns,
        }

    def between(self, int64_t from_ns, int64_t to_ns) -> dict:
        """The same of the requests that were sent in this stretch (CLOCK_MONOTONIC), with the longest wait."""
        cdef int64_t i, first = (from_ns - self.start_ns) // MOMENT_NS, last = (to_ns - self.start_ns) // MOMENT_NS
        cdef Moment *moment
        cdef uint64_t sent = 0, answered = 0, silent = 0, lost = 0, unheard = 0, wrong = 0, twice = 0
        cdef int64_t wait = 0, late = 0
        for i in range(max(first, 0), min(last + 1, <int64_t>self.moment_count)):
            moment = &self.moments[i]
            sent += moment.sent
            answered += moment.answered
            silent += moment.silent
            lost += moment.lost
            unheard += moment.unheard
            wrong += moment.wrong
            twice += moment.twice
            wait, late = max(wait, moment.wait_ns), max(late, moment.late_ns)
        return {"sent": sent, "answered": answered, "silent": silent, "lost": lost, "unheard": unheard, "wrong": wrong,
                "twice": twice, "wait_ns": wait, "late_ns": late}

    def waits(self, double step_s) -> list:
        """(start in s, sent, answered, longest wait in ns) of each stretch of the run, up to its last request."""
        cdef int64_t step = <int64_t>(step_s * 1e9), at = self.start_ns, end = self.start_ns + <int64_t>(self.sent_total * (1e9 / self.rate))
        found = []
        while at < end:
            stretch = self.between(at, at + step - 1)
            found.append(((at - self.start_ns) / 1e9, stretch["sent"], stretch["answered"], stretch["wait_ns"]))
            at += step
        return found

    def histogram(self) -> list:
        """(upper bound in ns, count) of all waits."""
        return counts(self.latency)

    def wrong_kept_of(self) -> list:
        """The first wrong answers as (kind, seconds since the start of its request, of the answer, number, MAC, address
        that it bore, address that is right at the end, MAC of the other that has it or b"")."""
        return [(WRONGS[self.wrongs[i].wrong], *self.told_of(&self.wrongs[i])) for i in range(self.wrong_kept)]

    def lost_kept_of(self) -> list:
        """The first lost requests, in the same form."""
        return [("lost", *self.told_of(&self.losses[i])) for i in range(self.lost_kept)]

    cdef tuple told_of(self, const Kept *kept):
        cdef bytes rival = b""
        if kept.rival != NOBODY:
            rival = <bytes>(<const char *>self.peers[kept.rival].mac)[:6]
        return ((kept.sent_ns - self.start_ns) / 1e9, (kept.when_ns - self.start_ns) / 1e9 if kept.when_ns else 0.0,
                kept.number, <bytes>(<const char *>self.peers[kept.peer].mac)[:6], swap32(kept.yiaddr_be),
                swap32(kept.wanted_be), rival)
