//! Bearer tokens: guests' signed ones, and the operator's fixed one.
//!
//! Another issuer's tokens will be one more arm of [`Tokens::verify`], chosen by `iss`.

use std::convert::Infallible;
use std::fmt;
use std::hint::black_box;
use std::time::Duration;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, errors::ErrorKind};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;
use warp::Filter;
use warp::http::HeaderValue;
use warp::http::header::AUTHORIZATION;

use super::problem::ApiError;
use crate::domain::Timestamp;

/// Least characters of the signing key.
pub const KEY_CHARACTERS: usize = 32;
/// Longest token that is looked at.
const TOKEN_BYTES: usize = 4096;
/// Who signs guests' tokens.
const ISSUER: &str = "yalo";
/// What a guest's id starts with, so that it never meets a name of another issuer.
const GUEST: &str = "guest-";

/// A key that is too short to sign with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key has {0} characters; at least {KEY_CHARACTERS} are needed")]
pub struct KeyError(usize);

/// The token of a request, not yet verified. `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Bearer(String);

impl Bearer {
    /// The token itself; never log it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Bearer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("***")
    }
}

/// Extracts the bearer token: `Ok(None)` without an `Authorization` header, an error if it holds anything else.
pub fn bearer() -> impl Filter<Extract = (Result<Option<Bearer>, ApiError>,), Error = Infallible> + Clone {
    let header = warp::header::value(AUTHORIZATION.as_str()).map(Some).or(warp::any().map(|| None)).unify();
    header.map(|value: Option<HeaderValue>| value.as_ref().map(parse).transpose())
}

fn parse(value: &HeaderValue) -> Result<Bearer, ApiError> {
    let token = value.to_str().ok().and_then(|text| text.split_once(' '));
    match token {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty() => {
            Ok(Bearer(token.trim().to_owned()))
        }
        _ => Err(ApiError::unauthorized("the authorization header holds no bearer token")),
    }
}

/// Someone whose token was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct User {
    /// The id that owns conversations: `guest-<uuid>`.
    pub id: String,
}

/// Signs and verifies guests' tokens (JWT, HS256). All frontends of a fleet share the key.
#[derive(Clone)]
pub struct Tokens {
    signing: EncodingKey,
    verifying: DecodingKey,
    lifetime: Duration,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Tokens").field("lifetime", &self.lifetime).finish_non_exhaustive()
    }
}

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    iat: u64,
    exp: u64,
}

impl Tokens {
    /// Tokens signed by `key`, good for `lifetime`.
    pub fn new(key: &str, lifetime: Duration) -> Result<Self, KeyError> {
        let characters = key.chars().count();
        if characters < KEY_CHARACTERS {
            return Err(KeyError(characters));
        }
        let (signing, verifying) = (EncodingKey::from_secret(key.as_bytes()), DecodingKey::from_secret(key.as_bytes()));
        Ok(Self { signing, verifying, lifetime })
    }

    /// A new guest and the token that proves it.
    pub fn issue(&self) -> Result<(User, String), ApiError> {
        let user = User { id: format!("{GUEST}{}", Uuid::now_v7()) };
        let token = self.sign(&user, Timestamp::now())?;
        Ok((user, token))
    }

    fn sign(&self, user: &User, now: Timestamp) -> Result<String, ApiError> {
        let iat = now.ms() / 1000;
        let exp = iat + self.lifetime.as_secs();
        let claims = Claims { iss: ISSUER.to_owned(), sub: user.id.clone(), iat, exp };
        jsonwebtoken::encode(&Header::default(), &claims, &self.signing).map_err(ApiError::internal)
    }

    /// Whose token it is.
    pub fn verify(&self, token: &str) -> Result<User, ApiError> {
        if token.len() > TOKEN_BYTES {
            return Err(ApiError::unauthorized("the token is too long to be one"));
        }
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&[ISSUER]);
        validation.set_required_spec_claims(&["exp", "iss", "sub"]);
        let data = jsonwebtoken::decode::<Claims>(token, &self.verifying, &validation);
        let claims = data.map_err(|error| refusal(error.kind()))?.claims;
        let is_guest = claims.sub.strip_prefix(GUEST).is_some_and(|id| Uuid::try_parse(id).is_ok());
        if is_guest { Ok(User { id: claims.sub }) } else { Err(ApiError::unauthorized("the token names no guest")) }
    }
}

fn refusal(kind: &ErrorKind) -> ApiError {
    let problem = |detail: &'static str| ApiError::unauthorized(detail).next("ask for a new token: send without one");
    match kind {
        ErrorKind::ExpiredSignature => problem("the token has expired"),
        ErrorKind::InvalidIssuer => problem("the token was made by someone else"),
        ErrorKind::InvalidSignature => problem("the token's signature is not ours"),
        _ => problem("the token cannot be read"),
    }
}

/// A fixed token that a service sends, such as one that ingests. Only its digest is kept.
#[derive(Clone, Copy)]
pub struct ServiceToken([u8; 32]);

impl fmt::Debug for ServiceToken {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("***")
    }
}

