//! Predicates from their text to the rows that they keep.

#![allow(clippy::unwrap_used, reason = "tests")]

use tidemill_guest::policy::{Comparison, Condition};
use tidemill_guest::{Column, Error, TableDef, build, testing};
use tidemill_predicate::Predicate;

fn table() -> TableDef {
    let columns = [
        ("id", "int64"),
        ("size", "uint64"),
        ("price", "decimal(65,30)"),
        ("status", "text"),
        ("born", "date"),
        ("seen", "timestamp"),
        ("took", "time"),
        ("score", "float64"),
        ("vip", "bool"),
        ("tag", "bytes"),
        ("ref", "uuid"),
        ("doc", "json"),
    ];
    testing::table("shop.orders", &columns, &["id"])
}

/// The rows of one column that a predicate keeps.
fn kept(predicate: &str, column: Column) -> Vec<usize> {
    let plan = Predicate::parse(predicate).unwrap().plan(&table()).unwrap();
    plan.keep(&testing::rows(&table(), vec![column])).unwrap().rows().collect()
}

fn plan_error(predicate: &str) -> String {
    match Predicate::parse(predicate).unwrap().plan(&table()) {
        Err(Error::Unsupported(message)) => message,
        other => panic!("{predicate}: {other:?}"),
    }
}

