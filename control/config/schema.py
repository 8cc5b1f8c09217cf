"""The JSON Schema of a services.conf, from the same fields as the parser and the table in docs/configuration.md."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from typing import Any, Final

from control.config.config import Config
from control.config.shapes import Shape

DIALECT: Final = "http://json-schema.org/draft-07/schema#"


def sections() -> Iterator[tuple[str, type]]:
    """In their order: name, and the class whose fields are the keys."""
    for part in dataclasses.fields(Config):
        if isinstance(part.default_factory, type):
            yield part.name, part.default_factory


def default_of(section: type, key: dataclasses.Field[Any]) -> str:
    """As services.conf writes it, or in words where it follows from another key."""
    if shown := str(key.metadata["default_shown"]).strip("`"):
        return shown
    found = getattr(section(), key.name)
    return json.dumps(found, default=lambda value: list(value) if isinstance(value, tuple) else str(value))


def document() -> Shape:
    properties: Shape = {"$schema": {"type": "string", "description": "Where editors find the schema of this file."}}
    for name, section in sections():
        properties[name] = {
            "type": "object",
            "description": section.__doc__,
            "additionalProperties": False,
            "properties": {key.name: _key(section, key) for key in dataclasses.fields(section)},
        }
    return {
        "$schema": DIALECT,
        "title": "services.conf",
        "description": "Configuration of bootstorm and clusto.  A key that is left out has its default.",
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
    }


def _key(section: type, key: dataclasses.Field[Any]) -> Shape:
    about = key.metadata
    restart = f"  A change needs a restart: {about['restart']}." if about["restart"] else ""
    said: Shape = {"description": f"{about['doc']}.  Wanted: {about['check'].wanted}.{restart}"}
    with contextlib.suppress(ValueError):  # in words
        said["default"] = json.loads(default_of(section, key))
    taken: Shape = about["check"].shape
    return said | taken
