//! Human units: sizes, durations, and where to start.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use tidemill_event::calendar::days_of;
use tidemill_event::{Position, Scn};

/// A size: `64 MiB`, `10GiB`, `1500 kB`, `4096 B`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Bytes(pub u64);

/// A duration: `500 ms`, `1s`, `15 min`, `12 h`, `7 days`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Time(pub Duration);

/// Where to begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Start {
    /// With the oldest there is.
    #[default]
    Earliest,
    /// With what commits from now on.
    Now,
    /// With the first transaction that committed at that time or later: microseconds since 1970-01-01 UTC.
    Time(i64),
    /// After that position.
    Position(Position),
    /// With a snapshot, then with what follows it. Whoever has fallen behind so far that the log no longer has what follows
    /// gets what changed since then.
    Snapshot,
    /// With a copy of the source's tables, made for this one alone, then with what follows it.
    Copy,
}

fn split(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..digits].parse().ok()?, text[digits..].trim()))
}

impl TryFrom<String> for Bytes {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong =
            || format!("`{text}` is no size; write a number and B, kB, MB, GB, KiB, MiB or GiB: \"64 MiB\"");
        let (number, unit) = split(&text).ok_or_else(wrong)?;
        let factor: u64 = match unit {
            "B" => 1,
            "kB" => 1000,
            "MB" => 1000 * 1000,
            "GB" => 1000 * 1000 * 1000,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return Err(wrong()),
        };
        number.checked_mul(factor).map(Bytes).ok_or_else(wrong)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(1u64 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        match units.into_iter().find(|(size, _)| self.0 >= *size) {
            Some((size, unit)) => write!(f, "{:.1} {unit}", self.0 as f64 / size as f64),
            None => write!(f, "{} B", self.0),
        }
    }
}

impl TryFrom<String> for Time {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong =
            || format!("`{text}` is no duration; write a number and ms, s, min, h or days: \"7 days\"");
        let (number, unit) = split(&text).ok_or_else(wrong)?;
        let ms: u64 = match unit {
            "ms" => 1,
            "s" => 1000,
            "min" | "minute" | "minutes" => 60 * 1000,
            "h" => 60 * 60 * 1000,
            "day" | "days" | "d" => 24 * 60 * 60 * 1000,
            _ => return Err(wrong()),
        };
        number.checked_mul(ms).map(|ms| Time(Duration::from_millis(ms))).ok_or_else(wrong)
    }
}

impl TryFrom<String> for Start {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is no start; write earliest, now, time:2026-11-20T08:00:00Z (UTC), position:TIMELINE/SCN, snapshot or copy"
            )
        };
        match text.split_once(':') {
            None if text == "earliest" => Ok(Start::Earliest),
            None if text == "now" => Ok(Start::Now),
            None if text == "snapshot" => Ok(Start::Snapshot),
            None if text == "copy" => Ok(Start::Copy),
            Some(("time", time)) => parse_utc(time).map(Start::Time).ok_or_else(wrong),
            Some(("position", position)) => {
                let (timeline, scn) = position.split_once('/').ok_or_else(wrong)?;
                let timeline = timeline.parse().map_err(|_| wrong())?;
                let scn = scn.parse().map(Scn).map_err(|_| wrong())?;
                Ok(Start::Position(Position { timeline, scn }))
            }
            _ => Err(wrong()),
        }
    }
}

/// Microseconds since 1970-01-01 of `YYYY-MM-DDThh:mm:ss[.ffffff]Z`.
fn parse_utc(text: &str) -> Option<i64> {
    let parsed: toml::value::Datetime = text.parse().ok()?;
    let (date, time) = (parsed.date?, parsed.time?);
    if !matches!(parsed.offset, Some(toml::value::Offset::Z)) {
        return None;
    }
    let days = days_of(i64::from(date.year), u32::from(date.month), u32::from(date.day))?;
    let seconds =
        i64::from(time.hour) * 3600 + i64::from(time.minute) * 60 + i64::from(time.second.unwrap_or(0));
    Some((days * 86_400 + seconds) * 1_000_000 + i64::from(time.nanosecond.unwrap_or(0) / 1000))
}