#[test]
fn integers_are_compared_over_their_whole_range() {
    let ints = || build::Ints::of(&[i64::MIN, -1, 0, 49, 50, 51, i64::MAX]);
    assert_eq!(kept("id >= 50", ints()), [4, 5, 6]);
    assert_eq!(kept("id > 49.5 and id < 50.5", ints()), [4]);
    assert_eq!(kept("id <> 50", ints()), [0, 1, 2, 3, 5, 6]);
    assert_eq!(kept("id = 50.5", ints()), [0; 0]);
    assert_eq!(kept("not id = 50.5", ints()), [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(kept("id < 99999999999999999999999999", ints()), [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(kept("id <= -9223372036854775808", ints()), [0]);
    assert_eq!(kept("id between -1 and 49", ints()), [1, 2, 3]);
    assert_eq!(kept("id not in (-1, 50, 0.5)", ints()), [0, 2, 3, 5, 6]);
    let uints = build::Uints::of(&[0, 1 << 63, u64::MAX]);
    assert_eq!(kept("size > 9223372036854775807 and size >= -1", uints), [1, 2]);
}

#[test]
fn decimals_are_compared_exactly() {
    let price = || build::Texts::of(&["0.100000000000000000000000000001", "0.10", "-3.5", "100"]);
    assert_eq!(kept("price > 0.1", price()), [0, 3]);
    assert_eq!(kept("price = 0.1", price()), [1]);
    assert_eq!(kept("price in (100.0, -3.50)", price()), [2, 3]);
    assert_eq!(kept("price between -4 and 0.1", price()), [1, 2]);
}

#[test]
fn dates_and_times_are_compared_with_their_text() {
    let day = |text| tidemill_guest::calendar::parse_date(text).unwrap();
    let born = || build::Ints::of(&[day("1969-12-31"), day("2000-02-29"), day("2026-11-20")]);
    assert_eq!(kept("born < '1970-01-01'", born()), [0]);
    assert_eq!(kept("born in ('2000-02-29')", born()), [1]);
    let micros = |text| tidemill_guest::calendar::parse_datetime(text).unwrap();
    let seen = build::Ints::of(&[micros("2026-11-20 10:00:00"), micros("2026-11-20 10:00:00.000001")]);
    assert_eq!(kept("seen > '2026-11-20T10:00:00Z'", seen), [1]);
    assert_eq!(kept("took < '-01:00'", build::Ints::of(&[-3_600_000_001, -3_600_000_000])), [0]);
}

#[test]
fn text_bytes_floats_and_booleans_are_compared() {
    let status = || build::Texts::of(&["active", "Active", "inactive", "active-2", ""]);
    assert_eq!(kept("status like 'active%'", status()), [0, 3]);
    assert_eq!(kept("status not like '%active%'", status()), [1, 4]);
    assert_eq!(kept("status = 'active' or status = ''", status()), [0, 4]);
    assert_eq!(kept("status > 'active'", status()), [2, 3]);
    let floats = || build::Floats::of(&[0.5, -0.0, f64::NAN]);
    assert_eq!(kept("score >= 0", floats()), [0, 1]);
    assert_eq!(kept("score <> 0.5", floats()), [1, 2]);
    assert_eq!(kept("not vip", build::Bools::of(&[true, false])), [1]);
    assert_eq!(kept("vip != false", build::Bools::of(&[true, false])), [0]);
    assert_eq!(kept("tag = x'00ff'", build::Bytes::of(&[vec![0, 255], vec![0]])), [0]);
    let uuid = "ref = '123e4567-e89b-12d3-a456-426614174000'";
    assert_eq!(
        kept(uuid, build::Bytes::of(&[0x123e_4567_e89b_12d3_a456_4266_1417_4000_u128.to_be_bytes()])),
        [0]
    );
}

#[test]
fn a_comparison_with_null_is_unknown() {
    let ints = || {
        let mut ints = build::Ints::default();
        ints.push(1);
        ints.push_null();
        ints.push(3);
        ints.finish()
    };
    assert_eq!(kept("id = 1", ints()), [0]);
    assert_eq!(kept("not id = 1", ints()), [2]);
    assert_eq!(kept("id = 1 or id <> 1", ints()), [0, 2]);
    assert_eq!(kept("id is null", ints()), [1]);
    assert_eq!(kept("id is not null", ints()), [0, 2]);
    assert_eq!(kept("id not in (1)", ints()), [2]);
    assert_eq!(kept("id is null or id > 2", ints()), [1, 2]);
}

#[test]
fn an_absent_value_rejects_only_rows_that_depend_on_it() {
    let plan = |text| Predicate::parse(text).unwrap().plan(&table()).unwrap();
    let rows = || {
        let mut status = build::Texts::default();
        status.push_absent();
        status.push("active");
        status.push_absent();
        testing::rows(&table(), vec![build::Ints::of(&[1, 2, 3]), status.finish()])
    };
    assert_eq!(plan("id > 5 and status = 'active'").keep(&rows()).unwrap().count_ones(), 0);
    assert_eq!(plan("id > 0 or status = 'active'").keep(&rows()).unwrap().count_ones(), 3);
    let Err(Error::Rejected(rejected)) = plan("id > 2 and status = 'active'").keep(&rows()) else {
        panic!("row 2")
    };
    assert_eq!(rejected.iter().map(|row| row.row).collect::<Vec<_>>(), [2]);
    assert!(rejected[0].message.starts_with("column \"status\" is needed"), "{rejected:?}");
    let Err(Error::Rejected(rejected)) = plan("id > 0 and status is null").keep(&rows()) else {
        panic!("rows 0, 2")
    };
    assert_eq!(rejected.iter().map(|row| row.row).collect::<Vec<_>>(), [0, 2]);
}

#[test]
fn what_does_not_fit_is_told_before_the_first_row() {
    let start = "table shop.orders, column";
    assert_eq!(
        plan_error("id = 'abc'"),
        format!("{start} id (int64): 'abc' does not fit; write a number without quotes, as in 50 or -1.5")
    );
    assert_eq!(
        plan_error("status = 5"),
        format!("{start} status (text): 5 does not fit; write text in single quotes, as in 'active'")
    );
    assert_eq!(
        plan_error("born = '2026-02-30'"),
        format!("{start} born (date): '2026-02-30' does not fit; write a date, as in '2026-01-31'")
    );
    assert_eq!(
        plan_error("price like '1%'"),
        format!("{start} price (decimal(65,30)): `like` is for text; compare with `=`, `<` or `between`")
    );
    assert_eq!(
        plan_error("doc = '{}'"),
        format!("{start} doc (json): its values are not compared; use `is null` or `is not null`")
    );
    assert_eq!(
        plan_error("vip > true"),
        format!("{start} vip (bool): true and false have no order; use `= true` or `= false`")
    );
    assert_eq!(
        plan_error("stauts = 'a'"),
        "table shop.orders has no column \"stauts\"; did you mean \"status\"?"
    );
}

#[test]
fn simple_conjuncts_become_conditions_and_the_rest_stays() {
    let split = |text| Predicate::parse(text).unwrap().split(&table()).unwrap();
    let condition = |column, comparison, literals: &[&str]| Condition {
        column,
        comparison,
        literals: literals.iter().map(|literal| (*literal).to_owned()).collect(),
    };
    let all = split(
        "id >= 5 and price between 1.50 and 2 and status in ('a','b') and doc is not null and seen < '2026-01-31'",
    );
    assert!(all.rest.is_none());
    assert_eq!(
        all.conditions,
        [
            condition(0, Comparison::Ge, &["5"]),
            condition(2, Comparison::Ge, &["1.5"]),
            condition(2, Comparison::Le, &["2"]),
            condition(3, Comparison::OneOf, &["a", "b"]),
            condition(11, Comparison::IsNotNull, &[]),
            condition(5, Comparison::Lt, &["2026-01-31 00:00:00"]),
        ]
    );
    let some = split("id < 10.5 and vip and (status = 'a' or status like 'b%')");
    assert_eq!(some.conditions, [condition(8, Comparison::Eq, &["true"])]);
    assert_eq!(some.rest.unwrap().input(), [0, 3]);
}

/// Every row by itself, in the words of three-valued logic.
mod by_hand {
    pub fn and(a: Option<bool>, b: Option<bool>) -> Option<bool> {
        match (a, b) {
            (Some(false), _) | (_, Some(false)) => Some(false),
            (Some(true), Some(true)) => Some(true),
            _ => None,
        }
    }
    pub fn or(a: Option<bool>, b: Option<bool>) -> Option<bool> {
        and(a.map(|a| !a), b.map(|b| !b)).map(|both| !both)
    }
}

#[test]
fn columns_judge_as_rows_by_themselves_would() {
    let plan = Predicate::parse("not (id > 1 and size < 2) or not (size = 1 or id = 0)")
        .unwrap()
        .plan(&table())
        .unwrap();
    // Every pair of NULL, 0, 1, 2, 3, over more rows than a word has.
    let cells: Vec<(Option<u64>, Option<u64>)> = (0..150u64)
        .map(|n| ((n % 5), (n / 5 % 5)))
        .map(|(a, b)| (a.checked_sub(1), b.checked_sub(1)))
        .collect();
    let (mut id, mut size) = (build::Ints::default(), build::Uints::default());
    for (a, b) in &cells {
        id.push_or_null(a.map(|a| a as i64));
        size.push_or_null(*b);
    }
    let found = plan.keep(&testing::rows(&table(), vec![id.finish(), size.finish()])).unwrap();
    for (row, (a, b)) in cells.iter().enumerate() {
        let left = by_hand::and(a.map(|a| a > 1), b.map(|b| b < 2)).map(|both| !both);
        let right = by_hand::or(b.map(|b| b == 1), a.map(|a| a == 0)).map(|either| !either);
        assert_eq!(found.get(row), by_hand::or(left, right) == Some(true), "{a:?} {b:?}");
    }
}
