// SPDX-License-Identifier: MIT
//
// A right port of another kind: Zig, which checks its arithmetic as it runs. Each thread of a call has a share
// of the bitmap's words; one that cannot be started leaves its share to the caller.

const std = @import("std");

const word_bits = 64;
const most_workers = 8;
const words_per_worker = 16;
const einval: c_int = 22;
const enomem: c_int = 12;
const erange: c_int = 34;

const Block = extern struct {
    offset: u64,
    used_length: u64,
    max_length: u64,
    first_bit: u64,
    host: ?[*]u8,
    cache: ?[*]const u8,
};

const Stats = extern struct {
    copied: u64 = 0,
    host_dirty: u64 = 0,
    cache_dirty: u64 = 0,
    both_dirty: u64 = 0,
};

/// The used pages of a block: bits first to last - 1.
const Region = struct {
    first: u64,
    last: u64,
    host: [*]u8,
    cache: [*]const u8,

    fn before(_: void, a: Region, b: Region) bool {
        return a.first < b.first;
    }

    fn mask(self: Region, word: u64) u64 {
        const base = word * word_bits;
        var bits: u64 = std.math.maxInt(u64);
        if (self.first > base) bits &= ~below(self.first - base);
        if (self.last - base < word_bits) bits &= below(self.last - base);
        return bits;
    }
};

/// Bits 0 to count - 1.
fn below(count: u64) u64 {
    if (count >= word_bits) return std.math.maxInt(u64);
    return (@as(u64, 1) << @intCast(count)) - 1;
}

const Flush = struct {
    regions: []const Region,
    page_size: u64,
    cache: [*]u64,
    host: [*]u64,

    /// The first region that does not end before this word.
    fn regionAt(self: Flush, word: u64) usize {
        var low: usize = 0;
        var high = self.regions.len;
        while (low < high) {
            const middle = low + (high - low) / 2;
            if (self.regions[middle].last <= word * word_bits) low = middle + 1 else high = middle;
        }
        return low;
    }

    fn anyStray(self: Flush, n_words: u64) bool {
        var at: usize = 0;
        for (0..n_words) |word| {
            var left = self.cache[word] | self.host[word];
            while (at < self.regions.len and self.regions[at].last <= word * word_bits) at += 1;
            for (self.regions[at..]) |region| {
                if (left == 0 or region.first >= (word + 1) * word_bits) break;
                left &= ~region.mask(word);
            }
            if (left != 0) return true;
        }
        return false;
    }

    fn flushWords(self: Flush, from: u64, to: u64, done: *Stats) void {
        var at = self.regionAt(from);
        for (from..to) |word| {
            const cache = self.cache[word];
            const host = self.host[word];
            if (cache | host == 0) continue;
            while (self.regions[at].last <= word * word_bits) at += 1;
            for (self.regions[at..]) |region| {
                if (region.first >= (word + 1) * word_bits) break;
                var dirty = (cache | host) & region.mask(word);
                while (dirty != 0) : (dirty &= dirty - 1) {
                    const page = word * word_bits + @ctz(dirty) - region.first;
                    const start: usize = @intCast(page * self.page_size);
                    @memcpy(region.host[start..][0..self.page_size], region.cache[start..][0..self.page_size]);
                }
            }
            done.copied += @popCount(cache | host);
            done.host_dirty += @popCount(host);
            done.cache_dirty += @popCount(cache);
            done.both_dirty += @popCount(cache & host);
            self.cache[word] = 0;
            self.host[word] = 0;
        }
    }
};

const Invalid = error{Invalid};

fn regionOf(block: Block, page_size: u64, bits: u64) Invalid!?Region {
    if ((block.offset | block.used_length | block.max_length) & (page_size - 1) != 0) return error.Invalid;
    if (block.max_length < block.used_length) return error.Invalid;
    const pages = block.used_length / page_size;
    if (pages == 0) return null;
    if (block.first_bit >= bits or pages > bits - block.first_bit) return error.Invalid;
    return .{
        .first = block.first_bit,
        .last = block.first_bit + pages,
        .host = block.host orelse return error.Invalid,
        .cache = block.cache orelse return error.Invalid,
    };
}

export fn colo_abi_version() u32 {
    return 1;
}

export fn colo_flush(
    blocks: ?[*]const Block,
    n_blocks: usize,
    page_size: u64,
    cache_bitmap: ?[*]u64,
    host_bitmap: ?[*]u64,
    n_words: usize,
    dirty_pages: ?*u64,
    threads: u32,
    stats: ?*Stats,
) c_int {
    const count = dirty_pages orelse return -einval;
    if (threads == 0 or @popCount(page_size) != 1) return -einval;
    if ((n_blocks > 0 and blocks == null) or n_words > std.math.maxInt(u64) / word_bits) return -einval;
    if (n_words > 0 and (cache_bitmap == null or host_bitmap == null)) return -einval;

    const regions = std.heap.c_allocator.alloc(Region, n_blocks) catch return -enomem;
    defer std.heap.c_allocator.free(regions);
    var n_used: usize = 0;
    for (0..n_blocks) |i| {
        const region = regionOf(blocks.?[i], page_size, n_words * word_bits) catch return -einval;
        regions[n_used] = region orelse continue;
        n_used += 1;
    }
    std.mem.sort(Region, regions[0..n_used], {}, Region.before);
    for (1..@max(n_used, 1)) |i| {
        if (regions[i].first < regions[i - 1].last) return -einval;
    }

    var sum = Stats{};
    if (n_words > 0) {
        const flush = Flush{
            .regions = regions[0..n_used],
            .page_size = page_size,
            .cache = cache_bitmap.?,
            .host = host_bitmap.?,
        };
        if (flush.anyStray(n_words)) return -einval;
        run(flush, n_words, @min(threads, most_workers), &sum);
    }
    if (stats) |out| out.* = sum;
    count.* -%= sum.cache_dirty;
    return if (count.* == 0) 0 else -erange;
}

fn run(flush: Flush, n_words: u64, threads: u64, sum: *Stats) void {
    const workers: usize = @intCast(@max(@min(threads, n_words / words_per_worker), 1));
    var helpers: [most_workers]?std.Thread = @splat(null);
    var parts: [most_workers]Stats = @splat(Stats{});

    for (0..workers) |me| {
        const share = .{ flush, n_words * me / workers, n_words * (me + 1) / workers, &parts[me] };
        if (me > 0) helpers[me] = std.Thread.spawn(.{}, Flush.flushWords, share) catch null;
        if (helpers[me] == null) @call(.auto, Flush.flushWords, share);
    }
    for (helpers, parts) |helper, _| if (helper) |thread| thread.join();
    for (parts) |part| {
        sum.copied += part.copied;
        sum.host_dirty += part.host_dirty;
        sum.cache_dirty += part.cache_dirty;
        sum.both_dirty += part.both_dirty;
    }
}
