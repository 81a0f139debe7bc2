// SPDX-License-Identifier: MIT
//
//! The flush to take, in Rust: `check_in_pool.c` on the standard library alone, and on the C library that
//! it stands on.
//!
//! - Helpers sleep on a futex; the caller works too, and waits only for those that have checked in
//!   (`check_in.rs`, beside this file).
//! - Work is handed out in batches of dirty pages, cut at bitmap words, off a shared cursor. So it does
//!   not matter where the dirty pages lie, and no two threads ever write one 64-bit word.
//! - Runs of dirty pages are copied whole, across words, while the beginning of the next run is fetched.
//!   Many pages go past the processor's cache, with one fence for each worker.
//! - Few dirty pages: the caller copies alone, since waking a thread costs more.
//!
//! A run's bits are cleared after it has been copied, so that a flush that dies can be repeated.

mod check_in;
mod colo_abi;

use check_in::{one_caller, Apart, MOST_WORKERS};
use colo_abi::{ColoBlock, ColoStats, ABI_VERSION, EINVAL, ERANGE, PAGES_PER_WORD};
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;
use std::os::raw::c_int;
use std::ptr;
use std::slice;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

const ENOMEM: c_int = 12;

const LINE: usize = 64; // bytes in a line of the processor's cache
const STRIDE: u64 = 32; // clean bitmap words that are skipped at a time
const SMALLEST_BATCH: u64 = 32; // dirty pages
const LARGEST_BATCH: u64 = 128;
const BATCHES_PER_WORKER: u64 = 16;
const SERIAL_BELOW_BYTES: u64 = 1 << 20; // up to here waking a helper costs more than it brings
const STREAM_FROM_BYTES: u64 = 4 << 20; // fewer have just been written, and are in the cache
const FETCHED_BYTES: usize = 8 * LINE; // enough for the hardware to follow on by itself

/* ---- what is flushed ---- */

/// The used pages of a block: bits `first .. last`.
struct Region {
    first: u64,
    last: u64,
    host: *mut u8,
    cache: *const u8,
}

/// One flush. Its memory is lent by the caller of `colo_flush`.
struct Job {
    page_size: u64,
    cache_bitmap: *mut u64,
    host_bitmap: *mut u64,
    n_words: usize,
    regions: Vec<Region>, // by first bit
    streams: bool,
    wide: bool, // has the processor AVX2 and popcnt?
}

// SAFETY: words and pages are looked at by the one worker that took them from the cursor, or by the
// caller while there is no round.
unsafe impl Sync for Job {}

/// Bits `0 .. count`, for `count` from 0 to 64.
fn pages_below(count: u64) -> u64 {
    u64::MAX.checked_shr((PAGES_PER_WORD - count) as u32).unwrap_or(0)
}

/// The bits of one word that stand for pages `first .. last`.
fn window_mask(word: u64, first: u64, last: u64) -> u64 {
    let (base, end) = (word * PAGES_PER_WORD, (word + 1) * PAGES_PER_WORD);
    let (start, stop) = (first.clamp(base, end) - base, last.clamp(base, end) - base);
    pages_below(stop) & !pages_below(start)
}

/* ---- reading the bitmaps ---- */

/// Compiled twice: for every processor, and for those that are `wide`.
macro_rules! for_each_cpu {
    ($name:ident, $wide:ident, $body:ident, $last:ident: $type:ty => $result:ty) => {
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,popcnt")]
        unsafe fn $wide(cache: *const u64, host: *const u64, $last: $type) -> $result {
            $body(cache, host, $last)
        }

        unsafe fn $name(wide: bool, cache: *const u64, host: *const u64, $last: $type) -> $result {
            #[cfg(target_arch = "x86_64")]
            if wide {
                return $wide(cache, host, $last);
            }
            let _ = wide;
            $body(cache, host, $last)
        }
    };
}

#[inline(always)]
unsafe fn stride_body(cache: *const u64, host: *const u64, first: usize) -> bool {
    let words = first..first + STRIDE as usize;
    words.fold(0, |seen, w| seen | *cache.add(w) | *host.add(w)) == 0
}

#[inline(always)]
unsafe fn count_body(cache: *const u64, host: *const u64, n_words: usize) -> u64 {
    (0..n_words).map(|w| u64::from((*cache.add(w) | *host.add(w)).count_ones())).sum()
}

#[inline(always)]
unsafe fn index_body(cache: *const u64, host: *const u64, below: &mut [u64]) {
    let mut before = 0;
    for (w, below) in below.iter_mut().enumerate() {
        *below = before;
        before += u64::from((*cache.add(w) | *host.add(w)).count_ones());
    }
}

