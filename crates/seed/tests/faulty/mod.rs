//! A registry that misbehaves as it is told: HTTP/1.1 over TLS, one thread a connection.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use api::{Digest, ImageRef};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use seed::auth::AuthFile;
use seed::registry::{Patience, Registry};
use seed::trust::Trust;
use sha2::{Digest as _, Sha256};

/// What is done with one request for the layer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// Another status, with a Retry-After.
    Status(u16, Option<u64>),
    /// The connection is reset after so many bytes.
    Reset(usize),
    /// It is closed in good order, too early.
    Truncated(usize),
    /// Nothing more comes.
    Stall(usize),
    /// Bytes come in small pieces with pauses.
    Slow,
    /// A byte is wrong.
    WrongByte,
    /// The range is ignored and all of it sent.
    IgnoredRange,
    /// The range sent is another than was asked for.
    WrongRange,
    /// The token that was used is no good any more, after so many bytes.
    Expired(usize),
    /// The answer is elsewhere on this server, and is refused there.
    RefusedElsewhere,
}

struct Shared {
    layer: Vec<u8>,
    digest: Digest,
    documents: Mutex<BTreeMap<String, Vec<u8>>>,
    faults: Mutex<VecDeque<Fault>>,
    always: Mutex<Option<Fault>>,
    sent: AtomicU64,
    tokens: AtomicBool,
    token: AtomicU64,
    ended: AtomicBool,
    port: u16,
}

/// The server; ends with this value.
pub(crate) struct Faulty {
    shared: Arc<Shared>,
    pub(crate) pem: String,
}

pub(crate) const TAG: &str = "seed:1";

/// Bytes that compress badly and differ from place to place.
pub(crate) fn noise(len: usize, salt: u64) -> Vec<u8> {
    let mut state = salt.wrapping_mul(2).wrapping_add(1);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&(state >> 11).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

pub(crate) fn digest(bytes: &[u8]) -> Digest {
    Digest::from_sha256(&Sha256::digest(bytes).into())
}

impl Faulty {
    /// A registry with one image, whose only layer this is.
    pub(crate) fn start(layer: Vec<u8>) -> Self {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let shared = Arc::new(Shared {
            digest: digest(&layer),
            layer,
            documents: Mutex::default(),
            faults: Mutex::default(),
            always: Mutex::default(),
            sent: AtomicU64::new(0),
            tokens: AtomicBool::new(false),
            token: AtomicU64::new(1),
            ended: AtomicBool::new(false),
            port: listener.local_addr().unwrap().port(),
        });
        let (config, serving) = (Arc::new(config), Arc::clone(&shared));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if serving.ended.load(SeqCst) {
                    return;
                }
                let (config, serving) = (Arc::clone(&config), Arc::clone(&serving));
                // A client that goes away ends its connection and nothing else.
                std::thread::spawn(move || drop(serving.serve(&config, stream)));
            }
        });
        let faulty = Self {
            shared,
            pem: made.cert.pem(),
        };
        faulty.tag(&faulty.shared.layer);
        faulty
    }

    /// Lets the tag name an image of this layer.
    pub(crate) fn tag(&self, layer: &[u8]) {
        self.label(layer, &BTreeMap::new());
    }

    /// Lets the tag name an image of this layer, with these labels.
    pub(crate) fn label(&self, layer: &[u8], labels: &BTreeMap<String, String>) {
        let config = serde_json::json!({
            "architecture": "amd64", "os": "linux", "config": { "Labels": labels },
        });
        let config = config.to_string().into_bytes();
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": digest(&config),
                "size": config.len(),
            },
            "layers": [{
                "mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": digest(layer),
                "size": layer.len(),
            }],
        });
        let manifest = manifest.to_string().into_bytes();
        let mut documents = self.shared.documents.lock().unwrap();
        documents.insert(format!("blobs/{}", digest(&config)), config);
        documents.insert(format!("manifests/{}", digest(&manifest)), manifest.clone());
        documents.insert("manifests/1".to_owned(), manifest);
    }

    pub(crate) fn image(&self) -> ImageRef {
        format!("127.0.0.1:{}/{TAG}", self.shared.port)
            .parse()
            .unwrap()
    }

    pub(crate) fn client(&self) -> Registry {
        client(&self.image(), &self.pem)
    }

    /// The next requests for the layer go wrong like this.
    pub(crate) fn will(&self, faults: &[Fault]) {
        self.shared.faults.lock().unwrap().extend(faults);
    }

    /// All requests for the layer that no other fault is for go wrong like this.
    pub(crate) fn always(&self, fault: Option<Fault>) {
        *self.shared.always.lock().unwrap() = fault;
    }

    /// Wants tokens from now on.
    pub(crate) fn want_tokens(&self) {
        self.shared.tokens.store(true, SeqCst);
    }

    /// Takes no more connections: the port is closed, soon.
    pub(crate) fn end(&self) {
        self.shared.ended.store(true, SeqCst);
        drop(TcpStream::connect(("127.0.0.1", self.shared.port)));
    }

    /// Bytes of the layer that were sent.
    pub(crate) fn sent(&self) -> u64 {
        self.shared.sent.load(SeqCst)
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        self.end();
    }
}

