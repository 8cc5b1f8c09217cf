"""Which DHCPv4 options exist, what they are called and how their values are written; rendering.py encodes by it.

Codes and lengths: IANA's bootp-dhcp-parameters (its 2026-02 state) and the RFC of each row.  A row's first name is the
original clusto-dhcpd's (scapy 2.3.3 and the shipped extra_options) where it had one; today's scapy's comes next, then
those of ISC dhcpd, dnsmasq and the registry, because people copy them.  Codes without a row are those of UNASSIGNED
and PRIVATE: `option_by_code` gives them Kind.RAW.  Data only; imports nothing of ours.
"""

import enum
from dataclasses import dataclass


class Kind(enum.Enum):
    """How an attribute's value becomes the option's payload; the text is what an operator is told to write."""

    ADDRESS = "one IPv4 address"
    ADDRESSES = "one or more IPv4 addresses, separated by commas or spaces"
    PAIRS = "pairs of IPv4 addresses, separated by commas or spaces"
    IPV6 = "one IPv6 address"
    INT8 = "a whole number 0..255"
    INT8S = "whole numbers 0..255, separated by commas or spaces"
    INT16 = "a whole number 0..65535"
    INT16S = "whole numbers 0..65535, separated by commas or spaces"
    INT32 = "a whole number 0..4294967295"
    SINT8 = "a whole number -128..127"
    SINT32 = "a whole number -2147483648..2147483647"
    FLAG = "0 or 1 (or false/true, no/yes, off/on)"
    TEXT = "text without control characters"
    HOST_NAME = "a host name: labels of 1..63 letters, digits and hyphens with dots between (or text:NAME, unchecked)"
    TEXT_NUL = "text without control characters (sent with a NUL behind it)"
    HEX = "bytes in hexadecimal, such as f1:00:75:7e or 0xf100757e"
    RAW = "text without control characters, or bytes as 0xf100757e or f1:00:75:7e"
    URIS = "one or more URIs, separated by spaces"
    DOMAIN = "one domain name"
    DOMAINS = "one or more domain names, separated by commas or spaces"
    SEARCH = "one or more domain names to search, separated by commas or spaces"
    NAMES_OR_ADDRESSES = "either domain names or IPv4 addresses, separated by commas or spaces"
    ADDRESS_LISTS = "IPv4 addresses of one server, separated by commas or spaces, and a ; before the next server's"
    ROUTES = "routes such as 10.0.0.0/8 10.1.1.1, 172.16.0.0/12 10.1.1.2"
    RECORD = "the fields of FIELDS in their order, separated by commas or spaces"
    SUBOPTIONS = "sub-options NAME=VALUE or NUMBER=VALUE, separated by commas"
    VENDOR = "text, bytes as 0x0104 or 01:04, or PXE sub-options such as discovery-control=8, menu-prompt=10 Press F8"
    VENDOR_CLASSES = "enterprise 9: text, 0x0102; enterprise 4491: other"
    VENDOR_OPTIONS = "enterprise 9: 1=0x0102, 2=text; enterprise 4491: 1=u16:7"
    PXE_SERVERS = (
        "a server type 0..65535 and its IPv4 addresses, then the next type, as in 0 10.0.0.1 15 10.0.0.2 10.0.0.3"
    )
    PXE_MENU = 'a server type 0..65535 and its line, as in 0 "Local disk" 15 Install'
    UNTYPED = "a value that says its type: u8:5, u16:5, u32:5, ip:10.0.0.1, text:5, hex:05, 0x05 or words"
    COMPUTED = "no attribute: this option is never taken from the inventory"


@dataclass(frozen=True, slots=True)
class Option:
    """One option: its code (1..254), the name to show, how its values are written.

    space: 0 for an option of the packet, for a sub-option the code of the option that carries it, NO_SPACE for a field.
    """

    code: int
    name: str
    kind: Kind
    space: int = 0


NO_SPACE = -1

