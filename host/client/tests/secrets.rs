//! What is logged, on every level. A binary of its own: the log is the process's.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

#[path = "support/real.rs"]
mod real;

use std::io::Write;
use std::sync::{Arc, Mutex};

use real::{Real, local};
use support::windows::config;
use support::windows::window;
use tidemill_client::{ClientError, Feed, RelayFeed, RelayOptions, Start, Token};
use tidemill_log::Log;
use tidemill_relay::{Credential, Grant};

async fn read(feed: &mut RelayFeed, log: &Log) -> Result<(), ClientError> {
    feed.end_at(log.checkpoint().unwrap());
    while feed.next().await?.is_some() {}
    Ok(())
}

/// What is logged.
#[derive(Clone, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn b53_no_log_line_of_any_level_holds_a_token_or_a_value() {
    let logged = Logged::default();
    let lines = logged.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_writer(move || lines.clone())
        .finish();
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let log = Log::open(config(directory.path())).unwrap();
    let mut writer = log.writer().unwrap();
    writer.append(&window(0, &[10, 20])).unwrap();
    let mut settings = local();
    settings.grants = vec![Grant {
        name: "reports".into(),
        credential: Credential::token("canary-7f3a"),
        sources: vec!["shop".into()],
        tables: vec![],
        admin: false,
        metrics: false,
    }];
    let relay = Real::new(&log, settings);
    for token in ["canary-7f3a", "canary-wrong"] {
        let mut options = RelayOptions::new("shop", [relay.url.clone()]);
        options.token = Some(Token::new(token));
        let mut feed = RelayFeed::new(options.clone(), Start::Earliest).unwrap();
        let error = read(&mut feed, &log).await.err();
        assert_eq!(error.is_some(), token == "canary-wrong");
        let shown = format!("{options:?} {error:?}");
        assert!(!shown.contains("canary"), "{shown}");
    }
    let text = String::from_utf8(logged.0.lock().unwrap().clone()).unwrap();
    assert!(text.contains("a relay gives nothing more"), "the lines are seen: {text}");
    assert!(!text.contains("canary") && !text.contains("transaktion"), "{text}");
}
