//! Snapshot storage as a test sees it: what `tidemill verify` finds, and what strangers' tools read in the folder `lake`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::{Folder, Output, python};

impl Folder {
    /// Runs `tidemill COMMAND…` to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.start(arguments).wait()
    }

    /// What `tidemill verify` found, by table.
    pub fn verified(&self) -> BTreeMap<String, Value> {
        let output = self.run(&["verify", "--json"]);
        let parse = |line: &String| {
            let report: Value = serde_json::from_str(line).expect("a report is JSON");
            (report["table"].as_str().expect("it names its table").to_owned(), report)
        };
        let reports: BTreeMap<_, _> = output.lines.iter().map(parse).collect();
        assert!(!reports.is_empty(), "{}", output.errors);
        reports
    }

    /// Fails unless these tables, and no others, are stored and are what their source has. Nobody writes to it.
    pub fn assert_equal(&self, tables: &[&str]) {
        for (table, report) in self.assert_no_difference(tables) {
            assert_eq!(report["unjudged"].as_array(), Some(&Vec::new()), "{table}: {report}");
        }
    }

    /// The same while others write: what they change in every round of the comparison is not judged.
    pub fn assert_no_difference(&self, tables: &[&str]) -> BTreeMap<String, Value> {
        let reports = self.verified();
        assert_eq!(reports.keys().collect::<Vec<_>>(), tables, "the tables that are stored");
        for (table, report) in &reports {
            assert_eq!(report["differences"].as_array(), Some(&Vec::new()), "{table}: {report}");
            assert!(report["rows"].as_u64() > Some(0), "{table}: {report}");
        }
        reports
    }

    /// The newest manifest of source `shop`; none before the first.
    pub fn manifest(&self) -> Option<Value> {
        let manifests = std::fs::read_dir(self.path().join("lake/shop/_meta/manifest")).ok()?;
        let manifests = manifests.map(|entry| entry.expect("the folder is readable").path());
        let newest = manifests.filter(|path| path.extension() == Some("json".as_ref())).max()?;
        Some(read_json(&newest))
    }

    /// The states of the tables of source `shop` in its newest manifest.
    pub fn states(&self) -> BTreeMap<String, Value> {
        let Some(manifest) = self.manifest() else { return BTreeMap::new() };
        let tables = manifest["tables"].as_object().expect("a manifest has tables");
        let state = |table: &Value| {
            let path = table["state"]["path"].as_str().expect("a table has a state");
            read_json(&self.path().join("lake/shop").join(path))
        };
        tables.iter().map(|(name, table)| (name.clone(), state(table))).collect()
    }

    /// How far the storage of source `shop` has followed: the SCN of what is durable there.
    pub fn stored_scn(&self) -> u64 {
        let manifest = self.manifest().expect("there is a manifest");
        manifest["logged"]["position"][1].as_u64().expect("it is a number")
    }

    /// The SCN after which the log of source `shop` begins: what its oldest segment is called by.
    pub fn log_begins(&self) -> u64 {
        let segments = std::fs::read_dir(self.data().join("log/shop")).expect("it is there");
        let paths = segments.map(|entry| entry.expect("the folder is readable").path());
        let names = paths.filter(|path| path.extension() == Some("seg".as_ref()));
        let scn = |path: PathBuf| {
            let name = path.file_stem()?.to_str()?.split_once('-')?.1.to_owned();
            name.split('_').next()?.parse::<u64>().ok()
        };
        names
            .map(|path| scn(path).expect("segments are called by their SCN"))
            .min()
            .expect("a log has segments")
    }

    /// What a Python script prints, as JSON; it runs in the folder, with DuckDB and PyArrow.
    pub fn python(&self, script: &str) -> Value {
        let output =
            Command::new(python()).args(["-c", script]).current_dir(self.path()).output().expect("it runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("it prints JSON")
    }

    /// What says where the newest version of a table of source `shop` is.
    pub fn latest(&self, table: &str) -> PathBuf {
        self.path().join("lake/shop").join(table).join("LATEST.json")
    }

    /// The newest version of a table of source `shop` as DuckDB reads it: its columns, and its rows by the first of them, each
    /// value as text.
    pub fn by_duckdb(&self, table: &str) -> (Vec<String>, Vec<Vec<Option<String>>>) {
        let script = format!(
            "import duckdb, json\n\
             at = json.load(open('lake/shop/{table}/LATEST.json'))\n\
             files = f\"read_parquet('lake/shop/{table}/{{at['path']}}/*.parquet')\"\n\
             rows = duckdb.sql(f'SELECT COLUMNS(* EXCLUDE (_scn))::VARCHAR FROM {{files}} ORDER BY 1')\n\
             print(json.dumps([rows.columns, rows.fetchall()]))"
        );
        serde_json::from_value(self.python(&script)).expect("columns and rows")
    }
}

/// An object of the storage. It is there whole as soon as it has its name, and stays for hours after the last that names it.
fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("it is readable")).expect("it is JSON")
}
