"""The kernel's batch calls and address structures that Cython does not declare itself."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t, int64_t
from posix.types cimport off_t


cdef extern from *:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <sys/socket.h>
    #include <netinet/in.h>
    #include <linux/if_packet.h>
    #include <linux/if_ether.h>
    #include <sys/mman.h>
    #include <fcntl.h>
    #include <sys/eventfd.h>
    #include <sys/stat.h>
    #include <poll.h>
    #include <time.h>
    #include <errno.h>
    #include <string.h>
    #include <unistd.h>
    #include <linux/filter.h>
    #include <linux/seccomp.h>
    #include <sys/prctl.h>
    #ifndef SO_TIMESTAMPNS
    #define SO_TIMESTAMPNS 35
    #endif
    #ifndef SCM_TIMESTAMPNS
    #define SCM_TIMESTAMPNS SO_TIMESTAMPNS
    #endif
    static inline void bs_pause_until(struct pollfd *fds, int count, int64_t timeout_ns) {
        struct timespec limit = { timeout_ns / 1000000000, timeout_ns % 1000000000 };
        (void)!ppoll(fds, count, &limit, NULL);
    }
    #define BS_LOAD_ACQUIRE(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
    #define BS_STORE_RELEASE(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
    #define BS_FENCE() __atomic_thread_fence(__ATOMIC_SEQ_CST)
    #define BS_STORE_FENCE() __atomic_thread_fence(__ATOMIC_RELEASE)
    #define BS_BUMP(p, n) __atomic_store_n((p), __atomic_load_n((p), __ATOMIC_RELAXED) + (n), __ATOMIC_RELAXED)
    static inline int bs_confine(const void *program, size_t bytes) {
        struct sock_fprog filter = { bytes / sizeof(struct sock_filter), (struct sock_filter *)program };
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
            return -1;
        return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter, 0, 0);
    }
    static inline int bs_take(uint32_t *p, uint32_t v) {
        uint32_t nobody = 0;
        return __atomic_compare_exchange_n(p, &nobody, v, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
    }
    static inline int bs_is_sealed(int fd) {
        const int wanted = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
        const int seals = fcntl(fd, F_GET_SEALS);
        return seals >= 0 && (seals & wanted) == wanted;
    }
    static inline void *bs_exchange(void **p, void *v) { return __atomic_exchange_n(p, v, __ATOMIC_ACQ_REL); }
    """
    cdef struct iovec:
        void *iov_base
        size_t iov_len
    cdef struct in_addr:
        uint32_t s_addr
    cdef struct sockaddr_in:
        uint16_t sin_family
        uint16_t sin_port
        in_addr sin_addr
    cdef struct sockaddr_ll:
        uint16_t sll_family
        uint16_t sll_protocol
        int sll_ifindex
        uint8_t sll_halen
        uint8_t sll_addr[8]
    cdef struct in_pktinfo:
        int ipi_ifindex
        in_addr ipi_spec_dst
        in_addr ipi_addr
    cdef struct msghdr:
        void *msg_name
        uint32_t msg_namelen
        iovec *msg_iov
        size_t msg_iovlen
        void *msg_control
        size_t msg_controllen
        int msg_flags
    cdef struct mmsghdr:
        msghdr msg_hdr
        unsigned int msg_len
    cdef struct cmsghdr:
        size_t cmsg_len
        int cmsg_level
        int cmsg_type
    cdef struct timespec:
        long tv_sec
        long tv_nsec
    cdef struct pollfd:
        int fd
        short events
        short revents
    cmsghdr *CMSG_FIRSTHDR(msghdr *) nogil
    cmsghdr *CMSG_NXTHDR(msghdr *, cmsghdr *) nogil
    void *CMSG_DATA(cmsghdr *) nogil
    size_t CMSG_LEN(size_t) nogil
    size_t CMSG_SPACE(size_t) nogil
    int recvmmsg(int, mmsghdr *, unsigned int, int, timespec *) nogil
    int sendmmsg(int, mmsghdr *, unsigned int, int) nogil
    int clock_gettime(int, timespec *) nogil
    int errno
    int eventfd_write(int, uint64_t) nogil
    int eventfd_read(int, uint64_t *) nogil
    void *mmap(void *, size_t, int, int, int, off_t) nogil
    int munmap(void *, size_t) nogil
    void pause_until "bs_pause_until"(pollfd *, int, int64_t) nogil
    uint64_t load_acquire "BS_LOAD_ACQUIRE"(const uint64_t *) nogil
    int load_acquire_int "BS_LOAD_ACQUIRE"(const int *) nogil
    void store_release "BS_STORE_RELEASE"(uint64_t *, uint64_t) nogil
    void store_release_int "BS_STORE_RELEASE"(int *, int) nogil
    uint32_t load_acquire32 "BS_LOAD_ACQUIRE"(const uint32_t *) nogil
    void store_release32 "BS_STORE_RELEASE"(uint32_t *, uint32_t) nogil
    bint take32 "bs_take"(uint32_t *, uint32_t) nogil    # 0 -> value; False: somebody has it
    void full_fence "BS_FENCE"() nogil
    void store_fence "BS_STORE_FENCE"() nogil
    void bump "BS_BUMP"(uint64_t *, uint64_t) nogil
    void *exchange "bs_exchange"(void **, void *) nogil
    int bs_confine(const void *, size_t) nogil
    bint is_sealed "bs_is_sealed"(int) nogil            # nobody can write into it, cut it or make it longer
    int AF_INET, AF_PACKET, IPPROTO_IP, IP_PKTINFO, SOL_SOCKET, ETH_P_IP
    int MSG_DONTWAIT, MSG_TRUNC
    int SO_TIMESTAMPNS, SCM_TIMESTAMPNS
    ssize_t sendto(int, const void *, size_t, int, const void *, unsigned int) nogil
    int setsockopt(int, int, int, const void *, unsigned int) nogil
    int getsockopt(int, int, int, void *, unsigned int *) nogil
    int POLLIN
    int CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_REALTIME
    int PROT_READ, PROT_WRITE, MAP_PRIVATE, MAP_SHARED, MAP_POPULATE
    void *MAP_FAILED
    int EAGAIN, EINTR, ENOBUFS, ENETUNREACH, EHOSTUNREACH, EACCES, EPERM, EINVAL, ENETDOWN, ENODEV, ENXIO, EMSGSIZE, ECONNREFUSED


cdef inline int64_t clock_ns(int clock) noexcept nogil:
    cdef timespec now
    clock_gettime(clock, &now)
    return <int64_t>now.tv_sec * 1000000000 + now.tv_nsec
