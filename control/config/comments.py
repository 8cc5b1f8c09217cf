"""Comments of services.conf, which is JSON otherwise: whole lines that begin with # or //.

No line of JSON begins so, not even within a text, which cannot go on in the next line.
"""

from __future__ import annotations

import re

_COMMENT = re.compile(r"^[ \t]*(?:#|//).*$", re.MULTILINE)


def without_comments(text: str) -> str:
    """The same with empty lines in their place, so that what a message says of lines and columns holds."""
    return _COMMENT.sub("", text)
