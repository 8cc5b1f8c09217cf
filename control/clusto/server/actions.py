"""`/<type>/<name>/<action>`: parameters in, change made, answer out (CLUSTO-HTTPD 5); httpd.py routes here.

reading.py reads, writing.py changes.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from sqlalchemy import Connection

from control.clusto.drivers import PORT_ACTION_TYPES
from control.clusto.errors import Answered, NoSuchEntity, Refused
from control.clusto.server.attrs import AttrFilter
from control.clusto.server.reading import (
    Entity,
    attrs_document,
    find_by_name,
    get_by_name,
    has_port,
    port_attr,
    ports_document,
    show,
)
from control.clusto.server.writing import (
    Value,
    add_attr,
    allocate_entity,
    delete_attrs,
    driver_named,
    insert_into_rack,
    insert_member,
    remove_member,
    set_attr,
)

Parameters = Mapping[str, str]

EMPTY: Final = object()
"""The answer of set_port_attr: 200, text/html, no body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    run: Callable[[Connection, Entity, Parameters], Any]
    writes: bool = False
    ports_only: bool = False


def _show(db: Connection, entity: Entity, _parameters: Parameters) -> Any:
    return show(db, entity, ports=True)


def _attrs(db: Connection, entity: Entity, parameters: Parameters) -> Any:
    wanted = AttrFilter.from_parameters(parameters)
    return {"attrs": attrs_document(db, entity, wanted)}


def _required(parameters: Parameters, name: str) -> str:
    if name not in parameters:
        raise Refused("KeyError", f"'{name}'")
    return parameters[name]


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise Refused("ValueError", f"invalid literal for int() with base 10: '{text}'") from error


def _given_value(db: Connection, parameters: Parameters) -> Value:
    """datatype: int, relation, anything else is a string."""
    text = _required(parameters, "value")
    datatype = parameters.get("datatype", "string")
    if datatype == "int":
        return Value.of_int(_integer(text))
    if datatype == "relation":
        _prefix, slash, name = text.rpartition("/")
        try:
            if not slash:
                raise NoSuchEntity(name)
            return Value.of_relation(get_by_name(db, name))
        except NoSuchEntity as error:
            raise Answered(400, body="400 Element Not Found\n") from error
    return Value.of_string(text)


Change = Callable[[Connection, Entity, Parameters], None]


def _then_show(change: Change) -> Callable[[Connection, Entity, Parameters], Any]:
    def run(db: Connection, entity: Entity, parameters: Parameters) -> Any:
        change(db, entity, parameters)
        return show(db, entity, ports=True)

    return run


def _change_attr(method: str, change: Callable[..., None]) -> Change:
    def run(db: Connection, entity: Entity, parameters: Parameters) -> None:
        value = _given_value(db, parameters)
        for name in parameters:
            if name not in ("key", "value", "subkey", "number", "datatype"):
                raise Refused("TypeError", f"{method}() got an unexpected keyword argument '{name}'")
        if "key" not in parameters:
            raise Refused("TypeError", f"{method}() takes at least 3 arguments (2 given): no key")
        number = _integer(parameters["number"]) if "number" in parameters else None
        change(db, entity, parameters["key"], value, subkey=parameters.get("subkey"), number=number)

    return run


_addattr, _setattr = _change_attr("add_attr", add_attr), _change_attr("set_attr", set_attr)
_claimattr = _change_attr("claim_attr", partial(set_attr, replace=False))


def _delattr(db: Connection, entity: Entity, parameters: Parameters) -> Any:
    key = _required(parameters, "key")
    number = _integer(parameters["number"]) if parameters.get("number") else None
    delete_attrs(db, entity, key, subkey=parameters.get("subkey") or None, number=number)
    return show(db, entity, ports=True)


def _named_object(db: Connection, parameters: Parameters) -> Entity:
    """object=/<type>/<name>; the type is not compared."""
    parts = _required(parameters, "object").split("/")
    if len(parts) < 3:
        raise Refused("IndexError", "list index out of range")
    return get_by_name(db, parts[2])


def _insert(db: Connection, entity: Entity, parameters: Parameters) -> None:
    member = _named_object(db, parameters)
    if entity.type == "rack":
        insert_into_rack(db, entity, member, _integer(_required(parameters, "ru")))
    else:
        insert_member(db, entity, member)


_STEPS: Final[Mapping[str, Change]] = {
    "addattr": _addattr,
    "setattr": _setattr,
    "claimattr": _claimattr,
    "insert": _insert,
}


