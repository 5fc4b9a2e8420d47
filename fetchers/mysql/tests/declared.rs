//! Types of MariaDB that its log does not name, asked of the server: UUID, INET4, INET6 and VECTOR.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::path::Path;

use support::differential::{same_as, schemas, start};
use support::{checkpoint, only, read_all_of, stop};
use tidemill_fetchers_api::Start;
use tidemill_fetchers_api::conformance::{self, Seen};
use tidemill_fetchers_mysql::{FileOptions, MySqlFetcher, Origin, Password, ServerOptions, Settings};
use tidemill_servers::{Kind, Server};

const MARIADB: [Kind; 2] = [Kind::MariaDb, Kind::MariaDb118];

fn settings(declared_types: bool, directory: Option<&Path>) -> Settings {
    Settings { declared_types, directory: directory.map(Path::to_owned), ..Settings::from(only("d")) }
}

async fn open(server: &Server, start: Start, settings: Settings) -> MySqlFetcher {
    let password = Password::new(server.user_password());
    let options = ServerOptions::new("127.0.0.1", server.port(), Server::USER, password);
    MySqlFetcher::open("test", Origin::Server(options), start, settings).await.unwrap()
}

/// The types of a table's columns.
fn types(seen: &Seen, table: &str) -> Vec<String> {
    schemas(seen)[table].columns().iter().map(|c| c.source_type.clone()).collect()
}

/// Numbers that are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 8
    }

    fn hex(&mut self, bytes: usize) -> String {
        (0..bytes).map(|_| format!("{:02x}", self.next() as u8)).collect()
    }

    /// Groups of which many are zero, so that runs of every length and place occur.
    fn address(&mut self) -> String {
        let zeros = self.next() % 7 + 1;
        let mut group = || match self.next() % 8 {
            n if n < zeros => 0,
            6 => 0xffff,
            7 => 1,
            _ => self.next() as u16,
        };
        (0..8).map(|_| format!("{:04x}", group())).collect()
    }
}

/// Values by their bytes: the edges, then others. UUIDs have every version, since the server sorts them by it.
fn uuids(numbers: &mut Numbers, count: usize) -> Vec<String> {
    let mut all =
        vec!["0".repeat(32), "f".repeat(32), "0".repeat(31) + "1", "1".to_owned() + &"0".repeat(31)];
    for version in 0..16 {
        all.push(format!("123456789abc{version:x}def8123456789ab0000"));
        all.push(format!("00000000ac96{version:x}74bbcceb302099a8000"));
    }
    all.extend((all.len()..count).map(|_| numbers.hex(16)));
    all
}

fn addresses(numbers: &mut Numbers, count: usize) -> Vec<String> {
    const EDGES: [&str; 12] = [
        "00000000000000000000000000000000",
        "ffffffffffffffffffffffffffffffff",
        "00000000000000000000000000000001",
        "00000000000000000000000000010000",
        "00000000000000000000ffff01020304",
        "00000000000000000000ffff00000000",
        "00000000000000000000fffe01020304",
        "00000000000000000000000001020304",
        "000000000000000000010000c0000201",
        "00010000000000020000000000000000",
        "00010000000000020000000000030004",
        "00010002000300000005000600070008",
    ];
    let mut all: Vec<String> = EDGES.map(str::to_owned).to_vec();
    // Every set of groups that are zero.
    for zeros in 0..256_u32 {
        all.push((0..8).map(|at| if zeros >> at & 1 == 1 { "0000" } else { "ffff" }).collect());
    }
    all.extend((all.len()..count).map(|_| numbers.address()));
    all
}

