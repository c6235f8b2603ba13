//! Registry credentials in the operator's namespace.

use api::names;
use node::PortResult;
use node::ports::PullSecret;

use crate::call::Call;
use crate::connection::Connection;
use crate::kind;
use crate::object::{Secret, missing};

/// The registry credentials in the Secret `name` (contract 3.3).
pub(crate) async fn read(
    connection: &Connection,
    namespace: &str,
    name: &str,
) -> PortResult<PullSecret> {
    let key = names::DOCKER_CONFIG_KEY;
    let call = Call::get(&kind::SECRET, name).within(namespace);
    let secret: Secret = connection.read(call).await.map_err(|error| {
        error.within(format!(
            "failed to retrieve pull-secret from secret {name}, err"
        ))
    })?;
    secret.value(key).map(PullSecret).ok_or_else(|| {
        missing(format!(
            "did not find key {key} in Secret {name}/{namespace}"
        ))
    })
}
