//! A projection in the stream: columns that pass stay where they are and never enter the guest; the guest gives
//! the computed ones. What goes on has a schema of its own, with the key where it now stands.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_buffer::{BooleanBuffer, BooleanBufferBuilder};
use arrow_schema::DataType;
use tidemill_event::limits::COLUMNS_MAX;
use tidemill_event::{ColumnSchema, SchemaId, TableChanges, TableSchema, Window};
use wasmtime::component::TypedFunc;

use crate::abi::{self, OwnedColumn, ProjectionPlan, Rows};
use crate::convert::{self, Lifted, Lowered};
use crate::error::{Answer, At, GuestEnd, GuestError};
use crate::guest::{Answered, Calls, Exports, Guest, GuestConfig, Live};
use crate::module::{Kind, Module};
use crate::table::{self, Input, TableIds};

type Planned = Option<ProjectionPlan>;
type Plan = TypedFunc<(abi::TableDef<'static>,), (Result<Planned, abi::Error>,)>;
type Project = TypedFunc<(Rows<'static>,), (Result<Vec<OwnedColumn>, abi::Error>,)>;

struct ProjectionCalls {
    plan: Plan,
    project: Project,
}

impl Calls for ProjectionCalls {
    const KIND: Kind = Kind::Projection;

    fn find(exports: &mut Exports<'_>) -> wasmtime::Result<Self> {
        let interface = Self::KIND.interface();
        Ok(ProjectionCalls {
            plan: exports.func(interface, "plan")?,
            project: exports.func(interface, "project")?,
        })
    }
}

/// A projection, opened.
pub struct ProjectionStage {
    guest: Guest<ProjectionCalls>,
    source: Arc<str>,
    ids: TableIds,
    shapes: HashMap<SchemaId, Arc<Shape>>,
}

/// What becomes of one table version.
struct Shape {
    plan: Planned,
    /// Of what goes on; unused where the table passes unchanged.
    schema: Arc<TableSchema>,
}

impl ProjectionStage {
    /// Sets the guest up: a wrong configuration shows here.
    pub fn open(module: &Module, config: GuestConfig) -> Result<ProjectionStage, GuestError> {
        let source = config.source.as_str().into();
        let guest = Guest::open(module, config)?;
        Ok(ProjectionStage { guest, source, ids: TableIds::default(), shapes: HashMap::new() })
    }

    /// The window with each table in its new shape.
    pub fn apply(&mut self, mut window: Window) -> Result<Window, GuestError> {
        let at = At::window(&window);
        for changes in &mut window.tables {
            let at = at.table(&changes.schema);
            let shape = self.shape(&changes.schema, &at)?;
            if let Some(plan) = &shape.plan {
                *changes = self.table(changes, plan, &shape, &at)?;
            }
        }
        Ok(window)
    }

    /// The schema of what goes on of a table.
    pub fn shows(&mut self, schema: &Arc<TableSchema>) -> Result<Arc<TableSchema>, GuestError> {
        let at = At::nowhere(&self.source).table(schema);
        Ok(Arc::clone(&self.shape(schema, &at)?.schema))
    }

    /// What the guest has counted since the last time.
    pub fn take_counters(&mut self) -> Vec<(String, u64)> {
        self.guest.counters.take()
    }

    fn shape(&mut self, schema: &Arc<TableSchema>, at: &At) -> Result<Arc<Shape>, GuestError> {
        if let Some(shape) = self.shapes.get(&schema.id()) {
            return Ok(Arc::clone(shape));
        }
        let (id, source) = (self.ids.of(schema), &self.source);
        let plan =
            self.guest.twice(|guest| guest.plan("plan", id, at, |live| ask(live, id, source, schema)))?;
        let projected = match &plan {
            None => Ok(Arc::clone(schema)),
            Some(plan) => projected_schema(schema, plan),
        };
        let projected = projected.map_err(|end| self.guest.failed("plan", at, end))?;
        let shape = Arc::new(Shape { plan, schema: projected });
        self.shapes.insert(schema.id(), Arc::clone(&shape));
        Ok(shape)
    }

    fn table(
        &mut self,
        changes: &TableChanges,
        plan: &ProjectionPlan,
        shape: &Shape,
        at: &At,
    ) -> Result<TableChanges, GuestError> {
        let mut computed = self.computed(changes, plan, shape, at)?.into_iter();
        let (mut arrays, mut absent): (Vec<ArrayRef>, Vec<Option<BooleanBuffer>>) = (vec![], vec![]);
        for output in &plan.output {
            match output.source {
                Some(source) => {
                    arrays.push(Arc::clone(changes.rows.column(source as usize)));
                    absent.push(changes.absent.get(source as usize).cloned().flatten());
                }
                None => {
                    let column = computed.next().expect("one was computed for each");
                    arrays.push(column.array);
                    absent.push(column.absent);
                }
            }
        }
        Ok(reshaped(changes, &shape.schema, arrays, absent))
    }

    /// The computed columns of all rows, call by call.
    fn computed(
        &mut self,
        changes: &TableChanges,
        plan: &ProjectionPlan,
        shape: &Shape,
        at: &At,
    ) -> Result<Vec<Lifted>, GuestError> {
        let columns = plan.output.iter().zip(shape.schema.columns());
        let computed = columns.filter(|(output, _)| output.source.is_none());
        let types: Vec<&DataType> = computed.map(|(_, column)| &column.data_type).collect();
        if types.is_empty() {
            return Ok(vec![]);
        }
        let input: Vec<&ArrayRef> = plan.input.iter().map(|c| changes.rows.column(*c as usize)).collect();
        let ranges = convert::cut(&input, changes.rows.num_rows(), &self.guest.config.limits)
            .map_err(|limit| self.guest.failed("project", at, GuestEnd::Limit(limit)))?;
        let mut batches = Vec::with_capacity(ranges.len());
        for range in ranges {
            batches.push(self.project(changes, &shape.plan, plan, &types, range, at)?);
        }
        Ok(joined(batches, types.len()))
    }

    fn project(
        &mut self,
        changes: &TableChanges,
        planned: &Planned,
        plan: &ProjectionPlan,
        types: &[&DataType],
        range: Range<usize>,
        at: &At,
    ) -> Result<Vec<Lifted>, GuestError> {
        let input = Input::of(changes, &plan.input, range);
        let lowered = input.lower();
        let columns: Vec<abi::Column<'_>> = lowered.iter().map(Lowered::column).collect();
        let (id, count) = (self.ids.known(&changes.schema), input.rows);
        let rows = Rows { table: id, count: count as u32, columns: &columns };
        let source = &self.source;
        self.guest.twice(|guest| {
            guest.plan_again("plan", id, at, planned, |live| ask(live, id, source, &changes.schema))?;
            let answer = guest.call("project", at, |live| live.calls.project.call(&mut live.store, (rows,)));
            let answer = answer.map_err(|error| guest.about_rows(error, count, at))?;
            lift_all(answer, types, count).map_err(|what| guest.invalid("project", at, what))
        })
    }
}

fn ask(live: &mut Live<ProjectionCalls>, id: u32, source: &str, schema: &TableSchema) -> Answered<Planned> {
    let columns = convert::column_defs(schema);
    live.calls.plan.call(&mut live.store, (table::def(id, source, schema, &columns),))
}

/// The columns that a guest answered, checked.
pub(crate) fn lift_all(
    columns: Vec<OwnedColumn>,
    types: &[&DataType],
    rows: usize,
) -> Result<Vec<Lifted>, String> {
    if columns.len() != types.len() {
        return Err(format!("it answered {} columns, where {} belong", columns.len(), types.len()));
    }
    let lift = |(place, (column, to)): (usize, (OwnedColumn, &&DataType))| {
        convert::lift(column, to, rows).map_err(|what| format!("its computed column {place} has {what}"))
    };
    columns.into_iter().zip(types).enumerate().map(lift).collect()
}

/// Columns that came in several batches, each as one.
pub(crate) fn joined(mut batches: Vec<Vec<Lifted>>, columns: usize) -> Vec<Lifted> {
    if batches.len() == 1 {
        return batches.pop().expect("there is one");
    }
    let join = |column: usize| {
        let parts: Vec<&dyn Array> = batches.iter().map(|batch| &*batch[column].array).collect();
        let array = arrow_select::concat::concat(&parts).expect("the parts have one type and fit together");
        let any = batches.iter().any(|batch| batch[column].absent.is_some());
        let absent = any.then(|| {
            let mut bits = BooleanBufferBuilder::new(array.len());
            for batch in &batches {
                match &batch[column].absent {
                    Some(absent) => bits.append_buffer(absent),
                    None => bits.append_n(batch[column].array.len(), false),
                }
            }
            bits.finish()
        });
        Lifted { array, absent }
    };
    (0..columns).map(join).collect()
}

/// The same changes with other columns.
pub(crate) fn reshaped(
    changes: &TableChanges,
    schema: &Arc<TableSchema>,
    arrays: Vec<ArrayRef>,
    absent: Vec<Option<BooleanBuffer>>,
) -> TableChanges {
    let options = RecordBatchOptions::new().with_row_count(Some(changes.rows.num_rows()));
    let rows = RecordBatch::try_new_with_options(Arc::clone(schema.arrow()), arrays, &options)
        .expect("the columns have the schema's types and one length");
    let absent = if absent.iter().all(Option::is_none) { vec![] } else { absent };
    TableChanges {
        schema: Arc::clone(schema),
        rows,
        absent,
        kind: changes.kind.clone(),
        ordinal: changes.ordinal.clone(),
        txn: changes.txn.clone(),
    }
}

fn config(text: String) -> GuestEnd {
    GuestEnd::Error(Answer::Config(text))
}

/// The schema of what goes on, or what is wrong with the plan.
fn projected_schema(schema: &TableSchema, plan: &ProjectionPlan) -> Result<Arc<TableSchema>, GuestEnd> {
    table::check_ordinals(&plan.input, schema)
        .map_err(|what| GuestEnd::Invalid(format!("its plan {what}")))?;
    if plan.output.len() > COLUMNS_MAX {
        return Err(GuestEnd::Invalid(format!("its plan has more than {COLUMNS_MAX} columns")));
    }
    let (mut names, mut columns) = (HashSet::new(), vec![]);
    for output in &plan.output {
        if !names.insert(output.def.name.as_str()) {
            return Err(config(format!("the projection has two columns {:?}", output.def.name)));
        }
        columns.push(output_column(schema, output).map_err(GuestEnd::Invalid)?);
    }
    let mut key = Vec::with_capacity(schema.key().len());
    for ordinal in schema.key() {
        key.push(key_place(schema, plan, *ordinal)?);
    }
    Ok(TableSchema::new(schema.name().clone(), columns, key))
}

fn output_column(schema: &TableSchema, output: &abi::OutputColumn) -> Result<ColumnSchema, String> {
    let def = &output.def;
    let Some(source) = output.source else {
        let data_type = convert::arrow_type(def)?;
        return Ok(ColumnSchema::new(&def.name, data_type, &def.source_type, def.nullable));
    };
    match schema.columns().get(source as usize) {
        Some(column) => Ok(ColumnSchema { name: def.name.clone(), ..column.clone() }),
        None => Err(format!("its plan names column {source}; the table has {}", schema.columns().len())),
    }
}

/// Where a key column stands in what goes on: passed through, or computed under its name.
fn key_place(schema: &TableSchema, plan: &ProjectionPlan, ordinal: u32) -> Result<u32, GuestEnd> {
    let name = &schema.columns()[ordinal as usize].name;
    let passed = plan.output.iter().position(|output| output.source == Some(ordinal));
    let computed =
        || plan.output.iter().position(|output| output.source.is_none() && output.def.name == *name);
    match passed.or_else(computed) {
        Some(place) => Ok(place as u32),
        None => Err(config(format!(
            "the projection loses key column {name:?} of table {}; keep it, or compute a column of that name \
             from it, one to one",
            schema.name()
        ))),
    }
}
