//! The managed server against a real nats-server.

use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use async_nats::ConnectOptions;

use super::testing::{TestServer, client, eventually, options, process_lives};
use super::*;

#[tokio::test]
async fn it_is_ready_quickly_and_lets_its_own_user_in() {
    let begin = Instant::now();
    let test = TestServer::start().await;
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    let client = test.client().await;
    assert_eq!(client.server_info().version, test.server.version().to_string());
    let account = async_nats::jetstream::new(client).query_account().await.unwrap();
    assert_eq!(account.streams, 0);
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn it_holds_less_garbage_than_by_default_and_half_of_the_cores() {
    let test = TestServer::start().await;
    let environment = std::fs::read_to_string(format!("/proc/{}/environ", test.server.pid().unwrap())).unwrap();
    for variable in ["GOGC=50".to_owned(), format!("GOMAXPROCS={}", crate::cores::half())] {
        assert!(environment.split('\0').any(|found| found == variable), "{variable}: {environment:?}");
    }
}

#[tokio::test]
async fn a_wrong_password_is_refused() {
    let test = TestServer::start().await;
    for connecting in
        [ConnectOptions::with_user_and_password("yalo".to_owned(), "guess".to_owned()), ConnectOptions::new()]
    {
        let refusal = connecting.connect(test.server.url()).await.unwrap_err().to_string();
        assert!(refusal.contains("authorization"), "{refusal}");
    }
}

#[tokio::test]
async fn a_second_server_on_one_folder_is_refused_and_names_the_first() {
    let test = TestServer::start().await;
    let pid = test.server.pid().unwrap();
    // The data lock refuses at once; the store's own lock is the net below it, for servers whose yalo is gone.
    let (supervisor, events, _state) = Supervisor::new(options(test.folder.path()));
    let (started, ready) = oneshot::channel();
    let thread = std::thread::spawn(move || supervisor.run(started));
    events.send(Event::Stop { grace: Duration::ZERO }).unwrap();
    assert!(matches!(ready.await.unwrap(), Err(ServerError::Stopped)), "it waits for the store, and can be stopped");
    thread.join().unwrap();
    let mut lock = lock::open(&test.folder.path().join("nats/server.lock")).unwrap();
    assert!(!lock::try_lock(&lock).unwrap());
    assert!(lock::holder(&mut lock).contains(&format!("process {pid},")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_comes_back_on_the_same_port_with_its_data() {
    let test = TestServer::start().await;
    let (url, pid) = (test.server.url(), test.server.pid().unwrap());
    let context = async_nats::jetstream::new(test.client().await);
    context.create_stream("KEPT").await.unwrap();
    for _ in 0..10 {
        context.publish("KEPT", "a word".into()).await.unwrap().await.unwrap();
    }
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid.cast_signed()).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    eventually("another process runs", || test.server.pid().is_some_and(|now| now != pid));
    assert_eq!(test.server.url(), url);
    let context = async_nats::jetstream::new(test.client().await);
    assert_eq!(context.get_stream("KEPT").await.unwrap().cached_info().state.messages, 10);
}

#[tokio::test]
async fn a_server_that_crashes_again_and_again_is_given_up_with_its_last_words() {
    let folder = tempfile::tempdir().unwrap();
    let real = super::testing::program();
    // Starts once; afterwards it only complains.
    let fake = folder.path().join("fake");
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = --version ] && exec {real:?} --version\n\
         if [ -e {0:?} ]; then echo '[1] [FTL] no space left on device' >&2; exit 1; fi\n\
         touch {0:?}; exec {real:?} \"$@\"\n",
        folder.path().join("once")
    );
    std::fs::write(&fake, script).unwrap();
    std::fs::set_permissions(&fake, std::fs::Permissions::from_mode(0o755)).unwrap();
    let server = ManagedServer::start(ServerOptions { program: Some(fake), ..options(folder.path()) }).await.unwrap();
    let pid = rustix::process::Pid::from_raw(server.pid().unwrap().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let reason = tokio::time::timeout(Duration::from_secs(20), server.exited()).await.unwrap().to_string();
    assert!(reason.contains("does not stay up") && reason.contains("no space left"), "{reason}");
}

#[tokio::test]
async fn a_server_that_cannot_start_shows_its_last_words() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let monitor_port = Some(taken.local_addr().unwrap().port());
    let refusal = ManagedServer::start(ServerOptions { monitor_port, ..options(folder.path()) }).await.unwrap_err();
    assert!(matches!(refusal, ServerError::EndedEarly { .. }), "{refusal:?}");
    assert!(refusal.to_string().contains("address already in use"), "{refusal}");
}

#[tokio::test]
async fn a_server_that_never_gets_ready_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let fake = folder.path().join("fake");
    std::fs::write(&fake, "#!/bin/sh\n[ \"$1\" = --version ] && echo 'nats-server: v2.15.1' && exit\nexec sleep 60\n")
        .unwrap();
    std::fs::set_permissions(&fake, std::fs::Permissions::from_mode(0o755)).unwrap();
    let ready_timeout = Duration::from_millis(100);
    let options = ServerOptions { program: Some(fake), ready_timeout, ..ServerOptions::new(folder.path()) };
    let refusal = ManagedServer::start(options).await.unwrap_err();
    assert!(matches!(refusal, ServerError::NotReady { .. }), "{refusal:?}");
}

#[tokio::test]
async fn a_file_in_place_of_the_data_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let refusal = ManagedServer::start(options(&file)).await.unwrap_err();
    assert!(matches!(refusal, ServerError::Folder(LockError::NotAFolder { .. })), "{refusal:?}");
}

#[tokio::test]
async fn a_stop_leaves_no_process_and_frees_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let server = ManagedServer::start(options(folder.path())).await.unwrap();
        let pid = server.pid().unwrap();
        client(&server).await;
        assert!(process_lives(pid));
        let begin = Instant::now();
        server.stop(Duration::from_secs(5)).await;
        assert!(!process_lives(pid));
        assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    }
}

#[tokio::test]
async fn dropping_the_handle_stops_the_server() {
    let test = TestServer::start().await;
    let pid = test.server.pid().unwrap();
    drop(test);
    assert!(!process_lives(pid));
}

#[tokio::test]
async fn debug_shows_no_password() {
    let test = TestServer::start().await;
    assert!(!format!("{:?}", test.server).contains(test.server.password()));
}
