//! Copies of tables from a replica, while the stream comes from its source and clients write there.

#![allow(clippy::unwrap_used, reason = "tests")]

use tidemill_e2e::{Folder, Instance};
use tidemill_servers::workload::Churn;
use tidemill_servers::{Kind, Options, Server};
use tokio::task::block_in_place;

const WRITERS: usize = 12;
const ROWS: u64 = 10_000;
/// Each time everything is copied anew.
const COPIES: usize = 3;

/// A source and its replica. Only MySQL's log what they apply unless they are told to.
async fn pair(kind: Kind) -> (Server, Server) {
    let options = |id| Options::default().server_id(id).password("the same");
    let (source, replica) =
        (Server::start(kind, options(1)).await.unwrap(), Server::start(kind, options(2)).await.unwrap());
    replica.follow(&source).await.unwrap();
    (source, replica)
}

type Rows = Vec<Vec<Option<String>>>;

async fn at_source(server: &Server) -> Rows {
    let rows = server.rows("SELECT CAST(id AS CHAR), CAST(v AS CHAR) FROM d.t").await.unwrap();
    let text = |value| mysql_async::from_value::<Option<String>>(value);
    sorted(rows.into_iter().map(|row| row.unwrap().into_iter().map(text).collect()).collect())
}

fn sorted(mut rows: Rows) -> Rows {
    rows.sort();
    rows
}

/// `source` is followed, `copied` is read.
fn configure(folder: &Folder, source: &Server, copied: &Server) {
    let clone = folder.source("copied", copied);
    let clone = clone
        .replace("[source.copied]", "[bootstrap.shop.clone.server]")
        .replace("\"password\"", "\"copied\"");
    folder.write("copied", copied.user_password().as_bytes());
    folder.configure(&format!(
        "{}start = \"now\"\n[bootstrap.shop]\nstore = \"lake\"\nflush_every = \"200 ms\"\napply_every = \"500 ms\"\n\
         publish_every = \"1 s\"\n[bootstrap.shop.clone]\nchunk_rows = 500\nreplica_lag = \"600 s\"\n{clone}",
        folder.source("shop", source)
    ));
}

async fn exact(kind: Kind) {
    assert!(block_in_place(|| Instance::tidemill(&["--version"]).wait()).status.success());
    let (mut source, mut replica) = pair(kind).await;
    let churn = Churn::create(source.root(), ROWS).await.unwrap();
    replica.catch_up(&source).await.unwrap();
    for copy in 0..COPIES {
        let folder = Folder::new("");
        configure(&folder, &source, &replica);
        let writers = churn.start(WRITERS).await;
        let cloned = block_in_place(|| folder.run(&["clone"]));
        assert!(cloned.status.success(), "{kind}: {}", cloned.errors);
        assert!(writers.stop().await.unwrap() > 0);
        let expected = at_source(&source).await;
        let mut up = folder.up();
        block_in_place(|| {
            while sorted(folder.by_duckdb("d.t").1) != expected {
                if let Some(ended) = up.ended() {
                    panic!("{kind}: it ended: {}", ended.errors);
                }
            }
            folder.assert_equal(&["d.t"]);
            assert!(up.terminate().status.success());
        });
        println!("{kind}, copy {copy}: {} rows", expected.len());
        replica.catch_up(&source).await.unwrap();
    }
    replica.stop().await.unwrap();
    source.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn b22_a_copy_from_a_replica_of_mysql_is_exact_while_its_source_is_written_to() {
    exact(Kind::MySql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b22_a_copy_from_a_replica_of_mariadb_is_exact_while_its_source_is_written_to() {
    exact(Kind::MariaDb).await;
}
