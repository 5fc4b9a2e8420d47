//! The effects of a consumer's delivery: state, output and standard output, held back until the host commits
//! them together with the position, or drops them. Also the interfaces `state` and `output`.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions, make_array};
use arrow_buffer::BooleanBuffer;
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use wasmtime::StoreContextMut;
use wasmtime::component::Linker;

use crate::abi::{self, ColumnDef, OwnedColumn, VERSION};
use crate::convert::{self, Lifted};
use crate::error::BoxError;
use crate::limits::{
    Limits, OUTPUT_CHANGE_BYTES, OUTPUT_TABLES_MAX, STATE_KEY_BYTES_MAX, STATE_VALUE_BYTES_MAX,
};
use crate::pipe::Pipe;
use crate::store::HostState;

/// A key of a consumer's state and what becomes of it; `None` removes it.
pub type StateWrite = (Vec<u8>, Option<Vec<u8>>);

/// A consumer's state as it was committed last. Reads within a delivery see the delivery's own writes first.
pub trait StateReader: Send + Sync {
    /// The committed value of that key.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, BoxError>;
}

impl<F> StateReader for F
where
    F: Fn(&[u8]) -> Result<Option<Vec<u8>>, BoxError> + Send + Sync,
{
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, BoxError> {
        self(key)
    }
}

/// The op of a deleted row.
const DELETE: u8 = 2;

/// Rows that a consumer appended to one of its output tables, in one call.
#[derive(Clone, Debug)]
pub struct OutputRows {
    /// The table's name.
    pub table: String,
    /// The values; a column's source type is in its field's metadata.
    pub columns: RecordBatch,
    /// Ordinals of the key's columns.
    pub key: Vec<u32>,
    /// One a row: 0 insert, 1 update, 2 delete, 3 snapshot row.
    pub ops: Vec<u8>,
}

/// What becomes of one of a consumer's output tables.
#[derive(Clone, Debug)]
pub enum OutputChange {
    /// Rows were appended.
    Rows(OutputRows),
    /// Every row is gone; the table may have other columns from here on.
    Truncate {
        /// The table's name; there may be no such table.
        table: String,
    },
    /// Its rows are those of another name, which has none of its own any more.
    Rename {
        /// The name that the table had; there may be no such table.
        table: String,
        /// The name that it has.
        to: String,
    },
}

/// The host's own failure inside a call of the guest.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct HostFailed(pub(crate) BoxError);

struct OutputTable {
    name: String,
    defs: Vec<ColumnDef>,
    schema: SchemaRef,
    key: Vec<u32>,
    /// It has no rows, as far as is known here: it may be opened with other columns.
    is_emptied: bool,
}

impl OutputTable {
    fn new(name: String, defs: Vec<ColumnDef>, key: Vec<u32>) -> Result<OutputTable, String> {
        if let Some(ordinal) = key.iter().find(|ordinal| **ordinal as usize >= defs.len()) {
            return Err(format!("output table {name:?}: its key names column {ordinal}, which is not there"));
        }
        let fields = defs.iter().map(field).collect::<Result<Vec<Field>, String>>();
        let schema = Arc::new(Schema::new(fields.map_err(|what| format!("output table {name:?}: {what}"))?));
        Ok(OutputTable { name, defs, schema, key, is_emptied: false })
    }

    /// What a sink holds of a column is its name and its type: what the source calls the type, and whether it may be
    /// NULL, can become another where there are rows.
    fn may_become(&self, other: &OutputTable) -> bool {
        let held = |table: &OutputTable| -> Vec<(String, DataType)> {
            table.schema.fields().iter().map(|f| (f.name().clone(), f.data_type().clone())).collect()
        };
        self.is_emptied || self.key == other.key && held(self) == held(other)
    }
}

/// How far the effects had come: what is later can be dropped.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mark {
    writes: usize,
    output: usize,
    stdout: usize,
}

/// See the module.
pub(crate) struct Effects {
    committed: Arc<dyn StateReader>,
    /// The writes in order, and where each key's last one is.
    writes: Vec<StateWrite>,
    latest: HashMap<Vec<u8>, usize>,
    tables: Vec<OutputTable>,
    output: Vec<OutputChange>,
    stdout: Vec<u8>,
    pipe: Pipe,
    /// Within `process`, where effects are allowed.
    processing: bool,
    bytes: usize,
    bytes_max: usize,
    overflowed: bool,
}

