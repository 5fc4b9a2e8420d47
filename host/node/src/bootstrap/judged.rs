//! What is stored was judged by the source's policy of then. Where that is another one now, tables that it decides otherwise
//! about are copied anew, those that it does not take any more go, and the others go on.
//!
//! The log has rows that an older policy let through as well, up to where it ended when this process began: those are
//! followed to their end before anything is copied, and a table that the policy decides otherwise about loses them then.

use std::collections::BTreeMap;

use tidemill_bootstrap_clone::{CloneError, Plan, Policy, Stamp};
use tidemill_bootstrap_store::{CloneProgress, TablePhase, TableState, Writer};
use tidemill_event::TableName;
use tidemill_fetchers_api::extract::Extract;
use tidemill_fetchers_mysql::MySqlExtract;
use tracing::info;

use super::BootstrapError;

/// What the policy of today means for one table.
enum Fate {
    /// It has judged the table, and nobody can ask it now.
    Untouched,
    /// Its rows are what they would be; with what it decides.
    GoesOn(Option<String>),
    CopiedAnew,
    NotTaken,
}

/// Whether the policy of today has judged everything that is stored.
pub(super) fn is_all_judged(policy: &Policy, writer: &Writer) -> bool {
    let (policy, tables) = (policy.fingerprint(), writer.tables());
    // Nothing was followed yet.
    if writer.head().timelines.is_empty() {
        return true;
    }
    let by_it = |stamp: &str| Stamp::of(stamp).is_policy(&policy);
    let is_judged = |table: &TableState| by_it(&table.policy) && plan(table).is_none_or(|p| by_it(&p.policy));
    !tables.is_empty() && tables.values().all(|table| is_judged(table))
}

/// Marks the tables that the policy of today decides otherwise about. `entered`: the policy that is kept with all of them,
/// [`Stamp::UNSURE`] as long as rows of an older one are still to come.
pub(super) async fn judge_again(
    policy: &Policy,
    extract: Option<&MySqlExtract>,
    writer: &Writer,
    entered: &str,
) -> Result<(), BootstrapError> {
    let mut fates = BTreeMap::new();
    for (id, table) in writer.tables() {
        let fate = fate(policy, extract, &table).await?;
        match &fate {
            Fate::Untouched | Fate::GoesOn(_) => {}
            Fate::CopiedAnew => info!(table = %table.name, "the policy decides otherwise: copied anew"),
            Fate::NotTaken => info!(table = %table.name, "the policy does not take it any more: removed"),
        }
        fates.insert(id, fate);
    }
    let marked = writer.commit(|draft| {
        let at = draft.manifest.applied.position;
        for (id, fate) in fates {
            match (fate, draft.tables.get_mut(&id)) {
                (Fate::GoesOn(decision), Some(table)) => {
                    stamp(table, &Stamp::write(entered, decision.as_deref()));
                }
                (Fate::CopiedAnew, Some(table)) => {
                    table.invalidate(at, "the source's policy decides otherwise about it now");
                    table.policy = entered.to_owned();
                }
                (Fate::NotTaken, _) => draft.drop_table(id, at),
                (Fate::Untouched, _) | (_, None) => {}
            }
        }
    });
    Ok(marked.await?)
}

/// Notes what the policy decides about tables of which that is not known: those that the log made, and those that have other
/// columns since. It was the same policy for all their rows.
pub(super) async fn note_decisions(
    policy: &Policy,
    extract: &MySqlExtract,
    writer: &Writer,
) -> Result<(), BootstrapError> {
    let fingerprint = policy.fingerprint();
    let is_unknown = |table: &TableState| {
        let stamp = Stamp::of(&table.policy);
        table.phase == TablePhase::Ready && stamp.is_policy(&fingerprint) && stamp.decision().is_none()
    };
    let mut noted = BTreeMap::new();
    for (id, table) in writer.tables().into_iter().filter(|(_, table)| is_unknown(table)) {
        if let Some(Some(stamp)) = decision(policy, Some(extract), &table.name).await? {
            noted.insert(id, (table.schema.id.clone(), stamp));
        }
    }
    let commit = writer.commit(|draft| {
        for (id, (schema, stamp)) in noted {
            let table = draft.tables.get_mut(&id);
            // It may have been copied, or have other columns, by now.
            if let Some(table) = table.filter(|table| is_unknown(table) && table.schema.id == schema) {
                table.policy = stamp;
            }
        }
    });
    Ok(commit.await?)
}

async fn fate(
    policy: &Policy,
    extract: Option<&MySqlExtract>,
    table: &TableState,
) -> Result<Fate, BootstrapError> {
    let plan = plan(table);
    let before = match &table.phase {
        TablePhase::Ready => Some(table.policy.as_str()),
        _ => plan.as_ref().map(|plan| plan.policy.as_str()),
    };
    let before = before.map(Stamp::of);
    let is_same_policy = before.is_some_and(|stamp| stamp.is_policy(&policy.fingerprint()));
    let Some(today) = decision(policy, extract, &table.name).await? else {
        return Ok(if is_same_policy { Fate::Untouched } else { Fate::CopiedAnew });
    };
    let Some(today) = today else { return Ok(Fate::NotTaken) };
    let today = Stamp::of(&today);
    Ok(match before.is_some_and(|stamp| stamp.stores_as(today)) {
        true => Fate::GoesOn(today.decision().map(str::to_owned)),
        false => Fate::CopiedAnew,
    })
}

/// What the policy of today decides about a table; `None`: nobody knows, since the source cannot be asked or has it no more.
async fn decision(
    policy: &Policy,
    extract: Option<&MySqlExtract>,
    table: &TableName,
) -> Result<Option<Option<String>>, BootstrapError> {
    let Some(extract) = extract else { return Ok(None) };
    let Some(source) = extract.describe(table).await? else { return Ok(None) };
    let failed = |error| CloneError::Policy { table: table.clone(), source: Box::new(error) };
    Ok(Some(policy.stamp(&source.schema).map_err(failed)?))
}

fn plan(table: &TableState) -> Option<Plan> {
    progress(&table.phase).and_then(|progress| Plan::of(progress).ok())
}

fn progress(phase: &TablePhase) -> Option<&CloneProgress> {
    match phase {
        TablePhase::Ready => None,
        TablePhase::Cloning(progress) => Some(progress),
        TablePhase::Stale { clone, .. } => clone.as_ref(),
    }
}

/// Enters it for a table, and for the copy of it that is being made.
fn stamp(table: &mut TableState, stamp: &str) {
    stamp.clone_into(&mut table.policy);
    let progress = match &mut table.phase {
        TablePhase::Ready => return,
        TablePhase::Cloning(progress) => progress,
        TablePhase::Stale { clone, .. } => match clone {
            Some(progress) => progress,
            None => return,
        },
    };
    if let Ok(plan) = Plan::of(progress) {
        let plan = Plan { policy: stamp.to_owned(), ..plan };
        progress.plan = serde_json::to_value(plan).expect("texts and numbers are JSON");
    }
}
