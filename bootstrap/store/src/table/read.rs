//! Reads one sorted Parquet file, row group by row group, as rows of the schema that the table has now.

use std::collections::VecDeque;
use std::io::Read;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use arrow_array::cast::AsArray;
use arrow_array::types::{Int8Type, Int32Type, Int64Type};
use arrow_array::{Array, ArrayRef, RecordBatch, new_null_array};
use arrow_buffer::ScalarBuffer;
use arrow_schema::ArrowError;
use bytes::{Buf, Bytes};
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaDataReader};
use parquet::file::reader::{ChunkReader, Length};
use tidemill_event::{Position, Scn};
use tokio::task::JoinSet;

use super::key::{KEY_ENCODING, Key, Keys, unhex};
use super::layout::{Layout, META_KEY_ENCODING, META_LAST_KEYS, META_SCHEMA, OP_DELETE, key_places, pick};
use super::mapping::{from_stored, stored_type, to_stored};
use super::reader::ColumnRange;
use super::widen::{can_widen, widen};
use crate::{
    BaseFile, DataError, ObjectRef, Run, Store, StoreError, StoredSchema, TableKey, TableState, limits,
};

/// A file up to here is read whole: one request, and its checksum.
const WHOLE_BYTES_MAX: u64 = 2 << 20;
/// Bytes at a file's end that most often hold its footer.
const FOOTER_BYTES: u64 = 64 << 10;

/// What the rows of a table are read as.
#[derive(Debug)]
pub(crate) struct Shape {
    pub(crate) schema: StoredSchema,
    pub(crate) key: TableKey,
    /// Places of the key's columns.
    pub(crate) places: Vec<usize>,
}

/// Which rows are read.
#[derive(Debug, Default)]
pub(crate) struct Bounds {
    pub(crate) after: Option<Vec<u8>>,
    pub(crate) upto: Option<Vec<u8>>,
    pub(crate) ranges: Vec<ColumnRange>,
    /// The ranges of the key's first column.
    pub(crate) leading: Vec<Leading>,
}

/// A range of the key's first column: how a key with its lowest value begins, and one with its highest.
#[derive(Debug)]
pub(crate) struct Leading {
    pub(crate) low: Option<Vec<u8>>,
    pub(crate) high: Option<Vec<u8>>,
}

/// A file to read.
#[derive(Clone, Debug)]
pub(crate) struct File {
    pub(crate) object: ObjectRef,
    pub(crate) layout: Layout,
    /// Of a base file: what its rows win against.
    pub(crate) at: Position,
    /// Every other version of its rows that is read is newer: whichever of its rows is left out, no older one comes instead.
    pub(crate) is_oldest: bool,
}

/// Rows of one file in key order: columns as they are stored, of the table's schema now.
#[derive(Debug)]
pub(crate) struct Sorted {
    pub(crate) columns: Vec<ArrayRef>,
    pub(crate) keys: Keys,
    pub(crate) scn: ScalarBuffer<i64>,
    pub(crate) versions: Versions,
}

/// Of which positions rows are.
#[derive(Debug)]
pub(crate) enum Versions {
    /// All of a base file that is exact there.
    Base(Position),
    /// Each of its own, with `__op`.
    Run(ScalarBuffer<i32>, ScalarBuffer<i8>),
    /// Each of its own, with `__count`.
    Counted(ScalarBuffer<i32>, ScalarBuffer<i64>),
}

/// A file that is being read.
pub(crate) struct FileStream {
    store: Store,
    file: File,
    shape: Arc<Shape>,
    bounds: Arc<Bounds>,
    state: Option<Open>,
}

struct Open {
    metadata: ArrowReaderMetadata,
    columns: Vec<Column>,
    /// Row groups that are still to be read.
    groups: VecDeque<usize>,
    whole: Option<Bytes>,
    /// The next row group, on its way.
    ahead: JoinSet<Result<Vec<Bytes>, StoreError>>,
    /// In a lock that nobody waits for, since a reader may be sent to another thread and not shared between two.
    rows: Option<Mutex<ParquetRecordBatchReader>>,
}

