"""The board's pages: what is asked for in a URL -> HTML, and the live sections of the first page.

Every page works without JavaScript; with it, the sections of the first page are replaced as they change.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import glob
import json
import logging
import time
from collections.abc import AsyncIterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote_plus

import jinja2
from markupsafe import Markup
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from control.board import discreet, figures
from control.board.gate import COOKIE, LOGIN, Gate, HostNames, Token
from control.board.watcher import Busy, Watcher
from control.explain import recent
from control.explain.wording import VERDICTS
from control.mac import parse_mac, show_mac
from control.service.doors.commands import TEXT_CHARACTERS_MAX
from control.service_client import CallFailed, ServiceClient, Unreachable
from fastpath.process.escape import shown

log = logging.getLogger("bootstorm.board")

HERE: Final = Path(__file__).parent
TEXT_MAX: Final = 300  # characters of a name, a reason
SECTIONS: Final = ("headline", "machines", "funnel", "stuck", "notices", "traffic", "service", "events")
EVENTS_SHOWN: Final = 25
HOSTS_A_PAGE: Final = 200
PACKETS_SHOWN: Final = 50
WARNINGS_SHOWN: Final = 20
LOGIN_BYTES_MAX: Final = 4_096
VIEWERS_MAX: Final = 256  # pages that are kept live
OLDEST_S: Final = 3.0  # of what a page is loaded with
RETRY_MS: Final = 2_000
FILTERS: Final = ("progress", "state", "name", "pool", "rack", "relay", "address")
NOTHING_TOLD: Final[dict[str, str]] = {}
SHAPES: Final = {"number": figures.number, "duration": figures.duration}


def printable(value: Any) -> Any:
    """Text of foreign origin as it may be shown; escaping is the templates'."""
    return shown(value, TEXT_MAX) if isinstance(value, str) and not isinstance(value, Markup) else value


def link(text: str) -> Markup:
    """As part of a URL; whole, or it would lead elsewhere."""
    return Markup(quote(text, safe="", errors="replace"))


def only_of(kind: str, name: str) -> Markup:
    """The filter of /hosts that fits a pool, a rack or a relay alone; "" where none does, as of all further relays."""
    wanted = glob.escape(name)  # what a pattern has is a letter here
    if len(wanted) > TEXT_CHARACTERS_MAX or (kind == "relay" and not is_address(name)):
        return Markup("")
    return Markup(f"{kind}={link(wanted)}")


def is_address(text: str) -> bool:
    try:
        IPv4Address(text)
    except ValueError:
        return False
    return True


def templates() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "reason": discreet.reason, "link": link,
        "span": figures.span, "duration": figures.duration, "number": figures.number, "stage": figures.stage_words,
        "points": lambda history, word: Markup(history.line(word)),
        "clock": lambda seconds: time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(seconds)) if seconds else "never",
    }  # fmt: skip
    made.globals |= {
        "PROGRESS": figures.PROGRESS, "PHASES": figures.PHASES, "STEPS": figures.STEPS, "only_of": only_of,
    }  # fmt: skip
    return made


