//! The grammar by hand-made events: what is a transaction, what is not, and where everything ends.

#![allow(clippy::unwrap_used, reason = "tests")]

mod stream;

use std::sync::Arc;

use tidemill_event::{EventKind, Part, Scn, TableSchema, Timeline, Window};
use tidemill_fetchers_api::FetchError;

use super::{Assembler, Origin, Skip, Step};
use crate::event::{CHECKSUM_BYTES, Flavour, HEADER_BYTES, Header, RawEvent, kind};
use crate::gtid::parse_set;
use crate::place::{BinlogName, Place};
use crate::schema::Schemas;
use crate::settings::ValuePolicy;

const UUID: &str = "11111111-1111-1111-1111-111111111111";

/// A log that is written and read at once.
struct Log {
    assembler: Assembler,
    offset: u64,
}

impl Log {
    fn new() -> Log {
        Log::with(Skip::default(), true)
    }

    fn with(skip: Skip, live: bool) -> Log {
        let timeline = Timeline { number: 1, server: "s".into() };
        let executed = Some(parse_set(Flavour::MySql, "").unwrap());
        let schemas = Schemas::open(None, timeline.server.clone()).unwrap();
        let lower_case_names = false;
        let after = None;
        let origin = Origin {
            source: "test".into(),
            timeline,
            after,
            executed,
            skip,
            live,
            schemas,
            lower_case_names,
        };
        let selector = Arc::new(|schema: &Arc<TableSchema>| match schema.name().table.as_str() {
            "forbidden" => Err("the policy has no rule for it".to_owned()),
            name => Ok(name != "declined"),
        });
        let mut log = Log {
            assembler: Assembler::new(origin, selector, ValuePolicy::default(), Flavour::MySql),
            offset: 4,
        };
        log.file(1).unwrap();
        log
    }

    fn file(&mut self, number: u32) -> Result<(), FetchError> {
        self.offset = 4;
        self.assembler.begin_file(BinlogName::parse(&format!("binlog.{number:06}")).unwrap(), 4)
    }

    fn raw(
        &mut self,
        kind: u8,
        flags: u16,
        body: &[u8],
        log_pos: Option<u32>,
    ) -> Result<Vec<u8>, FetchError> {
        let size = HEADER_BYTES + body.len() + CHECKSUM_BYTES;
        self.offset += size as u64;
        let log_pos = log_pos.unwrap_or(self.offset as u32);
        let header = Header { timestamp: 100, kind, server_id: 1, size: size as u32, log_pos, flags };
        match self.assembler.push(RawEvent { header, body }, false)? {
            Step::Next => Ok(vec![]),
            Step::Unpack(body) => Ok(body.to_vec()),
            Step::Again => Ok(b"again".to_vec()),
            Step::Ask => Ok(b"ask".to_vec()),
        }
    }

    fn event(&mut self, kind: u8, body: &[u8]) -> Result<(), FetchError> {
        self.raw(kind, 0, body, None).map(drop)
    }

    fn gtid(&mut self, number: u64) -> Result<(), FetchError> {
        self.gtid_with(number, 0)
    }

    /// `length`: what the event says of the whole transaction's bytes; zero: nothing.
    fn gtid_with(&mut self, number: u64, length: u16) -> Result<(), FetchError> {
        let mut body = vec![0];
        body.extend_from_slice(&[0x11; 16]);
        body.extend_from_slice(&number.to_le_bytes());
        if length > 0 {
            body.push(2);
            body.extend_from_slice(&[0; 16]);
            body.extend_from_slice(&(number * 1_000_000).to_le_bytes()[..7]);
            body.push(252);
            body.extend_from_slice(&length.to_le_bytes());
        }
        self.event(kind::GTID, &body)
    }

    fn query(&mut self, statement: &str) -> Result<(), FetchError> {
        let mut body = vec![0; 8];
        body.extend_from_slice(&[1, 0, 0, 0, 0, b'd', 0]);
        body.extend_from_slice(statement.as_bytes());
        self.event(kind::QUERY, &body)
    }

