//! `changes` and `bootstrap`: from the request to a stream that is open, and what is said of it when it ends. What is in it is the
//! answer's.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::Server;
use super::ask::{self, Parameters, bad};
use super::caller::Caller;
use super::routes::Place;
use super::subscribers::{Full, Seat, Subscriber};
use crate::answer::{Answer, Meter};
use crate::problem::{Code, Problem};

/// `GET|POST /v1/sources/{source}/changes`
pub(crate) async fn changes(
    State(server): State<Arc<Server>>,
    caller: Caller,
    Place(name): Place<String>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let served = server.source(&caller, &name)?;
    let (parameters, headers) = parameters(&server, request).await?;
    let request = ask::read(parameters, &headers, &caller, &*server.guests)?;
    let (asked, from, meter) = (request.asked, request.from, Meter::default());
    let subscriber = Subscriber {
        grant: caller.name().to_owned(),
        name: request.name,
        source: name,
        format: asked.format,
        label: server.metrics.label(&asked.subscriber),
        meter: meter.clone(),
    };
    let seat = enter(&server, subscriber)?;
    let stop = server.ending.subscribe();
    let answer = server.answers.open(served, asked, request.encoding, meter, stop).await?;
    Ok(streamed(answer, seat, from))
}

/// `GET|POST /v1/sources/{source}/bootstrap`
pub(crate) async fn bootstrap(
    State(server): State<Arc<Server>>,
    caller: Caller,
    Place(name): Place<String>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let served = server.snapshots(&caller, &name)?;
    let (parameters, headers) = parameters(&server, request).await?;
    let request = ask::read_snapshot(parameters, &headers, &caller, &*server.guests)?;
    let (wanted, meter) = (request.wanted, Meter::default());
    let from = if wanted.have.is_some() { "checkpoint" } else { "snapshot" };
    let subscriber = Subscriber {
        grant: caller.name().to_owned(),
        name: request.name,
        source: name,
        format: wanted.format,
        label: server.metrics.label(&wanted.subscriber),
        meter: meter.clone(),
    };
    let seat = enter(&server, subscriber)?;
    let stop = server.ending.subscribe();
    let answer = server.answers.open_snapshot(served, wanted, request.encoding, meter, stop).await?;
    Ok(streamed(answer, seat, from.to_owned()))
}

/// Query and body.
async fn parameters(server: &Server, request: Request<Body>) -> Result<(Parameters, HeaderMap), Problem> {
    let (parts, body) = request.into_parts();
    let mut parameters = Parameters::default();
    parameters.add_query(parts.uri.query().unwrap_or_default())?;
    if parts.method == http::Method::POST {
        parameters.add_json(&read_body(&parts.headers, body, server.limits.request_bytes).await?)?;
    }
    Ok((parameters, parts.headers))
}

fn streamed(answer: Answer, seat: Seat, from: String) -> Response {
    let subscriber = &seat.subscriber;
    tracing::info!(
        subscriber = subscriber.label, source = subscriber.source, format = ?subscriber.format, from,
        "subscription opened"
    );
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::OK;
    *response.headers_mut() = answer.headers();
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, http::HeaderValue::from_static("nosniff"));
    *response.body_mut() = Body::new(Stream { answer, seat, end: End::Cut });
    response
}

fn enter(server: &Server, subscriber: Subscriber) -> Result<Seat, Problem> {
    let limits = &server.limits;
    let entered =
        server.metrics.subscribers.enter(subscriber, limits.subscriptions, limits.subscriptions_per_grant);
    entered.map_err(|full| {
        let (who, max, setting) = match full {
            Full::All => ("this relay", limits.subscriptions, "subscriptions"),
            Full::Grant => ("this grant", limits.subscriptions_per_grant, "subscriptions_per_grant"),
        };
        let detail = format!(
            "{who} has {max} streams open, and no more are allowed; end one, ask another relay, or raise `{setting}` \
             of `[relay.limits]`"
        );
        Problem::new(Code::TooMany, detail)
    })
}

/// The JSON of a request that has some.
pub(super) async fn read_body(headers: &HeaderMap, body: Body, max: usize) -> Result<Bytes, Problem> {
    let content_type =
        headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        return Err(bad(
            "the parameters of a POST are a JSON object; send them as `Content-Type: application/json`",
        ));
    }
    let too_large = || {
        let detail = format!(
            "the body has more than {max} bytes; ask for less, or raise `request` of `[relay.limits]`"
        );
        Problem::new(Code::TooLarge, detail)
    };
    if body.size_hint().lower() > max as u64 {
        return Err(too_large());
    }
    match Limited::new(body, max).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
        Err(_) => Err(bad("the body ended before its end; send it again")),
    }
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Whole: everything that was asked for, or the relay stops.
    Whole,
    /// An error broke it off.
    Failed(Code),
    /// The subscriber went away, or took nothing for too long.
    Cut,
}

/// An answer on its way, and the subscriber's seat for as long.
struct Stream {
    answer: Answer,
    seat: Seat,
    end: End,
}

impl http_body::Body for Stream {
    type Data = Bytes;
    type Error = Problem;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Problem>>> {
        let polled = Pin::new(&mut self.answer).poll_frame(context);
        match &polled {
            Poll::Ready(None) => self.end = End::Whole,
            Poll::Ready(Some(Ok(frame))) if frame.is_trailers() => self.end = End::Whole,
            Poll::Ready(Some(Err(problem))) => self.end = End::Failed(problem.code),
            _ => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.answer.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.answer.size_hint()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let subscriber = &self.seat.subscriber;
        let given = subscriber.meter.read();
        let position = given.position.map(|position| position.to_string());
        tracing::info!(
            subscriber = subscriber.label, source = subscriber.source, end = ?self.end, position,
            bytes = given.bytes, transactions = given.transactions,
            "subscription ended"
        );
    }
}
