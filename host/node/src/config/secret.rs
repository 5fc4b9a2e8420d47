//! Secrets come from the environment or a file, never from the configuration's own text, and are never printed.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Where a secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretRef {
    /// In an environment variable.
    Env(String),
    /// In a file; one line end at its end does not count.
    File(PathBuf),
}

/// A secret's value. It has no text form.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The value, for the one place that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

impl SecretRef {
    /// Lets a relative path start at that directory.
    pub(super) fn based_on(&mut self, base: &Path) {
        if let SecretRef::File(path) = self {
            *path = base.join(&*path);
        }
    }

    /// Fetches the value. The error names the variable or file, never its content.
    pub fn fetch(&self) -> Result<Secret, String> {
        match self {
            SecretRef::Env(name) => std::env::var(name)
                .map(Secret)
                .map_err(|_| format!("environment variable {name} is not set; export it before the start")),
            SecretRef::File(path) => {
                let text = std::fs::read_to_string(path);
                let text = text.map_err(|e| format!("read the secret file {}: {e}", path.display()))?;
                let text = text.strip_suffix('\n').unwrap_or(&text);
                Ok(Secret(text.strip_suffix('\r').unwrap_or(text).to_owned()))
            }
        }
    }
}

struct Form;

impl<'de> Visitor<'de> for Form {
    type Value = SecretRef;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{ env = \"NAME\" } or { file = \"PATH\" }")
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<SecretRef, E> {
        Err(E::custom(
            "a secret does not stand in the configuration; write { env = \"NAME\" } or { file = \"PATH\" }",
        ))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SecretRef, A::Error> {
        let wrong = || A::Error::custom("a secret is { env = \"NAME\" } or { file = \"PATH\" }");
        let (key, value) = map.next_entry::<String, String>()?.ok_or_else(wrong)?;
        if map.next_entry::<String, String>()?.is_some() {
            return Err(wrong());
        }
        match key.as_str() {
            "env" => Ok(SecretRef::Env(value)),
            "file" => Ok(SecretRef::File(value.into())),
            _ => Err(wrong()),
        }
    }
}

impl<'de> Deserialize<'de> for SecretRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Form)
    }
}
