//! Between which places of the log a snapshot lies.
//!
//! MySQL commits a transaction to the log first, then to the tables, and only then counts it among the executed ones. So what
//! is executed before a snapshot is visible in it, and what is visible in it is not after the log's end behind its making:
//!
//! ```text
//! @@gtid_executed ── START TRANSACTION WITH CONSISTENT SNAPSHOT ── end of the log
//!        low                                                           high
//! ```
//!
//! The log's end before the snapshot is no low mark: a transaction there may not be visible yet.
//!
//! MariaDB tells no set of what is visible, and where it says that a snapshot lies is not quite where it lies: of 8,000
//! snapshots under twelve writers 138 lacked transactions up to that place, and 39 had some behind it (10.11.19; 35 and 11 on
//! 11.8.6). A place that was a snapshot's a while before is behind every commit that was under way then:
//!
//! ```text
//! a snapshot's place ── a second or longer ── START TRANSACTION WITH CONSISTENT SNAPSHOT ── end of the log
//!        low                                                                                   high
//! ```

//!
//! # At a replica
//!
//! Its own log has other places than the one that is followed, so a read at a replica is between sets of transactions. MySQL:
//! from what is executed before the snapshot to what is executed or about to be behind its making. MariaDB: a replica notes
//! each transaction in `mysql.gtid_slave_pos` within that transaction, so the snapshot itself tells exactly which it has.
//! What a MariaDB server wrote itself behind what it replicates is in no such note: it does not tell then, until somebody
//! follows its own log. (What it wrote itself and has replicated more behind is not to be seen: nobody may write to a replica.)

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tidemill_event::Scn;
use tidemill_fetchers_api::extract::{ChunkMarks, LowMark, SharedMarks};
use tokio::time::{Instant, sleep_until};

use crate::event::Flavour;
use crate::extract::session::Server;
use crate::gtid::{GtidSet, MariaDbSet, parse_set};
use crate::place::{BinlogName, Place};
use crate::transport::{Connection, Row, TransportError, end_of_log};

/// What was seen before the snapshot.
pub(super) struct Before(LowMark);

/// MariaDB: where the snapshots of a connection lay, and when, oldest first.
pub(super) type Earlier = VecDeque<(Instant, Scn)>;

/// How old a snapshot's place is before it is a low mark: ample for a commit that is in the log to become visible.
const SETTLED: Duration = Duration::from_secs(1);

/// How old it is at most: a connection that did nothing meanwhile looks for a new one.
const OLD: Duration = Duration::from_secs(10);

/// Without GTIDs nothing tells what is visible.
pub(super) fn no_gtids() -> TransportError {
    TransportError::setup(
        "tables are copied by GTID, and the server has gtid_mode off",
        "run SET GLOBAL enforce_gtid_consistency = ON, then SET GLOBAL gtid_mode = OFF_PERMISSIVE, ON_PERMISSIVE, ON, one after \
         the other, and set both in the server's configuration",
    )
}

/// The low mark.
pub(super) async fn before(
    connection: &mut Connection,
    server: &Server,
    earlier: &mut Earlier,
    at_log_end: bool,
) -> Result<Before, TransportError> {
    if at_log_end {
        let end = end_of_log(connection, server.flavour).await?;
        return Ok(Before(LowMark::At(scn(&end)?)));
    }
    Ok(Before(match server.flavour {
        Flavour::MySql => LowMark::Executed(executed(connection, server).await?),
        Flavour::MariaDb => LowMark::At(settled(connection, earlier).await?),
    }))
}

/// The newest place that is old enough. The first chunk of a connection waits for one, later ones have it from those before.
async fn settled(connection: &mut Connection, earlier: &mut Earlier) -> Result<Scn, TransportError> {
    if earlier.back().is_none_or(|(seen, _)| seen.elapsed() >= OLD) {
        earlier.clear();
        connection.run("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY").await?;
        let place = of_snapshot(connection).await?;
        connection.run("COMMIT").await?;
        earlier.push_back((Instant::now(), scn(&place)?));
    }
    let is_old = |(seen, _): &(Instant, Scn)| seen.elapsed() >= SETTLED;
    while earlier.get(1).is_some_and(is_old) {
        earlier.pop_front();
    }
    let (seen, place) = earlier[0];
    sleep_until(seen + SETTLED).await;
    Ok(place)
}

/// Checks by the way that it is still the same server: a balancer may have put another one behind the connection.
async fn executed(connection: &mut Connection, server: &Server) -> Result<String, TransportError> {
    let query = "SELECT @@GLOBAL.gtid_executed, @@GLOBAL.gtid_mode, @@GLOBAL.server_uuid";
    let rows = connection.query(query).await?;
    let value = |at| rows.first().and_then(|row| row.at(at)).unwrap_or_default();
    if value(1) != "ON" {
        return Err(no_gtids());
    }
    if *value(2) != *server.identity {
        return Err(TransportError::lost("another server answers now"));
    }
    let set = parse_set(server.flavour, value(0));
    set.map(|set| set.to_string()).map_err(|_| TransportError::lost("the server answers nonsense"))
}

