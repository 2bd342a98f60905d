//! A session with the cluster: as whom yalo signs in, whom it trusts, and what keeps it out.
//!
//! What an operator has to correct is told from what passes by itself: a role waits for the one, and ends for the other.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig, ClientConnection, RootCertStore};
use scylla::client::PoolSize;
use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::errors::{
    ConnectionError, ConnectionPoolError, ConnectionSetupRequestErrorKind as Setup, DbError, MetadataError,
    NewSessionError,
};
use scylla::policies::load_balancing::DefaultPolicy;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::CqlOptions;
use super::trouble::{could_not_look, unusable};
use crate::store::{StoreError, Trouble};

/// The driver gives up a node that takes the connection and never answers after two of these, and goes to the next.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Limit of the whole: such a node is asked who the others are, and is one of those that connections are opened to.
const CONNECT: Duration = Duration::from_secs(50);
/// The first byte of what a server of TLS says: a handshake, or an alert.
const TLS: [u8; 2] = [22, 21];

/// Connects, signs in, and learns the nodes.
pub(super) async fn connect(options: &CqlOptions) -> Result<Session, StoreError> {
    let mut policy = DefaultPolicy::builder().token_aware(true);
    if !options.datacenter.is_empty() {
        policy = policy.prefer_datacenter(options.datacenter.clone());
    }
    let profile = ExecutionProfile::builder()
        .consistency(options.consistency.of_reads())
        .request_timeout(Some(options.timeout))
        .load_balancing_policy(policy.build())
        .build();
    let connections = NonZeroUsize::new(options.connections).unwrap_or(NonZeroUsize::MIN);
    let mut builder = SessionBuilder::new()
        .known_nodes(&options.nodes)
        .default_execution_profile_handle(profile.into_handle())
        .pool_size(PoolSize::PerShard(connections))
        .connection_timeout(options.timeout)
        .keepalive_interval(KEEP_ALIVE)
        .keepalive_timeout(KEEP_ALIVE);
    if !options.user.is_empty() {
        builder = builder.user(&options.user, &options.password);
    }
    if let Some(ca) = &options.ca {
        builder = builder.tls_context(Some(trust(options, ca)?));
    }
    let limit = CONNECT.max(options.timeout * 3);
    // The driver's futures are large: those that run once are kept apart.
    match tokio::time::timeout(limit, Box::pin(builder.build())).await {
        Ok(Ok(session)) => Ok(session),
        Ok(Err(error)) => Err(Box::pin(kept_out(options, &error)).await),
        Err(_) => Err(away(options, format!("no answer within {} s", limit.as_secs()))),
    }
}

/// Trusts who is in the file, and nobody else.
fn trust(options: &CqlOptions, ca: &Path) -> Result<Arc<ClientConfig>, StoreError> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    let refused = |cause: String| {
        let place = options.place();
        let next = "store.ca must name a file with the certificates, in PEM, of who vouches for the nodes";
        unusable("connect to", &place, format!("{}: {cause}", ca.display()), next)
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).map_err(|error| refused(error.to_string()))? {
        let certificate = certificate.map_err(|error| refused(error.to_string()))?;
        roots.add(certificate).map_err(|error| refused(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(refused("there is no certificate in it".to_owned()));
    }
    client(roots).map(Arc::new).map_err(|error| refused(error.to_string()))
}

fn client(roots: RootCertStore) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// Why there is no session, and whether somebody has to do something about it.
async fn kept_out(options: &CqlOptions, error: &NewSessionError) -> StoreError {
    let NewSessionError::MetadataError(MetadataError::ConnectionPoolError(ConnectionPoolError::Broken {
        last_connection_error: last,
    })) = error
    else {
        return away(options, error.to_string());
    };
    let refused = |cause: String, next| unusable("connect to", &options.place(), cause, next);
    if let Some(next) = to_correct(last) {
        return refused(last.to_string(), next);
    }
    if wants_sign_in(last) {
        return refused("the nodes want a sign-in".to_owned(), "set store.user and store.password");
    }
    // A node that wants TLS hangs up on whoever talks without, and has no words for it.
    if options.ca.is_none() && was_cut(last) && speaks_tls(options).await {
        let next = "set store.ca to a file with the certificates, in PEM, of who vouches for the nodes";
        return refused("the nodes want TLS".to_owned(), next);
    }
    away(options, last.to_string())
}

/// Nobody is there, or nobody who has time.
fn away(options: &CqlOptions, cause: String) -> StoreError {
    StoreError::Away(Trouble {
        action: "connect to".to_owned(),
        place: options.place(),
        cause,
        next: "start its nodes, or name others with store.nodes".to_owned(),
    })
}

/// The next step, if waiting does not help.
fn to_correct(error: &ConnectionError) -> Option<&'static str> {
    match error {
        ConnectionError::ConnectionSetupRequestError(setup) => match &setup.error {
            Setup::DbError(DbError::AuthenticationError, words) => not_let_in(words),
            _ => None,
        },
        ConnectionError::IoError(error) => {
            let inner = error.get_ref()?;
            untrusted(inner.downcast_ref::<rustls::Error>()?)
        }
        _ => None,
    }
}

