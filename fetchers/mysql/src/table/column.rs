//! One column's values on their way into Arrow: decoded from row images straight into the buffers that the window keeps.

mod sent;

use std::mem::take;
use std::sync::Arc;

use arrow_array::types::{
    Date32Type, Decimal128Type, Decimal256Type, DurationMicrosecondType, Float32Type, Float64Type, Int8Type,
    Int16Type, Int32Type, Int64Type, TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{ArrayRef, ArrowPrimitiveType, BinaryArray, PrimitiveArray, StringArray};
use arrow_buffer::{
    BooleanBuffer, BooleanBufferBuilder, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer, i256,
};
use arrow_schema::DataType;

use crate::table::charset::Charset;
use crate::value::ValueError;
use crate::value::declared::Shown;
use crate::value::document::Document;
use crate::value::{compressed, decimal, json, time};
use crate::wire::Bytes;

/// How a value is decoded. `length` is the number of bytes of the length before a value of variable length.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    I8,
    U8,
    I16,
    U16,
    I24,
    U24,
    I32,
    U32,
    I64,
    U64,
    F32,
    F64,
    Decimal128(decimal::Shape),
    Decimal256(decimal::Shape),
    Date,
    /// Digits of the fraction.
    DateTime(u8),
    Timestamp(u8),
    Time(u8),
    Year,
    Text {
        length: u8,
        charset: Charset,
    },
    Bytes {
        length: u8,
    },
    /// BINARY(width), whose trailing zero bytes are not logged.
    Padded {
        length: u8,
        width: u16,
    },
    /// Of MariaDB: bytes to the log, a text to everybody else.
    Shown {
        length: u8,
        shown: Shown,
    },
    Bits {
        bytes: u8,
    },
    Enum {
        width: u8,
        labels: Arc<[String]>,
    },
    Set {
        width: u8,
        labels: Arc<[String]>,
    },
    Json {
        length: u8,
    },
    /// Of MariaDB: text or bytes, perhaps compressed, each value for itself.
    Compressed {
        length: u8,
        charset: Charset,
    },
}

impl Kind {
    /// Bytes in a row, of the kinds of which every value has as many.
    pub(super) fn fixed_bytes(&self) -> usize {
        match self {
            Kind::I8 | Kind::U8 | Kind::Year => 1,
            Kind::I16 | Kind::U16 => 2,
            Kind::I24 | Kind::U24 | Kind::Date => 3,
            Kind::I32 | Kind::U32 | Kind::F32 => 4,
            Kind::I64 | Kind::U64 | Kind::F64 => 8,
            Kind::Decimal128(shape) | Kind::Decimal256(shape) => shape.bytes(),
            Kind::DateTime(digits) => 5 + time::fraction_bytes(*digits),
            Kind::Timestamp(digits) => 4 + time::fraction_bytes(*digits),
            Kind::Time(digits) => 3 + time::fraction_bytes(*digits),
            Kind::Bits { bytes } => usize::from(*bytes),
            Kind::Enum { width, .. } | Kind::Set { width, .. } => usize::from(*width),
            _ => unreachable!("the other kinds begin with a length"),
        }
    }
}

