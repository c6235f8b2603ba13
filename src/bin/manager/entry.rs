//! The way from the pod's mount namespace into the host's.

use std::convert::Infallible;
use std::env;
use std::ffi::{CString, OsStr, OsString};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sched::{CloneFlags, setns};
use nix::unistd::execve;
use sha2::{Digest, Sha256};

/// Where Kubernetes puts the pod's token and CA.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Tells the agent the descriptor of that directory. Read through it, the token follows its rotation.
const ENV_SERVICE_ACCOUNT: &str = "LCA_SERVICE_ACCOUNT_FD";

/// The flag that names the directory with the certificate that metrics are served with.
const CERTIFICATES_FLAG: &str = "--metrics-tls-cert-dir";

/// Tells the agent the descriptor of that directory. Read through it, the certificate follows its rotation.
const ENV_CERTIFICATES: &str = "LCA_METRICS_CERTIFICATES_FD";

/// Where copies of the agent go, best first. The first is in memory; a node may forbid execution there.
const COPIES: [&str; 2] = ["/run/lifecycle-agent", "/var/lib/lca/bin"];

/// The host's programs, for podman and what it starts; the pod's own value says nothing about the host.
const HOST_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin";

/// Variables that are ours to set; what the pod says in them means nothing.
const OWN_VARIABLES: [&str; 4] = ["PATH", "HOME", ENV_SERVICE_ACCOUNT, ENV_CERTIFICATES];

/// Exists where systemd runs as first process (sd_booted(3)).
const SYSTEMD: &str = "/run/systemd/system";

