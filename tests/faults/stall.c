/* A disk that makes a program wait: while the file named by STALL exists, no sync returns. Preloaded (LD_PRELOAD). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

static int stalled(const char *name, int file)
{
    const char *stall = getenv("STALL");
    while (stall != NULL && access(stall, F_OK) == 0)
        usleep(1000);
    int (*sync)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    return sync(file);
}

int fdatasync(int file) { return stalled("fdatasync", file); }
int fsync(int file) { return stalled("fsync", file); }
