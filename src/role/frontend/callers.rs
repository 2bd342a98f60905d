//! Who is asking: the user of a token, or a new guest.

use super::state::Front;
use crate::web::ApiError;
use crate::web::auth::{Bearer, User};

/// What the filter found in the request.
pub(super) type Sent = Result<Option<Bearer>, ApiError>;

/// The user of the token, which has to be there.
pub(super) fn user(front: &Front, sent: Sent) -> Result<User, ApiError> {
    let bearer = sent?.ok_or_else(|| ApiError::unauthorized("no token was sent"))?;
    front.tokens.verify(bearer.as_str())
}

/// The user of the token; without one a new guest, with the token that makes them known from now on.
pub(super) fn user_or_guest(front: &Front, sent: Sent) -> Result<(User, Option<String>), ApiError> {
    match sent? {
        Some(bearer) => Ok((front.tokens.verify(bearer.as_str())?, None)),
        None => front.tokens.issue().map(|(user, token)| (user, Some(token))),
    }
}
