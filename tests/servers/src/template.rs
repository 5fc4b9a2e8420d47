//! A data directory initialised once per server family and copied for every server, because initialising takes seconds and copying does not.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use crate::{Kind, ServerError, Tools};

/// Part of the template's name: raise it when what is initialised changes.
const TEMPLATE_VERSION: u32 = 1;

/// Fills `target`, which does not exist yet, with a fresh data directory: root@localhost without a password, and nobody else.
pub(crate) fn copy_to(tools: &Tools, target: &Path) -> Result<(), ServerError> {
    let template = ensure(tools)?;
    copy_directory(&template, target).map_err(ServerError::io("copy the data directory template to", target))
}

/// Other processes may want the same template at the same moment: the lock makes one of them build it.
fn ensure(tools: &Tools) -> Result<PathBuf, ServerError> {
    let template = tools.prefix().join(format!("template-{TEMPLATE_VERSION}"));
    let lock_path = tools.prefix().join(".template.lock");
    let lock = File::create(&lock_path).map_err(ServerError::io("create", &lock_path))?;
    lock.lock().map_err(ServerError::io("lock", &lock_path))?;
    if template.exists() {
        return Ok(template);
    }
    let part = template.with_extension("part");
    if part.exists() {
        fs::remove_dir_all(&part).map_err(ServerError::io("remove", &part))?;
    }
    initialise(tools, &part)?;
    fs::rename(&part, &template).map_err(ServerError::io("name", &template))?;
    Ok(template)
}

fn initialise(tools: &Tools, directory: &Path) -> Result<(), ServerError> {
    let mut command = match tools.kind() {
        Kind::MySql => {
            let mut command = Command::new(tools.server());
            command.arg("--initialize-insecure").arg(format!("--datadir={}", directory.display()));
            command.arg("--innodb-redo-log-capacity=8M");
            command
        }
        Kind::MariaDb | Kind::MariaDb118 => {
            let mut command = Command::new(tools.program("mariadb-initialize"));
            command.arg(directory).arg("--innodb-log-file-size=8M");
            command
        }
    };
    command.args(run_as());
    let Output { status, stderr, .. } =
        command.stdin(Stdio::null()).output().map_err(ServerError::io("run", tools.server()))?;
    if status.success() {
        return Ok(());
    }
    Err(ServerError::Start {
        kind: tools.kind(),
        reason: format!("initialising {} ended with {status}", directory.display()),
        log: String::from_utf8_lossy(&stderr).into_owned(),
    })
}

/// The servers refuse to run as root unless told to.
pub(crate) fn run_as() -> Option<&'static str> {
    use std::os::unix::fs::MetadataExt;
    let user = fs::metadata("/proc/self").map(|process| process.uid());
    matches!(user, Ok(0)).then_some("--user=root")
}

/// `auto.cnf` holds MySQL's server_uuid: without it each copy makes its own.
fn copy_directory(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_directory(&entry.path(), &target)?;
        } else if entry.file_name() != "auto.cnf" {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
