//! The relay that is measured: this binary in a process of its own, on a private directory.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tidemill_servers::Server;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::Failure;
use crate::usage::{cpu_of, peak_rss_of};

/// How often a relay that starts is asked whether it is ready.
const ASK_EVERY: Duration = Duration::from_millis(20);

/// A relay that runs until this is dropped.
pub struct Tested {
    child: Child,
    address: SocketAddr,
    _scratch: TempDir,
}

impl Tested {
    /// Starts a relay of that server's binlog and waits until it is ready. `source`: more keys of its source.
    pub async fn start(server: &Server, source: &str) -> Result<Tested, Failure> {
        let scratch = tempfile::Builder::new().prefix("tidemill-fanout-").tempdir()?;
        let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        write_config(scratch.path(), server, source, address)?;
        let mut child = Command::new(std::env::current_exe()?)
            .args(["relay", "--config"])
            .arg(scratch.path().join("tidemill.toml"))
            .env("TIDEMILL_LOG", std::env::var("TIDEMILL_LOG").unwrap_or("warn".into()))
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        while !is_ready(address).await {
            if let Some(status) = child.try_wait()? {
                return Err(format!("the relay ended with {status}").into());
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
        Ok(Tested { child, address, _scratch: scratch })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Processor time that it has used so far.
    pub fn cpu(&self) -> Duration {
        self.child.id().and_then(cpu_of).unwrap_or_default()
    }

    /// The most memory that it had resident at once, in bytes.
    pub fn peak_rss(&self) -> u64 {
        self.child.id().and_then(peak_rss_of).unwrap_or_default()
    }
}

/// Whether a relay listens there and says that it is ready.
async fn is_ready(address: SocketAddr) -> bool {
    let answer = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET /readyz HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    answer.await.is_ok_and(|answer| answer.starts_with(b"HTTP/1.1 200"))
}

fn write_config(directory: &Path, server: &Server, source: &str, address: SocketAddr) -> Result<(), Failure> {
    std::fs::write(directory.join("password"), server.user_password())?;
    let (port, user) = (server.port(), Server::USER);
    let config = format!(
        "data = \"data\"\n[relay]\nlisten = \"{address}\"\n[relay.limits]\nconnections = 4096\n\
         [source.bench]\nkind = \"mysql\"\nhost = \"127.0.0.1\"\nport = {port}\nuser = \"{user}\"\n\
         password = {{ file = \"password\" }}\n{source}\n"
    );
    Ok(std::fs::write(directory.join("tidemill.toml"), config)?)
}
