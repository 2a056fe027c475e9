//! The command line against a daemon in this process, on the in-memory datapath: what is typed, what is printed.

mod attributes;

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::CommandFactory;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use super::*;
use crate::api::{server as api_server, wire};
use crate::daemon::testing::{TempDir, spawn};
use crate::daemon::{Message, SOCKET};
use crate::datapath::fake::FakeDatapath;
use crate::datapath::{Connection, Counters, Kind};
use crate::model::{Protocol, ScopeId};

/// What a command printed.
#[derive(Clone, Default)]
struct Printed(Arc<Mutex<Vec<u8>>>);

impl Write for Printed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A daemon with its socket.
struct Daemon {
    dir: TempDir,
    datapath: FakeDatapath,
    messages: tokio::sync::mpsc::UnboundedSender<Message>,
    server: tokio::task::JoinHandle<()>,
}

impl Daemon {
    fn start() -> Self {
        let (dir, datapath) = (TempDir::new(), FakeDatapath::new());
        let (handle, messages) = spawn(datapath.clone(), dir.path());
        let listener = UnixListener::bind(dir.path().join(SOCKET)).unwrap();
        let server = tokio::spawn(api_server::serve(listener, handle));
        Self {
            dir,
            datapath,
            messages,
            server,
        }
    }

    /// Types a command line and returns what was printed.
    async fn bpvs(&self, line: &str) -> Result<String, CliError> {
        typed(line, self.dir.path()).await
    }

    async fn fails(&self, line: &str) -> String {
        self.bpvs(line).await.unwrap_err().text()
    }

    async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = UnixStream::connect(self.dir.path().join(SOCKET))
            .await
            .unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.server.abort();
        let _ = self.messages.send(Message::Stop);
    }
}

async fn typed(line: &str, run_dir: &std::path::Path) -> Result<String, CliError> {
    let words = ["bpvs", "--run-dir", run_dir.to_str().unwrap()]
        .into_iter()
        .chain(line.split_whitespace());
    let cli = Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{error}"));
    let context = Context {
        run_dir: cli.run_dir,
        netns: cli.netns,
    };
    let printed = Printed::default();
    ask(&context, cli.command, &mut Output::to(printed.clone())).await?;
    let bytes = printed.0.lock().unwrap().clone();
    Ok(String::from_utf8(bytes).unwrap())
}

#[tokio::test]
async fn services_and_servers() {
    let daemon = Daemon::start();
    for line in [
        "service add tcp:10.0.0.100:80 --answer",
        "server add tcp:10.0.0.100:80 10.0.1.11:8080",
        "server add tcp:10.0.0.100:80 10.0.1.12 --weight 3",
        "service add udp:10.0.0.100:53 --scheduler wrr --source-nat --udp-timeout 30s",
        "service add fwmark:0x100 --source-nat=10.0.1.5",
        "server add fwmark:256 10.0.1.11",
    ] {
        assert_eq!(daemon.bpvs(line).await.unwrap(), "", "{line}");
    }
    assert_eq!(
        daemon.bpvs("list").await.unwrap(),
        "\
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  10.0.0.100:80 rr (answer)
  -> 10.0.1.12:80                 Masq    3      0          0
  -> 10.0.1.11:8080               Masq    1      0          0
UDP  10.0.0.100:53 wrr (source-nat, udp-timeout=30s)
FWM  256 rr (source-nat=10.0.1.5)
  -> 10.0.1.11:0                  Masq    1      0          0
"
    );

    daemon
        .bpvs("service edit udp:10.0.0.100:53 --source-nat=off --udp-timeout default --answer")
        .await
        .unwrap();
    daemon
        .bpvs("server edit tcp:10.0.0.100:80 10.0.1.12 --weight 0")
        .await
        .unwrap();
    daemon
        .bpvs("server remove tcp:10.0.0.100:80 10.0.1.11:8080")
        .await
        .unwrap();
    daemon.bpvs("service remove fwmark:256").await.unwrap();
    assert_eq!(
        daemon.bpvs("list").await.unwrap(),
        "\
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  10.0.0.100:80 rr (answer)
  -> 10.0.1.12:80                 Masq    0      0          0
UDP  10.0.0.100:53 wrr (answer)
"
    );
    let listing: wire::Listing =
        serde_json::from_str(&daemon.bpvs("list --json").await.unwrap()).unwrap();
    assert_eq!(listing.services[0].address, "tcp:10.0.0.100:80");
    assert_eq!(listing.services[0].servers[0].weight, 0);
    assert_eq!(listing.services[0].source, "command");
}

