/* Maps a program's pages at its start, all at once. Preloaded into every program of a guest of User Mode Linux.
 *
 * There a page that is touched for the first time costs three hand-overs between two processes of the host, where a
 * system call costs one; and a start of Python touches thousands. What the kernel has populated (madvise(2)) it shows
 * the program at the next touch all the same; but when the protection of a range changes, it maps all of it in one go.
 *
 * Nothing that a program can see changes but its resident memory. Whatever fails is left to be done page by page.
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
