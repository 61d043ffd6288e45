/*
 * Runs a command, and at the n-th of its system calls that name a path with a certain word in it another user exchanges
 * two names: right before the kernel looks the path up.
 *
 * at_path WORD NUMBER STAYS LOG ONE OTHER COMMAND...
 *
 * The names are exchanged back STAYS calls later (0: never). LOG gets a line for each call: number, process, call, path.
 * A path is named by its text, by a descriptor of a directory, or by /proc/.../fd/N. For x86-64.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOBODY 65534
#define EXCHANGE 2
#define NONE (-1)
#define OPTIONS                                                                                                        \
    (PTRACE_O_TRACESECCOMP | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC |     \
     PTRACE_O_EXITKILL)

/* Where a call has a directory's descriptor, its path, and a second path. */
static const struct call {
    int number;
    const char *name;
    int folder, path, more;
} calls[] = {
    {SYS_open, "open", NONE, 0, NONE},           {SYS_stat, "stat", NONE, 0, NONE},
    {SYS_lstat, "lstat", NONE, 0, NONE},         {SYS_access, "access", NONE, 0, NONE},
    {SYS_chdir, "chdir", NONE, 0, NONE},         {SYS_rename, "rename", NONE, 0, 1},
    {SYS_mkdir, "mkdir", NONE, 0, NONE},         {SYS_rmdir, "rmdir", NONE, 0, NONE},
    {SYS_creat, "creat", NONE, 0, NONE},         {SYS_link, "link", NONE, 0, 1},
    {SYS_unlink, "unlink", NONE, 0, NONE},       {SYS_symlink, "symlink", NONE, 1, NONE},
    {SYS_readlink, "readlink", NONE, 0, NONE},   {SYS_chmod, "chmod", NONE, 0, NONE},
    {SYS_chown, "chown", NONE, 0, NONE},         {SYS_lchown, "lchown", NONE, 0, NONE},
    {SYS_statfs, "statfs", NONE, 0, NONE},       {SYS_chroot, "chroot", NONE, 0, NONE},
    {SYS_pivot_root, "pivot_root", NONE, 0, 1},  {SYS_mount, "mount", NONE, 1, 0},
    {SYS_umount2, "umount2", NONE, 0, NONE},     {SYS_getxattr, "getxattr", NONE, 0, NONE},
    {SYS_lgetxattr, "lgetxattr", NONE, 0, NONE}, {SYS_inotify_add_watch, "inotify_add_watch", NONE, 1, NONE},
    {SYS_openat, "openat", 0, 1, NONE},          {SYS_mkdirat, "mkdirat", 0, 1, NONE},
    {SYS_fchownat, "fchownat", 0, 1, NONE},      {SYS_newfstatat, "newfstatat", 0, 1, NONE},
    {SYS_unlinkat, "unlinkat", 0, 1, NONE},      {SYS_readlinkat, "readlinkat", 0, 1, NONE},
    {SYS_fchmodat, "fchmodat", 0, 1, NONE},      {SYS_faccessat, "faccessat", 0, 1, NONE},
    {SYS_statx, "statx", 0, 1, NONE},            {SYS_openat2, "openat2", 0, 1, NONE},
    {SYS_faccessat2, "faccessat2", 0, 1, NONE},  {SYS_open_tree, "open_tree", 0, 1, NONE},
    {SYS_move_mount, "move_mount", 2, 3, 1},
};
#define CALLS (sizeof(calls) / sizeof(calls[0]))

static const char *word, *one, *other;
static int wanted, stays, number;
static FILE *told;

static void die(const char *what)
{
    perror(what);
    exit(125);
}

/* The calls above stop for us, all others go on at full speed. */
static void filter(void)
{
    struct sock_filter code[CALLS + 3];
    struct sock_fprog program = {CALLS + 3, code};

    code[0] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (size_t i = 0; i < CALLS; i++)
        code[1 + i] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, calls[i].number, CALLS - i, 0);
    code[1 + CALLS] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    code[2 + CALLS] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE);
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
        die("at_path: this kernel has no filter for system calls");
}

static unsigned long argument(const struct user_regs_struct *regs, int index)
{
    unsigned long all[] = {regs->rdi, regs->rsi, regs->rdx, regs->r10, regs->r8, regs->r9};

    return all[index];
}

