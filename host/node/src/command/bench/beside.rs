//! Other tools beside our own copy, on the same table of the same server: mydumper to SQL files, connectorx with pyarrow to one
//! Parquet file. Their time, processor time and memory are those of their processes.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tidemill_servers::Server;

use super::tool::{self, Taken};
use crate::Failure;

/// Who copies the table, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Beside {
    /// mydumper, to SQL files: as many threads as we have connections, and as many rows a file as a chunk has.
    Mydumper,
    /// connectorx and pyarrow, the whole table in memory and then to one Parquet file: a partition for each connection.
    Connectorx,
}

/// The table, and how it is divided.
#[derive(Clone, Copy, Debug)]
pub struct Task {
    /// Reads at the same time.
    pub connections: u32,
    /// Rows of a part.
    pub chunk_rows: u64,
}

/// One copy's figures.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// From the start of the process to its end.
    pub wall: Duration,
    /// User and system.
    pub cpu: Duration,
    /// The most memory that was resident at once, in bytes.
    pub peak_rss: u64,
    /// Bytes of what it wrote.
    pub stored: u64,
}

impl Beside {
    /// What it is called where its figures are.
    pub fn name(self) -> &'static str {
        match self {
            Beside::Mydumper => "mydumper",
            Beside::Connectorx => "connectorx",
        }
    }

    /// Whether it is there to be run: an hour of benchmark is not to end in its absence.
    pub fn check(self, server: &Server) -> Result<(), Failure> {
        self.program(server).map(drop)
    }

    /// Copies table `bench.t` once.
    pub async fn copy(self, server: &Server, task: Task) -> Result<Figures, Failure> {
        let scratch = tempfile::Builder::new().prefix("tidemill-beside-").tempdir()?;
        let output = scratch.path().join("output");
        std::fs::create_dir(&output)?;
        let mut command = Command::new(self.program(server)?);
        match self {
            Beside::Mydumper => mydumper(&mut command, server, task, scratch.path())?,
            Beside::Connectorx => connectorx(&mut command, server, task),
        }
        let Taken { wall, cpu, peak_rss } = tool::run(self.name(), command.current_dir(&output)).await?;
        Ok(Figures { wall, cpu, peak_rss, stored: bytes_in(&output)? })
    }

    /// On the PATH, or where the tests' own tools are.
    fn program(self, server: &Server) -> Result<PathBuf, Failure> {
        // TOOLS/SERVER/bin/PROGRAM
        let server = server.tools().server();
        let tools = server.ancestors().nth(3).unwrap_or(Path::new("/"));
        match self {
            Beside::Mydumper => {
                let path = std::env::var_os("PATH").unwrap_or_default();
                let mut found: Vec<PathBuf> = std::env::split_paths(&path).collect();
                found.push(tools.join("mydumper/bin"));
                let found =
                    found.into_iter().map(|folder| folder.join("mydumper")).find(|file| file.is_file());
                Ok(found.ok_or(
                    "mydumper is neither on the PATH nor in .tools; install Debian's package mydumper, or run \
                     tests/get-mydumper.sh, or leave `--beside mydumper` out",
                )?)
            }
            Beside::Connectorx => {
                let python = tools.join("python/bin/python");
                if tools.join("python/installed/compare.txt").is_file() && python.is_file() {
                    return Ok(python);
                }
                Err("connectorx is not in .tools; run tests/get-python.sh compare, or leave `--beside connectorx` out".into())
            }
        }
    }
}

fn mydumper(command: &mut Command, server: &Server, task: Task, scratch: &Path) -> Result<(), Failure> {
    // On the command line everybody could read it.
    let options = scratch.join("options");
    std::fs::write(
        &options,
        format!("[client]\npassword={0}\n[mydumper]\npassword={0}\n", server.root_password()),
    )?;
    command
        .arg(format!("--defaults-file={}", options.display()))
        .args(["--host=127.0.0.1", "--user=root", "--database=bench", "--tables-list=t", "--no-locks"])
        .arg(format!("--port={}", server.port()))
        .arg(format!("--threads={}", task.connections))
        .arg(format!("--rows={}", task.chunk_rows))
        .args(["--outputdir=.", "--verbose=1"]);
    Ok(())
}

const SCRIPT: &str = "import os, connectorx, pyarrow.parquet
table = connectorx.read_sql(os.environ['SOURCE'], 'SELECT * FROM t', partition_on='id',
                            partition_num=int(os.environ['PARTITIONS']), return_type='arrow')
pyarrow.parquet.write_table(table, 't.parquet', compression='zstd', compression_level=1)";

fn connectorx(command: &mut Command, server: &Server, task: Task) {
    let source = format!("mysql://root:{}@127.0.0.1:{}/bench", server.root_password(), server.port());
    command.args(["-c", SCRIPT]).env("SOURCE", source).env("PARTITIONS", task.connections.to_string());
}

fn bytes_in(folder: &Path) -> Result<u64, Failure> {
    let mut bytes = 0;
    for file in std::fs::read_dir(folder)? {
        bytes += file?.metadata()?.len();
    }
    Ok(bytes)
}