class Site:
    """The pages of one service.  name: what the board is of, in its title."""

    def __init__(self, watcher: Watcher, token: Token, name: str) -> None:
        self.watcher = watcher
        self.token = token
        self.name = name
        self.pages = templates()
        for template in self.pages.list_templates():  # now: later this process may be one that may read less
            self.pages.get_template(template)
        self.viewers = 0
        self.not_shown: dict[str, str] = {}  # section -> why, as it was logged
        self.rendered: dict[str, tuple[int, dict[str, str]]] = {}
        self.news_told: dict[str, tuple[dict[str, str], dict[str, str], bytes]] = {}

    def app(self, hosts: HostNames) -> Gate:
        routes = [
            Route("/", self.board),
            Route("/live", endpoint=Live(self)),
            Route("/hosts", self.hosts),
            Route("/host/{subject}", self.host),
            Route("/host/{subject}/packets", self.packets),
            Route(LOGIN, self.login, methods=["GET", "POST"]),
            Mount("/static", StaticFiles(directory=HERE / "static")),
        ]
        failures = {CallFailed: self.failed, Busy: self.failed, 404: self.missing}
        inner = Starlette(routes=routes, exception_handlers=failures, lifespan=self.lifespan)
        return Gate(inner, hosts, self.token)

    @contextlib.asynccontextmanager
    async def lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self.watcher.follow()), group.create_task(self.watcher.follow_events())]
            yield
            for task in tasks:
                task.cancel()

    def page(self, template: str, status: int = 200, **said: Any) -> HTMLResponse:
        content = self.pages.get_template(template).render(site=self.name, now_s=time.time(), **said)
        return HTMLResponse(content, status)

    # --- the first page ----------------------------------------------------------------------------------------------

    async def board(self, request: Request) -> Response:
        by = by_of(request)
        with self.watcher.watched():
            await self.watcher.refreshed(OLDEST_S)
            return self.page("board.html", sections=self.sections(by), by=by)

    def sections(self, by: str) -> dict[str, Markup]:
        return {name: Markup(html) for name, html in self.made(by).items()}

    def made(self, by: str) -> dict[str, str]:
        """Rendered once for all who look."""
        version, made = self.rendered.get(by, (-1, {}))
        if version != self.watcher.version:
            made = {name: self.section(name, by) for name in SECTIONS}
            self.rendered[by] = self.watcher.version, made
        return made

    def news(self, by: str, told: dict[str, str], made: dict[str, str]) -> bytes:
        """An event for a page that was told what made() gave before.  Written once for all that are told the same."""
        before, now, event = self.news_told.get(by, (None, None, b""))
        if before is not told or now is not made:
            changed = {name: html for name, html in made.items() if told.get(name) != html}
            said = json.dumps({"now_s": round(time.time(), 1), "sections": changed})
            event = f"data: {said}\n\n".encode()
            self.news_told[by] = told, made, event
        return event

    def section(self, name: str, by: str) -> str:
        """One that cannot be made costs itself: a service of another build may say less, or say it otherwise."""
        try:
            html = self.pages.get_template(f"sections/{name}.html").render(self.said(name, by))
            self.not_shown.pop(name, None)
            return html
        except Exception as missing:  # what is laid out is of another process, and may be of any shape
            words = repr(missing)[:TEXT_MAX]
            if self.not_shown.get(name) != words:
                log.warning("section %s cannot be shown: %s", name, words)
            self.not_shown[name] = words
            words = "The service, of another build than the board, does not say all of this; restart the board."
            return f"<h2>{name.capitalize()}</h2>\n<p>{words}</p>"

    def said(self, name: str, by: str) -> dict[str, Any]:
        """What a section is made of.  Raises whatever the service's words are no good for."""
        watcher = self.watcher
        status, overview = watcher.status, watcher.overview
        found: dict[str, Any] = {
            "site": self.name,
            "by": by,
            "kinds": figures.KINDS,
            "status": status,
            "totals": None,
            "failure": watcher.failure,
            "looked_failure": watcher.looked_failure,
            "failed_since_s": watcher.failed_since_s,
            "taken_s": watcher.taken_s,
            "looked_s": watcher.looked_s,
            "now_s": time.time(),
            "fleet": figures.fleet_words(status) if name == "headline" and status is not None else "",
        }
        if name in ("machines", "funnel", "stuck") and overview is not None:
            found["totals"] = figures.totals_of(overview)
        if name == "machines":
            found["since_s"] = overview["since_s"] if overview is not None else 0
        elif name == "funnel":
            groups = figures.groups_of(overview, by) if overview is not None else []
            left = len(groups[figures.ROWS_SHOWN :]) + (overview or {}).get("cut", {}).get(by, 0)
            found |= {"groups": groups[: figures.ROWS_SHOWN], "groups_left": left}
        elif name == "stuck":
            found |= {"stuck": watcher.stuck, "stuck_seen": watcher.stuck_seen}
        elif name == "notices":
            warnings = figures.warnings_of(status) if status is not None else []
            found |= {"warnings": warnings, "conflicts": watcher.conflicts}
        elif name == "traffic":
            found |= {"history": watcher.history, "shapes": SHAPES}
        elif name == "events":
            events = figures.newest_first(watcher.events, EVENTS_SHOWN)
            found |= {"events": events, "events_failure": watcher.events_failure}
        return found

    # --- machines ----------------------------------------------------------------------------------------------------

    async def hosts(self, request: Request) -> Response:
        wanted = {word: request.query_params[word] for word in FILTERS if request.query_params.get(word)}
        after = request.query_params.get("after", "0")
        asked = wanted | {"after": int(after) if after.isdecimal() and len(after) < 19 else 0, "limit": HOSTS_A_PAGE}
        found = await self.watcher.call("hosts", asked)
        return self.page("hosts.html", found=found, wanted=wanted, filters=FILTERS)

    async def host(self, request: Request) -> Response:
        subject = request.path_params["subject"]
        explained = await self.watcher.call("explain", {"mac": subject})
        mac = explained["mac"]
        warned = await self.watcher.call("recent", {"mac": mac, "most": WARNINGS_SHOWN})
        known = await self.watcher.call("lookup", {"mac": mac}) if explained["state"] is not None else {}
        return self.page(
            "host.html", mac=mac, host=explained["host"], state=explained["state"], reason=explained["reason"],
            rows=known.get("boots", []), since_s=known.get("boots_since_s"),
            networks=discreet.machine(explained), warned=warned, verdicts=VERDICTS,
        )  # fmt: skip

    async def packets(self, request: Request) -> Response:
        subject = request.path_params["subject"]
        mac = parse_mac(subject)
        if mac is None:
            mac = parse_mac((await self.watcher.call("lookup", {"mac": subject}))["mac"])
        assert mac is not None
        recording = await self.watcher.run(functools.partial(recorded, mac=show_mac(mac)))
        listed = discreet.packets(recording.records)
        return self.page("packets.html", mac=show_mac(mac), packets=listed, missed=recording.missed)

    # --- the token ---------------------------------------------------------------------------------------------------

    async def login(self, request: Request) -> Response:
        if request.method == "GET":
            return self.page("login.html", wrong=False)
        body = b""
        try:
            async for chunk in request.stream():
                body += chunk
                if len(body) > LOGIN_BYTES_MAX:
                    return PlainTextResponse("that is no token\n", 413)
        except ClientDisconnect:  # it is told to nobody
            return PlainTextResponse("the token did not come\n", 400)
        word, _, said = body.decode("latin-1").partition("=")
        if word != "token" or not self.token.fits(unquote_plus(said)):
            return self.page("login.html", 403, wrong=True)
        answer = RedirectResponse("/", 303)
        secure = request.headers.get("x-forwarded-proto", request.url.scheme) == "https"
        answer.set_cookie(COOKIE, self.token.cookie, httponly=True, samesite="strict", secure=secure)
        return answer

    # --- what goes wrong ---------------------------------------------------------------------------------------------

    async def failed(self, request: Request, error: Exception) -> Response:
        status = 404 if request.url.path.startswith("/host/") else 400
        if isinstance(error, (Unreachable, Busy)):
            status = 503
        return self.page("error.html", status, error=str(error))

    async def missing(self, _request: Request, _error: Exception) -> Response:
        return self.page("error.html", 404, error="there is no such page")


