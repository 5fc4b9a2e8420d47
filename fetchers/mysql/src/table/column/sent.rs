//! Values as a prepared statement's rows have them: numbers as they are in memory, everything else behind its length.

use crate::table::column::{Cells, Column, Kind};
use crate::table::map::code;
use crate::value::{ValueError, decimal, is_utf8, time};
use crate::wire::Bytes;

impl Kind {
    /// Whether a value of this kind can be read from a result's column of that type. Labels are
    /// no kind of their own there: they are texts.
    pub(crate) fn is_sent_as(&self, sent: u8) -> bool {
        const DECIMAL: u8 = 0;
        const NULL: u8 = 6;
        const TINY_BLOB: u8 = 249;
        match self {
            Kind::I8 | Kind::U8 => sent == code::TINY,
            Kind::I16 | Kind::U16 => sent == code::SHORT,
            Kind::Year => sent == code::YEAR,
            Kind::I24 | Kind::U24 => sent == code::INT24,
            Kind::I32 | Kind::U32 => sent == code::LONG,
            Kind::I64 | Kind::U64 => sent == code::LONGLONG,
            Kind::F32 => sent == code::FLOAT,
            Kind::F64 => sent == code::DOUBLE,
            Kind::Decimal128(_) | Kind::Decimal256(_) => matches!(sent, DECIMAL | code::NEWDECIMAL),
            Kind::Date => sent == code::DATE,
            Kind::DateTime(_) => sent == code::DATETIME,
            Kind::Timestamp(_) => sent == code::TIMESTAMP,
            Kind::Time(_) => sent == code::TIME,
            _ => {
                sent == NULL
                    || matches!(sent, code::VARCHAR | code::BIT | code::VECTOR | code::JSON)
                    || matches!(sent, TINY_BLOB..=code::GEOMETRY)
            }
        }
    }
}

impl Column {
    /// Decodes one value, which is not NULL.
    #[inline]
    pub(crate) fn push_sent(&mut self, b: &mut Bytes<'_>) -> Result<(), ValueError> {
        match (&self.kind, &mut self.cells) {
            (Kind::I8, Cells::I8(v)) => v.push(b.u8()? as i8),
            (Kind::U8, Cells::U8(v)) => v.push(b.u8()?),
            (Kind::I16 | Kind::Year, Cells::I16(v)) => v.push(b.u16()? as i16),
            (Kind::U16, Cells::U16(v)) => v.push(b.u16()?),
            (Kind::I24 | Kind::I32, Cells::I32(v)) => v.push(b.u32()? as i32),
            (Kind::U24 | Kind::U32, Cells::U32(v)) => v.push(b.u32()?),
            (Kind::I64, Cells::I64(v)) => v.push(b.u64()? as i64),
            (Kind::U64, Cells::U64(v)) => v.push(b.u64()?),
            (Kind::F32, Cells::F32(v)) => v.push(f32::from_le_bytes(b.array()?)),
            (Kind::F64, Cells::F64(v)) => v.push(f64::from_le_bytes(b.array()?)),
            (Kind::Decimal128(shape), Cells::I128(v)) => v.push(decimal::read_text(b.counted()?, *shape)?),
            (Kind::Decimal256(shape), Cells::I256(v)) => v.push(decimal::read_text(b.counted()?, *shape)?),
            (Kind::Date, Cells::I32(v)) => v.push(time::sent_date(b)?),
            (Kind::DateTime(_) | Kind::Timestamp(_), Cells::I64(v)) => v.push(time::sent_datetime(b)?),
            (Kind::Time(_), Cells::I64(v)) => v.push(time::sent_time(b)?),
            (kind, Cells::Bytes(out)) => {
                append(kind, b, &mut out.bytes)?;
                out.end()?;
            }
            _ => unreachable!("cells are made for their kind"),
        }
        Ok(())
    }
}

