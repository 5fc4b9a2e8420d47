//! Readers of tables that are published in S3: a stand-in on loopback.
#![cfg(feature = "cloud")]
#![allow(clippy::unwrap_used, reason = "tests")]

use serde_json::{Map, json};
use tidemill_readers_tests::{Lake, Readers, Table};
use tidemill_stand_ins::s3::S3;

#[tokio::test(flavor = "multi_thread")]
async fn readers_see_in_s3_what_was_published_there() {
    let (s3, mut readers) = (S3::start(Default::default()).unwrap(), Readers::start());
    let mut lake = Lake::create_at(&s3.url("lake"), &s3.settings(), Table::matrix(), Table::fill(1000)).await;
    lake.change(200, 1500).await;
    lake.publish().await;
    let settings: Map<_, _> = s3.settings().into_iter().map(|(name, value)| (name, value.into())).collect();
    // Spark reads S3 with a library that no package index for Python has.
    for reader in ["pyarrow", "polars", "duckdb", "delta-rs", "polars-delta", "duckdb-delta"] {
        let seen = readers.read(reader, &lake.url(), &json!({ "settings": settings }));
        assert_eq!(seen.digest, lake.digest(), "{reader}");
    }
}
