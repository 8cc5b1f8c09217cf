"""Any entity as a Python object over HTTP, and the chosen clusto-httpd; devices.py and classes.py derive the classes.

Where the original lacks something (CLUSTO-HTTPD 9) several requests do it, each of them a transaction of its own.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar

from control.clusto.client.api import TIMEOUT_S, Api, ClustoError, NoSuchObject, failure, quoted
from control.clusto.drivers import DRIVERS, PORT_ACTION_TYPES
from control.clusto.drivers import Driver as DriverRow

_ADDRESSABLE: Final = re.compile(r"[\w-]+", re.ASCII)

Scalar = str | int | float


class _Unset:
    """Not given; None asks for null."""


UNSET: Final = _Unset()

_default: Api | None = None


def connect(
    url: str, token: str | None = None, *, timeout: float | tuple[float, float] = TIMEOUT_S, ca: Path | None = None
) -> Api:
    """Makes this clusto-httpd the one that everything below talks to; seconds for connecting and for an answer."""
    global _default
    _default = Api(url, token, timeout=timeout, ca=ca)
    return _default


def api() -> Api:
    if _default is None:
        raise ClustoError("no clusto-httpd chosen; wanted connect(url) before the first object")
    return _default


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute; the value of a relation is the path of the other entity, `get_by_name` makes it an object."""

    key: str
    subkey: str | None
    number: int | None
    value: Any
    datatype: str

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "Attribute":
        return cls(document["key"], document["subkey"], document["number"], document["value"], document["datatype"])

    @property
    def slot(self) -> tuple[str, str | None, int | None]:
        return self.key, self.subkey, self.number


_BY_DRIVER: Final[dict[str, type["Driver"]]] = {}

_D = TypeVar("_D", bound="Driver")


