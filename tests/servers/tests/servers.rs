//! Private servers start, answer, keep their data through stop, crash and restart, and log what their options say.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use mysql_async::{Conn, prelude::Queryable};
use tidemill_servers::{Kind, MariaDb, MySql, Options, Server, ServerError};

async fn each_kind(check: impl AsyncFn(Server)) {
    for kind in Kind::EVERY {
        check(Server::start(kind, Options::default()).await.unwrap()).await;
    }
}

#[tokio::test]
async fn a_fresh_server_is_set_up_for_capture_and_has_logged_nothing() {
    each_kind(async |server| {
        let settings = server
            .rows("SELECT @@log_bin, @@binlog_format, @@binlog_row_image, @@binlog_row_metadata")
            .await
            .unwrap();
        let settings: (i32, String, String, String) = mysql_async::from_row(settings[0].clone());
        assert_eq!(settings, (1, "ROW".into(), "FULL".into(), "FULL".into()), "{}", server.kind());
        assert_eq!(server.gtid_set().await.unwrap(), "", "{}", server.kind());
        assert_eq!(server.binlog_files().unwrap().len(), 1, "{}", server.kind());
    })
    .await;
}

#[tokio::test]
async fn a_restart_keeps_data_port_and_accounts() {
    each_kind(async |mut server| {
        let (kind, port) = (server.kind(), server.port());
        server
            .sql("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY); INSERT INTO d.t VALUES (7)")
            .await
            .unwrap();
        server.restart().await.unwrap();
        assert_eq!(
            server.value("SELECT id FROM d.t").await.unwrap(),
            Some(7),
            "{kind}: after an orderly restart"
        );

        server.sql("INSERT INTO d.t VALUES (8)").await.unwrap();
        server.kill();
        assert!(Conn::new(server.root()).await.is_err(), "{kind}: a killed server answers");
        server.restart().await.unwrap();
        assert_eq!(server.value("SELECT MAX(id) FROM d.t").await.unwrap(), Some(8), "{kind}: after a crash");
        assert_eq!(server.port(), port, "{kind}");

        let names: Vec<String> = server
            .binlog_files()
            .unwrap()
            .iter()
            .map(|file| file.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        assert_eq!(names, ["binlog.000001", "binlog.000002", "binlog.000003"], "{kind}");
    })
    .await;
}

#[tokio::test]
async fn the_user_may_read_the_binlog_and_tables_and_nothing_else() {
    each_kind(async |server| {
        server.sql("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY)").await.unwrap();
        let mut conn = Conn::new(server.user()).await.unwrap();
        conn.query_drop("SELECT * FROM d.t; SHOW BINARY LOGS").await.unwrap();
        let refused = conn.query_drop("INSERT INTO d.t VALUES (1)").await.unwrap_err();
        assert!(refused.to_string().contains("denied"), "{}: {refused}", server.kind());
        conn.disconnect().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn two_servers_of_a_kind_have_different_identities() {
    let (one, other) = (
        MySql::start(Options::default()).await.unwrap(),
        MySql::start(Options::default().server_id(2)).await.unwrap(),
    );
    let uuid = async |server: &Server| server.value::<String>("SELECT @@server_uuid").await.unwrap();
    assert_ne!(uuid(&one).await, uuid(&other).await);
    assert_eq!(other.value("SELECT @@server_id").await.unwrap(), Some(2));
}

#[tokio::test]
async fn arguments_override_the_defaults() {
    let options = Options::default().argument("--binlog-row-image=MINIMAL");
    let server = MariaDb::start(options).await.unwrap();
    assert_eq!(
        server.value::<String>("SELECT @@binlog_row_image").await.unwrap().as_deref(),
        Some("MINIMAL")
    );
}

#[tokio::test]
async fn a_server_that_cannot_start_shows_its_own_log() {
    each_kind(async |server| {
        let options = Options::default().argument("--no-such-argument");
        let Err(error) = Server::start(server.kind(), options).await else {
            panic!("{} started", server.kind())
        };
        assert!(matches!(error, ServerError::Start { .. }), "{error:?}");
        assert!(error.to_string().contains("no-such-argument"), "{error}");
    })
    .await;
}

#[tokio::test]
async fn a_statement_that_fails_is_an_error_wherever_it_stands() {
    each_kind(async |server| {
        for statements in ["NONSENSE", "SELECT 1; NONSENSE; SELECT 2", "SELECT 1; SELECT 2; NONSENSE"] {
            let error = server.sql(statements).await.unwrap_err();
            assert!(matches!(error, ServerError::Query { .. }), "{statements}: {error:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_suspended_server_stands_still_and_goes_on() {
    each_kind(async |server| {
        let mut conn = server.conn().await.unwrap();
        let stat = format!("/proc/{}/stat", server.process_id().unwrap());
        let stopped = || std::fs::read_to_string(&stat).unwrap().contains(") T ");
        server.suspend().unwrap();
        while !stopped() {
            tokio::task::yield_now().await;
        }
        server.resume().unwrap();
        assert_eq!(conn.query_first::<i32, _>("SELECT 42").await.unwrap(), Some(42));
        assert!(!stopped());
        conn.disconnect().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_dropped_server_is_gone_with_its_directory() {
    each_kind(async |server| {
        let (datadir, process) = (server.datadir(), format!("/proc/{}", server.process_id().unwrap()));
        assert!(datadir.exists() && Path::new(&process).exists());
        drop(server);
        assert!(!datadir.exists() && !Path::new(&process).exists());
    })
    .await;
}

#[tokio::test]
async fn a_server_ends_with_its_owner_even_when_that_is_killed() {
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "owner_of_a_server", "--ignored", "--nocapture"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(owner.stdout.take().unwrap()).lines().map(Result::unwrap);
    let paths = said
        .skip_while(|line| !line.contains("owns "))
        .map(|line| line.split_once("owns ").unwrap().1.to_string())
        .next();
    let paths: Vec<PathBuf> = paths.unwrap().split(' ').map(PathBuf::from).collect();
    assert!(paths.iter().all(|path| path.exists()), "{paths:?}");
    owner.kill().unwrap();
    owner.wait().unwrap();
    while paths.iter().any(|path| path.exists()) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
#[ignore = "run by the test above, in a process of its own that is killed"]
async fn owner_of_a_server() {
    let server = MariaDb::start(Options::default()).await.unwrap();
    println!("owns /proc/{} {}", server.process_id().unwrap(), server.datadir().display());
    std::io::stdin().lines().next();
    drop(server);
}
