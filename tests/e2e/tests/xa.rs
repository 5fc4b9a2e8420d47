//! An XA transaction through the whole program: nothing of it before its commit, then all of it, over a restart of the
//! program in between; and what the policy removes from it is not even kept.

#![allow(clippy::unwrap_used, reason = "tests")]

use mysql_async::prelude::Queryable;
use tidemill_e2e::{Change, Folder};
use tidemill_servers::{Kind, Options, Server};
use tokio::task::block_in_place;

const CONFIG: &str = r#"
[source.shop.policy]
module = "builtin:select"
config.tables = [{ match = "t.*", columns = { hidden = "drop" } }]
[subscription.printed]
source = "shop"
consumer = { module = "builtin:print", grants = ["stdout"] }
"#;

fn once(folder: &Folder) -> Vec<Change> {
    let output = block_in_place(|| folder.start(&["up", "--once"]).wait());
    assert!(output.status.success(), "{}", output.errors);
    output.changes()
}

fn ids(changes: &[Change]) -> Vec<i64> {
    changes.iter().map(|change| change.after("id").as_i64().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prepared_transaction_waits_on_disk_for_its_commit_without_what_the_policy_removes() {
    for kind in Kind::ALL {
        let mut server = Server::start(kind, Options::default()).await.unwrap();
        server
            .sql(
                "CREATE DATABASE t; CREATE TABLE t.n (id INT PRIMARY KEY, hidden VARCHAR(40), v VARCHAR(40))",
            )
            .await
            .unwrap();
        let mut conn = server.conn().await.unwrap();
        for statement in [
            "XA START 'a'",
            "INSERT INTO t.n VALUES (1, 'canary-1', 'visible'), (2, 'canary-2', 'visible')",
            "XA END 'a'",
            "XA PREPARE 'a'",
        ] {
            conn.query_drop(statement).await.unwrap();
        }
        server.sql("INSERT INTO t.n VALUES (3, 'canary-3', 'visible')").await.unwrap();
        let folder = Folder::new("");
        folder.configure(&format!("{}{CONFIG}", folder.source("shop", &server)));
        assert_eq!(ids(&once(&folder)), [3], "{kind}: the others are not committed");
        let kept = folder.data().join("fetcher/shop/prepared.redb");
        assert!(kept.exists(), "{kind}");
        conn.query_drop("XA COMMIT 'a'").await.unwrap();
        let changes = once(&folder);
        assert_eq!(ids(&changes), [1, 2], "{kind}");
        assert_eq!(changes[0].place().0, changes[1].place().0, "{kind}: one transaction");
        for (path, bytes) in folder.stored() {
            let holds = bytes.windows(7).any(|word| word == b"canary-");
            assert!(!holds, "{kind}: {}", path.display());
        }
        assert!(once(&folder).is_empty(), "{kind}");
        conn.disconnect().await.unwrap();
        server.stop().await.unwrap();
    }
}
