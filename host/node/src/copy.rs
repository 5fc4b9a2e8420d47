//! A subscription that begins with a copy of its source's tables, made for it alone and kept nowhere else. How tables are
//! copied is `tidemill-bootstrap-clone`'s; where they are copied once for all, in snapshot storage, is `bootstrap`'s.
//!
//! ```text
//! the log's end ─▶ tables, read from the server, window by window ─▶ the log from there on
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;

use tidemill_bootstrap_clone::{
    CloneControl, CloneError, CloneOptions, Fed, InitialCopy, Policy, TableStage,
};
use tidemill_bootstrap_service::SnapshotReader;
use tidemill_client::{Bootstrap, Piece};
use tidemill_event::{Checkpoint, Phase, Remedy, TableName};
use tidemill_fetchers_api::FetchError;
use tidemill_fetchers_api::extract::Extract;
use tidemill_fetchers_mysql::MySqlExtract;
use tidemill_log::{Log, ReadError};
use tracing::info;

use crate::bootstrap::clone_options;
use crate::config::SubscriptionConfig;
use crate::guests::Guests;
use crate::{Failure, fetch};

/// A chunk is one window: as much memory as a consumer is given at once.
const CHUNK_BYTES: u64 = 8 << 20;

/// Where a subscription begins that does not begin with its log.
pub enum Beginning {
    /// With snapshot storage.
    Stored(Box<SnapshotReader>),
    /// With a copy of its own.
    Copied(Box<Copy>),
}

impl Beginning {
    /// What the copy tells about itself, if it is one.
    pub fn copy(&self) -> Option<&CloneControl> {
        match self {
            Beginning::Stored(_) => None,
            Beginning::Copied(copy) => Some(&copy.control),
        }
    }
}

/// Why a beginning does not go on.
#[derive(Debug, thiserror::Error)]
pub enum BeginningError {
    /// Snapshot storage.
    #[error(transparent)]
    Stored(<SnapshotReader as Bootstrap>::Error),
    /// The copy.
    #[error(transparent)]
    Copied(#[from] CopyError),
}

impl Bootstrap for Beginning {
    type Error = BeginningError;

    async fn next(&mut self, have: Option<&Checkpoint>) -> Result<Piece, BeginningError> {
        match self {
            Beginning::Stored(reader) => reader.next(have).await.map_err(BeginningError::Stored),
            Beginning::Copied(copy) => Ok(copy.next(have).await?),
        }
    }

    fn remedy(error: &BeginningError) -> Remedy {
        match error {
            BeginningError::Stored(error) => SnapshotReader::remedy(error),
            BeginningError::Copied(error) => error.remedy(),
        }
    }
}

/// Whether a checkpoint stands within such a copy: manifests of snapshot storage have numbers from 1 on.
pub fn is_within(checkpoint: &Checkpoint) -> bool {
    matches!(&checkpoint.phase, Phase::Snapshot(cursor) if cursor.version == 0)
}

/// The copy of one subscription. What was given of it is in the subscription's checkpoint, and nowhere else.
pub struct Copy {
    subscription: String,
    log: Log,
    extract: MySqlExtract,
    policy: Policy,
    options: CloneOptions,
    control: CloneControl,
    running: Option<Running>,
    /// Every table that the source has shown.
    listed: BTreeSet<TableName>,
}

/// A copy that runs.
struct Running {
    copy: InitialCopy,
    /// Its stream begins here.
    start: Checkpoint,
    /// Whoever has everything that was given has this.
    given: Option<Checkpoint>,
}

/// Why a copy does not go on.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The source did not tell its tables.
    #[error("ask the source for its tables")]
    Source(#[from] FetchError),
    /// A table could not be read, or not judged.
    #[error("copy the source's tables")]
    Tables(#[from] CloneError),
    /// Tables without key.
    #[error(
        "nothing identifies the rows of {tables}: what changes while such a table is read cannot be told from what was read; \
         give each a primary key, let the source's policy leave it out, or begin with snapshot storage \
         (start = \"snapshot\")"
    )]
    WithoutKey {
        /// Which.
        tables: String,
    },
    /// A table that is being copied, or is to be, is not shown any more. The others would be taken for all that is left.
    #[error(
        "the source does not show table {table} any more, whose rows are not all copied: grant the user SELECT again; if it \
         was dropped, grant the user SELECT on its database, or begin again with a subscription of another name"
    )]
    NotShown {
        /// Which.
        table: String,
    },
    /// The log has nothing yet: there is no place that the stream could follow from.
    #[error("the source's log has nothing yet; its tables are copied as soon as its place is known")]
    NothingYet,
    /// The log cannot be read behind the copy.
    #[error(
        "read the log behind the copy; if it no longer has that, let it keep more (`keep_bytes`, `keep_time`, or a \
         history) and begin again with a subscription of another name, or use snapshot storage, which brings back \
         whoever falls out of the log"
    )]
    Log(#[from] ReadError),
}

impl CopyError {
    fn remedy(&self) -> Remedy {
        match self {
            CopyError::Source(error) => error.remedy(),
            CopyError::Tables(error) => error.remedy(),
            CopyError::WithoutKey { .. } => Remedy::Fix,
            CopyError::NothingYet | CopyError::NotShown { .. } => Remedy::Wait,
            CopyError::Log(error) => error.remedy(),
        }
    }
}

