//! Tables whose columns the log does not name, definitions in their place, and row images that lack columns: on real
//! servers of both families.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::path::Path;

use support::{all, checkpoint, only, read_all_of, stop, text};
use tidemill_event::EventKind;
use tidemill_fetchers_api::conformance::{Seen, SeenChange};
use tidemill_fetchers_api::{Fetcher, Selector, Start};
use tidemill_fetchers_mysql::{MySqlFetcher, Origin, Password, ServerOptions, Settings};
use tidemill_servers::{Kind, Options, Server};

fn user(server: &Server) -> ServerOptions {
    ServerOptions::new("127.0.0.1", server.port(), Server::USER, Password::new(server.user_password()))
}

async fn open(server: &Server, start: Start, directory: Option<&Path>) -> MySqlFetcher {
    open_for(server, start, directory, only("d")).await
}

async fn open_for(
    server: &Server,
    start: Start,
    directory: Option<&Path>,
    selector: Selector,
) -> MySqlFetcher {
    let settings = Settings { directory: directory.map(Path::to_owned), ..Settings::from(selector) };
    MySqlFetcher::open("test", Origin::Server(user(server)), start, settings).await.unwrap()
}

/// A server whose log has as little metadata as its family allows.
async fn bare(kind: Kind) -> Server {
    let server = Server::start(kind, Options::default()).await.unwrap();
    let level = if kind == Kind::MySql { "MINIMAL" } else { "NO_LOG" };
    server.sql(&format!("SET GLOBAL binlog_row_metadata = {level}; CREATE DATABASE d")).await.unwrap();
    server
}

