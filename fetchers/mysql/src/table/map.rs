//! TABLE_MAP: the columns of a table as the rows that follow have them, with the optional metadata behind them.
//! <https://dev.mysql.com/doc/dev/mysql-server/latest/classmysql_1_1binlog_1_1event_1_1Table__map__event.html>

use tidemill_event::TableName;
use tidemill_event::limits::COLUMNS_MAX;

use crate::event::Flavour;
use crate::value::declared::Declared;
use crate::wire::{Bytes, Malformed};

/// Numbers of the column types.
pub(crate) mod code {
    pub(crate) const TINY: u8 = 1;
    pub(crate) const SHORT: u8 = 2;
    pub(crate) const LONG: u8 = 3;
    pub(crate) const FLOAT: u8 = 4;
    pub(crate) const DOUBLE: u8 = 5;
    pub(crate) const TIMESTAMP: u8 = 7;
    pub(crate) const LONGLONG: u8 = 8;
    pub(crate) const INT24: u8 = 9;
    pub(crate) const DATE: u8 = 10;
    pub(crate) const TIME: u8 = 11;
    pub(crate) const DATETIME: u8 = 12;
    pub(crate) const YEAR: u8 = 13;
    pub(crate) const VARCHAR: u8 = 15;
    pub(crate) const BIT: u8 = 16;
    pub(crate) const TIMESTAMP2: u8 = 17;
    pub(crate) const DATETIME2: u8 = 18;
    pub(crate) const TIME2: u8 = 19;
    pub(crate) const TYPED_ARRAY: u8 = 20;
    pub(crate) const BLOB_COMPRESSED: u8 = 140;
    pub(crate) const VARCHAR_COMPRESSED: u8 = 141;
    pub(crate) const VECTOR: u8 = 242;
    pub(crate) const JSON: u8 = 245;
    pub(crate) const NEWDECIMAL: u8 = 246;
    pub(crate) const ENUM: u8 = 247;
    pub(crate) const SET: u8 = 248;
    pub(crate) const BLOB: u8 = 252;
    pub(crate) const VAR_STRING: u8 = 253;
    pub(crate) const STRING: u8 = 254;
    pub(crate) const GEOMETRY: u8 = 255;
}

/// One column, as the map says it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MapColumn {
    /// The type's number; ENUM and SET as themselves, not as the STRING that they hide in.
    pub(crate) code: u8,
    /// The type's own number: length, precision and scale (low and high byte), digits of a fraction.
    pub(crate) meta: u16,
    pub(crate) nullable: bool,
    pub(crate) unsigned: bool,
    pub(crate) name: Option<String>,
    /// Of its text, or of its labels.
    pub(crate) collation: Option<u64>,
    /// The labels of an ENUM or SET, in its own character set.
    pub(crate) labels: Vec<Vec<u8>>,
    /// The kind of geometry, by its number.
    pub(crate) geometry: Option<u64>,
    /// The numbers of a vector.
    pub(crate) dimension: Option<u64>,
    /// The type that the log does not name; no map says it.
    pub(crate) declared: Option<Declared>,
}

/// A table map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TableMap {
    pub(crate) name: TableName,
    pub(crate) columns: Vec<MapColumn>,
    /// Ordinals of the primary key's columns, in key order.
    pub(crate) key: Vec<u32>,
    /// Whether it says which numbers are unsigned.
    pub(crate) has_signs: bool,
}

impl MapColumn {
    /// Whether the signs of a map count it.
    pub(crate) fn is_numeric(&self) -> bool {
        is_numeric(self.code)
    }

    /// Whether the column may be of a type that MariaDB's log does not name: bytes of its length.
    pub(crate) fn may_hide_type(&self) -> bool {
        const BINARY: u64 = 63;
        self.collation == Some(BINARY)
            && match self.code {
                code::STRING => matches!(self.meta, 4 | 16),
                code::VARCHAR | code::VAR_STRING => self.meta > 0 && self.meta.is_multiple_of(4),
                _ => false,
            }
    }
}

