//! Between the nodes of a lab and its registry: counts what they fetch, knows when they fetched last, and can be slow.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns};

use crate::network::Namespace;

/// Bytes that are passed on at once, and so counted and paced at once: a record of TLS.
const CHUNK: usize = 16 << 10;

/// Passes connections on as they are (TLS is between the two ends). Ended when dropped; what is connected by then stays so
/// until one of its ends closes.
#[derive(Debug)]
pub struct Meter {
    shared: Arc<Shared>,
    listener: TcpListener,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Bytes a second, for all connections together.
    rate: Option<u64>,
    /// When the next chunk may go.
    next: Option<Instant>,
    bytes: u64,
    last: Option<Instant>,
}

impl Meter {
    /// Listens on `from` and connects to `to`, both in `namespace`.
    pub(crate) fn start(namespace: &Namespace, from: SocketAddr, to: SocketAddr) -> Result<Meter> {
        let path = namespace.path();
        // A thread has its network namespace for itself, and gives it to those that it starts.
        let entered = thread::spawn(move || -> Result<(TcpListener, Arc<Shared>)> {
            let file = std::fs::File::open(&path)
                .with_context(|| format!("opening {}", path.display()))?;
            setns(file, CloneFlags::CLONE_NEWNET)
                .with_context(|| format!("entering {}", path.display()))?;
            let listener =
                TcpListener::bind(from).with_context(|| format!("listening on {from}"))?;
            let shared = Arc::new(Shared::default());
            let (accepting, counting) = (listener.try_clone()?, Arc::clone(&shared));
            thread::spawn(move || {
                while let Ok((node, _)) = accepting.accept() {
                    let counting = Arc::clone(&counting);
                    // A node whose connection fails sees it closed, as it would by the registry.
                    thread::spawn(move || counting.connect(&node, to));
                }
            });
            Ok((listener, shared))
        });
        let entered = entered.join();
        let entered = entered.map_err(|_| anyhow::anyhow!("the meter's thread has panicked"))?;
        let (listener, shared) = entered?;
        Ok(Meter { shared, listener })
    }

    /// Bytes that went from the registry to nodes until now, TLS and HTTP included.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.shared.lock().bytes
    }

    /// When the last of them went.
    #[must_use]
    pub fn last(&self) -> Option<Instant> {
        self.shared.lock().last
    }

    /// From now on at most so many bytes go in a second, or as many as want to.
    pub fn limit(&self, bytes_per_second: Option<u64>) {
        let mut state = self.shared.lock();
        if state.rate != bytes_per_second {
            (state.rate, state.next) = (bytes_per_second, None);
            self.shared.changed.notify_all();
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        // Linux wakes who waits for connections when the listening socket is shut down.
        let Ok(listener) = self.listener.try_clone() else {
            return;
        };
        let _ = TcpStream::from(OwnedFd::from(listener)).shutdown(Shutdown::Both);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connect(&self, node: &TcpStream, to: SocketAddr) -> io::Result<()> {
        let registry = TcpStream::connect(to)?;
        for stream in [node, &registry] {
            stream.set_nodelay(true)?;
        }
        thread::scope(|scope| {
            scope.spawn(|| {
                let _ = io::copy(&mut &*node, &mut &registry);
                let _ = registry.shutdown(Shutdown::Both);
            });
            let passed = self.pass_on(&registry, node);
            let _ = node.shutdown(Shutdown::Both);
            passed
        })
    }

    fn pass_on(&self, mut registry: &TcpStream, mut node: &TcpStream) -> io::Result<()> {
        let mut buffer = [0; CHUNK];
        loop {
            let length = registry.read(&mut buffer)?;
            let Some(bytes @ [_, ..]) = buffer.get(..length) else {
                return Ok(());
            };
            self.wait_for_turn(length as u64);
            node.write_all(bytes)?;
            let mut state = self.lock();
            state.bytes += length as u64;
            state.last = Some(Instant::now());
        }
    }

    fn wait_for_turn(&self, bytes: u64) {
        let mut state = self.lock();
        while let Some(rate) = state.rate {
            let now = Instant::now();
            let next = state.next.unwrap_or(now);
            let wait = next.saturating_duration_since(now);
            if wait.is_zero() {
                let takes = Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64);
                state.next = Some(next.max(now) + takes);
                return;
            }
            (state, _) = self
                .changed
                .wait_timeout(state, wait)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}
