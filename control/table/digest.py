"""The digest of a table's rows: the same on every machine that serves them, whatever its own interfaces are."""

from __future__ import annotations

from hashlib import sha256

import msgpack
from ext.table import Pair


def rows_digest(pair: Pair) -> bytes:
    """32 octets.  Of the rows, and of what else the inventory says: networks, those that share a link, classes."""
    top = pair.top
    said = [top.digest, [list(each) for each in top.networks], [list(each) for each in top.shared]]
    return sha256(msgpack.packb(said) + pair.base.site_classes).digest()
