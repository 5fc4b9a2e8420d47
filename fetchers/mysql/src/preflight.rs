//! What `tidemill check` asks of a server: whether capture can work, and for each thing that stands in its way, what mends it.

use std::collections::HashMap;

use tokio::time::timeout;

use crate::event::Flavour;
use crate::extract::quoted;
use crate::limits::CONNECT_TIME_MAX;
use crate::options::ServerOptions;
use crate::random;
use crate::transport::{Connection, Resume, TransportError, read_facts};

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Good to know.
    Note,
    /// Capture works; something is lost or at risk.
    Warning,
    /// Capture cannot work.
    Error,
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How much it matters.
    pub level: Level,
    /// What is so.
    pub what: String,
    /// What to do: most often SQL.
    pub fix: String,
}

fn finding(level: Level, what: impl Into<String>, fix: impl Into<String>) -> Finding {
    Finding { level, what: what.into(), fix: fix.into() }
}

/// Everything that is wrong or doubtful about capture from that server; empty: all is well.
pub async fn preflight(options: &ServerOptions) -> Vec<Finding> {
    let examined = timeout(CONNECT_TIME_MAX, examine(options)).await;
    examined.unwrap_or_else(|_| vec![unreachable_server(TransportError::lost("it does not answer"), options)])
}

async fn examine(options: &ServerOptions) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut connection = match Connection::open(options).await {
        Ok(connection) => connection,
        Err(error) => return vec![unreachable_server(error, options)],
    };
    let variables = match variables(&mut connection).await {
        Ok(variables) => variables,
        Err(error) => return vec![unreachable_server(error, options)],
    };
    settings(&variables, &mut findings);
    server_ids(&mut connection, options, &variables, &mut findings).await;
    unlogged(&mut connection, &variables, &mut findings).await;
    tables_without_key(&mut connection, &mut findings).await;
    unlogged_cascades(&mut connection, &variables, &mut findings).await;
    if get(&variables, "log_bin") == "ON" {
        dump(connection, options, &mut findings).await;
    }
    findings.sort_by_key(|f| std::cmp::Reverse(f.level));
    findings
}

fn unreachable_server(error: TransportError, options: &ServerOptions) -> Finding {
    let server = format!("{}:{}", options.host, options.port);
    match error {
        TransportError::Lost(error) => finding(
            Level::Error,
            format!("the server {server} cannot be reached: {error}"),
            "check host and port, and that the server listens there (bind_address, firewall)",
        ),
        TransportError::Failed(tidemill_fetchers_api::FetchError::Setup { what, mend }) => {
            finding(Level::Error, format!("{server}: {what}"), mend)
        }
        TransportError::Failed(error) => finding(Level::Error, format!("{server}: {error}"), ""),
    }
}

async fn variables(connection: &mut Connection) -> Result<HashMap<String, String>, TransportError> {
    let rows = connection.query("SHOW GLOBAL VARIABLES").await?;
    let pairs = rows.iter().filter_map(|row| row.at(0).zip(row.at(1)));
    Ok(pairs.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect())
}

fn get<'a>(variables: &'a HashMap<String, String>, name: &str) -> &'a str {
    variables.get(name).map_or("", String::as_str)
}

/// What the variables alone tell.
fn settings(variables: &HashMap<String, String>, findings: &mut Vec<Finding>) {
    let get = |name: &str| get(variables, name);
    let flavour = if get("version").contains("MariaDB") { Flavour::MariaDb } else { Flavour::MySql };
    let mut add = |level, what: String, fix: &str| findings.push(finding(level, what, fix));
    if get("log_bin") != "ON" {
        add(
            Level::Error,
            "log_bin is OFF".into(),
            "start the server with log_bin=binlog and a server_id, then clone the tables",
        );
    }
    row_settings(&get, &mut add);
    if flavour == Flavour::MySql && get("gtid_mode") != "ON" {
        add(
            Level::Warning,
            format!("gtid_mode is {}: readers cannot follow a fail-over", get("gtid_mode")),
            "SET GLOBAL enforce_gtid_consistency = ON, then SET GLOBAL gtid_mode = OFF_PERMISSIVE, ON_PERMISSIVE, ON, one after the other",
        );
    }
    if get("mysql56_temporal_format") == "OFF" {
        add(
            Level::Error,
            "mysql56_temporal_format is OFF: new tables have times in a format that is not decoded".into(),
            "SET GLOBAL mysql56_temporal_format = ON, then ALTER TABLE … FORCE for tables made before",
        );
    }
    if get("binlog_checksum") == "NONE" {
        add(
            Level::Note,
            "binlog_checksum is NONE: damage on disk goes unnoticed".into(),
            "SET GLOBAL binlog_checksum = CRC32",
        );
    }
    if get("server_id") == "0" {
        add(
            Level::Error,
            "server_id is 0: replicas are refused".into(),
            "SET GLOBAL server_id = 1, and in the server's configuration",
        );
    }
    retention(&get, &mut add);
}