#[tokio::test]
async fn rates_and_zeroing() {
    let daemon = Daemon::start();
    for line in [
        "service add tcp:10.0.0.100:80",
        "server add tcp:10.0.0.100:80 10.0.1.11",
    ] {
        daemon.bpvs(line).await.unwrap();
    }
    let counters = |connections, in_bytes| Counters {
        connections,
        in_bytes,
        ..Counters::default()
    };
    {
        let mut state = daemon.datapath.state();
        let there = state.scopes.get_mut(&ScopeId::MIN).unwrap();
        (there.counters, there.rates) = (counters(1000, 123_456_789), counters(7, 1500));
    }
    assert_eq!(
        daemon.bpvs("stats --rate").await.unwrap(),
        "\
Prot LocalAddress:Port                 CPS    InPPS   OutPPS    InBPS   OutBPS
  -> RemoteAddress:Port
TCP  10.0.0.100:80                       7        0        0     1500        0
  -> 10.0.1.11:80                        7        0        0     1500        0
"
    );
    assert_eq!(
        daemon.bpvs("stats").await.unwrap(),
        "\
Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes
  -> RemoteAddress:Port
TCP  10.0.0.100:80                    1000        0        0  123456K        0
  -> 10.0.1.11:80                     1000        0        0  123456K        0
"
    );
    let stats: wire::Stats =
        serde_json::from_str(&daemon.bpvs("stats --json").await.unwrap()).unwrap();
    assert_eq!(
        (stats.counters.connections, stats.rates.in_bytes),
        (1000, 1500)
    );

    daemon.bpvs("zero").await.unwrap();
    daemon.bpvs("zero tcp:10.0.0.100:80").await.unwrap();
    let zeroed = daemon.datapath.state().scopes[&ScopeId::MIN].zeroed.clone();
    assert_eq!(zeroed, [None, Some("tcp:10.0.0.100:80".parse().unwrap())]);
    assert_eq!(
        daemon.fails("zero tcp:10.0.0.9:80").await,
        "error: there is no service tcp:10.0.0.9:80\n\
         hint: to make it: bpvs service add tcp:10.0.0.9:80; to see what is there: bpvs list\n"
    );
}

#[tokio::test]
async fn errors_say_what_and_what_instead() {
    let daemon = Daemon::start();
    daemon.bpvs("service add tcp:10.0.0.100:80").await.unwrap();
    for (line, text) in [
        (
            "service add tcp:10.0.0.100:80",
            "error: service tcp:10.0.0.100:80 is there already\n\
             hint: to change it: bpvs service edit tcp:10.0.0.100:80 …\n",
        ),
        (
            "server add tcp:10.0.0.9:80 10.0.1.11",
            "error: there is no service tcp:10.0.0.9:80\n\
             hint: to make it: bpvs service add tcp:10.0.0.9:80; to see what is there: bpvs list\n",
        ),
        (
            "server remove tcp:10.0.0.100:80 10.0.1.11",
            "error: service tcp:10.0.0.100:80 has no server 10.0.1.11:80\nhint: to see what is there: bpvs list\n",
        ),
        (
            "service add tcp:[fd00::1]:80",
            "error: tcp:[fd00::1]:80: IPv6 services come later\nhint: have: IPv4\n",
        ),
        (
            "service add sctp:10.0.0.1:80",
            "error: sctp:10.0.0.1:80: SCTP services come later\nhint: have: tcp, udp\n",
        ),
        (
            "server add tcp:10.0.0.100:80 web:80",
            "error: `web:80` is not a server address\nhint: write address and port, as in 10.0.1.11:80\n",
        ),
        (
            "mark remove --mark 7",
            "error: there is no mark rule `--mark 7`\n\
             hint: give all fields of the rule as `bpvs mark list` shows them\n",
        ),
    ] {
        assert_eq!(daemon.fails(line).await, text, "{line}");
    }
    assert!(
        daemon
            .bpvs("server add tcp:10.0.0.100:80 web:80")
            .await
            .unwrap_err()
            .usage
    );
    daemon.datapath.state().fail_after = Some(0);
    assert_eq!(
        daemon.fails("server add tcp:10.0.0.100:80 10.0.1.11").await,
        "error: there is no room for more servers: the limit is 0\nhint: a test asked for this\n"
    );
}

