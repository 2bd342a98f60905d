//! `compose.yaml` without Docker: its services of yalo are started as processes, each with its very command and
//! environment, and have to become ready, answer and stop; what it says to NATS is checked by a real nats-server.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::harness::{PATIENCE, Process, Start, nats_server};

/// Every file in which people set keys by variables.
const WITH_VARIABLES: [&str; 6] =
    ["compose.yaml", "Dockerfile", "Makefile", "scripts/fleet.sh", "scripts/bench.sh", "README.md"];

#[test]
fn every_command_of_compose_is_one_of_yalo() {
    for (name, service) in yalo_services() {
        let output = Command::new(env!("CARGO_BIN_EXE_yalo")).args(&service.command).arg("--help").output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: yalo {:?} --help: {errors}", service.command);
        let command = service.command.first().unwrap();
        assert!(String::from_utf8_lossy(&output.stdout).contains(&format!("yalo {command}")), "{name}: no help");
    }
}

#[test]
fn every_variable_that_people_are_told_to_set_is_a_key() {
    let keys = keys();
    for file in WITH_VARIABLES {
        let Ok(text) = fs::read_to_string(root().join(file)) else { continue };
        for variable in variables(&text) {
            let key = variable.trim_start_matches("YALO_").to_lowercase().replace("__", ".");
            assert!(keys.contains(&key), "{file}: {variable} is not a key of config/yalo.toml");
        }
    }
    assert!(variables(&fs::read_to_string(root().join("compose.yaml")).unwrap()).len() >= 5);
}

#[test]
fn a_variable_is_found_wherever_it_stands() {
    let text = "X_YALO_A__B=1 ${YALO_AUTH__GUEST_KEY:?x} YALO_NATS__URL=$u\n  YALO_TEST_ONE: 1, YALO_OPS__LISTEN: x";
    let found: Vec<&str> = variables(text).into_iter().collect();
    assert_eq!(found, ["YALO_AUTH__GUEST_KEY", "YALO_NATS__URL", "YALO_OPS__LISTEN"]);
}

#[test]
fn nats_accepts_its_configuration_and_every_node_of_it() {
    let compose = compose();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("nats.conf");
    // Compose reads `$$` as `$`.
    fs::write(&file, compose.configs["nats"].content.replace("$$", "$")).unwrap();
    let nodes: Vec<_> = compose.services.iter().filter(|(_, service)| service.image.starts_with("nats:")).collect();
    assert_eq!(nodes.len(), 3, "three nodes hold three copies");
    for (name, node) in nodes {
        let check = Command::new(nats_server()).arg("-t").arg("--config").arg(&file).envs(&node.environment).output();
        let check = check.unwrap();
        assert!(check.status.success(), "{name}: {}", String::from_utf8_lossy(&check.stderr));
        assert_eq!(node.environment["NATS_NODE"], *name);
        assert!(node.volumes.contains(&format!("{name}:/data")), "{name} keeps its messages in a volume of its own");
    }
}

#[tokio::test]
async fn the_services_of_compose_run_as_processes_and_answer() {
    let folder = tempfile::tempdir().unwrap();
    let nats = Nats::start(folder.path());
    let mut services = yalo_services();
    let init = services.remove("init").expect("a service that makes the streams");
    let (code, output, errors) = start("init", 1, &init, folder.path(), &nats).finish().await;
    assert_eq!(code, Some(0), "yalo init: {output}{errors}");

    let mut processes: Vec<(&str, Process)> = Vec::new();
    for (name, service) in &services {
        assert!(service.depends_on.contains_key("init"), "{name} must wait for init");
        for number in 1..=service.deploy.replicas {
            processes.push((name, start(name, number, service, folder.path(), &nats).run().await));
        }
    }
    let count = |role: &str| processes.iter().filter(|(name, _)| *name == role).count();
    assert_eq!(["frontend", "bot", "auditor", "admin"].map(count), [2, 3, 2, 1]);

    let address = |role: &str, word: &str| -> Vec<String> {
        processes.iter().filter(|(name, _)| *name == role).map(|(_, process)| process.address(word)).collect()
    };
    // A conversation that begins at one frontend goes on at the other: both know the key that signs its token.
    let frontends = address("frontend", "chat");
    let first = chat(&frontends[0], None, json!({"text": "hello"})).await;
    let token = first["token"].as_str().unwrap();
    let second = json!({"text": "and again", "conversation": first["conversation"]});
    let second = chat(&frontends[1], Some(token), second).await;
    assert_eq!(second["conversation"], first["conversation"]);

    let operator = fs::read_to_string(folder.path().join("store/admin-token")).unwrap();
    let conversation = first["conversation"].as_str().unwrap();
    let path = format!("{}/admin/v1/conversations/{conversation}/messages", address("admin", "admin")[0]);
    let texts = transcript(&path, operator.trim(), 4).await;
    assert_eq!([&texts[0], &texts[2]], ["hello", "and again"], "{texts:?}");

    // The edge first: what has been accepted is still answered and stored.
    for role in ["frontend", "bot", "auditor", "admin"] {
        for (_, process) in processes.iter_mut().filter(|(name, _)| *name == role) {
            process.stop().await;
        }
    }
}

/// Posts one text and reads the answer.
async fn chat(frontend: &str, token: Option<&str>, body: Value) -> Value {
    let mut request = reqwest::Client::new().post(format!("{frontend}/v1/chat")).json(&body).timeout(PATIENCE);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let reply: Value = request.send().await.unwrap().json().await.unwrap();
    assert!(reply["answer"]["text"].is_string(), "no answer: {reply}");
    reply
}

