//! What is written to a relay: paths and parameters, in the words of its interface.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Method;
use serde_json::{Map, Value};
use tidemill_event::Checkpoint;
use tidemill_event::calendar::date_of;

use super::connection::{FRAMES, Question};
use super::options::{RelayOptions, Selection};
use super::place::Start;

/// The path of a source.
pub(crate) fn source_path(source: &str) -> String {
    format!("/v1/sources/{}", segment(source))
}

/// A name as a part of a path, encoded.
pub(crate) fn segment(name: &str) -> String {
    let mut path = String::new();
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                path.push(char::from(byte))
            }
            other => path.push_str(&format!("%{other:02X}")),
        }
    }
    path
}

/// The request for changes. Its parameters are in a body, since a checkpoint with many GTIDs is longer than a URL may be.
pub(crate) fn changes(options: &RelayOptions, start: &Start) -> Question {
    let mut body = Map::new();
    let mut say = |name: &str, value: Value| drop(body.insert(name.to_owned(), value));
    match start {
        Start::Earliest => say("from", "earliest".into()),
        Start::Now => say("from", "now".into()),
        Start::Time(us) => say("from", format!("time:{}", rfc3339(*us)).into()),
        Start::After(position) => say("from", format!("position:{position}").into()),
        Start::At(checkpoint) => say("checkpoint", URL_SAFE_NO_PAD.encode(checkpoint.encode()).into()),
    }
    say("follow", true.into());
    say("heartbeat", options.heartbeat.as_secs().max(1).into());
    question("changes", options, body)
}

/// The request for a snapshot, or for what changed since a checkpoint.
pub(crate) fn snapshot(options: &RelayOptions, have: Option<&Checkpoint>) -> Question {
    let mut body = Map::new();
    if let Some(checkpoint) = have {
        body.insert("checkpoint".to_owned(), URL_SAFE_NO_PAD.encode(checkpoint.encode()).into());
    }
    question("bootstrap", options, body)
}

/// What both have in common: who asks, what is seen of the source, and in which form.
fn question(what: &str, options: &RelayOptions, mut body: Map<String, Value>) -> Question {
    let mut say = |name: &str, value: Value| drop(body.insert(name.to_owned(), value));
    say("format", "frames".into());
    options.name.iter().for_each(|name| say("name", name.as_str().into()));
    let Selection { tables, columns, predicates, partition, filters, projections } = &options.selection;
    let columns: Vec<String> = columns.iter().map(|(t, c)| format!("{t}:{}", c.join("+"))).collect();
    for (name, list) in
        [("tables", tables), ("columns", &columns), ("filter", filters), ("projection", projections)]
    {
        if !list.is_empty() {
            say(name, list.join(",").into());
        }
    }
    let predicates: Vec<String> = predicates.iter().map(|(t, p)| format!("{t}: {p}")).collect();
    if !predicates.is_empty() {
        say("where", predicates.join("; ").into());
    }
    partition.iter().for_each(|partition| say("partition", partition.as_str().into()));
    Question {
        method: Method::POST,
        path: format!("{}/{what}", source_path(&options.source)),
        accept: FRAMES,
        compressed: options.compressed,
        body: Value::Object(body).to_string(),
    }
}

/// A time, microseconds since 1970-01-01 UTC, as RFC 3339 writes it.
fn rfc3339(us: i64) -> String {
    const DAY: i64 = 86_400_000_000;
    let (days, of_day) = (us.div_euclid(DAY), us.rem_euclid(DAY));
    let (seconds, micros) = (of_day / 1_000_000, of_day % 1_000_000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let (year, month, day) = date_of(days);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_people_write_them() {
        for (us, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_827_696_000_001, "2000-02-29T12:34:56.000001Z"),
            (1_763_625_600_000_000, "2025-11-20T08:00:00.000000Z"),
            (-1, "1969-12-31T23:59:59.999999Z"),
        ] {
            assert_eq!(rfc3339(us), text);
        }
    }

    #[test]
    fn a_request_says_what_is_wanted_and_no_secret() {
        let mut options = RelayOptions::new("shöp/1", ["http://localhost:1"]);
        options.token = Some(super::super::Token::new("canary"));
        options.selection.tables = vec!["shop.orders".into(), "bank.*".into()];
        options.selection.columns.insert("shop.orders".into(), vec!["id".into(), "note".into()]);
        options.selection.partition = Some("hash:0/4".into());
        options.selection.predicates.insert("shop.orders".into(), "total >= 100 and note = 'a;b'".into());
        let question = changes(&options, &Start::Now);
        assert_eq!(question.path, "/v1/sources/sh%C3%B6p%2F1/changes");
        assert_eq!(
            question.body,
            r#"{"columns":"shop.orders:id+note","follow":true,"format":"frames","from":"now","heartbeat":5,"partition":"hash:0/4","tables":"shop.orders,bank.*","where":"shop.orders: total >= 100 and note = 'a;b'"}"#
        );
    }
}
