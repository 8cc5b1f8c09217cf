"""Every way out of answer(): a verdict's value is the index of its counter.

Each step of the way returns one of them, or GO_ON for the next step."""


cpdef enum Verdict:
    OFFERED                        # DISCOVER answered
    ACKED                          # REQUEST answered
    ACKED_INFORM                   # INFORM answered
    ANSWERED_BOOTP                 # BOOTP answered: a request without message type
    OFFERED_PROXY                  # DISCOVER of a host whose address another server gives: told what it boots
    ACKED_BOOT                     # REQUEST or INFORM at the boot port: told what it boots
    NAKED                          # REQUEST for an address that is not this host's here
    NOTED_RELEASE                  # RELEASE: nothing to do, the address stays bound in the inventory
    NOTED_DECLINE                  # DECLINE: somebody else uses the host's address; an operator must look
    IGNORED_NO_TABLE               # no generation has been adopted yet
    IGNORED_TRUNCATED              # longer than a receive buffer
    IGNORED_SHORT                  # shorter than a BOOTP header with cookie
    IGNORED_NOT_REQUEST            # op is not BOOTREQUEST: a reply, perhaps one of ours, reflected
    IGNORED_COOKIE                 # no DHCP cookie
    IGNORED_HARDWARE               # hlen is over 16, or not 6 for Ethernet
    IGNORED_BOOTP                  # no message type: plain BOOTP, and dhcp.bootp is off
    IGNORED_MESSAGE_TYPE           # a message that only servers send, or an unknown one
    IGNORED_INTERFACE              # came in on an interface that dhcp.interfaces leaves out
    IGNORED_GIADDR                 # giaddr is no address of a relay: ours, 0/8, 127/8, multicast, a broadcast
    IGNORED_RELAY                  # giaddr is not in dhcp.relays
    IGNORED_UNKNOWN_MAC            # the inventory has no such host
    IGNORED_DISABLED               # known, DHCP not enabled
    IGNORED_OTHER_PORT             # a known host's card, at a port that boot_ports leaves out
    IGNORED_NO_ADDRESS             # known and enabled, no address bound
    IGNORED_CONFLICT               # its MAC or address belongs to two objects
    IGNORED_QUARANTINED            # its record is not usable
    IGNORED_BMC                    # a BMC at the host's MAC, and no address is bound to the BMC
    IGNORED_OTHER_LINK             # known, but none of its addresses fits where it asks from
    IGNORED_OTHER_SERVER           # REQUEST or DECLINE that names another server
    IGNORED_CIADDR                 # ciaddr is not an address of this host
    IGNORED_PROXY                  # another server gives this host's address, and this is no question of what it boots
    IGNORED_BOOT_PORT              # came to the boot port, and is nothing that is answered there
    IGNORED_NAK_UNKNOWN_LINK       # would be a NAK, but the link is none of the inventory's
    IGNORED_NAK_STALE_TABLE        # would be a NAK, but the table is older than dhcp.max_nak_age
    IGNORED_NO_SERVER_ID           # no address of ours to answer with on that interface
    IGNORED_NO_ROOM                # the mandatory options alone exceed what the client takes
    ABANDONED                      # a datagram that ended three workers
    IGNORED_LATE                   # waited in our queue until its client asked anew, and more waits behind it
    IGNORED_SHARE                  # its relay has had its share, and others want theirs
    IGNORED_CHECKSUM               # its UDP checksum does not fit; seen with dhcp.io = xdp alone, else the kernel looks
    IGNORED_HELD                   # known, and an operator holds it
    GO_ON                          # no way out: the next step decides; answer() never returns it


cdef enum:
    VERDICT_COUNT = GO_ON          # size of the counter array


cdef inline bint is_answer(Verdict verdict) noexcept nogil:
    return verdict <= NAKED


cdef inline bint is_event(Verdict verdict) noexcept nogil:
    """True for what an operator wants to read about: a host that waits for an answer that it does not get."""
    return (verdict == NOTED_DECLINE or IGNORED_INTERFACE < verdict <= IGNORED_OTHER_LINK
            or verdict == IGNORED_OTHER_SERVER or verdict == IGNORED_CIADDR or verdict == IGNORED_BOOT_PORT
            or verdict == NAKED
            or IGNORED_NAK_UNKNOWN_LINK <= verdict <= IGNORED_NO_ROOM or verdict == ABANDONED
            or verdict == IGNORED_HELD)


cdef inline bint is_of_stranger(Verdict verdict) noexcept nogil:
    """True for what was refused before a host of the inventory was found: anybody can send any amount of it."""
    return IGNORED_NO_TABLE <= verdict <= IGNORED_UNKNOWN_MAC or verdict == ABANDONED
