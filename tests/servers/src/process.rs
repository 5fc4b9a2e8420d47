//! A server process and the guardian that ends it when our own process is gone without having said goodbye.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

/// How often a state is looked at that nobody announces: a port that opens, a process that ends.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// The part of a server's log that an error shows.
const LOG_TAIL_BYTES: usize = 3000;

/// A running server. Dropping it kills the server and waits for its end.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    guardian: Child,
}

impl Process {
    /// Starts `command` with its output appended to `log`. `directory` goes too if the guardian has to act.
    pub(crate) fn spawn(command: &mut Command, log: &Path, directory: &Path) -> io::Result<Self> {
        let output = OpenOptions::new().create(true).append(true).open(log)?;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            // Ctrl-C at the terminal is for us to handle, not for the server to die of.
            .process_group(0)
            .spawn()?;
        match guard(child.id(), directory) {
            Ok(guardian) => Ok(Self { child, guardian }),
            Err(error) => {
                end(&mut child);
                Err(error)
            }
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, when it has.
    pub(crate) fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Waits until the process has ended by itself; false when it did not within `limit`.
    pub(crate) async fn wait(&mut self, limit: Duration) -> io::Result<bool> {
        let ended = until(limit, async || self.child.try_wait().transpose());
        ended.await.transpose().map(|status| status.is_some())
    }

    /// SIGSTOP or SIGCONT and their like, by name.
    pub(crate) fn signal(&self, name: &str) -> io::Result<()> {
        let status = Command::new("sh")
            .args(["-c", "kill -\"$1\" \"$2\"", "sh", name])
            .arg(self.id().to_string())
            .status()?;
        if status.success() {
            Ok(())
        } else {
            Err(io::Error::other(format!("signal {name} was not delivered")))
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // First the guardian, so that it never looks at a process id that somebody else has by then.
        end(&mut self.guardian);
        end(&mut self.child);
    }
}

/// Fails only for a process that is gone already, which is what we want.
fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// A shell that reads from a pipe we hold. When we die, however we die, the pipe closes and it cleans up.
fn guard(server: u32, directory: &Path) -> io::Result<Child> {
    Command::new("sh")
        .args(["-c", "read -r line; kill -9 \"$1\"; rm -rf \"$2\"", "sh"])
        .arg(server.to_string())
        .arg(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
}

/// Looks again and again until there is an answer, or `limit` is over.
pub(crate) async fn until<T>(limit: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let looking = async {
        loop {
            if let Some(answer) = look().await {
                return answer;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::time::timeout(limit, looking).await.ok()
}

/// The end of a log file, whole lines.
pub(crate) fn log_tail(log: &Path) -> String {
    let text = fs::read(log).map_or_else(
        |error| format!("(unreadable: {error})"),
        |log| String::from_utf8_lossy(&log).into_owned(),
    );
    let from = text.len().saturating_sub(LOG_TAIL_BYTES);
    let tail = match text.bytes().skip(from).position(|byte| byte == b'\n') {
        Some(line_end) if from > 0 => from + line_end + 1,
        _ => 0,
    };
    text[tail..].to_string()
}
