//! Private servers that follow each other, and logs that have come to rest.

use std::time::Duration;

use mysql_async::Row;

use crate::{Server, ServerError, process::until};

/// Ample for a loaded machine; only a replica that has stopped comes near.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(300);
/// The same for what a server writes of its own accord.
const SETTLE_LIMIT: Duration = Duration::from_secs(60);

impl Server {
    /// Makes it a replica of a server of its family that has another id, from the first transaction of that one's log on. Nothing
    /// of it is in this server's own log; [`Server::USER`] may see how far it is.
    pub async fn follow(&self, source: &Server) -> Result<(), ServerError> {
        let (port, password) = (source.port(), source.root_password());
        // Who does not get through at once tries again soon.
        let follow = match self.kind().is_mysql() {
            true => format!(
                "CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT={port}, SOURCE_USER='root', \
                 SOURCE_PASSWORD='{password}', SOURCE_AUTO_POSITION=1, GET_SOURCE_PUBLIC_KEY=1, SOURCE_CONNECT_RETRY=1, \
                 SOURCE_RETRY_COUNT=0; START REPLICA"
            ),
            false => format!(
                "SET sql_log_bin = 0; GRANT SLAVE MONITOR ON *.* TO '{}'@'%'; \
                 CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT={port}, MASTER_USER='root', \
                 MASTER_PASSWORD='{password}', MASTER_SSL=0, MASTER_SSL_VERIFY_SERVER_CERT=0, MASTER_CONNECT_RETRY=1, \
                 MASTER_USE_GTID=slave_pos; START SLAVE",
                Server::USER
            ),
        };
        self.sql(&follow).await
    }

    /// Waits until this replica has all that its source has executed by now.
    pub async fn catch_up(&self, source: &Server) -> Result<(), ServerError> {
        let (set, seconds) = (source.gtid_set().await?, CATCH_UP_LIMIT.as_secs());
        let wait = match self.kind().is_mysql() {
            true => format!("SELECT WAIT_FOR_EXECUTED_GTID_SET('{set}', {seconds})"),
            false => format!("SELECT MASTER_GTID_WAIT('{set}', {seconds})"),
        };
        match self.value::<i64>(&wait).await? {
            Some(0) => Ok(()),
            _ => Err(self.behind(format!("{set} of its source"), CATCH_UP_LIMIT)),
        }
    }

    /// Waits until nothing more comes into its log while nobody writes. MariaDB notes in a new file, at its leisure, that the one
    /// before is done with.
    pub async fn settle(&self) -> Result<(), ServerError> {
        if self.kind().is_mysql() {
            return Ok(());
        }
        let settled = until(SETTLE_LIMIT, async || match self.is_settled().await {
            Ok(false) => None,
            Ok(true) => Some(Ok(())),
            Err(error) => Some(Err(error)),
        });
        settled.await.unwrap_or_else(|| Err(self.behind("the end of its own log".to_owned(), SETTLE_LIMIT)))
    }

    async fn is_settled(&self) -> Result<bool, ServerError> {
        let (file, _) = self.binlog_end().await?;
        let events = self.rows(&format!("SHOW BINLOG EVENTS IN '{file}'")).await?;
        let is =
            |row: &Row, column: &str, value: &str| row.get::<String, _>(column).as_deref() == Some(value);
        Ok(events.iter().any(|row| is(row, "Event_type", "Binlog_checkpoint") && is(row, "Info", &file)))
    }

    fn behind(&self, what: String, limit: Duration) -> ServerError {
        ServerError::Behind { kind: self.kind(), what, seconds: limit.as_secs(), log: self.log_tail() }
    }
}
