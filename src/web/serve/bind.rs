//! Listening sockets with the options that every accepted connection inherits.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::net::TcpListener;

/// Connections that the kernel holds for us while we are busy.
const BACKLOG: i32 = 1024;
/// What the kernel buffers for one slow reader. Its default grows to 4 MiB, which would hide a reader that has stopped.
const SEND_BUFFER_BYTES: usize = 64 * 1024;
/// A peer that is silent this long is asked whether it lives.
const KEEP_ALIVE: Duration = Duration::from_mins(1);
/// A peer that takes nothing of what was sent for this long is dropped.
const UNTAKEN: Duration = Duration::from_mins(1);

/// Listens on `address` ("127.0.0.1:8080", "localhost:0"). `key` is the setting that it comes from, for the error.
///
/// The error keeps its kind, so that a used port ([`io::ErrorKind::AddrInUse`]) can be told from others. Must be called
/// inside the runtime. Shared, since replicas of a role accept from one listener.
pub fn bind(address: &str, key: &str) -> io::Result<Arc<TcpListener>> {
    let explain = |error: &io::Error| io::Error::new(error.kind(), explanation(address, key, error));
    let candidates = address.to_socket_addrs().map_err(|error| explain(&error))?;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for candidate in candidates {
        match listen(candidate) {
            Ok(listener) => return Ok(Arc::new(listener)),
            Err(error) => last = error,
        }
    }
    Err(explain(&last))
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    // On Linux this takes over a port in its closing time only, never one in use.
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEP_ALIVE).with_interval(KEEP_ALIVE / 4))?;
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(UNTAKEN))?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn explanation(address: &str, key: &str, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "cannot listen on {address}: another process uses this port; stop it, or set {key} to a free one \
             (port 0 takes any)"
        ),
        io::ErrorKind::AddrNotAvailable => {
            format!("cannot listen on {address}: this machine has no such address; set {key} to one of its own")
        }
        io::ErrorKind::PermissionDenied => {
            format!("cannot listen on {address}: not permitted; set {key} to a port above 1023")
        }
        _ => format!("cannot listen on {address}: {error}; set {key} to host:port, such as 127.0.0.1:8080"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_used_port_is_refused_by_the_name_of_its_key() {
        let first = bind("127.0.0.1:0", "frontend.listen").unwrap();
        let address = first.local_addr().unwrap().to_string();
        let error = bind(&address, "frontend.listen").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        let text = error.to_string();
        assert!(text.contains(&address) && text.contains("frontend.listen"), "{text}");
    }

    #[tokio::test]
    async fn what_is_no_address_is_refused_by_the_name_of_its_key() {
        for address in ["", "8080", "127.0.0.1", "127.0.0.1:99999", "192.0.2.1:80"] {
            let text = bind(address, "admin.listen").unwrap_err().to_string();
            assert!(text.contains("admin.listen"), "{text}");
        }
    }

    #[tokio::test]
    async fn accepted_connections_inherit_the_options_of_the_listener() {
        let listener = bind("localhost:0", "frontend.listen").unwrap();
        let address = listener.local_addr().unwrap();
        let (client, accepted) = tokio::join!(tokio::net::TcpStream::connect(address), listener.accept());
        let (stream, _) = accepted.unwrap();
        let socket = socket2::SockRef::from(&stream);
        assert!(socket.tcp_nodelay().unwrap());
        assert!(socket.keepalive().unwrap());
        // The kernel doubles what it is asked for.
        assert_eq!(socket.send_buffer_size().unwrap(), 2 * SEND_BUFFER_BYTES);
        #[cfg(target_os = "linux")]
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(UNTAKEN));
        drop(client);
    }
}
