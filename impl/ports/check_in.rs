// SPDX-License-Identifier: MIT
//
//! The check-in protocol, `check_in.h` in Rust: persistent helpers that work in rounds, and a caller that
//! works too and waits only for helpers that have checked in. One that comes late delays nobody, and
//! when a round has returned nobody is inside. The model: `model/protocols/check_in.py`.
//!
//! The memory orders are the weakest under which the model was explored; each says what it pairs with.

use std::cell::UnsafeCell;
use std::mem;
use std::os::raw::{c_int, c_long};
use std::ptr;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

#[cfg(not(target_endian = "little"))]
compile_error!("a futex looks at the low half of the state, which must lie first");

/// The caller, worker 0, among them.
pub const MOST_WORKERS: usize = 256;
/// Longer than it takes to wake a thread.
const SPIN: Duration = Duration::from_micros(100);

const OPEN: u64 = 1 << 63;
const QUIT: u64 = 1 << 62;

/// On lines of the processor's cache that nothing else lies on.
#[repr(align(64))]
#[derive(Default)]
pub struct Apart<T>(pub T);

type Work<'a> = dyn Fn(usize) + Sync + 'a;

/// Written before a round opens, read inside it.
struct Round {
    number: u64,
    helpers: usize, // that are wanted in it
    work: *const Work<'static>,
}

struct Pool {
    state: Apart<AtomicU64>,    // OPEN, QUIT, and how many helpers are inside
    doorbell: Apart<AtomicU32>, // a futex, woken once a round
    round: Apart<UnsafeCell<Round>>,
    spin: AtomicU64, // nanoseconds to look before a sleep; 0: none
    helpers: UnsafeCell<Mutex<Helpers>>,
}

// SAFETY: `round` is written while nobody is inside, and `helpers` replaced in a child process only,
// which has one thread.
unsafe impl Sync for Pool {}

static POOL: Pool = Pool {
    state: Apart(AtomicU64::new(0)),
    doorbell: Apart(AtomicU32::new(0)),
    round: Apart(UnsafeCell::new(Round { number: 0, helpers: 0, work: &|_| {} })),
    spin: AtomicU64::new(0),
    helpers: UnsafeCell::new(Mutex::new(Helpers(Vec::new()))),
};

/* ---- the C library's ---- */

#[cfg(target_arch = "x86_64")]
const SYS_FUTEX: c_long = 202;
#[cfg(not(target_arch = "x86_64"))] // Arm, RISC-V and all newer ones
const SYS_FUTEX: c_long = 98;
const FUTEX_WAIT_PRIVATE: c_int = 128;
const FUTEX_WAKE_PRIVATE: c_int = 129;
const SIG_SETMASK: c_int = 2;
const SIGBUS: c_int = 7;
const SIGSEGV: c_int = 11;

#[repr(C)]
struct SignalSet([u64; 16]);

extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
    fn sigfillset(set: *mut SignalSet) -> c_int;
    fn sigdelset(set: *mut SignalSet, signal: c_int) -> c_int;
    fn pthread_sigmask(how: c_int, set: *const SignalSet, old: *mut SignalSet) -> c_int;
    fn pthread_atfork(
        prepare: Option<extern "C" fn()>,
        parent: Option<extern "C" fn()>,
        child: Option<extern "C" fn()>,
    ) -> c_int;
    fn atexit(function: extern "C" fn()) -> c_int;
}

fn futex_wait(word: *const u32, seen: u32) {
    // SAFETY: the word is the pool's, and so is there for ever.
    unsafe { syscall(SYS_FUTEX, word, FUTEX_WAIT_PRIVATE, seen, ptr::null::<u8>()) };
}

fn futex_wake(word: *const u32, most: c_int) {
    // SAFETY: as above.
    unsafe { syscall(SYS_FUTEX, word, FUTEX_WAKE_PRIVATE, most) };
}

fn doorbell_word() -> *const u32 {
    &POOL.doorbell.0 as *const AtomicU32 as *const u32
}

/// The low half of the state: how many are inside.
fn state_word() -> *const u32 {
    &POOL.state.0 as *const AtomicU64 as *const u32
}

/* ---- helpers ---- */

/// Until when whoever waits looks, and gives way between two looks, before it sleeps.
fn spin_deadline() -> Instant {
    Instant::now() + Duration::from_nanos(POOL.spin.load(Relaxed))
}

/// Enters the round if it is open. Acquire: pairs with the store that opened it, so that the job is read
/// after it was written.
fn check_in() -> bool {
    let mut state = POOL.state.0.load(Relaxed);

    while state & OPEN != 0 {
        match POOL.state.0.compare_exchange_weak(state, state + 1, Acquire, Relaxed) {
            Ok(_) => return true,
            Err(now) => state = now,
        }
    }
    false
}

/// Release: pairs with the caller's look at the state; pages, bits and counts come before it.
fn check_out() {
    let left = POOL.state.0.fetch_sub(1, Release) - 1;

    if left & !QUIT == 0 {
        futex_wake(state_word(), 1); // the last one out of a closed round
    }
}

