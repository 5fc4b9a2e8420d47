//! From a request for changes to [`Asked`]: what each parameter means, and what of it the caller may see. Whether the
//! relay still has what is asked for, the answer finds out.

mod parameters;
mod part;
mod select;

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, header};
use tidemill_event::{Checkpoint, Position, Scn};

use super::caller::Caller;
use super::time;
use crate::answer::{Encoding, SnapshotWanted};
use crate::asked::{Asked, Begin, Format, Selection};
use crate::problem::{Code, Problem};
use crate::served::Guests;
use crate::snapshots::SnapshotPath;

pub(crate) use parameters::{Parameters, bad, shown};
pub(crate) use select::Known;

/// Every parameter that there is.
pub(crate) const PARAMETERS: [&str; 13] = [
    "from",
    "checkpoint",
    "tables",
    "columns",
    "where",
    "partition",
    "filter",
    "projection",
    "format",
    "follow",
    "bytes",
    "heartbeat",
    "name",
];

/// Every parameter of a snapshot or of deltas.
pub(crate) const SNAPSHOT_PARAMETERS: [&str; 11] = [
    "checkpoint",
    "tables",
    "columns",
    "where",
    "partition",
    "filter",
    "projection",
    "format",
    "path",
    "bytes",
    "name",
];

/// Where a browser's `EventSource` says what it saw last.
const LAST_EVENT_ID: &str = "last-event-id";

/// A sign of life, in seconds: the bounds and the default. A minute is less than what stands between a client and a relay
/// usually keeps a silent connection.
const HEARTBEAT: (std::ops::RangeInclusive<u64>, u64) = (1..=60, 5);

/// Longest name that a subscriber may give itself.
const NAME_BYTES_MAX: usize = 64;

/// A request that can be answered.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) asked: Asked,
    pub(crate) encoding: Encoding,
    /// The name that the subscriber gives itself, or nothing.
    pub(crate) name: String,
    /// Where it begins, as it said: for the log.
    pub(crate) from: String,
}

/// Reads the parameters.
pub(crate) fn read(
    mut parameters: Parameters,
    headers: &HeaderMap,
    caller: &Caller,
    guests: &dyn Guests,
) -> Result<Request, Problem> {
    let take = &mut parameters;
    let format = format(take.take("format"), headers)?;
    let follow = flag("follow", take.take("follow"), format != Format::Arrow)?;
    let (begin, from) = begin(take.take("from"), take.take("checkpoint"), headers, format, follow)?;
    let heartbeat = take.take("heartbeat").map(|text| number("heartbeat", &text, HEARTBEAT.0)).transpose()?;
    let Common { selection, bytes_max, name, subscriber } = Common::read(take, caller, guests)?;
    parameters.finish(&PARAMETERS)?;
    let heartbeat = Duration::from_secs(heartbeat.unwrap_or(HEARTBEAT.1));
    let asked = Asked { begin, selection, format, follow, bytes_max, heartbeat, subscriber };
    Ok(Request { asked, encoding: encoding(headers), name, from })
}

/// What the stream and snapshots are asked for alike.
struct Common {
    selection: Selection,
    bytes_max: Option<u64>,
    /// The name that the subscriber gives itself, or nothing.
    name: String,
    /// What it is called here.
    subscriber: String,
}

impl Common {
    fn read(take: &mut Parameters, caller: &Caller, guests: &dyn Guests) -> Result<Common, Problem> {
        let selection = select::selection(take, &Known { caller, guests })?;
        let bytes_max = take.take("bytes").map(|text| number("bytes", &text, 1..=u64::MAX)).transpose()?;
        let name = name(take.take("name"))?;
        let subscriber = subscriber(caller, &name);
        Ok(Common { selection, bytes_max, name, subscriber })
    }
}

/// A request for a snapshot or deltas that can be answered.
#[derive(Debug)]
pub(crate) struct SnapshotRequest {
    pub(crate) wanted: SnapshotWanted,
    pub(crate) encoding: Encoding,
    /// The name that the subscriber gives itself, or nothing.
    pub(crate) name: String,
}

