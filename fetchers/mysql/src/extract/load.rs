//! What a server is under: how many statements run, and how far it is behind its own source, if it follows all of it.

use tidemill_fetchers_api::extract::{Load, ReplicaLag};

use crate::event::Flavour;
use crate::transport::{Connection, Row, TransportError, refusal};

pub(super) async fn load(connection: &mut Connection, flavour: Flavour) -> Result<Load, TransportError> {
    let running = connection.query("SHOW GLOBAL STATUS LIKE 'Threads_running'").await?;
    let running = running.first().and_then(|row| row.at(1)?.parse().ok());
    Ok(Load {
        threads_running: running.ok_or_else(|| TransportError::lost("the server answers nonsense"))?,
        replica_lag: lag(connection, flavour).await?,
    })
}

/// Of the slowest channel.
async fn lag(connection: &mut Connection, flavour: Flavour) -> Result<Option<ReplicaLag>, TransportError> {
    Ok(channels(connection, flavour).await?.iter().map(behind).max())
}

/// Whether it leaves out some of what its source sends, as far as this user is told.
pub(super) async fn is_filtered(
    connection: &mut Connection,
    flavour: Flavour,
) -> Result<bool, TransportError> {
    const FILTERS: [&str; 7] = [
        "Replicate_Do_DB",
        "Replicate_Ignore_DB",
        "Replicate_Do_Table",
        "Replicate_Ignore_Table",
        "Replicate_Wild_Do_Table",
        "Replicate_Wild_Ignore_Table",
        "Replicate_Rewrite_DB",
    ];
    let is_set =
        |channel: &Row| FILTERS.iter().any(|name| channel.get(name).is_some_and(|filter| !filter.is_empty()));
    Ok(channels(connection, flavour).await?.iter().any(is_set))
}

/// What it says of its replication, by channel; nothing to whom it does not tell.
async fn channels(connection: &mut Connection, flavour: Flavour) -> Result<Vec<Row>, TransportError> {
    const ER_PARSE: u16 = 1064;
    const ACCESS: [u16; 2] = [1045, 1227];
    let statements: &[&str] = match flavour {
        Flavour::MySql => &["SHOW REPLICA STATUS", "SHOW SLAVE STATUS"],
        Flavour::MariaDb => &["SHOW ALL SLAVES STATUS"],
    };
    for statement in statements {
        match connection.try_query(statement).await? {
            Ok(channels) => return Ok(channels),
            Err(refused) if ACCESS.contains(&refused.code) => return Ok(vec![]),
            Err(refused) if refused.code == ER_PARSE => {}
            Err(refused) => return Err(refusal(&refused)),
        }
    }
    Ok(vec![])
}

/// The server knows no lag of a channel that stands still.
fn behind(channel: &Row) -> ReplicaLag {
    let seconds = channel.get("Seconds_Behind_Source").or_else(|| channel.get("Seconds_Behind_Master"));
    seconds.and_then(|seconds| seconds.parse().ok()).map_or(ReplicaLag::Stopped, ReplicaLag::Seconds)
}
