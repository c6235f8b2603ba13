//! How long the running release can be returned to: its certificates are renewed only while it runs (C 5.5).

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use node::ports::Told;
use x509_cert::Certificate;
use x509_cert::der::DecodePem;

/// kubelet's own, each a link to the current one.
const KUBELET: [&str; 2] = [
    "var/lib/kubelet/pki/kubelet-client-current.pem",
    "var/lib/kubelet/pki/kubelet-server-current.pem",
];
/// Directories of the static pods' certificates, below which `secrets/<name>/*.crt` lie: `<pod>-certs`, and `<pod>-pod-<revision>`
/// of which the last counts.
const STATIC_PODS: &str = "etc/kubernetes/static-pod-resources";

/// The earliest end among the certificates that can be read, in seconds since 1970. One of kubelet's has to be: the
/// contract's date is made of them.
///
/// `root` is what `/` is to kubelet's files, a stateroot's directory where that is not booted; below `deployment` is `/etc`.
pub(super) fn until(root: &Path, deployment: &Path) -> Told<i64> {
    let mut earliest: Option<i64> = None;
    let mut problem = format!("there is none in {}", root.join(KUBELET[0]).display());
    let kubelets = KUBELET.map(|path| root.join(path));
    for path in &kubelets {
        match read_below(root, path) {
            Ok(Some(end)) => earliest = Some(earliest.map_or(end, |known| known.min(end))),
            Ok(None) => problem = format!("{} holds no certificate", path.display()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => problem = format!("reading {}: {error}", path.display()),
        }
    }
    let Some(earliest) = earliest else {
        return Told::Unknown(problem);
    };
    // What cannot be read of these is left out, as with the Go original, which knows kubelet's only.
    let others = static_pods(&deployment.join(STATIC_PODS)).into_iter();
    let others = others.filter_map(|path| read(&path).ok().flatten());
    Told::Known(others.fold(earliest, i64::min))
}

/// Reads a file that may be a link. An absolute one means the release whose file it is: what it names lies below `root`.
fn read_below(root: &Path, path: &Path) -> io::Result<Option<i64>> {
    match fs::read_link(path) {
        Ok(target) => match target.strip_prefix("/") {
            Ok(below) => read(&root.join(below)),
            Err(_) => read(path),
        },
        // No link.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => read(path),
        Err(error) => Err(error),
    }
}

fn read(path: &Path) -> io::Result<Option<i64>> {
    Ok(earliest_end(&fs::read_to_string(path)?))
}

/// The serving and client certificates of static pods.
fn static_pods(resources: &Path) -> Vec<PathBuf> {
    let below = |directory: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    };
    let mut latest: BTreeMap<String, (u64, PathBuf)> = BTreeMap::new();
    for path in below(resources) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let revised = name.rsplit_once("-pod-");
        let revised = revised.and_then(|(pod, at)| Some((pod, at.parse().ok()?)));
        let (pod, revision) = revised.unwrap_or((&name, 0));
        let known = latest.get(pod).map(|(known, _)| *known);
        if known.is_none_or(|known| known < revision) {
            latest.insert(pod.to_owned(), (revision, path.clone()));
        }
    }
    let secrets = latest
        .values()
        .flat_map(|(_, pod)| below(&pod.join("secrets")));
    secrets
        .flat_map(|secret| below(&secret))
        .filter(|path| path.extension().is_some_and(|extension| extension == "crt"))
        .collect()
}

/// The earliest end of the certificates in a PEM text, whatever else is in it.
fn earliest_end(text: &str) -> Option<i64> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    let blocks = text.split(BEGIN).skip(1);
    let ends = blocks.filter_map(|block| {
        let (body, _) = block.split_once(END)?;
        let certificate = Certificate::from_pem(format!("{BEGIN}{body}{END}\n")).ok()?;
        let end = certificate.tbs_certificate().validity().not_after;
        i64::try_from(end.to_unix_duration().as_secs()).ok()
    });
    ends.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=t -days 3650`
    const CERTIFICATE: &str = include_str!("certificate.pem");

    #[test]
    fn certificates_of_the_last_revisions_count() {
        let dir = tempfile::tempdir().unwrap();
        for path in [
            "etcd-certs/secrets/etcd-all-certs/etcd-serving-node.crt",
            "etcd-certs/secrets/etcd-all-certs/etcd-serving-node.key",
            "kube-apiserver-pod-9/secrets/old/tls.crt",
            "kube-apiserver-pod-10/secrets/new/tls.crt",
            "kube-apiserver-pod-10/configmaps/ca/ca-bundle.crt",
        ] {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let found: Vec<String> = static_pods(dir.path())
            .iter()
            .map(|path| path.strip_prefix(dir.path()).unwrap().display().to_string())
            .collect();
        assert_eq!(
            found,
            [
                "etcd-certs/secrets/etcd-all-certs/etcd-serving-node.crt",
                "kube-apiserver-pod-10/secrets/new/tls.crt",
            ]
        );
    }

    #[test]
    fn the_earliest_end_counts_and_keys_are_passed_over() {
        let end = earliest_end(CERTIFICATE).unwrap();
        assert!(end > 1_700_000_000, "{end}");
        let key = "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n";
        assert_eq!(earliest_end(&format!("{key}{CERTIFICATE}")), Some(end));
        assert_eq!(earliest_end(key), None);
        assert_eq!(earliest_end("-----BEGIN CERTIFICATE-----\nAAAA\n"), None);

        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        assert!(matches!(until(root, root), Told::Unknown(_)));
        let pki = root.join("var/lib/kubelet/pki");
        fs::create_dir_all(&pki).unwrap();
        fs::write(pki.join("kubelet-client-current.pem"), "nothing").unwrap();
        assert!(matches!(until(root, root), Told::Unknown(_)));
        fs::write(pki.join("kubelet-server-current.pem"), CERTIFICATE).unwrap();
        assert_eq!(until(root, root), Told::Known(end));

        // As kubelet leaves it: a link to what is the newest, seen from the running system.
        fs::rename(
            pki.join("kubelet-server-current.pem"),
            pki.join("kubelet-server-2024.pem"),
        )
        .unwrap();
        for target in [
            "/var/lib/kubelet/pki/kubelet-server-2024.pem",
            "kubelet-server-2024.pem",
        ] {
            let link = pki.join("kubelet-server-current.pem");
            std::os::unix::fs::symlink(target, &link).unwrap();
            assert_eq!(until(root, root), Told::Known(end), "{target}");
            fs::remove_file(link).unwrap();
        }
    }
}