/// Values by their width in Arrow.
#[derive(Debug)]
enum Cells {
    I8(Vec<i8>),
    I16(Vec<i16>),
    I32(Vec<i32>),
    I64(Vec<i64>),
    I128(Vec<i128>),
    I256(Vec<i256>),
    U8(Vec<u8>),
    U16(Vec<u16>),
    U32(Vec<u32>),
    U64(Vec<u64>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    Bytes(VarBytes),
}

/// Values of variable length, one behind the other.
#[derive(Debug, Default)]
struct VarBytes {
    /// Zero, then the end of each value; empty as long as there is none.
    offsets: Vec<i32>,
    bytes: Vec<u8>,
}

/// A bit a row, up to the last one that is set.
#[derive(Debug, Default)]
pub(crate) struct Marks(Option<BooleanBufferBuilder>);

/// See the module.
#[derive(Debug)]
pub(crate) struct Column {
    kind: Kind,
    cells: Cells,
    null: Marks,
    absent: Marks,
    /// How much the last window took, so that the next one does not grow step by step.
    last_rows: usize,
    last_bytes: usize,
}

macro_rules! each_cells {
    ($cells:expr, $v:ident => $do:expr, $b:ident => $bytes:expr) => {
        match $cells {
            Cells::I8($v) => $do,
            Cells::I16($v) => $do,
            Cells::I32($v) => $do,
            Cells::I64($v) => $do,
            Cells::I128($v) => $do,
            Cells::I256($v) => $do,
            Cells::U8($v) => $do,
            Cells::U16($v) => $do,
            Cells::U32($v) => $do,
            Cells::U64($v) => $do,
            Cells::F32($v) => $do,
            Cells::F64($v) => $do,
            Cells::Bytes($b) => $bytes,
        }
    };
}

impl Cells {
    fn of(kind: &Kind) -> Cells {
        match kind {
            Kind::I8 => Cells::I8(vec![]),
            Kind::U8 => Cells::U8(vec![]),
            Kind::I16 | Kind::Year => Cells::I16(vec![]),
            Kind::U16 => Cells::U16(vec![]),
            Kind::I24 | Kind::I32 | Kind::Date => Cells::I32(vec![]),
            Kind::U24 | Kind::U32 => Cells::U32(vec![]),
            Kind::I64 | Kind::DateTime(_) | Kind::Timestamp(_) | Kind::Time(_) => Cells::I64(vec![]),
            Kind::U64 => Cells::U64(vec![]),
            Kind::F32 => Cells::F32(vec![]),
            Kind::F64 => Cells::F64(vec![]),
            Kind::Decimal128(_) => Cells::I128(vec![]),
            Kind::Decimal256(_) => Cells::I256(vec![]),
            _ => Cells::Bytes(VarBytes::default()),
        }
    }
}

impl Column {
    pub(crate) fn new(kind: Kind) -> Column {
        let cells = Cells::of(&kind);
        Column { kind, cells, null: Marks::default(), absent: Marks::default(), last_rows: 0, last_bytes: 0 }
    }

    /// Bytes of each value, or of its place where values vary.
    pub(crate) fn width(&self) -> usize {
        each_cells!(&self.cells, v => element_bytes(v), b => element_bytes(&b.offsets))
    }

    /// Makes room for as much as the last window had, and a little more: windows differ by little.
    pub(crate) fn begin(&mut self) {
        let (rows, bytes) = (self.last_rows + self.last_rows / 8, self.last_bytes + self.last_bytes / 8);
        each_cells!(&mut self.cells, v => v.reserve(rows), b => {
            b.offsets.reserve(rows + 1);
            b.bytes.reserve(bytes);
        });
    }

    /// Decodes one value, which is there and not NULL.
    #[inline]
    pub(crate) fn push(&mut self, b: &mut Bytes<'_>) -> Result<(), ValueError> {
        match (&self.kind, &mut self.cells) {
            (Kind::I8, Cells::I8(v)) => v.push(b.u8()? as i8),
            (Kind::U8, Cells::U8(v)) => v.push(b.u8()?),
            (Kind::I16, Cells::I16(v)) => v.push(b.u16()? as i16),
            (Kind::U16, Cells::U16(v)) => v.push(b.u16()?),
            (Kind::I24, Cells::I32(v)) => v.push(((b.uint(3)? << 8) as u32 as i32) >> 8),
            (Kind::U24, Cells::U32(v)) => v.push(b.uint(3)? as u32),
            (Kind::I32, Cells::I32(v)) => v.push(b.u32()? as i32),
            (Kind::U32, Cells::U32(v)) => v.push(b.u32()?),
            (Kind::I64, Cells::I64(v)) => v.push(b.u64()? as i64),
            (Kind::U64, Cells::U64(v)) => v.push(b.u64()?),
            (Kind::F32, Cells::F32(v)) => v.push(f32::from_le_bytes(b.array()?)),
            (Kind::F64, Cells::F64(v)) => v.push(f64::from_le_bytes(b.array()?)),
            (Kind::Decimal128(shape), Cells::I128(v)) => v.push(decimal::read(b, *shape)?),
            (Kind::Decimal256(shape), Cells::I256(v)) => v.push(decimal::read(b, *shape)?),
            (Kind::Date, Cells::I32(v)) => v.push(time::date(b)?),
            (Kind::DateTime(digits), Cells::I64(v)) => v.push(time::datetime(b, *digits)?),
            (Kind::Timestamp(digits), Cells::I64(v)) => v.push(time::timestamp(b, *digits)?),
            (Kind::Time(digits), Cells::I64(v)) => v.push(time::time(b, *digits)?),
            (Kind::Year, Cells::I16(v)) => v.push(time::year(b)?),
            (kind, Cells::Bytes(out)) => {
                append(kind, b, &mut out.bytes)?;
                out.end()?;
            }
            _ => unreachable!("cells are made for their kind"),
        }
        Ok(())
    }

