//! The server of a pod: answers with its own name.
//!
//! | first bytes | what follows |
//! |---|---|
//! | `P` and 8 bytes | the same 8 bytes and the name |
//! | `S` and 8 bytes | a [`stream`] with that number |
//! | `GET ` (TCP) | the name as an HTTP answer, for curl by hand |

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::timeout;
use weir_policy::port::Protocol;

use super::{Service, stream};
use crate::error::{During, Result};
use crate::netns::Inside;

/// Connections waiting to be accepted: more than a matrix opens at once.
const BACKLOG: u32 = 1024;
/// What a client may take to say what it wants.
const FIRST_WORDS: Duration = Duration::from_secs(5);
/// A request: the kind and a number.
pub(super) const REQUEST: usize = 9;

/// The servers of one pod. They end when this is dropped.
pub struct Serving {
    _tasks: JoinSet<()>,
}

/// Must be called inside the engine's runtime.
pub(super) fn serve(
    inside: &Inside,
    name: &str,
    services: &[Service],
    streams: &stream::Registry,
) -> Result<Serving> {
    let mut tasks = JoinSet::new();
    let name: Arc<str> = name.into();
    let wanted: Vec<Service> = services.to_vec();
    let sockets = inside.run(move || {
        wanted
            .iter()
            .filter(|s| s.protocol != Protocol::Sctp)
            .map(|s| open(*s).during(|| format!("serving {s}")))
            .collect::<Result<Vec<_>>>()
    })?;
    for socket in sockets {
        let (name, streams) = (Arc::clone(&name), Arc::clone(streams));
        match socket {
            Socket::Tcp(s) => {
                let listener = s.listen(BACKLOG).during(|| format!("listening for {name}"))?;
                tasks.spawn(accept(listener, name, streams));
            }
            Socket::Udp(s) => {
                let socket = UdpSocket::from_std(s).during(|| format!("listening for {name}"))?;
                tasks.spawn(answer_datagrams(Arc::new(socket), name, streams));
            }
        }
    }
    Ok(Serving { _tasks: tasks })
}

enum Socket {
    Tcp(TcpSocket),
    Udp(std::net::UdpSocket),
}

/// One socket for both families, made in the namespace of the calling thread.
fn open(service: Service) -> io::Result<Socket> {
    let any: [SocketAddr; 2] = [
        (Ipv6Addr::UNSPECIFIED, service.port).into(),
        (Ipv4Addr::UNSPECIFIED, service.port).into(),
    ];
    match service.protocol {
        Protocol::Tcp => {
            // a kernel without IPv6 has no such socket
            let (socket, address) = match TcpSocket::new_v6() {
                Ok(socket) => (socket, any[0]),
                Err(_) => (TcpSocket::new_v4()?, any[1]),
            };
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            Ok(Socket::Tcp(socket))
        }
        Protocol::Udp | Protocol::Sctp => {
            let socket = std::net::UdpSocket::bind(&any[..])?;
            socket.set_nonblocking(true)?;
            Ok(Socket::Udp(socket))
        }
    }
}

async fn accept(listener: TcpListener, name: Arc<str>, streams: stream::Registry) {
    let mut clients = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => {
                    clients.spawn(answer(socket, Arc::clone(&name), Arc::clone(&streams)));
                }
                // the client gave up, or files ran out for a moment: the probe will try again
                Err(_) => tokio::task::yield_now().await,
            },
            Some(_) = clients.join_next() => {}
        }
    }
}

/// Whatever goes wrong with one client is the client's to notice.
async fn answer(mut socket: TcpStream, name: Arc<str>, streams: stream::Registry) {
    let mut request = [0; REQUEST];
    let read = timeout(FIRST_WORDS, socket.read_exact(&mut request)).await;
    if !matches!(read, Ok(Ok(_))) {
        return;
    }
    match request.split_first() {
        Some((b'P', nonce)) => {
            let _ = socket.write_all(&reply(nonce, &name)).await;
            // the client closes first, with a reset, so that no state lingers on either side
            let _ = timeout(FIRST_WORDS, socket.read(&mut [0; 1])).await;
        }
        Some((b'S', id)) => {
            if let Some(state) = stream::find(&streams, id) {
                state.run_server(socket).await;
            }
        }
        Some((b'G', _)) => {
            let text = format!(
                "HTTP/1.0 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n{name}\n",
                name.len() + 1
            );
            let _ = socket.write_all(text.as_bytes()).await;
            // read the rest of the question, or closing would reset the connection under the answer
            let mut rest = [0; 1024];
            while let Ok(Ok(n)) = timeout(Duration::from_millis(200), socket.read(&mut rest)).await
            {
                if n == 0 {
                    break;
                }
            }
        }
        _ => {}
    }
}

async fn answer_datagrams(socket: Arc<UdpSocket>, name: Arc<str>, streams: stream::Registry) {
    let mut buffer = [0; 64];
    let mut senders = JoinSet::new();
    loop {
        let (n, peer) = tokio::select! {
            received = socket.recv_from(&mut buffer) => match received {
                Ok(r) => r,
                // an ICMP error of an earlier answer
                Err(_) => continue,
            },
            Some(_) = senders.join_next() => continue,
        };
        match buffer.get(..n).and_then(|b| b.split_first()) {
            Some((b'P', nonce)) if nonce.len() == REQUEST - 1 => {
                let _ = socket.send_to(&reply(nonce, &name), peer).await;
            }
            Some((b'S', record)) if record.len() >= REQUEST - 1 => {
                let id = record.get(..REQUEST - 1).unwrap_or_default();
                if let Some(state) = stream::find(&streams, id)
                    && state.datagram_arrived()
                {
                    senders.spawn(state.send_datagrams(Arc::clone(&socket), peer));
                }
            }
            _ => {}
        }
    }
}

fn reply(nonce: &[u8], name: &str) -> Vec<u8> {
    [nonce, name.as_bytes(), b"\n"].concat()
}
