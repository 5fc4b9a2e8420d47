//! HMAC-SHA-256 of four short values at once (FIPS 180-4, RFC 2104), lane by lane.
//!
//! A processor's SHA instructions are out of a guest's reach; its vectors are not. Values of one block,
//! which most are, are hashed here; longer ones with the `hmac` crate, whose results the tests hold
//! these to.

use crate::four::Four;

/// Bytes of a block.
pub const BLOCK: usize = 64;

/// The longest value that fits a block with the end mark and the length.
pub const VALUE_MAX: usize = BLOCK - 9;

/// The hash state before the first block.
const START: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// The constants of the rounds.
#[rustfmt::skip]
const ROUNDS: [u32; 64] = [
    0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5, 0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5,
    0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3, 0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174,
    0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc, 0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da,
    0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7, 0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967,
    0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13, 0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85,
    0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3, 0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070,
    0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5, 0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3,
    0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208, 0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2,
];

/// A key, with its two blocks compressed.
#[derive(Clone)]
pub struct LaneKey {
    inner: [u32; 8],
    outer: [u32; 8],
}

/// A value that waits for its lane, padded to a block.
pub type Block = [u8; BLOCK];

/// A value of at most [`VALUE_MAX`] bytes as the block that follows the key's.
#[inline]
pub fn block_of(value: &[u8], block: &mut Block) {
    *block = [0; BLOCK];
    block[..value.len()].copy_from_slice(value);
    block[value.len()] = 0x80;
    let bits = ((BLOCK + value.len()) * 8) as u64;
    block[BLOCK - 8..].copy_from_slice(&bits.to_be_bytes());
}

impl LaneKey {
    /// `key` is at most a block long; HMAC hashes longer ones first.
    pub fn new(key: &[u8]) -> Self {
        let padded = |pad: u8| {
            let mut block = [pad; BLOCK];
            block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
            let state = compress(START.map(Four::splat), words(&[block; 4]));
            state.map(|four| four.words()[0])
        };
        LaneKey { inner: padded(0x36), outer: padded(0x5c) }
    }

    /// The codes of four values, as eight words each, with the code's bytes low byte first.
    pub fn codes(&self, blocks: &[Block; 4]) -> [[u32; 8]; 4] {
        let inner = compress(self.inner.map(Four::splat), words(blocks));
        let mut block = [Four::splat(0); 16];
        block[..8].copy_from_slice(&inner);
        block[8] = Four::splat(0x8000_0000);
        block[15] = Four::splat(((BLOCK + 32) * 8) as u32);
        let outer = compress(self.outer.map(Four::splat), block).map(|four| four.swap_bytes().words());
        core::array::from_fn(|lane| core::array::from_fn(|word| outer[word][lane]))
    }
}

/// The blocks' words, lane by lane.
#[inline]
fn words(blocks: &[Block; 4]) -> [Four; 16] {
    let word = |block: &Block, at: usize| {
        u32::from_le_bytes([block[4 * at], block[4 * at + 1], block[4 * at + 2], block[4 * at + 3]])
    };
    core::array::from_fn(|at| {
        let [a, b, c, d] = blocks;
        Four::new([word(a, at), word(b, at), word(c, at), word(d, at)]).swap_bytes()
    })
}

/// The compression function of SHA-256, in four lanes.
#[inline]
fn compress(start: [Four; 8], mut words: [Four; 16]) -> [Four; 8] {
    let mut state = start;
    for sixteen in 0..4 {
        for at in 0..16 {
            if sixteen > 0 {
                words[at] = scheduled(&words, at);
            }
            state = round(state, words[at].add(Four::splat(ROUNDS[16 * sixteen + at])));
        }
    }
    core::array::from_fn(|word| start[word].add(state[word]))
}

/// The word that takes the place of the one of 16 rounds ago.
#[inline(always)]
fn scheduled(words: &[Four; 16], at: usize) -> Four {
    let (old, two) = (words[(at + 1) % 16], words[(at + 14) % 16]);
    let low = old.rotate_right::<7>().xor(old.rotate_right::<18>()).xor(old.shift_right::<3>());
    let high = two.rotate_right::<17>().xor(two.rotate_right::<19>()).xor(two.shift_right::<10>());
    words[at].add(low).add(words[(at + 9) % 16]).add(high)
}

#[inline(always)]
fn round([a, b, c, d, e, f, g, h]: [Four; 8], word: Four) -> [Four; 8] {
    let high = e.rotate_right::<6>().xor(e.rotate_right::<11>()).xor(e.rotate_right::<25>());
    let first = h.add(high).add(e.select(f, g)).add(word);
    let low = a.rotate_right::<2>().xor(a.rotate_right::<13>()).xor(a.rotate_right::<22>());
    // The majority: where a and b differ, c decides.
    let second = low.add(a.xor(b).select(c, a));
    [first.add(second), a, b, c, d.add(first), e, f, g]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::{LaneKey, VALUE_MAX, block_of};
    use hmac::Mac;

    #[test]
    fn every_short_value_in_every_lane_is_as_the_hmac_crate_has_it() {
        for key_bytes in [1, 16, 32, 64] {
            let key: Vec<u8> = (0..key_bytes).map(|n| n as u8 ^ 0x5a).collect();
            let lanes = LaneKey::new(&key);
            for length in 0..=VALUE_MAX {
                let values: [Vec<u8>; 4] = std::array::from_fn(|lane| {
                    (0..(length + 17 * lane) % (VALUE_MAX + 1)).map(|n| (n * 7 + lane) as u8).collect()
                });
                let mut blocks = [[0xee; 64]; 4];
                values.iter().zip(&mut blocks).for_each(|(value, block)| block_of(value, block));
                for (value, code) in values.iter().zip(lanes.codes(&blocks)) {
                    let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(&key).unwrap();
                    mac.update(value);
                    let code: Vec<u8> = code.iter().flat_map(|word| word.to_le_bytes()).collect();
                    assert_eq!(code, mac.finalize().into_bytes().as_slice(), "{key_bytes} {}", value.len());
                }
            }
        }
    }
}
