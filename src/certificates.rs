//! The certificate that metrics are served with, as it is now.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;

/// The environment variable with the descriptor of the certificate's directory, opened before the agent entered the host's
/// mount namespace, where the directory has no path.
const DIRECTORY_FD: &str = "LCA_METRICS_CERTIFICATES_FD";
/// File names of a Secret of type `kubernetes.io/tls`.
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
/// A file that is larger is no certificate and no key, in bytes.
const FILE_LIMIT: u64 = 1 << 20;

/// Why there is no certificate to serve with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("examining {}", path.display())]
    Examine {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("reading {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is larger than {FILE_LIMIT} bytes", path.display())]
    Size { path: PathBuf },
    /// Names the file only: what stands in it may be a key.
    #[error("{} is no PEM of what its name says", path.display())]
    Pem { path: PathBuf },
    #[error("{} and {} cannot be used", CERTIFICATE, KEY)]
    Refused(#[source] rustls::Error),
}

/// The certificate in a directory. It is looked at anew by each connection, so that it follows its rotation without a timer.
pub(crate) struct Certificates {
    directory: PathBuf,
    loaded: Mutex<Option<(Stamp, Arc<ServerConfig>)>>,
}

/// What tells one version of the two files from another.
type Stamp = [(u64, u64, i64, i64, u64); 2];

impl Certificates {
    /// The certificate in `directory`, or in the directory whose descriptor this process was left. `variable` looks up an
    /// environment variable.
    pub(crate) fn new(directory: PathBuf, variable: impl Fn(&str) -> Option<String>) -> Self {
        let kept = variable(DIRECTORY_FD).and_then(|number| number.parse::<u32>().ok());
        Self {
            directory: kept.map_or(directory, |number| {
                PathBuf::from(format!("/proc/self/fd/{number}"))
            }),
            loaded: Mutex::default(),
        }
    }

    /// What to serve with now. Files that cannot be used, as in the middle of their rotation, change nothing.
    ///
    /// # Errors
    /// There has never been a certificate that can be used.
    pub(crate) fn current(&self) -> Result<Arc<ServerConfig>, Error> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = self.stamp().and_then(|stamp| match &*loaded {
            Some((known, config)) if *known == stamp => Ok((stamp, config.clone())),
            _ => self.load().map(|config| (stamp, config)),
        });
        match (fresh, &*loaded) {
            (Ok((stamp, config)), _) => {
                *loaded = Some((stamp, config.clone()));
                Ok(config)
            }
            (Err(error), Some((_, config))) => {
                let error = engine::error_chain(&error);
                tracing::warn!(error, "serving metrics with the certificate of before");
                Ok(config.clone())
            }
            (Err(error), None) => Err(error),
        }
    }

    fn stamp(&self) -> Result<Stamp, Error> {
        let of = |name: &str| {
            let path = self.directory.join(name);
            match fs::metadata(&path) {
                Ok(found) => Ok((
                    found.dev(),
                    found.ino(),
                    found.mtime(),
                    found.mtime_nsec(),
                    found.len(),
                )),
                Err(source) => Err(Error::Examine { path, source }),
            }
        };
        Ok([of(CERTIFICATE)?, of(KEY)?])
    }

    fn load(&self) -> Result<Arc<ServerConfig>, Error> {
        let (path, content) = self.read(CERTIFICATE)?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&content).collect();
        let chain = chain.ok().filter(|chain| !chain.is_empty());
        let chain = chain.ok_or(Error::Pem { path })?;
        let (path, content) = self.read(KEY)?;
        let key = PrivateKeyDer::from_pem_slice(&content).map_err(|_| Error::Pem { path })?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(Error::Refused)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(Error::Refused)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // A connection serves one scrape; sessions of others would be kept for nobody.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    fn read(&self, name: &str) -> Result<(PathBuf, Vec<u8>), Error> {
        let path = self.directory.join(name);
        match fs::metadata(&path).map(|found| found.len()) {
            Ok(size) if size > FILE_LIMIT => return Err(Error::Size { path }),
            Ok(_) => {}
            Err(source) => return Err(Error::Examine { path, source }),
        }
        match fs::read(&path) {
            Ok(content) => Ok((path, content)),
            Err(source) => Err(Error::Read { path, source }),
        }
    }
}
