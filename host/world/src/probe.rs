//! Asks a store, before anything is entrusted to it, whether it keeps the first object of a name. What tells two writers of
//! one history apart is that only one of them creates an entry; a store that lets both lets them write over each other.

use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutPayload};

/// What asks first, and what must not be able to take its place.
const FIRST: &str = "tidemill asked here whether this store keeps the first object of a name\n";
const SECOND: &str = "this store does not keep the first object of a name\n";

/// Why a store is not to be used.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// It overwrites what it was told to create.
    #[error(
        "the object store {store} replaced `{object}` when it was told to create it only where it is not there, so two relays \
         could overwrite each other's history; use a store with conditional writes (`If-None-Match: *` in S3's \
         interface), or a newer release of this one"
    )]
    Overwrites {
        /// Which.
        store: String,
        /// The name of the question.
        object: Path,
    },
    /// It cannot be told to create only.
    #[error(
        "the object store {store} cannot create `{object}` only where it is not there, which a history needs; leave its \
         conditional writes on (AWS_CONDITIONAL_PUT=etag), or use a store that has them"
    )]
    Unsupported {
        /// Which.
        store: String,
        /// The name of the question.
        object: Path,
        /// What its client said.
        source: Error,
    },
    /// It refuses what a history does.
    #[error(
        "{what} `{object}` in the object store {store}; check the bucket's name, the credentials in the environment and that \
         they may list, read, write and delete there"
    )]
    Refused {
        /// What it does not do, as a verb.
        what: &'static str,
        /// Which.
        store: String,
        /// The name of the question.
        object: Path,
        /// What its client said.
        source: Error,
    },
    /// It did not answer, or not this time.
    #[error("{what} `{object}` in the object store {store}")]
    Failed {
        /// What failed, as a verb.
        what: &'static str,
        /// Which.
        store: String,
        /// The name of the question.
        object: Path,
        /// The cause.
        source: Error,
    },
}

impl ProbeError {
    /// It may go well when it is asked again; otherwise somebody has to mend it first.
    pub fn mends_itself(&self) -> bool {
        matches!(self, ProbeError::Failed { .. })
    }

    fn of(what: &'static str, store: &dyn ObjectStore, object: &Path) -> impl FnOnce(Error) -> ProbeError {
        let (store, object) = (store.to_string(), object.clone());
        move |source| match source {
            Error::NotImplemented { .. } | Error::NotSupported { .. } => {
                ProbeError::Unsupported { store, object, source }
            }
            Error::NotFound { .. } | Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
                ProbeError::Refused { what, store, object, source }
            }
            source => ProbeError::Failed { what, store, object, source },
        }
    }
}

/// Creates an object of that name, and again, which must be refused with [`Error::AlreadyExists`]; then reads it.
/// The object stays there: two that ask at once would see each other's end, were it deleted. Cancel-safe.
pub async fn probe(store: &dyn ObjectStore, object: &Path) -> Result<(), ProbeError> {
    match create(store, object, FIRST).await {
        Ok(()) | Err(Error::AlreadyExists { .. }) => {}
        Err(error) => return Err(ProbeError::of("create", store, object)(error)),
    }
    match create(store, object, SECOND).await {
        Ok(()) => return Err(overwritten(store, object).await),
        Err(Error::AlreadyExists { .. }) => {}
        Err(error) => return Err(ProbeError::of("create", store, object)(error)),
    }
    let read = async { store.get(object).await?.bytes().await };
    match read.await {
        Ok(bytes) if bytes == SECOND => Err(overwritten(store, object).await),
        Ok(_) => Ok(()),
        Err(error) => Err(ProbeError::of("read", store, object)(error)),
    }
}

async fn create(store: &dyn ObjectStore, object: &Path, text: &'static str) -> Result<(), Error> {
    let created = store.put_opts(object, PutPayload::from_static(text.as_bytes()), PutMode::Create.into());
    created.await.map(|_| ())
}

/// Nobody uses a store that does this, so what was asked can go; when that fails too, nothing is lost by it.
async fn overwritten(store: &dyn ObjectStore, object: &Path) -> ProbeError {
    let _ = store.delete(object).await;
    ProbeError::Overwrites { store: store.to_string(), object: object.clone() }
}
