//! A line between two servers that a test has in its hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

/// A line to Redis, or between two of them, that can be cut, stalled and led elsewhere.
pub struct Proxy {
    pub port: u16,
    target: Arc<AtomicU16>,
    /// Connections made before a cut end with it.
    cuts: Arc<AtomicU64>,
    is_stalled: Arc<AtomicBool>,
}

impl Proxy {
    pub async fn to(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let target = Arc::new(AtomicU16::new(target));
        let proxy = Self { port, target, cuts: Arc::default(), is_stalled: Arc::default() };
        let (target, cuts) = (Arc::clone(&proxy.target), Arc::clone(&proxy.cuts));
        let is_stalled = Arc::clone(&proxy.is_stalled);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let target = target.load(Ordering::SeqCst);
                // To port 0 leads no line.
                let Ok(far) = TcpStream::connect(("127.0.0.1", target)).await else { continue };
                let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                let born = cuts.load(Ordering::SeqCst);
                tokio::spawn(pass(near_in, far_out, born, Arc::clone(&cuts), Arc::clone(&is_stalled)));
                tokio::spawn(pass(far_in, near_out, born, Arc::clone(&cuts), Arc::clone(&is_stalled)));
            }
        });
        proxy
    }

    /// Ends every connection.
    pub fn cut(&self) {
        self.cuts.fetch_add(1, Ordering::SeqCst);
    }

    /// Passes nothing on for as long as it is stalled.
    pub fn stall(&self, is_stalled: bool) {
        self.is_stalled.store(is_stalled, Ordering::SeqCst);
    }

    /// Leads every further connection there, and ends the others.
    pub fn lead_to(&self, target: u16) {
        self.target.store(target, Ordering::SeqCst);
        self.cut();
    }
}

/// Passes bytes on until either side ends or the line is cut.
async fn pass(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    born: u64,
    cuts: Arc<AtomicU64>,
    is_stalled: Arc<AtomicBool>,
) {
    let mut piece = vec![0; 64 * 1024];
    while cuts.load(Ordering::SeqCst) == born {
        let read = tokio::time::timeout(Duration::from_millis(20), from.read(&mut piece)).await;
        let Ok(read) = read else { continue };
        let count = read.unwrap_or(0);
        while is_stalled.load(Ordering::SeqCst) && cuts.load(Ordering::SeqCst) == born {
            sleep(Duration::from_millis(5)).await;
        }
        if count == 0 || cuts.load(Ordering::SeqCst) != born || to.write_all(&piece[..count]).await.is_err() {
            break;
        }
    }
    drop(to.shutdown().await);
}
