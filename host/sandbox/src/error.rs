//! How a guest can end, told apart: its own typed error, a trap or limit, a fault of the host. Each says which
//! guest, which of its functions and where in the stream; none carries row values.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tidemill_event::{Remedy, Span, TableName, TableSchema, Window};

use crate::limits::REJECTED_ROWS_SHOWN;
use crate::module::Kind;

/// An error of another layer.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A guest that did not do what it was asked.
#[derive(Debug)]
pub struct GuestError {
    /// The guest's configured name.
    pub guest: Arc<str>,
    /// What it was called as.
    pub kind: Kind,
    /// The function of the contract that was called: `keep`, `plan`, `setup`, …
    pub function: &'static str,
    /// Where in the stream.
    pub place: Box<Place>,
    /// How it ended.
    pub end: GuestEnd,
}

/// Where in the stream a call belongs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The source's name.
    pub source: Arc<str>,
    /// The number of the timeline.
    pub timeline: u32,
    /// The positions of the window; `None` before the first one.
    pub span: Option<Span>,
    /// The table, where the call was about one.
    pub table: Option<TableName>,
}

/// A [`Place`] that costs nothing until somebody asks.
#[derive(Clone, Debug, Default)]
pub(crate) struct At {
    pub(crate) source: Arc<str>,
    pub(crate) timeline: u32,
    pub(crate) span: Option<Span>,
    pub(crate) table: Option<Arc<TableSchema>>,
}

impl At {
    /// Before the first window.
    pub(crate) fn nowhere(source: &str) -> At {
        At { source: source.into(), ..At::default() }
    }

    /// Anywhere in that window.
    pub(crate) fn window(window: &Window) -> At {
        let (source, timeline) = (Arc::clone(&window.source), window.timeline.number);
        At { source, timeline, span: Some(window.span), table: None }
    }

    /// The same, about that table.
    pub(crate) fn table(&self, schema: &Arc<TableSchema>) -> At {
        At { table: Some(Arc::clone(schema)), ..self.clone() }
    }

    pub(crate) fn place(&self) -> Place {
        Place {
            source: Arc::clone(&self.source),
            timeline: self.timeline,
            span: self.span,
            table: self.table.as_ref().map(|schema| schema.name().clone()),
        }
    }
}

/// How a call ended, if not well.
#[derive(Debug, thiserror::Error)]
pub enum GuestEnd {
    /// The guest answered that it cannot.
    #[error(transparent)]
    Error(#[from] Answer),
    /// It trapped: a panic, an access out of bounds, an exit.
    #[error(transparent)]
    Trap(Box<Trap>),
    /// It reached one of its limits.
    #[error(transparent)]
    Limit(#[from] LimitHit),
    /// Its answer breaks the contract; counts as a trap.
    #[error("its answer breaks the contract: {0}")]
    Invalid(String),
    /// The host could not do its part.
    #[error("the host could not do its part")]
    HostFault(#[source] BoxError),
}

/// A guest's own typed error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Answer {
    /// Its configuration is wrong.
    #[error("configuration: {0}")]
    Config(String),
    /// It cannot handle this table or type.
    #[error("unsupported: {0}")]
    Unsupported(String),
    /// Call again, later.
    #[error("asks to be called again later: {0}")]
    Retry(String),
    /// It cannot handle these rows.
    #[error("rejected {}", RejectedRows(.0))]
    Rejected(Vec<RejectedRow>),
    /// It stops here.
    #[error("stops: {0}")]
    Fatal(String),
}

/// A row that the guest cannot handle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectedRow {
    /// Its place in the batch.
    pub row: u32,
    /// Why.
    pub message: String,
}

struct RejectedRows<'a>(&'a [RejectedRow]);

impl fmt::Display for RejectedRows<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} row(s)", self.0.len())?;
        for (index, row) in self.0.iter().take(REJECTED_ROWS_SHOWN).enumerate() {
            let separator = if index == 0 { ": " } else { "; " };
            write!(f, "{separator}row {} of the batch: {}", row.row, row.message)?;
        }
        match self.0.len().checked_sub(REJECTED_ROWS_SHOWN) {
            None | Some(0) => Ok(()),
            Some(more) => write!(f, "; and {more} more"),
        }
    }
}

/// What is known of a trap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trap {
    /// What the machine says.
    pub cause: String,
    /// The innermost functions of the guest first.
    pub backtrace: Vec<String>,
    /// The end of what the guest wrote to standard error: the message of a panic is only there.
    pub stderr: String,
}

impl fmt::Display for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "trapped: {}", self.cause)?;
        if !self.stderr.is_empty() {
            write!(f, "; it wrote: {}", self.stderr.trim_end())?;
        }
        for (index, frame) in self.backtrace.iter().enumerate() {
            write!(f, "{}{frame}", if index == 0 { "; in " } else { " < " })?;
        }
        Ok(())
    }
}

impl std::error::Error for Trap {}

