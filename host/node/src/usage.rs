//! What this process has used, as the kernel tells it. Linux only; elsewhere the figures are zero.

use std::time::Duration;

/// Figures since the process began.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Processor time of all threads, user and system.
    pub cpu: Duration,
    /// The most memory that was resident at once, in bytes.
    pub peak_rss: u64,
}

/// Kernel ticks a second; Linux has it fixed for user space.
const TICKS: u64 = 100;

impl Usage {
    /// The figures now.
    pub fn now() -> Usage {
        let cpu = ticks();
        Usage { cpu: cpu.unwrap_or_default(), peak_rss: peak_rss().unwrap_or_default() }
    }
}

/// User and system time from `/proc/self/stat`; the fields are counted behind the name's closing bracket.
fn ticks() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(Duration::from_millis((number(11)? + number(12)?) * 1000 / TICKS))
}

fn peak_rss() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::Usage;

    #[test]
    fn a_running_process_has_used_memory() {
        assert!(Usage::now().peak_rss > 1 << 20);
    }
}
