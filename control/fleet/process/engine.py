"""The message engine, NATS with JetStream: the only file that knows its client.

A connection that is gone is made anew from nothing, and nothing is buffered meanwhile: what was not sent is asked again
by the decisions.  Every request has a time limit, and every fault is an EngineFault with a sentence.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from collections.abc import Awaitable, Callable, Iterator
from itertools import islice
from typing import Any, Final

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import ExternalStream, Header, StorageType, StreamConfig, StreamSource

from control.config.sections import Fleet
from control.fleet.blobs import Assembly, subject
from control.fleet.messages import Blob
from control.fleet.process.keyfiles import KeyFault, read_credentials, tls_context
from control.fleet.wire import Reason, Refused

log = logging.getLogger("bootstorm.fleet")

ANSWER_S: Final = 2.0  # control.fleet.election.Timing.answer_ms
CONNECT_S: Final = 3.0
AGAIN_S: Final = 0.5
PING_S: Final = 5
PUT_AT_ONCE: Final = 8
KEY_BYTES_MAX: Final = 8192
JOURNAL_MACHINES_MAX: Final = 60_000  # more than discovery has at a time; what is older goes
MESSAGES_MAX, MESSAGE_BYTES_MAX = 1024, 4 << 20  # of one subscription, until they are handled
WRONG_REVISION: Final = 10071  # the engine's error code
NO_MESSAGE: Final = 10037
MIRROR_BYTES_MAX: Final = 1 << 30  # of blobs: what the leader takes out of the hub's stream stays in a mirror

Heard = Callable[[bytes, str], bytes | None]
"""What was said, and the host that the engine lets say it, where only that one may -> what is answered, if anything."""
OF_HOSTS: Final = ("have", "seen")  # each host has a subject of its own
OF_ALL: Final = ("announce", "said")  # the others are for who may lead


class EngineFault(Exception):
    """No answer, or none that can be used.  missing: what is asked for is not there."""

    def __init__(self, said: str, missing: bool = False) -> None:
        super().__init__(said)
        self.missing = missing


class Conflict(Exception):
    """Compare-and-set found another revision."""


class Careful(Client):
    """Where TLS is wanted, it says nothing to a server that offers none: its first word would be its password."""

    encrypts = False

    async def _process_info(self, info: Any, initial_connection: bool = False) -> None:
        if self.encrypts and initial_connection and info.get("tls_required") is not True:
            raise EngineFault("it offers no TLS, which fleet.tls or tls:// asks for; nothing was said to it")
        await super()._process_info(info, initial_connection)


def said_of(error: BaseException) -> str:
    """For logs and status: one line, printable."""
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return "".join(char if char.isprintable() else "?" for char in text)[:200]


def refusal_of(error: BaseException) -> str:
    """Why there is no connection: TLS in its own words, without the library's numbers."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is refused: {error.verify_message}"
    if isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or ""):
        said = str(error.reason).rpartition("ALERT_")[2].lower().replace("_", " ")
        return f"it refuses our certificate (fleet.tls.cert): {said}"
    return said_of(error)


