//! Typed access to the columns of a batch. Views are slices over what crossed the boundary: nothing
//! is copied, and a value costs one or two loads.

use crate::{Column, ColumnDef, Decimal, Error, Mask, Physical, TableDef, Values, Varlen};

/// What a row has in a column.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cell<T> {
    /// A value.
    Value(T),
    /// NULL.
    Null,
    /// The source did not send it.
    Absent,
}

/// A bitmap of the contract, read bit by bit.
#[derive(Clone, Copy, Debug)]
pub struct Bits<'a>(&'a [u8]);

impl Bits<'_> {
    /// Whether the bit of `row` is 1.
    #[inline]
    pub fn get(self, row: usize) -> bool {
        self.0.is_empty() || self.0.get(row / 8).is_some_and(|byte| byte >> (row % 8) & 1 == 1)
    }

    /// Whether every bit is 1, as far as can be told without looking at them.
    #[inline]
    pub fn is_full(self) -> bool {
        self.0.is_empty()
    }

    /// The bits of `count` rows.
    pub fn mask(self, count: usize) -> Mask {
        Mask::from_bitmap(self.0, count)
    }
}

/// Values of any length.
#[derive(Clone, Copy, Debug)]
pub struct Runs<'a> {
    offsets: &'a [u32],
    data: &'a [u8],
}

impl<'a> Runs<'a> {
    /// The bytes of `row`; empty past the end.
    #[inline]
    pub fn get(self, row: usize) -> &'a [u8] {
        match self.offsets.get(row..row + 2) {
            Some(ends) => self.data.get(ends[0] as usize..ends[1] as usize).unwrap_or_default(),
            None => &[],
        }
    }

    /// The rows for whose value `test` holds, given where it starts and ends in [`Runs::data`].
    #[inline]
    pub fn mask(self, mut test: impl FnMut(usize, usize) -> bool) -> Mask {
        let (first, ends) = self.offsets.split_first().unwrap_or((&0, &[]));
        let mut start = *first as usize;
        Mask::of(ends, |end| test(core::mem::replace(&mut start, end as usize), end as usize))
    }

    /// One offset more than values.
    pub fn offsets(self) -> &'a [u32] {
        self.offsets
    }

    /// All values, one after the other.
    pub fn data(self) -> &'a [u8] {
        self.data
    }
}

/// Text of any length.
#[derive(Clone, Copy, Debug)]
pub struct Texts<'a> {
    offsets: &'a [u32],
    data: &'a str,
}

impl<'a> Texts<'a> {
    /// The text of `row`; empty past the end.
    #[inline]
    pub fn get(self, row: usize) -> &'a str {
        match self.offsets.get(row..row + 2) {
            Some(ends) => self.data.get(ends[0] as usize..ends[1] as usize).unwrap_or_default(),
            None => "",
        }
    }
}

impl Varlen {
    /// The values as bytes.
    pub fn runs(&self) -> Runs<'_> {
        Runs { offsets: &self.offsets, data: &self.data }
    }
}

impl Column {
    /// How many rows it has.
    pub fn len(&self) -> usize {
        match &self.values {
            Values::Bools(values) => values.len(),
            Values::Ints(values) => values.len(),
            Values::Uints(values) => values.len(),
            Values::Floats(values) => values.len(),
            Values::Text(runs) | Values::Bytes(runs) => runs.offsets.len().saturating_sub(1),
        }
    }

    /// Whether it has no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// 0: NULL or absent.
    pub fn valid_bits(&self) -> Bits<'_> {
        Bits(&self.valid)
    }

    /// 0: absent.
    pub fn present_bits(&self) -> Bits<'_> {
        Bits(&self.present)
    }

    /// Whether every row has a value, as far as can be told without looking at the bits.
    pub fn is_full(&self) -> bool {
        self.valid.is_empty() && self.present.is_empty()
    }

    /// The value of one row, as a type that reads this layout. `None`: another layout.
    pub fn cell<'a, T: Value<'a>>(&'a self, row: usize) -> Option<Cell<T>> {
        Some(if self.valid_bits().get(row) {
            Cell::Value(T::one(self, row)?)
        } else if self.present_bits().get(row) {
            T::null().map_or(Cell::Null, Cell::Value)
        } else {
            Cell::Absent
        })
    }
}