# Code, kind, names separated by blanks: the first one is shown, all are found.
ROWS: tuple[tuple[int, Kind, str], ...] = (
    # RFC 2132 section 3: vendor extensions of RFC 1497
    (1, Kind.ADDRESS, "subnet_mask"),
    (2, Kind.SINT32, "time_zone time-offset"),
    (3, Kind.ADDRESSES, "router routers gateway"),
    (4, Kind.ADDRESSES, "time_server time-servers"),
    (5, Kind.ADDRESSES, "IEN_name_server ien116-name-servers"),
    (6, Kind.ADDRESSES, "name_server domain-name-servers domain-name-server dns-server"),
    (7, Kind.ADDRESSES, "log_server log-servers"),
    (8, Kind.ADDRESSES, "cookie_server cookie-servers quotes-server"),
    (9, Kind.ADDRESSES, "lpr_server lpr-servers"),
    (10, Kind.ADDRESSES, "impress-servers impress-server"),
    (11, Kind.ADDRESSES, "resource-location-servers rlp-server"),
    (12, Kind.HOST_NAME, "hostname host-name"),  # RFC 1123 section 2.1
    (13, Kind.INT16, "boot-size boot-file-size"),
    (14, Kind.TEXT, "dump_path merit-dump"),
    (15, Kind.TEXT, "domain domain-name"),
    (16, Kind.ADDRESS, "swap-server"),
    (17, Kind.TEXT, "root_disk_path root-path"),
    (18, Kind.TEXT, "extensions-path"),
    # sections 4 and 5: IP layer, per host and per interface
    (19, Kind.FLAG, "ip-forwarding"),
    (20, Kind.FLAG, "non-local-source-routing"),
    (21, Kind.PAIRS, "policy-filter"),
    (22, Kind.INT16, "max_dgram_reass_size max-dgram-reassembly"),
    (23, Kind.INT8, "default_ttl default-ip-ttl"),
    (24, Kind.INT32, "pmtu_timeout path-mtu-aging-timeout"),
    (25, Kind.INT16S, "path-mtu-plateau-table"),
    (26, Kind.INT16, "interface-mtu mtu"),
    (27, Kind.FLAG, "all-subnets-local"),
    (28, Kind.ADDRESS, "broadcast_address broadcast"),
    (29, Kind.FLAG, "perform-mask-discovery"),
    (30, Kind.FLAG, "mask-supplier"),
    (31, Kind.FLAG, "router-discovery"),
    (32, Kind.ADDRESS, "router-solicitation-address"),
    (33, Kind.PAIRS, "static-routes static-route"),
    # sections 6 and 7: link layer, TCP
    (34, Kind.FLAG, "trailer-encapsulation"),
    (35, Kind.INT32, "arp_cache_timeout arp-timeout"),
    (36, Kind.FLAG, "ether_or_dot3 ieee802-3-encapsulation"),
    (37, Kind.INT8, "tcp_ttl default-tcp-ttl"),
    (38, Kind.INT32, "tcp_keepalive_interval"),
    (39, Kind.FLAG, "tcp_keepalive_garbage"),
    # section 8: applications and services
    (40, Kind.TEXT, "NIS_domain"),
    (41, Kind.ADDRESSES, "NIS_server nis-servers"),
    (42, Kind.ADDRESSES, "NTP_server ntp-servers"),
    (43, Kind.VENDOR, "vendor_specific vendor-encapsulated-options"),
    (44, Kind.ADDRESSES, "NetBIOS_server netbios-name-servers"),
    (45, Kind.ADDRESSES, "NetBIOS_dist_server netbios-dd-server"),
    (46, Kind.INT8, "NetBIOS_node_type"),
    (47, Kind.TEXT, "netbios-scope"),
    (48, Kind.ADDRESSES, "font-servers"),
    (49, Kind.ADDRESSES, "x-display-manager"),
    # section 9: DHCP itself
    (50, Kind.COMPUTED, "requested_addr dhcp-requested-address"),
    (51, Kind.INT32, "lease_time dhcp-lease-time"),
    (52, Kind.COMPUTED, "dhcp-option-overload"),
    (53, Kind.COMPUTED, "message-type dhcp-message-type"),
    (54, Kind.ADDRESS, "server_id dhcp-server-identifier server-identifier"),
    (55, Kind.COMPUTED, "param_req_list dhcp-parameter-request-list"),
    (56, Kind.TEXT, "error_message dhcp-message"),
    (57, Kind.INT16, "max_dhcp_size dhcp-max-message-size"),
    (58, Kind.INT32, "renewal_time dhcp-renewal-time"),
    (59, Kind.INT32, "rebinding_time dhcp-rebinding-time"),
    (60, Kind.TEXT, "vendor_class_id vendor-class-identifier"),
    (61, Kind.COMPUTED, "client_id dhcp-client-identifier"),
    (62, Kind.TEXT, "nwip-domain-name nwip-domain"),  # RFC 2242
    (63, Kind.SUBOPTIONS, "nwip-suboptions"),  # RFC 2242
    (64, Kind.TEXT, "NISplus_domain"),
    (65, Kind.ADDRESSES, "NISplus_server nisplus-servers"),
    (66, Kind.TEXT_NUL, "tftp_server tftp_server_name"),
    (67, Kind.TEXT_NUL, "tftp_filename boot-file-name bootfile-name"),
    (68, Kind.ADDRESSES, "mobile-ip-home-agent"),
    (69, Kind.ADDRESSES, "SMTP_server"),
    (70, Kind.ADDRESSES, "POP3_server pop-server"),
    (71, Kind.ADDRESSES, "NNTP_server"),
    (72, Kind.ADDRESSES, "WWW_server"),
    (73, Kind.ADDRESSES, "Finger_server"),
    (74, Kind.ADDRESSES, "IRC_server"),
    (75, Kind.ADDRESSES, "StreetTalk_server"),
    (76, Kind.ADDRESSES, "StreetTalk_Dir_Assistance streettalk-directory-assistance-server"),
    # later RFCs
    (77, Kind.RAW, "user_class"),  # RFC 3004; in the field plain text as often as counted strings
    (78, Kind.RECORD, "slp_service_agent slp-directory-agent"),  # RFC 2610
    (79, Kind.RECORD, "slp_service_scope"),  # RFC 2610
    (80, Kind.COMPUTED, "rapid_commit"),  # RFC 4039
    (81, Kind.HEX, "client_FQDN"),  # RFC 4702; flags and form answer the client's own, which no attribute knows
    (82, Kind.COMPUTED, "relay_agent_Information"),  # RFC 3046
    (83, Kind.RECORD, "isns"),  # RFC 4174
    (85, Kind.ADDRESSES, "nds-server nds-servers"),  # RFC 2241
    (86, Kind.TEXT, "nds-tree-name"),
    (87, Kind.TEXT, "nds-context"),
    (88, Kind.DOMAINS, "bcms-controller-names bcms-controller-namesi"),  # RFC 4280; scapy spells it with an i
    (89, Kind.ADDRESSES, "bcms-controller-address"),
    (90, Kind.COMPUTED, "authentication"),  # RFC 3118
    (91, Kind.COMPUTED, "client-last-transaction-time"),  # RFC 4388
    (92, Kind.COMPUTED, "associated-ip"),  # RFC 4388
    (93, Kind.INT16S, "pxe_client_architecture"),  # RFC 4578
    (94, Kind.RECORD, "pxe_client_network_interface"),  # RFC 4578
    (95, Kind.TEXT, "ldap"),  # RFC 3679
    (97, Kind.HEX, "pxe_client_machine_identifier"),  # RFC 4578
    (98, Kind.TEXT, "uap-servers"),  # RFC 2485
    (99, Kind.HEX, "geoconf-civic"),  # RFC 4776
    (100, Kind.TEXT, "pcode"),  # RFC 4833
    (101, Kind.TEXT, "tcode"),  # RFC 4833
    (108, Kind.INT32, "ipv6-only-preferred"),  # RFC 8925
    (109, Kind.IPV6, "dhcp4o6-s46-saddr"),  # RFC 8539
    (112, Kind.ADDRESSES, "netinfo-server-address"),  # RFC 3679
    (113, Kind.TEXT, "netinfo-server-tag"),  # RFC 3679
    (114, Kind.TEXT, "captive-portal default-url"),  # RFC 8910; before that a URL, as ONIE and ISC dhcpd still have it
    (116, Kind.FLAG, "auto-config"),  # RFC 2563
    (117, Kind.INT16S, "name-service-search"),  # RFC 2937
    (118, Kind.COMPUTED, "subnet-selection"),  # RFC 3011
    (119, Kind.SEARCH, "domain-search domain-search-list"),  # RFC 3397
    (120, Kind.NAMES_OR_ADDRESSES, "sip-servers sip-server"),  # RFC 3361
    (121, Kind.ROUTES, "classless_static_routes classless-static-route rfc3442-classless-static-routes"),  # RFC 3442
    (122, Kind.SUBOPTIONS, "cablelabs-client-configuration"),  # RFC 3495, 3634
    (123, Kind.HEX, "geoconf"),  # RFC 6225
    (124, Kind.VENDOR_CLASSES, "vendor_class vivco"),  # RFC 3925
    (125, Kind.VENDOR_OPTIONS, "vendor_specific_information vivso"),  # RFC 3925; the name as scapy has it
    (128, Kind.ADDRESSES, "tftp_server_ip_address"),  # PXE vendors (RFC 4578), IP telephones
    # 129-135: "vendor specific" of PXE; every maker of telephones and boot ROMs writes other things into them
    *((code, Kind.RAW, f"pxe-vendor-{code}") for code in range(129, 136)),
    (136, Kind.ADDRESSES, "pana-agent"),  # RFC 5192
    (137, Kind.DOMAIN, "v4-lost"),  # RFC 5223
    (138, Kind.ADDRESSES, "capwap-ac-v4"),  # RFC 5417
    (139, Kind.SUBOPTIONS, "ipv4-address-mos"),  # RFC 5678
    (140, Kind.SUBOPTIONS, "ipv4-fqdn-mos"),  # RFC 5678
    (141, Kind.DOMAINS, "sip_ua_service_domains"),  # RFC 6011
    (142, Kind.ADDRESSES, "ipv4-address-andsf"),  # RFC 6153
    (143, Kind.URIS, "v4-sztp-redirect"),  # RFC 8572
    (144, Kind.HEX, "geoloc"),  # RFC 6225
    (145, Kind.INT8S, "forcerenew_nonce_capable"),  # RFC 6704
    (146, Kind.RECORD, "rdnss-selection"),  # RFC 6731
    (147, Kind.DOMAIN, "v4-dots-ri"),  # RFC 8973
    (148, Kind.ADDRESSES, "v4-dots-address"),  # RFC 8973
    (150, Kind.ADDRESSES, "tftp_server_address"),  # RFC 5859
    (151, Kind.COMPUTED, "status-code"),  # 151-157: RFC 6926
    (152, Kind.COMPUTED, "base-time"),
    (153, Kind.COMPUTED, "start-time-of-state"),
    (154, Kind.COMPUTED, "query-start-time"),
    (155, Kind.COMPUTED, "query-end-time"),
    (156, Kind.COMPUTED, "dhcp-state"),
    (157, Kind.COMPUTED, "data-source"),
    (158, Kind.ADDRESS_LISTS, "v4-pcp-server"),  # RFC 7291
    (159, Kind.RECORD, "v4-portparams"),  # RFC 7618
    (160, Kind.TEXT, "v4-captive-portal"),  # RFC 7710; replaced by 114, still read by old clients
    (161, Kind.TEXT, "mud-url"),  # RFC 8520
    (162, Kind.HEX, "v4-dnr"),  # RFC 9463
    (175, Kind.SUBOPTIONS, "etherboot ipxe-encap-opts ipxe"),  # 175-177: tentative since 2005; 175 is iPXE's
    (176, Kind.TEXT, "ip-telephone"),
    (177, Kind.HEX, "packetcable"),
    (203, Kind.TEXT, "iscsi-initiator-iqn"),  # unassigned, but iPXE's
    (208, Kind.HEX, "pxelinux-magic"),  # 208-211: RFC 5071
    (209, Kind.TEXT, "pxelinux-configfile pxelinux_configuration_file"),
    (210, Kind.TEXT, "pxelinux-pathprefix pxelinux_path_prefix"),
    (211, Kind.INT32, "pxelinux-reboottime pxelinux_reboot_time"),
    (212, Kind.RECORD, "option-6rd 6rd"),  # RFC 5969
    (213, Kind.DOMAIN, "v4-access-domain"),  # RFC 5986
    (220, Kind.HEX, "subnet-allocation"),  # RFC 6656
    (221, Kind.HEX, "virtual-subnet-selection vss"),  # RFC 6607
    # private use, but everybody means the same by them
    (249, Kind.ROUTES, "ms-classless-static-routes"),  # Microsoft's 121
    (252, Kind.TEXT, "wpad wpad-url"),  # web proxy auto-discovery
)

