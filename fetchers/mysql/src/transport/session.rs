//! What is asked of a server before its log: who it is, what it has executed and still has, whether our lineage fits;
//! then the dump, from where a reader stands.

use std::collections::HashMap;
use std::sync::Arc;

use tidemill_event::{Position, Timeline};
use tidemill_fetchers_api::FetchError;

use crate::event::{Flavour, kind};
use crate::gtid::{GtidSet, MariaDbState, MySqlSet, NotASet, encode_mysql, parse_set};
use crate::options::ServerOptions;
use crate::place::{BinlogName, Place};
use crate::transport::connection::{Connection, Row};
use crate::transport::refusal::refusal;
use crate::transport::{Filled, ServerTransport, TransportError};

/// What a server says of itself.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) flavour: Flavour,
    /// How timelines name it.
    pub(crate) identity: Arc<str>,
    /// Whether every transaction has a GTID, so that a set of them is a position.
    pub(crate) has_gtids: bool,
    pub(crate) executed: GtidSet,
    /// What is no longer in its log. MariaDB does not tell by itself: see [`Facts::read_purged`].
    purged: GtidSet,
    /// MariaDB only.
    state: MariaDbState,
    /// Whether it keeps the names of tables in lower case, however a statement spells them.
    pub(crate) lower_case_names: bool,
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

/// Asks a server for its facts.
pub(crate) async fn read_facts(connection: &mut Connection) -> Result<Facts, TransportError> {
    let rows = connection
        .query(
            "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('version','server_uuid','server_uid','server_id','log_bin',\
             'gtid_mode','gtid_executed','gtid_purged','gtid_binlog_pos','gtid_binlog_state','binlog_storage_engine','lower_case_table_names')",
        )
        .await?;
    let pair = |row: &Row| Some((row.at(0)?.to_lowercase(), row.at(1)?.to_owned()));
    let variables: HashMap<String, String> = rows.iter().filter_map(pair).collect();
    let get = |name: &str| variables.get(name).map_or("", String::as_str);
    let flavour = if get("version").contains("MariaDB") { Flavour::MariaDb } else { Flavour::MySql };
    check_binlog(&variables)?;
    let set = |text: &str| parse_set(flavour, text).map_err(nonsense);
    let executed = set(get(if flavour == Flavour::MySql { "gtid_executed" } else { "gtid_binlog_pos" }))?;
    Ok(Facts {
        flavour,
        identity: identity(flavour, &variables),
        has_gtids: flavour == Flavour::MariaDb || get("gtid_mode") == "ON",
        executed,
        purged: set(get("gtid_purged"))?,
        state: MariaDbState::parse(get("gtid_binlog_state")).map_err(nonsense)?,
        lower_case_names: get("lower_case_table_names") == "1",
        end: end_of_log(connection, flavour).await?,
    })
}

fn nonsense(error: NotASet) -> TransportError {
    TransportError::setup(format!("the server answers nonsense: {error}"), "report it")
}