/// A Rust type that reads one physical layout.
pub trait Value<'a>: Sized {
    /// What is prepared once a batch.
    type View: Copy;
    /// The physical layout that it reads.
    const PHYSICAL: Physical;
    /// Whether NULL is one of its values.
    const NULLABLE: bool = false;
    /// Prepares the column; `None` when it has another layout.
    fn view(column: &'a Column) -> Option<Self::View>;
    /// The value of a row that has one.
    fn read(view: Self::View, row: usize) -> Self;
    /// The value of one row that has one, without preparing the column; `None`: another layout.
    #[inline]
    fn one(column: &'a Column, row: usize) -> Option<Self> {
        Self::view(column).map(|view| Self::read(view, row))
    }
    /// What NULL is read as, for a type that can say it.
    fn null() -> Option<Self> {
        None
    }
}

macro_rules! plain_value {
    ($type:ty, $stored:ty, $case:ident, $physical:ident, $read:expr) => {
        impl<'a> Value<'a> for $type {
            type View = &'a [$stored];
            const PHYSICAL: Physical = Physical::$physical;
            #[inline]
            fn view(column: &'a Column) -> Option<Self::View> {
                match &column.values {
                    Values::$case(values) => Some(values),
                    _ => None,
                }
            }
            #[inline]
            fn read(view: Self::View, row: usize) -> Self {
                $read(view.get(row).copied().unwrap_or_default())
            }
        }
    };
}

plain_value!(bool, u8, Bools, Bools, |byte| byte != 0);
plain_value!(i64, i64, Ints, Ints, |value| value);
plain_value!(u64, u64, Uints, Uints, |value| value);
plain_value!(f64, f64, Floats, Floats, |value| value);

impl<'a> Value<'a> for &'a [u8] {
    type View = Runs<'a>;
    const PHYSICAL: Physical = Physical::Bytes;
    fn view(column: &'a Column) -> Option<Self::View> {
        match &column.values {
            Values::Bytes(values) => Some(values.runs()),
            _ => None,
        }
    }
    #[inline]
    fn read(view: Self::View, row: usize) -> Self {
        view.get(row)
    }
}

impl<'a> Value<'a> for &'a str {
    type View = Texts<'a>;
    const PHYSICAL: Physical = Physical::Text;
    /// Validates all values at once, so that each one costs nothing but its bounds.
    fn view(column: &'a Column) -> Option<Self::View> {
        match &column.values {
            Values::Text(values) => {
                let data = core::str::from_utf8(&values.data).ok()?;
                Some(Texts { offsets: &values.offsets, data })
            }
            _ => None,
        }
    }
    #[inline]
    fn read(view: Self::View, row: usize) -> Self {
        view.get(row)
    }
    /// Validates that value alone.
    fn one(column: &'a Column, row: usize) -> Option<Self> {
        match &column.values {
            Values::Text(values) => core::str::from_utf8(values.runs().get(row)).ok(),
            _ => None,
        }
    }
}

impl<'a> Value<'a> for Decimal<'a> {
    type View = Runs<'a>;
    const PHYSICAL: Physical = Physical::Text;
    fn view(column: &'a Column) -> Option<Self::View> {
        match &column.values {
            Values::Text(values) => Some(values.runs()),
            _ => None,
        }
    }
    #[inline]
    fn read(view: Self::View, row: usize) -> Self {
        Decimal::parse(view.get(row)).unwrap_or(Decimal::ZERO)
    }
}

impl<'a, T: Value<'a>> Value<'a> for Option<T> {
    type View = T::View;
    const PHYSICAL: Physical = T::PHYSICAL;
    const NULLABLE: bool = true;
    fn view(column: &'a Column) -> Option<Self::View> {
        T::view(column)
    }
    #[inline]
    fn read(view: Self::View, row: usize) -> Self {
        Some(T::read(view, row))
    }
    fn one(column: &'a Column, row: usize) -> Option<Self> {
        T::one(column, row).map(Some)
    }
    fn null() -> Option<Self> {
        Some(None)
    }
}

