//! A predicate meets a table: columns are found, literals take the columns' types, and what does not
//! fit is told before the first row.

use tidemill_guest::{ColumnDef, Decimal, Error, Logical, TableDef, calendar};

use crate::like::Like;
use crate::parse::{Comparison, Expr, Literal, Operation, Predicate, Test};
use crate::test::{Check, TypedTest, integer_bound};
use crate::token::hex;

/// A predicate bound to one version of one table.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Ordinals of the columns that it needs.
    input: Vec<u32>,
    /// Their names, for messages.
    pub(crate) names: Vec<String>,
    pub(crate) node: Node,
}

/// A node of the bound tree. Columns are places in the plan's input.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Node {
    And(Vec<Node>),
    Or(Vec<Node>),
    Not(Box<Node>),
    Test { column: usize, test: TypedTest },
    Null { column: usize, wanted: bool },
}

impl Predicate {
    /// Binds the predicate to a table.
    ///
    /// # Errors
    /// `unsupported`: a column is missing, or a literal does not fit its type; with what would.
    pub fn plan(&self, table: &TableDef) -> Result<Plan, Error> {
        Plan::of(&self.expr, table)
    }
}

impl Plan {
    pub(crate) fn of(expr: &Expr, table: &TableDef) -> Result<Self, Error> {
        let mut binder = Binder { table, input: Vec::new() };
        let node = binder.node(expr)?;
        let names =
            binder.input.iter().map(|ordinal| table.columns[*ordinal as usize].name.clone()).collect();
        Ok(Plan { input: binder.input, names, node })
    }

    /// Ordinals of the columns that [`Plan::keep`] needs, in the order in which it needs them.
    pub fn input(&self) -> &[u32] {
        &self.input
    }
}

struct Binder<'a> {
    table: &'a TableDef,
    input: Vec<u32>,
}

impl Binder<'_> {
    fn node(&mut self, expr: &Expr) -> Result<Node, Error> {
        Ok(match expr {
            Expr::And(parts) => Node::And(self.nodes(parts)?),
            Expr::Or(parts) => Node::Or(self.nodes(parts)?),
            Expr::Not(inner) => Node::Not(Box::new(self.node(inner)?)),
            Expr::Test(test) => self.test(test)?,
        })
    }

    fn nodes(&mut self, parts: &[Expr]) -> Result<Vec<Node>, Error> {
        parts.iter().map(|part| self.node(part)).collect()
    }

    fn test(&mut self, test: &Test) -> Result<Node, Error> {
        let (ordinal, definition) = self.table.column(&test.column)?;
        let column = self.place(ordinal);
        Ok(match &test.operation {
            Operation::IsNull => Node::Null { column, wanted: true },
            Operation::IsNotNull => Node::Null { column, wanted: false },
            operation => {
                Node::Test { column, test: TypedColumn { table: self.table, definition }.test(operation)? }
            }
        })
    }

    fn place(&mut self, ordinal: u32) -> usize {
        match self.input.iter().position(|known| *known == ordinal) {
            Some(place) => place,
            None => {
                self.input.push(ordinal);
                self.input.len() - 1
            }
        }
    }
}

/// One column, for what its type says about literals.
#[derive(Clone, Copy, Debug)]
pub struct TypedColumn<'a> {
    /// Its table, for messages.
    pub table: &'a TableDef,
    /// The column.
    pub definition: &'a ColumnDef,
}

