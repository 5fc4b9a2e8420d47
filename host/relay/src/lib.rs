//! The relay's serving side: logs over HTTP to any number of subscribers, of whom it keeps nothing. It reads logs and
//! never writes one; who fetches and appends is elsewhere.
//!
//! ```text
//! request ─▶ who is it, what may it see ─▶ Asked ─▶ log reader ─▶ view (shared) ─▶ format (shared) ─▶ body
//!             grant                                              tables, columns,    frames, arrow,
//!                                                                partition, guests   json, events
//! ```

mod answer;
mod asked;
mod problem;
mod served;

pub use answer::{Answer, AnswerConfig, Answers, AnswersStats, CHECKPOINT_TRAILER, Encoding, Meter, Metered};
pub use asked::{Asked, Begin, Format, Part, Selection, TablePattern};
pub use problem::{Code, Problem};
pub use served::{Guests, Served};
