//! What a row of a changelog is.

/// The kind of one row. An update is two rows with one ordinal, `UpdateBefore` then `UpdateAfter`.
/// A lone `UpdateBefore` **is** a delete and a lone `UpdateAfter` **is** an insert, so a filter may
/// judge each row by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RowKind {
    /// The row appeared. On disk: keep the numbers.
    Insert = 0,
    /// The row as it was.
    UpdateBefore = 1,
    /// The row as it is now.
    UpdateAfter = 2,
    /// The row vanished; these were its values.
    Delete = 3,
}

impl RowKind {
    /// The kind with that number, if there is one.
    pub fn from_u8(tag: u8) -> Option<RowKind> {
        Some(match tag {
            0 => RowKind::Insert,
            1 => RowKind::UpdateBefore,
            2 => RowKind::UpdateAfter,
            3 => RowKind::Delete,
            _ => return None,
        })
    }

    /// Whether the row describes the state after the change.
    pub fn is_after(self) -> bool {
        matches!(self, RowKind::Insert | RowKind::UpdateAfter)
    }
}

#[cfg(test)]
mod tests {
    use super::RowKind;

    #[test]
    fn every_tag_names_one_kind_and_no_other_does() {
        let kinds: Vec<_> = (0..=u8::MAX).filter_map(RowKind::from_u8).collect();
        assert_eq!(kinds, [RowKind::Insert, RowKind::UpdateBefore, RowKind::UpdateAfter, RowKind::Delete]);
        for (tag, kind) in kinds.into_iter().enumerate() {
            assert_eq!(kind as usize, tag);
        }
    }
}
