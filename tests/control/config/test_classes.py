"""control/config/classes.py: what `dhcp.classes` takes and refuses, and what `check` remarks of rules that work."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from ext.codec import trace
from ext.site_classes import PRESENT, TEXT_BYTES_MAX
from hypothesis import given

from control.cli.command_line import main
from control.config.classes import FIELDS, NAME_CHARS_MAX, SiteClass, covers, remarks
from control.config.config import ConfigFaults, parse
from tests.ext.answering.test_site_classes import octets, pair_with, requests, rules
from tests.ext.packets import ip

FILE = Path("services.conf")
ONIE = {"name": "onie", "match": {"vendor_class": "onie_vendor:*"}}


def taken(*classes: Any) -> tuple[SiteClass, ...]:
    return parse(json.dumps({"dhcp": {"classes": list(classes)}}).encode(), FILE).dhcp.classes


def faults_of(value: Any) -> tuple[str, ...]:
    with pytest.raises(ConfigFaults) as caught:
        parse(json.dumps({"dhcp": {"classes": value}}).encode(), FILE)
    for line in caught.value.faults:
        assert line.startswith("services.conf: dhcp.classes") and "; wanted " in line and line.isprintable(), line
        assert len(line) < 700, line
    return tuple(line.removeprefix("services.conf: dhcp.classes") for line in caught.value.faults)


def of(key: str, value: Any) -> Any:
    """The one condition, as workers get it."""
    ((condition,),) = (each.conditions for each in taken({"name": "a", "match": {key: value}}))
    return condition


# --- what is taken ----------------------------------------------------------------------------------------------------


def test_a_class_without_a_parent_is_everybody_s() -> None:
    assert taken(ONIE) == (SiteClass("onie", "os", (("vendor_class", ((b"onie_vendor:", True),)),)),)


def test_no_classes_are_none() -> None:
    assert taken() == ()


@pytest.mark.parametrize("name", ["a", "7", "onie-2", "a" * NAME_CHARS_MAX])
def test_a_name_is_what_an_attribute_can_carry(name: str) -> None:
    assert taken({"name": name, "match": {"architecture": 7}})[0].name == name


@pytest.mark.parametrize(
    "key, value, want",
    [
        ("vendor_class", "PXEClient", ("vendor_class", ((b"PXEClient", False),))),
        ("user_class", "iPXE*", ("user_class", ((b"iPXE", True),))),
        ("client_id", "hex:00:1b", ("client_id", ((b"\0\x1b", False),))),
        ("client_id", "hex:FF00*", ("client_id", ((b"\xff\0", True),))),
        ("machine_guid", "hex:00" + 16 * "ab", ("machine_guid", ((b"\0" + 16 * b"\xab", False),))),
        ("vendor_class", ["a*", "b", "a*"], ("vendor_class", ((b"a", True), (b"b", False)))),
        ("vendor_class", TEXT_BYTES_MAX * "x", ("vendor_class", ((TEXT_BYTES_MAX * b"x", False),))),
        ("architecture", 65535, ("architecture", ((65535, 65535),))),
        ("enterprise", [0, 4413], ("enterprise", ((0, 0), (4413, 4413)))),
        ("has_option", [43, 254], (PRESENT, (43, 254))),
        ("oui", "00:1b:21", ("mac", ((0x001B21000000, 0x001B21FFFFFF),))),
        ("oui", "00-1B-21", ("mac", ((0x001B21000000, 0x001B21FFFFFF),))),
        ("oui", "001b.21", ("mac", ((0x001B21000000, 0x001B21FFFFFF),))),
        ("oui", "001B21a", None),
        ("oui", "00:1b:21:a0", ("mac", ((0x001B21A00000, 0x001B21A0FFFF),))),
        ("oui", "02:00:00:00:00:01", ("mac", ((0x020000000001, 0x020000000001),))),
        ("relay", "10.1.0.0/24", ("relay", ((0x0A010000, 0x0A0100FF),))),
        ("link", ["10.1.0.1", "0.0.0.0/0"], ("link", ((0x0A010001, 0x0A010001), (0, 0xFFFFFFFF)))),
    ],
)
def test_conditions(key: str, value: Any, want: Any) -> None:
    if want is None:
        assert "the first three to six octets of a MAC address" in faults_of([ONIE | {"match": {key: value}}])[0]
    else:
        assert of(key, value) == want


def test_every_field_is_read_and_stands_in_the_documented_list() -> None:
    match = {
        "vendor_class": "a",
        "user_class": "a",
        "client_id": "a",
        "machine_guid": "a",
        "architecture": 1,
        "enterprise": 1,
        "has_option": 1,
        "oui": "00:00:01",
        "relay": "10.0.0.1",
        "link": "10.0.0.1",
    }
    assert match.keys() == FIELDS.keys()
    ((name, parent, conditions),) = taken({"name": "all", "parent": "ipxe", "match": match})
    assert (name, parent) == ("all", "ipxe") and [field for field, _ in conditions] == [f for f, _ in FIELDS.values()]


def test_a_parent_may_be_another_class_of_the_site_wherever_it_stands() -> None:
    inner = {"name": "inner", "parent": "outer", "match": {"architecture": 1}}
    outer = {"name": "outer", "parent": "http-boot-arm64", "match": {"architecture": 2}}
    assert [each.parent for each in taken(inner, outer)] == ["outer", "http-boot-arm64"]


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "Onie", "o_nie", "a--b", "-a", "a-", "a b", "é", "a" * 33, 7, None, ["a"]])
def test_a_name_that_no_subkey_can_carry(name: Any) -> None:
    (line,) = faults_of([ONIE | {"name": name}])
    assert line.startswith("[0].name: found ")
    assert "small letters, digits and single dashes, at most 32: attributes carry it after --" in line


@pytest.mark.parametrize("name", ["os", "ipxe", "bmc", "http-boot-arm64"])
def test_a_built_in_class_stays_what_it_is(name: str) -> None:
    assert faults_of([ONIE | {"name": name}])[0].startswith(
        f'[0].name: found "{name}"; wanted a name that is no built-in class\'s'
    )


@pytest.mark.parametrize(
    "parents, says",
    [
        ({"a": "nobody"}, '[0].parent: found "nobody"; wanted a built-in class (docs/protocol.md) or one of'),
        ({"a": "bmc"}, '[0].parent: found "bmc"; wanted the name of another class'),
        ({"a": 7}, "[0].parent: found 7; wanted the name of another class"),
        ({"a": "a"}, "[0].parent: found a -> a; wanted parents that end at a built-in class"),
        ({"a": "b", "b": "c", "c": "a"}, "[0].parent: found a -> b -> c -> a; wanted parents that end at a built-in"),
        ({"a": "b", "b": "b"}, "[0].parent: found a -> b -> b; wanted parents that end"),
    ],
)
def test_parents(parents: dict[str, Any], says: str) -> None:
    classes = [{"name": name, "parent": parent, "match": {"architecture": 1}} for name, parent in parents.items()]
    lines = faults_of(classes)
    assert lines[0].startswith(says)
    assert len(lines) == (len(parents) if "->" in says else 1)


def test_one_class_of_a_name() -> None:
    (line,) = faults_of([ONIE, ONIE])
    assert line.startswith('[1].name: found "onie" twice; wanted one class of a name; give the first one a list')


@pytest.mark.parametrize(
    "value, says",
    [
        (ONIE, ": found an object; wanted a list, each element an object such as"),
        ("onie", ': found "onie"; wanted a list'),
        (["onie"], '[0]: found "onie"; wanted a list, each element an object such as {"name": "onie"'),
        ([{}], "[0]: found an object of nothing; wanted "),
        ([{"name": "a"}], '[0]: found an object of "name"; wanted '),
        ([ONIE | {"prefix": 1}], '[0]: found an object of "name", "match", "prefix"; wanted '),
        ([ONIE | {"match": {}}], "[0].match: found an empty object; wanted an object of vendor_class, user_class"),
        ([ONIE | {"match": []}], "[0].match: found a list of 0; wanted an object of vendor_class"),
        ([ONIE | {"match": None}], "[0].match: found null; wanted an object of vendor_class"),
        ([ONIE | {"match": {"option_60": "a"}}], "[0].match: found an object; wanted an object of vendor_class"),
    ],
)
def test_what_is_no_list_of_classes(value: Any, says: str) -> None:
    (line,) = faults_of(value)
    assert line.startswith(says)


_TEXT = "printable ASCII, with one * at the end or none; or hex: and digits"
_OUI = "the first three to six octets of a MAC address, such as 00:1b:21"
_PREFIX = "an IPv4 address or prefix such as 192.0.2.0/24"


@pytest.mark.parametrize(
    "key, value, found, wanted",
    [
        ("vendor_class", "", '""', "a text"),
        ("vendor_class", 60, "60", "a text"),
        ("vendor_class", ["a", None], "null", "a text"),
        ("vendor_class", "a*b", '"a*b"', _TEXT),
        ("vendor_class", "*a", '"*a"', _TEXT),
        ("vendor_class", "a**", '"a**"', _TEXT),
        ("vendor_class", "é", '"\\u00e9"', _TEXT),
        ("vendor_class", "a\n", '"a\\n"', _TEXT),
        ("vendor_class", "*", "0 octets", "1 to 64 octets"),
        ("vendor_class", 65 * "x", "65 octets", "1 to 64 octets"),
        ("client_id", "hex:", '"hex:"', "pairs of hexadecimal digits after hex:"),
        ("client_id", "hex:*", '"hex:*"', "pairs of hexadecimal digits after hex:"),
        ("client_id", "hex:0", '"hex:0"', "pairs of hexadecimal digits after hex:"),
        ("client_id", "hex:0g", '"hex:0g"', "pairs of hexadecimal digits after hex:"),
        ("client_id", "hex:" + 65 * "00", "65 octets", "1 to 64 octets"),
        ("architecture", -1, "-1", "a whole number 0..65535"),
        ("architecture", 65536, "65536", "a whole number 0..65535"),
        ("architecture", "7", '"7"', "a whole number 0..65535"),
        ("architecture", True, "true", "a whole number 0..65535"),
        ("enterprise", 2**32, "4294967296", "a whole number 0..4294967295"),
        ("has_option", 0, "0", "an option's number, 1..254"),
        ("has_option", 255, "255", "an option's number, 1..254"),
        ("has_option", "vendor-class", '"vendor-class"', "an option's number, 1..254"),
        ("oui", "00:1b", '"00:1b"', _OUI),
        ("oui", "00:1b:2", '"00:1b:2"', _OUI),
        ("oui", "02:00:00:00:00:00:01", '"02:00:00:00:00:00:01"', _OUI),
        ("oui", "Intel", '"Intel"', _OUI),
        ("oui", 7, "7", _OUI),
        ("relay", "10.1.0.1/24", '"10.1.0.1/24"', _PREFIX),
        ("relay", "2001:db8::1", '"2001:db8::1"', _PREFIX),
        ("link", 7, "7", _PREFIX),
        ("link", ["10.0.0.1", "eth0"], '"eth0"', _PREFIX),
        ("link", [], "an empty list", "a value, or a list of them"),
    ],
)
def test_values(key: str, value: Any, found: str, wanted: str) -> None:
    (line,) = faults_of([ONIE, {"name": "b", "match": {key: value}}])
    assert line.startswith(f"[1].match.{key}: found {found}; wanted {wanted}")


def test_all_faults_come_at_once() -> None:
    lines = faults_of([ONIE | {"name": "A"}, ONIE, ONIE | {"match": {}}, 7])
    assert [line.partition(":")[0] for line in lines] == ["[0].name", "[2].match", "[3]"]


@pytest.mark.parametrize(
    "classes, says",
    [
        (
            [{"name": f"c{at}", "match": {"architecture": at}} for at in range(65)],
            ": found 65 classes; wanted at most 64",
        ),
        (
            [ONIE | {"match": {"user_class": [f"{at}*" for at in range(65)]}}],
            "65 values of user_class: a table takes 64",
        ),
        ([ONIE | {"match": {"has_option": list(range(1, 18))}}], "17 values of present: a table takes 16"),
        ([ONIE | {"match": {"vendor_class": [at * "x" + "*" for at in range(1, 10)]}}], "8 more texts begin with each"),
        (
            [
                {"name": f"c{at}", "match": {"oui": ["00:00:%02x" % (2 * at), "00:01:%02x" % (2 * at)]}}
                for at in range(64)
            ],
            "values of mac: a table takes 64",
        ),
    ],
)
def test_no_more_than_a_worker_can_go_through(classes: Any, says: str) -> None:
    (line,) = faults_of(classes)
    assert says in line and "join those that get the same options" in line


def test_64_classes_are_not_too_many() -> None:
    classes = [{"name": f"c{at}", "match": {"vendor_class": f"PXEClient:Arch:{at:05}*"}} for at in range(64)]
    assert len(taken(*classes)) == 64


# --- what is remarked -------------------------------------------------------------------------------------------------


def remarked(*matches: dict[str, Any], parent: str = "os") -> list[str]:
    classes = [{"name": f"c{at}", "parent": parent, "match": match} for at, match in enumerate(matches)]
    return remarks(taken(*classes))


@pytest.mark.parametrize(
    "first, second",
    [
        ({"vendor_class": "a*"}, {"vendor_class": "ab*"}),
        ({"vendor_class": "a*"}, {"vendor_class": "a"}),
        ({"vendor_class": ["x", "a*"]}, {"vendor_class": ["ab", "x"]}),
        ({"oui": "00:1b:21"}, {"oui": "00:1b:21:01", "user_class": "x"}),
        ({"relay": "10.0.0.0/8"}, {"relay": ["10.1.0.0/16", "10.2.0.1"]}),
        ({"has_option": [43, 125]}, {"has_option": 125}),
    ],
)
def test_a_rule_that_is_never_reached_is_named(first: Any, second: Any) -> None:
    assert remarked(first, second) == [
        "dhcp.classes: c1 is never reached: whatever fits it fits c0 before it; put c1 in front of c0"
    ]
    assert remarked(second, first) == []


@pytest.mark.parametrize(
    "first, second",
    [
        ({"vendor_class": "a"}, {"vendor_class": "a*"}),
        ({"vendor_class": "a*"}, {"user_class": "a*"}),
        ({"vendor_class": "a*", "link": "10.0.0.0/8"}, {"vendor_class": "ab"}),
        ({"vendor_class": "ab*"}, {"vendor_class": ["ab", "c"]}),
        ({"has_option": 43}, {"has_option": [43, 125]}),
    ],
)
def test_rules_that_leave_something_to_the_next(first: Any, second: Any) -> None:
    assert remarked(first, second) == []


@pytest.mark.parametrize(
    "match",
    [
        {"vendor_class": "PXEClient*"},
        {"vendor_class": ["x", "PXEClient:Arch:00007*"]},
        {"vendor_class": "PXEClient:Arch:00000:UNDI:002001"},
        {"architecture": 7},
        {"architecture": 7, "vendor_class": "P*"},
        {"has_option": [43, 93]},
        {"has_option": 82},
        {"architecture": [16, 11]},
        {"oui": "00:1b:21"},
        {"relay": "0.0.0.0/0"},
        {"link": "10.1.0.0/16", "client_id": "hex:01001b21*"},
        {"machine_guid": "hex:00*"},
    ],
)
def test_a_rule_on_what_iPXE_keeps_of_its_ROM_takes_iPXE_as_well(match: Any) -> None:
    (line,) = remarked(match, parent="uefi-x64")
    assert line.startswith("dhcp.classes: c0 takes iPXE as well, which keeps the ROM's options 60 and 93; put a class")
    assert remarked(match, parent="ipxe") == []
    assert remarked(match | {"has_option": 43}, parent="uefi-x64") == []
    assert remarked(match | {"user_class": "x"}, parent="uefi-x64") == []
    assert remarked(match | {"enterprise": 42623}, parent="uefi-x64") == []


def of_two(first: dict[str, Any], second: dict[str, Any], parent: str = "ipxe-http") -> list[str]:
    """What is remarked of a ROM's rule behind one of iPXE's."""
    rules = [{"name": "menu", "parent": parent, "match": first}, {"name": "rom", "parent": "pxe", "match": second}]
    return remarks(taken(*rules))


@pytest.mark.parametrize(
    "ipxe, rom",
    [
        ({"user_class": "iPXE*"}, {"vendor_class": "PXEClient*"}),
        ({"user_class": "iPXE"}, {"vendor_class": "PXEClient*"}),
        ({"has_option": 175}, {"architecture": 0}),
        ({"user_class": "iPXE*", "architecture": 0}, {"architecture": 0}),
        ({"user_class": ["iPXE*", "iPXE"], "link": "10.0.0.0/8"}, {"relay": "10.1.0.1", "link": "10.1.0.0/16"}),
    ],
)
def test_the_advice_about_iPXE_can_be_followed(ipxe: Any, rom: Any) -> None:
    assert of_two(ipxe, rom) == [] == of_two(ipxe, rom, "ipxe")
    (first, second) = of_two(ipxe, rom, "pxe")
    assert "menu is for iPXE and has the parent pxe" in first and "rom takes iPXE as well" in second


def test_a_rule_for_iPXE_that_leaves_some_of_it_to_a_rom_s_rule() -> None:
    assert len(of_two({"user_class": "iPXE*", "architecture": 7}, {"architecture": [0, 7]})) == 1
    assert len(of_two({"user_class": "gPXE"}, {"architecture": 0})) == 1


@pytest.mark.parametrize("match", [{"user_class": "iPXE*"}, {"has_option": 175}, {"user_class": ["iPXE", "iPXE-x*"]}])
def test_a_rule_for_iPXE_without_its_parent_is_named(match: Any) -> None:
    (line,) = remarked(match)
    assert line.startswith("dhcp.classes: c0 is for iPXE and has the parent os: what is said to ipxe does not reach it")
    assert remarked(match, parent="ipxe-http") == []


@pytest.mark.parametrize(
    "match",
    [
        {"vendor_class": "PXEClient"},
        {"vendor_class": "onie*"},
        {"relay": "10.0.0.1"},
        {"oui": "00:1b:21"},
        {"architecture": 16},
    ],
)
def test_other_rules_are_not_suspected(match: Any) -> None:
    assert remarked(match) == []


@given(classes=rules(), said=requests())
def test_what_a_rule_covers_does_not_get_past_it(classes: Any, said: Any) -> None:
    """By the worker's own choice: each pair alone, so that the covered one decides where it is alone."""
    sites = [SiteClass(*each) for each in classes]
    for wider in sites:
        for narrower in sites:
            if wider is not narrower and covers(wider, narrower) and fits(narrower, said):
                assert fits(wider, said), (wider, narrower, said)


