"""HTTP to a clusto-httpd, the original or ours: requests, statuses, errors; client.py builds clusto's classes on it."""

import json
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote, quote_plus

import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

TIMEOUT_S: Final = (3.05, 30.0)
CONNECT_RETRIES: Final = 2
# The original's request line ends at 64 KiB (CLUSTO-HTTPD 3); a form body does not.
QUERY_CHARS_MAX: Final = 2_000
SHOWN_CHARS: Final = 200


class ClustoError(Exception):
    """A request that did not do what was asked: names the thing, the url, what came and what was wanted."""

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class NoSuchObject(ClustoError, LookupError):
    """No entity, or no owner, has that name."""


class Api:
    """One clusto-httpd.  Safe to use from several threads: each has its own connections."""

    def __init__(self, url: str, token: str | None = None, *, timeout: float | tuple[float, float] = TIMEOUT_S) -> None:
        self.url = url.rstrip("/")
        self._token = token
        self._timeout = timeout
        self._of_thread = threading.local()
        self.heard: Callable[[], None] = lambda: None  # called after each, in the thread that asked

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._of_thread, "session", None)
        if session is None:
            session = requests.Session()
            session.trust_env = False
            retries = Retry(total=CONNECT_RETRIES, connect=CONNECT_RETRIES, read=0, status=0, other=0)
            session.mount("http://", HTTPAdapter(max_retries=retries))
            session.mount("https://", HTTPAdapter(max_retries=retries))
            if self._token is not None:
                session.headers["Authorization"] = f"Bearer {self._token}"
            self._of_thread.session = session
        return session

    def request(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, str] | None = None,
        *,
        form: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """The answer whatever its status; never follows a redirect, which loses the query (CLUSTO-HTTPD 4)."""
        url = f"{self.url}{path}"
        try:
            answer = self._session().request(
                method, url, params=parameters, data=form, timeout=self._timeout, allow_redirects=False
            )
        except requests.RequestException as error:
            raise ClustoError(f"{method} {url}: no answer: {error}") from error
        self.heard()
        return answer

    def json(self, what: str, path: str, parameters: Mapping[str, str] | None = None) -> Any:
        """The answer's JSON; what: the thing asked for, for the error."""
        return self.checked_json(what, self.request("GET", path, parameters))

    def checked_json(self, what: str, response: requests.Response, wanted: Iterable[int] = (200,)) -> Any:
        wanted = tuple(wanted)
        if response.status_code not in wanted:
            raise failure(what, response, f"wanted {' or '.join(str(status) for status in wanted)}")
        try:
            return response.json()
        except requests.JSONDecodeError as error:
            raise failure(what, response, "wanted JSON") from error

    def query(self, what: str, name: str, parameters: Mapping[str, str]) -> Any:
        """/query/<name>; long parameters go in a form."""
        return self.checked_json(what, self.query_response(name, parameters))

    def query_response(self, name: str, parameters: Mapping[str, str]) -> requests.Response:
        path = f"/query/{name}"
        if sum(len(value) for value in parameters.values()) > QUERY_CHARS_MAX:
            return self.request("POST", path, form=parameters)
        return self.request("GET", path, parameters)

    def entity_paths(
        self,
        *,
        names: Sequence[str] | None = None,
        clusto_types: Sequence[str] | None = None,
        clusto_drivers: Sequence[str] | None = None,
        attrs: Sequence[Mapping[str, Any]] | None = None,
    ) -> list[str]:
        """get_entities: parameters are ANDed, entries of attrs ORed (CLUSTO-HTTPD 6)."""
        given = {"names": names, "clusto_types": clusto_types, "clusto_drivers": clusto_drivers, "attrs": attrs}
        # Encoded here once and by requests once more: the server decodes twice.
        parameters = {name: quote_plus(json.dumps(value)) for name, value in given.items() if value is not None}
        paths: list[str] = self.query("get_entities", "get_entities", parameters)
        return paths


def failure(what: str, response: requests.Response, wanted: str) -> ClustoError:
    """The last line of a 500 is the reason, what is above it a traceback (CLUSTO-HTTPD 3)."""
    lines = [line for line in response.text.splitlines() if line.strip()]
    said = lines[-1][:SHOWN_CHARS] if lines else "an empty body"
    kind = NoSuchObject if response.status_code == 404 or said.startswith("LookupError") else ClustoError
    url = response.request.url if response.request is not None else response.url
    return kind(f"{what}: {url} answered {response.status_code} ({said}); {wanted}", status=response.status_code)


def quoted(name: str) -> str:
    return quote(name, safe="")