/// Whether rows are logged, and whole.
fn row_settings<'a>(get: &impl Fn(&str) -> &'a str, add: &mut impl FnMut(Level, String, &str)) {
    if !get("binlog_format").is_empty() && get("binlog_format") != "ROW" {
        add(
            Level::Error,
            format!("binlog_format is {}", get("binlog_format")),
            "SET GLOBAL binlog_format = 'ROW' (sessions that are open keep theirs), and in the server's configuration",
        );
    }
    if get("binlog_row_metadata") != "FULL" {
        add(
            Level::Warning,
            format!(
                "binlog_row_metadata is {}: definitions are asked for, and rows that are older than a table's last definition \
                 cannot be read",
                get("binlog_row_metadata")
            ),
            "SET GLOBAL binlog_row_metadata = FULL, and in the server's configuration",
        );
    }
    if get("binlog_row_image") != "FULL" {
        add(
            Level::Warning,
            format!(
                "binlog_row_image is {}: columns that did not change are absent",
                get("binlog_row_image")
            ),
            "SET GLOBAL binlog_row_image = 'FULL', and in the server's configuration",
        );
    }
    if get("binlog_row_value_options") == "PARTIAL_JSON" && get("binlog_row_image") == "MINIMAL" {
        add(
            Level::Error,
            "JSON columns are logged as differences from documents that are not logged".into(),
            "SET GLOBAL binlog_row_value_options = '', or SET GLOBAL binlog_row_image = 'FULL'",
        );
    }
}

/// A reader that is away for longer than binlogs are kept must clone anew.
fn retention<'a>(get: &impl Fn(&str) -> &'a str, add: &mut impl FnMut(Level, String, &str)) {
    const DAY: f64 = 86_400.0;
    const DAYS_MIN: f64 = 2.0;
    let seconds = get("binlog_expire_logs_seconds").parse::<f64>().unwrap_or(0.0);
    let days = get("expire_logs_days").parse::<f64>().unwrap_or(0.0);
    let kept = if seconds > 0.0 { seconds / DAY } else { days };
    if kept > 0.0 && kept < DAYS_MIN {
        add(
            Level::Warning,
            format!(
                "binlogs are kept for {:.1} hours: a reader that is away for longer must clone anew",
                kept * 24.0
            ),
            "SET GLOBAL binlog_expire_logs_seconds = 604800, and in the server's configuration",
        );
    }
}

/// The proof: a dump is asked for and begins.
async fn dump(mut connection: Connection, options: &ServerOptions, findings: &mut Vec<Finding>) {
    let attempt = async {
        let mut facts = read_facts(&mut connection).await?;
        let timeline = tidemill_event::Timeline { number: 1, server: facts.identity.clone() };
        let resume = Resume { timeline, executed: None, place: Some(facts.end.clone()) };
        let (mut transport, _) = resume.dump(connection, options, &mut facts, random::server_id()).await?;
        while transport.take()?.is_none() {
            if transport.fill()? == crate::transport::Filled::Idle {
                transport.wait().await?;
            }
        }
        Ok::<(), TransportError>(())
    };
    if let Err(error) = attempt.await {
        findings.push(unreachable_server(error, options));
    }
}

async fn server_ids(
    connection: &mut Connection,
    options: &ServerOptions,
    variables: &HashMap<String, String>,
    findings: &mut Vec<Finding>,
) {
    let Some(ours) = options.server_id else { return };
    let fix = "set `server_id` to a number that neither the server nor another replica has, or leave it out";
    if get(variables, "server_id") == ours.to_string() {
        findings.push(finding(Level::Error, format!("our server_id {ours} is the server's own"), fix));
    }
    let query = match get(variables, "version").contains("MariaDB") {
        true => "SHOW SLAVE HOSTS",
        false => "SHOW REPLICAS",
    };
    let replicas = connection.query(query).await.unwrap_or_default();
    let is_taken = replicas.iter().any(|row| row.at(0) == Some(&ours.to_string()));
    if is_taken {
        findings.push(finding(Level::Error, format!("another replica has our server_id {ours}"), fix));
    }
}