impl ServiceToken {
    /// The token that the service must send.
    pub fn new(token: &str) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// Accepts this token and no other; `whose` is for the refusal: "the service's".
    pub fn verify(&self, bearer: Option<&Bearer>, whose: &str) -> Result<(), ApiError> {
        let Some(bearer) = bearer else { return Err(ApiError::unauthorized("no token was sent")) };
        let given: [u8; 32] = Sha256::digest(bearer.as_str()).into();
        // Every byte is looked at, so that the time tells nothing.
        let difference = self.0.iter().zip(&given).fold(0, |sum, (left, right)| black_box(sum | (left ^ right)));
        if difference == 0 { Ok(()) } else { Err(ApiError::unauthorized(format!("the token is not {whose}"))) }
    }
}

/// The operator's token. Only its digest is kept.
#[derive(Debug, Clone, Copy)]
pub struct OperatorToken(ServiceToken);

impl OperatorToken {
    /// The token that operators must send.
    pub fn new(token: &str) -> Self {
        Self(ServiceToken::new(token))
    }

    /// Accepts the operator's token and no other.
    pub fn verify(&self, bearer: Option<&Bearer>) -> Result<(), ApiError> {
        self.0.verify(bearer, "the operator's")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0123456789abcdef0123456789abcdef";

    fn tokens() -> Tokens {
        Tokens::new(KEY, Duration::from_hours(24)).unwrap()
    }

    #[test]
    fn a_guest_is_known_again_by_every_server_with_the_key() {
        let (guest, token) = tokens().issue().unwrap();
        assert!(guest.id.starts_with("guest-"));
        assert_eq!(tokens().verify(&token).unwrap(), guest);
    }

    #[test]
    fn a_short_key_is_refused() {
        assert_eq!(Tokens::new("too short", Duration::ZERO).unwrap_err(), KeyError(9));
    }

    #[test]
    fn a_token_that_is_not_ours_is_refused_with_the_reason() {
        let (guest, token) = tokens().issue().unwrap();
        let detail = |token: &str| tokens().verify(token).unwrap_err().detail().to_owned();
        let signed = |claims: &serde_json::Value, algorithm| {
            let key = EncodingKey::from_secret(KEY.as_bytes());
            jsonwebtoken::encode(&Header::new(algorithm), claims, &key).unwrap()
        };
        let later = Timestamp::now().ms() / 1000 + 1000;

        let other = Tokens::new(&KEY.to_uppercase(), Duration::from_mins(1)).unwrap();
        assert_eq!(detail(&other.issue().unwrap().1), "the token's signature is not ours");
        assert_eq!(detail(&tokens().sign(&guest, Timestamp::from_ms(0)).unwrap()), "the token has expired");
        let foreign = serde_json::json!({"iss": "else", "sub": guest.id, "iat": 1, "exp": later});
        assert_eq!(detail(&signed(&foreign, Algorithm::HS256)), "the token was made by someone else");
        let admin = serde_json::json!({"iss": "yalo", "sub": "admin", "iat": 1, "exp": later});
        assert_eq!(detail(&signed(&admin, Algorithm::HS256)), "the token names no guest");
        let eternal = serde_json::json!({"iss": "yalo", "sub": guest.id, "iat": 1});
        assert_eq!(detail(&signed(&eternal, Algorithm::HS256)), "the token cannot be read");
        let strong = serde_json::json!({"iss": "yalo", "sub": guest.id, "iat": 1, "exp": later});
        assert_eq!(detail(&signed(&strong, Algorithm::HS512)), "the token cannot be read");
        assert_eq!(detail(&token.replace('.', "")), "the token cannot be read");
        assert_eq!(detail(&"x".repeat(5000)), "the token is too long to be one");
        // {"alg":"none"}: the classic.
        let (_, rest) = token.split_once('.').unwrap();
        let (claims, _) = rest.split_once('.').unwrap();
        assert_eq!(detail(&format!("eyJhbGciOiJub25lIn0.{claims}.")), "the token cannot be read");
    }

    #[test]
    fn a_bearer_is_read_in_any_case_and_nothing_else_is_one() {
        let of = |text: &'static str| parse(&HeaderValue::from_static(text)).ok().map(|bearer| bearer.0);
        assert_eq!(of("Bearer abc"), Some("abc".to_owned()));
        assert_eq!(of("bearer  abc "), Some("abc".to_owned()));
        for text in ["abc", "Basic abc", "Bearer", "Bearer ", ""] {
            assert_eq!(of(text), None, "{text}");
        }
    }

    #[test]
    fn only_the_operators_own_token_opens_the_operators_door() {
        let operator = OperatorToken::new("open sesame");
        assert!(operator.verify(Some(&Bearer("open sesame".to_owned()))).is_ok());
        assert!(operator.verify(Some(&Bearer("open sesam".to_owned()))).is_err());
        assert!(operator.verify(None).is_err());
        assert_eq!(format!("{operator:?} {:?}", Bearer("secret".to_owned())), "OperatorToken(***) ***");
    }
}
