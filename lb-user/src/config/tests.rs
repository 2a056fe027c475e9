//! The file of the module's documentation, and one case for each way to get a file wrong.

use super::*;
use proptest::prelude::*;

use crate::control::testing::table;
use crate::model::{
    AddressFamily, MarkRule, MarkValue, Server, ServiceKey, parse_duration, parse_prefix,
};

const WHOLE: &str = r#"
[[service]]
address = "tcp:10.0.0.100:80"
scheduler = "wrr"
source-nat = true
answer = true
timeouts = { tcp = "2h", udp = "5m" }
scheduler-flags = "flag-3"
persistent = "90s"
netmask = 24
reset = true
loopback = true
  [[service.server]]
  address = "10.0.1.11:80"
  weight = 0
  upper-threshold = 100
  lower-threshold = 50
  [[service.server]]
  address = "10.0.1.12"
[[service]]
address = "fwmark:0x100"
source-nat = "10.0.1.5"
one-packet = true
  [[service.server]]
  address = "10.0.1.11"
  method = "direct"
[[mark]]
mark = 0x100
destination = "10.0.0.100/32"
protocol = "tcp"
ports = 8080
[[mark]]
mark = "0x100/0xff00"
interface = "eth0"
source = "10.0.0.0/24"
protocol = "udp"
ports = "8000-8099"
[settings]
timeouts = { tcp = "15m", tcp-fin = "90s" }
conn_reuse_mode = 0
snat_reroute = 1
sync_threshold = "3 50"
[[scope]]
netns = "lb"
  [[scope.service]]
  address = "tcp:10.0.0.1:80"
    [[scope.service.server]]
    address = "10.0.1.11:80"
"#;

#[test]
fn a_whole_file() {
    let config = parse("f", WHOLE).unwrap();
    let services: Vec<_> = config.here.table.services().collect();
    assert_eq!(services.len(), 2);
    let web = services[0];
    assert_eq!(
        (web.key.to_string().as_str(), web.scheduler.as_str()),
        ("tcp:10.0.0.100:80", "wrr")
    );
    assert!(web.answer && web.reset && !web.one_packet && web.socket && web.loopback);
    assert_eq!(web.scheduler_flags.to_string(), "flag-3");
    let persistence = web.persistence.unwrap();
    assert_eq!(
        (
            persistence.timeout.as_secs(),
            persistence.netmask.to_string().as_str()
        ),
        (90, "255.255.255.0")
    );
    let old = web.servers[1];
    assert_eq!((old.upper_threshold, old.lower_threshold), (100, 50));
    // The last one in the file is the newest; a port left out is the service's.
    let servers: Vec<_> = web
        .servers
        .iter()
        .map(|server| (server.socket().to_string(), server.weight))
        .collect();
    assert_eq!(
        servers,
        [
            ("10.0.1.12:80".to_owned(), 1),
            ("10.0.1.11:80".to_owned(), 0)
        ]
    );
    assert_eq!(services[1].servers[0].socket().to_string(), "10.0.1.11:0");
    assert_eq!(services[1].servers[0].method.as_str(), "direct");
    assert!(services[1].one_packet && services[1].persistence.is_none());
    let marks: Vec<_> = config
        .here
        .table
        .marks()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        marks,
        [
            "--mark 256 --destination 10.0.0.100/32 --protocol tcp --ports 8080",
            "--mark 0x100/0xff00 --interface eth0 --source 10.0.0.0/24 --protocol udp --ports 8000-8099",
        ]
    );
    let timeouts = config.here.table.settings().timeouts;
    assert_eq!(
        (
            timeouts.tcp.as_secs(),
            timeouts.tcp_fin.as_secs(),
            timeouts.udp.as_secs()
        ),
        (900, 90, 300)
    );
    assert!(config.here.has_settings);
    let changed: Vec<_> = config.here.table.settings().changed().collect();
    assert_eq!(changed, [(crate::model::Setting::ConnReuseMode, 0)]);
    assert_eq!(config.scopes.len(), 1);
    assert_eq!(config.scopes[0].netns, "lb");
    assert_eq!(
        config.scopes[0].declared.table,
        table("tcp:10.0.0.1:80 rr 10.0.1.11:80/1")
    );
}

