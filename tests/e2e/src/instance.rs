//! A folder with a configuration, and processes that run on it one after the other.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::OnceLock;

use serde_json::Value;
use tempfile::TempDir;
use tidemill_servers::{Kind, Server};

use crate::Committed;

/// The binary of the profile that the tests are built in; built on first use, so that it is never an old one.
fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let test = std::env::current_exe().expect("a test knows its own path");
        let folder = test.parent().and_then(Path::parent).expect("tests lie in PROFILE/deps");
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--package", "tidemill", "--manifest-path"]);
        build.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml"));
        build.arg("--target-dir").arg(folder.parent().expect("PROFILE lies in the target folder"));
        if folder.ends_with("release") {
            build.arg("--release");
        }
        // What cargo tells a test about itself, build scripts of dependencies ask about too: told another thing than in a
        // build outside of tests, they run again, and half of the binary is compiled anew.
        let of_the_test = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
        std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(of_the_test)).for_each(
            |(name, _)| {
                build.env_remove(name);
            },
        );
        let status = build.status().expect("cargo runs");
        assert!(status.success(), "the binary is built");
        folder.join("tidemill")
    })
}

/// A private folder with `tidemill.toml`; relative paths of the configuration start here.
#[derive(Debug)]
pub struct Folder(TempDir);

impl Folder {
    /// A folder with that configuration, `data = "data"` put in front.
    pub fn new(config: &str) -> Folder {
        let folder = Folder(tempfile::Builder::new().prefix("tidemill-e2e-").tempdir().expect("a folder"));
        folder.configure(config);
        folder
    }

    /// Writes another configuration for the processes to come.
    pub fn configure(&self, config: &str) {
        self.write("tidemill.toml", format!("data = \"data\"\n{config}").as_bytes());
    }

    /// Writes a file beside the configuration.
    pub fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.0.path().join(name), bytes).expect("the folder is writable");
    }

    /// A source table `[source.NAME]` for that server; its password goes into a file of the folder.
    pub fn source(&self, name: &str, server: &Server) -> String {
        self.write("password", server.user_password().as_bytes());
        server_source(name, server.kind(), server.port())
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// The data folder.
    pub fn data(&self) -> PathBuf {
        self.0.path().join("data")
    }

    /// Starts `tidemill up`.
    pub fn up(&self) -> Instance {
        self.start(&["up"])
    }

    /// Starts `tidemill COMMAND… --config tidemill.toml` in the folder.
    pub fn start(&self, arguments: &[&str]) -> Instance {
        self.start_as(Command::new(binary()), arguments)
    }

    /// As [`Folder::start`], with everything that can be logged.
    pub(crate) fn start_logging(&self, arguments: &[&str]) -> Instance {
        let mut command = Command::new(binary());
        command.env("TIDEMILL_LOG", "debug");
        self.start_as(command, arguments)
    }

    /// As [`Folder::start`], in a shell of which these are the first words: limits, traps.
    pub fn start_in_shell(&self, first: &str, arguments: &[&str]) -> Instance {
        let mut command = Command::new("bash");
        command.args(["-c", &format!("{first}; exec \"$0\" \"$@\"")]).arg(binary());
        self.start_as(command, arguments)
    }

    /// Words for [`Folder::start_in_shell`]: the process's time of day is moved by the seconds that a file of the folder says.
    pub fn skewable_clock(&self, file: &str) -> String {
        let (source, library) =
            (concat!(env!("CARGO_MANIFEST_DIR"), "/src/skewed_clock.c"), self.path().join("skew.so"));
        let built =
            Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).status();
        assert!(built.expect("there is a C compiler").success(), "the clock is built");
        let file = self.path().join(file);
        format!("export LD_PRELOAD='{}' SKEW_FILE='{}'", library.display(), file.display())
    }

    fn start_as(&self, mut command: Command, arguments: &[&str]) -> Instance {
        command.args(arguments).args(["--config", "tidemill.toml"]).current_dir(self.path());
        Instance::start(&mut command)
    }

    /// What the processes before have committed. No process may run.
    pub fn committed(&self) -> Committed {
        Committed::open(&self.data().join("store.redb"))
    }

    /// Every byte of every file of the folder, with the file's path. What a running process takes away meanwhile is not there.
    pub fn stored(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut found = Vec::new();
        collect(self.0.path(), &mut found);
        found
    }
}

/// A source table for a server that listens on that port of loopback.
pub fn server_source(name: &str, kind: Kind, port: u16) -> String {
    let kind = match kind {
        Kind::MySql => "mysql",
        Kind::MariaDb | Kind::MariaDb118 => "mariadb",
    };
    let user = Server::USER;
    format!(
        "[source.{name}]\nkind = \"{kind}\"\nhost = \"127.0.0.1\"\nport = {port}\nuser = \"{user}\"\n\
         password = {{ file = \"password\" }}\nheartbeat = \"1 s\"\n"
    )
}