/// A column as values of one Rust type.
#[derive(Clone, Copy, Debug)]
pub struct Cells<'a, V> {
    view: V,
    valid: Bits<'a>,
    present: Bits<'a>,
}

impl<'a, V: Copy> Cells<'a, V> {
    /// What `row` has.
    #[inline]
    pub fn get<T: Value<'a, View = V>>(&self, row: usize) -> Cell<T> {
        if self.valid.get(row) {
            Cell::Value(T::read(self.view, row))
        } else if self.present.get(row) {
            T::null().map_or(Cell::Null, Cell::Value)
        } else {
            Cell::Absent
        }
    }
}

/// Views a column as values of `T`.
///
/// # Errors
/// `fatal`, when the layout is not the one that the plan saw: a fault of the host.
pub fn cells<'a, T: Value<'a>>(column: Option<&'a Column>, name: &str) -> Result<Cells<'a, T::View>, Error> {
    let found = column.and_then(|column| Some((column, T::view(column)?)));
    match found {
        Some((column, view)) => {
            Ok(Cells { view, valid: column.valid_bits(), present: column.present_bits() })
        }
        None => Err(Error::Fatal(format!(
            "the batch does not carry column {name:?} in the layout that was planned"
        ))),
    }
}

/// Finds a column by name and sees to it that `T` reads it.
///
/// # Errors
/// `unsupported`, with what there is instead.
pub fn find<'a, T: Value<'a>>(table: &TableDef, name: &str) -> Result<u32, Error> {
    let (ordinal, column) = table.column(name)?;
    if column.physical == T::PHYSICAL {
        Ok(ordinal)
    } else {
        Err(Error::Unsupported(wrong_type(table, column, T::PHYSICAL)))
    }
}

fn wrong_type(table: &TableDef, column: &ColumnDef, wanted: Physical) -> String {
    format!(
        "column {}.{} is {} ({}), not {}; read it as {}",
        table.path(),
        column.name,
        column.logical,
        column.source_type,
        rust_name(wanted),
        rust_name(column.physical),
    )
}

fn rust_name(physical: Physical) -> &'static str {
    match physical {
        Physical::Bools => "bool",
        Physical::Ints => "i64",
        Physical::Uints => "u64",
        Physical::Floats => "f64",
        Physical::Text => "&str",
        Physical::Bytes => "&[u8]",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::{Cell, cells, find};
    use crate::{Error, build, testing};

    #[test]
    fn null_and_absent_are_told_apart() {
        let mut ints = build::Ints::with_capacity(3);
        ints.push(7);
        ints.push_null();
        ints.push_absent();
        let column = ints.finish();
        let view = cells::<i64>(Some(&column), "amount").unwrap();
        assert_eq!(
            [view.get(0), view.get(1), view.get(2)],
            [Cell::Value(7), Cell::Null, Cell::<i64>::Absent]
        );
        let view = cells::<Option<i64>>(Some(&column), "amount").unwrap();
        assert_eq!(view.get(1), Cell::Value(None::<i64>));
    }

    #[test]
    fn a_column_of_another_type_is_refused_with_the_type_to_use() {
        let table = testing::table("shop.orders", &[("status", "text")], &[]);
        let Err(Error::Unsupported(message)) = find::<i64>(&table, "status") else {
            panic!("text is not i64")
        };
        assert_eq!(message, "column shop.orders.status is text (text), not i64; read it as &str");
    }

    #[test]
    fn text_past_the_batch_is_empty() {
        let column = build::Texts::of(&["ä", "b"]);
        assert_eq!(column.cell::<&str>(0), Some(Cell::Value("ä")));
        assert_eq!(column.cell::<&str>(9), Some(Cell::Value("")));
        assert_eq!(column.cell::<i64>(0), None);
    }
}
