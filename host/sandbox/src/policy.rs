//! A policy at the source: what it declines, masks or drops here is nowhere afterwards. What can be said once a
//! table is done by the host (keep, drop, blank, pseudonym, conditions); the guest judges what is left. A policy
//! that fails stops its source: no row goes on unjudged.

mod fingerprint;

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_array::{Array, ArrayRef, new_null_array};
use arrow_buffer::{BooleanBuffer, BooleanBufferBuilder};
use arrow_schema::DataType;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use tidemill_event::{
    ColumnSchema, EventKind, SchemaId, Sensitivity, TableChanges, TableName, TableSchema, Window,
};
use wasmtime::component::TypedFunc;

use crate::abi::{self, ClonePlan, Condition, Decision, Rows, Treatment, Verdict};
use crate::condition::{self, Judge};
use crate::convert::{self, Lifted, Lowered};
use crate::error::{Answer, At, GuestEnd, GuestError};
use crate::guest::{Answered, Calls, Exports, Guest, GuestConfig, Live};
use crate::module::{Kind, Module};
use crate::projection;
use crate::table::{self, Input, TableIds};
use crate::text;

type Decide = TypedFunc<(abi::TableDef<'static>,), (Result<Decision, abi::Error>,)>;
type Apply = TypedFunc<(Rows<'static>,), (Result<Verdict, abi::Error>,)>;

struct PolicyCalls {
    decide: Decide,
    apply: Apply,
}

impl Calls for PolicyCalls {
    const KIND: Kind = Kind::Policy;

    fn find(exports: &mut Exports<'_>) -> wasmtime::Result<Self> {
        let interface = Self::KIND.interface();
        Ok(PolicyCalls {
            decide: exports.func(interface, "decide")?,
            apply: exports.func(interface, "apply")?,
        })
    }
}

/// A policy, opened.
pub struct PolicyStage {
    guest: Guest<PolicyCalls>,
    source: Arc<str>,
    secrets: HashMap<String, Hmac<Sha256>>,
    fingerprint: [u8; 32],
    ids: TableIds,
    rulings: HashMap<SchemaId, Arc<Ruling>>,
    declined: HashMap<TableName, bool>,
}

/// What a policy needs of a table, for who reads the table itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reads {
    /// The columns that are stored or judged, by ordinal, rising: what is dropped, blanked or computed without being looked
    /// at need not be read. Of a row's other columns any value may be given to [`PolicyStage::apply`].
    pub columns: Vec<u32>,
    /// Rows that do not fulfil all of them are declined; [`PolicyStage::apply`] judges by them, too.
    pub conditions: Vec<Condition>,
    /// The schema of what is stored.
    pub schema: Arc<TableSchema>,
}

/// What was decided about one table version.
struct Ruling {
    decision: Decision,
    taken: Option<Taken>,
}

struct Taken {
    schema: Arc<TableSchema>,
    judges: Vec<Judge>,
    outputs: Vec<Output>,
    /// The types of the computed columns, in table order.
    computed: Vec<DataType>,
    input: Vec<u32>,
    /// Every column is kept, so that only rows can go.
    unchanged: bool,
}

/// One stored column.
enum Output {
    Keep(usize),
    Blank(usize),
    Pseudonym(usize, String),
    /// The next of the computed ones.
    Computed,
}

impl PolicyStage {
    /// Sets the guest up: a wrong configuration shows here. `secrets` are the keys of pseudonyms, by name.
    pub fn open(
        module: &Module,
        config: GuestConfig,
        secrets: HashMap<String, Vec<u8>>,
    ) -> Result<PolicyStage, GuestError> {
        let source = config.source.as_str().into();
        let keyed = |key: &[u8]| Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
        let secrets: HashMap<_, _> = secrets.into_iter().map(|(name, key)| (name, keyed(&key))).collect();
        let fingerprint = fingerprint::of_policy(module, &config, &secrets);
        let guest = Guest::open(module, config)?;
        let (ids, rulings, declined) = (TableIds::default(), HashMap::new(), HashMap::new());
        Ok(PolicyStage { guest, source, secrets, fingerprint, ids, rulings, declined })
    }

    /// Another instance of the same policy: it judges as this one does, at the same time.
    pub fn another(&self) -> Result<PolicyStage, GuestError> {
        let guest = Guest::open(&self.guest.module, self.guest.config.clone())?;
        let (ids, rulings, declined) = (TableIds::default(), HashMap::new(), HashMap::new());
        let (source, secrets) = (Arc::clone(&self.source), self.secrets.clone());
        Ok(PolicyStage { guest, source, secrets, fingerprint: self.fingerprint, ids, rulings, declined })
    }

    /// Whether anything of that table is stored, so that a fetcher need not even decode what is not.
    pub fn decides(&mut self, schema: &Arc<TableSchema>) -> Result<bool, GuestError> {
        let at = At::nowhere(&self.source).table(schema);
        Ok(self.ruling(schema, &at)?.taken.is_some())
    }

    /// What somebody who copies the table must read of it; `None`: nothing of it is stored.
    pub fn reads(&mut self, schema: &Arc<TableSchema>) -> Result<Option<Reads>, GuestError> {
        let at = At::nowhere(&self.source).table(schema);
        let ruling = self.ruling(schema, &at)?;
        let (Some(taken), Decision::Take(plan)) = (&ruling.taken, &ruling.decision) else { return Ok(None) };
        let stored = taken.outputs.iter().filter_map(|output| match output {
            Output::Keep(ordinal) | Output::Pseudonym(ordinal, _) => Some(*ordinal as u32),
            Output::Blank(_) | Output::Computed => None,
        });
        let judged = plan.conditions.iter().map(|condition| condition.column);
        let columns: BTreeSet<u32> = stored.chain(judged).chain(plan.input.iter().copied()).collect();
        let (columns, schema) = (columns.into_iter().collect(), Arc::clone(&taken.schema));
        Ok(Some(Reads { columns, conditions: plan.conditions.clone(), schema }))
    }

    /// The window as it may be stored.
    pub fn apply(&mut self, mut window: Window) -> Result<Window, GuestError> {
        let at = At::window(&window);
        let mut tables = Vec::with_capacity(window.tables.len());
        for changes in window.tables {
            let at = at.table(&changes.schema);
            let ruling = self.ruling(&changes.schema, &at)?;
            if let Some(taken) = &ruling.taken {
                tables.extend(self.table(changes, taken, &ruling.decision, &at)?);
            }
        }
        window.tables = tables;
        let declined = |table: &TableName| self.declined.get(table) == Some(&true);
        window.events.retain_mut(|event| may_be_stored(&mut event.kind, declined));
        Ok(window)
    }

    /// The source whose windows it judges.
    pub fn source(&self) -> &Arc<str> {
        &self.source
    }

    /// What this policy is: its code, its configuration and its secrets. Another fingerprint means that what is
    /// stored was judged by another policy.
    pub fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }

    /// What is decided about that table; `None`: nothing of it is stored. Two policies that decide the same store the same of
    /// each of its rows. The guest's code and configuration count only where the guest is asked about rows.
    pub fn decided(&mut self, schema: &Arc<TableSchema>) -> Result<Option<[u8; 32]>, GuestError> {
        let at = At::nowhere(&self.source).table(schema);
        let ruling = self.ruling(schema, &at)?;
        let Decision::Take(plan) = &ruling.decision else { return Ok(None) };
        let asked = self.guest.config.json.as_str();
        Ok(Some(fingerprint::of_plan(schema, plan, &self.guest.module, asked, &self.secrets)))
    }

    /// What no policy decides about a table: everything is stored as it is. See [`PolicyStage::decided`].
    pub fn decided_by_none(schema: &TableSchema) -> [u8; 32] {
        fingerprint::of_no_policy(schema)
    }

    /// What the guest has counted since the last time.
    pub fn take_counters(&mut self) -> Vec<(String, u64)> {
        self.guest.counters.take()
    }

    fn ruling(&mut self, schema: &Arc<TableSchema>, at: &At) -> Result<Arc<Ruling>, GuestError> {
        if let Some(ruling) = self.rulings.get(&schema.id()) {
            return Ok(Arc::clone(ruling));
        }
        let (id, source) = (self.ids.of(schema), &self.source);
        let decision =
            self.guest.twice(|guest| guest.plan("decide", id, at, |live| ask(live, id, source, schema)))?;
        let taken = match &decision {
            Decision::Skip => None,
            Decision::Take(plan) => {
                let taken = self.taken(schema, plan);
                Some(taken.map_err(|end| self.guest.failed("decide", at, end))?)
            }
        };
        self.declined.insert(schema.name().clone(), taken.is_none());
        let ruling = Arc::new(Ruling { decision, taken });
        self.rulings.insert(schema.id(), Arc::clone(&ruling));
        Ok(ruling)
    }

    /// The plan, checked and with its literals parsed.
    fn taken(&self, schema: &Arc<TableSchema>, plan: &ClonePlan) -> Result<Taken, GuestEnd> {
        let count = schema.columns().len();
        if plan.columns.len() != count {
            let what = format!("its plan treats {} columns; the table has {count}", plan.columns.len());
            return Err(GuestEnd::Invalid(what));
        }
        table::check_ordinals(&plan.input, schema)
            .map_err(|what| GuestEnd::Invalid(format!("its plan {what}")))?;
        let judges = plan.conditions.iter().map(|condition| Judge::parse(condition, schema));
        let judges = judges.collect::<Result<Vec<Judge>, String>>().map_err(config)?;
        let (mut columns, mut outputs, mut computed) = (vec![], vec![], vec![]);
        let mut places = vec![None; count];
        for (ordinal, treatment) in plan.columns.iter().enumerate() {
            let column = &schema.columns()[ordinal];
            let Some((stored, output)) = self.treated(schema, column, ordinal, treatment)? else { continue };
            if matches!(output, Output::Computed) {
                computed.push(column.data_type.clone());
            }
            places[ordinal] = Some(columns.len() as u32);
            columns.push(stored);
            outputs.push(output);
        }
        let key = schema.key().iter().map(|ordinal| places[*ordinal as usize]);
        let key = key.collect::<Option<Vec<u32>>>().expect("a key column is never dropped");
        let unchanged = plan.columns.iter().all(|treatment| *treatment == Treatment::Keep);
        let schema = match unchanged {
            true => Arc::clone(schema),
            false => TableSchema::new(schema.name().clone(), columns, key),
        };
        Ok(Taken { schema, judges, outputs, computed, input: plan.input.clone(), unchanged })
    }

    /// The stored column and how it is made; `None` for one that is dropped.
    fn treated(
        &self,
        schema: &TableSchema,
        column: &ColumnSchema,
        ordinal: usize,
        treatment: &Treatment,
    ) -> Result<Option<(ColumnSchema, Output)>, GuestEnd> {
        let is_key = schema.key().contains(&(ordinal as u32));
        if is_key && matches!(treatment, Treatment::Drop | Treatment::Blank) {
            return Err(config(format!(
                "table {}: key column {:?} can be neither dropped nor blanked; give it a pseudonym",
                schema.name(),
                column.name
            )));
        }
        Ok(Some(match treatment {
            Treatment::Drop => return Ok(None),
            Treatment::Keep => (column.clone(), Output::Keep(ordinal)),
            Treatment::Computed => (column.clone(), Output::Computed),
            Treatment::Blank => (ColumnSchema { nullable: true, ..column.clone() }, Output::Blank(ordinal)),
            Treatment::Pseudonym(secret) => {
                if !self.secrets.contains_key(secret) {
                    return Err(config(format!(
                        "table {}, column {:?}: there is no secret {secret:?} for its pseudonym; configure one of \
                         that name at the source",
                        schema.name(),
                        column.name
                    )));
                }
                let stored = ColumnSchema {
                    data_type: DataType::Utf8,
                    source_type: "pseudonym".to_owned(),
                    sensitivity: Sensitivity::Pseudonym,
                    ..column.clone()
                };
                (stored, Output::Pseudonym(ordinal, secret.clone()))
            }
        }))
    }

    fn table(
        &mut self,
        mut changes: TableChanges,
        taken: &Taken,
        decision: &Decision,
        at: &At,
    ) -> Result<Option<TableChanges>, GuestError> {
        let rejected = |what| GuestEnd::Error(Answer::Unsupported(what));
        let judged = condition::judge(&taken.judges, &changes);
        if let Some((column, _)) = judged.unknown.first() {
            let what = format!(
                "column {:?} decides which rows may be stored, and the source did not log it; set \
                 binlog_row_image=FULL at the source, or take the condition away",
                changes.schema.columns()[*column].name
            );
            return Err(self.guest.failed("decide", at, rejected(what)));
        }
        if let Some(kept) = judged.kept {
            match changes.keep(&kept) {
                Some(left) => changes = left,
                None => return Ok(None),
            }
        }
        let (kept, computed) = self.judged(&changes, taken, decision, at)?;
        if !taken.unchanged {
            changes = self.stored(&changes, taken, computed);
        }
        match kept {
            Some(kept) => Ok(changes.keep(&kept)),
            None => Ok(Some(changes)),
        }
    }

    /// What the guest says of the rows that are left: which are kept, and the computed columns.
    fn judged(
        &mut self,
        changes: &TableChanges,
        taken: &Taken,
        decision: &Decision,
        at: &At,
    ) -> Result<(Option<BooleanBuffer>, Vec<Lifted>), GuestError> {
        if taken.input.is_empty() && taken.computed.is_empty() {
            return Ok((None, vec![]));
        }
        let rows = changes.rows.num_rows();
        let input: Vec<&ArrayRef> = taken.input.iter().map(|c| changes.rows.column(*c as usize)).collect();
        let ranges = convert::cut(&input, rows, &self.guest.config.limits)
            .map_err(|limit| self.guest.failed("apply", at, GuestEnd::Limit(limit)))?;
        let mut kept = BooleanBufferBuilder::new(rows);
        let mut batches = Vec::with_capacity(ranges.len());
        for range in ranges {
            let count = range.len();
            let (bits, columns) = self.verdict(changes, taken, decision, range, at)?;
            match bits {
                Some(bits) => kept.append_buffer(&bits),
                None => kept.append_n(count, true),
            }
            batches.push(columns);
        }
        Ok((Some(kept.finish()), projection::joined(batches, taken.computed.len())))
    }

    fn verdict(
        &mut self,
        changes: &TableChanges,
        taken: &Taken,
        decision: &Decision,
        range: Range<usize>,
        at: &At,
    ) -> Result<(Option<BooleanBuffer>, Vec<Lifted>), GuestError> {
        let input = Input::of(changes, &taken.input, range);
        let lowered = input.lower();
        let columns: Vec<abi::Column<'_>> = lowered.iter().map(Lowered::column).collect();
        let (id, count) = (self.ids.known(&changes.schema), input.rows);
        let rows = Rows { table: id, count: count as u32, columns: &columns };
        let types: Vec<&DataType> = taken.computed.iter().collect();
        let source = &self.source;
        self.guest.twice(|guest| {
            guest.plan_again("decide", id, at, decision, |live| ask(live, id, source, &changes.schema))?;
            let verdict = guest.call("apply", at, |live| live.calls.apply.call(&mut live.store, (rows,)));
            let verdict = verdict.map_err(|error| guest.about_rows(error, count, at))?;
            let bits = convert::lift_bitmap(verdict.keep, count)
                .map_err(|what| guest.invalid("apply", at, format!("it answered {what}")))?;
            let columns = projection::lift_all(verdict.columns, &types, count)
                .map_err(|what| guest.invalid("apply", at, what))?;
            Ok((bits, columns))
        })
    }

    /// The rows with their stored columns.
    fn stored(&self, changes: &TableChanges, taken: &Taken, computed: Vec<Lifted>) -> TableChanges {
        let mut computed = computed.into_iter();
        let (mut arrays, mut absent): (Vec<ArrayRef>, Vec<Option<BooleanBuffer>>) = (vec![], vec![]);
        let logged = |ordinal: usize| changes.absent.get(ordinal).cloned().flatten();
        for output in &taken.outputs {
            let (array, missing) = match output {
                Output::Keep(ordinal) => (Arc::clone(changes.rows.column(*ordinal)), logged(*ordinal)),
                Output::Blank(ordinal) => {
                    let data_type = changes.rows.column(*ordinal).data_type();
                    (new_null_array(data_type, changes.rows.num_rows()), None)
                }
                Output::Pseudonym(ordinal, secret) => {
                    let missing = logged(*ordinal);
                    let key = &self.secrets[secret];
                    let array = changes.rows.column(*ordinal);
                    (pseudonyms(array, missing.as_ref(), secret, key), missing)
                }
                Output::Computed => {
                    let column = computed.next().expect("one was computed for each");
                    (column.array, column.absent)
                }
            };
            arrays.push(array);
            absent.push(missing);
        }
        projection::reshaped(changes, &taken.schema, arrays, absent)
    }
}

