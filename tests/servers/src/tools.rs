//! Finds the server programs: runs the script in `tests/` that obtains them, once per process and server family.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Mutex,
};

use crate::{Kind, ServerError};

/// Where the programs of one server family are. `TIDEMILL_TOOLS` names another place than `.tools` of the repository.
#[derive(Clone, Debug)]
pub struct Tools {
    kind: Kind,
    prefix: PathBuf,
}

impl Tools {
    /// Finds the server, and obtains it when it is not there: some seconds and a download, the first time.
    pub fn obtain(kind: Kind) -> Result<Self, ServerError> {
        // One at a time: the first caller downloads, the others then find it.
        static OBTAINED: Mutex<Vec<Kind>> = Mutex::new(Vec::new());
        let mut obtained = OBTAINED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let root = env::var_os("TIDEMILL_TOOLS").map_or_else(|| scripts.join("../.tools"), PathBuf::from);
        let tools = Self { kind, prefix: root.join(kind.folder()) };
        if !obtained.contains(&kind) {
            run_script(kind, &scripts.join(format!("get-{}.sh", kind.folder())), &tools.prefix)?;
            obtained.push(kind);
        }
        Ok(tools)
    }

    /// The server program.
    pub fn server(&self) -> PathBuf {
        self.program(match self.kind {
            Kind::MySql => "mysqld",
            Kind::MariaDb | Kind::MariaDb118 => "mariadbd",
        })
    }

    /// A program that came with the server, such as `mysqlbinlog`.
    pub fn program(&self, name: &str) -> PathBuf {
        self.prefix.join("bin").join(name)
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn prefix(&self) -> &Path {
        &self.prefix
    }
}

/// What the script says while it works goes to our standard error; its last sentence is the error's.
fn run_script(kind: Kind, script: &Path, prefix: &Path) -> Result<(), ServerError> {
    let output = Command::new(script)
        .env("PREFIX", prefix)
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .stderr(Stdio::piped())
        .output()
        .map_err(|source| ServerError::Tools {
            kind,
            message: format!(
                "{} does not run: {source}; start from a checkout of the repository",
                script.display()
            ),
        })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let sentence = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it failed and said nothing");
    Err(ServerError::Tools { kind, message: sentence.to_string() })
}
