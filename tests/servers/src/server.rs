//! A private server: its directory, port and accounts; start, stop, kill, restart on the same data, and SQL as root.

use std::{
    fs::{self, File},
    io::{self, Read},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use mysql_async::{Conn, Opts, OptsBuilder, Pool, Row, prelude::FromValue, prelude::Queryable};
use tempfile::TempDir;

use crate::{
    Kind, Options, ServerError, Tools,
    process::{Process, log_tail, until},
    template,
};

/// Ample for a loaded machine; only a server that hangs comes near.
const START_LIMIT: Duration = Duration::from_secs(180);
/// After which an orderly shutdown becomes a kill.
const STOP_LIMIT: Duration = Duration::from_secs(180);
/// Below the range from which the kernel takes ports for outgoing connections, so that a port is still free at a restart.
const PORTS: std::ops::Range<u16> = 10_000..32_000;
const PORT_TRIES: u32 = 20;
const STATEMENT_SHOWN_CHARS: usize = 200;

/// Starts MySQL.
#[derive(Debug)]
pub struct MySql;

impl MySql {
    /// See [`Server::start`].
    pub async fn start(options: Options) -> Result<Server, ServerError> {
        Server::start(Kind::MySql, options).await
    }
}

/// Starts MariaDB.
#[derive(Debug)]
pub struct MariaDb;

impl MariaDb {
    /// See [`Server::start`].
    pub async fn start(options: Options) -> Result<Server, ServerError> {
        Server::start(Kind::MariaDb, options).await
    }
}

/// A private server. Dropping it kills the server and removes its directory; so does the end of our process, even by SIGKILL.
#[derive(Debug)]
pub struct Server {
    kind: Kind,
    tools: Tools,
    options: Options,
    // Before the directory: the process must be gone when its files are removed.
    process: Option<Process>,
    directory: TempDir,
    port: u16,
    root_password: String,
    user_password: String,
}

impl Server {
    /// The account with no more than a pipeline needs: reading the binlog and the tables.
    pub const USER: &str = "tidemill";

    /// Obtains the server if need be, starts it on a copy of the data directory template, and returns when it answers.
    pub async fn start(kind: Kind, options: Options) -> Result<Self, ServerError> {
        let mut server = blocking(move || Self::prepare(kind, options)).await?;
        server.first_start().await?;
        Ok(server)
    }

    fn prepare(kind: Kind, options: Options) -> Result<Self, ServerError> {
        let tools = Tools::obtain(kind)?;
        let parent = options.parent_directory();
        let directory = tempfile::Builder::new()
            .prefix("tidemill-")
            .tempdir_in(&parent)
            .map_err(ServerError::io("make a directory in", parent))?;
        template::copy_to(&tools, &directory.path().join("data"))?;
        let scratch = directory.path().join("tmp");
        fs::create_dir(&scratch).map_err(ServerError::io("make", &scratch))?;
        let password = || options.given_password().map_or_else(random_password, Ok);
        let (root_password, user_password) = (password()?, password()?);
        Ok(Self { kind, tools, options, process: None, directory, port: 0, root_password, user_password })
    }

    /// Creates the accounts before the port opens. The port is found by trying: whoever else takes it meanwhile wins.
    async fn first_start(&mut self) -> Result<(), ServerError> {
        let accounts = self.directory.path().join("accounts.sql");
        fs::write(&accounts, self.accounts()).map_err(ServerError::io("write", &accounts))?;
        let mut tries = PORT_TRIES;
        loop {
            self.port = free_port().map_err(ServerError::io("find a free port on", "127.0.0.1"))?;
            match self.launch(Some(&accounts)).await {
                Err(ServerError::Start { log, .. })
                    if tries > 0 && log.contains("Address already in use") =>
                {
                    tries -= 1
                }
                Ok(()) => break,
                Err(error) => return Err(error),
            }
            let log = self.log_path();
            fs::remove_file(&log).map_err(ServerError::io("remove", log))?;
        }
        fs::remove_file(&accounts).map_err(ServerError::io("remove", &accounts))
    }

    /// One statement a line, as `--init-file` reads them; none of it is in the binlog. Only loopback reaches the server, hence '%'.
    fn accounts(&self) -> String {
        let (root, user, name) = (&self.root_password, &self.user_password, Self::USER);
        let binlog_privilege = match self.kind {
            Kind::MySql => "REPLICATION CLIENT",
            Kind::MariaDb | Kind::MariaDb118 => "BINLOG MONITOR",
        };
        [
            "SET sql_log_bin=0;".to_string(),
            format!("ALTER USER 'root'@'localhost' IDENTIFIED BY '{root}';"),
            format!("CREATE USER 'root'@'%' IDENTIFIED BY '{root}';"),
            "GRANT ALL ON *.* TO 'root'@'%' WITH GRANT OPTION;".to_string(),
            format!("CREATE USER '{name}'@'%' IDENTIFIED BY '{user}';"),
            format!("GRANT SELECT, REPLICATION SLAVE, {binlog_privilege} ON *.* TO '{name}'@'%';\n"),
        ]
        .join("\n")
    }

    async fn launch(&mut self, init_file: Option<&Path>) -> Result<(), ServerError> {
        let directory = self.directory.path();
        let mut command = Command::new(self.tools.server());
        command
            .arg(format!("--datadir={}", self.datadir().display()))
            .arg(format!("--tmpdir={}", directory.join("tmp").display()))
            .arg(format!("--socket={}", directory.join("socket").display()))
            .arg(format!("--pid-file={}", directory.join("pid").display()))
            .arg(format!("--port={}", self.port))
            .args(template::run_as())
            .args(init_file.map(|file| format!("--init-file={}", file.display())))
            .args(self.options.server_arguments(self.kind));
        let process = Process::spawn(&mut command, &self.log_path(), directory)
            .map_err(ServerError::io("run", self.tools.server()))?;
        self.process = Some(process);
        self.wait_ready().await
    }

    /// Ready is: a connection of root's is answered.
    async fn wait_ready(&mut self) -> Result<(), ServerError> {
        let root = self.root();
        let Some(process) = &mut self.process else {
            return Err(self.start_error("it is not running; call restart()"));
        };
        let mut last_refusal = String::new();
        let ready = until(START_LIMIT, async || match process.ended() {
            Ok(None) => match Conn::new(root.clone()).await {
                Ok(conn) => Some(Ok(conn)),
                Err(refusal) => {
                    last_refusal = refusal.to_string();
                    None
                }
            },
            Ok(Some(status)) => Some(Err(format!("it ended with {status}"))),
            Err(error) => Some(Err(format!("its state cannot be read: {error}"))),
        });
        let reason = match ready.await {
            Some(Ok(conn)) => match conn.disconnect().await {
                Ok(()) => return Ok(()),
                Err(error) => error.to_string(),
            },
            Some(Err(reason)) => reason,
            None => {
                format!("no connection to port {} in {} s: {last_refusal}", self.port, START_LIMIT.as_secs())
            }
        };
        self.process = None;
        Err(self.start_error(reason))
    }

    fn start_error(&self, reason: impl Into<String>) -> ServerError {
        ServerError::Start { kind: self.kind, reason: reason.into(), log: self.log_tail() }
    }

    /// Shuts down in an orderly way, which closes the last binlog file. The data stays until the drop.
    pub async fn stop(&mut self) -> Result<(), ServerError> {
        // The connection may end before the answer comes: the end of the process is what counts.
        let _ = self.sql("SHUTDOWN").await;
        if let Some(process) = &mut self.process {
            let ended =
                process.wait(STOP_LIMIT).await.map_err(ServerError::io("wait for", self.tools.server()))?;
            self.process = None;
            if !ended {
                return Err(self.start_error(format!(
                    "it did not shut down within {} s and was killed",
                    STOP_LIMIT.as_secs()
                )));
            }
        }
        Ok(())
    }

    /// Ends the server with SIGKILL, as a crash does.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Stops the server if it runs, and starts it on the same data and port.
    pub async fn restart(&mut self) -> Result<(), ServerError> {
        if self.process.is_some() {
            self.stop().await?;
        }
        self.launch(None).await
    }

    /// Holds the server still, connections open and silent, until [`Server::resume`].
    pub fn suspend(&self) -> Result<(), ServerError> {
        self.signal("STOP")
    }

    /// Lets a suspended server go on.
    pub fn resume(&self) -> Result<(), ServerError> {
        self.signal("CONT")
    }

    fn signal(&self, name: &str) -> Result<(), ServerError> {
        match &self.process {
            Some(process) => process.signal(name).map_err(ServerError::io("signal", self.tools.server())),
            None => Err(self.start_error("it is not running; call restart()")),
        }
    }

    /// Adds a server argument that counts from the next [`Server::restart`] on.
    pub fn add_argument(&mut self, argument: impl Into<String>) {
        self.options = self.options.clone().argument(argument);
    }

    /// Which server this is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The programs that came with it.
    pub fn tools(&self) -> &Tools {
        &self.tools
    }

    /// The process, when it runs.
    pub fn process_id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Its port on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The password of [`Server::USER`].
    pub fn user_password(&self) -> &str {
        &self.user_password
    }

    /// The password of `root`, who may do anything.
    pub fn root_password(&self) -> &str {
        &self.root_password
    }

    /// How to connect as root, by TCP.
    pub fn root(&self) -> Opts {
        self.opts("root", &self.root_password)
    }

    /// How to connect as the account with least privileges, by TCP.
    pub fn user(&self) -> Opts {
        self.opts(Self::USER, &self.user_password)
    }

    fn opts(&self, name: &str, password: &str) -> Opts {
        OptsBuilder::default()
            .ip_or_hostname(Ipv4Addr::LOCALHOST.to_string())
            .tcp_port(self.port)
            .user(Some(name))
            .pass(Some(password))
            .prefer_socket(false)
            .into()
    }

    /// The data directory.
    pub fn datadir(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// The server's own log, all starts in one file.
    pub fn log_path(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// The last lines of the server's own log.
    pub fn log_tail(&self) -> String {
        log_tail(&self.log_path())
    }

    /// The binlog files on disk, in order.
    pub fn binlog_files(&self) -> Result<Vec<PathBuf>, ServerError> {
        let datadir = self.datadir();
        let names = fs::read_dir(&datadir).and_then(|entries| {
            entries
                .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
                .collect::<io::Result<Vec<_>>>()
        });
        let names = names.map_err(ServerError::io("list", &datadir))?;
        let mut numbered: Vec<(u64, String)> = names
            .into_iter()
            .filter_map(|name| Some((name.strip_prefix("binlog.")?.parse().ok()?, name)))
            .collect();
        numbered.sort();
        Ok(numbered.into_iter().map(|(_, name)| datadir.join(name)).collect())
    }

    /// A new connection of root's.
    pub async fn conn(&self) -> Result<Conn, ServerError> {
        Conn::new(self.root()).await.map_err(|error| self.query_error("connect as root", error))
    }

    /// A pool of root's connections. Its owner disconnects it.
    pub fn pool(&self) -> Pool {
        Pool::new(self.root())
    }

    /// Runs any number of statements, separated by semicolons, as root; stops at the first that fails.
    pub async fn sql(&self, statements: &str) -> Result<(), ServerError> {
        let mut conn = self.conn().await?;
        conn.query_drop(statements).await.map_err(|error| self.query_error(statements, error))?;
        conn.disconnect().await.map_err(|error| self.query_error(statements, error))
    }

    /// The rows of one query, as root.
    pub async fn rows(&self, query: &str) -> Result<Vec<Row>, ServerError> {
        let mut conn = self.conn().await?;
        let rows = conn.query(query).await.map_err(|error| self.query_error(query, error))?;
        conn.disconnect().await.map_err(|error| self.query_error(query, error))?;
        Ok(rows)
    }

    /// The first column of the first row of a query, as root; none when there is no row or it is NULL.
    pub async fn value<T: FromValue>(&self, query: &str) -> Result<Option<T>, ServerError> {
        let mut rows = self.rows(query).await?;
        Ok(rows.first_mut().and_then(|row| row.take_opt::<Option<T>, _>(0)?.ok()?))
    }

    /// The end of the binlog: file name and offset.
    pub async fn binlog_end(&self) -> Result<(String, u64), ServerError> {
        let query = match self.kind {
            Kind::MySql => "SHOW BINARY LOG STATUS",
            Kind::MariaDb | Kind::MariaDb118 => "SHOW MASTER STATUS",
        };
        let mut rows = self.rows(query).await?;
        let row = rows
            .first_mut()
            .ok_or_else(|| self.start_error("it has no binlog; is --skip-log-bin among its arguments?"))?;
        let end = row.take("File").zip(row.take("Position"));
        end.ok_or_else(|| self.start_error(format!("it answers `{query}` without File and Position")))
    }

    /// What has been executed, in the server's own text: `gtid_executed` on MySQL, `gtid_binlog_pos` on MariaDB.
    pub async fn gtid_set(&self) -> Result<String, ServerError> {
        let query = match self.kind {
            Kind::MySql => "SELECT @@GLOBAL.gtid_executed",
            Kind::MariaDb | Kind::MariaDb118 => "SELECT @@GLOBAL.gtid_binlog_pos",
        };
        let set: Option<String> = self.value(query).await?;
        // MySQL breaks the line after every comma.
        Ok(set.unwrap_or_default().replace('\n', ""))
    }

    fn query_error(&self, statement: &str, source: mysql_async::Error) -> ServerError {
        let statement = statement.chars().take(STATEMENT_SHOWN_CHARS).collect();
        ServerError::Query { kind: self.kind, statement, log: self.log_tail(), source }
    }
}

/// File and process work that may take seconds, off the runtime's own threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(failed) => std::panic::resume_unwind(failed.into_panic()),
    }
}

/// Letters and digits only, so that it needs no quoting in SQL or an address.
fn random_password() -> Result<String, ServerError> {
    let bytes: [u8; 12] = random_bytes().map_err(ServerError::io("read", "/dev/urandom"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn random_bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// A port of loopback that nobody listens on, and that nobody has for an outgoing connection: a process that ends and comes back
/// finds it free.
pub fn free_port() -> io::Result<u16> {
    loop {
        let port = PORTS.start + u16::from_le_bytes(random_bytes()?) % (PORTS.end - PORTS.start);
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(_) => return Ok(port),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(error),
        }
    }
}
