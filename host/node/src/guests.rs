//! From a guest's configuration to a guest: finds the module, puts secrets in place, loads and sets it up.

use std::path::Path;
use std::sync::Arc;

use tidemill_sandbox::{
    ConsumerStage, FilterStage, Grant, GrantError, GuestError, Limits, LoadError, Module, PolicyStage,
    ProjectionStage, Sandbox, StateReader, catalogue,
};

use crate::config::{Config, GuestConfig};

/// Why a guest cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no such module.
    #[error("there is no guest `{name}` in the catalogue; there are: {known}")]
    NoBuiltin {
        /// The name.
        name: String,
        /// The names there are.
        known: String,
    },
    /// The module's file could not be read.
    #[error("read the guest {path}")]
    Unreadable {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A secret could not be fetched, or does not exist.
    #[error("guest `{module}`: {what}")]
    Secret {
        /// The guest.
        module: String,
        /// What is wrong and how to mend it.
        what: String,
    },
    /// The module cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The guest refused its configuration, or failed at it.
    #[error(transparent)]
    Guest(Box<GuestError>),
    /// The grant does not exist.
    #[error("guest `{module}`")]
    Grant {
        /// The guest.
        module: String,
        /// What is wrong.
        source: GrantError,
    },
}

impl From<GuestError> for OpenError {
    fn from(error: GuestError) -> Self {
        OpenError::Guest(Box::new(error))
    }
}

/// Makes guests for one configuration.
pub struct Guests<'a> {
    /// The engine.
    pub sandbox: &'a Sandbox,
    /// Where secrets are, and where relative module paths begin.
    pub config: &'a Config,
    /// The configuration file's directory.
    pub base: &'a Path,
}

impl Guests<'_> {
    fn module(&self, guest: &GuestConfig) -> Result<Module, OpenError> {
        let Some(name) = guest.module.strip_prefix("builtin:") else {
            let path = self.base.join(&guest.module);
            let unreadable = |source| OpenError::Unreadable { path: path.display().to_string(), source };
            let wasm = std::fs::read(&path).map_err(unreadable)?;
            return Ok(self.sandbox.load(&guest.module, &wasm)?);
        };
        let wasm = catalogue::builtin(name).ok_or_else(|| OpenError::NoBuiltin {
            name: name.to_owned(),
            known: catalogue::names().collect::<Vec<_>>().join(", "),
        })?;
        Ok(self.sandbox.load(name, wasm)?)
    }

    fn setup(
        &self,
        source: &str,
        guest: &GuestConfig,
        limits: Limits,
    ) -> Result<tidemill_sandbox::GuestConfig, OpenError> {
        let json = self.json(&toml::Value::Table(guest.config.clone()));
        let json = json.map_err(|what| OpenError::Secret { module: guest.module.clone(), what })?;
        let mut setup = tidemill_sandbox::GuestConfig::new(source, json.to_string());
        setup.limits = limits;
        if let Some(memory) = guest.memory {
            setup.limits.memory_bytes = usize::try_from(memory.0).unwrap_or(usize::MAX);
        }
        if let Some(time) = guest.time {
            setup.limits.call_time = time.0;
        }
        Ok(setup)
    }

    /// The guest's configuration as JSON, secrets in place.
    fn json(&self, value: &toml::Value) -> Result<serde_json::Value, String> {
        use serde_json::Value as Json;
        Ok(match value {
            toml::Value::String(s) => Json::from(s.as_str()),
            toml::Value::Integer(i) => Json::from(*i),
            toml::Value::Float(f) => Json::from(*f),
            toml::Value::Boolean(b) => Json::from(*b),
            toml::Value::Datetime(d) => Json::from(d.to_string()),
            toml::Value::Array(all) => {
                Json::Array(all.iter().map(|v| self.json(v)).collect::<Result<_, _>>()?)
            }
            toml::Value::Table(table) => match secret_name(table) {
                Some(name) => Json::from(self.secret(name)?),
                None => {
                    let entry = |(key, v): (&String, &toml::Value)| Ok((key.clone(), self.json(v)?));
                    Json::Object(table.iter().map(entry).collect::<Result<_, String>>()?)
                }
            },
        })
    }

    fn secret(&self, name: &str) -> Result<String, String> {
        let secret = self.config.secret.get(name);
        let secret = secret.ok_or_else(|| format!("there is no [secret.{name}]; add it with env or file"))?;
        let value = secret.fetch().map_err(|what| format!("secret `{name}`: {what}"))?;
        Ok(value.reveal().to_owned())
    }

    /// A filter of a subscription.
    pub fn filter(&self, source: &str, guest: &GuestConfig) -> Result<FilterStage, OpenError> {
        let setup = self.setup(source, guest, Limits::pure())?;
        Ok(FilterStage::open(&self.module(guest)?, setup)?)
    }

    /// A projection of a subscription.
    pub fn projection(&self, source: &str, guest: &GuestConfig) -> Result<ProjectionStage, OpenError> {
        let setup = self.setup(source, guest, Limits::pure())?;
        Ok(ProjectionStage::open(&self.module(guest)?, setup)?)
    }

    /// A source's policy. It may use every secret of the configuration for pseudonyms, by name.
    pub fn policy(&self, source: &str, guest: &GuestConfig) -> Result<PolicyStage, OpenError> {
        let setup = self.setup(source, guest, Limits::pure())?;
        let failed = |what| OpenError::Secret { module: guest.module.clone(), what };
        let mut secrets = std::collections::HashMap::new();
        for name in self.config.secret.keys() {
            secrets.insert(name.clone(), self.secret(name).map_err(failed)?.into_bytes());
        }
        Ok(PolicyStage::open(&self.module(guest)?, setup, secrets)?)
    }

    /// A subscription's consumer; `state` reads what it has committed.
    pub async fn consumer(
        &self,
        source: &str,
        guest: &GuestConfig,
        state: Arc<dyn StateReader>,
    ) -> Result<ConsumerStage, OpenError> {
        let setup = self.setup(source, guest, Limits::consumer())?;
        let grant = |text: &String| {
            let parsed = Grant::parse(text, |name| std::env::var(name).ok());
            parsed.map_err(|source| OpenError::Grant { module: guest.module.clone(), source })
        };
        let grants = guest.grants.iter().map(grant).collect::<Result<Vec<_>, _>>()?;
        Ok(ConsumerStage::open(&self.module(guest)?, setup, grants, state).await?)
    }
}

/// The name in `{ secret = "NAME" }`, the one form that stands for a secret.
fn secret_name(table: &toml::Table) -> Option<&str> {
    if table.len() != 1 {
        return None;
    }
    table.get("secret")?.as_str()
}
