//! Four 32-bit words at a time: one vector register where the guest runs, an array elsewhere.

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
use core::arch::wasm32::{
    i8x16_shuffle, u32x4, u32x4_add, u32x4_extract_lane, u32x4_shl, u32x4_shr, v128, v128_bitselect, v128_or,
    v128_xor,
};

/// Four words, one a lane.
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
#[derive(Clone, Copy)]
pub struct Four(v128);

/// Four words, one a lane.
#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
#[derive(Clone, Copy)]
pub struct Four([u32; 4]);

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
impl Four {
    #[inline(always)]
    pub fn new([a, b, c, d]: [u32; 4]) -> Self {
        Four(u32x4(a, b, c, d))
    }
    #[inline(always)]
    pub fn words(self) -> [u32; 4] {
        [
            u32x4_extract_lane::<0>(self.0),
            u32x4_extract_lane::<1>(self.0),
            u32x4_extract_lane::<2>(self.0),
            u32x4_extract_lane::<3>(self.0),
        ]
    }
    #[inline(always)]
    pub fn add(self, other: Four) -> Four {
        Four(u32x4_add(self.0, other.0))
    }
    #[inline(always)]
    pub fn xor(self, other: Four) -> Four {
        Four(v128_xor(self.0, other.0))
    }
    /// Bits of `yes` where `self` has 1, of `no` elsewhere.
    #[inline(always)]
    pub fn select(self, yes: Four, no: Four) -> Four {
        Four(v128_bitselect(yes.0, no.0, self.0))
    }
    #[inline(always)]
    pub fn shift_right<const N: u32>(self) -> Four {
        Four(u32x4_shr(self.0, N))
    }
    #[inline(always)]
    pub fn rotate_right<const N: u32>(self) -> Four {
        Four(v128_or(u32x4_shr(self.0, N), u32x4_shl(self.0, 32 - N)))
    }
    /// The bytes of each word the other way round.
    #[inline(always)]
    pub fn swap_bytes(self) -> Four {
        Four(i8x16_shuffle::<3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12>(self.0, self.0))
    }
}

#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
impl Four {
    #[inline(always)]
    pub fn new(words: [u32; 4]) -> Self {
        Four(words)
    }
    #[inline(always)]
    pub fn words(self) -> [u32; 4] {
        self.0
    }
    #[inline(always)]
    pub fn add(self, other: Four) -> Four {
        self.zip(other, u32::wrapping_add)
    }
    #[inline(always)]
    pub fn xor(self, other: Four) -> Four {
        self.zip(other, |a, b| a ^ b)
    }
    /// Bits of `yes` where `self` has 1, of `no` elsewhere.
    #[inline(always)]
    pub fn select(self, yes: Four, no: Four) -> Four {
        no.xor(self.zip(yes.xor(no), |mask, differing| mask & differing))
    }
    #[inline(always)]
    pub fn shift_right<const N: u32>(self) -> Four {
        Four(self.0.map(|word| word >> N))
    }
    #[inline(always)]
    pub fn rotate_right<const N: u32>(self) -> Four {
        Four(self.0.map(|word| word.rotate_right(N)))
    }
    /// The bytes of each word the other way round.
    #[inline(always)]
    pub fn swap_bytes(self) -> Four {
        Four(self.0.map(u32::swap_bytes))
    }
    #[inline(always)]
    fn zip(self, other: Four, with: impl Fn(u32, u32) -> u32) -> Four {
        Four(core::array::from_fn(|lane| with(self.0[lane], other.0[lane])))
    }
}

impl Four {
    /// The same word in every lane.
    #[inline(always)]
    pub fn splat(word: u32) -> Self {
        Four::new([word; 4])
    }
}
