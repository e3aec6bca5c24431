/* Preloaded into a server: every sync takes SLOW_SYNC_MS longer, as on a slow disk. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

static void wait_a_while(void)
{
    const char *milliseconds = getenv("SLOW_SYNC_MS");
    long ms = milliseconds ? atol(milliseconds) : 0;
    struct timespec pause = { ms / 1000, ms % 1000 * 1000000 };
    nanosleep(&pause, NULL);
}

#define SLOW(sync)                                         \
    int sync(int file)                                     \
    {                                                      \
        int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, #sync); \
        wait_a_while();                                    \
        return real(file);                                 \
    }

SLOW(fsync)
SLOW(fdatasync)
