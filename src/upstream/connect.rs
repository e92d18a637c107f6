//! From a host's name to a stream of bytes: resolving, dialling, TLS.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::Mutex;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::SendError;
use crate::clock::{Clock, Moment};

/// Whom to connect to. Cheap to copy; connections are kept per origin.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin(Arc<Place>);

#[derive(Debug, PartialEq, Eq, Hash)]
struct Place {
    is_tls: bool,
    host: String,
    port: u16,
}

impl Origin {
    /// `host` is a name or an address (IPv6 without brackets).
    pub fn new(is_tls: bool, host: &str, port: u16) -> Self {
        Self(Arc::new(Place { is_tls, host: host.to_owned(), port }))
    }

    /// Takes an `http:` or `https:` URL apart: whom to connect to, and path with query.
    pub fn of_url(url: &str) -> Option<(Self, String)> {
        let url = url::Url::parse(url).ok()?;
        let is_tls = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let host = url.host_str()?.trim_start_matches('[').trim_end_matches(']');
        let origin = Self::new(is_tls, host, url.port_or_known_default()?);
        let path =
            url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
        Some((origin, path))
    }

    /// As in a `Host` header: the port only where it is not the scheme's own.
    pub fn authority(&self) -> String {
        let Place { is_tls, host, port } = &*self.0;
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        if *port == if *is_tls { 443 } else { 80 } { host } else { format!("{host}:{port}") }
    }

    /// The host alone.
    pub fn host(&self) -> &str {
        &self.0.host
    }
}

/// A connected stream.
pub enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl fmt::Debug for Stream {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Stream::Plain(_) => "Stream::Plain",
            Stream::Tls(_) => "Stream::Tls",
        })
    }
}

/// How long a resolved name is used again.
const NAME_LIFE: Duration = Duration::from_secs(30);

/// Dials.
pub struct Connector {
    tls: TlsConnector,
    names: Mutex<HashMap<String, (Vec<IpAddr>, Moment)>>,
    clock: Clock,
}

impl fmt::Debug for Connector {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Connector")
    }
}

impl Connector {
    pub fn new(roots: Vec<CertificateDer<'static>>, clock: Clock) -> Self {
        Self { tls: TlsConnector::from(Arc::new(client_tls(roots))), names: Mutex::default(), clock }
    }

    pub async fn connect(&self, origin: &Origin) -> Result<Stream, SendError> {
        let Place { is_tls, host, port } = &*origin.0;
        let addresses = self.resolve(host).await?;
        let mut last = SendError::Connect("the name has no address".into());
        for address in addresses {
            match TcpStream::connect(SocketAddr::new(address, *port)).await {
                Ok(stream) => {
                    // Without it a small event would wait for the acknowledgement of the one before.
                    drop(stream.set_nodelay(true));
                    return if *is_tls { self.secure(stream, host).await } else { Ok(Stream::Plain(stream)) };
                }
                Err(error) => last = SendError::Connect(error.to_string()),
            }
        }
        self.names.lock().remove(host);
        Err(last)
    }

    async fn secure(&self, stream: TcpStream, host: &str) -> Result<Stream, SendError> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| SendError::Connect("the host is no name for TLS".into()))?;
        let stream = self.tls.connect(name, stream).await;
        stream
            .map(|stream| Stream::Tls(Box::new(stream)))
            .map_err(|error| SendError::Connect(error.to_string()))
    }

    async fn resolve(&self, host: &str) -> Result<Vec<IpAddr>, SendError> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![address]);
        }
        let now = self.clock.now();
        if let Some((addresses, since)) = self.names.lock().get(host)
            && now.since(*since) < NAME_LIFE
        {
            return Ok(addresses.clone());
        }
        let found = tokio::net::lookup_host((host, 0)).await;
        let found =
            found.map_err(|error| SendError::Connect(format!("the name does not resolve: {error}")))?;
        let mut addresses: Vec<IpAddr> = found.map(|address| address.ip()).collect();
        addresses.dedup();
        self.names.lock().insert(host.to_owned(), (addresses.clone(), now));
        Ok(addresses)
    }
}

fn client_tls(extra: Vec<CertificateDer<'static>>) -> rustls::ClientConfig {
    let mut roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots.add_parsable_certificates(extra);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions =
        rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = match versions {
        Ok(builder) => builder.with_root_certificates(roots).with_no_client_auth(),
        Err(_) => rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(context, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(context, bytes),
        }
    }

    fn is_write_vectored(&self) -> bool {
        matches!(self, Stream::Plain(_))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(context),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
