//! What is known of a prepared transaction besides its rows, and its bytes in the store.

use tidemill_event::{Position, Scn};

use crate::wire::Bytes;

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) state: State,
    pub(crate) fragments: u32,
    /// Changes and events that the source made in it.
    pub(crate) changes: u64,
    /// Row images that are kept, to be counted again when they are given.
    pub(crate) rows: u64,
}

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum State {
    #[default]
    Prepared,
    /// It committed, and its commit ends there.
    Committed(Position),
}

/// On disk: keep the numbers.
const PREPARED: u8 = 1;
const COMMITTED: u8 = 2;

impl Held {
    /// State, the commit's timeline and clock value, fragments, changes, rows; little-endian.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let (tag, end) = match self.state {
            State::Prepared => (PREPARED, Position::default()),
            State::Committed(end) => (COMMITTED, end),
        };
        let mut bytes = vec![tag];
        bytes.extend_from_slice(&end.timeline.to_le_bytes());
        bytes.extend_from_slice(&end.scn.0.to_le_bytes());
        bytes.extend_from_slice(&self.fragments.to_le_bytes());
        bytes.extend_from_slice(&self.changes.to_le_bytes());
        bytes.extend_from_slice(&self.rows.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Held> {
        let mut b = Bytes(bytes);
        let tag = b.u8().ok()?;
        let end = Position { timeline: b.u32().ok()?, scn: Scn(b.u64().ok()?) };
        let state = match tag {
            PREPARED => State::Prepared,
            COMMITTED => State::Committed(end),
            _ => return None,
        };
        let held = Held { state, fragments: b.u32().ok()?, changes: b.u64().ok()?, rows: b.u64().ok()? };
        b.0.is_empty().then_some(held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_as_it_was_and_a_shorter_one_is_refused() {
        let end = Position { timeline: 3, scn: Scn(77) };
        for state in [State::Prepared, State::Committed(end)] {
            let held = Held { state, fragments: 2, changes: u64::MAX, rows: 9 };
            let bytes = held.encode();
            assert_eq!(Held::decode(&bytes), Some(held));
            assert!((0..bytes.len()).all(|len| Held::decode(&bytes[..len]).is_none()));
            assert_eq!(Held::decode(&[&[9], &bytes[1..]].concat()), None);
        }
    }
}
