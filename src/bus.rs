//! To come.

pub mod provision;
pub mod server;
