// SPDX-License-Identifier: MIT
//
//! A flush in Rust behind the C ABI of `colo_flush.h`, on the standard library alone.
//!
//! Unlike the patch it gives no worker a fixed share: the bitmap's words are taken in small runs
//! off one shared cursor, so that a worker whose part is clean goes on to help with the rest. A word
//! belongs to exactly one batch, hence to one thread, and is cleared after its pages are copied.

mod colo_abi;

use colo_abi::{ColoBlock, ColoStats, ABI_VERSION, EINVAL, ERANGE, PAGES_PER_WORD};
use std::slice;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

const WORDS_PER_BATCH: usize = 16;
const MOST_THREADS: usize = 64;

impl ColoStats {
    fn add(&mut self, part: ColoStats) {
        self.copied += part.copied;
        self.host_dirty += part.host_dirty;
        self.cache_dirty += part.cache_dirty;
        self.both_dirty += part.both_dirty;
    }
}

/// A call that must be refused.
struct Invalid;

/// The used pages of one block: bits `[first, last)`, and where their bytes are.
struct Region {
    first: u64,
    last: u64,
    host: *mut u8,
    cache: *const u8,
}

/// A flush that has been checked: regions in bit order, disjoint, inside the bitmaps.
struct Flush {
    regions: Vec<Region>,
    page_size: u64,
    cache_bitmap: *mut u64,
    host_bitmap: *mut u64,
    words: usize,
    cursor: AtomicUsize,
}

// SAFETY: shared between workers only inside `colo_flush`, whose caller lends the memory for that
// long. Every bitmap word, and so every page, is reached by the one worker that took the word.
unsafe impl Sync for Flush {}

/// Bits `0 .. count`, for `count` from 0 to 64.
fn pages_below(count: u64) -> u64 {
    if count == 0 {
        0
    } else {
        u64::MAX >> (PAGES_PER_WORD - count)
    }
}

/// The bits of one word that stand for pages `[first, last)`.
fn window_mask(word: u64, first: u64, last: u64) -> u64 {
    let base = word * PAGES_PER_WORD;
    let start = first.clamp(base, base + PAGES_PER_WORD) - base;
    let stop = last.clamp(base, base + PAGES_PER_WORD) - base;
    pages_below(stop) & !pages_below(start)
}

impl Region {
    /// The block's place in the bitmaps; `None` if none of it is in use.
    fn of(block: &ColoBlock, page_size: u64, bits: u64) -> Result<Option<Region>, Invalid> {
        let in_page = page_size - 1;
        if (block.offset | block.used_length | block.max_length) & in_page != 0
            || block.max_length < block.used_length
        {
            return Err(Invalid);
        }
        let pages = block.used_length / page_size;
        if pages == 0 {
            return Ok(None);
        }
        let last = block.first_bit.checked_add(pages).ok_or(Invalid)?;
        if last > bits || block.host.is_null() || block.cache.is_null() {
            return Err(Invalid);
        }
        Ok(Some(Region { first: block.first_bit, last, host: block.host, cache: block.cache }))
    }
}

impl Flush {
    fn new(
        blocks: &[ColoBlock],
        page_size: u64,
        cache_bitmap: *mut u64,
        host_bitmap: *mut u64,
        words: usize,
    ) -> Result<Flush, Invalid> {
        if !page_size.is_power_of_two()
            || (words > 0 && (cache_bitmap.is_null() || host_bitmap.is_null()))
        {
            return Err(Invalid);
        }
        let bits = (words as u64).checked_mul(PAGES_PER_WORD).ok_or(Invalid)?;
        let mut regions = Vec::new();
        for block in blocks {
            regions.extend(Region::of(block, page_size, bits)?);
        }
        regions.sort_by_key(|region| region.first);
        if regions.windows(2).any(|pair| pair[0].last > pair[1].first) {
            return Err(Invalid);
        }
        let cursor = AtomicUsize::new(0);
        let flush = Flush { regions, page_size, cache_bitmap, host_bitmap, words, cursor };
        if flush.any_stray() {
            return Err(Invalid);
        }
        Ok(flush)
    }

