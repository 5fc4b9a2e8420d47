//! What the source policy removes is nowhere: not in the log, its history, the store, snapshot storage, what is served, the
//! output or the messages.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;

use tidemill_e2e::{Folder, Relay, free_port};
use tidemill_servers::{Kind, Options, Server};
use tokio::task::block_in_place;

const POLICY: &str = r#"
[secret.people]
file = "people.key"
[source.shop.policy]
module = "builtin:select"
config.tables = [
    { match = "t.people", columns = { email = { pseudonym = "people" }, phone = "drop", born = "blank" }, rows = "country = 'de'" },
    { match = "t.open" },
]
[subscription.printed]
source = "shop"
consumer = { module = "builtin:print", grants = ["stdout"] }
"#;

/// Texts that must be nowhere; each begins alike so that a part of one is found too.
const CANARIES: [&str; 6] =
    ["canary-mail", "canary-phone", "1963-04-05", "canary-foreign", "canary-closed", "canary-ddl"];

const STATEMENTS: &str = "CREATE DATABASE t;
    CREATE TABLE t.people (id INT PRIMARY KEY, email VARCHAR(60), phone VARCHAR(60), born DATE, country CHAR(2), name VARCHAR(60));
    CREATE TABLE t.open (id INT PRIMARY KEY, v VARCHAR(60));
    CREATE TABLE t.closed (id INT PRIMARY KEY, v VARCHAR(60) DEFAULT 'canary-ddl');
    INSERT INTO t.people VALUES (1, 'canary-mail-1', 'canary-phone-1', '1963-04-05', 'de', 'visible-name'),
        (2, 'canary-mail-2', NULL, '1963-04-05', 'fr', 'canary-foreign');
    UPDATE t.people SET phone = 'canary-phone-2', born = NULL WHERE id = 1;
    UPDATE t.people SET country = 'fr', name = 'canary-foreign' WHERE id = 1;
    INSERT INTO t.closed VALUES (1, 'canary-closed');
    ALTER TABLE t.people ADD COLUMN extra VARCHAR(20) DEFAULT 'canary-ddl';
    INSERT INTO t.open VALUES (1, 'visible-open')";

async fn nowhere(kind: Kind) {
    let mut server = Server::start(kind, Options::default()).await.unwrap();
    server.sql(STATEMENTS).await.unwrap();
    let folder = Folder::new("");
    folder.write("people.key", b"a key for pseudonyms");
    folder.configure(&format!("{}{POLICY}", folder.source("shop", &server)));
    let output = block_in_place(|| folder.start(&["up", "--once"]).wait());
    assert!(output.status.success(), "{}", output.errors);
    let text = output.lines.join("\n");
    assert!(text.contains("visible-name") && text.contains("visible-open"), "{text}");
    assert!(text.contains("\"email\":\"people:"), "the address is a pseudonym: {text}");
    let stored = folder.stored();
    let log: Vec<_> = stored.iter().filter(|(path, _)| path.to_string_lossy().contains("/log/")).collect();
    assert!(log.iter().any(|(_, bytes)| holds(bytes, "visible-name")), "the search finds what is there");
    for canary in CANARIES {
        for (path, bytes) in &stored {
            assert!(!holds(bytes, canary), "{canary} in {}", path.display());
        }
        assert!(!text.contains(canary), "{canary} in the output");
        assert!(!output.errors.contains(canary), "{canary} in the messages: {}", output.errors);
    }
    server.stop().await.unwrap();
}

