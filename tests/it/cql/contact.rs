//! A contact point that takes connections and never answers, beside one that does.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::harness::deployment::{Deployment, shared};

/// Limit of a session with the cluster, see `src/store/cql/connect.rs`.
const CONNECT: Duration = Duration::from_secs(50);

/// The kernel takes connections for it, nobody reads them.
fn mute() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contact_point_that_never_answers_is_passed_over_and_two_of_them_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let node = shared().await.addresses().remove(0);
    let mut all = Deployment::start_at(folder.path(), node.clone(), "contact").await;
    all.fleet.stop_role("admin").await;
    let ((first, first_address), (_second, second_address)) = (mute(), mute());
    let role = async {
        let nodes = format!("{first_address},{node}");
        // The driver tries them in any order: until it was the turn of the mute one.
        for _ in 0..30 {
            let begun = Instant::now();
            let mut admin = all.role("admin", &[&format!("store.nodes={nodes}")]).run().await;
            let took = begun.elapsed();
            assert!(took < CONNECT && !admin.says("not there yet"), "{took:?}");
            assert!(admin.announces(&format!("contact at {nodes}")));
            admin.stop().await;
            if first.accept().is_ok() {
                println!("a mute contact point cost {took:?}");
                return;
            }
        }
        panic!("the mute one was never tried");
    };
    let tool = async {
        let nodes = format!("{first_address},{second_address}");
        let (code, _, errors) = all.tool(&["export"], &[&format!("store.nodes={nodes}")]).finish().await;
        let said = errors.lines().find(|line| line.starts_with("error: ")).unwrap();
        println!("{said}");
        assert!(code == Some(4) && said.contains(&nodes) && said.contains("store.nodes"), "{code:?} {said}");
    };
    // One after the other, or the first could be asked by the tool.
    role.await;
    tool.await;
}
