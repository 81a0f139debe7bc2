/* A guest program that knows what its memory has to hold.
 *
 * Usage: workload MEBIBYTES. Each round rewrites RUNS runs of RUN_PAGES pages at places drawn from
 * the round's number, then checks every word of every page and prints one line:
 *
 *     colo-guest round 7 pages 65536 sum 1f0c... ok
 *     colo-guest round 7 corrupt page 123 word 5
 *
 * A page's words follow from its number and its version (how often it has been rewritten), so the
 * sum of all words follows from the round's number alone: workload.py computes it a second time, outside.
 */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { PAGE_WORDS = 512, HEADER_WORDS = 3, RUNS = 512, RUN_PAGES = 16 };
static const uint64_t MAGIC = 0x434f4c4f50414745; /* "COLOPAGE": how a page is found from outside */
static const uint64_t INCREMENT = 0x9e3779b97f4a7c15;

static uint64_t mix(uint64_t x) /* splitmix64 */
{
    x += INCREMENT;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
}

static uint64_t seed(uint64_t page, uint64_t version)
{
    return mix(page << 32 | version);
}

static void fill(uint64_t *words, uint64_t page, uint64_t version)
{
    words[0] = MAGIC;
    words[1] = page;
    words[2] = version;
    uint64_t x = seed(page, version);
    for (int i = HEADER_WORDS; i < PAGE_WORDS; i++)
        words[i] = x += INCREMENT;
}

/* Adds the page's words to *sum. Returns the first wrong word, or PAGE_WORDS if all are right. */
static int check(const uint64_t *words, uint64_t page, uint64_t version, uint64_t *sum)
{
    const uint64_t header[HEADER_WORDS] = {MAGIC, page, version};
    for (int i = 0; i < HEADER_WORDS; i++)
        if (words[i] != header[i])
            return i;
    uint64_t x = seed(page, version), total = 0;
    for (int i = HEADER_WORDS; i < PAGE_WORDS; i++) {
        x += INCREMENT;
        if (words[i] != x)
            return i;
        total += x;
    }
    *sum += total;
    return PAGE_WORDS;
}

static void rewrite(uint64_t *arena, uint32_t *versions, uint64_t pages, uint64_t round)
{
    for (uint64_t run = 0; run < RUNS; run++) {
        uint64_t first = mix(round * RUNS + run) % (pages - RUN_PAGES + 1);
        for (uint64_t page = first; page < first + RUN_PAGES; page++)
            fill(arena + page * PAGE_WORDS, page, ++versions[page]);
    }
}

static void verify(const uint64_t *arena, const uint32_t *versions, uint64_t pages, uint64_t round)
{
    uint64_t sum = 0;
    for (uint64_t page = 0; page < pages; page++) {
        int word = check(arena + page * PAGE_WORDS, page, versions[page], &sum);
        if (word < PAGE_WORDS) {
            printf("colo-guest round %" PRIu64 " corrupt page %" PRIu64 " word %d\n", round, page, word);
            return;
        }
    }
    printf("colo-guest round %" PRIu64 " pages %" PRIu64 " sum %016" PRIx64 " ok\n", round, pages, sum);
}

int main(int argc, char **argv)
{
    uint64_t pages = argc == 2 ? strtoull(argv[1], NULL, 10) * 256 : 0;
    if (pages < RUN_PAGES)
        return fprintf(stderr, "usage: workload MEBIBYTES\n"), 2;
    uint64_t *arena = mmap(NULL, pages * 4096, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    uint32_t *versions = calloc(pages, sizeof *versions);
    if (arena == MAP_FAILED || !versions)
        return perror("workload: no memory"), 1;
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (uint64_t page = 0; page < pages; page++)
        fill(arena + page * PAGE_WORDS, page, 0);
    for (uint64_t round = 1;; round++) {
        rewrite(arena, versions, pages, round);
        verify(arena, versions, pages, round);
    }
}
