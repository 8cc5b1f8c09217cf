"""Who asks, by what the request itself says: the class of the client, and where a REQUEST's client stands.

A ClientClass is the stage of a machine's boot, as its firmware shows it in options 60 (RFC 2132), 77 (RFC 3004), 93 and 97
(RFC 4578), 175 (iPXE).  It chooses among the variants of a template and never the address: one machine has one address in
all of its stages.  A site's own classes come before these: ext/site_classes.pxd.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp

from ext.request cimport Request, Span
from ext.rfc2131 cimport DHCPREQUEST


cpdef enum ClientClass:
    OS                             # an operating system, an installer, a BMC: nothing of the below
    BIOS_PXE
    UEFI_IA32
    UEFI_X64
    UEFI_ARM64
    HTTP_BOOT                      # UEFI HTTP boot: wants a URL, and 60 = HTTPClient back
    IPXE
    IPXE_HTTP                      # iPXE that can load over HTTP
    RASPBERRY_PI
    PXE                            # a PXE ROM of a processor architecture that nobody has registered
    BMC                            # of no request: what is said to it goes to the rows of BMCs
    # Option 93's registered types (IANA, Processor Architecture Types), those of the classes above left out.
    PC98 = 17
    UEFI_ITANIUM
    DEC_ALPHA
    ARC_X86
    INTEL_LEAN_CLIENT
    UEFI_XSCALE = 24
    UEFI_ARM32 = 26
    POWER_OPEN_FIRMWARE = 28
    POWER_EPAPR
    POWER_OPAL
    HTTP_BOOT_IA32
    HTTP_BOOT_X64
    HTTP_BOOT_EBC
    HTTP_BOOT_ARM32
    HTTP_BOOT_ARM64
    HTTP_BOOT_BIOS
    UBOOT_ARM32
    UBOOT_ARM64
    HTTP_BOOT_UBOOT_ARM32
    HTTP_BOOT_UBOOT_ARM64
    UEFI_RISCV32
    HTTP_BOOT_RISCV32
    UEFI_RISCV64
    HTTP_BOOT_RISCV64
    UEFI_RISCV128
    HTTP_BOOT_RISCV128
    S390_BASIC
    S390_EXTENDED
    UEFI_MIPS32
    UEFI_MIPS64
    UEFI_SUNWAY32
    UEFI_SUNWAY64
    UEFI_LOONGARCH32
    HTTP_BOOT_LOONGARCH32
    UEFI_LOONGARCH64
    HTTP_BOOT_LOONGARCH64
    RPIBOOT_ARM


cdef enum:
    CLASS_COUNT = 9                # those that every template has a variant for
    ARCHITECTURE = 16              # the class of one of option 93's types is this and the type
    TYPE_LAST = 41                 # registered
    SITE_CLASS = 128               # the number of the site's first class; the others follow in their order


cdef extern from *:
    """
    /* Of option 93's types, a bit each. */
    #define HTTP_TYPES 0x140559f8000ULL   /* 15 to 20, 23, 24, 26, 28, 30, 38, 40 */
    #define PLAIN_TYPES 0x180607000ULL     /* 12, 13, 14 (Petitboot), 21, 22 (U-Boot), 31, 32 (s390) */
    """
    const uint64_t HTTP_TYPES      # whose firmware loads over HTTP
    const uint64_t PLAIN_TYPES     # whose firmware does not say "PXEClient" in option 60


cpdef enum ClientState:            # of who sends a REQUEST: RFC 2131 section 4.3.2, figure 5
    NO_STATE                       # it is no REQUEST
    SELECTING                      # takes an offer
    INIT_REBOOT                    # remembers an address, and asks whether it still holds here
    RENEWING                       # uses its address and asks the server that gave it
    REBINDING                      # uses its address and asks any server
    NAMELESS                       # names neither an address nor a server: no state of the RFC


cdef inline bint begins(const Span *span, const char *text, uint16_t length) noexcept nogil:
    return span.length >= length and memcmp(span.at, text, length) == 0


cdef inline bint is_ipxe(const Request *request) noexcept nogil:
    """iPXE says so in 77, as plain text or as an RFC 3004 list with one item; and it alone sends 175."""
    cdef const Span *user = &request.user_class
    return (request.ipxe.length != 0 or begins(user, b"iPXE", 4) or begins(user, b"gPXE", 4)
            or (user.length == 5 and user.at[0] == 4 and memcmp(user.at + 1, b"iPXE", 4) == 0))


cdef inline bint ipxe_can_http(const Request *request) noexcept nogil:
    """Sub-option 19 of 175, one byte of value 1, among the features that a build has."""
    cdef const uint8_t *at = request.ipxe.at
    cdef const uint8_t *end
    if request.ipxe.length == 0:
        return False
    end = at + request.ipxe.length
    while end - at >= 2 and end - at - 2 >= at[1]:
        if at[0] == 19:
            return at[1] == 1 and at[2] == 1
        at += 2 + at[1]
    return False


cdef inline bint is_raspberry(const Request *request) noexcept nogil:
    """Its ROM's GUID begins with "RPi" (4 and 5), or is the digit 4 all over (3)."""
    cdef const Span *guid = &request.machine_guid
    return begins(guid, b"\x00RPi", 4) or begins(guid, b"\x00DDDDDDDD", 9)


