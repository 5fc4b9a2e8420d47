//! What an answer costs: a row in each format, and a window of a selection that one and that a hundred subscribers share.
//! From the memory ring; a body is taken as fast as it comes.

#![allow(clippy::unwrap_used, reason = "a benchmark's panic is how it fails")]

#[path = "../tests/support/shop.rs"]
mod shop;

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use futures_util::future::join_all;
use shop::*;
use tidemill_relay::{Answers, Asked, Encoding, Format, Selection};
use tokio::runtime::{Builder, Runtime};

const WINDOWS: u64 = 64;

fn main() {
    divan::main();
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Windows of updates, so many rows each.
fn shop(rows: u64) -> Shop {
    let mut shop = Shop::new();
    for scn in 1..=WINDOWS {
        let change = |id: u64| (0, Change::Update(row(id as i64, "open"), row(id as i64, "paid")));
        shop.append(&window(scn - 1, &[Commit(scn, (0..rows / 2).map(change).collect())]));
    }
    shop
}

/// Bodies of so many subscribers at once; gives their bytes.
fn read(
    runtime: &Runtime,
    answers: &Answers,
    shop: &Shop,
    asked: &Asked,
    encoding: Encoding,
    count: usize,
) -> usize {
    let one = || {
        let (answers, served, asked) = (answers.clone(), shop.served.clone(), asked.clone());
        runtime.spawn(async move {
            let stop = tokio::sync::watch::Sender::new(false);
            let answer = answers.open(&served, asked, encoding, Default::default(), stop.subscribe()).await;
            drain(answer.unwrap()).await
        })
    };
    let reading: Vec<_> = (0..count).map(|_| one()).collect();
    runtime.block_on(join_all(reading)).into_iter().map(Result::unwrap).sum()
}

async fn drain(mut answer: tidemill_relay::Answer) -> usize {
    use http_body_util::BodyExt;
    let mut bytes = 0;
    while let Some(frame) = answer.frame().await {
        bytes += frame.unwrap().data_ref().map_or(0, |data| data.len());
    }
    bytes
}

fn bench(bencher: Bencher<'_, '_>, rows: u64, asked: Asked, encoding: Encoding, subscribers: usize) {
    let (runtime, shop) = (runtime(), shop(rows));
    let bytes = read(&runtime, &answers(), &shop, &asked, encoding, subscribers);
    let items = rows * WINDOWS * subscribers as u64;
    bencher
        .counter(ItemsCount::new(items))
        .counter(BytesCount::new(bytes))
        .with_inputs(answers)
        .bench_refs(|answers| read(&runtime, answers, &shop, &asked, encoding, subscribers));
}

fn one_table(format: Format) -> Asked {
    Asked { selection: tables(&["shop.orders"]), ..all(format) }
}

#[divan::bench(args = [2, 2000], consts = [1, 100])]
fn frames<const SUBSCRIBERS: usize>(bencher: Bencher<'_, '_>, rows: u64) {
    bench(bencher, rows, all(Format::Frames), Encoding::Identity, SUBSCRIBERS);
}

#[divan::bench(args = [2, 2000])]
fn json(bencher: Bencher<'_, '_>, rows: u64) {
    bench(bencher, rows, all(Format::Json), Encoding::Identity, 1);
}

#[divan::bench(args = [2, 2000])]
fn events(bencher: Bencher<'_, '_>, rows: u64) {
    bench(bencher, rows, all(Format::Events), Encoding::Identity, 1);
}

#[divan::bench(args = [2, 2000])]
fn arrow(bencher: Bencher<'_, '_>, rows: u64) {
    bench(bencher, rows, one_table(Format::Arrow), Encoding::Identity, 1);
}

#[divan::bench(args = [2000])]
fn json_zstd(bencher: Bencher<'_, '_>, rows: u64) {
    bench(bencher, rows, all(Format::Json), Encoding::Zstd, 1);
}

#[divan::bench(args = [2000])]
fn json_gzip(bencher: Bencher<'_, '_>, rows: u64) {
    bench(bencher, rows, all(Format::Json), Encoding::Gzip, 1);
}

#[divan::bench(args = [2, 2000], consts = [1, 100])]
fn tables_alone<const SUBSCRIBERS: usize>(bencher: Bencher<'_, '_>, rows: u64) {
    bench(bencher, rows, one_table(Format::Frames), Encoding::Identity, SUBSCRIBERS);
}

#[divan::bench(args = [2, 2000], consts = [1, 100])]
fn filter<const SUBSCRIBERS: usize>(bencher: Bencher<'_, '_>, rows: u64) {
    let selection = Selection { filters: vec!["big".into()], ..Selection::default() };
    bench(bencher, rows, Asked { selection, ..all(Format::Frames) }, Encoding::Identity, SUBSCRIBERS);
}
