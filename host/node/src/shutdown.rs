//! The order in which a process ends, and why.
//!
//! 1. Told to stop (SIGINT, SIGTERM, or an operator over HTTP), sources stop fetching, so that nothing new comes; each
//!    syncs and closes its log, so that whatever is read from now on is on disk.
//! 2. Then whoever is served is told: a stream ends behind a window, so that no client discards what it has.
//! 3. Subscriptions finish the delivery in hand, commit it, and close their consumers: what was delivered is never
//!    delivered again after an orderly stop.
//! 4. Segments that were sealed by the end of their log go to the change history, as far as that is possible in a short
//!    while: what is left lies on disk, and goes after the next start.
//! 5. The store is closed last, since the last checkpoints go into it.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::info;

/// Turns true when the process is told to stop.
pub fn on_signal() -> std::io::Result<watch::Receiver<bool>> {
    Ok(stopping()?.subscribe())
}

/// As [`on_signal`], for a process in which others too may say it.
pub fn stopping() -> std::io::Result<watch::Sender<bool>> {
    let sender = watch::Sender::new(false);
    let teller = sender.clone();
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        info!("told to stop");
        teller.send_replace(true);
        // The sender lives on, so that receivers never see a closed channel instead of the word.
        teller.closed().await;
    });
    Ok(sender)
}

/// Waits until the process is told to stop. Cancel-safe.
pub async fn stopped(stop: &mut watch::Receiver<bool>) {
    // A closed channel means that nobody can say it any more; whoever waits then has other ways to end.
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}
