//! What a server says of a table, and whether that is the table of a map: where it is, it completes the map with what a
//! log without full metadata leaves out, and with the types that no log of MariaDB names. Where it is not, nothing is
//! guessed. Where there is no map, it makes one.

use tidemill_event::TableName;

use crate::event::Flavour;
use crate::table::{MapColumn, TableMap, code};
use crate::value::declared::Declared;

/// A table as a server's information schema tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Described {
    /// In the order of the table's columns.
    pub(crate) columns: Vec<DescribedColumn>,
    /// Ordinals of the columns of what the log calls its primary key, in key order.
    pub(crate) key: Vec<u32>,
}

/// One of its columns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DescribedColumn {
    pub(crate) name: String,
    /// In lower case: `bigint`.
    pub(crate) data_type: String,
    /// `bigint(20) unsigned`
    pub(crate) column_type: String,
    pub(crate) nullable: bool,
    /// The longest text or value in bytes.
    pub(crate) bytes: Option<u64>,
    pub(crate) precision: Option<u64>,
    pub(crate) scale: Option<u64>,
    /// Digits of a time's fraction.
    pub(crate) digits: Option<u64>,
    /// Some collation of its character set.
    pub(crate) collation: Option<u64>,
}

/// How a map and a description differ: the column concerned, and what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Misfit {
    pub(crate) column: Option<String>,
    pub(crate) what: String,
}

/// Column types by their name: the numbers that a map may have for one.
const TYPES: [(&str, &[u8]); 42] = [
    ("tinyint", &[code::TINY]),
    ("smallint", &[code::SHORT]),
    ("mediumint", &[code::INT24]),
    ("int", &[code::LONG]),
    ("bigint", &[code::LONGLONG]),
    ("float", &[code::FLOAT]),
    ("double", &[code::DOUBLE]),
    ("decimal", &[code::NEWDECIMAL]),
    ("bit", &[code::BIT]),
    ("date", &[code::DATE]),
    ("time", &[code::TIME2, code::TIME]),
    ("datetime", &[code::DATETIME2, code::DATETIME]),
    ("timestamp", &[code::TIMESTAMP2, code::TIMESTAMP]),
    ("year", &[code::YEAR]),
    ("char", &[code::STRING]),
    ("varchar", &[code::VARCHAR, code::VARCHAR_COMPRESSED]),
    ("binary", &[code::STRING]),
    ("varbinary", &[code::VARCHAR, code::VARCHAR_COMPRESSED]),
    ("tinyblob", &[code::BLOB, code::BLOB_COMPRESSED]),
    ("blob", &[code::BLOB, code::BLOB_COMPRESSED]),
    ("mediumblob", &[code::BLOB, code::BLOB_COMPRESSED]),
    ("longblob", &[code::BLOB, code::BLOB_COMPRESSED]),
    ("tinytext", &[code::BLOB, code::BLOB_COMPRESSED]),
    ("text", &[code::BLOB, code::BLOB_COMPRESSED]),
    ("mediumtext", &[code::BLOB, code::BLOB_COMPRESSED]),
    ("longtext", &[code::BLOB, code::BLOB_COMPRESSED]),
    ("enum", &[code::ENUM]),
    ("set", &[code::SET]),
    ("json", &[code::JSON]),
    ("geometry", &[code::GEOMETRY]),
    ("point", &[code::GEOMETRY]),
    ("linestring", &[code::GEOMETRY]),
    ("polygon", &[code::GEOMETRY]),
    ("multipoint", &[code::GEOMETRY]),
    ("multilinestring", &[code::GEOMETRY]),
    ("multipolygon", &[code::GEOMETRY]),
    ("geomcollection", &[code::GEOMETRY]),
    ("geometrycollection", &[code::GEOMETRY]),
    // Fixed and variable bytes under another name, and MySQL's own type.
    ("uuid", &[code::STRING]),
    ("inet6", &[code::STRING]),
    ("inet4", &[code::STRING]),
    ("vector", &[code::VECTOR, code::VARCHAR]),
];

