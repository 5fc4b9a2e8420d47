//! Writes one sorted Parquet file, group by group: memory holds a row group and what is not uploaded yet.

use std::collections::HashSet;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, SchemaRef};
use bytes::Bytes;
use object_store::{MultipartUpload, ObjectStoreExt, PutPayload};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use super::key::{KEY_ENCODING, Keys, hex};
use super::layout::{Layout, META_KEY_ENCODING, META_LAST_KEYS, META_SCHEMA, key_places};
use super::mapping::from_stored;
use crate::limits::{PAGE_BYTES, PART_BYTES};
use crate::{DataError, ObjectRef, Store, StoredSchema, TableKey};

/// Bytes of the values in statistics.
const STATISTICS_BYTES: usize = 64;
/// Rows that tell whether a column is worth a dictionary.
const SAMPLE_ROWS: usize = 1024;

/// A file that is written.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) object: ObjectRef,
    pub(crate) rows: u64,
    pub(crate) first_key: String,
    pub(crate) last_key: String,
}

/// How a file is written: the same for all files of a table.
#[derive(Debug)]
pub(crate) struct FileShape {
    pub(crate) schema: StoredSchema,
    pub(crate) key: TableKey,
    pub(crate) arrow: SchemaRef,
    pub(crate) row_group_rows: usize,
}

/// A file in the making.
pub(crate) struct FileWriter {
    shape: Arc<FileShape>,
    upload: Upload,
    writer: ArrowWriter<Vec<u8>>,
    rows: u64,
    first_key: String,
    last_key: String,
    last_keys: Vec<String>,
}

impl FileShape {
    pub(crate) fn new(
        layout: Layout,
        schema: &StoredSchema,
        key: &TableKey,
        row_group_rows: usize,
    ) -> Arc<FileShape> {
        let arrow = layout.schema(schema, key);
        Arc::new(FileShape { schema: schema.clone(), key: key.clone(), arrow, row_group_rows })
    }