/// Waits until admin has that many messages with a text, and returns the texts.
async fn transcript(path: &str, token: &str, count: usize) -> Vec<String> {
    let end = Instant::now() + PATIENCE;
    loop {
        let reply = reqwest::Client::new().get(path).bearer_auth(token).timeout(PATIENCE).send().await.unwrap();
        let page: Value = reply.json().await.unwrap();
        let messages = page["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
        let texts: Vec<String> =
            messages.iter().filter_map(|message| Some(message["text"].as_str()?.to_owned())).collect();
        if texts.len() >= count {
            assert_eq!(texts.len(), count, "{texts:?}");
            return texts;
        }
        assert!(Instant::now() < end, "admin has only {page}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[derive(Deserialize)]
struct Compose {
    services: BTreeMap<String, Service>,
    configs: BTreeMap<String, ConfigFile>,
}

#[derive(Deserialize)]
struct Service {
    image: String,
    command: Vec<String>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    #[serde(default)]
    volumes: Vec<String>,
    #[serde(default)]
    depends_on: BTreeMap<String, Value>,
    #[serde(default)]
    deploy: Deploy,
}

#[derive(Deserialize)]
struct Deploy {
    replicas: usize,
}

impl Default for Deploy {
    fn default() -> Self {
        Self { replicas: 1 }
    }
}

#[derive(Deserialize)]
struct ConfigFile {
    content: String,
}

fn compose() -> Compose {
    serde_saphyr::from_str(&fs::read_to_string(root().join("compose.yaml")).unwrap()).unwrap()
}

/// The services that run the image of the Dockerfile.
fn yalo_services() -> BTreeMap<String, Service> {
    let services = compose().services.into_iter().filter(|(_, service)| service.image == "yalo");
    let services: BTreeMap<_, _> = services.collect();
    let names: Vec<&str> = services.keys().map(String::as_str).collect();
    assert_eq!(names, ["admin", "auditor", "bot", "frontend", "init"], "one service per role, and init");
    services
}

/// One container as a process: the image's environment, over it the service's, and over both what a single machine
/// needs: free ports, one NATS, folders below `folder`.
fn start(name: &str, number: usize, service: &Service, folder: &Path, nats: &Nats) -> Start {
    let mut environment = image_environment();
    environment.extend(service.environment.clone());
    let shares_the_store = service.volumes.iter().any(|volume| volume == "store:/var/lib/yalo");
    let own = format!("{name}-{number}");
    let data = folder.join(if shares_the_store { "store" } else { &own });
    fs::create_dir_all(&data).unwrap();
    for (variable, value) in &mut environment {
        match variable.as_str() {
            "YALO_NATS__URL" => value.clone_from(&nats.url),
            "YALO_NATS__REPLICAS" => "1".clone_into(value),
            "YALO_DATA__DIR" => *value = data.display().to_string(),
            _ if variable.ends_with("__LISTEN") => "127.0.0.1:0".clone_into(value),
            // What compose takes from the shell, and refuses to start without.
            _ if value.starts_with("${YALO_AUTH__GUEST_KEY:?") => {
                "as many characters as a key needs".clone_into(value);
            }
            _ => assert!(!value.contains('$'), "{name}: {variable} needs {value}"),
        }
    }
    assert_eq!(environment["YALO_NATS__URL"], nats.url, "{name} is told where NATS is");
    Start {
        name: own,
        folder: folder.to_owned(),
        arguments: service.command.clone(),
        environment: environment.into_iter().collect(),
        ..Start::default()
    }
}

/// The variables that the Dockerfile sets.
fn image_environment() -> BTreeMap<String, String> {
    let dockerfile = fs::read_to_string(root().join("Dockerfile")).unwrap();
    let words = dockerfile.split_whitespace().filter(|word| word.starts_with("YALO_"));
    words.filter_map(|word| word.split_once('=')).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// `section.key` for every key.
fn keys() -> BTreeSet<String> {
    let text = fs::read_to_string(root().join("config/yalo.toml")).unwrap();
    let sections: toml::Table = text.parse().unwrap();
    let keys = |(section, keys): (&String, &toml::Value)| -> Vec<String> {
        keys.as_table().unwrap().keys().map(|key| format!("{section}.{key}")).collect()
    };
    sections.iter().flat_map(keys).collect()
}

/// The variables of a text that stand for keys: `YALO_SECTION__KEY`.
fn variables(text: &str) -> BTreeSet<&str> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    // The word that explains the pattern is none.
    words.filter(|word| word.starts_with("YALO_") && word.contains("__") && *word != "YALO_SECTION__KEY").collect()
}

/// A server with JetStream on a free port; dropping it ends it.
struct Nats {
    child: Child,
    url: String,
}

impl Nats {
    fn start(folder: &Path) -> Self {
        let folder = folder.join("nats");
        fs::create_dir_all(&folder).unwrap();
        let log = fs::File::create(folder.join("log")).unwrap();
        let mut command = Command::new(nats_server());
        command.args(["--addr", "127.0.0.1", "--port", "-1", "--jetstream", "--store_dir"]).arg(&folder);
        command.arg("--ports_file_dir").arg(&folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().unwrap();
        let ports = folder.join(format!("nats-server_{}.ports", child.id()));
        let mut nats = Self { child, url: String::new() };
        let end = Instant::now() + PATIENCE;
        while nats.url.is_empty() {
            assert!(Instant::now() < end, "nats-server wrote no {}", ports.display());
            std::thread::sleep(Duration::from_millis(10));
            let written = serde_json::from_str::<Value>(&fs::read_to_string(&ports).unwrap_or_default());
            nats.url = written.ok().and_then(|ports| Some(ports["nats"][0].as_str()?.to_owned())).unwrap_or_default();
        }
        nats
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        // Fails only if it has ended already.
        self.child.kill().and_then(|()| self.child.wait().map(drop)).ok();
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
