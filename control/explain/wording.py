"""Verdicts, client classes and stages in the words of somebody who has never read an RFC.  Pure."""

from __future__ import annotations

from typing import Any, Final

from ext.classify import ClientClass, ClientState
from ext.verdict import Verdict

# Verdict -> (what it means, what to do; "" when there is nothing to do).
VERDICTS: Final[dict[str, tuple[str, str]]] = {
    "OFFERED": ("we offer it an address; it has to ask for it next", ""),
    "ACKED": ("we confirm its address", ""),
    "ACKED_INFORM": ("it has its address already, we tell it the rest", ""),
    "ANSWERED_BOOTP": ("an old BOOTP client: we tell it its address", ""),
    "OFFERED_PROXY": ("another server gives it an address, we tell it what to boot", ""),
    "ACKED_BOOT": ("it has its address already and asks at port 4011 what to boot; we tell it", ""),
    "NAKED": (
        "we refuse the address that it asks for: it is not this machine's here",
        "nothing, if once: it asks anew; again and again: look for a second server, or a client that remembers wrongly",
    ),
    "NOTED_RELEASE": ("it gives its address back; the address stays bound to it, and nothing is answered", ""),
    "NOTED_DECLINE": (
        "it refuses the address that we gave it: somebody else on its link uses it",
        "find the other user of the address, for instance with arping",
    ),
    "IGNORED_NO_TABLE": (
        "there is no table yet: the inventory has not been read",
        "bring the inventory up; `bootstorm ctl status` says why it cannot be read",
    ),
    "IGNORED_TRUNCATED": ("it is longer than a receive buffer", "see what sends such a datagram: no DHCP client does"),
    "IGNORED_SHORT": ("it is shorter than any DHCP message", "see what sends it: no DHCP client does"),
    "IGNORED_NOT_REQUEST": ("it is a server's reply, not a request", ""),
    "IGNORED_COOKIE": ("it lacks the four bytes that tell DHCP from old BOOTP", "a BOOTP client: not served"),
    "IGNORED_HARDWARE": ("its hardware address has an impossible length", "see what sends it: it is broken or forged"),
    "IGNORED_BOOTP": ("it says no message type: plain BOOTP", "switch the machine to DHCP; BOOTP is not served"),
    "IGNORED_MESSAGE_TYPE": ("only servers send this message, or nobody", "see what sends it"),
    "IGNORED_INTERFACE": (
        "it came in on an interface that dhcp.interfaces leaves out",
        "add the interface to dhcp.interfaces if it shall be served",
    ),
    "IGNORED_GIADDR": (
        "the relay's address in it (giaddr) can be no relay's: ours, a broadcast, loopback or multicast",
        "look at the relay with that address",
    ),
    "IGNORED_RELAY": ("its relay is not in dhcp.relays", "add the relay to the list if it is yours"),
    "IGNORED_UNKNOWN_MAC": (
        "the inventory has no machine with this MAC address",
        "a new machine: add it; a known one: compare the MAC with those of its port-nic-eth (another card?)",
    ),
    "IGNORED_DISABLED": (
        "the machine is known, but DHCP is not enabled for it",
        "set dhcp enabled = 1 on the machine or on a container of it",
    ),
    "IGNORED_OTHER_PORT": (
        "the machine is known, and this is a network card of it that is not served",
        "let it boot from a port that boot_ports names, or add this one: dhcp.boot_ports, or dhcp boot_ports of the "
        "machine or a container of it",
    ),
    "IGNORED_NO_ADDRESS": ("the machine is known, but no address is bound to it", "bind one in the inventory"),
    "IGNORED_CONFLICT": (
        "its MAC or its address belongs to two objects of the inventory, or its address is the server's own",
        "take it from the wrong one",
    ),
    "IGNORED_QUARANTINED": (
        "the machine's record in the inventory cannot be used",
        "correct what the reason names (`bootstorm ctl lookup` says it, too)",
    ),
    "IGNORED_BMC": (
        "a management card that shares the machine's MAC address asks, and no address is bound to the card",
        "bind an address to the card's port in the inventory if it shall have one",
    ),
    "IGNORED_OTHER_LINK": (
        "none of its addresses belongs to the network that it asks from",
        "plugged into another network than the inventory thinks? netmask of the IP manager, or the relay, wrong? two "
        "networks on one wire without a common dhcp shared?",
    ),
    "IGNORED_OTHER_SERVER": (
        "it takes another server's offer, and tells us so",
        "list its id in dhcp.server_ids if it is a replica or a VIP of ours; nothing, if it is wanted; else stop it",
    ),
    "IGNORED_CIADDR": (
        "it uses an address that is not its own",
        "its address changed (it moves when its lease ends; restart its client), or was set by hand",
    ),
    "IGNORED_PROXY": (
        "another server gives this machine its address, and this does not ask for what it boots, or nothing is set",
        "nothing, if the other server answers it; for a boot file that is missing: set tftp_filename",
    ),
    "IGNORED_BOOT_PORT": (
        "it came to port 4011 and asks nothing that is answered there: only ROMs that have an address ask there, "
        "with that address in ciaddr, and no relay passes it on",
        "see what sends it: forged, or a ROM behind address translation",
    ),
    "IGNORED_NAK_UNKNOWN_LINK": (
        "it asks for a wrong address, on a network that no IP manager contains",
        "make an IP manager for that network, or see why the machine came there",
    ),
    "IGNORED_NAK_STALE_TABLE": (
        "it asks for another address than the table says, and the table is too old to be sure",
        "bring the inventory back; until then nobody is refused",
    ),
    "IGNORED_NO_SERVER_ID": (
        "the server has no address on the interface to answer with",
        "give the interface an IPv4 address",
    ),
    "IGNORED_NO_ROOM": (
        "not even what every reply must say fits into what it takes",
        "a client or relay with a tiny limit: look at options 57, 61 and 82, and at the interface's MTU",
    ),
    "ABANDONED": ("such a datagram ended three workers", "a fault of ours: report it with this capture"),
    "IGNORED_LATE": (
        "the server had more to do than it could, and this one had waited until its client asked anew",
        "nothing: the client's next try is under way; if it lasts, give the server more cores",
    ),
    "IGNORED_SHARE": (
        "the server had more to do than it could, and this relay had had its share",
        "look at what that relay sends; if all of it is machines, give the server more cores",
    ),
    "IGNORED_CHECKSUM": (
        "its UDP checksum does not fit: the datagram was damaged on its way",
        "nothing if it is one; many from one relay or switch: that device damages packets",
    ),
    "IGNORED_HELD": (
        "an operator holds it: it is not answered, whatever the inventory says",
        "`ctl overrides` says who and until when; `ctl release` ends it",
    ),
}  # fmt: skip

