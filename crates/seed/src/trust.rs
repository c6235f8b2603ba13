//! Certificate authorities trusted beside those of the system.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use oci_client::client::{Certificate, CertificateEncoding};

/// How a certificate ends in a PEM file; a bundle is taken apart there.
const END: &str = "-----END CERTIFICATE-----";

/// Extra certificate authorities. The system's own bundle is always trusted: it is read through
/// `SSL_CERT_FILE` and `SSL_CERT_DIR` where they are set, else from where the distribution keeps it
/// (on RHCOS `/etc/pki/tls`, which `update-ca-trust` fills).
#[derive(Clone, Default)]
pub struct Trust {
    pem: Vec<Vec<u8>>,
}

/// Why a certificate file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// It cannot be read.
    #[error("reading the CA certificates in \"{}\"", path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It holds no certificate.
    #[error("\"{}\" holds no PEM certificate", path.display())]
    NotPem {
        /// The file.
        path: PathBuf,
    },
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trust({} certificates)", self.pem.len())
    }
}

impl Trust {
    /// Only the system's authorities.
    pub fn system() -> Self {
        Self::default()
    }

    /// Adds a PEM file with one or more certificates, or every `*.crt` and `*.pem` of a directory
    /// (`/etc/containers/certs.d/<registry>`). A path that does not exist adds nothing.
    ///
    /// # Errors
    ///
    /// When a file cannot be read or holds no certificate.
    pub fn add(&mut self, path: &Path) -> Result<(), TrustError> {
        let failed = |source| TrustError::Read {
            path: path.to_owned(),
            source,
        };
        let is_dir = match fs::metadata(path) {
            Ok(metadata) => metadata.is_dir(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        if !is_dir {
            let pem = fs::read(path).map_err(failed)?;
            let text = String::from_utf8_lossy(&pem);
            let found = text.split_inclusive(END).filter_map(|part| {
                let start = part.find("-----BEGIN CERTIFICATE-----")?;
                part.ends_with(END)
                    .then(|| part.as_bytes()[start..].to_vec())
            });
            let before = self.pem.len();
            self.pem.extend(found);
            if self.pem.len() == before {
                return Err(TrustError::NotPem {
                    path: path.to_owned(),
                });
            }
            return Ok(());
        }
        let mut files = Vec::new();
        for entry in fs::read_dir(path).map_err(failed)? {
            let file = entry.map_err(failed)?.path();
            if file
                .extension()
                .is_some_and(|ext| ext == "crt" || ext == "pem")
                && file.is_file()
            {
                files.push(file);
            }
        }
        files.sort();
        files.iter().try_for_each(|file| self.add(file))
    }

    pub(crate) fn pem(&self) -> impl Iterator<Item = &[u8]> {
        self.pem.iter().map(Vec::as_slice)
    }

    pub(crate) fn certificates(&self) -> Vec<Certificate> {
        self.pem
            .iter()
            .map(|pem| Certificate {
                encoding: CertificateEncoding::Pem,
                data: pem.clone(),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_directories() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let one = format!("-----BEGIN CERTIFICATE-----\nAAAA\n{END}\n");
        fs::write(path("a.crt"), format!("# first\n{one}# second\n{one}")).unwrap();
        fs::write(path("b.pem"), &one).unwrap();
        fs::write(path("c.key"), "secret").unwrap();
        fs::write(path("d.txt"), "-----BEGIN CERTIFICATE-----\nAAAA").unwrap();
        let check = |path: PathBuf, expect: Option<usize>| {
            let mut trust = Trust::system();
            let count = trust.add(&path).ok().map(|()| trust.certificates().len());
            assert_eq!(count, expect, "{}", path.display());
        };
        check(path("a.crt"), Some(2));
        check(dir.path().to_owned(), Some(3));
        check(path("gone"), Some(0));
        check(path("d.txt"), None);
    }
}