fn collect(folder: &Path, found: &mut Vec<(PathBuf, Vec<u8>)>) {
    let is_gone = |error: &std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
    let entries = match std::fs::read_dir(folder) {
        Err(error) if is_gone(&error) => return,
        entries => entries.expect("the folder is readable"),
    };
    for entry in entries {
        let path = entry.expect("the folder is readable").path();
        if path.is_dir() {
            collect(&path, found);
            continue;
        }
        match std::fs::read(&path) {
            Err(error) if is_gone(&error) => {}
            bytes => found.push((path, bytes.expect("the file is readable"))),
        }
    }
}

/// A running process. Dropped, it is killed.
#[derive(Debug)]
pub struct Instance {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
    errors: Option<std::thread::JoinHandle<String>>,
}

/// How a process ended.
#[derive(Debug)]
pub struct Output {
    /// Its status.
    pub status: ExitStatus,
    /// What it printed and nobody has read yet.
    pub lines: Vec<String>,
    /// Its standard error.
    pub errors: String,
}

impl Instance {
    fn start(command: &mut Command) -> Instance {
        // A guest is compiled once for all tests.
        let cache = binary().with_file_name("e2e-guests");
        command
            .env("TIDEMILL_GUEST_CACHE", cache)
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        let stdout = child.stdout.take().expect("it is piped");
        let mut stderr = child.stderr.take().expect("it is piped");
        let errors = std::thread::spawn(move || {
            let mut text = Vec::new();
            let _ = stderr.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        });
        Instance { child, lines: BufReader::new(stdout).lines(), errors: Some(errors) }
    }

    /// Starts `tidemill` with these arguments, without a folder.
    pub fn tidemill(arguments: &[&str]) -> Instance {
        Instance::start(Command::new(binary()).args(arguments))
    }

    /// The next line of its standard output; `None` when it has closed it.
    pub fn line(&mut self) -> Option<String> {
        self.lines.next()?.ok()
    }

    /// The next change that `builtin:print` printed; `None` at the end. A line cut by a kill is no change.
    pub fn change(&mut self) -> Option<Change> {
        loop {
            let line = self.line()?;
            if let Ok(value) = serde_json::from_str(&line) {
                return Some(Change(value));
            }
        }
    }

    /// Kills it as a power cut would.
    pub fn kill(mut self) -> Output {
        self.child.kill().expect("it can be killed");
        self.wait()
    }

    /// Asks it to stop, as SIGTERM does, and waits for its end.
    pub fn terminate(self) -> Output {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs");
        assert!(status.success(), "the process still runs");
        self.wait()
    }

    /// Its output, if it has ended by itself.
    pub fn ended(&mut self) -> Option<Output> {
        let status = self.child.try_wait().expect("it is our child")?;
        let lines = self.lines.by_ref().map_while(Result::ok).collect();
        let errors = self.errors.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        Some(Output { status, lines, errors })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end.
    pub fn wait(mut self) -> Output {
        let lines = self.lines.by_ref().map_while(Result::ok).collect();
        let status = self.child.wait().expect("it is our child");
        let errors = self.errors.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        Output { status, lines, errors }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Output {
    /// The changes among the lines.
    pub fn changes(&self) -> Vec<Change> {
        self.lines.iter().filter_map(|line| serde_json::from_str(line).ok()).map(Change).collect()
    }
}

/// One change as `builtin:print` prints it.
#[derive(Clone, Debug, PartialEq)]
pub struct Change(pub Value);

impl Change {
    /// `database.table`.
    pub fn table(&self) -> String {
        let source = &self.0["source"];
        let text = |key: &str| source[key].as_str().unwrap_or_default().to_owned();
        format!("{}.{}", text("db"), text("table"))
    }

    /// `c`, `u`, `d` or `r`.
    pub fn op(&self) -> &str {
        self.0["op"].as_str().unwrap_or_default()
    }

    /// The clock of its transaction and its number within it: the same in every redelivery.
    pub fn place(&self) -> (u64, u64) {
        let number = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("{value} in {}", self.0));
        (number(&self.0["source"]["scn"]), number(&self.0["source"]["ordinal"]))
    }

    /// A column of the row as it is now.
    pub fn after(&self, column: &str) -> &Value {
        &self.0["after"][column]
    }

    /// A column of the row as it was.
    pub fn before(&self, column: &str) -> &Value {
        &self.0["before"][column]
    }
}
