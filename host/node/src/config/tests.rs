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
        time:2026-11-20T08:00:00Z (UTC), position:TIMELINE/SCN, snapshot or copy",
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

const RELAY: &str = r#"data = "data"

[source.shop]
kind = "relay"
relays = ["https://r1.example:7878", "https://r2.example:7878"]
token = { env = "UPSTREAM_TOKEN" }
tls_ca = "certs/ca.pem"

[source.shop.history]
url = "s3://bucket/prefix"
keep_time = "365 days"
upload_after = "10 min"
cache = "1 GiB"

[subscription.paid]
source = "shop"
at_relay = { tables = ["shop.*"], columns = { "shop.orders" = ["id", "amount"] }, where = { "shop.orders" = "amount >= 100 and state = 'paid'" }, partition = "hash:0/4", filters = ["paid"] }
consumer = { module = "builtin:print" }

[relay]
listen = "0.0.0.0:7878"
tls = { certificate = "relay.pem", key = "relay.key", client_ca = "clients.pem" }

[relay.limits]
connections = 2000
stalled_time = "5 minutes"

[[relay.grant]]
name = "analysts"
token = { file = "analysts.token" }
sources = ["shop"]
tables = ["shop.orders"]

[[relay.grant]]
name = "ops"
certificate = "ops.example"
sources = ["*"]
admin = true
metrics = true

[relay.filter.paid]
module = "builtin:where"
config = { tables = ["shop.orders"], where = "amount > 50" }
"#;

/// As [`refused`], for the relay's configuration.
#[track_caller]
fn relay_refused(from: &str, to: &str, words: &str) {
    assert!(RELAY.contains(from));
    assert_eq!(parse(&RELAY.replace(from, to)).unwrap_err(), format!("tidemill.toml:{words}"));
}

#[test]
fn a_relay_and_a_source_behind_one_are_read() {
    let config = parse(RELAY).unwrap().based_on(Path::new("/etc/tidemill"));
    let shop = config.source["shop"].get_ref();
    assert_eq!((shop.kind, shop.relays.len()), (SourceKind::Relay, 2));
    let history = shop.history.as_ref().unwrap();
    assert_eq!((history.url.as_str(), history.cache), ("s3://bucket/prefix", Bytes(1 << 30)));
    let at_relay = config.subscription["paid"].get_ref().at_relay.as_ref().unwrap();
    assert_eq!(at_relay.columns["shop.orders"], ["id", "amount"]);
    assert_eq!(at_relay.predicates["shop.orders"], "amount >= 100 and state = 'paid'");
    let relay = config.relay.as_ref().unwrap().get_ref();
    assert_eq!(relay.limits.connections, Some(2000));
    assert_eq!(relay.tls.as_ref().unwrap().key, Path::new("/etc/tidemill/relay.key"));
    let token = relay.grant[0].get_ref().token.clone();
    assert_eq!(token, Some(SecretRef::File("/etc/tidemill/analysts.token".into())));
    assert_eq!(relay.filter["paid"].module, "builtin:where");
}

#[test]
fn a_relay_is_told_nothing_by_default_but_listens_on_loopback() {
    let relay = parse(&format!("{WHOLE}\n[relay]\n")).unwrap().relay.unwrap().into_inner();
    assert!(relay.listen.ip().is_loopback() && relay.grant.is_empty() && relay.tls.is_none());
}

#[test]
fn off_loopback_a_relay_needs_encryption_and_grants() {
    let tls = "tls = { certificate = \"relay.pem\", key = \"relay.key\", client_ca = \"clients.pem\" }";
    relay_refused(tls, "", "20: relay: it listens off loopback and needs `tls = { certificate, key }`");
    let open =
        format!("{WHOLE}\n[relay]\nlisten = \"[::]:1\"\ntls = {{ certificate = \"c\", key = \"k\" }}\n");
    let words = "tidemill.toml:29: relay: it listens off loopback and needs at least one [[relay.grant]]: nobody is let in without";
    assert_eq!(parse(&open).unwrap_err(), words);
}

#[test]
fn a_wrong_grant_is_refused_at_its_line() {
    let near = "28: grant `analysts`: there is no source `shpo`; did you mean `shop`?";
    relay_refused("sources = [\"shop\"]", "sources = [\"shpo\"]", near);
    let none = "34: grant `ops`: it needs a `token` or a `certificate`: by what else is anybody known?";
    relay_refused("certificate = \"ops.example\"\n", "", none);
    relay_refused(
        ", client_ca = \"clients.pem\"",
        "",
        "34: grant `ops`: `certificate` needs `tls.client_ca`, the authorities that sign such certificates",
    );
    relay_refused("\"ops\"", "\"analysts\"", "34: grant `analysts`: there is another of that name");
    relay_refused(
        "\"shop.orders\"]\n",
        "\"orders\"]\n",
        "28: grant `analysts`: `orders` is no table; write database.table or database.*",
    );
    relay_refused("metrics =", "metric =", "39: unknown key `metric`; did you mean `metrics`?");
}

