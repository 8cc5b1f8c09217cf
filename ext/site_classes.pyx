"""Compiles the site's client classes into the records of a generation; ext/site_classes.pxd goes by them.

A class is (name, parent, conditions).  parent: the name of another one, or of a built-in class.  conditions: (field, values),
all of which have to hold, each by one of its values: (bytes, is_prefix) of texts, (first, last) of numbers, codes of options
of which one is present.
"""

from libc.stdint cimport uint8_t, uint16_t
from libc.string cimport memcpy, memset

import json

from ext.classify import ClientClass
from ext.classify cimport SITE_CLASS, parent_of
from ext.leases cimport *


TEXT_FIELDS = {"vendor_class": FIELD_VENDOR_CLASS, "user_class": FIELD_USER_CLASS, "client_id": FIELD_CLIENT_ID,
               "machine_guid": FIELD_MACHINE_GUID}
NUMBER_FIELDS = {"architecture": FIELD_ARCHITECTURE, "mac": FIELD_MAC, "relay": FIELD_RELAY, "link": FIELD_LINK,
                 "enterprise": FIELD_ENTERPRISE}
PRESENT = "present"
ONE = 1                            # a Python number: of 64 classes every bit counts
VALUES_MAX = 64                    # of one field, in all classes together
CLASSES_MAX = SITE_CLASSES_MAX
TEXT_BYTES_MAX = CLASS_TEXT_BYTES
NESTED_MAX = 8                     # texts of a field of which each begins with the one before
PRESENT_MAX = 16                   # codes of options
# What a packet may pay at most, in instructions by callgrind, and what that consists of: a field, a step of the search in
# it, a second walk over the options of a usual request.
COST_MAX = 1250                    # measured: with what the call and the variant cost besides, at most 1,500
TEXT_COST, EIGHT_OCTETS, TEXT_STEP, NUMBER_COST, NUMBER_STEP, WALK_COST, CODE_COST = 60, 9, 40, 30, 13, 300, 9
PARENTS = {int(member): parent_of(<uint8_t>int(member)) for member in ClientClass}
BUILT_IN = {member.name.lower().replace("_", "-"): int(member) for member in ClientClass}


class TooMuch(ValueError):
    """More classes or values than a table takes; dhcp.classes has the same limits."""


def class_sections(variants, numbers, classes) -> list:
    """(kind, bytes) of the sections about classes beyond the first CLASS_COUNT, none where nothing is said to them.

    variants: of each template, class -> index of another; numbers: the ClassNumbers of the table; classes: empty for a delta."""
    named = [(SECTION_CLASS_NAMES, bytearray(numbers.written()))] if numbers.names else []
    return columns_of(variants, numbers) + rules_of(classes) + named


def columns_of(variants, numbers) -> list:
    """Which column each class has, and what stands in those that not every template has."""
    said = {numbers.of(client) for others in variants for client in others}
    own = sorted(number for number in said if number is not None and number >= CLASS_COUNT)
    columns, indexes = bytearray(), bytearray()
    for number in range(CLASS_NUMBERS):
        while number >= CLASS_COUNT and number not in own:
            number = numbers.parent(number)
        columns.append(CLASS_COUNT + own.index(number) if number >= CLASS_COUNT else number)
    for template, others in enumerate(variants):
        known = {numbers.of(client): index for client, index in others.items()}
        for number in own:
            while number not in known and number >= CLASS_COUNT:
                number = numbers.parent(number)
            indexes += (<uint32_t>known.get(number, template)).to_bytes(4, "little")
    # A class of the site has the column of its wider one, also where no template has anything for it alone.
    return (([(SECTION_COLUMNS, columns)] if own or numbers.names else [])
            + ([(SECTION_VARIANTS, indexes)] if own else []))