@given(classes=rules(4), said=requests())
def test_a_rule_covers_itself_with_less_asked_of_it_and_more_allowed(classes: Any, said: Any) -> None:
    for name, parent, conditions in classes:
        narrow = SiteClass(name, parent, conditions)
        assert covers(narrow, narrow) and covers(SiteClass("less", parent, conditions[:1]), narrow)
        if fits(narrow, said):
            assert fits(SiteClass("less", parent, conditions[:1]), said)


def fits(of: SiteClass, said: Any) -> bool:
    alone = pair_with([(of.name, "os", of.conditions)])
    number = trace(alone, octets(said), ifindex=2, local=ip("10.1.0.1")).request["option_class"]
    return bool(alone.base.classes.said(number) == of.name)


# --- check ------------------------------------------------------------------------------------------------------------


def checked(folder: Path, classes: Any) -> tuple[int, str, str]:
    (folder / "services.conf").write_text(json.dumps({"dhcp": {"classes": classes, "state_dir": str(folder / "s")}}))
    result = CliRunner().invoke(main, ["check", "-c", str(folder / "services.conf")])
    return result.exit_code, result.stdout, result.stderr


def test_check_warns_and_calls_the_file_good(tmp_path: Path) -> None:
    rom = {"name": "rom", "match": {"vendor_class": "PXEClient*"}}
    late = {"name": "late", "match": {"vendor_class": "PXEClient:Arch:00011*", "user_class": "x"}}
    code, out, err = checked(tmp_path, [rom, late])
    assert code == 0 and ": good; " in out
    prefix = f"{tmp_path}/services.conf: warning: dhcp.classes: "
    assert [line.removeprefix(prefix)[:10] for line in err.splitlines()] == ["rom takes ", "late is ne"]


def test_check_has_nothing_to_say_of_good_rules_and_refuses_bad_ones(tmp_path: Path) -> None:
    assert checked(tmp_path, [ONIE])[::2] == (0, "")
    code, _out, err = checked(tmp_path, [ONIE, ONIE])
    assert code == 2 and 'dhcp.classes[1].name: found "onie" twice' in err
