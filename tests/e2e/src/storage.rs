//! Snapshot storage as a test sees it: what `tidemill verify` finds, and what strangers' tools read in the folder `lake`.

use std::collections::BTreeMap;
use std::path::PathBuf;
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
        let output = self.run(&["verify", "--json", "--patience", "60 s"]);
        let parse = |line: &String| {
            let report: Value = serde_json::from_str(line).expect("a report is JSON");
            (report["table"].as_str().expect("it names its table").to_owned(), report)
        };
        let reports: BTreeMap<_, _> = output.lines.iter().map(parse).collect();
        assert!(!reports.is_empty(), "{}", output.errors);
        reports
    }

    /// Fails unless these tables, and no others, are stored and are what their source has.
    pub fn assert_equal(&self, tables: &[&str]) {
        let reports = self.verified();
        assert_eq!(reports.keys().collect::<Vec<_>>(), tables, "the tables that are stored");
        for (table, report) in reports {
            let nothing = Some(&Vec::new());
            assert_eq!(report["differences"].as_array(), nothing, "{table}: {report}");
            assert_eq!(report["unjudged"].as_array(), nothing, "{table}: {report}");
            assert!(report["rows"].as_u64() > Some(0), "{table}: {report}");
        }
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