_QUERY = "belongs to leasequery, which is not DHCP configuration"
WHY_COMPUTED: dict[int, str] = {
    50: "only a client sends it (RFC 2131 table 3)",
    52: "the server decides per reply whether file and sname carry options",
    53: "the server decides the message type per reply",
    55: "only a client sends it (RFC 2131 table 3)",
    61: "the server copies it from the request (RFC 6842)",
    80: "it is part of a two-message exchange that the server decides (RFC 4039)",
    82: "the server copies it from the relay's request (RFC 3046 section 2.2)",
    90: "it has to be computed per message (RFC 3118)",
    118: "the server copies it from the request (RFC 3011)",
    **dict.fromkeys((91, 92, *range(151, 158)), _QUERY),
}

# Neither has a type: text or bytes.  Rows 160, 203, 249 and 252 are in the field although the registry has no say.
UNASSIGNED = frozenset(
    {84, 96, *range(102, 108), 110, 111, 115, 126, 127, 149, *range(163, 175), *range(178, 203), *range(204, 208)}
    | {*range(214, 220), 222, 223}
)
PRIVATE = frozenset(range(224, 255)) - {249, 252}

# Fields of Kind.RECORD by (space, code): name and kind.  Only the last one may be a list or a text of several words.
FIELDS: dict[tuple[int, int], tuple[tuple[str, Kind], ...]] = {
    (0, 78): (("mandatory", Kind.FLAG), ("agents", Kind.ADDRESSES)),  # RFC 2610 section 3
    (0, 79): (("mandatory", Kind.FLAG), ("scopes", Kind.TEXT)),  # RFC 2610 section 4
    (0, 83): (  # RFC 4174 section 2
        ("functions", Kind.INT16),
        ("discovery-domain-access", Kind.INT16),
        ("administrative-flags", Kind.INT16),
        ("security", Kind.INT32),
        ("servers", Kind.ADDRESSES),
    ),
    (0, 94): (("type", Kind.INT8), ("major", Kind.INT8), ("minor", Kind.INT8)),  # RFC 4578 section 2.2
    (0, 146): (  # RFC 6731 section 4.3
        ("preference", Kind.INT8),
        ("primary", Kind.ADDRESS),
        ("secondary", Kind.ADDRESS),
        ("domains", Kind.DOMAINS),
    ),
    (0, 159): (("offset", Kind.INT8), ("psid-length", Kind.INT8), ("psid", Kind.INT16)),  # RFC 7618 section 9
    (0, 212): (  # RFC 5969 section 7.1.1
        ("ipv4-mask-length", Kind.INT8),
        ("6rd-prefix-length", Kind.INT8),
        ("6rd-prefix", Kind.IPV6),
        ("border-relays", Kind.ADDRESSES),
    ),
    (43, 10): (("seconds", Kind.INT8), ("text", Kind.TEXT)),  # PXE 2.1
    (43, 71): (("type", Kind.INT16), ("layer", Kind.INT16)),
    (122, 4): (("nominal", Kind.INT32), ("maximum", Kind.INT32), ("retries", Kind.INT32)),  # RFC 3495 sections 5.4, 5.5
    (122, 5): (("nominal", Kind.INT32), ("maximum", Kind.INT32), ("retries", Kind.INT32)),
}

