//! Tables of odd names, columns and keys, from a real server into snapshot storage: copied, followed, compared, and read by a
//! stranger.

#![allow(clippy::unwrap_used, reason = "tests")]

use tidemill_e2e::Folder;
use tidemill_servers::{Kind, Options, Server};
use tokio::task::block_in_place;

const STORAGE: &str = "[bootstrap.shop]\nstore = \"lake\"\nflush_every = \"200 ms\"\napply_every = \"500 ms\"\n\
                       publish_every = \"1 s\"\n";

/// By the name of the only table that begins with it: its columns, and how many rows it has.
const READ: &str = "import glob, json, pyarrow.dataset as ds
def read(start):
    (latest,) = glob.glob(f'lake/shop/{start}*/LATEST.json')
    folder = latest[:-len('LATEST.json')] + json.load(open(latest))['path']
    table = ds.dataset(folder, format='parquet').to_table()
    return [table.column_names, table.num_rows]
print(json.dumps([read(start) for start in ('t.own', 't.!E8!A1!A8', 't.uniques')]))";

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_odd_names_columns_and_keys_are_copied_followed_compared_and_readable() {
    for kind in Kind::ALL {
        let server = Server::start(kind, Options::default()).await.unwrap();
        let long = "表".repeat(40);
        let tables = format!(
            "CREATE DATABASE t;
             CREATE TABLE t.own (_scn INT PRIMARY KEY, __OP INT, _count INT); INSERT INTO t.own VALUES (1, 2, 3);
             CREATE TABLE t.{long} (id INT PRIMARY KEY); INSERT INTO t.{long} VALUES (1), (2);
             CREATE TABLE t.uniques (a INT NOT NULL, b INT NOT NULL, v INT, UNIQUE KEY (b), UNIQUE KEY (a));
             INSERT INTO t.uniques VALUES (1, 10, 1), (2, 20, 2), (3, 30, 3)"
        );
        server.sql(&tables).await.unwrap();
        let folder = Folder::new("");
        folder.configure(&format!("{}{STORAGE}", folder.source("shop", &server)));
        let cloned = block_in_place(|| folder.run(&["clone"]));
        assert!(cloned.status.success(), "{kind}: {}", cloned.errors);
        let names = ["t.own".to_owned(), "t.uniques".to_owned(), format!("t.{long}")];
        let names = names.each_ref().map(String::as_str);
        block_in_place(|| folder.assert_equal(&names));
        let up = folder.up();
        let changes = format!(
            "INSERT INTO t.own VALUES (4, 5, 6); INSERT INTO t.{long} VALUES (3); DELETE FROM t.{long} WHERE id = 1;
             UPDATE t.uniques SET v = 7 WHERE a = 1; UPDATE t.uniques SET b = 25 WHERE a = 2; DELETE FROM t.uniques WHERE a = 3"
        );
        server.sql(&changes).await.unwrap();
        block_in_place(|| folder.assert_equal(&names));
        let ended = block_in_place(|| up.terminate());
        assert!(ended.status.success(), "{kind}: {}", ended.errors);
        let read = block_in_place(|| folder.python(READ));
        let columns: Vec<&serde_json::Value> =
            read.as_array().unwrap().iter().map(|table| &table[0]).collect();
        assert_eq!(*columns[0], serde_json::json!(["_scn", "__OP", "_count", "__scn"]), "{kind}");
        assert_eq!(*columns[1], serde_json::json!(["id", "_scn"]), "{kind}");
        assert_eq!(*columns[2], serde_json::json!(["a", "b", "v", "_scn"]), "{kind}");
    }
}

/// A table, a statement that changes what is in it or its columns, and the columns and rows that are there then, as texts.
type Case = (&'static str, &'static str, &'static [&'static str], &'static [&'static [&'static str]]);

const STATEMENTS: [Case; 4] = [
    (
        "t.swapped",
        "ALTER TABLE t.swapped RENAME COLUMN x TO y, RENAME COLUMN y TO x",
        &["id", "y", "x"],
        &[&["1", "10", "20"]],
    ),
    ("t.cut", "ALTER TABLE t.cut MODIFY v DECIMAL(10,1)", &["id", "v"], &[&["1", "1.3"]]),
    ("t.again", "DROP TABLE t.again; CREATE TABLE t.again (id INT PRIMARY KEY)", &["id"], &[]),
    (
        "t.replaced",
        "ALTER TABLE t.replaced DROP COLUMN v, RENAME COLUMN w TO V",
        &["id", "V"],
        &[&["1", "3"]],
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn b51_what_a_statement_made_of_a_table_is_published_though_no_row_is_written_after_it() {
    for kind in Kind::ALL {
        let server = Server::start(kind, Options::default()).await.unwrap();
        let tables = "CREATE DATABASE t;
             CREATE TABLE t.swapped (id INT PRIMARY KEY, x INT, y INT); INSERT INTO t.swapped VALUES (1, 10, 20);
             CREATE TABLE t.cut (id INT PRIMARY KEY, v DECIMAL(10,2)); INSERT INTO t.cut VALUES (1, 1.25);
             CREATE TABLE t.again (id INT PRIMARY KEY); INSERT INTO t.again VALUES (1), (2);
             CREATE TABLE t.replaced (id INT PRIMARY KEY, v INT, w INT); INSERT INTO t.replaced VALUES (1, 2, 3)";
        server.sql(tables).await.unwrap();
        let folder = Folder::new("");
        folder.configure(&format!("{}{STORAGE}", folder.source("shop", &server)));
        let cloned = block_in_place(|| folder.run(&["clone"]));
        assert!(cloned.status.success(), "{kind}: {}", cloned.errors);
        let mut up = folder.up();
        for (_, statement, ..) in STATEMENTS {
            server.sql(statement).await.unwrap();
        }
        let expected = |columns: &[&str], rows: &[&[&str]]| -> (Vec<String>, Vec<Vec<Option<String>>>) {
            let row = |row: &&[&str]| row.iter().map(|value| Some((*value).to_owned())).collect();
            (columns.iter().map(|name| (*name).to_owned()).collect(), rows.iter().map(row).collect())
        };
        for (table, _, columns, rows) in STATEMENTS {
            let expected = expected(columns, rows);
            while block_in_place(|| folder.by_duckdb(table)) != expected {
                assert!(up.ended().is_none(), "{kind}: it goes on");
                tokio::task::yield_now().await;
            }
        }
        let ended = block_in_place(|| up.terminate());
        assert!(ended.status.success(), "{kind}: {}", ended.errors);
    }
}
