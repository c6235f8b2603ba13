//! The other flow that works on the node's deployments: its object.

use api::ip_config::{self, IpConfig};
use node::PortResult;

use crate::call::Call;
use crate::connection::Connection;
use crate::failure::Failure;
use crate::kind;

/// The object as it is now; `None` also where the cluster has no such kind.
pub(crate) async fn read(connection: &Connection) -> PortResult<Option<IpConfig>> {
    let call = Call::get(&kind::IP_CONFIG, ip_config::NAME);
    match connection.ask(&call, None).await {
        Ok(found) => Ok(Some(found)),
        Err(Failure::NotFound(_) | Failure::NotServed) => Ok(None),
        Err(failure) => Err(failure.during(&call)),
    }
}
