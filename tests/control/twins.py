"""An inventory in which names stand twice, as the database of clusto 0.7.9 allows: the embedded one under a mask.

Site names `x` and `x__twin` become two objects named x: lists and members give both, and whoever asks for x by name
gets the original's answer, 500 and a traceback.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qs, quote, unquote

from werkzeug.wrappers import Response

TWIN = "__twin"
TRACEBACK = "Traceback (most recent call last):\nMultipleResultsFound: Multiple rows were found for one()\n"


def with_twins(app: Any, *names: str) -> Any:
    """app: a WSGI application."""

    def answer(environ: dict[str, Any], start: Any) -> Any:
        query = environ["QUERY_STRING"]
        asked = parse_qs(query).get("name", [""])[0]
        if asked in names or re.match(r"/\w+/([\w-]+)", environ["PATH_INFO"] + "/")[1] in names:  # type: ignore[index]
            return Response(TRACEBACK, 500, content_type="text/plain")(environ, start)
        text = unquote(unquote(query))
        for name in names:
            if "names=" in text and f'"{name}"' in text:
                more = text.replace(f'"{name}"', f'"{name}", "{name}{TWIN}"').partition("=")[2]
                environ = environ | {"QUERY_STRING": "names=" + quote(quote(more))}
        said = Response.from_app(app, environ, buffered=True)
        return Response(said.data.replace(TWIN.encode(), b""), said.status_code, said.headers.items())(environ, start)

    return answer