impl Effects {
    pub(crate) fn new(committed: Arc<dyn StateReader>, pipe: Pipe, limits: &Limits) -> Effects {
        Effects {
            committed,
            writes: vec![],
            latest: HashMap::new(),
            tables: vec![],
            output: vec![],
            stdout: vec![],
            pipe,
            processing: false,
            bytes: 0,
            bytes_max: limits.effect_bytes,
            overflowed: false,
        }
    }

    /// Before a call of `process`.
    pub(crate) fn begin(&mut self) {
        self.processing = true;
        self.bytes = 0;
    }

    /// After it went well.
    pub(crate) fn end(&mut self) -> Mark {
        self.processing = false;
        self.stdout.extend(self.pipe.take());
        self.mark()
    }

    /// After it did not: nothing later than the mark is kept.
    pub(crate) fn end_at(&mut self, mark: Mark) {
        self.processing = false;
        self.pipe.take();
        self.writes.truncate(mark.writes);
        let written = self.writes.iter().enumerate();
        self.latest = written.map(|(place, (key, _))| (key.clone(), place)).collect();
        self.output.truncate(mark.output);
        self.stdout.truncate(mark.stdout);
    }

    pub(crate) fn mark(&self) -> Mark {
        Mark { writes: self.writes.len(), output: self.output.len(), stdout: self.stdout.len() }
    }

    /// Everything, for the host to commit: the last write of each key, in the order of the first.
    pub(crate) fn take(&mut self) -> (Vec<StateWrite>, Vec<OutputChange>, Vec<u8>) {
        self.latest.clear();
        let mut places: HashMap<Vec<u8>, usize> = HashMap::new();
        let mut writes: Vec<StateWrite> = vec![];
        for (key, value) in self.writes.drain(..) {
            match places.get(&key) {
                Some(place) => writes[*place].1 = value,
                None => {
                    places.insert(key.clone(), writes.len());
                    writes.push((key, value));
                }
            }
        }
        (writes, std::mem::take(&mut self.output), std::mem::take(&mut self.stdout))
    }

    /// Whether a limit of effects was reached.
    pub(crate) fn overflowed(&self) -> bool {
        self.overflowed || self.pipe.overflowed()
    }