    /// Appends a document that was not as such in the row.
    pub(super) fn push_document(&mut self, document: &Document<'_>) -> Result<(), ValueError> {
        let Cells::Bytes(out) = &mut self.cells else { unreachable!("documents are texts") };
        document.print(&mut out.bytes)?;
        out.end()
    }

    pub(crate) fn kind(&self) -> &Kind {
        &self.kind
    }

    /// Row number `row` is NULL, or was not logged.
    pub(crate) fn push_null(&mut self, row: usize, absent: bool) {
        each_cells!(&mut self.cells, v => v.push(Default::default()), b => b.end().expect("nothing was added"));
        self.null.set(row);
        if absent {
            self.absent.set(row);
        }
    }

    /// Forgets the rows from `rows` on.
    pub(crate) fn truncate(&mut self, rows: usize) {
        each_cells!(&mut self.cells, v => v.truncate(rows), b => b.truncate(rows));
        self.null.truncate(rows);
        self.absent.truncate(rows);
    }

    /// Takes the first `rows` as an array, with the bits of those that were not logged; the rest stays.
    pub(crate) fn take(&mut self, rows: usize, data_type: &DataType) -> (ArrayRef, Option<BooleanBuffer>) {
        let nulls = self.null.take(rows).map(|marked| NullBuffer::new(!&marked));
        let array = self.take_values(rows, data_type, nulls);
        (array, self.absent.take(rows))
    }

    fn take_values(&mut self, rows: usize, data_type: &DataType, nulls: Option<NullBuffer>) -> ArrayRef {
        self.last_rows = rows;
        match &mut self.cells {
            Cells::I8(v) => primitive::<Int8Type>(split(v, rows), nulls, data_type),
            Cells::I16(v) => primitive::<Int16Type>(split(v, rows), nulls, data_type),
            Cells::I32(v) if *data_type == DataType::Date32 => {
                primitive::<Date32Type>(split(v, rows), nulls, data_type)
            }
            Cells::I32(v) => primitive::<Int32Type>(split(v, rows), nulls, data_type),
            Cells::I64(v) => {
                let values = split(v, rows);
                match data_type {
                    DataType::Timestamp(..) => {
                        primitive::<TimestampMicrosecondType>(values, nulls, data_type)
                    }
                    DataType::Duration(_) => primitive::<DurationMicrosecondType>(values, nulls, data_type),
                    _ => primitive::<Int64Type>(values, nulls, data_type),
                }
            }
            Cells::I128(v) => primitive::<Decimal128Type>(split(v, rows), nulls, data_type),
            Cells::I256(v) => primitive::<Decimal256Type>(split(v, rows), nulls, data_type),
            Cells::U8(v) => primitive::<UInt8Type>(split(v, rows), nulls, data_type),
            Cells::U16(v) => primitive::<UInt16Type>(split(v, rows), nulls, data_type),
            Cells::U32(v) => primitive::<UInt32Type>(split(v, rows), nulls, data_type),
            Cells::U64(v) => primitive::<UInt64Type>(split(v, rows), nulls, data_type),
            Cells::F32(v) => primitive::<Float32Type>(split(v, rows), nulls, data_type),
            Cells::F64(v) => primitive::<Float64Type>(split(v, rows), nulls, data_type),
            Cells::Bytes(out) => {
                let (offsets, bytes) = out.take(rows);
                self.last_bytes = bytes.len();
                let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
                let bytes = Buffer::from_vec(bytes);
                match data_type {
                    // SAFETY: every value was appended as UTF-8, checked or made by us, and offsets end values.
                    DataType::Utf8 => Arc::new(unsafe { StringArray::new_unchecked(offsets, bytes, nulls) }),
                    _ => Arc::new(BinaryArray::new(offsets, bytes, nulls)),
                }
            }
        }
    }
}

fn primitive<T: ArrowPrimitiveType>(
    values: Vec<T::Native>,
    nulls: Option<NullBuffer>,
    data_type: &DataType,
) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::new(values.into(), nulls).with_data_type(data_type.clone()))
}

fn element_bytes<T>(_: &[T]) -> usize {
    size_of::<T>()
}

/// Takes the first `n`; the rest stays in a buffer of its own.
fn split<T>(values: &mut Vec<T>, n: usize) -> Vec<T> {
    let rest = if n == values.len() { Vec::new() } else { values.split_off(n) };
    std::mem::replace(values, rest)
}