CLASSES: Final[dict[str, str]] = {
    "os": "an operating system, an installer or a management card",
    "bios-pxe": "the network boot ROM of a BIOS (PXE)",
    "uefi-ia32": "network boot of 32-bit UEFI firmware",
    "uefi-x64": "network boot of 64-bit UEFI firmware",
    "uefi-arm64": "network boot of 64-bit ARM UEFI firmware",
    "http-boot": "UEFI firmware that boots from a URL",
    "ipxe": "the boot loader iPXE",
    "ipxe-http": "the boot loader iPXE, a build that can load over HTTP",
    "raspberry-pi": "the boot ROM of a Raspberry Pi",
    "pxe": "a network boot ROM of a processor that is not registered",
    "bmc": "a management card",
    "pc98": "the network boot ROM of a NEC PC-98",
    "uefi-itanium": "network boot of Itanium firmware",
    "dec-alpha": "network boot of a DEC Alpha",
    "arc-x86": "network boot of ARC firmware",
    "intel-lean-client": "network boot of an Intel Lean Client",
    "uefi-xscale": "network boot of XScale UEFI firmware",
    "uefi-arm32": "network boot of 32-bit ARM UEFI firmware",
    "power-open-firmware": "network boot of POWER, Open Firmware",
    "power-epapr": "network boot of POWER, ePAPR",
    "power-opal": "network boot of POWER, OPAL (Petitboot)",
    "uboot-arm32": "the boot loader U-Boot on 32-bit ARM",
    "uboot-arm64": "the boot loader U-Boot on 64-bit ARM",
    "uefi-riscv32": "network boot of 32-bit RISC-V UEFI firmware",
    "uefi-riscv64": "network boot of 64-bit RISC-V UEFI firmware",
    "uefi-riscv128": "network boot of 128-bit RISC-V UEFI firmware",
    "s390-basic": "network boot of s390",
    "s390-extended": "network boot of s390, extended",
    "uefi-mips32": "network boot of 32-bit MIPS UEFI firmware",
    "uefi-mips64": "network boot of 64-bit MIPS UEFI firmware",
    "uefi-sunway32": "network boot of 32-bit Sunway UEFI firmware",
    "uefi-sunway64": "network boot of 64-bit Sunway UEFI firmware",
    "uefi-loongarch32": "network boot of 32-bit LoongArch UEFI firmware",
    "uefi-loongarch64": "network boot of 64-bit LoongArch UEFI firmware",
    "rpiboot-arm": "rpiboot of an ARM Raspberry Pi",
} | {
    f"http-boot-{cpu}": f"{firmware} firmware that boots from a URL"
    for cpu, firmware in (
        ("ia32", "32-bit UEFI"), ("x64", "64-bit UEFI"), ("ebc", "EBC UEFI"), ("arm32", "32-bit ARM UEFI"),
        ("arm64", "64-bit ARM UEFI"), ("bios", "BIOS"), ("uboot-arm32", "32-bit ARM U-Boot"),
        ("uboot-arm64", "64-bit ARM U-Boot"), ("riscv32", "32-bit RISC-V UEFI"), ("riscv64", "64-bit RISC-V UEFI"),
        ("riscv128", "128-bit RISC-V UEFI"), ("loongarch32", "32-bit LoongArch UEFI"),
        ("loongarch64", "64-bit LoongArch UEFI"),
    )
}  # fmt: skip


