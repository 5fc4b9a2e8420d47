//! Reads the fields of events and packets in order. A read past the end is an error, never a panic.

/// The bytes end too early or say what they must not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

const SHORT: Malformed = Malformed("it ends too early");

/// What is left to read.
#[derive(Clone, Copy)]
pub(crate) struct Bytes<'a>(pub(crate) &'a [u8]);

impl<'a> Bytes<'a> {
    #[inline]
    pub(crate) fn take(&mut self, n: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(n).ok_or(SHORT)?;
        self.0 = rest;
        Ok(taken)
    }

    #[inline]
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(SHORT)?;
        self.0 = rest;
        Ok(*taken)
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.array::<1>()?[0])
    }
    #[inline]
    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_le_bytes(self.array()?))
    }
    #[inline]
    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.array()?))
    }
    #[inline]
    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// An unsigned little-endian integer of up to eight bytes.
    #[inline]
    pub(crate) fn uint(&mut self, n: usize) -> Result<u64, Malformed> {
        // The usual widths are one load each.
        match n {
            1 => Ok(u64::from(self.u8()?)),
            2 => Ok(u64::from(self.u16()?)),
            3 => {
                let [a, b, c] = self.array()?;
                Ok(u64::from(u32::from_le_bytes([a, b, c, 0])))
            }
            4 => Ok(u64::from(self.u32()?)),
            8 => self.u64(),
            _ => {
                let bytes = self.take(n)?;
                Ok(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
            }
        }
    }

    /// An unsigned big-endian integer of up to eight bytes.
    #[inline]
    pub(crate) fn uint_be(&mut self, n: usize) -> Result<u64, Malformed> {
        match n {
            0 => Ok(0),
            1 => Ok(u64::from(self.u8()?)),
            3 => {
                let [a, b, c] = self.array()?;
                Ok(u64::from(u32::from_be_bytes([0, a, b, c])))
            }
            4 => Ok(u64::from(u32::from_be_bytes(self.array()?))),
            5 => {
                let [a, b, c, d, e] = self.array()?;
                Ok(u64::from_be_bytes([0, 0, 0, a, b, c, d, e]))
            }
            _ => {
                let bytes = self.take(n)?;
                Ok(bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
            }
        }
    }

    /// The protocol's length-encoded integer.
    pub(crate) fn length(&mut self) -> Result<u64, Malformed> {
        match self.u8()? {
            small @ 0..=250 => Ok(u64::from(small)),
            252 => self.uint(2),
            253 => self.uint(3),
            254 => self.u64(),
            _ => Err(Malformed("a length-encoded integer begins with 251 or 255")),
        }
    }

    /// A length-encoded integer that counts bytes or things that are to follow.
    pub(crate) fn count(&mut self) -> Result<usize, Malformed> {
        let count = self.length()?;
        usize::try_from(count).ok().filter(|n| *n <= self.0.len()).ok_or(SHORT)
    }

    /// Bytes behind their length-encoded length.
    pub(crate) fn counted(&mut self) -> Result<&'a [u8], Malformed> {
        let n = self.count()?;
        self.take(n)
    }

    /// The bytes up to a zero byte, which is consumed.
    pub(crate) fn until_zero(&mut self) -> Result<&'a [u8], Malformed> {
        let n = self.0.iter().position(|b| *b == 0).ok_or(SHORT)?;
        let taken = self.take(n)?;
        self.take(1)?;
        Ok(taken)
    }

    /// The variable-length integer of MySQL's serialization library: as many leading one bits (from the lowest) as
    /// bytes follow the first.
    pub(crate) fn varlen(&mut self) -> Result<u64, Malformed> {
        let first = *self.0.first().ok_or(SHORT)?;
        if first == u8::MAX {
            self.u8()?;
            return self.u64();
        }
        let bytes = first.trailing_ones() as usize + 1;
        Ok(self.uint(bytes)? >> bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_every_width_are_read() {
        for (bytes, value) in [
            (&[250u8][..], 250),
            (&[252, 1, 2], 0x201),
            (&[253, 1, 2, 3], 0x30201),
            (&[254, 1, 2, 3, 4, 5, 6, 7, 8], 0x0807_0605_0403_0201),
        ] {
            assert_eq!(Bytes(bytes).length(), Ok(value));
            for len in 0..bytes.len() {
                assert!(Bytes(&bytes[..len]).length().is_err());
            }
        }
        assert!(Bytes(&[251]).length().is_err());
    }

    #[test]
    fn integers_of_every_width_are_read_in_both_orders() {
        let bytes = [1, 2, 3, 4, 5, 6, 7, 8];
        for n in 0..=8 {
            let little = bytes[..n].iter().rev().fold(0u64, |value, byte| value * 256 + u64::from(*byte));
            let big = bytes[..n].iter().fold(0u64, |value, byte| value * 256 + u64::from(*byte));
            assert_eq!((Bytes(&bytes).uint(n), Bytes(&bytes).uint_be(n)), (Ok(little), Ok(big)), "{n}");
            for len in 0..n {
                assert!(Bytes(&bytes[..len]).uint(n).is_err() && Bytes(&bytes[..len]).uint_be(n).is_err());
            }
        }
    }

    #[test]
    fn variable_length_integers_of_every_width_are_read() {
        assert_eq!(Bytes(&[0]).varlen(), Ok(0));
        assert_eq!(Bytes(&[127 << 1]).varlen(), Ok(127));
        assert_eq!(Bytes(&[0b01, 0b10]).varlen(), Ok(128));
        assert_eq!(Bytes(&[255, 255, 255, 255, 255, 255, 255, 255, 255]).varlen(), Ok(u64::MAX));
        assert!(Bytes(&[0b01]).varlen().is_err());
    }

    #[test]
    fn a_count_beyond_the_bytes_is_refused() {
        assert!(Bytes(&[3, 1, 2]).counted().is_err());
        assert_eq!(Bytes(&[2, 1, 2]).counted(), Ok(&[1u8, 2][..]));
    }
}
