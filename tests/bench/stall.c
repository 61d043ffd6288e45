/*
 * Writers that measure how long they are kept waiting: stall FILE...
 *
 * One process for each file writes a block and syncs it, again and again. On SIGTERM each tells its longest wait, in
 * nanoseconds, one line on standard output. Not in Python: dozens of them must not be what is measured.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t over;

static void stop(int number)
{
    (void)number;
    over = 1;
}

static long long now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static int writer(const char *path)
{
    static char block[512];
    struct timespec pause = {0, 20 * 1000 * 1000};
    long long longest = 0, began, took;
    int fd = open(path, O_WRONLY | O_CREAT, 0600);

    if (fd < 0) {
        perror(path);
        return 1;
    }
    while (!over) {
        began = now();
        if (pwrite(fd, block, sizeof block, 0) != sizeof block || fdatasync(fd)) {
            perror(path);
            return 1;
        }
        took = now() - began;
        if (took > longest)
            longest = took;
        nanosleep(&pause, NULL);
    }
    dprintf(1, "%lld\n", longest);
    return 0;
}

int main(int count, char **paths)
{
    pid_t *children = calloc(count, sizeof *children);
    struct sigaction action = {.sa_handler = stop};
    int status, failed = 0;

    sigaction(SIGTERM, &action, NULL);
    for (int number = 1; number < count; number++) {
        children[number] = fork();
        if (!children[number])
            _exit(writer(paths[number]));
    }
    while (!over)
        pause();
    for (int number = 1; number < count; number++)
        kill(children[number], SIGTERM);
    for (int number = 1; number < count; number++)
        failed |= waitpid(children[number], &status, 0) < 0 || status;
    return failed;
}
