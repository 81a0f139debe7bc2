/* SPDX-License-Identifier: MIT
 *
 * Could a flush that dies be finished by flushing again? Only if each page is marked in either bitmap
 * until it has been copied. So a flush is stopped in its middle, all its threads at once, looked at, and
 * let on: whatever it writes with, and whatever its helpers do with signals. What is seen is what a flush
 * that was killed there would have left.
 *
 * The port runs in a process of its own, on memory that both share.
 */
#include "one_block.h"

#include <sched.h>
#include <sys/wait.h>

enum { MEMORY = 24 << 20, MOST_CALLS = 40, LOOKS = 10 };

typedef struct {
    volatile uint64_t wanted, begun, returned;  /* calls */
    uint64_t page_size, pages, threads;
    uint64_t cache_bitmap[MEMORY / 1024 / 64], host_bitmap[MEMORY / 1024 / 64];
} shared;

static shared *both;            /* then the host memory, then the cache memory */
static uint8_t *host, *cache;

static void map(int file)
{
    size_t size = sizeof(shared) + 2 * (size_t)MEMORY;

    both = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (both == MAP_FAILED) {
        perror("mmap");
        exit(2);
    }
    host = (uint8_t *)(both + 1);
    cache = host + MEMORY;
}

static uint64_t was_marked(uint64_t page)
{
    return page % 5 < 3 ? page % 5 + 1 : 0;     /* in the cache bitmap, in the host bitmap, in both */
}

static uint64_t is_marked(uint64_t page)
{
    return (both->cache_bitmap[page / 64] >> page % 64 & 1) |
           (both->host_bitmap[page / 64] >> page % 64 & 1) << 1;
}

/* ---- the process with the port in it ---- */

_Noreturn static void flush_when_wanted(int file)
{
    kit_begin();
    map(file);
    for (uint64_t call = 1;; call++) {
        colo_block block = {0, both->pages * both->page_size, both->pages * both->page_size, 0, host,
                            cache};
        uint64_t count = 0;

        while (both->wanted < call) {
            usleep(50);
        }
        for (uint64_t page = 0; page < both->pages; page++) {
            count += is_marked(page) & 1;
        }
        both->begun = call;
        kit_flush(&block, 1, both->page_size, both->cache_bitmap, both->host_bitmap,
                  both->pages / 64 + (both->pages % 64 != 0), &count, (uint32_t)both->threads, NULL);
        both->returned = call;
    }
}

static pid_t start_port(int file)
{
    char number[16];
    pid_t pid = fork();

    snprintf(number, sizeof number, "%d", file);
    if (!pid) {
        const char *again = getenv("COLO_KIT_AGAIN");   /* where this is no program of its own */

        execl(again ? again : "/proc/self/exe", "repeat", "port", number, (char *)NULL);
        _exit(2);
    }
    return pid;
}

/* ---- the process that looks ---- */

static uint8_t *old_host;

static void prepare(void)
{
    memcpy(host, old_host, MEMORY);
    memset(both->cache_bitmap, 0, sizeof both->cache_bitmap);
    memset(both->host_bitmap, 0, sizeof both->host_bitmap);
    for (uint64_t page = 0; page < both->pages; page++) {
        both->cache_bitmap[page / 64] |= (was_marked(page) & 1) << page % 64;
        both->host_bitmap[page / 64] |= (was_marked(page) >> 1) << page % 64;
    }
}

static void look(const char *when)
{
    uint64_t size = both->page_size;

    for (uint64_t page = 0; page < both->pages && !kit_failures; page++) {
        unsigned long long number = page;
        bool is_old = !memcmp(host + page * size, old_host + page * size, size);

        if (was_marked(page) && !is_marked(page) &&
            memcmp(host + page * size, cache + page * size, size)) {
            kit_wrong("clear-after-copy", "%s neither bit of page %llu is set, and it is not copied",
                      when, number);
        }
        if (!was_marked(page) && !is_old) {
            kit_wrong("clean-pages-untouched", "%s page %llu, which is clean, is not as it was", when,
                      number);
        }
        if (!was_marked(page) && is_marked(page)) {
            kit_wrong("no-spurious-bits", "%s a bit of page %llu is set, which is clean", when, number);
        }
    }
}

static bool stopped(pid_t port)
{
    int status = 0;

    kill(port, SIGSTOP);
    if (waitpid(port, &status, WUNTRACED) == port && !WIFSTOPPED(status)) {
        kit_wrong("no-crash", "the process with the port in it has ended");
    }
    return !kit_failures;
}

static void flush_and_look(uint64_t size, uint32_t threads)
{
    int file = memfd_create("colo-kit", 0);
    uint64_t looks = 0;

    if (file < 0 || ftruncate(file, sizeof(shared) + 2 * (off_t)MEMORY)) {
        perror("memfd");
        exit(2);
    }
    map(file);
    both->page_size = size;
    both->pages = MEMORY / size - 1;
    both->threads = threads;
    old_host = malloc(MEMORY);
    kit_fill(old_host, MEMORY, 1);
    kit_fill(cache, MEMORY, 2);

    pid_t port = start_port(file);

    for (uint64_t call = 1; call <= MOST_CALLS && looks < kit_times(LOOKS) && !kit_failures; call++) {
        uint64_t pause = kit_below(3000);

        prepare();
        both->wanted = call;
        while (both->begun < call && !waitpid(port, NULL, WNOHANG)) {
            sched_yield();
        }
        for (bool ends = false; !ends && !kit_failures;) {
            usleep((useconds_t)pause);
            if (!stopped(port)) {
                break;
            }
            ends = both->returned == call;
            look(ends ? "after the call" : "in the middle of the call");
            looks += !ends;
            kill(port, SIGCONT);
            pause = 200 + kit_below(2000);
        }
    }
    kill(port, SIGKILL);
    waitpid(port, NULL, 0);
}

static void small_pages(void)
{
    flush_and_look(1024, 2);
}

static void one_thread(void)
{
    flush_and_look(4096, 1);
}

static void threads(void)
{
    flush_and_look(4096, 3);
}

static void large_pages(void)
{
    flush_and_look(2 << 20, 2);
}

int main(int argc, char **argv)
{
    static const kit_check checks[] = {
        {"one-thread", one_thread},
        {"threads", threads},
        {"small-pages", small_pages},
        {"large-pages", large_pages},
    };

    if (argc == 3 && !strcmp(argv[1], "port")) {
        flush_when_wanted(atoi(argv[2]));
    }
    return kit_main(argc, argv, checks, COUNT_OF(checks));
}