for_each_cpu!(stride_is_clean, stride_wide, stride_body, first: usize => bool);
for_each_cpu!(count_words, count_wide, count_body, n_words: usize => u64);
for_each_cpu!(index_dirty, index_wide, index_body, below: &mut [u64] => ());

// SAFETY, of all this: nobody else looks at these words and pages meanwhile.
impl Job {
    unsafe fn dirty_bits(&self, word: u64) -> u64 {
        *self.cache_bitmap.add(word as usize) | *self.host_bitmap.add(word as usize)
    }

    /// The first bit in `from .. last` that is dirty, or `last`.
    unsafe fn next_dirty(&self, from: u64, last: u64) -> u64 {
        let (cache, host) = (self.cache_bitmap, self.host_bitmap);
        let end = last / PAGES_PER_WORD + u64::from(last % PAGES_PER_WORD != 0);
        let mut word = from / PAGES_PER_WORD;
        while word < end {
            let dirty = self.dirty_bits(word) & window_mask(word, from, last);
            if dirty != 0 {
                return word * PAGES_PER_WORD + u64::from(dirty.trailing_zeros());
            }
            word += 1;
            while word + STRIDE <= end && stride_is_clean(self.wide, cache, host, word as usize) {
                word += STRIDE;
            }
        }
        last
    }

    /// The first bit in `from .. last` that is clean in both bitmaps, or `last`.
    unsafe fn next_clean(&self, from: u64, last: u64) -> u64 {
        let mut word = from / PAGES_PER_WORD;
        while word * PAGES_PER_WORD < last {
            let clean = !self.dirty_bits(word) & window_mask(word, from, last);
            if clean != 0 {
                return word * PAGES_PER_WORD + u64::from(clean.trailing_zeros());
            }
            word += 1;
        }
        last
    }

    /// Nothing dirty is the common answer, and looking for the first bit the quickest way to it.
    unsafe fn count_dirty(&self) -> u64 {
        let first = (self.next_dirty(0, self.bits()) / PAGES_PER_WORD) as usize;
        let (cache, host) = (self.cache_bitmap.add(first), self.host_bitmap.add(first));
        count_words(self.wide, cache, host, self.n_words - first)
    }

    fn bits(&self) -> u64 {
        self.n_words as u64 * PAGES_PER_WORD
    }

    /// Flushes the bits `first .. last` of one region, a run of dirty pages at a time.
    unsafe fn flush_window(&self, region: &Region, first: u64, last: u64, done: &mut ColoStats) {
        let at = |bit: u64| ((bit - region.first) * self.page_size) as usize;
        let mut run = self.next_dirty(first, last);
        while run < last {
            let end = self.next_clean(run, last);
            let following = self.next_dirty(end, last);
            if following < last {
                self.fetch(region.cache.add(at(following)));
                if !self.streams {
                    self.fetch(region.host.add(at(following)));
                }
            }
            // COPY
            let bytes = ((end - run) * self.page_size) as usize;
            let (host, cache) = (region.host.add(at(run)), region.cache.add(at(run)));
            if self.streams {
                stream(host, cache, bytes);
            } else {
                ptr::copy_nonoverlapping(cache, host, bytes);
            }
            self.clear_run(run, end, done);
            run = following;
        }
    }

    unsafe fn fetch(&self, memory: *const u8) {
        for at in (0..FETCHED_BYTES.min(self.page_size as usize)).step_by(LINE) {
            #[cfg(target_arch = "x86_64")]
            _mm_prefetch::<_MM_HINT_T0>(memory.add(at).cast());
            let _ = memory.add(at);
        }
    }

    /// Clears the bits of a run that has been copied, and counts them.
    unsafe fn clear_run(&self, first: u64, last: u64, done: &mut ColoStats) {
        let mut word = first / PAGES_PER_WORD;
        while word * PAGES_PER_WORD < last {
            let mask = window_mask(word, first, last);
            let in_cache = self.cache_bitmap.add(word as usize);
            let in_host = self.host_bitmap.add(word as usize);
            let (cache, host) = (*in_cache, *in_host);
            // CLEAR
            *in_cache = cache & !mask;
            *in_host = host & !mask;
            // COUNT
            done.cache_dirty += u64::from((cache & mask).count_ones());
            done.host_dirty += u64::from((host & mask).count_ones());
            done.both_dirty += u64::from((cache & host & mask).count_ones());
            word += 1;
        }
        done.copied += last - first;
    }