    fn table(&mut self, name: &str) -> Result<(), FetchError> {
        let mut body = vec![7, 0, 0, 0, 0, 0, 1, 0, 1, b'd', 0, name.len() as u8];
        body.extend_from_slice(name.as_bytes());
        body.extend_from_slice(&[0, 1, 3, 0, 0]);
        body.extend_from_slice(&[4, 3, 2, b'i', b'd', 1, 1, 0]);
        self.event(kind::TABLE_MAP, &body)
    }

    fn rows(&mut self, ids: &[u8]) -> Result<(), FetchError> {
        let mut body = vec![7, 0, 0, 0, 0, 0, 1, 0, 2, 0, 1, 1];
        ids.iter().for_each(|id| body.extend_from_slice(&[0, *id, 0, 0, 0]));
        self.event(kind::WRITE_ROWS, &body)
    }

    fn xid(&mut self) -> Result<(), FetchError> {
        self.event(kind::XID, &[0; 8])
    }

    fn transaction(&mut self, number: u64) {
        self.gtid(number).unwrap();
        self.query("BEGIN").unwrap();
        self.table("t").unwrap();
        self.rows(&[number as u8]).unwrap();
        self.xid().unwrap();
    }

    fn windows(&mut self) -> Vec<Window> {
        self.assembler.cut();
        std::iter::from_fn(|| self.assembler.ready().unwrap()).collect()
    }

    fn description(&mut self, created: u32) -> Result<(), FetchError> {
        let mut body = 4u16.to_le_bytes().to_vec();
        body.extend_from_slice(b"9.7.4");
        body.resize(52, 0);
        body.extend_from_slice(&created.to_le_bytes());
        body.push(19);
        body.resize(57 + 42, 8);
        self.event(kind::FORMAT_DESCRIPTION, &body)
    }
}

fn damaged(result: Result<impl std::fmt::Debug, FetchError>, part: &str) {
    let error = result.expect_err(part).to_string();
    assert!(error.contains(part) && error.contains("binlog.00000"), "{error}");
}

#[test]
fn a_transaction_ends_where_its_commit_ends() {
    let mut log = Log::new();
    log.transaction(1);
    let end = log.offset;
    log.transaction(2);
    let windows = log.windows();
    assert_eq!(windows.len(), 1);
    let transactions = &windows[0].transactions;
    assert_eq!(transactions[0].scn, Scn::from_binlog(1, end).unwrap());
    assert_eq!(transactions[1].scn, Scn::from_binlog(1, log.offset).unwrap());
    assert_eq!(transactions[1].gtid, format!("{UUID}:2"));
    assert_eq!(*windows[0].executed, *format!("{UUID}:1-2"));
    assert_eq!(windows[0].span.upto, transactions[1].scn);
}

#[test]
fn a_gtid_that_no_complete_transaction_follows_stops_the_stream() {
    let mut log = Log::new();
    log.gtid(1).unwrap();
    damaged(log.gtid(2), "begins before the last one has ended");
    let mut log = Log::new();
    log.gtid(1).unwrap();
    log.query("BEGIN").unwrap();
    damaged(log.gtid(2), "begins before the last one has ended");
}

#[test]
fn events_out_of_turn_stop_the_stream() {
    damaged(Log::new().query("BEGIN"), "outside a transaction");
    damaged(Log::new().xid(), "outside a transaction");
    damaged(Log::new().table("t"), "outside a transaction");
    let mut log = Log::new();
    log.gtid(1).unwrap();
    damaged(log.table("t"), "out of turn");
    damaged(log.xid(), "out of turn");
    log.query("BEGIN").unwrap();
    damaged(log.query("BEGIN"), "out of turn");
    damaged(log.rows(&[1]), "no table map names");
}