/// The limit that a guest reached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitHit {
    /// It ran too long.
    #[error("ran longer than its limit of {} ms a call; raise its `time` if the work is legitimate", .0.as_millis())]
    Time(Duration),
    /// It wanted too much memory.
    #[error("wanted more memory than its limit of {0} bytes; raise its `memory` if the work is legitimate")]
    Memory(usize),
    /// It handed over too much in one call.
    #[error("handed over more than the limit of {0} bytes in one call; let it answer with less")]
    Output(usize),
    /// It wrote or appended too much in one call.
    #[error("wrote more than the limit of {0} bytes of state and output in one call; let it write less")]
    Effects(usize),
    /// A single row is larger than what a call may be given.
    #[error(
        "asks for columns that have {bytes} bytes in one row, over the limit of {max} a call; leave the large ones out of what it asks for"
    )]
    Row {
        /// The columns that the guest asked for, in this row.
        bytes: usize,
        /// The limit.
        max: usize,
    },
}

/// The three endings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The guest's own typed error.
    Error,
    /// A trap, a limit, or an answer that breaks the contract: the instance is replaced.
    TrapOrLimit,
    /// A fault of the host.
    HostFault,
}

impl GuestEnd {
    /// Which of the three endings this is.
    pub fn ending(&self) -> Ending {
        match self {
            GuestEnd::Error(_) => Ending::Error,
            GuestEnd::Trap(_) | GuestEnd::Limit(_) | GuestEnd::Invalid(_) => Ending::TrapOrLimit,
            GuestEnd::HostFault(_) => Ending::HostFault,
        }
    }
}

impl GuestError {
    /// What now? A consumer's delivery is worth another try after `retry`, a trap or a limit; a pure guest has
    /// had its second try on a fresh instance by now and would answer the same.
    pub fn remedy(&self) -> Remedy {
        match (&self.end, self.kind) {
            (GuestEnd::HostFault(_), _) => Remedy::Retry,
            (GuestEnd::Limit(LimitHit::Row { .. }), _) => Remedy::Fix,
            (GuestEnd::Error(Answer::Retry(_)), Kind::Consumer) => Remedy::Retry,
            (GuestEnd::Trap(_) | GuestEnd::Limit(_), Kind::Consumer) => Remedy::Retry,
            _ => Remedy::Fix,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "source {:?}", &*self.source)?;
        if let Some(table) = &self.table {
            write!(f, ", table {table}")?;
        }
        match self.span {
            Some(span) => write!(f, ", after {}/{} up to {}", self.timeline, span.after, span.upto),
            None => Ok(()),
        }
    }
}

impl fmt::Display for GuestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let advice = match self.end {
            GuestEnd::Error(_) => "",
            GuestEnd::Trap(_) | GuestEnd::Invalid(_) => "; mend the guest, or replace it",
            GuestEnd::Limit(_) | GuestEnd::HostFault(_) => "",
        };
        write!(
            f,
            "{} guest {:?}, function {}, at {}: {}{advice}",
            self.kind, &*self.guest, self.function, self.place, self.end
        )
    }
}

impl std::error::Error for GuestError {
    /// The end is part of the message, so the chain goes on below it.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.end {
            GuestEnd::HostFault(cause) => Some(&**cause),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use tidemill_event::Scn;

    use super::*;

    fn error(kind: Kind, end: GuestEnd) -> GuestError {
        let place = Place {
            source: "shop".into(),
            timeline: 1,
            span: Some(Span { after: Scn(100), upto: Scn(500) }),
            table: Some(TableName::new("shop", "orders")),
        };
        GuestError { guest: "where".into(), kind, function: "keep", place: Box::new(place), end }
    }

    #[test]
    fn a_trap_names_guest_function_and_position() {
        let trap = Trap {
            cause: "wasm `unreachable` instruction executed".into(),
            backtrace: vec!["evil::keep".into(), "tidemill:guest/row-filter@0.1.0#keep".into()],
            stderr: "panicked at src/lib.rs:7: index out of bounds\n".into(),
        };
        assert_eq!(
            error(Kind::Filter, GuestEnd::Trap(Box::new(trap))).to_string(),
            "filter guest \"where\", function keep, at source \"shop\", table shop.orders, after 1/100 up to 500: \
             trapped: wasm `unreachable` instruction executed; it wrote: panicked at src/lib.rs:7: index out of \
             bounds; in evil::keep < tidemill:guest/row-filter@0.1.0#keep; mend the guest, or replace it"
        );
    }

    #[test]
    fn a_rejection_shows_its_first_rows() {
        let rows = (0..11).map(|row| RejectedRow { row, message: "amount is absent".into() }).collect();
        let text = Answer::Rejected(rows).to_string();
        assert!(
            text.starts_with("rejected 11 row(s): row 0 of the batch: amount is absent; row 1"),
            "{text}"
        );
        assert!(text.ends_with("row 7 of the batch: amount is absent; and 3 more"), "{text}");
    }

    #[test]
    fn a_consumer_is_tried_again_and_a_pure_guest_is_mended() {
        let time = || GuestEnd::Limit(LimitHit::Time(Duration::from_secs(1)));
        assert_eq!(error(Kind::Consumer, time()).remedy(), Remedy::Retry);
        assert_eq!(error(Kind::Filter, time()).remedy(), Remedy::Fix);
        assert_eq!(time().ending(), Ending::TrapOrLimit);
    }
}
