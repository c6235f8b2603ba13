//! Certificates and keys of one cluster, named and used as on OpenShift; RSA-2048 as there.

use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, PKCS_RSA_SHA256, RsaKeySize,
};

use crate::cluster::{BASE_DOMAIN, CLUSTER_NAME, Identity};

type Authority = CertifiedIssuer<'static, KeyPair>;

/// The authorities and leaf certificates of a cluster.
pub(crate) struct ClusterPki {
    loadbalancer: Authority,
    localhost: Authority,
    service_network: Authority,
    admin: Authority,
    kubelet: Authority,
    ingress: Authority,
    etcd: Authority,
    serving: [(&'static str, Pair); 3],
    admin_client: Pair,
    kubelet_client: Pair,
    kubelet_server: Pair,
    service_account: Pair,
}

/// Two PEM texts: a certificate (or public key) and its private key.
struct Pair {
    public: String,
    key: String,
}

impl ClusterPki {
    /// Makes everything anew; takes about a second.
    pub(crate) fn create(identity: &Identity, address: IpAddr) -> Result<ClusterPki> {
        let host = identity.hostname.as_str();
        let address = address.to_string();
        let ingress_name = format!("ingress-operator@{}", identity.created);
        let loadbalancer = authority("kube-apiserver-lb-signer")?;
        let localhost = authority("kube-apiserver-localhost-signer")?;
        let service_network = authority("kube-apiserver-service-network-signer")?;
        let admin = authority("admin-kubeconfig-signer")?;
        let kubelet = authority("kubelet-signer")?;
        let api = format!("api.{CLUSTER_NAME}.{BASE_DOMAIN}");
        let api_int = format!("api-int.{CLUSTER_NAME}.{BASE_DOMAIN}");
        let kubernetes = [
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
            "172.30.0.1",
        ];
        let server = ExtendedKeyUsagePurpose::ServerAuth;
        let client = ExtendedKeyUsagePurpose::ClientAuth;
        let node = format!("system:node:{host}");
        let service_account = rsa_key()?;
        Ok(ClusterPki {
            serving: [
                (
                    "external-loadbalancer-serving-certkey",
                    sign(&loadbalancer, &api, None, &[&api, &api_int], server.clone())?,
                ),
                (
                    "localhost-serving-cert-certkey",
                    sign(
                        &localhost,
                        "127.0.0.1",
                        None,
                        &["localhost", "127.0.0.1"],
                        server.clone(),
                    )?,
                ),
                (
                    "service-network-serving-certkey",
                    sign(
                        &service_network,
                        "172.30.0.1",
                        None,
                        &kubernetes,
                        server.clone(),
                    )?,
                ),
            ],
            admin_client: sign(
                &admin,
                "system:admin",
                Some("system:masters"),
                &[],
                client.clone(),
            )?,
            kubelet_client: sign(&kubelet, &node, Some("system:nodes"), &[], client)?,
            kubelet_server: sign(
                &kubelet,
                &node,
                Some("system:nodes"),
                &[host, &address],
                server,
            )?,
            service_account: Pair {
                public: service_account.public_key_pem(),
                key: service_account.serialize_pem(),
            },
            ingress: authority(&ingress_name)?,
            etcd: authority("etcd-signer")?,
            loadbalancer,
            localhost,
            service_network,
            admin,
            kubelet,
        })
    }

    /// What the objects of the cluster quote: name of the word, PEM.
    pub(crate) fn words(&self) -> Vec<(String, String)> {
        let mut words = Vec::new();
        for (name, authority) in [
            ("LOADBALANCER", &self.loadbalancer),
            ("LOCALHOST", &self.localhost),
            ("SERVICE_NETWORK", &self.service_network),
            ("ADMIN", &self.admin),
            ("INGRESS", &self.ingress),
            ("ETCD", &self.etcd),
        ] {
            words.push((format!("{name}_CRT"), authority.pem()));
            words.push((format!("{name}_KEY"), authority.key().serialize_pem()));
        }
        words.push(("SERVER_CA".to_owned(), self.server_ca()));
        words.push(("CLIENT_CA".to_owned(), self.client_ca()));
        words
    }

    /// Writes `etc/kubernetes` and `var/lib/kubelet/pki` under `root`.
    pub(crate) fn write(&self, root: &Path) -> Result<()> {
        let certs = root.join("etc/kubernetes/static-pod-resources/kube-apiserver-certs");
        let secrets = certs.join("secrets");
        write(
            &certs.join("configmaps/client-ca/ca-bundle.crt"),
            0o644,
            &self.client_ca(),
        )?;
        write(
            &certs.join("configmaps/kube-apiserver-server-ca/ca-bundle.crt"),
            0o644,
            &self.server_ca(),
        )?;
        for (name, pair) in &self.serving {
            write(&secrets.join(name).join("tls.crt"), 0o600, &pair.public)?;
            write(&secrets.join(name).join("tls.key"), 0o600, &pair.key)?;
        }
        let signing = secrets.join("bound-service-account-signing-key");
        write(
            &signing.join("service-account.pub"),
            0o600,
            &self.service_account.public,
        )?;
        write(
            &signing.join("service-account.key"),
            0o600,
            &self.service_account.key,
        )?;
        for (name, server) in [
            (
                "lb-ext",
                format!("https://api.{CLUSTER_NAME}.{BASE_DOMAIN}:6443"),
            ),
            (
                "lb-int",
                format!("https://api-int.{CLUSTER_NAME}.{BASE_DOMAIN}:6443"),
            ),
            ("localhost", "https://localhost:6443".to_owned()),
        ] {
            let path = secrets
                .join("node-kubeconfigs")
                .join(format!("{name}.kubeconfig"));
            write(&path, 0o600, &self.kubeconfig(&server))?;
        }
        write(
            &root.join("etc/kubernetes/ca.crt"),
            0o644,
            &self.client_ca(),
        )?;
        let pki = root.join("var/lib/kubelet/pki");
        let now = jiff::Zoned::now().strftime("%Y-%m-%d-%H-%M-%S").to_string();
        for (name, pair) in [
            ("client", &self.kubelet_client),
            ("server", &self.kubelet_server),
        ] {
            // As kubelet keeps them: certificate and key in one dated file behind a link.
            let dated = format!("kubelet-{name}-{now}.pem");
            write(
                &pki.join(&dated),
                0o600,
                &format!("{}{}", pair.public, pair.key),
            )?;
            std::os::unix::fs::symlink(
                Path::new("/var/lib/kubelet/pki").join(dated),
                pki.join(format!("kubelet-{name}-current.pem")),
            )
            .context("linking a kubelet certificate")?;
        }
        Ok(())
    }

    fn client_ca(&self) -> String {
        self.admin.pem() + &self.kubelet.pem()
    }

    fn server_ca(&self) -> String {
        self.loadbalancer.pem() + &self.localhost.pem() + &self.service_network.pem()
    }

    /// A cluster administrator's kubeconfig.
    fn kubeconfig(&self, server: &str) -> String {
        use base64::Engine;
        let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        format!(
            "apiVersion: v1\nkind: Config\nclusters:\n- name: {server_name}\n  cluster:\n    \
             certificate-authority-data: {ca}\n    server: {server}\nusers:\n- name: system:admin\n  \
             user:\n    client-certificate-data: {certificate}\n    client-key-data: {key}\ncontexts:\n\
             - name: system:admin\n  context: {{cluster: {server_name}, user: system:admin}}\n\
             current-context: system:admin\n",
            server_name = CLUSTER_NAME,
            ca = encode(&self.server_ca()),
            certificate = encode(&self.admin_client.public),
            key = encode(&self.admin_client.key),
        )
    }
}

/// A self-signed authority, for the registry of a lab too.
pub(crate) fn authority(name: &str) -> Result<Authority> {
    let mut params = named(name, None);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
    ];
    CertifiedIssuer::self_signed(params, rsa_key()?).with_context(|| format!("signing {name}"))
}

/// Writes a serving certificate for `names` and its key as `tls.crt` and `tls.key` into `dir`.
pub(crate) fn write_serving(authority: &Authority, names: &[&str], dir: &Path) -> Result<()> {
    let name = names.first().copied().unwrap_or_default();
    let pair = sign(
        authority,
        name,
        None,
        names,
        ExtendedKeyUsagePurpose::ServerAuth,
    )?;
    write(&dir.join("tls.crt"), 0o644, &pair.public)?;
    write(&dir.join("tls.key"), 0o600, &pair.key)
}

fn sign(
    authority: &Authority,
    name: &str,
    organization: Option<&str>,
    alternatives: &[&str],
    usage: ExtendedKeyUsagePurpose,
) -> Result<Pair> {
    let mut params = named(name, organization);
    for alternative in alternatives {
        let parsed = CertificateParams::new(vec![(*alternative).to_owned()])
            .with_context(|| format!("alternative name {alternative}"))?;
        params.subject_alt_names.extend(parsed.subject_alt_names);
    }
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
    ];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    let key = rsa_key()?;
    let certificate = params
        .signed_by(&key, authority)
        .with_context(|| format!("signing {name}"))?;
    Ok(Pair {
        public: certificate.pem(),
        key: key.serialize_pem(),
    })
}

/// Valid from two years ago to ten years ahead, so that no test depends on the day it runs.
fn named(name: &str, organization: Option<&str>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    if let Some(organization) = organization {
        params
            .distinguished_name
            .push(DnType::OrganizationName, organization);
    }
    params.distinguished_name.push(DnType::CommonName, name);
    let today = jiff::Zoned::now();
    // No 29th of February and no negative month, so that the day exists in every year.
    let (year, month, day) = (
        i32::from(today.year()),
        today.month().unsigned_abs(),
        today.day().unsigned_abs().min(28),
    );
    params.not_before = rcgen::date_time_ymd(year - 2, month, day);
    params.not_after = rcgen::date_time_ymd(year + 10, month, day);
    params
}

fn rsa_key() -> Result<KeyPair> {
    KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).context("making an RSA key")
}

/// Writes a file with its parent directories.
pub(crate) fn write(path: &Path, mode: u32, text: &str) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let put = || {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(path, text)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
    };
    put().with_context(|| format!("writing {}", path.display()))
}