#[test]
fn an_empty_file_says_nothing() {
    assert_eq!(parse("f", "").unwrap(), Config::default());
}

/// `error`, and below it the hint if there is one.
#[track_caller]
fn refused(text: &str, expected: &str) {
    let error = parse("lb.toml", text).unwrap_err();
    let shown = match error.hint() {
        Some(hint) => format!("{error}\n{hint}"),
        None => error.to_string(),
    };
    assert_eq!(shown, expected);
}

#[test]
fn keys() {
    refused(
        "[[service]]\nadress = \"tcp:10.0.0.1:80\"",
        "lb.toml:2:1: unknown key `adress` in [[service]]\ndid you mean `address`?",
    );
    refused(
        "[[services]]",
        "lb.toml:1:3: unknown key `services` in the file\ndid you mean `service`?",
    );
    refused(
        "banana = 1",
        "lb.toml:1:1: unknown key `banana` in the file\nhave: service, mark, settings, scope, provider",
    );
    refused(
        "[settings]\ntimeouts = { tcp_fin = \"2m\" }",
        "lb.toml:2:14: unknown key `tcp_fin` in timeouts\ndid you mean `tcp-fin`?",
    );
    refused(
        "[[service]]\nscheduler = \"rr\"",
        "lb.toml:1:1: [[service]] without `address`\nwrite address = \"tcp:10.0.0.100:80\"",
    );
    refused(
        "[[mark]]\nprotocol = \"tcp\"",
        "lb.toml:1:1: [[mark]] without `mark`\nwrite mark = 256",
    );
    refused(
        "[[scope]]",
        "lb.toml:1:1: [[scope]] without `netns`\nwrite netns = \"lb\"",
    );
}

#[test]
fn addresses() {
    refused(
        "[[service]]\n  address = \"tcp:10.0.0.300:80\"",
        "lb.toml:2:13: `10.0.0.300` is not an IP address\nwrite an address, as in 10.0.0.100; names are not looked up",
    );
    refused(
        "[[service]]\naddress = \"tcp:10.0.0.1:65536\"",
        "lb.toml:2:11: port 65536 is out of range\na port is a number from 1 to 65535",
    );
    refused(
        "[[service]]\naddress = 80",
        "lb.toml:2:11: `address` in [[service]] cannot be an integer\nwrite address = \"tcp:10.0.0.100:80\"",
    );
    refused(
        "[[service]]\naddress = \"tcp:[fd00::1]:80\"",
        "lb.toml:2:11: tcp:[fd00::1]:80: IPv6 services come later\nhave: IPv4",
    );
    refused(
        "[[service]]\naddress = \"tcp:10.0.0.1:80\"\n[[service.server]]\naddress = \"web-1:80\"",
        "lb.toml:4:11: `web-1:80` is not a server address\nwrite address and port, as in 10.0.1.11:80",
    );
    refused(
        "[[service]]\naddress = \"tcp:10.0.0.1:80\"\n[[service.server]]\naddress = \"224.0.0.1:80\"",
        "lb.toml:4:11: 224.0.0.1 is not a unicast address\ngive an address that one host can own",
    );
    refused(
        "[[service]]\naddress = \"tcp:10.0.0.1:80\"\nsource-nat = \"fd00::1\"",
        "lb.toml:3:14: the source NAT address fd00::1 and the service tcp:10.0.0.1:80 are of different address families\n\
         give an address of the service's own family",
    );
}

#[test]
fn twice() {
    refused(
        "[[service]]\naddress = \"tcp:10.0.0.1:80\"\n[[service]]\naddress = \"tcp:10.0.0.1:80\"",
        "lb.toml:4:11: service tcp:10.0.0.1:80 is there twice\n\
         the first is in line 2; put all of its servers below one [[service]]",
    );
    refused(
        "[[service]]\naddress = \"tcp:10.0.0.1:80\"\n[[service.server]]\naddress = \"10.1.0.1:80\"\n\
         [[service.server]]\naddress = \"10.1.0.1\"",
        "lb.toml:6:11: server 10.1.0.1:80 is there twice in service tcp:10.0.0.1:80\n\
         the first is in line 4; to send it more, give it a higher weight",
    );
    refused(
        "[[mark]]\nmark = 1\n[[mark]]\nmark = 1",
        "lb.toml:3:1: mark rule `--mark 1` is there twice",
    );
    refused(
        "[[scope]]\nnetns = \"a\"\n[[scope]]\nnetns = \"a\"",
        "lb.toml:4:9: the scope of netns a is there twice\nput all of its services below one [[scope]]",
    );
}