class Engine:
    """heard: subject's part ("announce", "have", "order", "ask", "seen"; "said" to this host) -> who is told."""

    def __init__(self, config: Fleet, name: str, heard: dict[str, Heard], changed: Callable[[], None]) -> None:
        self.config, self.name = config, name
        self.heard, self.changed = heard, changed
        self.bucket = f"fleet-{config.shard}"
        self.keys, self.blobs = f"KV_{self.bucket}", f"fleet-{config.shard}-blobs"
        self.journal = f"fleet-{config.shard}-journal"
        self.client: Client | None = None
        self.js: JetStreamContext | None = None
        self.hub_js: JetStreamContext | None = None  # where the streams are written; the same where there is no hub
        self.fault = "not connected yet"
        self.lost = 0  # messages that found no room
        self.making, self.unmade = False, ""  # unmade: why not

    @property
    def connected(self) -> bool:
        return self.client is not None and self.client.is_connected

    def subject(self, what: str) -> str:
        return f"fleet.{self.config.shard}.{what}"

    # --- the connection ------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """For ever: one connection after the other, to any of the servers."""
        servers: list[str] = []
        while True:
            servers = servers or random.sample(self.config.servers, len(self.config.servers))
            server = servers.pop()
            ended = asyncio.Event()
            try:
                client = await self.connect(server, ended)
            except (EngineFault, KeyFault) as fault:
                self.say(f"{server}: {fault}")
                await asyncio.sleep(AGAIN_S)
                continue
            try:
                await self.begin(client)
                await ended.wait()
                self.say(f"{server}: the connection ended: {refusal_of(client.last_error or EOFError('closed'))}")
            except EngineFault as fault:
                self.say(f"{server}: {fault}")
            finally:
                self.client = self.js = self.hub_js = None
                await self.closed(client)
                self.changed()
            await asyncio.sleep(AGAIN_S)

    def say(self, fault: str) -> None:
        """Logged where it is news."""
        if fault != self.fault:
            log.warning("no engine: %s; the table serves on", fault)
        self.fault = fault

    async def connect(self, server: str, ended: asyncio.Event) -> Client:
        """Raises EngineFault, KeyFault."""
        client, last = Careful(), [""]
        client.encrypts = self.config.tls is not None or server.startswith("tls://")

        async def on_error(error: Exception) -> None:
            last[0] = refusal_of(error)
            self.lost += isinstance(error, nats.errors.SlowConsumerError)

        async def on_closed() -> None:
            ended.set()

        try:
            async with asyncio.timeout(CONNECT_S):
                await client.connect(
                    servers=[server], name=f"bootstorm {self.name}", allow_reconnect=False, max_reconnect_attempts=1,
                    reconnect_time_wait=0, connect_timeout=2, ping_interval=PING_S, max_outstanding_pings=2,
                    pending_size=0, inbox_prefix=self.subject(f"inbox.{self.name}"),
                    error_cb=on_error, closed_cb=on_closed, **self.credentials(),
                )  # fmt: skip
        except KeyFault:
            raise
        except EngineFault:
            await self.closed(client)
            raise
        except Exception as error:  # a client that meets garbage raises what it likes
            await self.closed(client)
            raise EngineFault(last[0] or refusal_of(error)) from error
        return client

    def credentials(self) -> dict[str, Any]:
        """Read anew for each connection: they may have been exchanged.  Raises KeyFault."""
        found: dict[str, Any] = {}
        if self.config.credentials is not None:
            found |= read_credentials(self.config.credentials)
        if self.config.tls is not None:
            found["tls"] = tls_context(self.config.tls)
        return found

    async def begin(self, client: Client) -> None:
        """Raises EngineFault."""
        try:
            async with asyncio.timeout(ANSWER_S):
                for what in self.heard:
                    if what in OF_ALL or (self.config.lead and not self.config.hub):
                        await self.subscribe(client, what, self.heard[what])
                await client.flush(timeout=round(ANSWER_S))
        except (nats.errors.Error, OSError, TimeoutError) as error:
            raise EngineFault(refusal_of(client.last_error or error)) from error
        self.client, self.js = client, client.jetstream(timeout=ANSWER_S)
        self.hub_js = client.jetstream(timeout=ANSWER_S, domain=self.config.hub) if self.config.hub else self.js
        self.fault = ""
        log.info("connected to the engine at %s", client.connected_url.netloc if client.connected_url else "?")
        self.changed()

    def inbox(self, host: str) -> str:
        """Where that host hears what is said to it alone."""
        return self.subject(f"inbox.{host}.said")

    async def subscribe(self, client: Client, what: str, heard: Heard) -> None:
        wanted = self.inbox(self.name) if what == "said" else self.subject(f"{what}.>" if what in OF_HOSTS else what)
        before = self.subject(f"{what}.")

        async def on_message(message: Msg) -> None:
            answer = heard(message.data, message.subject.removeprefix(before) if what in OF_HOSTS else "")
            if answer is not None and message.reply:
                await self.guarded(message.respond(answer))

        await client.subscribe(
            wanted, cb=on_message, pending_msgs_limit=MESSAGES_MAX, pending_bytes_limit=MESSAGE_BYTES_MAX
        )

    async def closed(self, client: Client) -> None:
        try:
            async with asyncio.timeout(ANSWER_S):
                await client.close()
        except Exception as error:  # of a connection that is given up
            log.debug("closing a connection to the engine: %s", said_of(error))

    # --- keys ----------------------------------------------------------------------------------------------------

    def context(self, hub: bool = True) -> JetStreamContext:
        """Raises EngineFault."""
        found = self.hub_js if hub else self.js
        if found is None or not self.connected:
            raise EngineFault(self.fault or "no connection")
        return found

    async def guarded(self, request: Awaitable[Any]) -> Any:
        """Raises EngineFault, Conflict."""
        try:
            async with asyncio.timeout(ANSWER_S):
                return await request
        except nats.js.errors.APIError as error:
            if error.err_code == WRONG_REVISION:
                raise Conflict from error
            missing = isinstance(error, nats.js.errors.NotFoundError) and error.err_code in (None, NO_MESSAGE)
            raise EngineFault(said_of(error), missing) from error
        except (nats.errors.Error, OSError, TimeoutError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise EngineFault(said_of(error)) from error  # the last four: an answer that is none

    async def read_key(self, key: str, hub: bool) -> tuple[bytes | None, int]:
        """(value, revision); (None, 0) where there is no such key.  hub: from the leader of its stream, not from
        whoever is near and may lag.  Raises EngineFault."""
        wanted = f"$KV.{self.bucket}.{key}"
        try:
            found = await self.guarded(self.context(hub).get_msg(self.keys, subject=wanted, direct=not hub))
        except EngineFault as fault:
            if not hub and self.config.hub:  # no mirror yet, or an empty one
                await self.make_mirrors()
                return await self.read_key(key, True)
            if fault.missing:
                return None, 0
            await self.make_streams()
            raise
        value, revision = found.data or b"", found.seq
        if type(value) is not bytes or len(value) > KEY_BYTES_MAX or type(revision) is not int or revision < 1:
            raise EngineFault(f"{wanted}: an answer that is none")
        return value, revision

    async def write_key(self, key: str, value: bytes, last: int) -> int:
        """The new revision; 0 where the key's is not `last`.  Raises EngineFault: then it may be written or not."""
        headers: dict[str, Any] = {Header.EXPECTED_LAST_SUBJECT_SEQUENCE: str(last)}
        try:
            done = await self.guarded(
                self.context().publish(f"$KV.{self.bucket}.{key}", value, headers=headers, stream=self.keys)
            )
        except Conflict:
            return 0
        revision: int = done.seq
        return revision

    async def make_streams(self) -> None:
        """Where they are missing, and we may lead.  Those that are there stay as somebody made them."""
        if self.config.lead and not self.config.hub:
            made = [
                StreamConfig(
                    name=name, subjects=[subjects], max_msgs_per_subject=1, storage=StorageType.FILE, allow_direct=True,
                    num_replicas=self.config.replicas, **more,
                )
                for name, subjects, more in (
                    (self.keys, f"$KV.{self.bucket}.>", {"allow_rollup_hdrs": True, "deny_delete": True}),
                    (self.blobs, self.subject("blob.>"), {}),
                    (self.journal, self.subject("journal.>"), {"max_msgs": JOURNAL_MACHINES_MAX}),
                )
            ]  # fmt: skip
            await self.make(made)

    async def make_mirrors(self) -> None:
        """Of the hub's streams, in the domain of the leaf node that we are connected to."""
        hub = ExternalStream(api=f"$JS.{self.config.hub}.API", deliver=self.subject(f"mirror.{self.name}"))
        made = [
            StreamConfig(
                name=name, mirror=StreamSource(name=name, external=hub), max_msgs_per_subject=1,
                storage=StorageType.FILE, allow_direct=True, num_replicas=self.config.replicas, max_bytes=max_bytes,
            )
            for name, max_bytes in ((self.keys, -1), (self.blobs, MIRROR_BYTES_MAX))
        ]  # fmt: skip
        await self.make(made)

    async def make(self, streams: list[StreamConfig]) -> None:
        if self.making or self.js is None:
            return
        self.making = True
        try:
            for stream in streams:
                await self.make_stream(self.js, stream)
        except (EngineFault, Conflict) as fault:
            said = said_of(fault)
            if said != self.unmade:  # where it is news: it is tried again each second
                log.warning("the engine answers for no stream of this fleet, and none can be made: %s", fault)
            self.unmade = said
        else:
            self.unmade = ""
        finally:
            self.making = False

    async def make_stream(self, js: JetStreamContext, made: StreamConfig) -> None:
        try:
            await self.guarded(js.stream_info(str(made.name)))
        except EngineFault as fault:
            if "not found" not in str(fault):
                raise
            log.warning("the engine has no stream %s; it is made", made.name)
            await self.guarded(js.add_stream(made))

    # --- blobs ---------------------------------------------------------------------------------------------------

    async def put_blob(self, blob: Blob, chunks: Iterator[bytes]) -> None:
        """All chunks, each acknowledged.  Raises EngineFault."""
        js = self.context()
        at = 0
        while group := list(islice(chunks, PUT_AT_ONCE)):
            names = [subject(self.config.shard, blob, at + number) for number in range(len(group))]
            at += len(group)
            put = [
                js.publish(name, chunk, stream=self.blobs, timeout=ANSWER_S)
                for name, chunk in zip(names, group, strict=True)
            ]
            try:
                await self.guarded(asyncio.gather(*put))
            except Conflict as error:
                raise EngineFault("a chunk was refused") from error
            except EngineFault:
                await self.make_streams()  # it may be that one which is lost
                raise

    async def read_blob(self, blob: Blob, hub: bool, take: Callable[[bytes], None]) -> None:
        """Each chunk to take() as it comes; what they are together is checked.  Raises Refused, EngineFault."""
        assembly, whole = Assembly(blob), False
        for number in range(blob.chunks):
            wanted = subject(self.config.shard, blob, number)
            try:
                found = await self.read_chunk(wanted, hub)
            except EngineFault as fault:
                if fault.missing:
                    raise Refused(Reason.BLOB_MISSING, f"chunk {number} of {blob.sha256.hex()}") from fault
                raise
            chunk = found.data if type(found.data) is bytes else b""
            whole = assembly.take(chunk)
            take(chunk)
        if not whole:
            raise Refused(Reason.BLOB_WRONG, f"{blob.chunks} chunks, {assembly.size} bytes, wanted {blob.size}")

    async def read_chunk(self, wanted: str, hub: bool) -> Any:
        """What the mirror has not got is asked for at the hub at once: a new responder has nothing to serve until then.
        Raises EngineFault."""
        try:
            return await self.guarded(self.context(hub).get_msg(self.blobs, subject=wanted, direct=True))
        except EngineFault:
            if hub or not self.config.hub:
                raise
            return await self.read_chunk(wanted, True)

    async def forget_blobs(self, kept: set[bytes]) -> None:
        """Chunks of all others are taken out of the store.  Raises EngineFault."""
        js = self.context()
        info = await self.guarded(js.stream_info(self.blobs, subjects_filter=self.subject("blob.>")))
        found = {name.split(".")[3] for name in info.state.subjects or ()}
        for sha256 in sorted(found - {each.hex() for each in kept}):
            await self.guarded(js.purge_stream(self.blobs, subject=self.subject(f"blob.{sha256}.*")))

    # --- the journal of discovery -----------------------------------------------------------------------------------

    async def keep_record(self, word: str, record: bytes) -> None:
        """Acknowledged when it returns.  Raises EngineFault."""
        try:
            await self.guarded(self.context().publish(self.subject(f"journal.{word}"), record, stream=self.journal))
        except Conflict as error:
            raise EngineFault("a record was refused") from error
        except EngineFault:
            await self.make_streams()
            raise

    async def forget_record(self, word: str) -> None:
        """Raises EngineFault."""
        try:
            await self.guarded(self.context().purge_stream(self.journal, subject=self.subject(f"journal.{word}")))
        except EngineFault as fault:
            if "not found" not in str(fault):
                raise

    async def record_words(self) -> list[str]:
        """Of which machines there are records.  Raises EngineFault."""
        try:
            info = await self.guarded(
                self.context().stream_info(self.journal, subjects_filter=self.subject("journal.>"))
            )
        except EngineFault as fault:
            if "not found" not in str(fault):
                raise
            await self.make_streams()
            return []
        return [str(name).rpartition(".")[2] for name in info.state.subjects or ()]

    async def record(self, word: str) -> bytes:
        """From the leader of its stream; nothing where there is none any more.  Raises EngineFault."""
        try:
            found = await self.guarded(self.context().get_msg(self.journal, subject=self.subject(f"journal.{word}")))
        except EngineFault as fault:
            if fault.missing:
                return b""
            raise
        return found.data if type(found.data) is bytes else b""

    # --- words ---------------------------------------------------------------------------------------------------

    async def say_to(self, host: str, value: bytes) -> None:
        """By core NATS, to that host alone: it may be lost.  Raises EngineFault."""
        if self.client is None:
            raise EngineFault(self.fault)
        await self.guarded(self.client.publish(self.inbox(host), value))

    async def say_to_all(self, what: str, value: bytes) -> None:
        """By core NATS: it may be lost.  Raises EngineFault."""
        if self.client is None:
            raise EngineFault(self.fault)
        await self.guarded(self.client.publish(self.subject(what), value))

    async def ask(self, what: str) -> bytes:
        """The first answer of any machine.  Raises EngineFault."""
        if self.client is None:
            raise EngineFault(self.fault)
        found: Msg = await self.guarded(self.client.request(self.subject(what), timeout=ANSWER_S))
        return found.data
