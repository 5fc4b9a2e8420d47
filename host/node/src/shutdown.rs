//! The order in which a process ends, and why.
//!
//! 1. Told to stop (SIGINT, SIGTERM), everybody sees it at once: `stop` turns true.
//! 2. Sources stop fetching, so that nothing new comes; each syncs and closes its log.
//! 3. Subscriptions finish the delivery in hand, commit it, and close their consumers: what was delivered is never
//!    delivered again after an orderly stop.
//! 4. The store is closed last, since the last checkpoints go into it.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::info;

/// Turns true when the process is told to stop.
pub fn on_signal() -> std::io::Result<watch::Receiver<bool>> {
    let (sender, receiver) = watch::channel(false);
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        info!("told to stop");
        sender.send_replace(true);
        // The sender lives on, so that receivers never see a closed channel instead of the word.
        sender.closed().await;
    });
    Ok(receiver)
}

/// Waits until the process is told to stop. Cancel-safe.
pub async fn stopped(stop: &mut watch::Receiver<bool>) {
    // A closed channel means that nobody can say it any more; whoever waits then has other ways to end.
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}
