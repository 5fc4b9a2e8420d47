//! What a server is under: how many statements run, and how far it is behind its own source.

use tidemill_fetchers_api::extract::Load;

use crate::event::Flavour;
use crate::transport::{Connection, Row, TransportError, refusal};

pub(super) async fn load(connection: &mut Connection, flavour: Flavour) -> Result<Load, TransportError> {
    let running = connection.query("SHOW GLOBAL STATUS LIKE 'Threads_running'").await?;
    let running = running.first().and_then(|row| row.at(1)?.parse().ok());
    Ok(Load {
        threads_running: running.ok_or_else(|| TransportError::lost("the server answers nonsense"))?,
        replica_lag_seconds: lag(connection, flavour).await?,
    })
}

/// Of the slowest channel. One that is stopped has no lag, and waiting would not help it.
async fn lag(connection: &mut Connection, flavour: Flavour) -> Result<Option<u64>, TransportError> {
    const ER_PARSE: u16 = 1064;
    const ACCESS: [u16; 2] = [1045, 1227];
    let statements: &[&str] = match flavour {
        Flavour::MySql => &["SHOW REPLICA STATUS", "SHOW SLAVE STATUS"],
        Flavour::MariaDb => &["SHOW ALL SLAVES STATUS"],
    };
    for statement in statements {
        match connection.try_query(statement).await? {
            Ok(channels) => return Ok(channels.iter().filter_map(behind).max()),
            Err(refused) if ACCESS.contains(&refused.code) => return Ok(None),
            Err(refused) if refused.code == ER_PARSE => {}
            Err(refused) => return Err(refusal(&refused)),
        }
    }
    Ok(None)
}

fn behind(channel: &Row) -> Option<u64> {
    let seconds = channel.get("Seconds_Behind_Source").or_else(|| channel.get("Seconds_Behind_Master"));
    seconds?.parse().ok()
}