    fn spend(&mut self, bytes: usize) -> wasmtime::Result<()> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > self.bytes_max {
            self.overflowed = true;
            return Err(wasmtime::Error::msg("the limit of effects is reached"));
        }
        Ok(())
    }

    fn get(&self, key: &[u8]) -> wasmtime::Result<Option<Vec<u8>>> {
        check_key(key)?;
        match self.latest.get(key) {
            Some(place) => Ok(self.writes[*place].1.clone()),
            None => self.committed.get(key).map_err(|error| wasmtime::Error::new(HostFailed(error))),
        }
    }

    fn write(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) -> wasmtime::Result<()> {
        check_key(&key)?;
        if !self.processing {
            return Err(wasmtime::Error::msg("state was written outside `process`"));
        }
        let len = value.as_ref().map_or(0, Vec::len);
        if len > STATE_VALUE_BYTES_MAX {
            return Err(wasmtime::Error::msg(format!(
                "a state value of {len} bytes; at most {STATE_VALUE_BYTES_MAX} are allowed"
            )));
        }
        self.spend(key.len() + len)?;
        self.latest.insert(key.clone(), self.writes.len());
        self.writes.push((key, value));
        Ok(())
    }

    /// A name keeps its number, whatever its columns become.
    fn open(&mut self, name: String, defs: Vec<ColumnDef>, key: Vec<u32>) -> Result<u32, String> {
        let known = self.tables.iter().position(|table| table.name == name);
        if let Some(place) = known
            && self.tables[place].defs == defs
            && self.tables[place].key == key
        {
            return Ok(place as u32);
        }
        let table = OutputTable::new(name, defs, key)?;
        match known {
            Some(place) if self.tables[place].may_become(&table) => {
                let is_emptied = self.tables[place].is_emptied;
                self.tables[place] = OutputTable { is_emptied, ..table };
                Ok(place as u32)
            }
            Some(_) => {
                Err(format!("output table {:?} is open with other columns or another key", table.name))
            }
            None if self.tables.len() >= OUTPUT_TABLES_MAX => {
                Err(format!("more than {OUTPUT_TABLES_MAX} output tables"))
            }
            None => {
                self.tables.push(table);
                Ok(self.tables.len() as u32 - 1)
            }
        }
    }

    /// From here on a table of that name may be opened with other columns.
    fn emptied(&mut self, name: &str) {
        self.tables.iter_mut().filter(|table| table.name == name).for_each(|table| table.is_emptied = true);
    }

    fn truncate(&mut self, table: String) {
        self.emptied(&table);
        self.output.push(OutputChange::Truncate { table });
    }

    /// A number stands for a name: who goes on with the rows opens the new one.
    fn rename(&mut self, table: String, to: String) {
        self.emptied(&table);
        self.emptied(&to);
        self.output.push(OutputChange::Rename { table, to });
    }

    fn append(&mut self, table: u32, ops: Vec<u8>, columns: Vec<OwnedColumn>) -> Result<(), String> {
        let table = self.tables.get_mut(table as usize).ok_or("no table was opened with that number")?;
        let (schema, count) = (&table.schema, ops.len());
        if columns.len() != schema.fields().len() {
            return Err(format!(
                "{} columns for output table {:?}, which has others",
                columns.len(),
                table.name
            ));
        }
        if ops.iter().any(|op| *op > 3) {
            return Err("an op is none of 0, 1, 2 and 3".to_owned());
        }
        let lift = |(place, (column, field)): (u32, (OwnedColumn, &Arc<Field>))| {
            let lifted = convert::lift(column, field.data_type(), count);
            let lifted = lifted.map_err(|what| format!("column {:?}: {what}", field.name()))?;
            let absent = lifted.absent.iter().flat_map(|bits| bits.set_indices());
            match absent.into_iter().find(|row| ops[*row] != DELETE) {
                Some(row) => {
                    Err(format!("column {:?}, row {row}: only a delete may leave values out", field.name()))
                }
                None if field.is_nullable() || table.key.contains(&place) => Ok(lifted.array),
                None => Ok(filled(lifted)),
            }
        };
        let arrays = (0..).zip(columns.into_iter().zip(schema.fields())).map(lift);
        let arrays = arrays.collect::<Result<Vec<ArrayRef>, String>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        let columns = RecordBatch::try_new_with_options(Arc::clone(schema), arrays, &options)
            .map_err(|error| error.to_string())?;
        table.is_emptied = false;
        let (table, key) = (table.name.clone(), table.key.clone());
        self.output.push(OutputChange::Rows(OutputRows { table, columns, key, ops }));
        Ok(())
    }
}

/// A column that takes no NULL has some value where a delete left its own out; nobody reads it. A NULL stays one.
fn filled(column: Lifted) -> ArrayRef {
    let absent = column.absent.as_ref().map_or(0, BooleanBuffer::count_set_bits);
    if absent == 0 || column.array.null_count() > absent {
        return column.array;
    }
    let without_nulls = column.array.to_data().into_builder().nulls(None).build();
    make_array(without_nulls.expect("every place of a column has a value, NULL or not"))
}

fn field(def: &ColumnDef) -> Result<Field, String> {
    let data_type = convert::arrow_type(def)?;
    let source_type = ("tidemill.source_type".to_owned(), def.source_type.clone());
    Ok(Field::new(&def.name, data_type, def.nullable).with_metadata(HashMap::from([source_type])))
}

fn check_key(key: &[u8]) -> wasmtime::Result<()> {
    if key.len() <= STATE_KEY_BYTES_MAX {
        return Ok(());
    }
    let text = format!("a state key of {} bytes; at most {STATE_KEY_BYTES_MAX} are allowed", key.len());
    Err(wasmtime::Error::msg(text))
}

type Host<'a> = StoreContextMut<'a, HostState>;

fn effects<'a>(store: &'a mut Host<'_>) -> wasmtime::Result<&'a mut Effects> {
    store.data_mut().effects.as_mut().ok_or_else(|| wasmtime::Error::msg("only consumers have effects"))
}

