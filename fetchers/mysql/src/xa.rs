//! The identity of an XA transaction, as the event that prepares it and the statements that end it spell it.

use std::fmt;

use crate::wire::{Bytes, Malformed};

/// Format id, global transaction id, branch qualifier.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Xid {
    format: u32,
    global: Vec<u8>,
    branch: Vec<u8>,
}

/// Each of the two ids, as both families limit it.
const ID_BYTES_MAX: usize = 64;

impl Xid {
    /// Of an XA_PREPARE event's body: whether it commits at once, and which transaction it is.
    pub(crate) fn read(body: &[u8]) -> Result<(bool, Xid), Malformed> {
        let mut b = Bytes(body);
        let is_one_phase = b.u8()? != 0;
        let format = b.u32()?;
        let lengths = [b.u32()? as usize, b.u32()? as usize];
        if lengths.iter().any(|length| *length > ID_BYTES_MAX) {
            return Err(Malformed("the id of an XA transaction is too long"));
        }
        let [global, branch] = [b.take(lengths[0])?.to_vec(), b.take(lengths[1])?.to_vec()];
        Ok((is_one_phase, Xid { format, global, branch }))
    }

    /// Of `XA COMMIT X'…',X'…',1` and its kin, which the servers write in this one form. `None`: in another one.
    pub(crate) fn parse(statement: &str) -> Option<Xid> {
        let mut words = statement.split_ascii_whitespace();
        words.next().filter(|word| word.eq_ignore_ascii_case("XA"))?;
        words.next()?;
        let id: String = words.collect();
        let mut parts = id.split(',');
        let global = hexadecimal(parts.next()?)?;
        let branch = parts.next().map_or(Some(Vec::new()), hexadecimal)?;
        let format = parts.next().map_or(Some(1), |text| text.parse::<i64>().ok())?;
        // One family prints the number with a sign, the other without.
        let format = u32::try_from(format).or_else(|_| i32::try_from(format).map(|f| f as u32)).ok()?;
        parts.next().is_none().then_some(Xid { format, global, branch })
    }

    /// As a key: the same bytes for the same transaction only.
    pub(crate) fn key(&self) -> Vec<u8> {
        let mut key = self.format.to_be_bytes().to_vec();
        key.push(self.global.len() as u8);
        key.extend_from_slice(&self.global);
        key.extend_from_slice(&self.branch);
        key
    }
}

fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix(['X', 'x'])?.strip_prefix('\'')?.strip_suffix('\'')?;
    let is_whole = digits.len().is_multiple_of(2) && digits.len() / 2 <= ID_BYTES_MAX && digits.is_ascii();
    let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).ok();
    is_whole.then(|| (0..digits.len()).step_by(2).map(byte).collect::<Option<Vec<u8>>>())?
}

impl fmt::Display for Xid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hexadecimal = |id: &[u8]| id.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        write!(f, "X'{}',X'{}',{}", hexadecimal(&self.global), hexadecimal(&self.branch), self.format)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_statement_and_the_event_name_the_same_transaction() {
        let mut body = vec![0];
        for number in [7u32, 2, 1] {
            body.extend_from_slice(&number.to_le_bytes());
        }
        body.extend_from_slice(&[0xff, 0x10, 0x61]);
        let (is_one_phase, xid) = Xid::read(&body).unwrap();
        assert!(!is_one_phase);
        assert_eq!(xid.to_string(), "X'ff10',X'61',7");
        assert_eq!(Xid::parse("XA COMMIT X'ff10',X'61',7").unwrap(), xid);
        assert_eq!(Xid::parse("xa rollback x'FF10', X'61', 7").unwrap(), xid);
        for len in 0..body.len() {
            assert!(Xid::read(&body[..len]).is_err());
        }
    }

    #[test]
    fn parts_that_are_left_out_have_their_defaults_and_other_forms_are_refused() {
        assert_eq!(Xid::parse("XA COMMIT X'61'"), Xid::parse("XA COMMIT X'61',X'',1"));
        assert_eq!(Xid::parse("XA COMMIT X'61',X'',-1"), Xid::parse("XA COMMIT X'61',X'',4294967295"));
        for other in
            ["XA COMMIT 'a'", "XA COMMIT X'6'", "XA COMMIT X'61',X'',1,2", "XA COMMIT", "COMMIT X'61'"]
        {
            assert_eq!(Xid::parse(other), None, "{other}");
        }
    }

    #[test]
    fn keys_differ_where_ids_differ() {
        let keys: Vec<_> = ["X'6162',X'',1", "X'61',X'62',1", "X'',X'6162',1", "X'6162',X'',2"]
            .map(|id| Xid::parse(&format!("XA COMMIT {id}")).unwrap().key())
            .into();
        assert!((1..keys.len()).all(|at| !keys[..at].contains(&keys[at])));
    }
}
