//! A way from this machine's loopback to a server inside a namespace, so that a kubeconfig works outside of the testbed, too.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{self, TcpListener};
use tokio::runtime::{Builder, Runtime};

use crate::error::{During, Result};
use crate::netns::Inside;

/// The server is one veth away, if it is there.
const PATIENCE: Duration = Duration::from_secs(1);
/// Before accepting is tried again after it failed.
const PAUSE: Duration = Duration::from_millis(100);

/// A port of the loopback that leads inside. Dropping it closes the port and what came through it.
#[derive(Debug)]
pub struct Door {
    address: SocketAddr,
    // its end is the end of its tasks
    _runtime: Runtime,
}

impl Door {
    /// Opens one. Port 0 lets the system choose.
    pub fn open(inside: &Inside, server: SocketAddrV4, port: u16) -> Result<Self> {
        let during = || format!("opening port {port} for the API server");
        let runtime =
            Builder::new_multi_thread().worker_threads(1).thread_name("door").enable_all().build();
        let runtime = runtime.during(during)?;
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).during(during)?;
        listener.set_nonblocking(true).during(during)?;
        let address = listener.local_addr().during(during)?;
        let inside = inside.clone();
        let handle = runtime.handle().clone();
        let listener =
            runtime.block_on(async { TcpListener::from_std(listener) }).during(during)?;
        runtime.spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((outer, _)) => drop(handle.spawn(lead(outer, inside.clone(), server))),
                    // out of descriptors, most likely
                    Err(_) => tokio::time::sleep(PAUSE).await,
                }
            }
        });
        Ok(Self { address, _runtime: runtime })
    }

    /// Where it is.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Connects somebody with the server; where it is away, the connection is closed.
async fn lead(mut outer: net::TcpStream, inside: Inside, server: SocketAddrV4) -> io::Result<()> {
    let inner = inside
        .ask(move || {
            let stream = TcpStream::connect_timeout(&server.into(), PATIENCE)?;
            stream.set_nonblocking(true)?;
            Ok(stream)
        })
        .await?;
    let mut inner = net::TcpStream::from_std(inner)?;
    copy_bidirectional(&mut outer, &mut inner).await.map(drop)
}
