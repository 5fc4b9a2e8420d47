//! Every type, its extremes included: what comes out of the log is what `SELECT` shows, on both families.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::BTreeMap;

use support::{all, text};
use tidemill_fetchers_api::conformance::{self, Seen, SeenChange};
use tidemill_fetchers_api::{FetchError, Start};
use tidemill_fetchers_mysql::{FileOptions, MySqlFetcher, Origin};
use tidemill_servers::{Kind, Options, Server};

/// How a column is selected, so that both sides have one text.
#[derive(Clone, Copy, PartialEq)]
enum Shown {
    Plain,
    /// Bytes, in hexadecimal.
    Hex,
    /// Binary numbers: compared as such.
    Double,
}
use Shown::{Double, Hex, Plain};

/// Type, how it is shown, values as SQL.
type Case = (&'static str, Shown, &'static [&'static str]);

const BOTH: &[Case] = &[
    ("TINYINT", Plain, &["-128", "-1", "0", "127"]),
    ("TINYINT UNSIGNED", Plain, &["0", "128", "255"]),
    ("SMALLINT", Plain, &["-32768", "-1", "32767"]),
    ("SMALLINT UNSIGNED", Plain, &["65535"]),
    ("MEDIUMINT", Plain, &["-8388608", "-1", "0", "8388607"]),
    ("MEDIUMINT UNSIGNED", Plain, &["8388608", "16777215"]),
    ("INT", Plain, &["-2147483648", "-1", "2147483647"]),
    ("INT UNSIGNED", Plain, &["2147483648", "4294967295"]),
    ("BIGINT", Plain, &["-9223372036854775808", "-1", "9223372036854775807"]),
    ("BIGINT UNSIGNED", Plain, &["9223372036854775808", "18446744073709551615"]),
    ("FLOAT", Double, &["0", "-1.5", "3.4028234e38", "1.17549e-38", "0.1"]),
    ("DOUBLE", Double, &["0", "-0.1", "1.7976931348623157e308", "1e300"]),
    ("DECIMAL(1,0)", Plain, &["-9", "0", "9"]),
    ("DECIMAL(12,4)", Plain, &["-99999999.9999", "-0.0001", "0", "0.5", "99999999.9999"]),
    ("DECIMAL(38,10)", Plain, &["-9999999999999999999999999999.9999999999", "1"]),
    (
        "DECIMAL(65,30)",
        Plain,
        &[
            "-99999999999999999999999999999999999.999999999999999999999999999999",
            "0.000000000000000000000000000001",
            "-1",
        ],
    ),
    ("DECIMAL(65,0)", Plain, &["-99999999999999999999999999999999999999999999999999999999999999999"]),
    ("DECIMAL(30,30)", Plain, &["-0.999999999999999999999999999999", "0.1"]),
    ("DECIMAL(10,2) UNSIGNED", Plain, &["0", "99999999.99"]),
    ("DATE", Plain, &["'1000-01-01'", "'1969-12-31'", "'1970-01-01'", "'2024-02-29'", "'9999-12-31'"]),
    ("DATETIME", Plain, &["'1000-01-01 00:00:00'", "'2026-11-20 23:59:59'", "'9999-12-31 23:59:59'"]),
    ("DATETIME(1)", Plain, &["'2026-11-20 23:59:59.9'"]),
    ("DATETIME(3)", Plain, &["'1969-12-31 23:59:59.999'", "'2026-11-20 00:00:00.001'"]),
    ("DATETIME(6)", Plain, &["'1000-01-01 00:00:00.000001'", "'9999-12-31 23:59:59.499999'"]),
    ("TIMESTAMP NULL", Plain, &["'1970-01-01 00:00:01'", "'2038-01-19 03:14:07'"]),
    ("TIMESTAMP(4) NULL", Plain, &["'1970-01-01 00:00:01.0001'"]),
    ("TIMESTAMP(6) NULL", Plain, &["'2038-01-19 03:14:07.499999'", "'2026-11-20 12:00:00.000001'"]),
    ("TIME", Plain, &["'-838:59:59'", "'-00:00:01'", "'00:00:00'", "'838:59:59'"]),
    ("TIME(1)", Plain, &["'-00:00:00.5'", "'-00:00:01.0'", "'00:00:00.1'", "'-10:20:30.9'"]),
    ("TIME(2)", Plain, &["'-00:00:00.01'", "'-00:00:59.99'"]),
    ("TIME(3)", Plain, &["'-00:00:00.001'", "'-838:59:58.999'"]),
    ("TIME(4)", Plain, &["'-00:00:00.0001'"]),
    ("TIME(5)", Plain, &["'-00:00:00.00001'"]),
    ("TIME(6)", Plain, &["'-00:00:00.000001'", "'838:59:58.999999'", "'-838:59:58.999999'"]),
    ("YEAR", Plain, &["0", "1901", "1970", "2155"]),
    ("CHAR(8)", Plain, &["''", "'abc'", "'größe'", "'🙂🙂'"]),
    ("CHAR(255)", Plain, &["''", "REPEAT('寸', 255)", "'x'"]),
    ("VARCHAR(60)", Plain, &["''", "'a b '", "'Größe – 寸法 🙂'"]),
    ("VARCHAR(300)", Plain, &["''", "REPEAT('🙂', 300)"]),
    ("VARCHAR(20) CHARACTER SET latin1", Plain, &["'äöü €'", "''"]),
    ("VARCHAR(20) CHARACTER SET ascii", Plain, &["'plain'"]),
    ("VARCHAR(20) CHARACTER SET utf8mb3", Plain, &["'寸法'"]),
    ("TINYTEXT", Plain, &["''", "'tiny'"]),
    ("TEXT", Plain, &["REPEAT('long ', 9000)"]),
    ("MEDIUMTEXT", Plain, &["REPEAT('0123456789', 20000)"]),
    ("LONGTEXT", Plain, &["'long'"]),
    ("BINARY(4)", Hex, &["X'00'", "X'01020304'", "X'0100'", "X''"]),
    ("BINARY(255)", Hex, &["X'FF00'"]),
    ("VARBINARY(10)", Hex, &["X''", "X'00'", "X'DEADBEEF00'"]),
    ("VARBINARY(300)", Hex, &["REPEAT(X'AB', 300)"]),
    ("BLOB", Hex, &["X''", "REPEAT(X'00FF', 3000)"]),
    ("LONGBLOB", Hex, &["X'00'"]),
    ("ENUM('plain','größer','it''s')", Plain, &["'plain'", "'größer'", "'it''s'"]),
    ("SET('a','b','größer')", Plain, &["''", "'a'", "'a,b,größer'", "'b'"]),
    ("GEOMETRY", Hex, &["ST_GeomFromText('POINT(1 -2.5)')", "ST_GeomFromText('LINESTRING(0 0,1 1,2 2)')"]),
    ("POINT", Hex, &["ST_GeomFromText('POINT(0 0)', 4326)"]),
];

const MYSQL_JSON: &[Case] = &[(
    "JSON",
    Plain,
    &[
        "'null'",
        "'true'",
        "'[]'",
        "'{}'",
        "'[1, -1, 65536, -2147483648, 4294967296, 18446744073709551615, -9223372036854775808]'",
        "'[0.0, 1.0, -1.5, 0.1, 1e15, 1e14, 123456789012345.6, 1e-5, 1e-15, 1e-16, 1.7976931348623157e308, 5e-324]'",
        r#"'{"b": 1, "a": 2, "aa": {"größe": "寸 🙂", "": null}}'"#,
        r#"'"line\\n tab\\t quote\\" back\\\\ slash/ control\\u0001 \\b\\f\\r"'"#,
        "JSON_ARRAY(CAST('2026-11-20' AS DATE), CAST('2026-11-20 01:02:03.000004' AS DATETIME(6)), CAST('-01:02:03.5' AS TIME(1)))",
        "JSON_ARRAY(CAST(-12345678901234567890.123456789 AS DECIMAL(40,9)), CAST(0.5 AS DECIMAL(3,2)), CAST(0 AS DECIMAL(5,0)))",
        "JSON_ARRAY(X'DEADBEEF', b'1010')",
        r#"CONCAT('["', REPEAT('x', 70000), '", {"k": "', REPEAT('y', 300), '"}, 1, -40000, 70000]')"#,
    ],
)];

const MARIADB: &[Case] = &[("JSON", Plain, &["'{\"b\":1,  \"a\": [1,2]}'"])];

/// Creates a table for each case and fills it; says what SELECT shows for it, by table and row.
async fn fill(server: &Server, cases: &[Case]) -> BTreeMap<(String, usize), String> {
    let mut truth = BTreeMap::new();
    server.sql("SET GLOBAL sql_mode=''; CREATE DATABASE types CHARACTER SET utf8mb4").await.unwrap();
    for (n, (sql_type, shown, values)) in cases.iter().enumerate() {
        let table = format!("t{n}");
        let rows: Vec<String> = values.iter().enumerate().map(|(i, v)| format!("({i}, {v})")).collect();
        let null = values.len();
        let make = format!(
            "CREATE TABLE types.{table} (id INT PRIMARY KEY, v {sql_type}); INSERT INTO types.{table} VALUES {}, ({null}, NULL)",
            rows.join(", ")
        );
        server.sql(&make).await.unwrap();
        let expression = match shown {
            Plain => "CAST(v AS CHAR)",
            Hex => "HEX(v)",
            Double => "CAST(CAST(v AS DOUBLE) AS CHAR)",
        };
        for row in server.rows(&format!("SELECT id, {expression} FROM types.{table}")).await.unwrap() {
            let (id, value): (usize, Option<String>) = mysql_async::from_row(row);
            let value = value.unwrap_or_else(|| "NULL".to_owned());
            truth.insert((format!("types.{table}"), id), value);
        }
    }
    truth
}

async fn read_all(server: &Server) -> Result<Seen, FetchError> {
    let origin = Origin::Files(FileOptions::directory(server.datadir(), "binlog"));
    let mut fetcher = MySqlFetcher::open("test", origin, Start::Earliest, all()).await?;
    conformance::read(&mut fetcher, usize::MAX).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_type_comes_out_as_select_shows_it() {
    for kind in Kind::ALL {
        let server = Server::start(kind, Options::default()).await.unwrap();
        let more = if kind == Kind::MySql { MYSQL_JSON } else { MARIADB };
        let cases = [BOTH, more].concat();
        let truth = fill(&server, &cases).await;
        let seen = read_all(&server).await.unwrap();
        let mut compared = 0;
        for change in seen.transactions.iter().flat_map(|t| &t.changes) {
            let SeenChange::Row { table, schema, after: Some((row, _)), .. } = change else { continue };
            let case = &cases[table.table[1..].parse::<usize>().unwrap()];
            let schemas = seen.windows.iter().flat_map(|w| &w.tables).map(|t| &t.schema);
            let schema = schemas.into_iter().find(|s| s.id() == *schema).unwrap();
            let value = text(row, 1, 0, &schema.columns()[1].source_type);
            let id: usize = text(row, 0, 0, "int").parse().unwrap();
            let mut shown = truth[&(table.to_string(), id)].replace('\\', "\\\\").replace('\n', "\\n");
            let mut value = value;
            if case.1 == Double && shown != "NULL" {
                // Both are the shortest digits of the same binary number.
                let widened = if case.0 == "FLOAT" {
                    f64::from(value.parse::<f32>().unwrap())
                } else {
                    value.parse().unwrap()
                };
                value = widened.to_string();
                shown = shown.parse::<f64>().unwrap().to_string();
            }
            assert_eq!(value, shown, "{kind}: {} {}", case.0, case.2.get(id).unwrap_or(&"NULL"));
            compared += 1;
        }
        assert_eq!(compared, truth.len(), "{kind}: every value was compared");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schemas_spell_types_keys_and_nullability_as_sql_does() {
    for kind in Kind::ALL {
        let server = Server::start(kind, Options::default()).await.unwrap();
        server
            .sql(
                "CREATE DATABASE d CHARACTER SET utf8mb4; CREATE TABLE d.t (a INT NOT NULL, y YEAR, b BIGINT UNSIGNED NOT NULL, \
                 g POINT, c VARCHAR(80) CHARACTER SET latin1, e ENUM('x','it''s') CHARACTER SET latin1, d DECIMAL(12,2) UNSIGNED, \
                 f DATETIME(6), t MEDIUMTEXT, k CHAR(9) NOT NULL, m BINARY(3), n VARBINARY(70), o BLOB, s SET('p','q'), u BIT(10), \
                 w TIMESTAMP(3) NULL, x TINYINT UNSIGNED, PRIMARY KEY (k, b, a)); \
                 INSERT INTO d.t (a, b, c, k, x, u) VALUES (-1, 18446744073709551615, 'é', 'key', 255, b'1000000001')",
            )
            .await
            .unwrap();
        let seen = read_all(&server).await.unwrap();
        let table = seen.windows.iter().flat_map(|w| &w.tables).next().unwrap();
        let types: Vec<&str> = table.schema.columns().iter().map(|c| c.source_type.as_str()).collect();
        assert_eq!(
            types,
            [
                "int",
                "year",
                "bigint unsigned",
                "point",
                "varchar(80)",
                "enum('x','it''s')",
                "decimal(12,2) unsigned",
                "datetime(6)",
                "mediumtext",
                "char(9)",
                "binary(3)",
                "varbinary(70)",
                "blob",
                "set('p','q')",
                "bit(10)",
                "timestamp(3)",
                "tinyint unsigned",
            ],
            "{kind}"
        );
        assert_eq!(table.schema.key(), [9, 2, 0], "{kind}");
        let required: Vec<&str> =
            table.schema.columns().iter().filter(|c| !c.nullable).map(|c| c.name.as_str()).collect();
        assert_eq!(required, ["a", "b", "k"], "{kind}");
        assert_eq!(text(&table.rows, 4, 0, ""), "é", "{kind}");
        assert_eq!(text(&table.rows, 16, 0, ""), "255", "{kind}");
        assert_eq!(text(&table.rows, 14, 0, ""), "0201", "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_carried_stops_with_table_column_type_and_place() {
    for kind in Kind::ALL {
        for (column, value, part) in [
            ("v DATE", "'0000-00-00'", "`v` (date)"),
            ("v DATETIME(3)", "'2020-00-01 00:00:00'", "`v` (datetime(3))"),
            ("v TIMESTAMP NULL", "0", "`v` (timestamp)"),
            ("v VARCHAR(9) CHARACTER SET gbk", "X'A2AB'", "gbk"),
        ] {
            let server = Server::start(kind, Options::default().argument("--sql-mode=")).await.unwrap();
            server
                .sql(&format!(
                    "CREATE DATABASE d; CREATE TABLE d.ok (id INT); CREATE TABLE d.t (id INT, {column}); \
                     INSERT INTO d.ok VALUES (1); BEGIN; INSERT INTO d.ok VALUES (2); INSERT INTO d.t VALUES (1, {value}); COMMIT"
                ))
                .await
                .unwrap();
            let origin = Origin::Files(FileOptions::directory(server.datadir(), "binlog"));
            let mut fetcher = MySqlFetcher::open("test", origin, Start::Earliest, all()).await.unwrap();
            let before = conformance::read(&mut fetcher, 4).await.unwrap();
            assert_eq!(
                before.transactions.len(),
                4,
                "{kind}: what is whole comes first, and nothing of the broken one"
            );
            let error = conformance::read(&mut fetcher, 1).await.unwrap_err().to_string();
            assert!(
                error.contains("d.t") && error.contains(part) && error.contains("binlog.000001:"),
                "{kind}: {error}"
            );
        }
    }
}
