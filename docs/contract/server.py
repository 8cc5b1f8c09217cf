"""An example of a server of ../contract.md: rows from a file of JSON lines, which may be written anew at any time.

python3 server.py rows.jsonl 127.0.0.1:8080 [TOKEN]
"""

import json
import os
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


class Rows:
    def __init__(self, path):
        self.path, self.lock = path, threading.Lock()
        self.run = os.urandom(4).hex()  # whoever has a cursor of an earlier run has to read everything
        self.rows, self.changed, self.version = {}, {}, 0  # id -> row; id -> the version that changed it

    def look(self):
        """Read the file, and see what is another row than before, or is gone."""
        with open(self.path, encoding="utf-8") as file:
            rows = {row["id"]: row for row in map(json.loads, file)}
        ids = [each for each in rows.keys() | self.rows.keys() if rows.get(each) != self.rows.get(each)]
        if ids:
            self.rows, self.version = rows, self.version + 1
            self.changed.update(dict.fromkeys(ids, self.version))

    def answer(self, query, known_etag=None):
        """(status, ETag, lines)."""
        with self.lock:
            self.look()
            cursor = f"{self.run}-{self.version}"
            if known_etag == f'"{cursor}"' and "mac" not in query:
                return 304, known_etag, []
            if "mac" in query:
                wanted = {digits(mac) for mac in query["mac"]}
                lines = [row for row in self.rows.values() if not wanted.isdisjoint(macs_of(row))]
            elif "since" in query:
                run, _, version = query["since"][0].partition("-")
                if run != self.run:
                    return 410, f'"{cursor}"', []
                ids = [each for each, changed in self.changed.items() if changed > int(version)]
                lines = [self.rows.get(each, {"id": each, "deleted": True}) for each in ids]
            else:
                lines = list(self.rows.values())
            hosts = sum(row.get("kind") == "host" for row in lines)
            total = sum(row.get("kind") == "host" for row in self.rows.values())
            return 200, f'"{cursor}"', [*lines, {"end": True, "cursor": cursor, "hosts": hosts, "total": total}]


def digits(mac):
    return re.sub("[^0-9a-f]", "", mac.lower())


def macs_of(row):
    more = row.get("macs") or []
    more = list(more.values()) if isinstance(more, dict) else more
    return {digits(mac["mac"] if isinstance(mac, dict) else mac) for mac in [row.get("mac") or "", *more]}


class Handler(BaseHTTPRequestHandler):
    protocol_version, wbufsize = "HTTP/1.1", -1  # head and body in one piece

    def do_GET(self):
        url = urlsplit(self.path)
        status, etag, lines = 404, "", []
        if self.server.token and self.headers["Authorization"] != f"Bearer {self.server.token}":
            status = 401
        elif url.path == "/hosts":
            status, etag, lines = self.server.rows.answer(parse_qs(url.query), self.headers["If-None-Match"])
        body = "".join(json.dumps(line) + "\n" for line in lines).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/x-ndjson")
        if etag:
            self.send_header("ETag", etag)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    host, _, port = sys.argv[2].rpartition(":")
    server = ThreadingHTTPServer((host, int(port)), Handler)
    server.rows, server.token = Rows(sys.argv[1]), "".join(sys.argv[3:4])
    server.serve_forever()