fn helper(worker: usize) {
    let mut last_round = 0;

    loop {
        // Acquire: pairs with the ring, so that no state older than it is read after it.
        let seen = POOL.doorbell.0.load(Acquire);

        if POOL.state.0.load(Relaxed) & QUIT != 0 {
            return;
        }
        if check_in() {
            // SAFETY: it is not written while anybody is inside.
            let round = unsafe { &*POOL.round.0.get() };

            if round.number != last_round && worker <= round.helpers {
                // SAFETY: it is there until the round has returned, and so while anybody is inside.
                unsafe { (*round.work)(worker) };
            }
            last_round = round.number;
            check_out();
        }
        let deadline = spin_deadline();
        while POOL.doorbell.0.load(Relaxed) == seen {
            if Instant::now() < deadline {
                thread::yield_now();
            } else {
                futex_wait(doorbell_word(), seen);
            }
        }
    }
}

/// Release: whoever sees this ring sees what the state says.
fn ring(most: usize) {
    POOL.doorbell.0.fetch_add(1, Release);
    futex_wake(doorbell_word(), most as c_int);
}

/* ---- the caller ---- */

/// The threads that have been started. Whoever holds them is the one caller.
pub struct Helpers(Vec<JoinHandle<()>>);

pub fn one_caller() -> MutexGuard<'static, Helpers> {
    // SAFETY: it is replaced only where there is no other thread.
    let helpers = unsafe { &*POOL.helpers.get() };
    helpers.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Helpers {
    /// As many as wanted, or as many as the system gives. They leave signals to the process's own
    /// threads, but for those that an access to memory raises: those come to whoever made it.
    pub fn start(&mut self, wanted: usize) -> usize {
        if self.0.len() < wanted && self.0.try_reserve(wanted).is_ok() {
            let (mut most, mut before) = (SignalSet([0; 16]), SignalSet([0; 16]));
            watch_for_forks_and_the_end();
            // SAFETY: the sets are as large as the C library's.
            unsafe {
                sigfillset(&mut most);
                sigdelset(&mut most, SIGSEGV);
                sigdelset(&mut most, SIGBUS);
                pthread_sigmask(SIG_SETMASK, &most, &mut before);
            }
            while self.0.len() < wanted {
                let worker = self.0.len() + 1;
                match thread::Builder::new().spawn(move || helper(worker)) {
                    Ok(started) => self.0.push(started),
                    Err(_) => break,
                }
            }
            unsafe { pthread_sigmask(SIG_SETMASK, &before, ptr::null_mut()) };
            // Where threads outnumber the CPUs, one that looks holds up one that works.
            let cpus = thread::available_parallelism().map_or(1, |cpus| cpus.get());
            let spin = if cpus > self.0.len() { SPIN } else { Duration::ZERO };
            POOL.spin.store(spin.as_nanos() as u64, Relaxed);
        }
        self.0.len().min(wanted)
    }

    /// A round: open, work, close, wait for those inside. Helpers 1 to `helpers` may come.
    pub fn run_round(&mut self, helpers: usize, work: &Work) {
        // SAFETY: no round is open and nobody inside, and there is one caller. The work is borrowed for
        // longer than it may be, but nobody is inside when this returns.
        unsafe {
            let round = &mut *POOL.round.0.get();
            round.number += 1;
            round.helpers = helpers;
            round.work = mem::transmute::<&Work<'_>, &Work<'static>>(work);
        }
        // Release: pairs with the check-in; all that the round is about was written before.
        POOL.state.0.store(OPEN, Release);
        // The kernel wakes those that have slept longest, not those that may come.
        ring(if helpers < self.0.len() { c_int::MAX as usize } else { helpers });
        work(0);
        POOL.state.0.fetch_and(!OPEN, Relaxed);
        let deadline = spin_deadline();
        loop {
            // Acquire: pairs with every check-out.
            let state = POOL.state.0.load(Acquire);
            if state == 0 {
                return;
            }
            if Instant::now() < deadline {
                thread::yield_now();
            } else {
                futex_wait(state_word(), state as u32);
            }
        }
    }
}

fn watch_for_forks_and_the_end() {
    static ONCE: Once = Once::new();

    // SAFETY: the functions are there for ever.
    ONCE.call_once(|| unsafe {
        pthread_atfork(None, None, Some(forget_helpers));
        atexit(stop_helpers);
    });
}

/// A fork takes only the thread that called it along: no helper, and no flush that was running.
extern "C" fn forget_helpers() {
    POOL.state.0.store(0, Relaxed);
    // SAFETY: there is no other thread. What was there may be half changed, and is left as it is.
    unsafe { ptr::write(POOL.helpers.get(), Mutex::new(Helpers(Vec::new()))) };
}

/// At the end of the process; not if a flush is under way, in which some thread has ended it.
extern "C" fn stop_helpers() {
    // SAFETY: as in one_caller.
    if let Ok(mut helpers) = unsafe { &*POOL.helpers.get() }.try_lock() {
        POOL.state.0.fetch_or(QUIT, Relaxed);
        ring(c_int::MAX as usize);
        for helper in helpers.0.drain(..) {
            let _ = helper.join();
        }
    }
}