class Driver:
    """An entity.  Making an object makes the entity, or takes the one there is when its driver is the same."""

    driver: ClassVar[str] = "entity"

    def __init_subclass__(cls) -> None:
        _BY_DRIVER[cls.driver] = cls

    def __init__(self, name: str, **properties: Scalar) -> None:
        self.name = name
        self.type = self.row().type
        self._make_or_find()
        for key, value in properties.items():
            self.set_attr(key=key, subkey="property", value=value)

    @classmethod
    def row(cls) -> DriverRow:
        return DRIVERS[cls.driver]

    @classmethod
    def _known(cls: type[_D], name: str, type_: str) -> _D:
        """An entity that is known to exist with this driver: no request."""
        self = cls.__new__(cls)
        self.name, self.type = name, type_
        return self

    def _make_or_find(self) -> None:
        if not _ADDRESSABLE.fullmatch(self.name):
            raise ClustoError(f"{self!r}: over HTTP a name has letters, digits, _ and - only (CLUSTO-HTTPD 4)")
        if not api().entity_paths(names=[self.name]):
            response = api().request("POST", f"/{self.driver}/{quoted(self.name)}")
            if response.status_code == 201:
                return
            if response.status_code != 409:
                raise failure(repr(self), response, "wanted 201 or 409")
        found = document_of(self.name)
        if found["driver"] != self.driver:
            raise ClustoError(f"{self!r}: {found['object']} exists with driver {found['driver']}; wanted {self.driver}")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Driver) and self.path == other.path

    def __hash__(self) -> int:
        return hash(self.path)

    def __contains__(self, thing: "Driver") -> bool:
        """Whether thing is a member; `in` asks the inventory."""
        return self.path in thing.parent_paths()

    @property
    def path(self) -> str:
        return f"/{self.type}/{self.name}"

    def _act(self, action: str, parameters: Mapping[str, str]) -> Any:
        if not _ADDRESSABLE.fullmatch(self.name):
            # A path with a dot reaches another entity: the one named like the part before it.
            raise ClustoError(f"{self!r}.{action}: over HTTP a name has letters, digits, _ and - only")
        return api().json(f"{self!r}.{action}{dict(parameters)}", f"{self.path}/{action}", parameters)

    # Attributes -------------------------------------------------------------------------------------------------------

    def attrs(
        self,
        key: str | _Unset = UNSET,
        subkey: str | _Unset | None = UNSET,
        value: Any = UNSET,
        number: int | bool | _Unset | None = UNSET,
        *,
        merge_container_attrs: bool = False,
    ) -> list[Attribute]:
        """Matching attributes, most specific first when merged; None asks for null, number=True for any number.

        Number, value and null are compared here: the original cannot (CLUSTO-HTTPD 5).
        """
        parameters: dict[str, str] = {}
        if isinstance(key, str):
            parameters["key"] = key
        if isinstance(subkey, str):
            parameters["subkey"] = subkey
        if merge_container_attrs:
            parameters["merge_container_attrs"] = "1"
        found = [Attribute.of(document) for document in self._act("attrs", parameters)["attrs"]]
        if subkey is None:
            found = [attr for attr in found if attr.subkey is None]
        if number is None or isinstance(number, bool):
            found = [attr for attr in found if (attr.number is not None) == bool(number)]
        elif isinstance(number, int):
            found = [attr for attr in found if attr.number == number]
        if not isinstance(value, _Unset):
            wanted = value.path if isinstance(value, Driver) else value
            found = [attr for attr in found if attr.value == wanted]
        return found

    def attr_values(self, *arguments: Any, **named: Any) -> list[Any]:
        return [attr.value for attr in self.attrs(*arguments, **named)]

    def attr_value(self, *arguments: Any, **named: Any) -> Any:
        """The first one's value, or None."""
        return next(iter(self.attr_values(*arguments, **named)), None)

    def set_attr(
        self, key: str, value: "Scalar | Driver", subkey: str | None = None, number: int | None = None
    ) -> None:
        """None there: added; one there: replaced; several: an error (CLUSTO-HTTPD 1.2)."""
        self._act("setattr", _attr_parameters(key, value, subkey, number))

    def add_attr(
        self, key: str, value: "Scalar | Driver", subkey: str | None = None, number: int | None = None
    ) -> None:
        self._act("addattr", _attr_parameters(key, value, subkey, number))

    def del_attrs(self, key: str, subkey: str | None = None, number: int | None = None) -> None:
        """All of the key, or only those with the subkey and number given.

        The original deletes all of the key in any case; what should have stayed is then added again.
        """
        parameters = {"key": key}
        if subkey is not None:
            parameters["subkey"] = subkey
        if number is not None:
            parameters["number"] = str(number)
        if len(parameters) == 1:
            self._act("delattr", parameters)
            return
        before = self.attrs(key)
        stay = [a for a in before if subkey not in (None, a.subkey) or number not in (None, a.number)]
        if len(stay) == len(before):
            return
        for attr in stay:
            if attr.datatype not in ("int", "string", "relation") or attr.value is None:
                raise ClustoError(f"{self!r}.del_attrs({key!r}): {attr} could not be written back; nothing deleted")
        self._act("delattr", parameters)
        left = {attr.slot for attr in self.attrs(key)}
        for attr in stay:
            if attr.slot not in left:
                value = _Path(attr.value) if attr.datatype == "relation" else attr.value
                self._act("addattr", _attr_parameters(attr.key, value, attr.subkey, attr.number))

    # Membership -------------------------------------------------------------------------------------------------------

    def insert(self, thing: "Driver") -> None:
        """Makes thing a member; one that is a member already stays it."""
        if self.path not in thing.parent_paths():
            self._act("insert", {"object": thing.path})

    def remove(self, thing: "Driver") -> None:
        self._act("remove", {"object": thing.path})

    def contents(self, clusto_types: Iterable[str] | None = None) -> list["Driver"]:
        """Members, one level; of some types only."""
        return resolve(_of_types(self.content_paths(), clusto_types))

    def parents(self, clusto_types: Iterable[str] | None = None) -> list["Driver"]:
        return resolve(_of_types(self.parent_paths(), clusto_types))

    def content_paths(self) -> list[str]:
        paths: list[str] = document_of(self.name)["contents"]
        return paths

    def parent_paths(self) -> list[str]:
        paths: list[str] = document_of(self.name)["parents"]
        return paths

    def delete(self) -> None:
        """The entity, its attributes and everything that points at it."""
        response = api().request("DELETE", f"/{self.type}/{quoted(self.name)}")
        if response.status_code != 200:
            raise failure(f"{self!r}.delete", response, "wanted 200")

    @property
    def hostname(self) -> str:
        """Of attribute `hostname`, or else the name (CLUSTO-HTTPD 1.4)."""
        return str(self.attr_value("hostname") or self.name)


