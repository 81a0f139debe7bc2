/* SPDX-License-Identifier: MIT
 *
 * A call of colo_flush made on guarded memory and judged whole, in C alone: for the programs that the
 * conformance kit builds, shows and hands out. What must be seen comes from oracle.h.
 *
 * Every buffer lies against memory that cannot be touched; the cache and the block list are read-only.
 * What is wrong is a line "rule: detail" on stdout, and exit status 1.
 */
#ifndef COLO_KIT_H
#define COLO_KIT_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "colo_flush.h"
#include "oracle.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

#if defined(__GNUC__)
#define KIT_UNUSED __attribute__((unused))
#define KIT_PRINTS __attribute__((format(printf, 2, 3)))
#else
#define KIT_UNUSED
#define KIT_PRINTS
#endif

enum {
    KIT_OS_PAGE = 4096,
    KIT_GUARD = 1 << 20,        /* bytes that cannot be touched, on both sides of a buffer */
    KIT_SLACK = 0xC5,           /* what lies between a buffer and its guard */
    KIT_STATS_BEFORE = 0x5A5A5A5A,
    KIT_MOST_SHOWN = 6,
};

/* ---- verdicts ---- */

static int kit_failures;

KIT_PRINTS static void kit_wrong(const char *rule, const char *format, ...)
{
    char detail[400];
    va_list arguments;

    if (kit_failures++ >= KIT_MOST_SHOWN) {
        return;
    }
    va_start(arguments, format);
    vsnprintf(detail, sizeof detail, format, arguments);
    va_end(arguments);
    dprintf(STDOUT_FILENO, "%s: %s\n", rule, detail);
}

/* ---- random numbers, and what memory holds ---- */

