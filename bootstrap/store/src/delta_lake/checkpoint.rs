//! A Delta checkpoint: what a table is at one version, in one Parquet file, so that readers need no older commit. A commit of
//! ours names everything that is live, so it is made of that commit alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::builder::{ListBuilder, MapBuilder, MapFieldNames, StringBuilder};
use arrow_array::{ArrayRef, BooleanArray, Int32Array, Int64Array, RecordBatch, StringArray, StructArray};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, Field, Fields, Schema};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::actions::{Action, Add, MetaData, Protocol, Txn};

type Map = BTreeMap<String, String>;

/// The file, and how many actions are in it.
pub(super) fn encode(commit: &[Action]) -> (Bytes, usize) {
    let live = |action: &&Action| !matches!(action, Action::CommitInfo(_) | Action::Remove(_));
    let rows: Vec<&Action> = commit.iter().filter(live).collect();
    let columns = [
        ("txn", txn(&rows)),
        ("add", add(&rows)),
        ("metaData", metadata(&rows)),
        ("protocol", protocol(&rows)),
    ];
    let fields = columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let columns = columns.into_iter().map(|(_, column)| column).collect();
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns).expect("the schema is the columns'");
    let level = ZstdLevel::try_new(1).expect("1 is a level");
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(level)).build();
    let mut file = Vec::new();
    let mut writer =
        ArrowWriter::try_new(&mut file, schema, Some(properties)).expect("its types are Parquet's");
    writer.write(&batch).expect("memory takes it");
    writer.close().expect("memory takes it");
    (file.into(), rows.len())
}

/// A column: a struct where the row is such an action, else NULL.
fn column<const N: usize>(present: Vec<bool>, children: [(&str, ArrayRef); N]) -> ArrayRef {
    let fields: Fields =
        children.iter().map(|(name, child)| Field::new(*name, child.data_type().clone(), true)).collect();
    let children = children.into_iter().map(|(_, child)| child).collect();
    Arc::new(StructArray::new(fields, children, Some(NullBuffer::from(present))))
}

fn txn(rows: &[&Action]) -> ArrayRef {
    let all: Vec<Option<&Txn>> =
        rows.iter().map(|a| if let Action::Txn(a) = a { Some(a) } else { None }).collect();
    column(
        present(&all),
        [
            ("appId", texts(&all, |a| &a.app_id)),
            ("version", longs(&all, |a| a.version)),
            ("lastUpdated", longs(&all, |a| a.last_updated)),
        ],
    )
}

fn add(rows: &[&Action]) -> ArrayRef {
    let all: Vec<Option<&Add>> =
        rows.iter().map(|a| if let Action::Add(a) = a { Some(a) } else { None }).collect();
    column(
        present(&all),
        [
            ("path", texts(&all, |a| &a.path)),
            ("partitionValues", maps(&all, |a| &a.partition_values)),
            ("size", longs(&all, |a| a.size as i64)),
            ("modificationTime", longs(&all, |a| a.modification_time)),
            // A checkpoint is no change.
            ("dataChange", Arc::new(BooleanArray::from_iter(all.iter().map(|a| a.map(|_| false))))),
            ("tags", maps(&all, |a| &a.tags)),
            ("stats", texts(&all, |a| &a.stats)),
        ],
    )
}

fn metadata(rows: &[&Action]) -> ArrayRef {
    let all: Vec<Option<&MetaData>> =
        rows.iter().map(|a| if let Action::MetaData(a) = a { Some(a) } else { None }).collect();
    let format = column(
        present(&all),
        [("provider", texts(&all, |a| &a.format.provider)), ("options", maps(&all, |a| &a.format.options))],
    );
    column(
        present(&all),
        [
            ("id", texts(&all, |a| &a.id)),
            ("name", texts(&all, |a| &a.name)),
            ("format", format),
            ("schemaString", texts(&all, |a| &a.schema_string)),
            ("partitionColumns", lists(&all, |a| &a.partition_columns)),
            ("configuration", maps(&all, |a| &a.configuration)),
            ("createdTime", longs(&all, |a| a.created_time)),
        ],
    )
}

fn protocol(rows: &[&Action]) -> ArrayRef {
    let all: Vec<Option<&Protocol>> =
        rows.iter().map(|a| if let Action::Protocol(a) = a { Some(a) } else { None }).collect();
    let ints = |value: fn(&Protocol) -> u32| -> ArrayRef {
        Arc::new(Int32Array::from_iter(all.iter().map(|a| a.map(|a| value(a) as i32))))
    };
    column(
        present(&all),
        [
            ("minReaderVersion", ints(|a| a.min_reader_version)),
            ("minWriterVersion", ints(|a| a.min_writer_version)),
            ("readerFeatures", lists(&all, |a| &a.reader_features)),
            ("writerFeatures", lists(&all, |a| &a.writer_features)),
        ],
    )
}

fn present<A>(all: &[Option<&A>]) -> Vec<bool> {
    all.iter().map(Option::is_some).collect()
}

fn texts<A>(all: &[Option<&A>], value: impl Fn(&A) -> &String) -> ArrayRef {
    Arc::new(StringArray::from_iter(all.iter().map(|a| a.map(&value))))
}

fn longs<A>(all: &[Option<&A>], value: impl Fn(&A) -> i64) -> ArrayRef {
    Arc::new(Int64Array::from_iter(all.iter().map(|a| a.map(&value))))
}

fn maps<A>(all: &[Option<&A>], value: impl Fn(&A) -> &Map) -> ArrayRef {
    // As Parquet names the parts of a map.
    let names =
        MapFieldNames { entry: "key_value".to_owned(), key: "key".to_owned(), value: "value".to_owned() };
    let mut maps = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new());
    for a in all {
        for (key, value) in a.iter().flat_map(|a| value(a)) {
            maps.keys().append_value(key);
            maps.values().append_value(value);
        }
        maps.append(a.is_some()).expect("as many keys as values");
    }
    Arc::new(maps.finish())
}

fn lists<A>(all: &[Option<&A>], value: impl Fn(&A) -> &Vec<String>) -> ArrayRef {
    let element = Field::new("element", DataType::Utf8, true);
    let mut lists = ListBuilder::new(StringBuilder::new()).with_field(element);
    for a in all {
        a.iter().flat_map(|a| value(a)).for_each(|text| lists.values().append_value(text));
        lists.append(a.is_some());
    }
    Arc::new(lists.finish())
}
