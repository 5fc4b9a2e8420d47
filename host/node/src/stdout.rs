//! Where consumers' standard output goes: one writer for all subscriptions, a delivery at a time.

use std::io::{self, Write};
use std::sync::Mutex;

/// Takes a delivery's output, whole, before the delivery is committed: after a crash it may come again.
pub trait Stdout: Send + Sync {
    /// Writes and flushes.
    fn write(&self, bytes: &[u8]) -> io::Result<()>;
}

/// The process's own.
pub struct Process;

impl Stdout for Process {
    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let mut out = io::stdout().lock();
        out.write_all(bytes)?;
        out.flush()
    }
}

/// The process's own, but only the first lines.
pub struct Head {
    left: Mutex<usize>,
}

impl Head {
    /// Lets that many lines through.
    pub fn new(lines: usize) -> Head {
        Head { left: Mutex::new(lines) }
    }
}

impl Stdout for Head {
    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let mut left = self.left.lock().expect("no writer panics");
        let mut out = io::stdout().lock();
        for line in bytes.split_inclusive(|b| *b == b'\n').take(*left) {
            out.write_all(line)?;
            *left -= 1;
        }
        out.flush()
    }
}
