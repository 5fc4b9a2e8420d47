//! The proxy passes everything on unless told to cut, and cuts at the byte asked for.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::net::{Ipv4Addr, SocketAddr};

use mysql_async::{Conn, OptsBuilder, prelude::Queryable};
use tidemill_servers::{Cut, CutProxy, MySql, Options, Server};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// A server that says 1,000,000 bytes to everyone and then waits for the client to leave.
async fn talker() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = client.write_all(&vec![42; 1_000_000]).await;
                let _ = tokio::io::copy(&mut client, &mut tokio::io::sink()).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn a_client_receives_exactly_the_bytes_before_the_cut() {
    let proxy = CutProxy::start(talker().await).await.unwrap();
    for limit in [0, 1, 4095, 65_536, 65_537, 999_999] {
        proxy.cut_next(Cut::After(limit));
        let mut client = TcpStream::connect(proxy.address()).await.unwrap();
        // Bytes that nobody reads before the cut must not turn the end into a reset.
        client.write_all(b"unread").await.unwrap();
        let mut received = Vec::new();
        client.read_to_end(&mut received).await.unwrap();
        assert_eq!(received.len() as u64, limit);
    }
    assert_eq!(proxy.cut_count(), 6);
    let delivered: Vec<u64> = proxy.connections().iter().map(|connection| connection.to_client).collect();
    assert_eq!(delivered, [0, 1, 4095, 65_536, 65_537, 999_999]);
}

#[tokio::test]
async fn without_a_cut_everything_passes_and_cut_all_ends_it() {
    let proxy = CutProxy::start(talker().await).await.unwrap();
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    let mut all = vec![0; 1_000_000];
    client.read_exact(&mut all).await.unwrap();
    proxy.wait(|connections| connections[0].to_client == 1_000_000).await;
    proxy.cut_all();
    assert_eq!(client.read(&mut all).await.unwrap(), 0);
    assert_eq!(proxy.cut_count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_bytes_of_a_dump_count_for_a_cut_after_the_dump() {
    let server = MySql::start(Options::default()).await.unwrap();
    server.sql("CREATE DATABASE d; CREATE TABLE d.t (id INT)").await.unwrap();
    let proxy = CutProxy::start(server.address()).await.unwrap();
    proxy.cut_every(Cut::AfterDump(100));

    let opts = OptsBuilder::from_opts(server.user()).tcp_port(proxy.address().port());
    let mut conn = Conn::new(opts).await.unwrap();
    let long: String = conn.query_first("SELECT REPEAT('x', 100000)").await.unwrap().unwrap();
    assert_eq!(long.len(), 100_000, "a connection without a dump is left whole");
    conn.disconnect().await.unwrap();

    assert!(!dump(&server, &proxy).success());
    proxy.wait(|connections| connections.last().unwrap().was_cut).await;
    let connections = proxy.connections();
    assert_eq!(connections.iter().map(|connection| connection.dump).collect::<Vec<_>>(), [None, Some(100)]);
    assert!(connections[1].to_client > 100, "the handshake does not count");

    proxy.cut_every(Cut::Never);
    assert!(dump(&server, &proxy).success());
}

/// The whole binlog through the proxy, read by the server's own client.
fn dump(server: &Server, proxy: &CutProxy) -> std::process::ExitStatus {
    let output = std::process::Command::new(server.tools().program("mysqlbinlog"))
        .args([
            "--read-from-remote-server",
            "--ssl-mode=DISABLED",
            "--get-server-public-key",
            "--host=127.0.0.1",
            "binlog.000001",
        ])
        .arg(format!("--port={}", proxy.address().port()))
        .arg(format!("--user={}", Server::USER))
        .env("MYSQL_PWD", server.user_password())
        .output();
    output.unwrap().status
}