impl Described {
    /// Completes the map, if the description is of the same table.
    pub(crate) fn complete(&self, map: &mut TableMap) -> Result<(), Misfit> {
        if !is_incomplete(map) {
            return self.declare(map);
        }
        if self.columns.len() != map.columns.len() {
            let (logged, told) = (map.columns.len(), self.columns.len());
            let what = format!("the log has {logged} columns of it, the definition {told}");
            return Err(Misfit { column: None, what });
        }
        if !map.key.is_empty() && map.key != self.key {
            return Err(Misfit { column: None, what: "the log has another primary key for it".to_owned() });
        }
        let has_signs = map.has_signs;
        for (column, told) in map.columns.iter_mut().zip(&self.columns) {
            let misfit = |what| Misfit { column: Some(told.name.clone()), what };
            told.check(column, has_signs).map_err(misfit)?;
            told.fill(column);
        }
        map.key.clone_from(&self.key);
        Ok(())
    }

    /// Adds the types that a complete map does not name. It may have columns that no definition shows, but none of those.
    fn declare(&self, map: &mut TableMap) -> Result<(), Misfit> {
        let is_logged =
            |told: &&DescribedColumn| map.columns.iter().any(|c| c.name.as_ref() == Some(&told.name));
        if let Some(told) = self.columns.iter().find(|told| !is_logged(told)) {
            let what = "the definition has it and the log has not".to_owned();
            return Err(Misfit { column: Some(told.name.clone()), what });
        }
        let has_signs = map.has_signs;
        for column in map.columns.iter_mut().filter(|column| column.may_hide_type()) {
            let misfit = |what| Misfit { column: column.name.clone(), what };
            let told = self.columns.iter().find(|told| Some(&told.name) == column.name.as_ref());
            let told = told.ok_or_else(|| misfit("the log has it and the definition has not".to_owned()))?;
            told.check(column, has_signs).map_err(misfit)?;
            column.declared = told.declared();
        }
        Ok(())
    }
}

impl Described {
    /// The table's map, as a log with full metadata has it; `declared`: with the types that no log names.
    pub(crate) fn table_map(
        &self,
        flavour: Flavour,
        name: TableName,
        declared: bool,
    ) -> Result<TableMap, Misfit> {
        let columns = self.columns.iter().map(|told| {
            let misfit = |what| Misfit { column: Some(told.name.clone()), what };
            told.map_column(flavour, declared).map_err(misfit)
        });
        let columns = columns.collect::<Result<_, _>>()?;
        Ok(TableMap { name, columns, key: self.key.clone(), has_signs: true })
    }
}

impl DescribedColumn {
    fn map_column(&self, flavour: Flavour, declared: bool) -> Result<MapColumn, String> {
        let unknown = || format!("this release does not know the type {}", self.column_type);
        let (_, codes) = TYPES.iter().find(|(name, _)| *name == self.data_type).ok_or_else(unknown)?;
        let code = match self.declared() {
            // A vector is a type of its own to MySQL, and bytes to MariaDB.
            Some(Declared::Vector(_)) if flavour == Flavour::MariaDb => code::VARCHAR,
            _ if self.is_compressed() => *codes.last().expect("every type has a number"),
            _ => codes[0],
        };
        // A compressed value has a byte more, which says how it is compressed.
        let header = u64::from(code == code::VARCHAR_COMPRESSED);
        let plain = if header > 0 { code::VARCHAR } else { code };
        let plain = if code == code::BLOB_COMPRESSED { code::BLOB } else { plain };
        let meta = self.meta(plain).unwrap_or(0) + header;
        let meta = u16::try_from(meta).map_err(|_| format!("{} has an impossible size", self.column_type))?;
        let mut column = MapColumn { code, meta, nullable: self.nullable, ..MapColumn::default() };
        self.fill(&mut column);
        if !declared {
            column.declared = None;
        }
        Ok(column)
    }