/// A client with little patience.
pub(crate) fn client(image: &ImageRef, pem: &str) -> Registry {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ca.crt");
    std::fs::write(&file, pem).unwrap();
    let mut trust = Trust::system();
    trust.add(&file).unwrap();
    let patience = Patience {
        connect: Duration::from_secs(5),
        read: Duration::from_millis(400),
        pause: Duration::from_millis(5),
        tries: 4,
    };
    Registry::patient(image, &AuthFile::anonymous(), &trust, patience).unwrap()
}

type Tls = StreamOwned<ServerConnection, TcpStream>;

impl Shared {
    fn serve(&self, config: &Arc<ServerConfig>, stream: TcpStream) -> std::io::Result<()> {
        let connection =
            ServerConnection::new(Arc::clone(config)).map_err(std::io::Error::other)?;
        let mut stream = BufReader::new(StreamOwned::new(connection, stream));
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line)? == 0 || line.trim().is_empty() {
                break;
            }
            head.push(line.trim().to_owned());
        }
        let mut tls = stream.into_inner();
        let path = head.first().and_then(|line| line.split(' ').nth(1));
        let path = path.unwrap_or_default().to_owned();
        let header = |name: &str| {
            head.iter().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name)
                    .then(|| value.trim().to_owned())
            })
        };
        let token = self.token.load(SeqCst);
        if path.starts_with("/token") {
            let text = format!(r#"{{"token":"t{token}","expires_in":300}}"#);
            return answer(
                &mut tls,
                200,
                "Content-Type: application/json\r\n",
                text.as_bytes(),
            );
        }
        let authorized = header("authorization") == Some(format!("Bearer t{token}"));
        if self.tokens.load(SeqCst) && !authorized {
            let realm = format!("https://127.0.0.1:{}/token", self.port);
            let challenge =
                format!("WWW-Authenticate: Bearer realm=\"{realm}\",service=\"lab\"\r\n");
            return answer(&mut tls, 401, &challenge, b"{\"errors\":[]}");
        }
        let rest = path.strip_prefix("/v2/seed/").unwrap_or_default();
        if rest == format!("blobs/{}", self.digest) {
            let next = self.faults.lock().unwrap().pop_front();
            let fault = next.or(*self.always.lock().unwrap());
            let range = header("range").and_then(|range| {
                let (from, to) = range.strip_prefix("bytes=")?.split_once('-')?;
                let end = self.layer.len();
                let to = to.parse().map_or(end, |to: usize| end.min(to + 1));
                Some(from.parse().ok()?..to)
            });
            return self.layer(tls, fault, range);
        }
        let document = self.documents.lock().unwrap().get(rest).cloned();
        match document {
            Some(bytes) => {
                let kind = "Content-Type: application/vnd.oci.image.manifest.v1+json\r\n";
                answer(&mut tls, 200, kind, &bytes)
            }
            None if path == "/v2/" => answer(&mut tls, 200, "", b"{}"),
            None => answer(
                &mut tls,
                404,
                "",
                b"{\"errors\":[{\"code\":\"NAME_UNKNOWN\"}]}",
            ),
        }
    }

    fn layer(
        &self,
        mut tls: Tls,
        fault: Option<Fault>,
        range: Option<Range<usize>>,
    ) -> std::io::Result<()> {
        let range = match fault {
            Some(Fault::IgnoredRange) => None,
            _ => range,
        };
        match fault {
            Some(Fault::Status(status, retry_after)) => {
                let retry = retry_after.map(|after| format!("Retry-After: {after}\r\n"));
                return answer(
                    &mut tls,
                    status,
                    &retry.unwrap_or_default(),
                    b"{\"errors\":[]}",
                );
            }
            Some(Fault::RefusedElsewhere) => {
                // Another name of this server: another origin.
                let location = format!("Location: https://127.0.0.1:{}/elsewhere\r\n", self.port);
                return answer(&mut tls, 307, &location, b"");
            }
            _ => {}
        }
        let size = self.layer.len();
        let Range { start: begin, end } = range.clone().unwrap_or(0..size);
        let mut body = self.layer.get(begin..end).unwrap_or_default().to_vec();
        let stated = match fault {
            Some(Fault::WrongRange) => begin + 1,
            _ => begin,
        };
        let (status, range) = match range {
            Some(_) => (
                206,
                format!("Content-Range: bytes {stated}-{}/{size}\r\n", end - 1),
            ),
            None => (200, String::new()),
        };
        let len = body.len();
        if let (Some(Fault::WrongByte), Some(byte)) = (fault, body.get_mut(len / 2)) {
            *byte ^= 1;
        }
        write!(
            tls,
            "HTTP/1.1 {status} X\r\nContent-Length: {len}\r\n{range}Connection: close\r\n\r\n"
        )?;
        let limit = match fault {
            Some(
                Fault::Reset(limit)
                | Fault::Truncated(limit)
                | Fault::Stall(limit)
                | Fault::Expired(limit),
            ) => limit,
            _ => len,
        };
        for piece in body[..limit.min(len)].chunks(16 << 10) {
            tls.write_all(piece)?;
            self.sent.fetch_add(piece.len() as u64, SeqCst);
            if let Some(Fault::Slow) = fault {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        tls.flush()?;
        match fault {
            Some(Fault::Stall(_)) => {
                // Until the client gives up.
                drop(tls.sock.read(&mut [0; 1024]));
            }
            Some(Fault::Expired(_)) => drop(self.token.fetch_add(1, SeqCst)),
            Some(Fault::Truncated(_)) => {
                tls.conn.send_close_notify();
                tls.flush()?;
            }
            _ => {}
        }
        match fault {
            Some(Fault::Reset(_)) => tls.sock.shutdown(Shutdown::Both),
            _ => close(tls),
        }
    }
}

fn answer(tls: &mut Tls, status: u16, headers: &str, body: &[u8]) -> std::io::Result<()> {
    let len = body.len();
    write!(
        tls,
        "HTTP/1.1 {status} X\r\nContent-Length: {len}\r\n{headers}Connection: close\r\n\r\n"
    )?;
    tls.write_all(body)?;
    tls.conn.send_close_notify();
    tls.flush()
}

/// Closes in good order: what the client has not read yet must not be lost by a reset.
fn close(mut tls: Tls) -> std::io::Result<()> {
    tls.conn.send_close_notify();
    tls.flush()?;
    tls.sock.shutdown(Shutdown::Write)?;
    std::io::copy(&mut tls.sock, &mut std::io::sink()).map(drop)
}