#[test]
fn an_end_that_the_gtid_did_not_announce_stops_the_stream() {
    let mut log = Log::new();
    log.gtid_with(1, 9999).unwrap();
    log.query("BEGIN").unwrap();
    damaged(log.xid(), "does not end where");
}

#[test]
fn bytes_that_are_missing_within_a_transaction_stop_the_stream() {
    let mut log = Log::new();
    log.gtid(1).unwrap();
    let wrong = Some(log.offset as u32 + 500);
    damaged(log.raw(kind::QUERY, 0, b"12345678\0\0\0\0\0\0BEGIN", wrong), "modulo 2^32");
}

#[test]
fn a_live_server_may_pass_over_transactions_between_two_and_files_may_not() {
    for live in [true, false] {
        let mut log = Log::with(Skip::default(), live);
        log.offset = 5000;
        assert_eq!(log.gtid(1).is_ok(), live);
    }
}

#[test]
fn l38_positions_beyond_four_gib_are_counted_in_64_bits() {
    let mut log = Log::new();
    let wrap = 1u64 << 32;
    log.offset = wrap - 60;
    log.assembler.place =
        Some(Place { file: BinlogName::parse("binlog.000001").unwrap(), offset: log.offset });
    log.transaction(1);
    assert!(log.offset > wrap);
    assert_eq!(log.windows()[0].transactions[0].scn.binlog_offset(), log.offset);
}

#[test]
fn l82_rows_outside_a_transaction_stop_the_stream_even_where_they_say_that_they_may_be_skipped() {
    for kind in [kind::WRITE_ROWS, kind::TABLE_MAP, kind::XID, kind::QUERY, kind::TRANSACTION_PAYLOAD] {
        let mut log = Log::new();
        damaged(log.raw(kind, 0x80, &[0; 40], None), "outside a transaction");
        assert_eq!(log.assembler.count().check(), Ok(()));
    }
}

#[test]
fn l82_an_unknown_event_stops_the_stream_unless_it_says_that_it_may_be_skipped() {
    let mut log = Log::new();
    log.gtid(1).unwrap();
    log.query("BEGIN").unwrap();
    log.raw(200, 0x80, b"x", None).unwrap();
    assert!(matches!(log.event(200, b"x"), Err(FetchError::Undecodable(_))));
    assert!(matches!(Log::new().event(kind::INCIDENT, &[1, 0, 0]), Err(FetchError::Undecodable(_))));
}

#[test]
fn rows_as_text_and_statements_that_nobody_knows_stop_the_stream() {
    for (statement, part) in
        [("INSERT INTO t VALUES ('secret')", "binlog_format"), ("FROBNICATE x", "does not know")]
    {
        let mut log = Log::new();
        log.gtid(1).unwrap();
        log.query("BEGIN").unwrap();
        let error = log.query(statement).unwrap_err();
        assert!(matches!(error, FetchError::Undecodable(_)));
        let error = error.to_string();
        assert!(
            error.contains(part) && error.contains("binlog.000001:") && !error.contains("secret"),
            "{error}"
        );
    }
}

/// The ids of the rows, transaction by transaction.
fn ids(windows: &[Window]) -> Vec<Vec<i32>> {
    use arrow_array::cast::AsArray;
    let mut ids: Vec<Vec<i32>> = Vec::new();
    for window in windows {
        window.validate().unwrap();
        for (index, transaction) in window.transactions.iter().enumerate() {
            if matches!(transaction.part, Part::Whole | Part::First) {
                ids.push(Vec::new());
            }
            for change in window.changes_in_order().iter().filter(|c| c.txn as usize == index) {
                let rows = &window.tables[change.table as usize].rows;
                let column = rows.column(0).as_primitive::<arrow_array::types::Int32Type>();
                ids.last_mut().unwrap().push(column.value(change.after.unwrap() as usize));
            }
        }
    }
    ids
}