/// The number that rows name their table by.
pub(crate) fn table_id(body: &[u8]) -> Result<u64, Malformed> {
    Bytes(body).uint(6)
}

impl TableMap {
    pub(crate) fn read(flavour: Flavour, body: &[u8]) -> Result<TableMap, Malformed> {
        let mut b = Bytes(body);
        b.take(8)?;
        let database = name(&mut b)?;
        let table = name(&mut b)?;
        let count = b.count()?;
        if count > COLUMNS_MAX {
            return Err(Malformed("a table has more columns than a server allows"));
        }
        let codes = b.take(count)?;
        let mut metas = Bytes(b.counted()?);
        let mut columns = Vec::with_capacity(count);
        for code in codes {
            columns.push(column(*code, &mut metas)?);
        }
        let nullable = b.take(count.div_ceil(8))?;
        for (i, column) in columns.iter_mut().enumerate() {
            column.nullable = nullable[i / 8] >> (i % 8) & 1 == 1;
        }
        let name = TableName { database, table };
        let mut map = TableMap { name, columns, key: Vec::new(), has_signs: false };
        while !b.0.is_empty() {
            let kind = b.u8()?;
            let value = b.counted()?;
            map.option(flavour, kind, Bytes(value))?;
        }
        Ok(map)
    }

