"""Who gets to see the board: Host, Origin and token are looked at before anything else; what every answer says to a
browser.

A page of somebody else's in the same browser must not read the board (DNS rebinding: Host; scripts: Origin, CSP), and
off loopback nobody without the token.  The token never stands in a URL, which ends up in logs and histories.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import socket
import time
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Final, NamedTuple
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger("bootstorm.board")

COOKIE: Final = "bootstorm_board"
LOGIN: Final = "/login"
OPEN_PATHS: Final = (LOGIN, "/static/board.css", "/static/icon.svg")  # what the form for the token needs
WARNED_EVERY_S: Final = 10.0
HEADERS: Final = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-store",
}


class HostNames(NamedTuple):
    """What may stand in the field Host: names in lower case and without a port; off loopback also any address, since
    nobody else can point an address at us, as he can a name."""

    names: frozenset[str]
    any_address: bool

    def has(self, host: str) -> bool:
        """host: a Host field."""
        name = name_of(host)
        if name in self.names or not self.any_address:
            return name in self.names
        try:
            ip_address(name)
        except ValueError:
            return False
        return True


def host_names(bind: tuple[str, int], names: Iterable[str]) -> HostNames:
    """bind: where the board listens; names: board.names."""
    host = bind[0]
    ours = {"localhost", "127.0.0.1", "::1"} if is_loopback(host) else {socket.gethostname(), socket.getfqdn()}
    found = frozenset(name.lower().rstrip(".") for name in {host, *names, *ours})
    return HostNames(found, not is_loopback(host))


def is_loopback(host: str) -> bool:
    """A name such as 127.example is none."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def is_followed_link(headers: Headers, method: str) -> bool:
    """Of another site's page, such as a ticket; then the board is a page of its own."""
    mode, shown_as = headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")
    return method == "GET" and mode == "navigate" and shown_as == "document"


def is_of(origin: str, host: str) -> bool:
    """Whether an Origin is the one of a Host field; of one that is no URL nobody is."""
    try:
        return urlsplit(origin).netloc.lower() == host.lower()
    except ValueError:
        return False


def name_of(host: str) -> str:
    """Of a Host field or an Origin's netloc, without its port: "[::1]:80" -> "::1"."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower().rstrip(".")


class Token:
    """secret: as in board.token_file; None: nobody needs one."""

    def __init__(self, secret: str | None) -> None:
        self.secret = secret.encode() if secret is not None else None
        # The cookie is made of the token and is not the token, which may be used elsewhere, too.
        self.cookie = hmac.new(self.secret, b"bootstorm board", hashlib.sha256).hexdigest() if self.secret else ""

    def fits(self, said: str) -> bool:
        return self.secret is not None and hmac.compare_digest(said.encode("utf-8", "replace"), self.secret)

    def is_shown(self, headers: Headers) -> bool:
        """Whether a request carries it, as cookie or bearer token."""
        if self.secret is None:
            return True
        kind, _, said = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self.fits(said.strip()):
            return True
        return any(hmac.compare_digest(said.encode("utf-8", "replace"), self.cookie.encode()) for said in ours(headers))


def ours(headers: Headers) -> list[str]:
    """Values of the board's cookie.  Cookies are of a host and not of a port: others may be any program's, and odd."""
    parts = (part.strip().partition("=") for field in headers.getlist("cookie") for part in field.split(";"))
    return [value for name, _, value in parts if name == COOKIE]


class Gate:
    """ASGI: in front of the board.  hosts: of host_names()."""

    def __init__(self, app: ASGIApp, hosts: HostNames, token: Token) -> None:
        self.app = app
        self.hosts = hosts
        self.token = token
        self.refused = 0
        self.warned_s = -WARNED_EVERY_S

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        refusal = self.refusal(scope)
        await (refusal or self.app)(scope, receive, send_with_headers)

    def refusal(self, scope: Scope) -> Response | None:
        """None: it may go on."""
        headers = Headers(scope=scope)
        if not self.hosts.has(headers.get("host", "")):
            return self.refuse(
                421, f"this is not {headers.get('host', '')[:80]!r}; list the name in board.names", scope
            )
        origin = headers.get("origin")
        if origin is not None and not is_of(origin, headers.get("host", "")):
            return self.refuse(403, "asked for by a page of another site", scope)
        if headers.get("sec-fetch-site", "none") == "cross-site" and not is_followed_link(headers, scope["method"]):
            return self.refuse(403, "asked for by a page of another site", scope)
        if scope["method"] not in ("GET", "HEAD") and not (scope["method"] == "POST" and scope["path"] == LOGIN):
            return PlainTextResponse("the board is read only\n", 405, {"allow": "GET, HEAD"})
        if "token" in parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True):
            return self.refuse(400, "a token in a URL is in every log by now: change it, and send it by POST", scope)
        if scope["path"] in OPEN_PATHS or self.token.is_shown(headers):
            return None
        if "authorization" in headers or "text/html" not in headers.get("accept", ""):
            return self.refuse(401, "wanted: Authorization: Bearer TOKEN, of board.token_file", scope)
        return RedirectResponse(LOGIN, 303)

    def refuse(self, status: int, reason: str, scope: Scope) -> Response:
        self.refused += 1
        now = time.monotonic()
        if now - self.warned_s >= WARNED_EVERY_S:
            self.warned_s = now
            who = (scope.get("client") or ("?",))[0]
            log.warning("refused %d requests so far; the last one from %s: %s", self.refused, who, reason)
        headers = {"www-authenticate": "Bearer"} if status == 401 else None
        return PlainTextResponse(reason + "\n", status, headers)
