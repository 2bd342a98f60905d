//! From the stream to the record, and the proof of it: what row a message becomes, and whether every message has its row.

mod decode;
mod finding;
mod verify;

pub use decode::{Decoded, decode};
pub use finding::{Finding, Flaw, Report};
pub use verify::{Scope, VerifyError, verify};
