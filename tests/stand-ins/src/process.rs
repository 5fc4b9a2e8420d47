//! The process of a stand-in, which ends with its owner, however that one ends.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;

use crate::StandInError;

/// Runs its arguments and ends them when its own input ends: the pipe that we hold closes with us. The shell lets go of the
/// output, so that its end is the program's.
const GUARDIAN: &str = r#""$@" 2>&1 & child=$!; exec >/dev/null 2>&1; cat; kill -9 $child"#;

/// A running stand-in that listens.
#[derive(Debug)]
pub(crate) struct Process {
    guardian: Child,
    input: Option<ChildStdin>,
    pub(crate) address: SocketAddr,
}

impl Process {
    /// Starts a program that says `http://ADDRESS` when it listens.
    pub(crate) fn start(name: &'static str, program: &Command) -> Result<Process, StandInError> {
        let environment = program.get_envs().filter_map(|(name, value)| Some((name, value?)));
        let mut guardian = Command::new("sh")
            .envs(environment)
            .args(["-c", GUARDIAN, "sh"])
            .arg(program.get_program())
            .args(program.get_args())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // Ctrl-C at the terminal is for us to handle.
            .process_group(0)
            .spawn()
            .map_err(StandInError::io(name, "run the program"))?;
        let input = guardian.stdin.take();
        let output = guardian.stdout.take().expect("it is piped");
        let (say, said) = mpsc::channel();
        // Reads on when the address is known, so that the program never waits for a reader.
        std::thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                let _ = say.send(String::from_utf8_lossy(&line).into_owned());
            }
        });
        let mut process = Process { guardian, input, address: ([127, 0, 0, 1], 0).into() };
        process.address = listening(name, &said)?;
        Ok(process)
    }
}

fn listening(name: &'static str, said: &mpsc::Receiver<String>) -> Result<SocketAddr, StandInError> {
    let mut all = String::new();
    for line in said {
        let address = line.split("http://").nth(1).and_then(|rest| rest.trim().parse().ok());
        match address {
            Some(address) => return Ok(address),
            None => all = all + &line + "\n",
        }
    }
    Err(StandInError::Start { name, said: all })
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.input.take());
        // Fails only for a guardian that is gone, which is what we want.
        let _ = self.guardian.wait();
    }
}
