//! Who asks, and whether a browser was tricked into asking. What the answer may hold follows from the [`Grant`].

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, Uri, header};
use tidemill_event::TableName;

use crate::asked::TablePattern;
use crate::grant::{Credential, Grant, TokenDigest};
use crate::problem::{Code, Problem};

/// Who asks: somebody with a grant, or, where there are no grants, anybody on this machine.
#[derive(Clone, Debug)]
pub(crate) struct Caller(Option<Arc<Grant>>);

impl Caller {
    /// The name for logs and metrics.
    pub(crate) fn name(&self) -> &str {
        self.0.as_ref().map_or("local", |grant| &grant.name)
    }

    pub(crate) fn reads(&self, source: &str) -> bool {
        self.0.as_ref().is_none_or(|grant| grant.reads(source))
    }

    pub(crate) fn shows(&self, table: &TableName) -> bool {
        self.0.as_ref().is_none_or(|grant| grant.shows(table))
    }

    /// The tables that may be read. Empty: all.
    pub(crate) fn tables(&self) -> &[TablePattern] {
        self.0.as_ref().map_or(&[], |grant| &grant.tables)
    }

    pub(crate) fn administers(&self) -> bool {
        self.0.as_ref().is_none_or(|grant| grant.admin)
    }

    pub(crate) fn measures(&self) -> bool {
        self.0.as_ref().is_none_or(|grant| grant.admin || grant.metrics)
    }
}

/// The list of grants, and what holds for every request.
#[derive(Debug)]
pub(crate) struct Guard {
    grants: Vec<Arc<Grant>>,
}

impl Guard {
    pub(crate) fn new(grants: Vec<Grant>) -> Guard {
        Guard { grants: grants.into_iter().map(Arc::new).collect() }
    }

    /// Whether nobody is asked who they are.
    pub(crate) fn is_open(&self) -> bool {
        self.grants.is_empty()
    }

    /// Who asks. A wrong token is refused even where the certificate would do. `names`: those of the client's verified
    /// certificate.
    pub(crate) fn caller(&self, headers: &HeaderMap, names: &[String]) -> Result<Caller, Problem> {
        if self.is_open() {
            return Ok(Caller(None));
        }
        let found = match bearer(headers)? {
            Some(token) => self.by_token(&TokenDigest::of(token)),
            None => self.by_name(names),
        };
        found.map(|grant| Caller(Some(grant))).ok_or_else(|| {
            let detail = "no grant is for these credentials; send `Authorization: Bearer TOKEN`, or a client certificate \
                          that a grant names";
            Problem::new(Code::Unauthenticated, detail)
        })
    }

    /// Looks at every grant, so that the time does not tell how far a token was from one of them.
    fn by_token(&self, token: &TokenDigest) -> Option<Arc<Grant>> {
        let is_it = |grant: &Grant| matches!(&grant.credential, Credential::Token(known) if known.is(token));
        self.grants.iter().fold(None, |found, grant| is_it(grant).then(|| Arc::clone(grant)).or(found))
    }

    fn by_name(&self, names: &[String]) -> Option<Arc<Grant>> {
        let is_it = |grant: &Grant| matches!(&grant.credential, Credential::Certificate(name) if names.contains(name));
        self.grants.iter().find(|grant| is_it(grant)).map(Arc::clone)
    }

    /// A page of a browser may make its user's machine ask for it: under the page's own name, which it points at this
    /// machine, or from another site. Programs do neither.
    pub(crate) fn check_host(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let host = uri.authority().map(|authority| authority.as_str()).or_else(|| text(header::HOST));
        if self.is_open() && !host.is_some_and(is_local) {
            let detail = "without grants this relay answers requests for 127.0.0.1, [::1] and localhost only; ask by one \
                          of these names, or give the relay `tls` and grants";
            return Err(Problem::new(Code::BadHost, detail));
        }
        let Some(origin) = text(header::ORIGIN) else { return Ok(()) };
        let from = origin.split_once("://").map(|(_, from)| from);
        if from.is_none() || from != host {
            let detail = "a page of another site asks through a browser, which this relay does not answer; ask from a \
                          program, or serve the page from the relay's own address";
            return Err(Problem::new(Code::BadHost, detail));
        }
        Ok(())
    }
}

