//! The control plane's certificates and keys. All keys are ECDSA P-256, which takes microseconds.

use std::path::Path;

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};

/// Files that kube-apiserver and its clients need, written into one directory.
pub(crate) struct Pki {
    /// Certificate of the authority that signed the other two, PEM.
    pub(crate) ca_pem: String,
    /// Client certificate and key of a member of `system:masters`, PEM.
    pub(crate) admin: Pair,
}

/// A certificate and its key, PEM.
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Pki {
    /// Writes `ca.crt`, `serving.crt`, `serving.key` (for the loopback address and the service
    /// names), `service-account.key` and `service-account.pub` into `dir`.
    pub(crate) fn create(dir: &Path) -> Result<Pki> {
        let ca = authority()?;
        let mut serving = CertificateParams::new(vec![
            "127.0.0.1".to_owned(),
            "localhost".to_owned(),
            "kubernetes.default.svc".to_owned(),
        ])?;
        serving
            .distinguished_name
            .push(DnType::CommonName, "kube-apiserver");
        serving.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let serving = sign(serving, &ca)?;

        let mut admin = CertificateParams::default();
        admin
            .distinguished_name
            .push(DnType::OrganizationName, "system:masters");
        admin.distinguished_name.push(DnType::CommonName, "admin");
        admin.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let admin = sign(admin, &ca)?;

        let ca_pem = ca.pem();
        let service_account = KeyPair::generate()?;
        for (name, content) in [
            ("ca.crt", &ca_pem),
            ("serving.crt", &serving.certificate),
            ("serving.key", &serving.key),
            ("service-account.key", &service_account.serialize_pem()),
            ("service-account.pub", &service_account.public_key_pem()),
        ] {
            let path = dir.join(name);
            std::fs::write(&path, content)
                .with_context(|| format!("writing {}", path.display()))?;
        }
        Ok(Pki { ca_pem, admin })
    }
}

fn authority() -> Result<CertifiedIssuer<'static, KeyPair>> {
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "lifecycle-agent test authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    Ok(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?)
}

fn sign(mut params: CertificateParams, ca: &CertifiedIssuer<'_, KeyPair>) -> Result<Pair> {
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, ca)?;
    Ok(Pair {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    })
}
