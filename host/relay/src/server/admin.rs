//! What operators do and look at: sources and subscriptions, health, metrics, the interface's own description. What is
//! behind it is the process's, see [`Operator`](super::Operator).

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{Extensions, Request, StatusCode};
use serde_json::{Value, json};
use tidemill_event::Position;

use super::ask::bad;
use super::caller::Caller;
use super::changes::read_body;
use super::lag;
use super::operator::{
    ComparisonAsked, Health, OperateError, OperatedPart, SourceStatus, SubscriptionStatus,
};
use super::routes::Place;
use super::{Server, respond};
use crate::problem::{Code, Problem};

/// The interface, for programs that read such descriptions.
pub(crate) const OPENAPI: &str = include_str!("../../openapi.json");

/// `GET /v1/openapi.json`
pub(crate) async fn openapi(_: Caller) -> Response {
    respond::whole(StatusCode::OK, "application/json", OPENAPI.to_owned())
}

/// `GET /metrics`
pub(crate) async fn metrics(State(server): State<Arc<Server>>, _: Caller) -> Response {
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    respond::whole(StatusCode::OK, content_type, server.operator.metrics())
}

/// `GET /healthz`
pub(crate) async fn healthz(
    State(server): State<Arc<Server>>,
    request: Request<axum::body::Body>,
) -> Response {
    health(&server.operator.health(), ["healthy", "unhealthy"], request.extensions())
}

/// `GET /readyz`. A relay that goes down takes nobody new.
pub(crate) async fn readyz(
    State(server): State<Arc<Server>>,
    request: Request<axum::body::Body>,
) -> Response {
    let mut parts = server.operator.ready();
    if *server.ending.borrow() {
        let why = Some("it is going down".to_owned());
        parts.push(Health { name: "relay".to_owned(), healthy: false, why });
    }
    health(&parts, ["ready", "not ready"], request.extensions())
}

/// One word for everybody, the details for those who may see them.
fn health(parts: &[Health], words: [&str; 2], extensions: &Extensions) -> Response {
    let is_well = parts.iter().all(|part| part.healthy);
    let (status, word) = match is_well {
        true => (StatusCode::OK, words[0]),
        false => (StatusCode::SERVICE_UNAVAILABLE, words[1]),
    };
    if !extensions.get::<Caller>().is_some_and(Caller::measures) {
        return respond::word(status, word);
    }
    let part = |part: &Health| json!({ "name": part.name, "healthy": part.healthy, "why": part.why });
    let parts: Vec<Value> = parts.iter().map(part).collect();
    respond::json(status, &json!({ "status": word, "parts": parts }))
}

/// `GET /v1/admin/sources`
pub(crate) async fn sources(State(server): State<Arc<Server>>, _: Caller) -> Response {
    let all: Vec<Value> = server.operator.sources().iter().map(source).collect();
    respond::json(StatusCode::OK, &json!({ "sources": all }))
}

/// `GET /v1/admin/subscriptions`: those of this process, and the streams of remote subscribers.
pub(crate) async fn subscriptions(State(server): State<Arc<Server>>, _: Caller) -> Response {
    let own: Vec<Value> = server.operator.subscriptions().iter().map(subscription).collect();
    let (open, now_us) = (server.metrics.subscribers.open(), lag::now_us());
    let stream = |subscriber: &Arc<super::subscribers::Subscriber>| {
        let given = subscriber.meter.read();
        let served = server.served.iter().find(|served| served.name == subscriber.source);
        let lag = served.and_then(|served| lag::behind(subscriber, &served.log.stats(), now_us));
        json!({
            "grant": subscriber.grant,
            "name": subscriber.name,
            "source": subscriber.source,
            "format": subscriber.format.content_type(),
            "position": text(given.position),
            "bytes": given.bytes,
            "transactions": given.transactions,
            "lag_seconds": lag.map(|lag| lag.seconds),
        })
    };
    let remote: Vec<Value> = open.iter().map(stream).collect();
    respond::json(StatusCode::OK, &json!({ "subscriptions": own, "streams": remote }))
}

/// `POST /v1/admin/sources/{name}/pause|resume`
pub(crate) async fn set_source(
    State(server): State<Arc<Server>>,
    caller: Caller,
    Place((name, action)): Place<(String, String)>,
) -> Result<Response, Problem> {
    set(&server, &caller, OperatedPart::Source, &name, &action).await
}

