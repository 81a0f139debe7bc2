/* SPDX-License-Identifier: MIT
 *
 * One call after the other: helpers that sleep through many of them, callers that change or end, what
 * piles up, and what goes on between them.
 */
#include "one_block.h"

#include <dirent.h>
#include <malloc.h>
#include <pthread.h>
#include <sys/syscall.h>

enum { WORDS = 8, SIZE = 4096 };

static one_block few_words(void)
{
    one_block b = new_block(SIZE, WORDS * 64, 1);

    kit_fill(cache_page(&b, 0), b.pages * SIZE, 1);
    return b;
}

/* Work in every word, so that there is some for every helper. */
static void flush_all(one_block *b, uint32_t threads, const char *during)
{
    b->threads = threads;
    memset(b->block.host, 0, b->block.used_length);
    mark_all(b, IN_CACHE | IN_HOST);
    flush_and_judge(b, 0, during);
    must_all_be_copied(b, during);
}

static void flush_little(one_block *b, uint32_t threads, const char *during)
{
    b->threads = threads;
    for (uint64_t word = 0; word < WORDS; word++) {
        mark(b, word * 64 + word, IN_HOST);
    }
    flush_and_judge(b, 0, during);
}

/* ---- a helper that sleeps through many calls ---- */

static void asleep_for(uint32_t calls, uint32_t threads_meanwhile)
{
    one_block b = few_words();

    for (uint32_t round = 0; round < 3; round++) {
        flush_all(&b, 4, "before helpers sleep");
        for (uint32_t call = 0; call < calls && !kit_failures; call++) {
            flush_little(&b, threads_meanwhile, "while helpers sleep");
        }
        flush_all(&b, 4, "after helpers have slept");
        if (calls > 1000) {
            break;
        }
    }
}

static void asleep_256(void)
{
    for (uint32_t calls = 253; calls <= 257; calls++) {
        asleep_for(calls, 1);
        asleep_for(calls, 2);
    }
}

static void asleep_65536(void)
{
    asleep_for(65535, 1);
    if (kit_effort >= 0.5) {
        asleep_for(65535, 2);
    }
}

/* ---- calls from several threads in turn ---- */

static pthread_barrier_t together;
static one_block shared_block;

static void *call_in_turn(void *mine)
{
    uintptr_t turn = (uintptr_t)mine;

    for (uint32_t call = 0; call < 60; call++) {
        if (call % 3 == turn) {
            flush_all(&shared_block, 1 + call % 4, "calls from several threads in turn");
        }
        pthread_barrier_wait(&together);
    }
    return NULL;
}

static void threads_in_turn(void)
{
    shared_block = few_words();
    flush_all(&shared_block, 3, "the main thread calls");
    for (int again = 0; again < 5 && !kit_failures; again++) {
        pthread_t threads[3];

        pthread_barrier_init(&together, NULL, 3);
        for (uintptr_t i = 0; i < 3; i++) {
            pthread_create(&threads[i], NULL, call_in_turn, (void *)i);
        }
        for (uintptr_t i = 0; i < 3; i++) {
            pthread_join(threads[i], NULL);
        }
        flush_all(&shared_block, 4, "the main thread calls, the others have ended");
    }
}

/* ---- what piles up ---- */

static long field(const char *name)
{
    FILE *file = fopen("/proc/self/status", "r");
    char line[200];
    long value = 0;

    while (file && fgets(line, sizeof line, file)) {
        if (!strncmp(line, name, strlen(name))) {
            value = atol(line + strlen(name));
        }
    }
    if (file) {
        fclose(file);
    }
    return value;
}

static long open_files(void)
{
    DIR *folder = opendir("/proc/self/fd");
    long files = 0;

    while (folder && readdir(folder)) {
        files++;
    }
    if (folder) {
        closedir(folder);
    }
    return files;
}

typedef struct {
    long threads, resident, reserved, files;
} use;

static use in_use(void)
{
    return (use){field("Threads:"), field("RssAnon:"), field("VmSize:"), open_files()};
}

static const char *between;     /* which calls */

static void must_not_grow(const char *what, long before, long after, long most, const char *unit)
{
    if (after - before > most) {
        kit_wrong("no-leak", "%ld %s more %s after %s", after - before, unit, what, between);
    }
}

static void nothing_may_grow(use before)
{
    use after = in_use();

    must_not_grow("threads", before.threads, after.threads, 16, "");
    must_not_grow("of memory in use", before.resident, after.resident, 4096, "KiB");
    must_not_grow("of address space", before.reserved, after.reserved, 200 << 10, "KiB");
    must_not_grow("open files", before.files, after.files, 4, "");
}

