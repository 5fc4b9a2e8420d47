//! Opens object stores by their URL. What is kept in them, and under which names, is the business of who opens one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use url::Url;

pub use crate::probe::{ProbeError, probe};

/// Why an object store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Not a URL.
    #[error(
        "`{url}` is no URL of an object store; write file:///directory, s3://bucket/prefix, gs://… or az://…"
    )]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        source: url::ParseError,
    },
    /// A URL that no store has.
    #[error("`{0}` names no object store; write file:///directory, s3://bucket/prefix, gs://… or az://…")]
    Unknown(String),
    /// A store of a cloud, in a build without them.
    #[error(
        "this build has no object stores but directories (file://…), `{0}` needs one of a cloud; build with \
         `cargo build --release --features cloud`"
    )]
    NoCloud(String),
    /// Credentials where everybody sees them.
    #[error(
        "the URL of an object store has a user name, a password or parameters in it; keep credentials in the \
         environment, as in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    )]
    Secret,
    /// A directory that cannot be made.
    #[error("create the directory {} of an object store; give this user write access to it, or name another one", .path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Settings in the environment that do not fit.
    #[error("open the object store `{url}`; its settings come from the environment, as in AWS_REGION")]
    Store {
        /// Which.
        url: String,
        /// What does not fit.
        source: object_store::Error,
    },
}

/// A call to the object store failed.
#[derive(Debug, thiserror::Error)]
#[error("{action} {object}{}", hint(.source))]
pub struct CallFailed {
    /// What was tried.
    pub action: &'static str,
    /// With which object.
    pub object: String,
    /// Why it failed.
    pub source: object_store::Error,
}

fn hint(source: &object_store::Error) -> &'static str {
    use object_store::Error;
    match source {
        Error::PermissionDenied { .. } => {
            "; give these credentials read, write, list and delete access to it"
        }
        Error::Unauthenticated { .. } => "; set the store's credentials in the environment",
        Error::NotFound { .. } => "; put it back from a copy or an older version in its store",
        _ => "",
    }
}

impl CallFailed {
    /// Whether the same call may succeed later without anybody's help.
    pub fn mends_itself(&self) -> bool {
        use object_store::Error;
        !matches!(
            self.source,
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } | Error::NotFound { .. }
        )
    }
}

/// The URL of a directory, which need not be there yet. A relative path starts at the process's directory.
pub fn directory_url(path: &Path) -> std::io::Result<String> {
    let absolute = std::path::absolute(path)?;
    Ok(Url::from_file_path(&absolute).expect("an absolute path is a file's URL").into())
}

/// The object store of a URL, whose path is the root of all names in it. A directory is made where it is not there, and
/// what is put into it is durable when the call returns. Credentials and other settings of clouds come from the
/// environment: see the table in the crate's documentation.
pub fn open(url: &str) -> Result<Arc<dyn ObjectStore>, OpenError> {
    // A variable that is not text is nobody's setting.
    open_with(
        url,
        std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))),
    )
}

/// As [`open`], with those variables instead of the environment.
pub fn open_with(
    url: &str,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Arc<dyn ObjectStore>, OpenError> {
    // A secret with a slash in it is no URL any more, and the error would repeat it.
    let credentials = |source| match url.contains('@') {
        true => OpenError::Secret,
        false => OpenError::Url { url: url.to_owned(), source },
    };
    let parsed = Url::parse(url).map_err(credentials)?;
    let parameters = parsed.query().or(parsed.fragment()).is_some();
    if !parsed.username().is_empty() || parsed.password().is_some() || parameters {
        return Err(OpenError::Secret);
    }
    match parsed.scheme() {
        "file" => directory(url, &parsed),
        "s3" | "s3a" => cloud(url, &parsed, "AWS_", environment),
        "gs" => cloud(url, &parsed, "GOOGLE_", environment),
        "az" | "azure" | "abfs" | "abfss" => cloud(url, &parsed, "AZURE_", environment),
        _ => Err(OpenError::Unknown(url.to_owned())),
    }
}

fn directory(url: &str, parsed: &Url) -> Result<Arc<dyn ObjectStore>, OpenError> {
    let path = parsed.to_file_path().map_err(|()| OpenError::Unknown(url.to_owned()))?;
    let made = std::fs::create_dir_all(&path);
    made.map_err(|source| OpenError::Directory { path: path.clone(), source })?;
    let store = LocalFileSystem::new_with_prefix(path);
    let store = store.map_err(|source| OpenError::Store { url: url.to_owned(), source })?;
    Ok(Arc::new(store.with_fsync(true)))
}

#[cfg(not(feature = "cloud"))]
fn cloud(
    url: &str,
    _: &Url,
    _: &str,
    _: impl IntoIterator<Item = (String, String)>,
) -> Result<Arc<dyn ObjectStore>, OpenError> {
    Err(OpenError::NoCloud(url.to_owned()))
}

/// The settings of a cloud are the variables with its prefix: without it, its client would take `TOKEN` or `ENDPOINT` of
/// any other program for its own.
#[cfg(feature = "cloud")]
fn cloud(
    url: &str,
    parsed: &Url,
    prefix: &str,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Arc<dyn ObjectStore>, OpenError> {
    // The process's encryption is ring's; where another is installed already, its owner knows why.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let settings = environment.into_iter().filter(|(name, _)| name.starts_with(prefix));
    let (store, path) = object_store::parse_url_opts(parsed, settings)
        .map_err(|source| OpenError::Store { url: url.to_owned(), source })?;
    let store = object_store::prefix::PrefixStore::new(store, path);
    Ok(Arc::new(crate::quiet::Quiet::new(store, url)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use object_store::path::Path as Name;
    use object_store::{ObjectStoreExt, PutMode, PutPayload};

    fn refused(url: &str) -> String {
        open(url).unwrap_err().to_string()
    }

    #[tokio::test]
    async fn a_directory_is_made_and_takes_each_name_once_where_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("not/there/yet");
        let store = open(&directory_url(&path).unwrap()).unwrap();
        let name = Name::from("a/b");
        let put = || store.put_opts(&name, PutPayload::from("text"), PutMode::Create.into());
        put().await.unwrap();
        let again = put().await.unwrap_err();
        assert!(matches!(again, object_store::Error::AlreadyExists { .. }), "{again}");
        assert_eq!(store.get(&name).await.unwrap().bytes().await.unwrap(), "text");
        assert_eq!(std::fs::read(path.join("a/b")).unwrap(), b"text");
    }

    #[test]
    fn what_is_no_store_is_refused_with_what_to_write() {
        for wrong in ["shop", "http://example.org/x", "file://host/x"] {
            assert!(
                refused(wrong).contains("write file:///directory, s3://bucket/prefix"),
                "{}",
                refused(wrong)
            );
        }
    }

    #[test]
    fn a_secret_in_a_url_is_refused_and_not_repeated() {
        let urls = [
            "s3://key:hunter2@bucket/prefix",
            "s3://key:hun/hunter2@bucket/prefix",
            "az://container/prefix?sig=hunter2",
        ];
        for url in urls {
            let text = format!("{:?} {}", open(url).unwrap_err(), refused(url));
            assert!(!text.contains("hunter2") && text.contains("environment"), "{text}");
        }
    }

    #[cfg(not(feature = "cloud"))]
    #[test]
    fn a_build_without_clouds_says_how_to_get_them() {
        for url in ["s3://bucket/x", "gs://bucket/x", "az://container/x"] {
            assert!(refused(url).contains("--features cloud"), "{}", refused(url));
        }
    }
}
