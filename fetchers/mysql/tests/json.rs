//! JSON: documents by chance and at the edges, and documents of which the log tells only the differences.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use support::differential::{Case, event_kinds, matrix, read_all, same, start};
use tidemill_fetchers_mysql::ValuePolicy;
use tidemill_servers::Kind;

const PARTIAL_UPDATE_ROWS: u8 = 39;

/// The same numbers each time.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 11) % n
    }

    fn text(&mut self) -> String {
        const PARTS: [&str; 16] = [
            "a",
            "key",
            "größe",
            "寸",
            "🙂",
            "\\\"",
            "\\\\",
            "\\n",
            "\\u0001",
            "\\u001f",
            " ",
            "/",
            "\\t",
            "'",
            "\\u007f",
            "0123456789",
        ];
        let long = if self.below(30) == 0 { 40 } else { 1 };
        (0..self.below(4) * long).map(|_| PARTS[self.below(16) as usize]).collect()
    }

    fn number(&mut self) -> String {
        let bits = self.next();
        match self.below(8) {
            0 => (bits % 10).to_string(),
            1 => (bits as i8).to_string(),
            2 => (bits as i16).to_string(),
            3 => (bits as i32).to_string(),
            4 => (bits as i64).to_string(),
            5 => bits.to_string(),
            6 => format!("{}.{}", bits as i16, (bits >> 20) % 100_000),
            _ => match f64::from_bits(bits) {
                number if number.is_finite() => format!("{number:e}"),
                _ => "0.5".to_owned(),
            },
        }
    }

    fn document(&mut self, depth: u64) -> String {
        match self.below(if depth == 0 { 6 } else { 10 }) {
            0 => "null".to_owned(),
            1 => "true".to_owned(),
            2 => "false".to_owned(),
            3 => self.number(),
            4 | 5 => format!("\"{}\"", self.text()),
            6 | 7 => {
                let cells: Vec<String> = (0..self.below(6)).map(|_| self.document(depth - 1)).collect();
                format!("[{}]", cells.join(","))
            }
            _ => {
                let member = |c: &mut Chance| format!("\"{}\": {}", c.text(), c.document(depth - 1));
                let members: Vec<String> = (0..self.below(6)).map(|_| member(self)).collect();
                format!("{{{}}}", members.join(" , "))
            }
        }
    }
}

