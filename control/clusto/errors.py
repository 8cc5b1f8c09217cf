"""What a request can be refused with; server/store.py, server/queries.py and server/actions.py raise it,
server/httpd.py turns it into a status.

kind and message are those of the original's last traceback line, so that a client that reads them keeps working.
"""

import unicodedata
from http import HTTPStatus


def plain(text: str) -> str:
    """Foreign text in a message: what a terminal or a log would obey (ESC, newlines, U+202E) is written out."""
    if text.isprintable():
        return text
    return "".join(
        char if unicodedata.category(char) not in _OBEYED else char.encode("unicode_escape").decode() for char in text
    )


_OBEYED = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))


class Refused(Exception):
    """A request that the original answers with 500 and a traceback ending in `kind: message` (CLUSTO-HTTPD 3)."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = plain(message)

    @property
    def last_line(self) -> str:
        return f"{self.kind}: {self.message}"


class NoSuchEntity(Refused):
    """No entity has that name: 404 in a path, 400 as a relation's value, 500 in a query (CLUSTO-HTTPD 4 to 6)."""

    def __init__(self, name: str) -> None:
        super().__init__("LookupError", f"{name} does not exist.")


class Taken(Exception):
    """What was to be set only where nothing stands is something else already: 409."""


class Answered(Exception):
    """A short text/html answer with its own status (CLUSTO-HTTPD 3).

    Its body is the status line and the detail, or `body` where the original leaves the status line out.
    """

    def __init__(self, status: int, detail: str = "", *, body: str | None = None) -> None:
        reason = f"{status} {HTTPStatus(status).phrase}\n"
        self.status = status
        self.body = body if body is not None else reason + (f"{plain(detail)}\n" if detail else "")
        super().__init__(self.body)


class InventoryDown(Exception):
    """The inventory cannot be read: unreachable, too slow, or answering garbage.  The last table serves on."""
