//! A predicate that whoever reads declares: which rows of a table it wants, by conditions on columns. The host judges it as it
//! judges the conditions of a policy, without a guest; and since nobody's code decides, whoever stores rows can tell from
//! bounds of their values what need not be read.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_buffer::BooleanBuffer;
use tidemill_event::{Phase, RowKind, SchemaId, TableChanges, TableName, TableSchema, Window};

use crate::abi::{Comparison, Condition};
use crate::condition::{self, Judge};
use crate::declined;

/// The rows of one table that fulfil all conditions.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Predicate {
    /// The table.
    pub table: TableName,
    /// What each row fulfils.
    pub conditions: Vec<ColumnCondition>,
}

/// A condition on a column that is known by its name; its meaning is that of `condition` in `wit/`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ColumnCondition {
    /// The column's name.
    pub column: String,
    /// How it is compared.
    pub comparison: Comparison,
    /// With what, as text in the form of the column's logical type.
    pub literals: Vec<String>,
}

/// Why a predicate does not fit a table, or a row of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PredicateError {
    /// The table has no such column.
    #[error("table {table} has no column {column:?}; ask for a condition on a column that `/tables` shows")]
    UnknownColumn {
        /// The table.
        table: TableName,
        /// The column.
        column: String,
    },
    /// A literal is none of the column's type.
    #[error("{0}")]
    Literal(String),
    /// The source did not log what decides.
    #[error(
        "table {table}: column {column:?} decides which rows are wanted, and the source did not log it; set \
         binlog_row_image=FULL at the source, or take the condition away"
    )]
    NotLogged {
        /// The table.
        table: TableName,
        /// The column.
        column: String,
    },
}

/// Values of one column, outside of which no row fulfils a predicate.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// The column's name.
    pub column: String,
    /// The lowest, as an array of one value in the column's type; `None`: no bound.
    pub low: Option<ArrayRef>,
    /// The highest.
    pub high: Option<ArrayRef>,
}

impl Predicate {
    /// What is wrong with it for rows of that schema.
    pub fn check(&self, schema: &TableSchema) -> Result<(), PredicateError> {
        self.judges(schema).map(drop)
    }

    /// The bounds within which all rows of that schema lie that fulfil it; none where it does not fit the schema.
    pub fn bounds(&self, schema: &TableSchema) -> Vec<Bounds> {
        let judges = self.judges(schema).unwrap_or_default();
        let bounds = judges.iter().map(|judge| {
            let column = &schema.columns()[judge.column()];
            let (low, high) = judge.bounds(&column.data_type);
            Bounds { column: column.name.clone(), low, high }
        });
        bounds.filter(|bounds| bounds.low.is_some() || bounds.high.is_some()).collect()
    }

    fn judges(&self, schema: &TableSchema) -> Result<Vec<Judge>, PredicateError> {
        let judge = |condition: &ColumnCondition| {
            let ColumnCondition { column, comparison, literals } = condition;
            let place = schema.column(column).ok_or_else(|| PredicateError::UnknownColumn {
                table: schema.name().clone(),
                column: column.clone(),
            })?;
            let (column, literals) = (place as u32, literals.clone());
            let condition = Condition { column, comparison: *comparison, literals };
            Judge::parse(&condition, schema).map_err(PredicateError::Literal)
        };
        self.conditions.iter().map(judge).collect()
    }
}

/// Predicates of some tables, in the stream; rows of other tables go on.
#[derive(Debug, Default)]
pub struct PredicateStage {
    predicates: HashMap<TableName, Predicate>,
    plans: HashMap<SchemaId, Arc<Plan>>,
}

/// How the rows of one version of a table are judged.
#[derive(Debug)]
struct Plan {
    judges: Vec<Judge>,
    /// Whether the key alone tells which rows are wanted.
    by_key: bool,
}

impl PredicateStage {
    /// A stage of those predicates, of each table one at most.
    pub fn new(predicates: &[Predicate]) -> PredicateStage {
        let predicates = predicates.iter().map(|one| (one.table.clone(), one.clone())).collect();
        PredicateStage { predicates, plans: HashMap::new() }
    }

    /// The window with the rows that are wanted; of deltas with deletes of those that are not, see `declined`.
    ///
    /// Of an old image whose values the source did not log nobody can tell whether it was wanted: it stays, since a delete
    /// of what one does not have does no harm.
    pub fn apply(&mut self, mut window: Window) -> Result<Window, PredicateError> {
        let is_deltas = matches!(window.phase, Phase::Deltas(_));
        let mut tables = Vec::with_capacity(window.tables.len());
        for changes in window.tables {
            match self.plan(&changes.schema)? {
                None => tables.push(changes),
                Some(plan) => {
                    let judge = |rows: &TableChanges| judged(&plan.judges, rows);
                    tables.extend(declined::keep(changes, is_deltas, plan.by_key, judge)?);
                }
            }
        }
        window.tables = tables;
        Ok(window)
    }

