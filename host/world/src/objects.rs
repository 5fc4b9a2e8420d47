//! Opens object stores by their URL. What is kept in them, and under which names, is the business of who opens one.

use std::path::PathBuf;
use std::sync::Arc;

use object_store::local::LocalFileSystem;
use object_store::prefix::PrefixStore;
use object_store::{ObjectStore, parse_url_opts};
use url::Url;

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
    /// A name or password where everybody sees it.
    #[error(
        "the URL of an object store has a user name or password in it; keep credentials in the environment, as in \
         AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
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

/// The object store of a URL, whose path is the root of all names in it. A directory is made where it is not there, and
/// what is put into it is durable when the call returns. Credentials and other settings of clouds come from the
/// environment, by the names that their own tools use.
pub fn open(url: &str) -> Result<Arc<dyn ObjectStore>, OpenError> {
    let parsed = Url::parse(url).map_err(|source| OpenError::Url { url: url.to_owned(), source })?;
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return Err(OpenError::Secret);
    }
    match parsed.scheme() {
        "file" => directory(url, &parsed),
        "s3" | "s3a" | "gs" | "az" | "azure" | "abfs" | "abfss" => cloud(url, &parsed),
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

fn cloud(url: &str, parsed: &Url) -> Result<Arc<dyn ObjectStore>, OpenError> {
    if !cfg!(feature = "cloud") {
        return Err(OpenError::NoCloud(url.to_owned()));
    }
    // A variable that is not text is nobody's setting.
    let settings =
        std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
    let (store, path) = parse_url_opts(parsed, settings)
        .map_err(|source| OpenError::Store { url: url.to_owned(), source })?;
    Ok(Arc::new(PrefixStore::new(store, path)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use object_store::path::Path;
    use object_store::{ObjectStoreExt, PutMode, PutPayload};

    fn refused(url: &str) -> String {
        open(url).unwrap_err().to_string()
    }

    #[tokio::test]
    async fn a_directory_is_made_and_takes_each_name_once_where_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("not/there/yet");
        let store = open(Url::from_file_path(&path).unwrap().as_str()).unwrap();
        let name = Path::from("a/b");
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
        let text = refused("s3://key:hunter2@bucket/prefix");
        assert!(!text.contains("hunter2") && text.contains("environment"), "{text}");
    }

    #[cfg(not(feature = "cloud"))]
    #[test]
    fn a_build_without_clouds_says_how_to_get_them() {
        for url in ["s3://bucket/x", "gs://bucket/x", "az://container/x"] {
            assert!(refused(url).contains("--features cloud"), "{}", refused(url));
        }
    }

    #[cfg(feature = "cloud")]
    #[test]
    fn a_build_with_clouds_opens_them_without_a_call() {
        let store = open("s3://bucket/prefix").unwrap();
        assert!(store.to_string().contains("prefix"), "{store}");
    }
}