#[test]
fn a_server_without_a_service() {
    let right = "begin its service with [[service]] above it";
    refused(
        "[[service.server]]\naddress = \"10.1.0.1:80\"",
        &format!("lb.toml:1:3: a server without a service\n{right}"),
    );
    refused(
        "# all\n[[service.server]]\naddress = \"10.1.0.1:80\"\n[[service]]\naddress = \"tcp:10.0.0.1:80\"",
        &format!("lb.toml:2:3: a server without a service\n{right}"),
    );
    refused(
        "[[server]]\naddress = \"10.1.0.1:80\"",
        "lb.toml:1:3: a server without a service\nwrite [[service.server]] below its [[service]]",
    );
}

#[test]
fn values() {
    refused(
        "[[service]]\naddress = \"tcp:10.0.0.1:80\"\nscheduler = \"best\"",
        "lb.toml:3:13: `best` is not a scheduler\nhave: rr, wrr, lc, wlc, lblc, lblcr, dh, sh, sed, nq, fo, ovf, mh, twos, none",
    );
    refused(
        "[[service]]\naddress = \"tcp:10.0.0.1:80\"\n[[service.server]]\naddress = \"10.1.0.1\"\nmethod = \"tunnel\"",
        "lb.toml:5:10: forwarding method tunnel is not there yet\nhave: masq, direct",
    );
    refused(
        "[[service]]\naddress = \"tcp:10.0.0.1:80\"\n[[service.server]]\naddress = \"10.1.0.1\"\nweight = 2147483648",
        "lb.toml:5:10: weight 2147483648 is out of range\na weight is a number from 0 to 2147483647",
    );
    refused(
        "[[service]]\naddress = \"tcp:10.0.0.1:80\"\n[[service.server]]\naddress = \"10.1.0.1\"\nweight = -1",
        "lb.toml:5:10: weight -1 is out of range\na weight is a number from 0 to 2147483647",
    );
    refused(
        "[[service]]\naddress = \"tcp:10.0.0.1:80\"\n[[service.server]]\naddress = \"10.1.0.1\"\nweight = \"1\"",
        "lb.toml:5:10: `weight` in [[service.server]] cannot be a string\nwrite weight = 1",
    );
    refused(
        "[[service]]\naddress = \"tcp:10.0.0.1:80\"\nanswer = \"yes\"",
        "lb.toml:3:10: `answer` in [[service]] cannot be a string\nwrite answer = true or answer = false",
    );
    refused(
        "[[service]]\naddress = \"fwmark:1\"\nanswer = true",
        "lb.toml:2:11: the service fwmark:1 has no address to answer for\n\
         leave `answer` out; only a service with an address can have it",
    );
    refused(
        "[[service]]\naddress = \"fwmark:1\"\nloopback = true",
        "lb.toml:2:11: the service fwmark:1 has no port of its own by which it could be reached at 127.0.0.1\n\
         leave `loopback` out; only a service with an address and a port can have it",
    );
    refused(
        "[[service]]\naddress = \"tcp:10.0.0.1:80\"\nloopback = true\nsocket = false",
        "lb.toml:2:11: the service tcp:10.0.0.1:80 cannot be reached at 127.0.0.1 without the socket hook\n\
         leave `socket = false` out, or `loopback`",
    );
    refused(
        "[settings]\ntimeouts = { tcp = \"15\" }",
        "lb.toml:2:20: `15` is not a duration\nwrite a number with a unit, as in 90s, 15m, 2h or 1d",
    );
    refused(
        "[settings]\ntimeouts = { tcp = \"32d\" }",
        "lb.toml:2:20: timeout 32d is out of range\na timeout is at least 1s and at most 31d, in whole seconds",
    );
}

