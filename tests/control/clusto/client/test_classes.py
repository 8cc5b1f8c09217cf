"""The Python client against our server: the document's example and what CLUSTO-HTTPD section 9 asks of a client."""

from collections.abc import Iterator

import pytest

from control.clusto.client import (
    BasicDatacenter,
    BasicNetworkSwitch,
    BasicRack,
    BasicServer,
    ClustoError,
    IPManager,
    NoSuchObject,
    PenguinServer,
    PenguinServer2U,
    Pool,
    SimpleEntityNameManager,
    UniquePool,
    connect,
    get,
    get_by_name,
    get_entities,
    get_from_pools,
    get_ip_manager,
)

MAC = "00:11:22:33:44:55"

# clusto-services.txt, word for word.
EXAMPLE = """
p = Pool('pxeboot-servers')
p.set_attr(key='dhcp', subkey='enabled', value=1)
p.set_attr(key='dhcp', subkey='tftp_server', value='192.168.1.1')
p.set_attr(key='dhcp', subkey='tftp_filename', value='/pxelinux.0')
p.set_attr(key='dhcp', subkey='domain', value='example.org')

s = BasicServer('ex0000')
s.set_port_attr('nic-eth', 1, 'mac', '00:11:22:33:44:55')
s.bind_ip_to_osport('192.168.1.50', 'eth0')
"""


@pytest.fixture
def inventory(url: str) -> Iterator[str]:
    connect(url)
    yield url


@pytest.fixture
def network(inventory: str) -> IPManager:
    return IPManager("net-192-168-1", baseip="192.168.1.0", netmask="255.255.255.0", gateway="192.168.1.254")


def slots(attrs: list) -> list[tuple]:
    return [(attr.subkey, attr.number, attr.value, attr.datatype) for attr in attrs]


@pytest.mark.parametrize("times", [1, 2], ids=["once", "again-changes-nothing"])
def test_the_documents_example(network: IPManager, times: int) -> None:
    for _ in range(times):
        names = {"Pool": Pool, "BasicServer": BasicServer}
        exec(EXAMPLE, names)
        names["p"].insert(names["s"])
    server, pool = names["s"], names["p"]
    assert slots(server.attrs("ip")) == [
        (None, 0, 1084752178, "int"),
        ("manager", 0, "/resourcemanager/net-192-168-1", "relation"),
        ("ipstring", 0, "192.168.1.50", "string"),
        ("cidr", 0, "192.168.1.50/24", "string"),
        ("osportname", 0, "eth0", "string"),
    ]
    assert slots(server.attrs("dhcp", merge_container_attrs=True)) == [
        ("enabled", None, 1, "int"),
        ("tftp_server", None, "192.168.1.1", "string"),
        ("tftp_filename", None, "/pxelinux.0", "string"),
        ("domain", None, "example.org", "string"),
    ]
    assert pool.contents() == [server]
    assert server.parents() == [pool]
    attrs = [{"key": "port-nic-eth", "subkey": "mac", "number": 1, "value": MAC}]
    assert get_entities(attrs=attrs) == get("192.168.1.50") == get(MAC) == [server]


def test_the_same_name_with_another_driver_is_an_error(inventory: str) -> None:
    assert Pool("a") == Pool("a") == get_by_name("a")
    with pytest.raises(ClustoError, match=r"BasicServer\('a'\): /pool/a exists with driver pool; wanted basicserver"):
        BasicServer("a")


def test_an_unknown_name(inventory: str) -> None:
    with pytest.raises(NoSuchObject, match=r"'nosuch'.*/query/get_by_name\?name=nosuch answered 500"):
        get_by_name("nosuch")
    with pytest.raises(NoSuchObject):
        get("nosuch")


def test_a_name_that_no_path_can_hold_is_refused(inventory: str) -> None:
    """/server/ex0.example.org would change ex0."""
    with pytest.raises(ClustoError, match="letters"):
        BasicServer("ex0.example.org")


@pytest.mark.parametrize(
    "value, stored, datatype",
    [
        pytest.param(1, 1, "int", id="int"),
        pytest.param(True, 1, "int", id="bool"),
        pytest.param("1", "1", "string", id="digits"),
        pytest.param("", "", "string", id="empty"),
        pytest.param(1.5, "1.5", "string", id="float"),
        pytest.param("café + 100% & x=y", "café + 100% & x=y", "string", id="url-letters"),
        pytest.param("日本", "日本", "string", id="non-ascii"),
        pytest.param(-(2**63), -(2**63), "int", id="least"),
    ],
)
def test_values_keep_their_type(inventory: str, value: object, stored: object, datatype: str) -> None:
    pool = Pool("p")
    pool.set_attr("k", value, subkey="s", number=3)
    pool.set_attr("k", value, subkey="s", number=3)
    assert slots(pool.attrs("k")) == [("s", 3, stored, datatype)]
    if datatype == "string":
        assert get_entities(attrs=[{"key": "k", "value": stored}]) == [pool]


