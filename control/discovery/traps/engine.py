"""pysnmp, fed datagram by datagram: verifies and reads traps and informs of SNMPv1, v2c and v3, and writes the answers.

No sockets and no loop: `take` gets a datagram and says what it was and what is to be sent back, so the caller decides
how much of this is done and when.  Two things pysnmp 7.1 leaves out are done here, after it has verified a message:
the least security level of a user (RFC 3413 leaves that to access control), and the time window for engines that are
not ours (RFC 3414 section 3.2 7b; pysnmp takes each message's own time as its measure).
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pysnmp.carrier.base import AbstractTransportDispatcher
from pysnmp.entity import config
from pysnmp.entity.engine import SnmpEngine
from pysnmp.entity.rfc3413.ntfrcv import NotificationReceiver
from pysnmp.proto import errind
from pysnmp.proto.mpmod.cache import Cache as MessageCache
from pysnmp.proto.rfc1902 import OctetString
from pysnmp.proto.secmod.cache import Cache as SecurityCache

from control.config.checks import ANY_COMMUNITY, SnmpUser
from control.discovery.traps.ber import INTEGER, IP_ADDRESS, OCTET_STRING, OID, UNSIGNED32, Binding, encode_oid

WINDOW_S = 150  # RFC 3414 section 2.2.3
ENGINES_MAX = 4096  # whose clocks are remembered
_INDEX = "bootstorm"  # of the one community that pysnmp knows; which ones are good is decided before it looks
_AUTH = {
    "none": config.USM_AUTH_NONE,
    "md5": config.USM_AUTH_HMAC96_MD5,
    "sha": config.USM_AUTH_HMAC96_SHA,
    "sha224": config.USM_AUTH_HMAC128_SHA224,
    "sha256": config.USM_AUTH_HMAC192_SHA256,
    "sha384": config.USM_AUTH_HMAC256_SHA384,
    "sha512": config.USM_AUTH_HMAC384_SHA512,
}
_PRIVACY = {  # aes192, aes256: with the key extension that Cisco uses, as there is no standard
    "none": config.USM_PRIV_NONE,
    "des": config.USM_PRIV_CBC56_DES,
    "aes": config.USM_PRIV_CFB128_AES,
    "aes192": config.USM_PRIV_CFB192_AES,
    "aes256": config.USM_PRIV_CFB256_AES,
}
_REASONS = {  # what pysnmp says -> the reason under which we count it
    errind.UnknownCommunityName: "community",
    errind.UnknownSecurityName: "user",
    errind.UnknownEngineID: "discovery",
    errind.AuthenticationFailure: "digest",
    errind.NotInTimeWindow: "window",
    errind.DecryptionError: "cipher",
    errind.UnsupportedSecurityLevel: "level",
}
Peer = tuple[str, int]


@dataclass(slots=True)
class Taken:
    """What a datagram was.  bindings: of a trap or inform that is to be believed, else None and the reason why not.

    replies: datagrams for its sender, also for one that is not believed (the reports of SNMPv3)."""

    reason: str = "malformed"
    detail: str = ""
    bindings: list[Binding] | None = None
    replies: list[bytes] = field(default_factory=list)


@dataclass(slots=True)
class Clocks:
    """The clocks of other engines: what of RFC 3414 section 2.3 is kept.  engine -> boots, latest time, when heard."""

    latest: OrderedDict[bytes, tuple[int, int, float]] = field(default_factory=OrderedDict)
    moved: bool = False  # since somebody last set this to False

    def in_window(self, engine_id: bytes, boots: int, engine_time: int, now_s: float) -> bool:
        """Of an authenticated message; a newer one moves the window.  now_s: a clock that runs on evenly."""
        known = self.latest.get(engine_id)
        if known is not None:
            known_boots, known_time, heard_s = known
            expected = known_time + now_s - heard_s
            if boots < known_boots or (boots == known_boots and engine_time < expected - WINDOW_S):
                return False
            if (boots, engine_time) <= (known_boots, known_time):
                return True
        if boots >= 2**31 - 1:
            return False
        self.moved = True
        self.latest[engine_id] = (boots, engine_time, now_s)
        self.latest.move_to_end(engine_id)
        if len(self.latest) > ENGINES_MAX:
            self.latest.popitem(last=False)
        return True


class _Outgoing(AbstractTransportDispatcher):  # type: ignore[misc]
    """Where pysnmp thinks the network is: keeps what it sends."""

    def __init__(self) -> None:
        super().__init__()
        self.set_timer_resolution(1.0)
        self.sent: list[bytes] = []

    def send_message(self, outgoingMessage: bytes, transportDomain: Any, transportAddress: Any) -> None:
        self.sent.append(bytes(outgoingMessage))


class _Receiver(NotificationReceiver):  # type: ignore[misc]
    """Looks at a verified notification before it is acknowledged."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        super().__init__(engine.snmp, self._on_bindings)

    def process_pdu(self, snmpEngine: Any, model: int, security: int, name: Any, level: int, *rest: Any) -> None:
        if refused := self.engine.refusal(level):
            self.engine.taken.reason = refused
            return
        super().process_pdu(snmpEngine, model, security, name, level, *rest)

    def _on_bindings(self, _engine: Any, _state: Any, _id: Any, _name: Any, bindings: Any, _context: Any) -> None:
        self.engine.taken.reason = ""
        self.engine.taken.bindings = [_binding(name, value) for name, value in bindings]