/* A hundred blocks: what is kept of a list is soon seen. */
static void piles_up(void)
{
    enum { BLOCKS = 100, CALLS = 6000, WARM_UP = 1500 };
    static colo_block blocks[BLOCKS];
    static uint64_t cache[BLOCKS], host[BLOCKS];
    uint8_t *memory = reserve(2 * BLOCKS * 64 * 1024);
    use before = {0, 0, 0, 0};

    between = "6,000 calls than after 1,500";
    mallopt(M_ARENA_MAX, 2);    /* else the C library may reserve 64 MiB for each thread */
    memset(memory, 1, 2 * BLOCKS * 64 * 1024);
    for (uint64_t i = 0; i < BLOCKS; i++) {
        blocks[i] = (colo_block){i << 16, 63 << 10, 64 << 10, i * 64, memory + (i << 16),
                                 memory + ((i + BLOCKS) << 16)};
    }
    for (uint32_t call = 0; call < CALLS && !kit_failures; call++) {
        colo_stats stats;
        uint32_t kind = call % 4, threads = 1 + call / 4 % 4;
        uint64_t count = kind == 2 ? 7 : 2;
        int want = kind == 1 ? -EINVAL : kind == 2 ? -ERANGE : 0, status;

        if (call == WARM_UP) {
            before = in_use();
        } else if (call % WARM_UP == 0 && call) {       /* thousands of threads take long */
            must_not_grow("threads", before.threads, field("Threads:"), 16, "");
        }
        cache[3] = 1, cache[90] = 2, host[50] = 4, host[99] = 1;
        host[98] = kind == 1 ? UINT64_C(1) << 63 : 0;   /* beyond the used length: stray */
        status = kit_flush(blocks, BLOCKS, 1024, cache, host, BLOCKS, &count, threads, &stats);
        if (status != want) {
            kit_wrong(want == -EINVAL ? "refuses" : "accepts", "call %u returned %d, not %d", call,
                      status, want);
        }
    }
    nothing_may_grow(before);
}

/* ---- callers that end: a thread for each checkpoint ---- */

static void *call_once(void *unused)
{
    (void)unused;
    flush_all(&shared_block, 4, "each call from a thread of its own");
    return NULL;
}

static void callers_end(void)
{
    enum { CALLERS = 200, WARM_UP = 50 };
    use before = {0, 0, 0, 0};

    between = "200 calls, each from a thread of its own that has ended, than after 50";
    mallopt(M_ARENA_MAX, 2);
    shared_block = few_words();
    for (uint32_t caller = 0; caller < CALLERS && !kit_failures; caller++) {
        pthread_t thread;

        if (caller == WARM_UP) {
            before = in_use();
        }
        if (pthread_create(&thread, NULL, call_once, NULL)) {
            perror("pthread_create");
            exit(2);
        }
        pthread_join(thread, NULL);
    }
    nothing_may_grow(before);
}

/* ---- between calls ---- */

static double seconds_of(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Processor time of all threads but this one. */
static double burnt_by_others(void)
{
    return seconds_of(CLOCK_PROCESS_CPUTIME_ID) - seconds_of(CLOCK_THREAD_CPUTIME_ID);
}

/* Does any thread but this one run, or wait for a processor? */
static bool another_runs(void)
{
    DIR *folder = opendir("/proc/self/task");
    bool runs = false;

    for (struct dirent *one; folder && (one = readdir(folder));) {
        char path[300], text[300] = "";
        FILE *file;

        snprintf(path, sizeof path, "/proc/self/task/%s/stat", one->d_name);
        file = one->d_name[0] == '.' || atoi(one->d_name) == syscall(SYS_gettid) ? NULL : fopen(path, "r");
        if (file) {
            size_t length = fread(text, 1, sizeof text - 1, file);
            const char *name_ends = length ? strrchr(text, ')') : NULL;

            runs = runs || (name_ends && name_ends[2] == 'R');
            fclose(file);
        }
    }
    if (folder) {
        closedir(folder);
    }
    return runs;
}

/* A helper may look for more work for a while. One that goes on to is told by what it burns, not by how
 * long that takes: on a busy machine it takes longer. */
static void at_rest(void)
{
    enum { QUIET_LOOKS = 10, MOST_SECONDS = 1 };
    static const double LITTLE = 0.0002;    /* seconds; the two clocks are not read at once */
    one_block b = few_words();
    double start, last;

    for (int again = 0; again < 5; again++) {
        flush_all(&b, 4, "before the port is left alone");
    }
    start = last = burnt_by_others();
    for (int quiet = 0; quiet < QUIET_LOOKS;) {
        usleep(5000);

        double now = burnt_by_others();

        quiet = now - last < LITTLE && !another_runs() ? quiet + 1 : 0;
        last = now;
        if (now - start > MOST_SECONDS) {
            kit_wrong("at-rest", "after the last call its threads have used %.1f s of processor time", now - start);
            return;
        }
    }
}

int main(int argc, char **argv)
{
    static const kit_check checks[] = {
        {"asleep-256", asleep_256},
        {"threads-in-turn", threads_in_turn},
        {"piles-up", piles_up},
        {"callers-end", callers_end},
        {"at-rest", at_rest},
        {"asleep-65536", asleep_65536},
    };

    return kit_main(argc, argv, checks, COUNT_OF(checks));
}
