"""The sender of the benches: thousands of hosts' requests out at their appointed times, every reply checked.

Runs without the GIL, allocates nothing while it sends.  Open loop: when a request is due does not depend on replies, and
latency counts from then, so neither a stall of the server nor one of ours is hidden; ours is counted beside it.
"""

cimport cython
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from bench.engine.wire cimport *
from ext.net cimport load_acquire_int

cdef enum:
    GRACE_NS = 50000000            # after the last reply: a second one would come right behind
    DRAINS = 1000                  # what is read before the backlog is counted
    TURN_NS = 4000000              # a turn of the loop takes a fraction of that: beyond it, somebody else had the core
    SHOT_RIGHT = 1
    SHOT_WRONG = 2


cdef struct Shot:                  # one request
    int64_t due_ns                 # after the start
    int64_t sent_ns
    int64_t reply_ns               # the first right one, after the start; 0: none
    uint32_t peer
    uint16_t template
    uint8_t flags
    uint8_t replies


cdef struct Moment:                # one stretch of the run, by the time that requests were due
    uint64_t sent
    uint64_t answered
    uint64_t late
    int64_t worst_ns


@cython.final
cdef class Blast(Wire):
    """Requests at appointed times.  steady() or plan(), then run() in a thread of its own, then the figures.

    limit_ns: a reply later than that after its request was due counts as late.  moment_ns: resolution of timeline()."""
    cdef Shot *shots
    cdef uint32_t shot_count, next, first_xid, awaited, backlog
    cdef int64_t start_ns, ended_ns, limit_ns, tail_ns, moment_ns, last_reply_ns
    cdef uint64_t answered_count, late_count, late_after_send_count, duplicate_count, stray_count
    cdef int64_t worst_ns, worst_send_ns, stalled_ns
    cdef uint64_t latency[BUCKETS]
    cdef uint64_t service[BUCKETS]
    cdef uint64_t lateness[BUCKETS]
    cdef Moment *moments
    cdef uint32_t moment_count

    def __cinit__(self, int fd, *, uint32_t first_xid=1, int64_t limit_ns=5000000, int64_t tail_ns=2000000000,
                  int64_t moment_ns=10000000, **_rest):
        self.first_xid, self.limit_ns, self.tail_ns, self.moment_ns = first_xid, limit_ns, tail_ns, moment_ns

    def __dealloc__(self):
        free(self.shots)
        free(self.moments)

    cdef void allot(self, uint32_t count) except *:
        if self.peer_count == 0 or self.template_count == 0 or (not self.framed and self.relay_count == 0):
            raise ValueError(f"{self.peer_count} hosts, {self.template_count} templates, {self.relay_count} relays: "
                             f"wanted at least one of each before a plan")
        if count == 0 or self.shots != NULL:
            raise ValueError(f"a plan of {count} requests: wanted one plan, and at least one request in it")
        self.shots = <Shot *>calloc(count, sizeof(Shot))
        if self.shots == NULL:
            raise MemoryError(f"{count} requests")
        self.shot_count = count

    cdef void allot_moments(self) except *:
        cdef uint32_t count = <uint32_t>(self.shots[self.shot_count - 1].due_ns // self.moment_ns + 1)
        self.moments = <Moment *>calloc(count, sizeof(Moment))
        if self.moments == NULL:
            raise MemoryError(f"{count} moments")
        self.moment_count = count

    def steady(self, double rate, uint32_t count, templates=(0,)):
        """`count` requests, evenly, `rate` a second: every host with the first template, then every host with the
        second, and so on, then again from the first."""
        cdef uint32_t n
        cdef list rounds = list(templates)
        cdef int round_count = len(rounds)
        self.allot(count)
        for n in range(count):
            self.shots[n].due_ns = <int64_t>(n * (1e9 / rate))
            self.shots[n].peer = n % self.peer_count
            self.shots[n].template = <uint16_t>(<int>rounds[(n // self.peer_count) % round_count])
            if self.shots[n].template >= self.template_count:
                raise ValueError(f"template {self.shots[n].template}, there are {self.template_count}")
        self.allot_moments()

    def plan(self, due_ns, peers, templates):
        """One request each: when, by whom, which.  Arrays of equal length, times ascending from 0."""
        cdef uint32_t n
        if not len(due_ns) == len(peers) == len(templates):
            raise ValueError(f"{len(due_ns)} times, {len(peers)} hosts, {len(templates)} templates: wanted as many of each")
        self.allot(len(due_ns))
        for n in range(self.shot_count):
            self.shots[n].due_ns, self.shots[n].peer, self.shots[n].template = due_ns[n], peers[n], templates[n]
            if (self.shots[n].peer >= self.peer_count or self.shots[n].template >= self.template_count
                    or self.shots[n].due_ns < (self.shots[n - 1].due_ns if n else 0)):
                raise ValueError(f"request {n}: host {peers[n]} of {self.peer_count}, template {templates[n]} of "
                                 f"{self.template_count}, due {due_ns[n]} ns: wanted known ones, times ascending from 0")
        self.allot_moments()

    def run(self):
        """Send everything, then wait for the last replies."""
        with nogil:
            wake_on_time()
            self.start_ns = now_ns() + 1000000
            self.send_all()
            for _ in range(DRAINS):
                if self.receive() == 0:
                    break
            self.backlog = self.awaited - <uint32_t>min(<uint64_t>self.awaited, self.answered_count)
            self.await_rest()
            self.ended_ns = now_ns()

    cdef void send_all(self) noexcept nogil:
        cdef int64_t now, before = now_ns(), allowed = TURN_NS
        cdef Shot *shot
        while self.next < self.shot_count and not load_acquire_int(&self.stopping):
            now = now_ns()
            if now - before > allowed:
                self.stalled_ns += now - before - (allowed - TURN_NS)
            before, allowed = now, TURN_NS
            while self.next < self.shot_count and self.out_count < BATCH:
                shot = &self.shots[self.next]
                if self.start_ns + shot.due_ns > now:
                    break
                self.send_one(shot, now)
            self.flush()
            if self.receive() == 0 and self.next < self.shot_count:
                allowed += max(self.start_ns + self.shots[self.next].due_ns - now_ns(), 0)
                self.pause(self.start_ns + self.shots[self.next].due_ns)

    cdef void send_one(self, Shot *shot, int64_t now) noexcept nogil:
        cdef Moment *moment = &self.moments[shot.due_ns // self.moment_ns]
        shot.sent_ns = now - self.start_ns
        self.put(shot.peer, shot.template, self.first_xid + self.next, 0)
        self.next += 1
        self.awaited += self.templates[shot.template].wants != 0
        moment.sent += 1
        count_ns(self.lateness, shot.sent_ns - shot.due_ns)
        self.worst_send_ns = max(self.worst_send_ns, shot.sent_ns - shot.due_ns)

    cdef void await_rest(self) noexcept nogil:
        """Until every request has its reply and nothing came for a moment, at most tail_ns."""
        cdef int64_t end = now_ns() + self.tail_ns
        cdef int64_t now = now_ns()
        while now < end and (self.answered_count < self.awaited or now < self.last_reply_ns + GRACE_NS):
            if self.receive() == 0:
                self.pause(end)
            now = now_ns()

    cdef void take(self, const uint8_t *data, size_t length, int64_t when_ns) noexcept nogil:
        cdef Answer answer
        cdef uint32_t number
        cdef Shot *shot
        cdef Fault fault
        self.last_reply_ns = when_ns
        if not read_answer(data, length, &answer):
            self.stray_count += 1
            self.keep(data, length, 0xffffffff, MALFORMED)
            return
        number = answer.xid - self.first_xid
        if number >= self.next:    # an earlier run's, or a reply to nothing
            self.stray_count += 1
            return
        shot = &self.shots[number]
        if shot.replies:
            self.duplicate_count += 1
        if shot.replies < 255:
            shot.replies += 1
        fault = self.check(&answer, &self.peers[shot.peer], &self.templates[shot.template])
        self.faults[<int>fault] += 1
        if fault != RIGHT:
            shot.flags |= SHOT_WRONG
            self.keep(data, length, shot.peer, fault)
        elif not shot.flags & SHOT_RIGHT:
            shot.flags |= SHOT_RIGHT
            shot.reply_ns = max(when_ns - self.start_ns, 1)
            self.time_reply(shot, when_ns - self.start_ns)

    cdef void time_reply(self, const Shot *shot, int64_t when_ns) noexcept nogil:
        cdef int64_t latency = when_ns - shot.due_ns
        cdef Moment *moment = &self.moments[shot.due_ns // self.moment_ns]
        self.answered_count += 1
        moment.answered += 1
        moment.worst_ns = max(moment.worst_ns, latency)
        self.worst_ns = max(self.worst_ns, latency)
        count_ns(self.latency, latency)
        count_ns(self.service, when_ns - shot.sent_ns)
        if latency > self.limit_ns:
            self.late_count += 1
            moment.late += 1
        if when_ns - shot.sent_ns > self.limit_ns:
            self.late_after_send_count += 1

    @property
    def sent(self) -> int:
        """Requests sent so far; may be read while it runs."""
        return self.next

    @property
    def answered(self) -> int:
        """Requests with their right reply so far; may be read while it runs."""
        return self.answered_count

    def condemn(self, peers):
        """Count every request of these hosts (indices) as wrongly answered: they share their address with another."""
        cdef uint32_t n
        cdef set found = set(peers)
        for n in range(self.next):
            if self.shots[n].replies and self.shots[n].peer in found:
                self.shots[n].flags |= SHOT_WRONG

    def tally(self) -> dict:
        """Every request in exactly one of answered, wrong, lost, silent; and the counts that say more."""
        cdef uint32_t n, answered = 0, wrong = 0, lost = 0, silent = 0
        cdef int64_t span = 0
        for n in range(self.next):
            if self.shots[n].flags & SHOT_WRONG:
                wrong += 1
            elif self.shots[n].flags & SHOT_RIGHT:
                answered += 1
            elif self.templates[self.shots[n].template].wants == 0:
                silent += 1
            else:
                lost += 1
            span = self.shots[n].sent_ns
        return {
            "offered": self.next, "answered": answered, "wrong": wrong, "lost": lost, "silent": silent,
            "duplicate": self.duplicate_count, "stray": self.stray_count, "late": self.late_count,
            "late_after_send": self.late_after_send_count, "sending_ns": span, "ran_ns": self.ended_ns - self.start_ns,
            "worst_ns": self.worst_ns, "worst_send_ns": self.worst_send_ns,
            "stalled_ns": self.stalled_ns, "backlog": self.backlog,
        }

    def histograms(self) -> dict:
        """latency (from when it was due), service (from when it left), lateness (of sending): (upper ns, count)."""
        return {"latency": counts(self.latency), "service": counts(self.service), "lateness": counts(self.lateness)}

    def timeline(self) -> list:
        """(start in ns, sent, answered, late, worst latency in ns) of every stretch with a request."""
        return [
            (i * self.moment_ns, self.moments[i].sent, self.moments[i].answered, self.moments[i].late,
             self.moments[i].worst_ns)
            for i in range(self.moment_count) if self.moments[i].sent
        ]

    def in_time(self, groups, patience_ns, int64_t prompt_ns, int64_t moment_ns) -> dict:
        """By group of hosts (a number for each host): list of (sent, replies that came before the client asks again, replies
        within prompt_ns, all of them counted from the real send) for each moment by due time; and the times of replies, ns.

        patience_ns: by template."""
        cdef uint32_t n
        cdef int64_t took_ns
        cdef size_t moment
        cdef list counts, row, patience = list(patience_ns)
        cdef Shot *shot
        found = {group: ([], []) for group in set(groups)}
        for n in range(self.next):
            shot = &self.shots[n]
            counts, times = found[groups[shot.peer]]
            moment = shot.due_ns // moment_ns
            while <size_t>len(counts) <= moment:
                counts.append([0, 0, 0])
            row = counts[moment]
            row[0] += 1
            if shot.flags & SHOT_RIGHT:
                took_ns = shot.reply_ns - shot.sent_ns
                row[1] += took_ns <= patience[shot.template]
                row[2] += took_ns <= prompt_ns
                times.append(took_ns)
        return found

    def unanswered(self, int most=10) -> list:
        """(number, MAC) of the first requests that got no reply at all."""
        found = []
        for n in range(self.next):
            if len(found) == most:
                break
            if not self.shots[n].replies and self.templates[self.shots[n].template].wants:
                found.append((n, <bytes>(<const char *>self.peers[self.shots[n].peer].mac)[:6]))
        return found
