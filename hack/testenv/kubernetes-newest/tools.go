//go:build tools

// Package kubernetesnewest pins the kube-apiserver that hack/test --full also runs the contract tests against;
// hack/testenv/build builds it.
package kubernetesnewest

import (
	_ "k8s.io/kubernetes/cmd/kube-apiserver"
)