def _binding(name: Any, value: Any) -> Binding:
    """What decoders look at; other values are of no use to them and keep only their tag."""
    octets = encode_oid(tuple(name)) if len(name) > 1 else b""
    first = value.tagSet[-1]
    tag = first.tagClass | first.tagFormat | first.tagId
    if tag in (IP_ADDRESS, OCTET_STRING):
        return octets, tag, value.asOctets()
    if tag in (INTEGER, UNSIGNED32):
        return octets, tag, int(value).to_bytes(int(value).bit_length() // 8 + 1, "big", signed=True)
    return octets, tag, encode_oid(tuple(value)) if tag == OID and len(value) > 1 else b""


@functools.lru_cache(maxsize=4096)
def _auth_key(protocol: str, password: str) -> Any:
    """A megabyte of hashing (RFC 3414 A.2), and switches share passwords."""
    return config.AUTH_SERVICES[_AUTH[protocol]].hash_passphrase(OctetString(password.encode()))


@functools.lru_cache(maxsize=4096)
def _privacy_key(auth: str, protocol: str, password: str) -> Any:
    return config.PRIV_SERVICES[_PRIVACY[protocol]].hash_passphrase(_AUTH[auth], OctetString(password.encode()))


class Engine:
    """One configuration's engine.  communities: with ANY_COMMUNITY any.  boots: larger at each start of this engine_id.

    clocks are handed on to the next one, so that a reload does not open the door to what was recorded before it."""

    def __init__(
        self, communities: Sequence[str], users: Sequence[SnmpUser], engine_id: bytes, boots: int, clocks: Clocks
    ) -> None:
        self.communities = frozenset(community.encode() for community in communities)
        self.any_community = ANY_COMMUNITY in communities
        self.forwarded = False
        self.engine_id = engine_id
        self.clocks = clocks
        self.users = {(user.name.encode(), engine_id_of(user) or engine_id) for user in users}
        self.taken = Taken()
        self.now_s = 0.0
        self.secured: dict[str, Any] = {}
        self.snmp = SnmpEngine()
        self._identify(engine_id, boots)
        self.outgoing = _Outgoing()
        self.snmp.register_transport_dispatcher(self.outgoing)
        config.add_v1_system(self.snmp, _INDEX, _INDEX)
        for user in users:
            self._add_user(user)
        self.receiver = _Receiver(self)
        observe = self.snmp.observer.register_observer
        observe(self._on_community, "rfc2576.processIncomingMsg:writable")
        observe(self._on_secured, "rfc3414.processIncomingMsg")
        observe(self._on_refused, "rfc2576.prepareDataElements:sm-failure", "rfc3412.prepareDataElements:sm-failure")

    def _identify(self, engine_id: bytes, boots: int) -> None:
        """Not by the constructor's argument: that one keeps boots in a folder of /tmp that anybody could have made."""
        symbols = self.snmp.get_mib_builder().import_symbols("__SNMP-FRAMEWORK-MIB", "snmpEngineID", "snmpEngineBoots")
        for symbol, value in zip(symbols, (engine_id, boots), strict=True):
            symbol.syntax = symbol.syntax.clone(value)
        self.snmp.snmpEngineID = symbols[0].syntax

    def _add_user(self, user: SnmpUser) -> None:
        engine_id = engine_id_of(user)
        auth_key = privacy_key = None
        if user.auth_password is not None:
            auth_key = _auth_key(user.auth, user.auth_password)
        if user.privacy_password is not None:
            privacy_key = _privacy_key(user.auth, user.privacy, user.privacy_password)
        config.add_v3_user(
            self.snmp,
            user.name,
            _AUTH[user.auth],
            auth_key,
            _PRIVACY[user.privacy],
            privacy_key,
            securityEngineId=OctetString(engine_id) if engine_id is not None else None,
            authKeyType=config.USM_KEY_TYPE_MASTER,
            privKeyType=config.USM_KEY_TYPE_MASTER,
        )

    def believes(self, community: bytes, forwarded: bool) -> bool:
        """forwarded: by one of snmp.proxies, whose address will do where no communities are listed."""
        return self.any_community or community in self.communities or (forwarded and not self.communities)

    def take(self, datagram: bytes, peer: Peer, now_s: float, *, forwarded: bool = False) -> Taken:
        """now_s: seconds of a clock that never goes back.  Whatever the datagram is, this returns."""
        self.taken, self.secured, self.now_s, self.forwarded = Taken(), {}, now_s, forwarded
        try:
            self.snmp.message_dispatcher.receive_message(self.snmp, config.SNMP_UDP_DOMAIN, peer, datagram)
        except Exception as fault:  # pysnmp lets some of what broken BER leads to through; what it is stands in the log
            self.taken.reason, self.taken.bindings = "malformed", None
            self.taken.detail = f"{type(fault).__name__}: {fault}"[:200]
        self.taken.replies, self.outgoing.sent = self.outgoing.sent, []
        self._forget()
        self.outgoing.handle_timer_tick(now_s)
        return self.taken

    def _forget(self) -> None:
        """No message refers to an earlier one; and refused ones leave state behind that a flood would pile up."""
        for model in self.snmp.security_models.values():
            model._cache = SecurityCache()
        for processing in self.snmp.message_processing_subsystems.values():
            processing._cache = MessageCache()

    def refusal(self, level: int) -> str:
        """Why a verified message is not believed all the same; level: 1 neither, 2 authenticated, 3 private as well."""
        if not self.secured:
            return ""
        wanted = 1 + (self.secured["authProtocol"] != config.USM_AUTH_NONE)
        wanted += self.secured["privProtocol"] != config.USM_PRIV_NONE
        if level < wanted:
            return "level"
        sender = self.secured["securityEngineId"].asOctets()
        if level == 1 or sender == self.engine_id:
            return ""
        boots, engine_time = int(self.secured["snmpEngineBoots"]), int(self.secured["snmpEngineTime"])
        return "" if self.clocks.in_window(sender, boots, engine_time, self.now_s) else "window"

    # --- what pysnmp tells on its way --------------------------------------------------------------------------------

    def _on_community(self, _engine: Any, _point: str, scope: dict[str, Any], _context: Any) -> None:
        if self.believes(scope["communityName"].asOctets(), self.forwarded):
            scope["communityName"] = scope["communityName"].clone(_INDEX)
        else:
            scope["communityName"] = scope["communityName"].clone(b"")

    def _on_secured(self, _engine: Any, _point: str, scope: dict[str, Any], _context: Any) -> None:
        self.secured = dict(scope)
        self.taken.reason = "pdu"  # unless it is refused, or proves to be a notification

    def _on_refused(self, _engine: Any, _point: str, scope: dict[str, Any], _context: Any) -> None:
        indication = scope["statusInformation"].get("errorIndication")
        self.taken.reason = _REASONS.get(type(indication), "malformed")


def engine_id_of(user: SnmpUser) -> bytes | None:
    return bytes.fromhex(user.engine_id.removeprefix("0x")) if user.engine_id is not None else None
