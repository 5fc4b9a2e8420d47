//! The paths, what each of them needs, and what holds for all of them. What a path answers is elsewhere.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequestParts, MatchedPath, Path, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use http::request::Parts;
use http::{Method, Request};
use serde::de::DeserializeOwned;

use super::accept::Peer;
use super::ask::Parameters;
use super::caller::Caller;
use super::{Server, admin, catalogue, changes};
use crate::problem::{Code, Problem};

/// What a path asks of whoever comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Nothing.
    Nothing,
    /// A grant, of whatever.
    Grant,
    /// The right to measure.
    Metrics,
    /// The right to administer.
    Admin,
}

/// One path and method.
pub(crate) struct Route {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) need: Need,
    handler: MethodRouter<Arc<Server>>,
}

/// The paths whose query is read.
const CHANGES: &str = "/v1/sources/{source}/changes";
const BOOTSTRAP: &str = "/v1/sources/{source}/bootstrap";

/// All of them.
pub(crate) fn routes() -> Vec<Route> {
    let reading = |path, need, handler| Route { method: Method::GET, path, need, handler };
    let acting = |path, need, handler| Route { method: Method::POST, path, need, handler };
    vec![
        reading("/v1/sources", Need::Grant, get(catalogue::sources)),
        reading("/v1/sources/{source}", Need::Grant, get(catalogue::source)),
        reading("/v1/sources/{source}/tables", Need::Grant, get(catalogue::tables)),
        reading("/v1/sources/{source}/schemas/{id}", Need::Grant, get(catalogue::schema)),
        reading(CHANGES, Need::Grant, get(changes::changes)),
        acting(CHANGES, Need::Grant, post(changes::changes)),
        reading(BOOTSTRAP, Need::Grant, get(changes::bootstrap)),
        acting(BOOTSTRAP, Need::Grant, post(changes::bootstrap)),
        reading("/v1/openapi.json", Need::Grant, get(admin::openapi)),
        reading("/v1/admin/sources", Need::Admin, get(admin::sources)),
        reading("/v1/admin/subscriptions", Need::Admin, get(admin::subscriptions)),
        acting("/v1/admin/sources/{name}/{action}", Need::Admin, post(admin::set_source)),
        acting("/v1/admin/subscriptions/{name}/{action}", Need::Admin, post(admin::set_subscription)),
        acting("/v1/admin/subscriptions/{name}/verify", Need::Admin, post(admin::compare)),
        acting("/v1/admin/clones/{name}/{action}", Need::Admin, post(admin::set_clone)),
        acting("/v1/admin/shutdown", Need::Admin, post(admin::shutdown)),
        reading("/metrics", Need::Metrics, get(admin::metrics)),
        reading("/healthz", Need::Nothing, get(admin::healthz)),
        reading("/readyz", Need::Nothing, get(admin::readyz)),
    ]
}

/// The paths as a service. Whatever it is asked, it asks who asks first.
pub(crate) fn router(server: Arc<Server>) -> Router {
    let (mut router, mut needs) = (Router::new(), Vec::new());
    for Route { method, path, need, handler } in routes() {
        router = router.route(path, handler);
        needs.push((method, path, need));
    }
    let door = Door { server: Arc::clone(&server), needs: needs.into() };
    router
        .fallback(|| async {
            let detail = "there is no such path; GET /v1/openapi.json for those that there are";
            Problem::new(Code::UnknownPath, detail)
        })
        .method_not_allowed_fallback(|| async {
            let detail = "the path is not for this method; GET /v1/openapi.json for those that it has";
            Problem::new(Code::UnknownMethod, detail)
        })
        .layer(middleware::from_fn_with_state(door, admit))
        .with_state(server)
}

