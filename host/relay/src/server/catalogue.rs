//! What there is to subscribe to: sources, their tables, and schemas by id. Whoever asks sees what is granted, and learns
//! of nothing else.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};
use tidemill_event::{SchemaId, Sensitivity, TableSchema, chain};
use tidemill_log::ReadError;

use super::ask::{encode_checkpoint, shown};
use super::caller::Caller;
use super::routes::Place;
use super::{Server, respond};
use crate::format::instant_text;
use crate::problem::{Code, Problem};
use crate::served::Served;

/// `GET /v1/sources`
pub(crate) async fn sources(State(server): State<Arc<Server>>, caller: Caller) -> Response {
    let granted = server.served.iter().filter(|served| caller.reads(&served.name));
    let all: Vec<Value> = granted.map(described).collect();
    respond::json(StatusCode::OK, &json!({ "sources": all }))
}

/// `GET /v1/sources/{source}`
pub(crate) async fn source(
    State(server): State<Arc<Server>>,
    caller: Caller,
    Place(name): Place<String>,
) -> Result<Response, Problem> {
    Ok(respond::json(StatusCode::OK, &described(server.source(&caller, &name)?)))
}

/// `GET /v1/sources/{source}/tables`
pub(crate) async fn tables(
    State(server): State<Arc<Server>>,
    caller: Caller,
    Place(name): Place<String>,
) -> Result<Response, Problem> {
    let schemas = server.source(&caller, &name)?.log.schemas().await.map_err(unreadable)?;
    let granted = schemas.iter().filter(|schema| caller.shows(schema.name()));
    let all: Vec<Value> = granted.map(|schema| table(schema)).collect();
    Ok(respond::json(StatusCode::OK, &json!({ "tables": all })))
}

/// `GET /v1/sources/{source}/schemas/{id}`
pub(crate) async fn schema(
    State(server): State<Arc<Server>>,
    caller: Caller,
    Place((name, id)): Place<(String, String)>,
) -> Result<Response, Problem> {
    let served = server.source(&caller, &name)?;
    let unknown = || {
        let detail = format!(
            "the source has no schema {}; ids have 16 hexadecimal digits, and GET its `tables` for the newest ones",
            shown(&id)
        );
        Problem::new(Code::UnknownSchema, detail)
    };
    let number = u64::from_str_radix(&id, 16).ok().filter(|_| id.len() == 16).ok_or_else(unknown)?;
    let found = served.log.schema(SchemaId(number)).await.map_err(unreadable)?;
    let found = found.filter(|schema| caller.shows(schema.name())).ok_or_else(unknown)?;
    Ok(respond::json(StatusCode::OK, &table(&found)))
}

/// Files and places are the operator's business: they are in the log, not in the answer.
fn unreadable(error: ReadError) -> Problem {
    tracing::warn!(error = %chain(&error), "a log cannot be read");
    Problem::new(
        Code::Storage,
        "the log cannot be read; ask again, or another relay; this relay's log says why",
    )
}

fn described(served: &Served) -> Value {
    let stats = served.log.stats();
    let timelines = served.log.timelines();
    let timelines: Vec<Value> =
        timelines.iter().map(|t| json!({ "number": t.number, "server": &*t.server })).collect();
    json!({
        "name": served.name,
        "timelines": timelines,
        "earliest": stats.earliest.map(|position| position.to_string()),
        "latest": stats.latest.map(|position| position.to_string()),
        "durable": stats.durable.map(|position| position.to_string()),
        "earliest_time": stats.earliest_time_us.map(instant_text),
        "latest_time": stats.latest_time_us.map(instant_text),
        "checkpoint": served.log.checkpoint().map(|checkpoint| encode_checkpoint(&checkpoint)),
    })
}

fn table(schema: &TableSchema) -> Value {
    let columns = schema.columns();
    let described: Vec<Value> = columns
        .iter()
        .map(|column| {
            json!({
                "name": column.name,
                "type": column.data_type.to_string(),
                "source_type": column.source_type,
                "nullable": column.nullable,
                "sensitivity": match column.sensitivity {
                    Sensitivity::Unmarked => "unmarked",
                    Sensitivity::Personal => "personal",
                    Sensitivity::Pseudonym => "pseudonym",
                },
            })
        })
        .collect();
    let key: Vec<&str> = schema.key().iter().map(|ordinal| &*columns[*ordinal as usize].name).collect();
    json!({
        "name": schema.name().to_string(),
        "database": schema.name().database,
        "table": schema.name().table,
        "schema": schema.id().to_string(),
        "columns": described,
        "key": key,
    })
}