static uint64_t kit_mix(uint64_t z)
{
    z += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

static uint64_t kit_seed;

KIT_UNUSED static uint64_t kit_below(uint64_t bound)
{
    return kit_mix(kit_seed++) % bound;
}

/* No eight bytes of one stream like any others of it, or of another. */
static void kit_fill(uint8_t *memory, size_t size, uint64_t stream)
{
    uint64_t at = stream << 40;

    for (size_t i = 0; i < size; i += 8, at++) {
        uint64_t word = kit_mix(at);

        memcpy(memory + i, &word, size - i < 8 ? size - i : 8);
    }
}

/* ---- buffers ---- */

typedef struct {
    char name[48];
    uint8_t *map;               /* guard, then what may be touched, then guard */
    size_t inside;
    uint8_t *at;
    size_t size;
} kit_buffer;

static kit_buffer *kit_buffers;
static size_t kit_n_buffers;
static volatile int kit_is_outside; /* the call has returned, and nobody may touch anything */
static const char *kit_meanwhile = "";  /* what is unusual now, told with a crash */

static void kit_protect(const kit_buffer *buffer, int protection)
{
    if (buffer->inside && mprotect(buffer->map + KIT_GUARD, buffer->inside, protection)) {
        perror("mprotect");
        exit(2);
    }
}

static void kit_open(kit_buffer *buffer, size_t size, enum kit_place place, size_t shift)
{
    size_t inside = (size + shift + KIT_OS_PAGE - 1) / KIT_OS_PAGE * KIT_OS_PAGE;
    void *map = mmap(NULL, inside + 2 * KIT_GUARD, PROT_NONE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (map == MAP_FAILED) {
        perror("mmap");
        exit(2);
    }
    buffer->map = map;
    buffer->inside = inside;
    buffer->size = size;
    buffer->at = buffer->map + KIT_GUARD + (place == KIT_HIGH ? inside - size : shift);
    kit_protect(buffer, PROT_READ | PROT_WRITE);
    memset(buffer->map + KIT_GUARD, KIT_SLACK, (size_t)(buffer->at - buffer->map) - KIT_GUARD);
    memset(buffer->at + size, KIT_SLACK,
           (size_t)(buffer->map + KIT_GUARD + inside - (buffer->at + size)));
}

static bool kit_slack_is_intact(const kit_buffer *buffer)
{
    const uint8_t *from = buffer->map + KIT_GUARD, *to = from + buffer->inside;

    for (; from < buffer->at; from++) {
        if (*from != KIT_SLACK) {
            return false;
        }
    }
    for (from = buffer->at + buffer->size; from < to; from++) {
        if (*from != KIT_SLACK) {
            return false;
        }
    }
    return true;
}

/* ---- faults: a sentence, and the end ---- */

static const kit_buffer *kit_near(const uint8_t *address)
{
    for (size_t i = 0; i < kit_n_buffers; i++) {
        const kit_buffer *one = &kit_buffers[i];

        if (one->map && address >= one->map && address < one->map + one->inside + 2 * KIT_GUARD) {
            return one;
        }
    }
    return NULL;
}

static void kit_fault(int number, siginfo_t *info, void *context)
{
    const uint8_t *address = info->si_addr;
    const kit_buffer *near = number == SIGSEGV || number == SIGBUS ? kit_near(address) : NULL;

    (void)context;
    kit_failures = 0;
    if (kit_is_outside && near) {
        kit_wrong("after-return", "%s is touched after colo_flush has returned", near->name);
    } else if (near && address >= near->at + near->size) {
        kit_wrong("bounds", "%td bytes past the end of %s (%zu bytes)",
                  address - (near->at + near->size), near->name, near->size);
    } else if (near && address < near->at) {
        kit_wrong("bounds", "%td bytes before the start of %s", near->at - address, near->name);
    } else if (near) {
        kit_wrong(near->name[0] == 'h' ? "clean-pages-untouched" : "read-only", "byte %td of %s, which is read-only, is written",
                  address - near->at, near->name);
    } else {
        kit_wrong("no-crash", "signal %d, address %p%s", number, (const void *)address, kit_meanwhile);
    }
    _exit(1);
}

/* The handler has a stack of its own: a port's threads may have small ones. For the thread that calls this. */
static void kit_handle_faults_elsewhere(void)
{
    enum { SIZE = 1 << 16 };
    stack_t own = {.ss_sp = malloc(SIZE), .ss_size = SIZE};

    sigaltstack(&own, NULL);
}

static void kit_watch_for_faults(void)
{
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
    struct sigaction action = {.sa_sigaction = kit_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};

    kit_handle_faults_elsewhere();
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        sigaction(faults[i], &action, NULL);
    }
}

/* ---- one call ---- */

#ifdef KIT_DLOPEN
/* The port that COLO_KIT_PORT names, in place of one that is linked. */
#include <dlfcn.h>

static int (*kit_port)(const colo_block *, size_t, uint64_t, uint64_t *, uint64_t *, size_t, uint64_t *,
                       uint32_t, colo_stats *);
static int (*kit_plan)(uint64_t, uint32_t, uint32_t, uint64_t *, uint64_t *);
#define colo_flush kit_port
#define colo_plan kit_plan

static void kit_load_port(void)
{
    void *library = dlopen(getenv("COLO_KIT_PORT"), RTLD_NOW);
    void *flush = library ? dlsym(library, "colo_flush") : NULL;
    void *plan = library ? dlsym(library, "colo_plan") : NULL;

    if (!flush) {
        fprintf(stderr, "%s\n", dlerror());
        exit(2);
    }
    memcpy(&kit_port, &flush, sizeof flush);
    memcpy(&kit_plan, &plan, sizeof plan);
}

KIT_UNUSED static bool kit_has_plan(void)
{
    return kit_plan != NULL;
}
#else
static void kit_load_port(void)
{
}

KIT_UNUSED static bool kit_has_plan(void)
{
    return true;
}
#endif

/* Counted where the kit can see it, so that it knows a call that hangs from many that return. */
static volatile uint64_t *kit_calls_begun;

KIT_UNUSED static int kit_flush(const colo_block *blocks, size_t n_blocks, uint64_t page_size,
                                uint64_t *cache, uint64_t *host, size_t n_words, uint64_t *dirty_pages,
                                uint32_t threads, colo_stats *stats)
{
    ++*kit_calls_begun;
    return colo_flush(blocks, n_blocks, page_size, cache, host, n_words, dirty_pages, threads, stats);
}

/* A call's arguments in guarded memory. Of buffers: the list, both bitmaps, the count, the stats; then
 * host and cache of each block. */
typedef struct {
    const kit_call *call;
    kit_buffer *buffers;
    size_t n_buffers;
    uint8_t **host_before;      /* of each block */
} kit_placed;

enum { KIT_LIST, KIT_CACHE_BITMAP, KIT_HOST_BITMAP, KIT_COUNT, KIT_STATS, KIT_FIRST_BLOCK };

static bool kit_is_null_of(const kit_call *call, const char *kind, size_t i)
{
    char name[40];

    snprintf(name, sizeof name, "%s[%zu]", kind, i);
    return kit_names(call, name);
}

static kit_buffer *kit_host_of(const kit_placed *placed, size_t i)
{
    return &placed->buffers[KIT_FIRST_BLOCK + 2 * i];
}

static kit_buffer *kit_cache_of(const kit_placed *placed, size_t i)
{
    return &placed->buffers[KIT_FIRST_BLOCK + 2 * i + 1];
}

/* Memory of the two is shifted by different odd amounts where it is shifted. */
static size_t kit_shift(enum kit_place place, size_t i, bool host)
{
    if (place == KIT_ODD) {
        return 1;
    }
    return place == KIT_SHIFTED ? host ? 1 + 2 * (i % 7) : 15 + 4 * (i % 5) : 0;
}

static void kit_open_words(kit_placed *placed, int which, const char *name, const void *words,
                           size_t size)
{
    kit_buffer *buffer = &placed->buffers[which];
    bool high = placed->call->place == KIT_HIGH;

    snprintf(buffer->name, sizeof buffer->name, "%s", name);
    kit_open(buffer, size, high ? KIT_HIGH : KIT_LOW, 0);
    if (size) {
        memcpy(buffer->at, words, size);
    }
}

KIT_UNUSED static void kit_place_call(kit_placed *placed, const kit_call *call)
{
    colo_stats stats = {KIT_STATS_BEFORE, KIT_STATS_BEFORE, KIT_STATS_BEFORE, KIT_STATS_BEFORE};
    colo_block *list = calloc(call->n_blocks + 1, sizeof *list);
    static uint64_t number;     /* no call has contents of the one before it */

    number++;
    placed->call = call;
    placed->n_buffers = KIT_FIRST_BLOCK + 2 * call->n_blocks;
    placed->buffers = calloc(placed->n_buffers, sizeof *placed->buffers);
    placed->host_before = calloc(call->n_blocks + 1, sizeof *placed->host_before);
    kit_buffers = placed->buffers;
    kit_n_buffers = placed->n_buffers;
    for (size_t i = 0; i < call->n_blocks; i++) {
        const kit_block *b = &call->blocks[i];
        size_t size = kit_memory_of(b);
        kit_buffer *host = kit_host_of(placed, i), *cache = kit_cache_of(placed, i);

        snprintf(host->name, sizeof host->name, "host memory of block %zu", i);
        snprintf(cache->name, sizeof cache->name, "cache memory of block %zu", i);
        kit_open(host, size, call->place, kit_shift(call->place, i, true));
        kit_open(cache, size, call->place, kit_shift(call->place, i, false));
        kit_fill(host->at, size, number * 1000 + 2 * i + 1);
        kit_fill(cache->at, size, number * 1000 + 2 * i + 2);
        placed->host_before[i] = malloc(size + 1);
        memcpy(placed->host_before[i], host->at, size);
        kit_protect(cache, PROT_READ);
        list[i] = (colo_block){b->offset, b->used_length, b->max_length, b->first_bit,
                               kit_is_null_of(call, "host", i) ? NULL : host->at,
                               kit_is_null_of(call, "cache", i) ? NULL : cache->at};
    }
    kit_open_words(placed, KIT_LIST, "the block list", list, call->n_blocks * sizeof *list);
    kit_protect(&placed->buffers[KIT_LIST], PROT_READ);
    kit_open_words(placed, KIT_CACHE_BITMAP, "cache bitmap", call->cache, 8 * call->n_words);
    kit_open_words(placed, KIT_HOST_BITMAP, "host bitmap", call->host, 8 * call->n_words);
    kit_open_words(placed, KIT_COUNT, "dirty_pages", &call->dirty_pages, sizeof call->dirty_pages);
    kit_open_words(placed, KIT_STATS, "stats", &stats, sizeof stats);
    free(list);
}

/* The same memory as before the call, for another round. */
KIT_UNUSED static void kit_place_again(kit_placed *placed)
{
    const kit_call *call = placed->call;

    for (size_t i = 0; i < call->n_blocks; i++) {
        memcpy(kit_host_of(placed, i)->at, placed->host_before[i], kit_host_of(placed, i)->size);
    }
    if (call->n_words) {
        memcpy(placed->buffers[KIT_CACHE_BITMAP].at, call->cache, 8 * call->n_words);
        memcpy(placed->buffers[KIT_HOST_BITMAP].at, call->host, 8 * call->n_words);
    }
    memcpy(placed->buffers[KIT_COUNT].at, &call->dirty_pages, 8);
    for (size_t i = 0; i < 4; i++) {
        ((uint64_t *)(void *)placed->buffers[KIT_STATS].at)[i] = KIT_STATS_BEFORE;
    }
}

static void *kit_argument(const kit_placed *placed, int which, const char *name)
{
    return kit_names(placed->call, name) ? NULL : placed->buffers[which].at;
}

KIT_UNUSED static int kit_run(const kit_placed *placed)
{
    const kit_call *call = placed->call;

    return kit_flush(kit_argument(placed, KIT_LIST, "blocks"), call->n_blocks, call->page_size,
                     kit_argument(placed, KIT_CACHE_BITMAP, "cache_bitmap"),
                     kit_argument(placed, KIT_HOST_BITMAP, "host_bitmap"), call->n_words,
                     kit_argument(placed, KIT_COUNT, "dirty_pages"), call->threads,
                     kit_argument(placed, KIT_STATS, "stats"));
}

/* From here on nobody may touch any of it; and again. */
KIT_UNUSED static void kit_hide(const kit_placed *placed)
{
    kit_is_outside = 1;
    for (size_t i = 0; i < placed->n_buffers; i++) {
        kit_protect(&placed->buffers[i], PROT_NONE);
    }
}

KIT_UNUSED static void kit_unhide(const kit_placed *placed)
{
    for (size_t i = 0; i < placed->n_buffers; i++) {
        bool read_only = i == KIT_LIST || (i >= KIT_FIRST_BLOCK && (i - KIT_FIRST_BLOCK) % 2);

        kit_protect(&placed->buffers[i], read_only ? PROT_READ : PROT_READ | PROT_WRITE);
    }
    kit_is_outside = 0;
}

KIT_UNUSED static void kit_give_back(kit_placed *placed)
{
    for (size_t i = 0; i < placed->n_buffers; i++) {
        munmap(placed->buffers[i].map, placed->buffers[i].inside + 2 * KIT_GUARD);
    }
    for (size_t i = 0; i < placed->call->n_blocks; i++) {
        free(placed->host_before[i]);
    }
    free(placed->host_before);
    free(placed->buffers);
    kit_buffers = NULL;
    kit_n_buffers = 0;
}

/* ---- what is seen after it ---- */

static void kit_judge_pages(const kit_placed *placed, size_t i, bool refused)
{
    const kit_call *call = placed->call;
    const kit_buffer *host = kit_host_of(placed, i), *cache = kit_cache_of(placed, i);
    uint64_t step = refused || !call->page_size || call->page_size > host->size ? host->size
                                                                                : call->page_size;

    for (uint64_t at = 0, page = 0; at < host->size; at += step, page++) {
        bool dirty = !refused && kit_is_dirty(call, call->blocks[i].first_bit + page);
        size_t size = host->size - at < step ? host->size - at : step;
        bool is_new = !memcmp(host->at + at, cache->at + at, size);
        bool is_old = !memcmp(host->at + at, placed->host_before[i] + at, size);

        if (dirty && is_old && !is_new) {       /* a page of some bytes may have been equal before */
            kit_wrong("copies-dirty", "page %llu of block %zu is dirty and was not copied",
                      (unsigned long long)page, i);
        } else if (dirty && !is_new) {
            kit_wrong("copies-right",
                      "page %llu of block %zu holds neither its old content nor the cache's",
                      (unsigned long long)page, i);
        } else if (!dirty && !is_old) {
            kit_wrong(refused ? "refusal-changes-nothing" : "clean-pages-untouched",
                      "page %llu of block %zu is clean and was written", (unsigned long long)page, i);
        }
    }
}

static void kit_judge_bits(const kit_placed *placed, int which, const uint64_t *before, bool refused)
{
    const kit_buffer *buffer = &placed->buffers[which];

    for (size_t w = 0; w < placed->call->n_words; w++) {
        uint64_t now = ((const uint64_t *)(const void *)buffer->at)[w];

        if (refused ? now != before[w] : now & before[w]) {
            kit_wrong(refused ? "refusal-changes-nothing" : "clears", "%s: word %zu is %#llx",
                      buffer->name, w, (unsigned long long)now);
        }
        if (!refused && now & ~before[w]) {
            kit_wrong("no-spurious-bits", "%s: bits appeared in word %zu: %#llx", buffer->name, w,
                      (unsigned long long)(now & ~before[w]));
        }
    }
}

static void kit_judge_numbers(const kit_placed *placed, const kit_expected *expected)
{
    const uint64_t *stats = (const uint64_t *)(const void *)placed->buffers[KIT_STATS].at;
    uint64_t count;

    memcpy(&count, placed->buffers[KIT_COUNT].at, sizeof count);
    if (count != expected->dirty_pages) {
        kit_wrong(expected->status == -EINVAL ? "refusal-changes-nothing" : "count",
                  "dirty_pages is %#llx, not %#llx", (unsigned long long)count,
                  (unsigned long long)expected->dirty_pages);
    }
    for (size_t i = 0; i < 4 && !kit_names(placed->call, "stats"); i++) {
        static const char *const names[] = {"copied", "host_dirty", "cache_dirty", "both_dirty"};
        uint64_t want = expected->status == -EINVAL ? KIT_STATS_BEFORE : expected->stats[i];

        if (stats[i] != want) {
            kit_wrong(expected->status == -EINVAL ? "refusal-changes-nothing" : "stats",
                      "%s is %#llx, not %#llx", names[i], (unsigned long long)stats[i],
                      (unsigned long long)want);
        }
    }
}

/* Everything that can be seen after a call that returned `status`. */
KIT_UNUSED static void kit_judge(const kit_placed *placed, int status)
{
    const kit_call *call = placed->call;
    kit_expected expected = kit_expect(call);

    if (expected.may_refuse && status == -EINVAL) {
        expected = kit_refusal(call);
    }
    bool refused = expected.status == -EINVAL;

    if (status != expected.status) {
        const char *rule = refused                                 ? "refuses"
                           : status == 0 || status == -ERANGE ? "status"
                                                                   : "accepts";
        kit_wrong(rule, "returned %d, not %d%s%s", status, expected.status, refused ? ": " : "",
                  refused ? expected.why : "");
    }
    for (size_t i = 0; i < call->n_blocks; i++) {
        kit_judge_pages(placed, i, refused);
    }
    kit_judge_bits(placed, KIT_CACHE_BITMAP, call->cache, refused);
    kit_judge_bits(placed, KIT_HOST_BITMAP, call->host, refused);
    kit_judge_numbers(placed, &expected);
    for (size_t i = 0; i < placed->n_buffers; i++) {
        if (!kit_slack_is_intact(&placed->buffers[i])) {
            kit_wrong("bounds", "bytes just outside %s were written", placed->buffers[i].name);
        }
    }
}

/* One call from beginning to end; what it returned. */
KIT_UNUSED static int kit_make(const kit_call *call)
{
    kit_placed placed;
    int status;

    kit_place_call(&placed, call);
    status = kit_run(&placed);
    kit_judge(&placed, status);
    kit_give_back(&placed);
    return status;
}

/* The same call again and again, until something is wrong: for races. Signals end waits meanwhile. */
static void kit_ignore(int number)
{
    (void)number;
}

KIT_UNUSED static void kit_make_rounds(const kit_call *call, uint64_t rounds)
{
    struct sigaction action = {.sa_handler = kit_ignore};
    struct itimerval often = {{0, 300}, {0, 300}}, never = {{0, 0}, {0, 0}};
    kit_placed placed;

    sigaction(SIGALRM, &action, NULL);
    kit_place_call(&placed, call);
    for (uint64_t round = 0; round < rounds && !kit_failures; round++) {
        kit_place_again(&placed);
        setitimer(ITIMER_REAL, round % 2 ? &often : &never, NULL);
        int status = kit_run(&placed);

        kit_judge(&placed, status);
        if (kit_failures) {
            dprintf(STDOUT_FILENO, "round %llu\n", (unsigned long long)round + 1);
        }
    }
    setitimer(ITIMER_REAL, &never, NULL);
    kit_give_back(&placed);
}

/* ---- a program ---- */

static double kit_effort = 1.0;

/* COLO_KIT_BEAT: a file in which calls are counted. COLO_KIT_SEED, COLO_KIT_EFFORT. */
KIT_UNUSED static void kit_get_ready(void)
{
    static uint64_t nobody_looks[1];
    const char *beat = getenv("COLO_KIT_BEAT"), *seed = getenv("COLO_KIT_SEED");
    const char *effort = getenv("COLO_KIT_EFFORT");
    int file = beat ? open(beat, O_RDWR) : -1;
    void *map = file < 0 ? MAP_FAILED : mmap(NULL, 8, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);

    kit_calls_begun = map == MAP_FAILED ? nobody_looks : map;
    if (file >= 0) {
        close(file);
    }
    kit_seed = seed ? strtoull(seed, NULL, 0) << 32 : 0;
    kit_effort = effort ? strtod(effort, NULL) : 1.0;
    kit_load_port();
}

KIT_UNUSED static void kit_begin(void)
{
    kit_get_ready();
    kit_watch_for_faults();
}

KIT_UNUSED static uint64_t kit_times(uint64_t number)
{
    double wanted = (double)number * kit_effort;

    return wanted < 1 ? 1 : (uint64_t)wanted;
}

/* Written at once: what the port does when the process exits may hang. */
KIT_UNUSED static int kit_end(void)
{
    printf("%s\n", kit_failures ? "FAILED" : "passed");
    fflush(stdout);
    kit_meanwhile = ", when the process exits";
    return kit_failures != 0;
}

/* A program of several checks: which one is named on its command line. */
typedef struct {
    const char *name;
    void (*run)(void);
} kit_check;

KIT_UNUSED static int kit_main(int argc, char **argv, const kit_check *checks, size_t n_checks)
{
    for (size_t i = 0; i < n_checks; i++) {
        if (argc == 2 && !strcmp(argv[1], checks[i].name)) {
            kit_begin();
            checks[i].run();
            return kit_end();
        }
        if (argc != 2) {
            printf("%s\n", checks[i].name);
        }
    }
    return 2;
}

#endif
