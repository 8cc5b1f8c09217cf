"""What has ports and addresses, and the managers of addresses; classes.py derives servers and switches from Device."""

from ipaddress import IPv4Address, IPv4Network
from typing import Any, Final

from control.clusto.client.api import ClustoError, failure
from control.clusto.client.objects import Driver, Scalar, api, get_by_name, object_of

_ADDRESS_BIAS: Final = 2**31


class IPManager(Driver):
    """A network; hands out nothing by itself, but every address that is bound has exactly one (CLUSTO-HTTPD 1.7)."""

    driver = "ipmanager"

    def __init__(
        self, name: str, baseip: str | None = None, netmask: str | None = None, gateway: str | None = None
    ) -> None:
        given = {"baseip": baseip, "netmask": netmask, "gateway": gateway}
        super().__init__(name, **{key: value for key, value in given.items() if value is not None})

    def properties(self) -> dict[str, Any]:
        return {attr.key: attr.value for attr in self.attrs(subkey="property")}

    def network(self) -> IPv4Network:
        """baseip/netmask; without baseip every address."""
        said = self.properties()
        return IPv4Network(
            f"{said.get('baseip', '0.0.0.0')}/{said['netmask'] if 'baseip' in said else '0.0.0.0'}", False
        )

    @staticmethod
    def get_ip_manager(ip: str) -> "IPManager":
        return get_ip_manager(ip)

    @staticmethod
    def get_devices(ip: str) -> list[Driver]:
        return [object_of(document) for document in _owners(ip)]


def get_ip_manager(ip: str) -> IPManager:
    """The one manager of an address; NoSuchObject when there is none or several."""
    path = api().query(f"the IP manager of {ip}, exactly one,", "get_ip_manager", {"ip": ip})
    _, type_, name = path.split("/", 2)
    return IPManager._known(name, type_)


def _owners(ip: str) -> list[dict[str, Any]]:
    """Show documents of those that have the address; unmanaged addresses are an error."""
    documents: list[dict[str, Any]] = api().query(f"the owners of {ip}", "get", {"name": ip})
    return documents


