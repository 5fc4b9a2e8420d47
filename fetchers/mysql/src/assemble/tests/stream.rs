//! Files, positions, heartbeats and events that carry no rows, as bytes built by hand: what servers here do not emit, or not
//! at will.

use super::*;

const ARTIFICIAL: u16 = 0x20;

fn heartbeat_v2(file: &str, offset: u64) -> Vec<u8> {
    let mut body = vec![1, file.len() as u8];
    body.extend_from_slice(file.as_bytes());
    body.extend_from_slice(&[2, 9, 254]);
    body.extend_from_slice(&offset.to_le_bytes());
    body.push(0);
    body
}

fn rotate(offset: u64, file: &str) -> Vec<u8> {
    [&offset.to_le_bytes()[..], file.as_bytes()].concat()
}

#[test]
fn l70_artificial_events_move_nothing_and_a_stop_counts_as_its_bytes() {
    let mut log = Log::new();
    log.transaction(1);
    let (place, end) = (log.assembler.place.clone(), log.offset);
    log.raw(kind::ROTATE, ARTIFICIAL, &rotate(end, "binlog.000001"), Some(0)).unwrap();
    assert_eq!(log.assembler.place, place);
    log.offset = end;
    log.transaction(2);
    log.event(kind::STOP, &[]).unwrap();
    assert_eq!(log.assembler.place.as_ref().unwrap().offset, log.offset);
    assert_eq!(log.assembler.resume_place().unwrap().offset, log.offset);
}

#[test]
fn l71_another_base_name_is_another_log_and_no_name_at_all_is_damage() {
    let mut log = Log::new();
    let error = log.raw(kind::ROTATE, ARTIFICIAL, &rotate(4, "other.000002"), Some(0)).unwrap_err();
    assert!(matches!(error, FetchError::Lineage { .. }), "{error}");
    damaged(Log::new().raw(kind::ROTATE, ARTIFICIAL, &rotate(4, "binlog-000002.ibb"), Some(0)), ".ibb");
}

#[test]
fn l71_a_file_number_beyond_the_clock_stops_the_stream_before_its_first_transaction() {
    let mut log = Log::new();
    log.file(1 << 24).unwrap();
    let error = log.description(0).unwrap_err().to_string();
    assert!(error.contains("16777216") && error.contains("exceeds 24 bits"), "{error}");
}

#[test]
fn l73_a_heartbeat_moves_an_idle_reader_on_beyond_four_gib_and_never_back_or_within_a_transaction() {
    let far = (1u64 << 32) + 99;
    let mut log = Log::new();
    log.transaction(1);
    log.raw(kind::HEARTBEAT_V2, 0, &heartbeat_v2("binlog.000001", far), Some(0)).unwrap();
    assert_eq!(log.assembler.resume_place().unwrap().offset, far);
    log.raw(kind::HEARTBEAT_V2, 0, &heartbeat_v2("binlog.000001", 9), Some(0)).unwrap();
    log.raw(kind::HEARTBEAT_V2, 0, &heartbeat_v2("binlog.000009", far + 1), Some(0)).unwrap();
    assert_eq!(log.assembler.resume_place().unwrap().offset, far);

    let mut log = Log::new();
    log.gtid(1).unwrap();
    let begins = log.assembler.resume_place().cloned();
    log.raw(kind::HEARTBEAT_V2, 0, &heartbeat_v2("binlog.000001", far), Some(0)).unwrap();
    log.raw(kind::HEARTBEAT, 0, b"binlog.000001", Some(5000)).unwrap();
    assert_eq!(log.assembler.resume_place().cloned(), begins);
}

#[test]
fn l81_lost_events_stop_the_stream_with_the_place_and_what_to_do() {
    for within in [false, true] {
        let mut log = Log::new();
        log.transaction(1);
        if within {
            log.gtid(2).unwrap();
        }
        let error = log.event(kind::INCIDENT, b"\x01\0\x08disk full").unwrap_err().to_string();
        for part in ["binlog.000001:", "lost events", "clone the tables again"] {
            assert!(error.contains(part), "{error}");
        }
    }
}

#[test]
fn l82_every_type_that_is_not_known_stops_the_stream_with_its_number() {
    const KNOWN_BEYOND: std::ops::RangeInclusive<u8> = 160..=168;
    for unknown in (43..=255u8).filter(|kind| !KNOWN_BEYOND.contains(kind)) {
        let mut log = Log::new();
        log.gtid(1).unwrap();
        let error = log.event(unknown, b"x").unwrap_err();
        assert!(matches!(&error, FetchError::Undecodable(_)), "{unknown}: {error}");
        assert!(error.to_string().contains(&format!("type {unknown}")), "{error}");
        assert!(Log::new().event(unknown, b"x").is_err(), "{unknown}: between two transactions");
    }
}

/// Group Replication logs a change of its members as a transaction without rows.
#[test]
fn l83_a_view_change_is_an_empty_transaction_and_a_transaction_s_context_is_nothing() {
    let mut log = Log::new();
    log.event(kind::TRANSACTION_CONTEXT, &[0; 40]).unwrap();
    log.transaction(1);
    log.gtid(2).unwrap();
    log.query("BEGIN").unwrap();
    log.event(kind::VIEW_CHANGE, &[0; 52]).unwrap();
    log.query("COMMIT").unwrap();
    log.transaction(3);
    assert_eq!(log.assembler.executed().unwrap().to_string(), format!("{UUID}:1-3"));
    let transactions: usize = log.windows().iter().map(|window| window.transactions.len()).sum();
    assert_eq!(transactions, 2);
    assert_eq!(log.assembler.counters.transactions, 3);
}

/// A clock that was never set, or one that is far ahead, orders nothing.
#[test]
fn l88_times_that_stand_still_or_jump_change_neither_order_nor_position() {
    let mut log = Log::new();
    for (number, timestamp) in [(1, 0), (2, u32::MAX), (3, 0)] {
        log.gtid(number).unwrap();
        let body = b"12345678\0\0\0\0\0\0BEGIN";
        let size = (HEADER_BYTES + body.len() + CHECKSUM_BYTES) as u32;
        log.offset += u64::from(size);
        let log_pos = log.offset as u32;
        let header = Header { timestamp, kind: kind::QUERY, server_id: 1, size, log_pos, flags: 0 };
        log.assembler.push(RawEvent { header, body }, false).unwrap();
        log.table("t").unwrap();
        log.rows(&[number as u8]).unwrap();
        log.xid().unwrap();
    }
    let scns: Vec<_> = log.windows().iter().flat_map(|w| &w.transactions).map(|t| t.scn).collect();
    assert!(scns.len() == 3 && scns.is_sorted());
}
