//! What a bad guest can do: cost time, and nothing else. Each misdeed ends as it should, its message names
//! guest, function and position, and whoever shares the sandbox with it goes on.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::time::Duration;

use support::{Order, config, filter, inserts, module, replaced, sandbox};
use tidemill_event::Window;
use tidemill_sandbox::{
    Answer, Ending, FilterStage, GuestEnd, GuestError, LimitHit, Limits, LoadReason, ProjectionStage,
};

const MIB: usize = 1 << 20;

/// Short deadlines, so that endless loops end soon; generous against a loaded machine.
fn limits() -> Limits {
    Limits { call_time: Duration::from_millis(500), ..Limits::pure() }
}

fn some_orders() -> Window {
    inserts(&(1..=20).map(|id| Order::new(id, 9_000, "active")).collect::<Vec<_>>())
}

/// How the filter ends that does this: in `open`, or in `apply`.
fn end_of_filter(json: &str, limits: Limits) -> GuestError {
    let mut config = config(json);
    config.limits = limits;
    let error = match FilterStage::open(&module("evil-filter"), config) {
        Err(error) => error,
        Ok(mut stage) => stage.apply(some_orders()).unwrap_err(),
    };
    assert_eq!(&*error.guest, "evil-filter");
    let text = error.to_string();
    let named = ["\"evil-filter\"", "source \"shop\"", &format!("function {}", error.function)];
    assert!(named.iter().all(|part| text.contains(part)), "{text}");
    if error.function == "keep" {
        assert!(text.contains("table shop.orders, after 1/100 up to 2100"), "{text}");
    }
    error
}

fn ending(json: &str) -> GuestError {
    let generous = Limits { call_time: Duration::from_secs(60), ..Limits::pure() };
    end_of_filter(json, generous)
}