/// Whether there is a binlog that can be read.
fn check_binlog(variables: &HashMap<String, String>) -> Result<(), TransportError> {
    let get = |name: &str| variables.get(name).map_or("", String::as_str);
    if get("log_bin") != "ON" {
        return Err(TransportError::setup(
            "the server writes no binlog",
            "start it with log_bin=binlog (and server_id), then clone the tables",
        ));
    }
    match get("binlog_storage_engine") {
        "" => Ok(()),
        engine => Err(TransportError::setup(
            format!(
                "the server keeps its binlog in {engine} (.ibb files), which has no offsets to resume at"
            ),
            "start it without binlog_storage_engine, so that the binlog is in files, then clone the tables",
        )),
    }
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

/// The files of the server's log, in order. MySQL tells more of each than MariaDB; the name comes first everywhere.
pub(crate) async fn binary_logs(connection: &mut Connection) -> Result<Vec<BinlogName>, TransportError> {
    let rows = connection.query("SHOW BINARY LOGS").await?;
    Ok(rows.iter().filter_map(|row| BinlogName::parse(row.at(0)?)).collect())
}

/// The end of the log: a statement that MySQL renamed and MariaDB did not.
pub(crate) async fn end_of_log(
    connection: &mut Connection,
    flavour: Flavour,
) -> Result<Place, TransportError> {
    const ER_PARSE: u16 = 1064;
    let (new, old) = ("SHOW BINARY LOG STATUS", "SHOW MASTER STATUS");
    let first = if flavour == Flavour::MySql { new } else { old };
    let rows = match connection.try_query(first).await? {
        Err(refused) if refused.code == ER_PARSE => connection.query(old).await?,
        other => other.map_err(|refused| refusal(&refused))?,
    };
    let read = |row: &Row| {
        let offset = row.get("Position")?.parse().ok()?;
        Some(Place { file: BinlogName::parse(row.get("File")?)?, offset })
    };
    rows.first().and_then(read).ok_or_else(|| {
        TransportError::setup("the server does not tell where its binlog ends", "check that log_bin is ON")
    })
}

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
        let ahead = match mine {
            GtidSet::MariaDb(mine) => GtidSet::MariaDb(mine.missing_from_state(&self.state)),
            mine => mine.missing_from(&self.executed),
        };
        if !ahead.is_empty() {
            return lineage(format!("server {server} has not executed {ahead}, which were read before"));
        }
        let gone = self.purged.missing_from(mine);
        if !gone.is_empty() {
            let upto = if self.flavour == Flavour::MariaDb { "everything up to " } else { "" };
            return lineage(format!(
                "server {server} has purged {upto}{gone} from its binlog, which were not read yet"
            ));
        }
        Ok(())
    }

    /// MariaDB: what was executed before its oldest file begins.
    async fn read_purged(&mut self, connection: &mut Connection) -> Result<(), TransportError> {
        let Some(oldest) = binary_logs(connection).await?.into_iter().next() else { return Ok(()) };
        let query = format!("SELECT BINLOG_GTID_POS('{}', {})", oldest.as_str(), Place::FIRST_OFFSET);
        let rows = connection.query(&query).await?;
        let text = rows.first().and_then(|row| row.at(0)).unwrap_or_default();
        self.purged = parse_set(self.flavour, text).map_err(nonsense)?;
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

    /// Becomes a replica and asks for what follows. The timeline is another one where the server is another.
    pub(crate) async fn dump(
        &self,
        mut connection: Connection,
        options: &ServerOptions,
        facts: &mut Facts,
        server_id: u32,
    ) -> Result<(ServerTransport, Timeline), TransportError> {
        if facts.flavour == Flavour::MariaDb && self.by_gtid(facts).is_some() {
            facts.read_purged(&mut connection).await?;
        }
        match self.by_gtid(facts) {
            Some(set) => facts.check_lineage(set, self.position())?,
            None => facts.check_identity(&self.timeline, self.position())?,
        }
        connection.run(&session(options, facts.flavour)).await?;
        connection.register(server_id).await?;
        let command = match self.by_gtid(facts) {
            Some(GtidSet::MySql(set)) => dump_wide(server_id, "", Place::FIRST_OFFSET, &encode_mysql(set)),
            Some(set @ GtidSet::MariaDb(_)) => {
                let state = format!("SET @slave_connect_state='{set}', @slave_gtid_strict_mode=1");
                connection.run(&state).await?;
                dump_by_place(facts.flavour, server_id, "", Place::FIRST_OFFSET as u32)
            }
            None => self.dump_from_place(facts, server_id),
        };
        connection.dump(&command).await?;
        let number = self.timeline.number + u32::from(self.timeline.server != facts.identity);
        let timeline = Timeline { number, server: Arc::clone(&facts.identity) };
        Ok((ServerTransport::new(connection, options.heartbeat), timeline))
    }

    /// The command that every server knows has 32 bits for the offset. Further on there is MySQL's other one, for which
    /// GTIDs have to be on: else the file is read from its beginning.
    fn dump_from_place(&self, facts: &Facts, server_id: u32) -> Vec<u8> {
        let place = self.place.as_ref().unwrap_or(&facts.end);
        let file = place.file.as_str();
        match u32::try_from(place.offset) {
            Ok(offset) => dump_by_place(facts.flavour, server_id, file, offset),
            Err(_) if facts.flavour == Flavour::MySql && facts.has_gtids => {
                dump_wide(server_id, file, place.offset, &encode_mysql(&MySqlSet::default()))
            }
            Err(_) => dump_by_place(facts.flavour, server_id, file, Place::FIRST_OFFSET as u32),
        }
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
    let semi_sync = match options.semi_sync {
        true => ", @rpl_semi_sync_replica=1, @rpl_semi_sync_slave=1",
        false => "",
    };
    // A reader that stalls, since what it feeds stalls, is to be waited for; transactions that the server marks as not
    // for replicas are part of its history all the same.
    format!(
        "SET @master_binlog_checksum='NONE', @master_heartbeat_period={heartbeat}, {family}{semi_sync}, SESSION net_write_timeout=3600"
    )
}

fn dump_by_place(flavour: Flavour, server_id: u32, file: &str, offset: u32) -> Vec<u8> {
    const COM_BINLOG_DUMP: u8 = 0x12;
    // MariaDB leaves the texts of statements out unless asked for them; with them every byte of the file comes, so that
    // our count of them is the file's own.
    const SEND_ANNOTATE_ROWS: u16 = 2;
    let flags = if flavour == Flavour::MariaDb { SEND_ANNOTATE_ROWS } else { HEARTBEAT_V2 };
    let mut command = vec![COM_BINLOG_DUMP];
    command.extend_from_slice(&offset.to_le_bytes());
    command.extend_from_slice(&flags.to_le_bytes());
    command.extend_from_slice(&server_id.to_le_bytes());
    command.extend_from_slice(file.as_bytes());
    command
}

/// MySQL: heartbeats may tell the server's offset in 64 bits. Servers that do not know the flag pass over it.
const HEARTBEAT_V2: u16 = 2;

/// MySQL's command with 64 bits for the offset: from that place, without the transactions of the set. Without a file the
/// server finds the place by the set.
fn dump_wide(server_id: u32, file: &str, offset: u64, set: &[u8]) -> Vec<u8> {
    const COM_BINLOG_DUMP_GTID: u8 = 0x1e;
    let mut command = vec![COM_BINLOG_DUMP_GTID];
    command.extend_from_slice(&HEARTBEAT_V2.to_le_bytes());
    command.extend_from_slice(&server_id.to_le_bytes());
    command.extend_from_slice(&(file.len() as u32).to_le_bytes());
    command.extend_from_slice(file.as_bytes());
    command.extend_from_slice(&offset.to_le_bytes());
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::event::{Heartbeat, RawEvent, Rotate};
    use crate::options::Password;
    use tidemill_servers::{Kind, Options, Server};

    async fn connect(server: &Server) -> (Connection, ServerOptions, Facts) {
        let password = Password::new(server.user_password());
        let mut options = ServerOptions::new("127.0.0.1", server.port(), Server::USER, password);
        // Three of them is what a busy machine may take before it answers.
        options.heartbeat = std::time::Duration::from_secs(1);
        let mut connection = Connection::open(&options).await.unwrap();
        let facts = read_facts(&mut connection).await.unwrap();
        (connection, options, facts)
    }

    /// Looks at events until the closure has what it wants.
    async fn look<T>(
        transport: &mut ServerTransport,
        mut wanted: impl FnMut(&RawEvent<'_>) -> Option<T>,
    ) -> T {
        loop {
            while let Some(event) = transport.take().unwrap() {
                if let Some(found) = wanted(&event) {
                    return found;
                }
            }
            if transport.fill().unwrap() == Filled::Idle {
                transport.wait().await.unwrap();
            }
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn l72_the_log_s_files_and_end_are_found_by_the_statements_of_every_release() {
        for kind in Kind::EVERY {
            let server = Server::start(kind, Options::default()).await.unwrap();
            server.sql("FLUSH BINARY LOGS; CREATE DATABASE d").await.unwrap();
            server.settle().await.unwrap();
            let (mut connection, _, facts) = connect(&server).await;
            let (file, offset) = server.binlog_end().await.unwrap();
            assert_eq!((facts.end.file.as_str(), facts.end.offset), (file.as_str(), offset), "{kind}");
            let files = binary_logs(&mut connection).await.unwrap();
            let names: Vec<&str> = files.iter().map(BinlogName::as_str).collect();
            let truth = server.binlog_files().unwrap();
            let truth: Vec<&str> = truth.iter().map(|f| f.file_name().unwrap().to_str().unwrap()).collect();
            assert_eq!(names, truth, "{kind}");
            assert_eq!(facts.executed.to_string(), server.gtid_set().await.unwrap(), "{kind}");
            // A statement that the server does not know is refused, and the connection goes on.
            let refused = connection.try_query("SHOW NOTHING").await.unwrap();
            assert!(refused.is_err(), "{kind}");
            assert_eq!(connection.query("SELECT NULL, 'x'").await.unwrap()[0].at(1), Some("x"), "{kind}");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn l73_mysql_s_heartbeats_tell_the_offset_in_64_bits_and_mariadb_s_in_32() {
        for kind in Kind::EVERY {
            let server = Server::start(kind, Options::default()).await.unwrap();
            server.sql("CREATE DATABASE d").await.unwrap();
            let (connection, options, mut facts) = connect(&server).await;
            let timeline = Timeline { number: 1, server: Arc::clone(&facts.identity) };
            let resume = Resume { timeline, executed: None, place: Some(facts.end.clone()) };
            let (mut transport, _) = resume.dump(connection, &options, &mut facts, 77).await.unwrap();
            let (file, offset) = look(&mut transport, |event| {
                let heartbeat = match event.header.kind {
                    kind::HEARTBEAT_V2 => Heartbeat::read_v2(event.body).unwrap(),
                    kind::HEARTBEAT => Heartbeat::read(event.body).unwrap(),
                    _ => return None,
                };
                assert_eq!(event.header.kind == kind::HEARTBEAT_V2, kind.is_mysql(), "{kind}");
                let offset = heartbeat.offset.unwrap_or(u64::from(event.header.log_pos));
                Some((heartbeat.file.to_owned(), offset))
            })
            .await;
            assert_eq!((file, offset), server.binlog_end().await.unwrap(), "{kind}");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn l38_the_wide_command_begins_at_the_file_and_offset_that_it_names() {
        let server = Server::start(Kind::MySql, Options::default()).await.unwrap();
        server.sql("CREATE DATABASE d").await.unwrap();
        let (mut connection, options, facts) = connect(&server).await;
        server.sql("CREATE DATABASE e").await.unwrap();
        connection.run(&session(&options, facts.flavour)).await.unwrap();
        let command =
            dump_wide(77, facts.end.file.as_str(), facts.end.offset, &encode_mysql(&MySqlSet::default()));
        connection.dump(&command).await.unwrap();
        let mut transport = ServerTransport::new(connection, options.heartbeat);
        let offset = look(&mut transport, |event| {
            (event.header.kind == kind::ROTATE).then(|| Rotate::read(event.body).unwrap().offset)
        });
        assert_eq!(offset.await, facts.end.offset);
        let first = look(&mut transport, |event| (event.header.kind == kind::GTID).then_some(event.header));
        let first = first.await;
        assert_eq!(u64::from(first.log_pos - first.size), facts.end.offset);
    }

    #[test]
    fn l38_only_an_offset_beyond_32_bits_takes_the_wide_command() {
        let file = BinlogName::parse("binlog.000007").unwrap();
        let at = |offset| Place { file: file.clone(), offset };
        let mut facts = Facts {
            flavour: Flavour::MySql,
            identity: "here".into(),
            has_gtids: true,
            executed: GtidSet::MySql(MySqlSet::default()),
            purged: GtidSet::MySql(MySqlSet::default()),
            state: MariaDbState::default(),
            lower_case_names: false,
            end: at(4),
        };
        let far = (1u64 << 32) + 9;
        let timeline = Timeline { number: 1, server: "here".into() };
        let resume = |offset| Resume { timeline: timeline.clone(), executed: None, place: Some(at(offset)) };
        let near = dump_by_place(Flavour::MySql, 5, "binlog.000007", u32::MAX);
        assert_eq!(resume(u64::from(u32::MAX)).dump_from_place(&facts, 5), near);
        let wide = resume(far).dump_from_place(&facts, 5);
        assert!(wide.windows(8).any(|bytes| bytes == far.to_le_bytes()));
        facts.has_gtids = false;
        let beginning = dump_by_place(Flavour::MySql, 5, "binlog.000007", 4);
        assert_eq!(resume(far).dump_from_place(&facts, 5), beginning);
    }

    /// What MariaDB would otherwise rewrite for us comes as it is in the file.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn l78_mariadb_sends_its_own_events_and_no_stand_ins() {
        for kind in [Kind::MariaDb, Kind::MariaDb118] {
            let server = Server::start(kind, Options::default()).await.unwrap();
            server
                .sql("CREATE DATABASE d; CREATE TABLE d.t (id INT); INSERT INTO d.t VALUES (1); FLUSH BINARY LOGS; CREATE DATABASE e")
                .await
                .unwrap();
            let (mut connection, options, mut facts) = connect(&server).await;
            let oldest = binary_logs(&mut connection).await.unwrap().remove(0);
            let timeline = Timeline { number: 1, server: Arc::clone(&facts.identity) };
            let place = Some(Place { file: oldest, offset: Place::FIRST_OFFSET });
            let resume = Resume { timeline, executed: None, place };
            let (mut transport, _) = resume.dump(connection, &options, &mut facts, 77).await.unwrap();
            let mut kinds = Vec::new();
            look(&mut transport, |event| {
                assert!(!event.body.windows(7).any(|text| text == b"# Dummy"), "{kind}");
                kinds.push(event.header.kind);
                (event.header.kind == kind::HEARTBEAT).then_some(())
            })
            .await;
            for own in [kind::MARIADB_GTID, kind::GTID_LIST, kind::BINLOG_CHECKPOINT, kind::ANNOTATE_ROWS] {
                assert!(kinds.contains(&own), "{kind}: {own} is not in {kinds:?}");
            }
        }
    }

    /// By hand: the releases here have no such log.
    #[test]
    fn l80_a_log_that_mariadb_keeps_in_innodb_is_refused_with_what_to_do() {
        let of = |engine: &str| {
            let pairs = [("log_bin", "ON"), ("binlog_storage_engine", engine)];
            check_binlog(&pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into())
        };
        assert!(of("").is_ok());
        let Err(TransportError::Failed(error)) = of("innodb") else { panic!("it is accepted") };
        assert!(error.to_string().contains(".ibb") && error.to_string().contains("binlog_storage_engine"));
    }
}
