//! Reads as much of OpenAPI and JSON Schema as the API's document uses, and refuses what it does not know.

use std::collections::BTreeSet;

use http::Method;
use http::header::CONTENT_TYPE;
use serde_json::{Map, Value};

use crate::harness::Answer;

/// The document.
pub(super) struct Document(Value);

impl Document {
    pub(super) fn parse(text: &str) -> Self {
        Self(serde_json::from_str(text).unwrap())
    }

    /// Every path with each of its methods.
    pub(super) fn routes(&self) -> Vec<(String, Method)> {
        let mut routes = Vec::new();
        for (path, methods) in self.0["paths"].as_object().unwrap() {
            for method in methods.as_object().unwrap().keys() {
                routes.push((path.clone(), method.to_uppercase().parse().unwrap()));
            }
        }
        routes
    }

    /// Every path, method and status that it has.
    pub(super) fn answers(&self) -> BTreeSet<(String, String, u16)> {
        let mut answers = BTreeSet::new();
        for (path, method) in self.routes() {
            let method = method.as_str().to_lowercase();
            for status in self.0["paths"][&path][&method]["responses"]
                .as_object()
                .unwrap()
                .keys()
            {
                answers.insert((path.clone(), method.clone(), status.parse().unwrap()));
            }
        }
        answers
    }

    fn operation(&self, template: &str, method: &Method) -> &Value {
        let operation = &self.0["paths"][template][method.as_str().to_lowercase()];
        assert!(operation.is_object(), "{method} {template} is not documented");
        operation
    }

    /// Whether a body that was accepted is one that the document allows.
    pub(super) fn check_request(&self, template: &str, method: &Method, body: &Value) {
        let schema =
            &self.operation(template, method)["requestBody"]["content"]["application/json"]["schema"];
        assert!(schema.is_object(), "{method} {template} has no documented body");
        self.fits(body, schema)
            .unwrap_or_else(|fault| panic!("request to {template}: {fault}: {body}"));
    }

    /// Whether an answer is one that the document has.
    pub(super) fn check_answer(&self, template: &str, method: &Method, answer: &Answer) {
        let status = answer.status.as_str();
        let place = format!("{method} {template} → {status}");
        let response = &self.operation(template, method)["responses"][status];
        assert!(
            response.is_object(),
            "{place} is not documented: {:?}",
            answer.body
        );
        let response = self.resolved(response);
        for name in response["headers"].as_object().unwrap_or(&Map::new()).keys() {
            assert!(answer.headers.contains_key(name), "{place} has no {name}");
        }
        for name in ["etag", "cache-control", "retry-after", "allow"] {
            let documented = response["headers"]
                .as_object()
                .is_some_and(|headers| headers.keys().any(|header| header.eq_ignore_ascii_case(name)));
            let free = name == "cache-control";
            assert!(
                documented || free || !answer.headers.contains_key(name),
                "{place}: {name} is not documented"
            );
        }
        let Some(content) = response["content"].as_object() else {
            assert!(
                answer.body.is_empty(),
                "{place} has a body that is not documented"
            );
            return;
        };
        let kind = answer.headers[CONTENT_TYPE].to_str().unwrap();
        let media = content
            .get(kind)
            .unwrap_or_else(|| panic!("{place}: {kind} is not documented"));
        if kind == "application/json" {
            let json = answer.json();
            self.fits(&json, &media["schema"])
                .unwrap_or_else(|fault| panic!("{place}: {fault}: {json}"));
        }
    }

    fn resolved<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str() {
            Some(path) => self
                .0
                .pointer(path.trim_start_matches('#'))
                .expect("a reference leads somewhere"),
            None => value,
        }
    }

    /// Whether `value` fits `schema`; where it does not, why.
    fn fits(&self, value: &Value, schema: &Value) -> Result<(), String> {
        let schema = self.resolved(schema);
        let words = schema.as_object().unwrap();
        for word in words.keys() {
            assert!(KNOWN.contains(&word.as_str()), "the test does not know `{word}`");
        }
        if let Some(options) = schema["oneOf"].as_array() {
            let fitting = options
                .iter()
                .filter(|option| self.fits(value, option).is_ok())
                .count();
            return if fitting == 1 {
                Ok(())
            } else {
                Err(format!("fits {fitting} alternatives"))
            };
        }
        let kind = schema["type"].as_str().unwrap();
        let right = match kind {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "integer" => value.is_i64() || value.is_u64(),
            "boolean" => value.is_boolean(),
            other => panic!("the test does not know the type {other}"),
        };
        if !right {
            return Err(format!("{value} is no {kind}"));
        }
        if let Some(allowed) = schema["enum"].as_array()
            && !allowed.contains(value)
        {
            return Err(format!("{value} is none of {allowed:?}"));
        }
        let length = |text: &str| u64::try_from(text.chars().count()).unwrap();
        let bounds = [
            (
                "minimum",
                value
                    .as_i64()
                    .zip(schema["minimum"].as_i64())
                    .is_some_and(|(found, least)| found < least),
            ),
            (
                "maxLength",
                value
                    .as_str()
                    .zip(schema["maxLength"].as_u64())
                    .is_some_and(|(found, most)| length(found) > most),
            ),
            (
                "minLength",
                value
                    .as_str()
                    .zip(schema["minLength"].as_u64())
                    .is_some_and(|(found, least)| length(found) < least),
            ),
        ];
        if let Some((broken, _)) = bounds.iter().find(|(_, broken)| *broken) {
            return Err(format!("{value} breaks {broken}"));
        }
        match value {
            Value::Object(fields) => self.fields_fit(fields, schema),
            Value::Array(items) => {
                let counts = schema["minItems"].as_u64().unwrap_or(0)
                    ..=schema["maxItems"].as_u64().unwrap_or(u64::MAX);
                if !counts.contains(&u64::try_from(items.len()).unwrap()) {
                    return Err(format!("{} items", items.len()));
                }
                items
                    .iter()
                    .try_for_each(|item| self.fits(item, &schema["items"]))
            }
            _ => Ok(()),
        }
    }

    fn fields_fit(&self, fields: &Map<String, Value>, schema: &Value) -> Result<(), String> {
        for required in schema["required"].as_array().unwrap_or(&Vec::new()) {
            if !fields.contains_key(required.as_str().unwrap()) {
                return Err(format!("{required} is missing"));
            }
        }
        for (name, value) in fields {
            match schema["properties"].get(name) {
                Some(property) => self
                    .fits(value, property)
                    .map_err(|fault| format!("{name}: {fault}"))?,
                None if schema["additionalProperties"] == false => {
                    return Err(format!("{name} is not documented"));
                }
                None => {}
            }
        }
        Ok(())
    }
}

/// The words of JSON Schema that the document may use. Patterns and formats are left to schemathesis.
const KNOWN: &[&str] = &[
    "type",
    "description",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "minItems",
    "maxItems",
    "enum",
    "oneOf",
    "discriminator",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "pattern",
    "format",
    "default",
];
