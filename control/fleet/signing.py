"""Who signed a message: Ed25519 around bytes as they are, and the interface by which the decisions see it.

What is sealed is `[body, key id, signature]`.  A key's id is the beginning of its own hash.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import Final, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from control.fleet.wire import Reason, Refused, octets, packed, unpacked

KEY_ID_BYTES: Final = 8
SIGNATURE_BYTES: Final = 64
AROUND_BYTES: Final = 128  # more than key id, signature and their lengths take
_CONTEXT: Final = b"bootstorm fleet\0"  # no signature made for something else counts here
_key_id = octets(KEY_ID_BYTES, KEY_ID_BYTES)
_signature = octets(SIGNATURE_BYTES, SIGNATURE_BYTES)


class Signer(Protocol):
    """One that signs.  key_id: KEY_ID_BYTES."""

    @property
    def key_id(self) -> bytes: ...

    def sign(self, body: bytes) -> bytes: ...


class Keys(Protocol):
    """Those whose signature counts."""

    def check(self, key_id: bytes, body: bytes, signature: bytes) -> None:
        """Raises Refused."""


def id_of(public: bytes) -> bytes:
    return sha256(public).digest()[:KEY_ID_BYTES]


class Ed25519Signer:
    def __init__(self, seed: bytes) -> None:
        """seed: the 32 octets of the private key."""
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = self._key.public_key().public_bytes_raw()
        self.key_id = id_of(self.public)

    def sign(self, body: bytes) -> bytes:
        return self._key.sign(_CONTEXT + body)


class Ed25519Keys:
    def __init__(self, trusted: Iterable[bytes]) -> None:
        """trusted: public keys, 32 octets each."""
        self._keys = {id_of(public): Ed25519PublicKey.from_public_bytes(public) for public in trusted}

    def check(self, key_id: bytes, body: bytes, signature: bytes) -> None:
        if (key := self._keys.get(key_id)) is None:
            raise Refused(Reason.UNKNOWN_KEY, f"{key_id.hex()}, trusted are {', '.join(k.hex() for k in self._keys)}")
        try:
            key.verify(signature, _CONTEXT + body)
        except InvalidSignature as forged:
            raise Refused(Reason.WRONG_SIGNATURE, f"by key {key_id.hex()}") from forged


class Anybody:
    """Where no key is configured: the engine's own accounts are all that stands before a head."""

    def check(self, key_id: bytes, body: bytes, signature: bytes) -> None:
        """Whatever it is."""


def sealed(body: bytes, signer: Signer) -> bytes:
    return packed([body, signer.key_id, signer.sign(body)])


def opened(raw: bytes, keys: Keys, most: int) -> bytes:
    """The body, of at most that many bytes with what is around it, if one of keys signed it.  Raises Refused."""
    found = unpacked(raw, most)
    if type(found) is not list or len(found) != 3 or type(found[0]) is not bytes:
        raise Refused(Reason.NOT_A_RECORD, "wanted [body, key id, signature]")
    body: bytes = found[0]
    keys.check(_key_id(found[1]), body, _signature(found[2]))
    return body
