//! Which server, and how it is set up: the arguments that a pipeline needs, and those a test adds.

use std::{fmt, path::PathBuf};

/// The servers there are: two families, and MariaDB in two releases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// MySQL 9.7.
    MySql,
    /// MariaDB 10.11 or newer.
    MariaDb,
    /// MariaDB 11.8, for what came after 10.11: VECTOR, timestamps up to 2106, FULL_NODUP row images, parsec.
    MariaDb118,
}

impl Kind {
    /// One of each family, for tests that run on both.
    pub const ALL: [Self; 2] = [Self::MySql, Self::MariaDb];
    /// Every release, for what differs between releases of a family.
    pub const EVERY: [Self; 3] = [Self::MySql, Self::MariaDb, Self::MariaDb118];

    /// Whether it is of MySQL's family, in any release; otherwise it is of MariaDB's.
    pub fn is_mysql(self) -> bool {
        self == Self::MySql
    }

    /// The name in paths and commands.
    pub(crate) fn folder(self) -> &'static str {
        match self {
            Self::MySql => "mysql",
            Self::MariaDb => "mariadb",
            Self::MariaDb118 => "mariadb-11.8",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::MySql => "MySQL",
            Self::MariaDb => "MariaDB",
            Self::MariaDb118 => "MariaDB 11.8",
        })
    }
}

/// How a private server is set up. The default logs rows with full images and full metadata, with GTIDs, and survives a kill.
#[derive(Clone, Debug)]
pub struct Options {
    server_id: u32,
    arguments: Vec<String>,
    directory: Option<PathBuf>,
    password: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self { server_id: 1, arguments: Vec::new(), directory: None, password: None }
    }
}

impl Options {
    /// For filling a server as fast as it goes: nothing is flushed at commit, so a kill may lose what was committed last.
    pub fn for_load() -> Self {
        Self::default()
            .argument("--innodb-flush-log-at-trx-commit=0")
            .argument("--innodb-buffer-pool-size=512M")
            .argument("--innodb-doublewrite=0")
    }

    /// Sets the replication identity; servers that see each other need different ones.
    pub fn server_id(mut self, server_id: u32) -> Self {
        self.server_id = server_id;
        self
    }

    /// Adds a server argument such as `--binlog-row-image=MINIMAL`; a later one overrides an earlier one and the defaults.
    pub fn argument(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Puts the server's private directory into this one, rather than into the system's directory for temporary files.
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// The password of every account, for servers that stand in for each other. Without it each has random ones.
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(password.into());
        self
    }

    pub(crate) fn given_password(&self) -> Option<String> {
        self.password.clone()
    }

    pub(crate) fn parent_directory(&self) -> PathBuf {
        self.directory.clone().unwrap_or_else(std::env::temp_dir)
    }

    /// All arguments but those about places (directory, socket, port).
    pub(crate) fn server_arguments(&self, kind: Kind) -> Vec<String> {
        let family: &[&str] = match kind {
            Kind::MySql => &MYSQL,
            Kind::MariaDb | Kind::MariaDb118 => &MARIADB,
        };
        let mut arguments: Vec<String> = BOTH.iter().chain(family).map(ToString::to_string).collect();
        arguments.push(format!("--server-id={}", self.server_id));
        arguments.extend(self.arguments.iter().cloned());
        arguments
    }
}

const BOTH: [&str; 14] = [
    "--bind-address=127.0.0.1",
    "--skip-name-resolve",
    "--log-bin=binlog",
    "--binlog-format=ROW",
    "--binlog-row-image=FULL",
    "--binlog-row-metadata=FULL",
    "--character-set-server=utf8mb4",
    "--default-time-zone=+00:00",
    // Small and quick; the log still reaches the operating system at each commit, so that a killed server loses nothing.
    "--innodb-buffer-pool-size=64M",
    "--innodb-flush-log-at-trx-commit=2",
    "--sync-binlog=0",
    "--performance-schema=OFF",
    "--max-connections=100",
    "--max-allowed-packet=64M",
];

const MYSQL: [&str; 4] =
    ["--gtid-mode=ON", "--enforce-gtid-consistency=ON", "--mysqlx=OFF", "--innodb-redo-log-capacity=256M"];

const MARIADB: [&str; 1] = ["--innodb-log-file-size=128M"];
