//! The mask as the host drives it, natively.

#![allow(clippy::unwrap_used, reason = "tests")]

use tidemill_guest::column::Cell;
use tidemill_guest::projection::Running;
use tidemill_guest::{Column, Error, Physical, TableDef, build, testing};

use super::Mask;

const KEY: &str = "0123456789abcdef";

fn table() -> TableDef {
    let columns = [("id", "int64"), ("email", "text"), ("phone", "text"), ("born", "date"), ("note", "text")];
    testing::table("shop.customers", &columns, &["id"])
}

fn mask(rules: &str) -> Result<Running<Mask>, Error> {
    Running::setup(&format!(r#"{{"key_id":"k1","key":"{KEY}","rules":{rules}}}"#))
}

fn config_error(rules: &str) -> String {
    match mask(rules).and_then(|mut mask| mask.plan(&table())) {
        Err(Error::Config(message) | Error::Unsupported(message)) => message,
        _ => panic!("{rules} is wrong"),
    }
}

fn texts(column: &Column) -> Vec<Cell<&str>> {
    (0..column.len()).map(|row| column.cell::<&str>(row).unwrap()).collect()
}

/// One column, masked by one action.
fn masked(rule: &str, column: Column) -> Column {
    let mut mask = mask(&format!("[{rule}]")).unwrap();
    let plan = mask.plan(&table()).unwrap().unwrap();
    let columns = if plan.input.is_empty() { vec![] } else { vec![column.clone()] };
    let mut rows = testing::rows(&table(), columns);
    rows.count = column.len() as u32;
    mask.project(&rows).unwrap().remove(0)
}

#[test]
fn hash_is_hmac_sha_256_with_the_keys_name() {
    // Computed by another implementation:
    // printf 'a@b.c' | openssl dgst -sha256 -hmac 0123456789abcdef
    let mut emails = build::Texts::default();
    emails.push("a@b.c");
    emails.push_null();
    emails.push_absent();
    emails.push("");
    let column = masked(r#"{"columns":"shop.*.email","action":"hash"}"#, emails.finish());
    let found = texts(&column);
    assert_eq!(found[0], Cell::Value("k1:c8b9adc27ca0fc812e2cca09aab792e34c9d8d2fce3408abb47cb633bbb5e77f"));
    assert_eq!((found[1], found[2]), (Cell::Null, Cell::Absent));
    assert_eq!(found[3], Cell::Value("k1:496dc93fa2d26eae500ec0bc37a122706b88f8963cebf0899d0245fae313e241"));
}

#[test]
fn values_of_every_length_hash_as_one_by_one() {
    use hmac::Mac;
    let values: Vec<String> = (0..200).map(|length| "é".repeat(length)).collect();
    let column = masked(r#"{"columns":"shop.*.email","action":"hash"}"#, build::Texts::of(&values));
    for (row, value) in values.iter().enumerate() {
        let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(KEY.as_bytes()).unwrap();
        mac.update(value.as_bytes());
        let digits: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(column.cell::<&str>(row), Some(Cell::Value(format!("k1:{digits}").as_str())), "{row}");
    }
}

#[test]
fn a_number_hashes_as_its_text() {
    let ids = masked(r#"{"columns":"*.*.id","action":"hash"}"#, build::Ints::of(&[-17]));
    let text = masked(r#"{"columns":"*.*.email","action":"hash"}"#, build::Texts::of(&["-17"]));
    assert_eq!(ids.values, text.values);
}

#[test]
fn only_masked_columns_enter_the_guest() {
    let mut mask =
        mask(r#"[{"columns":"*.*.note","action":"drop"},{"columns":"*.*.email","action":"hash"}]"#).unwrap();
    let plan = mask.plan(&table()).unwrap().unwrap();
    assert_eq!(plan.input, [1]);
    let output: Vec<_> = plan.output.iter().map(|column| (column.def.name.as_str(), column.source)).collect();
    assert_eq!(output, [("id", Some(0)), ("email", None), ("phone", Some(2)), ("born", Some(3))]);
    assert_eq!(mask.plan(&testing::table("bank.a", &[("id", "int64")], &["id"])), Ok(None));
}

#[test]
fn the_first_rule_that_names_a_column_wins() {
    let rules = r#"[{"columns":"shop.*.email","action":"truncate","length":1},{"columns":"*.*.email","action":"drop"}]"#;
    let plan = mask(rules).unwrap().plan(&table()).unwrap().unwrap();
    assert_eq!(plan.output.len(), 5);
}

#[test]
fn truncate_counts_characters() {
    let column = masked(
        r#"{"columns":"*.*.phone","action":"truncate","length":3}"#,
        build::Texts::of(&["+49123", "äöüß", "1", ""]),
    );
    assert_eq!(texts(&column), [Cell::Value("+49"), Cell::Value("äöü"), Cell::Value("1"), Cell::Value("")]);
}

#[test]
fn null_and_constant_need_no_values() {
    let born = || build::Ints::of(&[1, 2, 3]);
    let null = masked(r#"{"columns":"*.*.born","action":"null"}"#, born());
    assert_eq!((0..3).map(|row| null.cell::<i64>(row).unwrap()).collect::<Vec<_>>(), [Cell::Null; 3]);
    let constant = masked(r#"{"columns":"*.*.born","action":"constant","value":"1970-01-02"}"#, born());
    assert_eq!((0..3).map(|row| constant.cell::<i64>(row).unwrap()).collect::<Vec<_>>(), [Cell::Value(1); 3]);
    let mut mask = mask(r#"[{"columns":"*.*.born","action":"null"}]"#).unwrap();
    let plan = mask.plan(&table()).unwrap().unwrap();
    assert_eq!(
        (plan.input, plan.output[3].def.nullable, plan.output[3].def.physical),
        (vec![], true, Physical::Ints)
    );
}

#[test]
fn a_rule_that_cannot_be_meant_is_refused_with_what_would_be_right() {
    for (rules, expected) in [
        (
            r#"[{"columns":"shop.*.id","action":"drop"}]"#,
            "rules: shop.*.id: column id is part of the key of shop.customers and may not be changed by Drop; use `hash`, which keeps rows apart",
        ),
        (
            r#"[{"columns":"shop.email","action":"hash"}]"#,
            "rules: shop.email: columns are named schema.table.column, as in \"shop.*.email\"",
        ),
        (
            r#"[{"columns":"shop.customers.emial","action":"hash"}]"#,
            "rules: shop.customers.emial: table shop.customers has no column \"emial\"; did you mean \"email\"?",
        ),
        (
            r#"[{"columns":"*.*.born","action":"truncate","length":4}]"#,
            "rules: *.*.born: column shop.customers.born is date: `truncate` is for text and bytes; use `null` or `constant`",
        ),
        (
            r#"[{"columns":"*.*.phone","action":"truncate"}]"#,
            "rules: *.*.phone: `truncate` needs `length`, the number of characters that stay",
        ),
        (
            r#"[{"columns":"*.*.born","action":"constant","value":5}]"#,
            "rules: *.*.born: column shop.customers.born is date: `value` has to be a value of that type",
        ),
    ] {
        assert_eq!(config_error(rules), expected);
    }
    assert!(matches!(
        Running::<Mask>::setup(r#"{"rules":[{"columns":"a.b.c","action":"hash"}]}"#),
        Err(Error::Config(_))
    ));
    assert!(matches!(
        Running::<Mask>::setup(r#"{"key_id":"k1","key":"short","rules":[]}"#),
        Err(Error::Config(_))
    ));
}