/// Why the agent does not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The pod's image lacks the agent.
    #[error("opening the agent {}", path.display())]
    Program {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The service account's directory is there and cannot be opened.
    #[error("opening the service account's directory {SERVICE_ACCOUNT}")]
    ServiceAccount(#[source] io::Error),
    /// The directory of the metrics' certificate cannot be opened.
    #[error("opening the directory {} of {CERTIFICATES_FLAG}", path.display())]
    Certificates {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The pod has process numbers of its own, so the host's first process cannot be named.
    #[error("the host's processes cannot be seen; the pod needs \"hostPID: true\"")]
    OwnProcesses,
    /// `/proc/1/ns/mnt` cannot be opened.
    #[error(
        "opening the mount namespace of process 1; the pod needs \"hostPID: true\" and its container \"privileged: true\""
    )]
    Namespace(#[source] io::Error),
    /// The kernel refused the change.
    #[error("entering the mount namespace of process 1; the container needs \"privileged: true\"")]
    Enter(#[source] io::Error),
    /// Process 1 is not an operating system's.
    #[error(
        "process 1 is not the systemd of a node ({SYSTEMD} does not exist in its mount namespace); \
         the pod needs \"hostPID: true\""
    )]
    NoHost,
    /// A directory cannot be left open for the agent.
    #[error("keeping the directory of {variable} open")]
    Keep {
        variable: &'static str,
        #[source]
        source: io::Error,
    },
    /// The copy could not be made.
    #[error("copying the agent to {}", path.display())]
    Copy {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The copy could not be started.
    #[error("starting the agent {}", path.display())]
    Start {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// What is taken along from the pod.
pub(crate) struct Entry {
    program: Vec<u8>,
    /// Directories, each under the variable that tells its descriptor.
    kept: Vec<(&'static str, OwnedFd)>,
    host: File,
}

/// The directory that the agent's arguments name for the metrics' certificate.
pub(crate) fn certificates(arguments: &[OsString]) -> Option<PathBuf> {
    arguments.iter().enumerate().find_map(|(at, argument)| {
        let rest = argument
            .as_bytes()
            .strip_prefix(CERTIFICATES_FLAG.as_bytes())?;
        match rest.strip_prefix(b"=") {
            Some(path) => Some(PathBuf::from(OsStr::from_bytes(path))),
            None if rest.is_empty() => arguments.get(at + 1).map(PathBuf::from),
            None => None,
        }
    })
}

impl Entry {
    /// Reads and opens what only the pod has.
    ///
    /// # Errors
    /// When something of it is missing, or the pod is not allowed to see the host's processes.
    pub(crate) fn prepare(program: &Path, certificates: Option<PathBuf>) -> Result<Self, Error> {
        let bytes = fs::read(program).map_err(|source| Error::Program {
            path: program.to_owned(),
            source,
        })?;
        let mut kept = Vec::new();
        match File::open(SERVICE_ACCOUNT) {
            Ok(directory) => kept.push((ENV_SERVICE_ACCOUNT, OwnedFd::from(directory))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::ServiceAccount(error)),
        }
        if let Some(path) = certificates {
            match File::open(&path) {
                Ok(directory) => kept.push((ENV_CERTIFICATES, OwnedFd::from(directory))),
                // A path of the host, where the agent itself will look.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(Error::Certificates { path, source }),
            }
        }
        if std::process::id() == 1 {
            return Err(Error::OwnProcesses);
        }
        let host = File::open("/proc/1/ns/mnt").map_err(Error::Namespace)?;
        Ok(Self {
            program: bytes,
            kept,
            host,
        })
    }

    /// Enters the host's mount namespace, with its root as current directory.
    ///
    /// # Errors
    /// When the kernel refuses, or what was entered is no host.
    pub(crate) fn enter(self) -> Result<Host, Error> {
        let Self {
            program,
            kept,
            host,
        } = self;
        if !is_own_namespace(&host).map_err(Error::Namespace)? {
            setns(host, CloneFlags::CLONE_NEWNS).map_err(|error| Error::Enter(error.into()))?;
        }
        env::set_current_dir("/").map_err(Error::Enter)?;
        if !Path::new(SYSTEMD).is_dir() {
            return Err(Error::NoHost);
        }
        Ok(Host { program, kept })
    }
}

/// Whether the process is in that namespace already: then there is nothing to enter.
fn is_own_namespace(namespace: &File) -> io::Result<bool> {
    let (own, other) = (fs::metadata("/proc/self/ns/mnt")?, namespace.metadata()?);
    Ok((own.dev(), own.ino()) == (other.dev(), other.ino()))
}

/// A process in the host's mount namespace.
pub(crate) struct Host {
    program: Vec<u8>,
    kept: Vec<(&'static str, OwnedFd)>,
}

impl Host {
    /// Copies the agent to the host and becomes it.
    ///
    /// # Errors
    /// When neither place for copies can hold a program that starts.
    pub(crate) fn become_agent(self, arguments: Vec<OsString>) -> Result<Infallible, Error> {
        let mut environment: Vec<(OsString, OsString)> = env::vars_os()
            .filter(|(name, _)| !OWN_VARIABLES.iter().any(|own| name == own))
            .collect();
        environment.push(("PATH".into(), HOST_PATH.into()));
        environment.push(("HOME".into(), "/root".into()));
        for (variable, directory) in &self.kept {
            inherit(directory).map_err(|source| Error::Keep { variable, source })?;
            let number = directory.as_raw_fd().to_string();
            environment.push((variable.into(), number.into()));
        }
        let environment: Vec<CString> = environment
            .into_iter()
            .filter_map(|(mut name, value)| {
                name.push("=");
                name.push(value);
                // The kernel gave no NUL, so none is lost.
                CString::new(name.into_vec()).ok()
            })
            .collect();
        let mut failure = Error::NoHost;
        for directory in COPIES {
            failure = match self.copy_to(Path::new(directory)) {
                Ok(path) => start(path, &arguments, &environment),
                Err(error) => error,
            };
        }
        Err(failure)
    }

    /// Puts a copy into the directory under a name that says its content: versions side by side do not disturb each
    /// other, and a copy that is there already is used.
    fn copy_to(&self, directory: &Path) -> Result<PathBuf, Error> {
        let digest = Sha256::digest(&self.program);
        let short: String = digest
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let path = directory.join(format!("lifecycle-agent-{short}"));
        let copy = || -> io::Result<()> {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory)?;
            if holds(&path, &self.program)? {
                return Ok(());
            }
            let new = directory.join(format!(".lifecycle-agent-{short}.{}", std::process::id()));
            remove(&new)?;
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o755)
                .open(&new)?;
            file.write_all(&self.program)?;
            file.sync_all()?;
            // A file that somebody may still write to cannot be started.
            drop(file);
            fs::rename(&new, &path)
        };
        copy().map_err(|source| Error::Copy {
            path: path.clone(),
            source,
        })?;
        Ok(path)
    }
}

/// Whether the file has this content and can be executed.
fn holds(path: &Path, content: &[u8]) -> io::Result<bool> {
    let mut file = match OpenOptions::new().read(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let metadata = file.metadata()?;
    if metadata.len() != content.len() as u64 || metadata.mode() & 0o777 != 0o755 {
        return Ok(false);
    }
    let mut found = Vec::with_capacity(content.len());
    file.read_to_end(&mut found)?;
    Ok(found == content)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Lets the descriptor live on in the program that this process becomes.
fn inherit(descriptor: &OwnedFd) -> io::Result<()> {
    fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::empty()))?;
    Ok(())
}

/// Becomes the program; returns only when that fails.
fn start(path: PathBuf, arguments: &[OsString], environment: &[CString]) -> Error {
    let words = std::iter::once(path.as_os_str()).chain(arguments.iter().map(OsString::as_os_str));
    let words: Result<Vec<CString>, _> = words.map(OsStr::as_bytes).map(CString::new).collect();
    let source = match words {
        Ok(words) => match words
            .first()
            .map(|program| execve(program, &words, environment))
        {
            Some(Err(error)) => error.into(),
            _ => io::ErrorKind::NotFound.into(),
        },
        Err(error) => error.into(),
    };
    Error::Start { path, source }
}
