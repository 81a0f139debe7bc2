/* SPDX-License-Identifier: MIT
 *
 * The check-in protocol: persistent helpers that work in rounds, and a caller that works too and waits
 * only for helpers that have checked in. One that comes late delays nobody, and when a round has
 * returned nobody is inside. The model: model/protocols/check_in.py; the same in numba: impl/kernels/check_in.py.
 *
 * The memory orders are the weakest under which the model was explored; each says what it pairs with.
 */
#ifndef COLO_CHECK_IN_H
#define COLO_CHECK_IN_H

#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
    LINE = 64,                          /* bytes in a line of the processor's cache */
    MOST_WORKERS = 256,                 /* the caller, worker 0, among them */
    SPIN_NANOSECONDS = 100 * 1000,      /* longer than it takes to wake a thread */
};

#define OPEN (UINT64_C(1) << 63)
#define QUIT (UINT64_C(1) << 62)

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "a futex looks at the low half of state, which lies first");

static struct {
    _Alignas(LINE) atomic_uint_fast64_t state;  /* OPEN, QUIT, and how many helpers are inside */
    _Alignas(LINE) atomic_uint doorbell;        /* a futex, woken once a round */
    _Alignas(LINE) uint64_t round;              /* written before a round opens, read inside it */
    uint32_t helpers;                           /* that are wanted in this round */
    void (*work)(uint32_t worker);
    _Alignas(LINE) atomic_uint_fast64_t spin;   /* nanoseconds to look before a sleep; 0: none */
    uint32_t running;                           /* helpers that have been started */
    pthread_mutex_t one_round_at_a_time;        /* taken by whoever calls run_round */
    pthread_t threads[MOST_WORKERS];
} pool = {.one_round_at_a_time = PTHREAD_MUTEX_INITIALIZER};

static void futex_wait(void *word, uint32_t seen)
{
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
}

static void futex_wake(void *word, int most)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, most, NULL, NULL, 0);
}

static uint64_t nanoseconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

/* Until when whoever waits looks, and gives way between two looks, before it sleeps. */
static uint64_t spin_deadline(void)
{
    return nanoseconds() + atomic_load_explicit(&pool.spin, memory_order_relaxed);
}

/* Enters the round if it is open. Acquire: pairs with the store that opened it, so that the job is
 * read after it was written. */
static bool check_in(void)
{
    uint64_t state = atomic_load_explicit(&pool.state, memory_order_relaxed);

    while (state & OPEN) {
        if (atomic_compare_exchange_weak_explicit(&pool.state, &state, state + 1,
                                                  memory_order_acquire, memory_order_relaxed)) {
            return true;
        }
    }
    return false;
}

/* Release: pairs with the caller's look at state; pages, bits and counts come before it. */
static void check_out(void)
{
    uint64_t left = atomic_fetch_sub_explicit(&pool.state, 1, memory_order_release) - 1;

    if (!(left & ~QUIT)) {
        futex_wake(&pool.state, 1);     /* the last one out of a closed round */
    }
}

static void *helper_main(void *opaque)
{
    uint32_t worker = (uint32_t)(uintptr_t)opaque;
    uint64_t last_round = 0;

    for (;;) {
        /* Acquire: pairs with the ring, so that no state older than it is read after it. */
        uint32_t seen = atomic_load_explicit(&pool.doorbell, memory_order_acquire);

        if (atomic_load_explicit(&pool.state, memory_order_relaxed) & QUIT) {
            return NULL;
        }
        if (check_in()) {
            if (pool.round != last_round && worker <= pool.helpers) {
                pool.work(worker);
            }
            last_round = pool.round;
            check_out();
        }
        for (uint64_t deadline = spin_deadline();
             atomic_load_explicit(&pool.doorbell, memory_order_relaxed) == seen;) {
            if (nanoseconds() < deadline) {
                sched_yield();
            } else {
                futex_wait(&pool.doorbell, seen);
            }
        }
    }
}

/* Release: whoever sees this ring sees what state says. */
static void ring(int most)
{
    atomic_fetch_add_explicit(&pool.doorbell, 1, memory_order_release);
    futex_wake(&pool.doorbell, most);
}

/* A round: open, work, close, wait for those inside. Helpers 1 to `helpers` may come. */
static void run_round(uint32_t helpers, void (*work)(uint32_t worker))
{
    pool.round++;
    pool.helpers = helpers;
    pool.work = work;
    /* Release: pairs with the check-in; all that the round is about was written before. */
    atomic_store_explicit(&pool.state, OPEN, memory_order_release);
    /* The kernel wakes those that have slept longest, not those that may come. */
    ring(helpers < pool.running ? INT_MAX : (int)helpers);
    work(0);
    atomic_fetch_and_explicit(&pool.state, ~OPEN, memory_order_relaxed);
    for (uint64_t deadline = spin_deadline();;) {
        /* Acquire: pairs with every check-out. */
        uint64_t state = atomic_load_explicit(&pool.state, memory_order_acquire);

        if (!state) {
            return;
        }
        if (nanoseconds() < deadline) {
            sched_yield();
        } else {
            futex_wait(&pool.state, (uint32_t)state);
        }
    }
}

/* As many helpers as wanted, or as many as the system gives. They leave signals to the process's own
 * threads, but for those that an access to memory raises: those come to whoever made it. */
static uint32_t start_helpers(uint32_t wanted)
{
    sigset_t most, before;
    cpu_set_t cpus;

    if (pool.running < wanted) {
        sigfillset(&most);
        sigdelset(&most, SIGSEGV);
        sigdelset(&most, SIGBUS);
        pthread_sigmask(SIG_SETMASK, &most, &before);
        while (pool.running < wanted &&
               !pthread_create(&pool.threads[pool.running + 1], NULL, helper_main,
                               (void *)(uintptr_t)(pool.running + 1))) {
            pool.running++;
        }
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        /* Where threads outnumber the CPUs, one that looks holds up one that works. */
        bool room = !sched_getaffinity(0, sizeof(cpus), &cpus) &&
                    (uint32_t)CPU_COUNT(&cpus) > pool.running;
        atomic_store_explicit(&pool.spin, room ? SPIN_NANOSECONDS : 0, memory_order_relaxed);
    }
    return pool.running < wanted ? pool.running : wanted;
}

__attribute__((destructor)) static void stop_helpers(void)
{
    atomic_fetch_or_explicit(&pool.state, QUIT, memory_order_relaxed);
    ring(INT_MAX);
    for (uint32_t i = 1; i <= pool.running; i++) {
        pthread_join(pool.threads[i], NULL);
    }
    pool.running = 0;
}

/* A fork takes only the thread that called it along: no helper, and no flush that was running. */
static void forget_helpers(void)
{
    atomic_store_explicit(&pool.state, 0, memory_order_relaxed);
    pthread_mutex_init(&pool.one_round_at_a_time, NULL);
    pool.running = 0;
}

__attribute__((constructor)) static void watch_for_forks(void)
{
    pthread_atfork(NULL, NULL, forget_helpers);
}

#endif
