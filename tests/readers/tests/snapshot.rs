//! `tidemill snapshot`, on a store that nobody writes just now, and what it finds where something is wrong.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::tempdir;
use tidemill_bootstrap_store::{TableState, check_table};
use tidemill_e2e::{Instance, Output};
use tidemill_readers_tests::{Lake, PLAIN, Readers, Table};
use tokio::task::block_in_place;

fn tidemill(arguments: &[&str]) -> Output {
    block_in_place(|| Instance::tidemill(arguments).wait())
}

/// A store with versions, runs that are merged, and one that is not.
async fn lake(directory: &Path, table: Table) -> Lake {
    let mut lake = Lake::create(directory, table, Table::fill(2000)).await;
    for _ in 0..2 {
        lake.change(100, 2500).await;
        lake.publish().await;
    }
    lake.change(100, 2500).await;
    lake
}

async fn problems(lake: &Lake, change: impl FnOnce(&mut TableState)) -> Vec<String> {
    let mut state = lake.state().as_ref().clone();
    change(&mut state);
    let checked = check_table(lake.writer().store(), &state).await.unwrap();
    checked.problems.into_iter().map(|problem| problem.what).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_not_what_its_state_says_is_told() {
    for table in [Table::orders(), Table::words()] {
        let directory = tempdir().unwrap();
        let lake = lake(directory.path(), table).await;
        let (state, root) = (lake.state(), directory.path().join("shop"));
        let base = state.base.as_ref().unwrap();
        assert_eq!((state.runs.len(), state.merged_runs.len()), (1, 2));
        assert!(base.files.len() >= 2, "{}", base.files.len());
        let checked = check_table(lake.writer().store(), &state).await.unwrap();
        assert_eq!(checked.problems, []);
        assert_eq!(checked.objects, base.files.len() as u64 + 3);
        let is = |what: &[String], expected: &str| {
            assert!(what.iter().any(|what| what.contains(expected)), "{expected}: {what:?}");
        };
        is(&problems(&lake, |s| s.runs[0].rows += 1).await, "rows, not");
        is(&problems(&lake, |s| s.runs[0].deletes += 1).await, "of its rows are gone");
        is(&problems(&lake, |s| s.merged_runs[0].first_key = "00".into()).await, "first or last key");
        is(&problems(&lake, |s| s.base.as_mut().unwrap().files.swap(0, 1)).await, "begin within those of");
        // Ordered by what is no key.
        let other = state.schema.columns.last().unwrap().field;
        let by_other =
            |s: &mut TableState| s.key = tidemill_bootstrap_store::TableKey::Columns { fields: vec![other] };
        is(&problems(&lake, by_other).await, "is not behind the one before");
        let damaged = root.join(&base.files[1].object.path);
        let mut bytes = std::fs::read(&damaged).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        // A copy: the file may be a link of another version's.
        std::fs::remove_file(&damaged).unwrap();
        std::fs::write(&damaged, bytes).unwrap();
        let told = problems(&lake, |_| {}).await;
        assert_eq!(told.len(), 1, "{told:?}");
        is(&told, "checksum");
        std::fs::remove_file(&damaged).unwrap();
        assert_eq!(problems(&lake, |_| {}).await, ["it is missing"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_lists_shows_and_verifies_a_store_without_its_service() {
    let directory = tempdir().unwrap();
    let lake = lake(directory.path(), Table::orders()).await;
    let store = directory.path().join("shop").display().to_string();
    let listed = tidemill(&["snapshot", "ls", &store]);
    assert!(listed.status.success(), "{}", listed.errors);
    let line = listed.lines.iter().find(|line| line.starts_with("shop.orders")).unwrap();
    assert!(line.contains("ready") && line.contains("shop.orders/snap-"), "{line}");
    let shown = tidemill(&["snapshot", "show", "--json", &store, "shop.orders"]);
    let shown: Value = serde_json::from_str(&shown.lines[0]).unwrap();
    assert_eq!((&shown["key"], &shown["runs"]), (&json!(["id"]), &json!(1)));
    assert_eq!(shown["published"].as_str(), lake.state().base.as_ref().unwrap().path.as_deref());
    let well = tidemill(&["snapshot", "verify", &store]);
    assert!(well.status.success(), "{}", well.lines.join("\n"));
    let run = &lake.state().runs[0].object.path;
    std::fs::write(directory.path().join("shop").join(run), "something else").unwrap();
    let wrong = tidemill(&["snapshot", "verify", "--json", &store]);
    assert!(!wrong.status.success());
    let table: Value = serde_json::from_str(&wrong.lines[0]).unwrap();
    assert_eq!(table["problems"].as_array().unwrap().len(), 1, "{table}");
    assert_eq!(table["problems"][0]["object"].as_str(), Some(run.as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_the_table_at_that_version_with_every_change_applied() {
    let (directory, mut readers) = (tempdir().unwrap(), Readers::start());
    let mut lake = lake(directory.path(), Table::matrix()).await;
    let (version, then) = (lake.writer().head().number.to_string(), lake.digest());
    lake.change(100, 2500).await;
    let now = lake.digest();
    assert_ne!(then, now);
    let store = format!("file://{}", directory.path().join("shop").display());
    let exports: [(&str, &[&str], _); 3] = [
        ("now", &[], &now),
        ("then", &["--version", &version], &then),
        ("file/rows.parquet", &["--version", &version], &then),
    ];
    std::fs::create_dir(directory.path().join("file")).unwrap();
    for (name, more, expected) in exports {
        let to: PathBuf = directory.path().join(name);
        let to = to.to_str().unwrap();
        let arguments = [&["snapshot", "export", &store, "shop.matrix", "--to", to], more].concat();
        let exported = tidemill(&arguments);
        assert!(exported.status.success(), "{}", exported.errors);
        let folder = to.strip_suffix("/rows.parquet").unwrap_or(to);
        for reader in PLAIN {
            let seen = readers.read(reader, &lake.url(), &json!({ "directory": format!("file://{folder}") }));
            assert_eq!(&seen.digest, expected, "{reader}, {name}");
        }
        let again = tidemill(&arguments);
        assert!(!again.status.success() && again.errors.contains("is there already"), "{}", again.errors);
    }
    let unknown = tidemill(&["snapshot", "show", &store, "--version", "4711"]);
    assert!(unknown.errors.contains("version 4711 is not there; kept are"), "{}", unknown.errors);
}