_BY_DRIVER[Driver.driver] = Driver


def _of_types(paths: list[str], types: Iterable[str] | None) -> list[str]:
    wanted = None if types is None else set(types)
    return [path for path in paths if wanted is None or path.split("/", 2)[1] in wanted]


class _Path(str):
    """The path of an entity, to be written as a relation."""


def _attr_parameters(
    key: str, value: "Scalar | Driver | _Path", subkey: str | None, number: int | None
) -> dict[str, str]:
    """Datatypes as clusto takes them from Python types (CLUSTO-HTTPD 1.2); null has no spelling over HTTP."""
    parameters = {"key": key}
    if subkey is not None:
        parameters["subkey"] = subkey
    if number is not None:
        parameters["number"] = str(int(number))
    if isinstance(value, Driver):
        return parameters | {"datatype": "relation", "value": value.path}
    if isinstance(value, _Path):
        return parameters | {"datatype": "relation", "value": str(value)}
    if isinstance(value, int):
        return parameters | {"datatype": "int", "value": str(int(value))}
    if isinstance(value, str | float):
        return parameters | {"value": str(value)}
    raise ClustoError(f"attribute {key}/{subkey}: value {value!r}; wanted text, a number or an object")


# Look-ups -------------------------------------------------------------------------------------------------------------


def document_of(name: str) -> dict[str, Any]:
    """The show document, or NoSuchObject."""
    document: dict[str, Any] = api().query(f"entity {name!r}", "get_by_name", {"name": name})
    return document


def object_of(document: Mapping[str, Any]) -> Driver:
    """A show document -> an object of its driver's class; a driver without a class here gives a plain Driver."""
    _, type_, name = document["object"].split("/", 2)
    return class_of(document["driver"], type_)._known(name, type_)


def class_of(driver: str, type_: str = "") -> type[Driver]:
    """A driver that a site's plugin brought has what its type has: a rack units, a switch ports."""
    if driver in _BY_DRIVER:
        return _BY_DRIVER[driver]
    if type_ == "rack":
        return _BY_DRIVER.get("basicrack", Driver)
    return _BY_DRIVER.get("device", Driver) if type_ in PORT_ACTION_TYPES or type_ == "appliance" else Driver


def get_by_name(name: str) -> Driver:
    return object_of(document_of(name))


def get_or_create(name: str, wanted: type[_D], **properties: Scalar) -> _D | Driver:
    """The entity of that name, whatever its driver; else a new one.

    One of the plain driver that `wanted` derives from is taken for a `wanted`: its ports are what the caller says."""
    try:
        found = get_by_name(name)
    except NoSuchObject:
        return wanted(name, **properties)
    return wanted._known(name, found.type) if issubclass(wanted, type(found)) else found


def resolve(paths: Iterable[str]) -> list[Driver]:
    """Paths -> objects, in their order; a few requests for all of them, for a path does not tell the driver."""
    names_of: dict[str, list[str]] = {}
    ordered = list(paths)
    for path in ordered:
        _, type_, name = path.split("/", 2)
        names_of.setdefault(type_, []).append(name)
    found: dict[str, Driver] = {}
    for type_, names in names_of.items():
        drivers = [row.name for row in DRIVERS.values() if row.type == type_ and not row.example]
        for driver in drivers:
            known = [f"/{type_}/{name}" for name in names] if len(drivers) == 1 else _paths_of_driver(driver, names)
            found.update((path, class_of(driver)._known(path.split("/", 2)[2], type_)) for path in known)
    return [found.get(path) or get_by_name(path.split("/", 2)[2]) for path in ordered]


_NAMES_PER_REQUEST: Final = 500


def _paths_of_driver(driver: str, names: list[str]) -> list[str]:
    paths: list[str] = []
    try:
        for start in range(0, len(names), _NAMES_PER_REQUEST):
            chunk = names[start : start + _NAMES_PER_REQUEST]
            paths += api().entity_paths(names=chunk, clusto_drivers=[driver])
    except ClustoError as error:
        # A clusto without the plugin of that driver refuses its name; then nothing has it.
        if "doesn't exist" not in str(error):
            raise
    return paths