    /// Flushes whatever lies in the bits `lower .. upper`, whole words.
    unsafe fn flush_range(&self, lower: u64, upper: u64, done: &mut ColoStats) {
        let from = self.regions.partition_point(|region| region.last <= lower);
        for region in self.regions[from..].iter().take_while(|region| region.first < upper) {
            self.flush_window(region, region.first.max(lower), region.last.min(upper), done);
        }
    }

    unsafe fn flush_alone(&self) -> ColoStats {
        let mut done = ColoStats::default();
        self.flush_range(0, self.bits(), &mut done);
        fence_stores();
        done
    }
}

/// Past the processor's cache: the line of the host is not read before it is overwritten.
unsafe fn stream(to: *mut u8, from: *const u8, bytes: usize) {
    #[cfg(target_arch = "x86_64")]
    if to as usize % LINE == 0 && bytes % LINE == 0 {
        if std::is_x86_feature_detected!("avx512f") {
            return stream_512(to, from, bytes);
        }
        for at in (0..bytes).step_by(16) {
            _mm_stream_si128(to.add(at) as *mut __m128i, _mm_loadu_si128(from.add(at).cast()));
        }
        return;
    }
    ptr::copy_nonoverlapping(from, to, bytes)
}

/// In assembly, for the intrinsics are younger than many a compiler.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx")]
unsafe fn stream_512(to: *mut u8, from: *const u8, bytes: usize) {
    for at in (0..bytes).step_by(LINE) {
        std::arch::asm!(
            "vmovdqu64 zmm0, [{}]", "vmovntdq [{}], zmm0",
            in(reg) from.add(at), in(reg) to.add(at), out("ymm0") _, options(nostack, preserves_flags)
        );
    }
    _mm256_zeroupper();
}

/// Streaming stores are weakly ordered: no release store covers them, since compilers take them for
/// plain ones. On x86 a locked instruction does, and every check-out is one; said all the same.
fn fence_stores() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 has it.
    unsafe {
        _mm_sfence()
    }
}

fn is_wide() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("popcnt");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/* ---- one round ---- */

/// The dirty pages of a job, handed out in batches.
struct Batches<'a> {
    job: &'a Job,
    dirty_before: Vec<u64>, // the dirty pages below each word
    dirty: u64,             // pages in all, and in a batch
    batch: u64,
    cursor: Apart<AtomicU64>, // pages that have been handed out
}

/// Written by one worker, read by the caller after that worker has checked out.
type Tally = Apart<[AtomicU64; 4]>;

impl Batches<'_> {
    /// A worker's part: batches off the cursor, until none are left.
    fn work_off(&self, tally: &Tally) {
        let mut done = ColoStats::default();
        loop {
            // Relaxed: it hands out numbers, not memory.
            let first = self.cursor.0.fetch_add(self.batch, Relaxed);
            if first >= self.dirty {
                break;
            }
            let last = self.dirty.min(first + self.batch);
            let (lower, upper) = (self.first_word_with(first), self.first_word_with(last));
            // SAFETY: the words from the one to the other are this worker's.
            unsafe {
                let job = self.job;
                job.flush_range(lower * PAGES_PER_WORD, upper * PAGES_PER_WORD, &mut done);
            }
        }
        fence_stores();
        let counts = [done.copied, done.host_dirty, done.cache_dirty, done.both_dirty];
        for (to, count) in tally.0.iter().zip(counts) {
            to.store(count, Relaxed);
        }
    }

    /// The first word with at least `pages` dirty pages below it.
    fn first_word_with(&self, pages: u64) -> u64 {
        self.dirty_before.partition_point(|&before| before < pages) as u64
    }
}

/* ---- one flush ---- */

/// The block's place in the bitmaps; `None` if none of it is in use.
fn region_of(block: &ColoBlock, page_size: u64, bits: u64) -> Result<Option<Region>, c_int> {
    let unaligned = (block.offset | block.used_length | block.max_length) & (page_size - 1);
    if unaligned != 0 || block.max_length < block.used_length {
        return Err(-EINVAL);
    }
    if block.used_length == 0 {
        return Ok(None);
    }
    let (first, pages) = (block.first_bit, block.used_length / page_size);
    match first.checked_add(pages) {
        Some(last) if last <= bits && !block.host.is_null() && !block.cache.is_null() => {
            Ok(Some(Region { first, last, host: block.host, cache: block.cache }))
        }
        _ => Err(-EINVAL),
    }
}

