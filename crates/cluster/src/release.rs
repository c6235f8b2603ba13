//! The registry that the release comes from, in the version operator's Deployment (S 3.3, step 20).

use node::PortResult;
use node::ports::RegistryChange;
use serde_json::{Value, json};

use crate::call::{Call, Verb};
use crate::connection::Connection;
use crate::facts::{VERSION_OPERATOR, VERSION_OPERATOR_NAMESPACE};
use crate::kind;
use crate::mirror;

/// The argument that names the release's image.
const ARGUMENT: &str = "--release-image=";

/// Replaces the seed's registry where it has to be; nothing is written where nothing changes.
pub(crate) async fn set_registry(
    connection: &Connection,
    change: &RegistryChange,
) -> PortResult<()> {
    if change.seed.is_empty() || change.site.is_empty() || change.seed == change.site {
        return Ok(());
    }
    let sources = mirror::sources(connection).await?;
    let replace = if sources.is_empty() {
        change.mirrored
    } else {
        !sources.contains(&change.seed)
    };
    if !replace {
        return Ok(());
    }
    let get = Call::get(&kind::DEPLOYMENT, VERSION_OPERATOR).within(VERSION_OPERATOR_NAMESPACE);
    let mut deployment: Value = connection.read(get).await?;
    if !rewrite(&mut deployment, change) {
        return Ok(());
    }
    let put = Call::new(Verb::Update, &kind::DEPLOYMENT)
        .named(VERSION_OPERATOR)
        .within(VERSION_OPERATOR_NAMESPACE);
    let done = connection.send(&put, Some(&deployment)).await;
    done.map(drop).map_err(|failure| failure.during(&put))
}

/// Whether anything of the first container names the seed's registry; it names the site's then.
fn rewrite(deployment: &mut Value, change: &RegistryChange) -> bool {
    let replaced = |image: &str| {
        let rest = image.strip_prefix(change.seed.as_str())?;
        rest.starts_with('/')
            .then(|| format!("{}{rest}", change.site))
    };
    // Of any shape: it comes from the API server.
    let Some(container) = deployment.pointer_mut("/spec/template/spec/containers/0") else {
        return false;
    };
    let mut changed = false;
    if let Some(image) = container.get_mut("image")
        && let Some(site) = image.as_str().and_then(replaced)
    {
        *image = json!(site);
        changed = true;
    }
    let arguments = container.get_mut("args").and_then(Value::as_array_mut);
    for argument in arguments.into_iter().flatten() {
        let image = argument
            .as_str()
            .and_then(|text| text.strip_prefix(ARGUMENT));
        if let Some(image) = image.and_then(replaced) {
            *argument = json!(format!("{ARGUMENT}{image}"));
            changed = true;
        }
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_seeds_registry_is_replaced() {
        let change = RegistryChange {
            seed: "quay.io".to_owned(),
            mirrored: true,
            site: "mirror.example.com:5000".to_owned(),
        };
        let deployment = |image: &str| {
            json!({"spec": {"template": {"spec": {"containers": [
                {"image": image, "args": ["start", format!("--release-image={image}"), "--v=quay.io/x"]},
                {"image": "quay.io/other"},
            ]}}}})
        };
        let mut found = deployment("quay.io/ocp@sha256:1");
        assert!(rewrite(&mut found, &change));
        let mut expected = deployment("mirror.example.com:5000/ocp@sha256:1");
        assert_eq!(found, expected);
        assert!(!rewrite(&mut found, &change));
        // The end of a registry's name is its `/`.
        expected = deployment("quay.io.example.com/ocp@sha256:1");
        assert!(!rewrite(&mut expected, &change));
        assert!(!rewrite(&mut json!({}), &change));
    }
}