impl Copy {
    /// The copy of a subscription with `start = "copy"`. Nothing is read yet.
    pub fn open(
        name: &str,
        subscription: &SubscriptionConfig,
        guests: &Guests<'_>,
        log: &Log,
    ) -> Result<Copy, Failure> {
        let source = guests.config.source[&subscription.source].get_ref();
        let how = subscription.copy.clone().unwrap_or_default();
        let extract = fetch::extract(how.server.as_deref().unwrap_or(source))?;
        let policy = fetch::reading_policy(&subscription.source, source, guests, how.connections)?;
        Ok(Copy {
            subscription: name.to_owned(),
            log: log.clone(),
            extract,
            policy,
            options: CloneOptions { chunk_bytes: CHUNK_BYTES, ..clone_options(&how) },
            control: CloneControl::default(),
            running: None,
            listed: BTreeSet::new(),
        })
    }

    async fn next(&mut self, have: Option<&Checkpoint>) -> Result<Piece, CopyError> {
        if let Some(have) = have.filter(|have| have.phase == Phase::Stream) {
            // There is nothing to give to who was here before: the log has what follows, or says that it has not.
            followed(&self.log, have)?;
            return Ok(Piece::Stream(have.clone()));
        }
        if self.running.as_ref().is_none_or(|running| running.given.as_ref() != have) {
            self.running = None;
            self.running = Some(self.begin(have).await?);
        }
        let running = self.running.as_mut().expect("it was begun");
        // Better said while tables are copied than when all of them are.
        followed(&self.log, &running.start)?;
        // Cancelled here, it stands where it stood.
        match running.copy.next().await {
            Ok(Some(Fed::Window(window))) => {
                running.given = Some(window.checkpoint());
                Ok(Piece::Window(Arc::new(*window)))
            }
            Ok(Some(Fed::Stream { checkpoint, exact_from })) => {
                info!(
                    subscription = %self.subscription, from = %checkpoint.position, exact_from = %exact_from,
                    "every table was copied; the stream follows"
                );
                Ok(Piece::Stream(checkpoint))
            }
            Ok(None) => Ok(Piece::Stream(running.start.clone())),
            Err(error) => {
                self.running = None;
                Err(error.into())
            }
        }
    }

    /// A copy behind what the consumer has.
    async fn begin(&mut self, have: Option<&Checkpoint>) -> Result<Running, CopyError> {
        let end = || self.log.checkpoint().ok_or(CopyError::NothingYet);
        let from = have.map_or_else(end, |have| Ok(have.clone()))?;
        let start = Checkpoint { phase: Phase::Stream, ..from.clone() };
        followed(&self.log, &start)?;
        let tables = self.extract.tables().await?;
        for table in self.missing(have, &tables) {
            if self.extract.may_hide(&table).await? {
                let error = CopyError::NotShown { table: table.to_string() };
                self.control.waits_for(Some(error.to_string()));
                return Err(error);
            }
        }
        self.control.waits_for(None);
        self.listed.extend(tables.iter().cloned());
        if have.is_none() {
            let without = InitialCopy::without_key(&self.extract, &self.policy, &tables).await?;
            if !without.is_empty() {
                let names: Vec<String> = without.iter().map(ToString::to_string).collect();
                return Err(CopyError::WithoutKey { tables: names.join(", ") });
            }
        }
        info!(
            subscription = %self.subscription, tables = tables.len(), from = %from.position, goes_on = have.is_some(),
            "tables are copied"
        );
        let (extract, policy, control) = (self.extract.clone(), self.policy.clone(), self.control.clone());
        let copy = InitialCopy::new(extract, policy, &tables, from, control, self.options.clone());
        Ok(Running { copy, start, given: have.cloned() })
    }

    /// Tables whose rows are not all given and that are not among these any more: the one in hand, and those behind it that
    /// this process has seen.
    fn missing(&self, have: Option<&Checkpoint>, tables: &[TableName]) -> Vec<TableName> {
        let in_hand = have.and_then(|have| match &have.phase {
            Phase::Snapshot(cursor) if !cursor.table.is_empty() => {
                let seen = self.listed.iter().find(|table| table.to_string() == cursor.table).cloned();
                seen.or_else(|| {
                    cursor.table.split_once('.').map(|(database, table)| TableName::new(database, table))
                })
            }
            _ => None,
        });
        let is_left = |table: &&TableName| in_hand.as_ref().is_none_or(|had| *table > had);
        let left = self.listed.iter().filter(is_left).chain(&in_hand);
        left.filter(|table| !tables.contains(table)).cloned().collect()
    }
}

/// Whether the log has what follows.
fn followed(log: &Log, start: &Checkpoint) -> Result<(), ReadError> {
    log.reader(log.locate(start)?).map(drop)
}

/// How far a copy is, for whoever looks at a subscription's health; `None`: it is done, or was not begun.
pub fn progress(control: &CloneControl) -> Option<String> {
    let status = control.status();
    let status = status.borrow();
    if status.is_idle() {
        return None;
    }
    let done = status.tables.values().filter(|table| table.stage.is_end()).count();
    let in_hand = status.tables.iter().find(|(_, table)| table.stage == TableStage::Copying);
    let in_hand = in_hand.map_or_else(String::new, |(name, table)| {
        format!("; of {name} {} of about {} chunks", table.chunks_done, table.chunks_expected)
    });
    let waits = status.waits_for.as_ref().map_or_else(String::new, |why| format!("; it waits: {why}"));
    Some(format!("its tables are copied: {done} of {} are{in_hand}{waits}", status.tables.len()))
}
