//! Sockets and the life of the process: pingora owns listeners, workers, hand-over and drain; hyper owns the bytes.
//!
//! `SIGTERM`: `/readyz` says no, listeners close after `drain.delay`, streams finish within `drain.timeout`, what is left
//! then is ended with an error event, and the process exits 0. `SIGQUIT`: the same, after the listening sockets have been
//! handed to a new process that was started with `--upgrade`, so that no connection is refused in between. A second
//! `SIGTERM`, or `SIGINT`, is quick.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;

use async_trait::async_trait;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use pingora_core::apps::ServerApp;
use pingora_core::listeners::ListenerConfig;
use pingora_core::protocols::Stream;
use pingora_core::protocols::l4::stream::L4BufferSettings;
use pingora_core::server::configuration::{Opt, ServerConf};
use pingora_core::server::{
    ExecutionPhase, RunArgs, Server, ShutdownSignal, ShutdownSignalWatch, ShutdownWatch,
};
use pingora_core::services::listening::Service;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::signal::unix::{SignalKind, signal};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::opening::Opening;
use super::service::{Desk, serve};
use super::streams::Streams;
use super::wire::{Patience, Phase, Wire};

/// What one listener needs.
pub struct Listener {
    pub address: SocketAddr,
    pub tls: Option<Arc<rustls::ServerConfig>>,
    pub desk: Arc<Desk>,
    pub patience: Patience,
    /// Largest head, in bytes.
    pub head_limit: usize,
    /// Worker threads.
    pub workers: usize,
}

/// How the process ends.
#[derive(Clone, Copy, Debug)]
pub struct Ending {
    /// Between `SIGTERM` and the closing of the listeners: time for a load balancer to notice.
    pub delay: Duration,
    /// For streams to finish.
    pub timeout: Duration,
}

/// Connections now open, over all listeners.
#[derive(Debug, Default)]
pub struct Connections(AtomicUsize);

struct Counted<'a>(&'a Connections, &'a prometheus::IntGauge);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::SeqCst);
        self.1.dec();
    }
}

impl Connections {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    fn enter<'a>(&'a self, gauge: &'a prometheus::IntGauge) -> Counted<'a> {
        self.0.fetch_add(1, Ordering::SeqCst);
        gauge.inc();
        Counted(self, gauge)
    }
}

struct App {
    desk: Arc<Desk>,
    tls: Option<TlsAcceptor>,
    codec: auto::Builder<Streams>,
    patience: Patience,
    connections: Arc<Connections>,
}

#[async_trait]
impl ServerApp for App {
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let _counted = self.connections.enter(&self.desk.gateway.metrics.connections);
        match &self.tls {
            None => self.speak(stream, shutdown.clone()).await,
            Some(acceptor) => match tokio::time::timeout(self.patience.head, acceptor.accept(stream)).await {
                Ok(Ok(secured)) => self.speak(secured, shutdown.clone()).await,
                Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
                Err(_) => tracing::debug!("a TLS handshake took too long"),
            },
        }
        None
    }
}

impl App {
    async fn speak<S>(&self, stream: S, mut shutdown: ShutdownWatch)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let phase: Arc<Phase> = Arc::default();
        let wire = Wire::new(stream, Arc::clone(&phase), self.patience);
        let (desk, begun) = (Arc::clone(&self.desk), Arc::clone(&phase));
        // Boxed: the codec keeps the place of a request's future for the connection's whole life, also while a stream of
        // hours needs it no more.
        let service =
            service_fn(move |request| Box::pin(serve(Arc::clone(&desk), Arc::clone(&phase), request)));
        let mut connection = pin!(self.codec.serve_connection(TokioIo::new(wire), service));
        let ended = tokio::select! {
            biased;
            ended = connection.as_mut() => ended,
            () = told_to_stop(&mut shutdown) => {
                let mut patience = pin!(tokio::time::sleep(FIRST_REQUEST));
                let mut told = false;
                poll_fn(|context| {
                    if !told && (begun.has_begun() || patience.as_mut().poll(context).is_ready()) {
                        told = true;
                        connection.as_mut().graceful_shutdown();
                    }
                    let polled = connection.as_mut().poll(context);
                    if !told && begun.has_begun() {
                        // It began in this very poll: once more, so that it hears of the end.
                        context.waker().wake_by_ref();
                    }
                    polled
                })
                .await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection ended early");
        }
    }
}

/// How long a connection that was made just before the end may take to bring its first request: the codec would close
/// it unread, and its caller has done nothing wrong.
const FIRST_REQUEST: Duration = Duration::from_secs(1);

async fn told_to_stop(shutdown: &mut ShutdownWatch) {
    // An error means that the sender is gone: the process is going down anyway.
    drop(shutdown.wait_for(|stop| *stop).await);
}

fn codec(head_limit: usize, stall: Duration) -> auto::Builder<Streams> {
    let mut codec = auto::Builder::new(Streams { stall });
    codec
        .http1()
        .max_buf_size(head_limit.max(8 * 1024))
        .header_read_timeout(None)
        .half_close(false)
        .max_headers(100);
    codec
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20))
        .max_concurrent_streams(250)
        .max_header_list_size(u32::try_from(head_limit).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(50)
        .initial_stream_window_size(256 * 1024)
        .initial_connection_window_size(1024 * 1024);
    codec
}

/// Where a new process takes the listening sockets over, and with what name.
#[derive(Clone, Debug)]
pub struct Handover {
    /// The Unix socket on which old and new process meet.
    pub socket: String,
    /// Whether this process is the new one.
    pub is_successor: bool,
}