impl Before {
    /// Both marks, right after the snapshot was made.
    pub(super) async fn within(
        self,
        connection: &mut Connection,
        server: &Server,
        earlier: &mut Earlier,
    ) -> Result<ChunkMarks, TransportError> {
        if server.flavour == Flavour::MariaDb {
            let place = of_snapshot(connection).await?;
            earlier.push_back((Instant::now(), scn(&place)?));
        }
        let high = end_of_log(connection, server.flavour).await?;
        let shared = match &self.0 {
            // It has not everything that its sets say.
            _ if server.is_filtered => None,
            LowMark::Executed(low) => {
                Some(SharedMarks { low: low.clone(), high: begun(connection, server).await? })
            }
            LowMark::At(_) if server.flavour == Flavour::MariaDb => replicated(connection, server).await?,
            LowMark::At(_) => None,
        };
        Ok(ChunkMarks { low: self.0, high: scn(&high)?, server: Arc::clone(&server.identity), shared })
    }
}

/// MySQL: what is committed, or on its way from the log to the tables. A transaction goes from the second to the first.
async fn begun(connection: &mut Connection, server: &Server) -> Result<String, TransportError> {
    let owned = connection.query("SELECT @@GLOBAL.gtid_owned").await?;
    let owned = without_owners(owned.first().and_then(|row| row.at(0)).unwrap_or_default());
    let executed = executed(connection, server).await?;
    let set = |text: &str| parse_set(server.flavour, text);
    let both = set(&owned).and_then(|owned| Ok(owned.union(&set(&executed)?)));
    both.map(|both| both.to_string()).map_err(|_| TransportError::lost("the server answers nonsense"))
}

/// `UUID:NUMBER#THREAD:NUMBER#THREAD`.
fn without_owners(owned: &str) -> String {
    let mut parts = owned.split('#');
    let mut all = parts.next().unwrap_or_default().to_owned();
    parts.for_each(|part| all.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit())));
    all
}

const NOTE_TABLES: &str = "SELECT ENGINE FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'mysql' AND TABLE_NAME LIKE 'gtid\\_slave\\_pos%'";

/// MariaDB: which transactions the snapshot of this transaction has by replication.
async fn replicated(
    connection: &mut Connection,
    server: &Server,
) -> Result<Option<SharedMarks>, TransportError> {
    let nonsense = || TransportError::lost("the server answers nonsense");
    let variables = "SELECT @@GLOBAL.gtid_slave_pos, @@GLOBAL.gtid_current_pos, @@GLOBAL.server_id";
    let known = connection.query(variables).await?;
    let known = |at| known.first().and_then(|row| row.at(at)).unwrap_or_default();
    if known(0).is_empty() {
        return Ok(None);
    }
    // Another engine's note is not of the transaction. There may be one table for each engine.
    let engines = connection.query(NOTE_TABLES).await?;
    if !matches!(&engines[..], [table] if table.at(0) == Some("InnoDB")) {
        return Ok(None);
    }
    let noted = "SELECT domain_id, sub_id, server_id, seq_no FROM mysql.gtid_slave_pos";
    // Who may not read it is told where that matters, by whom it matters to.
    let Ok(noted) = connection.try_query(noted).await? else { return Ok(None) };
    let low = newest(&noted).ok_or_else(nonsense)?;
    let current = parse_set(server.flavour, known(1)).map_err(|_| nonsense())?;
    let ahead = current.missing_from(&low).to_string();
    if ahead.split(',').any(|last| last.split('-').nth(1) == Some(known(2))) {
        return Ok(None);
    }
    Ok(Some(SharedMarks { low: low.to_string(), high: low.union(&current).to_string() }))
}

/// Of each domain the transaction that was noted last.
fn newest(noted: &[Row]) -> Option<GtidSet> {
    let number = |row: &Row, at| row.at(at)?.parse::<u64>().ok();
    let mut last: BTreeMap<u32, (u64, u32, u64)> = BTreeMap::new();
    for row in noted {
        let note = (number(row, 1)?, u32::try_from(number(row, 2)?).ok()?, number(row, 3)?);
        let known = last.entry(u32::try_from(number(row, 0)?).ok()?).or_insert(note);
        *known = note.max(*known);
    }
    let mut set = MariaDbSet::default();
    last.into_iter().for_each(|(domain, (_, server, sequence))| set.add(domain, server, sequence));
    Some(GtidSet::MariaDb(set))
}

/// MariaDB: where the snapshot of this transaction lies in the log.
async fn of_snapshot(connection: &mut Connection) -> Result<Place, TransportError> {
    let rows = connection.query("SHOW STATUS LIKE 'binlog_snapshot_%'").await?;
    let value = |name: &str| {
        let is_it = |row: &&Row| row.at(0).is_some_and(|n| n.eq_ignore_ascii_case(name));
        rows.iter().find(is_it)?.at(1)
    };
    let file = value("binlog_snapshot_file").and_then(BinlogName::parse);
    let offset = value("binlog_snapshot_position").and_then(|offset| offset.parse().ok());
    let place = file.zip(offset).map(|(file, offset)| Place { file, offset });
    place.ok_or_else(|| {
        TransportError::setup(
            "the server does not tell where in its log a snapshot lies",
            "check that log_bin is ON, and that SHOW STATUS LIKE 'binlog_snapshot_%' has a file within a transaction with a snapshot",
        )
    })
}

fn scn(place: &Place) -> Result<Scn, TransportError> {
    place.scn().ok_or_else(|| TransportError::lost("the log's end is out of range"))
}
