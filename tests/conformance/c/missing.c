/* SPDX-License-Identifier: MIT
 *
 * No threads and no memory to be had: the flush is done with those that there are, or refused whole with
 * -ENOMEM; the process may be ended by abort() or exit(), as some languages do. It neither hangs nor crashes.
 *
 * The functions that give threads and memory are those of this program, which the loader finds before the
 * C library's.
 */
#include "one_block.h"

#include <dlfcn.h>
#include <pthread.h>

enum { PAGES = 1200, SIZE = 4096, FOREVER = 1 << 30 };

static _Thread_local int in_call;       /* only what the port asks for is refused */
static int threads_left = FOREVER, memory_left = FOREVER;

static bool refused(int *left)
{
    return in_call && (*left <= 0 || (*left)-- <= 0);
}

/* The loader asks too, for a thread's own data at its first use, and ends the process if it gets none. */
static bool is_loader(const void *caller)
{
    Dl_info found;

    return dladdr(caller, &found) && found.dli_fname && strstr(found.dli_fname, "/ld-");
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                   void *argument)
{
    static int (*volatile own)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

    if (refused(&threads_left)) {
        return EAGAIN;
    }
    if (!own) {
        *(void **)(uintptr_t)&own = dlsym(RTLD_NEXT, "pthread_create");
    }
    return own(thread, attributes, run, argument);
}

#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t number, size_t size);
void *__libc_realloc(void *memory, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

static void *none(void)
{
    errno = ENOMEM;
    return NULL;
}

void *malloc(size_t size)
{
    return refused(&memory_left) && !is_loader(__builtin_return_address(0)) ? none()
                                                                            : __libc_malloc(size);
}

void *calloc(size_t number, size_t size)
{
    return refused(&memory_left) && !is_loader(__builtin_return_address(0))
               ? none()
               : __libc_calloc(number, size);
}

void *realloc(void *memory, size_t size)
{
    return refused(&memory_left) ? none() : __libc_realloc(memory, size);
}

void *memalign(size_t alignment, size_t size)
{
    return refused(&memory_left) ? none() : __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return memalign(alignment, size);
}

int posix_memalign(void **memory, size_t alignment, size_t size)
{
    *memory = memalign(alignment, size);
    return *memory ? 0 : ENOMEM;
}
#endif

static void aborted(int number)
{
    (void)number;
    dprintf(STDOUT_FILENO, "passed: the port ended the process by abort()\n");
    _exit(0);
}

static void exited(void)
{
    if (in_call) {
        dprintf(STDOUT_FILENO, "passed: the port ended the process by exit()\n");
        _exit(0);
    }
}

/* Bits and numbers as before: none of the call was done. */
static bool nothing_changed(const one_block *b, uint64_t count, const colo_stats *stats)
{
    bool same = count == PAGES && stats->copied == 9 && stats->both_dirty == 9;

    for (uint64_t page = 0; page < PAGES && same; page++) {
        same = b->cache_bitmap[page / 64] >> page % 64 & 1 && !host_page(b, page)[7];
    }
    return same;
}

static void one_call(uint32_t threads, const char *during)
{
    one_block b = new_block(SIZE, PAGES, threads);
    colo_stats stats = {9, 9, 9, 9};
    uint64_t count = PAGES;
    int status;

    memset(cache_page(&b, 0), 0xAB, PAGES * SIZE);
    mark_all(&b, IN_CACHE);
    signal(SIGABRT, aborted);
    atexit(exited);
    in_call = 1;
    status = kit_flush(&b.block, 1, SIZE, b.cache_bitmap, b.host_bitmap, b.n_words, &count, threads,
                       &stats);
    in_call = 0;
    if (status == -ENOMEM) {
        if (!nothing_changed(&b, count, &stats)) {
            kit_wrong("refusal-changes-nothing", "-ENOMEM, but something has changed (%s)", during);
        }
        return;
    }
    if (status || count || stats.copied != PAGES) {
        kit_wrong("missing-resources", "returned %d, dirty_pages %llu, copied %llu of %d (%s)", status,
                  (unsigned long long)count, (unsigned long long)stats.copied, PAGES, during);
    }
    must_all_be_copied(&b, during);
}

static void no_threads(void)
{
    threads_left = 0;
    one_call(4, "no thread can be started");
    threads_left = FOREVER;
    one_call(4, "threads can be started again");
}

static void one_thread(void)
{
    threads_left = 1;
    one_call(5, "one thread can be started");
    one_call(3, "no more threads can be started");
    threads_left = FOREVER;
    one_call(6, "threads can be started again");
}

/* What a port gets ready once, it has. */
static void one_small_call(void)
{
    one_block b = new_block(SIZE, 1, 1);

    mark(&b, 0, IN_HOST);
    flush_and_judge(&b, 0, "the first call");
}

static void no_memory(void)
{
    one_small_call();
    memory_left = 0;
    one_call(3, "no memory");
    memory_left = FOREVER;
    one_call(3, "memory again");
}

static void little_memory(void)
{
    one_small_call();
    for (int allocations = 1; allocations <= 6; allocations++) {
        memory_left = allocations;
        one_call(2 + (uint32_t)allocations % 3, "memory for a few allocations");
    }
    memory_left = FOREVER;
    one_call(3, "memory again");
}

int main(int argc, char **argv)
{
    static const kit_check checks[] = {
        {"no-threads", no_threads},
        {"one-thread", one_thread},
        {"no-memory", no_memory},
        {"little-memory", little_memory},
    };

    return kit_main(argc, argv, checks, COUNT_OF(checks));
}
