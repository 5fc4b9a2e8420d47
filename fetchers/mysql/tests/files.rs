//! Recorded binlogs of real servers: the suite, and the tables that follow from the changes.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::path::Path;

use support::{Replica, expected, fixture, open_files, quickstart};
use tidemill_fetchers_api::conformance::{self, Seen};
use tidemill_fetchers_api::{FetchError, Fetcher, Start};

const ALL: usize = usize::MAX;

async fn read(directory: &Path, window_bytes: Option<usize>) -> Result<Seen, FetchError> {
    conformance::read(&mut open_files(directory, Start::Earliest, window_bytes).await?, ALL).await
}

fn assert_tables(seen: &Seen, directory: &Path, database: &str) {
    let replica = Replica::of(seen);
    let tables = expected(directory);
    assert!(!tables.is_empty());
    for table in tables {
        let rows =
            replica.table(&format!("{database}.{}", table.name), &table.columns, &[("channel", "web")]);
        assert_eq!(rows, table.rows, "{}", table.name);
    }
}

const WHOLE: [&str; 6] = [
    "mysql-9.7-full",
    "mysql-9.7-compressed",
    "mysql-9.7-image-minimal",
    "mariadb-10.11-full",
    "mariadb-10.11-compressed",
    "mariadb-10.11-image-minimal",
];

#[tokio::test]
async fn every_recording_gives_the_tables_that_its_server_had() {
    for name in WHOLE {
        let seen = read(&fixture(name), None).await.unwrap();
        assert_tables(&seen, &fixture(name), "test_data");
    }
    assert_tables(&read(&quickstart(), None).await.unwrap(), &quickstart(), "shop");
}

#[tokio::test]
async fn every_recording_passes_the_suite_in_windows_of_any_size() {
    for name in WHOLE {
        for window_bytes in [None, Some(1), Some(2000)] {
            let open = async |start| open_files(&fixture(name), start, window_bytes).await;
            let seen = conformance::check(open, ALL).await.unwrap();
            if window_bytes == Some(1) {
                assert!(
                    seen.resume.len() >= seen.transactions.len(),
                    "{name}: each transaction is a place to resume at"
                );
            }
        }
    }
}

#[tokio::test]
async fn fragments_say_what_the_whole_transaction_says() {
    for name in WHOLE {
        let whole = read(&fixture(name), None).await.unwrap();
        let parts = read(&fixture(name), Some(1)).await.unwrap();
        assert!(parts.windows.len() > whole.windows.len());
        assert!(whole.transactions == parts.transactions, "{name}");
    }
}

#[tokio::test]
async fn images_of_a_family_s_recordings_are_the_same_rows_whole_compressed_or_minimal() {
    for family in ["mysql-9.7", "mariadb-10.11"] {
        let whole = read(&fixture(&format!("{family}-full")), None).await.unwrap();
        for other in ["compressed", "image-minimal"] {
            let other = read(&fixture(&format!("{family}-{other}")), None).await.unwrap();
            let counts = |seen: &Seen| seen.transactions.iter().map(|t| t.change_count).collect::<Vec<_>>();
            assert_eq!(counts(&whole), counts(&other));
        }
    }
}

#[tokio::test]
async fn a_log_without_column_names_stops_before_the_first_row_and_says_what_to_set() {
    for name in ["mysql-9.7-metadata-minimal", "mariadb-10.11-metadata-none"] {
        let mut fetcher = open_files(&fixture(name), Start::Earliest, None).await.unwrap();
        let mut windows = 0;
        let error = loop {
            match fetcher.next().await {
                Ok(window) => {
                    let window = window.expect("the error comes first");
                    assert_eq!(window.row_count(), 0, "{name}");
                    windows += 1;
                }
                Err(error) => break error,
            }
        };
        let text = error.to_string();
        assert!(
            text.contains("SET GLOBAL binlog_row_metadata = FULL") && text.contains("test_data.items"),
            "{text}"
        );
        assert!(windows > 0, "the definitions before it come whole");
        assert_eq!(fetcher.next().await.unwrap_err().to_string(), text, "the error stays");
    }
}

#[tokio::test]
async fn xa_transactions_stop_the_stream_at_their_place() {
    for name in ["mysql-9.7-xa", "mariadb-10.11-xa"] {
        let mut fetcher = open_files(&fixture(name), Start::Earliest, None).await.unwrap();
        let mut rows = 0;
        let error = loop {
            match fetcher.next().await {
                Ok(window) => rows += window.expect("the error comes first").row_count(),
                Err(error) => break error.to_string(),
            }
        };
        assert_eq!(rows, 1, "{name}: the row before the first XA transaction");
        assert!(error.contains("XA") && error.contains("binlog.000001:"), "{error}");
    }
}