#[test]
fn endless_loops_end_at_their_deadline_wherever_they_are() {
    for (json, function) in [
        (r#"{"do":"spin"}"#, "keep"),
        (r#"{"do":"spin-in-plan"}"#, "plan"),
        (r#"{"do":"spin-in-setup"}"#, "setup"),
    ] {
        let error = end_of_filter(json, limits());
        assert_eq!(error.function, function);
        assert!(matches!(error.end, GuestEnd::Limit(LimitHit::Time(_))), "{error}");
        assert!(error.to_string().contains("ran longer than its limit of 500 ms"), "{error}");
    }
}

#[test]
fn a_memory_bomb_ends_at_its_limit() {
    let error = ending(r#"{"do":"memory"}"#);
    assert!(matches!(error.end, GuestEnd::Limit(LimitHit::Memory(bytes)) if bytes == 64 * MIB), "{error}");
}

#[test]
fn endless_recursion_and_panics_are_traps_with_their_last_words() {
    let GuestEnd::Trap(trap) = ending(r#"{"do":"panic"}"#).end else { panic!("a trap") };
    assert!(trap.stderr.contains("evil-filter was asked to panic"), "{trap}");
    assert!(trap.cause.contains("unreachable"), "{trap}");
    assert!(trap.backtrace.iter().any(|frame| frame.contains("keep")), "{trap}");
    let error = ending(r#"{"do":"recurse"}"#);
    assert!(matches!(error.end, GuestEnd::Trap(_)), "{error}");
}

#[test]
fn huge_answers_are_refused_before_they_are_copied() {
    for deed in ["huge-output", "huge-string", "alias-lists"] {
        let error = ending(&format!(r#"{{"do":"{deed}"}}"#));
        assert!(
            matches!(error.end, GuestEnd::Limit(LimitHit::Output(bytes)) if bytes == 32 * MIB)
                || matches!(error.end, GuestEnd::Limit(LimitHit::Memory(_))),
            "{deed}: {error}"
        );
    }
}

#[test]
fn wrong_answers_are_refused_and_say_what_is_wrong() {
    let cases = [
        ("short-bitmap", "a bitmap of 1 bytes for 20 rows"),
        ("long-bitmap", "a bitmap of 4 bytes for 20 rows"),
        ("plan-out-of-range", "names column 4294967295; the table has 5"),
        ("plan-twice", "names column 0 twice"),
        ("error-row-out-of-range", "rejected a row that is not among the 20"),
    ];
    for (deed, what) in cases {
        let error = ending(&format!(r#"{{"do":"{deed}"}}"#));
        assert!(matches!(error.end, GuestEnd::Invalid(_)), "{deed}: {error}");
        assert_eq!(error.end.ending(), Ending::TrapOrLimit);
        assert!(error.to_string().contains(what), "{deed}: {error}");
    }
}

#[test]
fn typed_errors_arrive_as_they_were_answered() {
    let answer = |deed: &str| match ending(&format!(r#"{{"do":"{deed}"}}"#)).end {
        GuestEnd::Error(answer) => answer,
        other => panic!("{deed}: {other}"),
    };
    assert!(matches!(answer("error-config"), Answer::Config(_)));
    assert!(matches!(answer("error-unsupported"), Answer::Unsupported(text) if text.contains("shop.orders")));
    assert!(matches!(answer("error-retry"), Answer::Retry(_)));
    assert!(matches!(answer("error-rejected"), Answer::Rejected(rows) if rows[0].row == 0));
    assert_eq!(answer("error-fatal"), Answer::Fatal("asked to stop the stream".into()));
}

#[test]
fn a_trap_on_the_kth_call_is_tried_once_more_on_a_fresh_instance() {
    // A fresh instance counts from one, so that the second try of the third call is a good one.
    let mut stage = filter("evil-filter", r#"{"do":"trap-on-call","k":3}"#).unwrap();
    for _ in 0..10 {
        assert_eq!(stage.apply(some_orders()).unwrap().row_count(), 20);
    }
    // One that traps every time is an error each time, and never lets a row through.
    let mut stage = filter("evil-filter", r#"{"do":"trap-on-call"}"#).unwrap();
    for _ in 0..3 {
        assert!(matches!(stage.apply(some_orders()).unwrap_err().end, GuestEnd::Trap(_)));
    }
}

#[test]
fn floods_are_cut_and_do_no_harm() {
    let mut config = config(r#"{"do":"log-flood"}"#);
    config.limits.call_time = Duration::from_secs(60);
    let mut stage = FilterStage::open(&module("evil-filter"), config.clone()).unwrap();
    assert_eq!(stage.apply(some_orders()).unwrap().row_count(), 20);
    assert_eq!(stage.take_counters(), [("log_lines_dropped".to_owned(), 100_000 - 64)]);
    config.json = r#"{"do":"count-flood"}"#.to_owned();
    let mut stage = FilterStage::open(&module("evil-filter"), config.clone()).unwrap();
    stage.apply(some_orders()).unwrap();
    assert_eq!(stage.take_counters().len(), 64);
    config.json = r#"{"do":"stderr-flood"}"#.to_owned();
    let mut stage = FilterStage::open(&module("evil-filter"), config).unwrap();
    assert_eq!(stage.apply(some_orders()).unwrap().row_count(), 20);
}

#[test]
fn a_pure_guest_reaches_neither_files_nor_environment_nor_network() {
    let GuestEnd::Error(Answer::Fatal(text)) = ending(r#"{"do":"snoop"}"#).end else { panic!("an answer") };
    assert!(text.contains("file: Err") && text.contains("socket: Err"), "{text}");
    assert!(text.contains("environment: 0 variables"), "{text}");
}

#[tokio::test(flavor = "current_thread")]
async fn panics_and_snooping_do_no_harm_within_an_async_runtime() {
    assert!(matches!(ending(r#"{"do":"panic"}"#).end, GuestEnd::Trap(_)));
    assert!(matches!(ending(r#"{"do":"snoop"}"#).end, GuestEnd::Error(_)));
}

#[test]
fn others_in_the_same_sandbox_go_on_while_one_spins() {
    let other = std::thread::spawn(|| {
        let mut good = filter("where", r#"{"where":"amount >= 50"}"#).unwrap();
        (0..50).map(|_| good.apply(some_orders()).unwrap().row_count()).sum::<usize>()
    });
    let error = end_of_filter(r#"{"do":"spin"}"#, limits());
    assert!(matches!(error.end, GuestEnd::Limit(LimitHit::Time(_))), "{error}");
    assert_eq!(other.join().unwrap(), 50 * 20);
}

#[test]
fn a_row_over_the_limit_of_input_says_so() {
    let mut order = Order::new(1, 9_000, "active");
    order.status = Some("x".repeat(2_000));
    let mut config = config(r#"{"where":"status like 'x%'"}"#);
    config.limits.input_bytes = 1_000;
    let mut stage = FilterStage::open(&module("where"), config).unwrap();
    let error = stage.apply(inserts(&[order])).unwrap_err();
    assert!(matches!(error.end, GuestEnd::Limit(LimitHit::Row { bytes: 2_004, max: 1_000 })), "{error}");
}

#[test]
fn columns_that_a_projection_answers_are_checked() {
    let cases = [
        ("wrong-offsets", "offsets that fall at row 10"),
        ("offsets-past-data", "offsets that end at 40, with 20 bytes of data"),
        ("short-offsets", "20 offsets for 20 rows, where 21 belong"),
        ("bad-utf8", "text that is not UTF-8"),
        ("cut-character", "cut within a character"),
        ("wrong-layout", "integers where Utf8 belongs"),
        ("short-column", "20 offsets for 20 rows"),
        ("long-column", "22 offsets for 20 rows"),
        ("no-column", "it answered 0 columns, where 1 belong"),
        ("extra-column", "it answered 2 columns, where 1 belong"),
        ("short-bitmap", "a bitmap of 1 bytes for 20 rows"),
        ("plan-source-out-of-range", "names column 4294967295"),
        ("plan-input-out-of-range", "names column 4294967295"),
        ("plan-same-name", "two columns \"id\""),
        ("plan-without-key", "loses key column \"id\" of table shop.orders"),
        ("huge-output", "handed over more than the limit"),
        ("panic", "evil-projection was asked to panic"),
        ("error-rejected", "row 0 of the batch: asked to reject it"),
    ];
    for (deed, what) in cases {
        let mut config = config(&format!(r#"{{"do":"{deed}"}}"#));
        config.limits.call_time = Duration::from_secs(60);
        let mut stage = ProjectionStage::open(&module("evil-projection"), config).unwrap();
        let error = stage.apply(some_orders()).unwrap_err();
        assert!(error.to_string().contains(what), "{deed}: {error}");
        let function = if deed.starts_with("plan") { "plan" } else { "project" };
        assert_eq!((error.function, &*error.guest), (function, "evil-projection"));
    }
}

fn refused(wasm: &[u8]) -> (LoadReason, String) {
    let error = sandbox().load("guest", wasm).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("guest \"guest\": "), "{text}");
    (error.reason, text)
}

#[test]
fn a_module_that_is_cut_off_does_not_load_wherever_it_is_cut() {
    let wasm = tidemill_artifacts::wasm("where");
    assert!(matches!(refused(&wasm[..5]).0, LoadReason::NotWasm { bytes: 5 }));
    assert!(matches!(refused(b"not a module at all").0, LoadReason::NotWasm { .. }));
    for tenth in 1..10 {
        let (reason, text) = refused(&wasm[..wasm.len() * tenth / 10]);
        assert!(matches!(reason, LoadReason::Damaged(_)), "{text}");
    }
    let (reason, text) = refused(b"\0asm\x01\0\0\0");
    assert!(matches!(reason, LoadReason::CoreModule), "{text}");
    assert!(text.contains("--target wasm32-wasip2"), "{text}");
}

#[test]
fn an_import_that_is_not_granted_is_named() {
    let (reason, text) = refused(tidemill_artifacts::wasm("evil-import"));
    assert!(matches!(reason, LoadReason::NotGranted { .. }), "{text}");
    assert_eq!(
        text,
        "guest \"guest\": it imports tidemill:forbidden/thing@0.1.0, which is not granted: no grant gives it; \
         build the guest without it"
    );
}

#[test]
fn a_component_of_another_version_of_the_contract_is_refused_by_name() {
    // The version stands in the names of exports and imports.
    let wasm = tidemill_artifacts::wasm("where");
    let other: Vec<u8> =
        replaced(wasm, b"tidemill:guest/row-filter@0.2.1", b"tidemill:guest/row-filter@0.9.0");
    let (reason, text) = refused(&other);
    assert!(matches!(reason, LoadReason::Version { .. } | LoadReason::Damaged(_)), "{text}");
    assert!(text.contains("this host supports tidemill:guest@0.2.1"), "{text}");
}