class Device(Driver):
    """What has ports and addresses."""

    driver = "device"

    def port_number(self, portnum: int | str) -> int:
        """Some drivers have names for ports.  Raises ClustoError."""
        if isinstance(portnum, str):
            raise ClustoError(f"{self!r}: no port is called {portnum!r}; wanted a number")
        return portnum

    def set_port_attr(self, porttype: str, portnum: int | str, key: str, value: "Scalar | Driver") -> None:
        """set_port_attr of HTTP stores everything as text, so it is left to text alone (CLUSTO-HTTPD 8.6)."""
        portnum = self.port_number(portnum)
        self._check_port(porttype, portnum)
        if isinstance(value, str):
            what = f"{self!r}.set_port_attr({porttype!r}, {portnum}, {key!r}, {value!r})"
            parameters = {"porttype": porttype, "portnum": str(portnum), "key": key, "value": value}
            response = api().request("GET", f"{self.path}/set_port_attr", parameters)
            if response.status_code == 200:
                return
            # An appliance has ports and no port actions (CLUSTO-HTTPD 4).
            if response.status_code != 404:
                raise failure(what, response, "wanted 200")
        self.set_attr(f"port-{porttype}", value, subkey=key, number=portnum)

    def get_port_attr(self, porttype: str, portnum: int | str, key: str) -> Any:
        """None when nothing is said.  Reads attributes: HTTP's get_port_attr fails on a connection."""
        portnum = self.port_number(portnum)
        self._check_port(porttype, portnum)
        return self.attr_value(f"port-{porttype}", subkey=key, number=portnum)

    def _check_port(self, porttype: str, portnum: int) -> None:
        if self.type != self.row().type or self.row().example:
            return  # a driver of the site's own, whose ports only the inventory knows
        count = self.row().ports.get(porttype, 0)
        if not 1 <= portnum <= count:
            raise ClustoError(f"{self!r}: no port {porttype}:{portnum}; {self.driver} has {count} of {porttype}")

    def port_free(self, porttype: str, portnum: int | str) -> bool:
        return self.get_port_attr(porttype, portnum, "connection") in (None, "")

    def connect_ports(self, porttype: str, portnum: int | str, other: "Device", otherportnum: int | str) -> None:
        """Both ends or an error before anything is written; the same connection again is none.

        Our own end comes last: interrupted anywhere it is free still, and the repetition completes it."""
        portnum, otherportnum = self.port_number(portnum), other.port_number(otherportnum)
        key = f"port-{porttype}"
        ends = ((other, otherportnum, self, portnum), (self, portnum, other, otherportnum))
        said = []
        for device, num, far, farnum in ends:
            at = device.get_port_attr(porttype, num, "connection")
            number = device.get_port_attr(porttype, num, "otherportnum")
            if at not in (None, "", far.path) or (at == far.path and number not in (None, farnum)):
                raise ClustoError(f"{device!r} {porttype}:{num} is connected to {at}:{number}; wanted a free port")
            said.append((at, number))
        for (device, num, _far, farnum), (_at, number) in zip(ends, said, strict=True):
            if number != farnum:
                device.set_attr(key, farnum, subkey="otherportnum", number=num)
        for (device, num, far, _farnum), (at, _number) in zip(ends, said, strict=True):
            if at != far.path:
                device.set_attr(key, far, subkey="connection", number=num)

    def disconnect_port(self, porttype: str, portnum: int | str) -> None:
        portnum = self.port_number(portnum)
        far = self.get_port_attr(porttype, portnum, "connection")
        farnum = self.get_port_attr(porttype, portnum, "otherportnum")
        ends: list[tuple[Driver, int]] = [(self, portnum)]
        if far and isinstance(farnum, int):
            ends.append((get_by_name(far.rpartition("/")[2]), farnum))
        for device, num in ends:
            for subkey in ("connection", "otherportnum"):
                device.del_attrs(f"port-{porttype}", subkey=subkey, number=num)

    def bind_ip_to_osport(
        self, ip: str, osportname: str, porttype: str | None = None, portnum: int | None = None
    ) -> None:
        """porttype, portnum: the port that the name is of, where that is to be noted, too."""
        self.bind_ip(ip, osportname)
        if porttype is not None and portnum is not None:
            self.set_port_attr(porttype, portnum, "osportname", osportname)

    def bind_ip(self, ip: str, osportname: str | None = None) -> None:
        """Four or five attributes with one number (CLUSTO-HTTPD 1.7, 9); checks that the address is managed and free.

        Looks once more when they are written: of two who bind one address at a time, at least one gets an error.
        """
        address = IPv4Address(ip)
        what = f"{self!r}.bind_ip({ip!r})"
        manager = get_ip_manager(ip)
        owners = [document["object"] for document in _owners(ip)]
        own = self.attrs("ip")
        if owners == [self.path]:
            number = next(a.number for a in own if a.subkey is None and a.value == int(address) - _ADDRESS_BIAS)
        elif owners:
            raise ClustoError(f"{what}: {ip} belongs to {', '.join(owners)}; wanted a free address")
        else:
            number = 1 + max((attr.number for attr in own if attr.number is not None), default=-1)
        group = {attr.subkey: attr.value for attr in own if attr.number == number}
        wanted: list[tuple[str | None, Scalar | Driver]] = [
            (None, int(address) - _ADDRESS_BIAS),
            ("manager", manager),
            ("ipstring", str(address)),
            ("cidr", f"{address}/{manager.network().prefixlen}"),
        ]
        if osportname is not None:
            wanted.append(("osportname", osportname))
        for subkey, value in wanted:
            if group.get(subkey) != (value.path if isinstance(value, Driver) else value):
                self.set_attr("ip", value, subkey=subkey, number=number)
        owners = [document["object"] for document in _owners(ip)]
        if owners != [self.path]:
            self.del_attrs("ip", number=number)
            raise ClustoError(f"{what}: bound by {', '.join(owners)} at the same time; released here again")

    def unbind_ip(self, ip: str) -> None:
        for attr in self.attrs("ip", subkey="ipstring", value=ip):
            self.del_attrs("ip", number=attr.number)

    def get_ips(self) -> list[str]:
        return [str(value) for value in self.attr_values("ip", subkey="ipstring")]
