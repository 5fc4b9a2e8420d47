//! What a bootstrap reads of the store, counted there.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use tidemill_bootstrap_store::MergeOptions;
use tidemill_event::{Checkpoint, Window};
use tidemill_relay::{Selection, SnapshotPath, parse_predicate};

use crate::model::Mirror;
use crate::selection::answered;
use crate::shop::{Change, Dice, ORDERS, Shop, row};

/// Bytes that were read, with their object's path.
type Reads = Arc<Mutex<Vec<(String, u64)>>>;

/// A store that counts what is read of it.
#[derive(Debug)]
struct Counting {
    inner: LocalFileSystem,
    reads: Reads,
}

impl fmt::Display for Counting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "counting {}", self.inner)
    }
}

#[async_trait]
impl ObjectStore for Counting {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let result = self.inner.get_opts(location, options).await?;
        let bytes = result.range.end - result.range.start;
        self.reads.lock().unwrap().push((location.to_string(), bytes));
        Ok(result)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let bytes = ranges.iter().map(|range| range.end - range.start).sum();
        self.reads.lock().unwrap().push((location.to_string(), bytes));
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

const CHANGES: i64 = 4000;

/// A shop whose log is the same however many tables it is about.
async fn shop_of(tables: usize) -> (tempfile::TempDir, Reads, Shop, Checkpoint) {
    let directory = tempfile::tempdir().unwrap();
    let (inner, reads) = (LocalFileSystem::new_with_prefix(directory.path()).unwrap(), Reads::default());
    let mut shop = Shop::on(Arc::new(Counting { inner, reads: Arc::clone(&reads) })).await;
    let names: Vec<&'static str> =
        (0..tables).map(|n| format!("shop.t{n:03}").leak() as &'static str).collect();
    for name in &names {
        shop.create(name).await;
    }
    let mut mirror = Mirror::default();
    mirror.read(&mut shop.reader(SnapshotPath::Auto)).await;
    let note = "x".repeat(100);
    for transaction in 0..4 {
        let ids = transaction * CHANGES / 4..(transaction + 1) * CHANGES / 4;
        let changes: Vec<Change> =
            ids.map(|id| Change::Set(names[id as usize % tables], row(id, &format!("{note}{id}")))).collect();
        shop.change(&changes);
        shop.apply().await;
    }
    reads.lock().unwrap().clear();
    (directory, reads, shop, mirror.have.unwrap())
}

/// Bytes that were read of objects whose path has that in it.
fn bytes_of(reads: &Reads, part: &str) -> u64 {
    reads.lock().unwrap().iter().filter(|(path, _)| path.contains(part)).map(|(_, bytes)| bytes).sum()
}

#[tokio::test]
async fn b25_each_byte_of_the_runs_is_read_once_however_many_tables_there_are() {
    for tables in [1, 10, 50] {
        let (_directory, reads, shop, have) = shop_of(tables).await;
        let states = shop.writer.tables();
        let runs: u64 = states.values().flat_map(|state| &state.runs).map(|run| run.object.bytes).sum();
        for since in [None, Some(have)] {
            let mut mirror = Mirror { have: since.clone(), ..Mirror::default() };
            mirror.read(&mut shop.reader(SnapshotPath::Deltas)).await;
            assert_eq!(mirror.content, *shop.at(shop.scn));
            assert_eq!(mirror.rows as i64, CHANGES, "{tables} tables");
            assert_eq!(bytes_of(&reads, "/run/"), runs, "{tables} tables, since {since:?}");
            assert_eq!(bytes_of(&reads, "/log/"), 0);
            reads.lock().unwrap().clear();
        }
    }
}

#[tokio::test]
async fn deltas_read_nothing_of_tables_that_did_not_change() {
    let (_directory, reads, mut shop, _) = shop_of(10).await;
    let have = {
        let mut mirror = Mirror::default();
        mirror.read(&mut shop.reader(SnapshotPath::Auto)).await;
        mirror.have.unwrap()
    };
    shop.change(&[Change::Set("shop.t003", row(3, "changed"))]);
    shop.apply().await;
    reads.lock().unwrap().clear();
    let mut mirror = Mirror { have: Some(have), ..Mirror::default() };
    mirror.read(&mut shop.reader(SnapshotPath::Deltas)).await;
    assert_eq!(mirror.rows, 1);
    assert_eq!(bytes_of(&reads, "/run/"), bytes_of(&reads, "shop.t003/run/"));
    assert_eq!(bytes_of(&reads, "/snap-"), 0);
}

/// Orders in one file of many row groups, larger than what is read whole; `cents` rises with the key.
async fn large_orders() -> (tempfile::TempDir, Reads, Shop, i64) {
    let (rows, directory) = (60_000, tempfile::tempdir().unwrap());
    let (inner, reads) = (LocalFileSystem::new_with_prefix(directory.path()).unwrap(), Reads::default());
    let mut shop = Shop::on(Arc::new(Counting { inner, reads: Arc::clone(&reads) })).await;
    let mut dice = Dice(38);
    let mut note = || (0..8).map(|_| format!("{:08x}", dice.next(1 << 31))).collect::<String>();
    shop.change(&(0..rows).map(|id| Change::Set(ORDERS, row(id, &note()))).collect::<Vec<_>>());
    shop.apply().await;
    let options = MergeOptions {
        row_group_rows: 4096,
        file_bytes: 1 << 30,
        file_bytes_min: 0,
        ..MergeOptions::default()
    };
    shop.publish_as(ORDERS, options).await;
    // A change of the newest row, in a run.
    shop.change(&[Change::Set(ORDERS, row(rows - 1, "changed"))]);
    shop.apply().await;
    reads.lock().unwrap().clear();
    (directory, reads, shop, rows)
}

#[tokio::test(flavor = "multi_thread")]
async fn row_groups_that_a_predicate_excludes_are_not_read() {
    let (_directory, reads, shop, rows) = large_orders().await;
    let read = async |text: &str| {
        let predicates = vec![parse_predicate(ORDERS, text).unwrap()];
        let selection = Selection { predicates, ..Selection::default() };
        let (windows, _) = answered(&shop, &selection, None).await;
        let bytes = (bytes_of(&reads, "/snap-"), bytes_of(&reads, "/run/"));
        reads.lock().unwrap().clear();
        (windows.iter().map(Window::row_count).sum::<usize>() as i64, bytes)
    };
    let (count, (whole, runs)) = read("id is not null").await;
    assert_eq!(count, rows);
    assert!(whole > 2 << 20 && runs > 0, "{whole} {runs}");
    // The last twentieth, by a column that is not of the key: runs may have anything.
    let least = (rows - rows / 20) * 37 - 1000;
    let (count, (some, same)) = read(&format!("cents >= {}.{:02}", least / 100, least % 100)).await;
    assert_eq!((count, same), (rows / 20, runs));
    assert!(some < whole / 5, "{some} of {whole}");
    // By the key no version outside is read, in whichever file.
    let (count, (some, none)) = read("id >= 100 and id < 200 and part < 99").await;
    assert_eq!((count, none), (100, 0));
    assert!(some < whole / 5, "{some} of {whole}");
    let (count, (nothing, _)) = read(&format!("id > {rows}")).await;
    assert_eq!((count, nothing), (0, 0), "not even its footer");
}
