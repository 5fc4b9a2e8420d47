//! Azure: Azurite, Microsoft's own emulator of the blob store, with everything in memory. It checks signatures.

use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;

use crate::process::Process;
use crate::{StandInError, http, tools};

const NAME: &str = "the stand-in for Azure";
const ACCOUNT: &str = "tidemill";
const CONTAINER: &str = "history";
/// What the account's key is, before it is written as text.
const KEY: &[u8] = b"the key of a stand-in";

/// A running store with one container.
#[derive(Debug)]
pub struct Azure {
    process: Process,
}

impl Azure {
    /// Starts one and makes its container. Takes a second, and a download the first time; [`StandInError::Tools`] where
    /// this machine has no node for it.
    pub fn start() -> Result<Azure, StandInError> {
        let program = tools::obtain("azurite", &[])?.join("node_modules/azurite/dist/src/blob/main.js");
        let mut command = Command::new("node");
        command.arg(program).args(["--blobHost", "127.0.0.1", "--blobPort", "0"]);
        command.args(["--inMemoryPersistence", "--disableTelemetry", "--skipApiVersionCheck", "--silent"]);
        command.env("AZURITE_ACCOUNTS", format!("{ACCOUNT}:{}", STANDARD.encode(KEY)));
        let azure = Azure { process: Process::start(NAME, &command)? };
        azure.make_container()?;
        Ok(azure)
    }

    fn make_container(&self) -> Result<(), StandInError> {
        // Any date will do: Azurite looks at none.
        let (date, version) = ("Thu, 01 Jan 2026 00:00:00 GMT", "2023-11-03");
        let path = format!("/{ACCOUNT}/{CONTAINER}");
        // Eleven headers that the request does not have stand between the method and those of the service.
        let signed = format!(
            "PUT{}x-ms-date:{date}\nx-ms-version:{version}\n/{ACCOUNT}{path}\nrestype:container",
            "\n".repeat(12)
        );
        let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, KEY), signed.as_bytes());
        let authorization = format!("SharedKey {ACCOUNT}:{}", STANDARD.encode(signature));
        let headers =
            [("x-ms-date", date), ("x-ms-version", version), ("authorization", authorization.as_str())];
        http::put_nothing(NAME, self.process.address, &format!("{path}?restype=container"), &headers)
    }

    /// The URL of a prefix in its container.
    pub fn url(&self, prefix: &str) -> String {
        format!("az://{CONTAINER}/{prefix}")
    }

    /// The environment that leads there.
    pub fn settings(&self) -> Vec<(String, String)> {
        let endpoint = format!("http://{}/{ACCOUNT}", self.process.address);
        [
            ("AZURE_STORAGE_ENDPOINT", endpoint.as_str()),
            ("AZURE_ALLOW_HTTP", "true"),
            ("AZURE_STORAGE_ACCOUNT_NAME", ACCOUNT),
            ("AZURE_STORAGE_ACCOUNT_KEY", &STANDARD.encode(KEY)),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }
}
