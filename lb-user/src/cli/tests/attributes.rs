//! Persistence, thresholds, flags and settings on the command line.

use super::*;

#[tokio::test]
async fn persistence_thresholds_and_flags() {
    let daemon = Daemon::start();
    for line in [
        "service add tcp:10.0.0.100:0 --persistent",
        "service add tcp:10.0.0.100:80 --persistent=1h --netmask 24 --scheduler-flags sh-port,flag-3 --reset",
        "service add udp:10.0.0.100:53 --one-packet",
        "server add tcp:10.0.0.100:0 10.0.1.11 --method direct --upper-threshold 10 --lower-threshold 5",
        "server add tcp:10.0.0.100:80 10.0.1.11 --upper-threshold 10 --weight 70000",
    ] {
        assert_eq!(daemon.bpvs(line).await.unwrap(), "", "{line}");
    }
    let head = "\
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
";
    assert_eq!(
        daemon.bpvs("list").await.unwrap(),
        format!(
            "{head}\
TCP  10.0.0.100:0 rr persistent 6m
  -> 10.0.1.11:0                  Route   1      0          0
TCP  10.0.0.100:80 rr (flag-2,flag-3, reset) persistent 1h mask 255.255.255.0
  -> 10.0.1.11:80                 Masq    70000  0          0
UDP  10.0.0.100:53 rr ops
"
        )
    );
    let listing: wire::Listing =
        serde_json::from_str(&daemon.bpvs("list --json").await.unwrap()).unwrap();
    let server = &listing.services[0].servers[0];
    assert_eq!((server.upper_threshold, server.lower_threshold), (10, 5));

    for line in [
        "service edit tcp:10.0.0.100:80 --persistent=off --scheduler-flags none --reset=false",
        "service edit udp:10.0.0.100:53 --one-packet=false --persistent --netmask 255.255.0.0",
        "server edit tcp:10.0.0.100:80 10.0.1.11 --method direct --upper-threshold 0",
    ] {
        assert_eq!(daemon.bpvs(line).await.unwrap(), "", "{line}");
    }
    assert_eq!(
        daemon.bpvs("list").await.unwrap(),
        format!(
            "{head}\
TCP  10.0.0.100:0 rr persistent 6m
  -> 10.0.1.11:0                  Route   1      0          0
TCP  10.0.0.100:80 rr
  -> 10.0.1.11:80                 Route   70000  0          0
UDP  10.0.0.100:53 rr persistent 6m mask 255.255.0.0
"
        )
    );
    for (line, text) in [
        (
            "service edit tcp:10.0.0.100:80 --netmask 24",
            "error: the service tcp:10.0.0.100:80 is not persistent, so a netmask means nothing to it\n\
             hint: make it persistent in the same command\n",
        ),
        (
            "server edit tcp:10.0.0.100:0 10.0.1.11 --upper-threshold 4",
            "error: the lower threshold 5 is above the upper threshold 4\n\
             hint: give an upper threshold that is not below it; or a lower one of 0, which is three quarters of the upper\n",
        ),
        (
            "service add tcp:10.0.0.9:80 --one-packet",
            "error: the service tcp:10.0.0.9:80 takes no UDP, and only datagrams can be scheduled one by one\n\
             hint: leave it out, or use a UDP or fwmark service\n",
        ),
    ] {
        assert_eq!(daemon.fails(line).await, text, "{line}");
    }

    daemon.bpvs("service clear").await.unwrap();
    assert_eq!(daemon.bpvs("list").await.unwrap(), head);
    assert_eq!(daemon.bpvs("service clear").await.unwrap(), "");
}

#[tokio::test]
async fn templates_are_listed_with_the_connections() {
    let daemon = Daemon::start();
    daemon
        .bpvs("service add fwmark:256 --persistent")
        .await
        .unwrap();
    let template = |protocol, service: &str, server: &str| Connection {
        kind: Kind::Template(protocol),
        client: "10.0.0.0:0".parse().unwrap(),
        service: service.parse().unwrap(),
        server: server.parse().unwrap(),
        socket: false,
        source_nat: None,
        state: "ASSURED",
        expires: Duration::from_secs(61),
    };
    daemon
        .datapath
        .state()
        .scopes
        .get_mut(&ScopeId::MIN)
        .unwrap()
        .connections
        .extend([
            template(None, "0.0.1.0:0", "10.0.1.11:0"),
            template(Some(Protocol::Udp), "10.0.0.100:53", "10.0.1.11:5353"),
        ]);
    assert_eq!(
        daemon.bpvs("conns").await.unwrap(),
        "\
pro expire state       source                virtual               destination           source-nat
IP  01:01  ASSURED     10.0.0.0:0            0.0.1.0:0             10.0.1.11:0
UDP 01:01  ASSURED     10.0.0.0:0            10.0.0.100:53         10.0.1.11:5353
"
    );
    let json: Vec<wire::Connection> =
        serde_json::from_str(&daemon.bpvs("conns --json").await.unwrap()).unwrap();
    assert!(json.iter().all(|entry| entry.template));
}

#[tokio::test]
async fn settings_by_their_names() {
    let daemon = Daemon::start();
    let get = "settings get conn_reuse_mode timeouts.udp sync_threshold";
    assert_eq!(
        daemon.bpvs(get).await.unwrap(),
        "conn_reuse_mode = 1\ntimeouts.udp = 5m\nsync_threshold = 3 50\n"
    );
    daemon
        .bpvs("settings set conn_reuse_mode=0 timeouts.udp=30s conntrack=0")
        .await
        .unwrap();
    assert_eq!(
        daemon.bpvs(get).await.unwrap(),
        "conn_reuse_mode = 0\ntimeouts.udp = 30s\nsync_threshold = 3 50\n"
    );
    assert_eq!(
        daemon.bpvs("settings get timeouts.tcp").await.unwrap(),
        "15m\n"
    );
    let all = daemon.bpvs("settings").await.unwrap();
    for line in [
        "conn_reuse_mode = 0               1 unless set\n",
        "drop_packet = 0\n",
        "conntrack = 0                     fixed: bpvs does not use the kernel's connection tracking\n",
    ] {
        assert!(all.contains(line), "{all}");
    }
    let json: Vec<wire::Setting> =
        serde_json::from_str(&daemon.bpvs("settings --json").await.unwrap()).unwrap();
    assert_eq!(json.len(), all.lines().count());
    assert_eq!(
        daemon.fails("settings get banana").await,
        "error: there is no setting `banana`\nhint: `bpvs settings` shows them all\n"
    );
}
