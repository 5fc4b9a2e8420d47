//! Bytes that were read and not used yet, in one piece of memory.

use crate::limits::{BUFFER_BYTES_KEPT, READ_BYTES};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Buffer {
    pub(crate) fn unread(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Takes the first `n` unread bytes. They stay where they are until [`Buffer::room`].
    pub(crate) fn take(&mut self, n: usize) -> &[u8] {
        let from = self.start;
        self.start += n;
        assert!(self.start <= self.end, "no more is taken than there is");
        &self.bytes[from..self.start]
    }

    pub(crate) fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }

    /// Where to read to. The unread bytes move to the front; with what follows they will find room for `needed`.
    pub(crate) fn room(&mut self, needed: usize) -> &mut [u8] {
        let unread = self.end - self.start;
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, unread);
        }
        let capacity = needed.max(unread).next_multiple_of(READ_BYTES) + READ_BYTES;
        if self.bytes.len() < capacity {
            self.bytes.resize(capacity, 0);
        } else if self.bytes.len() > BUFFER_BYTES_KEPT && capacity <= BUFFER_BYTES_KEPT {
            self.bytes.truncate(capacity);
            self.bytes.shrink_to_fit();
        }
        &mut self.bytes[self.end..]
    }

    /// So many bytes were read to where [`Buffer::room`] said.
    pub(crate) fn filled(&mut self, n: usize) {
        self.end += n;
        assert!(self.end <= self.bytes.len(), "no more is read than there is room for");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_in_the_order_they_went_in_however_they_are_cut() {
        let all: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
        let (mut buffer, mut out, mut given) = (Buffer::default(), Vec::new(), 0);
        let mut cut = 1usize;
        while out.len() < all.len() {
            let room = buffer.room(cut);
            let n = room.len().min(all.len() - given).min(cut * 7);
            room[..n].copy_from_slice(&all[given..given + n]);
            buffer.filled(n);
            given += n;
            let take = buffer.unread().len().min(cut);
            out.extend_from_slice(buffer.take(take));
            cut = cut % 900_001 * 3 + 1;
        }
        assert!(out == all);
    }

    #[test]
    fn a_large_event_s_room_is_given_back() {
        let mut buffer = Buffer::default();
        assert!(buffer.room(64 << 20).len() >= 64 << 20);
        buffer.room(1);
        assert!(buffer.bytes.capacity() <= BUFFER_BYTES_KEPT);
    }
}
