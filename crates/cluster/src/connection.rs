//! The connection to the API server: where it is, who we are, and how long an answer may take.
//!
//! kube's own stack is replaced below the request: a transport that notices a dead peer by the kernel's keepalive
//! needs no timer of ours while the agent idles, and keeps at most two idle connections besides the watch's.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::Stream;
use http::{Request, header};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ConfigExt};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::WatchEvent;
use kube::{Client, Config};
use node::{ErrorKind, PortError, PortResult};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::call::{Call, Verb};
use crate::failure::Failure;
use crate::permission;

/// How long one request may take. The server's own limit is 60 s; a healthy one answers everything asked here within
/// a second, and a pass that waits longer than this is better repeated.
const REQUEST_DEADLINE: Duration = Duration::from_secs(10);
/// How long the readiness question may take.
const READY_DEADLINE: Duration = Duration::from_secs(2);
/// How long a TCP connection may take to come up.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// Connections that are kept while nothing is asked: one for status and questions, one for Events, which are posted meanwhile.
/// With fewer a status that is due while an Event is on its way would begin with a TLS handshake.
const IDLE_CONNECTIONS: usize = 2;
/// A silent peer is asked for a sign of life after this long, then every `KEEPALIVE_INTERVAL`, and given up
/// after `KEEPALIVE_RETRIES` questions: 90 s after it vanished.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 3;

/// The environment variable with the descriptor of the service account's directory, opened before the agent entered
/// the host's mount namespace, where the directory has no path.
const SERVICE_ACCOUNT_FD: &str = "LCA_SERVICE_ACCOUNT_FD";
/// Where a pod's service account lies when no descriptor was kept.
const SERVICE_ACCOUNT_DIRECTORY: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// By what the agent reaches the API server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Access {
    /// A kubeconfig file.
    Kubeconfig(PathBuf),
    /// A pod's service account: files `token` (read again as it rotates) and `ca.crt` in a directory.
    ServiceAccount {
        /// The directory; may be a path under `/proc/self/fd`.
        directory: PathBuf,
        /// Host name or address of the API server.
        host: String,
        /// Port of the API server.
        port: u16,
    },
}

impl Access {
    /// The kubeconfig, if one is named; else the service account that the environment of a pod describes: the
    /// directory by descriptor in `LCA_SERVICE_ACCOUNT_FD` or at its usual path, the server in
    /// `KUBERNETES_SERVICE_HOST` and `KUBERNETES_SERVICE_PORT`. `variable` looks up an environment variable.
    ///
    /// # Errors
    /// `Permanent` when neither is there or a variable is malformed.
    pub fn find(
        kubeconfig: Option<&Path>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> PortResult<Self> {
        if let Some(path) = kubeconfig {
            return Ok(Self::Kubeconfig(path.to_owned()));
        }
        let wrong = |text: String| PortError::plain(ErrorKind::Permanent, text);
        let Some(host) = variable("KUBERNETES_SERVICE_HOST").filter(|host| !host.is_empty()) else {
            return Err(wrong(
                "no way to the API server: name a kubeconfig, or run in a pod (KUBERNETES_SERVICE_HOST is not set)"
                    .to_owned(),
            ));
        };
        let port = match variable("KUBERNETES_SERVICE_PORT") {
            None => 443,
            Some(text) => text
                .parse()
                .map_err(|_| wrong(format!("KUBERNETES_SERVICE_PORT is not a port: {text:?}")))?,
        };
        let directory = match variable(SERVICE_ACCOUNT_FD) {
            None => PathBuf::from(SERVICE_ACCOUNT_DIRECTORY),
            Some(text) => {
                let descriptor: u32 = text.parse().map_err(|_| {
                    wrong(format!(
                        "{SERVICE_ACCOUNT_FD} is not a descriptor: {text:?}"
                    ))
                })?;
                PathBuf::from(format!("/proc/self/fd/{descriptor}"))
            }
        };
        Ok(Self::ServiceAccount {
            directory,
            host,
            port,
        })
    }

    async fn config(&self) -> PortResult<Config> {
        match self {
            Self::Kubeconfig(path) => kubeconfig(path).await,
            Self::ServiceAccount {
                directory,
                host,
                port,
            } => service_account(directory, host, *port),
        }
    }
}

async fn kubeconfig(path: &Path) -> PortResult<Config> {
    let context = || format!("reading kubeconfig {}", path.display());
    let text = std::fs::read(path).map_err(|error| match error.kind() {
        // kubelet or the installer may still be about to write it.
        std::io::ErrorKind::NotFound => PortError::plain(
            ErrorKind::Transient,
            format!("kubeconfig {} does not exist", path.display()),
        ),
        _ => PortError::new(ErrorKind::Permanent, context(), error),
    })?;
    let parsed = parse_kubeconfig(&text, path.parent().unwrap_or(Path::new("/")))
        .map_err(|error| PortError::new(ErrorKind::Permanent, context(), error))?;
    Config::from_custom_kubeconfig(parsed, &KubeConfigOptions::default())
        .await
        .map_err(|error| PortError::new(ErrorKind::Permanent, context(), error))
}

/// Parses a kubeconfig; the files that it names lie relative to its own directory. kube's own way would bring a second YAML
/// parser into the binary, which is as large as the rest of what it does here.
fn parse_kubeconfig(text: &[u8], directory: &Path) -> Result<Kubeconfig, serde_yaml_ng::Error> {
    let mut parsed: Kubeconfig = serde_yaml_ng::from_slice(text)?;
    let clusters = parsed.clusters.iter_mut();
    let authorities = clusters
        .flat_map(|named| &mut named.cluster)
        .map(|cluster| &mut cluster.certificate_authority);
    let users = parsed.auth_infos.iter_mut();
    let credentials = users
        .flat_map(|named| &mut named.auth_info)
        .flat_map(|user| {
            [
                &mut user.client_certificate,
                &mut user.client_key,
                &mut user.token_file,
            ]
        });
    for file in authorities.chain(credentials).flatten() {
        *file = directory.join(&*file).display().to_string();
    }
    Ok(parsed)
}

fn service_account(directory: &Path, host: &str, port: u16) -> PortResult<Config> {
    let host = if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    };
    let address = format!("https://{host}:{port}");
    let url = address.parse().map_err(|error: http::uri::InvalidUri| {
        PortError::new(
            ErrorKind::Permanent,
            format!("reading the API server's address {address:?}"),
            error,
        )
    })?;
    let token = directory.join("token");
    let authority = directory.join("ca.crt");
    for path in [&token, &authority] {
        if !path.exists() {
            return Err(PortError::plain(
                ErrorKind::Permanent,
                format!(
                    "service account file {} does not exist; the pod needs automountServiceAccountToken",
                    path.display()
                ),
            ));
        }
    }
    let mut config = Config::new(url);
    config.root_cert_file = Some(authority);
    config.auth_info.token_file = Some(token.display().to_string());
    Ok(config)
}

