//! One bit a row: what a filter answers, and how NULL and absent values are marked. Words of 64
//! rows, so that masks combine 64 rows at a time.

/// One bit a row. Bits past the last row are always 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    words: Vec<u64>,
    count: usize,
}

impl Mask {
    /// No row.
    pub fn none(count: usize) -> Self {
        Mask { words: vec![0; count.div_ceil(64)], count }
    }

    /// Every row.
    pub fn all(count: usize) -> Self {
        let mut mask = Mask { words: vec![u64::MAX; count.div_ceil(64)], count };
        mask.clear_tail();
        mask
    }

    /// Rows by words of 64, low bits first. Words that are missing are 0; bits past the last row do not
    /// count.
    pub fn from_words(mut words: Vec<u64>, count: usize) -> Self {
        words.resize(count.div_ceil(64), 0);
        let mut mask = Mask { words, count };
        mask.clear_tail();
        mask
    }

    /// The rows for which `test` holds; it is asked for every row, in order, without branches.
    #[inline]
    pub fn of<T: Copy>(values: &[T], mut test: impl FnMut(T) -> bool) -> Self {
        let mut mask = Mask { words: Vec::with_capacity(values.len().div_ceil(64)), count: values.len() };
        let (eights, tail) = values.as_chunks::<8>();
        let (words, rest) = eights.as_chunks::<8>();
        mask.words.extend(words.iter().map(|eights| {
            eights
                .iter()
                .enumerate()
                .fold(0, |word, (place, eight)| word | byte(eight, &mut test) << (8 * place))
        }));
        if !(rest.is_empty() && tail.is_empty()) {
            let whole = (0..)
                .step_by(8)
                .zip(rest)
                .fold(0, |word, (place, eight)| word | byte(eight, &mut test) << place);
            let last = (rest.len() * 8..).zip(tail);
            mask.words.push(last.fold(whole, |word, (bit, value)| word | u64::from(test(*value)) << bit));
        }
        mask
    }

    /// The rows whose number `test` holds for.
    pub fn of_rows(count: usize, mut test: impl FnMut(usize) -> bool) -> Self {
        let mut mask = Mask::none(count);
        for (place, word) in mask.words.iter_mut().enumerate() {
            let base = place * 64;
            for bit in 0..64.min(count - base) {
                *word |= u64::from(test(base + bit)) << bit;
            }
        }
        mask
    }

    /// A bitmap of the contract: the empty list means every row.
    pub fn from_bitmap(bitmap: &[u8], count: usize) -> Self {
        if bitmap.is_empty() {
            return Mask::all(count);
        }
        let mut mask = Mask::none(count);
        for (word, bytes) in mask.words.iter_mut().zip(bitmap.chunks(8)) {
            let mut whole = [0; 8];
            whole[..bytes.len()].copy_from_slice(bytes);
            *word = u64::from_le_bytes(whole);
        }
        mask.clear_tail();
        mask
    }

    /// A bitmap of the contract; when every row is in, the empty list.
    pub fn into_bitmap(self) -> Vec<u8> {
        if self.is_all() {
            return Vec::new();
        }
        let mut bitmap = Vec::with_capacity(self.words.len() * 8);
        for word in &self.words {
            bitmap.extend_from_slice(&word.to_le_bytes());
        }
        bitmap.truncate(self.count.div_ceil(8));
        bitmap
    }

    /// How many rows it speaks of.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether it speaks of no row at all.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many rows are in.
    pub fn count_ones(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether every row is in.
    pub fn is_all(&self) -> bool {
        self.count_ones() == self.count
    }

    /// Whether no row is in.
    pub fn is_none(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// Whether `row` is in.
    pub fn get(&self, row: usize) -> bool {
        self.words.get(row / 64).is_some_and(|word| word >> (row % 64) & 1 == 1)
    }

    /// Takes `row` in.
    pub fn set(&mut self, row: usize) {
        assert!(row < self.count, "row {row} of a mask of {} rows", self.count);
        self.words[row / 64] |= 1 << (row % 64);
    }

    /// The rows that are in, rising.
    pub fn rows(&self) -> impl Iterator<Item = usize> + '_ {
        self.words.iter().enumerate().flat_map(|(place, word)| {
            let mut left = *word;
            core::iter::from_fn(move || {
                let bit = (left != 0).then(|| left.trailing_zeros() as usize)?;
                left &= left - 1;
                Some(place * 64 + bit)
            })
        })
    }

    /// Keeps the rows that `other` has too.
    pub fn and(mut self, other: &Mask) -> Self {
        self.combine(other, |a, b| a & b);
        self
    }

    /// Adds the rows of `other`.
    pub fn or(mut self, other: &Mask) -> Self {
        self.combine(other, |a, b| a | b);
        self
    }

    /// Removes the rows of `other`.
    pub fn and_not(mut self, other: &Mask) -> Self {
        self.combine(other, |a, b| a & !b);
        self
    }

    /// The rows that are not in.
    #[expect(clippy::should_implement_trait, reason = "reads as its siblings `and` and `or`")]
    pub fn not(mut self) -> Self {
        self.words.iter_mut().for_each(|word| *word = !*word);
        self.clear_tail();
        self
    }

    fn combine(&mut self, other: &Mask, with: impl Fn(u64, u64) -> u64) {
        assert_eq!(self.count, other.count, "masks of one batch");
        for (a, b) in self.words.iter_mut().zip(&other.words) {
            *a = with(*a, *b);
        }
    }

    fn clear_tail(&mut self) {
        if let (Some(last), tail @ 1..) = (self.words.last_mut(), self.count % 64) {
            *last &= (1 << tail) - 1;
        }
    }
}

/// Eight rows at once: the loop's own cost is shared, and the shifts are known.
#[inline(always)]
fn byte<T: Copy>(eight: &[T; 8], test: &mut impl FnMut(T) -> bool) -> u64 {
    let [a, b, c, d, e, f, g, h] = eight.map(|value| u64::from(test(value)));
    a | b << 1 | c << 2 | d << 3 | e << 4 | f << 5 | g << 6 | h << 7
}

#[cfg(test)]
mod tests {
    use super::Mask;

    #[test]
    fn bitmap_round_trips_at_every_length() {
        for count in 1..200 {
            let mask = Mask::of_rows(count, |row| row % 3 == 0);
            let bitmap = mask.clone().into_bitmap();
            assert!(bitmap.is_empty() || bitmap.len() == count.div_ceil(8), "{count}");
            assert_eq!(Mask::from_bitmap(&bitmap, count), mask, "{count}");
        }
    }

    #[test]
    fn empty_bitmap_is_every_row_and_the_other_way() {
        assert!(Mask::from_bitmap(&[], 70).is_all());
        assert!(Mask::all(70).into_bitmap().is_empty());
        assert_eq!(Mask::none(9).into_bitmap(), [0, 0]);
    }

    #[test]
    fn bits_past_the_last_row_stay_clear() {
        assert_eq!(Mask::none(70).not(), Mask::all(70));
        assert_eq!(Mask::from_bitmap(&[0xff], 3).count_ones(), 3);
    }

    #[test]
    fn masks_combine_row_by_row() {
        let even = Mask::of_rows(100, |row| row % 2 == 0);
        let third = Mask::of(&(0..100).collect::<Vec<u32>>(), |value| value % 3 == 0);
        assert_eq!(
            even.clone().and(&third).rows().collect::<Vec<_>>(),
            (0..100).step_by(6).collect::<Vec<_>>()
        );
        assert_eq!(even.clone().or(&third).count_ones(), 67);
        assert_eq!(even.and_not(&third).count_ones(), 33);
    }
}
