//! A small real server, the process of one task: HTTP, UDP and line-echo listeners that tell who
//! they are.
//!
//! On SIGTERM it drains as a well-behaved server does: it accepts what is already in its backlog,
//! then closes its listeners, answers the next request on each open connection with `Connection:
//! close`, and ends when the last one is closed or the time for it is over.

mod counters;
mod echo;
mod http;
mod udp;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

pub use counters::Counters;

/// What to serve.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// The name that it gives in its answers.
    #[arg(long)]
    pub name: String,
    /// TCP ports to serve HTTP on.
    #[arg(long, value_name = "PORT")]
    pub http: Vec<u16>,
    /// UDP ports on which each datagram is answered.
    #[arg(long, value_name = "PORT")]
    pub udp: Vec<u16>,
    /// TCP ports on which each line is answered.
    #[arg(long, value_name = "PORT")]
    pub echo: Vec<u16>,
    /// Milliseconds that open connections get to finish after SIGTERM.
    #[arg(long, default_value_t = 10_000)]
    pub grace: u64,
    /// Go on when standard input is closed (otherwise that ends it: so a server does not outlive
    /// the lab).
    #[arg(long)]
    pub stay: bool,
}

/// What the connections of one server share.
#[derive(Debug)]
struct Shared {
    name: String,
    counters: Counters,
    /// Becomes true when the server drains.
    draining: watch::Receiver<bool>,
}

/// Serves until told to stop. Prints `ready` once every listener is there.
pub fn serve(options: &Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(run(options))
}

async fn run(options: &Options) -> Result<()> {
    let (drain, draining) = watch::channel(false);
    let shared = Arc::new(Shared {
        name: options.name.clone(),
        counters: Counters::default(),
        draining,
    });
    let mut listeners = tokio::task::JoinSet::new();
    for &port in &options.http {
        listeners.spawn(accept(listen(port)?, Arc::clone(&shared), Kind::Http));
    }
    for &port in &options.echo {
        listeners.spawn(accept(listen(port)?, Arc::clone(&shared), Kind::Echo));
    }
    for &port in &options.udp {
        let socket = udp::bind(port).await?;
        tokio::spawn(udp::serve(socket, Arc::clone(&shared)));
    }
    let mut terminate = signal(SignalKind::terminate())?;
    if !options.stay {
        std::thread::spawn(end_with_input);
    }
    println!("ready");
    terminate.recv().await;
    let _ = drain.send(true);
    while listeners.join_next().await.is_some() {}
    let all_closed = async {
        while shared.counters.open() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let _ = tokio::time::timeout(Duration::from_millis(options.grace), all_closed).await;
    Ok(())
}

/// Ends the program when standard input is closed, which is when the lab is gone, however it went.
fn end_with_input() {
    let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
    std::process::exit(0);
}

fn listen(port: u16) -> Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    socket
        .bind(address)
        .with_context(|| format!("cannot listen on TCP port {port}"))?;
    Ok(socket.listen(4096)?)
}

#[derive(Clone, Copy)]
enum Kind {
    Http,
    Echo,
}

/// Accepts until the server drains, and then what the backlog holds.
async fn accept(listener: TcpListener, shared: Arc<Shared>, kind: Kind) {
    let mut draining = shared.draining.clone();
    loop {
        let accepted = tokio::select! {
            biased;
            accepted = listener.accept() => accepted,
            _ = draining.wait_for(|&draining| draining) => return,
        };
        match accepted {
            Ok((stream, peer)) => start(stream, peer, Arc::clone(&shared), kind),
            // Out of descriptors, or a connection that was gone before it was accepted: neither is
            // a reason to end.
            Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
}

fn start(stream: TcpStream, peer: SocketAddr, shared: Arc<Shared>, kind: Kind) {
    let _ = stream.set_nodelay(true);
    tokio::spawn(async move {
        let _open = shared.counters.connection();
        match kind {
            Kind::Http => http::connection(stream, peer, &shared).await,
            Kind::Echo => echo::connection(stream, &shared).await,
        }
    });
}
