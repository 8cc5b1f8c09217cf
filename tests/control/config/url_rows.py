"""Rows of test_config.py's tables for dhcp.api_url."""

from __future__ import annotations

from typing import Any

GOOD: list[tuple[str, str, Any, Any]] = [
    ("dhcp", "api_url", "http://localhost:9996/", "http://localhost:9996"),
    ("dhcp", "api_url", "https://clusto.example.org/api/", "https://clusto.example.org/api"),
    ("dhcp", "api_url", "http://[::1]:9996", "http://[::1]:9996"),
    ("dhcp", "api_url", "http+hosts://127.0.0.1:8080/a/", "http+hosts://127.0.0.1:8080/a"),
    ("dhcp", "api_url", "HTTPS+Hosts://inventory.example.org", "https+hosts://inventory.example.org"),
]
WRONG: list[tuple[str, str, Any, str]] = [
    ("dhcp", "api_url", "localhost:9996", "write http://localhost:9996"),
    ("dhcp", "api_url", "ftp://localhost", "use http:// or https://"),
    ("dhcp", "api_url", "http://", "wanted a URL"),
    ("dhcp", "api_url", "http+hosts://a/?b=1", "wanted a URL"),
    ("dhcp", "api_url", "http+rows://localhost", "http+hosts:// or https+hosts:// of docs/contract.md"),
    ("dhcp", "api_url", "http://host:99999", "wanted a URL"),
    ("dhcp", "api_url", "http://[::1", "wanted a URL"),
    ("dhcp", "api_url", "http://host/?a=b", "wanted a URL"),
    ("dhcp", "api_url", "http://a b", "wanted a URL"),
    ("dhcp", "api_url", "", "wanted a URL"),
    ("dhcp", "api_url", None, "found null"),
]