#[test]
fn no_secret_fits_into_the_relays_configuration() {
    let form =
        "a secret does not stand in the configuration; write { env = \"NAME\" } or { file = \"PATH\" }";
    relay_refused("{ file = \"analysts.token\" }", "\"hunter2\"", &format!("30: {form}"));
    relay_refused("{ env = \"UPSTREAM_TOKEN\" }", "\"hunter2\"", &format!("6: {form}"));
    let address = "has a user, a query or a fragment, where secrets end up in logs; write the address alone";
    relay_refused("https://r1.", "https://me:hunter2@r1.", &format!("3: source `shop`: `relays` {address}"));
    relay_refused(
        "bucket/prefix",
        "bucket/prefix?key=hunter2",
        &format!("3: source `shop`: `url` {address}"),
    );
    relay_refused(
        "s3://bucket",
        "me:hunter2@s3",
        "3: source `shop`: `…` is no history's url; write s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX or file:///DIRECTORY",
    );
}

#[test]
fn a_token_goes_to_another_machine_encrypted_only() {
    let words = "3: source `shop`: a token is never sent unencrypted; write https:// in place of `http://r1.example:7878`";
    relay_refused("https://r1.", "http://r1.", words);
    for loopback in ["http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1"] {
        assert!(parse(&RELAY.replace("https://r1.example:7878", loopback)).is_ok(), "{loopback}");
    }
    relay_refused(
        "https://r1.",
        "r1.",
        "3: source `shop`: `r1.example:7878` is no relay's address; write https://HOST:PORT, or http://127.0.0.1:PORT",
    );
}

#[test]
fn encrypted_relays_need_an_authority() {
    let words =
        "3: source `shop`: https:// in `relays` needs `tls_ca`, the authorities that sign their certificates";
    relay_refused("tls_ca = \"certs/ca.pem\"\n", "", words);
}

#[test]
fn keys_of_a_relay_belong_to_a_relay() {
    relay_refused(
        "tls_ca =",
        "user = \"x\"\ntls_ca =",
        "3: source `shop`: `user` belongs to a server; remove it, or set kind = \"mysql\" or \"mariadb\"",
    );
    refused(
        "user =",
        "token = { env = \"T\" }\nuser =",
        "tidemill.toml:6: source `shop`: `token` belongs to a relay; remove it, or set kind = \"relay\"",
    );
    relay_refused(
        "relays = [\"https://r1.example:7878\", \"https://r2.example:7878\"]\n",
        "",
        "3: source `shop`: `relays` is missing",
    );
    let words = "tidemill.toml:17: subscription `paid`: `at_relay` is what a relay does for `tidemill consume`; its source is no relay; remove it, or set kind = \"relay\" there";
    refused("source = \"shop\"", "source = \"shop\"\nat_relay = { filters = [\"x\"] }", words);
}

#[test]
fn what_a_relay_is_asked_for_has_its_forms() {
    let paid = "15: subscription `paid`:";
    relay_refused(
        "tables = [\"shop.*\"]",
        "tables = [\"shop\"]",
        &format!("{paid} `shop` is no table; write database.table or database.*"),
    );
    relay_refused(
        "hash:0/4",
        "0/4",
        &format!(
            "{paid} `0/4` is no partition; write hash:TAKE/OF, mod:TAKE/OF:COLUMN or range:TAKE:B1+B2:COLUMN"
        ),
    );
    relay_refused(
        "state = 'paid'",
        "state = paid",
        &format!(
            "{paid} `where` of `shop.orders`: \"paid\" stands where a literal belongs; write a number, or text in single \
             quotes"
        ),
    );
    relay_refused(
        "\"shop.orders\" = [\"id\"",
        "orders = [\"id\"",
        &format!("{paid} `orders` in `columns` is no table; write \"database.table\" = [\"column\"]"),
    );
}

#[test]
fn a_name_is_fit_for_folders_and_addresses() {
    let words = "tidemill.toml:6: source `../shop`: a name has up to 64 letters, digits, `_`, `-` and `.`, and does not begin with `.`";
    let text = WHOLE
        .replace("[source.shop]", "[source.\"../shop\"]")
        .replace("[source.shop.log]", "[source.\"../shop\".log]");
    assert_eq!(parse(&text).unwrap_err(), words);
}

fn with_bootstrap(keys: &str) -> Result<Config, String> {
    parse(&format!("{WHOLE}\n[bootstrap.shop]\n{keys}\n"))
}