#[tokio::test]
async fn without_a_daemon_one_line_says_so() {
    let dir = TempDir::new();
    let error = typed("list", dir.path()).await.unwrap_err();
    let socket = dir.path().join(SOCKET);
    let text = format!(
        "error: no daemon answers at {}: start it with `bpvs run`\n",
        socket.display()
    );
    assert_eq!(error.text(), text);
    // A socket that a killed daemon left.
    drop(UnixListener::bind(&socket).unwrap());
    assert_eq!(typed("status", dir.path()).await.unwrap_err().text(), text);
}

#[tokio::test]
async fn marks() {
    let daemon = Daemon::start();
    daemon
        .bpvs("mark add --mark 256 --interface eth0 --protocol tcp --ports 8080")
        .await
        .unwrap();
    daemon
        .bpvs("mark add --mark 0x1/0xff --source 10.0.0.0/24 --destination 10.1.0.1")
        .await
        .unwrap();
    let both = "--mark 256 --interface eth0 --protocol tcp --ports 8080\n\
                --mark 0x1/0xff --source 10.0.0.0/24 --destination 10.1.0.1/32\n";
    assert_eq!(daemon.bpvs("mark list").await.unwrap(), both);
    // What is printed is what is typed.
    daemon
        .bpvs(&format!("mark remove {}", both.lines().next().unwrap()))
        .await
        .unwrap();
    assert_eq!(
        daemon.bpvs("mark list --json").await.unwrap(),
        "[\n  {\n    \"mark\": \"0x1/0xff\",\n    \"source\": \"10.0.0.0/24\",\n    \"destination\": \"10.1.0.1/32\"\n  }\n]\n"
    );
}

#[tokio::test]
async fn a_file() {
    let daemon = Daemon::start();
    let file = daemon.dir.path().join("lb.toml");
    let write = |text: &str| std::fs::write(&file, text).unwrap();
    let line = |command: &str| format!("{command} {}", file.display());
    write(
        "[[service]]\naddress = \"tcp:10.0.0.1:80\"\n[[service.server]]\naddress = \"10.1.0.1\"\n\
           [[service.server]]\naddress = \"10.1.0.2\"\n[settings]\ntimeouts = { tcp = \"1h\" }",
    );
    let right = daemon.bpvs(&line("check")).await.unwrap();
    assert_eq!(
        right,
        format!(
            "{}: right: 1 service, 2 servers, 0 mark rules\n",
            file.display()
        )
    );
    let brought = "\
~ settings timeouts.tcp 15m -> 1h
+ service tcp:10.0.0.1:80 rr
+ server tcp:10.0.0.1:80 10.1.0.1:80 masq weight 1
+ server tcp:10.0.0.1:80 10.1.0.2:80 masq weight 1
";
    assert_eq!(
        daemon.bpvs(&line("apply --dry-run")).await.unwrap(),
        brought
    );
    assert_eq!(daemon.bpvs(&line("apply")).await.unwrap(), brought);
    assert_eq!(daemon.bpvs(&line("apply")).await.unwrap(), "");

    daemon
        .bpvs("server edit tcp:10.0.0.1:80 10.1.0.2 --weight 0")
        .await
        .unwrap();
    let status = daemon.bpvs("status").await.unwrap();
    let start = status.find("\nscope ").unwrap();
    let end = status.find("sweeps").unwrap();
    assert_eq!(
        status[start..end].split_once(": ").unwrap().1,
        "1 service, 2 servers, 0 mark rules; attached to eth0\n  \
         commands changed what the file had declared; applying it again would do:\n    \
         ~ server tcp:10.0.0.1:80 10.1.0.2:80 weight 0 -> 1\n\
         socket hook: attached\n"
    );

    write("[[service]]\naddress = \"tcp:10.0.0.1:80\"\n[[service.server]]\nadress = \"10.1.0.1\"");
    assert_eq!(
        daemon.fails(&line("apply")).await,
        format!(
            "error: {}:4:1: unknown key `adress` in [[service.server]]\nhint: did you mean `address`?\n",
            file.display()
        )
    );
    write("");
    assert_eq!(
        daemon.bpvs(&line("apply")).await.unwrap(),
        "~ settings timeouts.tcp 1h -> 15m\n- service tcp:10.0.0.1:80 with 2 servers\n"
    );
}