/// Links `state` and `output`.
pub(crate) fn link(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    let mut state = linker.instance(&format!("tidemill:guest/state@{VERSION}"))?;
    state
        .func_wrap("get", |mut store: Host<'_>, (key,): (Vec<u8>,)| Ok((effects(&mut store)?.get(&key)?,)))?;
    state.func_wrap("set", |mut store: Host<'_>, (key, value): (Vec<u8>, Vec<u8>)| {
        effects(&mut store)?.write(key, Some(value))
    })?;
    state.func_wrap("delete", |mut store: Host<'_>, (key,): (Vec<u8>,)| {
        effects(&mut store)?.write(key, None)
    })?;
    link_output(linker)
}

fn link_output(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    let mut output = linker.instance(&format!("tidemill:guest/output@{VERSION}"))?;
    type Open = (String, Vec<ColumnDef>, Vec<u32>);
    output.func_wrap("open", |mut store: Host<'_>, (name, columns, key): Open| {
        Ok((effects(&mut store)?.open(name, columns, key).map_err(abi::Error::Config),))
    })?;
    type Append = (u32, u32, Vec<u8>, Vec<OwnedColumn>);
    output.func_wrap("append", |mut store: Host<'_>, (table, count, ops, columns): Append| {
        let bytes = columns.iter().map(convert::owned_bytes).sum::<usize>() + ops.len();
        let effects = processing(&mut store, bytes)?;
        if ops.len() != count as usize {
            return Ok((Err(abi::Error::Fatal(format!("{} ops for {count} rows", ops.len()))),));
        }
        Ok((effects.append(table, ops, columns).map_err(abi::Error::Fatal),))
    })?;
    output.func_wrap("truncate", |mut store: Host<'_>, (table,): (String,)| {
        processing(&mut store, table.len())?.truncate(table);
        Ok((Ok::<(), abi::Error>(()),))
    })?;
    output.func_wrap("rename", |mut store: Host<'_>, (table, to): (String, String)| {
        processing(&mut store, table.len() + to.len())?.rename(table, to);
        Ok((Ok::<(), abi::Error>(()),))
    })
}

