//! What is served over HTTP: metrics and probes.
//!
//! hyper's server and rustls's acceptor are in the binary anyway for the API server's client; a framework above them would add
//! a router and its middleware for three paths. A connection serves one request and is closed: kubelet and Prometheus open
//! a new one each time or can, and nothing is left that would need a timer while nobody asks.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use crate::certificates::Certificates;
use crate::gate::Gate;
use crate::health::Health;
use crate::metrics::{self, Metrics};

/// How long a connection may last, handshake and answer together.
const CONNECTION_DEADLINE: Duration = Duration::from_secs(10);
/// Connections at a time; more wait in the kernel.
const CONNECTIONS: usize = 16;
/// Wait after a connection could not be taken (no descriptors left, most likely).
const REST: Duration = Duration::from_millis(200);
/// Wait before an address that is taken is tried again: the agent before this one may still be ending.
const REBIND: Duration = Duration::from_secs(5);
/// Bytes of a request's head.
const HEAD_LIMIT: usize = 16 << 10;

/// Where metrics and probes are served (contract 10.1).
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Arguments {
    /// Where metrics are served: `[address]:port`, or 0 for nowhere.
    #[arg(long, default_value = ":8080", value_name = "ADDRESS")]
    metrics_bind_address: BindAddress,
    /// Directory with tls.crt and tls.key to serve metrics with; read again when they change. Without it, plain HTTP.
    #[arg(long, value_name = "DIRECTORY")]
    metrics_tls_cert_dir: Option<PathBuf>,
    /// Where the probes /healthz and /readyz are served: `[address]:port`, or 0 for nowhere.
    #[arg(long, default_value = ":8081", value_name = "ADDRESS")]
    health_probe_bind_address: BindAddress,
    /// Taken and not looked at: a lock on the node keeps a second agent away.
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    leader_elect: Option<bool>,
}

/// An address to listen at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum BindAddress {
    /// Nowhere.
    Off,
    /// At all addresses of the node or pod.
    Any(u16),
    /// At one.
    One(SocketAddr),
}

impl fmt::Display for BindAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("0"),
            Self::Any(port) => write!(f, ":{port}"),
            Self::One(address) => address.fmt(f),
        }
    }
}

impl FromStr for BindAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "0" {
            return Ok(Self::Off);
        }
        let address = match text.strip_prefix(':') {
            Some(port) => port.parse().map(Self::Any).ok(),
            None => text.parse().map(Self::One).ok(),
        };
        address.ok_or_else(|| format!("{text:?} is neither [address]:port nor 0"))
    }
}

impl BindAddress {
    fn bind(self) -> io::Result<Option<std::net::TcpListener>> {
        let listener = match self {
            Self::Off => return Ok(None),
            // Takes connections by IPv4 too, where there is IPv6 at all.
            Self::Any(port) => std::net::TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))
                .or_else(|_| std::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)))?,
            Self::One(address) => std::net::TcpListener::bind(address)?,
        };
        listener.set_nonblocking(true)?;
        Ok(Some(listener))
    }
}

/// What is answered.
struct Answer {
    status: StatusCode,
    media_type: &'static str,
    body: String,
}

impl Answer {
    fn text(status: StatusCode, body: impl Into<String>) -> Self {
        Self {
            status,
            media_type: "text/plain; charset=utf-8",
            body: body.into(),
        }
    }

    /// `ok`, or what is wrong.
    fn verdict(wrong: Option<String>) -> Self {
        match wrong {
            None => Self::text(StatusCode::OK, "ok"),
            Some(reason) => Self::text(StatusCode::INTERNAL_SERVER_ERROR, reason),
        }
    }

    fn not_found() -> Self {
        Self::text(StatusCode::NOT_FOUND, "not found")
    }
}

/// Serves what the arguments say on the runtime, as long as that lives. An address that is taken is told and tried again:
/// the upgrade does not depend on who looks at it.
/// Metrics are for whoever `gate` lets in, where they are served by TLS: without it the token would be for everybody.
pub(crate) fn serve(
    runtime: &Handle,
    arguments: &Arguments,
    metrics: &Metrics,
    gate: &Gate,
    health: &Health,
) {
    let metrics = metrics.clone();
    let certificates = arguments
        .metrics_tls_cert_dir
        .clone()
        .map(|directory| Certificates::new(directory, |name| std::env::var(name).ok()))
        .map(|certificates| (certificates, gate.clone()));
    let scrape = move |path: &str| match path {
        "/metrics" => Answer {
            status: StatusCode::OK,
            media_type: metrics::MEDIA_TYPE,
            body: metrics.text(),
        },
        _ => Answer::not_found(),
    };
    let health = health.clone();
    let probe = move |path: &str| match path.trim_end_matches('/') {
        "/healthz" => Answer::verdict(health.illness()),
        "/readyz" => Answer::verdict(health.unreadiness()),
        _ => Answer::not_found(),
    };
    let metrics_at = arguments.metrics_bind_address;
    listen(runtime, "metrics", metrics_at, certificates, scrape);
    listen(
        runtime,
        "probes",
        arguments.health_probe_bind_address,
        None,
        probe,
    );
}

