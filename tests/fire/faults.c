/* File operations that fail on purpose. Preloaded, it counts the calls of the C library that change
   files below a folder; once armed, it lets the k-th of them fail or ends the process there. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { COUNT, ONCE, SHORT, DIE_BEFORE, DIE_AFTER, FULL, FORBIDDEN };

static char below[PATH_MAX];
static int log_fd = -1, how, error;
static long at;
static atomic_long count;
static atomic_int shortened; /* a write was cut; the next one fails */

/* From now on operations below `folder` are counted, written to the file `log`, and the k-th fails. */
void fire_arm(const char *folder, const char *log, long k, int what, int code) {
    log_fd = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND, 0666);
    at = k, how = what, error = code;
    count = 0, shortened = 0;
    snprintf(below, sizeof below, "%s/", folder);
}

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

static int is_below(int folder, const char *path, char *whole) {
    int saved = errno;
    if (!path) return 0;
    if (path[0] == '/') {
        snprintf(whole, PATH_MAX, "%s", path);
    } else {
        char link[64], start[PATH_MAX / 2] = "";
        snprintf(link, sizeof link, folder == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", folder);
        ssize_t n = readlink(link, start, sizeof start - 1);
        start[n > 0 ? n : 0] = 0;
        snprintf(whole, PATH_MAX, "%s%s%.2000s", start, *path ? "/" : "", path);
    }
    errno = saved;
    return strncmp(whole, below, strlen(below)) == 0;
}

static int exists(const char *path) {
    struct stat s;
    int saved = errno, found = fstatat(AT_FDCWD, path, &s, AT_SYMLINK_NOFOLLOW) == 0;
    errno = saved;
    return found;
}

/* What becomes of an operation: 0 it is done, 1 it is done and the process ends, 2 half of it is
   done (of a write); -1 it fails, and errno says why. `grows`: it needs room on the disk. */
static int fate(const char *what, int folder, const char *path, int grows, int writes) {
    char whole[PATH_MAX], line[PATH_MAX + 32];
    if (!below[0] || !is_below(folder, path, whole)) return 0;
    long k = atomic_fetch_add(&count, 1) + 1;
    int n = snprintf(line, sizeof line, "%s %s\n", what, whole + strlen(below));
    syscall(SYS_write, log_fd, line, n);
    int due = k == at;
    if (how == SHORT) {
        if (writes && atomic_exchange(&shortened, 0)) return errno = error, -1;
        if (due && writes) return atomic_store(&shortened, 1), 2;
    }
    if (how == DIE_BEFORE && due) die();
    if (how == DIE_AFTER && due) return 1;
    if (how == FULL) due = k >= at && grows && !(strcmp(what, "mkdir") == 0 && exists(whole));
    if (how == FORBIDDEN) { /* the kernel says first what is there and what is not */
        int makes = !strcmp(what, "mkdir") || !strcmp(what, "link") || !strcmp(what, "open");
        due = makes ? strcmp(what, "mkdir") || !exists(whole) : exists(whole);
    }
    if ((how == ONCE || how == FULL || how == FORBIDDEN) && due) return errno = error, -1;
    return 0;
}

#define REAL(name) __typeof__(name) *real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

#define CHANGE(name, what, folder, path, grows, declared, given)                                   \
    int name declared {                                                                            \
        REAL(name);                                                                                \
        int f = fate(what, folder, path, grows, 0);                                                \
        if (f < 0) return -1;                                                                      \
        int result = real given;                                                                   \
        if (f == 1) die();                                                                         \
        return result;                                                                             \
    }

#define OF_FD(name, what, grows, declared, given) CHANGE(name, what, fd, "", grows, declared, given)

CHANGE(mkdir, "mkdir", AT_FDCWD, p, 1, (const char *p, mode_t m), (p, m))
CHANGE(mkdirat, "mkdir", d, p, 1, (int d, const char *p, mode_t m), (d, p, m))
CHANGE(rmdir, "rmdir", AT_FDCWD, p, 0, (const char *p), (p))
CHANGE(unlink, "unlink", AT_FDCWD, p, 0, (const char *p), (p))
CHANGE(remove, "unlink", AT_FDCWD, p, 0, (const char *p), (p))
CHANGE(unlinkat, "unlink", d, p, 0, (int d, const char *p, int flags), (d, p, flags))
CHANGE(rename, "rename", AT_FDCWD, b, 0, (const char *a, const char *b), (a, b))
CHANGE(renameat, "rename", e, b, 0, (int d, const char *a, int e, const char *b), (d, a, e, b))
CHANGE(renameat2, "rename", e, b, 0, (int d, const char *a, int e, const char *b, unsigned g), (d, a, e, b, g))
CHANGE(link, "link", AT_FDCWD, b, 1, (const char *a, const char *b), (a, b))
CHANGE(linkat, "link", e, b, 1, (int d, const char *a, int e, const char *b, int g), (d, a, e, b, g))
CHANGE(symlink, "link", AT_FDCWD, b, 1, (const char *a, const char *b), (a, b))
CHANGE(truncate, "truncate", AT_FDCWD, p, 1, (const char *p, off_t n), (p, n))
CHANGE(truncate64, "truncate", AT_FDCWD, p, 1, (const char *p, off64_t n), (p, n))
CHANGE(chmod, "chmod", AT_FDCWD, p, 0, (const char *p, mode_t m), (p, m))
CHANGE(fchmodat, "chmod", d, p, 0, (int d, const char *p, mode_t m, int g), (d, p, m, g))
OF_FD(fchmod, "chmod", 0, (int fd, mode_t m), (fd, m))
OF_FD(ftruncate, "truncate", 1, (int fd, off_t n), (fd, n))
OF_FD(ftruncate64, "truncate", 1, (int fd, off64_t n), (fd, n))
OF_FD(fsync, "fsync", 1, (int fd), (fd))
OF_FD(fdatasync, "fsync", 1, (int fd), (fd))

#define OPEN(name, folder, declared, given)                                                        \
    int name declared {                                                                            \
        REAL(name);                                                                                \
        mode_t mode = 0;                                                                           \
        if (flags & O_CREAT) {                                                                     \
            va_list rest;                                                                          \
            va_start(rest, flags), mode = va_arg(rest, mode_t), va_end(rest);                      \
        }                                                                                          \
        int changes = flags & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC);                             \
        int f = changes ? fate("open", folder, path, !!(flags & O_CREAT), 0) : 0;                  \
        if (f < 0) return -1;                                                                      \
        int result = real given;                                                                   \
        if (f == 1) die();                                                                         \
        return result;                                                                             \
    }