/// What the server says of a kind of object.
#[derive(serde::Deserialize)]
pub(crate) struct Resource {
    /// The word in paths; that of a part of an object has a slash.
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) namespaced: bool,
}

#[derive(serde::Deserialize)]
struct Resources {
    resources: Vec<Resource>,
}

/// A connection to the API server. Cheap to clone; clones share the transport.
#[derive(Clone)]
pub struct Connection {
    client: Client,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connection(..)")
    }
}

impl Connection {
    /// Prepares a connection; nothing is sent yet. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// `Transient` when the kubeconfig does not exist (yet), `Permanent` when credentials are missing or malformed.
    pub async fn open(access: &Access) -> PortResult<Self> {
        Self::with_config(access.config().await?)
    }

    fn with_config(mut config: Config) -> PortResult<Self> {
        // The server notes it beside each field that we write, and in its audit log.
        config.headers.push((
            header::USER_AGENT,
            http::HeaderValue::from_static("lifecycle-agent"),
        ));
        let wrong = |error: kube::Error| {
            PortError::new(
                ErrorKind::Permanent,
                "preparing the connection to the API server",
                error,
            )
        };
        // More than one crypto library may be linked into the binary; an error means that one is chosen already.
        let _chosen = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_DEADLINE));
        tcp.set_keepalive(Some(KEEPALIVE_IDLE));
        tcp.set_keepalive_interval(Some(KEEPALIVE_INTERVAL));
        tcp.set_keepalive_retries(Some(KEEPALIVE_RETRIES));
        let tls = config
            .rustls_https_connector_with_connector(tcp)
            .map_err(wrong)?;
        let transport: HttpClient<_, Body> = HttpClient::builder(TokioExecutor::new())
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .build(tls);
        let service = tower::ServiceBuilder::new()
            .layer(config.base_uri_layer())
            .option_layer(config.auth_layer().map_err(wrong)?)
            .layer(config.extra_headers_layer().map_err(wrong)?)
            .map_err(tower::BoxError::from)
            .service(transport);
        Ok(Self {
            client: Client::new(service, config.default_namespace),
        })
    }

    /// Whether the API server says that it is ready, within 2 s.
    pub async fn ready(&self) -> bool {
        let Ok(request) = Request::get("/readyz").body(Vec::new()) else {
            return false;
        };
        let answer = tokio::time::timeout(READY_DEADLINE, self.client.request_text(request)).await;
        matches!(answer, Ok(Ok(_)))
    }

    /// Sends one request and gives the answer's text.
    pub(crate) async fn send(
        &self,
        call: &Call<'_>,
        body: Option<&Value>,
    ) -> Result<String, Failure> {
        let request = request(call, body)?;
        let answer = tokio::time::timeout(REQUEST_DEADLINE, self.client.request_text(request))
            .await
            .map_err(|_elapsed| Failure::Deadline(REQUEST_DEADLINE))?;
        match answer.map_err(|error| Failure::from_client(call, error)) {
            // A server that has not read its own rules yet refuses everything.
            Err(Failure::Forbidden { message, .. }) if !self.ready().await => {
                Err(Failure::Unready(message))
            }
            other => other,
        }
    }

    /// Sends one request and reads the answer as `T`.
    pub(crate) async fn ask<T: DeserializeOwned>(
        &self,
        call: &Call<'_>,
        body: Option<&Value>,
    ) -> Result<T, Failure> {
        // Not kube's typed request: it logs an answer that it cannot read, and answers may be Secrets.
        let text = self.send(call, body).await?;
        serde_json::from_str(&text).map_err(Failure::Shape)
    }

    /// The kinds that the server has in a group's version; `None` where it has none there.
    pub(crate) async fn resources(&self, path: &str) -> PortResult<Option<Vec<Resource>>> {
        let attempted = || format!("asking the API server what it has at {path}");
        let request = Request::get(path)
            .body(Vec::new())
            .map_err(|error| PortError::new(ErrorKind::Permanent, attempted(), error))?;
        let answer = tokio::time::timeout(REQUEST_DEADLINE, self.client.request_text(request));
        let text = match answer.await {
            Err(elapsed) => {
                return Err(PortError::new(ErrorKind::Transient, attempted(), elapsed));
            }
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => return Ok(None),
            Ok(Err(error)) => {
                return Err(PortError::new(ErrorKind::Transient, attempted(), error));
            }
            Ok(Ok(text)) => text,
        };
        let list: Resources = serde_json::from_str(&text)
            .map_err(|error| PortError::new(ErrorKind::Permanent, attempted(), error))?;
        Ok(Some(list.resources))
    }

    /// Reads an object that must be there.
    pub(crate) async fn read<T: DeserializeOwned>(&self, call: Call<'_>) -> PortResult<T> {
        self.ask(&call, None)
            .await
            .map_err(|failure| failure.during(&call))
    }

    /// Reads an object that may be missing.
    pub(crate) async fn look_for<T: DeserializeOwned>(
        &self,
        call: Call<'_>,
    ) -> PortResult<Option<T>> {
        match self.ask(&call, None).await {
            Ok(object) => Ok(Some(object)),
            Err(Failure::NotFound(_)) => Ok(None),
            Err(failure) => Err(failure.during(&call)),
        }
    }

    /// Starts a watch; the stream ends when the server or the network ends it.
    pub(crate) async fn follow<T: Clone + DeserializeOwned>(
        &self,
        call: &Call<'_>,
    ) -> Result<impl Stream<Item = Result<WatchEvent<T>, kube::Error>> + use<T>, Failure> {
        let request = request(call, None)?;
        tokio::time::timeout(REQUEST_DEADLINE, self.client.request_events(request))
            .await
            .map_err(|_elapsed| Failure::Deadline(REQUEST_DEADLINE))?
            .map_err(|error| Failure::from_client(call, error))
    }
}

fn request(call: &Call<'_>, body: Option<&Value>) -> Result<Request<Vec<u8>>, Failure> {
    debug_assert!(
        call.of_manifest
            || permission::CONTROLLER
                .iter()
                .chain(permission::NODE)
                .any(|known| known.covers(call)),
        "{call} is missing in the list of permissions"
    );
    let path = call.path().ok_or_else(|| {
        let named = [call.namespace, call.name]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join("/");
        Failure::Name(named.escape_debug().take(300).collect())
    })?;
    let content = if call.verb == Verb::Patch {
        "application/merge-patch+json"
    } else {
        "application/json"
    };
    let accepted = if call.metadata_only {
        "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
    } else {
        "application/json"
    };
    let body = match body {
        None => Vec::new(),
        Some(value) => serde_json::to_vec(value).map_err(Failure::Shape)?,
    };
    Request::builder()
        .method(call.verb.method())
        .uri(path)
        .header(header::CONTENT_TYPE, content)
        .header(header::ACCEPT, accepted)
        .body(body)
        .map_err(|error| Failure::Unreachable(error.into()))
}