    fn plan(&mut self, schema: &Arc<TableSchema>) -> Result<Option<Arc<Plan>>, PredicateError> {
        let Some(predicate) = self.predicates.get(schema.name()) else { return Ok(None) };
        if let Some(plan) = self.plans.get(&schema.id()) {
            return Ok(Some(Arc::clone(plan)));
        }
        let judges = predicate.judges(schema)?;
        let columns: Vec<u32> = judges.iter().map(|judge| judge.column() as u32).collect();
        let plan = Arc::new(Plan { judges, by_key: declined::is_of_key(schema, &columns) });
        self.plans.insert(schema.id(), Arc::clone(&plan));
        Ok(Some(plan))
    }
}

fn judged(judges: &[Judge], changes: &TableChanges) -> Result<Option<BooleanBuffer>, PredicateError> {
    let judged = condition::judge(judges, changes);
    let is_new = |row: usize| RowKind::from_u8(changes.kind[row]).is_some_and(RowKind::is_after);
    let mut unknown = judged.unknown.iter();
    if let Some((column, _)) = unknown.find(|(_, rows)| rows.set_indices().any(is_new)) {
        let column = changes.schema.columns()[*column].name.clone();
        return Err(PredicateError::NotLogged { table: changes.schema.name().clone(), column });
    }
    Ok(judged.kept)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use RowKind::{Delete, Insert, UpdateAfter, UpdateBefore};
    use arrow_array::cast::AsArray;
    use arrow_array::types::Int64Type;
    use arrow_array::{Int64Array, RecordBatch};
    use arrow_schema::DataType;
    use tidemill_event::{ColumnSchema, Cursor, Scn, Span, Timeline};

    use super::*;

    /// Rows of `shop.orders`: kind, id, and total, where the source logged it.
    fn window(phase: Phase, rows: &[(RowKind, i64, Option<i64>)]) -> Window {
        let columns = ["id", "total"].map(|name| ColumnSchema::new(name, DataType::Int64, "bigint", true));
        let schema = TableSchema::new(TableName::new("shop", "orders"), columns.into(), vec![0]);
        let ids: ArrayRef = Arc::new(rows.iter().map(|row| Some(row.1)).collect::<Int64Array>());
        let totals: ArrayRef = Arc::new(rows.iter().map(|row| row.2).collect::<Int64Array>());
        let absent: BooleanBuffer = rows.iter().map(|row| row.2.is_none()).collect();
        let changes = TableChanges {
            rows: RecordBatch::try_new(Arc::clone(schema.arrow()), vec![ids, totals]).unwrap(),
            schema,
            absent: vec![None, Some(absent)],
            kind: rows.iter().map(|row| row.0 as u8).collect(),
            ordinal: (0..rows.len() as u32).collect(),
            txn: vec![0; rows.len()].into(),
        };
        let timeline = Timeline { number: 1, server: "s".into() };
        let empty = Window::empty("shop".into(), timeline, Span { after: Scn(0), upto: Scn(1) }, "".into());
        Window { tables: vec![changes], phase, ..empty }
    }

    /// Ids and kinds that come of those rows where `total >= 100` is wanted.
    fn wanted(phase: Phase, rows: &[(RowKind, i64, Option<i64>)]) -> Result<Vec<(i64, u8)>, PredicateError> {
        let (column, literals) = ("total".to_owned(), vec!["100".to_owned()]);
        let conditions = vec![ColumnCondition { column, comparison: Comparison::Ge, literals }];
        let predicate = Predicate { table: TableName::new("shop", "orders"), conditions };
        let window = PredicateStage::new(&[predicate]).apply(window(phase, rows))?;
        let of = |table: &TableChanges| -> Vec<(i64, u8)> {
            let ids = table.rows.column(0).as_primitive::<Int64Type>();
            ids.values().iter().copied().zip(table.kind.iter().copied()).collect()
        };
        Ok(window.tables.iter().flat_map(of).collect())
    }

    #[test]
    fn an_old_image_that_the_source_did_not_log_stays_and_a_new_one_is_refused() {
        let rows = [
            (Delete, 1, None),
            (UpdateBefore, 2, None),
            (UpdateAfter, 2, Some(5)),
            (UpdateBefore, 3, Some(5)),
            (UpdateAfter, 3, Some(100)),
        ];
        let expected = [(1, Delete as u8), (2, UpdateBefore as u8), (3, UpdateAfter as u8)];
        assert_eq!(wanted(Phase::Stream, &rows).unwrap(), expected);
        let error = wanted(Phase::Stream, &[(UpdateAfter, 2, None)]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "table shop.orders: column \"total\" decides which rows are wanted, and the source did not log it; set \
             binlog_row_image=FULL at the source, or take the condition away"
        );
    }

    #[test]
    fn in_deltas_a_row_that_is_not_wanted_is_a_delete_and_every_delete_arrives() {
        let deltas = Phase::Deltas(Cursor::default());
        let rows =
            [(Delete, 1, None), (UpdateAfter, 2, Some(5)), (UpdateAfter, 3, Some(100)), (Insert, 4, Some(5))];
        let expected = [(1, Delete as u8), (2, Delete as u8), (3, UpdateAfter as u8)];
        assert_eq!(wanted(deltas, &rows).unwrap(), expected);
    }
}
