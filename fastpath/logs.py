"""How every process of the service logs: lines on standard error, for journald or whoever started it."""

from __future__ import annotations

import logging
import sys


def configure_logging() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s", stream=sys.stderr)