/// By hand: MySQL 9.7 does not log such a transaction, MariaDB's are in the tests on real servers.
#[test]
fn l52_a_transaction_that_ends_with_rollback_is_an_empty_one() {
    let mut log = Log::new();
    log.transaction(1);
    log.gtid(2).unwrap();
    log.query("BEGIN").unwrap();
    log.query("SAVEPOINT a").unwrap();
    log.query("ROLLBACK").unwrap();
    log.gtid(3).unwrap();
    log.query("BEGIN").unwrap();
    log.table("t").unwrap();
    log.rows(&[9]).unwrap();
    log.query("ROLLBACK").unwrap();
    log.transaction(4);
    assert_eq!(log.assembler.executed().unwrap().to_string(), format!("{UUID}:1-4"));
    assert_eq!(ids(&log.windows()), [[1], [4]]);
    let counters = log.assembler.count();
    assert_eq!((counters.rows_read, counters.rows_discarded, counters.check()), (3, 1, Ok(())));
}

#[test]
fn l51_what_follows_a_savepoint_goes_with_its_rollback_and_the_savepoint_stays() {
    let mut log = Log::new();
    log.transaction(1);
    log.gtid(2).unwrap();
    log.query("BEGIN").unwrap();
    log.table("t").unwrap();
    log.rows(&[2]).unwrap();
    log.query("SAVEPOINT `A b`").unwrap();
    log.rows(&[3, 4]).unwrap();
    // What is whole leaves the window in between: the savepoint's place moves with it.
    let first = log.windows();
    log.query("SAVEPOINT inner_one").unwrap();
    log.rows(&[5]).unwrap();
    log.query("ROLLBACK TO `a B`").unwrap();
    log.rows(&[6]).unwrap();
    log.query("ROLLBACK TO `a b`").unwrap();
    log.rows(&[7]).unwrap();
    damaged(log.query("ROLLBACK TO inner_one"), "a savepoint that was not set");
    log.xid().unwrap();
    assert_eq!(ids(&first), [[1]]);
    let rest = log.windows();
    assert_eq!(ids(&rest), [[2, 7]]);
    assert_eq!(rest[0].transactions[0].change_count, 2);
}

/// Nothing that may be rolled back leaves before its transaction is known to its end.
#[test]
fn l51_a_transaction_with_savepoints_that_fills_windows_is_read_to_its_end_first() {
    let mut log = Log::new();
    // From the GTID event's beginning to the XID event's end.
    let length: u16 = 443;
    let play = |log: &mut Log| {
        log.file(1).unwrap();
        log.gtid_with(1, length).unwrap();
        log.query("BEGIN").unwrap();
        log.table("t").unwrap();
        log.rows(&[1, 2, 3, 4, 5]).unwrap();
        log.query("SAVEPOINT a").unwrap();
        log.rows(&[6]).unwrap();
        log.query("ROLLBACK TO a").unwrap();
        log.rows(&[7, 8]).unwrap();
        log.raw(kind::XID, 0, &[0; 8], None)
    };
    log.assembler.set_window_bytes(15);
    assert_eq!(play(&mut log).unwrap(), b"again");
    let early = log.windows();
    assert_eq!(ids(&early), [[1, 2, 3, 4, 5]], "what stands before the savepoint may leave");
    assert!(!early[0].transactions[0].part.completes());
    log.assembler.rewind(None).unwrap();
    play(&mut log).unwrap();
    let rest = log.windows();
    let parts: Vec<u64> = rest.iter().map(|w| u64::from(w.transactions[0].change_count)).collect();
    assert_eq!(parts.iter().sum::<u64>(), 2);
    let counters = log.assembler.count();
    assert_eq!((counters.rows_given, counters.check()), (7, Ok(())));
}