/// Reads the parameters of a request for a snapshot or deltas.
pub(crate) fn read_snapshot(
    mut parameters: Parameters,
    headers: &HeaderMap,
    caller: &Caller,
    guests: &dyn Guests,
) -> Result<SnapshotRequest, Problem> {
    let take = &mut parameters;
    let format = match format(take.take("format"), headers)? {
        Format::Events => {
            return Err(bad("a snapshot has no server-sent events; give frames, arrow or json as `format`"));
        }
        format => format,
    };
    let have = take.take("checkpoint").map(|text| decode_checkpoint(&text)).transpose()?;
    let path = match take.take("path").as_deref() {
        None | Some("auto") => SnapshotPath::Auto,
        Some("whole") => SnapshotPath::Whole,
        Some("deltas") => SnapshotPath::Deltas,
        Some(other) => {
            return Err(bad(format!("`path` cannot be \"{}\"; give auto, whole or deltas", shown(other))));
        }
    };
    let Common { selection, bytes_max, name, subscriber } = Common::read(take, caller, guests)?;
    parameters.finish(&SNAPSHOT_PARAMETERS)?;
    let wanted = SnapshotWanted { have, selection, path, format, bytes_max, subscriber };
    Ok(SnapshotRequest { wanted, encoding: encoding(headers), name })
}

/// What metrics call it.
fn subscriber(caller: &Caller, name: &str) -> String {
    if name.is_empty() { caller.name().to_owned() } else { format!("{}/{name}", caller.name()) }
}

/// Where it begins. What a browser says that it saw last counts before what its page asked for at first.
fn begin(
    from: Option<String>,
    checkpoint: Option<String>,
    headers: &HeaderMap,
    format: Format,
    follow: bool,
) -> Result<(Begin, String), Problem> {
    let seen = headers.get(LAST_EVENT_ID).filter(|_| format == Format::Events);
    if let Some(seen) = seen.filter(|seen| !seen.is_empty()) {
        let checkpoint = decode_checkpoint(seen.to_str().unwrap_or_default())?;
        return Ok((Begin::At(Box::new(checkpoint)), "checkpoint".to_owned()));
    }
    match (from, checkpoint) {
        (Some(_), Some(_)) => Err(bad("`from` and `checkpoint` are both given; give the one to begin at")),
        (None, Some(text)) => Ok((Begin::At(Box::new(decode_checkpoint(&text)?)), "checkpoint".to_owned())),
        (Some(text), None) => Ok((begin_of(&text)?, shown(&text))),
        (None, None) if follow => Ok((Begin::Now, "now".to_owned())),
        (None, None) => Ok((Begin::Earliest, "earliest".to_owned())),
    }
}

fn begin_of(text: &str) -> Result<Begin, Problem> {
    let unreadable = || {
        bad(format!(
            "`from` cannot be \"{}\"; give `earliest`, `now`, `time:2026-11-20T08:00:00Z` or `position:TIMELINE/SCN`",
            shown(text)
        ))
    };
    match text.split_once(':') {
        None if text == "earliest" => Ok(Begin::Earliest),
        None if text == "now" => Ok(Begin::Now),
        Some(("time", time)) => time::parse(time).map(Begin::Time).ok_or_else(unreadable),
        Some(("position", position)) => parse_position(position).map(Begin::After).ok_or_else(unreadable),
        _ => Err(unreadable()),
    }
}

/// A position from its text form.
fn parse_position(text: &str) -> Option<Position> {
    let (timeline, scn) = text.split_once('/')?;
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let sound = is_number(timeline) && is_number(scn);
    sound.then_some(Position { timeline: timeline.parse().ok()?, scn: Scn(scn.parse().ok()?) })
}

