"""A round that wants fewer helpers than the pool has: those that may come are woken.

The programs below include the pools of the C and the Rust port. The caller of a round, in which it has
work too, waits for helper 1, who slept.
"""

import subprocess
from pathlib import Path

import pytest

from impl.ports.build import HERE, RUST_FLAGS, compiler_for
from tests.support.needs import needs_cc, needs_rustc

ROUNDS, HELPERS = 16, 7

C = """
#define _GNU_SOURCE
#include "check_in.h"
#include <dirent.h>
#include <stdio.h>
#include <string.h>

static atomic_bool came;

static void until_all_sleep(void)
{
    for (unsigned asleep = 0; asleep < %(helpers)d; usleep(100)) {
        DIR *tasks = opendir("/proc/self/task");
        char path[300], line[300];

        asleep = 0;
        for (struct dirent *task; (task = readdir(tasks));) {
            snprintf(path, sizeof(path), "/proc/self/task/%%s/stat", task->d_name);
            FILE *stat = fopen(path, "r");
            if (stat && fgets(line, sizeof(line), stat)) {
                asleep += !!strstr(line, ") S ");
            }
            if (stat) {
                fclose(stat);
            }
        }
        closedir(tasks);
    }
}

static void work(uint32_t worker)
{
    uint64_t deadline = nanoseconds() + %(patience)d * UINT64_C(1000000000);

    if (worker == 1) {
        atomic_store(&came, true);
    } else if (worker != 0) {
        _exit(3);
    }
    while (!atomic_load(&came) && nanoseconds() < deadline) {
        usleep(100);
    }
}

int main(void)
{
    if (start_helpers(%(helpers)d) != %(helpers)d) {
        return 2;
    }
    atomic_store(&pool.spin, 0);
    for (int round = 0; round < %(rounds)d; round++) {
        until_all_sleep();
        atomic_store(&came, false);
        run_round(1, work);
        if (!atomic_load(&came)) {
            return 1;
        }
    }
    return 0;
}
"""

RUST = """
#[allow(dead_code)]
#[path = "check_in.rs"]
mod check_in;

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};
use std::{fs, process, thread};

fn asleep() -> usize {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let stats = tasks.filter_map(|task| fs::read_to_string(task.unwrap().path().join("stat")).ok());
    stats.filter(|stat| stat.contains(") S ")).count()
}

fn main() {
    let mut caller = check_in::one_caller();
    if caller.start(%(helpers)d) != %(helpers)d {
        process::exit(2);
    }
    for _ in 0..%(rounds)d {
        while asleep() < %(helpers)d {
            thread::sleep(Duration::from_micros(100));
        }
        let came = AtomicBool::new(false);
        caller.run_round(1, &|worker| {
            let deadline = Instant::now() + Duration::from_secs(%(patience)d);
            match worker {
                0 => while !came.load(SeqCst) && Instant::now() < deadline {
                    thread::sleep(Duration::from_micros(100));
                },
                1 => came.store(true, SeqCst),
                _ => process::exit(3),
            }
        });
        if !came.load(SeqCst) {
            process::exit(1);
        }
    }
}
"""


def exit_of(program: str, suffix: str, folder: Path, patience: int) -> int:
    """Of the program, built in a folder that has the pool."""
    source, built = folder / f"wakes{suffix}", folder / "wakes"
    source.write_text(program % {"helpers": HELPERS, "rounds": ROUNDS, "patience": patience})
    flags = {".c": ["-std=c11", "-O1", "-pthread", f"-I{folder}"], ".rs": [RUST_FLAGS[0], "-O"]}
    subprocess.run(
        [compiler_for(source), *flags[suffix], str(source), "-o", str(built)], check=True
    )
    return subprocess.run([str(built)], check=False).returncode


POOLS = [
    pytest.param(C, "check_in.h", ".c", "helpers < pool.running", marks=needs_cc, id="C"),
    pytest.param(
        RUST, "check_in.rs", ".rs", "helpers < self.0.len()", marks=needs_rustc, id="Rust"
    ),
]


@pytest.mark.parametrize(("program", "pool", "suffix", "fewer"), POOLS)
def test_who_may_come_is_woken(
    program: str, pool: str, suffix: str, fewer: str, tmp_path: Path
) -> None:
    text = (HERE / pool).read_text()
    (tmp_path / pool).write_text(text)
    assert exit_of(program, suffix, tmp_path, patience=120) == 0
    assert text.count(fewer) == 1
    (tmp_path / pool).write_text(text.replace(fewer, "false"))
    assert exit_of(program, suffix, tmp_path, patience=1) == 1, (
        "the control: only as many as come are woken"
    )
