/* SPDX-License-Identifier: MIT
 *
 * The caller comes back as it went in: its signal mask, the CPUs it may run on, its rounding mode and
 * floating-point controls, its priority and name; and the process's signal handlers. It needs little stack,
 * and may exit afterwards.
 */
#include "one_block.h"

#include <fenv.h>
#include <pthread.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

typedef struct {
    sigset_t blocked;
    cpu_set_t cpus;
    int rounding, priority;
    unsigned controls;
    char name[16];
    struct sigaction handlers[65];
} state;

static unsigned controls(void)
{
#if defined(__x86_64__)
    return _mm_getcsr() & ~0x3Fu;       /* the low six bits say what has happened, not what will */
#else
    return 0;
#endif
}

static void look(state *seen)
{
    memset(seen, 0, sizeof *seen);
    sigprocmask(SIG_SETMASK, NULL, &seen->blocked);
    sched_getaffinity(0, sizeof seen->cpus, &seen->cpus);
    seen->rounding = fegetround();
    seen->priority = getpriority(PRIO_PROCESS, 0);
    seen->controls = controls();
    prctl(PR_GET_NAME, seen->name);
    for (int number = 1; number < 32; number++) {
        sigaction(number, NULL, &seen->handlers[number]);
    }
}

static void compare(const state *before, const state *after, const char *during)
{
    for (int number = 1; number < 65; number++) {
        if (sigismember(&before->blocked, number) != sigismember(&after->blocked, number)) {
            kit_wrong("caller-state", "the signal mask has changed: signal %d (%s)", number, during);
            break;
        }
    }
    for (int number = 1; number < 32; number++) {
        if (before->handlers[number].sa_sigaction != after->handlers[number].sa_sigaction) {
            kit_wrong("caller-state", "the handler of signal %d has changed (%s)", number, during);
        }
    }
    if (!CPU_EQUAL(&before->cpus, &after->cpus)) {
        kit_wrong("caller-state", "the CPUs that the caller may run on have changed (%s)", during);
    }
    if (before->rounding != after->rounding || before->controls != after->controls) {
        kit_wrong("caller-state", "the floating-point controls have changed: %#x, not %#x (%s)",
                  after->controls, before->controls, during);
    }
    if (before->priority != after->priority || strcmp(before->name, after->name)) {
        kit_wrong("caller-state", "the caller's priority or name has changed (%s)", during);
    }
}

static void unusual_state(void)
{
    sigset_t some;

    sigemptyset(&some);
    sigaddset(&some, SIGUSR1);
    sigaddset(&some, SIGWINCH);
    sigprocmask(SIG_BLOCK, &some, NULL);
    fesetround(FE_UPWARD);
#if defined(__x86_64__)
    _mm_setcsr(_mm_getcsr() | 0x8040);  /* denormals are zeros, in and out */
#endif
    prctl(PR_SET_NAME, "caller");
}

static void stays_as_it_was(void)
{
    static const char *const during[] = {"flushed", "refused", "a wrong count"};
    state before, after;

    for (int unusual = 0; unusual < 2; unusual++) {
        for (uint32_t threads = 1; threads <= 4; threads++) {
            for (int kind = 0; kind < 3; kind++) {
                one_block b = new_block(4096, 600, threads);
                uint64_t count = 600;

                mark_all(&b, kind == 0 ? IN_CACHE : IN_CACHE | IN_HOST);
                b.block.used_length -= kind == 1 ? 4096 : 0;    /* its last bit is stray */
                count += kind == 2 ? 5 : 0;
                look(&before);
                kit_flush(&b.block, 1, 4096, b.cache_bitmap, b.host_bitmap, b.n_words, &count, threads,
                          NULL);
                look(&after);
                compare(&before, &after, during[kind]);
            }
        }
        unusual_state();
    }
}

/* ---- a caller with little stack: a coroutine's, or a thread's ---- */

enum { SMALL_STACK = 256 << 10 };       /* twice what colo_flush.h grants, and room for a sanitizer */

static void *call_there(void *unused)
{
    static const uint64_t sizes[] = {1024, 4096, 2 << 20};

    (void)unused;
    kit_handle_faults_elsewhere();
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        for (uint32_t threads = 1; threads <= 4; threads += 3) {
            one_block b = new_block(sizes[i], (8 << 20) / sizes[i] + 3, threads);

            kit_fill(cache_page(&b, 0), b.pages * b.page_size, i + 1);
            mark_all(&b, IN_CACHE);
            flush_and_judge(&b, 0, "the caller has a stack of 256 KiB");
            must_all_be_copied(&b, "the caller has a stack of 256 KiB");
        }
    }
    return NULL;
}

static void small_stack(void)
{
    pthread_attr_t attributes;
    pthread_t caller;

    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, SMALL_STACK);
    pthread_attr_setguardsize(&attributes, 8 << 20);    /* whoever wants more must not jump over it */
    kit_meanwhile = ", where the caller has a stack of 256 KiB";
    if (pthread_create(&caller, &attributes, call_there, NULL)) {
        perror("pthread_create");
        exit(2);
    }
    pthread_join(caller, NULL);
}

/* ---- the process exits, helpers asleep: nothing more to see than that it does ---- */

static void exits(void)
{
    for (uint32_t threads = 1; threads <= 4; threads++) {
        one_block b = new_block(4096, 2000, threads);

        mark_all(&b, IN_CACHE | IN_HOST);
        flush_and_judge(&b, 0, "before the process exits");
    }
}

int main(int argc, char **argv)
{
    static const kit_check checks[] = {
        {"state", stays_as_it_was},
        {"small-stack", small_stack},
        {"exits", exits},
    };

    return kit_main(argc, argv, checks, COUNT_OF(checks));
}
