//! Row images that lack columns, from a server's session to the consumer: what was not logged is left out, NULL is null,
//! and who needs what is absent stops with its name.

#![allow(clippy::unwrap_used, reason = "tests")]

use serde_json::{Value, json};
use tidemill_e2e::Folder;
use tidemill_servers::{Kind, Options, Server};
use tokio::task::block_in_place;

async fn server(kind: Kind, image: &str) -> Server {
    let server = Server::start(kind, Options::default()).await.unwrap();
    server
        .sql(&format!(
            "CREATE DATABASE t; USE t; CREATE TABLE n (id INT PRIMARY KEY, v INT, note TEXT); \
             INSERT INTO n VALUES (1, 2, NULL), (2, 3, 'x'); SET SESSION binlog_row_image = '{image}'; \
             UPDATE n SET v = NULL WHERE id = 1; UPDATE n SET note = 'y' WHERE id = 2; DELETE FROM n WHERE id = 2"
        ))
        .await
        .unwrap();
    server
}

/// The rows before and after, of everything behind the two inserts.
async fn printed(kind: Kind, image: &str) -> Vec<(Value, Value)> {
    let mut server = server(kind, image).await;
    let folder = Folder::new("");
    let source = folder.source("shop", &server);
    folder.configure(&format!(
        "{source}\n[subscription.printed]\nsource = \"shop\"\nconsumer = {{ module = \"builtin:print\", grants = [\"stdout\"] }}\n"
    ));
    let output = block_in_place(|| folder.start(&["up", "--once"]).wait());
    assert!(output.status.success(), "{}", output.errors);
    server.stop().await.unwrap();
    let shown = output.changes().into_iter().map(|c| (c.0["before"].clone(), c.0["after"].clone()));
    shown.skip(2).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn l30_what_a_minimal_image_leaves_out_is_left_out_of_the_json_and_null_is_null() {
    for kind in Kind::ALL {
        let expected = [
            (json!({"id": 1}), json!({"v": null})),
            (json!({"id": 2}), json!({"note": "y"})),
            (json!({"id": 2}), Value::Null),
        ];
        assert_eq!(printed(kind, "MINIMAL").await, expected, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn l31_what_other_images_leave_out_is_left_out_of_the_json() {
    for kind in Kind::ALL {
        let expected = [
            (json!({"id": 1, "v": 2}), json!({"id": 1, "v": null})),
            (json!({"id": 2, "v": 3}), json!({"id": 2, "v": 3, "note": "y"})),
            (json!({"id": 2, "v": 3}), Value::Null),
        ];
        assert_eq!(printed(kind, "NOBLOB").await, expected, "{kind}");
    }
    let expected = [
        (json!({"id": 1, "v": 2, "note": null}), json!({"v": null})),
        (json!({"id": 2, "v": 3, "note": "x"}), json!({"note": "y"})),
        (json!({"id": 2, "v": 3, "note": "y"}), Value::Null),
    ];
    assert_eq!(printed(Kind::MariaDb118, "FULL_NODUP").await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn l30_who_needs_an_absent_column_stops_and_names_it() {
    let mut server = server(Kind::MySql, "MINIMAL").await;
    let folder = Folder::new("");
    let source = folder.source("shop", &server);
    let check = "consumer = { module = \"builtin:replica-check\" }";
    let print = "consumer = { module = \"builtin:print\", grants = [\"stdout\"] }";
    for (guests, guest) in [
        (check.to_owned(), "replica-check"),
        (format!("{print}\nfilter = [{{ module = \"builtin:where\", config.where = \"v > 1\" }}]"), "where"),
    ] {
        folder.configure(&format!(
            "{source}\n[subscription.{guest}]\nsource = \"shop\"\nretries = 0\n{guests}\n"
        ));
        let output = block_in_place(|| folder.start(&["up", "--once"]).wait());
        assert!(!output.status.success(), "{guest}");
        assert!(output.errors.contains("t.n") && output.errors.contains(guest), "{}", output.errors);
        let named = ["\"v\"", "\"note\"", "`v`", "column v"];
        assert!(named.iter().any(|name| output.errors.contains(name)), "{guest}: {}", output.errors);
    }
    server.stop().await.unwrap();
}
