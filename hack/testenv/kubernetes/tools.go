//go:build tools

// Package kubernetes pins the kube-apiserver and kubectl that tests and the demo run;
// hack/testenv/build builds it.
package kubernetes

import (
	_ "k8s.io/kubernetes/cmd/kube-apiserver"
	_ "k8s.io/kubernetes/cmd/kubectl"
)
