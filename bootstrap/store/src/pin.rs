//! Pins: as long as a reader's pin runs, all that its manifest points to stays.
//!
//! A pin is safe without a lock, because nobody removes what was the newest version a moment ago: a new pin is put only on
//! such a version, and is seen long before the version would go.

use std::time::Duration;

use bytes::Bytes;
use object_store::path::PathPart;
use serde::{Deserialize, Serialize};

use crate::limits::PIN_WITHIN;
use crate::sealed::{seal, unseal};
use crate::{Gone, Store, StoreError};

/// Where pins are.
pub(crate) const DIRECTORY: &str = "_meta/pin";

/// A reader's pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pin {
    /// The manifest.
    pub(crate) version: u64,
    /// Until when: microseconds since 1970-01-01 UTC.
    pub(crate) expires_us: i64,
}

pub(crate) fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

fn pin_path(client: &str) -> String {
    format!("{DIRECTORY}/{}.json", PathPart::from(client).as_ref())
}

impl Store {
    /// Keeps a version for a reader, until so long after `now_us`. Again before that runs out: goes on. It has to be the
    /// version that the reader has pinned, or one that was the newest a moment ago: otherwise it may be on its way out,
    /// and is [`StoreError::Gone`]. Cheap to call often: it is written again when half of its time is over.
    pub async fn pin(
        &self,
        client: &str,
        version: u64,
        ttl: Duration,
        now_us: i64,
    ) -> Result<(), StoreError> {
        let path = pin_path(client);
        let expires_us = now_us.saturating_add(micros(ttl));
        let before = self.read_if_there(&path).await?.map(|bytes| self.pin_of(&path, &bytes)).transpose()?;
        match before.filter(|pin| pin.version == version && pin.expires_us > now_us) {
            Some(pin) if pin.expires_us > now_us.saturating_add(micros(ttl / 2)) => return Ok(()),
            Some(_) => {}
            None if self.was_newest_lately(version, now_us).await? => {}
            None => return Err(Gone { source_name: self.source().to_owned(), version }.into()),
        }
        self.overwrite(&path, seal(&Pin { version, expires_us })).await
    }

    /// The reader is done: its version goes as others do.
    pub async fn unpin(&self, client: &str) -> Result<(), StoreError> {
        self.remove(&pin_path(client)).await
    }

    async fn was_newest_lately(&self, version: u64, now_us: i64) -> Result<bool, StoreError> {
        if self.read_manifest(version).await?.is_none() {
            return Ok(false);
        }
        let next = self.read_manifest(version + 1).await?;
        Ok(next.is_none_or(|next| next.time_us.saturating_add(micros(PIN_WITHIN)) > now_us))
    }

    pub(crate) fn pin_of(&self, path: &str, bytes: &Bytes) -> Result<Pin, StoreError> {
        unseal(bytes).map_err(|what| self.damaged(path, what))
    }
}