    /// One field of the optional metadata. A kind that we do not know is not needed.
    fn option(&mut self, flavour: Flavour, kind: u8, mut b: Bytes<'_>) -> Result<(), Malformed> {
        match kind {
            1 => self.signs(b.0)?,
            2 => self.default_collation(|c| is_text(flavour, c), b)?,
            3 => self.collations(|c| is_text(flavour, c), b)?,
            4 => {
                for column in &mut self.columns {
                    column.name = Some(utf8(b.counted()?)?);
                }
            }
            5 => self.labels(code::SET, b)?,
            6 => self.labels(code::ENUM, b)?,
            7 => {
                for column in self.columns.iter_mut().filter(|c| c.code == code::GEOMETRY) {
                    column.geometry = Some(b.length()?);
                }
            }
            8 | 9 => {
                while !b.0.is_empty() {
                    let ordinal = self.ordinal(b.length()?)?;
                    if kind == 9 {
                        b.length()?;
                    }
                    self.key.push(ordinal);
                }
            }
            10 => self.default_collation(has_labels, b)?,
            11 => self.collations(has_labels, b)?,
            13 => {
                for column in self.columns.iter_mut().filter(|c| c.code == code::VECTOR) {
                    column.dimension = Some(b.length()?);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn ordinal(&self, number: u64) -> Result<u32, Malformed> {
        let known = |n: &u32| (*n as usize) < self.columns.len();
        u32::try_from(number).ok().filter(known).ok_or(Malformed("a key names a column that is not there"))
    }

    /// A bit for each numeric column, from the highest; YEAR counts as one.
    fn signs(&mut self, bits: &[u8]) -> Result<(), Malformed> {
        self.has_signs = true;
        let numeric = self.columns.iter_mut().filter(|c| is_numeric(c.code));
        for (i, column) in numeric.enumerate() {
            let byte = bits.get(i / 8).ok_or(Malformed("the signs of a table's numbers end too early"))?;
            column.unsigned = byte << (i % 8) & 0x80 != 0;
        }
        Ok(())
    }

    /// One collation for all, then the exceptions: their number among the columns concerned, and their collation.
    fn default_collation(
        &mut self,
        concerned: impl Fn(&MapColumn) -> bool,
        mut b: Bytes<'_>,
    ) -> Result<(), Malformed> {
        let default = b.length()?;
        let mut concerned: Vec<&mut MapColumn> = self.columns.iter_mut().filter(|c| concerned(c)).collect();
        concerned.iter_mut().for_each(|c| c.collation = Some(default));
        while !b.0.is_empty() {
            let (number, collation) = (b.length()?, b.length()?);
            let column = usize::try_from(number).ok().and_then(|n| concerned.get_mut(n));
            column.ok_or(Malformed("a collation of a column that is not there"))?.collation = Some(collation);
        }
        Ok(())
    }

    fn collations(
        &mut self,
        concerned: impl Fn(&MapColumn) -> bool,
        mut b: Bytes<'_>,
    ) -> Result<(), Malformed> {
        for column in self.columns.iter_mut().filter(|c| concerned(c)) {
            column.collation = Some(b.length()?);
        }
        match b.0.is_empty() {
            true => Ok(()),
            false => Err(Malformed("there are more collations than columns with text")),
        }
    }

    fn labels(&mut self, code: u8, mut b: Bytes<'_>) -> Result<(), Malformed> {
        for column in self.columns.iter_mut().filter(|c| c.code == code) {
            for _ in 0..b.count()? {
                column.labels.push(b.counted()?.to_vec());
            }
        }
        Ok(())
    }
}

fn name(b: &mut Bytes<'_>) -> Result<String, Malformed> {
    let length = usize::from(b.u8()?);
    let name = utf8(b.take(length)?)?;
    b.take(1)?;
    Ok(name)
}

fn utf8(bytes: &[u8]) -> Result<String, Malformed> {
    String::from_utf8(bytes.to_vec()).map_err(|_| Malformed("a name is not UTF-8"))
}

/// A column's type with its own number, which has no, one or two bytes, in an order of its own.
fn column(code: u8, metas: &mut Bytes<'_>) -> Result<MapColumn, Malformed> {
    let (code, meta) = match code {
        code::FLOAT | code::DOUBLE | code::BLOB | code::JSON | code::GEOMETRY | code::VECTOR => {
            (code, u16::from(metas.u8()?))
        }
        code::TIMESTAMP2 | code::DATETIME2 | code::TIME2 | code::BLOB_COMPRESSED => {
            (code, u16::from(metas.u8()?))
        }
        code::VARCHAR | code::BIT | code::NEWDECIMAL | code::VARCHAR_COMPRESSED => (code, metas.u16()?),
        code::STRING | code::VAR_STRING | code::ENUM | code::SET => string(metas.u8()?, metas.u8()?),
        code::TYPED_ARRAY => {
            return Err(Malformed("a table has a column of a type that is only for indexes"));
        }
        _ => (code, 0),
    };
    Ok(MapColumn { code, meta, ..MapColumn::default() })
}

/// ENUM and SET hide in STRING, and so do two bits of a CHAR's length over 255 bytes, inverted in the type's number.
fn string(kind: u8, length: u8) -> (u8, u16) {
    const LENGTH_BITS: u8 = 0x30;
    match kind {
        code::ENUM | code::SET => (kind, u16::from(length)),
        _ if kind & LENGTH_BITS != LENGTH_BITS => {
            let high = u16::from((kind & LENGTH_BITS) ^ LENGTH_BITS) << 4;
            (kind | LENGTH_BITS, high | u16::from(length))
        }
        _ => (kind, u16::from(length)),
    }
}

fn is_numeric(code: u8) -> bool {
    matches!(
        code,
        code::TINY
            | code::SHORT
            | code::INT24
            | code::LONG
            | code::LONGLONG
            | code::NEWDECIMAL
            | code::FLOAT
            | code::DOUBLE
            | code::YEAR
    )
}

/// Which columns the collation lists count: both families count texts, each one more type.
fn is_text(flavour: Flavour, column: &MapColumn) -> bool {
    match column.code {
        code::VARCHAR | code::VAR_STRING | code::STRING | code::BLOB => true,
        code::BLOB_COMPRESSED | code::VARCHAR_COMPRESSED => true,
        code::VECTOR => flavour == Flavour::MySql,
        code::GEOMETRY => flavour == Flavour::MariaDb,
        _ => false,
    }
}

fn has_labels(column: &MapColumn) -> bool {
    matches!(column.code, code::ENUM | code::SET)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    /// A map of these column types, their numbers, and this optional metadata.
    pub(super) fn body(codes: &[u8], metas: &[u8], options: &[&[u8]]) -> Vec<u8> {
        let mut body = vec![9, 0, 0, 0, 0, 0, 1, 0];
        body.extend_from_slice(b"\x01d\0\x01t\0");
        body.push(codes.len() as u8);
        body.extend_from_slice(codes);
        body.push(metas.len() as u8);
        body.extend_from_slice(metas);
        body.extend(std::iter::repeat_n(0, codes.len().div_ceil(8)));
        options.iter().for_each(|o| body.extend_from_slice(o));
        body
    }

    #[test]
    fn signs_are_counted_over_numbers_and_years() {
        let body = body(&[code::TINY, code::YEAR, code::DATE, code::LONG], &[], &[&[1, 1, 0b0010_0000]]);
        let map = TableMap::read(Flavour::MySql, &body).unwrap();
        assert_eq!(map.columns.iter().map(|c| c.unsigned).collect::<Vec<_>>(), [false, false, false, true]);
    }

    #[test]
    fn each_family_counts_its_own_columns_for_collations() {
        let codes = [code::GEOMETRY, code::VARCHAR, code::BLOB];
        let metas = [4, 40, 0, 2];
        for (flavour, list, text) in
            [(Flavour::MariaDb, &[3, 3, 63, 45, 8][..], 45), (Flavour::MySql, &[3, 2, 45, 8][..], 45)]
        {
            let map = TableMap::read(flavour, &body(&codes, &metas, &[list])).unwrap();
            assert_eq!(
                (map.columns[1].collation, map.columns[2].collation),
                (Some(text), Some(8)),
                "{flavour:?}"
            );
        }
        let codes = [code::VECTOR, code::VARCHAR];
        let map = TableMap::read(Flavour::MySql, &body(&codes, &[4, 40, 0], &[&[2, 3, 45, 1, 8]])).unwrap();
        assert_eq!(map.columns[1].collation, Some(8));
    }

    #[test]
    fn the_key_is_in_its_own_order() {
        let codes = [code::LONG, code::LONG];
        assert_eq!(TableMap::read(Flavour::MySql, &body(&codes, &[], &[&[8, 2, 1, 0]])).unwrap().key, [1, 0]);
        assert_eq!(
            TableMap::read(Flavour::MySql, &body(&codes, &[], &[&[9, 4, 1, 7, 0, 0]])).unwrap().key,
            [1, 0]
        );
        assert!(TableMap::read(Flavour::MySql, &body(&codes, &[], &[&[8, 1, 2]])).is_err());
    }

    #[test]
    fn labels_and_long_char_lengths_are_taken_out_of_string() {
        let codes = [code::STRING, code::STRING];
        let metas = [code::ENUM, 1, 0xee, 0xfc];
        let options: [&[u8]; 2] = [&[6, 5, 2, 1, b'a', 1, b'b'], &[200, 1, 0]];
        let map = TableMap::read(Flavour::MySql, &body(&codes, &metas, &options)).unwrap();
        assert_eq!((map.columns[0].code, map.columns[0].labels.len()), (code::ENUM, 2));
        assert_eq!((map.columns[1].code, map.columns[1].meta), (code::STRING, 0x1fc));
    }

    #[test]
    fn every_truncation_is_an_error_or_a_map_with_less_metadata() {
        let whole = body(&[code::VARCHAR, code::LONG], &[40, 0], &[&[1, 1, 0x80], &[4, 4, 1, b'a', 1, b'b']]);
        let options = whole.len() - 9;
        for len in 0..whole.len() {
            let read = TableMap::read(Flavour::MySql, &whole[..len]);
            assert!(read.is_err() || [options, options + 3].contains(&len), "{len} bytes");
        }
    }
}
