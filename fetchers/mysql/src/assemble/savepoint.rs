//! What is rolled back within a transaction, in part or whole. The servers log it only where the rows before it could
//! not be taken back, as when a temporary table was made or dropped in between.
//!
//! Rows of tables that cannot roll back are never among those: a server that logs rows writes them into a transaction
//! of their own, ahead of this one, when their statement ends. So whatever stands behind the savepoint is forgotten.

use tidemill_fetchers_api::FetchError;

use crate::assemble::{Assembler, OpenState, Step};

/// A place within a transaction to roll back to.
#[derive(Clone, Debug)]
pub(super) struct Savepoint {
    name: String,
    /// Changes and events of the transaction before it.
    changes: u64,
    /// Rows events before it.
    rows_events: u64,
    /// Bytes of the open transaction in the window.
    bytes: usize,
}

impl Assembler {
    /// SAVEPOINT and RELEASE.
    pub(super) fn savepoint<'a>(&mut self, statement: &str) -> Result<Step<'a>, FetchError> {
        let name = self.savepoint_name(statement)?;
        let (changes, bytes) = (self.changes_so_far(), self.window.open_bytes());
        let is_release = statement.trim_start().get(..7).is_some_and(|w| w.eq_ignore_ascii_case("RELEASE"));
        let open = self.open.as_mut().expect("statements are within a transaction");
        match open.savepoints.iter().position(|s| s.name == name) {
            Some(at) if is_release => open.savepoints.truncate(at),
            Some(at) => drop(open.savepoints.remove(at)),
            None => {}
        }
        if !is_release {
            open.savepoints.push(Savepoint { name, changes, rows_events: open.rows_events, bytes });
        }
        Ok(Step::Next)
    }

    /// ROLLBACK TO: what came after the savepoint never happened.
    pub(super) fn rollback_to<'a>(&mut self, statement: &str) -> Result<Step<'a>, FetchError> {
        let name = self.savepoint_name(statement)?;
        let now = self.changes_so_far();
        let open = self.open.as_mut().expect("statements are within a transaction");
        if open.skipped {
            return Ok(Step::Next);
        }
        let Some(at) = open.savepoints.iter().position(|s| s.name == name) else {
            return Err(self.damaged("a rollback names a savepoint that was not set"));
        };
        // The savepoint itself stays.
        open.savepoints.truncate(at + 1);
        let Savepoint { changes, rows_events, bytes, .. } = open.savepoints[at].clone();
        let taken = open.given + open.kept.changes;
        open.voids.push(rows_events..open.rows_events);
        if self.measuring {
            return Ok(Step::Next);
        }
        if changes < taken {
            return Err(self.delivered_in_part());
        }
        if now > changes {
            let kept = u32::try_from(changes - taken).expect("a window counts its changes in 32 bits");
            self.window.discard_from(kept, bytes);
        }
        Ok(Step::Next)
    }

    /// A transaction that is logged although it was rolled back whole.
    pub(super) fn rollback<'a>(&mut self) -> Result<Step<'a>, FetchError> {
        self.expect(OpenState::Rows, "ROLLBACK")?;
        let open = self.open.as_ref().expect("checked just now");
        if open.given > 0 || open.repeat > 0 {
            return Err(self.delivered_in_part());
        }
        self.measuring = false;
        self.window.discard();
        self.commit()
    }

    fn delivered_in_part(&self) -> FetchError {
        self.damaged("a transaction was rolled back of which a part was delivered; give the window more bytes, then start again")
    }

    fn changes_so_far(&self) -> u64 {
        let open = self.open.as_ref().expect("statements are within a transaction");
        open.given + open.kept.changes + u64::from(self.window.open_changes())
    }

    /// The statement's last word, quoted or not; names of savepoints do not tell case.
    fn savepoint_name(&self, statement: &str) -> Result<String, FetchError> {
        let text = statement.trim_end_matches([';', ' ', '\n']);
        let name = match text.strip_suffix('`') {
            Some(inside) => quoted_name(inside),
            None => text.rsplit(char::is_whitespace).next().map(str::to_owned),
        };
        let name = name.filter(|name| !name.is_empty());
        name.map(|name| name.to_lowercase()).ok_or_else(|| self.damaged("a savepoint has no name"))
    }
}

/// A quoted name without its last mark, in which a doubled mark is one.
fn quoted_name(text: &str) -> Option<String> {
    let mut name = String::new();
    let mut chars = text.chars().rev().peekable();
    while let Some(c) = chars.next() {
        if c == '`' && chars.next_if_eq(&'`').is_none() {
            return Some(name.chars().rev().collect());
        }
        name.push(c);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::quoted_name;

    #[test]
    fn quoted_names_are_read_from_their_end() {
        for (text, name) in [("SAVEPOINT `a b", Some("a b")), ("ROLLBACK TO `x``y", Some("x`y")), ("a", None)]
        {
            assert_eq!(quoted_name(text).as_deref(), name, "{text}");
        }
    }
}