# What a reply says, by purpose and in this order.  Header fields of the message have negative codes.
YOUR_ADDRESS, NEXT_SERVER, BOOT_FILE = -1, -66, -67
FIELDS: Final[dict[str, int]] = {"address": YOUR_ADDRESS, "next_server": NEXT_SERVER, "boot_file": BOOT_FILE}
SAME_AS: Final[dict[int, int]] = {NEXT_SERVER: 66, BOOT_FILE: 67}  # told twice: ROMs read one or the other
PURPOSES: Final[dict[str, dict[int, str]]] = {
    "network": {
        YOUR_ADDRESS: "its address", 1: "netmask", 3: "gateway, the way out", 28: "broadcast address",
        6: "DNS servers", 15: "DNS domain", 119: "domains to look in", 12: "its host name", 121: "further routes",
        26: "largest packet (MTU)", 42: "time servers",
    },
    "lease": {
        51: "the address is its own for", 58: "it asks us to prolong after", 59: "it asks anybody after",
    },
    "boot": {
        NEXT_SERVER: "boot server", 66: "boot server", BOOT_FILE: "boot file", 67: "boot file", 60: "kind of boot",
        43: "for its firmware", 97: "its GUID", 175: "for iPXE", 208: "PXELINUX mark", 209: "PXELINUX configuration",
        210: "PXELINUX path",
    },
    "besides": {
        54: "who answers", 56: "why", 61: "its own name, given back", 82: "the relay's note, given back",
        52: "goes on in unused fields",
    },
}  # fmt: skip
PLAIN: Final[dict[int, str]] = {code: words for each in PURPOSES.values() for code, words in each.items()}


def purpose_of(code: int) -> tuple[str, int, str]:
    """(group of PURPOSES, place in it, plain words) of an option or header field."""
    for group, words in PURPOSES.items():
        if code in words:
            return group, list(words).index(code), words[code]
    return "besides", 1000 + code, "setting"


def verdict_words(name: str) -> tuple[str, str]:
    return VERDICTS[Verdict[name].name]


def class_name(client: ClientClass) -> str:
    return str(client.name).lower().replace("_", "-")


STATES: Final[dict[ClientState, tuple[str, str]]] = {  # of who sends a REQUEST, RFC 2131 figure 5
    ClientState.SELECTING: ("REQUEST, selecting", "takes an offer"),
    ClientState.INIT_REBOOT: ("REQUEST, init-reboot", "has booted and wants the address that it had"),
    ClientState.RENEWING: ("REQUEST, renewing", "asks its server to prolong its lease"),
    ClientState.REBINDING: ("REQUEST, rebinding", "asks any server to prolong its lease"),
    ClientState.NAMELESS: ("REQUEST", "asks for an address without naming one"),
}


def stage_of(request: dict[str, Any], at_boot_port: bool = False) -> tuple[str, str]:
    """(name, words) of where a client stands, as it says itself.  request: ext.codec.Trace.request."""
    kind = request["message_type"]
    if at_boot_port and kind in (3, 8):
        return "REQUEST at port 4011", "has an address, asks PXE's boot service what to boot"
    if kind == 1:
        return "DISCOVER", "looks for a server and an address"
    if kind == 4:
        return "DECLINE", "refuses an address that somebody else uses"
    if kind == 7:
        return "RELEASE", "gives its address back"
    if kind == 8:
        return "INFORM", "has an address, asks for the rest"
    if kind == 3:
        return STATES[request["client_state"]]
    return f"message type {kind}", "no client's message"
