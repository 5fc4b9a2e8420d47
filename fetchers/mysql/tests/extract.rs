//! Tables as a clone reads them: the log's rows to the bit, chunks that cover a table once, marks that are true while others
//! write, and refusals that say what to do. That every type and character set is read as the log has it is shown where
//! those are tested: `same` of the differential rule compares a clone too.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use arrow_array::{Array, RecordBatch};
use support::differential::start;
use support::extracted::{Part, WHOLE, describe, extract, read, texts};
use support::{only, read_all_of};
use tidemill_event::{Remedy, TableName};
use tidemill_fetchers_api::Start;
use tidemill_fetchers_api::conformance::Seen;
use tidemill_fetchers_api::extract::{
    Bound, Comparison, Condition, Extract, ExtractSession, Load, ReplicaLag, SourceKey,
};
use tidemill_fetchers_mysql::{
    MySqlExtract, MySqlFetcher, Origin, Password, ServerOptions, Settings, ValuePolicy, ZeroDates,
};
use tidemill_servers::{Kind, Options, Server};

/// With the columns' types, whatever log names them.
fn settings() -> Settings {
    Settings { declared_types: true, ..Settings::from(only("d")) }
}

fn options(server: &Server, user: &str, password: &str) -> ServerOptions {
    ServerOptions::new("127.0.0.1", server.port(), user, Password::new(password))
}

async fn log(server: &Server, settings: Settings) -> Seen {
    let origin = Origin::Server(options(server, Server::USER, server.user_password()));
    let mut fetcher = MySqlFetcher::open("test", origin, Start::Earliest, settings).await.unwrap();
    read_all_of(&mut fetcher, server).await.unwrap()
}

/// One row each, by the first column.
fn rows<'a>(batches: impl IntoIterator<Item = &'a RecordBatch>) -> Vec<(String, RecordBatch)> {
    let mut rows = Vec::new();
    for batch in batches {
        rows.extend(
            (0..batch.num_rows()).map(|row| (support::text(batch, 0, row, "int"), batch.slice(row, 1))),
        );
    }
    rows.sort_by_key(|(id, _)| id.clone());
    rows
}

/// A column of every type, and rows of NULLs, of the least, of the greatest and of others.
const COLUMNS: [(&str, [&str; 3]); 42] = [
    ("TINYINT", ["-128", "127", "0"]),
    ("TINYINT UNSIGNED", ["0", "255", "1"]),
    ("SMALLINT", ["-32768", "32767", "0"]),
    ("MEDIUMINT", ["-8388608", "8388607", "-1"]),
    ("MEDIUMINT UNSIGNED", ["0", "16777215", "1"]),
    ("INT", ["-2147483648", "2147483647", "-1"]),
    ("INT UNSIGNED ZEROFILL", ["0", "4294967295", "42"]),
    ("BIGINT", ["-9223372036854775808", "9223372036854775807", "-1"]),
    ("BIGINT UNSIGNED", ["0", "18446744073709551615", "9223372036854775808"]),
    (
        "DECIMAL(65,30)",
        [
            "-99999999999999999999999999999999999.999999999999999999999999999999",
            "99999999999999999999999999999999999.999999999999999999999999999999",
            "-0.000000000000000000000000000001",
        ],
    ),
    (
        "DECIMAL(38,0)",
        ["-99999999999999999999999999999999999999", "99999999999999999999999999999999999999", "0"],
    ),
    ("DECIMAL(10,2) ZEROFILL", ["0", "99999999.99", "1.5"]),
    ("FLOAT", ["-3.4028234e38", "3.4028234e38", "16777217"]),
    ("FLOAT", ["-0e0", "1.4e-45", "0.1"]),
    ("FLOAT(7,3)", ["1234.5678", "-0.001", "9999.999"]),
    ("DOUBLE", ["-1.7976931348623157e308", "5e-324", "-0e0"]),
    ("DOUBLE(10,2)", ["-12345678.91", "0.005", "99999999.99"]),
    ("DATE", ["'1000-01-01'", "'9999-12-31'", "'2024-02-29'"]),
    ("TIME", ["'-838:59:59'", "'838:59:59'", "'-00:00:01'"]),
    ("TIME(6)", ["'-838:59:58.999999'", "'838:59:58.999999'", "'-00:00:00.000001'"]),
    ("DATETIME", ["'1000-01-01 00:00:00'", "'9999-12-31 23:59:59'", "'2026-03-29 02:30:00'"]),
    (
        "DATETIME(6)",
        ["'1000-01-01 00:00:00.000001'", "'9999-12-31 23:59:59.999999'", "'1969-12-31 23:59:59.5'"],
    ),
    (
        "TIMESTAMP(3) NULL",
        ["'1970-01-01 00:00:01.001'", "'2038-01-19 03:14:07.499'", "'2026-03-29 02:30:00.5'"],
    ),
    ("YEAR", ["1901", "2155", "0"]),
    ("CHAR(9) CHARACTER SET utf8mb4", ["''", "'寸法🙂'", "'pad  '"]),
    ("VARCHAR(40) CHARACTER SET latin1", ["''", "'größe €'", "'pad  '"]),
    ("VARCHAR(40) CHARACTER SET utf16", ["''", "'a🙂'", "'ж'"]),
    ("VARCHAR(40) CHARACTER SET sjis", ["''", "'寸法'", "'x'"]),
    ("TINYTEXT", ["''", "REPEAT('寸', 85)", "'\\0\\n'"]),
    ("LONGTEXT", ["''", "REPEAT('🙂', 70000)", "'x'"]),
    ("BINARY(5)", ["''", "X'FFFFFFFFFF'", "X'0100'"]),
    ("VARBINARY(300)", ["''", "REPEAT(X'00', 300)", "X'FFFE00'"]),
    ("BLOB", ["''", "REPEAT(X'80', 65535)", "X'00'"]),
    ("ENUM('a','','größer','?')", ["1", "'größer'", "'?'"]),
    ("ENUM('a','')", ["''", "'no such'", "'a'"]),
    ("SET('x','y','寸','q')", ["''", "'x,y,寸,q'", "'寸'"]),
    ("BIT(1)", ["0", "1", "1"]),
    ("BIT(64)", ["0", "0xFFFFFFFFFFFFFFFF", "0x8000000000000001"]),
    ("JSON", ["'{}'", "'{\"a\": [1, 2.50, null, true, \"größe 🙂\"], \"b\": {\"c\": -1e300}}'", "'\"x\"'"]),
    ("GEOMETRY", ["ST_GeomFromText('POINT(1 2)')", "ST_GeomFromText('LINESTRING(0 0,1 1.5)', 4326)", "NULL"]),
    ("POINT", ["ST_GeomFromText('POINT(-1 0.1)')", "NULL", "NULL"]),
    ("BOOLEAN", ["TRUE", "FALSE", "2"]),
];

