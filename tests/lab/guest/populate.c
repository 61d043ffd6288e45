/* Maps a program's pages at its start, all at once. Preloaded into every program of a guest of User Mode Linux.
 *
 * There a page that is touched for the first time costs three hand-overs between two processes of the host, where a
 * system call costs one; and a start of Python touches thousands. What the kernel has populated (madvise(2)) it shows
 * the program at the next touch all the same; but when the protection of a range changes, it maps all of it in one go.
 *
 * Nothing that a program can see changes but its resident memory. Whatever fails is left to be done page by page.
 *
 * And tells the time without a system call. On a machine clock_gettime(2) is none, here it was a quarter of all that a
 * start of Python makes: CPython 3.11 asks for it at each lock, and an import takes a dozen. The kernel is asked once in
 * some two milliseconds; in between the processor's counter is read, by which the host's clock goes as well.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <link.h>
#include <malloc.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <time.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif
#define PAGE 4096UL
#define FEW (16 * PAGE)     /* not worth three system calls */
#define MANY (16UL << 20)   /* more than a start touches of anything */
#define BIG (3UL << 20)     /* a program of more than the C library: a smaller one touches a tenth of it */
#define PYTHON (7UL << 20)  /* Python and its like also fill a heap */
#define HEAP (2UL << 20)
#define RENEW 6000000UL     /* cycles, some two milliseconds */
#define CLOSE 250000UL      /* cycles: how long the kernel may take to answer */

static int is_big;

/* Not the C library's functions: its own pages change here, and a program may have put others in their place. */
static long call(long number, long one, long two, long three, long four, long five, long six)
{
    register long r10 __asm__("r10") = four;
    register long r8 __asm__("r8") = five;
    register long r9 __asm__("r9") = six;
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(one), "S"(two), "d"(three), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

/* Never without the right to execute or to read what may be in use: only the right to write comes and goes. */
static void populate(uintptr_t from, uintptr_t to, int protection)
{
    long advice = protection & PROT_WRITE ? MADV_POPULATE_WRITE : MADV_POPULATE_READ;
    if (call(SYS_madvise, from, to - from, advice, 0, 0, 0))
        return;
    call(SYS_mprotect, from, to - from, protection ^ PROT_WRITE, 0, 0, 0);
    call(SYS_mprotect, from, to - from, protection, 0, 0, 0);
}

static int add_size(struct dl_phdr_info *object, size_t size, void *total)
{
    (void)size;
    for (int i = 0; i < object->dlpi_phnum; i++)
        if (object->dlpi_phdr[i].p_type == PT_LOAD)
            *(size_t *)total += object->dlpi_phdr[i].p_memsz;
    return 0;
}

static int populate_object(struct dl_phdr_info *object, size_t size, void *unused)
{
    uintptr_t sealed = 0; /* the end of what the loader has made read-only in the writable segment */
    (void)size, (void)unused;
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &object->dlpi_phdr[i];
        if (part->p_type == PT_GNU_RELRO)
            sealed = (object->dlpi_addr + part->p_vaddr + part->p_memsz) & -PAGE;
    }
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &object->dlpi_phdr[i];
        uintptr_t from = (object->dlpi_addr + part->p_vaddr) & -PAGE;
        uintptr_t to = (object->dlpi_addr + part->p_vaddr + part->p_memsz + PAGE - 1) & -PAGE;
        int protection = part->p_flags & PF_R ? PROT_READ : 0;
        if (part->p_type != PT_LOAD || !protection)
            continue;
        protection |= (part->p_flags & PF_W ? PROT_WRITE : 0) | (part->p_flags & PF_X ? PROT_EXEC : 0);
        if (protection & PROT_WRITE && from < sealed && sealed <= to)
            from = sealed;
        if (to - from >= FEW && to - from <= MANY)
            populate(from, to, protection);
    }
    return 0;
}

static void populate_heap(void)
{
    char *some;
    mallopt(M_MMAP_THRESHOLD, 32 << 20); /* what is freed stays, or it would be touched for the first time again */
    mallopt(M_TRIM_THRESHOLD, 64 << 20);
    some = malloc(HEAP);
    if (!some)
        return;
    populate(((uintptr_t)some + PAGE - 1) & -PAGE, ((uintptr_t)some + HEAP) & -PAGE, PROT_READ | PROT_WRITE);
    free(some);
}

/* Python takes its memory in pieces of a MiB. The C library's own calls do not come here. */
static void *map(void *at, size_t length, int protection, int flags, int file, off_t offset)
{
    const int kind = MAP_ANONYMOUS | MAP_PRIVATE;
    long result = call(SYS_mmap, (long)at, length, protection, flags, file, offset);
    if ((unsigned long)result > -PAGE) {
        errno = -result;
        return MAP_FAILED;
    }
    if (is_big && (flags & (kind | MAP_FIXED | MAP_NORESERVE)) == kind && protection == (PROT_READ | PROT_WRITE) &&
        length >= FEW && length <= HEAP)
        populate(result, (result + length) & -PAGE, protection);
    return (void *)result;
}

void *mmap(void *at, size_t length, int protection, int flags, int file, off_t offset)
{
    return map(at, length, protection, flags, file, offset);
}

void *mmap64(void *at, size_t length, int protection, int flags, int file, off_t offset)
{
    return map(at, length, protection, flags, file, offset);
}

#ifdef COUNTER /* the processor has one that always goes at the same pace, see tests/lab/populate.py */
static __thread uint64_t first_at, first, asked_at, answer, last; /* cycles when the kernel was asked; its nanoseconds */
static __thread double pace;                                      /* nanoseconds in a cycle; 0: not known */

static uint64_t cycles(void)
{
    uint32_t low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return (uint64_t)high << 32 | low;
}

static uint64_t asked(struct timespec *time)
{
    uint64_t before, now, ns;
    double measured = pace;
    pace = 0; /* for a signal's handler, while these are not of one moment */
    before = cycles();
    call(SYS_clock_gettime, CLOCK_MONOTONIC, (long)time, 0, 0, 0, 0);
    now = cycles();
    ns = time->tv_sec * 1000000000UL + time->tv_nsec;
    if (now - before < CLOSE) { /* else others had the processor meanwhile, and the moment is not known */
        now = before + (now - before) / 2;
        if (!first_at) {
            first_at = now;
            first = ns;
        } else if (now - first_at > RENEW)
            measured = (double)(ns - first) / (now - first_at);
        asked_at = now;
        answer = ns;
    }
    pace = measured;
    return ns;
}

/* Never behind what was told before. */
int clock_gettime(clockid_t clock, struct timespec *time)
{
    uint64_t gone, ns;
    long result;
    if (clock != CLOCK_MONOTONIC || !is_big) {
        result = call(SYS_clock_gettime, clock, (long)time, 0, 0, 0, 0);
        if (result < 0)
            errno = -result;
        return result < 0 ? -1 : 0;
    }
    gone = cycles() - asked_at;
    ns = pace > 0 && gone < RENEW ? answer + (uint64_t)(gone * pace) : asked(time);
    last = ns > last ? ns : last;
    time->tv_sec = last / 1000000000UL;
    time->tv_nsec = last % 1000000000UL;
    return 0;
}
#endif

__attribute__((constructor)) static void begin(void)
{
    size_t total = 0;
    dl_iterate_phdr(add_size, &total);
    is_big = total >= BIG;
    if (is_big)
        dl_iterate_phdr(populate_object, NULL);
    if (total >= PYTHON)
        populate_heap();
}