/// Tables with each type, in the key and beside it, next to columns of the same bytes; rows of every kind of change.
async fn fill(server: &Server) {
    const COUNT: usize = 600;
    let has_vector = server.kind() == Kind::MariaDb118;
    let mut numbers = Numbers(23);
    let (uuids, addresses) = (uuids(&mut numbers, COUNT), addresses(&mut numbers, COUNT));
    let vector = if has_vector { ", v VECTOR(3)" } else { "" };
    server
        .sql(&format!(
            "CREATE TABLE d.t (id INT PRIMARY KEY, u UUID, a INET6, b INET4, raw BINARY(16), four BINARY(4), \
             many VARBINARY(12), must UUID NOT NULL, name CHAR(4) CHARACTER SET latin1{vector}); \
             CREATE TABLE d.by_uuid (n INT, u UUID PRIMARY KEY); \
             CREATE TABLE d.by_address (a INET6, n INT, b INET4, PRIMARY KEY (b, a))"
        ))
        .await
        .unwrap();
    let mut rows = vec![];
    for (id, (u, a)) in uuids.iter().zip(&addresses).enumerate() {
        let b = match id {
            0 => "00000000".to_owned(),
            1 => "ffffffff".to_owned(),
            _ => numbers.hex(4),
        };
        let vector = match (has_vector, id % 5) {
            (false, _) => String::new(),
            (true, 0) => ", NULL".to_owned(),
            (true, _) => format!(", VEC_FromText('[{id}, -0.5, {}]')", numbers.next() % 2),
        };
        rows.push(format!("({id}, X'{u}', X'{a}', X'{b}', X'{u}', X'{b}', X'{b}', X'{u}', 'abc'{vector})"));
    }
    server.sql(&format!("INSERT INTO d.t VALUES {}", rows.join(", "))).await.unwrap();
    server
        .sql(
            "INSERT INTO d.by_uuid SELECT id, u FROM d.t; INSERT INTO d.by_address SELECT a, id, b FROM d.t; \
             UPDATE d.t SET u = NULL, a = NULL, b = NULL WHERE id % 9 = 4; DELETE FROM d.t WHERE id % 7 = 3; \
             UPDATE d.t SET u = '123E4567-E89B-12D3-A456-426655440000', a = '2001:DB8::FF00:42:8300', b = '192.0.2.0' \
             WHERE id % 11 = 5; \
             UPDATE d.by_uuid SET u = CONCAT('feedbeef', SUBSTR(u, 9)) WHERE n % 9 = 4; DELETE FROM d.by_uuid WHERE n % 5 = 2; \
             UPDATE d.by_address SET b = CONCAT('7.0.', n DIV 256, '.', n % 256) WHERE n % 9 = 4; DELETE FROM d.by_address WHERE n % 5 = 2",
        )
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l23_types_that_the_log_does_not_name_are_what_the_server_shows() {
    for kind in MARIADB {
        // Without names in the log the definition is asked for anyway.
        for (metadata, declared_types) in [("FULL", true), ("NO_LOG", false), ("MINIMAL", true)] {
            let server = start(kind, &[&format!("--binlog-row-metadata={metadata}")]).await;
            fill(&server).await;
            let mut fetcher = open(&server, Start::Earliest, settings(declared_types, None)).await;
            let seen = read_all_of(&mut fetcher, &server).await.unwrap();
            let mut expected = vec![
                "int",
                "uuid",
                "inet6",
                "inet4",
                "binary(16)",
                "binary(4)",
                "varbinary(12)",
                "uuid",
                "char(4)",
            ];
            if kind == Kind::MariaDb118 {
                expected.push("vector(3)");
            }
            assert_eq!(types(&seen, "d.t"), expected, "{kind} {metadata}");
            assert_eq!(types(&seen, "d.by_address"), ["inet6", "int", "inet4"], "{kind} {metadata}");
            let compared = same_as(&server, &seen, |_, shown| shown).await;
            assert!(compared > 1_400, "{kind} {metadata}: {compared}");
            // What the server did not take would be NULL or zero on both sides.
            let vectors = if kind == Kind::MariaDb118 { "COUNT(v)" } else { "400" };
            let taken = format!(
                "SELECT COUNT(DISTINCT must), COUNT(DISTINCT a), COUNT(DISTINCT b), {vectors} FROM d.t"
            );
            for row in server.rows(&taken).await.unwrap() {
                let counts: [u64; 4] = mysql_async::from_row::<(u64, u64, u64, u64)>(row).into();
                assert!(counts.iter().all(|count| *count >= 350), "{kind}: {counts:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l23_unless_they_are_asked_for_they_stay_bytes() {
    for kind in MARIADB {
        let server = start(kind, &[]).await;
        let make = "CREATE TABLE d.t (id INT PRIMARY KEY, u UUID, a INET6, b INET4); \
                    INSERT INTO d.t VALUES (1, UUID(), '::1', '0.0.0.1'); ALTER TABLE d.t MODIFY u BINARY(16)";
        server.sql(make).await.unwrap();
        // Nothing is asked, so a later definition is no reason to stop.
        let mut fetcher = open(&server, Start::Earliest, settings(false, None)).await;
        let seen = read_all_of(&mut fetcher, &server).await.unwrap();
        assert_eq!(types(&seen, "d.t"), ["int", "binary(16)", "binary(16)", "binary(4)"], "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l23_a_type_is_the_one_that_was_declared_where_the_row_is() {
    for kind in MARIADB {
        let server = start(kind, &[]).await;
        let directory = tempfile::tempdir().unwrap();
        let kept = || settings(true, Some(directory.path()));
        let make = "CREATE TABLE d.t (id INT PRIMARY KEY, v UUID); INSERT INTO d.t VALUES (1, UUID())";
        server.sql(make).await.unwrap();
        let at = checkpoint(
            &read_all_of(&mut open(&server, Start::Earliest, kept()).await, &server).await.unwrap(),
        );
        // The maps before and after have the same bytes but for the table's number.
        let change = "INSERT INTO d.t VALUES (2, UUID()); ALTER TABLE d.t DROP v; ALTER TABLE d.t ADD v INET6; \
                      INSERT INTO d.t VALUES (3, '::1')";
        server.sql(change).await.unwrap();
        let mut fetcher = open(&server, Start::At(at.clone()), kept()).await;
        let seen = read_all_of(&mut fetcher, &server).await.unwrap();
        let of_windows = seen.windows.iter().flat_map(|w| &w.tables);
        let types: Vec<_> = of_windows.map(|t| t.schema.columns()[1].source_type.clone()).collect();
        assert_eq!(types, ["uuid", "inet6"], "{kind}");
        drop(fetcher);
        // Who knows only the server cannot tell what the second row was.
        let text = stop(&mut open(&server, Start::At(at), settings(true, None)).await).await;
        for part in [
            "table d.t",
            "does not name the types",
            "was changed since",
            "ALTER TABLE d.t DROP v",
            "leave declared_types out to have the bytes",
        ] {
            assert!(text.contains(part), "{kind}: {text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l23_a_definition_that_does_not_fit_stops_the_stream_and_names_the_column() {
    for kind in MARIADB {
        let server = start(kind, &[]).await;
        let make = "CREATE TABLE d.t (id INT PRIMARY KEY, v INET4); INSERT INTO d.t VALUES (1, '1.2.3.4')";
        server.sql(make).await.unwrap();
        // A definition that no log tells.
        for (secretly, parts) in [
            ("ALTER TABLE d.t MODIFY v CHAR(30)", ["column `v`", "the definition says char(30)"]),
            ("ALTER TABLE d.t RENAME COLUMN v TO w", ["column `w`", "the log has not"]),
        ] {
            server.sql(&format!("SET sql_log_bin = 0; {secretly}")).await.unwrap();
            let text = stop(&mut open(&server, Start::Earliest, settings(true, None)).await).await;
            for part in parts.iter().chain(&["table d.t", "leave declared_types out"]) {
                assert!(text.contains(part), "{kind}: {text}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l23_columns_that_a_definition_does_not_show_are_no_reason_to_stop() {
    for kind in MARIADB {
        let server = start(kind, &[]).await;
        let make = "CREATE TABLE d.hashed (id INT PRIMARY KEY, b BLOB UNIQUE, u UUID INVISIBLE); \
                    CREATE TABLE d.versioned (id INT PRIMARY KEY, a INET6) WITH SYSTEM VERSIONING; \
                    INSERT INTO d.hashed (id, b, u) VALUES (1, 'one', '123e4567-e89b-12d3-a456-426655440000'); \
                    INSERT INTO d.versioned VALUES (1, '::ffff:1.2.3.4')";
        server.sql(make).await.unwrap();
        let mut fetcher = open(&server, Start::Earliest, settings(true, None)).await;
        let seen = read_all_of(&mut fetcher, &server).await.unwrap();
        assert_eq!(types(&seen, "d.hashed"), ["int", "blob", "uuid"], "{kind}");
        assert_eq!(types(&seen, "d.versioned")[1], "inet6", "{kind}");
        assert_eq!(same_as(&server, &seen, |_, shown| shown).await, 2, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l23_files_have_the_types_that_were_kept_and_cannot_be_asked_for_others() {
    let server = start(Kind::MariaDb, &[]).await;
    let make = "CREATE TABLE d.plain (id INT PRIMARY KEY, v VARCHAR(20)); INSERT INTO d.plain VALUES (1, 'a'); \
                CREATE TABLE d.t (id INT PRIMARY KEY, u UUID); INSERT INTO d.t VALUES (1, UUID())";
    server.sql(make).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let kept = || settings(true, Some(directory.path()));
    let mut options = FileOptions::directory(server.datadir(), "binlog");
    let files = |options: &FileOptions| Origin::Files(options.clone());
    let mut fetcher = MySqlFetcher::open("test", files(&options), Start::Earliest, kept()).await.unwrap();
    let text = stop(&mut fetcher).await;
    for part in ["table d.t", "files cannot be asked", "leave declared_types out to have the bytes"] {
        assert!(text.contains(part), "{text}");
    }
    drop(fetcher);
    // The files of that server, whose definitions a reader of the server has kept.
    let seen = read_all_of(&mut open(&server, Start::Earliest, kept()).await, &server).await.unwrap();
    options.server = Some(seen.windows[0].timeline.server.to_string());
    let mut fetcher = MySqlFetcher::open("test", files(&options), Start::Earliest, kept()).await.unwrap();
    let seen = conformance::read(&mut fetcher, usize::MAX).await.unwrap();
    assert_eq!(types(&seen, "d.t"), ["int", "uuid"]);
    assert_eq!(same_as(&server, &seen, |_, shown| shown).await, 2);
}
