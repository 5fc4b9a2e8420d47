//! What is asked of a server before its log: who it is, what it has executed and still has, whether our lineage fits;
//! then the dump, from where a reader stands.

use std::collections::HashMap;
use std::sync::Arc;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder, Row};
use tidemill_event::{Position, Timeline};
use tidemill_fetchers_api::FetchError;

use crate::event::{Flavour, kind};
use crate::gtid::GtidSet;
use crate::limits::EVENT_BYTES_MAX;
use crate::options::ServerOptions;
use crate::place::{BinlogName, Place};
use crate::transport::connection::Connection;
use crate::transport::server::refusal;
use crate::transport::{Filled, ServerRefusal, ServerTransport, TransportError};

/// What a server says of itself.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) flavour: Flavour,
    /// How timelines name it.
    pub(crate) identity: Arc<str>,
    /// Whether every transaction has a GTID, so that a set of them is a position.
    pub(crate) has_gtids: bool,
    pub(crate) executed: GtidSet,
    /// What is no longer in its log; MySQL only.
    purged: GtidSet,
    /// The last transaction of every domain and server; MariaDB only.
    binlog_state: String,
    pub(crate) files: Vec<BinlogName>,
    /// The end of its log.
    pub(crate) end: Place,
}

/// Where a reader goes on.
#[derive(Clone, Debug)]
pub(crate) struct Resume {
    pub(crate) timeline: Timeline,
    pub(crate) executed: Option<GtidSet>,
    pub(crate) place: Option<Place>,
}

/// A connection for queries.
pub(crate) async fn connect_for_queries(options: &ServerOptions) -> Result<Conn, TransportError> {
    let opts = OptsBuilder::default()
        .ip_or_hostname(options.host.clone())
        .tcp_port(options.port)
        .user(Some(options.user.clone()))
        .pass(Some(options.password.reveal()))
        .prefer_socket(false)
        .max_allowed_packet(Some(EVENT_BYTES_MAX));
    Conn::new(opts).await.map_err(query_failed)
}

fn query_failed(error: mysql_async::Error) -> TransportError {
    match error {
        mysql_async::Error::Server(error) => {
            refusal(&ServerRefusal { code: error.code, message: error.message })
        }
        mysql_async::Error::Io(mysql_async::IoError::Io(error)) => TransportError::Lost(error),
        other => TransportError::lost(other.to_string()),
    }
}

fn setup(what: impl Into<String>, mend: impl Into<String>) -> TransportError {
    TransportError::Failed(FetchError::Setup { what: what.into(), mend: mend.into() })
}

/// Asks a server for its facts.
pub(crate) async fn read_facts(conn: &mut Conn) -> Result<Facts, TransportError> {
    let rows: Vec<(String, String)> = conn
        .query(
            "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('version','server_uuid','server_uid','server_id','log_bin',\
             'gtid_mode','gtid_executed','gtid_purged','gtid_binlog_pos','gtid_binlog_state')",
        )
        .await
        .map_err(query_failed)?;
    let variables: HashMap<String, String> = rows.into_iter().collect();
    let get = |name: &str| variables.get(name).map_or("", String::as_str);
    let flavour = if get("version").contains("MariaDB") { Flavour::MariaDb } else { Flavour::MySql };
    if get("log_bin") != "ON" {
        return Err(setup(
            "the server writes no binlog",
            "start it with log_bin=binlog (and server_id), then clone the tables",
        ));
    }
    let set = |text: &str| {
        GtidSet::parse(flavour, text)
            .map_err(|e| setup(format!("the server answers nonsense: {e}"), "report it"))
    };
    let executed = set(get(if flavour == Flavour::MySql { "gtid_executed" } else { "gtid_binlog_pos" }))?;
    Ok(Facts {
        flavour,
        identity: identity(flavour, &variables),
        has_gtids: flavour == Flavour::MariaDb || get("gtid_mode") == "ON",
        executed,
        purged: set(get("gtid_purged"))?,
        binlog_state: get("gtid_binlog_state").to_owned(),
        files: binary_logs(conn).await?,
        end: end(conn, flavour).await?,
    })
}

fn identity(flavour: Flavour, variables: &HashMap<String, String>) -> Arc<str> {
    let own = |name: &str| variables.get(name).filter(|value| !value.is_empty());
    let number = || own("server_id").map_or("0", String::as_str);
    match flavour {
        Flavour::MySql => own("server_uuid").cloned().unwrap_or_else(|| format!("mysql-{}", number())).into(),
        Flavour::MariaDb => {
            own("server_uid").cloned().unwrap_or_else(|| format!("mariadb-{}", number())).into()
        }
    }
}

