/* A program that is killed at one operation on the files of one directory: at the one numbered KILL_AT, counted from 1, of those
   below KILL_BELOW whose name begins with KILL_OPERATION (every one if that is empty). A write is first done by half, as a
   crash may leave it; everything else is not begun. What it was is told on standard error. Preloaded (LD_PRELOAD). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int counted;

/* Whether this operation, on this path, is the one. */
static int now(const char *operation, const char *path)
{
    const char *below = getenv("KILL_BELOW"), *wanted = getenv("KILL_OPERATION"), *at = getenv("KILL_AT");
    if (below == NULL || wanted == NULL || at == NULL)
        return 0;
    if (strncmp(path, below, strlen(below)) != 0 || strncmp(operation, wanted, strlen(wanted)) != 0)
        return 0;
    return __atomic_add_fetch(&counted, 1, __ATOMIC_SEQ_CST) == atoi(at);
}

static int now_file(const char *operation, int file)
{
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    return now(operation, path);
}

static void end(const char *operation)
{
    dprintf(2, "killed at %s\n", operation);
    kill(getpid(), SIGKILL);
    for (;;)
        pause();
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int file, const void *bytes, size_t length)
{
    if (now_file("write", file)) {
        REAL(write)(file, bytes, length / 2);
        end("write");
    }
    return REAL(write)(file, bytes, length);
}

ssize_t pwrite64(int file, const void *bytes, size_t length, off64_t offset)
{
    if (now_file("pwrite", file)) {
        REAL(pwrite64)(file, bytes, length / 2, offset);
        end("pwrite");
    }
    return REAL(pwrite64)(file, bytes, length, offset);
}

int open64(const char *path, int flags, ...)
{
    va_list more;
    va_start(more, flags);
    mode_t mode = (flags & O_CREAT) != 0 ? va_arg(more, mode_t) : 0;
    va_end(more);
    if ((flags & O_CREAT) != 0 && now("open", path))
        end("open");
    return REAL(open64)(path, flags, mode);
}

int ftruncate64(int file, off64_t length)
{
    if (now_file("ftruncate", file))
        end("ftruncate");
    return REAL(ftruncate64)(file, length);
}

int fsync(int file)
{
    if (now_file("fsync", file))
        end("fsync");
    return REAL(fsync)(file);
}

int fdatasync(int file)
{
    if (now_file("fdatasync", file))
        end("fdatasync");
    return REAL(fdatasync)(file);
}

int mkdir(const char *path, mode_t mode)
{
    if (now("mkdir", path))
        end("mkdir");
    return REAL(mkdir)(path, mode);
}

int rename(const char *from, const char *to)
{
    if (now("rename", to))
        end("rename");
    return REAL(rename)(from, to);
}