/// What one of the families alone has.
const MARIADB_COLUMNS: [(&str, [&str; 3]); 5] = [
    ("UUID", ["'00000000-0000-0000-0000-000000000000'", "'ffffffff-ffff-4fff-bfff-ffffffffff00'", "UUID()"]),
    ("INET6", ["'::'", "'2001:db8::ff00:42:8300'", "'::ffff:192.0.2.1'"]),
    ("INET4", ["'0.0.0.0'", "'255.255.255.0'", "'192.0.2.1'"]),
    ("TEXT COMPRESSED", ["''", "REPEAT('compress me ', 5000)", "'short'"]),
    ("VARBINARY(300) COMPRESSED", ["''", "REPEAT(X'00', 300)", "X'00FF'"]),
];

/// What a table of every type is made and filled with. Generated and invisible columns are among its columns.
fn everything(kind: Kind) -> String {
    let own: &[_] = if kind.is_mysql() { &[] } else { &MARIADB_COLUMNS };
    let columns: Vec<_> = COLUMNS.iter().chain(own).collect();
    let defined: Vec<String> =
        columns.iter().enumerate().map(|(n, (sql, _))| format!("c{n} {sql}")).collect();
    let names: Vec<String> = (0..columns.len()).map(|n| format!("c{n}")).collect();
    let row = |id: usize| {
        let values: Vec<&str> = columns.iter().map(|(_, values)| values[id]).collect();
        format!("({id}, {})", values.join(", "))
    };
    format!(
        "CREATE TABLE d.t (id INT PRIMARY KEY, {}, kept INT GENERATED ALWAYS AS (id * 2) STORED, \
         made VARCHAR(20) GENERATED ALWAYS AS (CONCAT('v', id)) VIRTUAL, secret INT INVISIBLE DEFAULT 7); \
         INSERT INTO d.t (id, {}) VALUES {}, {}, {}; INSERT INTO d.t (id, secret) VALUES (3, NULL)",
        defined.join(", "),
        names.join(", "),
        row(0),
        row(1),
        row(2)
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b44_a_row_of_every_type_is_read_as_the_log_has_it_to_the_bit() {
    for kind in Kind::EVERY {
        let server = start(kind, &[]).await;
        server.sql(&everything(kind)).await.unwrap();
        let seen = log(&server, settings()).await;
        let logged: Vec<_> = seen.windows.iter().flat_map(|window| &window.tables).collect();
        let extract = extract(&server, &settings());
        let table = describe(&extract, "t").await;
        assert_eq!(&table.schema, &logged[0].schema, "{kind}");
        assert_eq!(table.schema.id(), logged[0].schema.id(), "{kind}");
        let (batches, _) = read(&mut extract.open().await.unwrap(), &table, &WHOLE).await.unwrap();
        let (ours, theirs) = (rows(&batches), rows(logged.iter().map(|t| &t.rows)));
        assert_eq!((ours.len(), theirs.len()), (4, 4), "{kind}");
        for ((id, ours), (_, theirs)) in ours.iter().zip(&theirs) {
            for (column, (ours, theirs)) in
                table.schema.columns().iter().zip(ours.columns().iter().zip(theirs.columns()))
            {
                let place = format!("{kind} {} {} of row {id}", column.name, column.source_type);
                assert_eq!(ours.to_data(), theirs.to_data(), "{place}");
                // Equal numbers may have other bits: of zero there are two.
                let bits = |array: &dyn Array| {
                    let data = array.to_data();
                    let width = data.data_type().primitive_width().unwrap_or(0);
                    data.buffers()[0].as_slice()[data.offset() * width..][..width].to_vec()
                };
                if ours.is_valid(0) {
                    assert_eq!(bits(ours), bits(theirs), "{place}");
                }
            }
        }
    }
}

/// Catalogues have a question mark for what lies beyond U+FFFF: the type is not spelled as in the log, the values are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b44_labels_beyond_the_catalogue_s_characters_are_read_as_they_are() {
    for kind in Kind::EVERY {
        let server = start(kind, &[]).await;
        let make = "CREATE TABLE d.t (id INT PRIMARY KEY, e ENUM('a','🙂'), s SET('x','寸','🙂🙂')); \
                    INSERT INTO d.t VALUES (1, '🙂', 'x,🙂🙂'), (2, 'a', '寸'), (3, 'no such', '')";
        server.sql(make).await.unwrap();
        let extract = extract(&server, &settings());
        let table = describe(&extract, "t").await;
        let part = Part { sorted: true, ..WHOLE };
        let (batches, _) = read(&mut extract.open().await.unwrap(), &table, &part).await.unwrap();
        let rows = texts(&batches, &table);
        assert_eq!(rows, [["1", "🙂", "x,🙂🙂"], ["2", "a", "寸"], ["3", "", ""]], "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_of_the_columns_is_read_in_the_order_of_the_table() {
    for kind in Kind::ALL {
        let server = start(kind, &[]).await;
        server.sql("CREATE TABLE d.t (a INT PRIMARY KEY, b TEXT, c ENUM('x','y'), e INT); INSERT INTO d.t VALUES (1, 'one', 'y', NULL)").await.unwrap();
        let extract = extract(&server, &settings());
        let table = describe(&extract, "t").await;
        let mut session = extract.open().await.unwrap();
        for columns in [&[0][..], &[1, 2], &[0, 3], &[0, 1, 2, 3], &[]] {
            let chunk = tidemill_fetchers_api::extract::ChunkRead {
                table: &table,
                columns,
                conditions: &[],
                after: None,
                upto: None,
            };
            let mut batches = Vec::new();
            let mut give = |batch| {
                batches.push(batch);
                true
            };
            session.read(&chunk, &mut give).await.unwrap();
            let ordinals: Vec<usize> = columns.iter().map(|c| *c as usize).collect();
            let expected = table.schema.arrow().project(&ordinals).unwrap();
            assert_eq!((batches.len(), batches[0].num_rows()), (1, 1), "{kind}");
            assert_eq!(**batches[0].schema_ref(), expected, "{kind}");
        }
    }
}

/// A type for a key, the value of a row by its number, and whether one of the families has it.
type KeyCase = (&'static str, fn(u32) -> String, Option<bool>);

const KEYS: [KeyCase; 24] = [
    ("k INT", |n| format!("{}", i64::from(n) * 7 - 1500), None),
    ("k BIGINT UNSIGNED", |n| format!("{}", u64::MAX - u64::from(n) * 1_000_003), None),
    ("k DECIMAL(40,5)", |n| format!("{}.{:05}", i64::from(n) - 200, n), None),
    ("k FLOAT", |n| format!("{}e-3", i64::from(n) * 37 - 5000), None),
    ("k DOUBLE", |n| format!("{}e-300", i64::from(n) * 37 - 5000), None),
    ("k DATE", |n| format!("DATE'2026-01-01' - INTERVAL {n} MONTH"), None),
    ("k DATETIME(6)", |n| format!("TIMESTAMP'2026-01-01 00:00:00.5' - INTERVAL {n} MICROSECOND"), None),
    ("k TIMESTAMP(3)", |n| format!("TIMESTAMP'2026-03-29 00:00:00' + INTERVAL {n} MINUTE"), None),
    ("k TIME(2)", |n| format!("SEC_TO_TIME({} / 100)", i64::from(n) - 200), None),
    (
        "k VARCHAR(40) CHARACTER SET utf8mb4",
        |n| format!("'{}ß寸🙂{}'", ["a", "B", "é", "Q", "z"][n as usize % 5], n / 5),
        None,
    ),
    (
        "k VARCHAR(40) CHARACTER SET latin1",
        |n| format!("'{}\\'{}'", ["a", "Ä", "é", "ö", "z"][n as usize % 5], n / 5),
        None,
    ),
    (
        "k CHAR(20) CHARACTER SET utf16 COLLATE utf16_bin",
        |n| format!("'{}'", char::from_u32(0xff00 + n * 97).unwrap()),
        None,
    ),
    ("k VARCHAR(40) CHARACTER SET gbk", |n| format!("'寸{n}\\\\'"), None),
    ("k VARBINARY(20)", |n| format!("UNHEX('{:x}00ff')", 0x1000 + n * 13), None),
    ("k BINARY(16)", |n| format!("UNHEX(LEFT(SHA2({n}, 256), 32))"), None),
    ("k BIT(40)", |n| format!("{}", u64::from(n) << 30), None),
    ("k INT, l VARCHAR(9)", |n| format!("{}, '{}'", n % 7, n), None),
    (
        "k VARCHAR(9), l INT, m DATE",
        |n| format!("'{}', {}, DATE'2026-01-01' + INTERVAL {n} DAY", ["x", "Y", "z"][n as usize % 3], n % 5),
        None,
    ),
    ("k ENUM('z','a','m'), l INT", |n| format!("{}, {n}", n % 3 + 1), None),
    ("k SET('z','a','m'), l SMALLINT", |n| format!("{}, {n}", n % 8), None),
    ("k YEAR, l INT", |n| format!("{}, {n}", [0, 1901, 1970, 2000, 2069, 2155][n as usize % 6]), None),
    ("k INT UNSIGNED ZEROFILL", |n| format!("{n}"), None),
    (
        "k UUID",
        |n| {
            format!(
                "CONCAT('{n:08x}-0000-', '{}000-8000-', LPAD(HEX({n} * 12345678), 12, '0'))",
                [1, 4, 6, 7][n as usize % 4]
            )
        },
        Some(false),
    ),
    ("k INET6", |n| format!("'2001:db8::{:x}:{n:x}'", n * 97), Some(false)),
];

const ROWS: u32 = 400;
const CHUNK_ROWS: u64 = 37;

/// The bounds of a table's chunks.
async fn bounds(
    session: &mut impl ExtractSession,
    table: &tidemill_fetchers_api::extract::SourceTable,
    rows: u64,
) -> Vec<Bound> {
    let mut bounds: Vec<Bound> = Vec::new();
    while let Some(bound) = session.bound(table, bounds.last(), rows).await.unwrap() {
        bounds.push(bound);
    }
    bounds
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b28_chunks_cover_every_row_once_in_the_order_of_any_key() {
    for kind in Kind::EVERY {
        let server = start(kind, &["--default-time-zone=+05:30"]).await;
        let extract = extract(&server, &settings());
        let mut session = extract.open().await.unwrap();
        for (at, (columns, value, mysql)) in KEYS.iter().enumerate() {
            if mysql.is_some_and(|mysql| mysql != kind.is_mysql()) {
                continue;
            }
            let names: Vec<&str> = columns.split(", ").map(|c| c.split(' ').next().unwrap()).collect();
            let names = names.join(", ");
            let rows: Vec<String> = (0..ROWS).map(|n| format!("({}, {n})", value(n))).collect();
            let make = format!(
                "CREATE TABLE d.`t {at}` ({columns}, number INT, PRIMARY KEY ({names})); INSERT INTO d.`t {at}` VALUES {}",
                rows.join(", ")
            );
            server.sql(&make).await.unwrap_or_else(|e| panic!("{kind} {columns}: {e:?}"));
            let table = describe(&extract, &format!("t {at}")).await;
            let bounds = bounds(&mut session, &table, CHUNK_ROWS).await;
            assert_eq!(
                bounds.len(),
                (ROWS as usize - 1) / CHUNK_ROWS as usize,
                "{kind} {columns}: {bounds:?}"
            );
            let mut read_rows = Vec::new();
            for chunk in 0..=bounds.len() {
                let after = chunk.checked_sub(1).map(|before| &bounds[before]);
                let part = Part { after, upto: bounds.get(chunk), sorted: true, ..WHOLE };
                let (batches, _) = read(&mut session, &table, &part).await.unwrap();
                let rows = texts(&batches, &table);
                let expected = if chunk < bounds.len() { CHUNK_ROWS } else { u64::from(ROWS) % CHUNK_ROWS };
                assert_eq!(rows.len() as u64, expected, "{kind} {columns}: chunk {chunk}");
                read_rows.extend(rows);
            }
            let in_order: Vec<Vec<String>> = server
                .rows(&format!("SELECT number FROM d.`t {at}` ORDER BY {names}"))
                .await
                .unwrap()
                .into_iter()
                .map(|row| vec![mysql_async::from_row::<u32>(row).to_string()])
                .collect();
            let numbers: Vec<Vec<String>> =
                read_rows.iter().map(|row| vec![row.last().unwrap().clone()]).collect();
            assert_eq!(numbers, in_order, "{kind} {columns}");
        }
    }
}

/// Rows that the server looks at for a statement.
async fn looked_at(server: &Server) -> u64 {
    let rows = server.rows("SHOW GLOBAL STATUS LIKE 'Handler_read%'").await.unwrap();
    rows.iter().map(|row| row.get::<String, _>(1).unwrap().parse::<u64>().unwrap()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chunk_costs_the_server_its_own_rows_and_not_those_before_it() {
    const ROWS: u64 = 20_000;
    const CHUNK: u64 = 500;
    for kind in Kind::EVERY {
        let server = start(kind, &[]).await;
        for (name, columns, key, value) in [
            ("number", "k INT", "k", "n"),
            ("text", "k VARCHAR(20)", "k", "CONCAT('Key ', n)"),
            ("pair", "k INT, l VARCHAR(20)", "k, l", "n % 3, CONCAT('key ', n)"),
        ] {
            // Another index holds the key too, and is shorter.
            let make = format!(
                "CREATE TABLE d.{name} ({columns}, filler CHAR(200), x TINYINT, PRIMARY KEY ({key}), INDEX (x)); \
                 CREATE TABLE IF NOT EXISTS d.n AS SELECT 1 AS n"
            );
            server.sql(&make).await.unwrap();
            let mut insert = format!("INSERT INTO d.{name} ");
            let digits = "(SELECT 0 AS v UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 UNION SELECT 6 \
                          UNION SELECT 7 UNION SELECT 8 UNION SELECT 9)";
            insert.push_str(&format!(
                "SELECT {value}, 'f', n % 2 FROM (SELECT a.v + 10 * b.v + 100 * c.v + 1000 * d.v + 10000 * e.v AS n \
                 FROM {digits} a, {digits} b, {digits} c, {digits} d, (SELECT 0 AS v UNION SELECT 1) e) numbers; ANALYZE TABLE d.{name}"
            ));
            server.sql(&insert).await.unwrap();
            let extract = extract(&server, &settings());
            let table = describe(&extract, name).await;
            let mut session = extract.open().await.unwrap();
            let middle = session.bound(&table, None, ROWS / 2).await.unwrap().unwrap();
            let before = looked_at(&server).await;
            let end = session.bound(&table, Some(&middle), CHUNK).await.unwrap().unwrap();
            let for_bound = looked_at(&server).await - before;
            let part = Part { after: Some(&middle), upto: Some(&end), ..WHOLE };
            read(&mut session, &table, &part).await.unwrap();
            let before = looked_at(&server).await;
            let (batches, _) = read(&mut session, &table, &part).await.unwrap();
            let for_rows = looked_at(&server).await - before;
            assert_eq!(
                batches.iter().map(RecordBatch::num_rows).sum::<usize>() as u64,
                CHUNK,
                "{kind} {name}"
            );
            // The definition is read too.
            assert!(for_bound < ROWS / 4 && for_rows < ROWS / 4, "{kind} {name}: {for_bound} {for_rows}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_are_identified_by_the_primary_key_or_the_first_unique_one_without_null() {
    for kind in Kind::EVERY {
        let server = start(kind, &[]).await;
        let make = "CREATE TABLE d.both (a INT NOT NULL UNIQUE, b INT, c INT, PRIMARY KEY (c, b)); \
                    CREATE TABLE d.uniq (a INT, b INT NOT NULL, c VARCHAR(20) NOT NULL, e INT NOT NULL, UNIQUE z (b), UNIQUE y (b, e), \
                    UNIQUE x (a), UNIQUE k (c(3)), UNIQUE zz (e)); INSERT INTO d.uniq VALUES (1, 2, 'abcd', 9), (2, 1, 'b', 8), (3, 0, 'c', 7); \
                    CREATE TABLE d.none (a INT, b INT NOT NULL, UNIQUE (a), INDEX (b)); INSERT INTO d.none VALUES (NULL, 1), (NULL, 1), (2, 2)";
        server.sql(make).await.unwrap();
        let extract = extract(&server, &settings());
        let mut session = extract.open().await.unwrap();
        let of = async |name: &str| {
            let table = describe(&extract, name).await;
            (table.key.clone(), table.index.clone())
        };
        assert_eq!(of("both").await, (SourceKey::Primary(vec![2, 1]), Some("PRIMARY".to_owned())), "{kind}");
        assert_eq!(of("uniq").await, (SourceKey::Primary(vec![1]), Some("z".to_owned())), "{kind}");
        assert_eq!(of("none").await, (SourceKey::Nothing, None), "{kind}");
        let uniq = describe(&extract, "uniq").await;
        let bound = session.bound(&uniq, None, 1).await.unwrap();
        assert_eq!(bound, Some(Bound(vec!["0".to_owned()])), "{kind}");
        // Without a key it is one chunk, twins and all.
        let none = describe(&extract, "none").await;
        assert_eq!(session.bound(&none, None, 1).await.unwrap(), None, "{kind}");
        let mut rows = texts(&read(&mut session, &none, &WHOLE).await.unwrap().0, &none);
        rows.sort();
        assert_eq!(rows, [["2", "2"], ["NULL", "1"], ["NULL", "1"]], "{kind}");
    }
}

/// Keys of which the index has but a beginning, or the other direction.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b28_chunks_cover_every_row_once_where_the_index_is_unlike_the_key() {
    for kind in Kind::EVERY {
        let server = start(kind, &[]).await;
        for (name, columns, key) in [
            ("prefix", "k TEXT, l INT", "k(3)"),
            ("falling", "k VARCHAR(9), l INT", "k DESC"),
            ("mixed", "k VARCHAR(9), l INT", "k, l DESC"),
            ("bytes", "k BLOB, l INT", "k(3), l"),
        ] {
            let rows: Vec<String> = (0..50).map(|n| format!("('{:03} and more', {n})", n * 7 % 50)).collect();
            let rows = rows.join(", ").replace(" and more", if name == "prefix" { " and more" } else { "" });
            server
                .sql(&format!("CREATE TABLE d.{name} ({columns}, PRIMARY KEY ({key})); INSERT INTO d.{name} VALUES {rows}"))
                .await
                .unwrap();
            let extract = extract(&server, &settings());
            let table = describe(&extract, name).await;
            let mut session = extract.open().await.unwrap();
            let bounds = bounds(&mut session, &table, 8).await;
            let mut numbers = Vec::new();
            for chunk in 0..=bounds.len() {
                let after = chunk.checked_sub(1).map(|before| &bounds[before]);
                let part = Part { after, upto: bounds.get(chunk), ..WHOLE };
                let (batches, _) = read(&mut session, &table, &part).await.unwrap();
                numbers.extend(texts(&batches, &table).iter().map(|row| row[1].parse::<u32>().unwrap()));
            }
            numbers.sort_unstable();
            assert_eq!((bounds.len(), numbers), (6, (0..50).collect()), "{kind} {name}");
        }
    }
}

/// A condition, and which of the rows 0 … fulfil it by our rules.
type ConditionCase = (u32, Comparison, &'static [&'static str], &'static [usize]);

/// Rows: NULLs; then values where a server's own rules would answer otherwise than ours.
const CONDITIONS_TABLE: &str = "CREATE TABLE d.t (id INT PRIMARY KEY, i INT, u BIGINT UNSIGNED, n DECIMAL(10,2), d DATE, m DATETIME(6), \
     t VARCHAR(20) CHARACTER SET utf8mb4, l VARCHAR(20) CHARACTER SET latin1, b VARBINARY(9), e ENUM('b','a'), f DOUBLE, c CHAR(9)); \
     INSERT INTO d.t VALUES (0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL), \
     (1, -5, 0, -1.50, '2026-01-05', '2026-01-05 00:00:00', 'abc', 'é', X'00', 'a', 0.1, 'x'), \
     (2, 7, 18446744073709551615, 1.50, '2026-02-01', '2026-01-05 10:00:00.000001', 'ABC', 'É', X'0000', 'b', 0.5, 'X'), \
     (3, 7, 9223372036854775808, 100, '0000-00-00', '0000-00-00 00:00:00', 'abc ', 'e', X'FF', 'b', -1, ''), \
     (4, 2147483647, 5, 0, '9999-12-31', '9999-12-31 23:59:59.999999', '🙂', 'z', X'', 'a', 1e300, 'é')";

const ALL_ROWS: &[usize] = &[0, 1, 2, 3, 4];

const CONDITIONS: [ConditionCase; 31] = [
    (1, Comparison::Eq, &["7"], &[2, 3]),
    (1, Comparison::Ne, &["7"], &[1, 4]),
    (1, Comparison::Lt, &["0"], &[1]),
    (1, Comparison::OneOf, &["-5", "2147483647", "99999999999999999999"], &[1, 4]),
    (1, Comparison::IsNull, &[], &[0]),
    (1, Comparison::IsNotNull, &[], &[1, 2, 3, 4]),
    (2, Comparison::Ge, &["9223372036854775808"], &[2, 3]),
    (2, Comparison::Gt, &["-1"], &[1, 2, 3, 4]),
    (2, Comparison::Lt, &["-1"], &[]),
    (3, Comparison::Eq, &["1.5"], &[2]),
    (3, Comparison::Le, &["-1.500000000000000000000000000000"], &[1]),
    (3, Comparison::Gt, &["99.999"], &[3]),
    (4, Comparison::Eq, &["2026-01-05"], &[1]),
    (4, Comparison::Gt, &["2026-01-05"], &[2, 4]),
    (5, Comparison::Eq, &["2026-01-05 10:00:00.000001"], &[2]),
    (5, Comparison::Le, &["2026-01-05 00:00:00.000000"], &[1, 3]),
    (6, Comparison::Eq, &["abc"], &[1]),
    (6, Comparison::Lt, &["abc"], &[2]),
    (6, Comparison::Gt, &["abc"], &[3, 4]),
    (6, Comparison::OneOf, &["abc ", "🙂"], &[3, 4]),
    (8, Comparison::Eq, &["00"], &[1]),
    (8, Comparison::Gt, &["00"], &[2, 3]),
    (8, Comparison::Eq, &[""], &[4]),
    (11, Comparison::Eq, &["x"], &[1]),
    (11, Comparison::Eq, &["x  "], &[]),
    // What the server judges otherwise is left to us.
    (7, Comparison::Eq, &["é"], ALL_ROWS),
    (9, Comparison::Lt, &["b"], ALL_ROWS),
    (10, Comparison::Eq, &["0.1"], ALL_ROWS),
    (1, Comparison::Eq, &["7 OR 1=1"], ALL_ROWS),
    (4, Comparison::Gt, &["2026-02-30"], ALL_ROWS),
    (6, Comparison::OneOf, &[], ALL_ROWS),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b31_conditions_spare_exactly_the_rows_that_are_declined_or_none() {
    for kind in Kind::EVERY {
        let server = start(kind, &[]).await;
        server.sql(CONDITIONS_TABLE).await.unwrap();
        let values = ValuePolicy { zero_dates: ZeroDates::Null, ..ValuePolicy::default() };
        let extract = extract(&server, &Settings { values, ..settings() });
        let table = describe(&extract, "t").await;
        let mut session = extract.open().await.unwrap();
        let mut passing = async |conditions: &[Condition]| -> Vec<usize> {
            let part = Part { conditions, sorted: true, ..WHOLE };
            let (batches, _) = read(&mut session, &table, &part).await.unwrap();
            texts(&batches, &table).iter().map(|row| row[0].parse().unwrap()).collect()
        };
        let of = |(column, comparison, literals, _): &ConditionCase| Condition {
            column: *column,
            comparison: *comparison,
            literals: literals.iter().map(|l| (*l).to_owned()).collect(),
        };
        for case in &CONDITIONS {
            let (_, _, _, expected) = case;
            assert_eq!(passing(&[of(case)]).await, *expected, "{kind} {:?}", of(case));
        }
        // The zero date is NULL to us and not to the server: none that is NULL to us may be spared.
        let is_null = Condition { column: 4, comparison: Comparison::IsNull, literals: vec![] };
        assert_eq!(passing(&[is_null]).await, ALL_ROWS, "{kind}");
        assert_eq!(passing(&[of(&CONDITIONS[0]), of(&CONDITIONS[16])]).await, [0; 0], "{kind}");
        assert_eq!(passing(&[of(&CONDITIONS[1]), of(&CONDITIONS[16])]).await, [1], "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b53_what_the_account_may_not_read_is_an_error_with_the_grant() {
    for kind in Kind::EVERY {
        let server = start(kind, &[]).await;
        let privilege = if kind.is_mysql() { "REPLICATION CLIENT" } else { "BINLOG MONITOR" };
        let make = format!(
            "CREATE TABLE d.t (id INT PRIMARY KEY, v INT); CREATE TABLE d.o (id INT PRIMARY KEY); CREATE TABLE d.`h``s` (id INT PRIMARY KEY, v INT); \
             CREATE USER few IDENTIFIED BY 'few'; GRANT {privilege} ON *.* TO few; GRANT INSERT ON d.t TO few; \
             GRANT SELECT (id) ON d.`h``s` TO few"
        );
        server.sql(&make).await.unwrap();
        let extract = MySqlExtract::new(options(&server, "few", "few"), &settings());
        for (table, shown) in [("t", "`d`.`t`"), ("h`s", "`d`.`h``s`")] {
            let error = extract.describe(&TableName::new("d", table)).await.unwrap_err();
            assert_eq!(error.remedy(), Remedy::Fix);
            let text = error.to_string();
            assert!(text.contains(&format!("GRANT SELECT ON {shown} TO 'few'")), "{kind}: {text}");
        }
        assert!(
            extract.describe(&TableName::new("d", "o")).await.unwrap().is_none(),
            "{kind}: it is not shown"
        );
        server.sql("GRANT SELECT ON d.* TO few").await.unwrap();
        assert!(extract.describe(&TableName::new("d", "o")).await.unwrap().is_some(), "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_copied_is_refused_with_what_mends_it() {
    for kind in Kind::EVERY {
        let server = start(kind, &[]).await;
        let make = "CREATE TABLE d.m (id INT PRIMARY KEY) ENGINE=MyISAM; CREATE TABLE d.t (id INT PRIMARY KEY); \
                    CREATE VIEW d.v AS SELECT * FROM d.t";
        server.sql(make).await.unwrap();
        let extract = extract(&server, &settings());
        let refused = async |name: &str, part: &str| {
            let error = extract.describe(&TableName::new("d", name)).await.unwrap_err().to_string();
            assert!(error.contains(part) && error.contains(&format!("d.{name}")), "{kind}: {error}");
        };
        refused("m", "ENGINE = InnoDB").await;
        refused("v", "view").await;
        if !kind.is_mysql() {
            server.sql("CREATE TABLE d.h (id INT PRIMARY KEY) WITH SYSTEM VERSIONING").await.unwrap();
            refused("h", "DROP SYSTEM VERSIONING").await;
        }
        let tables = extract.tables().await.unwrap();
        let names: Vec<String> = tables.iter().map(ToString::to_string).collect();
        let expected = if kind.is_mysql() { &["d.m", "d.t"][..] } else { &["d.h", "d.m", "d.t"] };
        assert_eq!(names, expected, "{kind}");
        assert!(extract.describe(&TableName::new("d", "none")).await.unwrap().is_none(), "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_gtids_nothing_is_copied_and_the_error_says_how_to_switch_them_on() {
    let server = start(Kind::MySql, &["--gtid-mode=OFF", "--enforce-gtid-consistency=OFF"]).await;
    let error = extract(&server, &settings()).open().await.map(drop).unwrap_err().to_string();
    assert!(error.contains("SET GLOBAL gtid_mode") && error.contains("ON_PERMISSIVE"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_date_that_is_none_stops_the_read_unless_told_otherwise() {
    for kind in Kind::EVERY {
        let server = start(kind, &[]).await;
        let make = "CREATE TABLE d.t (id INT PRIMARY KEY, a DATE NOT NULL, b DATETIME(3), c TIMESTAMP NULL); \
                    INSERT INTO d.t VALUES (1, '2020-00-00', '2020-00-01 10:11:12.345', 0)";
        server.sql(make).await.unwrap();
        let strict = extract(&server, &settings());
        let table = describe(&strict, "t").await;
        let error = read(&mut strict.open().await.unwrap(), &table, &WHOLE).await.unwrap_err();
        let text = error.to_string();
        for part in ["table d.t", "`a` (date)", "2020-00-00 is no date", "zero_dates"] {
            assert!(text.contains(part), "{kind}: {text}");
        }
        let values = ValuePolicy { zero_dates: ZeroDates::Null, ..ValuePolicy::default() };
        let lax = extract(&server, &Settings { values, ..settings() });
        let table = describe(&lax, "t").await;
        let (batches, _) = read(&mut lax.open().await.unwrap(), &table, &WHOLE).await.unwrap();
        assert_eq!(texts(&batches, &table), [["1", "NULL", "NULL", "NULL"]], "{kind}");
        let seen = log(&server, Settings { values, ..settings() }).await;
        assert_eq!(
            seen.windows.iter().flat_map(|w| &w.tables).next().unwrap().schema,
            table.schema,
            "{kind}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_larger_than_a_packet_are_whole() {
    const PACKET: usize = (1 << 24) - 1;
    for kind in Kind::ALL {
        let server = start(kind, &[]).await;
        server.sql("CREATE TABLE d.t (id INT PRIMARY KEY, v LONGBLOB)").await.unwrap();
        // A row's head and its length come before the value: some of these end where a packet does.
        let lengths: Vec<usize> = (PACKET - 12..PACKET - 4).chain([2 * PACKET, 40_000_000, 0]).collect();
        for (id, length) in lengths.iter().enumerate() {
            server
                .sql(&format!("INSERT INTO d.t VALUES ({id}, REPEAT(X'{id:02x}', {length}))"))
                .await
                .unwrap();
        }
        let extract = extract(&server, &settings());
        let table = describe(&extract, "t").await;
        let mut session = extract.open().await.unwrap();
        let (batches, _) = read(&mut session, &table, &Part { sorted: true, ..WHOLE }).await.unwrap();
        let rows = rows(&batches);
        assert_eq!(rows.len(), lengths.len(), "{kind}");
        for (id, row) in rows {
            let id: usize = id.parse().unwrap();
            let value = arrow_array::cast::AsArray::as_binary::<i32>(row.column(1)).value(0);
            assert!(value.len() == lengths[id] && value.iter().all(|b| usize::from(*b) == id), "{kind} {id}");
        }
        // The connection is good for more.
        let (batches, _) = read(&mut session, &table, &WHOLE).await.unwrap();
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), lengths.len(), "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_load_is_what_runs_and_how_far_a_replica_is_behind() {
    for kind in Kind::EVERY {
        let options = |id: u32| Options::default().server_id(id).password("the same");
        let source = Server::start(kind, options(1)).await.unwrap();
        let replica = Server::start(kind, options(2)).await.unwrap();
        let load = extract(&source, &settings()).load().await.unwrap();
        assert!(load.threads_running >= 1 && load.replica_lag.is_none(), "{kind}: {load:?}");
        replica.follow(&source).await.unwrap();
        let replica_load = extract(&replica, &settings());
        // It takes a moment until it is connected.
        let follows = |load: Load| matches!(load.replica_lag, Some(ReplicaLag::Seconds(_)));
        while !follows(replica_load.load().await.unwrap()) {
            tokio::task::yield_now().await;
        }
    }
}
