//! What `tidemill check` finds on real servers, and that what it says mends it.

#![allow(clippy::unwrap_used, reason = "tests")]

use tidemill_fetchers_mysql::{Finding, Level, Password, ServerOptions, preflight};
use tidemill_servers::{Kind, Options, Server};

fn user(server: &Server) -> ServerOptions {
    ServerOptions::new("127.0.0.1", server.port(), Server::USER, Password::new(server.user_password()))
}

fn has(findings: &[Finding], level: Level, what: &str, fix: &str) -> bool {
    findings.iter().any(|f| f.level == level && f.what.contains(what) && f.fix.contains(fix))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_set_up_for_capture_has_nothing_that_stands_in_the_way() {
    for kind in Kind::ALL {
        let server = Server::start(kind, Options::default()).await.unwrap();
        let findings = preflight(&user(&server)).await;
        assert_eq!(findings, [], "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_setting_that_stands_in_the_way_is_found_with_the_statement_that_mends_it() {
    for kind in Kind::ALL {
        let server = Server::start(kind, Options::default()).await.unwrap();
        server
            .sql(
                "SET GLOBAL binlog_row_image = 'MINIMAL'; SET GLOBAL binlog_format = 'MIXED'; \
                 SET GLOBAL binlog_row_metadata = 'MINIMAL'; SET GLOBAL binlog_checksum = 'NONE'; \
                 SET GLOBAL binlog_expire_logs_seconds = 3600; CREATE DATABASE d; CREATE TABLE d.t (id INT); \
                 CREATE TABLE d.u (id INT PRIMARY KEY); CREATE TABLE d.u2 (a INT NOT NULL, UNIQUE (a)); CREATE TABLE d.`a``b c` (v INT, UNIQUE (v))",
            )
            .await
            .unwrap();
        let findings = preflight(&user(&server)).await;
        for (level, what, fix) in [
            (Level::Error, "binlog_format is MIXED", "SET GLOBAL binlog_format = 'ROW'"),
            (Level::Warning, "binlog_row_metadata is MINIMAL", "SET GLOBAL binlog_row_metadata = FULL"),
            (Level::Warning, "binlog_row_image is MINIMAL", "SET GLOBAL binlog_row_image = 'FULL'"),
            (Level::Warning, "kept for 1.0 hours", "binlog_expire_logs_seconds"),
            (Level::Warning, "d.t has no primary key", "ALTER TABLE `d`.`t`"),
            (Level::Warning, "d.a`b c has no primary key", "ALTER TABLE `d`.`a``b c`"),
            (Level::Note, "binlog_checksum is NONE", "CRC32"),
        ] {
            assert!(has(&findings, level, what, fix), "{kind}: {what}: {findings:#?}");
        }
        assert!(!findings.iter().any(|finding| finding.what.contains("d.u")), "{kind}: {findings:#?}");
        assert!(findings.is_sorted_by(|a, b| a.level >= b.level), "the worst comes first");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_read_single_tables_is_told_of_those_that_have_no_key() {
    for kind in Kind::ALL {
        let server = Server::start(kind, Options::default()).await.unwrap();
        let monitor = if kind.is_mysql() { "REPLICATION CLIENT" } else { "BINLOG MONITOR" };
        server
            .sql(&format!(
                "CREATE DATABASE d; CREATE TABLE d.keyed (id INT PRIMARY KEY); CREATE TABLE d.bare (id INT); \
                 CREATE USER reader IDENTIFIED BY 'r'; GRANT REPLICATION SLAVE, {monitor} ON *.* TO reader; \
                 GRANT SELECT ON d.keyed TO reader; GRANT SELECT ON d.bare TO reader"
            ))
            .await
            .unwrap();
        let reader = ServerOptions::new("127.0.0.1", server.port(), "reader", Password::new("r"));
        let findings = preflight(&reader).await;
        assert!(
            has(&findings, Level::Warning, "d.bare has no primary key", "ALTER TABLE"),
            "{kind}: {findings:?}"
        );
        assert!(!has(&findings, Level::Warning, "d.keyed", ""), "{kind}: {findings:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l19_differences_of_documents_stand_in_the_way_only_without_the_documents() {
    let server = Server::start(Kind::MySql, Options::default()).await.unwrap();
    let what = "JSON columns are logged as differences";
    for (image, stands) in [("FULL", false), ("NOBLOB", false), ("MINIMAL", true)] {
        let set = format!(
            "SET GLOBAL binlog_row_value_options = 'PARTIAL_JSON'; SET GLOBAL binlog_row_image = '{image}'"
        );
        server.sql(&set).await.unwrap();
        let findings = preflight(&user(&server)).await;
        assert_eq!(
            has(&findings, Level::Error, what, "binlog_row_image = 'FULL'"),
            stands,
            "{image}: {findings:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_let_us_in_says_why() {
    for kind in Kind::ALL {
        let mut server = Server::start(kind, Options::default()).await.unwrap();
        let mut wrong = user(&server);
        wrong.password = Password::new("wrong");
        let findings = preflight(&wrong).await;
        assert!(
            has(&findings, Level::Error, "Access denied", "GRANT REPLICATION SLAVE"),
            "{kind}: {findings:?}"
        );

        server.sql("CREATE USER reader IDENTIFIED BY 'r'; GRANT SELECT ON *.* TO reader").await.unwrap();
        let reader = ServerOptions::new("127.0.0.1", server.port(), "reader", Password::new("r"));
        let findings = preflight(&reader).await;
        assert!(has(&findings, Level::Error, "denied", "GRANT REPLICATION SLAVE"), "{kind}: {findings:?}");

        let mut clash = user(&server);
        clash.server_id = Some(1);
        let findings = preflight(&clash).await;
        assert!(has(&findings, Level::Error, "is the server's own", "server_id"), "{kind}: {findings:?}");

        server.kill();
        let findings = preflight(&user(&server)).await;
        assert!(has(&findings, Level::Error, "cannot be reached", "host and port"), "{kind}: {findings:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l64_databases_that_the_server_does_not_log_are_found() {
    for kind in Kind::ALL {
        let options =
            Options::default().argument("--binlog-do-db=shop").argument("--binlog-ignore-db=scratch");
        let server = Server::start(kind, options).await.unwrap();
        let findings = preflight(&user(&server)).await;
        for (what, fix) in [
            ("binlog_do_db is shop: only changes of these databases are logged", "take binlog_do_db out"),
            (
                "binlog_ignore_db is scratch: changes of these databases are not logged",
                "take binlog_ignore_db out",
            ),
        ] {
            assert!(has(&findings, Level::Warning, what, fix), "{kind}: {what}: {findings:#?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_whose_rows_change_by_foreign_keys_are_found_where_the_log_lacks_that() {
    for kind in Kind::ALL {
        let server = Server::start(kind, Options::default()).await.unwrap();
        let tables = "CREATE DATABASE d; CREATE TABLE d.parent (id INT PRIMARY KEY); \
                      CREATE TABLE d.child (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES d.parent (id) ON DELETE CASCADE); \
                      CREATE TABLE d.strict (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES d.parent (id))";
        server.sql(tables).await.unwrap();
        let findings = preflight(&user(&server)).await;
        let what = "foreign keys change rows of d.child with those of other tables";
        assert_eq!(
            has(&findings, Level::Warning, what, "by triggers"),
            !kind.is_mysql(),
            "{kind}: {findings:#?}"
        );
        assert!(!findings.iter().any(|finding| finding.what.contains("d.strict")), "{kind}: {findings:#?}");
    }
}
