//! Columns that are more, or less, than a table's definition shows: generated, invisible, hidden, added and dropped in
//! place, compressed, and types that the log does not name.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use support::differential::{matrix, read_all, same, same_as, schemas, start};
use tidemill_fetchers_mysql::ValuePolicy;
use tidemill_servers::{Kind, Server};

const MARIADB: [Kind; 2] = [Kind::MariaDb, Kind::MariaDb118];

/// The names of a table's columns in the log.
async fn names(server: &Server, table: &str) -> Vec<String> {
    let seen = read_all(server, ValuePolicy::default()).await.unwrap();
    schemas(&seen)[table].columns().iter().map(|c| c.name.clone()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l22_a_table_with_an_index_over_an_array_has_its_plain_columns() {
    let server = start(Kind::MySql, &[]).await;
    let make = "CREATE TABLE d.t (id INT PRIMARY KEY, v JSON, n INT, INDEX zips ((CAST(v->'$.zip' AS UNSIGNED ARRAY))), \
                INDEX low ((CAST(v->>'$.name' AS CHAR(20)))), INDEX sum ((n + 1))); \
                INSERT INTO d.t VALUES (1, '{\"zip\": [1, 2, 3], \"name\": \"A\"}', 7), (2, '{\"zip\": []}', 8); \
                UPDATE d.t SET v = JSON_SET(v, '$.zip', CAST('[4]' AS JSON)) WHERE id = 1; DELETE FROM d.t WHERE id = 2";
    server.sql(make).await.unwrap();
    assert_eq!(names(&server, "d.t").await, ["id", "v", "n"]);
    assert_eq!(same(&server).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l23_types_that_the_log_does_not_name_are_their_bytes() {
    for kind in MARIADB {
        let server = start(kind, &[]).await;
        let make = "CREATE TABLE d.t (id INT PRIMARY KEY, u UUID, a INET6, b INET4); INSERT INTO d.t VALUES \
                    (1, '123e4567-e89b-12d3-a456-426655440000', '2001:db8::ff00:42:8300', '192.0.2.1'), \
                    (2, '00000000-0000-1000-8000-000000000000', '::', '0.0.0.0'), (3, NULL, NULL, NULL), \
                    (4, 'ffffffff-ffff-4fff-bfff-ffffffffff00', '::ffff:192.0.2.0', '255.255.255.0'), \
                    (5, '01890a5d-ac96-774b-bcce-b302099a8057', '::1', '0.0.0.1')";
        server.sql(make).await.unwrap();
        let seen = read_all(&server, ValuePolicy::default()).await.unwrap();
        let schema = &schemas(&seen)["d.t"];
        let types: Vec<_> = schema.columns().iter().map(|c| c.source_type.as_str()).collect();
        assert_eq!(types, ["int", "binary(16)", "binary(16)", "binary(4)"], "{kind}");
        assert_eq!(same_as(&server, &seen, |_, shown| shown).await, 5, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l23_compressed_columns_are_read_in_every_form_they_are_stored_in() {
    let long = ["''", "'short'", "REPEAT('compress me ', 20000)", "REPEAT('寸', 30000)"];
    let cases = [
        ("TEXT COMPRESSED", &["''", "'short'", "REPEAT('compress me ', 5000)"][..]),
        ("LONGTEXT COMPRESSED", &long),
        ("MEDIUMTEXT COMPRESSED CHARACTER SET latin1", &["REPEAT('é', 70000)"]),
        ("TINYTEXT COMPRESSED", &["REPEAT('x', 250)", "'y'"]),
        ("BLOB COMPRESSED", &["X''", "REPEAT(X'00', 60000)", "X'00'"]),
        ("VARCHAR(20) COMPRESSED", &["''", "'a'", "'寸法 🙂'"]),
        ("VARCHAR(1000) COMPRESSED", &["REPEAT('寸', 1000)", "''"]),
        ("VARCHAR(255) COMPRESSED CHARACTER SET latin1", &["REPEAT('é', 255)", "REPEAT('é', 254)"]),
        ("VARBINARY(300) COMPRESSED", &["REPEAT(X'00', 300)", "X'00FF'"]),
        ("VARCHAR(200) COMPRESSED CHARACTER SET utf16", &["REPEAT('寸', 200)"]),
    ];
    matrix(&MARIADB, &cases).await;
    for setting in [
        "column_compression_zlib_wrap = ON",
        "column_compression_zlib_level = 0",
        "column_compression_threshold = 0",
    ] {
        let server = start(Kind::MariaDb, &[]).await;
        let make = format!(
            "SET SESSION {setting}; CREATE TABLE d.t (id INT PRIMARY KEY, v TEXT COMPRESSED, w VARCHAR(500) COMPRESSED); \
             INSERT INTO d.t VALUES (1, REPEAT('compress me ', 5000), REPEAT('x', 500)), (2, 'x', 'y'), (3, '', '')"
        );
        server.sql(&make).await.unwrap();
        assert_eq!(same(&server).await, 3, "{setting}");
        let seen = read_all(&server, ValuePolicy::default()).await.unwrap();
        let types: Vec<_> = schemas(&seen)["d.t"].columns().iter().map(|c| c.source_type.clone()).collect();
        assert_eq!(types, ["int", "text", "varchar(500)"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l25_generated_columns_are_in_the_log_with_their_values() {
    for kind in Kind::EVERY {
        let server = start(kind, &[]).await;
        let make = "CREATE TABLE d.t (id INT PRIMARY KEY, s INT GENERATED ALWAYS AS (id * 2) STORED, \
                    v VARCHAR(20) GENERATED ALWAYS AS (CONCAT('v', n)) VIRTUAL, n INT, \
                    w INT GENERATED ALWAYS AS (n + 1) VIRTUAL, INDEX (w)); \
                    INSERT INTO d.t (id, n) VALUES (1, 10), (2, 20), (3, NULL); UPDATE d.t SET n = 30 WHERE id = 2; \
                    UPDATE d.t SET n = 5 WHERE id = 3; DELETE FROM d.t WHERE id = 1";
        server.sql(make).await.unwrap();
        assert_eq!(names(&server, "d.t").await, ["id", "s", "v", "n", "w"], "{kind}");
        assert_eq!(same(&server).await, 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l26_invisible_columns_are_in_the_log() {
    for kind in Kind::EVERY {
        let server = start(kind, &[]).await;
        let make = "CREATE TABLE d.t (id INT PRIMARY KEY, secret INT INVISIBLE DEFAULT 7, shown INT); \
                    INSERT INTO d.t VALUES (1, 2); INSERT INTO d.t (id, secret, shown) VALUES (2, 3, 4)";
        server.sql(make).await.unwrap();
        assert_eq!(names(&server, "d.t").await, ["id", "secret", "shown"], "{kind}");
        assert_eq!(same(&server).await, 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l26_a_generated_invisible_primary_key_is_the_key() {
    let server = start(Kind::MySql, &["--sql-generate-invisible-primary-key=ON"]).await;
    server.sql("CREATE TABLE d.t (v INT); INSERT INTO d.t VALUES (1), (1), (2); DELETE FROM d.t WHERE v = 1 LIMIT 1").await.unwrap();
    assert_eq!(names(&server, "d.t").await, ["my_row_id", "v"]);
    let seen = read_all(&server, ValuePolicy::default()).await.unwrap();
    assert_eq!(schemas(&seen)["d.t"].key(), [0]);
    assert_eq!(same(&server).await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l26_the_hash_of_a_long_unique_key_is_not_a_column() {
    for kind in MARIADB {
        let server = start(kind, &[]).await;
        let make = "CREATE TABLE d.t (a INT, b BLOB UNIQUE, id INT PRIMARY KEY, c TEXT, UNIQUE (c, a)); \
                    INSERT INTO d.t VALUES (1, 'one', 11, 'x'), (2, 'two', 12, 'y'), (3, NULL, 13, NULL); \
                    UPDATE d.t SET b = 'zwei' WHERE id = 12; DELETE FROM d.t WHERE id = 11";
        server.sql(make).await.unwrap();
        assert_eq!(names(&server, "d.t").await, ["a", "b", "id", "c"], "{kind}");
        let seen = read_all(&server, ValuePolicy::default()).await.unwrap();
        assert_eq!(schemas(&seen)["d.t"].key(), [2], "{kind}");
        assert_eq!(same(&server).await, 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l26_row_versions_of_mariadb_are_columns() {
    for kind in MARIADB {
        let server = start(kind, &[]).await;
        let make = "CREATE TABLE d.t (id INT PRIMARY KEY, v INT) WITH SYSTEM VERSIONING; INSERT INTO d.t VALUES (1, 1), (2, 2)";
        server.sql(make).await.unwrap();
        assert_eq!(names(&server, "d.t").await, ["id", "v", "row_start", "row_end"], "{kind}");
        assert_eq!(same(&server).await, 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l27_columns_added_and_dropped_in_place_are_as_they_were_at_each_row() {
    for kind in Kind::EVERY {
        let server = start(kind, &[]).await;
        let steps = [
            "CREATE TABLE d.t (id INT PRIMARY KEY, a INT, b VARCHAR(9)); INSERT INTO d.t VALUES (1, 10, 'x')",
            "ALTER TABLE d.t ADD COLUMN c DECIMAL(5,2) DEFAULT 1.25, ALGORITHM=INSTANT; UPDATE d.t SET c = 2.5 WHERE id = 1; INSERT INTO d.t VALUES (2, 20, 'y', 3)",
            "ALTER TABLE d.t DROP COLUMN a, ALGORITHM=INSTANT; INSERT INTO d.t VALUES (3, 'z', 4)",
            "ALTER TABLE d.t ADD COLUMN n INT FIRST, ALGORITHM=INSTANT; INSERT INTO d.t VALUES (5, 4, 'w', NULL); UPDATE d.t SET n = 6, b = 'v'",
        ];
        for step in steps {
            server.sql(step).await.unwrap();
        }
        assert_eq!(names(&server, "d.t").await, ["n", "id", "b", "c"], "{kind}");
        assert_eq!(same(&server).await, 4);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l28_defaults_of_every_kind_break_no_schema() {
    for kind in Kind::EVERY {
        let server = start(kind, &[]).await;
        let make = "CREATE TABLE d.t (id INT PRIMARY KEY AUTO_INCREMENT, a DATE DEFAULT '0000-00-00', b DATETIME DEFAULT CURRENT_TIMESTAMP, \
                    c VARCHAR(40) DEFAULT (UPPER('x')), d TIMESTAMP DEFAULT '0000-00-00 00:00:00', e INT DEFAULT (1 + 1), \
                    f TEXT DEFAULT ('text'), g TIMESTAMP(3) NULL DEFAULT CURRENT_TIMESTAMP(3) ON UPDATE CURRENT_TIMESTAMP(3), \
                    h ENUM('p','q') DEFAULT 'q', i BIT(3) DEFAULT b'101', j DECIMAL(4,1) DEFAULT -1.5, k BINARY(3) DEFAULT 'a'); \
                    INSERT INTO d.t (a, d) VALUES ('2020-01-02', '2020-01-02 03:04:05'), ('2021-01-02', NULL)";
        server.sql(make).await.unwrap();
        assert_eq!(same(&server).await, 2);
    }
}