def _together(db: Connection, _entity: Entity, parameters: Parameters) -> Any:
    """Ours, not the original's: changes of any things, in this order, all of them or none; an empty answer.

    claimattr: a setattr that refuses (409) where another value stands."""
    try:
        steps = json.loads(_required(parameters, "steps"))
    except (ValueError, RecursionError) as error:
        raise Answered(400, body=f"steps is no JSON: {error}\n") from error
    entity_of: dict[str, Entity] = {}
    for step in steps if isinstance(steps, list) else [None]:
        if not isinstance(step, dict) or not all(isinstance(text, str) for text in step.values()):
            raise Answered(400, body="steps: wanted a list of objects that hold texts alone\n")
        path, action = step.pop("path", ""), step.pop("action", "")
        name = path.rpartition("/")[2]
        if action not in _STEPS:
            raise Answered(400, body=f"steps: action {action!r}; wanted one of {', '.join(_STEPS)}\n")
        if name not in entity_of:
            found = find_by_name(db, name)
            if found is None:
                raise Answered(404, f"steps: {path} does not exist")
            entity_of[name] = found
        _STEPS[action](db, entity_of[name], step)
    return EMPTY


def _remove(db: Connection, entity: Entity, parameters: Parameters) -> Any:
    remove_member(db, entity, _named_object(db, parameters))
    return show(db, entity, ports=True)


def _port_parameters(parameters: Parameters, *names: str) -> tuple[str, int, str]:
    for name in names:
        if name not in parameters:
            raise Answered(400, body=f'Required argument "{name}" is missing\n')
    try:
        portnum = int(parameters["portnum"])
    except ValueError as error:
        raise Answered(400, body="portnum must be an integer\n") from error
    return parameters["porttype"], portnum, parameters["key"]


def _get_port_attr(db: Connection, entity: Entity, parameters: Parameters) -> Any:
    porttype, portnum, key = _port_parameters(parameters, "porttype", "portnum", "key")
    return port_attr(db, entity, porttype, portnum, key)


def _set_port_attr(db: Connection, entity: Entity, parameters: Parameters) -> Any:
    """Always stores a string, connections and VLANs too (8.6)."""
    porttype, portnum, key = _port_parameters(parameters, "porttype", "portnum", "key", "value")
    if not has_port(entity, porttype, portnum):
        raise Refused("ConnectionException", f"No port {porttype}:{portnum} exists on {entity.name}.")
    set_attr(db, entity, f"port-{porttype}", Value.of_string(parameters["value"]), subkey=key, number=portnum)
    return EMPTY


def _ports(db: Connection, entity: Entity, _parameters: Parameters) -> Any:
    return ports_document(db, entity)


ACTIONS: Final[Mapping[str, Action]] = {
    "show": Action(run=_show),
    "attrs": Action(run=_attrs),
    "addattr": Action(run=_then_show(_addattr), writes=True),
    "setattr": Action(run=_then_show(_setattr), writes=True),
    "together": Action(run=_together, writes=True),
    "delattr": Action(run=_delattr, writes=True),
    "insert": Action(run=_then_show(_insert), writes=True),
    "remove": Action(run=_remove, writes=True),
    "ports": Action(run=_ports, ports_only=True),
    "get_port_attr": Action(run=_get_port_attr, ports_only=True),
    "set_port_attr": Action(run=_set_port_attr, writes=True, ports_only=True),
}

# Attributes of the original's handler object, which it would call (recording 150).
_NOT_CALLABLE: Final = frozenset({"url", "obj"})


def writes(name: str) -> bool:
    """Whether an action of that name wants the writers' transaction; an unknown one does not."""
    return name in ACTIONS and ACTIONS[name].writes


def action_named(name: str, entity: Entity) -> Action:
    """Raises Answered 404 when entities of that type have no such action."""
    if name in _NOT_CALLABLE:
        raise Refused("TypeError", "'unicode' object is not callable")
    action = ACTIONS.get(name)
    if action is None or (action.ports_only and entity.type not in PORT_ACTION_TYPES):
        raise Answered(404, "Invalid action")
    return action


def allocate(db: Connection, manager: Entity, parameters: Parameters) -> Entity:
    """POST only: a new entity from a name manager, of the driver asked for."""
    if manager.driver != "simpleentitynamemanager":
        raise Answered(400, f"{manager.path} is a {manager.driver}; only a simpleentitynamemanager allocates entities")
    if "driver" not in parameters:
        raise Answered(400, 'You must specify a "driver" parameter')
    return allocate_entity(db, manager, driver_named(parameters["driver"]))