/// The effects, within `process`, to which a call adds that many bytes.
fn processing<'a>(store: &'a mut Host<'_>, bytes: usize) -> wasmtime::Result<&'a mut Effects> {
    let effects = effects(store)?;
    if !effects.processing {
        return Err(wasmtime::Error::msg("output was written outside `process`"));
    }
    effects.spend(OUTPUT_CHANGE_BYTES + bytes)?;
    Ok(effects)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use arrow_array::Array;
    use arrow_array::cast::AsArray;

    use super::*;
    use crate::abi::{OwnedValues, OwnedVarlen, Physical};

    fn effects() -> Effects {
        let committed = |key: &[u8]| Ok::<_, BoxError>((key == b"old").then(|| b"committed".to_vec()));
        Effects::new(Arc::new(committed), Pipe::bounded(1 << 20), &Limits::consumer())
    }

    fn def(name: &str, logical: &str, physical: Physical) -> ColumnDef {
        ColumnDef {
            name: name.into(),
            logical: logical.into(),
            physical,
            source_type: logical.into(),
            nullable: true,
        }
    }

    fn defs() -> Vec<ColumnDef> {
        vec![def("id", "int64", Physical::Ints), def("name", "text", Physical::Text)]
    }

    fn columns(ids: &[i64], names: &[&str]) -> Vec<OwnedColumn> {
        let mut offsets = vec![0];
        names.iter().for_each(|name| offsets.push(offsets[offsets.len() - 1] + name.len() as u32));
        let text = OwnedVarlen { offsets, data: names.concat().into_bytes() };
        let column = |values| OwnedColumn { valid: vec![], present: vec![], values };
        vec![column(OwnedValues::Ints(ids.to_vec())), column(OwnedValues::Text(text))]
    }

    #[test]
    fn reads_see_the_deliverys_own_writes_before_what_is_committed() {
        let mut effects = effects();
        effects.begin();
        assert_eq!(effects.get(b"old").unwrap().unwrap(), b"committed");
        effects.write(b"old".to_vec(), None).unwrap();
        effects.write(b"new".to_vec(), Some(b"1".to_vec())).unwrap();
        effects.write(b"new".to_vec(), Some(b"2".to_vec())).unwrap();
        assert_eq!(
            (effects.get(b"old").unwrap(), effects.get(b"new").unwrap().unwrap()),
            (None, b"2".to_vec())
        );
        effects.end();
        let (writes, ..) = effects.take();
        assert_eq!(writes, [(b"old".to_vec(), None), (b"new".to_vec(), Some(b"2".to_vec()))]);
        assert_eq!(effects.get(b"old").unwrap().unwrap(), b"committed");
    }

    #[test]
    fn what_is_later_than_the_mark_is_dropped() {
        let mut effects = effects();
        let table = effects.open("t".into(), defs(), vec![0]).unwrap();
        effects.begin();
        effects.write(b"k".to_vec(), Some(b"1".to_vec())).unwrap();
        effects.append(table, vec![0], columns(&[9], &["z"])).unwrap();
        let mark = effects.end();
        effects.begin();
        effects.write(b"k".to_vec(), Some(b"2".to_vec())).unwrap();
        effects.append(table, vec![0], columns(&[1], &["a"])).unwrap();
        effects.truncate("t".into());
        effects.rename("t".into(), "u".into());
        effects.end_at(mark);
        let (writes, output, stdout) = effects.take();
        assert_eq!((writes, stdout.len()), (vec![(b"k".to_vec(), Some(b"1".to_vec()))], 0));
        assert_eq!(said(&output), ["rows of t: 0"]);
    }

    #[test]
    fn state_has_its_bounds_and_its_time() {
        let mut effects = effects();
        assert!(effects.write(b"k".to_vec(), None).is_err(), "outside process");
        effects.begin();
        assert!(effects.write(vec![0; STATE_KEY_BYTES_MAX + 1], None).is_err());
        assert!(effects.get(&vec![0; STATE_KEY_BYTES_MAX + 1]).is_err());
        assert!(effects.write(b"k".to_vec(), Some(vec![0; STATE_VALUE_BYTES_MAX + 1])).is_err());
        assert!(!effects.overflowed());
        assert!(
            (0..=64).any(|_| effects.write(b"k".to_vec(), Some(vec![0; STATE_VALUE_BYTES_MAX])).is_err())
        );
        assert!(effects.overflowed());
    }

    #[test]
    fn output_arrives_as_rows_of_its_table() {
        let mut effects = effects();
        let table = effects.open("t".into(), defs(), vec![0]).unwrap();
        assert_eq!(effects.open("t".into(), defs(), vec![0]), Ok(table));
        effects.begin();
        effects.append(table, vec![0, 2], columns(&[1, 2], &["a", ""])).unwrap();
        effects.end();
        let (_, output, _) = effects.take();
        let [OutputChange::Rows(OutputRows { table, columns, key, ops })] = &output[..] else {
            panic!("{output:?}")
        };
        assert_eq!((table.as_str(), &key[..], &ops[..]), ("t", &[0][..], &[0, 2][..]));
        assert_eq!(columns.column(1).as_string::<i32>().value(0), "a");
        assert_eq!(columns.column(0).len(), 2);
    }

    fn said(output: &[OutputChange]) -> Vec<String> {
        let one = |change: &OutputChange| match change {
            OutputChange::Rows(rows) => format!("rows of {}: {}", rows.table, rows.columns.num_rows() - 1),
            OutputChange::Truncate { table } => format!("truncate {table}"),
            OutputChange::Rename { table, to } => format!("rename {table} to {to}"),
        };
        output.iter().map(one).collect()
    }

    #[test]
    fn tables_are_truncated_and_renamed_in_order_with_what_is_appended() {
        let mut effects = effects();
        effects.begin();
        let table = effects.open("t".into(), defs(), vec![0]).unwrap();
        effects.append(table, vec![0, 0], columns(&[1, 2], &["a", "b"])).unwrap();
        effects.truncate("t".into());
        effects.append(table, vec![0], columns(&[3], &["c"])).unwrap();
        effects.rename("t".into(), "u".into());
        effects.truncate("never opened".into());
        effects.end();
        let (_, output, _) = effects.take();
        assert_eq!(
            said(&output),
            ["rows of t: 1", "truncate t", "rows of t: 0", "rename t to u", "truncate never opened"]
        );
    }

    #[test]
    fn a_table_without_rows_is_opened_with_other_columns_under_the_same_number() {
        let mut effects = effects();
        let table = effects.open("t".into(), defs(), vec![0]).unwrap();
        let other = || vec![def("id", "int64", Physical::Ints)];
        let refused = |effects: &mut Effects| effects.open("t".into(), other(), vec![0]).unwrap_err();
        effects.begin();
        assert!(refused(&mut effects).contains("is open with other columns"));
        effects.truncate("t".into());
        effects.append(table, vec![0], columns(&[1], &["a"])).unwrap();
        assert!(refused(&mut effects).contains("is open with other columns"), "it has a row again");
        effects.truncate("t".into());
        assert_eq!(effects.open("t".into(), other(), vec![0]), Ok(table));
        let wrong = effects.append(table, vec![0], columns(&[1], &["a"])).unwrap_err();
        assert!(wrong.contains("2 columns for output table \"t\""), "{wrong}");
        effects.append(table, vec![0], columns(&[1], &["a"])[..1].to_vec()).unwrap();
        effects.rename("t".into(), "u".into());
        assert_eq!(effects.open("t".into(), defs(), vec![0]), Ok(table), "it is another table now");
    }

    #[test]
    fn a_column_that_is_wider_at_its_source_is_the_same_where_it_is_held_alike() {
        let mut effects = effects();
        let table = effects.open("t".into(), defs(), vec![0]).unwrap();
        let mut wider = defs();
        (wider[1].source_type, wider[1].nullable) = ("varchar(200)".into(), false);
        assert_eq!(effects.open("t".into(), wider.clone(), vec![0]), Ok(table));
        assert!(effects.open("t".into(), wider, vec![1]).unwrap_err().contains("another key"));
        let money = vec![def("id", "int64", Physical::Ints), def("name", "json", Physical::Text)];
        let is_same = effects.open("t".into(), money, vec![0]).is_ok();
        assert_eq!(
            is_same,
            convert::arrow_type(&defs()[1]) == convert::arrow_type(&def("n", "json", Physical::Text))
        );
    }

    #[test]
    fn output_that_does_not_fit_is_refused_and_says_why() {
        let mut effects = effects();
        let table = effects.open("t".into(), defs(), vec![0]).unwrap();
        let other = vec![def("id", "int64", Physical::Ints)];
        assert!(effects.open("t".into(), other, vec![0]).unwrap_err().contains("other columns"));
        assert!(effects.open("u".into(), defs(), vec![7]).unwrap_err().contains("column 7"));
        let money = vec![def("id", "money", Physical::Ints)];
        assert!(effects.open("v".into(), money, vec![]).unwrap_err().contains("unknown type \"money\""));
        effects.begin();
        let refused = |effects: &mut Effects, table, ops: &[u8], columns| {
            effects.append(table, ops.to_vec(), columns).unwrap_err()
        };
        assert!(refused(&mut effects, 9, &[0], columns(&[1], &["a"])).contains("no table"));
        assert!(refused(&mut effects, table, &[7], columns(&[1], &["a"])).contains("an op"));
        assert!(
            refused(&mut effects, table, &[0], columns(&[1], &["a", "b"]))
                .contains("column \"name\": 3 offsets")
        );
        let mut absent = columns(&[1], &["a"]);
        absent[1].present = vec![0];
        assert!(refused(&mut effects, table, &[1], absent.clone()).contains("only a delete"));
        effects.append(table, vec![2], absent).unwrap();
    }

    #[test]
    fn a_delete_may_leave_out_what_a_column_must_have_but_not_the_key() {
        let mut effects = effects();
        let strict = defs().into_iter().map(|def| ColumnDef { nullable: false, ..def }).collect();
        let table = effects.open("t".into(), strict, vec![0]).unwrap();
        effects.begin();
        let mut absent = columns(&[1, 2], &["a", "b"]);
        absent[1].present = vec![0b01];
        effects.append(table, vec![0, 2], absent).unwrap();
        let (mut keyless, mut null) = (columns(&[1], &["a"]), columns(&[1], &["a"]));
        (keyless[0].present, null[1].valid) = (vec![0], vec![0]);
        for columns in [keyless, null] {
            let refused = effects.append(table, vec![2], columns).unwrap_err();
            assert!(refused.contains("non-nullable"), "{refused}");
        }
    }
}
