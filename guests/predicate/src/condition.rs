//! The part of a predicate that the host can judge by itself, and what is left for the guest.

use tidemill_guest::policy::{Comparison as HostComparison, Condition as HostCondition};
use tidemill_guest::text::{push_hex, push_uuid};
use tidemill_guest::{Decimal, Error, Logical, TableDef, calendar};

use crate::bind::{Plan, TypedColumn};
use crate::parse::{Comparison, Expr, Literal, Operation, Predicate, Test};

/// One condition of the contract.
pub type Condition = HostCondition;

/// A predicate in two parts, which both have to hold.
#[derive(Clone, Debug)]
pub struct Split {
    /// For the host.
    pub conditions: Vec<Condition>,
    /// For the guest; none: the host judges all of it.
    pub rest: Option<Plan>,
}

impl Predicate {
    /// Splits a conjunction: simple comparisons become conditions, anything else stays with the guest.
    ///
    /// # Errors
    /// Those of [`Predicate::plan`].
    pub fn split(&self, table: &TableDef) -> Result<Split, Error> {
        self.plan(table)?;
        let parts = match &self.expr {
            Expr::And(parts) => parts.as_slice(),
            one => core::slice::from_ref(one),
        };
        let (mut conditions, mut rest) = (Vec::new(), Vec::new());
        for part in parts {
            match simple(part, table) {
                Some(found) => conditions.extend(found),
                None => rest.push(part.clone()),
            }
        }
        let rest = match rest.len() {
            0 => None,
            1 => Some(Plan::of(&rest[0], table)?),
            _ => Some(Plan::of(&Expr::And(rest), table)?),
        };
        Ok(Split { conditions, rest })
    }
}

/// The conditions that say the same as a part of the predicate, if there are any.
fn simple(expr: &Expr, table: &TableDef) -> Option<Vec<Condition>> {
    let Expr::Test(Test { column, operation }) = expr else { return None };
    let (ordinal, definition) = table.column(column).ok()?;
    let typed = TypedColumn { table, definition };
    let condition = |comparison, literals: &[&Literal]| {
        let literals =
            literals.iter().map(|literal| host_text(typed, literal)).collect::<Option<Vec<_>>>()?;
        Some(Condition { column: ordinal, comparison, literals })
    };
    Some(match operation {
        Operation::IsNull => vec![condition(HostComparison::IsNull, &[])?],
        Operation::IsNotNull => vec![condition(HostComparison::IsNotNull, &[])?],
        Operation::Compare(comparison, literal) => vec![condition(host_comparison(*comparison), &[literal])?],
        Operation::OneOf(literals) => {
            vec![condition(HostComparison::OneOf, &literals.iter().collect::<Vec<_>>())?]
        }
        Operation::Between(low, high) => {
            vec![condition(HostComparison::Ge, &[low])?, condition(HostComparison::Le, &[high])?]
        }
        Operation::Like(_) => return None,
    })
}

fn host_comparison(comparison: Comparison) -> HostComparison {
    match comparison {
        Comparison::Equal => HostComparison::Eq,
        Comparison::NotEqual => HostComparison::Ne,
        Comparison::Less => HostComparison::Lt,
        Comparison::LessOrEqual => HostComparison::Le,
        Comparison::Greater => HostComparison::Gt,
        Comparison::GreaterOrEqual => HostComparison::Ge,
    }
}

/// A literal in the form of the column's logical type; none, when it is beyond that type (10.5 for an
/// integer), which the guest then judges by itself.
fn host_text(typed: TypedColumn<'_>, literal: &Literal) -> Option<String> {
    let mut out = Vec::new();
    match typed.definition.meaning() {
        Logical::Bool => match literal {
            Literal::Bool(value) => out.extend_from_slice(value.to_string().as_bytes()),
            _ => return None,
        },
        Logical::Int64 => integer(&mut out, &typed.number(literal).ok()?, i64::MIN.into(), i64::MAX.into())?,
        Logical::Uint64 => integer(&mut out, &typed.number(literal).ok()?, 0, u64::MAX.into())?,
        Logical::Decimal { .. } | Logical::Float64 => {
            Decimal::parse(typed.number(literal).ok()?.as_bytes())?.write_canonical(&mut out);
        }
        Logical::Date => calendar::push_date(&mut out, typed.number(literal).ok()?.parse().ok()?),
        Logical::Time => calendar::push_time(&mut out, typed.number(literal).ok()?.parse().ok()?),
        Logical::Datetime | Logical::Timestamp => {
            calendar::push_datetime(&mut out, typed.number(literal).ok()?.parse().ok()?, b' ');
        }
        Logical::Text => out = typed.bytes(literal).ok()?,
        Logical::Bytes => push_hex(&mut out, &typed.bytes(literal).ok()?),
        Logical::Uuid => push_uuid(&mut out, &typed.bytes(literal).ok()?),
        Logical::Json | Logical::Other => return None,
    }
    String::from_utf8(out).ok()
}

fn integer(out: &mut Vec<u8>, text: &str, min: i128, max: i128) -> Option<()> {
    let number = Decimal::parse(text.as_bytes())?;
    let fits = number.is_whole() && number.floor().is_some_and(|value| (min..=max).contains(&value));
    fits.then(|| number.write_canonical(out))
}