def test_a_relation_and_what_http_cannot_hold(inventory: str) -> None:
    pool = Pool("p")
    pool.set_attr("rel", BasicServer("s"))
    assert pool.attr_value("rel") == "/server/s"
    assert pool.attrs("rel", value=BasicServer("s"), number=None, subkey=None) == pool.attrs("rel")
    with pytest.raises(ClustoError, match="value None"):
        pool.set_attr("k", None)  # type: ignore[arg-type]
    with pytest.raises(ClustoError, match="64 bits"):
        pool.set_attr("k", 2**63)


def test_del_attrs_takes_one(inventory: str) -> None:
    server = BasicServer("s")
    for number in (1, 2):
        server.set_port_attr("nic-eth", number, "mac", f"00:00:00:00:00:0{number}")
        server.set_port_attr("nic-eth", number, "vlan", 440 + number)
    server.del_attrs("port-nic-eth", subkey="mac", number=1)
    assert slots(server.attrs("port-nic-eth")) == [
        ("vlan", 1, 441, "int"),
        ("mac", 2, "00:00:00:00:00:02", "string"),
        ("vlan", 2, 442, "int"),
    ]
    server.del_attrs("port-nic-eth")
    assert server.attrs("port-nic-eth") == []


def test_ports(inventory: str) -> None:
    server, switch = BasicServer("s"), BasicNetworkSwitch("sw")
    with pytest.raises(ClustoError, match="no port nic-eth:3; basicserver has 2"):
        server.set_port_attr("nic-eth", 3, "mac", "x")
    for _ in range(2):
        server.connect_ports("nic-eth", 1, switch, 7)
    assert server.get_port_attr("nic-eth", 1, "connection") == "/networkswitch/sw"
    assert switch.get_port_attr("nic-eth", 7, "otherportnum") == 1
    with pytest.raises(ClustoError, match="is connected to /server/s"):
        BasicServer("t").connect_ports("nic-eth", 1, switch, 7)
    server.disconnect_port("nic-eth", 1)
    assert server.port_free("nic-eth", 1)
    assert switch.attrs("port-nic-eth") == []


def test_addresses(network: IPManager) -> None:
    a, b = BasicServer("a"), BasicServer("b")
    a.bind_ip_to_osport("192.168.1.50", "eth0")
    a.bind_ip_to_osport("192.168.1.51", "eth1")
    assert a.get_ips() == ["192.168.1.50", "192.168.1.51"]
    with pytest.raises(ClustoError, match=r"192\.168\.1\.50 belongs to /server/a"):
        b.bind_ip("192.168.1.50")
    with pytest.raises(NoSuchObject, match=r"manager of 1\.2\.3\.4"):
        b.bind_ip("1.2.3.4")
    a.unbind_ip("192.168.1.50")
    b.bind_ip("192.168.1.50")
    assert (a.get_ips(), b.get_ips()) == (["192.168.1.51"], ["192.168.1.50"])
    assert get_ip_manager("192.168.1.1") == network
    assert IPManager.get_devices("192.168.1.50") == [b]


def test_racks(inventory: str) -> None:
    rack, other, server, tall = BasicRack("r1"), BasicRack("r2"), PenguinServer("s"), PenguinServer2U("t")
    BasicDatacenter("dc").insert(rack)
    for _ in range(2):
        rack.insert(server, ru=2)
        rack.insert(tall, ru=[3, 4])
    assert rack.units() == {2: "/server/s", 3: "/server/t", 4: "/server/t"}
    assert (rack.get_device_in(4), rack.get_device_in(5)) == (tall, None)
    with pytest.raises(ClustoError, match="is already in rack r1"):
        other.insert(server, ru=3)
    with pytest.raises(ClustoError, match="unit 46; wanted 1 to 45"):
        other.insert(PenguinServer2U("u"), ru=[45, 46])
    rack.remove(tall)
    assert rack.contents() == [server]


def test_pools(inventory: str) -> None:
    outer, inner, server = Pool("outer"), Pool("inner"), BasicServer("s")
    outer.insert(inner)
    inner.insert(server)
    assert set(get_from_pools([outer])) == {inner, server}
    assert get_from_pools([outer, "inner"], ["server"]) == [server]
    UniquePool("u1").insert(server)
    with pytest.raises(ClustoError, match="PoolException"):
        UniquePool("u2").insert(server)
    inner.remove(server)
    assert inner.contents() == []
    server.delete()
    assert UniquePool("u1").contents() == []


def test_names_from_a_manager(inventory: str) -> None:
    manager = SimpleEntityNameManager("servernames", basename="s", digits=4, startingnum=7)
    assert [manager.allocate(PenguinServer).name for _ in range(3)] == ["s0007", "s0008", "s0009"]
    BasicServer("s0010")
    with pytest.raises(ClustoError, match="would allocate s0010, which exists"):
        manager.allocate(PenguinServer)
    assert manager._allocate_by_trying(PenguinServer) == get_by_name("s0011")
    assert manager.attr_value("next", subkey="property") == 7


def test_nobody_listens() -> None:
    connect("http://127.0.0.1:9", timeout=1)
    with pytest.raises(ClustoError, match=r"http://127\.0\.0\.1:9/query/get_by_name: no answer"):
        get_by_name("x")
