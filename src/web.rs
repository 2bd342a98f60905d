//! HTTP toolkit that knows no role: accept loop, problems, bodies, tokens, WebSocket, SSE, files, health.
//!
//! How a role uses it: build routes from [`method`], [`query`], [`body`], [`auth`], [`socket`] and [`sse`]; handlers are
//! plain async functions returning `Result<impl Reply, ApiError>`, attached by `.then`; close with [`problem::finish`],
//! which makes one boxed filter that never rejects; hand that to [`serve::serve`].
//!
//! No filter in here rejects for any reason but "not this route": a rejection makes warp try the next route, so a refused
//! token or body would fall through. They extract a `Result<_, ApiError>` instead, which the handler opens by `?`.

pub mod assets;
pub mod auth;
pub mod body;
pub mod inflate;
pub mod lines;
pub mod method;
pub mod ops;
pub mod origin;
pub mod pages;
pub mod problem;
pub mod query;
pub mod request;
pub mod serve;
pub mod socket;
pub mod sse;

pub use problem::{ApiError, Code};

/// What every module of routes exports; [`problem::finish`] makes one that never rejects.
pub type Routes = warp::filters::BoxedFilter<(warp::reply::Response,)>;