#[test]
fn persistence() {
    let service = |rest: &str| format!("[[service]]\naddress = \"tcp:10.0.0.1:80\"\n{rest}");
    let read = |rest: &str| {
        let config = parse("f", &service(rest)).unwrap();
        let found = config.here.table.services().next().unwrap().persistence;
        found.map(|found| (found.timeout.as_secs(), found.netmask.to_string()))
    };
    let full = || "255.255.255.255".to_owned();
    assert_eq!(read("persistent = true"), Some((360, full())));
    assert_eq!(read("persistent = false"), None);
    assert_eq!(
        read("persistent = \"1m\"\nnetmask = \"255.255.0.0\""),
        Some((60, "255.255.0.0".into()))
    );
    refused(
        &service("netmask = 24"),
        "lb.toml:3:11: the service tcp:10.0.0.1:80 is not persistent, so a netmask means nothing to it\n\
         make it persistent in the same command",
    );
    refused(
        &service("persistent = true\nnetmask = 33"),
        "lb.toml:4:11: `33` is not a netmask for IPv4\nwrite it as 255.255.255.0, or its bits, as 24",
    );
    refused(
        &service("persistent = 60"),
        "lb.toml:3:14: `persistent` in [[service]] cannot be an integer\nwrite persistent = true or persistent = \"6m\"",
    );
    refused(
        &service("persistent = \"40d\""),
        "lb.toml:3:14: timeout 40d is out of range\na timeout is at least 1s and at most 31d, in whole seconds",
    );
    refused(
        &service("one-packet = true"),
        "lb.toml:2:11: the service tcp:10.0.0.1:80 takes no UDP, and only datagrams can be scheduled one by one\n\
         leave it out, or use a UDP or fwmark service",
    );
    refused(
        &service("scheduler-flags = \"sh-ports\""),
        "lb.toml:3:19: `sh-ports` is not a scheduler flag\n\
         have: flag-1 (sh-fallback, mh-fallback), flag-2 (sh-port, mh-port), flag-3; or none",
    );
}

#[test]
fn servers() {
    let server = |rest: &str| {
        format!(
            "[[service]]\naddress = \"tcp:10.0.0.1:80\"\n[[service.server]]\naddress = \"10.1.0.1:81\"\n{rest}"
        )
    };
    refused(
        &server("method = \"direct\""),
        "lb.toml:4:11: direct cannot send to port 81 what came for port 80\n\
         leave the port out, which means 80; or use masq",
    );
    refused(
        &server("upper-threshold = 1\nlower-threshold = 2"),
        "lb.toml:4:11: the lower threshold 2 is above the upper threshold 1\n\
         give an upper threshold that is not below it; or a lower one of 0, which is three quarters of the upper",
    );
    refused(
        &server("upper-threshold = -1"),
        "lb.toml:5:19: upper-threshold -1 is out of range\na threshold is a number from 0 to 2147483647; 0 is none",
    );
}

#[test]
fn settings() {
    refused(
        "[settings]\nconntrack = 1",
        "lb.toml:2:13: conntrack cannot be set to 1: bpvs does not use the kernel's connection tracking\n\
         leave conntrack at 0",
    );
    refused(
        "[settings]\ndrop_entry = 4",
        "lb.toml:2:14: drop_entry cannot be `4`\ndrop_entry is a number from 0 to 3, 0 unless set",
    );
    refused(
        "[settings]\nsloppy_tpc = 1",
        "lb.toml:2:1: unknown key `sloppy_tpc` in [settings]\ndid you mean `sloppy_tcp`?",
    );
    refused(
        "[settings]\nsloppy_tcp = true",
        "lb.toml:2:14: `sloppy_tcp` in [settings] cannot be a boolean\nwrite sloppy_tcp = 1",
    );
}

