//! One request: what is wanted of which object.

use std::fmt;

use crate::kind::Kind;

/// What a request does, in the words of RBAC rules.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub enum Verb {
    /// Read one object.
    Get,
    /// Read all objects of a kind.
    List,
    /// Follow the changes of objects.
    Watch,
    /// Store a new object.
    Create,
    /// Replace an object.
    Update,
    /// Change members of an object.
    Patch,
    /// Delete one object.
    Delete,
}

impl Verb {
    /// The word in an RBAC rule and in the audit log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
        }
    }

    /// The verb in a sentence about what is being done.
    const fn doing(self) -> &'static str {
        match self {
            Self::Get => "reading",
            Self::List => "listing",
            Self::Watch => "watching",
            Self::Create => "creating",
            Self::Update => "updating",
            Self::Patch => "changing",
            Self::Delete => "deleting",
        }
    }

    pub(crate) const fn method(self) -> http::Method {
        match self {
            Self::Get | Self::List | Self::Watch => http::Method::GET,
            Self::Create => http::Method::POST,
            Self::Update => http::Method::PUT,
            Self::Patch => http::Method::PATCH,
            Self::Delete => http::Method::DELETE,
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A request without its body. Prints what is being done: `reading Secret openshift-config/pull-secret`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call<'a> {
    pub(crate) verb: Verb,
    pub(crate) kind: &'a Kind<'a>,
    pub(crate) subresource: Option<&'static str>,
    pub(crate) namespace: Option<&'a str>,
    pub(crate) name: Option<&'a str>,
    /// Already encoded.
    pub(crate) query: &'static str,
    /// Nothing but the objects' metadata.
    pub(crate) metadata_only: bool,
    /// The object comes from a manifest: it is of whatever kind that says.
    pub(crate) of_manifest: bool,
}

impl<'a> Call<'a> {
    pub(crate) const fn new(verb: Verb, kind: &'a Kind<'a>) -> Self {
        Self {
            verb,
            kind,
            subresource: None,
            namespace: None,
            name: None,
            query: "",
            metadata_only: false,
            of_manifest: false,
        }
    }

    pub(crate) const fn get(kind: &'a Kind<'a>, name: &'a str) -> Self {
        Self::new(Verb::Get, kind).named(name)
    }

    pub(crate) const fn list(kind: &'a Kind<'a>) -> Self {
        Self::new(Verb::List, kind)
    }

    /// The objects' metadata: where a list's objects are large and few of them matter.
    pub(crate) const fn list_metadata(kind: &'a Kind<'a>) -> Self {
        Self {
            metadata_only: true,
            ..Self::list(kind)
        }
    }

    pub(crate) const fn named(self, name: &'a str) -> Self {
        Self {
            name: Some(name),
            ..self
        }
    }

    pub(crate) const fn within(self, namespace: &'a str) -> Self {
        Self {
            namespace: Some(namespace),
            ..self
        }
    }

    pub(crate) const fn status(self) -> Self {
        Self {
            subresource: Some("status"),
            ..self
        }
    }

    /// About an object of a manifest.
    pub(crate) const fn of_manifest(self) -> Self {
        Self {
            of_manifest: true,
            ..self
        }
    }

    pub(crate) const fn asking(self, query: &'static str) -> Self {
        Self { query, ..self }
    }

    /// The request's path and query. `None` if a name could not be the name of an object: names come from users and
    /// from other objects, and must not reach another path.
    pub(crate) fn path(&self) -> Option<String> {
        let mut path = if self.kind.group.is_empty() {
            format!("/api/{}", self.kind.version)
        } else {
            format!("/apis/{}/{}", self.kind.group, self.kind.version)
        };
        if let Some(namespace) = self.namespace {
            path.push_str("/namespaces/");
            path.push_str(segment(namespace)?);
        }
        path.push('/');
        path.push_str(self.kind.plural);
        if let Some(name) = self.name {
            path.push('/');
            path.push_str(segment(name)?);
        }
        if let Some(subresource) = self.subresource {
            path.push('/');
            path.push_str(subresource);
        }
        if !self.query.is_empty() {
            path.push('?');
            path.push_str(self.query);
        }
        Some(path)
    }
}

/// `text`, if it may be one segment of a path: a DNS subdomain, which is what the names of all kinds here are.
fn segment(text: &str) -> Option<&str> {
    let fits = !text.is_empty()
        && text.len() <= 253
        && text
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.'))
        && text.starts_with(|first: char| first.is_ascii_alphanumeric());
    fits.then_some(text)
}

impl fmt::Display for Call<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.verb.doing())?;
        if let Some(subresource) = self.subresource {
            write!(f, "the {subresource} of ")?;
        }
        write!(f, "{}", self.kind.name)?;
        match (self.namespace, self.name) {
            (None, None) if self.verb == Verb::List => f.write_str(" objects"),
            (None, None) => Ok(()),
            (Some(namespace), None) => write!(f, " in {}", excerpt(namespace)),
            (None, Some(name)) => write!(f, " {}", excerpt(name)),
            (Some(namespace), Some(name)) => {
                write!(f, " {}/{}", excerpt(namespace), excerpt(name))
            }
        }
    }
}

/// A name from outside, fit for an error text.
fn excerpt(text: &str) -> String {
    text.chars()
        .take(253)
        .flat_map(char::escape_debug)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind;

    #[test]
    fn paths_and_sentences() {
        let check = |call: Call<'_>, path: Option<&str>, sentence: &str| {
            assert_eq!(call.path().as_deref(), path);
            assert_eq!(call.to_string(), sentence);
        };
        check(
            Call::get(&kind::SECRET, "pull-secret").within("openshift-config"),
            Some("/api/v1/namespaces/openshift-config/secrets/pull-secret"),
            "reading Secret openshift-config/pull-secret",
        );
        check(
            Call::new(Verb::Update, &kind::UPGRADE)
                .named("upgrade")
                .status(),
            Some("/apis/lca.openshift.io/v1/imagebasedupgrades/upgrade/status"),
            "updating the status of ImageBasedUpgrade upgrade",
        );
        check(
            Call::list(&kind::NODE).asking("limit=2"),
            Some("/api/v1/nodes?limit=2"),
            "listing Node objects",
        );
        check(
            Call::new(Verb::Create, &kind::EVENT).within("default"),
            Some("/apis/events.k8s.io/v1/namespaces/default/events"),
            "creating Event in default",
        );
        for name in [
            "",
            ".",
            "..",
            "../nodes/a",
            "a/b",
            "a?b",
            "a%2fb",
            "A",
            "a b",
            "a\n",
        ] {
            assert_eq!(Call::get(&kind::SECRET, name).path(), None, "{name:?}");
        }
        assert_eq!(Call::get(&kind::SECRET, &"a".repeat(254)).path(), None);
        assert_eq!(
            Call::get(&kind::SECRET, "a\nb").to_string(),
            "reading Secret a\\nb"
        );
    }
}
