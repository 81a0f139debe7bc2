/* SPDX-License-Identifier: MIT
 *
 * Wake-ups that are lost, or come for no reason: whatever a port's threads do to wait for each other, they
 * are held up at random just before it and just after it, and now and then a wait ends at once. The functions are those of this program, which the loader finds
 * before the C library's.
 */
#include "one_block.h"

#include <dlfcn.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <sys/syscall.h>

enum { WORDS = 6, ROUNDS = 700 };

static volatile unsigned longest;       /* microseconds that a thread is held up; 0: none is */
static volatile int one_in;             /* times */
static _Thread_local uint64_t state;

static void hold_up(void)
{
    unsigned most = longest;

    if (!most) {
        return;
    }
    if (!state) {
        state = kit_mix((uint64_t)(uintptr_t)&state + kit_seed);
    }
    state = kit_mix(state);
    if (state % (unsigned)one_in == 0) {
        usleep((useconds_t)(state >> 32) % most);
    } else if (state % 3 == 0) {
        sched_yield();
    }
}

/* The C library's own. Its condition variables have two versions; the older is another thing. */
static void *its_own(const char *name)
{
    void *found = strstr(name, "cond_") ? dlvsym(RTLD_NEXT, name, "GLIBC_2.3.2") : NULL;

    return found ? found : dlsym(RTLD_NEXT, name);
}

#define HELD_UP(type, name, its_name, parameters, arguments) \
    type name parameters \
    { \
        static type(*volatile own) parameters; \
        type answer; \
\
        if (!own) { \
            *(void **)(uintptr_t)&own = its_own(#its_name); \
        } \
        hold_up(); \
        answer = own arguments; \
        hold_up(); \
        return answer; \
    }

HELD_UP(int, pthread_mutex_lock, pthread_mutex_lock, (pthread_mutex_t * mutex), (mutex))
HELD_UP(int, pthread_mutex_unlock, pthread_mutex_unlock, (pthread_mutex_t * mutex), (mutex))
HELD_UP(int, wait_on_condition, pthread_cond_wait,
        (pthread_cond_t * condition, pthread_mutex_t *mutex), (condition, mutex))
HELD_UP(int, wait_until, pthread_cond_timedwait,
        (pthread_cond_t * condition, pthread_mutex_t *mutex, const struct timespec *until),
        (condition, mutex, until))
HELD_UP(int, pthread_cond_signal, pthread_cond_signal, (pthread_cond_t * condition), (condition))
HELD_UP(int, pthread_cond_broadcast, pthread_cond_broadcast, (pthread_cond_t * condition), (condition))
HELD_UP(int, pthread_barrier_wait, pthread_barrier_wait, (pthread_barrier_t * barrier), (barrier))
HELD_UP(int, sem_wait, sem_wait, (sem_t * semaphore), (semaphore))
HELD_UP(int, sem_post, sem_post, (sem_t * semaphore), (semaphore))

/* Whoever waits may be woken for no reason. */
static bool wakes_for_no_reason(void)
{
    hold_up();
    return longest && state % 7 == 0;
}

static int wake_at_once(pthread_mutex_t *mutex)
{
    pthread_mutex_unlock(mutex);
    sched_yield();
    return pthread_mutex_lock(mutex);
}

int pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *mutex)
{
    return wakes_for_no_reason() ? wake_at_once(mutex) : wait_on_condition(condition, mutex);
}

int pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex,
                           const struct timespec *until)
{
    return wakes_for_no_reason() ? wake_at_once(mutex) : wait_until(condition, mutex, until);
}

/* Futexes come by here, and have six arguments like every system call. */
long syscall(long number, ...)
{
    static long (*volatile own)(long, long, long, long, long, long, long);
    long given[6], answer;
    va_list arguments;

    va_start(arguments, number);
    for (int i = 0; i < 6; i++) {
        given[i] = va_arg(arguments, long);
    }
    va_end(arguments);
    if (!own) {
        *(void **)(uintptr_t)&own = its_own("syscall");
    }
    if (number == SYS_futex && wakes_for_no_reason() && (given[1] & 0x7F) == FUTEX_WAIT) {
        return 0;
    }
    answer = own(number, given[0], given[1], given[2], given[3], given[4], given[5]);
    if (number == SYS_futex) {
        int error = errno;

        hold_up();
        errno = error;
    }
    return answer;
}

static void rounds_of(uint64_t page_size, uint64_t rounds, unsigned microseconds, int often,
                      uint32_t most_threads)
{
    one_block b = new_block(page_size, WORDS * 64, 1);

    kit_fill(cache_page(&b, 0), b.pages * page_size, 1);
    one_in = often;
    for (uint64_t round = 0; round < kit_times(rounds) && !kit_failures; round++) {
        memset(b.block.host, 0, b.block.used_length);
        b.threads = 2 + (uint32_t)kit_below(most_threads - 1);
        if (round % 3) {
            mark_all(&b, IN_CACHE | IN_HOST);
        } else {
            mark(&b, kit_below(b.pages), IN_CACHE);
            mark(&b, kit_below(b.pages), IN_HOST);
        }

        uint64_t dirty[WORDS];

        for (uint64_t w = 0; w < WORDS; w++) {
            dirty[w] = b.cache_bitmap[w] | b.host_bitmap[w];
        }
        longest = microseconds;
        flush_and_judge(&b, 0, "threads are held up where they wait");
        longest = 0;
        for (uint64_t page = 0; page < b.pages; page++) {
            if (dirty[page / 64] >> page % 64 & 1) {
                must_be_copied(&b, page, "threads are held up where they wait");
            }
        }
    }
}

static void brief(void)
{
    rounds_of(1024, ROUNDS, 60, 3, 4);
}

static void more_threads(void)
{
    rounds_of(1024, ROUNDS / 3, 60, 3, 9);
}

/* So much that nobody would rather do it alone. */
static void large(void)
{
    rounds_of(16384, 80, 300, 2, 4);
}

/* Longer than anybody would wait who has lost patience. */
static void long_ones(void)
{
    rounds_of(16384, 8, 300000, 8, 4);
}

int main(int argc, char **argv)
{
    static const kit_check checks[] = {
        {"brief", brief},
        {"more-threads", more_threads},
        {"large", large},
        {"long", long_ones},
    };

    return kit_main(argc, argv, checks, COUNT_OF(checks));
}
