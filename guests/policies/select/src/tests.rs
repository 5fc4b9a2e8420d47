//! The policy as the host drives it, natively.

#![allow(clippy::unwrap_used, reason = "tests")]

use tidemill_guest::bindings::policy::exports::tidemill::guest::clone_policy::{
    ClonePlan, Decision, Verdict,
};
use tidemill_guest::policy::{Comparison, Condition, Running, Treatment};
use tidemill_guest::{Error, TableDef, build, testing};

use super::Select;

const CONFIG: &str = r#"{"tables": [
    {"match": "shop.orders",
     "columns": {"email": {"pseudonym": "MAIL_KEY"}, "note": "drop", "card*": "blank"},
     "rows": "amount > 0 and status in ('paid', 'sent')"},
    {"match": "shop.o*", "rows": "amount > 0 and (status = 'a' or amount < 9)"},
    {"match": "shop.*"}
]}"#;

fn table(name: &str) -> TableDef {
    let columns = [
        ("id", "int64"),
        ("email", "text"),
        ("note", "text"),
        ("card_number", "text"),
        ("amount", "int64"),
        ("status", "text"),
    ];
    testing::table(name, &columns, &["id"])
}

fn taken(config: &str, name: &str) -> ClonePlan {
    match Running::<Select>::setup(config).unwrap().decide(&table(name)) {
        Ok(Decision::Take(plan)) => plan,
        other => panic!("{name}: {other:?}"),
    }
}

fn refused(config: &str) -> String {
    match Running::<Select>::setup(config).and_then(|mut policy| policy.decide(&table("shop.orders"))) {
        Err(Error::Config(message) | Error::Unsupported(message)) => message,
        other => panic!("{config}: {other:?}"),
    }
}

#[test]
fn columns_are_treated_and_simple_rows_left_to_the_host() {
    let plan = taken(CONFIG, "shop.orders");
    let pseudonym = Treatment::Pseudonym("MAIL_KEY".to_owned());
    let (keep, drop, blank) = (Treatment::Keep, Treatment::Drop, Treatment::Blank);
    assert_eq!(plan.columns, [keep.clone(), pseudonym, drop, blank, keep.clone(), keep]);
    let condition = |column, comparison, literals: &[&str]| Condition {
        column,
        comparison,
        literals: literals.iter().map(|literal| (*literal).to_owned()).collect(),
    };
    let expected = [condition(4, Comparison::Gt, &["0"]), condition(5, Comparison::OneOf, &["paid", "sent"])];
    assert_eq!((plan.conditions.as_slice(), plan.input.as_slice()), (expected.as_slice(), [].as_slice()));
}

#[test]
fn what_the_host_cannot_judge_is_judged_over_its_columns() {
    let mut policy = Running::<Select>::setup(CONFIG).unwrap();
    let Ok(Decision::Take(plan)) = policy.decide(&table("shop.offers")) else { panic!("it is named") };
    assert_eq!((plan.conditions.len(), plan.input.as_slice()), (1, [5, 4].as_slice()));
    let rows = testing::rows(
        &table("shop.offers"),
        vec![build::Texts::of(&["a", "b", "b"]), build::Ints::of(&[10, 8, 9])],
    );
    assert_eq!(policy.apply(&rows), Ok(Verdict { keep: vec![0b011], columns: vec![] }));
}

#[test]
fn tables_are_taken_by_the_first_entry_or_not_at_all() {
    assert!(taken(CONFIG, "shop.customers").conditions.is_empty());
    let mut policy = Running::<Select>::setup(CONFIG).unwrap();
    assert_eq!(policy.decide(&table("bank.accounts")), Ok(Decision::Skip));
    let kept = taken(r#"{"tables": [], "otherwise": "keep"}"#, "bank.accounts");
    assert_eq!(kept.columns, vec![Treatment::Keep; 6]);
}

#[test]
fn the_most_telling_name_wins_in_any_order() {
    let columns = |columns: &str| {
        taken(&format!(r#"{{"tables":[{{"match":"*.*","columns":{columns}}}]}}"#), "shop.orders").columns
    };
    let plan = columns(r#"{"*": "keep", "card*": "blank", "card_number": "drop"}"#);
    assert_eq!(plan[3], Treatment::Drop);
    assert_eq!(columns(r#"{"c*": "drop", "card*": "blank", "*": {"pseudonym": "K"}}"#)[3], Treatment::Blank);
}

#[test]
fn what_cannot_be_meant_is_refused_with_what_would_be_right() {
    let entry = |rest: &str| format!(r#"{{"tables":[{{"match":"shop.orders",{rest}}}]}}"#);
    for (config, expected) in [
        (
            entry(r#""columns":{"id":"drop"}"#),
            "columns: id is part of the key of shop.orders and can neither be dropped nor blanked; keep it, or use a pseudonym",
        ),
        (
            entry(r#""columns":{"emial":"drop"}"#),
            "columns: table shop.orders has no column \"emial\"; did you mean \"email\"?",
        ),
        (
            entry(r#""columns":{"e*l":"drop","*il":"keep"}"#),
            "columns: \"*il\" and \"e*l\" both name shop.orders.email and say different things; name the column itself",
        ),
        (
            entry(r#""columns":{"email":{"pseudonym":""}}"#),
            "shop.orders: columns: email: `pseudonym` takes the name of a secret, as in {\"pseudonym\": \"MAIL_KEY\"}",
        ),
        (
            entry(r#""rows":"amount >""#),
            "shop.orders: rows: predicate \"amount >\": it ends where a value (text stands in single quotes) was expected",
        ),
        (
            entry(r#""rows":"amount > 'a'""#),
            "table shop.orders, column amount (int64): 'a' does not fit; write a number without quotes, as in 50 or -1.5",
        ),
        (
            r#"{"tables":[{"match":"orders"}]}"#.to_owned(),
            "match: \"orders\" names no table; write schema.table, for example \"shop.orders\" or \"shop.*\"",
        ),
    ] {
        assert_eq!(refused(&config), expected);
    }
    assert!(Running::<Select>::setup(r#"{"tables":[{"match":"a.b","columns":{"c":"hide"}}]}"#).is_err());
}