fn quoted(json: &str) -> String {
    format!("'{}'", json.replace('\\', "\\\\").replace('\'', "''"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l18_documents_at_the_edges_have_the_server_s_text() {
    let deep = format!("'{}1{}'", "[".repeat(100), "]".repeat(100));
    let deep_objects = format!("'{}1{}'", "{\"k\":".repeat(100), "}".repeat(100));
    let many = format!("'[{}]'", (0..20_000).map(|n| n.to_string()).collect::<Vec<_>>().join(","));
    let large = format!(
        "'{{{}}}'",
        (0..5000).map(|n| format!("\"key {n}\": [{n}, \"{n}\"]")).collect::<Vec<_>>().join(",")
    );
    let values = [
        "'null'",
        "'true'",
        "'\"\"'",
        "'[]'",
        "'{}'",
        "'[1, -1, 32767, -32769, 65535, 65536, -2147483648, 4294967295, 4294967296, 18446744073709551615, -9223372036854775808]'",
        "'[0.0, -0.0, 1.0, -1.5, 0.1, 1e15, 1e14, 123456789012345.6, 1e-5, 1e-15, 1e-16, 1.7976931348623157e308, 5e-324]'",
        "'[100000000000000000000, 1e20, 1e21, 123456789012345678, 0.1e-6, 9007199254740993.0]'",
        r#"'{"b": 1, "a": 2, "aa": {"größe": "寸 🙂", "": null}, "B": [[[]]], "ab": {}}'"#,
        r#"'"line\\n tab\\t quote\\" back\\\\ slash/ control\\u0001 \\b\\f\\r\\u007f\\u2028"'"#,
        "JSON_ARRAY(CAST('2026-11-20' AS DATE), CAST('2026-11-20 01:02:03.000004' AS DATETIME(6)), CAST('2026-11-20 01:02:03' AS DATETIME))",
        "JSON_ARRAY(CAST('-01:02:03.5' AS TIME(1)), CAST('838:59:59' AS TIME), CAST('-838:59:58.999999' AS TIME(6)), CAST('00:00:00' AS TIME))",
        "JSON_ARRAY(CAST('0000-00-00' AS DATE), TIMESTAMP('9999-12-31 23:59:59.999999'))",
        "JSON_ARRAY(CAST(-12345678901234567890.123456789 AS DECIMAL(40,9)), CAST(0.5 AS DECIMAL(3,2)), CAST(0 AS DECIMAL(5,0)), CAST(-0.001 AS DECIMAL(5,3)))",
        "JSON_ARRAY(REPEAT('9', 65) + 0, CAST(REPEAT('9', 65) AS DECIMAL(65,0)), CAST('0.000000000000000000000000000001' AS DECIMAL(65,30)))",
        "JSON_ARRAY(X'DEADBEEF', b'1010', X'', CAST('x' AS BINARY(5)))",
        "JSON_ARRAY(CAST(2024 AS YEAR), ST_GeomFromText('POINT(1 2)'))",
        "JSON_OBJECT('blob', REPEAT(X'00FF', 40000))",
        "CAST(CAST('2020-01-02' AS DATE) AS JSON)",
        "CAST(X'AB' AS JSON)",
        "CAST(1.50 AS JSON)",
        "CAST(18446744073709551615 AS JSON)",
        r#"CONCAT('["', REPEAT('x', 70000), '", {"k": "', REPEAT('y', 300), '"}, 1, -40000, 70000]')"#,
        r#"CONCAT('{"', REPEAT('k', 65535), '": 1}')"#,
        &deep,
        &deep_objects,
        &many,
        &large,
    ];
    let cases: [Case<'_>; 1] = [("JSON", &values)];
    matrix(&[Kind::MySql], &cases).await;
    matrix(
        &[Kind::MariaDb, Kind::MariaDb118],
        &[("JSON", &["'{\"b\":1,  \"a\": [1,2]}'", "'null'", "'\"寸\"'"])],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l18_documents_by_chance_have_the_server_s_text() {
    let server = start(Kind::MySql, &[]).await;
    server.sql("CREATE TABLE d.t (id INT PRIMARY KEY, v JSON)").await.unwrap();
    let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
    for batch in 0..20 {
        let rows: Vec<String> =
            (0..100).map(|i| format!("({}, {})", batch * 100 + i, quoted(&chance.document(6)))).collect();
        server.sql(&format!("INSERT INTO d.t VALUES {}", rows.join(", "))).await.unwrap();
    }
    assert_eq!(same(&server).await, 2000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l19_partial_updates_give_the_whole_document() {
    let server = start(Kind::MySql, &["--binlog-row-value-options=PARTIAL_JSON"]).await;
    let make = "CREATE TABLE d.t (id INT PRIMARY KEY, a JSON, n INT, b JSON, t VARCHAR(9) CHARACTER SET gbk, c JSON, \
                x DECIMAL(20,3), e ENUM('p','q'), y DATETIME(3), z BIT(9), g GEOMETRY)";
    server.sql(make).await.unwrap();
    let document = r#"{"name": "寸", "list": [1, 2, {"deep": [true, null]}], "a.b \"c\"": 1, "": 0, "größe": {"x": 1}, "s": "x"}"#;
    let rows: Vec<String> = (0..40)
        .map(|id| {
            let (a, c) = (quoted(document), if id % 4 == 0 { "NULL".to_owned() } else { quoted("[1, [2, 3], {}]") });
            format!("({id}, {a}, {id}, {a}, '寸', {c}, -1.5, 'q', '2020-01-02 03:04:05.678', b'101010101', POINT(1, 2))")
        })
        .collect();
    server.sql(&format!("INSERT INTO d.t VALUES {}", rows.join(", "))).await.unwrap();
    let paths = [
        "$.name",
        "$.list[0]",
        "$.list[2].deep[1]",
        "$.\"a.b \\\\\"c\\\\\"\"",
        "$.\"\"",
        "$.\"größe\"",
        "$.\"größe\".x",
        "$.new",
        "$.\"new \\\\\\\\ key\\\\t\"",
        "$.list[99]",
        "$.list[last]",
        "$.list",
        "$.s[0]",
        "$.s[3]",
        "$.\"größe\".\"寸 🙂\"",
        "$",
    ];
    let values = [
        "1",
        "'text \"quoted\"'",
        "CAST('{\"k\": [1, 2]}' AS JSON)",
        "NULL",
        "1.25",
        "CAST('2020-01-02' AS DATE)",
        "TRUE",
        "REPEAT('z', 300)",
    ];
    let mut chance = Chance(77);
    for _ in 0..300 {
        let id = chance.below(40);
        let column = ["a", "b", "c"][chance.below(3) as usize];
        let (path, other) = (paths[chance.below(16) as usize], paths[chance.below(15) as usize]);
        let (value, second) = (values[chance.below(8) as usize], values[chance.below(8) as usize]);
        let change = match chance.below(6) {
            0 => format!("{column} = JSON_REPLACE({column}, '{path}', {value}, '{other}', {second})"),
            1 => format!("{column} = JSON_REMOVE({column}, '{other}')"),
            2 => format!("{column} = JSON_SET({column}, '{path}', {value}), n = n + 1"),
            3 => format!(
                "a = JSON_SET(a, '{path}', {value}), c = JSON_REMOVE(c, '$[0]'), b = JSON_SET(b, '{other}', {second})"
            ),
            4 => "n = n + 1, t = NULL".to_owned(),
            _ => format!("{column} = JSON_SET({column}, '{path}', {value}, '{other}', {second})"),
        };
        // Not every path is one in every document: the server says so, and nothing changes.
        let _ = server.sql(&format!("UPDATE d.t SET {change} WHERE id = {id}")).await;
    }
    server.sql("UPDATE d.t SET a = JSON_SET(a, '$.all', id); UPDATE d.t SET c = '[]' WHERE id < 3; DELETE FROM d.t WHERE id = 5").await.unwrap();
    assert!(event_kinds(&server)[&PARTIAL_UPDATE_ROWS] > 200);
    assert_eq!(same(&server).await, 39);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l19_a_difference_without_its_base_stops_the_stream() {
    for image in ["MINIMAL", "NOBLOB"] {
        let argument = format!("--binlog-row-image={image}");
        let server = start(Kind::MySql, &["--binlog-row-value-options=PARTIAL_JSON", &argument]).await;
        let make = "CREATE TABLE d.t (id INT PRIMARY KEY, b BLOB, v JSON); \
                    INSERT INTO d.t VALUES (1, 'b', CONCAT('{\"a\": 1, \"b\": \"', REPEAT('x', 500), '\"}')); \
                    UPDATE d.t SET v = JSON_SET(v, '$.a', 2)";
        server.sql(make).await.unwrap();
        assert_eq!(event_kinds(&server)[&PARTIAL_UPDATE_ROWS], 1);
        if image == "NOBLOB" {
            // A document that changes is in the image before.
            assert_eq!(same(&server).await, 1);
            continue;
        }
        let error = read_all(&server, ValuePolicy::default()).await.map(|_| ()).unwrap_err().to_string();
        for part in ["d.t", "`v` (json)", "binlog.0000", "binlog_row_image = FULL"] {
            assert!(error.contains(part), "{image}: {error}");
        }
    }
}
