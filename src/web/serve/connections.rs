//! The count of open connections, and what a handler knows of its client.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use warp::Filter;

/// Counts of one or several listeners.
#[derive(Debug, Default)]
pub struct Connections {
    open: AtomicUsize,
    refused: AtomicU64,
    accept_errors: AtomicU64,
}

impl Connections {
    /// Connections that are open now, WebSockets included.
    pub fn count(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Connections refused because all were in use.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Failures of `accept` on our side, such as no free file descriptors.
    pub fn accept_errors(&self) -> u64 {
        self.accept_errors.load(Ordering::Relaxed)
    }

    pub(super) fn count_accept_error(&self) -> u64 {
        self.accept_errors.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A place among at most `most`, given back when the last holder drops it.
    pub(super) fn open(self: &Arc<Self>, most: usize) -> Option<Arc<Slot>> {
        let free = |open| if open < most { Some(open + 1) } else { None };
        if self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, free).is_err() {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(Arc::new(Slot(Arc::clone(self))))
    }
}

/// The place of one connection. An upgraded socket outlives its HTTP connection and goes on holding it.
#[derive(Debug)]
pub(in crate::web) struct Slot(Arc<Connections>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Who is at the other end, as far as TCP knows. Never log the address.
#[derive(Debug, Clone)]
pub struct Client {
    address: SocketAddr,
    slot: Option<Arc<Slot>>,
}

impl Client {
    pub(super) fn new(address: SocketAddr, slot: Arc<Slot>) -> Self {
        Self { address, slot: Some(slot) }
    }

    /// The address of the peer; a proxy's, if there is one in between.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Keeps the connection counted while the holder lives.
    pub(in crate::web) fn slot(&self) -> Option<Arc<Slot>> {
        self.slot.clone()
    }
}

/// Extracts the client of a request; an unspecified address when the routes run without the accept loop.
pub fn client() -> impl Filter<Extract = (Client,), Error = Infallible> + Copy {
    warp::ext::optional::<Client>().map(|client: Option<Client>| {
        client.unwrap_or_else(|| Client { address: (Ipv4Addr::UNSPECIFIED, 0).into(), slot: None })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_its_last_holder_is_gone() {
        let connections = Arc::new(Connections::default());
        let first = connections.open(1).unwrap();
        let upgraded = Arc::clone(&first);
        drop(first);
        assert!(connections.open(1).is_none());
        assert_eq!((connections.count(), connections.refused()), (1, 1));
        drop(upgraded);
        assert!(connections.open(1).is_some());
        assert_eq!(connections.count(), 0);
    }
}
