//! What a policy is, and what it decides about one table, as fingerprints: who keeps judged rows compares them.

use std::collections::HashMap;

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use tidemill_event::TableSchema;

use crate::abi::{ClonePlan, Treatment};
use crate::guest::GuestConfig;
use crate::module::Module;

type Secrets = HashMap<String, Hmac<Sha256>>;

/// A policy: its code, its configuration and its secrets.
pub(super) fn of_policy(module: &Module, config: &GuestConfig, secrets: &Secrets) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(module.hash());
    add(&mut hash, config.json.as_bytes());
    let mut names: Vec<&String> = secrets.keys().collect();
    names.sort();
    for name in names {
        add_secret(&mut hash, name, secrets);
    }
    hash.finalize().into()
}

/// What a plan says of a table's rows. Who judges rows by code judges them by all that the code is.
pub(super) fn of_plan(
    schema: &TableSchema,
    plan: &ClonePlan,
    module: &Module,
    config: &str,
    secrets: &Secrets,
) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update((schema.columns().len() as u64).to_be_bytes());
    let name = |ordinal: u32| schema.columns()[ordinal as usize].name.as_bytes();
    for (column, treatment) in schema.columns().iter().zip(&plan.columns) {
        add(&mut hash, column.name.as_bytes());
        add(&mut hash, word(treatment).as_bytes());
        if let Treatment::Pseudonym(secret) = treatment {
            add_secret(&mut hash, secret, secrets);
        }
    }
    let mut conditions: Vec<_> = plan.conditions.iter().collect();
    // All of them are to be fulfilled, in whatever order.
    conditions.sort_by_key(|condition| (condition.column, condition.comparison as u8, &condition.literals));
    for condition in conditions {
        add(&mut hash, b"condition");
        add(&mut hash, name(condition.column));
        hash.update([condition.comparison as u8]);
        hash.update((condition.literals.len() as u64).to_be_bytes());
        condition.literals.iter().for_each(|literal| add(&mut hash, literal.as_bytes()));
    }
    if !plan.input.is_empty() || plan.columns.contains(&Treatment::Computed) {
        add(&mut hash, b"code");
        hash.update(module.hash());
        add(&mut hash, config.as_bytes());
        plan.input.iter().for_each(|column| add(&mut hash, name(*column)));
    }
    hash.finalize().into()
}

/// As a plan that keeps every column of every row.
pub(super) fn of_no_policy(schema: &TableSchema) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update((schema.columns().len() as u64).to_be_bytes());
    for column in schema.columns() {
        add(&mut hash, column.name.as_bytes());
        add(&mut hash, word(&Treatment::Keep).as_bytes());
    }
    hash.finalize().into()
}

fn word(treatment: &Treatment) -> &'static str {
    match treatment {
        Treatment::Keep => "keep",
        Treatment::Drop => "drop",
        Treatment::Blank => "blank",
        Treatment::Pseudonym(_) => "pseudonym",
        Treatment::Computed => "computed",
    }
}

/// Tells two secrets apart without holding either.
fn add_secret(hash: &mut Sha256, name: &str, secrets: &Secrets) {
    add(hash, name.as_bytes());
    hash.update(secrets[name].clone().chain_update("policy fingerprint").finalize().into_bytes());
}

fn add(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_be_bytes());
    hash.update(bytes);
}
