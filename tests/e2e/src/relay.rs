//! A relay as strangers see it: by `curl`, and by Python. What is asked and answered goes through these programs, never
//! through our own client.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

use crate::{Folder, Instance, Output};

/// A port of loopback that nobody listens on.
pub fn free_port() -> u16 {
    tidemill_servers::free_port().expect("loopback has a free port")
}

/// A relay that serves.
#[derive(Debug)]
pub struct Relay {
    /// Its process.
    pub instance: Instance,
    port: u16,
}

/// The folder of the examples.
pub fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples")
}

impl Folder {
    /// The relay of `examples/relay`, on a port of its own, when everything that was recorded is stored.
    pub fn serve_example() -> (Folder, Relay, u16) {
        let port = free_port();
        let config = std::fs::read_to_string(examples().join("relay/tidemill.toml")).expect("it is there");
        let binlog = examples().join("quickstart").canonicalize().expect("it is there");
        let config = config.replace("../quickstart", &binlog.display().to_string());
        let folder = Folder::new("");
        folder.write("tidemill.toml", config.replace("7878", &port.to_string()).as_bytes());
        let mut relay = folder.serve("relay", port);
        relay.wait_for("v1/admin/sources", |answer| answer.json()["sources"][0]["activity"] == "ended");
        (folder, relay, port)
    }

    /// Starts `tidemill relay` (or `up`), whose configuration lets it listen on that port of loopback, and waits until it
    /// is ready.
    pub fn serve(&self, command: &str, port: u16) -> Relay {
        let mut relay = self.serve_unready(command, port);
        relay.wait_for("readyz", |answer| answer.status == 200);
        relay
    }

    /// As [`Folder::serve`], but waits only until it answers: its sources may not be reachable.
    pub fn serve_unready(&self, command: &str, port: u16) -> Relay {
        Relay::of(self.start_logging(&[command]), port)
    }
}

/// What `curl` got.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status; 0 where there was no answer.
    pub status: u16,
    /// The body.
    pub body: String,
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The body's lines as JSON.
    pub fn lines(&self) -> Vec<Value> {
        self.body.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"))).collect()
    }
}

impl Relay {
    /// The relay of a process that listens on that port, as soon as it answers.
    pub fn of(instance: Instance, port: u16) -> Relay {
        let mut relay = Relay { instance, port };
        relay.wait_for("healthz", |answer| answer.status != 0);
        relay
    }

    /// The address of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.port)
    }

    /// GET of a path, by `curl` with these arguments more.
    pub fn get_with(&self, path: &str, arguments: &[&str]) -> Answer {
        let mut command = Command::new("curl");
        command
            .args(["-sS", "--max-time", "300", "-w", "\n%{http_code}"])
            .args(arguments)
            .arg(self.url(path));
        let output = command.stdin(Stdio::null()).output().expect("curl is installed");
        let text = String::from_utf8_lossy(&output.stdout);
        let (body, status) = text.rsplit_once('\n').expect("curl writes the status behind the body");
        Answer { status: status.trim().parse().unwrap_or(0), body: body.to_owned() }
    }

    /// GET of a path.
    pub fn get(&self, path: &str) -> Answer {
        self.get_with(path, &[])
    }

    /// POST of a path without a body.
    pub fn post(&self, path: &str) -> Answer {
        self.get_with(path, &["-X", "POST"])
    }

    /// Asks until the answer fulfils the condition.
    pub fn wait_for(&mut self, path: &str, condition: impl Fn(&Answer) -> bool) -> Answer {
        loop {
            let answer = self.get(path);
            if condition(&answer) {
                return answer;
            }
            if let Some(output) = self.instance.ended() {
                panic!("the relay has ended: {}", output.errors);
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    /// The metric of that name and these labels, as they are written; zero where it is not there.
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.get("metrics").body;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().expect("a metric has a number"))
    }

    /// Follows a path, by `curl` with these arguments more.
    pub fn follow(&self, path: &str, arguments: &[&str]) -> Follow {
        let mut command = Command::new("curl");
        command.args(["-sSN"]).args(arguments).arg(self.url(path));
        Follow::start(command)
    }

    /// What an operator sees of one of the `sources` or `subscriptions`.
    pub fn status(&self, kind: &str, name: &str) -> Value {
        let all = self.get(&format!("v1/admin/{kind}")).json();
        let found = all[kind].as_array().and_then(|all| all.iter().find(|one| one["name"] == name).cloned());
        found.unwrap_or_else(|| panic!("{name} is not in {all}"))
    }

    /// The SCN that one of the `sources` or `subscriptions` has reached; 0 before the first.
    pub fn scn(&self, kind: &str, name: &str) -> u64 {
        let status = self.status(kind, name);
        let scn = status["position"].as_str().and_then(|position| position.split_once('/'));
        scn.map_or(0, |(_, scn)| scn.parse().expect("a position is timeline and SCN"))
    }

    /// Waits until one of them does that: `running`, `paused`, `failed`, `ended`.
    pub fn wait_activity(&mut self, kind: &str, name: &str, activity: &str) {
        let is = |answer: &Answer| {
            let all = answer.json();
            let mut all = all[kind].as_array().into_iter().flatten();
            all.any(|one| one["name"] == name && one["activity"] == activity)
        };
        self.wait_for(&format!("v1/admin/{kind}"), is);
    }

    /// Waits until one of them has reached that SCN.
    pub fn wait_scn(&mut self, kind: &str, name: &str, scn: u64) {
        while self.scn(kind, name) < scn {
            self.wait_for("healthz", |answer| answer.status != 0);
        }
    }

    /// Kills it as a power cut would.
    pub fn kill(self) -> Output {
        self.instance.kill()
    }

    /// Ends it as SIGTERM does.
    pub fn terminate(self) -> Output {
        self.instance.terminate()
    }
}

/// A program that reads a stream. Dropped, it is ended.
#[derive(Debug)]
pub struct Follow {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Follow {
    fn start(mut command: Command) -> Follow {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("curl is installed");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        Follow { child, lines }
    }

    /// The next line; `None` when the stream has ended.
    pub fn line(&mut self) -> Option<String> {
        self.lines.next()?.ok()
    }

    /// The next line that is a change, with the checkpoints left out.
    pub fn change(&mut self) -> Option<Value> {
        loop {
            let line = self.line()?;
            let value: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
            assert!(value.get("status").is_none(), "a problem: {line}");
            if value.get("op").is_some() {
                return Some(value);
            }
        }
    }

    /// The process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended: whether all that was sent has come.
    pub fn wait(mut self) -> bool {
        self.lines.by_ref().for_each(drop);
        self.child.wait().is_ok_and(|status| status.success())
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A Python with pyarrow. `tests/get-python.sh` gets it.
pub fn python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let tools = std::env::var_os("TIDEMILL_TOOLS").map_or_else(|| root.join(".tools"), PathBuf::from);
        let prefix = tools.join("python");
        let status =
            Command::new("bash").arg(root.join("tests/get-python.sh")).env("PREFIX", &prefix).status();
        assert!(status.expect("bash runs").success(), "tests/get-python.sh says why");
        prefix.join("bin/python")
    })
}