    fn is_compressed(&self) -> bool {
        self.column_type.contains("COMPRESSED")
    }

    fn is_unsigned(&self) -> bool {
        let is_marked = |word| self.column_type.to_ascii_lowercase().split(' ').any(|w| w == word);
        is_marked("unsigned") || is_marked("zerofill")
    }

    /// Whether the map's column is this one, by everything that both tell.
    fn check(&self, column: &MapColumn, has_signs: bool) -> Result<(), String> {
        let told = &self.column_type;
        let known = TYPES.iter().find(|(name, _)| *name == self.data_type);
        let Some((_, codes)) = known else {
            return Err(format!("this release does not know the type {told}"));
        };
        if !codes.contains(&column.code) {
            return Err(format!("the definition says {told}, the log has type {}", column.code));
        }
        if let Some(expected) = self.meta(column.code).filter(|meta| *meta != u64::from(column.meta)) {
            return Err(format!(
                "the definition says {told}, the log has size {} in place of {expected}",
                column.meta
            ));
        }
        if self.nullable != column.nullable {
            let word = |nullable| if nullable { "may be NULL" } else { "may not be NULL" };
            return Err(format!(
                "it {} in the definition and {} in the log",
                word(self.nullable),
                word(column.nullable)
            ));
        }
        // A year is a number to the log, and has a sign there that means nothing.
        if has_signs
            && column.is_numeric()
            && column.code != code::YEAR
            && self.is_unsigned() != column.unsigned
        {
            return Err(format!("the definition says {told}, the log has the other sign"));
        }
        Ok(())
    }

    /// The type that no log of MariaDB names.
    pub(crate) fn declared(&self) -> Option<Declared> {
        Declared::of(&self.data_type, &self.column_type)
    }

    /// The number that a map has beside the type; `None`: it tells nothing, or nothing that can be known.
    fn meta(&self, code: u8) -> Option<u64> {
        let lengths = ["tiny", "", "medium", "long"];
        let length_bytes = |suffix: &str| {
            let size = self.data_type.strip_suffix(suffix)?;
            lengths.iter().position(|l| *l == size).map(|at| at as u64 + 1)
        };
        match code {
            code::FLOAT => Some(4),
            code::DOUBLE => Some(8),
            code::NEWDECIMAL => Some(self.precision? | (self.scale? << 8)),
            code::BIT => Some((self.precision? % 8) | ((self.precision? / 8) << 8)),
            code::TIME2 | code::DATETIME2 | code::TIMESTAMP2 => Some(self.digits.unwrap_or(0)),
            code::ENUM => Some(if self.labels().len() < 256 { 1 } else { 2 }),
            code::SET => Some(match self.labels().len().div_ceil(8) as u64 {
                wide @ 5.. => wide.max(8),
                narrow => narrow,
            }),
            code::BLOB => length_bytes("blob").or(length_bytes("text")),
            code::STRING | code::VARCHAR => self.declared().map(Declared::bytes).or(self.bytes),
            _ => None,
        }
    }

    fn fill(&self, column: &mut MapColumn) {
        column.name = Some(self.name.clone());
        column.unsigned = column.is_numeric() && self.is_unsigned();
        match column.code {
            code::ENUM | code::SET => {
                const UTF8MB4: u64 = 45;
                // The information schema tells them in the connection's character set.
                column.labels = self.labels().into_iter().map(String::into_bytes).collect();
                column.collation = Some(UTF8MB4);
            }
            code::GEOMETRY => column.geometry = self.geometry(),
            // `vector(3)`
            code::VECTOR => {
                let inside = self.column_type.split(['(', ')']).nth(1);
                column.dimension = inside.and_then(|number| number.trim().parse().ok());
            }
            code::STRING | code::VARCHAR | code::BLOB | code::VARCHAR_COMPRESSED | code::BLOB_COMPRESSED => {
                const BINARY: u64 = 63;
                column.collation = Some(self.collation.unwrap_or(BINARY));
                column.declared = self.declared();
            }
            _ => {}
        }
    }

