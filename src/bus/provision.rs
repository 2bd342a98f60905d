//! Temporary: creates what is missing.
mod names;
mod plan;
mod report;

use async_nats::jetstream::Context;
use serde_json::{Value, json};

pub use names::Names;
pub use plan::{Plan, ProvisionOptions};
pub use report::{Action, Change, Report};

/// Temporary.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ProvisionError(String);

/// Temporary.
pub async fn reconcile(context: &Context, plan: &Plan, _dry_run: bool) -> Result<Report, ProvisionError> {
    let mut report = Report::default();
    for wanted in plan.streams.iter().chain(&plan.consumers) {
        let mut config = serde_json::Map::new();
        for field in &wanted.fields {
            config.insert(field.name.to_owned(), field.value.clone());
        }
        for (name, value) in &wanted.at_birth {
            config.insert((*name).to_owned(), value.clone());
        }
        let (info, create, body) = match &wanted.consumer {
            None => (
                format!("STREAM.INFO.{}", wanted.stream),
                format!("STREAM.CREATE.{}", wanted.stream),
                Value::Object(config),
            ),
            Some(consumer) => (
                format!("CONSUMER.INFO.{}.{consumer}", wanted.stream),
                format!("CONSUMER.DURABLE.CREATE.{}.{consumer}", wanted.stream),
                json!({"stream_name": wanted.stream, "config": config, "action": "create"}),
            ),
        };
        let found: Value = context.request(info, &json!({})).await.map_err(|e| ProvisionError(e.to_string()))?;
        if found.get("error").is_none() {
            continue;
        }
        let made: Value = context.request(create, &body).await.map_err(|e| ProvisionError(e.to_string()))?;
        if let Some(error) = made.get("error") {
            return Err(ProvisionError(format!("{}: {error}", wanted.title())));
        }
        report.changes.push(Change::whole(wanted.title(), Action::Created));
    }
    Ok(report)
}