fn decode_checkpoint(text: &str) -> Result<Checkpoint, Problem> {
    let unreadable = |why: &str| {
        let detail = format!(
            "the checkpoint cannot be read: {why}; send it as it was given, or begin anew with `from=earliest`"
        );
        Problem::new(Code::BadCheckpoint, detail)
    };
    let record =
        URL_SAFE_NO_PAD.decode(text).map_err(|_| unreadable("it is not base64url without padding"))?;
    Checkpoint::decode(&record).map_err(|error| unreadable(&error.to_string()))
}

/// A checkpoint in its text form.
pub(crate) fn encode_checkpoint(checkpoint: &Checkpoint) -> String {
    URL_SAFE_NO_PAD.encode(checkpoint.encode())
}

/// The parameter decides, then the `Accept` header's dearest wish among what there is, then it is JSON.
fn format(parameter: Option<String>, headers: &HeaderMap) -> Result<Format, Problem> {
    const ALL: [(&str, Format); 4] = [
        ("frames", Format::Frames),
        ("arrow", Format::Arrow),
        ("json", Format::Json),
        ("events", Format::Events),
    ];
    let Some(text) = parameter else {
        let types = ALL.map(|(_, format)| (format.content_type(), format));
        return Ok(preferred(headers, header::ACCEPT, &types).unwrap_or(Format::Json));
    };
    let found = ALL.iter().find(|(name, _)| *name == text).map(|(_, format)| *format);
    found.ok_or_else(|| {
        bad(format!("`format` cannot be \"{}\"; give frames, arrow, json or events", shown(&text)))
    })
}

/// What the asker can unpack, the best of it first.
fn encoding(headers: &HeaderMap) -> Encoding {
    const ALL: [(&str, Encoding); 3] =
        [("zstd", Encoding::Zstd), ("gzip", Encoding::Gzip), ("identity", Encoding::Identity)];
    preferred(headers, header::ACCEPT_ENCODING, &ALL).unwrap_or_default()
}

/// The one of the values that the header wants most; among equals ours come in our order. Wildcards choose nothing: then
/// the default is it.
fn preferred<T: Copy>(headers: &HeaderMap, name: header::HeaderName, ours: &[(&str, T)]) -> Option<T> {
    let mut best: Option<(f32, usize)> = None;
    let texts = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    for item in texts.flat_map(|text| text.split(',')) {
        let mut parts = item.split(';').map(str::trim);
        let wanted = parts.next().unwrap_or_default();
        let weight = parts.find_map(|part| part.strip_prefix("q=")).map_or(Some(1.0), |q| q.parse().ok());
        let place = ours.iter().position(|(text, _)| text.eq_ignore_ascii_case(wanted));
        let (Some(weight), Some(place)) = (weight.filter(|weight: &f32| *weight > 0.0), place) else {
            continue;
        };
        if best.is_none_or(|(other, at)| weight > other || (weight == other && place < at)) {
            best = Some((weight, place));
        }
    }
    best.map(|(_, place)| ours[place].1)
}

fn flag(name: &str, text: Option<String>, default: bool) -> Result<bool, Problem> {
    match text.as_deref() {
        None => Ok(default),
        Some("true") => Ok(true),
        Some("false") => Ok(false),
        Some(other) => Err(bad(format!("`{name}` cannot be \"{}\"; give true or false", shown(other)))),
    }
}

fn number(name: &str, text: &str, range: std::ops::RangeInclusive<u64>) -> Result<u64, Problem> {
    let found = text.parse().ok().filter(|number| range.contains(number));
    found.ok_or_else(|| {
        let (least, most) = (range.start(), range.end());
        bad(format!("`{name}` cannot be \"{}\"; give a number from {least} to {most}", shown(text)))
    })
}

fn name(text: Option<String>) -> Result<String, Problem> {
    let Some(text) = text else { return Ok(String::new()) };
    let fits = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
    match (1..=NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(fits) {
        true => Ok(text),
        false => Err(bad(format!(
            "`name` cannot be \"{}\"; give up to {NAME_BYTES_MAX} of a-z, 0-9, - and _",
            shown(&text)
        ))),
    }
}

#[cfg(test)]
mod tests;
