"""HTTP to a clusto-httpd, the original or ours: requests, statuses, errors; classes.py builds clusto's classes on
it."""

import io
import json
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, quote_plus

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError
from urllib3.util.retry import Retry

from control.clusto.answers import ERROR_BYTES_MAX, LIST_BYTES_MAX, Answers, AnswerSpoiled, check_density

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


class NotSent(ClustoError):
    """A request that may not be sent now, as in a fleet that another machine leads: nothing was asked."""


class Api:
    """One clusto-httpd.  Safe to use from several threads: each has its own connection.

    timeout: seconds for connecting, and until an answer begins; one that is under way has 1 s more for each 32 KiB.
    ca: a file of the authorities whose word about a server counts; None: those of this machine and of certifi."""

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        timeout: float | tuple[float, float] = TIMEOUT_S,
        ca: Path | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self._token, self._ca = token, ca
        self._connect_s, self._read_s = timeout if isinstance(timeout, tuple) else (timeout, timeout)
        self._of_thread = threading.local()
        self.heard: Callable[[], None] = lambda: None  # called after each, in the thread that asked
        # Called before each with its method and path: time-outs for this one, else the usual; raises NotSent.
        self.permit: Callable[[str, str], tuple[float, float] | None] = lambda _method, _path: None
        self.connect_retries = CONNECT_RETRIES

    def _answers(self) -> Answers:
        answers: Answers | None = getattr(self._of_thread, "answers", None)
        if answers is None:
            # Nobody hears of bytes: who gives up a registrar that makes no progress goes by whole answers.
            answers = self._of_thread.answers = Answers(self.url, self._token, lambda _bytes: None, self._ca)
            for adapter in answers.session.adapters.values():
                assert isinstance(adapter, HTTPAdapter)
                adapter.max_retries = Retry(
                    total=self.connect_retries, connect=self.connect_retries, read=0, status=0, other=0
                )
        return answers

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
        answers = self._answers()
        connect_s, read_s = self.permit(method, path) or (self._connect_s, self._read_s)
        answers.patience.begin(read_s, LIST_BYTES_MAX)
        try:
            answer = answers.session.request(
                method,
                url,
                params=parameters,
                data=form,
                timeout=(connect_s, read_s),
                allow_redirects=False,
                stream=True,
            )
            take_body(answers, answer)
        except AnswerSpoiled as error:
            raise ClustoError(f"{method} {url}: no usable answer: {error}") from error
        except (requests.RequestException, HTTPError, OSError) as error:
            raise ClustoError(f"{method} {url}: no answer: {answers.patience.fault or error}") from error
        except UnicodeError as error:  # half a letter in a name that the inventory gave
            raise ClustoError(f"{method} {url!a} {ascii(parameters)[:SHOWN_CHARS]}: no text", status=400) from error
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
            check_density(response.content)
            return json.loads(response.content)
        except (ValueError, RecursionError) as error:  # also a number of thousands of digits, nesting without end
            raise failure(what, response, f"wanted JSON: {str(error)[:SHOWN_CHARS]}") from error

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


def take_body(answers: Answers, answer: requests.Response) -> None:
    """Within the limits that the planner's reading has; answer has it as if it had been read at once."""
    most = LIST_BYTES_MAX if answer.status_code < 300 else ERROR_BYTES_MAX
    try:
        answer.raw = io.BytesIO(answers.unpacked(answer, most))
    except BaseException:
        answer.close()  # its connection has the rest of it under way
        raise
    answer.headers.pop("Content-Encoding", None)
    answer.encoding = "utf-8"  # what a header names may be any codec of Python's, and guessing takes seconds


def failure(what: str, response: requests.Response, wanted: str) -> ClustoError:
    """The last line of a 500 is the reason, what is above it a traceback (CLUSTO-HTTPD 3)."""
    lines = [line for line in response.text.splitlines() if line.strip()]
    said = lines[-1][:SHOWN_CHARS] if lines else "an empty body"
    kind = NoSuchObject if response.status_code == 404 or said.startswith("LookupError") else ClustoError
    url = response.request.url if response.request is not None else response.url
    return kind(f"{what}: {url} answered {response.status_code} ({said}); {wanted}", status=response.status_code)


def quoted(name: str) -> str:
    return quote(name, safe="")