/// Listens there; the address is told to whoever asked for any port.
fn listen(
    runtime: &Handle,
    what: &'static str,
    address: BindAddress,
    guarded: Option<(Certificates, Gate)>,
    answer: impl Fn(&str) -> Answer + Send + Sync + 'static,
) -> Option<SocketAddr> {
    let server = Arc::new(Server {
        what,
        guarded,
        answer,
    });
    let _entered = runtime.enter();
    match bound(address) {
        Ok(Some((listener, at))) => {
            runtime.spawn(server.accept(listener));
            Some(at)
        }
        Ok(None) => None,
        Err(error) => {
            tracing::error!(%error, %address, "{what} cannot be served, trying again");
            runtime.spawn(async move {
                loop {
                    tokio::time::sleep(REBIND).await;
                    if let Ok(Some((listener, _))) = bound(address) {
                        tracing::info!(%address, "{what} are served");
                        return server.accept(listener).await;
                    }
                }
            });
            None
        }
    }
}

/// A listener of the runtime that this is called in, and where it listens.
fn bound(address: BindAddress) -> io::Result<Option<(TcpListener, SocketAddr)>> {
    let Some(listener) = address.bind()? else {
        return Ok(None);
    };
    let at = listener.local_addr()?;
    Ok(Some((TcpListener::from_std(listener)?, at)))
}

struct Server<A> {
    what: &'static str,
    guarded: Option<(Certificates, Gate)>,
    answer: A,
}

impl<A: Fn(&str) -> Answer + Send + Sync + 'static> Server<A> {
    async fn accept(self: Arc<Self>, listener: TcpListener) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        while let Ok(place) = places.clone().acquire_owned().await {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::debug!(%error, "no connection for {}", self.what);
                    tokio::time::sleep(REST).await;
                    continue;
                }
            };
            let server = self.clone();
            tokio::spawn(async move {
                let served = tokio::time::timeout(CONNECTION_DEADLINE, server.connection(stream));
                match served.await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        let error = engine::error_chain(error.as_ref());
                        tracing::debug!(error, "a connection for {} failed", server.what);
                    }
                    Err(_elapsed) => tracing::debug!("a connection for {} took long", server.what),
                }
                drop(place);
            });
        }
    }

    async fn connection(&self, stream: TcpStream) -> anyhow::Result<()> {
        match &self.guarded {
            None => self.exchange(stream).await,
            Some((certificates, _)) => {
                let acceptor = TlsAcceptor::from(certificates.current()?);
                self.exchange(acceptor.accept(stream).await?).await
            }
        }
    }

    async fn exchange(&self, stream: impl AsyncRead + AsyncWrite + Unpin) -> anyhow::Result<()> {
        let service = service_fn(async |request: Request<Incoming>| {
            Ok::<_, Infallible>(response(self.answer(&request).await))
        });
        http1::Builder::new()
            .keep_alive(false)
            .max_buf_size(HEAD_LIMIT)
            .auto_date_header(false)
            .serve_connection(TokioIo::new(stream), service)
            .await?;
        Ok(())
    }

    async fn answer(&self, request: &Request<Incoming>) -> Answer {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return Answer::text(StatusCode::METHOD_NOT_ALLOWED, "only GET");
        }
        let path = request.uri().path();
        if let Some((_, gate)) = &self.guarded {
            let header = request.headers().get(AUTHORIZATION);
            let header = header.and_then(|value| value.to_str().ok());
            if let Some((status, reason)) = gate.refusal(header, path).await {
                return Answer::text(status, reason);
            }
        }
        (self.answer)(path)
    }
}

fn response(told: Answer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(told.body)));
    *response.status_mut() = told.status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(told.media_type));
    response
}

#[cfg(test)]
#[path = "endpoints_tests.rs"]
mod tests;