#[test]
fn declined_tables_cost_no_rows_and_move_readers_on() {
    let mut log = Log::new();
    log.gtid(1).unwrap();
    log.query("BEGIN").unwrap();
    log.table("declined").unwrap();
    log.rows(&[1, 2, 3]).unwrap();
    log.xid().unwrap();
    assert!(log.windows().is_empty());
    assert_eq!(log.assembler.counters.declined_events, 1);
    log.assembler.cut_silence(1);
    let windows = log.windows();
    assert_eq!((windows[0].row_count(), windows[0].span.upto.binlog_offset()), (0, log.offset));
    assert_eq!(*windows[0].executed, *format!("{UUID}:1"));
}

#[test]
fn a_table_that_the_selector_forbids_stops_at_its_first_row() {
    let mut log = Log::new();
    log.transaction(1);
    log.gtid(2).unwrap();
    log.query("BEGIN").unwrap();
    log.table("forbidden").unwrap();
    let error = log.rows(&[1]).unwrap_err().to_string();
    assert!(error.contains("d.forbidden") && error.contains("no rule"), "{error}");
}

#[test]
fn a_window_is_cut_between_transactions_and_the_open_one_stays() {
    let mut log = Log::new();
    log.transaction(1);
    let end = log.offset;
    log.gtid(2).unwrap();
    log.query("BEGIN").unwrap();
    log.table("t").unwrap();
    log.rows(&[7, 8]).unwrap();
    let first = log.windows();
    assert_eq!((first.len(), first[0].row_count(), first[0].span.upto.binlog_offset()), (1, 1, end));
    log.rows(&[9]).unwrap();
    log.xid().unwrap();
    let second = log.windows();
    second[0].validate().unwrap();
    assert_eq!((second[0].row_count(), second[0].span.after), (3, first[0].span.upto));
    assert_eq!(second[0].tables[0].ordinal.to_vec(), [0, 1, 2]);
    assert_eq!(second[0].tables[0].txn.to_vec(), [0, 0, 0]);
}

#[test]
fn rows_of_nulls_fill_a_window_by_their_width_and_not_by_their_bits() {
    let mut log = Log::new();
    log.assembler.set_window_bytes(100);
    log.transaction(1);
    log.gtid(2).unwrap();
    log.query("BEGIN").unwrap();
    log.table("t").unwrap();
    let nulls = [&[7, 0, 0, 0, 0, 0, 1, 0, 2, 0, 1, 1][..], &[1; 30]].concat();
    log.event(kind::WRITE_ROWS, &nulls).unwrap();
    assert_eq!(log.windows().len(), 1, "thirty integers and the transaction before are more than 100 bytes");
}

#[test]
fn fragments_stand_alone_and_do_not_move_readers() {
    let mut log = Log::new();
    log.assembler.set_window_bytes(30);
    log.transaction(1);
    let begin = log.offset;
    log.gtid(2).unwrap();
    log.query("BEGIN").unwrap();
    log.table("t").unwrap();
    // Without a length the transaction is measured first.
    log.rows(&[1, 2, 3, 4, 5]).unwrap();
    log.rows(&[6]).unwrap();
    assert_eq!(log.raw(kind::XID, 0, &[0; 8], None).unwrap(), b"again");
    let whole = log.windows();
    assert_eq!(whole.iter().map(Window::row_count).sum::<usize>(), 1, "only the transaction before");

    log.assembler.rewind(None).unwrap();
    log.file(1).unwrap();
    log.offset = begin;
    log.assembler.place.as_mut().unwrap().offset = begin;
    log.gtid(2).unwrap();
    log.query("BEGIN").unwrap();
    log.table("t").unwrap();
    log.rows(&[1, 2, 3, 4, 5]).unwrap();
    log.rows(&[6]).unwrap();
    log.xid().unwrap();
    let parts: Vec<_> =
        log.windows().iter().map(|w| (w.transactions[0].part, w.row_count(), w.span.upto)).collect();
    let (before, after) = (Scn::from_binlog(1, begin).unwrap(), Scn::from_binlog(1, log.offset).unwrap());
    assert_eq!(parts, [(Part::First, 5, before), (Part::Last, 1, after)]);
}

