//! What requests mean, and what of them is refused.

use std::error::Error;

use http::{HeaderMap, HeaderName};
use tidemill_event::{Phase, TableName};
use tidemill_sandbox::{FilterStage, ProjectionStage};

use super::*;
use crate::asked::{Selection, TablePattern};
use crate::grant::{Credential, Grant};
use crate::server::caller::Guard;

struct Registered;

type Opened<T> = Result<T, Box<dyn Error + Send + Sync>>;

impl Guests for Registered {
    fn filters(&self) -> Vec<String> {
        vec!["paid".to_owned()]
    }
    fn projections(&self) -> Vec<String> {
        vec!["masked".to_owned()]
    }
    fn filter(&self, _: &str, _: &str) -> Opened<FilterStage> {
        Err("not asked for here".into())
    }
    fn projection(&self, _: &str, _: &str) -> Opened<ProjectionStage> {
        Err("not asked for here".into())
    }
    fn partition(&self, _: &str, _: &str) -> Opened<FilterStage> {
        Err("not asked for here".into())
    }
}

fn headers(all: &[(&'static str, &str)]) -> HeaderMap {
    all.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
}

/// Somebody who may read those tables; none: all.
fn caller(tables: &[&str]) -> Caller {
    let grant = Grant {
        name: "reports".to_owned(),
        credential: Credential::token("s3cret"),
        sources: vec!["shop".to_owned()],
        tables: tables.iter().map(|text| TablePattern::parse(text).unwrap()).collect(),
        admin: false,
        metrics: false,
    };
    Guard::new(vec![grant]).caller(&headers(&[("authorization", "Bearer s3cret")]), &[]).unwrap()
}

fn ask_as(tables: &[&str], query: &str, all: &[(&'static str, &str)]) -> Result<Request, Problem> {
    let mut parameters = Parameters::default();
    parameters.add_query(query)?;
    read(parameters, &headers(all), &caller(tables), &Registered)
}

#[track_caller]
fn ask(query: &str) -> Request {
    ask_as(&[], query, &[]).unwrap()
}

#[track_caller]
fn check_refused(query: &str, code: Code) {
    let problem = ask_as(&[], query, &[]).unwrap_err();
    assert_eq!(problem.code, code, "{query}: {problem}");
}

fn checkpoint() -> Checkpoint {
    Checkpoint {
        source: "shop".into(),
        server: "server-1".into(),
        position: Position { timeline: 1, scn: Scn(40) },
        gtid_set: "server-1:1-40".into(),
        phase: Phase::Stream,
    }
}

#[test]
fn b40_nothing_asked_for_is_everything_from_now_on_as_json() {
    let Request { asked, encoding, from, .. } = ask("");
    assert!(asked.selection.is_all() && asked.follow && asked.bytes_max.is_none());
    assert_eq!((asked.begin, asked.format, encoding), (Begin::Now, Format::Json, Encoding::Identity));
    assert_eq!((asked.heartbeat, &*asked.subscriber, &*from), (Duration::from_secs(5), "reports", "now"));
    assert_eq!(ask("follow=false").asked.begin, Begin::Earliest);
    assert!(!ask("format=arrow").asked.follow);
}

#[test]
fn b40_a_beginning_is_the_earliest_now_a_time_a_position_or_a_checkpoint() {
    assert_eq!(ask("from=earliest").asked.begin, Begin::Earliest);
    assert_eq!(ask("from=now&follow=false").asked.begin, Begin::Now);
    assert_eq!(ask("from=time:1970-01-01T01:00:01+01:00").asked.begin, Begin::Time(1_000_000));
    let position = Position { timeline: 2, scn: Scn(1234) };
    assert_eq!(ask("from=position:2/1234").asked.begin, Begin::After(position));
    let text = encode_checkpoint(&checkpoint());
    assert_eq!(ask(&format!("checkpoint={text}")).asked.begin, Begin::At(Box::new(checkpoint())));
    for text in
        ["", "later", "time:", "time:yesterday", "position:1", "position:a/1", "position:+1/2", "earliest:"]
    {
        check_refused(&format!("from={text}"), Code::BadParameter);
    }
    check_refused(&format!("from=now&checkpoint={text}"), Code::BadParameter);
}

#[test]
fn a_browser_goes_on_after_what_it_saw_last_wherever_its_page_began() {
    let seen = encode_checkpoint(&checkpoint());
    let last = [("last-event-id", seen.as_str())];
    let begin = |query: &str| ask_as(&[], query, &last).unwrap().asked.begin;
    assert_eq!(begin("format=events&from=earliest"), Begin::At(Box::new(checkpoint())));
    assert_eq!(begin("format=json&from=earliest"), Begin::Earliest, "only where events are");
    let broken = ask_as(&[], "format=events", &[("last-event-id", "what")]).unwrap_err();
    assert_eq!(broken.code, Code::BadCheckpoint);
}

#[test]
fn b12_a_damaged_checkpoint_is_refused_and_never_a_new_beginning() {
    let whole = encode_checkpoint(&checkpoint());
    for length in 0..whole.len() {
        check_refused(&format!("checkpoint={}", &whole[..length]), Code::BadCheckpoint);
    }
    check_refused(&format!("checkpoint={whole}="), Code::BadCheckpoint);
}

#[test]
fn the_format_is_the_parameter_or_what_the_header_wants_most() {
    let by = |accept: &str| ask_as(&[], "", &[("accept", accept)]).unwrap().asked.format;
    assert_eq!(by("text/event-stream"), Format::Events);
    assert_eq!(by("*/*"), Format::Json);
    assert_eq!(
        by("text/html, application/vnd.apache.arrow.stream;q=0.8, text/event-stream;q=0.4"),
        Format::Arrow
    );
    let both = ask_as(&[], "format=frames", &[("accept", "text/event-stream")]).unwrap();
    assert_eq!(both.asked.format, Format::Frames);
    check_refused("format=csv", Code::BadParameter);
    let packed = |accept: &str| ask_as(&[], "", &[("accept-encoding", accept)]).unwrap().encoding;
    assert_eq!(packed("gzip, deflate, br, zstd"), Encoding::Zstd);
    assert_eq!(packed("gzip, zstd;q=0.5"), Encoding::Gzip);
    assert_eq!(packed("zstd;q=0, br"), Encoding::Identity);
}

#[test]
fn tables_and_columns_are_read_in_one_order() {
    let selection = ask("tables=shop.parts,shop.orders&columns=shop.orders:note+id+note").asked.selection;
    let names: Vec<String> = selection.tables.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["shop.orders", "shop.parts"]);
    let columns = vec!["id".to_owned(), "note".to_owned()];
    assert_eq!(selection.columns, [(TableName::new("shop", "orders"), columns)]);
    assert!(ask("tables=shop.orders,*.*").asked.selection.is_all());
    check_refused("tables=orders", Code::BadParameter);
    check_refused("tables=", Code::BadParameter);
    check_refused("columns=shop.*:id", Code::BadParameter);
    check_refused("columns=shop.orders:id,shop.orders:note", Code::BadParameter);
    check_refused("tables=shop.parts&columns=shop.orders:id", Code::BadParameter);
    assert!(!ask("tables=later.*,new.*").asked.selection.is_all());
}

#[test]
fn predicates_are_read_in_one_order_and_only_of_tables_that_are_asked_for() {
    let text = "shop.parts: b = 2; shop.orders: total > 1 and id = 7 and total > 1";
    let selection = ask(&format!("where={text}")).asked.selection;
    let other = ask("where=shop.orders:id=7 and total>1;shop.parts:b=2").asked.selection;
    assert_eq!(selection, other);
    let of = |selection: &Selection| selection.predicates[0].conditions.len();
    assert_eq!((of(&selection), selection.predicates[1].table.to_string()), (2, "shop.parts".into()));
    for text in ["", "shop.orders", "shop.*: id = 1", "shop.orders: id", "shop.orders: id = 1 or id = 2"] {
        check_refused(&format!("where={text}"), Code::BadParameter);
    }
    check_refused("tables=shop.parts&where=shop.orders:id=1", Code::BadParameter);
    let refused = ask_as(&["shop.orders"], "where=shop.parts:id=1", &[]).unwrap_err();
    assert_eq!(refused.code, Code::NotGranted);
}

#[test]
fn b53_a_grant_narrows_what_is_asked_for_and_refuses_what_it_does_not_hold() {
    let seen = |granted: &[&str], query: &str| {
        let selection = ask_as(granted, query, &[]).map_err(|problem| problem.code)?.asked.selection;
        Ok::<_, Code>(selection.tables.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
    };
    assert_eq!(seen(&["shop.orders"], "").unwrap(), "shop.orders");
    assert_eq!(seen(&["shop.orders"], "tables=*.*").unwrap(), "shop.orders");
    assert_eq!(seen(&["shop.*"], "tables=*.orders").unwrap(), "shop.orders");
    assert_eq!(seen(&["shop.orders", "*.log"], "tables=shop.*").unwrap(), "shop.log shop.orders");
    assert_eq!(seen(&["shop.*", "other.*"], "tables=shop.orders").unwrap(), "shop.orders");
    for query in ["tables=shop.parts", "tables=shop.secret", "tables=hr.*", "columns=shop.parts:id"] {
        assert_eq!(seen(&["shop.orders"], query), Err(Code::NotGranted), "{query}");
    }
}

#[test]
fn guests_are_registered_ones() {
    let selection = ask("filter=paid&projection=masked&partition=hash:1/2").asked.selection;
    assert_eq!((&*selection.filters[0], &*selection.projections[0]), ("paid", "masked"));
    assert_eq!(selection.part.unwrap().config, r#"{"by":"hash","of":2,"take":[1]}"#);
    check_refused("filter=masked", Code::UnknownGuest);
    check_refused("projection=paid,", Code::UnknownGuest);
    check_refused("partition=half", Code::BadParameter);
}

#[test]
fn every_parameter_has_its_bounds_and_no_other_is_there() {
    let asked = ask("bytes=1000&heartbeat=60&name=nightly-2_b&follow=false").asked;
    assert_eq!((asked.bytes_max, asked.heartbeat.as_secs()), (Some(1000), 60));
    assert_eq!(asked.subscriber, "reports/nightly-2_b");
    let long = format!("name={}", "a".repeat(65));
    for query in [
        "bytes=0",
        "bytes=-1",
        "bytes=all",
        "heartbeat=0",
        "heartbeat=61",
        "follow=yes",
        "follow=",
        "name=",
        "name=A",
        "name=a/b",
        &long,
        "table=shop.orders",
        "token=s3cret",
        "encoding=zstd",
    ] {
        check_refused(query, Code::BadParameter);
    }
}