#[tokio::test]
async fn connections_and_counters() {
    let daemon = Daemon::start();
    assert_eq!(daemon.bpvs("conns --json").await.unwrap(), "[]\n");
    daemon.bpvs("service add tcp:10.0.0.100:80").await.unwrap();
    let connection = Connection {
        kind: Kind::Connection(Protocol::Tcp),
        client: "10.0.0.2:40000".parse().unwrap(),
        service: "10.0.0.100:80".parse().unwrap(),
        server: "10.0.1.11:80".parse().unwrap(),
        socket: false,
        source_nat: Some("10.0.1.5:40000".parse().unwrap()),
        state: "ESTABLISHED",
        expires: Duration::from_secs(899),
    };
    daemon
        .datapath
        .state()
        .scopes
        .get_mut(&ScopeId::MIN)
        .unwrap()
        .connections
        .push(connection);
    assert_eq!(
        daemon.bpvs("conns").await.unwrap(),
        "\
pro expire state       source                virtual               destination           source-nat
TCP 14:59  ESTABLISHED 10.0.0.2:40000        10.0.0.100:80         10.0.1.11:80          10.0.1.5:40000
"
    );
    assert_eq!(
        daemon.bpvs("stats").await.unwrap(),
        "\
Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes
  -> RemoteAddress:Port
TCP  10.0.0.100:80                       0        0        0        0        0
"
    );
}

#[test]
fn rates_and_outcomes() {
    let reason = |packets, bytes| wire::Reason {
        reason: "forwarded".into(),
        packets,
        bytes,
    };
    let (last, now) = (
        wire::Stats {
            reasons: vec![reason(100, 1000)],
            ..wire::Stats::default()
        },
        wire::Stats {
            reasons: vec![reason(400, 5_000_000_000)],
            ..wire::Stats::default()
        },
    );
    let rates = stats::rates(&last, &now, Duration::from_millis(1500));
    assert_eq!(rates.reasons, [reason(200, 3_333_332_666)]);
    assert_eq!(
        stats::rendered(&rates, stats::RATES),
        "\
Prot LocalAddress:Port                 CPS    InPPS   OutPPS    InBPS   OutBPS
  -> RemoteAddress:Port

Packets left as                                 PPS      BPS
  forwarded                                     200    3333M
"
    );
}

#[tokio::test]
async fn down_removes_everything_and_ends() {
    let daemon = Daemon::start();
    daemon.bpvs("service add tcp:10.0.0.100:80").await.unwrap();
    daemon.bpvs("down").await.unwrap();
    assert!(daemon.datapath.state().scopes.is_empty());
    assert!(!daemon.dir.path().join("journal.json").exists());
    assert_eq!(daemon.fails("list").await, "error: the daemon is ending\n");
}

