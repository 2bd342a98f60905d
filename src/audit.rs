//! From the stream to the record, and the proof of it: what row a message becomes, and whether every message has its row.

mod decode;
mod finding;
mod known;
mod proof;
mod verify;
mod window;

pub use decode::{Decoded, decode};
pub use finding::{Finding, Flaw, Report};
pub use known::Known;
pub use proof::{Pace, Proof};
pub use verify::{Scope, VerifyError, verify};
pub use window::Ends;