/// Changes as texts: `+ d.t id=1 v=NULL`, absent columns left out.
fn lines(seen: &Seen) -> Vec<String> {
    let schemas: std::collections::HashMap<_, _> =
        seen.windows.iter().flat_map(|w| &w.tables).map(|t| (t.schema.id(), t.schema.clone())).collect();
    let mut lines = vec![];
    for change in seen.transactions.iter().flat_map(|t| &t.changes) {
        match change {
            SeenChange::Row { table, schema, before, after, .. } => {
                let image = |(row, absent): &(arrow_array::RecordBatch, Vec<usize>)| {
                    let columns = schemas[schema].columns().iter().enumerate();
                    let present = columns.filter(|(c, _)| !absent.contains(c));
                    let values = present.map(|(c, column)| {
                        format!("{}={}", column.name, text(row, c, 0, &column.source_type))
                    });
                    values.collect::<Vec<_>>().join(" ")
                };
                let images = [("-", before), ("+", after)];
                let some =
                    images.iter().filter_map(|(sign, i)| i.as_ref().map(|i| format!("{sign} {}", image(i))));
                lines.push(format!("{table} {}", some.collect::<Vec<_>>().join(" ")));
            }
            SeenChange::Event { kind, .. } => lines.push(match kind {
                EventKind::SchemaChange { tables, .. } => {
                    format!("schema {}", tables.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
                }
                EventKind::Truncate { table } => format!("truncate {table}"),
                EventKind::Drop { table } => format!("drop {table}"),
                EventKind::DropDatabase { database } => format!("drop {database}"),
                EventKind::Rename { from, to } => format!("rename {from} {to}"),
                EventKind::Invalidate { table, .. } => format!("anew {table}"),
            }),
        }
    }
    lines
}

const EVERY_TYPE: &str = "CREATE TABLE d.every (id BIGINT UNSIGNED PRIMARY KEY, a TINYINT, b SMALLINT UNSIGNED, c MEDIUMINT, \
     e INT UNSIGNED ZEROFILL, f FLOAT, g DOUBLE, h DECIMAL(20,4), i DECIMAL(5,0) UNSIGNED, j BIT(1), k BIT(20), l DATE, \
     m TIME, n TIME(3), o DATETIME(6), p TIMESTAMP NULL, q YEAR, r CHAR(5) CHARACTER SET latin1, \
     s CHAR(200) CHARACTER SET utf8mb4, t VARCHAR(20), u VARCHAR(300) CHARACTER SET latin1, v BINARY(7), w VARBINARY(300), \
     x TINYBLOB, y BLOB, z MEDIUMBLOB, aa LONGBLOB, ab TINYTEXT, ac TEXT, ad MEDIUMTEXT, ae LONGTEXT, \
     af ENUM('a','b''c','ö') NOT NULL, ag SET('x','y','z') CHARACTER SET latin1, ah POINT, ai GEOMETRY, aj JSON)";
const EVERY_VALUE: &str = "INSERT INTO d.every VALUES (18446744073709551615, -1, 65535, -8388608, 4294967295, 1.5, -2.25, \
     -1234567890123456.7891, 99999, b'1', b'10101010101010101010', '2026-11-20', '-838:59:59', '-00:00:00.500', \
     '2026-11-20 10:11:12.123456', '2026-11-20 10:11:12', 2026, 'ä', REPEAT('ü', 200), 'größe', REPEAT('ö', 300), \
     x'01020000000000', x'ff', 'a', 'b', 'c', 'd', 'ä', 'ö', 'ü', 'ß', 'ä', 'x,z', POINT(1, 2), \
     ST_GeomFromText('LINESTRING(0 0, 1 1)'), '{\"a\": 1}')";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l32_without_metadata_every_type_is_what_it_is_with_it() {
    for kind in Kind::EVERY {
        let server = bare(kind).await;
        server.sql(&format!("{EVERY_TYPE}; {EVERY_VALUE}")).await.unwrap();
        server
            .sql(&format!("SET GLOBAL binlog_row_metadata = FULL; DELETE FROM d.every; {EVERY_VALUE}"))
            .await
            .unwrap();
        let seen = read_all_of(&mut open(&server, Start::Earliest, None).await, &server).await.unwrap();
        let schemas: Vec<_> = seen.windows.iter().flat_map(|w| &w.tables).map(|t| t.schema.clone()).collect();
        assert!(schemas.iter().all(|schema| *schema == schemas[0]), "{kind}: {schemas:#?}");
        let lines: Vec<String> =
            lines(&seen).into_iter().filter(|line| line.starts_with("d.every +")).collect();
        assert_eq!(lines.len(), 2, "{kind}");
        assert_eq!(lines[0], lines[1], "{kind}");
        assert!(lines[0].contains("id=18446744073709551615 a=-1 b=65535 c=-8388608"), "{kind}: {lines:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l32_a_definition_between_row_and_server_stops_the_stream_with_the_repair() {
    for kind in Kind::ALL {
        let server = bare(kind).await;
        server
            .sql(
                "CREATE TABLE d.t (id INT PRIMARY KEY, a INT, b INT); INSERT INTO d.t VALUES (1, 2, 3); \
                 ALTER TABLE d.t CHANGE a x INT, CHANGE b a INT; INSERT INTO d.t VALUES (2, 3, 4)",
            )
            .await
            .unwrap();
        // The types are the same: without looking at the log between, the names would have been the wrong ones.
        let text = stop(&mut open(&server, Start::Earliest, None).await).await;
        for part in [
            "table d.t",
            "was changed since",
            "ALTER TABLE d.t CHANGE",
            "SET GLOBAL binlog_row_metadata = FULL",
        ] {
            assert!(text.contains(part), "{kind}: {text}");
        }
        // Another table's definition is no reason.
        server.sql("CREATE TABLE d.u (id INT PRIMARY KEY)").await.unwrap();
        let mut fetcher = open(&server, Start::Now, None).await;
        server
            .sql("INSERT INTO d.t VALUES (3, 4, 5); CREATE TABLE d.v (id INT); DROP TABLE d.u")
            .await
            .unwrap();
        let seen = read_all_of(&mut fetcher, &server).await.unwrap();
        assert_eq!(lines(&seen)[0], "d.t + id=3 x=4 a=5", "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l32_a_definition_that_does_not_fit_the_map_stops_the_stream_and_names_what_differs() {
    for kind in Kind::ALL {
        let server = bare(kind).await;
        server
            .sql("CREATE TABLE d.t (id INT PRIMARY KEY, a VARCHAR(20)); INSERT INTO d.t VALUES (1, 'a')")
            .await
            .unwrap();
        // A definition that no log tells.
        server.sql("SET sql_log_bin = 0; DELETE FROM d.t; ALTER TABLE d.t MODIFY a BIGINT").await.unwrap();
        let text = stop(&mut open(&server, Start::Earliest, None).await).await;
        for part in ["table d.t, column `a`", "the definition says bigint", "binlog_row_metadata = FULL"] {
            assert!(text.contains(part), "{kind}: {text}");
        }
        server.sql("SET sql_log_bin = 0; ALTER TABLE d.t DROP a").await.unwrap();
        let text = stop(&mut open(&server, Start::Earliest, None).await).await;
        assert!(text.contains("the log has 2 columns of it, the definition 1"), "{kind}: {text}");
        server.sql("SET sql_log_bin = 0; DROP TABLE d.t").await.unwrap();
        let text = stop(&mut open(&server, Start::Earliest, None).await).await;
        assert!(text.contains("the server shows no such table"), "{kind}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l32_a_lagging_reader_uses_the_definition_that_was_in_force_where_it_stands() {
    for metadata in ["FULL", "MINIMAL"] {
        for kind in Kind::ALL {
            let server = Server::start(kind, Options::default()).await.unwrap();
            server
                .sql(&format!(
                    "SET GLOBAL binlog_row_metadata = {metadata}; CREATE DATABASE d; \
                     CREATE TABLE d.t (id INT PRIMARY KEY, a INT, b INT)"
                ))
                .await
                .unwrap();
            let directory = tempfile::tempdir().unwrap();
            // The first reader learns the definition, and stands still.
            server.sql("INSERT INTO d.t VALUES (1, 2, 3)").await.unwrap();
            let mut fetcher = open(&server, Start::Earliest, Some(directory.path())).await;
            let seen = read_all_of(&mut fetcher, &server).await.unwrap();
            let at = checkpoint(&seen);
            drop(fetcher);
            server
                .sql(
                    "INSERT INTO d.t VALUES (2, 3, 4); ALTER TABLE d.t CHANGE a x INT, CHANGE b a INT; \
                     INSERT INTO d.t VALUES (3, 4, 5)",
                )
                .await
                .unwrap();
            let mut fetcher = open(&server, Start::At(at), Some(directory.path())).await;
            let seen = read_all_of(&mut fetcher, &server).await.unwrap();
            let expected = ["d.t + id=2 a=3 b=4", "schema d.t", "d.t + id=3 x=4 a=5"];
            assert_eq!(lines(&seen), expected, "{kind} {metadata}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l32_a_definition_that_is_kept_is_proven_over_what_its_reader_did_not_read() {
    for kind in Kind::ALL {
        let server = bare(kind).await;
        let directory = tempfile::tempdir().unwrap();
        server
            .sql("CREATE TABLE d.t (id INT PRIMARY KEY, a INT); INSERT INTO d.t VALUES (1, 2)")
            .await
            .unwrap();
        let kept = read_all_of(&mut open(&server, Start::Earliest, Some(directory.path())).await, &server)
            .await
            .unwrap();
        assert_eq!(lines(&kept).last().unwrap(), "d.t + id=1 a=2");
        // Another reader, elsewhere, goes on; its checkpoint comes here.
        server.sql("INSERT INTO d.t VALUES (2, 3); CREATE TABLE d.u (id INT)").await.unwrap();
        let at = checkpoint(
            &read_all_of(&mut open(&server, Start::At(checkpoint(&kept)), None).await, &server)
                .await
                .unwrap(),
        );
        server.sql("INSERT INTO d.t VALUES (3, 4); ALTER TABLE d.t CHANGE a b INT; INSERT INTO d.t VALUES (4, 5)").await.unwrap();
        let mut fetcher = open(&server, Start::At(at.clone()), Some(directory.path())).await;
        let seen = read_all_of(&mut fetcher, &server).await.unwrap();
        assert_eq!(lines(&seen), ["d.t + id=3 a=4", "schema d.t", "d.t + id=4 b=5"], "{kind}");
        drop(fetcher);
        // Without what is kept, the server alone cannot say what the third row was.
        let text = stop(&mut open(&server, Start::At(at), None).await).await;
        assert!(text.contains("was changed since"), "{kind}: {text}");
        // A definition within the part that nobody here has read: what is kept is not used, the server is asked.
        server.sql("INSERT INTO d.t VALUES (5, 6); ALTER TABLE d.t CHANGE b c INT").await.unwrap();
        let mut fetcher = open(&server, Start::Now, Some(directory.path())).await;
        server.sql("INSERT INTO d.t VALUES (6, 7)").await.unwrap();
        let seen = read_all_of(&mut fetcher, &server).await.unwrap();
        assert_eq!(lines(&seen), ["d.t + id=6 c=7"], "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l62_names_are_told_as_a_server_keeps_them_that_takes_no_notice_of_case() {
    // MySQL settles this when its data are made, which the tests' servers share.
    let options = Options::default().argument("--lower-case-table-names=1");
    let server = Server::start(Kind::MariaDb, options).await.unwrap();
    server
        .sql("CREATE DATABASE d; CREATE TABLE D.Tab (id INT PRIMARY KEY); INSERT INTO d.TAB VALUES (1); TRUNCATE TABLE D.tAb")
        .await
        .unwrap();
    let seen = read_all_of(&mut open(&server, Start::Earliest, None).await, &server).await.unwrap();
    assert_eq!(lines(&seen), ["schema ", "schema d.tab", "d.tab + id=1", "truncate d.tab"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l33_a_tables_number_is_no_name_for_its_definition() {
    for kind in Kind::ALL {
        let server = bare(kind).await;
        let mut fetcher = open(&server, Start::Now, None).await;
        // Numbers begin anew with each start of a server, and change with each definition.
        server
            .sql("CREATE TABLE d.t (id INT PRIMARY KEY, a INT); INSERT INTO d.t VALUES (1, 2)")
            .await
            .unwrap();
        let mut all = lines(&read_all_of(&mut fetcher, &server).await.unwrap());
        server.sql("ALTER TABLE d.t RENAME COLUMN a TO b; INSERT INTO d.t VALUES (2, 3)").await.unwrap();
        all.extend(lines(&read_all_of(&mut fetcher, &server).await.unwrap()));
        server.sql("FLUSH TABLES; INSERT INTO d.t VALUES (3, 4); FLUSH BINARY LOGS; INSERT INTO d.t VALUES (4, 5)").await.unwrap();
        all.extend(lines(&read_all_of(&mut fetcher, &server).await.unwrap()));
        let expected = [
            "schema d.t",
            "d.t + id=1 a=2",
            "schema d.t",
            "d.t + id=2 b=3",
            "d.t + id=3 b=4",
            "d.t + id=4 b=5",
        ];
        assert_eq!(all, expected, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l32_only_the_tables_that_are_wanted_are_asked_for() {
    for kind in Kind::ALL {
        let server = bare(kind).await;
        // The definition of a table that nobody wants is gone: that stops nothing.
        server
            .sql(
                "CREATE TABLE d.t (id INT PRIMARY KEY); CREATE DATABASE e; CREATE TABLE e.t (id INT PRIMARY KEY); \
                 INSERT INTO e.t VALUES (1); DROP TABLE e.t; INSERT INTO d.t VALUES (1)",
            )
            .await
            .unwrap();
        let seen = read_all_of(&mut open(&server, Start::Earliest, None).await, &server).await.unwrap();
        assert_eq!(lines(&seen).last().unwrap(), "d.t + id=1", "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l61_a_swap_by_renames_tells_every_step_and_what_must_be_cloned_again() {
    for kind in Kind::ALL {
        let server = Server::start(kind, Options::default()).await.unwrap();
        server
            .sql(
                "CREATE DATABASE d; CREATE TABLE d.a (id INT PRIMARY KEY); INSERT INTO d.a VALUES (1); \
                 CREATE TABLE d._a_gho (id INT PRIMARY KEY, v INT); INSERT INTO d._a_gho VALUES (1, 2); \
                 RENAME TABLE d.a TO d._a_del, d._a_gho TO d.a; INSERT INTO d.a VALUES (2, 3); DROP TABLE d._a_del; \
                 USE d; ALTER TABLE a RENAME TO b; DROP DATABASE d",
            )
            .await
            .unwrap();
        let seen =
            read_all_of(&mut open_for(&server, Start::Earliest, None, all()).await, &server).await.unwrap();
        let expected = [
            "schema ",
            "schema d.a",
            "d.a + id=1",
            "schema d._a_gho",
            "d._a_gho + id=1 v=2",
            "rename d.a d._a_del",
            "rename d._a_gho d.a",
            "anew d._a_del",
            "anew d.a",
            "schema d.a d._a_del d._a_gho",
            "d.a + id=2 v=3",
            "drop d._a_del",
            "schema d._a_del",
            "rename d.a d.b",
            "anew d.b",
            "schema d.a d.b",
            "drop d",
            "schema ",
        ];
        assert_eq!(lines(&seen), expected, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l59_what_a_definition_does_to_partitions_and_tablespaces_is_told_in_its_place() {
    for kind in Kind::ALL {
        let server = Server::start(kind, Options::default()).await.unwrap();
        server
            .sql(
                "CREATE DATABASE d; USE d; \
                 CREATE TABLE p (id INT PRIMARY KEY) PARTITION BY RANGE (id) (PARTITION p0 VALUES LESS THAN (10), \
                 PARTITION p1 VALUES LESS THAN (20), PARTITION p2 VALUES LESS THAN (30)); \
                 CREATE TABLE x (id INT PRIMARY KEY); INSERT INTO p VALUES (1), (11), (21); \
                 ALTER TABLE p TRUNCATE PARTITION p0; ALTER TABLE p EXCHANGE PARTITION p1 WITH TABLE x; \
                 ALTER TABLE p DROP PARTITION p2; \
                 ALTER TABLE p REORGANIZE PARTITION p0, p1 INTO (PARTITION p3 VALUES LESS THAN (50)); \
                 INSERT INTO p VALUES (2); ALTER TABLE x DISCARD TABLESPACE",
            )
            .await
            .unwrap();
        let seen = read_all_of(&mut open(&server, Start::Earliest, None).await, &server).await.unwrap();
        let expected = [
            "schema ",
            "schema d.p",
            "schema d.x",
            "d.p + id=1",
            "d.p + id=11",
            "d.p + id=21",
            "anew d.p",
            "schema d.p",
            "anew d.p",
            "anew d.x",
            "schema d.p d.x",
            "anew d.p",
            "schema d.p",
            "schema d.p",
            "d.p + id=2",
            "anew d.x",
            "schema d.x",
        ];
        assert_eq!(lines(&seen), expected, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l62_statements_are_read_with_their_sessions_quotes_and_character_set() {
    for kind in Kind::ALL {
        let server = Server::start(kind, Options::default()).await.unwrap();
        server
            .sql(
                // In latin1 the two bytes of ä are the characters Ã and ¤: that is the table's name.
                "CREATE DATABASE d; USE d; SET NAMES latin1; CREATE TABLE `ä` (id INT PRIMARY KEY); \
                 INSERT INTO `ä` VALUES (1); TRUNCATE TABLE `ä`; SET NAMES utf8mb4; SET sql_mode = 'ANSI_QUOTES'; \
                 CREATE TABLE \"größe\" (id INT PRIMARY KEY); SET sql_mode = ''; \
                 /* app: x */ TRUNCATE /* y */ TABLE größe; /*!50000 DROP TABLE */ `größe`",
            )
            .await
            .unwrap();
        let seen = read_all_of(&mut open(&server, Start::Earliest, None).await, &server).await.unwrap();
        let expected = [
            "schema ",
            "schema d.Ã¤",
            "d.Ã¤ + id=1",
            "truncate d.Ã¤",
            "schema d.größe",
            "truncate d.größe",
            "drop d.größe",
            "schema d.größe",
        ];
        assert_eq!(lines(&seen), expected, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l63_transactions_of_other_databases_move_the_position_and_leave_no_trace() {
    for kind in Kind::ALL {
        let server = bare(kind).await;
        let mut fetcher = open(&server, Start::Now, None).await;
        server
            .sql(
                "CREATE DATABASE e; CREATE TABLE e.t (id INT PRIMARY KEY); CREATE TABLE d.t (id INT PRIMARY KEY); \
                 INSERT INTO e.t VALUES (1); BEGIN; INSERT INTO e.t VALUES (2); INSERT INTO d.t VALUES (2); COMMIT; \
                 INSERT INTO e.t VALUES (3)",
            )
            .await
            .unwrap();
        let seen = read_all_of(&mut fetcher, &server).await.unwrap();
        let rows: Vec<String> = lines(&seen).into_iter().filter(|line| line.contains('+')).collect();
        assert_eq!(rows, ["d.t + id=2"], "{kind}");
        assert_eq!(*seen.windows.last().unwrap().executed, *server.gtid_set().await.unwrap(), "{kind}");
    }
}

/// Rows as the image of a session's choice has them.
async fn image(kind: Kind, image: &str) -> Vec<String> {
    let server = Server::start(kind, Options::default()).await.unwrap();
    server
        .sql(&format!(
            "CREATE DATABASE d; USE d; CREATE TABLE t (id INT PRIMARY KEY, a INT, b TEXT, c INT); \
             CREATE TABLE u (a INT, b INT); INSERT INTO t VALUES (1, 2, 'x', NULL); INSERT INTO u VALUES (1, NULL); \
             SET SESSION binlog_row_image = '{image}'; INSERT INTO t (id, a) VALUES (2, 3); UPDATE t SET a = NULL WHERE id = 1; \
             UPDATE t SET b = 'y' WHERE id = 1; UPDATE u SET b = 5; DELETE FROM t WHERE id = 1"
        ))
        .await
        .unwrap();
    let seen = read_all_of(&mut open(&server, Start::Earliest, None).await, &server).await.unwrap();
    let rows = lines(&seen).into_iter().filter(|line| !line.starts_with("schema"));
    rows.skip(2).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l30_with_minimal_images_what_was_not_logged_is_absent_and_null_is_null() {
    for kind in Kind::ALL {
        let rows = image(kind, "MINIMAL").await;
        // Without a key MariaDB logs the whole row after an update.
        let keyless = if kind == Kind::MySql { "+ b=5" } else { "+ a=1 b=5" };
        let keyless = format!("d.u - a=1 b=NULL {keyless}");
        let expected =
            ["d.t + id=2 a=3", "d.t - id=1 + a=NULL", "d.t - id=1 + b=y", keyless.as_str(), "d.t - id=1"];
        assert_eq!(rows, expected, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l31_with_noblob_images_only_unchanged_large_values_are_absent() {
    for kind in Kind::ALL {
        let rows = image(kind, "NOBLOB").await;
        let expected = [
            "d.t + id=2 a=3 c=NULL",
            "d.t - id=1 a=2 c=NULL + id=1 a=NULL c=NULL",
            "d.t - id=1 a=NULL c=NULL + id=1 a=NULL b=y c=NULL",
            "d.u - a=1 b=NULL + a=1 b=5",
            "d.t - id=1 a=NULL c=NULL",
        ];
        assert_eq!(rows, expected, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l31_with_full_nodup_images_the_row_after_has_only_what_changed() {
    let rows = image(Kind::MariaDb118, "FULL_NODUP").await;
    let expected = [
        "d.t + id=2 a=3 b=NULL c=NULL",
        "d.t - id=1 a=2 b=x c=NULL + a=NULL",
        "d.t - id=1 a=NULL b=x c=NULL + b=y",
        // Without a key the whole row is logged.
        "d.u - a=1 b=NULL + a=1 b=5",
        "d.t - id=1 a=NULL b=y c=NULL",
    ];
    assert_eq!(rows, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l40_rows_that_are_logged_as_text_stop_the_stream_and_name_their_table() {
    for kind in Kind::ALL {
        let server = Server::start(kind, Options::default()).await.unwrap();
        server.sql("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY)").await.unwrap();
        server.sql("SET SESSION binlog_format = 'STATEMENT'; INSERT INTO d.t VALUES (1)").await.unwrap();
        let text = stop(&mut open(&server, Start::Earliest, None).await).await;
        assert!(text.contains("table d.t") && text.contains("binlog_format = 'ROW'"), "{kind}: {text}");
        assert!(text.contains("(INSERT …)"), "the statement's values are not told: {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l39_load_data_that_is_logged_as_text_stops_the_stream_and_names_its_table() {
    for kind in Kind::ALL {
        let server = Server::start(kind, Options::default()).await.unwrap();
        server.sql("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY)").await.unwrap();
        let file = server.datadir().join("lines.txt");
        server
            .sql(&format!(
                "SET SESSION binlog_format = 'ROW'; SELECT 1 INTO OUTFILE '{0}'; LOAD DATA INFILE '{0}' INTO TABLE d.t; \
                 DELETE FROM d.t; SET SESSION binlog_format = 'STATEMENT'; LOAD DATA INFILE '{0}' INTO TABLE d.t",
                file.display()
            ))
            .await
            .unwrap();
        let mut fetcher = open(&server, Start::Earliest, None).await;
        let mut rows = 0;
        let text = loop {
            match fetcher.next().await {
                Ok(window) => rows += window.unwrap().row_count(),
                Err(error) => break error.to_string(),
            }
        };
        // With ROW, LOAD DATA is rows as any other.
        assert_eq!(rows, 2, "{kind}");
        assert!(text.contains("table d.t") && text.contains("logged as text (LOAD …)"), "{kind}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l40_the_text_of_a_statement_never_leaves_the_fetcher() {
    for kind in Kind::ALL {
        let server = Server::start(kind, Options::default()).await.unwrap();
        let verbose =
            if kind == Kind::MySql { "binlog_rows_query_log_events" } else { "binlog_annotate_row_events" };
        server
            .sql(&format!(
                "CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY); SET SESSION {verbose} = 1; \
                 INSERT INTO d.t VALUES (1) /* canary-7f3a */"
            ))
            .await
            .unwrap();
        let seen = read_all_of(&mut open(&server, Start::Earliest, None).await, &server).await.unwrap();
        assert_eq!(lines(&seen).last().unwrap(), "d.t + id=1");
        for window in &seen.windows {
            let frame = tidemill_event::encode_window(window).unwrap();
            assert!(!frame.bytes().windows(11).any(|bytes| bytes == b"canary-7f3a"), "{kind}");
        }
    }
}