/// The used pages of all blocks, by first bit, if every block is sound and no two overlap.
fn sorted_regions(blocks: &[ColoBlock], page_size: u64, bits: u64) -> Result<Vec<Region>, c_int> {
    let mut regions: Vec<Region> = Vec::new();
    regions.try_reserve_exact(blocks.len()).map_err(|_| -ENOMEM)?;
    for block in blocks {
        regions.extend(region_of(block, page_size, bits)?);
    }
    regions.sort_unstable_by_key(|region| region.first);
    if regions.windows(2).any(|pair| pair[1].first < pair[0].last) {
        return Err(-EINVAL);
    }
    Ok(regions)
}

/// Is a bit set that no region accounts for?
unsafe fn has_stray(job: &Job) -> bool {
    let mut at = 0;
    for region in &job.regions {
        if job.next_dirty(at, region.first) < region.first {
            return true;
        }
        at = region.last;
    }
    job.next_dirty(at, job.bits()) < job.bits()
}

/// `length` times the same; `None` if there is no memory for it.
fn list_of<T>(length: usize, one: impl FnMut() -> T) -> Option<Vec<T>> {
    let mut list = Vec::new();
    list.try_reserve_exact(length).ok()?;
    list.resize_with(length, one);
    Some(list)
}

/// Flushes the dirty pages by several workers; `None` if there is no memory or no thread for that.
unsafe fn flush_together(job: &Job, dirty: u64, threads: u32) -> Option<ColoStats> {
    let workers = (threads as usize).min(MOST_WORKERS);
    let mut dirty_before = list_of(job.n_words, || 0)?;
    let tallies: Vec<Tally> = list_of(workers, Tally::default)?;
    let mut caller = one_caller();
    let helpers = caller.start(workers - 1);
    if helpers == 0 {
        return None;
    }
    index_dirty(job.wide, job.cache_bitmap, job.host_bitmap, &mut dirty_before);
    let fair = dirty / (workers as u64 * BATCHES_PER_WORKER);
    let batch = fair.clamp(SMALLEST_BATCH, LARGEST_BATCH);
    let cursor = Apart::default();
    let batches = Batches { job, dirty_before, dirty, batch, cursor };
    caller.run_round(helpers, &|worker| batches.work_off(&tallies[worker]));
    // A helper that has not come has left its tally as it was.
    let sum = |what: usize| tallies.iter().map(|tally| tally.0[what].load(Relaxed)).sum();
    Some(ColoStats { copied: sum(0), host_dirty: sum(1), cache_dirty: sum(2), both_dirty: sum(3) })
}

unsafe fn flush(job: &mut Job, blocks: &[ColoBlock], threads: u32) -> Result<ColoStats, c_int> {
    // REFUSE
    job.regions = sorted_regions(blocks, job.page_size, job.bits())?;
    if has_stray(job) {
        return Err(-EINVAL);
    }
    let dirty = job.count_dirty();
    job.streams = dirty > STREAM_FROM_BYTES / job.page_size;
    if dirty > SERIAL_BELOW_BYTES / job.page_size && threads > 1 {
        if let Some(done) = flush_together(job, dirty, threads) {
            return Ok(done);
        }
    }
    Ok(job.flush_alone())
}

/* ---- the ABI ---- */

#[no_mangle]
pub extern "C" fn colo_abi_version() -> u32 {
    ABI_VERSION
}

/// See `colo_flush.h`.
///
/// # Safety
/// The pointers must hold what `colo_flush.h` says, and be lent to nobody else for the call.
#[no_mangle]
pub unsafe extern "C" fn colo_flush(
    blocks: *const ColoBlock,
    n_blocks: usize,
    page_size: u64,
    cache_bitmap: *mut u64,
    host_bitmap: *mut u64,
    n_words: usize,
    dirty_pages: *mut u64,
    threads: u32,
    stats: *mut ColoStats,
) -> c_int {
    if threads == 0
        || dirty_pages.is_null()
        || !page_size.is_power_of_two()
        || (n_blocks > 0 && blocks.is_null())
        || (n_words > 0 && (cache_bitmap.is_null() || host_bitmap.is_null()))
        || n_words as u64 > u64::MAX / PAGES_PER_WORD
    {
        return -EINVAL;
    }
    let blocks = match n_blocks {
        0 => &[],
        _ => slice::from_raw_parts(blocks, n_blocks),
    };
    let mut job = Job {
        page_size,
        cache_bitmap,
        host_bitmap,
        n_words,
        regions: Vec::new(),
        streams: false,
        wide: is_wide(),
    };
    let done = match flush(&mut job, blocks, threads) {
        Ok(done) => done,
        Err(refused) => return refused,
    };

    *dirty_pages = (*dirty_pages).wrapping_sub(done.cache_dirty);
    if let Some(stats) = stats.as_mut() {
        *stats = done;
    }
    if *dirty_pages == 0 {
        0
    } else {
        -ERANGE
    }
}
