//! Every character set, end to end: a column of it holds every code that the server takes, and the log gives the text
//! that `SELECT` shows.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use support::differential::{read_all, same, same_as, schemas, start};
use tidemill_event::ColumnSchema;
use tidemill_fetchers_mysql::{BadText, ValuePolicy};
use tidemill_servers::{Kind, Server};

const REPLACE: ValuePolicy =
    ValuePolicy { bad_text: BadText::Replace, zero_dates: tidemill_fetchers_mysql::ZeroDates::Error };

/// The sets that a server has, with the bytes of their longest character.
async fn sets(server: &Server) -> Vec<(String, usize)> {
    let query = "SELECT CHARACTER_SET_NAME, MAXLEN FROM information_schema.CHARACTER_SETS WHERE CHARACTER_SET_NAME <> 'binary'";
    server.rows(query).await.unwrap().into_iter().map(mysql_async::from_row).collect()
}

/// A table with a row for each first byte: all codes of one and two bytes (and three, where there are such) that the
/// server takes for one character of the set. (It takes half a character of UTF-16 for one of UCS-2 or UTF-32, and shows
/// what is no text.)
async fn fill(server: &Server, set: &str, bytes: usize) {
    server
        .sql(&format!("CREATE TABLE d.c_{set} (id INT PRIMARY KEY, v TEXT CHARACTER SET {set})"))
        .await
        .unwrap();
    // The bytes before the last two, and which bytes those are.
    let two = "SELECT a.n + 1 AS id, CONCAT(a.b, c.b) AS code FROM d.n a JOIN d.n c";
    let behind = |head: &str| {
        format!("SELECT a.n + 1000 AS id, CONCAT(X'{head}', a.b, c.b) AS code FROM d.n a JOIN d.n c")
    };
    let four = "SELECT a.n + 1000 AS id, CONCAT(X'81', a.b, c.b, e.b) AS code FROM d.n a JOIN d.n c JOIN d.n e \
                WHERE a.n BETWEEN 48 AND 57 AND c.n BETWEEN 129 AND 254 AND e.n BETWEEN 48 AND 57";
    let mut queries = vec!["SELECT 0 AS id, CAST(b AS BINARY) AS code FROM d.n".to_owned()];
    queries.extend((bytes > 1).then(|| two.to_owned()));
    match set {
        "ujis" | "eucjpms" => queries.push(behind("8F")),
        "utf8mb3" | "utf8" => queries.push(behind("E5")),
        "utf8mb4" => queries.push(behind("F09F")),
        "utf16" => queries.push(behind("D83D")),
        "utf16le" => queries.push(behind("3DD8")),
        "utf32" => queries.extend([behind("0000"), behind("0001").replace("1000", "2000")]),
        "gb18030" => queries.push(four.to_owned()),
        _ => {}
    }
    for query in queries {
        let rows = format!(
            "INSERT INTO d.c_{set} SELECT id, CONVERT(GROUP_CONCAT(code ORDER BY code SEPARATOR '') USING {set}) \
             FROM (SELECT codes.*, CONVERT(code USING {set}) AS t FROM ({query}) codes) texts \
             WHERE CHAR_LENGTH(t) = 1 AND HEX(t) = HEX(code) AND NOT ('{set}' IN ('ucs2', 'utf32') AND LPAD(HEX(code), 8, '0') BETWEEN '0000D800' AND '0000DFFF') \
             GROUP BY id"
        );
        server.sql(&rows).await.unwrap_or_else(|e| panic!("{set}: {e:?}: {rows}"));
    }
    let filled: Option<u64> = server.value(&format!("SELECT COUNT(*) FROM d.c_{set}")).await.unwrap();
    assert!(filled > Some(0), "{set}");
}

