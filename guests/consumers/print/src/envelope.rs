//! One change as a line: what is the same for every change of a table is written once, when the table
//! is planned.

use tidemill_guest::consumer::{Change, Op, Phase, Transaction};
use tidemill_guest::text::push_integer;
use tidemill_guest::{Row, TableDef};

use crate::cell::{Form, push_text};
use crate::event::Said;
use crate::order::Order;

/// How a table's changes are written.
#[derive(Clone, Debug)]
pub struct Layout {
    table: String,
    /// `"name":` and the form, for each column
    fields: Vec<(Vec<u8>, Form)>,
    /// `"name":…,"db":…,"table":…`
    source: Vec<u8>,
}

impl Layout {
    /// The layout of a table of which all columns are wanted.
    pub fn of(table: &TableDef) -> Self {
        let field = |name: &str, form| {
            let mut label = Vec::new();
            push_text(&mut label, name);
            label.push(b':');
            (label, form)
        };
        let fields = table.columns.iter().map(|column| field(&column.name, Form::of(column))).collect();
        let mut source = Vec::new();
        for (label, value) in
            [("\"name\":", &table.source), (",\"db\":", &table.schema), (",\"table\":", &table.name)]
        {
            source.extend_from_slice(label.as_bytes());
            push_text(&mut source, value);
        }
        Layout { table: table.path(), fields, source }
    }

    /// `schema.table`
    pub fn table(&self) -> &str {
        &self.table
    }

    /// The columns of a row that have a value or NULL.
    fn push_row(&self, out: &mut Vec<u8>, row: Option<Row<'_>>) {
        let Some(row) = row else { return out.extend_from_slice(b"null") };
        let mut separator = b'{';
        for ((label, form), column) in self.fields.iter().zip(row.columns()) {
            let valid = column.valid_bits().get(row.number());
            if !valid && !column.present_bits().get(row.number()) {
                continue;
            }
            out.push(separator);
            separator = b',';
            out.extend_from_slice(label);
            if valid { form.push(out, column, row.number()) } else { out.extend_from_slice(b"null") }
        }
        if separator == b'{' {
            out.push(b'{');
        }
        out.push(b'}');
    }
}

/// What is the same in every line of a transaction.
#[derive(Clone, Debug, Default)]
pub struct Texts {
    /// from the table to the ordinal
    source: Vec<u8>,
    /// from there to the order
    transaction: Vec<u8>,
    is_streamed: bool,
    committed_ms: i64,
}

impl Texts {
    /// Prepares the texts of a transaction.
    pub fn begin(&mut self, transaction: &Transaction<'_, Layout>, phase: Phase) {
        (self.is_streamed, self.committed_ms) =
            (phase == Phase::Live, transaction.committed().div_euclid(1000));
        let source = &mut self.source;
        source.clear();
        source.extend_from_slice(b",\"snapshot\":\"");
        let snapshot = match phase {
            Phase::Snapshot => "true",
            Phase::Deltas => "incremental",
            Phase::Live => "false",
        };
        source.extend_from_slice(snapshot.as_bytes());
        source.extend_from_slice(b"\",\"scn\":");
        push_integer(source, transaction.scn());
        source.extend_from_slice(b",\"gtid\":");
        push_text(source, transaction.id());
        source.extend_from_slice(b",\"ts_us\":");
        push_integer(source, transaction.committed());
        source.extend_from_slice(b",\"ordinal\":");
        self.transaction.clear();
        self.transaction.extend_from_slice(b"},\"transaction\":{\"id\":");
        push_text(&mut self.transaction, transaction.id());
        self.transaction.extend_from_slice(b",\"total_order\":");
    }

    /// Writes one change and the end of its line.
    pub fn push_line(&self, out: &mut Vec<u8>, change: &Change<'_, Layout>, order: Order) {
        out.extend_from_slice(b"{\"before\":");
        change.plan.push_row(out, change.before);
        out.extend_from_slice(b",\"after\":");
        change.plan.push_row(out, change.after);
        out.extend_from_slice(b",\"source\":{\"connector\":\"tidemill\",");
        out.extend_from_slice(&change.plan.source);
        out.extend_from_slice(&self.source);
        push_integer(out, order.total - 1);
        self.push_transaction(out, order);
        out.extend_from_slice(b",\"op\":\"");
        out.push(match change.op {
            Op::Insert => b'c',
            Op::Update => b'u',
            Op::Delete => b'd',
            Op::Snapshot => b'r',
        });
        out.extend_from_slice(b"\",\"ts_ms\":");
        push_integer(out, self.committed_ms);
        out.extend_from_slice(b"}\n");
    }

    /// Writes what happened to a table and the end of its line. `total`: its number in the transaction, from 1.
    pub fn push_event(&self, out: &mut Vec<u8>, said: Said<'_>, total: u64) {
        if said.is_truncate() {
            out.extend_from_slice(b"{\"before\":null,\"after\":null");
        } else {
            out.push(b'{');
            said.push_fields(out);
        }
        out.extend_from_slice(b",\"source\":{\"connector\":\"tidemill\",");
        said.push_source(out);
        out.extend_from_slice(&self.source);
        push_integer(out, total - 1);
        out.extend_from_slice(&self.transaction);
        push_integer(out, total);
        out.push(b'}');
        if said.is_truncate() {
            out.extend_from_slice(b",\"op\":\"t\"");
        }
        out.extend_from_slice(b",\"ts_ms\":");
        push_integer(out, self.committed_ms);
        out.extend_from_slice(b"}\n");
    }

    /// From the end of the source to that of the transaction.
    fn push_transaction(&self, out: &mut Vec<u8>, order: Order) {
        if !self.is_streamed {
            return out.extend_from_slice(b"},\"transaction\":null");
        }
        out.extend_from_slice(&self.transaction);
        push_integer(out, order.total);
        out.extend_from_slice(b",\"data_collection_order\":");
        push_integer(out, order.in_table);
        out.push(b'}');
    }
}