/// Builds the server over its listeners, which open one after the other; `opened` is called when the last one listens.
/// As a successor this waits until the old process hands its sockets over.
///
/// # Errors
/// Where pingora refuses its configuration.
pub fn build(
    listeners: Vec<Listener>,
    handover: &Handover,
    connections: &Arc<Connections>,
    ending: Ending,
    opened: Box<dyn FnOnce() + Send + Sync>,
) -> anyhow::Result<Server> {
    let conf = ServerConf {
        upgrade_sock: handover.socket.clone(),
        // Longer than we take ourselves: `run` ends the process when the last stream has ended.
        grace_period_seconds: Some(ending.timeout.as_secs() + 60),
        graceful_shutdown_timeout_seconds: Some(1),
        ..ServerConf::default()
    };
    let opt = Opt { upgrade: handover.is_successor, ..Opt::default() };
    let mut server = Server::new_with_opt_and_conf(opt, conf);
    let (mut opened, mut before, mut left) = (Some(opened), None, listeners.len());
    for listener in listeners {
        left -= 1;
        if !handover.is_successor {
            // pingora panics where an address is taken; this says so instead.
            std::net::TcpListener::bind(listener.address)
                .with_context(|| format!("cannot listen on {}", listener.address))?;
        }
        let app = App {
            desk: listener.desk,
            tls: listener.tls.map(TlsAcceptor::from),
            codec: codec(listener.head_limit, listener.patience.stall),
            patience: listener.patience,
            connections: Arc::clone(connections),
        };
        let mut service = Service::new(format!("listener {}", listener.address), app);
        service.threads = Some(listener.workers);
        // hyper has buffers of its own: pingora's would only copy and hold memory.
        let address = listener.address.to_string();
        service.add_listener(ListenerConfig::tcp(address.clone()).l4_buffer(L4BufferSettings::unbuffered()));
        let mut opening = Opening::new(service, address);
        if let Some(opened) = opened.take_if(|_| left == 0) {
            opening = opening.then(opened);
        }
        let handle = server.add_service(opening);
        if let Some(before) = before.replace(handle.clone()) {
            handle.add_dependency(before);
        }
    }
    server.bootstrap();
    Ok(server)
}

/// What else ends the server, and what is done first.
pub struct Told {
    /// Called before the sockets are handed over: what only one process can hold must be let go.
    pub before_handover: Box<dyn Fn() + Send + Sync>,
    /// Ends the server at once, like `SIGINT`.
    pub stop: CancellationToken,
}

struct Signals {
    desk: Arc<Desk>,
    ending: Ending,
    told: Told,
}

#[async_trait]
impl ShutdownSignalWatch for Signals {
    async fn recv(&self) -> ShutdownSignal {
        let (Ok(mut terminate), Ok(mut interrupt), Ok(mut quit)) =
            (signal(SignalKind::terminate()), signal(SignalKind::interrupt()), signal(SignalKind::quit()))
        else {
            tracing::error!("signals cannot be listened to; shutting down");
            return ShutdownSignal::FastShutdown;
        };
        tokio::select! {
            _ = terminate.recv() => {
                tracing::info!("shutting down: finishing what runs");
                self.desk.gateway.drain.begin();
                tokio::time::sleep(self.ending.delay).await;
                ShutdownSignal::GracefulTerminate
            }
            _ = quit.recv() => {
                tracing::info!("handing the listening sockets over");
                (self.told.before_handover)();
                ShutdownSignal::GracefulUpgrade
            }
            _ = interrupt.recv() => self.at_once(),
            () = self.told.stop.cancelled() => self.at_once(),
        }
    }
}

impl Signals {
    /// Not pingora's fast shutdown: that drops connections before their streams could say why they end.
    fn at_once(&self) -> ShutdownSignal {
        self.desk.gateway.drain.end();
        ShutdownSignal::GracefulTerminate
    }
}

/// Runs the server until it is told to stop and has finished what ran.
pub fn run(server: Server, desk: &Arc<Desk>, connections: &Connections, ending: Ending, told: Told) {
    let mut phases = server.watch_execution_phase();
    let signals = Signals { desk: Arc::clone(desk), ending, told };
    // pingora sleeps through its whole grace period; ours ends with the last connection, and the process with it.
    std::thread::spawn(move || server.run(RunArgs { shutdown_signal: Box::new(signals) }));
    while let Ok(phase) = phases.blocking_recv() {
        if matches!(phase, ExecutionPhase::ShutdownStarted | ExecutionPhase::Terminated) {
            break;
        }
    }
    desk.gateway.drain.begin();
    let hurry = watch_for_a_second_signal();
    let clock = &desk.gateway.clock;
    let wait = |limit: Duration| {
        let since = clock.now();
        while connections.count() > 0
            && clock.now().since(since) < limit
            && !hurry.load(Ordering::SeqCst).eq(&1)
        {
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    if !desk.gateway.drain.is_over() {
        wait(ending.timeout);
    }
    desk.gateway.drain.end();
    hurry.store(0, Ordering::SeqCst);
    wait(Duration::from_secs(2));
}

/// Set to 1 by a second `SIGTERM` (or `SIGINT`) during the drain.
fn watch_for_a_second_signal() -> Arc<AtomicUsize> {
    let flag = Arc::new(AtomicUsize::new(0));
    let raised = Arc::clone(&flag);
    std::thread::spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        runtime.block_on(async {
            let (Ok(mut terminate), Ok(mut interrupt)) =
                (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
            else {
                return;
            };
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            raised.store(1, Ordering::SeqCst);
        });
    });
    flag
}
