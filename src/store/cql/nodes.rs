//! Who is asked: of the nodes that have the rows, the one with the least to do, and no other in the same try.
//!
//! Each node has a room of its own (`room.rs`), so that one that is slow, or does not answer at all, holds up no more
//! requests than fit into its room, and the others get what it would have got.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt;
use futures_util::future::select_all;
use scylla::client::session::Session;
use scylla::cluster::{ClusterState, Node, NodeRef};
use scylla::policies::load_balancing::{FallbackPlan, LoadBalancingPolicy, RoutingInfo};
use scylla::routing::{Shard, Token};
use scylla::statement::prepared::PreparedStatement;
use uuid::Uuid;

use super::room::{Place, Room};

tokio::task_local! {
    static CHOSEN: (Uuid, Shard);
}

/// The driver's request goes to the node that it has a seat at.
#[derive(Debug)]
pub(super) struct Chosen;

impl LoadBalancingPolicy for Chosen {
    fn pick<'a>(
        &'a self,
        _request: &'a RoutingInfo<'_>,
        cluster: &'a ClusterState,
    ) -> Option<(NodeRef<'a>, Option<Shard>)> {
        let (node, shard) = CHOSEN.try_with(|chosen| *chosen).ok()?;
        Some((cluster.get_node_by_host_id(node)?, Some(shard)))
    }

    fn fallback<'a>(&'a self, _request: &'a RoutingInfo<'_>, _cluster: &'a ClusterState) -> FallbackPlan<'a> {
        Box::new(std::iter::empty())
    }

    fn name(&self) -> String {
        "Chosen".to_owned()
    }
}

/// The nodes that are asked, each with its room.
pub(super) struct Nodes {
    /// Of one data centre; empty: of all.
    datacenter: String,
    /// Requests under way for each of them.
    most: usize,
    rooms: Mutex<Rooms>,
}

#[derive(Default)]
struct Rooms {
    of: HashMap<Uuid, Arc<Room>>,
    closed: bool,
}

/// A node that may be asked.
pub(super) struct Candidate {
    pub(super) node: Arc<Node>,
    pub(super) room: Arc<Room>,
    shard: Shard,
}

/// A place at a node, for one request.
pub(super) struct Seat {
    at: Candidate,
    place: Place,
}

/// Why there is none.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unseated {
    /// The store was closed.
    Closed,
    /// There is no node in the data centre.
    Nobody,
}

impl Seat {
    /// Makes the request here, and leaves; with what came of it, who was asked.
    pub(super) async fn ask<F: Future>(self, request: Pin<Box<F>>) -> (F::Output, Candidate) {
        let Self { at, place } = self;
        let answer = CHOSEN.scope((at.node.host_id, at.shard), request).await;
        drop(place);
        (answer, at)
    }
}

impl Nodes {
    pub(super) fn new(datacenter: String, most: usize) -> Self {
        Self { datacenter, most, rooms: Mutex::default() }
    }

    /// Waits for a place at one of those that have the rows: not at `avoided`, if there is another one.
    pub(super) async fn seat(
        &self,
        session: &Session,
        statement: &PreparedStatement,
        token: Option<Token>,
        avoided: Option<Uuid>,
    ) -> Result<Seat, Unseated> {
        let mut candidates = self.candidates(&session.get_cluster_state(), statement, token, avoided)?;
        // Of equals the first one: its caches are warmer than those of all of them.
        candidates.sort_by_cached_key(|candidate| candidate.room.load());
        let at_once = candidates.iter().enumerate().find_map(|(index, at)| Some((index, at.room.try_enter()?)));
        let (index, place) = match at_once {
            Some(entered) => entered,
            None => {
                let (place, index) = match candidates.as_slice() {
                    [only] => (only.room.enter().await, 0),
                    several => {
                        let (place, index, _) = select_all(several.iter().map(|at| at.room.enter().boxed())).await;
                        (place, index)
                    }
                };
                (index, place.ok_or(Unseated::Closed)?)
            }
        };
        Ok(Seat { at: candidates.swap_remove(index), place })
    }