/// Where every request comes in.
#[derive(Clone)]
struct Door {
    server: Arc<Server>,
    needs: Arc<[(Method, &'static str, Need)]>,
}

/// Lets a request through to its path, in time, and counts it.
async fn admit(State(door): State<Door>, mut request: Request<Body>, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let method = request.method().clone();
    let (server, need) = (&door.server, door.need(path.as_deref(), &method));
    let answer = match check(server, path.as_deref(), need, &mut request) {
        Ok(()) => tokio::time::timeout(server.limits.request_time, next.run(request)).await,
        Err(problem) => {
            server.metrics.refused(problem.code.text());
            Ok(problem.into_response())
        }
    };
    let response = answer.unwrap_or_else(|_| {
        let detail =
            "the request took longer than this relay waits; send it faster, ask for less, or ask again later";
        Problem::new(Code::TooSlow, detail).into_response()
    });
    let route = path.as_deref().unwrap_or("other");
    let status = response.status();
    let code = response.extensions().get::<Code>().map_or(status.as_str(), |code| code.text());
    server.metrics.answered(route, code);
    tracing::debug!(%method, route, code, "request");
    response
}

/// What every request must be before anything of it is looked at.
fn check(
    server: &Server,
    path: Option<&str>,
    need: Need,
    request: &mut Request<Body>,
) -> Result<(), Problem> {
    let peer = request.extensions().get::<Arc<Peer>>().cloned();
    if peer.as_ref().is_some_and(|peer| peer.is_surplus) {
        let detail = "this relay has all the connections that it takes; ask another relay, or later";
        return Err(Problem::new(Code::TooMany, detail));
    }
    server.guard.check_host(request.uri(), request.headers())?;
    check_size(request, server.limits.header_bytes)?;
    let names = peer.as_ref().map_or(&[][..], |peer| &peer.names);
    let caller = server.guard.caller(request.headers(), names);
    if need == Need::Nothing {
        request.extensions_mut().extend(caller.ok().map(extension).unwrap_or_default());
        return no_parameters(request);
    }
    let caller = caller.inspect_err(|_| {
        tracing::info!(
            peer = peer.as_ref().map(|peer| peer.address.to_string()),
            "a request was refused: no grant"
        );
    })?;
    if let Some(peer) = &peer {
        peer.is_known.store(true, Ordering::Relaxed);
    }
    let may = match need {
        Need::Admin => caller.administers(),
        Need::Metrics => caller.measures(),
        Need::Grant | Need::Nothing => true,
    };
    if !may {
        let what = if need == Need::Admin { "admin" } else { "metrics" };
        let detail = format!("the grant \"{}\" does not hold `{what}`; use one that does", caller.name());
        return Err(Problem::new(Code::NotGranted, detail));
    }
    request.extensions_mut().insert(caller);
    match path {
        Some(CHANGES | BOOTSTRAP) => server.check_going_on(),
        _ => no_parameters(request),
    }
}

fn extension(caller: Caller) -> http::Extensions {
    let mut extensions = http::Extensions::new();
    extensions.insert(caller);
    extensions
}

impl Door {
    /// An unknown path needs a grant too: a stranger does not even learn what there is not.
    fn need(&self, path: Option<&str>, method: &Method) -> Need {
        let method = if *method == Method::HEAD { &Method::GET } else { method };
        let found = self.needs.iter().find(|(of, at, _)| of == method && Some(*at) == path);
        found.map_or(Need::Grant, |(_, _, need)| *need)
    }
}

fn check_size(request: &Request<Body>, max: usize) -> Result<(), Problem> {
    let path = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
    let headers = request.headers().iter();
    let bytes = headers.fold(path, |sum, (name, value)| sum + name.as_str().len() + value.len());
    match bytes <= max {
        true => Ok(()),
        false => Err(Problem::new(
            Code::TooLarge,
            format!(
                "the path and headers have more than {max} bytes; POST a long checkpoint as JSON instead"
            ),
        )),
    }
}

fn no_parameters(request: &Request<Body>) -> Result<(), Problem> {
    let mut parameters = Parameters::default();
    parameters.add_query(request.uri().query().unwrap_or_default())?;
    parameters.finish(&[])
}

/// Whoever gets through to a path is known; a path that forgets its need answers nobody.
impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Caller, Problem> {
        let caller = parts.extensions.get::<Caller>().cloned();
        caller.ok_or_else(|| Problem::new(Code::Unauthenticated, "the request shows no credentials"))
    }
}

/// The variable parts of a path.
pub(crate) struct Place<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Place<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Place<T>, Problem> {
        let path = Path::<T>::from_request_parts(parts, state).await;
        path.map(|Path(path)| Place(path)).map_err(|_| {
            Problem::new(Code::UnknownPath, "the path is not percent-encoded UTF-8; encode it so")
        })
    }
}
