/*
 * Put before borg-lvm (LD_PRELOAD): it waits before or after a certain call to device-mapper.
 *
 * WINDOW_AT is "WHEN CALL NUMBER": before or after; suspend, resume, thaw (the resume of what was suspended before), any
 * call that changes something, or any such from the first suspend on (window); the how manieth. WINDOW_TOLD is a file
 * that gets the process id, WINDOW_GATE a pipe: whoever waits goes on when it is written to.
 * Only borg-lvm itself waits, not what it starts, which inherits all this.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/dm-ioctl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAGIC ((DM_IOCTL << 8))
#define CALL(request) ((request) & 0xFF)

#define MOST 64

static int number, waited, holds;
static struct dm_ioctl held[MOST];

static int is_borg_lvm(void)
{
    static int known = -1;
    char words[4096];
    ssize_t size;
    int fd;

    if (known >= 0)
        return known;
    known = 0;
    fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    size = fd < 0 ? -1 : read(fd, words, sizeof(words) - 1);
    if (fd >= 0)
        close(fd);
    if (size > 0) {
        words[size] = 0;
        for (char *word = words; word < words + size; word += strlen(word) + 1)
            if ((strlen(word) >= 13 && !strcmp(word + strlen(word) - 13, "/bin/borg-lvm")) ||
                strstr(word, "from borg_lvm.__main__ import main") || !strcmp(word, "borg_lvm.daemon.__main__"))
                known = strstr(words, "python") != NULL;
    }
    return known;
}

static int is_held(const struct dm_ioctl *asked)
{
    for (int at = 0; at < holds; at++)
        if (asked->dev == held[at].dev && !strcmp(asked->name, held[at].name) && !strcmp(asked->uuid, held[at].uuid))
            return 1;
    return 0;
}

static int matches(unsigned long request, const struct dm_ioctl *asked)
{
    const char *at = getenv("WINDOW_AT");
    int call = CALL(request), suspends = call == DM_DEV_SUSPEND_CMD && (asked->flags & DM_SUSPEND_FLAG);

    if (suspends && holds < MOST)
        held[holds++] = *asked;
    if (strstr(at, " suspend "))
        return suspends;
    if (strstr(at, " thaw "))
        return call == DM_DEV_SUSPEND_CMD && !suspends && is_held(asked);
    if (strstr(at, " resume "))
        return call == DM_DEV_SUSPEND_CMD && !suspends;
    if (strstr(at, " window ") && !holds)
        return 0;
    return call == DM_DEV_CREATE_CMD || call == DM_DEV_REMOVE_CMD || call == DM_DEV_SUSPEND_CMD ||
           call == DM_TABLE_LOAD_CMD || call == DM_TABLE_CLEAR_CMD || call == DM_TARGET_MSG_CMD;
}

static void wait_here(void)
{
    char byte;
    int fd;

    waited = 1;
    fd = open(getenv("WINDOW_TOLD"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd >= 0) {
        dprintf(fd, "%d .\n", (int)getpid());
        close(fd);
    }
    do
        fd = open(getenv("WINDOW_GATE"), O_RDONLY | O_CLOEXEC);
    while (fd < 0 && errno == EINTR);
    while (fd >= 0 && read(fd, &byte, 1) < 0 && errno == EINTR)
        ;
    if (fd >= 0)
        close(fd);
}

int ioctl(int fd, unsigned long request, ...)
{
    static int (*real)(int, unsigned long, void *);
    const char *at = getenv("WINDOW_AT");
    int here, result, saved;
    va_list rest;
    void *argument;

    va_start(rest, request);
    argument = va_arg(rest, void *);
    va_end(rest);
    if (!real)
        real = (int (*)(int, unsigned long, void *))dlsym(RTLD_NEXT, "ioctl");
    if (waited || !at || (request & 0xFF00) != MAGIC || !is_borg_lvm() || !matches(request, argument))
        return real(fd, request, argument);
    here = ++number == atoi(strrchr(at, ' ') + 1);
    if (here && !strncmp(at, "before", 6))
        wait_here();
    result = real(fd, request, argument);
    saved = errno;
    if (here && !strncmp(at, "after", 5))
        wait_here();
    errno = saved;
    return result;
}
