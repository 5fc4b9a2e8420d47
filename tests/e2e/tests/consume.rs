//! Subscriptions behind a relay: `tidemill consume` without a log here, `tidemill up` with one of its own.

#![allow(clippy::unwrap_used, reason = "tests")]

use tidemill_e2e::{Change, Folder, Output};

/// A subscriber of the whole shop, whose relay does that for it.
fn subscriber(port: u16, at_relay: &str) -> Folder {
    Folder::new(&format!(
        "[source.shop]\nkind = \"relay\"\nrelays = [\"http://127.0.0.1:{port}\"]\n\
         [subscription.all]\nsource = \"shop\"\nconsumer = {{ module = \"builtin:print\", grants = [\"stdout\"] }}\n\
         {at_relay}"
    ))
}

fn run(folder: &Folder, command: &str) -> Output {
    let output = folder.start(&[command, "--once"]).wait();
    assert!(output.status.success(), "{}", output.errors);
    output
}

/// What names a change whichever of its transaction's others were left out: transaction, kind and key.
fn named(change: &Change) -> (u64, String, String) {
    let row = if change.op() == "d" { change.before("id") } else { change.after("id") };
    (change.place().0, change.op().to_owned(), row.to_string())
}

fn all_named(output: &Output) -> Vec<(u64, String, String)> {
    output.changes().iter().map(named).collect()
}

#[test]
fn consume_delivers_what_a_chained_log_delivers_and_goes_on_where_it_was() {
    let (_folder, relay, port) = Folder::serve_example();
    let (consumer, chained) = (subscriber(port, ""), subscriber(port, ""));
    let consumed = run(&consumer, "consume");
    assert!(consumed.changes().len() > 300, "{}", consumed.changes().len());
    assert!(!consumer.data().join("log").exists(), "it keeps no log");
    assert_eq!(consumed.lines, run(&chained, "up").lines);
    assert!(run(&consumer, "consume").lines.is_empty(), "everything is committed already");
    assert!(relay.terminate().status.success());
}

#[test]
fn what_the_relay_does_for_a_subscription_is_what_is_delivered() {
    let (_folder, relay, port) = Folder::serve_example();
    let all = run(&subscriber(port, ""), "consume");
    let mut orders: Vec<_> = all.changes().iter().filter(|c| c.table() == "shop.orders").map(named).collect();
    let tables = "[subscription.all.at_relay]\ntables = [\"shop.orders\"]\n";
    assert_eq!(all_named(&run(&subscriber(port, tables), "consume")), orders);
    let mut parts: Vec<_> = (0..3)
        .map(|part| format!("{tables}partition = \"hash:{part}/3\"\n"))
        .flat_map(|part| all_named(&run(&subscriber(port, &part), "consume")))
        .collect();
    parts.sort_unstable();
    orders.sort_unstable();
    assert_eq!(parts, orders, "three partitions are the whole, each change once");
    assert!(relay.terminate().status.success());
}

#[test]
fn consume_says_what_it_cannot_do() {
    let folder = Folder::new(
        "[source.shop]\nkind = \"binlog-files\"\ndirectory = \"x\"\n\
         [subscription.all]\nsource = \"shop\"\nconsumer = { module = \"builtin:print\" }\n",
    );
    let output = folder.start(&["consume"]).wait();
    assert!(!output.status.success());
    assert!(output.errors.contains("its source `shop` is no relay"), "{}", output.errors);
    let output = subscriber(1, "").start(&["consume", "--once"]).wait();
    assert!(!output.status.success());
    assert!(output.errors.contains("connect to http://127.0.0.1:1"), "{}", output.errors);
}
