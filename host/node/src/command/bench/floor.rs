//! The floor of a drain: the server's own tool copies the same log to files, byte by byte.

use std::process::Command;

use tidemill_servers::{Kind, Server};

use super::tool::{self, Taken};
use super::{Loaded, Measured};
use crate::Failure;

/// Copies the backlog once.
pub async fn copy(loaded: &Loaded) -> Result<Measured, Failure> {
    let server = &loaded.server;
    if server.kind() != Kind::MySql {
        return Err(
            "the packages of MariaDB that are unpacked here have no mariadb-binlog; leave --floor out".into(),
        );
    }
    let scratch = tempfile::Builder::new().prefix("tidemill-floor-").tempdir()?;
    let first = server.binlog_files()?.into_iter().next().ok_or("the server has no binlog")?;
    let first = first.file_name().ok_or("a binlog has a name")?.to_owned();
    let mut command = Command::new(server.tools().program("mysqlbinlog"));
    command
        .args(["--no-defaults", "--read-from-remote-server", "--raw", "--to-last-log", "--host=127.0.0.1"])
        .arg(format!("--port={}", server.port()))
        .arg(format!("--user={}", Server::USER))
        .arg(format!("--result-file={}/", scratch.path().display()))
        .arg(first)
        // On the command line everybody could read it.
        .env("MYSQL_PWD", server.user_password());
    let Taken { wall, cpu, peak_rss } = tool::run("mysqlbinlog", &mut command).await?;
    Ok(Measured { rows: loaded.changes, bytes: loaded.bytes, wall, cpu, peak_rss, lag: None })
}