/// Where a column of the table comes from.
#[derive(Debug)]
enum Column {
    Same(usize),
    /// Another type, of the stream, that is widened.
    Widened(usize, arrow_schema::DataType),
    Missing,
}

impl Shape {
    pub(crate) fn of(state: &TableState) -> Arc<Shape> {
        let places = key_places(&state.schema, &state.key);
        Arc::new(Shape { schema: state.schema.clone(), key: state.key.clone(), places })
    }

    /// The keys of rows with those columns.
    pub(crate) fn keys(&self, columns: &[ArrayRef], rows: usize) -> Result<Keys, ArrowError> {
        let stored = pick(columns, &self.places);
        let types = self.places.iter().map(|place| &self.schema.columns[*place].data_type.0);
        let stream = stored.iter().zip(types).map(|(column, t)| from_stored(column, t));
        Ok(Keys::new(&stream.collect::<Result<Vec<_>, _>>()?, rows))
    }
}

impl File {
    pub(crate) fn base(file: &BaseFile) -> File {
        File { object: file.object.clone(), layout: Layout::Base, at: file.at, is_oldest: false }
    }

    pub(crate) fn run(run: &Run, key: &TableKey) -> File {
        let (object, layout) = (run.object.clone(), Layout::of_runs(key));
        File { object, layout, at: Position::default(), is_oldest: false }
    }
}

impl Sorted {
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(crate) fn position(&self, row: usize) -> Position {
        match &self.versions {
            Versions::Base(at) => *at,
            Versions::Run(timeline, _) | Versions::Counted(timeline, _) => {
                Position { timeline: timeline[row] as u32, scn: Scn(self.scn[row] as u64) }
            }
        }
    }

    pub(crate) fn is_deleted(&self, row: usize) -> bool {
        matches!(&self.versions, Versions::Run(_, op) if op[row] == OP_DELETE)
    }

    /// How many copies of the row it adds.
    pub(crate) fn count(&self, row: usize) -> i64 {
        match &self.versions {
            Versions::Counted(_, count) => count[row],
            _ => 1,
        }
    }
}

impl FileStream {
    pub(crate) fn new(store: &Store, file: File, shape: &Arc<Shape>, bounds: &Arc<Bounds>) -> FileStream {
        let (shape, bounds) = (Arc::clone(shape), Arc::clone(bounds));
        FileStream { store: store.clone(), file, shape, bounds, state: None }
    }

    /// The next rows, at least one; `None`: that was all.
    pub(crate) async fn next(&mut self) -> Result<Option<Sorted>, DataError> {
        if self.state.is_none() {
            self.state = Some(self.open().await?);
        }
        loop {
            let open = self.state.as_mut().expect("it was opened");
            let rows = open.rows.as_mut().map(|rows| rows.get_mut().expect("no holder panics"));
            if let Some(batch) = rows.and_then(Iterator::next) {
                let sorted = self.sorted(&batch?)?;
                if sorted.len() > 0 {
                    return Ok(Some(sorted));
                }
                continue;
            }
            let Some(group) = open.groups.pop_front() else { return Ok(None) };
            let rows = self.group(group).await?;
            self.state.as_mut().expect("it was opened").rows = Some(Mutex::new(rows));
        }
    }

    fn damaged(&self, what: impl Into<String>) -> DataError {
        DataError::Damaged { path: self.file.object.path.clone(), what: what.into() }
    }

    fn failed(&self, source: ParquetError) -> DataError {
        DataError::Parquet { path: self.file.object.path.clone(), source }
    }

    async fn open(&self) -> Result<Open, DataError> {
        let object = &self.file.object;
        let whole = match object.bytes <= WHOLE_BYTES_MAX {
            true => Some(self.store.get(object).await?),
            false => None,
        };
        let metadata = self.footer(whole.as_ref()).await?;
        let schema = self.meta(&metadata, META_SCHEMA)?;
        let schema: StoredSchema =
            serde_json::from_str(schema).map_err(|error| self.damaged(format!("its schema: {error}")))?;
        if self.meta(&metadata, META_KEY_ENCODING)? != KEY_ENCODING {
            return Err(self.damaged("its keys have the encoding of another release"));
        }
        let layout = self.file.layout.schema(&schema, &self.shape.key);
        let types = |schema: &arrow_schema::Schema| -> Vec<arrow_schema::DataType> {
            schema.fields().iter().map(|field| field.data_type().clone()).collect()
        };
        if types(metadata.schema()) != types(&layout) {
            return Err(self.damaged("its columns are not those of its schema"));
        }
        let columns = self.columns(&schema)?;
        let groups = self.groups(&metadata, &columns)?;
        Ok(Open { metadata, columns, groups, whole, ahead: JoinSet::new(), rows: None })
    }

