/*
 * Put before one of LVM's programs (LD_PRELOAD): it stops itself as soon as it has suspended a certain device, or before a
 * call to device-mapper that changes something.
 *
 * HALT_AT is the device's "suspended" file in sysfs, or the number of the call; HALT_TOLD a file that gets the process id
 * just before the stop. Where that is there already, nobody stops: whoever does the same again is another attempt.
 * Nothing but system calls: memory is locked and volumes stand still here.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/dm-ioctl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char seen(const char *path)
{
    char state = '?';
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd >= 0) {
        if (read(fd, &state, 1) != 1)
            state = '?';
        close(fd);
    }
    return state;
}

static void halt(const char *told)
{
    int fd = open(told, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    if (fd < 0) /* another one has stopped itself before: this one is a second attempt */
        return;
    dprintf(fd, "%d\n", (int)getpid());
    close(fd);
    raise(SIGSTOP);
}

static int changes(unsigned long request)
{
    int call = request & 0xFF;

    return (request & 0xFF00) == DM_IOCTL << 8 &&
           (call == DM_DEV_CREATE_CMD || call == DM_DEV_REMOVE_CMD || call == DM_DEV_SUSPEND_CMD ||
            call == DM_TABLE_LOAD_CMD || call == DM_TABLE_CLEAR_CMD || call == DM_TARGET_MSG_CMD);
}

int ioctl(int fd, unsigned long request, ...)
{
    static int (*real)(int, unsigned long, void *);
    static int halted, number;
    const char *at = getenv("HALT_AT"), *told = getenv("HALT_TOLD");
    va_list rest;
    void *argument;
    int result;

    va_start(rest, request);
    argument = va_arg(rest, void *);
    va_end(rest);
    if (!real)
        real = (int (*)(int, unsigned long, void *))dlsym(RTLD_NEXT, "ioctl");
    if (at && told && *at != '/' && changes(request) && ++number == atoi(at))
        halt(told);
    result = real(fd, request, argument);
    if (!halted && at && told && *at == '/' && seen(at) == '1') {
        halted = 1;
        halt(told);
    }
    return result;
}
