//! The Cassandra of the tests does what tests rely on: nodes answer, die, come back and freeze, and none outlives its test.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::harness::{PATIENCE, eventually};
use crate::node::Cassandra;

#[test]
fn a_node_dies_comes_back_and_freezes() {
    let cassandra = Cassandra::start(1);
    let [address] = cassandra.addresses().try_into().unwrap();
    assert!(answers(&address), "{}", cassandra.log(1));
    cassandra.pause(1);
    assert!(!answers(&address) && TcpStream::connect(&address).is_ok());
    cassandra.resume(1);
    assert!(answers(&address));
    let before = cassandra.pid(1);
    cassandra.kill(1);
    assert!(TcpStream::connect(&address).is_err());
    cassandra.up(1);
    assert!(answers(&address));
    assert_ne!(cassandra.pid(1), before);
    let (folder, pid) = (cassandra.folder().to_owned(), cassandra.pid(1));
    // A command that fails, and with it its test, does not keep the drop waiting.
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| cassandra.pause(2))).is_err());
    drop(cassandra);
    assert!(!folder.exists() && !runs(pid), "{} or process {pid} is left", folder.display());
}

#[tokio::test]
async fn a_cassandra_ends_with_the_process_that_holds_it_even_if_that_is_killed() {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "cassandra::the_process_that_holds_one", "--nocapture"]);
    let mut holder = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(holder.stdout.take().unwrap()).lines().map_while(Result::ok);
    let held = lines.find_map(|line| line.split_once("holds ").map(|(_, held)| held.to_owned()));
    holder.kill().unwrap();
    holder.wait().unwrap();
    let held = held.expect("a holder that says what it holds");
    let (pid, folder) = held.split_once(' ').unwrap();
    let pid = pid.parse().unwrap();
    eventually(PATIENCE, "an end of the node and its folder", async || {
        (!runs(pid) && !Path::new(folder).exists()).then_some(())
    })
    .await;
}

#[test]
#[ignore = "a part of the test above, in a process of its own that is killed"]
fn the_process_that_holds_one() {
    let cassandra = Cassandra::shared();
    let pid = cassandra.pid(1);
    assert!(runs(pid));
    // Of somebody who is killed the folder may go first.
    std::fs::remove_file(cassandra.folder().join("node1/pid")).unwrap();
    println!("\nholds {pid} {}", cassandra.folder().display());
    std::thread::sleep(PATIENCE);
}

/// Whether this process is there and is a Cassandra.
fn runs(pid: u32) -> bool {
    std::fs::read(format!("/proc/{pid}/cmdline"))
        .is_ok_and(|line| line.windows(15).any(|part| part == b"yalo-cassandra."))
}

/// Whether a server answers the first question of the protocol (OPTIONS, by SUPPORTED).
fn answers(address: &str) -> bool {
    let asked = TcpStream::connect(address).and_then(|mut stream| {
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(&[4, 0, 0, 0, 5, 0, 0, 0, 0])?;
        let mut head = [0; 9];
        stream.read_exact(&mut head)?;
        Ok(head[4])
    });
    asked.is_ok_and(|opcode| opcode == 6)
}