    async fn footer(&self, whole: Option<&Bytes>) -> Result<ArrowReaderMetadata, DataError> {
        let object = &self.file.object;
        let mut start = object.bytes.saturating_sub(FOOTER_BYTES);
        loop {
            let end = match whole {
                Some(bytes) => bytes.slice(start as usize..),
                None => self.range(start, object.bytes).await?,
            };
            let mut reader = ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Skip);
            match reader.try_parse_sized(&end, object.bytes) {
                Ok(()) => {
                    let metadata = Arc::new(reader.finish().map_err(|source| self.failed(source))?);
                    let options = ArrowReaderOptions::new();
                    return ArrowReaderMetadata::try_new(metadata, options).map_err(|e| self.failed(e));
                }
                Err(ParquetError::NeedMoreData(bytes)) if start > 0 => {
                    start = object.bytes.saturating_sub(bytes as u64).min(start - 1);
                }
                Err(source) => return Err(self.failed(source)),
            }
        }
    }

    async fn range(&self, start: u64, end: u64) -> Result<Bytes, DataError> {
        let mut ranges =
            self.store.get_ranges(&self.file.object, std::slice::from_ref(&(start..end))).await?;
        ranges.pop().ok_or_else(|| self.damaged("the store gave no bytes"))
    }

    fn meta<'a>(&self, metadata: &'a ArrowReaderMetadata, name: &str) -> Result<&'a str, DataError> {
        let pairs = metadata.metadata().file_metadata().key_value_metadata();
        let pair = pairs.into_iter().flatten().find(|pair| pair.key == name);
        let value = pair.and_then(|pair| pair.value.as_deref());
        value.ok_or_else(|| self.damaged(format!("its footer has no `{name}`")))
    }

    fn columns(&self, file: &StoredSchema) -> Result<Vec<Column>, DataError> {
        let column = |now: &crate::StoredColumn| {
            let place = file.columns.iter().position(|then| then.field == now.field);
            let Some(place) = place else { return Ok(Column::Missing) };
            let (from, to) = (&file.columns[place].data_type.0, &now.data_type.0);
            match from == to {
                true => Ok(Column::Same(place)),
                false if can_widen(from, to) => Ok(Column::Widened(place, from.clone())),
                false => Err(DataError::Narrowed {
                    column: now.name.clone(),
                    from: from.to_string(),
                    to: to.to_string(),
                }),
            }
        };
        self.shape.schema.columns.iter().map(column).collect()
    }

    /// The row groups that may hold wanted rows.
    fn groups(
        &self,
        metadata: &ArrowReaderMetadata,
        columns: &[Column],
    ) -> Result<VecDeque<usize>, DataError> {
        let last_keys = self.meta(metadata, META_LAST_KEYS)?.split_terminator(' ').map(unhex);
        let last_keys: Option<Vec<Vec<u8>>> = last_keys.collect();
        let count = metadata.metadata().num_row_groups();
        let last_keys = last_keys.filter(|keys| keys.len() == count);
        let last_keys = last_keys.ok_or_else(|| self.damaged("its footer does not have its keys"))?;
        let mut wanted = vec![true; count];
        for (group, wanted) in wanted.iter_mut().enumerate() {
            let after = self.bounds.after.as_ref();
            let is_before = after.is_some_and(|after| Key::of(&last_keys[group]) <= Key::of(after));
            let previous = group.checked_sub(1).map(|previous| Key::of(&last_keys[previous]));
            let upto = self.bounds.upto.as_ref().map(|upto| Key::of(upto));
            let is_behind = previous.zip(upto).is_some_and(|(previous, upto)| previous >= upto);
            *wanted = !is_before && !is_behind;
        }
        for range in self.bounds.ranges.iter().filter(|range| self.may_prune(range)) {
            self.prune(metadata, columns, range, &mut wanted).map_err(|source| self.failed(source))?;
        }
        Ok((0..count).filter(|group| wanted[*group]).collect())
    }

    /// Whether rows outside of a range can be left out of this file. All versions of a key have the same values in the key's
    /// columns; of other columns a newer version may have come in, and the one that is left out must not hide an older one.
    /// Without a key copies must be counted.
    fn may_prune(&self, range: &ColumnRange) -> bool {
        let is_key = |place: &usize| self.shape.schema.columns[*place].name == range.column;
        let has_key = self.shape.key != TableKey::WholeRow;
        has_key && (self.file.is_oldest || self.shape.places.iter().any(is_key))
    }

    fn prune(
        &self,
        metadata: &ArrowReaderMetadata,
        columns: &[Column],
        range: &ColumnRange,
        wanted: &mut [bool],
    ) -> Result<(), ParquetError> {
        let schema = &self.shape.schema.columns;
        let Some(place) = schema.iter().position(|column| column.name == range.column) else { return Ok(()) };
        let stream = &schema[place].data_type.0;
        let Column::Same(source) = columns[place] else { return Ok(()) };
        let bounds = [&range.low, &range.high];
        let fits = bounds.iter().all(|b| b.as_ref().is_none_or(|b| b.len() == 1 && b.data_type() == stream));
        // Texts of numbers are not in the order of the numbers.
        if !fits || matches!(stream, arrow_schema::DataType::Decimal256(..)) {
            return Ok(());
        }
        let name = metadata.schema().field(source).name();
        let converter = StatisticsConverter::try_new(name, metadata.schema(), metadata.parquet_schema())?;
        let groups = metadata.metadata().row_groups();
        let keys = |column: ArrayRef| -> Result<(ArrayRef, Keys), ParquetError> {
            let column = from_stored(&column, stream)?;
            let keys = Keys::new(std::slice::from_ref(&column), column.len());
            Ok((column, keys))
        };
        let (low, lows) = keys(converter.row_group_mins(groups)?)?;
        let (high, highs) = keys(converter.row_group_maxes(groups)?)?;
        let bound = |bound: &Option<ArrayRef>| bound.as_ref().map(|b| Keys::new(std::slice::from_ref(b), 1));
        let (from, to) = (bound(&range.low), bound(&range.high));
        for (group, wanted) in wanted.iter_mut().enumerate() {
            let below = from.as_ref().is_some_and(|b| high.is_valid(group) && highs.get(group) < b.get(0));
            let above = to.as_ref().is_some_and(|b| low.is_valid(group) && lows.get(group) > b.get(0));
            *wanted &= !below && !above;
        }
        Ok(())
    }

    /// Where a row group lies.
    fn span(&self, group: usize) -> Result<Range<u64>, DataError> {
        let open = self.state.as_ref().expect("it was opened");
        let columns = open.metadata.metadata().row_group(group).columns().iter();
        let ranges = columns.map(|column| column.byte_range());
        let ends = ranges.map(|(start, length)| (start, start + length));
        let (start, end) = ends.fold((u64::MAX, 0), |all, one| (all.0.min(one.0), all.1.max(one.1)));
        match start <= end && end <= self.file.object.bytes {
            true => Ok(start..end),
            false => Err(self.damaged("a row group lies outside of it")),
        }
    }

    /// The bytes of a row group; those of the next one are asked for meanwhile.
    async fn fetch(&mut self, group: usize) -> Result<GroupBytes, DataError> {
        let open = self.state.as_mut().expect("it was opened");
        if let Some(bytes) = &open.whole {
            return Ok(GroupBytes { start: 0, bytes: bytes.clone(), length: self.file.object.bytes });
        }
        let next = open.groups.front().copied();
        let fetched = match open.ahead.join_next().await {
            Some(Ok(fetched)) => Some(fetched?),
            _ => None,
        };
        let span = self.span(group)?;
        let (start, length) = (span.start, self.file.object.bytes);
        let bytes = match fetched {
            Some(mut parts) => parts.pop().ok_or_else(|| self.damaged("the store gave no bytes"))?,
            None => self.range(span.start, span.end).await?,
        };
        if let Some(next) = next {
            let (span, store, object) = (self.span(next)?, self.store.clone(), self.file.object.clone());
            let open = self.state.as_mut().expect("it was opened");
            open.ahead.spawn(async move { store.get_ranges(&object, &[span]).await });
        }
        Ok(GroupBytes { start, bytes, length })
    }

    async fn group(&mut self, group: usize) -> Result<ParquetRecordBatchReader, DataError> {
        let bytes = self.fetch(group).await?;
        let open = self.state.as_ref().expect("it was opened");
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(bytes, open.metadata.clone());
        let reader = reader.with_batch_size(limits::BATCH_ROWS).with_row_groups(vec![group]).build();
        reader.map_err(|source| self.failed(source))
    }

    fn sorted(&self, batch: &RecordBatch) -> Result<Sorted, DataError> {
        let open = self.state.as_ref().expect("it was opened");
        let columns = (open.columns.iter().zip(&self.shape.schema.columns))
            .map(|(column, now)| column.read(batch, &now.data_type.0))
            .collect::<Result<Vec<_>, _>>()?;
        let keys = self.shape.keys(&columns, batch.num_rows())?;
        let own = batch.columns();
        let (after, upto) = (&self.bounds.after, &self.bounds.upto);
        let first = after.as_ref().map_or(0, |after| keys.seek_after(0, Key::of(after)));
        let end = upto.as_ref().map_or(keys.len(), |upto| keys.seek_after(first, Key::of(upto)));
        if end - first < batch.num_rows() {
            let cut: Vec<ArrayRef> = columns.iter().map(|c| c.slice(first, end - first)).collect();
            let keys = self.shape.keys(&cut, end - first)?;
            let own: Vec<ArrayRef> = own.iter().map(|c| c.slice(first, end - first)).collect();
            return Ok(self.versioned(cut, keys, &own));
        }
        Ok(self.versioned(columns, keys, own))
    }

    fn versioned(&self, columns: Vec<ArrayRef>, keys: Keys, file: &[ArrayRef]) -> Sorted {
        let own = |back: usize| &file[file.len() - back];
        let long = |back: usize| own(back).as_primitive::<Int64Type>().values().clone();
        let timeline = || own(2).as_primitive::<Int32Type>().values().clone();
        let versions = match self.file.layout {
            Layout::Base => Versions::Base(self.file.at),
            Layout::Run => Versions::Run(timeline(), own(3).as_primitive::<Int8Type>().values().clone()),
            Layout::CountedRun => Versions::Counted(timeline(), long(3)),
        };
        Sorted { columns, keys, scn: long(1), versions }
    }
}

