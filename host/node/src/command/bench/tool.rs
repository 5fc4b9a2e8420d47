//! Runs another tool to its end and measures its process: time, processor time and memory.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Failure;
use crate::usage::{Usage, peak_rss_of};

/// Between two looks at the tool's memory.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What a tool's process took.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    /// From its start to its end.
    pub wall: Duration,
    /// User and system.
    pub cpu: Duration,
    /// The most memory that was resident at once, in bytes.
    pub peak_rss: u64,
}

/// Runs it without input and output. Fails where it does, under the name that it is called by.
pub async fn run(name: &str, command: &mut Command) -> Result<Taken, Failure> {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let (cpu, started) = (Usage::of_children(), Instant::now());
    let mut tool = command.spawn().map_err(|error| format!("run {name}: {error}"))?;
    let mut peak_rss = 0;
    let status = loop {
        peak_rss = peak_rss_of(tool.id()).unwrap_or_default().max(peak_rss);
        if let Some(status) = tool.try_wait()? {
            break status;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    };
    if !status.success() {
        return Err(format!("{name} ended with {status}").into());
    }
    Ok(Taken { wall: started.elapsed(), cpu: Usage::of_children().saturating_sub(cpu), peak_rss })
}