/// Appends a value of variable length.
#[inline]
fn append(kind: &Kind, b: &mut Bytes<'_>, out: &mut Vec<u8>) -> Result<(), ValueError> {
    match kind {
        Kind::Text { charset, .. } | Kind::Compressed { charset, .. } => charset.decode(b.counted()?, out)?,
        Kind::Bytes { .. } | Kind::Padded { .. } => out.extend_from_slice(b.counted()?),
        Kind::Shown { .. } | Kind::Json { .. } => {
            let text = b.counted()?;
            if !is_utf8(text) {
                return Err(ValueError::Malformed("a document or an address is not UTF-8"));
            }
            out.extend_from_slice(text);
        }
        Kind::Bits { bytes } => {
            let bits = b.counted()?;
            if bits.len() != usize::from(*bytes) {
                return Err(ValueError::Malformed("bits have another length than their column"));
            }
            out.extend_from_slice(bits);
        }
        _ => unreachable!("the other kinds have a fixed width"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::event::Flavour;
    use crate::settings::BadText;
    use crate::table::Charset;
    use crate::value::decimal::Shape;
    use crate::value::declared::Shown;
    use arrow_array::Array;
    use arrow_schema::DataType;
    use proptest::prelude::{any, *};

    const UTF8MB4: u64 = 45;

    fn kinds() -> Vec<Kind> {
        let charset = Charset::of(Flavour::MySql, UTF8MB4, BadText::Error).unwrap();
        let (narrow, wide) = (Shape::new(12, 4).unwrap(), Shape::new(65, 30).unwrap());
        vec![
            Kind::I8,
            Kind::U16,
            Kind::I24,
            Kind::U32,
            Kind::I64,
            Kind::F32,
            Kind::F64,
            Kind::Decimal128(narrow),
            Kind::Decimal256(wide),
            Kind::Date,
            Kind::DateTime(6),
            Kind::Timestamp(0),
            Kind::Time(3),
            Kind::Year,
            Kind::Text { length: 1, charset },
            Kind::Bytes { length: 1 },
            Kind::Padded { length: 1, width: 3 },
            Kind::Shown { length: 1, shown: Shown::Uuid },
            Kind::Bits { bytes: 2 },
            Kind::Json { length: 4 },
            Kind::Compressed { length: 2, charset },
        ]
    }

    proptest! {
        /// Whatever a server sends, and wherever it ends: an error, or a value that took its bytes.
        #[test]
        fn bytes_by_chance_are_a_value_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..60), length in 0..20u8) {
            for kind in kinds() {
                for bytes in [bytes.clone(), [&[length][..], &bytes].concat()] {
                    let mut column = Column::new(kind.clone());
                    let mut b = Bytes(&bytes);
                    if column.push_sent(&mut b).is_ok() {
                        prop_assert!(b.0.len() < bytes.len(), "{kind:?}");
                    }
                }
            }
        }

        #[test]
        fn a_text_is_sent_as_it_is(text in "\\PC{0,300}") {
            let charset = Charset::of(Flavour::MySql, UTF8MB4, BadText::Error).unwrap();
            let mut sent = match text.len() {
                short @ ..251 => vec![short as u8],
                long => [&[252][..], &(long as u16).to_le_bytes()].concat(),
            };
            sent.extend_from_slice(text.as_bytes());
            let mut column = Column::new(Kind::Text { length: 1, charset });
            let mut b = Bytes(&sent);
            column.push_sent(&mut b).unwrap();
            prop_assert!(b.0.is_empty());
            let (array, _) = column.take(1, &DataType::Utf8);
            let array = array.as_any().downcast_ref::<arrow_array::StringArray>().unwrap();
            prop_assert_eq!(array.value(0), text.as_str());
            for end in 0..sent.len() {
                let mut column = Column::new(Kind::Text { length: 1, charset });
                prop_assert!(column.push_sent(&mut Bytes(&sent[..end])).is_err());
            }
        }
    }
}
