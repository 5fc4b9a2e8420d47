//! The connections to the source: as many as are allowed, opened when they are needed, used again unless they failed.

use std::sync::{Arc, Mutex};

use tidemill_fetchers_api::FetchError;
use tidemill_fetchers_api::extract::Extract;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// See the module.
pub(crate) struct Sessions<E: Extract> {
    extract: E,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<E::Session>>,
}

/// A connection in use. Dropped, it is closed; given back, it is used again.
pub(crate) struct Lease<E: Extract> {
    pub(crate) session: E::Session,
    _permit: OwnedSemaphorePermit,
}

impl<E: Extract> Sessions<E> {
    pub(crate) fn new(extract: E, count_max: usize) -> Sessions<E> {
        Sessions { extract, permits: Arc::new(Semaphore::new(count_max)), idle: Mutex::default() }
    }

    /// For a question that opens a connection of its own.
    pub(crate) async fn extract(&self) -> (&E, OwnedSemaphorePermit) {
        let permit = self.permit().await;
        self.idle.lock().expect("no holder panics").truncate(self.permits.available_permits());
        (&self.extract, permit)
    }

    /// Closes what nobody uses.
    pub(crate) fn close_idle(&self) {
        self.idle.lock().expect("no holder panics").clear();
    }

    pub(crate) async fn lease(&self) -> Result<Lease<E>, FetchError> {
        let permit = self.permit().await;
        let idle = self.idle.lock().expect("no holder panics").pop();
        let session = match idle {
            Some(session) => session,
            None => self.extract.open().await?,
        };
        Ok(Lease { session, _permit: permit })
    }

    pub(crate) fn give_back(&self, lease: Lease<E>) {
        self.idle.lock().expect("no holder panics").push(lease.session);
    }

    async fn permit(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.permits).acquire_owned().await.expect("it is never closed")
    }
}