    fn properties(&self, sample: &RecordBatch) -> WriterProperties {
        let places = key_places(&self.schema, &self.key);
        let sorted = places.iter().take_while(|place| {
            let data_type = &self.schema.columns[**place].data_type.0;
            // Parquet orders neither texts of numbers nor NaN as we do.
            !matches!(data_type, DataType::Decimal256(..) | DataType::Float32 | DataType::Float64)
        });
        let sorted = sorted.map(|place| SortingColumn {
            column_idx: *place as i32,
            descending: false,
            nulls_first: true,
        });
        let schema = serde_json::to_string(&self.schema).expect("a schema is plain data");
        let mut properties = WriterProperties::builder()
            .set_created_by(concat!("tidemill ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(1).expect("1 is a level")))
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_statistics_truncate_length(Some(STATISTICS_BYTES))
            .set_column_index_truncate_length(Some(STATISTICS_BYTES))
            .set_max_row_group_row_count(None)
            .set_data_page_size_limit(PAGE_BYTES)
            .set_sorting_columns(Some(sorted.collect()))
            .set_key_value_metadata(Some(vec![
                KeyValue::new(META_SCHEMA.to_owned(), schema),
                KeyValue::new(META_KEY_ENCODING.to_owned(), KEY_ENCODING.to_owned()),
            ]));
        for (place, (field, column)) in self.arrow.fields().iter().zip(sample.columns()).enumerate() {
            let path = ColumnPath::new(vec![field.name().clone()]);
            let is_paged = place >= self.schema.columns.len() || places.contains(&place);
            if is_paged && self.key != TableKey::WholeRow {
                properties = properties.set_column_statistics_enabled(path.clone(), EnabledStatistics::Page);
            }
            if !is_repetitive(column) {
                properties = properties.set_column_dictionary_enabled(path, false);
            }
        }
        properties.build()
    }
}

/// Whether a dictionary is likely to pay: half of a sample's values came before.
fn is_repetitive(column: &ArrayRef) -> bool {
    let column = column.slice(0, column.len().min(SAMPLE_ROWS));
    // The stored types are of the stream's set, so that keys tell values apart.
    let Ok(column) = from_stored(&column, &column.data_type().clone()) else { return true };
    let rows = column.len();
    let keys = Keys::new(&[column], rows);
    let distinct: HashSet<Vec<u8>> = (0..keys.len()).map(|row| keys.bytes(row)).collect();
    distinct.len() * 2 <= keys.len()
}

impl FileWriter {
    /// A file of that path, with its first rows. `keys` are the first and the last key of the rows.
    pub(crate) async fn open(
        store: &Store,
        path: String,
        shape: &Arc<FileShape>,
        rows: &RecordBatch,
        keys: (&[u8], &[u8]),
    ) -> Result<FileWriter, DataError> {
        let writer = ArrowWriter::try_new(Vec::new(), Arc::clone(&shape.arrow), Some(shape.properties(rows)));
        let writer = writer.map_err(|source| DataError::Parquet { path: path.clone(), source })?;
        let upload = Upload { store: store.clone(), path, multipart: None, bytes: 0, crc32c: 0 };
        let mut file = FileWriter {
            shape: Arc::clone(shape),
            upload,
            writer,
            rows: 0,
            first_key: hex(keys.0),
            last_key: String::new(),
            last_keys: vec![],
        };
        file.write(rows, keys.1).await?;
        Ok(file)
    }

    /// A file without rows: a directory of none would have no schema.
    pub(crate) async fn empty(
        store: &Store,
        path: String,
        shape: &Arc<FileShape>,
    ) -> Result<FileWriter, DataError> {
        let rows = RecordBatch::new_empty(Arc::clone(&shape.arrow));
        FileWriter::open(store, path, shape, &rows, (&[], &[])).await
    }

    /// Adds rows: columns of the shape, keys after all that came before.
    pub(crate) async fn write(&mut self, rows: &RecordBatch, last_key: &[u8]) -> Result<(), DataError> {
        self.writer.write(rows).map_err(|source| self.upload.failed(source))?;
        self.rows += rows.num_rows() as u64;
        self.last_key = hex(last_key);
        if self.writer.in_progress_rows() >= self.shape.row_group_rows {
            self.close_group().await?;
        }
        // Encoding is long work: others get their turn.
        tokio::task::yield_now().await;
        Ok(())
    }

    async fn close_group(&mut self) -> Result<(), DataError> {
        if self.writer.in_progress_rows() > 0 {
            self.writer.flush().map_err(|source| self.upload.failed(source))?;
            self.last_keys.push(self.last_key.clone());
        }
        match self.writer.inner().len() {
            0..PART_BYTES => Ok(()),
            _ => self.upload.part(std::mem::take(self.writer.inner_mut())).await,
        }
    }

    /// Compressed bytes so far, about.
    pub(crate) fn bytes(&self) -> u64 {
        (self.writer.bytes_written() + self.writer.in_progress_size()) as u64
    }

    /// Writes the footer and completes the object.
    pub(crate) async fn finish(mut self) -> Result<Written, DataError> {
        self.close_group().await?;
        let last_keys = KeyValue::new(META_LAST_KEYS.to_owned(), self.last_keys.join(" "));
        self.writer.append_key_value_metadata(last_keys);
        let rest = self.writer.into_inner().map_err(|source| self.upload.failed(source))?;
        let object = self.upload.finish(rest).await?;
        Ok(Written { object, rows: self.rows, first_key: self.first_key, last_key: self.last_key })
    }
}

/// The object of a file: put whole where it is small, in parts where it is not.
struct Upload {
    store: Store,
    path: String,
    multipart: Option<Box<dyn MultipartUpload>>,
    bytes: u64,
    crc32c: u32,
}

impl Upload {
    fn failed(&self, source: ParquetError) -> DataError {
        DataError::Parquet { path: self.path.clone(), source }
    }

    /// What is left of a failed upload costs space until the store's own clean-up; its error is what matters.
    async fn call_failed(&mut self, source: object_store::Error) -> DataError {
        if let Some(mut multipart) = self.multipart.take() {
            let _ = multipart.abort().await;
        }
        self.store.failed("upload", &self.path)(source).into()
    }

    async fn part(&mut self, bytes: Vec<u8>) -> Result<(), DataError> {
        self.bytes += bytes.len() as u64;
        self.crc32c = crc32c::crc32c_append(self.crc32c, &bytes);
        let put = async {
            if self.multipart.is_none() {
                let path = self.store.path(&self.path);
                self.multipart = Some(self.store.objects().put_multipart(&path).await?);
            }
            let multipart = self.multipart.as_mut().expect("it was begun");
            multipart.put_part(PutPayload::from(bytes)).await
        };
        match put.await {
            Ok(()) => Ok(()),
            Err(source) => Err(self.call_failed(source).await),
        }
    }

    async fn finish(mut self, rest: Vec<u8>) -> Result<ObjectRef, DataError> {
        if self.multipart.is_none() {
            return Ok(self.store.put(&self.path, Bytes::from(rest)).await?);
        }
        self.part(rest).await?;
        let multipart = self.multipart.as_mut().expect("it was begun");
        match multipart.complete().await {
            Ok(_) => Ok(ObjectRef { path: self.path, bytes: self.bytes, crc32c: self.crc32c }),
            Err(source) => Err(self.call_failed(source).await),
        }
    }
}