    fn geometry(&self) -> Option<u64> {
        const KINDS: [&str; 8] = [
            "geometry",
            "point",
            "linestring",
            "polygon",
            "multipoint",
            "multilinestring",
            "multipolygon",
            "geometrycollection",
        ];
        let name = if self.data_type == "geomcollection" { "geometrycollection" } else { &self.data_type };
        KINDS.iter().position(|kind| *kind == name).map(|at| at as u64)
    }

    /// The labels of `enum('a','b''c')`.
    fn labels(&self) -> Vec<String> {
        let list = self.column_type.split_once('(').map_or("", |(_, rest)| rest);
        let mut labels = vec![];
        let mut chars = list.chars().peekable();
        while chars.next_if_eq(&'\'').is_some() {
            let mut label = String::new();
            while let Some(c) = chars.next() {
                // A doubled quotation mark is one.
                if c == '\'' && chars.next_if_eq(&'\'').is_none() {
                    break;
                }
                label.push(c);
            }
            labels.push(label);
            chars.next_if_eq(&',');
        }
        labels
    }
}

/// Whether a map lacks what decoding needs. Labels and the character sets of text come with the names; signs may come
/// without them.
pub(crate) fn is_incomplete(map: &TableMap) -> bool {
    map.columns.iter().any(|column| column.name.is_none())
}

