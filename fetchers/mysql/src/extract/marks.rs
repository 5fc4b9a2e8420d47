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
//! The log's end before the snapshot is no low mark: a transaction there may not be visible yet. MariaDB makes snapshot and
//! place one.

use std::sync::Arc;

use tidemill_event::Scn;
use tidemill_fetchers_api::extract::{ChunkMarks, LowMark};

use crate::event::Flavour;
use crate::extract::session::Server;
use crate::gtid::parse_set;
use crate::place::{BinlogName, Place};
use crate::transport::{Connection, Row, TransportError, end_of_log};

/// What was seen before the snapshot.
pub(super) struct Before(Option<LowMark>);

/// Without GTIDs nothing tells what is visible.
pub(super) fn no_gtids() -> TransportError {
    TransportError::setup(
        "tables are copied by GTID, and the server has gtid_mode off",
        "run SET GLOBAL enforce_gtid_consistency = ON, then SET GLOBAL gtid_mode = OFF_PERMISSIVE, ON_PERMISSIVE, ON, one after \
         the other, and set both in the server's configuration",
    )
}

/// The low mark, where the server has none within the snapshot.
pub(super) async fn before(
    connection: &mut Connection,
    server: &Server,
    at_log_end: bool,
) -> Result<Before, TransportError> {
    if at_log_end {
        let end = end_of_log(connection, server.flavour).await?;
        return Ok(Before(Some(LowMark::At(scn(&end)?))));
    }
    match server.flavour {
        Flavour::MySql => Ok(Before(Some(LowMark::Executed(executed(connection, server).await?)))),
        Flavour::MariaDb => Ok(Before(None)),
    }
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
    ) -> Result<ChunkMarks, TransportError> {
        let high = match server.flavour {
            Flavour::MySql => end_of_log(connection, server.flavour).await?,
            Flavour::MariaDb => of_snapshot(connection).await?,
        };
        let high = scn(&high)?;
        Ok(ChunkMarks {
            low: self.0.unwrap_or(LowMark::At(high)),
            high,
            server: Arc::clone(&server.identity),
        })
    }
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
