//! Tables as a clone reads them, for comparing with what the log gave.

use std::sync::Arc;

use arrow_array::RecordBatch;
use tidemill_event::TableName;
use tidemill_fetchers_api::FetchError;
use tidemill_fetchers_api::conformance::Seen;
use tidemill_fetchers_api::extract::{
    Bound, ChunkMarks, ChunkRead, Condition, Extract, ExtractSession, SourceTable,
};
use tidemill_fetchers_mysql::{MySqlExtract, MySqlSession, Password, ServerOptions, Settings};
use tidemill_servers::Server;

use super::differential::schemas;
use super::{Replica, all, text};

/// With the account that a pipeline has.
pub fn extract(server: &Server, settings: &Settings) -> MySqlExtract {
    let password = Password::new(server.user_password());
    MySqlExtract::new(ServerOptions::new("127.0.0.1", server.port(), Server::USER, password), settings)
}

/// The table, which is there.
pub async fn describe(extract: &MySqlExtract, table: &str) -> SourceTable {
    let name = TableName::new("d", table);
    extract.describe(&name).await.unwrap_or_else(|e| panic!("{table}: {e}")).expect("the table is there")
}

/// What is read of a table, of all its columns where nothing else is said.
pub struct Part<'a> {
    pub after: Option<&'a Bound>,
    pub upto: Option<&'a Bound>,
    pub conditions: &'a [Condition],
    pub sorted: bool,
}

/// All of it, in no order.
pub const WHOLE: Part<'static> = Part { after: None, upto: None, conditions: &[], sorted: false };

pub async fn read(
    session: &mut MySqlSession,
    table: &SourceTable,
    part: &Part<'_>,
) -> Result<(Vec<RecordBatch>, ChunkMarks), FetchError> {
    let columns: Vec<u32> = (0..table.schema.columns().len() as u32).collect();
    let Part { after, upto, conditions, sorted } = *part;
    let chunk = ChunkRead { table, columns: &columns, conditions, after, upto };
    let mut batches = Vec::new();
    let mut give = |batch| {
        batches.push(batch);
        true
    };
    let marks = match sorted {
        true => session.read_sorted(&chunk, &mut give).await?,
        false => session.read(&chunk, &mut give).await?,
    };
    Ok((batches, marks))
}

/// Rows as texts, in the order in which they came.
pub fn texts(batches: &[RecordBatch], table: &SourceTable) -> Vec<Vec<String>> {
    let columns = table.schema.columns();
    let rows = batches.iter().flat_map(|batch| (0..batch.num_rows()).map(move |row| (batch, row)));
    rows.map(|(batch, row)| {
        let values = columns.iter().enumerate();
        values.map(|(at, column)| text(batch, at, row, &column.source_type)).collect()
    })
    .collect()
}

/// Every table of database `d` that can be copied has the schema and the rows that the log has.
pub async fn same_as_log(server: &Server, seen: &Seen) {
    let (replica, schemas) = (Replica::of(seen), schemas(seen));
    let extract = extract(server, &Settings::from(all()));
    let mut session = extract.open().await.unwrap();
    for name in extract.tables().await.unwrap().into_iter().filter(|name| name.database == "d") {
        let table = match extract.describe(&name).await {
            Ok(table) => table.expect("it is listed"),
            Err(error) if error.to_string().contains("DROP SYSTEM VERSIONING") => continue,
            Err(error) => panic!("{} {name}: {error}", server.kind()),
        };
        let logged = &schemas[&name.to_string()];
        assert_eq!(&table.schema, logged, "{} {name}", server.kind());
        assert_eq!(table.schema.id(), logged.id());
        let (batches, _) = read(&mut session, &table, &WHOLE).await.unwrap();
        assert!(batches.iter().all(|batch| Arc::clone(batch.schema_ref()) == *logged.arrow()));
        let mut ours = texts(&batches, &table);
        ours.sort();
        let columns: Vec<String> = logged.columns().iter().map(|c| c.name.clone()).collect();
        let theirs = replica.table(&name.to_string(), &columns, &[]);
        assert_eq!(ours.len(), theirs.len(), "{} {name}: the number of rows", server.kind());
        for (ours, theirs) in ours.iter().zip(&theirs) {
            for ((ours, theirs), column) in ours.iter().zip(theirs).zip(logged.columns()) {
                assert!(
                    ours == theirs,
                    "{} {name}.{}: read {ours:.80} logged {theirs:.80}",
                    server.kind(),
                    column.name
                );
            }
        }
    }
}