/// Whether a column of the map may be of a type that the log does not name.
pub(crate) fn may_hide_types(flavour: Flavour, map: &TableMap) -> bool {
    flavour == Flavour::MariaDb && map.columns.iter().any(MapColumn::may_hide_type)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::declared::Shown;

    fn column(name: &str, column_type: &str) -> DescribedColumn {
        let data_type = column_type.split(['(', ' ']).next().unwrap_or_default().to_owned();
        DescribedColumn {
            name: name.into(),
            data_type,
            column_type: column_type.into(),
            ..Default::default()
        }
    }

    fn map(columns: Vec<MapColumn>) -> TableMap {
        let name = TableName::new("shop", "t");
        TableMap { name, columns, key: vec![], has_signs: false }
    }

    fn of(code: u8, meta: u16) -> MapColumn {
        MapColumn { code, meta, ..MapColumn::default() }
    }

    #[test]
    fn l32_a_map_without_names_is_completed_by_a_description_that_fits() {
        let described = Described {
            columns: vec![
                column("id", "bigint(20) unsigned"),
                DescribedColumn { bytes: Some(80), collation: Some(45), ..column("name", "varchar(20)") },
                column("state", "enum('a','b''c, d','')"),
                column("place", "point"),
            ],
            key: vec![0],
        };
        let columns =
            vec![of(code::LONGLONG, 0), of(code::VARCHAR, 80), of(code::ENUM, 1), of(code::GEOMETRY, 4)];
        let mut map = map(columns);
        assert_eq!(described.complete(&mut map), Ok(()));
        assert!(map.columns[0].unsigned);
        assert_eq!(map.columns[1].collation, Some(45));
        assert_eq!(map.columns[2].labels, [&b"a"[..], b"b'c, d", b""]);
        assert_eq!((map.columns[3].geometry, map.key.as_slice()), (Some(1), &[0][..]));
    }

    #[test]
    fn l23_a_map_with_names_is_told_the_types_that_it_does_not_name() {
        let bytes = |name: &str, code, meta| MapColumn {
            name: Some(name.into()),
            collation: Some(63),
            ..of(code, meta)
        };
        let vector = DescribedColumn { bytes: Some(12), ..column("v", "vector(3)") };
        let plain = DescribedColumn { bytes: Some(16), ..column("raw", "binary(16)") };
        let described = Described {
            columns: vec![column("u", "uuid"), vector, plain, column("a", "inet4")],
            key: vec![],
        };
        // The log has a column more, which is no reason to stop unless it may hide a type.
        let columns = || {
            let hidden = MapColumn { name: Some("DB_ROW_HASH_1".into()), ..of(code::LONGLONG, 0) };
            let [u, a] = [bytes("u", code::STRING, 16), bytes("a", code::STRING, 4)];
            vec![hidden, u, bytes("v", code::VARCHAR, 12), bytes("raw", code::STRING, 16), a]
        };
        let mut logged = map(columns());
        assert!(may_hide_types(Flavour::MariaDb, &logged) && !may_hide_types(Flavour::MySql, &logged));
        assert_eq!(described.complete(&mut logged), Ok(()));
        let declared: Vec<_> = logged.columns.iter().map(|column| column.declared).collect();
        let shown = |shown| Some(Declared::Shown(shown));
        let expected = [None, shown(Shown::Uuid), Some(Declared::Vector(3)), None, shown(Shown::Inet4)];
        assert_eq!(declared, expected);
        for (at, other, part) in [
            (1, bytes("u", code::STRING, 4), "size 4 in place of 16"),
            (2, bytes("v", code::VARCHAR, 16), "size 16 in place of 12"),
            (4, bytes("b", code::STRING, 4), "the log has not"),
            (0, bytes("more", code::STRING, 16), "the definition has not"),
        ] {
            let mut columns = columns();
            columns[at] = other;
            let misfit = described.complete(&mut map(columns)).expect_err("they differ");
            assert!(misfit.what.contains(part), "{misfit:?}");
        }
    }

    #[test]
    fn l32_every_difference_between_map_and_description_is_found() {
        let decimal = DescribedColumn { precision: Some(10), scale: Some(2), ..column("c", "decimal(10,2)") };
        let text = DescribedColumn { bytes: Some(80), ..column("c", "varchar(20)") };
        let nullable = DescribedColumn { nullable: true, ..column("c", "int") };
        for (told, logged, part) in [
            (column("c", "int"), of(code::LONGLONG, 0), "the definition says int, the log has type 8"),
            (decimal, of(code::NEWDECIMAL, 10 | 3 << 8), "size 778 in place of 522"),
            (text, of(code::VARCHAR, 81), "size 81 in place of 80"),
            (nullable, of(code::LONG, 0), "it may be NULL in the definition and may not be NULL in the log"),
            (column("c", "mediumtext"), of(code::BLOB, 2), "size 2 in place of 3"),
            (column("c", "datetime"), of(code::DATETIME2, 6), "size 6 in place of 0"),
            (column("c", "set('a','b')"), of(code::SET, 2), "size 2 in place of 1"),
            (column("c", "hologram"), of(code::LONG, 0), "does not know the type hologram"),
        ] {
            let described = Described { columns: vec![told.clone()], key: vec![] };
            let misfit = described.complete(&mut map(vec![logged])).expect_err("they differ");
            assert!(misfit.what.contains(part), "{told:?}: {misfit:?}");
            assert_eq!(misfit.column.as_deref(), Some("c"));
        }
        let described = Described { columns: vec![column("c", "int")], key: vec![0] };
        let two = vec![of(code::LONG, 0), of(code::LONG, 0)];
        let misfit = described.complete(&mut map(two)).expect_err("there are two");
        assert_eq!(misfit.what, "the log has 2 columns of it, the definition 1");
        let mut signed = map(vec![of(code::LONG, 0)]);
        signed.has_signs = true;
        let described = Described { columns: vec![column("c", "int unsigned")], key: vec![] };
        assert!(described.complete(&mut signed).is_err());
        let mut keyed = map(vec![of(code::LONG, 0)]);
        keyed.key = vec![0];
        let described = Described { columns: vec![column("c", "int")], key: vec![] };
        assert!(described.complete(&mut keyed).is_err());
    }
}
