/* SPDX-License-Identifier: MIT
 *
 * colo_plan, where a port exports it: the ranges of all threads cover the pages, none twice, and share no
 * word.
 */
#ifndef COLO_KIT_PLAN_H
#define COLO_KIT_PLAN_H

#include "kit.h"

KIT_UNUSED static void check_plan(uint64_t pages, uint32_t threads)
{
    uint64_t end = 0;

    for (uint32_t thread = 0; thread < threads && kit_has_plan() && !kit_failures; thread++) {
        uint64_t lower = 0, upper = 0;
        int status = colo_plan(pages, threads, thread, &lower, &upper);

        if (status) {
            kit_wrong("plan-refuses", "thread %u got %d, not 0", thread, status);
        } else if (lower > upper) {
            kit_wrong("plan-cover", "thread %u has lower %llu > upper %llu", thread,
                      (unsigned long long)lower, (unsigned long long)upper);
        } else if (lower < upper && lower != end) {
            kit_wrong("plan-cover", "thread %u starts at page %llu, not %llu", thread,
                      (unsigned long long)lower, (unsigned long long)end);
        } else if (lower < upper && lower % KIT_WORD) {
            kit_wrong("plan-words", "thread %u starts at page %llu, inside a word", thread,
                      (unsigned long long)lower);
        }
        end = lower < upper ? upper : end;
    }
    if (kit_has_plan() && !kit_failures && end != pages) {
        kit_wrong("plan-cover", "the ranges end at page %llu", (unsigned long long)end);
    }
}

KIT_UNUSED static void check_refused_plan(uint64_t pages, uint32_t threads, uint32_t thread,
                                          const char *null)
{
    uint64_t lower = 0, upper = 0;
    int status = -EINVAL;

    if (kit_has_plan()) {
        status = colo_plan(pages, threads, thread, strcmp(null, "lower") ? &lower : NULL,
                           strcmp(null, "upper") ? &upper : NULL);
    }
    if (status != -EINVAL) {
        kit_wrong("plan-refuses", "returned %d, not -EINVAL", status);
    }
}

#endif
