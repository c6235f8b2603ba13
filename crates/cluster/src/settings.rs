//! The objects that hold a cluster's settings, given a site's content on the target's first boot.
//!
//! The Go original has its regeneration of the cryptography write them into etcd before the API server starts (S 4B.9). What
//! needs no such surgery is done here, with the server running.

use api::Secret;
use api::reconfiguration::{Proxy, SeedReconfiguration};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use node::PortResult;
use serde_json::{Value, json};

use crate::call::{Call, Verb};
use crate::connection::Connection;
use crate::facts::{CA_BUNDLE_KEY, CONFIG_NAMESPACE, USER_CA_BUNDLE};
use crate::kind::{self, Kind};
use crate::mirror::delete;
use crate::object;

/// The installer's configuration: where it is, and where some releases keep a copy.
const INSTALL_CONFIG: [&str; 2] = ["kube-system", "openshift-etcd"];

/// Everything, in an order that lets the machine-config operator see the credentials first: with the seed's it would take the
/// node's away.
pub(crate) async fn configure(
    connection: &Connection,
    document: &SeedReconfiguration,
) -> PortResult<()> {
    let pull_secret = Entry {
        kind: &kind::SECRET,
        namespace: CONFIG_NAMESPACE,
        name: "pull-secret",
        key: api::names::DOCKER_CONFIG_KEY,
    };
    pull_secret
        .set(
            connection,
            document.pull_secret.expose(),
            Some("kubernetes.io/dockerconfigjson"),
        )
        .await?;
    let trust = &document.additional_trust_bundle;
    for (name, bundle) in [
        (USER_CA_BUNDLE, &trust.user_ca_bundle),
        (
            trust.proxy_configmap_name.as_str(),
            &trust.proxy_configmap_bundle,
        ),
    ] {
        if !name.is_empty() && !bundle.is_empty() {
            let entry = Entry {
                kind: &kind::CONFIG_MAP,
                namespace: CONFIG_NAMESPACE,
                name,
                key: CA_BUNDLE_KEY,
            };
            entry.set(connection, bundle, None).await?;
        }
    }
    administrator(connection, &document.kubeadmin_password_hash).await?;
    for namespace in INSTALL_CONFIG {
        let entry = Entry {
            kind: &kind::CONFIG_MAP,
            namespace,
            name: "cluster-config-v1",
            key: "install-config",
        };
        if !document.install_config.is_empty() && entry.read(connection).await?.is_some() {
            let text = document.install_config.expose();
            entry.set(connection, text, None).await?;
        }
    }
    if let Some(settings) = &document.proxy {
        proxy(connection, settings, document.status_proxy.as_ref()).await?;
    }
    Ok(())
}

/// The administrator's password as the site has it, or none: then the seed's must not stay.
async fn administrator(connection: &Connection, hash: &Secret) -> PortResult<()> {
    let entry = Entry {
        kind: &kind::SECRET,
        namespace: "kube-system",
        name: "kubeadmin",
        key: "kubeadmin",
    };
    if hash.is_empty() {
        let call = Call::new(Verb::Delete, entry.kind)
            .within(entry.namespace)
            .named(entry.name);
        return delete(connection, call).await;
    }
    if entry.read(connection).await?.is_none() {
        // OpenShift takes none that is younger than the cluster.
        tracing::warn!(
            "the seed has no Secret kube-system/kubeadmin: this site's password is lost"
        );
        return Ok(());
    }
    entry.set(connection, hash.expose(), None).await
}

async fn proxy(
    connection: &Connection,
    settings: &Proxy,
    effective: Option<&Proxy>,
) -> PortResult<()> {
    let spec = Call::new(Verb::Patch, &kind::PROXY).named("cluster");
    let parts = [
        Some((spec, json!({ "spec": members(settings) }))),
        // Where it is not known, the network operator finds it.
        effective.map(|proxy| (spec.status(), json!({ "status": members(proxy) }))),
    ];
    for (call, body) in parts.into_iter().flatten() {
        connection
            .send(&call, Some(&body))
            .await
            .map_err(|failure| failure.during(&call))?;
    }
    Ok(())
}

/// All three members: what the site leaves out must not stay the seed's.
fn members(proxy: &Proxy) -> Value {
    let or_none = |text: &str| match text {
        "" => Value::Null,
        text => json!(text),
    };
    json!({
        "httpProxy": or_none(proxy.http_proxy.expose()),
        "httpsProxy": or_none(proxy.https_proxy.expose()),
        "noProxy": or_none(&proxy.no_proxy),
    })
}

/// A key of a Secret or a ConfigMap.
struct Entry<'e> {
    kind: &'e Kind<'e>,
    namespace: &'e str,
    name: &'e str,
    key: &'e str,
}

impl Entry<'_> {
    fn is_secret(&self) -> bool {
        *self.kind == kind::SECRET
    }

    /// The value as stored; empty where the object has no such key, `None` where there is no object.
    async fn read(&self, connection: &Connection) -> PortResult<Option<String>> {
        let call = Call::get(self.kind, self.name).within(self.namespace);
        let found: Option<object::ConfigMap> = connection.look_for(call).await?;
        Ok(found.map(|mut found| found.data.remove(self.key).unwrap_or_default()))
    }

    /// Gives the key this value, in an object of this type where there is none.
    async fn set(
        &self,
        connection: &Connection,
        value: &str,
        type_: Option<&str>,
    ) -> PortResult<()> {
        let stored = if self.is_secret() {
            STANDARD.encode(value)
        } else {
            value.to_owned()
        };
        let found = self.read(connection).await?;
        if found.as_deref() == Some(stored.as_str()) {
            return Ok(());
        }
        let mut body = json!({ "data": { self.key: stored } });
        let call = if found.is_some() {
            Call::new(Verb::Patch, self.kind).named(self.name)
        } else {
            body["metadata"] = json!({ "name": self.name });
            body["apiVersion"] = json!(self.kind.api_version());
            body["kind"] = json!(self.kind.name);
            if let Some(type_) = type_ {
                body["type"] = json!(type_);
            }
            Call::new(Verb::Create, self.kind)
        };
        let call = call.within(self.namespace);
        let done = connection.send(&call, Some(&body)).await;
        done.map(drop).map_err(|failure| failure.during(&call))
    }
}
