//! Eight rows to a byte where there are no vectors of ours.

use super::Short;

#[inline(always)]
pub fn ints(values: &[i64; 8], first: i64, last: i64) -> u8 {
    bits(values.map(|value| (first..=last).contains(&value)))
}

#[inline(always)]
pub fn uints(values: &[u64; 8], first: u64, last: u64) -> u8 {
    bits(values.map(|value| (first..=last).contains(&value)))
}

#[inline(always)]
pub fn short(offsets: &[u32; 9], data: &[u8], text: Short) -> u8 {
    bits(core::array::from_fn(|row| {
        let start = offsets[row] as usize;
        match data.get(start..).and_then(|data| data.first_chunk::<8>()) {
            Some(eight) => {
                let length = offsets[row + 1].wrapping_sub(offsets[row]);
                (u64::from_le_bytes(*eight) & text.significant == text.number) & text.fits(length)
            }
            None => text.passes(data, offsets[row], offsets[row + 1]),
        }
    }))
}

#[inline(always)]
fn bits(rows: [bool; 8]) -> u8 {
    let bytes = u64::from_le_bytes(rows.map(u8::from));
    // Gathers the lowest bit of each byte in the highest byte.
    (bytes.wrapping_mul(0x0102_0408_1020_4080) >> 56) as u8
}
