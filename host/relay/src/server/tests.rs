//! The interface's description and the server say the same.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{admin, ask, routes};
use crate::problem::Code;

fn document() -> Value {
    serde_json::from_str(admin::OPENAPI).unwrap()
}

fn texts(values: &Value) -> BTreeSet<String> {
    values.as_array().unwrap().iter().map(|value| value.as_str().unwrap().to_owned()).collect()
}

#[test]
fn every_path_and_method_is_described_and_every_description_is_a_path() {
    let document = document();
    let mut described = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys() {
            described.insert(format!("{} {path}", method.to_uppercase()));
        }
    }
    let routed = routes::routes().into_iter().map(|route| format!("{} {}", route.method, route.path));
    assert_eq!(described, routed.collect());
}

#[test]
fn what_a_path_needs_is_described() {
    let document = document();
    for route in routes::routes() {
        let operation = &document["paths"][route.path][route.method.as_str().to_lowercase()];
        let is_free =
            operation["security"].as_array().is_some_and(|all| all.contains(&serde_json::json!({})));
        assert_eq!(is_free, route.need == routes::Need::Nothing, "{}", route.path);
        let text = operation["description"].as_str().unwrap_or_default();
        let needs_admin = text.starts_with("Needs `admin`");
        assert_eq!(needs_admin, route.need == routes::Need::Admin, "{}", route.path);
        assert_eq!(
            text.starts_with("Needs `metrics`"),
            route.need == routes::Need::Metrics,
            "{}",
            route.path
        );
    }
}

#[test]
fn every_variable_part_of_a_path_is_described() {
    let document = document();
    for route in routes::routes() {
        let operation = &document["paths"][route.path][route.method.as_str().to_lowercase()];
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        let in_path = parameters.iter().filter(|p| p["in"] == "path").map(|p| p["name"].as_str().unwrap());
        let parts = route.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        assert_eq!(in_path.collect::<BTreeSet<_>>(), parts.collect(), "{}", route.path);
    }
}

#[test]
fn every_error_code_is_listed_and_no_other() {
    let listed = texts(&document()["components"]["schemas"]["Problem"]["properties"]["code"]["enum"]);
    assert_eq!(listed, Code::ALL.iter().map(|code| code.text().to_owned()).collect());
}

#[test]
fn every_parameter_of_a_stream_is_described_for_both_methods() {
    let document = document();
    for (path, schema, known) in [
        ("changes", "Changes", &ask::PARAMETERS[..]),
        ("bootstrap", "Bootstrap", &ask::SNAPSHOT_PARAMETERS[..]),
    ] {
        let known: BTreeSet<&str> = known.iter().copied().collect();
        let operation = &document["paths"][format!("/v1/sources/{{source}}/{path}")]["get"];
        let parameters = operation["parameters"].as_array().unwrap();
        let in_query = parameters.iter().filter(|p| p["in"] == "query").map(|p| p["name"].as_str().unwrap());
        assert_eq!(in_query.collect::<BTreeSet<_>>(), known);
        let members = document["components"]["schemas"][schema]["properties"].as_object().unwrap();
        assert_eq!(members.keys().map(String::as_str).collect::<BTreeSet<_>>(), known);
    }
}

#[test]
fn every_reference_of_the_document_leads_somewhere() {
    fn check(value: &Value, document: &Value) {
        match value {
            Value::Object(members) => {
                if let Some(reference) = members.get("$ref").and_then(Value::as_str) {
                    let pointer = reference.strip_prefix('#').unwrap();
                    assert!(document.pointer(pointer).is_some(), "{reference}");
                }
                members.values().for_each(|member| check(member, document));
            }
            Value::Array(all) => all.iter().for_each(|one| check(one, document)),
            _ => {}
        }
    }
    let document = document();
    check(&document, &document);
}
