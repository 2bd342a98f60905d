//! To come.
pub mod bot;
