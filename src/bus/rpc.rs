//! Requests between roles, over the NATS service API: `nats micro ls` shows who answers.

use async_nats::service::ServiceExt;
use async_nats::service::endpoint::Endpoint;
use async_nats::service::{self, Service};
use bytes::Bytes;
use futures_util::StreamExt;

use super::{Bus, BusError};

/// Why a request was answered without a result; travels as the service API's error headers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RpcError {
    /// Nobody answers, or not in time.
    #[error("nobody answers {0}")]
    Unavailable(String),
    /// The answering side could not read its store.
    #[error("the answering side failed: {0}")]
    Failed(String),
}

/// A role's answering service: several names, each in one queue group over all instances.
pub struct RpcService {
    service: Service,
    prefix: String,
}

/// One name of the service, to be answered in a loop.
pub struct RpcEndpoint {
    endpoint: Endpoint,
}

/// One request, to be answered once.
pub struct RpcRequest {
    /// What was asked.
    pub payload: Bytes,
    request: service::Request,
}

impl RpcService {
    /// Announces the service `name`.
    pub async fn start(bus: &Bus, name: &str) -> Result<Self, BusError> {
        let service = bus
            .client()
            .service_builder()
            .description("reads of the audit store")
            .start(name, env!("CARGO_PKG_VERSION"))
            .await
            .map_err(|error| BusError::unavailable("announce the rpc service", error))?;
        Ok(Self { service, prefix: bus.subjects().rpc("") })
    }

    /// Begins to listen on `yalo.rpc.<name>`.
    pub async fn endpoint(&self, name: &str) -> Result<RpcEndpoint, BusError> {
        let subject = format!("{}{name}", self.prefix);
        let endpoint = self
            .service
            .endpoint_builder()
            .name(name)
            .add(subject)
            .await
            .map_err(|error| BusError::unavailable("listen for rpc", error))?;
        Ok(RpcEndpoint { endpoint })
    }

    /// Leaves: requests go to the other instances from now on.
    pub async fn stop(self) {
        if let Err(error) = self.service.stop().await {
            tracing::debug!(%error, "the rpc service was already gone");
        }
    }
}

impl RpcEndpoint {
    /// The next request; `None` when the service has stopped.
    pub async fn next(&mut self) -> Option<RpcRequest> {
        let request = self.endpoint.next().await?;
        Some(RpcRequest { payload: request.message.payload.clone(), request })
    }
}

impl RpcRequest {
    /// Sends the answer.
    pub async fn respond(self, answer: Result<Bytes, RpcError>) {
        let answer = answer.map_err(|error| service::error::Error { code: 500, status: error.to_string() });
        if let Err(error) = self.request.respond(answer).await {
            tracing::debug!(%error, "an rpc answer could not be sent, its caller times out");
        }
    }
}

impl Bus {
    /// Asks `yalo.rpc.<name>`.
    pub async fn rpc(&self, name: &str, payload: Bytes) -> Result<Bytes, RpcError> {
        let unavailable = |error: BusError| RpcError::Unavailable(format!("{name}: {error}"));
        let message = self.ask("ask the admin role", self.subjects().rpc(name), payload).await.map_err(unavailable)?;
        let failure = message.headers.as_ref().and_then(|headers| headers.get("Nats-Service-Error"));
        match failure {
            Some(text) => Err(RpcError::Failed(text.to_string())),
            None => Ok(message.payload),
        }
    }
}