#[test]
fn what_a_crash_left_unfinished_never_happened() {
    let mut log = Log::with(Skip::default(), false);
    log.transaction(1);
    log.gtid(2).unwrap();
    log.query("BEGIN").unwrap();
    log.table("t").unwrap();
    log.rows(&[9]).unwrap();
    log.file(2).unwrap();
    log.description(1_700_000_000).unwrap();
    log.transaction(2);
    let windows = log.windows();
    assert_eq!(windows.iter().map(Window::row_count).sum::<usize>(), 2);
    assert_eq!(*windows.last().unwrap().executed, *format!("{UUID}:1-2"));

    let mut log = Log::with(Skip::default(), false);
    log.gtid(1).unwrap();
    log.file(2).unwrap();
    damaged(log.description(0), "the server had not crashed");
}

#[test]
fn l71_files_that_go_back_are_another_log() {
    let mut log = Log::new();
    log.file(3).unwrap();
    log.description(0).unwrap();
    assert!(matches!(log.file(2), Err(FetchError::Lineage { .. })));
}

#[test]
fn transactions_before_a_time_are_passed_over_up_to_the_first_that_is_not() {
    let skip = Skip { before_us: Some(3_000_000), ..Skip::default() };
    let mut log = Log::with(skip, true);
    for number in [1, 2, 3, 2] {
        // GTID, BEGIN, table map, rows of one row, XID.
        let length = 75 + 43 + 49 + 40 + 31;
        log.gtid_with(number, length).unwrap();
        log.query("BEGIN").unwrap();
        log.table("t").unwrap();
        log.rows(&[number as u8]).unwrap();
        log.xid().unwrap();
    }
    let windows = log.windows();
    let times: Vec<i64> = windows[0].transactions.iter().map(|t| t.commit_time_us).collect();
    assert_eq!(times, [3_000_000, 2_000_000]);
}

#[test]
fn definitions_are_events_with_an_ordinal_of_their_own() {
    let mut log = Log::new();
    log.gtid(1).unwrap();
    log.query("ALTER TABLE t TRUNCATE PARTITION p0").unwrap();
    log.gtid(2).unwrap();
    log.query("TRUNCATE t").unwrap();
    log.gtid(3).unwrap();
    log.query("GRANT ALL ON *.* TO x").unwrap();
    let windows = log.windows();
    let kinds: Vec<_> = windows[0].events.iter().map(|e| (e.ordinal, e.txn, &e.kind)).collect();
    assert!(matches!(kinds[0], (0, 0, EventKind::Invalidate { .. })));
    assert!(matches!(kinds[1], (1, 0, EventKind::SchemaChange { .. })));
    assert!(matches!(kinds[2], (2, 1, EventKind::Truncate { .. })));
    assert_eq!((kinds.len(), windows[0].transactions.len()), (3, 2));
    assert_eq!(*windows[0].executed, *format!("{UUID}:1-3"));
}