#[test]
fn snapshot_storage_needs_only_a_store() {
    let config = with_bootstrap("store = \"s3://lake/cdc\"\nclone = { connections = 8 }").unwrap();
    let shop = config.bootstrap["shop"].get_ref();
    assert_eq!((shop.keep_versions, shop.clone.connections, shop.clone.chunk_rows), (2, 8, 50_000));
    assert_eq!((shop.flush, shop.apply), (Bytes(64 << 20), Bytes(16 << 20)));
    let here = with_bootstrap("store = \"the lake\"").unwrap().based_on(Path::new("/srv"));
    assert_eq!(here.bootstrap["shop"].get_ref().store, "file:///srv/the%20lake");
}

#[test]
fn wrong_snapshot_storage_is_refused_with_what_to_write() {
    for (keys, words) in [
        ("store = \"http://lake\"", "write s3://BUCKET/PREFIX"),
        ("store = \"s3://key:hunter2@lake/x\"", "write the address alone"),
        ("store = \"file:///x\"\ntables = [\"orders\"]", "write database.table or database.*"),
        ("store = \"file:///x\"\nclone = { connections = 0 }", "`clone.connections` is 0; write at least 1"),
        ("store = \"\"", "`store` is empty; write s3://BUCKET/PREFIX"),
        ("store = \"x\"\nclone = { threads_running = 0 }", "`clone.threads_running` is 0; write at least 1"),
        ("store = \"x\"\nclone = { connections = 9999 }", "`clone.connections` is 9999; write at most 256"),
        ("store = \"file:///x\"\npublish = \"1 h\"", "publish_every"),
    ] {
        let refused = with_bootstrap(keys).unwrap_err();
        assert!(refused.contains(words) && !refused.contains("hunter2"), "{refused}");
    }
    let other = parse(&format!("{WHOLE}\n[bootstrap.shpo]\nstore = \"file:///x\"\n")).unwrap_err();
    assert!(other.contains("did you mean `shop`?"), "{other}");
}

/// `WHOLE`, its subscription beginning with a copy.
fn with_copy(keys: &str) -> String {
    WHOLE.replace("start = \"position:1/1099511628000\"", &format!("start = \"copy\"\n{keys}"))
}

#[test]
fn a_subscription_begins_with_a_copy_of_a_server_whose_keys_are_those_of_a_clone() {
    let plain = parse(&with_copy("")).unwrap();
    assert_eq!(plain.subscription["paid"].get_ref().start, Start::Copy);
    let given = parse(&with_copy("copy = { connections = 2, chunk_rows = 500 }")).unwrap();
    let copy = given.subscription["paid"].get_ref().copy.clone().unwrap();
    assert_eq!((copy.connections, copy.chunk_rows, copy.rows_per_second), (2, 500, None));
}

#[test]
fn a_copy_of_what_has_no_tables_is_refused_with_what_to_write() {
    let refused = |text: &str, words: &str| {
        let said = parse(text).unwrap_err();
        assert!(said.contains("subscription `paid`: ") && said.contains(words), "{said}");
    };
    let files = with_copy("").replace(
        "kind = \"mysql\"\nhost = \"127.0.0.1\"\nuser = \"tidemill\"\npassword = { env = \"SHOP_PASSWORD\" }",
        "kind = \"binlog-files\"\ndirectory = \"binlog\"",
    );
    refused(&files, "source `shop` is files, which have no tables to copy");
    let relay = with_copy("").replace(
        "kind = \"mysql\"\nhost = \"127.0.0.1\"\nuser = \"tidemill\"\npassword = { env = \"SHOP_PASSWORD\" }",
        "kind = \"relay\"\nrelays = [\"http://127.0.0.1:7878\"]",
    );
    refused(&relay, "name the server that it follows in a [subscription.NAME.copy.server] table");
    let server = "copy.server = { kind = \"mysql\", host = \"127.0.0.1\", user = \"tidemill\" }";
    parse(&relay.replace("start = \"copy\"", &format!("start = \"copy\"\n{server}"))).unwrap();
    let another = server
        .replace("\"mysql\"", "\"relay\"")
        .replace("host = \"127.0.0.1\", user = \"tidemill\"", "relays = [\"http://127.0.0.1:7878\"]");
    refused(
        &relay.replace("start = \"copy\"", &format!("start = \"copy\"\n{another}")),
        "`copy.server` is no server",
    );
    refused(&with_copy("copy = { chunk_rows = 0 }"), "`copy.chunk_rows` is 0; write at least 1");
    let nothing = WHOLE.replace("source = \"shop\"", "source = \"shop\"\ncopy = { connections = 2 }");
    refused(&nothing, "`copy` says how a copy is made, and `start` is none; set start = \"copy\"");
}
