/* A disk that does not take what it was given: the first sync of a file whose name ends in LOST_NAME fails, and the last LOST_BYTES
   bytes of it are gone by then, as where a system writes later than it says. Preloaded (LD_PRELOAD). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int failed;

static int is_named(int file, const char *name)
{
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < (ssize_t)strlen(name))
        return 0;
    path[length] = 0;
    return strcmp(path + length - strlen(name), name) == 0;
}

int fsync(int file)
{
    const char *name = getenv("LOST_NAME"), *bytes = getenv("LOST_BYTES");
    if (name != NULL && bytes != NULL && is_named(file, name) && __atomic_fetch_add(&failed, 1, __ATOMIC_SEQ_CST) == 0) {
        struct stat about;
        if (fstat(file, &about) != 0 || ftruncate(file, about.st_size - atoi(bytes)) != 0)
            abort();
        errno = EIO;
        return -1;
    }
    return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(file);
}
