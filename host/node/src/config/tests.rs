#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

const WHOLE: &str = r#"data = "data"

[secret.masking]
env = "MASKING_KEY"

[source.shop]
kind = "mysql"
host = "127.0.0.1"
user = "tidemill"
password = { env = "SHOP_PASSWORD" }
start = "time:2026-11-20T08:00:00Z"

[source.shop.log]
memory = "64 MiB"
keep_time = "7 days"

[subscription.paid]
source = "shop"
start = "position:1/1099511628000"

[[subscription.paid.filter]]
module = "builtin:where"
config = { tables = ["shop.orders"], where = "amount > 50" }

[subscription.paid.consumer]
module = "builtin:print"
grants = ["stdout"]
"#;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text, Path::new("tidemill.toml")).map_err(|e| e.to_string())
}

#[test]
fn a_whole_configuration_is_read() {
    let config = parse(WHOLE).unwrap();
    let shop = config.source["shop"].get_ref();
    assert_eq!(shop.log.memory, Bytes(64 << 20));
    assert_eq!(shop.log.keep_time, Some(Time(std::time::Duration::from_secs(7 * 86_400))));
    assert_eq!(shop.start, Start::Time(1_795_161_600_000_000));
    let paid = config.subscription["paid"].get_ref();
    assert_eq!(paid.filter[0].module, "builtin:where");
    assert!(matches!(paid.start, Start::Position(p) if p.timeline == 1 && p.scn.0 == 1_099_511_628_000));
}

#[test]
fn what_becomes_of_values_that_are_none_is_said_per_source() {
    let shop = |text: &str| parse(text).unwrap().source["shop"].get_ref().clone();
    let silent = shop(WHOLE);
    assert_eq!((silent.zero_dates, silent.bad_text), (ZeroDates::Error, BadText::Error));
    assert!(!silent.declared_types);
    let said = shop(&WHOLE.replace("user =", "zero_dates = \"null\"\nbad_text = \"replace\"\nuser ="));
    assert_eq!((said.zero_dates, said.bad_text), (ZeroDates::Null, BadText::Replace));
    assert!(shop(&WHOLE.replace("user =", "declared_types = true\nuser =")).declared_types);
    refused(
        "user =",
        "zero_dates = \"nul\"\nuser =",
        "tidemill.toml:9: unknown value `nul`; did you mean `null`?",
    );
}

/// `from` is replaced by `to` in the whole configuration, which must then be refused in these words.
#[track_caller]
fn refused(from: &str, to: &str, words: &str) {
    assert!(WHOLE.contains(from));
    assert_eq!(parse(&WHOLE.replace(from, to)).unwrap_err(), words);
}

#[test]
fn an_unknown_key_is_refused_with_its_line_and_the_nearest_key() {
    refused("memory =", "memmory =", "tidemill.toml:14: unknown key `memmory`; did you mean `memory`?");
    refused(
        "[[subscription.paid.filter]]",
        "[[subscription.paid.fliter]]",
        "tidemill.toml:21: unknown key `fliter`; did you mean `filter`?",
    );
}

#[test]
fn an_unknown_key_without_a_near_one_lists_the_keys() {
    let words = "tidemill.toml:14: unknown key `ring`; the keys here are: memory, segment, keep_bytes, keep_time, sync";
    refused("memory =", "ring =", words);
}

#[test]
fn an_unknown_kind_is_refused_with_the_nearest_one() {
    refused("\"mysql\"", "\"mysq\"", "tidemill.toml:7: unknown value `mysq`; did you mean `mysql`?");
}

#[test]
fn a_secret_in_the_text_is_refused_without_being_repeated() {
    let words = "tidemill.toml:10: a secret does not stand in the configuration; write { env = \"NAME\" } or { file = \"PATH\" }";
    refused("{ env = \"SHOP_PASSWORD\" }", "\"hunter2\"", words);
}

#[test]
fn a_subscription_of_no_source_is_refused_with_the_nearest_one() {
    let words = "tidemill.toml:17: subscription `paid`: there is no source `shopp`; did you mean `shop`?";
    refused("source = \"shop\"", "source = \"shopp\"", words);
}

#[test]
fn a_key_of_the_other_kind_is_refused() {
    let words = "tidemill.toml:6: source `shop`: `directory` belongs to files; remove it, or set kind = \"binlog-files\"";
    refused("user =", "directory = \"x\"\nuser =", words);
}

#[test]
fn encryption_is_read_and_its_settings_belong_together() {
    let given = "tls = \"verify-identity\"\ntls_ca = \"certs/ca.pem\"\nuser =";
    let config = parse(&WHOLE.replace("user =", given)).unwrap().based_on(Path::new("/etc/tidemill"));
    let shop = config.source["shop"].get_ref();
    assert_eq!(shop.tls, Some(Tls::VerifyIdentity));
    assert_eq!(shop.tls_ca.as_deref(), Some(Path::new("/etc/tidemill/certs/ca.pem")));

    let shop = "tidemill.toml:6: source `shop`:";
    for (given, words) in [
        ("tls = \"verify-ca\"", "`tls` verifies the server's certificate and needs `tls_ca`, a PEM file"),
        ("tls_ca = \"ca.pem\"", "`tls_ca` counts with `tls = \"verify-ca\"` or \"verify-identity\" only"),
        ("tls_key = \"own.key\"", "`tls_certificate` and `tls_key` belong together"),
        (
            "cleartext_password = true",
            "`cleartext_password` needs `tls = \"verify-identity\"` (or \"verify-ca\") and `tls_ca`",
        ),
    ] {
        refused("user =", &format!("{given}\nuser ="), &format!("{shop} {words}"));
    }
    let words = "tidemill.toml:10: unknown value `verify`; write one of: off, prefer, require, verify-ca, verify-identity";
    refused("user = \"tidemill\"", "user = \"tidemill\"\ntls = \"verify\"", words);
}

#[test]
fn a_missing_key_is_named() {
    refused("host = \"127.0.0.1\"\n", "", "tidemill.toml:6: source `shop`: `host` is missing");
    refused("module = \"builtin:print\"\n", "", "tidemill.toml:25: `module` is missing");
}

#[test]
fn sizes_durations_and_starts_say_how_they_are_written() {
    refused(
        "64 MiB",
        "64 megs",
        "tidemill.toml:14: `64 megs` is no size; write a number and B, kB, MB, GB, KiB, MiB or GiB: \"64 MiB\"",
    );
    refused(
        "7 days",
        "week",
        "tidemill.toml:15: `week` is no duration; write a number and ms, s, min, h or days: \"7 days\"",
    );
    refused(
        "time:2026-11-20T08:00:00Z",
        "yesterday",
        "tidemill.toml:11: `yesterday` is no start; write earliest, now, \
        time:2026-11-20T08:00:00Z (UTC) or position:TIMELINE/SCN",
    );
}

#[test]
fn a_grant_belongs_to_a_consumer() {
    refused(
        "module = \"builtin:where\"",
        "module = \"builtin:where\"\ngrants = [\"clocks\"]",
        "tidemill.toml:17: subscription `paid`: `builtin:where` is not the consumer; only a consumer can be granted anything",
    );
}

#[test]
fn a_secret_shows_itself_to_nobody() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "hunter2\n").unwrap();
    let secret = SecretRef::File(file.path().to_owned()).fetch().unwrap();
    assert_eq!(secret.reveal(), "hunter2");
    assert!(!format!("{secret:?}").contains("hunter2"));
}
