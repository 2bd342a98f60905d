//! The served `/openapi.json` as a judge of everything that is served.

use std::collections::HashMap;
use std::sync::Mutex;

use jsonschema::{Draft, Validator};
use serde_json::{Value, json};

/// A description, with the validators that were needed so far.
#[derive(Debug)]
pub(crate) struct Schemas {
    description: Value,
    validators: Mutex<HashMap<String, std::sync::Arc<Validator>>>,
}

impl Schemas {
    pub(super) fn new(description: Value) -> Self {
        assert_eq!(description["openapi"], "3.1.0");
        Self { description, validators: Mutex::default() }
    }

    /// Fails unless a JSON answer is described and fits.
    pub(super) fn check_answer(&self, method: &str, path: &str, status: u16, kind: &str, body: &Value) {
        let (template, item) = self.operation(path);
        let responses = &item[method]["responses"];
        let response = [status.to_string().as_str(), "default"].into_iter().find_map(|key| responses.get(key));
        // An address or a method that is not described may only be refused.
        let response = self.resolve(response.unwrap_or(&json!({"$ref": "#/components/responses/Problem"}))).clone();
        let kind = kind.split(';').next().unwrap_or_default();
        let schema = &response["content"][kind]["schema"];
        let place = format!("{method} {path} ({template}) {status} {kind}");
        assert!(schema.is_object(), "{place} is not described; it carried {body}");
        self.check(schema, &place, body);
    }

    /// Fails unless `body` is a `components/schemas/NAME`.
    pub(super) fn check_named(&self, name: &str, body: &Value) {
        assert!(self.description["components"]["schemas"].get(name).is_some(), "there is no {name} for {body}");
        self.check(&json!({"$ref": format!("#/components/schemas/{name}")}), name, body);
    }

    fn check(&self, schema: &Value, place: &str, body: &Value) {
        let validator = self.validator(schema);
        let errors: Vec<String> = validator
            .iter_errors(body)
            .map(|error| format!("at {:?}: {error}", error.instance_path().as_str()))
            .collect();
        assert!(errors.is_empty(), "{place}: {body}\ndoes not fit {schema}:\n{}", errors.join("\n"));
    }

    fn validator(&self, schema: &Value) -> std::sync::Arc<Validator> {
        let mut validators = self.validators.lock().unwrap();
        let build = || {
            let mut whole = schema.clone();
            whole["components"] = self.description["components"].clone();
            let options = jsonschema::options().with_draft(Draft::Draft202012).should_validate_formats(true);
            options.build(&whole).unwrap_or_else(|error| panic!("{schema} is no schema: {error}")).into()
        };
        validators.entry(schema.to_string()).or_insert_with(build).clone()
    }

    /// The described path that an address belongs to.
    fn operation(&self, path: &str) -> (String, Value) {
        let path = path.split('?').next().unwrap_or_default();
        let words: Vec<&str> = path.split('/').collect();
        let fits = |template: &str| {
            let template: Vec<&str> = template.split('/').collect();
            let same = |(word, expected): (&&str, &&str)| expected.starts_with('{') || word == expected;
            template.len() == words.len() && words.iter().zip(&template).all(same)
        };
        let paths = self.description["paths"].as_object().unwrap();
        let found =
            paths.iter().filter(|(template, _)| fits(template)).min_by_key(|(template, _)| template.contains('{'));
        found.map_or_else(
            || ("not described".to_owned(), json!({})),
            |(template, item)| (template.clone(), item.clone()),
        )
    }

    fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value.get("$ref").and_then(Value::as_str) {
            Some(reference) => self.description.pointer(reference.trim_start_matches('#')).unwrap(),
            None => value,
        }
    }
}
