/* Is the weak order of streaming stores real on this processor, and does each cure cure it?
 *
 * One thread streams data and then raises a flag, again and again; the other, on another processor,
 * waits for the flag and looks whether the data is there. For each way of raising the flag a line:
 *
 *     nt;mov 360326 14330        how often the flag was seen, and how often its data was not there
 *
 * Usage: streaming_stores ROUNDS CPU CPU. The first way ends as soon as data was missing a few times.
 */
#define _GNU_SOURCE
#include <emmintrin.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { PAIRS = 4096, PATIENCE = 300, ENOUGH = 10 };
enum way { MOV, SFENCE_MOV, XCHG, LOCK_XADD, WAYS };
static const char *const names[WAYS] = {"nt;mov", "nt;sfence;mov", "nt;xchg", "nt;lock xadd"};

static struct {
    _Alignas(64) volatile int64_t data[8];
    _Alignas(64) volatile int64_t flag;
} pairs[PAIRS];

/* The round in progress, 0 between two rounds, -1 at the end. */
static volatile int64_t now;
static int64_t seen, missing;
static int cpus[2];

static void stay_on(int cpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    pthread_setaffinity_np(pthread_self(), sizeof set, &set);
}

static void *reader(void *unused)
{
    (void)unused;
    stay_on(cpus[1]);
    for (;;) {
        int64_t round = now;

        if (round < 0) {
            return NULL;
        }
        if (round == 0) {
            sched_yield();
            continue;
        }
        for (int i = 0; i < PAIRS; i++) {
            int64_t flag, data;
            int looked = 0;

            do {
                flag = pairs[i].flag;
            } while (flag != round && ++looked < PATIENCE);
            data = pairs[i].data[7];
            seen += flag == round;
            missing += flag == round && data != round;
        }
        now = 0;
    }
}

static void raise_flag(enum way way, volatile int64_t *flag, int64_t round)
{
    int64_t value = round;

    switch (way) {
    case MOV:
        *flag = round;
        break;
    case SFENCE_MOV:
        _mm_sfence();
        *flag = round;
        break;
    case XCHG:
        __asm__ volatile("xchgq %0, %1" : "+r"(value), "+m"(*flag) : : "memory");
        break;
    default:
        value = round - *flag;
        __asm__ volatile("lock xaddq %0, %1" : "+r"(value), "+m"(*flag) : : "memory");
    }
}

int main(int argc, char **argv)
{
    long rounds = argc == 4 ? atol(argv[1]) : 0;
    int64_t round = 0;
    pthread_t thread;

    if (rounds < 1) {
        fprintf(stderr, "usage: %s ROUNDS CPU CPU\n", argv[0]);
        return 2;
    }
    cpus[0] = atoi(argv[2]);
    cpus[1] = atoi(argv[3]);
    stay_on(cpus[0]);
    if (pthread_create(&thread, NULL, reader, NULL)) {
        return 1;
    }
    for (enum way way = MOV; way < WAYS; way++) {
        seen = missing = 0;
        for (long i = 0; i < rounds && (way != MOV || missing < ENOUGH); i++) {
            now = ++round;
            for (int k = 0; k < PAIRS; k++) {
                /* Half a line, so that the buffer it is combined in stays open for a while. */
                __m128i value = _mm_set1_epi64x(round);
                _mm_stream_si128((__m128i *)&pairs[k].data[4], value);
                _mm_stream_si128((__m128i *)&pairs[k].data[6], value);
                raise_flag(way, &pairs[k].flag, round);
            }
            _mm_sfence();
            while (now) {
                sched_yield();
            }
        }
        printf("%s %lld %lld\n", names[way], (long long)seen, (long long)missing);
    }
    now = -1;
    pthread_join(thread, NULL);
    return 0;
}
