/* A wall clock that jumps for some processes alone: preloaded, it shifts CLOCK_REALTIME by what a mapped file says.
 *
 * BOOTSTORM_SKEW names the file: three int64 in host order, nanoseconds: the shift before, the shift now, the real time
 * of the change.  The kernel's time stamps of datagrams are shifted alike, those from before a jump by the shift before:
 * a process sees what it would see if somebody had set the machine's clock.  Nothing is allocated, no other system call
 * is made: workers run it under their filter. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define BILLION 1000000000LL

static const volatile int64_t *skew;
static int (*real_clock_gettime)(clockid_t, struct timespec *);
static ssize_t (*real_recvmsg)(int, struct msghdr *, int);
static int (*real_recvmmsg)(int, struct mmsghdr *, unsigned int, int, struct timespec *);

static void find_real(void)
{
    real_clock_gettime = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    real_recvmsg = (ssize_t (*)(int, struct msghdr *, int))dlsym(RTLD_NEXT, "recvmsg");
    real_recvmmsg = (int (*)(int, struct mmsghdr *, unsigned int, int, struct timespec *))dlsym(RTLD_NEXT, "recvmmsg");
}

static void __attribute__((constructor)) begin(void)
{
    const char *path = getenv("BOOTSTORM_SKEW");
    int fd = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    find_real();
    if (fd >= 0) {
        void *found = mmap(NULL, 3 * sizeof(int64_t), PROT_READ, MAP_SHARED, fd, 0);
        skew = found == MAP_FAILED ? NULL : found;
        close(fd);
    }
}

static void shift(struct timespec *when, int64_t by)
{
    int64_t all = (int64_t)when->tv_sec * BILLION + when->tv_nsec + by;
    when->tv_sec = all / BILLION;
    when->tv_nsec = all % BILLION;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int result;
    if (real_clock_gettime == NULL)    /* another library's constructor is earlier than ours */
        find_real();
    result = real_clock_gettime(clock, now);
    if (result == 0 && skew != NULL && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        shift(now, skew[1]);
    return result;
}

int gettimeofday(struct timeval *now, void *zone)
{
    struct timespec precise;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &precise) != 0)
        return -1;
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *where)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (where != NULL)
        *where = now.tv_sec;
    return now.tv_sec;
}

static void shift_stamps(struct msghdr *message)
{
    struct cmsghdr *cmsg;
    if (skew == NULL || message->msg_control == NULL)
        return;
    for (cmsg = CMSG_FIRSTHDR(message); cmsg != NULL; cmsg = CMSG_NXTHDR(message, cmsg)) {
        if (cmsg->cmsg_level == SOL_SOCKET && cmsg->cmsg_type == SO_TIMESTAMPNS) {
            struct timespec stamp;
            memcpy(&stamp, CMSG_DATA(cmsg), sizeof stamp);
            shift(&stamp, (int64_t)stamp.tv_sec * BILLION + stamp.tv_nsec < skew[2] ? skew[0] : skew[1]);
            memcpy(CMSG_DATA(cmsg), &stamp, sizeof stamp);
        }
    }
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
    ssize_t length = real_recvmsg(fd, message, flags);
    if (length >= 0)
        shift_stamps(message);
    return length;
}

int recvmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags, struct timespec *limit)
{
    int i, got = real_recvmmsg(fd, messages, count, flags, limit);
    for (i = 0; i < got; i++)
        shift_stamps(&messages[i].msg_hdr);
    return got;
}
