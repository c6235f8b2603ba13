//! Who may read what the agent serves: the API server is asked whose a token is, and what they may do (contract 10.3).

use node::PortResult;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::call::{Call, Verb};
use crate::connection::Connection;
use crate::kind::{self, Kind};

/// What the API server says of somebody's token.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Review {
    /// They may.
    Allowed,
    /// It knows them, and they may not.
    Forbidden,
    /// The token is nobody's.
    Unknown,
}

#[derive(Deserialize)]
struct Answer<T> {
    #[serde(default)]
    status: T,
}

#[derive(Default, Deserialize)]
struct Authentication {
    #[serde(default)]
    authenticated: bool,
    #[serde(default)]
    user: User,
}

#[derive(Default, Deserialize)]
struct User {
    #[serde(default)]
    username: String,
    #[serde(default)]
    uid: String,
    #[serde(default)]
    groups: Vec<String>,
    #[serde(default)]
    extra: Value,
}

#[derive(Default, Deserialize)]
struct Authorization {
    #[serde(default)]
    allowed: bool,
}

/// Whether the bearer of a token may `get` the path of a server that is not the API server.
///
/// # Errors
/// The API server does not answer, or does not take the question. The token is in no error.
pub async fn may_get(connection: &Connection, token: &str, path: &str) -> PortResult<Review> {
    let spec = json!({ "token": token });
    let found: Answer<Authentication> = ask(connection, &kind::TOKEN_REVIEW, &spec).await?;
    let Authentication {
        authenticated: true,
        user,
    } = found.status
    else {
        return Ok(Review::Unknown);
    };
    let mut spec = json!({
        "user": user.username,
        "uid": user.uid,
        "groups": user.groups,
        "nonResourceAttributes": { "path": path, "verb": "get" },
    });
    if user.extra.is_object()
        && let Some(fields) = spec.as_object_mut()
    {
        fields.insert("extra".to_owned(), user.extra);
    }
    let found: Answer<Authorization> = ask(connection, &kind::ACCESS_REVIEW, &spec).await?;
    Ok(match found.status.allowed {
        true => Review::Allowed,
        false => Review::Forbidden,
    })
}

async fn ask<T: for<'de> Deserialize<'de>>(
    connection: &Connection,
    kind: &'static Kind<'static>,
    spec: &Value,
) -> PortResult<T> {
    let call = Call::new(Verb::Create, kind);
    let body = json!({ "apiVersion": kind.api_version(), "kind": kind.name, "spec": spec });
    let answer = connection.ask(&call, Some(&body)).await;
    answer.map_err(|failure| failure.during(&call))
}
