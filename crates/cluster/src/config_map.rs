//! ConfigMaps that the upgrade refers to.

use std::collections::BTreeMap;

use api::ConfigMapRef;
use node::PortResult;

use crate::call::Call;
use crate::connection::Connection;
use crate::kind;
use crate::object::ConfigMap;

/// The data of a ConfigMap; `None` where there is none.
pub(crate) async fn read(
    connection: &Connection,
    reference: &ConfigMapRef,
) -> PortResult<Option<BTreeMap<String, String>>> {
    let call = Call::get(&kind::CONFIG_MAP, &reference.name).within(&reference.namespace);
    let found: Option<ConfigMap> = connection.look_for(call).await?;
    Ok(found.map(|found| found.data))
}