static void read_text(pid_t pid, unsigned long at, char *text, size_t size)
{
    struct iovec here = {text, size - 1}, there = {(void *)at, size - 1};
    ssize_t got = 0;

    if (at && (got = process_vm_readv(pid, &here, 1, &there, 1, 0)) < 0) { /* it ends at a page's end */
        here.iov_len = there.iov_len = 4096 - at % 4096 < size ? 4096 - at % 4096 : size - 1;
        got = process_vm_readv(pid, &here, 1, &there, 1, 0);
    }
    text[got > 0 ? got : 0] = 0;
}

static void read_fd(pid_t pid, const char *name, char *text, size_t size)
{
    char path[64];
    ssize_t got;

    snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
    got = readlink(path, text, size - 1);
    text[got > 0 ? got : 0] = 0;
}

/* Write what a path of a call stands for, and tell whether the word is in it. */
static int names(pid_t pid, int folder, const char *path, char *full, size_t size)
{
    char above[4096] = "", name[32];
    const char *fd = strstr(path, "/fd/");

    if (!strncmp(path, "/proc/", 6) && fd) {
        snprintf(name, sizeof(name), "fd/%d", atoi(fd + 4));
        read_fd(pid, name, above, sizeof(above));
    } else if (path[0] != '/') {
        snprintf(name, sizeof(name), folder == AT_FDCWD ? "cwd" : "fd/%d", folder);
        read_fd(pid, name, above, sizeof(above));
    }
    snprintf(full, size, "%s%s%s", above, above[0] ? " " : "", path);
    return strstr(full, word) != NULL;
}

static void exchange(void)
{
    pid_t pid = fork();
    int status;

    if (!pid) {
        if (setgroups(0, NULL) || setresgid(NOBODY, NOBODY, NOBODY) || setresuid(NOBODY, NOBODY, NOBODY) ||
            syscall(SYS_renameat2, AT_FDCWD, one, AT_FDCWD, other, EXCHANGE))
            perror("at_path: exchange");
        _exit(0);
    }
    waitpid(pid, &status, __WALL);
}

static void look(pid_t pid)
{
    struct user_regs_struct regs;
    char path[4096] = "", full[8400];
    const struct call *call = NULL;
    int folder, hit = 0;

    if (ptrace(PTRACE_GETREGS, pid, 0, &regs))
        return;
    for (size_t i = 0; i < CALLS; i++)
        if (calls[i].number == (int)regs.orig_rax)
            call = &calls[i];
    if (!call)
        return;
    folder = call->folder == NONE ? AT_FDCWD : (int)argument(&regs, call->folder);
    read_text(pid, argument(&regs, call->path), path, sizeof(path));
    if (!path[0]) /* what a descriptor stands for: nothing is looked up */
        return;
    hit = names(pid, folder, path, full, sizeof(full));
    if (!hit && call->more != NONE) {
        read_text(pid, argument(&regs, call->more), path, sizeof(path));
        hit = names(pid, AT_FDCWD, path, full, sizeof(full));
    }
    if (!hit)
        return;
    number++;
    fprintf(told, "%d %d %s %s\n", number, (int)pid, call->name, full);
    if (number == wanted || (stays && number == wanted + stays))
        exchange();
}

int main(int argc, char **argv)
{
    pid_t child, pid;
    int status, ended = 0;

    if (argc < 8)
        return 125;
    word = argv[1];
    wanted = atoi(argv[2]);
    stays = atoi(argv[3]);
    told = fopen(argv[4], "we");
    one = argv[5];
    other = argv[6];
    if (!told)
        die(argv[4]);
    child = fork();
    if (!child) {
        raise(SIGSTOP);
        filter();
        execvp(argv[7], argv + 7);
        die(argv[7]);
    }
    if (waitpid(child, &status, WUNTRACED) < 0 || ptrace(PTRACE_SEIZE, child, 0, OPTIONS))
        die("at_path: ptrace");
    kill(child, SIGCONT);
    while ((pid = waitpid(-1, &status, __WALL)) > 0) {
        int event = status >> 16, number = WSTOPSIG(status);

        if (!WIFSTOPPED(status)) {
            if (pid == child)
                ended = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
            continue;
        }
        if (event == PTRACE_EVENT_SECCOMP)
            look(pid);
        if (event == PTRACE_EVENT_STOP && (number == SIGSTOP || number == SIGTSTP))
            ptrace(PTRACE_LISTEN, pid, 0, 0);
        else
            ptrace(PTRACE_CONT, pid, 0, event ? 0 : number);
    }
    return ended;
}
