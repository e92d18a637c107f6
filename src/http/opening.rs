//! When the gateway is ready. Why its own file: pingora calls a service started before its socket listens, so `/readyz`
//! could say yes to a load balancer whose first connection was then refused. Here a listener counts as open when its
//! socket listens, and the operators' listener, on which readiness is asked, waits for the callers'.

use async_trait::async_trait;
use pingora_core::apps::ServerApp;
use pingora_core::server::{ListenFds, ShutdownWatch};
use pingora_core::services::listening::Service;
use pingora_core::services::{self, ServiceReadyNotifier, ServiceWithDependents};

/// Between two looks at whether the socket listens; the first look finds it as a rule.
const LOOK: std::time::Duration = std::time::Duration::from_millis(1);

/// A listener that says when it listens.
pub struct Opening<A> {
    service: Service<A>,
    address: String,
    /// Called when it listens.
    opened: Option<Box<dyn FnOnce() + Send + Sync>>,
}

impl<A> Opening<A> {
    /// Watches over `service`, whose only endpoint is `address`.
    pub fn new(service: Service<A>, address: String) -> Self {
        Self { service, address, opened: None }
    }

    /// Calls `opened` when it listens, and so does everything that it depends on.
    #[must_use]
    pub fn then(mut self, opened: Box<dyn FnOnce() + Send + Sync>) -> Self {
        self.opened = Some(opened);
        self
    }
}

#[async_trait]
impl<A: ServerApp + Send + Sync + 'static> ServiceWithDependents for Opening<A> {
    async fn start_service(
        &mut self,
        fds: Option<ListenFds>,
        shutdown: ShutdownWatch,
        listeners_per_fd: usize,
        ready: ServiceReadyNotifier,
    ) {
        let (address, opened, sockets) = (&self.address, self.opened.take(), fds.clone());
        let tell = async move {
            // The table of what the next process would take over: a socket stands in it once it listens.
            while sockets.as_ref().is_some_and(|sockets| sockets.lock().get(address).is_none()) {
                tokio::time::sleep(LOOK).await;
            }
            ready.notify_ready();
            if let Some(opened) = opened {
                opened();
            }
        };
        let served = services::Service::start_service(&mut self.service, fds, shutdown, listeners_per_fd);
        futures_util::future::join(served, tell).await;
    }

    fn name(&self) -> &str {
        services::Service::name(&self.service)
    }

    fn threads(&self) -> Option<usize> {
        self.service.threads
    }

    fn listen_addresses(&self) -> Option<Vec<String>> {
        services::Service::listen_addresses(&self.service)
    }
}