#[test]
fn mark_rules() {
    refused(
        "[[mark]]\nmark = 1\nports = \"80\"",
        "lb.toml:1:1: ports need a protocol\nsay of which protocol: tcp, udp or sctp",
    );
    refused(
        "[[mark]]\nmark = 1\nprotocol = \"tcp\"\nports = \"90-80\"",
        "lb.toml:4:9: `90-80` is not a port range\n\
         write a port or two with a dash, the lower first, as in 80 or 8000-8099",
    );
    refused(
        "[[mark]]\nmark = 1\nprotocol = \"tcp\"\nports = 70000",
        "lb.toml:4:9: port 70000 is out of range\na port is a number from 1 to 65535",
    );
    refused(
        "[[mark]]\nmark = 1\nsource = \"10.0.0.5/24\"",
        "lb.toml:3:10: 10.0.0.5/24 has bits set behind its prefix\nwrite 10.0.0.0/24",
    );
    let shapes: String = (8..25)
        .map(|bits| format!("[[mark]]\nmark = 1\nsource = \"0.0.0.0/{bits}\"\n"))
        .collect();
    let error = parse("lb.toml", &shapes).unwrap_err();
    assert_eq!(
        error.to_string(),
        "lb.toml:49:1: 17 shapes of mark rules are more than the 16 that there may be"
    );
}

#[test]
fn what_is_not_toml() {
    refused(
        "[[service]\n",
        "lb.toml:1:11: unclosed array table, expected `]`",
    );
    refused(
        "[[service]]\naddress = web",
        "lb.toml:2:11: string values must be quoted, expected literal string",
    );
    refused("[settings]\n[settings]", "lb.toml:2:2: duplicate key");
}

#[test]
fn a_file_that_is_not_there() {
    let error = load(Path::new("/nonexistent/lb.toml")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "/nonexistent/lb.toml: No such file or directory (os error 2)"
    );
}

proptest! {
    /// Whatever is cut out of a file or put in: either it is right, or there is one error with a place in the file.
    #[test]
    fn garbage_is_an_error_and_never_a_panic(
        at in 0..WHOLE.len(),
        length in 0..40usize,
        put in "[a-z0-9=\"\\[\\]{}.:,/# \n\u{e9}-]{0,12}",
    ) {
        let end = (at + length).min(WHOLE.len());
        let text = format!("{}{put}{}", &WHOLE[..at], &WHOLE[end..]);
        if let Err(ConfigError::Wrong { line, column, message, .. }) = parse("f", &text) {
            prop_assert!(line >= 1 && line <= text.split('\n').count(), "{line}: {message}");
            prop_assert!(column >= 1 && !message.is_empty() && !message.contains('\n'));
        }
    }

    #[test]
    fn words_of_all_kinds_never_panic(text in "\\PC{0,24}") {
        let _ = text.parse::<ServiceKey>();
        let _ = text.parse::<MarkValue>();
        let _ = parse_duration(&text);
        let _ = parse_prefix(&text);
        let _ = MarkRule::parse_ports(&text);
        let _ = Server::parse_socket(&text, &ServiceKey::fwmark(1, AddressFamily::V4).unwrap());
    }
}

#[test]
fn a_swarm_to_follow() {
    let swarm = |text: &str| parse("f", text).map(|config| config.swarm);
    assert_eq!(swarm("").unwrap(), None);
    let options = swarm("[provider.swarm]").unwrap().unwrap();
    assert_eq!(options, swarm::Options::default());
    let text = "[provider.swarm]\ndocker = \"/d.sock\"\nsandboxes = \"/s\"\ntimeout = \"8h\"\nclient-address = \"keep\"";
    let options = swarm(text).unwrap().unwrap();
    assert_eq!(options.clients, swarm::ClientAddress::Keep);
    assert_eq!(options.docker, "/d.sock");
    assert_eq!(options.sandboxes, Path::new("/s"));
    assert_eq!(options.tcp_timeout.as_secs(), 8 * 3600);
    let error = swarm("[provider.swarm]\nclient-address = \"true\"").unwrap_err();
    assert!(
        error
            .hint()
            .is_some_and(|hint| hint.contains("have: keep, keep-all, translate")),
        "{error:?}"
    );
    let error = swarm("[provider.swarm]\ntimeouts = \"8h\"").unwrap_err();
    assert!(
        error.to_string().contains("unknown key `timeouts`"),
        "{error}"
    );
}
