//! QUERY: a statement with the session variables that decide how its text is read.
//! <https://dev.mysql.com/doc/dev/mysql-server/latest/classmysql_1_1binlog_1_1event_1_1Query__event.html>

use std::borrow::Cow;

use crate::event::Flavour;
use crate::settings::BadText;
use crate::table::Charset;
use crate::wire::{Bytes, Malformed};

/// A statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Query<'a> {
    /// The database that was current.
    pub(crate) database: &'a [u8],
    pub(crate) statement: &'a [u8],
    /// Whether quotation marks enclose names rather than texts.
    pub(crate) ansi_quotes: bool,
    pub(crate) error_code: u16,
    /// The collation of the text.
    collation: Option<u16>,
}

impl<'a> Query<'a> {
    pub(crate) fn read(body: &'a [u8]) -> Result<Query<'a>, Malformed> {
        Query::with_extra(body, 0)
    }

    /// EXECUTE_LOAD_QUERY: a statement with the number of the file that it loads.
    pub(crate) fn read_load(body: &'a [u8]) -> Result<Query<'a>, Malformed> {
        const FILE_AND_PLACES: usize = 13;
        Query::with_extra(body, FILE_AND_PLACES)
    }

    fn with_extra(body: &'a [u8], extra: usize) -> Result<Query<'a>, Malformed> {
        let mut b = Bytes(body);
        b.take(8)?;
        let database_length = usize::from(b.u8()?);
        let error_code = b.u16()?;
        let status_length = usize::from(b.u16()?);
        b.take(extra)?;
        let status = Status::read(b.take(status_length)?);
        let database = b.take(database_length)?;
        b.take(1)?;
        let Status { ansi_quotes, collation } = status;
        Ok(Query { database, statement: b.0, ansi_quotes, error_code, collation })
    }

    /// The statement in UTF-8. What is no text of its character set is replaced: names that matter are then not found,
    /// which stops the stream at their first row.
    pub(crate) fn text(&self, flavour: Flavour) -> Cow<'a, str> {
        let lossy = || String::from_utf8_lossy(self.statement);
        if self.statement.is_ascii() {
            return lossy();
        }
        let charset = |collation| Charset::of(flavour, u64::from(collation), BadText::Replace).ok();
        let charset = self.collation.and_then(charset).filter(|charset| !charset.is_binary());
        charset.and_then(|charset| charset.text(self.statement).ok()).map_or_else(lossy, Cow::Owned)
    }
}

/// What of the status variables matters here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Status {
    ansi_quotes: bool,
    collation: Option<u16>,
}

impl Status {
    /// Variables stand in the order of their numbers as far as we need them; an unknown one ends the reading.
    fn read(status: &[u8]) -> Status {
        let mut read = Status::default();
        // Both families write what matters here before anything whose length this release may not know.
        let _ = read.all(Bytes(status));
        read
    }

    fn all(&mut self, mut b: Bytes<'_>) -> Result<(), Malformed> {
        const FLAGS2: u8 = 0;
        const SQL_MODE: u8 = 1;
        const CATALOG: u8 = 2;
        const AUTO_INCREMENT: u8 = 3;
        const CHARSET: u8 = 4;
        const CATALOG_NZ: u8 = 6;
        const ANSI_QUOTES: u64 = 4;
        while !b.0.is_empty() {
            match b.u8()? {
                FLAGS2 | AUTO_INCREMENT => drop(b.take(4)?),
                SQL_MODE => self.ansi_quotes = b.u64()? & ANSI_QUOTES != 0,
                CATALOG => {
                    let length = usize::from(b.u8()?);
                    b.take(length + 1)?;
                }
                CATALOG_NZ => {
                    let length = usize::from(b.u8()?);
                    b.take(length)?;
                }
                CHARSET => {
                    self.collation = Some(b.u16()?);
                    return Ok(());
                }
                _ => return Ok(()),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn body(status: &[u8], statement: &[u8]) -> Vec<u8> {
        let mut body = vec![0; 8];
        body.extend_from_slice(&[4, 0, 0, status.len() as u8, 0]);
        body.extend_from_slice(status);
        body.extend_from_slice(b"shop\0");
        body.extend_from_slice(statement);
        body
    }

    #[test]
    fn l62_a_statement_is_read_with_the_sql_mode_and_the_character_set_of_its_session() {
        let status =
            [&[0, 1, 2, 3, 4, 1, 4, 0, 0, 0, 0, 0, 0, 0, 6, 3][..], b"std", &[4, 8, 0, 8, 0, 45, 0]].concat();
        let body = body(&status, b"DROP TABLE \"gr\xf6\xdfe\"");
        let query = Query::read(&body).unwrap();
        assert!(query.ansi_quotes);
        assert_eq!(
            (query.database, query.text(Flavour::MySql).as_ref()),
            (&b"shop"[..], "DROP TABLE \"größe\"")
        );
        assert!(!Query::read(&self::body(&[], b"BEGIN")).unwrap().ansi_quotes);
    }

    #[test]
    fn every_truncation_is_an_error_or_a_shorter_statement() {
        let whole = body(&[1, 4, 0, 0, 0, 0, 0, 0, 0], b"BEGIN");
        for length in 0..whole.len() {
            assert_eq!(Query::read(&whole[..length]).is_ok(), length >= whole.len() - 5, "{length}");
        }
    }
}
