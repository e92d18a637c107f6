//! Sockets and the life of the process: pingora owns listeners, workers, hand-over and drain; hyper owns the bytes.
//!
//! `SIGTERM`: `/readyz` says no, listeners close after `drain.delay`, streams finish within `drain.timeout`, what is left
//! then is ended with an error event, and the process exits 0. `SIGQUIT`: the same, after the listening sockets have been
//! handed to a new process that was started with `--upgrade`, so that no connection is refused in between. A second
//! `SIGTERM`, or `SIGINT`, is quick.

use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Poll, Waker};
use std::time::Duration;

use anyhow::Context as _;

use async_trait::async_trait;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
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
    http1: http1::Builder,
    http2: http2::Builder<Streams>,
    patience: Patience,
    connections: Arc<Connections>,
}

#[async_trait]
impl ServerApp for App {
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let _counted = self.connections.enter(&self.desk.gateway.metrics.connections);
        let peer = stream.get_socket_digest().and_then(|digest| Some(digest.peer_addr()?.as_inet()?.ip()));
        match &self.tls {
            None => self.speak(stream, peer, shutdown.clone()).await,
            Some(acceptor) => {
                match tokio::time::timeout(self.patience.head, Box::pin(acceptor.accept(stream))).await {
                    // Boxed: every connection's future has room for this one, also where there is no TLS.
                    Ok(Ok(secured)) => self.speak(Box::new(secured), peer, shutdown.clone()).await,
                    Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
                    Err(_) => tracing::debug!("a TLS handshake took too long"),
                }
            }
        }
        None
    }
}

impl App {
    async fn speak<S>(&self, stream: S, peer: Option<IpAddr>, mut shutdown: ShutdownWatch)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let phase: Arc<Phase> = Arc::default();
        let mut wire = Wire::new(stream, Arc::clone(&phase), self.patience);
        let opening = tokio::select! {
            biased;
            opening = wire.is_http2() => opening,
            () = told_to_stop(&mut shutdown) => match tokio::time::timeout(FIRST_REQUEST, wire.is_http2()).await {
                Ok(opening) => opening,
                Err(_) => return,
            },
        };
        let is_http2 = match opening {
            Ok(is_http2) => is_http2,
            Err(error) => return tracing::debug!(%error, "a connection ended before its first request"),
        };
        let (desk, begun) = (Arc::clone(&self.desk), Arc::clone(&phase));
        // Boxed: the codec keeps the place of a request's future for the connection's whole life, also while a stream of
        // hours needs it no more.
        let service = service_fn(move |request| {
            Box::pin(serve(Arc::clone(&desk), Arc::clone(&phase), peer, request))
                as Pin<Box<dyn Future<Output = _> + Send>>
        });
        let wire = TokioIo::new(wire);
        // Guessing the version is ours and not the codec's: its way of guessing doubles the buffer of every connection.
        let ended = if is_http2 {
            let mut connection = Box::pin(self.http2.serve_connection(wire, service));
            see_through(connection.as_mut(), &begun, shutdown, http2::Connection::graceful_shutdown).await
        } else {
            let connection = pin!(self.http1.serve_connection(wire, service).with_upgrades());
            see_through(connection, &begun, shutdown, http1::UpgradeableConnection::graceful_shutdown).await
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection ended early");
        }
    }
}

/// Drives a connection to its end. When the process is told to stop, the connection is told to end with its last request.
async fn see_through<C: Future<Output = hyper::Result<()>>>(
    mut connection: Pin<&mut C>,
    begun: &Phase,
    mut shutdown: ShutdownWatch,
    wind_up: fn(Pin<&mut C>),
) -> hyper::Result<()> {
    let watch = shutdown.clone();
    let mut stop = pin!(told_to_stop(&mut shutdown));
    // Whom the stop wakes: asked anew for every event of every stream, it would cost as much as the event.
    let mut waker: Option<Waker> = None;
    let ended = poll_fn(|context| {
        if let Poll::Ready(ended) = connection.as_mut().poll(context) {
            return Poll::Ready(Some(ended));
        }
        let is_heard = waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker()));
        if is_heard && matches!(watch.has_changed(), Ok(false)) {
            return Poll::Pending;
        }
        waker = Some(context.waker().clone());
        stop.as_mut().poll(context).map(|()| None)
    });
    match ended.await {
        Some(ended) => ended,
        None => Box::pin(wind_down(connection, begun, wind_up)).await,
    }
}

/// Drives a connection to the end of its last request, or of its first.
async fn wind_down<C: Future<Output = hyper::Result<()>>>(
    mut connection: Pin<&mut C>,
    begun: &Phase,
    wind_up: fn(Pin<&mut C>),
) -> hyper::Result<()> {
    let mut patience = pin!(tokio::time::sleep(FIRST_REQUEST));
    let mut told = false;
    poll_fn(|context| {
        if !told && (begun.has_begun() || patience.as_mut().poll(context).is_ready()) {
            told = true;
            wind_up(connection.as_mut());
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

/// How long a connection that was made just before the end may take to bring its first request: the codec would close
/// it unread, and its caller has done nothing wrong.
const FIRST_REQUEST: Duration = Duration::from_secs(1);

async fn told_to_stop(shutdown: &mut ShutdownWatch) {
    // An error means that the sender is gone: the process is going down anyway.
    drop(shutdown.wait_for(|stop| *stop).await);
}

fn http1_codec(head_limit: usize) -> http1::Builder {
    let mut codec = http1::Builder::new();
    codec.max_buf_size(head_limit.max(8 * 1024)).header_read_timeout(None).half_close(false).max_headers(100);
    codec
}

fn http2_codec(head_limit: usize, stall: Duration) -> http2::Builder<Streams> {
    let mut codec = http2::Builder::new(Streams { stall });
    codec
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
            http1: http1_codec(listener.head_limit),
            http2: http2_codec(listener.head_limit, listener.patience.stall),
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

/// So long nobody must be connected before that counts as all of them having gone: a connection that a listener took in its last moment is
/// counted only once its task runs, and its request is not to find the doors shut.
const QUIET: Duration = Duration::from_millis(250);

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
        let mut busy = since;
        while clock.now().since(busy) < QUIET
            && clock.now().since(since) < limit
            && !hurry.load(Ordering::SeqCst).eq(&1)
        {
            if connections.count() > 0 {
                busy = clock.now();
            }
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
