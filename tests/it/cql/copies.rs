//! The copies that `yalo init` makes a keyspace with, for each data centre.

use std::collections::HashMap;

use crate::harness::deployment::{Deployment, shared};

#[tokio::test(flavor = "multi_thread")]
async fn init_makes_the_copies_of_each_data_centre_and_names_one_that_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let all = Deployment::start_at(folder.path(), shared().await.addresses().remove(0), "centre").await;
    let session = all.session().await;
    // One node is too few for two copies: the making of the tables is not to wait for the second.
    let more = ["store.keyspace=two_copies", "store.replication=datacenter1:2", "store.consistency=one"];
    let (code, output, errors) = all.tool(&["init"], &more).finish().await;
    assert!(code == Some(0) && output.contains("'datacenter1': 2"), "{output}{errors}");
    let text = "SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = 'two_copies'";
    let found = session.query_unpaged(text, ()).await.unwrap().into_rows_result().unwrap();
    let (replication,) = found.single_row::<(HashMap<String, String>,)>().unwrap();
    let class = "org.apache.cassandra.locator.NetworkTopologyStrategy";
    let expected = [("class", class), ("datacenter1", "2")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(replication, HashMap::from(expected));

    for copies in ["nowhere:1", "datacenter1:1,nowhere:1"] {
        let replication = format!("store.replication={copies}");
        let (code, _, errors) = all.tool(&["init"], &["store.keyspace=nowhere", &replication]).finish().await;
        let words = ["store.replication", "nowhere", "datacenter1"];
        assert!(code == Some(1) && words.iter().all(|word| errors.contains(word)), "{copies}: {code:?} {errors}");
        assert!(!errors.contains("backup"), "{errors}");
    }
}
