//! The floor of a drain: the server's own tool copies the same log to files, byte by byte.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tidemill_servers::{Kind, Server};

use super::{Loaded, Measured};
use crate::Failure;
use crate::usage::{Usage, peak_rss_of};

/// Between two looks at the tool's memory.
const LOOK_EVERY: Duration = Duration::from_millis(10);

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
        .env("MYSQL_PWD", server.user_password())
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let (cpu, started) = (Usage::of_children(), Instant::now());
    let mut tool = command.spawn().map_err(|error| format!("run mysqlbinlog: {error}"))?;
    let mut peak_rss = 0;
    let status = loop {
        peak_rss = peak_rss_of(tool.id()).unwrap_or_default().max(peak_rss);
        if let Some(status) = tool.try_wait()? {
            break status;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    };
    if !status.success() {
        return Err(format!("mysqlbinlog ended with {status}").into());
    }
    let cpu = Usage::of_children().saturating_sub(cpu);
    let wall = started.elapsed();
    Ok(Measured { rows: loaded.changes, bytes: loaded.bytes, wall, cpu, peak_rss, lag: None })
}
