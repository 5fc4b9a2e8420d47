//! S3: moto's server, its requests in turns. It checks no signatures, and keeps everything in memory.

use std::process::Command;

use crate::process::Process;
use crate::{StandInError, http, tools};

const NAME: &str = "the stand-in for S3";
const BUCKET: &str = "tidemill";

/// How it treats a create of an object that is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Creates {
    /// Refuses it, as S3 does.
    #[default]
    Once,
    /// Overwrites the object, as a store that does not know `If-None-Match`.
    Always,
}

/// A running store with one bucket.
#[derive(Debug)]
pub struct S3 {
    process: Process,
}

impl S3 {
    /// Starts one and makes its bucket. Takes seconds, and a download the first time.
    pub fn start(creates: Creates) -> Result<S3, StandInError> {
        let mut command = Command::new(tools::python("stores")?);
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/src/s3.py"));
        if creates == Creates::Always {
            command.arg("careless");
        }
        let process = Process::start(NAME, &command)?;
        http::put_nothing(NAME, process.address, &format!("/{BUCKET}"), &[])?;
        Ok(S3 { process })
    }

    /// The URL of a prefix in its bucket.
    pub fn url(&self, prefix: &str) -> String {
        format!("s3://{BUCKET}/{prefix}")
    }

    /// The environment that leads there.
    pub fn settings(&self) -> Vec<(String, String)> {
        let endpoint = format!("http://{}", self.process.address);
        [
            ("AWS_ENDPOINT_URL", endpoint.as_str()),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "stand-in"),
            ("AWS_SECRET_ACCESS_KEY", "stand-in-secret"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }
}