#[tokio::test]
async fn a_plain_http_client_is_served_in_its_own_namespace() {
    let daemon = Daemon::start();
    daemon.bpvs("service add tcp:10.0.0.100:80").await.unwrap();
    let answer = daemon
        .raw(b"GET /v1/table HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(
        answer.contains("{\"services\":[{\"address\":\"tcp:10.0.0.100:80\",\"scheduler\":\"rr\""),
        "{answer}"
    );

    let answer = daemon
        .raw(b"GET /v2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .await;
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    assert!(answer.ends_with(
        "{\"error\":\"there is no such path in this API\",\"hint\":\"paths begin with /v1\"}"
    ));

    let body = "{\"address\":\"tcp:10.0.0.1:80\",\"wieght\":1}";
    let request = format!(
        "POST /v1/services HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = daemon.raw(request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(
        answer.contains("the request's body cannot be read: unknown field `wieght`"),
        "{answer}"
    );

    // A zero byte without a descriptor.
    let answer = daemon
        .raw(b"\0GET /v1/table HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .await;
    assert!(
        answer.contains("no namespace's descriptor came with it"),
        "{answer}"
    );
}

#[tokio::test]
async fn another_namespace_is_another_scope() {
    let Some(other) = crate::daemon::testing::new_netns() else {
        return;
    };
    let daemon = Daemon::start();
    let path = format!(
        "/proc/self/fd/{}",
        std::os::fd::AsRawFd::as_raw_fd(&std::os::fd::AsFd::as_fd(&other))
    );
    daemon
        .bpvs(&format!("--netns {path} service add tcp:10.0.0.100:80"))
        .await
        .unwrap();
    assert_eq!(daemon.bpvs("list").await.unwrap().lines().count(), 2);
    assert_eq!(
        daemon
            .bpvs(&format!("--netns {path} list"))
            .await
            .unwrap()
            .lines()
            .count(),
        3
    );
    let missing = daemon.fails("--netns bpvs-none list").await;
    assert!(
        missing.starts_with("error: there is no network namespace at /run/netns/bpvs-none"),
        "{missing}"
    );
}

#[test]
fn the_grammar_holds_together() {
    Cli::command().debug_assert();
    for (line, expected) in [
        (
            "service add 10.0.0.1:80",
            "error: invalid value '10.0.0.1:80' for '<SERVICE>': `10.0.0.1` is not a protocol\nhint: have: tcp, udp, sctp\n",
        ),
        (
            "service add tcp:10.0.0.1:80 --scheduler best",
            "error: invalid value 'best' for '--scheduler <SCHEDULER>': `best` is not a scheduler\nhint: have: rr, wrr, lc, wlc, lblc, lblcr, dh, sh, sed, nq, fo, ovf, mh, twos, none\n",
        ),
        (
            "settings set conntrack=1",
            "error: invalid value 'conntrack=1' for '<NAME=VALUE>...': conntrack cannot be set to 1: \
             bpvs does not use the kernel's connection tracking\nhint: leave conntrack at 0\n",
        ),
        (
            "service add tcp:10.0.0.1:80 --netmask 24",
            "error: the following required arguments were not provided:\n  --persistent",
        ),
        (
            "service edit tcp:10.0.0.1:80",
            "error: the following required arguments were not provided:\n",
        ),
        (
            "mark add --mark 1 --ports 80",
            "error: the following required arguments were not provided:\n  --protocol",
        ),
        (
            "server add tcp:10.0.0.1:80 10.1.0.1 --weight 2147483648",
            "error: invalid value '2147483648' for '--weight <WEIGHT>'",
        ),
    ] {
        let error =
            Cli::try_parse_from(["bpvs"].into_iter().chain(line.split_whitespace())).unwrap_err();
        assert!(error.to_string().starts_with(expected), "{line}: {error}");
        assert_eq!(error.exit_code(), 2);
    }
}

#[test]
fn help_completions_and_man_pages_come_out() {
    let dir = TempDir::new();
    generate::man(dir.path()).unwrap();
    for page in ["bpvs.1", "bpvs-service-add.1", "bpvs-mark-add.1"] {
        assert!(dir.path().join(page).exists(), "{page}");
    }
    let printed = Printed::default();
    generate::completions(clap_complete::Shell::Bash, &mut Output::to(printed.clone())).unwrap();
    assert!(!printed.0.lock().unwrap().is_empty());
    let help = Cli::command().render_long_help().to_string();
    assert!(
        help.contains("bpvs service add tcp:10.0.0.100:80"),
        "{help}"
    );
    assert!(!help.contains("completions"), "{help}");
}