cdef inline int architecture(const Request *request) noexcept nogil:
    """The first type of option 93, else the digits of "PXEClient:Arch:00007:..." in 60; -1: it does not say."""
    cdef const Span *vendor = &request.vendor_class
    cdef int value = 0
    cdef int i
    if request.architecture.length >= 2:
        return (<int>request.architecture.at[0] << 8) | request.architecture.at[1]
    if vendor.length < 20 or memcmp(vendor.at + 9, b":Arch:", 6) != 0:
        return -1
    for i in range(15, 20):
        if not c'0' <= vendor.at[i] <= c'9':
            return -1
        value = 10 * value + (vendor.at[i] - c'0')
    return value


cdef inline bint is_one_of(uint64_t types, int arch) noexcept nogil:
    return 0 <= arch < 64 and (types >> arch) & 1


cdef inline uint8_t parent_of(uint8_t client) noexcept nogil:
    """The wider class: what is said to it counts for this one, too.  OS: everybody."""
    if client >= ARCHITECTURE:
        return HTTP_BOOT if is_one_of(HTTP_TYPES, client - ARCHITECTURE) else PXE
    if client == IPXE_HTTP:
        return IPXE
    return PXE if BIOS_PXE <= client <= UEFI_ARM64 or client == RASPBERRY_PI else OS


cdef inline ClientClass class_of_rom(const Request *request) noexcept nogil:
    """7 and 9 are both x64: RFC 4578 and the firmware disagree about which is which."""
    cdef int arch
    if is_raspberry(request):
        return RASPBERRY_PI
    arch = architecture(request)
    if arch == 0 or arch == -1:
        return BIOS_PXE
    if arch == 6:
        return UEFI_IA32
    if arch == 7 or arch == 9:
        return UEFI_X64
    if arch == 11:
        return UEFI_ARM64
    return <ClientClass>(ARCHITECTURE + arch) if arch <= TYPE_LAST else PXE


cdef inline ClientClass class_of_other(const Request *request) noexcept nogil:
    """Of who is no PXE ROM by option 60."""
    cdef int arch = -1
    if request.architecture.length >= 2:
        arch = (<int>request.architecture.at[0] << 8) | request.architecture.at[1]
    if begins(&request.vendor_class, b"HTTPClient", 10):
        return <ClientClass>(ARCHITECTURE + arch) if is_one_of(HTTP_TYPES, arch) else HTTP_BOOT
    if begins(&request.vendor_class, b"NVIDIA/BF/PXE", 13):      # BlueField: a PXE ROM under its own name
        return UEFI_ARM64
    return <ClientClass>(ARCHITECTURE + arch) if is_one_of(PLAIN_TYPES, arch) else OS


cdef inline ClientClass classify(const Request *request) noexcept nogil:
    if is_ipxe(request):                   # it keeps the ROM's 60 and 93
        return IPXE_HTTP if ipxe_can_http(request) else IPXE
    if request.vendor_class.length < 9 and request.architecture.length == 0:
        return OS                          # as most requests of systems
    return class_of_rom(request) if begins(&request.vendor_class, b"PXEClient", 9) else class_of_other(request)


cdef inline ClientClass firmware_class(const Request *request) noexcept nogil:
    """What a client is by itself, whichever class's options it gets."""
    return <ClientClass>request.client_class if request.client_class < SITE_CLASS else classify(request)


cdef inline ClientState client_state(const Request *request, bint unicast) noexcept nogil:
    """unicast: it came to an address of ours.  Told by what the client filled in (RFC 2131 table 4); some that renew say
    their address in option 50 as well."""
    cdef uint32_t ciaddr_be = request.bootp.ciaddr_be
    if request.message_type != DHCPREQUEST:
        return NO_STATE
    if ciaddr_be != 0 and (request.requested_be == 0
                           or (request.requested_be == ciaddr_be and request.server_id_be == 0)):
        return RENEWING if unicast and request.bootp.giaddr_be == 0 else REBINDING
    if request.server_id_be != 0:
        return SELECTING
    return INIT_REBOOT if request.requested_be != 0 else NAMELESS