impl TypedColumn<'_> {
    fn test(&self, operation: &Operation) -> Result<TypedTest, Error> {
        match self.definition.meaning() {
            Logical::Bool => self.bools(operation),
            Logical::Uint64 => self.uints(operation),
            Logical::Int64 | Logical::Date | Logical::Time | Logical::Datetime | Logical::Timestamp => {
                self.ints(operation)
            }
            Logical::Float64 => Ok(TypedTest::Floats(self.check(operation, |literal| self.float(literal))?)),
            Logical::Decimal { .. } => {
                Ok(TypedTest::Decimals(self.check(operation, |literal| self.number(literal))?))
            }
            Logical::Text => match operation {
                Operation::Like(pattern) => Ok(TypedTest::Like(Like::compile(pattern))),
                _ => Ok(TypedTest::Runs(self.check(operation, |literal| self.bytes(literal))?)),
            },
            Logical::Bytes | Logical::Uuid => {
                Ok(TypedTest::Runs(self.check(operation, |literal| self.bytes(literal))?))
            }
            Logical::Json | Logical::Other => {
                Err(self.cannot("its values are not compared; use `is null` or `is not null`"))
            }
        }
    }

    fn bools(&self, operation: &Operation) -> Result<TypedTest, Error> {
        let wanted = |literal: &Literal| match literal {
            Literal::Bool(value) => Ok(*value),
            other => Err(self.misfit(other)),
        };
        match operation {
            Operation::Compare(Comparison::Equal, literal) => Ok(TypedTest::Bools(wanted(literal)?)),
            Operation::Compare(Comparison::NotEqual, literal) => Ok(TypedTest::Bools(!wanted(literal)?)),
            _ => Err(self.cannot("true and false have no order; use `= true` or `= false`")),
        }
    }

    fn ints(&self, operation: &Operation) -> Result<TypedTest, Error> {
        let whole =
            |literals: &[i128]| literals.iter().filter_map(|value| i64::try_from(*value).ok()).collect();
        Ok(match self.integers(operation)? {
            Integers::Bound(bound) => TypedTest::ints(bound),
            Integers::Set(literals) => TypedTest::IntSet(whole(&literals)),
        })
    }

    fn uints(&self, operation: &Operation) -> Result<TypedTest, Error> {
        let whole =
            |literals: &[i128]| literals.iter().filter_map(|value| u64::try_from(*value).ok()).collect();
        Ok(match self.integers(operation)? {
            Integers::Bound(bound) => TypedTest::uints(bound),
            Integers::Set(literals) => TypedTest::UintSet(whole(&literals)),
        })
    }

    fn integers(&self, operation: &Operation) -> Result<Integers, Error> {
        let bound = |comparison, literal: &Literal| -> Result<_, Error> {
            let text = self.number(literal)?;
            let number = Decimal::parse(text.as_bytes()).ok_or_else(|| self.misfit(literal))?;
            Ok(integer_bound(comparison, &number))
        };
        Ok(match operation {
            Operation::Compare(comparison, literal) => Integers::Bound(bound(*comparison, literal)?),
            Operation::Between(low, high) => {
                let (first, _, _) = bound(Comparison::GreaterOrEqual, low)?;
                let (_, last, _) = bound(Comparison::LessOrEqual, high)?;
                Integers::Bound((first, last, true))
            }
            Operation::OneOf(literals) => {
                let mut set = Vec::with_capacity(literals.len());
                for literal in literals {
                    // A literal with a fraction equals no integer: its first is past its last.
                    let (first, last, _) = bound(Comparison::Equal, literal)?;
                    set.extend((first == last).then_some(first));
                }
                set.sort_unstable();
                Integers::Set(set)
            }
            _ => return Err(self.no_pattern()),
        })
    }

    fn check<L>(
        &self,
        operation: &Operation,
        read: impl Fn(&Literal) -> Result<L, Error>,
    ) -> Result<Check<L>, Error> {
        Ok(match operation {
            Operation::Compare(comparison, literal) => Check::Compare(*comparison, read(literal)?),
            Operation::OneOf(literals) => Check::OneOf(literals.iter().map(read).collect::<Result<_, _>>()?),
            Operation::Between(low, high) => Check::Between(read(low)?, read(high)?),
            _ => return Err(self.no_pattern()),
        })
    }

    /// A literal of a numeric or temporal column as decimal text: days of a date, microseconds of a time.
    ///
    /// # Errors
    /// `unsupported`, when the literal does not fit the type; with what would.
    pub fn number(&self, literal: &Literal) -> Result<String, Error> {
        let read: Option<String> = match (self.definition.meaning(), literal) {
            (
                Logical::Int64 | Logical::Uint64 | Logical::Decimal { .. } | Logical::Float64,
                Literal::Number(text),
            ) => Some(text.clone()),
            (Logical::Date, Literal::Text(text)) => calendar::parse_date(text).map(|days| days.to_string()),
            (Logical::Time, Literal::Text(text)) => {
                calendar::parse_time(text).map(|micros| micros.to_string())
            }
            (Logical::Datetime, Literal::Text(text)) => {
                calendar::parse_datetime(text).map(|micros| micros.to_string())
            }
            (Logical::Timestamp, Literal::Text(text)) => {
                calendar::parse_datetime(text.strip_suffix('Z').unwrap_or(text))
                    .map(|micros| micros.to_string())
            }
            _ => None,
        };
        read.ok_or_else(|| self.misfit(literal))
    }

    fn float(&self, literal: &Literal) -> Result<f64, Error> {
        self.number(literal)?.parse().map_err(|_| self.misfit(literal))
    }

    /// A literal of a text, bytes or uuid column as bytes.
    ///
    /// # Errors
    /// `unsupported`, when the literal does not fit the type; with what would.
    pub fn bytes(&self, literal: &Literal) -> Result<Vec<u8>, Error> {
        let read = match (self.definition.meaning(), literal) {
            (Logical::Text | Logical::Bytes, Literal::Text(text)) => Some(text.as_bytes().to_vec()),
            (Logical::Bytes, Literal::Bytes(bytes)) => Some(bytes.clone()),
            (Logical::Uuid, Literal::Bytes(bytes)) if bytes.len() == 16 => Some(bytes.clone()),
            (Logical::Uuid, Literal::Text(text)) => {
                hex(&text.replace('-', "")).filter(|bytes| bytes.len() == 16)
            }
            _ => None,
        };
        read.ok_or_else(|| self.misfit(literal))
    }

    fn misfit(&self, literal: &Literal) -> Error {
        let wanted = match self.definition.meaning() {
            Logical::Bool => "true or false",
            Logical::Int64 | Logical::Uint64 | Logical::Float64 | Logical::Decimal { .. } => {
                "a number without quotes, as in 50 or -1.5"
            }
            Logical::Text => "text in single quotes, as in 'active'",
            Logical::Bytes => "bytes, as in x'00ff', or text in single quotes",
            Logical::Uuid => "a uuid in single quotes, as in '123e4567-e89b-12d3-a456-426614174000'",
            Logical::Date => "a date, as in '2026-01-31'",
            Logical::Time => "a time, as in '-12:00:00'",
            Logical::Datetime => "a date and time, as in '2026-01-31 10:00:00'",
            Logical::Timestamp => "a date and time in UTC, as in '2026-01-31 10:00:00'",
            Logical::Json | Logical::Other => "nothing: its values are not compared",
        };
        self.cannot(&format!("{literal} does not fit; write {wanted}"))
    }

    fn no_pattern(&self) -> Error {
        self.cannot("`like` is for text; compare with `=`, `<` or `between`")
    }

    fn cannot(&self, message: &str) -> Error {
        let ColumnDef { name, logical, .. } = self.definition;
        Error::Unsupported(format!("table {}, column {name} ({logical}): {message}", self.table.path()))
    }
}

/// What is asked of integers.
enum Integers {
    Bound((i128, i128, bool)),
    Set(Vec<i128>),
}