async fn numbered(kind: Kind) -> Server {
    let server = start(kind, &["--group-concat-max-len=4194304"]).await;
    let numbers: Vec<String> = (0..256).map(|n| format!("({n}, X'{n:02X}')")).collect();
    let make = "CREATE TABLE d.n (n INT PRIMARY KEY, b VARBINARY(1))";
    server.sql(&format!("{make}; INSERT INTO d.n VALUES {}", numbers.join(", "))).await.unwrap();
    server
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l15_a_column_of_every_set_holds_what_select_shows_for_every_code() {
    for kind in Kind::EVERY {
        let server = numbered(kind).await;
        let sets = sets(&server).await;
        assert!(sets.len() >= 39, "{kind}: {}", sets.len());
        for (set, bytes) in &sets {
            fill(&server, set, *bytes).await;
        }
        // The server shows a question mark for a code without a character.
        let seen = read_all(&server, REPLACE).await.unwrap();
        let mut replaced = 0;
        for change in
            seen.windows.iter().flat_map(|w| &w.tables).filter(|t| t.schema.name().table.starts_with("c_"))
        {
            for row in 0..change.rows.num_rows() {
                replaced += support::text(&change.rows, 1, row, "").matches('\u{fffd}').count();
            }
        }
        assert!(replaced > 100, "{kind}: {replaced} codes have no character");
        let seen = without_replacement(seen);
        let rows = same_as(&server, &seen, |_, shown| shown.replace('\u{fffd}', "?")).await;
        assert!(rows > 40 + 256, "{kind}: {rows} rows");
    }
}

/// U+FFFD as the question mark that the server has for it. (Some codes of big5 are U+FFFD for the server too.)
fn without_replacement(
    mut seen: tidemill_fetchers_api::conformance::Seen,
) -> tidemill_fetchers_api::conformance::Seen {
    use arrow_array::cast::AsArray;
    use arrow_array::{ArrayRef, RecordBatch, StringArray};
    use tidemill_fetchers_api::conformance::SeenChange;
    let plain = |rows: &RecordBatch| {
        let columns = rows.columns().iter().map(|column| -> ArrayRef {
            match column.as_string_opt::<i32>() {
                Some(texts) => {
                    let texts = texts.iter().map(|text| text.map(|text| text.replace('\u{fffd}', "?")));
                    std::sync::Arc::new(texts.collect::<StringArray>())
                }
                None => std::sync::Arc::clone(column),
            }
        });
        RecordBatch::try_new(rows.schema(), columns.collect()).unwrap()
    };
    for change in seen.transactions.iter_mut().flat_map(|t| &mut t.changes) {
        if let SeenChange::Row { before, after, .. } = change {
            for (rows, _) in before.iter_mut().chain(after.iter_mut()) {
                *rows = plain(rows);
            }
        }
    }
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l15_texts_follow_their_column_through_every_set_that_it_has() {
    for kind in Kind::EVERY {
        let server = start(kind, &[]).await;
        // One schema in SQL's words, and another form in every set: what was decoded before must not be reused.
        server
            .sql("CREATE TABLE d.t (id INT PRIMARY KEY, v VARCHAR(20) CHARACTER SET utf8mb4)")
            .await
            .unwrap();
        for (id, set) in
            ["latin1", "gbk", "utf16", "sjis", "latin1", "utf8mb3", "cp1251", "utf32"].iter().enumerate()
        {
            let text = if ["latin1", "utf8mb3"].contains(set) { "é" } else { "ж" };
            let alter = format!(
                "TRUNCATE d.t; ALTER TABLE d.t MODIFY v VARCHAR(20) CHARACTER SET {set}; INSERT INTO d.t VALUES ({id}, '{text}')"
            );
            server.sql(&alter).await.unwrap();
            assert_eq!(same(&server).await, 1, "{kind} {set}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l15_lengths_are_in_characters_of_the_set() {
    for kind in Kind::EVERY {
        let server = start(kind, &[]).await;
        let sets = ["latin1", "gbk", "ujis", "utf16", "ucs2", "utf32", "utf8mb3", "utf8mb4", "swe7"];
        let columns: Vec<String> =
            sets.iter().map(|set| format!("v_{set} VARCHAR(70) CHARACTER SET {set}")).collect();
        let make = format!(
            "CREATE TABLE d.t (id INT PRIMARY KEY, {}); INSERT INTO d.t (id) VALUES (1)",
            columns.join(", ")
        );
        server.sql(&make).await.unwrap();
        let seen = read_all(&server, ValuePolicy::default()).await.unwrap();
        let is_right = |c: &ColumnSchema| c.source_type == "varchar(70)" || c.name == "id";
        assert!(
            schemas(&seen)["d.t"].columns().iter().all(is_right),
            "{kind}: {:?}",
            schemas(&seen)["d.t"].columns()
        );
    }
}
