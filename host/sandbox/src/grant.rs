//! What the configuration lets a consumer do beyond the contract: nothing, unless it is named here.

use wasmtime_wasi::WasiCtxBuilder;

/// One thing that a consumer is allowed.
#[derive(Clone, PartialEq, Eq)]
pub enum Grant {
    /// Standard output, which the host takes with the effects of a delivery.
    Stdout,
    /// The real clocks, and waiting.
    Clocks,
    /// Real randomness.
    Random,
    /// One environment value; never printed.
    Env {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
    },
}

impl std::fmt::Debug for Grant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Grant::Stdout => f.write_str("stdout"),
            Grant::Clocks => f.write_str("clocks"),
            Grant::Random => f.write_str("random"),
            Grant::Env { name, .. } => write!(f, "env:{name}"),
        }
    }
}

/// A grant that cannot be given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// There is no such grant.
    #[error("unknown grant {0:?}; grants are \"stdout\", \"clocks\", \"random\" and \"env:NAME\"")]
    Unknown(String),
    /// The named environment value is not there.
    #[error("grant \"env:{0}\": the environment has no {0}; set it for the host, or take the grant away")]
    NoSuchValue(String),
    /// The contract has it, this release does not.
    #[error("grant {0:?}: outgoing HTTP is not in this release; take the grant away")]
    NotInThisRelease(String),
}

impl Grant {
    /// A grant from its text in the configuration; `env` looks up the host's environment.
    pub fn parse(text: &str, env: impl Fn(&str) -> Option<String>) -> Result<Grant, GrantError> {
        match text {
            "stdout" => Ok(Grant::Stdout),
            "clocks" => Ok(Grant::Clocks),
            "random" => Ok(Grant::Random),
            _ => match text.split_once(':') {
                Some(("env", name)) if !name.is_empty() => match env(name) {
                    Some(value) => Ok(Grant::Env { name: name.to_owned(), value }),
                    None => Err(GrantError::NoSuchValue(name.to_owned())),
                },
                Some(("http" | "https", _)) => Err(GrantError::NotInThisRelease(text.to_owned())),
                None if text == "http" => Err(GrantError::NotInThisRelease(text.to_owned())),
                _ => Err(GrantError::Unknown(text.to_owned())),
            },
        }
    }
}

/// The WASI context of those grants; streams are set by the caller.
pub(crate) fn context(grants: &[Grant]) -> WasiCtxBuilder {
    let mut builder = WasiCtxBuilder::new();
    for grant in grants {
        if let Grant::Env { name, value } = grant {
            builder.env(name, value);
        }
    }
    builder
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_grant_is_read_and_http_is_refused_with_a_reason() {
        let env = |name: &str| (name == "TOKEN").then(|| "s3cret".to_owned());
        assert_eq!(Grant::parse("stdout", env), Ok(Grant::Stdout));
        let token = Grant::parse("env:TOKEN", env).expect("it is set");
        assert_eq!(format!("{token:?}"), "env:TOKEN");
        assert_eq!(
            Grant::parse("env:MISSING", env).expect_err("it is not set").to_string(),
            "grant \"env:MISSING\": the environment has no MISSING; set it for the host, or take the grant away"
        );
        assert_eq!(
            Grant::parse("http:api.example.com", env).expect_err("not yet").to_string(),
            "grant \"http:api.example.com\": outgoing HTTP is not in this release; take the grant away"
        );
        assert_eq!(Grant::parse("files", env), Err(GrantError::Unknown("files".into())));
    }
}