/// Appends a value of variable length.
#[inline]
fn append(kind: &Kind, b: &mut Bytes<'_>, out: &mut Vec<u8>) -> Result<(), ValueError> {
    match kind {
        Kind::Text { length, charset } => charset.decode(value(b, *length)?, out)?,
        Kind::Bytes { length } => out.extend_from_slice(value(b, *length)?),
        Kind::Padded { length, width } => {
            let bytes = value(b, *length)?;
            out.extend_from_slice(bytes);
            out.extend(std::iter::repeat_n(0, usize::from(*width).saturating_sub(bytes.len())));
        }
        Kind::Shown { length, shown } => shown
            .print(value(b, *length)?, out)
            .ok_or(ValueError::Malformed("a value is longer than its type"))?,
        Kind::Bits { bytes } => out.extend_from_slice(b.take(usize::from(*bytes))?),
        Kind::Json { length } => json::print(value(b, *length)?, out)?,
        Kind::Compressed { length, charset } => {
            charset.decode(&compressed::inflate(value(b, *length)?)?, out)?
        }
        Kind::Enum { width, labels } => {
            let index = b.uint(usize::from(*width))? as usize;
            // Zero is the error value, which SQL shows as an empty text.
            if let Some(index) = index.checked_sub(1) {
                let label = labels.get(index).ok_or(ValueError::Malformed("an enum has no such label"))?;
                out.extend_from_slice(label.as_bytes());
            }
        }
        Kind::Set { width, labels } => append_set(b.uint(usize::from(*width))?, labels, out)?,
        _ => unreachable!("the other kinds have a fixed width"),
    }
    Ok(())
}

#[inline]
pub(super) fn value<'a>(b: &mut Bytes<'a>, length: u8) -> Result<&'a [u8], ValueError> {
    let length = match length {
        1 => usize::from(b.u8()?),
        2 => usize::from(b.u16()?),
        n => b.uint(usize::from(n))? as usize,
    };
    Ok(b.take(length)?)
}

fn append_set(mut bits: u64, labels: &[String], out: &mut Vec<u8>) -> Result<(), ValueError> {
    let mut is_first = true;
    while bits != 0 {
        let index = bits.trailing_zeros() as usize;
        bits &= bits - 1;
        let label = labels.get(index).ok_or(ValueError::Malformed("a set has no such label"))?;
        if !is_first {
            out.push(b',');
        }
        is_first = false;
        out.extend_from_slice(label.as_bytes());
    }
    Ok(())
}

impl VarBytes {
    /// Ends the value that was appended.
    #[inline]
    fn end(&mut self) -> Result<(), ValueError> {
        if self.offsets.is_empty() {
            self.offsets.push(0);
        }
        let end = i32::try_from(self.bytes.len()).map_err(|_| {
            ValueError::Refused(
                "its values in one window have more than 2 GiB; leave the table out".to_owned(),
            )
        })?;
        self.offsets.push(end);
        Ok(())
    }

    fn truncate(&mut self, rows: usize) {
        self.offsets.truncate(rows + 1);
        self.bytes.truncate(self.offsets.last().map_or(0, |end| *end as usize));
    }

    fn take(&mut self, rows: usize) -> (Vec<i32>, Vec<u8>) {
        let Some(end) = self.offsets.get(rows).copied() else { return (vec![0], Vec::new()) };
        let rest: Vec<i32> = self.offsets[rows..].iter().map(|offset| offset - end).collect();
        self.offsets.truncate(rows + 1);
        let offsets = std::mem::replace(&mut self.offsets, if rest.len() > 1 { rest } else { Vec::new() });
        (offsets, split(&mut self.bytes, end as usize))
    }
}

impl Marks {
    /// Marks row number `row`, the last one so far. Rows that are never marked cost nothing.
    fn set(&mut self, row: usize) {
        let bits = self.0.get_or_insert_with(|| BooleanBufferBuilder::new(row + 64));
        bits.append_n(row - bits.len(), false);
        bits.append(true);
    }

    fn truncate(&mut self, rows: usize) {
        if let Some(bits) = self.0.as_mut().filter(|bits| bits.len() > rows) {
            bits.truncate(rows);
        }
    }

    /// The marks of the first `rows`, where one of them has any; those of the rest stay.
    fn take(&mut self, rows: usize) -> Option<BooleanBuffer> {
        let mut bits = take(&mut self.0)?;
        if bits.len() < rows {
            bits.append_n(rows - bits.len(), false);
        }
        let all = bits.finish();
        if all.len() > rows {
            let mut rest = BooleanBufferBuilder::new(all.len() - rows);
            rest.append_buffer(&all.slice(rows, all.len() - rows));
            self.0 = Some(rest);
        }
        let taken = all.slice(0, rows);
        (taken.count_set_bits() > 0).then_some(taken)
    }
}
