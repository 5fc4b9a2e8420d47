//! Eight rows to a byte in Wasm's 128-bit vectors: comparisons give lanes of ones, which are narrowed until
//! eight rows are one vector, whose signs are the byte.

use core::arch::wasm32::{
    i16x8_bitmask, i16x8_narrow_i32x4, i64x2_eq, i64x2_gt, i64x2_lt, i64x2_splat, u32x4_all_true, u32x4_eq,
    u32x4_ge, u32x4_max, u32x4_splat, u32x4_sub, u64x2_splat, v128, v128_and, v128_load, v128_load64_lane,
    v128_load64_zero, v128_or, v128_xor,
};

use super::{Short, tail};

#[inline(always)]
pub fn ints(values: &[i64; 8], first: i64, last: i64) -> u8 {
    between(loaded(values), 0, first, last)
}

/// With the highest bit turned, unsigned order is signed order.
#[inline(always)]
pub fn uints(values: &[u64; 8], first: u64, last: u64) -> u8 {
    const HIGHEST: u64 = 1 << 63;
    between(loaded(values), HIGHEST, (first ^ HIGHEST) as i64, (last ^ HIGHEST) as i64)
}

/// What is outside is found with one instruction a bound, and turned round at the end.
#[inline(always)]
fn between(values: [v128; 4], turned: u64, first: i64, last: i64) -> u8 {
    let (turned, first, last) = (u64x2_splat(turned), i64x2_splat(first), i64x2_splat(last));
    let [a, b, c, d] = values.map(|two| {
        let two = v128_xor(two, turned);
        v128_or(i64x2_lt(two, first), i64x2_gt(two, last))
    });
    !signs(four(a, b), four(c, d))
}

/// `N` vectors of a run of values that has exactly their size.
#[inline(always)]
fn loaded<T, const ROWS: usize, const N: usize>(values: &[T; ROWS]) -> [v128; N] {
    const { assert!(size_of::<[T; ROWS]>() == N * 16, "whole vectors") }
    let start = values.as_ptr().cast::<v128>();
    // SAFETY: the assertion holds that `N` vectors lie in `values`; v128_load asks for no alignment.
    core::array::from_fn(|place| unsafe { v128_load(start.add(place)) })
}

/// Two vectors of two rows as one of four: a lane of 64 ones is two of 32, which narrow to one.
#[inline(always)]
fn four(low: v128, high: v128) -> v128 {
    i16x8_narrow_i32x4(low, high)
}

/// Two vectors of four rows as a byte.
#[inline(always)]
fn signs(low: v128, high: v128) -> u8 {
    i16x8_bitmask(i16x8_narrow_i32x4(low, high))
}

#[inline(always)]
pub fn short(offsets: &[u32; 9], data: &[u8], text: Short) -> u8 {
    let [starts, ends] = [0, 1].map(|from| offsets[from..].first_chunk::<8>().expect("eight of nine"));
    let ([low, high], lasts): ([v128; 2], [v128; 2]) = (loaded(starts), loaded(ends));
    if !in_reach(u32x4_max(low, high), data) {
        return tail(offsets, data, text);
    }
    let (significant, number) = (u64x2_splat(text.significant), u64x2_splat(text.number));
    let two = |pair: usize| {
        let [one, other] =
            [0, 1].map(|row| data.as_ptr().wrapping_add(starts[2 * pair + row] as usize).cast());
        // SAFETY: `in_reach` saw that eight bytes of `data` lie behind every start.
        let begins = unsafe { v128_load64_lane::<1>(v128_load64_zero(one), other) };
        i64x2_eq(v128_and(begins, significant), number)
    };
    let length = u32x4_splat(text.length);
    let fits = |starts, ends| {
        let lengths = u32x4_sub(ends, starts);
        if text.whole { u32x4_eq(lengths, length) } else { u32x4_ge(lengths, length) }
    };
    let low = v128_and(four(two(0), two(1)), fits(low, lasts[0]));
    let high = v128_and(four(two(2), two(3)), fits(high, lasts[1]));
    signs(low, high)
}

/// Whether eight bytes lie behind each of four starts.
#[inline(always)]
fn in_reach(starts: v128, data: &[u8]) -> bool {
    let last = data.len().checked_sub(8).and_then(|last| u32::try_from(last).ok());
    last.is_some_and(|last| u32x4_all_true(u32x4_ge(u32x4_splat(last), starts)))
}
