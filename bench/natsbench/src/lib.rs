//! What all benches need: arguments, a nats-server, an even pace, and what a process has cost.

pub mod arguments;
pub mod cost;
pub mod pace;
pub mod pipe;
pub mod server;
