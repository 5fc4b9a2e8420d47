//! What a server is filled with: money that moves between tables, a table that never rests, a shop's day, a
//! backlog of mixed rows. All are deterministic by seed.

mod backlog;
mod bank;
mod churn;
mod random;
mod run;
mod shop;

pub use backlog::{Backlog, BacklogCount};
pub use bank::Bank;
pub use churn::Churn;
pub use random::Random;
pub use run::{Duplicates, Run};
pub use shop::Shop;

use mysql_async::{Conn, prelude::Queryable};

/// Runs statements separated by semicolons and counts the rows that they changed.
async fn execute(conn: &mut Conn, statements: &str) -> Result<u64, mysql_async::Error> {
    let mut result = conn.query_iter(statements).await?;
    let mut changed = 0;
    // `columns` is there for every result that has not been read yet, the empty ones of INSERT and its kin included.
    while result.columns().is_some() {
        changed += result.affected_rows();
        while result.next().await?.is_some() {}
    }
    Ok(changed)
}
