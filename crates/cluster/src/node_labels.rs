//! Labels of the Node (S 3.3, step 24).

use std::collections::BTreeMap;

use node::{ErrorKind, PortError, PortResult};
use serde_json::json;

use crate::call::{Call, Verb};
use crate::connection::Connection;
use crate::failure::Failure;
use crate::kind;

/// Adds labels; others stay. A Node that is not there is still to be made by kubelet.
pub(crate) async fn set(
    connection: &Connection,
    node: &str,
    labels: &BTreeMap<String, String>,
) -> PortResult<()> {
    if labels.is_empty() {
        return Ok(());
    }
    let call = Call::new(Verb::Patch, &kind::NODE).named(node);
    let body = json!({ "metadata": { "labels": labels } });
    match connection.send(&call, Some(&body)).await {
        Ok(_) => Ok(()),
        Err(failure @ Failure::NotFound(_)) => Err(PortError::new(
            ErrorKind::Transient,
            format!("labelling Node {node}, which kubelet has not made yet"),
            failure,
        )),
        Err(failure) => Err(failure.during(&call)),
    }
}