fn holds(bytes: &[u8], word: &str) -> bool {
    bytes.windows(word.len()).any(|w| w == word.as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_policy_removes_from_mysql_is_nowhere() {
    nowhere(Kind::MySql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_policy_removes_from_mariadb_is_nowhere() {
    nowhere(Kind::MariaDb).await;
}

const STORAGE: &str = r#"start = "now"
[source.shop.history]
url = "file://HISTORY"
upload_after = "200 ms"
[bootstrap.shop]
store = "lake"
flush_every = "200 ms"
apply_every = "500 ms"
publish_every = "1 s"
[relay]
listen = "127.0.0.1:PORT"
"#;

/// Every value of every Parquet file, every text of its footer, and every log segment without its compression.
const SEARCHED: &str = "
import glob, json, pyarrow, pyarrow.parquet
texts = {}
for path in glob.glob('lake/**/*.parquet', recursive=True):
    file = pyarrow.parquet.ParquetFile(path)
    rows = [str(row) for row in file.read().to_pylist()]
    texts[path] = '\\n'.join([str(file.schema_arrow), str(file.metadata.metadata), *rows])
for path in glob.glob('lake/**/*.seg', recursive=True):
    texts[path] = pyarrow.input_stream(path, compression='zstd').read().decode('latin-1')
print(json.dumps(texts))
";

const COPIED: &str = "CREATE DATABASE t;
    CREATE TABLE t.people (id INT PRIMARY KEY, email VARCHAR(60), phone VARCHAR(60), born DATE, country CHAR(2), name VARCHAR(60));
    CREATE TABLE t.open (id INT PRIMARY KEY, v VARCHAR(60));
    CREATE TABLE t.closed (id INT PRIMARY KEY, v VARCHAR(60) DEFAULT 'canary-ddl');
    INSERT INTO t.people VALUES (1, 'canary-mail-1', 'canary-phone-1', '1963-04-05', 'de', 'visible-copied'),
        (2, 'canary-mail-2', NULL, '1963-04-05', 'fr', 'canary-foreign'),
        (3, 'canary-mail-3', 'canary-phone-3', '1963-04-05', 'de', 'visible-leaves');
    INSERT INTO t.closed VALUES (1, 'canary-closed');
    INSERT INTO t.open VALUES (1, 'visible-open')";

const FOLLOWED: &str = "INSERT INTO t.people VALUES (4, 'canary-mail-4', 'canary-phone-4', '1963-04-05', 'de', 'visible-followed'),
        (5, 'canary-mail-5', NULL, '1963-04-05', 'fr', 'canary-foreign');
    UPDATE t.people SET phone = 'canary-phone-2', born = NULL WHERE id = 1;
    UPDATE t.people SET country = 'fr', name = 'canary-foreign' WHERE id = 3;
    UPDATE t.people SET country = 'de', name = 'visible-comes' WHERE id = 2;
    UPDATE t.people SET email = 'canary-mail-6' WHERE id = 4;
    INSERT INTO t.closed VALUES (2, 'canary-closed');
    DELETE FROM t.closed";

const ALTERED: &str = "ALTER TABLE t.people ADD COLUMN extra VARCHAR(20) COMMENT 'canary-ddl';
    UPDATE t.people SET name = 'visible-altered', phone = 'canary-phone-5', extra = 'more' WHERE id = 1";

/// The names of the people of the newest version.
fn names(folder: &Folder) -> BTreeSet<String> {
    let (columns, rows) = folder.by_duckdb("t.people");
    let name = columns.iter().position(|column| column == "name").unwrap();
    rows.into_iter().filter_map(|row| row[name].clone()).collect()
}

fn wait_names(folder: &Folder, relay: &mut Relay, names_now: &[&str]) {
    let expected: BTreeSet<String> = names_now.iter().map(|name| (*name).to_owned()).collect();
    // Each look takes Python as long as it takes.
    while names(folder) != expected {
        relay.wait_for("healthz", |answer| answer.status == 200);
    }
}

/// What a relay tells whoever asks: changes, the snapshot, the tables, figures and states.
fn served(relay: &Relay) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    [
        "metrics",
        "healthz",
        "readyz",
        "v1/admin/sources",
        "v1/admin/subscriptions",
        "v1/sources/shop",
        "v1/sources/shop/tables",
        "v1/sources/shop/changes?from=earliest&follow=false",
        "v1/sources/shop/changes?from=earliest&follow=false&format=frames",
        "v1/sources/shop/bootstrap",
        "v1/sources/shop/bootstrap?format=frames",
    ]
    .map(|path| {
        let answer = relay.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        (path.into(), answer.body.into_bytes())
    })
    .into()
}

async fn nowhere_in_snapshots(kind: Kind) {
    let mut server = Server::start(kind, Options::default()).await.unwrap();
    server.sql(COPIED).await.unwrap();
    let (folder, port) = (Folder::new(""), free_port());
    let history = folder.path().join("history");
    std::fs::create_dir(&history).unwrap();
    folder.write("people.key", b"a key for pseudonyms");
    let storage =
        STORAGE.replace("PORT", &port.to_string()).replace("HISTORY", &history.display().to_string());
    let (source, subscribed) =
        (folder.source("shop", &server), "[subscription.printed]\nstart = \"snapshot\"");
    let policy = POLICY.replace("[subscription.printed]", subscribed);
    folder.configure(&format!("{source}{storage}{policy}"));
    let cloned = block_in_place(|| folder.run(&["clone"]));
    assert!(cloned.status.success(), "{}", cloned.errors);
    let mut relay = block_in_place(|| folder.serve("up", port));
    server.sql(FOLLOWED).await.unwrap();
    block_in_place(|| {
        wait_names(&folder, &mut relay, &["visible-comes", "visible-copied", "visible-followed"])
    });
    server.sql(ALTERED).await.unwrap();
    let mut printed = String::new();
    block_in_place(|| {
        wait_names(&folder, &mut relay, &["visible-altered", "visible-comes", "visible-followed"]);
        folder.assert_equal(&["t.open", "t.people"]);
        while !printed.contains("visible-altered") {
            printed.push_str(&relay.instance.line().expect("it runs"));
        }
        relay.wait_for("metrics", |answer| {
            let uploaded = answer
                .body
                .lines()
                .find_map(|l| l.strip_prefix("tidemill_history_segments{source=\"shop\"} "));
            uploaded.is_some_and(|uploaded| uploaded.parse::<f64>().unwrap() >= 1.0)
        });
    });
    let mut found = block_in_place(|| served(&relay));
    let ended = block_in_place(|| relay.terminate());
    assert!(ended.status.success(), "{}", ended.errors);
    for (name, text) in [
        ("output", format!("{printed}{}", ended.lines.join("\n"))),
        ("messages of clone", format!("{}{}", cloned.lines.join("\n"), cloned.errors)),
        ("messages of up", ended.errors),
    ] {
        found.push((name.into(), text.into_bytes()));
    }
    found.extend(folder.stored());
    let texts = block_in_place(|| folder.python(SEARCHED));
    let texts = texts.as_object().unwrap().iter();
    found.extend(texts.map(|(path, text)| (path.into(), text.as_str().unwrap().as_bytes().to_vec())));

    for (place, word) in [
        ("/clone/", "visible-copied"),
        ("/run/", "visible-followed"),
        ("/snap-", "people:"),
        ("lake/shop/log/", "visible-followed"),
        ("data/log/", "visible-altered"),
        ("history/", "visible-followed"),
        ("store.redb", "printed"),
        ("metrics", "printed"),
        ("changes?", "visible-altered"),
        ("bootstrap", "visible-altered"),
        ("output", "visible-copied"),
        ("messages of up", "printed"),
    ] {
        let is_there =
            found.iter().any(|(path, bytes)| path.to_string_lossy().contains(place) && holds(bytes, word));
        assert!(is_there, "the search finds what is there: {word} in {place}");
    }
    for canary in CANARIES {
        for (path, bytes) in &found {
            assert!(!holds(bytes, canary), "{canary} in {}", path.display());
        }
    }
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn b52_what_the_policy_removes_from_mysql_is_nowhere_with_snapshots_either() {
    nowhere_in_snapshots(Kind::MySql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b52_what_the_policy_removes_from_mariadb_is_nowhere_with_snapshots_either() {
    nowhere_in_snapshots(Kind::MariaDb).await;
}