async fn binary_logs(conn: &mut Conn) -> Result<Vec<BinlogName>, TransportError> {
    let rows: Vec<Row> = conn.query("SHOW BINARY LOGS").await.map_err(query_failed)?;
    let names = rows.into_iter().filter_map(|mut row| row.take_opt::<String, _>(0)?.ok());
    Ok(names.filter_map(|name| BinlogName::parse(&name)).collect())
}

async fn end(conn: &mut Conn, flavour: Flavour) -> Result<Place, TransportError> {
    let (new, old) = ("SHOW BINARY LOG STATUS", "SHOW MASTER STATUS");
    let first = if flavour == Flavour::MySql { new } else { old };
    let row: Option<Row> = match conn.query_first(first).await {
        Err(mysql_async::Error::Server(error)) if error.code == ER_PARSE => {
            conn.query_first(old).await.map_err(query_failed)?
        }
        other => other.map_err(query_failed)?,
    };
    let read = |mut row: Row| {
        let file: String = row.take_opt("File")?.ok()?;
        let offset: u64 = row.take_opt("Position")?.ok()?;
        Some(Place { file: BinlogName::parse(&file)?, offset })
    };
    row.and_then(read)
        .ok_or_else(|| setup("the server does not tell where its binlog ends", "check that log_bin is ON"))
}

const ER_PARSE: u16 = 1064;

impl Facts {
    /// The place with that file number in this server's log.
    pub(crate) fn place(&self, number: u32, offset: u64) -> Option<Place> {
        let name = format!("{}.{number:06}", self.end.file.base());
        Some(Place { file: BinlogName::parse(&name)?, offset })
    }

    /// Whether what a reader has is a past of this server, and the server still has what follows.
    pub(crate) fn check_lineage(&self, mine: &GtidSet, at: Position) -> Result<(), TransportError> {
        let lineage = |what: String| {
            let mend = "connect to a server of the same lineage that has them, or clone the tables again and start after the clone"
                .to_owned();
            Err(TransportError::Failed(FetchError::Lineage { at, what, mend }))
        };
        let server = &self.identity;
        let known = match self.flavour {
            Flavour::MySql => self.executed.clone(),
            Flavour::MariaDb => {
                GtidSet::parse(self.flavour, &self.binlog_state).unwrap_or(self.executed.clone())
            }
        };
        let ahead = mine.missing_from(&known);
        if !ahead.is_empty() {
            return lineage(format!("server {server} has not executed {ahead}, which were read before"));
        }
        if self.flavour == Flavour::MySql {
            let gone = self.purged.missing_from(mine);
            if !gone.is_empty() {
                return lineage(format!(
                    "server {server} has purged {gone} from its binlog, which were not read yet"
                ));
            }
        }
        Ok(())
    }

    /// File and offset mean something on one server only.
    fn check_identity(&self, timeline: &Timeline, at: Position) -> Result<(), TransportError> {
        if timeline.server == self.identity {
            return Ok(());
        }
        Err(TransportError::Failed(FetchError::Lineage {
            at,
            what: format!(
                "the position is one of server {}, this is {}, and without GTIDs it cannot be found there",
                timeline.server, self.identity
            ),
            mend: "connect to that server, or clone the tables again and start after the clone".to_owned(),
        }))
    }
}

impl Resume {
    fn position(&self) -> Position {
        let scn = self.place.as_ref().and_then(Place::scn).unwrap_or_default();
        Position { timeline: self.timeline.number, scn }
    }

