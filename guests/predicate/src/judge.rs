//! A bound predicate judges a batch, column by column, with three truth values.
//!
//! For every row there is the set of truth values that a node may have. A value that the source did
//! not send leaves all three open; what joins the nodes narrows that again, so that a row is rejected
//! only when its fate does depend on such a value. Without NULL and absent values there is one mask.

use tidemill_guest::filter::{Rejections, absent_message};
use tidemill_guest::{Column, Error, Mask, Rows};

use crate::bind::{Node, Plan};

/// The rows in which a node may be true, false or unknown. Without `others`, a row that is not true is
/// false.
#[derive(Clone, Debug)]
struct Outcome {
    yes: Mask,
    others: Option<Others>,
}

#[derive(Clone, Debug)]
struct Others {
    no: Mask,
    unknown: Mask,
}

impl Outcome {
    fn certain(yes: Mask) -> Self {
        Outcome { yes, others: None }
    }

    /// All three masks.
    fn spread(self) -> (Mask, Mask, Mask) {
        let count = self.yes.len();
        match self.others {
            Some(Others { no, unknown }) => (self.yes, no, unknown),
            None => (self.yes.clone(), self.yes.not(), Mask::none(count)),
        }
    }

    fn of(yes: Mask, no: Mask, unknown: Mask) -> Self {
        Outcome { yes, others: Some(Others { no, unknown }) }
    }

    fn not(self) -> Self {
        match self.others {
            None => Outcome::certain(self.yes.not()),
            Some(Others { no, unknown }) => Outcome::of(no, self.yes, unknown),
        }
    }

    fn and(self, other: Outcome) -> Self {
        if self.others.is_none() && other.others.is_none() {
            return Outcome::certain(self.yes.and(&other.yes));
        }
        let ((yes, no, unknown), (other_yes, other_no, other_unknown)) = (self.spread(), other.spread());
        // Unknown needs one side unknown and the other one not false.
        let left = unknown.and(&other_unknown.clone().or(&other_yes));
        let right = yes.clone().and(&other_unknown);
        Outcome::of(yes.and(&other_yes), no.or(&other_no), left.or(&right))
    }

    fn or(self, other: Outcome) -> Self {
        if self.others.is_none() && other.others.is_none() {
            return Outcome::certain(self.yes.or(&other.yes));
        }
        self.not().and(other.not()).not()
    }
}

impl Plan {
    /// The rows for which the predicate is true.
    ///
    /// # Errors
    /// `rejected`, when that depends on a value that the source did not send; `fatal`, when the batch is
    /// not what was planned.
    pub fn keep(&self, rows: &Rows) -> Result<Mask, Error> {
        let outcome = self.judge(&self.node, rows)?;
        match outcome.others {
            None => Ok(outcome.yes),
            Some(Others { no, unknown }) => {
                let open = outcome.yes.clone().and(&no.or(&unknown));
                if open.is_none() { Ok(outcome.yes) } else { Err(self.absent(&open, rows)) }
            }
        }
    }

    fn judge(&self, node: &Node, rows: &Rows) -> Result<Outcome, Error> {
        match node {
            Node::Not(inner) => Ok(self.judge(inner, rows)?.not()),
            Node::And(parts) => self.join(parts, rows, Outcome::and),
            Node::Or(parts) => self.join(parts, rows, Outcome::or),
            Node::Null { column, wanted } => {
                let outcome = null(self.column(*column, rows)?, rows.count as usize);
                Ok(if *wanted { outcome } else { outcome.not() })
            }
            Node::Test { column, test } => {
                let values = self.column(*column, rows)?;
                let count = rows.count as usize;
                let passes = test.passes(values, count).filter(|mask| mask.len() == count);
                let passes = passes.ok_or_else(|| self.not_as_planned(*column))?;
                Ok(only_values(passes, values))
            }
        }
    }

    fn join(
        &self,
        parts: &[Node],
        rows: &Rows,
        with: impl Fn(Outcome, Outcome) -> Outcome,
    ) -> Result<Outcome, Error> {
        let (first, rest) = parts.split_first().expect("the parser joins at least two");
        rest.iter()
            .try_fold(self.judge(first, rows)?, |outcome, part| Ok(with(outcome, self.judge(part, rows)?)))
    }

    fn column<'a>(&self, place: usize, rows: &'a Rows) -> Result<&'a Column, Error> {
        rows.columns.get(place).ok_or_else(|| self.not_as_planned(place))
    }

    fn not_as_planned(&self, place: usize) -> Error {
        Error::Fatal(format!("the batch does not carry column {:?} as it was planned", self.names[place]))
    }

    /// Names, for each row that cannot be judged, the first column that it lacks.
    fn absent(&self, open: &Mask, rows: &Rows) -> Error {
        let mut rejections = Rejections::default();
        for row in open.rows() {
            let lacks = |column: &Column| !column.present_bits().get(row);
            if let Some(place) = rows.columns.iter().position(lacks) {
                rejections.absent(row, &self.names[place]);
            }
        }
        rejections.or(()).err().unwrap_or_else(|| Error::Fatal(absent_message(&self.names.join(", "))))
    }
}

/// What a test says, with NULL unknown and absent values open.
fn only_values(passes: Mask, column: &Column) -> Outcome {
    if column.is_full() {
        return Outcome::certain(passes);
    }
    let (valid, present) = validity(column, passes.len());
    let absent = present.clone().not();
    let no = valid.clone().and_not(&passes).or(&absent);
    let yes = passes.and(&valid).or(&absent);
    let unknown = present.and_not(&valid).or(&absent);
    Outcome::of(yes, no, unknown)
}

/// Whether values are NULL: never unknown, open where they are absent.
fn null(column: &Column, count: usize) -> Outcome {
    if column.is_full() {
        return Outcome::certain(Mask::none(count));
    }
    let (valid, present) = validity(column, count);
    let absent = present.clone().not();
    Outcome::of(valid.clone().not(), valid.or(&absent), Mask::none(count))
}

/// What has a value, and what is present: no value is absent.
fn validity(column: &Column, count: usize) -> (Mask, Mask) {
    let present = column.present_bits().mask(count);
    (column.valid_bits().mask(count).and(&present), present)
}