class Live:
    """ASGI: server-sent events, {"now_s", "sections": {name: HTML}} of the sections that have changed.

    A viewer that takes nothing is let go (connections.py), and comes again by itself if it is still there."""

    def __init__(self, site: Site) -> None:
        self.site = site

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "GET":  # HEAD: nothing would be sent, and so nobody be found who is gone
            await Response(media_type="text/event-stream")(scope, receive, send)
            return
        if self.site.viewers >= VIEWERS_MAX:
            words = f"{VIEWERS_MAX} pages are kept live already; this one is as it was loaded\n"
            await PlainTextResponse(words, 503, {"retry-after": "30"})(scope, receive, send)
            return
        self.site.viewers += 1
        try:
            with self.site.watcher.watched():
                await self.serve(by_of(Request(scope)), receive, send)
        finally:
            self.site.viewers -= 1

    async def serve(self, by: str, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        telling = asyncio.ensure_future(self.tell(by, send))
        gone = asyncio.ensure_future(disconnected(receive))
        try:
            done, _pending = await asyncio.wait((telling, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            telling.cancel()
            gone.cancel()
        if telling in done:
            telling.result()

    async def tell(self, by: str, send: Send) -> None:
        """For ever."""
        told = NOTHING_TOLD
        head = f"retry: {RETRY_MS}\n\n".encode()
        async for _version in self.site.watcher.versions():
            made = self.site.made(by)
            event = self.site.news(by, told, made)
            told = made
            await send({"type": "http.response.body", "body": head + event, "more_body": True})
            head = b""


async def disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def by_of(request: Request) -> str:
    by = request.query_params.get("by", "pool")
    return by if by in figures.KINDS else "pool"


def recorded(client: ServiceClient, mac: str) -> recent.Recording:
    return recent.collect(client.call, mac, PACKETS_SHOWN)
