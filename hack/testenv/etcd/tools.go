//go:build tools

// Package etcd pins the etcd that tests and the demo run; hack/testenv/build builds it.
package etcd

import (
	_ "go.etcd.io/etcd/server/v3"
)
