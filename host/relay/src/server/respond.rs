//! Answers that are made whole before they are sent: JSON, text, and problems.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::Value;

use crate::problem::{Code, Problem};

/// JSON with a status.
pub(crate) fn json(status: StatusCode, value: &Value) -> Response {
    whole(status, "application/json", value.to_string())
}

/// One line of text with a status.
pub(crate) fn word(status: StatusCode, word: &str) -> Response {
    whole(status, "text/plain; charset=utf-8", format!("{word}\n"))
}

/// Any body with its type. Nobody keeps it: what it says is of now.
pub(crate) fn whole(status: StatusCode, content_type: &'static str, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // A browser that is shown it by somebody does not take it for a page.
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, body) = (self.code.status(), self.json().to_string());
        let mut response = whole(status, "application/problem+json", body);
        let headers = response.headers_mut();
        match self.code {
            Code::Unauthenticated => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            // Seconds. A restart or a place that becomes free takes about as long.
            Code::TooMany | Code::ShuttingDown => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response.extensions_mut().insert(self.code);
        response
    }
}