    /// Whether a set of GTIDs says where to go on.
    fn by_gtid<'a>(&'a self, facts: &Facts) -> Option<&'a GtidSet> {
        self.executed.as_ref().filter(|set| facts.has_gtids && !set.is_empty())
    }

    /// Connects a replica and asks for what follows. The timeline is another one where the server is another.
    pub(crate) async fn dump(
        &self,
        options: &ServerOptions,
        facts: &Facts,
        server_id: u32,
    ) -> Result<(ServerTransport, Timeline), TransportError> {
        match self.by_gtid(facts) {
            Some(set) => facts.check_lineage(set, self.position())?,
            None => facts.check_identity(&self.timeline, self.position())?,
        }
        let mut connection = Connection::open(options).await?;
        connection.run(&session(options, facts.flavour)).await?;
        connection.register(server_id).await?;
        match self.by_gtid(facts) {
            Some(GtidSet::MySql(set)) => connection.dump(&dump_by_gtid(server_id, &set.encode())).await?,
            Some(set @ GtidSet::MariaDb(_)) => {
                let state = format!("SET @slave_connect_state='{set}', @slave_gtid_strict_mode=1");
                connection.run(&state).await?;
                connection
                    .dump(&dump_by_place(facts.flavour, server_id, "", Place::FIRST_OFFSET as u32))
                    .await?;
            }
            None => {
                let place = self.place.as_ref().unwrap_or(&facts.end);
                // The command has 32 bits for the offset: further on the file is read from its beginning.
                let offset = u32::try_from(place.offset).unwrap_or(Place::FIRST_OFFSET as u32);
                connection
                    .dump(&dump_by_place(facts.flavour, server_id, place.file.as_str(), offset))
                    .await?;
            }
        }
        let number = self.timeline.number + u32::from(self.timeline.server != facts.identity);
        let timeline = Timeline { number, server: Arc::clone(&facts.identity) };
        Ok((ServerTransport::new(connection, options.heartbeat), timeline))
    }
}

/// When a file was begun: seconds since 1970-01-01 UTC, from its format description.
pub(crate) async fn begun_of_file(
    options: &ServerOptions,
    facts: &Facts,
    file: &BinlogName,
) -> Result<i64, TransportError> {
    let mut connection = Connection::open(options).await?;
    connection.run(&session(options, facts.flavour)).await?;
    connection
        .dump(&dump_by_place(
            facts.flavour,
            crate::random::server_id(),
            file.as_str(),
            Place::FIRST_OFFSET as u32,
        ))
        .await?;
    let mut transport = ServerTransport::new(connection, options.heartbeat);
    loop {
        while let Some(event) = transport.take()? {
            if event.header.kind == kind::FORMAT_DESCRIPTION {
                return Ok(i64::from(event.header.timestamp));
            }
        }
        if transport.fill()? == Filled::Idle {
            transport.wait().await?;
        }
    }
}

/// What a replica says before it asks. Any value of the checksum variable stands for: we know checksums.
fn session(options: &ServerOptions, flavour: Flavour) -> String {
    let heartbeat = options.heartbeat.as_nanos();
    let family = match flavour {
        Flavour::MySql => {
            format!(
                "@source_binlog_checksum='NONE', @source_heartbeat_period={heartbeat}, @replica_uuid='{}'",
                random_uuid()
            )
        }
        // Without it a server rewrites the events that an old replica would not know.
        Flavour::MariaDb => "@mariadb_slave_capability=4".to_owned(),
    };
    format!(
        "SET @master_binlog_checksum='NONE', @master_heartbeat_period={heartbeat}, {family}, SESSION net_write_timeout=3600"
    )
}

fn dump_by_place(flavour: Flavour, server_id: u32, file: &str, offset: u32) -> Vec<u8> {
    const COM_BINLOG_DUMP: u8 = 0x12;
    // MariaDB leaves the texts of statements out unless asked for them; with them every byte of the file comes, so that
    // our count of them is the file's own.
    const SEND_ANNOTATE_ROWS: u16 = 2;
    let flags = if flavour == Flavour::MariaDb { SEND_ANNOTATE_ROWS } else { 0 };
    let mut command = vec![COM_BINLOG_DUMP];
    command.extend_from_slice(&offset.to_le_bytes());
    command.extend_from_slice(&flags.to_le_bytes());
    command.extend_from_slice(&server_id.to_le_bytes());
    command.extend_from_slice(file.as_bytes());
    command
}

fn dump_by_gtid(server_id: u32, set: &[u8]) -> Vec<u8> {
    const COM_BINLOG_DUMP_GTID: u8 = 0x1e;
    const THROUGH_GTID: u16 = 4;
    let mut command = vec![COM_BINLOG_DUMP_GTID];
    command.extend_from_slice(&THROUGH_GTID.to_le_bytes());
    command.extend_from_slice(&server_id.to_le_bytes());
    command.extend_from_slice(&0u32.to_le_bytes());
    command.extend_from_slice(&Place::FIRST_OFFSET.to_le_bytes());
    command.extend_from_slice(&(set.len() as u32).to_le_bytes());
    command.extend_from_slice(set);
    command
}

/// Two replicas of one server need different ones; nobody remembers ours.
fn random_uuid() -> String {
    let (high, low) = (crate::random::number(), crate::random::number());
    let hex = format!("{high:016x}{low:016x}");
    format!("{}-{}-4{}-a{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..32])
}