/// The next step after a sign-in that was refused with these words.
fn not_let_in(words: &str) -> Option<&'static str> {
    (!could_not_look(words)).then_some("correct store.user and store.password")
}

/// The next step after a handshake that came to nothing.
fn untrusted(error: &rustls::Error) -> Option<&'static str> {
    match error {
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => Some("the certificate of each node has to name the node's address (subjectAltName, IP)"),
        rustls::Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            Some("renew the certificates of the nodes")
        }
        rustls::Error::InvalidCertificate(_) => {
            Some("store.ca must hold the certificate of who has signed those of the nodes")
        }
        rustls::Error::InvalidMessage(_) => Some(
            "the nodes do not speak TLS: empty store.ca, or switch client_encryption_options on in their \
             cassandra.yaml",
        ),
        rustls::Error::AlertReceived(_) => Some(
            "the nodes refuse the handshake: yalo shows no certificate of its own, see client_encryption_options in \
             their cassandra.yaml",
        ),
        _ => None,
    }
}

fn wants_sign_in(error: &ConnectionError) -> bool {
    matches!(error, ConnectionError::ConnectionSetupRequestError(setup) if matches!(setup.error, Setup::MissingAuthentication))
}

/// Whether the connection stood and was ended by the other side before there was a session.
fn was_cut(error: &ConnectionError) -> bool {
    match error {
        ConnectionError::BrokenConnection(_) => true,
        ConnectionError::ConnectionSetupRequestError(setup) => matches!(setup.error, Setup::BrokenConnection(_)),
        _ => false,
    }
}

/// Whether one of the nodes answers the first word of TLS in kind.
async fn speaks_tls(options: &CqlOptions) -> bool {
    for node in &options.nodes {
        if let Ok(Some(true)) = tokio::time::timeout(options.timeout, answers_tls(node)).await {
            return true;
        }
    }
    false
}

async fn answers_tls(node: &str) -> Option<bool> {
    let mut stream = TcpStream::connect(node).await.ok()?;
    let name = ServerName::IpAddress(stream.peer_addr().ok()?.ip().into());
    let mut client = ClientConnection::new(Arc::new(client(RootCertStore::empty()).ok()?), name).ok()?;
    let mut hello = Vec::new();
    client.write_tls(&mut hello).ok()?;
    stream.write_all(&hello).await.ok()?;
    Some(TLS.contains(&stream.read_u8().await.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_password_is_told_from_one_that_could_not_be_looked_up() {
        assert!(not_let_in("Provided username yalo and/or password are incorrect").is_some());
        let away = "Unable to perform authentication: Cannot achieve consistency level LOCAL_ONE";
        assert_eq!(not_let_in(away), None);
    }
}