fn ask(live: &mut Live<PolicyCalls>, id: u32, source: &str, schema: &TableSchema) -> Answered<Decision> {
    let columns = convert::column_defs(schema);
    live.calls.decide.call(&mut live.store, (table::def(id, source, schema, &columns),))
}

fn config(text: String) -> GuestEnd {
    GuestEnd::Error(Answer::Config(text))
}

/// Whether an event is stored, and as what: nothing of it tells of a table that is declined.
fn may_be_stored(kind: &mut EventKind, declined: impl Fn(&TableName) -> bool) -> bool {
    match kind {
        // A statement may hold anything: values, names of what is declined.
        EventKind::SchemaChange { statement, tables, .. } => {
            *statement = None;
            let were_named = !tables.is_empty();
            tables.retain(|table| !declined(table));
            !were_named || !tables.is_empty()
        }
        EventKind::Truncate { table } | EventKind::Invalidate { table, .. } | EventKind::Drop { table } => {
            !declined(table)
        }
        EventKind::DropDatabase { .. } => true,
        // Under its new name nothing of the table is stored: for readers it is gone.
        EventKind::Rename { from, to } if declined(to) => {
            let is_stored = !declined(from);
            *kind = EventKind::Drop { table: from.clone() };
            is_stored
        }
        // What comes from a declined table was never stored; that it must be cloned is said by an event of its own.
        EventKind::Rename { from, .. } => !declined(from),
    }
}

