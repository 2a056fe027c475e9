use super::*;

#[test]
fn a_service_as_a_manager_tells_it() {
    let text = r#"{"ID":"doroa010","Version":{"Index":21},"CreatedAt":"2026-11-20T12:38:25.5Z","UpdatedAt":"2026-11-20T12:38:25.5Z",
        "Spec":{"Name":"web","Labels":{"bpvs.scheduler":"wlc"},"TaskTemplate":{"ContainerSpec":{"Image":"bb:latest","Labels":{"bpvs.scheduler":"lc","bpvs.timeout":"8h"},"Isolation":"default"},"ForceUpdate":0,"Runtime":"container"},
          "Mode":{"Replicated":{"Replicas":2}},"EndpointSpec":{"Mode":"vip"}},
        "Endpoint":{"Spec":{"Mode":"vip"},"Ports":[
          {"Protocol":"tcp","TargetPort":80,"PublishedPort":8080,"PublishMode":"ingress"},
          {"Protocol":"udp","TargetPort":80,"PublishedPort":8081,"PublishMode":"ingress"},
          {"Protocol":"tcp","TargetPort":80,"PublishedPort":9090,"PublishMode":"host"}],
          "VirtualIPs":[{"NetworkID":"6yqm","Addr":"10.0.1.2/24"}]}}"#;
    let (name, service) = specified(serde_json::from_str(text).unwrap()).unwrap();
    assert_eq!(name, "web");
    assert_eq!(
        service.labels["bpvs.scheduler"], "wlc",
        "its own count first"
    );
    assert_eq!(service.labels["bpvs.timeout"], "8h", "its containers'");
    assert_eq!(
        service.published,
        [(Protocol::Tcp, 8080), (Protocol::Udp, 8081)]
    );
}

/// As the published schema of API 1.53 has it: nothing here was taken from a running engine.
const NEWER_SERVICE: &str = r#"{"ID":"doroa010","Version":{"Index":21},"CreatedAt":"2026-11-20T12:38:25.5Z","UpdatedAt":"2026-11-20T12:38:25.5Z",
    "Spec":{"Name":"web","Labels":null,"TaskTemplate":{"ContainerSpec":{"Image":"bb:latest@sha256:00","Labels":{"bpvs.client-address":"keep"},
          "Init":false,"DNSConfig":{},"Isolation":"default","OomScoreAdj":0,"CapabilityAdd":["CAP_NET_RAW"],
          "Privileges":{"CredentialSpec":null,"SELinuxContext":null,"Seccomp":{"Mode":"default"},"AppArmor":{"Mode":"default"},"NoNewPrivileges":false}},
        "Resources":{"Limits":{},"Reservations":{},"SwapBytes":null,"MemorySwappiness":null},
        "RestartPolicy":{"Condition":"any","Delay":5000000000,"MaxAttempts":0},
        "Placement":{"Platforms":[{"Architecture":"amd64","OS":"linux"}]},"Networks":[{"Target":"6yqm"}],"ForceUpdate":0,"Runtime":"container"},
      "Mode":{"Replicated":{"Replicas":2}},
      "UpdateConfig":{"Parallelism":1,"FailureAction":"pause","Monitor":5000000000,"MaxFailureRatio":0,"Order":"stop-first"},
      "EndpointSpec":{"Mode":"vip","Ports":[{"Protocol":"tcp","TargetPort":80,"PublishedPort":8080,"PublishMode":"ingress"}]}},
    "Endpoint":{"Spec":{"Mode":"vip"},"Ports":[
      {"Name":"","Protocol":"sctp","TargetPort":80,"PublishedPort":8082,"PublishMode":"ingress"},
      {"Name":"http","Protocol":"tcp","TargetPort":80,"PublishedPort":8080,"PublishMode":"ingress"},
      {"Protocol":"tcp","TargetPort":81,"PublishMode":"ingress"}],
      "VirtualIPs":[{"NetworkID":"6yqm","Addr":"10.0.1.2/24"}]},
    "ServiceStatus":{"RunningTasks":2,"DesiredTasks":2,"CompletedTasks":0},
    "UpdateStatus":{"State":"completed","StartedAt":"2026-11-20T12:38:25.5Z","CompletedAt":"2026-11-20T12:38:35.5Z","Message":"update completed"}}"#;

/// Likewise.
const NEWER_TASK: &str = r#"{"ID":"5euftxp7bu2u7d2h45fe3ag0a","Version":{"Index":71},"CreatedAt":"2026-11-20T12:38:25.5Z","UpdatedAt":"2026-11-20T12:38:25.5Z",
    "Labels":{},"Spec":{"ContainerSpec":{"Image":"bb:latest"},"ForceUpdate":1,"Runtime":"container"},"ServiceID":"doroa010","Slot":1,"NodeID":"60gv",
    "Status":{"Timestamp":"2026-11-20T12:38:25.5Z","State":"running","Message":"started",
      "ContainerStatus":{"ContainerID":"176a3f6f","PID":677},"PortStatus":{}},
    "DesiredState":"running","JobIteration":{"Index":1},
    "NetworksAttachments":[{"Network":{"ID":"6yqm"},"Addresses":["10.0.1.3/24"]}],"Volumes":[]}"#;