def rules_of(classes) -> list:
    """Which requests are of which class."""
    cdef ClassField field
    if not classes:
        return []
    if len(classes) > CLASSES_MAX:
        raise TooMuch(f"{len(classes)} client classes of the site: a table takes {CLASSES_MAX}")
    fields, texts, numbers = bytearray(), bytearray(), bytearray()
    cost = 0
    used = {name for _name, _parent, conditions in classes for name, _values in conditions}
    for name in (*NUMBER_FIELDS, *TEXT_FIELDS, PRESENT):      # those that cost little first
        if name not in used:
            continue
        memset(&field, 0, sizeof(field))
        wanted = {ONE << i: values for i, (_name, _parent, conditions) in enumerate(classes)
                  for of, values in conditions if of == name}
        field.free = ((ONE << len(classes)) - 1) & ~sum(wanted)
        if name in TEXT_FIELDS:
            field.kind, field.first = TEXT_FIELDS[name], len(texts) // sizeof(ClassText)
            add_texts(&field, texts, wanted)
        else:
            field.kind, field.first = NUMBER_FIELDS.get(name, FIELD_PRESENT), len(numbers) // sizeof(ClassNumber)
            add_numbers(&field, numbers, steps_of(wanted) if name in NUMBER_FIELDS else codes_of(wanted))
        values = field.count // 2 if name in NUMBER_FIELDS else field.count
        most = PRESENT_MAX if name == PRESENT else VALUES_MAX
        if values > most:
            raise TooMuch(f"the site's client classes have {values} values of {name}: a table takes {most}")
        fields += (<const char *>&field)[:sizeof(field)]
        largest = max(field.groups[at + 1] - field.groups[at] for at in range(CLASS_GROUPS))
        cost += cost_of(name, field.count, largest, longest_of(wanted) if name in TEXT_FIELDS else 0)
    if used & {"enterprise", PRESENT}:
        cost += WALK_COST
    if cost > COST_MAX:
        raise TooMuch(f"a packet could pay {cost} instructions for the site's client classes, wanted at most {COST_MAX}: "
                      "they look at too many fields, with too many values of each")
    return [(SECTION_CLASS_FIELDS, fields), (SECTION_CLASS_TEXTS, texts), (SECTION_CLASS_NUMBERS, numbers)]


def longest_of(wanted) -> int:
    return max(len(text) for values in wanted.values() for text, _is_prefix in values)


def cost_of(name, count, largest, longest) -> int:
    """Of one field at most.  count: its values, or steps of numbers; largest: group of texts that is searched by halves;
    longest: text, in octets."""
    if name == PRESENT:
        return CODE_COST * count
    if name in TEXT_FIELDS:
        return TEXT_COST + EIGHT_OCTETS * (longest + 7) // 8 + TEXT_STEP * (largest - 1).bit_length()
    return (2 if name == "enterprise" else 1) * (NUMBER_COST + NUMBER_STEP * (count - 1).bit_length())


cdef void add_texts(ClassField *field, bytearray texts, dict wanted) except *:
    """The field's texts, grouped by the octet that tells most of them apart."""
    cdef ClassText record
    cdef int octet
    exact, prefix = {}, {}
    for bit, values in wanted.items():
        for text, is_prefix in values:
            if not 0 < len(text) <= TEXT_BYTES_MAX:
                raise TooMuch(f"{text!r}: a client class compares 1 to {TEXT_BYTES_MAX} octets")
            of = prefix if is_prefix else exact
            of[text] = of.get(text, 0) | bit
    every = sorted(exact.keys() | prefix.keys())
    kinds = grouping(every)
    for place, (pivot, octets) in enumerate(kinds):
        field.pivots[place] = pivot
        for octet in range(256):
            field.kinds[place][octet] = octets.get(octet, 0)
    field.width = 1 + max(kinds[1][1].values())
    group_of = {text: kinds[0][1][text[kinds[0][0]]] * field.width + kinds[1][1][text[kinds[1][0]]] for text in every}
    every.sort(key=lambda text: (group_of[text], text))
    longer = {}
    for place, text in enumerate(every):
        wider = [other for other in every[:place] if text.startswith(other)]
        if len(wider) >= NESTED_MAX:
            raise TooMuch(f"{text!r} and {len(wider)} more texts begin with each other: a table takes {NESTED_MAX}")
        parent = max(wider, key=len, default=None)
        longer[text] = prefix.get(text, 0) | longer.get(parent, 0)
        memset(&record, 0, sizeof(record))
        record.longer = longer[text]
        record.exact = longer[text] | exact.get(text, 0)
        record.length = len(text)
        record.parent = 0 if parent is None else every.index(parent) + 1
        memcpy(record.text, <const char *><bytes>text, len(text))
        texts += (<const char *>&record)[:sizeof(record)]
    field.count = len(every)
    for group in range(CLASS_GROUPS + 1):
        field.groups[group] = <uint16_t>sum(group_of[text] < group for text in every)


