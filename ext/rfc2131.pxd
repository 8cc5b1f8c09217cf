"""Numbers of the protocol: the fixed header, option codes, message types.  Nothing but numbers in here."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t


cdef packed struct Bootp:          # RFC 2131 section 2, with the cookie of RFC 2132 section 2
    uint8_t op
    uint8_t htype
    uint8_t hlen
    uint8_t hops
    uint32_t xid_be
    uint16_t secs_be
    uint16_t flags_be
    uint32_t ciaddr_be
    uint32_t yiaddr_be
    uint32_t siaddr_be
    uint32_t giaddr_be
    uint8_t chaddr[16]
    uint8_t sname[64]
    uint8_t file[128]
    uint32_t cookie_be


cdef enum:
    BOOTP_BYTES = 240              # header with cookie
    GIADDR_AT = 24
    CHADDR_AT = 28
    REPLY_BYTES_MIN = 300          # RFC 1542 section 2.1: no BOOTP message is shorter
    CLIENT_MTU_MIN = 576           # RFC 2131 section 2: what every client takes, IP and UDP headers included
    IP_UDP_BYTES = 28
    OPTION_BYTES_MAX = 255         # one option; more goes into parts (RFC 3396)
    BOOTREQUEST = 1
    BOOTREPLY = 2
    HTYPE_ETHERNET = 1
    HTYPE_INFINIBAND = 32
    FLAG_BROADCAST = 0x8000
    COOKIE = 0x63825363
    SERVER_PORT = 67
    CLIENT_PORT = 68
    GUID_BYTES = 17                # option 97: a type octet and the GUID (RFC 4578 section 2.3)


cdef enum:                         # RFC 2132 section 9.6
    DHCPDISCOVER = 1
    DHCPOFFER = 2
    DHCPREQUEST = 3
    DHCPDECLINE = 4
    DHCPACK = 5
    DHCPNAK = 6
    DHCPRELEASE = 7
    DHCPINFORM = 8


cdef enum:
    OPTION_PAD = 0
    OPTION_REQUESTED_ADDRESS = 50
    OPTION_LEASE_TIME = 51
    OPTION_OVERLOAD = 52
    OPTION_MESSAGE_TYPE = 53
    OPTION_SERVER_ID = 54
    OPTION_PARAMETER_LIST = 55
    OPTION_MAX_SIZE = 57
    OPTION_RENEWAL_TIME = 58
    OPTION_REBINDING_TIME = 59
    OPTION_VENDOR_CLASS = 60
    OPTION_CLIENT_ID = 61
    OPTION_USER_CLASS = 77         # RFC 3004
    OPTION_RELAY_AGENT = 82        # RFC 3046
    OPTION_ARCHITECTURE = 93       # RFC 4578
    OPTION_MACHINE_GUID = 97       # RFC 4578
    OPTION_SUBNET_SELECTION = 118  # RFC 3011
    OPTION_VENDOR_CLASSES = 124    # RFC 3925: of several vendors, by enterprise number
    OPTION_VENDOR_OPTIONS = 125    # RFC 3925
    OPTION_IPXE = 175              # iPXE's own, what a build can do
    OPTION_END = 255
    RELAY_LINK_SELECTION = 5       # RFC 3527
    RELAY_SERVER_ID = 11           # RFC 5107
    RELAY_SOURCE_PORT = 19         # RFC 8357
    RELAY_CISCO_LINK = 150         # what Cisco's relays say before RFC 3527's 5,
    RELAY_CISCO_SERVER_ID = 152    # and before RFC 5107's 11
    OVERLOAD_FILE = 1
    OVERLOAD_SNAME = 2
