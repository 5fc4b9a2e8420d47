//! Every type, its extremes included: a table that is rebuilt from the log is what `SELECT` shows, on every release.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::sync::Arc;

use support::differential::{matrix, read_all, same, same_as, schemas, start};
use support::text;
use tidemill_event::TableSchema;
use tidemill_fetchers_api::conformance;
use tidemill_fetchers_api::{FetchError, Selector, Start};
use tidemill_fetchers_mysql::{FileOptions, MySqlFetcher, Origin, Settings, ValuePolicy, ZeroDates};
use tidemill_servers::{Kind, Server};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l01_integers_of_every_width_have_their_sign() {
    let cases = [
        ("TINYINT", &["-128", "-1", "0", "127"][..]),
        ("TINYINT UNSIGNED", &["0", "128", "255"]),
        ("SMALLINT", &["-32768", "-1", "0", "32767"]),
        ("SMALLINT UNSIGNED", &["0", "32768", "65535"]),
        ("MEDIUMINT", &["-8388608", "-1", "0", "8388607"]),
        ("MEDIUMINT UNSIGNED", &["0", "8388608", "16777215"]),
        ("INT", &["-2147483648", "-1", "0", "2147483647"]),
        ("INT UNSIGNED", &["0", "2147483648", "4294967295"]),
        ("BIGINT", &["-9223372036854775808", "-1", "0", "9223372036854775807"]),
        ("MEDIUMINT(5) ZEROFILL", &["0", "42", "16777215"]),
        ("INT(8) ZEROFILL", &["0", "42", "4294967295"]),
    ];
    matrix(&Kind::EVERY, &cases).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l01_a_year_between_numbers_shifts_no_sign() {
    for kind in Kind::EVERY {
        let server = start(kind, &[]).await;
        let make = "CREATE TABLE d.t (a INT UNSIGNED, y YEAR, b MEDIUMINT UNSIGNED, c DATE, d DECIMAL(5,2) UNSIGNED, e TINYINT, \
                    f FLOAT UNSIGNED, g DOUBLE, h BIGINT UNSIGNED, i SMALLINT, j BIT(3), k SMALLINT UNSIGNED); \
                    INSERT INTO d.t VALUES (4294967295, 2000, 16777215, '2020-01-02', 999.99, -1, 1.5, -1.5, \
                    18446744073709551615, -1, 5, 65535)";
        server.sql(make).await.unwrap();
        assert_eq!(same(&server).await, 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l02_a_bigint_unsigned_above_i64_is_kept() {
    let values = &["0", "9223372036854775807", "9223372036854775808", "18446744073709551615"][..];
    matrix(
        &Kind::EVERY,
        &[("BIGINT UNSIGNED", values), ("BIGINT UNSIGNED ZEROFILL", values), ("SERIAL", &values[1..3])],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l03_decimals_of_every_precision_are_exact() {
    let cases = [
        ("DECIMAL(1,0)", &["-9", "0", "-0", "9"][..]),
        ("DECIMAL(12,4)", &["-99999999.9999", "-0.0001", "-0.0000", "0", "0.5", "99999999.9999"]),
        ("DECIMAL(38,10)", &["-9999999999999999999999999999.9999999999", "1", "-0.00000000001"]),
        (
            "DECIMAL(39,0)",
            &["-999999999999999999999999999999999999999", "170141183460469231731687303715884105728"],
        ),
        (
            "DECIMAL(65,30)",
            &[
                "-99999999999999999999999999999999999.999999999999999999999999999999",
                "99999999999999999999999999999999999.999999999999999999999999999999",
                "0.000000000000000000000000000001",
                "-0.000000000000000000000000000001",
                "-0.0",
                "-1",
            ],
        ),
        ("DECIMAL(65,0)", &["-99999999999999999999999999999999999999999999999999999999999999999", "0"]),
        ("DECIMAL(30,30)", &["-0.999999999999999999999999999999", "0.1", "0"]),
        ("DECIMAL(10,2) UNSIGNED", &["0", "99999999.99"]),
        ("DECIMAL(20,5) ZEROFILL", &["0", "1.5", "999999999999999.99999"]),
    ];
    matrix(&Kind::EVERY, &cases).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l04_binary_numbers_are_the_stored_ones() {
    let cases = [
        (
            "FLOAT",
            &[
                "0",
                "-0e0",
                "-1.5",
                "3.4028234e38",
                "-3.4028234e38",
                "1.17549e-38",
                "1.4e-45",
                "0.1",
                "16777217",
            ][..],
        ),
        ("FLOAT(7,3)", &["1234.5678", "-0.001", "9999.999"]),
        ("FLOAT(30,2) UNSIGNED", &["0.01", "123456.78"]),
        ("FLOAT ZEROFILL", &["1.5"]),
        (
            "DOUBLE",
            &[
                "0",
                "-0e0",
                "-0.1",
                "1.7976931348623157e308",
                "2.2250738585072014e-308",
                "5e-324",
                "1e300",
                "0.30000000000000004",
            ],
        ),
        ("DOUBLE(10,2)", &["-12345678.91", "0.005"]),
        ("DOUBLE UNSIGNED", &["0.1", "9007199254740993"]),
    ];
    matrix(&Kind::EVERY, &cases).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l05_bits_of_every_width_are_bytes_with_the_highest_first() {
    for kind in Kind::EVERY {
        let server = start(kind, &[]).await;
        let columns: Vec<String> = (1..=64).map(|n| format!("b{n} BIT({n})")).collect();
        server.sql(&format!("CREATE TABLE d.t (id INT PRIMARY KEY, {})", columns.join(", "))).await.unwrap();
        for (id, pattern) in
            [0, u64::MAX, 0xaaaa_aaaa_aaaa_aaaa, 0x8000_0000_0000_0001, 1].into_iter().enumerate()
        {
            let values: Vec<String> =
                (1..=64).map(|n| format!("{}", pattern & (u64::MAX >> (64 - n)))).collect();
            server.sql(&format!("INSERT INTO d.t VALUES ({id}, {})", values.join(", "))).await.unwrap();
        }
        assert_eq!(same(&server).await, 5);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l06_a_tinyint_of_one_digit_is_an_integer() {
    for kind in Kind::EVERY {
        let server = start(kind, &[]).await;
        server
            .sql("CREATE TABLE d.t (v TINYINT(1), w BOOLEAN); INSERT INTO d.t VALUES (-128, 2), (127, TRUE)")
            .await
            .unwrap();
        let seen = read_all(&server, ValuePolicy::default()).await.unwrap();
        let types: Vec<_> = schemas(&seen)["d.t"].columns().iter().map(|c| c.source_type.clone()).collect();
        assert_eq!(types, ["tinyint", "tinyint"], "{kind}");
        assert_eq!(same(&server).await, 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l07_labels_are_in_the_columns_character_set_and_as_they_were_then() {
    for kind in Kind::EVERY {
        let server = start(kind, &[]).await;
        let many: Vec<String> = (0..70_000 / 200).map(|n| format!("'label {n}'")).collect();
        let make = format!(
            "CREATE TABLE d.a (id INT PRIMARY KEY, v ENUM('plain','größer','it''s')); \
             INSERT INTO d.a VALUES (1, 'plain'), (2, 'größer'), (3, 'it''s'), (4, 'no such'), (5, NULL), (6, 3); \
             CREATE TABLE d.b (id INT PRIMARY KEY, v ENUM('é','ß') CHARACTER SET latin1, w ENUM('寸','法') CHARACTER SET gbk, \
             x SET('寸','法','x') CHARACTER SET sjis, y ENUM('ж','я') CHARACTER SET utf16, z ENUM('α','β') CHARACTER SET greek); \
             INSERT INTO d.b VALUES (1, 'é', '寸', '寸,x', 'ж', 'β'), (2, 'ß', '法', '', 'я', 'α'); \
             CREATE TABLE d.c (id INT PRIMARY KEY, v ENUM({})); INSERT INTO d.c VALUES (1, 'label 0'), (2, 'label 254'), \
             (3, 'label 255'), (4, 'label 349'), (5, 'no such'), (6, NULL); \
             CREATE TABLE d.e (id INT PRIMARY KEY, v ENUM('a','b')); INSERT INTO d.e VALUES (1, 'a'), (2, 'b')",
            many.join(", ")
        );
        server.sql(&make).await.unwrap();
        assert_eq!(same(&server).await, 16);
        // What was logged before the labels changed keeps the labels of then.
        server
            .sql("ALTER TABLE d.e MODIFY v ENUM('z','a','b'); INSERT INTO d.e VALUES (3, 'z'), (4, 'b')")
            .await
            .unwrap();
        assert_eq!(same(&server).await, 18);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l08_sets_keep_all_sixty_four_members() {
    for kind in Kind::EVERY {
        let server = start(kind, &[]).await;
        let members = |n: usize| (0..n).map(|i| format!("'m{i}'")).collect::<Vec<_>>().join(",");
        for n in [1, 8, 9, 16, 24, 32, 33, 48, 56, 57, 64] {
            let all = u64::MAX >> (64 - n);
            let make = format!(
                "CREATE TABLE d.t{n} (id INT PRIMARY KEY, v SET({})); INSERT INTO d.t{n} VALUES (0, ''), (1, 1), (2, {all}), \
                 (3, {}), (4, NULL)",
                members(n),
                1u64 << (n - 1)
            );
            server.sql(&make).await.unwrap();
        }
        assert_eq!(same(&server).await, 55);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l09_the_year_0000_is_not_1900() {
    matrix(&Kind::EVERY, &[("YEAR", &["0", "'0000'", "1901", "1970", "2155"])]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l10_dates_at_the_edges_are_themselves() {
    let dates = [
        "'0001-01-01'",
        "'1000-01-01'",
        "'1582-10-10'",
        "'1969-12-31'",
        "'1970-01-01'",
        "'2024-02-29'",
        "'9999-12-31'",
    ];
    matrix(&Kind::EVERY, &[("DATE", &dates)]).await;
}

const TABLES: [&str; 9] = ["t0", "t1", "t2", "t3", "t4", "t5", "t6", "t7", "t8"];

/// Each with what the column's type is called, and whether it is widened.
const NO_DATES: [(&str, &str, &str); 7] = [
    ("DATE NOT NULL", "date", "'0000-00-00'"),
    ("DATE", "date", "'2020-00-00'"),
    ("DATE", "date", "'2020-01-00'"),
    ("DATETIME NOT NULL", "datetime", "'0000-00-00 00:00:00'"),
    ("DATETIME(3)", "datetime(3)", "'2020-00-01 10:11:12.345'"),
    ("TIMESTAMP(6) NOT NULL", "timestamp(6)", "0"),
    ("TIMESTAMP NULL", "timestamp", "'0000-00-00 00:00:00'"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l10_l12_l13_dates_that_are_none_become_null_where_the_source_says_so() {
    for kind in Kind::EVERY {
        let server = start(kind, &[]).await;
        let columns: Vec<String> =
            NO_DATES.iter().enumerate().map(|(i, (t, ..))| format!("c{i} {t}")).collect();
        let none: Vec<&str> = NO_DATES.iter().map(|(.., value)| *value).collect();
        let make = format!(
            "CREATE TABLE d.t (id INT PRIMARY KEY, {}, after INT); INSERT INTO d.t VALUES (1, {}, 7); \
             INSERT INTO d.t VALUES (2, '2020-01-01', '2020-01-02', NULL, '2020-01-03 04:05:06', '2020-01-03 04:05:06.789', \
             '2020-01-03 04:05:06.789123', NULL, 8); UPDATE d.t SET after = 9; \
             SET SESSION sql_mode = 'ALLOW_INVALID_DATES'; INSERT INTO d.t (id, c0, c3, c5) VALUES (3, '2021-02-31', '2021-02-30 01:02:03', 1)",
            columns.join(", "),
            none.join(", ")
        );
        server.sql(&make).await.unwrap();
        let values = ValuePolicy { zero_dates: ZeroDates::Null, ..ValuePolicy::default() };
        let seen = read_all(&server, values).await.unwrap();
        let as_null = |column: &tidemill_event::ColumnSchema, shown: String| {
            let is_none = shown.contains("-00") || shown.starts_with("2021-02-3");
            if is_none && !column.source_type.contains("int") { "NULL".to_owned() } else { shown }
        };
        assert_eq!(same_as(&server, &seen, as_null).await, 3, "{kind}");
        let schema = &schemas(&seen)["d.t"];
        let required: Vec<_> =
            schema.columns().iter().filter(|c| !c.nullable).map(|c| c.name.as_str()).collect();
        assert_eq!(required, ["id"], "{kind}: columns that may be NULL now say so");
    }
}

/// The table's first row stops the stream, which says so with table, place and these words.
async fn stops(server: &Server, table: &'static str, values: ValuePolicy, parts: &[&str]) {
    let origin = Origin::Files(FileOptions::directory(server.datadir(), "binlog"));
    let selector: Selector = Arc::new(move |schema: &Arc<TableSchema>| Ok(schema.name().table == table));
    let mut settings = Settings::from(selector);
    settings.values = values;
    let opened = MySqlFetcher::open("test", origin, Start::Earliest, settings).await;
    let read = conformance::read(&mut opened.unwrap(), usize::MAX).await;
    let error = read
        .map(|seen| panic!("{} {table}: {} are read", server.kind(), seen.transactions.len()))
        .unwrap_err();
    assert!(matches!(error, FetchError::Undecodable(_)), "{error}");
    let error = error.to_string();
    for part in parts.iter().chain(&["binlog.0000", table]) {
        assert!(error.contains(part), "{}: {part}: {error}", server.kind());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l10_l12_l13_a_date_that_is_none_stops_the_stream_unless_told_otherwise() {
    for kind in Kind::EVERY {
        let server = start(kind, &[]).await;
        for (table, (sql, name, value)) in TABLES.iter().zip(NO_DATES) {
            let make = format!(
                "CREATE TABLE d.{table} (id INT, v {sql}); INSERT INTO d.{table} VALUES (1, {value})"
            );
            server.sql(&make).await.unwrap();
            let words = [&format!("`v` ({name})"), "is no date", "zero_dates"];
            stops(&server, table, ValuePolicy::default(), &words).await;
        }
        // Two rows would have one key.
        server
            .sql("CREATE TABLE d.t (v DATE, PRIMARY KEY (v)); INSERT INTO d.t VALUES ('2020-00-00')")
            .await
            .unwrap();
        let null = ValuePolicy { zero_dates: ZeroDates::Null, ..ValuePolicy::default() };
        stops(&server, "t", null, &["`v` (date)", "primary key"]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l11_times_keep_their_sign_and_every_digit_of_their_fraction() {
    let cases = [
        ("TIME", &["'-838:59:59'", "'-00:00:01'", "'00:00:00'", "'838:59:59'"][..]),
        ("TIME(1)", &["'-00:00:00.5'", "'-00:00:00.1'", "'-00:00:01.0'", "'00:00:00.1'", "'-10:20:30.9'"]),
        ("TIME(2)", &["'-00:00:00.01'", "'-00:00:59.99'", "'-838:59:58.99'"]),
        ("TIME(3)", &["'-00:00:00.001'", "'-838:59:58.999'", "'838:59:59.000'"]),
        ("TIME(4)", &["'-00:00:00.0001'", "'-01:00:00.9999'"]),
        ("TIME(5)", &["'-00:00:00.00001'", "'-100:00:00.12345'"]),
        (
            "TIME(6)",
            &["'-00:00:00.000001'", "'838:59:58.999999'", "'-838:59:58.999999'", "'-00:00:01.000000'"],
        ),
    ];
    matrix(&Kind::EVERY, &cases).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l12_datetimes_are_never_shifted() {
    let cases = [
        (
            "DATETIME",
            &[
                "'0001-01-01 00:00:00'",
                "'1000-01-01 00:00:00'",
                "'2026-03-29 02:30:00'",
                "'9999-12-31 23:59:59'",
            ][..],
        ),
        ("DATETIME(1)", &["'2026-11-20 23:59:59.9'"]),
        ("DATETIME(2)", &["'2026-11-20 23:59:59.99'"]),
        ("DATETIME(3)", &["'1969-12-31 23:59:59.999'", "'2026-11-20 00:00:00.001'"]),
        ("DATETIME(4)", &["'1969-12-31 23:59:59.9999'"]),
        ("DATETIME(5)", &["'1969-12-31 23:59:59.00001'"]),
        ("DATETIME(6)", &["'1000-01-01 00:00:00.000001'", "'9999-12-31 23:59:59.499999'"]),
    ];
    matrix(&Kind::EVERY, &cases).await;
    // Nor by the time zone of who wrote them.
    for kind in Kind::EVERY {
        let server = start(kind, &[]).await;
        let make = "SET SESSION time_zone = '+05:30'; CREATE TABLE d.t (id INT PRIMARY KEY, a DATETIME(3), b TIMESTAMP(3) NULL); \
                    INSERT INTO d.t VALUES (1, '2026-03-29 02:30:00.125', '2026-03-29 02:30:00.125')";
        server.sql(make).await.unwrap();
        assert_eq!(same(&server).await, 1);
        let shown: String = server.value("SELECT CAST(b AS CHAR) FROM d.t").await.unwrap().unwrap();
        assert_eq!(shown, "2026-03-28 21:00:00.125");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l13_timestamps_are_of_utc_and_reach_2106_where_the_server_does() {
    let cases = [
        ("TIMESTAMP NULL", &["'1970-01-01 00:00:01'", "'2038-01-19 03:14:07'"][..]),
        ("TIMESTAMP(1) NULL", &["'1970-01-01 00:00:01.1'"]),
        ("TIMESTAMP(2) NULL", &["'1970-01-01 00:00:01.01'"]),
        ("TIMESTAMP(3) NULL", &["'1970-01-01 00:00:01.001'"]),
        ("TIMESTAMP(4) NULL", &["'1970-01-01 00:00:01.0001'"]),
        ("TIMESTAMP(5) NULL", &["'1970-01-01 00:00:01.00001'"]),
        ("TIMESTAMP(6) NULL", &["'2038-01-19 03:14:07.499999'", "'2026-11-20 12:00:00.000001'"]),
    ];
    matrix(&Kind::EVERY, &cases).await;
    let late = [
        ("TIMESTAMP NULL", &["'2038-01-19 03:14:08'", "'2106-02-07 06:28:15'"][..]),
        ("TIMESTAMP(6) NULL", &["'2106-02-07 06:28:15.999999'", "'2100-01-01 00:00:00.000001'"]),
    ];
    matrix(&[Kind::MariaDb118], &late).await;
}

/// Neither the precision nor the sign bytes of these forms are in the log: what cannot be told apart is not guessed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l14_temporal_types_of_the_old_format_stop_the_stream() {
    for kind in [Kind::MariaDb, Kind::MariaDb118] {
        let server = start(kind, &["--mysql56-temporal-format=OFF"]).await;
        let forms = ["TIME", "DATETIME", "TIMESTAMP"]
            .into_iter()
            .flat_map(|sql| [0, 3, 6].map(|digits| (sql, digits)));
        for (table, (sql, digits)) in TABLES.iter().zip(forms) {
            let value = if sql == "TIME" { "'10:20:30'" } else { "'2020-01-02 10:20:30'" };
            let make = format!(
                "CREATE TABLE d.{table} (id INT, v {sql}({digits}) NULL); INSERT INTO d.{table} VALUES (1, {value})"
            );
            server.sql(&make).await.unwrap();
            let words = [&format!("`v` ({})", sql.to_lowercase()), "mysql56_temporal_format=ON"];
            stops(&server, table, ValuePolicy::default(), &words).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l16_padding_is_as_select_shows_it() {
    let cases = [
        ("CHAR(8)", &["''", "'abc'", "'abc   '", "'größe'", "'🙂🙂'"][..]),
        ("CHAR(255)", &["''", "REPEAT('寸', 255)", "'x'"]),
        ("CHAR(20) CHARACTER SET latin1", &["'é  '", "''"]),
        ("CHAR(20) CHARACTER SET utf16", &["'寸  '", "''", "REPEAT('🙂', 20)"]),
        ("CHAR(200) CHARACTER SET gbk", &["REPEAT('寸', 200)", "'a '"]),
        ("CHAR(200) CHARACTER SET utf32", &["REPEAT('寸', 200)"]),
        ("BINARY(4)", &["X'00'", "X'01020304'", "X'0100'", "X''", "X'00000001'"]),
        ("BINARY(255)", &["X'FF00'", "REPEAT(X'20', 255)", "REPEAT(X'AB', 255)"]),
        ("BINARY(1)", &["X'00'", "X'20'"]),
        ("VARBINARY(10)", &["X''", "X'00'", "X'DEADBEEF00'", "X'2020'"]),
        ("VARBINARY(300)", &["REPEAT(X'AB', 300)", "REPEAT(X'00', 256)"]),
        ("VARCHAR(60)", &["''", "'a b '", "'   '", "'Größe – 寸法 🙂'"]),
    ];
    matrix(&Kind::EVERY, &cases).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l17_values_of_every_length_of_length_are_whole() {
    let cases = [
        ("VARCHAR(63)", &["REPEAT('🙂', 63)"][..]),
        ("VARCHAR(64)", &["REPEAT('🙂', 64)", "''"]),
        ("VARCHAR(300)", &["''", "REPEAT('🙂', 300)"]),
        ("TINYTEXT", &["''", "'tiny'", "REPEAT('x', 255)"]),
        ("TEXT", &["REPEAT('long ', 9000)", "REPEAT('x', 65535)", "'\\\\\\n\\t'"]),
        ("MEDIUMTEXT", &["REPEAT('0123456789', 20000)", "REPEAT('y', 65536)"]),
        ("LONGTEXT", &["'long'", "REPEAT('寸', 6000000)"]),
        ("TINYBLOB", &["X''", "REPEAT(X'00', 255)"]),
        ("BLOB", &["X''", "REPEAT(X'00FF', 3000)", "REPEAT(X'FF', 65535)"]),
        ("MEDIUMBLOB", &["REPEAT(X'00', 65536)"]),
        ("LONGBLOB", &["X'00'", "REPEAT(X'A5', 16777217)"]),
    ];
    matrix(&Kind::EVERY, &cases).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l20_geometries_are_their_srid_and_wkb() {
    let cases = [
        (
            "GEOMETRY",
            &[
                "ST_GeomFromText('POINT(1 -2.5)')",
                "ST_GeomFromText('LINESTRING(0 0,1 1,2 2)')",
                "ST_GeomFromText('POLYGON((0 0,4 0,4 4,0 0),(1 1,2 1,2 2,1 1))')",
                "ST_GeomFromText('MULTIPOINT(0 0,1 1)')",
                "ST_GeomFromText('MULTILINESTRING((0 0,1 1),(2 2,3 3))')",
                "ST_GeomFromText('MULTIPOLYGON(((0 0,4 0,4 4,0 0)))')",
                "ST_GeomFromText('GEOMETRYCOLLECTION(POINT(1 1),LINESTRING(0 0,1 1))')",
                "ST_GeomFromText('GEOMETRYCOLLECTION EMPTY')",
            ][..],
        ),
        ("POINT", &["ST_GeomFromText('POINT(10 20)', 4326)", "ST_GeomFromText('POINT(0 0)')"]),
        ("LINESTRING", &["ST_GeomFromText('LINESTRING(0 0,1 1)')"]),
        ("POLYGON", &["ST_GeomFromText('POLYGON((0 0,4 0,4 4,0 0))', 4326)"]),
        ("MULTIPOINT", &["ST_GeomFromText('MULTIPOINT(0 0,1 1)')"]),
        ("MULTILINESTRING", &["ST_GeomFromText('MULTILINESTRING((0 0,1 1),(2 2,3 3))')"]),
        ("MULTIPOLYGON", &["ST_GeomFromText('MULTIPOLYGON(((0 0,4 0,4 4,0 0)))')"]),
        ("GEOMETRYCOLLECTION", &["ST_GeomFromText('GEOMETRYCOLLECTION(POINT(1 1))')"]),
    ];
    matrix(&Kind::EVERY, &cases).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l21_vectors_are_the_bytes_of_their_numbers() {
    let mysql = [
        ("VECTOR(3)", &["STRING_TO_VECTOR('[1,-2.5,3e38]')", "STRING_TO_VECTOR('[0]')"][..]),
        ("VECTOR(16383)", &["X'0000803F000000C0'"]),
    ];
    matrix(&[Kind::MySql], &mysql).await;
    matrix(&[Kind::MariaDb118], &[("VECTOR(3)", &["VEC_FromText('[1,-2.5,3e38]')"][..])]).await;
    let server = start(Kind::MySql, &[]).await;
    // The server counts vectors among the texts when it names their collations.
    let make = "CREATE TABLE d.t (a VECTOR(2), b VARCHAR(9) CHARACTER SET latin1, c VECTOR, d TEXT CHARACTER SET gbk); \
                INSERT INTO d.t VALUES (X'0000803F000000C0', 'é', NULL, '寸')";
    server.sql(make).await.unwrap();
    let seen = read_all(&server, ValuePolicy::default()).await.unwrap();
    let types: Vec<_> = schemas(&seen)["d.t"].columns().iter().map(|c| c.source_type.clone()).collect();
    assert_eq!(types, ["vector(2)", "varchar(9)", "vector(2048)", "text"]);
    assert_eq!(same(&server).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l24_null_bits_count_what_is_there() {
    for kind in Kind::EVERY {
        let server = start(kind, &[]).await;
        let columns: Vec<String> = (0..19).map(|c| format!("c{c} INT")).collect();
        server.sql(&format!("CREATE TABLE d.t (id INT PRIMARY KEY, {})", columns.join(", "))).await.unwrap();
        let row = |id: u32| {
            let value = |c: u32| {
                if (id * 7919) >> (c % 16) & 1 == 1 { "NULL".to_owned() } else { (id * 100 + c).to_string() }
            };
            format!("({id}, {})", (0..19).map(value).collect::<Vec<_>>().join(", "))
        };
        let rows: Vec<String> = (0..200).map(row).collect();
        server.sql(&format!("INSERT INTO d.t VALUES {}", rows.join(", "))).await.unwrap();
        server
            .sql("UPDATE d.t SET c3 = NULL, c17 = id WHERE id % 3 = 0; DELETE FROM d.t WHERE id % 5 = 0")
            .await
            .unwrap();
        assert_eq!(same(&server).await, 160);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schemas_spell_types_keys_and_nullability_as_sql_does() {
    for kind in Kind::EVERY {
        let server = start(kind, &[]).await;
        server
            .sql(
                "CREATE TABLE d.t (a INT NOT NULL, y YEAR, b BIGINT UNSIGNED NOT NULL, \
                 g POINT, c VARCHAR(80) CHARACTER SET latin1, e ENUM('x','it''s') CHARACTER SET latin1, d DECIMAL(12,2) UNSIGNED, \
                 f DATETIME(6), t MEDIUMTEXT, k CHAR(9) NOT NULL, m BINARY(3), n VARBINARY(70), o BLOB, s SET('p','q'), u BIT(10), \
                 w TIMESTAMP(3) NULL, x TINYINT UNSIGNED, PRIMARY KEY (k, b, a)); \
                 INSERT INTO d.t (a, b, c, k, x, u) VALUES (-1, 18446744073709551615, 'é', 'key', 255, b'1000000001')",
            )
            .await
            .unwrap();
        let seen = read_all(&server, ValuePolicy::default()).await.unwrap();
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
    for kind in Kind::EVERY {
        for (column, value, part) in
            [("v DATE", "'0000-00-00'", "`v` (date)"), ("v VARCHAR(9) CHARACTER SET gbk", "X'A2AB'", "gbk")]
        {
            let server = start(kind, &[]).await;
            server
                .sql(&format!(
                    "CREATE TABLE d.ok (id INT); CREATE TABLE d.t (id INT, {column}); \
                     INSERT INTO d.ok VALUES (1); BEGIN; INSERT INTO d.ok VALUES (2); INSERT INTO d.t VALUES (1, {value}); COMMIT"
                ))
                .await
                .unwrap();
            let origin = Origin::Files(FileOptions::directory(server.datadir(), "binlog"));
            let mut fetcher =
                MySqlFetcher::open("test", origin, Start::Earliest, support::all()).await.unwrap();
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