impl Column {
    fn read(&self, batch: &RecordBatch, now: &arrow_schema::DataType) -> Result<ArrayRef, ArrowError> {
        match self {
            Column::Same(place) => Ok(Arc::clone(batch.column(*place))),
            Column::Widened(place, then) => {
                Ok(to_stored(&widen(&from_stored(batch.column(*place), then)?, now)?))
            }
            Column::Missing => Ok(new_null_array(&stored_type(now), batch.num_rows())),
        }
    }
}

/// A stretch of a file, in memory.
struct GroupBytes {
    start: u64,
    bytes: Bytes,
    length: u64,
}

impl GroupBytes {
    fn slice(&self, start: u64, length: Option<usize>) -> parquet::errors::Result<Bytes> {
        let from = start.checked_sub(self.start).map(|from| from as usize);
        let to = |from: usize| length.map_or(self.bytes.len(), |length| from.saturating_add(length));
        match from.map(|from| (from, to(from))) {
            Some((from, to)) if from <= to && to <= self.bytes.len() => Ok(self.bytes.slice(from..to)),
            _ => Err(ParquetError::EOF("a page lies outside of its row group".to_owned())),
        }
    }
}

impl Length for GroupBytes {
    fn len(&self) -> u64 {
        self.length
    }
}

impl ChunkReader for GroupBytes {
    type T = Box<dyn Read>;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Self::T> {
        Ok(Box::new(self.slice(start, None)?.reader()))
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        self.slice(start, Some(length))
    }
}