/// The pseudonyms of a column: `<secret's name>:<hex of HMAC-SHA-256 over the value's text>`, the text being the
/// literal form of the contract. NULL stays NULL.
fn pseudonyms(array: &ArrayRef, absent: Option<&BooleanBuffer>, name: &str, key: &Hmac<Sha256>) -> ArrayRef {
    let mut column = StringBuilder::with_capacity(array.len(), array.len() * (name.len() + 65));
    let (mut value, mut pseudonym) = (String::new(), String::new());
    for row in 0..array.len() {
        if array.is_null(row) || absent.is_some_and(|bits| bits.value(row)) {
            column.append_null();
            continue;
        }
        value.clear();
        text::push_value(&mut value, array, row);
        let digest = key.clone().chain_update(value.as_bytes()).finalize().into_bytes();
        pseudonym.clear();
        pseudonym.push_str(name);
        pseudonym.push(':');
        text::push_hex(&mut pseudonym, &digest);
        column.append_value(&pseudonym);
    }
    Arc::new(column.finish())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use arrow_array::cast::AsArray;
    use arrow_array::{Int64Array, StringArray};

    use super::*;

    #[test]
    fn a_pseudonym_is_the_hmac_of_the_text_and_null_stays_null() {
        let key = Hmac::<Sha256>::new_from_slice(b"key").unwrap();
        let text: ArrayRef = Arc::new(StringArray::from(vec![Some("17"), None]));
        let number: ArrayRef = Arc::new(Int64Array::from(vec![17, 18]));
        let from_text = pseudonyms(&text, None, "k1", &key);
        let from_number = pseudonyms(&number, None, "k1", &key);
        // printf 17 | openssl dgst -sha256 -hmac key
        let expected = "k1:a12ae0285140d1a5ed824fe71d28ad45e436ace9bbeb95f95d4fe145a0d1f3d1";
        assert_eq!(from_text.as_string::<i32>().value(0), expected);
        assert_eq!(from_number.as_string::<i32>().value(0), expected);
        assert!(from_text.is_null(1) && from_number.is_valid(1));
    }
}
