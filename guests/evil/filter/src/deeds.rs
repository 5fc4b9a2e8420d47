//! The misdeeds, each by itself.

use std::hint::black_box;

use serde::Deserialize;
use tidemill_guest::host::{self, Level};
use tidemill_guest::{Error, RowError};

/// What the configuration can ask for under `do`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Deed {
    /// `setup` never ends.
    SpinInSetup,
    /// `plan` never ends.
    SpinInPlan,
    /// `keep` never ends.
    Spin,
    /// Takes memory until there is none.
    Memory,
    /// Calls itself without end.
    Recurse,
    /// Panics: the message goes to standard error.
    Panic,
    /// Traps without a word.
    TrapOnCall,
    /// A bitmap of 48 MiB.
    HugeOutput,
    /// A bitmap of one byte, whatever the batch.
    ShortBitmap,
    /// A bitmap one byte too long.
    LongBitmap,
    /// An error message of 48 MiB.
    HugeString,
    /// An error for 100 000 rows, each with the same 1 MiB of text.
    AliasLists,
    /// An error for a row that is not in the batch.
    ErrorRowOutOfRange,
    /// 100 000 lines of log in one call.
    LogFlood,
    /// 100 000 counters in one call.
    CountFlood,
    /// 16 MiB on standard error.
    StderrFlood,
    /// Plans a column that is not there.
    PlanOutOfRange,
    /// Plans the first column twice.
    PlanTwice,
    /// The typed errors.
    ErrorConfig,
    /// `plan` answers `unsupported`.
    ErrorUnsupported,
    /// `keep` answers `retry`.
    ErrorRetry,
    /// `keep` answers `rejected` for row 0.
    ErrorRejected,
    /// `keep` answers `fatal`.
    ErrorFatal,
    /// Tries to read a host file, the environment and the network; tells in `fatal` what it got.
    Snoop,
}

/// More than any batch may answer.
const HUGE_BYTES: usize = 48 << 20;

/// Does it. What ends in an answer gives one that is wrong.
pub fn commit(deed: Deed, count: u32) -> Result<Vec<u8>, Error> {
    let right = (count as usize).div_ceil(8);
    match deed {
        Deed::Spin => spin(),
        Deed::Memory => eat_memory(),
        Deed::Recurse => Ok(vec![recurse(0)]),
        Deed::Panic => panic!("evil-filter was asked to panic"),
        Deed::TrapOnCall => trap(),
        Deed::HugeOutput => Ok(vec![0xff; HUGE_BYTES]),
        Deed::ShortBitmap => Ok(vec![0xff]),
        Deed::LongBitmap => Ok(vec![0xff; right + 1]),
        Deed::HugeString => Err(Error::Fatal("x".repeat(HUGE_BYTES))),
        Deed::AliasLists => Err(Error::Rejected(aliased())),
        Deed::ErrorRowOutOfRange => Err(rejected(count)),
        Deed::LogFlood => flood(|line| host::log(Level::Error, line)),
        Deed::CountFlood => flood(|line| host::count(line, 1)),
        Deed::StderrFlood => flood_stderr(),
        Deed::ErrorRetry => Err(Error::Retry("asked to be called again".to_owned())),
        Deed::ErrorRejected => Err(rejected(0)),
        Deed::ErrorFatal => Err(Error::Fatal("asked to stop the stream".to_owned())),
        Deed::Snoop => Err(Error::Fatal(snoop())),
        Deed::SpinInSetup
        | Deed::SpinInPlan
        | Deed::PlanOutOfRange
        | Deed::PlanTwice
        | Deed::ErrorConfig
        | Deed::ErrorUnsupported => Ok(Vec::new()),
    }
}

/// Never comes back.
pub fn spin() -> ! {
    let mut turns = 0u64;
    loop {
        turns = black_box(turns.wrapping_add(1));
    }
}

fn eat_memory() -> Result<Vec<u8>, Error> {
    let mut eaten = Vec::new();
    loop {
        eaten.push(black_box(vec![1u8; 1 << 20]));
    }
}

fn recurse(depth: u64) -> u8 {
    let frame = black_box([depth as u8; 256]);
    let deeper = if black_box(true) { recurse(depth + 1) } else { 0 };
    frame[depth as usize % 256] ^ deeper
}

fn trap() -> ! {
    #[cfg(target_arch = "wasm32")]
    core::arch::wasm32::unreachable();
    #[cfg(not(target_arch = "wasm32"))]
    std::process::abort();
}

fn rejected(row: u32) -> Error {
    Error::Rejected(vec![RowError { row, message: "asked to reject it".to_owned() }])
}

/// What a Rust guest can do towards aliased lists: many rows with one long text. The strings share
/// one allocation where the allocator cannot tell, which is why they are never freed.
fn aliased() -> Vec<RowError> {
    let text = String::leak("x".repeat(1 << 20));
    let alias = |row| {
        // SAFETY: the text is leaked, so nothing ends its life; the aliases are only read, by the
        // lowering of the answer, and the instance is not called again after the host refuses it.
        let message = unsafe { String::from_raw_parts(text.as_mut_ptr(), text.len(), text.len()) };
        RowError { row, message }
    };
    (0..100_000).map(alias).collect()
}

fn flood(mut line: impl FnMut(&str)) -> Result<Vec<u8>, Error> {
    (0..100_000).for_each(|number| line(&format!("flood {number}")));
    Ok(Vec::new())
}

fn flood_stderr() -> Result<Vec<u8>, Error> {
    let line = "x".repeat(1023);
    (0..16 * 1024).for_each(|_| eprintln!("{line}"));
    Ok(Vec::new())
}

/// A pure guest has none of this: each line tells what it got instead.
fn snoop() -> String {
    let file = std::fs::read_to_string("/etc/passwd").map(|text| text.len());
    let environment = std::env::vars().count();
    let socket = std::net::TcpStream::connect("127.0.0.1:1").map(drop);
    format!("file: {file:?}; environment: {environment} variables; socket: {socket:?}")
}
