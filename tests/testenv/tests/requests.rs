//! What tests do with a control plane.

use testenv::ControlPlane;

fn config_map(name: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: default}}\n")
}

#[test]
fn two_at_once_do_not_share_anything() {
    let planes = [
        ControlPlane::start().unwrap(),
        ControlPlane::start().unwrap(),
    ];
    assert_ne!(planes[0].url(), planes[1].url());
    assert_ne!(planes[0].ca_pem(), planes[1].ca_pem());
    for (plane, name) in planes.iter().zip(["first", "second"]) {
        let said = plane.apply_yaml(&config_map(name)).unwrap();
        assert_eq!(said, format!("configmap/{name} created\n"));
    }
    for (plane, other) in planes.iter().zip(["second", "first"]) {
        let error = plane
            .kubectl(&["get", "configmap", other])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(&format!("configmaps \"{other}\" not found")),
            "{error}"
        );
    }
}

#[test]
fn users_may_do_what_rbac_grants_and_the_audit_log_tells() {
    let plane = ControlPlane::builder()
        .audit_log(true)
        .user("reader", &[])
        .start()
        .unwrap();
    plane
        .apply_yaml(
            "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: robot, namespace: default}\n",
        )
        .unwrap();
    for grant in [
        "role lister --verb=list --resource=configmaps",
        "rolebinding listers --role=lister --serviceaccount=default:robot --user=reader",
    ] {
        let mut args = vec!["create", "--namespace=default"];
        args.extend(grant.split(' '));
        plane.kubectl(&args).unwrap();
    }

    let robot = plane.service_account_token("default", "robot").unwrap();
    for (name, token) in [
        ("reader", plane.token("reader").unwrap()),
        ("system:serviceaccount:default:robot", &robot),
    ] {
        let config = plane.kubeconfig_with_token(token).unwrap();
        let config = config.to_str().unwrap();
        plane
            .kubectl(&["--kubeconfig", config, "get", "configmaps"])
            .unwrap();
        let refused = plane.kubectl(&["--kubeconfig", config, "create", "configmap", "x"]);
        let refused = refused.unwrap_err().to_string();
        assert!(
            refused.contains(&format!("User \"{name}\" cannot create")),
            "{refused}"
        );

        let events = plane.audit_events().unwrap();
        let said = |verb: &str| -> Vec<u64> {
            let matches = |event: &&serde_json::Value| {
                event["user"]["username"] == name
                    && event["verb"] == verb
                    && event["objectRef"]["resource"] == "configmaps"
            };
            let codes = events.iter().filter(matches);
            codes
                .map(|event| event["responseStatus"]["code"].as_u64().unwrap())
                .collect()
        };
        assert_eq!(
            (said("list"), said("create")),
            (vec![200], vec![403]),
            "{name}"
        );
    }
    let admin = plane
        .kubeconfig_with_token(plane.token("admin").unwrap())
        .unwrap();
    let admin = admin.to_str().unwrap();
    plane
        .kubectl(&["--kubeconfig", admin, "create", "configmap", "x"])
        .unwrap();
    assert!(
        plane
            .token("nobody")
            .unwrap_err()
            .to_string()
            .contains("no user nobody")
    );
}
