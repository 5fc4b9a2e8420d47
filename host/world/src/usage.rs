//! What this process has used, as the kernel tells it. Linux only; elsewhere the figures are zero.

use std::path::Path;
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
        let cpu = ticks("self", [11, 12]);
        let peak_rss = peak_rss(Path::new("/proc/self/status"));
        Usage { cpu: cpu.unwrap_or_default(), peak_rss: peak_rss.unwrap_or_default() }
    }

    /// Processor time of the child processes that have ended.
    pub fn of_children() -> Duration {
        ticks("self", [13, 14]).unwrap_or_default()
    }

    /// Counts the peak from what is resident now. Where the kernel does not allow it, the peak stays the process's.
    pub fn forget_peak() {
        let _ = std::fs::write("/proc/self/clear_refs", "5");
    }
}

/// Processor time of the calling thread alone, user and system.
pub fn thread_cpu() -> Duration {
    let schedule = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let first = schedule.and_then(|text| text.split_whitespace().next()?.parse().ok());
    Duration::from_nanos(first.unwrap_or_default())
}

/// The most memory that another process had resident at once, in bytes; `None` where it has ended.
pub fn peak_rss_of(process: u32) -> Option<u64> {
    peak_rss(&Path::new("/proc").join(process.to_string()).join("status"))
}

/// Processor time of another process, user and system; `None` where it has ended.
pub fn cpu_of(process: u32) -> Option<Duration> {
    ticks(&process.to_string(), [11, 12])
}

/// Two fields of a process's `stat` together; they are counted behind the name's closing bracket.
fn ticks(process: &str, fields: [usize; 2]) -> Option<Duration> {
    let stat = std::fs::read_to_string(Path::new("/proc").join(process).join("stat")).ok()?;
    let all: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |at: usize| all.get(at)?.parse::<u64>().ok();
    Some(Duration::from_millis((number(fields[0])? + number(fields[1])?) * 1000 / TICKS))
}

/// The memory that is resident now, in bytes.
pub fn rss() -> u64 {
    memory(Path::new("/proc/self/status"), "VmRSS:").unwrap_or_default()
}

fn peak_rss(status: &Path) -> Option<u64> {
    memory(status, "VmHWM:")
}

fn memory(status: &Path, which: &str) -> Option<u64> {
    let status = std::fs::read_to_string(status).ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix(which))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::{Usage, peak_rss_of, thread_cpu};

    #[test]
    fn a_running_process_has_used_memory() {
        assert!(Usage::now().peak_rss > 1 << 20);
    }

    #[test]
    fn a_thread_that_runs_has_used_time() {
        // The kernel accounts from time to time: a new thread reads zero at first.
        while thread_cpu().is_zero() {
            std::hint::spin_loop();
        }
    }

    #[test]
    fn another_process_is_told_from_none() {
        assert!(peak_rss_of(std::process::id()).is_some());
        assert_eq!(peak_rss_of(u32::MAX), None);
    }
}
