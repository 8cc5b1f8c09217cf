"""NATS' nkeys: Ed25519 keys as text, of which the engine's configuration has the public half alone.

A seed is S, the kind (U: a user), 32 bytes and a CRC, in base 32; a public key is the kind, 32 bytes and a CRC.
"""

from __future__ import annotations

import binascii
import re
from base64 import b32decode, b32encode
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_SEED: Final = 18 << 3
_USER: Final = 20 << 3
_HEAD: Final = bytes([_SEED | _USER >> 5, (_USER & 31) << 3])


def _text(raw: bytes) -> str:
    crc = binascii.crc_hqx(raw, 0)  # XMODEM's
    return b32encode(raw + crc.to_bytes(2, "little")).decode().rstrip("=")


def user_key(secret: bytes) -> tuple[str, str]:
    """32 bytes -> (seed, public key) of a user."""
    public = Ed25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()
    return _text(_HEAD + secret), _text(bytes([_USER]) + public)


def is_seed(text: bytes) -> bool:
    """Of a user, whole."""
    if not re.fullmatch(rb"[A-Z2-7]{58}", text):
        return False
    raw = b32decode(text + b"======")
    return raw.startswith(_HEAD) and _text(raw[:-2]).encode() == text
