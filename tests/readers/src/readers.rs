//! The programs that read, in one process of Python that answers one request after the other.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use crate::Digest;

/// Who reads the Parquet files of the version that `LATEST.json` names.
pub const PLAIN: &[&str] = &["pyarrow", "polars", "duckdb", "spark"];
/// Who reads the Delta Lake log.
pub const DELTA: &[&str] = &["delta-rs", "polars-delta", "duckdb-delta"];
/// All of them.
pub const ALL: &[&str] =
    &["pyarrow", "polars", "duckdb", "spark", "delta-rs", "polars-delta", "duckdb-delta"];

/// A running process.
#[derive(Debug)]
pub struct Readers {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

/// What a reader saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The SCN that `LATEST.json` or the Delta Lake log named; `None`: the reader shows none.
    pub scn: Option<u64>,
    /// The rows, without the column `_scn`.
    pub digest: Digest,
    /// The kind, count and hash of the column `_scn`.
    pub scn_column: (String, u64, u64),
}

impl Readers {
    /// Starts them. They are obtained the first time, which takes a minute.
    pub fn start() -> Readers {
        for group in ["readers", "lake"] {
            tidemill_stand_ins::python(group).expect("its error says what is missing");
        }
        let python = tidemill_stand_ins::python("spark").expect("its error says what is missing");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/readers.py");
        let mut child = Command::new(python)
            .arg(script)
            .env("JAVA_HOME", tidemill_stand_ins::java().expect("its error says what is missing"))
            .env("TZ", "America/New_York")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("it was obtained");
        let input = child.stdin.take().expect("it is piped");
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        Readers { child, input, output }
    }

    /// Sends a request; answers with what was said, which is an error's text where it is one.
    pub fn try_ask(&mut self, request: &Value) -> Result<Value, String> {
        writeln!(self.input, "{request}").expect("the process runs as long as its input is open");
        let mut line = String::new();
        self.output.read_line(&mut line).expect("it is piped");
        let answer: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{request}: it ended"));
        match answer.get("error") {
            Some(error) => Err(format!("{request}: {error}")),
            None => Ok(answer),
        }
    }

    /// As [`Readers::try_ask`], where it must not fail.
    pub fn ask(&mut self, request: &Value) -> Value {
        self.try_ask(request).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Asks again and again until what is said fulfils the condition; `alive` is asked in between, and panics where nothing more
    /// can come.
    pub fn wait_for(
        &mut self,
        request: &Value,
        mut alive: impl FnMut(),
        is: impl Fn(&Value) -> bool,
    ) -> Value {
        loop {
            if let Ok(answer) = self.try_ask(request)
                && is(&answer)
            {
                return answer;
            }
            alive();
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }

    /// What that reader sees of the table in that directory. `more` is added to the request: `version`, `where`, `settings`.
    pub fn read(&mut self, reader: &str, table: &str, more: &Value) -> Seen {
        let mut request = json!({ "reader": reader, "table": table });
        let fields = request.as_object_mut().expect("it was made as one");
        fields.extend(more.as_object().cloned().unwrap_or_default());
        Seen::of(&self.ask(&request))
    }
}

impl Seen {
    /// Of an answer.
    pub fn of(answer: &Value) -> Seen {
        let number = |value: &Value| value.as_u64().expect("a number");
        let hash = |value: &Value| u64::from_str_radix(value.as_str().expect("digits"), 16).expect("digits");
        let column = |value: &Value| {
            let kind = value["kind"].as_str().expect("a text").to_owned();
            (kind, number(&value["values"]), hash(&value["hash"]))
        };
        let columns = answer["columns"].as_object().expect("an object").iter();
        let mut columns: BTreeMap<String, _> = columns.map(|(n, c)| (n.clone(), column(c))).collect();
        let scn_column = columns.remove("_scn").expect("every table has it");
        let digest = Digest { rows: number(&answer["rows"]), hash: hash(&answer["hash"]), columns };
        Seen { scn: answer["scn"].as_u64(), digest, scn_column }
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The URL of a directory.
pub(crate) fn url(directory: &Path) -> String {
    let directory: PathBuf = directory.canonicalize().expect("it is there");
    format!("file://{}", directory.display())
}
