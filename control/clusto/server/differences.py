"""Where our clusto-httpd answers otherwise than the original on purpose; the replay test allows these and no others."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """recordings: numbers of tests/data/clusto-recordings whose answers show it; none when no recording does."""

    name: str
    ours: str
    reason: str
    recordings: tuple[int, ...] = ()


DIFFERENCES: Final = (
    Difference(
        name="traceback-wording",
        ours="the body of a 500 is one line `Kind: message` without the traceback, now and then in other words",
        reason="a traceback shows file names of a machine and tells its reader nothing",
        recordings=(116, 235),
    ),
    Difference(
        name="non-ascii-values",
        ours="addattr and setattr store any text; 183, the answer after, shows what 182 stored until 184 deletes it",
        reason="the 500 is an accident of Python 2 (CLUSTO-HTTPD 8.11)",
        recordings=(182, 183),
    ),
    Difference(
        name="rack-insert-answers",
        ours="insert into a rack answers 200 and the show document",
        reason="the original inserts and then calls a method that does not exist (CLUSTO-HTTPD 8.2)",
        recordings=(230,),
    ),
    Difference(
        name="container-cycle-ends",
        ours="merging counts a container on a cycle on its first level only; get_from_pools lists its members once",
        reason="the original never ends, or recurses until 500 (CLUSTO-HTTPD 8.10)",
    ),
    Difference(
        name="allocate-by-post",
        ours="POST /resourcemanager/NAME/allocate?driver=DRIVER makes the next entity; GET answers as recorded",
        reason="allocate cannot be reached in the original (CLUSTO-HTTPD 8.1), and a change belongs to POST",
    ),
    Difference(
        name="delattr-subkey-number",
        ours="delattr deletes only what has the subkey and number given",
        reason="without it one port or address cannot be changed without all others (CLUSTO-HTTPD 8.4)",
    ),
    Difference(
        name="addattr-number-is-int",
        ours="addattr refuses a number that is no integer with 500, as setattr does",
        reason="the original stores the text on SQLite, where no reader expects it (CLUSTO-HTTPD 5)",
    ),
    Difference(
        name="together",
        ours="together?steps=[...] makes many changes of many entities in one transaction; an empty answer",
        reason="registering a server takes thirty requests without it; the original answers 404, and gets the thirty",
    ),
    Difference(
        name="host-and-origin",
        ours="403 for a Host that is no address, not localhost and none of its names, for an Origin of another host, "
        "and for a change or JSONP that a browser asks for on behalf of another site, or without saying of which "
        "(one whose User-Agent begins with Mozilla/, without Sec-Fetch-Site, Origin and Referer); "
        "--name NAME adds one, '*' any",
        reason="GETs change things: any page that a person opens could reach it, by a name that it lets point here",
    ),
    Difference(
        name="callback-is-a-name",
        ours="400 for a callback that is no name of a JavaScript function, or is longer than 128 characters",
        reason="the original puts it in front of the answer as it stands, and a browser runs it",
    ),
    Difference(
        name="messages-are-plain",
        ours="control characters and the like in names are written out (\\x1b) in the texts of errors, <, > and & as "
        "in HTML where they are text/html; every answer says X-Content-Type-Options: nosniff",
        reason="a terminal, a log or a browser would obey them",
    ),
)