    /// The two bitmaps' word number `word`: (cache, host).
    fn read(&self, word: usize) -> (u64, u64) {
        // SAFETY: word < self.words, and both bitmaps hold that many words.
        unsafe { (*self.cache_bitmap.add(word), *self.host_bitmap.add(word)) }
    }

    /// Is a bit set that no region accounts for? One pass over words and regions together.
    fn any_stray(&self) -> bool {
        let mut next = 0;
        (0..self.words).any(|word| {
            let (cache, host) = self.read(word);
            let mut stray = cache | host;
            let base = word as u64 * PAGES_PER_WORD;
            while next < self.regions.len() && self.regions[next].last <= base {
                next += 1;
            }
            for region in &self.regions[next..] {
                if stray == 0 || region.first >= base + PAGES_PER_WORD {
                    break;
                }
                stray &= !window_mask(word as u64, region.first, region.last);
            }
            stray != 0
        })
    }

    /// One worker: takes runs of words until none is left.
    fn work(&self) -> ColoStats {
        let mut done = ColoStats::default();
        loop {
            let first = self.cursor.fetch_add(WORDS_PER_BATCH, Ordering::Relaxed);
            if first >= self.words {
                return done;
            }
            for word in first..self.words.min(first + WORDS_PER_BATCH) {
                self.flush_word(word, &mut done);
            }
        }
    }

    fn flush_word(&self, word: usize, done: &mut ColoStats) {
        let (cache, host) = self.read(word);
        let mut dirty = cache | host;
        if dirty == 0 {
            return;
        }
        done.copied += dirty.count_ones() as u64;
        done.cache_dirty += cache.count_ones() as u64;
        done.host_dirty += host.count_ones() as u64;
        done.both_dirty += (cache & host).count_ones() as u64;

        while dirty != 0 {
            self.copy_page(word as u64 * PAGES_PER_WORD + dirty.trailing_zeros() as u64);
            dirty &= dirty - 1;
        }
        // SAFETY: this worker took the word, so no other one reads or writes it.
        unsafe {
            *self.cache_bitmap.add(word) = 0;
            *self.host_bitmap.add(word) = 0;
        }
    }

    /// Copies the page that owns `bit`, which is some region's: no bit is stray.
    fn copy_page(&self, bit: u64) {
        let after = self.regions.partition_point(|region| region.first <= bit);
        let region = &self.regions[after - 1];
        let at = ((bit - region.first) * self.page_size) as usize;
        // SAFETY: the page lies in the block's used length; host and cache are different memory.
        unsafe {
            let (host, cache) = (region.host.add(at), region.cache.add(at));
            std::ptr::copy_nonoverlapping(cache, host, self.page_size as usize);
        }
    }

    /// The caller and its helpers; a helper that cannot be started is not missed.
    fn run(&self, threads: u32) -> ColoStats {
        let batches = (self.words + WORDS_PER_BATCH - 1) / WORDS_PER_BATCH;
        let workers = (threads as usize).min(batches).min(MOST_THREADS);
        thread::scope(|scope| {
            let helpers: Vec<_> = (1..workers)
                .map_while(|_| thread::Builder::new().spawn_scoped(scope, || self.work()).ok())
                .collect();
            let mut done = self.work();
            for helper in helpers {
                done.add(helper.join().expect("a worker cannot panic"));
            }
            done
        })
    }
}

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
) -> i32 {
    if threads == 0 || dirty_pages.is_null() || (blocks.is_null() && n_blocks > 0) {
        return -EINVAL;
    }
    let blocks = if n_blocks == 0 { &[] } else { slice::from_raw_parts(blocks, n_blocks) };
    let flush = match Flush::new(blocks, page_size, cache_bitmap, host_bitmap, n_words) {
        Ok(flush) => flush,
        Err(Invalid) => return -EINVAL,
    };
    let done = flush.run(threads);

    if let Some(stats) = stats.as_mut() {
        *stats = done;
    }
    *dirty_pages = (*dirty_pages).wrapping_sub(done.cache_dirty);
    if *dirty_pages == 0 {
        0
    } else {
        -ERANGE
    }
}
