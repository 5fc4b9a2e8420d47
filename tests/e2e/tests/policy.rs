//! What the source policy removes is nowhere: not in the log, the store, the output or the messages.

#![allow(clippy::unwrap_used, reason = "tests")]

use tidemill_e2e::Folder;
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
    let holds = |bytes: &[u8], word: &str| bytes.windows(word.len()).any(|w| w == word.as_bytes());
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

#[tokio::test(flavor = "multi_thread")]
async fn what_the_policy_removes_from_mysql_is_nowhere() {
    nowhere(Kind::MySql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_policy_removes_from_mariadb_is_nowhere() {
    nowhere(Kind::MariaDb).await;
}