def grouping(texts) -> tuple:
    """((place, octet -> row), (place, octet -> column)): the two octets that leave the smallest groups; no text is shorter."""
    best, least = None, len(texts) + 1
    rows = [{octet: kind for kind, octet in enumerate(sorted({text[at] for text in texts}), 1)}
            for at in range(min(map(len, texts)))]
    for second, columns in enumerate(rows):
        for first in range(second + 1):
            one = dict.fromkeys(columns, 1) if first == second else columns
            if (len(rows[first]) + 1) * (1 + max(one.values())) > CLASS_GROUPS:
                continue
            found = [(rows[first][text[first]], one[text[second]]) for text in texts]
            largest = max(map(found.count, found))
            if largest < least:
                best, least = ((first, rows[first]), (second, one)), largest
    return best


cdef void add_numbers(ClassField *field, bytearray numbers, list steps) except *:
    cdef ClassNumber record
    for first, mask in steps:
        record.first, record.classes = first, mask
        numbers += (<const char *>&record)[:sizeof(record)]
    field.count = len(steps)


def steps_of(wanted) -> list:
    """[(from here on, classes)] for a number, the first from 0."""
    edges = {0}
    for values in wanted.values():
        for first, last in values:
            edges |= {first, last + 1}
    return [(edge, sum(bit for bit, values in wanted.items() if any(first <= edge <= last for first, last in values)))
            for edge in sorted(edges)]


def codes_of(wanted) -> list:
    """[(option code, classes that want it)]."""
    found = {}
    for bit, codes in wanted.items():
        for code in codes:
            found[code] = found.get(code, 0) | bit
    return sorted(found.items())


class ClassNumbers:
    """Which number a class has in one table, by its name, and which wider class counts where it has nothing of its own."""

    def __init__(self, classes=()):
        """classes: the site's, (name, parent, conditions) in their order."""
        self.names = [name for name, _parent, _conditions in classes]
        self.parents = {name: parent for name, parent, _conditions in classes}
        self.conditions = {name: conditions for name, _parent, conditions in classes}

    @classmethod
    def read(cls, said: bytes):
        """From the section of names; ValueError for what is none of ours."""
        try:
            classes = [(name, parent, tuple((field, tuple(read_value(field, value) for value in values))
                                            for field, values in conditions))
                       for name, parent, conditions in (json.loads(said) if said else [])]
        except (TypeError, RecursionError) as other:
            raise ValueError(f"not as we write them ({other})") from other
        found = cls(classes)
        if len(classes) > CLASSES_MAX or len(found.parents) < len(classes) or not all(map(found.is_rooted, found.names)):
            raise ValueError(f"{len(classes)} classes, and parents that are not there")
        return found

    def is_rooted(self, name) -> bool:
        """Its parents end at a built-in class."""
        for _ in range(CLASSES_MAX + 1):
            if name in BUILT_IN:
                return True
            name = self.parents.get(name)
        return False

    def written(self) -> bytes:
        return json.dumps([
            [name, self.parents[name], [[field, [written_value(value) for value in values]] for field, values in conditions]]
            for name, conditions in self.conditions.items()]).encode() if self.names else b""

    def of(self, client) -> int | None:
        """client: a ClientClass as int, or the name of a class of the site; None: the table does not know it."""
        if isinstance(client, int):
            return client
        return SITE_CLASS + self.names.index(client) if client in self.parents else None

    def said(self, number: int):
        """The other way; a number that the table does not know is everybody's."""
        if number < SITE_CLASS:
            return number
        return self.names[number - SITE_CLASS] if number - SITE_CLASS < len(self.names) else 0

    def parent(self, number: int) -> int:
        """Of a class number; 0, OS, at the end."""
        said = self.said(number)
        if isinstance(said, int):
            return parent_of(<uint8_t>said)
        name = self.parents[said]
        return BUILT_IN[name] if name in BUILT_IN else self.of(name)


def written_value(value):
    """As JSON has it."""
    return [value[0].hex(), value[1]] if isinstance(value, tuple) and isinstance(value[0], bytes) else value


def read_value(field, value):
    if field in TEXT_FIELDS:
        text, is_prefix = value
        return bytes.fromhex(text), bool(is_prefix)
    if field in NUMBER_FIELDS:
        first, last = value
        return int(first), int(last)
    return int(value)