/// The token that the request shows. No token at all is not an error yet; one that cannot be read is.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let unreadable = || {
        let detail =
            "the `Authorization` header cannot be read; send it once, as `Authorization: Bearer TOKEN`";
        Problem::new(Code::Unauthenticated, detail)
    };
    if headers.get_all(header::AUTHORIZATION).iter().count() > 1 {
        return Err(unreadable());
    }
    let (scheme, token) = value.to_str().ok().and_then(|text| text.split_once(' ')).ok_or_else(unreadable)?;
    match scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() {
        true => Ok(Some(token)),
        false => Err(unreadable()),
    }
}

/// Whether an authority names this machine's own loopback.
fn is_local(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or("", |(host, _)| host),
        None => authority.split_once(':').map_or(authority, |(host, _)| host),
    };
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(all: &[(&'static str, &str)]) -> HeaderMap {
        all.iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    fn guard() -> Guard {
        let grant = |name: &str, credential| Grant {
            name: name.to_owned(),
            credential,
            sources: vec!["shop".to_owned()],
            tables: vec![],
            admin: false,
            metrics: false,
        };
        Guard::new(vec![
            grant("by token", Credential::token("s3cret")),
            grant("by name", Credential::Certificate("reports".to_owned())),
        ])
    }

    fn caller(authorization: Option<&str>, names: &[&str]) -> Result<String, Code> {
        let headers: HeaderMap =
            authorization.map(|value| headers(&[("authorization", value)])).unwrap_or_default();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        guard().caller(&headers, &names).map(|caller| caller.name().to_owned()).map_err(|p| p.code)
    }

    #[test]
    fn b53_only_the_right_token_or_the_right_certificate_is_a_grant() {
        assert_eq!(caller(Some("Bearer s3cret"), &[]).unwrap(), "by token");
        assert_eq!(caller(Some("bearer s3cret"), &[]).unwrap(), "by token");
        assert_eq!(caller(None, &["other", "reports"]).unwrap(), "by name");
        let refused = [
            (None, &[][..]),
            (None, &["report"]),
            (None, &["Reports"]),
            (Some("Bearer s3cre"), &[]),
            (Some("Bearer s3crett"), &[]),
            (Some("Bearer "), &[]),
            (Some("Basic s3cret"), &[]),
            (Some("s3cret"), &[]),
            // A wrong token is not mended by a right certificate.
            (Some("Bearer wrong"), &["reports"]),
        ];
        for (authorization, names) in refused {
            assert_eq!(
                caller(authorization, names),
                Err(Code::Unauthenticated),
                "{authorization:?} {names:?}"
            );
        }
    }

    #[test]
    fn without_grants_only_requests_to_this_machine_by_its_own_names_are_answered() {
        let open = Guard::new(vec![]);
        let check = |host: &str, origin: Option<&str>| {
            let mut all = vec![("host", host)];
            all.extend(origin.map(|origin| ("origin", origin)));
            open.check_host(&Uri::from_static("/v1/sources"), &headers(&all)).is_ok()
        };
        for host in ["localhost", "LOCALHOST:7878", "127.0.0.1:7878", "127.8.8.8", "[::1]:7878", "[::1]"] {
            assert!(check(host, None), "{host}");
        }
        for host in ["evil.example", "evil.example:7878", "10.0.0.1", "localhost.evil.example", "[::2]", ""] {
            assert!(!check(host, None), "{host}");
        }
        assert!(check("localhost:7878", Some("http://localhost:7878")));
        for origin in ["http://evil.example", "null", "http://localhost:80", ""] {
            assert!(!check("localhost:7878", Some(origin)), "{origin}");
        }
    }

    #[test]
    fn a_page_of_another_site_is_refused_with_grants_too() {
        let check = |origin: &str| {
            let headers = headers(&[("host", "relay.example"), ("origin", origin)]);
            guard().check_host(&Uri::from_static("/v1/admin/shutdown"), &headers).is_ok()
        };
        assert!(check("https://relay.example"));
        assert!(!check("https://evil.example"));
    }
}