/// Changes that the server makes and does not log.
async fn unlogged(
    connection: &mut Connection,
    variables: &HashMap<String, String>,
    findings: &mut Vec<Finding>,
) {
    let (new, old) = ("SHOW BINARY LOG STATUS", "SHOW MASTER STATUS");
    let is_mariadb = get(variables, "version").contains("MariaDB");
    let status = connection.query(if is_mariadb { old } else { new }).await.unwrap_or_default();
    let text = |column: &str| {
        let databases = status.first()?.get(column)?;
        (!databases.is_empty()).then(|| databases.to_owned())
    };
    for (column, option, what) in [
        ("Binlog_Do_DB", "binlog_do_db", "only changes of these databases are logged"),
        ("Binlog_Ignore_DB", "binlog_ignore_db", "changes of these databases are not logged"),
    ] {
        if let Some(databases) = text(column) {
            findings.push(finding(
                Level::Warning,
                format!("{option} is {databases}: {what}, and nothing tells a reader of the others"),
                format!("take {option} out of the server's configuration, and leave tables out by the source's policy"),
            ));
        }
    }
    let logs_replicated = if is_mariadb { "log_slave_updates" } else { "log_replica_updates" };
    let is_replica = if is_mariadb { "SHOW ALL SLAVES STATUS" } else { "SHOW REPLICA STATUS" };
    let is_replica = connection.query(is_replica).await.unwrap_or_default();
    if get(variables, logs_replicated) == "OFF" && !is_replica.is_empty() {
        findings.push(finding(
            Level::Error,
            format!("{logs_replicated} is OFF on a replica: what it replicates is not in its log"),
            format!("set {logs_replicated} = ON in the server's configuration, or capture from its source"),
        ));
    }
}

/// By its indexes: MariaDB tells constraints only to who may do more than read.
async fn tables_without_key(connection: &mut Connection, findings: &mut Vec<Finding>) {
    let query = "SELECT t.table_schema, t.table_name FROM information_schema.tables t \
         WHERE t.table_type = 'BASE TABLE' \
         AND t.table_schema NOT IN ('mysql', 'sys', 'information_schema', 'performance_schema') \
         AND NOT EXISTS (SELECT 1 FROM information_schema.statistics s WHERE s.non_unique = 0 \
         AND s.table_schema = t.table_schema AND s.table_name = t.table_name GROUP BY s.index_name \
         HAVING MAX(s.nullable = 'YES' OR s.sub_part IS NOT NULL OR s.column_name IS NULL) = 0) ORDER BY 1, 2";
    let rows = connection.query(query).await.unwrap_or_default();
    for (database, table) in rows.iter().filter_map(|row| row.at(0).zip(row.at(1))) {
        let name = format!("{}.{}", quoted(database), quoted(table));
        findings.push(finding(
            Level::Warning,
            format!(
                "table {database}.{table} has no primary key, nor a unique one without NULL: its changes cannot be consolidated"
            ),
            format!("ALTER TABLE {name} ADD COLUMN id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY"),
        ));
    }
}

/// Children of foreign keys whose rows change with their parents', where that is in no log.
async fn unlogged_cascades(
    connection: &mut Connection,
    variables: &HashMap<String, String>,
    findings: &mut Vec<Finding>,
) {
    let version = get(variables, "version");
    let mut numbers = version.split(['.', '-']).map(|number| number.parse().unwrap_or(0u32));
    let release = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if !version.contains("MariaDB") && release >= CASCADES_ARE_LOGGED {
        return;
    }
    // Of constraints themselves MariaDB tells who may only read nothing more than this.
    let children = "SELECT DISTINCT table_schema, table_name FROM information_schema.key_column_usage \
                    WHERE referenced_table_name IS NOT NULL ORDER BY 1, 2";
    let rows = connection.query(children).await.unwrap_or_default();
    for (database, table) in rows.iter().filter_map(|row| row.at(0).zip(row.at(1))) {
        let show = format!("SHOW CREATE TABLE {}.{}", quoted(database), quoted(table));
        let shown = connection.query(&show).await.unwrap_or_default();
        let text = shown.first().and_then(|row| row.at(1)).unwrap_or_default();
        let changes =
            |event: &str| ["CASCADE", "SET"].iter().any(|what| text.contains(&format!("ON {event} {what}")));
        if changes("DELETE") || changes("UPDATE") {
            findings.push(finding(
                Level::Warning,
                format!("foreign keys change rows of {database}.{table} with those of other tables, and this server does not log that: copies of it drift away"),
                "delete and update its rows in statements of their own, or by triggers, before those that they refer to; `tidemill \
                 verify` shows what has drifted",
            ));
        }
    }
}

/// The first release of MySQL that logs what a foreign key cascades.
const CASCADES_ARE_LOGGED: (u32, u32) = (9, 6);