OPEN(open, AT_FDCWD, (const char *path, int flags, ...), (path, flags, mode))
OPEN(open64, AT_FDCWD, (const char *path, int flags, ...), (path, flags, mode))
OPEN(openat, folder, (int folder, const char *path, int flags, ...), (folder, path, flags, mode))
OPEN(openat64, folder, (int folder, const char *path, int flags, ...), (folder, path, flags, mode))

#define FOPEN(name)                                                                                \
    FILE *name(const char *path, const char *mode) {                                               \
        REAL(name);                                                                                \
        int f = strpbrk(mode, "wa+") ? fate("open", AT_FDCWD, path, 1, 0) : 0;                     \
        if (f < 0) return NULL;                                                                    \
        FILE *result = real(path, mode);                                                           \
        if (f == 1) die();                                                                         \
        return result;                                                                             \
    }

FOPEN(fopen)
FOPEN(fopen64)

#define WRITE(name, declared, whole, half)                                                         \
    ssize_t name declared {                                                                        \
        REAL(name);                                                                                \
        int f = fate("write", fd, "", 1, 1);                                                       \
        if (f < 0) return -1;                                                                      \
        ssize_t result = f == 2 ? real half : real whole;                                          \
        if (f == 1) die();                                                                         \
        return result;                                                                             \
    }

WRITE(write, (int fd, const void *b, size_t n), (fd, b, n), (fd, b, (n + 1) / 2))
WRITE(pwrite, (int fd, const void *b, size_t n, off_t o), (fd, b, n, o), (fd, b, (n + 1) / 2, o))
WRITE(pwrite64, (int fd, const void *b, size_t n, off64_t o), (fd, b, n, o), (fd, b, (n + 1) / 2, o))
WRITE(writev, (int fd, const struct iovec *v, int n), (fd, v, n), (fd, v, 1))
