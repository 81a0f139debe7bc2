// SPDX-License-Identifier: MIT
//
//! `colo_flush.h` in Rust: what the ports here are given, and what they answer.

use std::os::raw::c_int;

pub const ABI_VERSION: u32 = 1;
pub const PAGES_PER_WORD: u64 = 64;
pub const EINVAL: c_int = 22;
pub const ERANGE: c_int = 34;

#[repr(C)]
pub struct ColoBlock {
    pub offset: u64,
    pub used_length: u64,
    pub max_length: u64,
    pub first_bit: u64,
    pub host: *mut u8,
    pub cache: *const u8,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct ColoStats {
    pub copied: u64,
    pub host_dirty: u64,
    pub cache_dirty: u64,
    pub both_dirty: u64,
}