/// By hand: the only events with extra information are those of partitions, and none is empty.
#[test]
fn l35_rows_events_of_both_versions_with_extra_information_or_without_rows_are_read() {
    let mut log = Log::new();
    log.gtid(1).unwrap();
    log.query("BEGIN").unwrap();
    log.table("t").unwrap();
    let head = [7, 0, 0, 0, 0, 0, 1, 0];
    let row = |id: u8| [0, id, 0, 0, 0];
    let version_2 = |extra: &[u8], rest: &[u8]| {
        let length = (extra.len() as u16 + 2).to_le_bytes();
        [&head[..], &length, extra, &[1, 1], rest].concat()
    };
    log.event(kind::WRITE_ROWS_V1, &[&head[..], &[1, 1], &row(1)].concat()).unwrap();
    // Partition 3; of an update, from partition 3 to 4.
    log.event(kind::WRITE_ROWS, &version_2(&[1, 3, 0], &row(2))).unwrap();
    let update = version_2(&[1, 4, 0, 3, 0], &[&[1][..], &row(2), &row(3)].concat());
    log.event(kind::UPDATE_ROWS, &update).unwrap();
    log.event(kind::WRITE_ROWS, &version_2(&[], &[])).unwrap();
    // Ends a statement and names no table.
    let dummy = [&[0xff, 0xff, 0xff, 0, 0, 0, 1, 0][..], &[2, 0, 1, 1]].concat();
    log.event(kind::WRITE_ROWS, &dummy).unwrap();
    log.xid().unwrap();
    assert_eq!(ids(&log.windows()), [[1, 2, 3]]);
    let counters = log.assembler.count();
    assert_eq!((counters.carried_events, counters.passed_events, counters.check()), (4, 1, Ok(())));
    // An extra length that leaves no room for itself.
    log.gtid(2).unwrap();
    log.query("BEGIN").unwrap();
    log.table("t").unwrap();
    damaged(log.event(kind::WRITE_ROWS, &[&head[..], &[1, 0, 1, 1]].concat()), "impossible length");
}

/// By hand: a payload that is not packed, whose fields tell sizes beyond 32 bits.
#[test]
fn l54_a_payload_is_a_stream_of_events_without_positions_that_ends_where_it_ends() {
    use crate::transport::Payload;
    let event = |kind: u8, body: &[u8]| {
        let mut event = vec![0, 0, 0, 0, kind, 1, 0, 0, 0];
        event.extend_from_slice(&((HEADER_BYTES + body.len()) as u32).to_le_bytes());
        event.extend_from_slice(&[0; 6]);
        event.extend_from_slice(body);
        event
    };
    let table =
        [&[7, 0, 0, 0, 0, 0, 1, 0, 1, b'd', 0, 1, b't', 0, 1, 3, 0, 0][..], &[4, 3, 2, b'i', b'd', 1, 1, 0]];
    let inner = [
        event(kind::QUERY, &[&[0; 8][..], &[1, 0, 0, 0, 0, b'd', 0], b"BEGIN"].concat()),
        event(kind::TABLE_MAP, &table.concat()),
        event(kind::WRITE_ROWS, &[7, 0, 0, 0, 0, 0, 1, 0, 2, 0, 1, 1, 0, 9, 0, 0, 0]),
        event(kind::XID, &[0; 8]),
    ];
    let payload = |content: &[u8]| {
        // Size of the content, packing 255, uncompressed size of five GiB, end.
        let mut body = vec![1, 9, 254];
        body.extend_from_slice(&(content.len() as u64).to_le_bytes());
        body.extend_from_slice(&[2, 3, 252, 255, 0, 3, 9, 254]);
        body.extend_from_slice(&(5u64 << 30).to_le_bytes());
        body.push(0);
        body.extend_from_slice(content);
        body
    };
    let read = |log: &mut Log, content: &[u8]| -> Result<(), FetchError> {
        log.gtid(1).unwrap();
        let body = log.raw(kind::TRANSACTION_PAYLOAD, 0, &payload(content), None)?;
        let mut payload = Payload::new(&body).map_err(|m| log.assembler.malformed(m))?;
        while let Some(event) = payload.next().map_err(|m| log.assembler.malformed(m))? {
            log.assembler.push(event, true)?;
        }
        log.assembler.end_payload()
    };
    let mut log = Log::new();
    read(&mut log, &inner.concat()).unwrap();
    let windows = log.windows();
    assert_eq!(ids(&windows), [[9]]);
    assert_eq!(windows[0].transactions[0].scn.binlog_offset(), log.offset, "it ends where the payload ends");
    damaged(read(&mut Log::new(), &inner[..3].concat()), "without its commit");
    damaged(read(&mut Log::new(), &inner[..2].concat()), "without its commit");
    assert!(read(&mut Log::new(), &inner.concat()[..100]).is_err());
}
