# The Node object that a kubelet of a single-node OpenShift would register.
{
  apiVersion: "v1", kind: "Node",
  metadata: {
    name: $host,
    labels: {
      "beta.kubernetes.io/arch": "amd64", "beta.kubernetes.io/os": "linux",
      "kubernetes.io/arch": "amd64", "kubernetes.io/os": "linux", "kubernetes.io/hostname": $host,
      "node-role.kubernetes.io/control-plane": "", "node-role.kubernetes.io/master": "",
      "node-role.kubernetes.io/worker": "", "node.openshift.io/os_id": "rhcos"
    },
    annotations: {
      "machineconfiguration.openshift.io/currentConfig": $config,
      "machineconfiguration.openshift.io/desiredConfig": $config,
      "machineconfiguration.openshift.io/state": "Done",
      "machineconfiguration.openshift.io/reason": "",
      "machineconfiguration.openshift.io/controlPlaneTopology": "SingleReplica"
    }
  },
  status: {
    addresses: [{type: "InternalIP", address: $address}, {type: "Hostname", address: $host}],
    capacity: {cpu: "8", memory: "33554432Ki", pods: "250"},
    allocatable: {cpu: "7500m", memory: "32505856Ki", pods: "250"},
    conditions: [
      {type: "MemoryPressure", status: "False", reason: "KubeletHasSufficientMemory", message: "kubelet has sufficient memory available", lastHeartbeatTime: $now, lastTransitionTime: $now},
      {type: "DiskPressure", status: "False", reason: "KubeletHasNoDiskPressure", message: "kubelet has no disk pressure", lastHeartbeatTime: $now, lastTransitionTime: $now},
      {type: "PIDPressure", status: "False", reason: "KubeletHasSufficientPID", message: "kubelet has sufficient PID available", lastHeartbeatTime: $now, lastTransitionTime: $now},
      {type: "Ready", status: "True", reason: "KubeletReady", message: "kubelet is posting ready status", lastHeartbeatTime: $now, lastTransitionTime: $now}
    ],
    nodeInfo: {
      architecture: "amd64", operatingSystem: "linux", osImage: $release, kernelVersion: $kernel,
      bootID: $boot, machineID: $machine, systemUUID: $machine,
      containerRuntimeVersion: "mini-sno", kubeletVersion: "v1.30.14", kubeProxyVersion: "v1.30.14"
    }
  }
}
