use cluster::{Review, may_get};
use testenv::Version;

use crate::plane::Plane;

#[test]
fn a_token_may_what_its_bearer_may() {
    let plane = Plane::start(Version::Pinned);
    plane
        .servers
        .apply_yaml(
            "
apiVersion: v1
kind: ServiceAccount
metadata: {name: reader, namespace: default}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: other, namespace: default}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: reader}
rules: [{nonResourceURLs: [/metrics], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: reader}
subjects: [{kind: ServiceAccount, name: reader, namespace: default}]
",
        )
        .unwrap();
    let connection = plane.connection();
    let check = |token: &str, path: &str, expect: Review| {
        let review = plane.handle().block_on(may_get(&connection, token, path));
        assert_eq!(review.unwrap(), expect, "{path}");
    };
    let token = |name: &str| {
        plane
            .servers
            .service_account_token("default", name)
            .unwrap()
    };
    let reader = token("reader");
    check(&reader, "/metrics", Review::Allowed);
    check(&reader, "/other", Review::Forbidden);
    check(&token("other"), "/metrics", Review::Forbidden);
    check("nobody", "/metrics", Review::Unknown);
}