/// `POST /v1/admin/subscriptions/{name}/pause|resume`
pub(crate) async fn set_subscription(
    State(server): State<Arc<Server>>,
    caller: Caller,
    Place((name, action)): Place<(String, String)>,
) -> Result<Response, Problem> {
    set(&server, &caller, OperatedPart::Subscription, &name, &action).await
}

/// `POST /v1/admin/clones/{name}/pause|resume`
pub(crate) async fn set_clone(
    State(server): State<Arc<Server>>,
    caller: Caller,
    Place((name, action)): Place<(String, String)>,
) -> Result<Response, Problem> {
    set(&server, &caller, OperatedPart::Clone, &name, &action).await
}

async fn set(
    server: &Server,
    caller: &Caller,
    part: OperatedPart,
    name: &str,
    action: &str,
) -> Result<Response, Problem> {
    let paused = match action {
        "pause" => true,
        "resume" => false,
        _ => {
            return Err(Problem::new(
                Code::UnknownPath,
                "give `pause` or `resume` as the last part of the path",
            ));
        }
    };
    server.operator.set_paused(part, name, paused).await.map_err(|error| refused(&error))?;
    tracing::info!(by = caller.name(), %part, name, action, "operated");
    Ok(respond::json(StatusCode::OK, &json!({ "name": name, "paused": paused })))
}

fn refused(error: &OperateError) -> Problem {
    let code = match error {
        OperateError::Refused(_) => Code::Refused,
        OperateError::NotFound { part: OperatedPart::Source | OperatedPart::Clone, .. } => {
            Code::UnknownSource
        }
        OperateError::NotFound { part: OperatedPart::Subscription, .. } => Code::UnknownSubscription,
    };
    Problem::new(code, error.to_string())
}

/// `POST /v1/admin/subscriptions/{name}/verify`: a line of JSON a table, each when it was compared. Whoever goes away ends it.
pub(crate) async fn compare(
    State(server): State<Arc<Server>>,
    caller: Caller,
    Place(name): Place<String>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    let body = read_body(&head.headers, body, server.limits.request_bytes).await?;
    let asked: ComparisonAsked = serde_json::from_slice(&body).map_err(|error| {
        bad(format!("the body: {error}; give `tables`, `map` and `patience_seconds`, or {{}} for all tables"))
    })?;
    let reports = server.operator.compare(&name, asked).map_err(|error| refused(&error))?;
    tracing::info!(by = caller.name(), name, "a comparison was asked for");
    let ending = server.ending.subscribe();
    let lines = futures_util::stream::unfold((reports, ending), |(mut reports, mut ending)| async move {
        let report = tokio::select! {
            biased;
            _ = ending.wait_for(|ending| *ending) => None,
            report = reports.recv() => report,
        };
        report.map(|report| (Ok::<_, Infallible>(format!("{report}\n")), (reports, ending)))
    });
    let mut response = respond::whole(StatusCode::OK, REPORTS, String::new());
    *response.body_mut() = Body::from_stream(lines);
    Ok(response)
}

/// Lines of JSON.
const REPORTS: &str = "application/x-ndjson";

/// `POST /v1/admin/shutdown`
pub(crate) async fn shutdown(State(server): State<Arc<Server>>, caller: Caller) -> Response {
    tracing::info!(by = caller.name(), "shutdown asked for");
    server.operator.shutdown();
    respond::json(StatusCode::ACCEPTED, &json!({ "shutting_down": true }))
}

fn source(status: &SourceStatus) -> Value {
    json!({
        "name": status.name,
        "activity": status.activity.text(),
        "why": status.why,
        "position": text(status.position),
        "lag_seconds": status.lag_us.map(|lag| lag as f64 / 1e6),
    })
}

fn subscription(status: &SubscriptionStatus) -> Value {
    json!({
        "name": status.name,
        "source": status.source,
        "activity": status.activity.text(),
        "why": status.why,
        "position": text(status.position),
        "lag_seconds": status.lag_us.map(|lag| lag as f64 / 1e6),
    })
}

fn text(position: Option<Position>) -> Option<String> {
    position.map(|position| position.to_string())
}
