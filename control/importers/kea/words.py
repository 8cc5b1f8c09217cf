"""Keys of kea-dhcp4.conf that a host file needs nothing of, and those that it cannot have.  Data only."""

from __future__ import annotations

from typing import Final

_RUN: Final = "it is about how that process runs"
_DNS: Final = "this server changes no DNS"
_LEASES: Final = "leases are not kept: the inventory says who has which address"
_OTHERS: Final = "machines that are not in the inventory get no answer"
_RENEWAL: Final = "T1 and T2 are 1/2 and 7/8 of the lease unless they are said"
_HOSTS: Final = "the hosts of the file are the hosts"
_WISH: Final = "a client gets lease_time, whatever it asks for"

# Of whatever level they stand on.
NEEDLESS: Final[dict[str, str]] = {
    **dict.fromkeys(
        [
            "control-socket",
            "control-sockets",
            "loggers",
            "statistic-default-sample-count",
            "statistic-default-sample-age",
            "dhcp-queue-control",
            "multi-threading",
            "config-control",
            "server-tag",
            "sanity-checks",
            "user-context",
            "comment",
            "compatibility",
            "parked-packet-limit",
            "early-global-reservations-lookup",
            "ip-reservations-unique",
            "reservations-lookup-first",
            "host-reservation-identifiers",
            "echo-client-id",
            "match-client-id",
            "authoritative",
            "stash-agent-options",
            "allow-address-registration",
            "metadata",
        ],
        _RUN,
    ),
    **dict.fromkeys(
        [
            "dhcp-ddns",
            "ddns-send-updates",
            "ddns-override-no-update",
            "ddns-override-client-update",
            "ddns-replace-client-name",
            "ddns-generated-prefix",
            "ddns-qualifying-suffix",
            "ddns-update-on-renew",
            "ddns-use-conflict-resolution",
            "ddns-conflict-resolution-mode",
            "ddns-ttl",
            "ddns-ttl-percent",
            "ddns-ttl-min",
            "ddns-ttl-max",
            "hostname-char-set",
            "hostname-char-replacement",
        ],
        _DNS,
    ),
    **dict.fromkeys(
        [
            "lease-database",
            "expired-leases-processing",
            "cache-threshold",
            "cache-max-age",
            "store-extended-info",
            "decline-probation-period",
        ],
        _LEASES,
    ),
    **dict.fromkeys(["allocator", "pd-allocator", "offer-lifetime"], _OTHERS),
    **dict.fromkeys(["calculate-tee-times", "t1-percent", "t2-percent"], _RENEWAL),
    **dict.fromkeys(
        ["reservation-mode", "reservations-global", "reservations-in-subnet", "reservations-out-of-pool"], _HOSTS
    ),
    **dict.fromkeys(["min-valid-lifetime", "max-valid-lifetime"], _WISH),
    "4o6-interface": "it is IPv6's",
    "4o6-interface-id": "it is IPv6's",
    "4o6-subnet": "it is IPv6's",
    "interface": "the address that a request comes to names its network",
    "relay": "giaddr or option 82 names the network of a request",
}

LOST: Final[dict[str, str]] = {
    "interfaces-config": "say dhcp.interfaces in services.conf",
    "hooks-libraries": "what a hook does is not known",
    "hosts-database": "hosts of a database are not read: dump them into the file",
    "hosts-databases": "hosts of a database are not read: dump them into the file",
    "server-hostname": "the field sname is not sent; firmware reads the boot server from siaddr and option 66",
    "pools": "only machines of the inventory get an address, each its own",
    "client-class": "a network is for every client whose address is in it",
    "client-classes": "a network is for every client whose address is in it",
}