# Sub-options by the option that carries them, in the form of ROWS; others can be written by number.
SUBOPTION_ROWS: dict[int, tuple[tuple[int, Kind, str], ...]] = {
    43: (  # PXE 2.1; the names of its tags
        (1, Kind.ADDRESS, "mtftp-ip"),
        (2, Kind.INT16, "mtftp-cport"),
        (3, Kind.INT16, "mtftp-sport"),
        (4, Kind.INT8, "mtftp-tmout mtftp-timeout"),
        (5, Kind.INT8, "mtftp-delay"),
        (6, Kind.INT8, "discovery-control"),
        (7, Kind.ADDRESS, "discovery-mcast-addr boot-server-mcast"),
        (8, Kind.PXE_SERVERS, "boot-servers boot-server"),
        (9, Kind.PXE_MENU, "boot-menu"),
        (10, Kind.RECORD, "menu-prompt"),
        (12, Kind.HEX, "credential-types"),
        (71, Kind.RECORD, "boot-item"),
    ),
    63: (  # RFC 2242 section 4
        (5, Kind.FLAG, "nsq-broadcast"),
        (6, Kind.ADDRESSES, "preferred-dss"),
        (7, Kind.ADDRESSES, "nearest-nwip-server"),
        (8, Kind.INT8, "autoretries"),
        (9, Kind.INT8, "autoretry-secs"),
        (10, Kind.FLAG, "nwip-1-1"),
        (11, Kind.ADDRESS, "primary-dss"),
    ),
    122: (
        (1, Kind.ADDRESS, "primary-dhcp-server"),
        (2, Kind.ADDRESS, "secondary-dhcp-server"),
        (3, Kind.NAMES_OR_ADDRESSES, "provisioning-server"),
        (4, Kind.RECORD, "as-backoff"),
        (5, Kind.RECORD, "ap-backoff"),
        (6, Kind.DOMAIN, "kerberos-realm"),
        (7, Kind.FLAG, "use-tgt"),
        (8, Kind.INT8, "provisioning-timer"),
        (9, Kind.INT16, "ticket-control"),
        (10, Kind.ADDRESSES, "kdc-servers"),
    ),
    139: ((1, Kind.ADDRESSES, "is"), (2, Kind.ADDRESSES, "cs"), (3, Kind.ADDRESSES, "es")),  # RFC 5678 section 2
    140: ((1, Kind.DOMAINS, "is"), (2, Kind.DOMAINS, "cs"), (3, Kind.DOMAINS, "es")),  # RFC 5678 section 3
    175: (  # iPXE's own numbers, with the names of its settings and of its example for ISC dhcpd
        (1, Kind.SINT8, "priority"),
        (8, Kind.FLAG, "keep-san"),
        (9, Kind.FLAG, "skip-san-boot"),
        (81, Kind.TEXT, "scriptlet"),
        (85, Kind.TEXT, "syslogs"),
        (90, Kind.HEX, "trust"),
        (91, Kind.HEX, "cert"),
        (92, Kind.HEX, "privkey"),
        (93, Kind.TEXT, "crosscert"),
        (176, Kind.FLAG, "no-pxedhcp"),
        (177, Kind.HEX, "bus-id busid"),
        (178, Kind.FLAG, "use-cached"),
        (188, Kind.TEXT, "san-filename"),
        (189, Kind.INT8, "bios-drive san-drive"),
        (190, Kind.TEXT, "username"),
        (191, Kind.TEXT, "password"),
        (192, Kind.TEXT, "reverse-username"),
        (193, Kind.TEXT, "reverse-password"),
        (235, Kind.HEX, "version"),
    ),
}

# Least legal value where the RFC names one: a smaller number would cripple the host that believes it.
MINIMUM: dict[int, int] = {22: 576, 23: 1, 25: 68, 26: 68, 37: 1, 51: 1, 57: 576, 58: 1, 59: 1}

_BY_CODE: dict[int, Option] = {code: Option(code, names.split()[0], kind) for code, kind, names in ROWS}


def option_by_code(code: int) -> Option:
    """code 1..254 -> its row, or a nameless Kind.RAW one.  Raises ValueError outside: 0 and 255 carry no value."""
    if not 1 <= code <= 254:
        raise ValueError(f"option {code}: wanted a code 1..254 (0 is padding and 255 the end mark)")
    return _BY_CODE.get(code) or Option(code, f"option-{code}", Kind.RAW)


def may_be_empty(code: int) -> bool:
    """Whether a zero-length payload is legal: 68 (RFC 2132 8.13), 80 (RFC 4039), and codes that no RFC defines."""
    return code in (68, 80) or 129 <= code <= 135 or code not in _BY_CODE
