//! Finds the programs of the stand-ins: runs the script in `tests/` that obtains them, once per process and program.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use crate::StandInError;

/// The Python that has the packages of that group; the groups are the files in `tests/python`.
pub fn python(group: &str) -> Result<PathBuf, StandInError> {
    Ok(obtain("python", &[group])?.join("bin/python"))
}

/// The home of a Java that Spark runs on.
pub fn java() -> Result<PathBuf, StandInError> {
    obtain("java", &[])
}

/// The directory of a program, obtained when it is not there: some seconds and a download, the first time.
/// `TIDEMILL_TOOLS` names another place than `.tools` of the repository.
pub(crate) fn obtain(name: &'static str, arguments: &[&str]) -> Result<PathBuf, StandInError> {
    // One at a time: the first caller downloads, the others then find it.
    static OBTAINED: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let mut obtained = OBTAINED.lock().unwrap_or_else(PoisonError::into_inner);
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let root = env::var_os("TIDEMILL_TOOLS").map_or_else(|| tests.join("../.tools"), PathBuf::from);
    let prefix = root.join(name);
    let what = format!("{name} {}", arguments.join(" "));
    if !obtained.contains(&what) {
        run_script(name, &tests.join(format!("get-{name}.sh")), arguments, &prefix)?;
        obtained.push(what);
    }
    Ok(prefix)
}

/// What the script says while it works goes to our standard error; its last sentence is the error's.
fn run_script(
    name: &'static str,
    script: &Path,
    arguments: &[&str],
    prefix: &Path,
) -> Result<(), StandInError> {
    let output = Command::new(script)
        .args(arguments)
        .env("PREFIX", prefix)
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .stderr(Stdio::piped())
        .output()
        .map_err(StandInError::io(name, "run the script"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let sentence = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it failed and said nothing");
    Err(StandInError::Tools(sentence.to_owned()))
}