/// Likewise.
const NEWER_CONTAINERS: &str = r#"[{"Id":"176a3f6f","Names":["/web.1.5euftxp7bu2u7d2h45fe3ag0a"],"Image":"bb:latest","ImageID":"sha256:00","Command":"/task 80","Created":1763640000,
    "ImageManifestDescriptor":{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:00","size":424,"platform":{"architecture":"amd64","os":"linux"}},
    "Ports":[{"PrivatePort":80,"Type":"tcp"}],"State":"running","Status":"Up 2 minutes","Mounts":[],"Health":{"Status":"none","FailingStreak":0},
    "Labels":{"bpvs.client-address":"keep","com.docker.swarm.node.id":"60gv","com.docker.swarm.service.id":"doroa010",
      "com.docker.swarm.service.name":"web","com.docker.swarm.task":"","com.docker.swarm.task.id":"5euftxp7bu2u7d2h45fe3ag0a"},
    "HostConfig":{"NetworkMode":"default"},
    "NetworkSettings":{"Networks":{"ov":{"IPAMConfig":{"IPv4Address":"10.0.1.3"},"NetworkID":"6yqm","EndpointID":"1d6f","Gateway":"","IPAddress":"10.0.1.3",
      "MacAddress":"02:42:0a:00:01:03","IPPrefixLen":24,"GwPriority":0,"DNSNames":null}}}},
  {"Id":"177a3f6f","Names":["/own"],"Labels":{}}]"#;

/// Likewise, of a worker and a manager.
const NEWER_INFO: &str = r#"{"ID":"5a3c","Containers":3,"ServerVersion":"29.1.2","FirewallBackend":{"Driver":"nftables"},
    "Swarm":{"NodeID":"60gv","NodeAddr":"192.168.77.2","LocalNodeState":"active","ControlAvailable":CONTROL,"Error":"",
      "RemoteManagers":[{"NodeID":"jo8b","Addr":"192.168.77.1:2377"}]}}"#;

/// As Docker 28.5.2 says it.
#[test]
fn a_real_newer_engines_answers() {
    let services: Vec<bollard::models::Service> =
        serde_json::from_str(include_str!("samples/28.5/services.json")).unwrap();
    let [(name, service)] = Vec::from_iter(services.into_iter().filter_map(specified))
        .try_into()
        .unwrap();
    assert_eq!(name, "web");
    assert_eq!(
        service.published,
        [(Protocol::Tcp, 8080), (Protocol::Udp, 8081)]
    );
    let tasks: Vec<bollard::models::Task> =
        serde_json::from_str(include_str!("samples/28.5/tasks.json")).unwrap();
    let ids: Vec<_> = tasks.iter().filter_map(|task| task.id.as_deref()).collect();
    assert!(ids.contains(&"7pc7y68ejpnzi9gesf0cyj5kn"), "{ids:?}");
    let listed =
        by_service(serde_json::from_str(include_str!("samples/28.5/containers.json")).unwrap());
    assert_eq!(listed.keys().collect::<Vec<_>>(), ["web"]);
    let info: bollard::models::SystemInfo =
        serde_json::from_str(include_str!("samples/28.5/info.json")).unwrap();
    assert_eq!(info.swarm.unwrap().control_available, Some(true));
}

#[test]
fn a_newer_managers_service() {
    let (name, service) = specified(serde_json::from_str(NEWER_SERVICE).unwrap()).unwrap();
    assert_eq!(name, "web");
    assert_eq!(service.labels["bpvs.client-address"], "keep");
    // One without a published port has none yet.
    assert_eq!(
        service.published,
        [(Protocol::Sctp, 8082), (Protocol::Tcp, 8080)]
    );
}

#[test]
fn a_newer_managers_task() {
    let task: bollard::models::Task = serde_json::from_str(NEWER_TASK).unwrap();
    assert_eq!(task.id.as_deref(), Some("5euftxp7bu2u7d2h45fe3ag0a"));
}

#[test]
fn a_newer_engines_containers() {
    let listed = by_service(serde_json::from_str(NEWER_CONTAINERS).unwrap());
    assert_eq!(listed.len(), 1, "one is nobody's task: {listed:?}");
    assert_eq!(listed["web"]["bpvs.client-address"], "keep");
}

#[test]
fn a_newer_engines_role() {
    for (control, manager) in [("false", false), ("true", true)] {
        let text = NEWER_INFO.replace("CONTROL", control);
        let info: bollard::models::SystemInfo = serde_json::from_str(&text).unwrap();
        assert_eq!(info.swarm.unwrap().control_available, Some(manager));
    }
}