    /// At least one.
    fn candidates(
        &self,
        cluster: &ClusterState,
        statement: &PreparedStatement,
        token: Option<Token>,
        avoided: Option<Uuid>,
    ) -> Result<Vec<Candidate>, Unseated> {
        let mut nodes = self.who(cluster, statement, token);
        if nodes.is_empty() {
            return Err(Unseated::Nobody);
        }
        if nodes.iter().any(|(node, _)| Some(node.host_id) != avoided) {
            nodes.retain(|(node, _)| Some(node.host_id) != avoided);
        }
        let mut rooms = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        if rooms.closed {
            return Err(Unseated::Closed);
        }
        if nodes.iter().any(|(node, _)| !rooms.of.contains_key(&node.host_id)) {
            // With a new one, those that have left are forgotten.
            rooms.of.retain(|node, _| cluster.get_node_by_host_id(*node).is_some());
        }
        let candidate = |(node, shard): (Arc<Node>, Shard)| {
            let room = rooms.of.entry(node.host_id).or_insert_with(|| Room::new(self.most));
            Candidate { room: Arc::clone(room), node, shard }
        };
        Ok(nodes.into_iter().map(candidate).collect())
    }

    /// Those that have the rows and can be reached; without any, all that can be reached, or else all.
    fn who(
        &self,
        cluster: &ClusterState,
        statement: &PreparedStatement,
        token: Option<Token>,
    ) -> Vec<(Arc<Node>, Shard)> {
        let is_ours = |node: &Node| self.datacenter.is_empty() || node.datacenter.as_ref() == Some(&self.datacenter);
        if let (Some(token), Some(table)) = (token, statement.get_table_spec()) {
            let mut owners = cluster.get_token_endpoints(table.ks_name(), table.table_name(), token);
            owners.retain(|(node, _)| is_ours(node) && node.is_connected());
            if !owners.is_empty() {
                return owners;
            }
        }
        let ours: Vec<_> = cluster.get_nodes_info().iter().filter(|node| is_ours(node)).collect();
        let is_reached = ours.iter().any(|node| node.is_connected());
        ours.into_iter().filter(|node| !is_reached || node.is_connected()).map(|node| (Arc::clone(node), 0)).collect()
    }

    /// Nobody gets a place from now on.
    pub(super) fn close(&self) {
        let mut rooms = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        rooms.closed = true;
        rooms.of.values().for_each(|room| room.close());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::cql::tests::fresh;

    #[tokio::test]
    async fn each_node_has_its_places_and_who_failed_is_asked_again_only_if_there_is_no_other() {
        const MOST: usize = 8;
        let (options, store) = fresh().await;
        let (session, statement) = (&store.shared.flight.session, &store.shared.statements.parts);
        let nodes = Nodes::new(options.datacenter.clone(), MOST);
        let seat = async |avoided| nodes.seat(session, statement, None, avoided).await;
        let mut seats = vec![seat(None).await.unwrap()];
        let first = seats[0].at.node.host_id;
        seats.push(seat(Some(first)).await.unwrap());
        let reached = session.get_cluster_state().get_nodes_info().iter().filter(|node| node.is_connected()).count();
        assert_eq!(seats[1].at.node.host_id != first, reached > 1);
        // The others go to whoever has the most room, until all are full.
        for _ in 2..MOST * reached {
            seats.push(seat(None).now_or_never().expect("a place").unwrap());
        }
        let mut waiting = Box::pin(seat(None));
        assert!(waiting.as_mut().now_or_never().is_none());
        let left = seats.pop().unwrap().at.node.host_id;
        assert_eq!(waiting.await.unwrap().at.node.host_id, left);
        nodes.close();
        assert_eq!(seat(None).await.err(), Some(Unseated::Closed));
        let nodes = Nodes::new("elsewhere".to_owned(), MOST);
        assert_eq!(nodes.seat(session, statement, None, None).await.err(), Some(Unseated::Nobody));
    }
}
