//! The grammar of the command line. Help, completions and man pages come from here.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, value_parser};
use ipnet::IpNet;

use crate::model::{
    ForwardingMethod, MAX_THRESHOLD, MAX_WEIGHT, MarkRule, MarkValue, ModelError, Protocol,
    Scheduler, SchedulerFlags, ServiceKey, SettingsEdit, SourceNat, check_timeout, parse_duration,
    parse_prefix,
};
use crate::provider::swarm;

/// Virtual services in eBPF: what IPVS does, on kernels without it.
///
/// One daemon (`bpvs run`) serves all network namespaces of a host. Every other command asks it over a socket, and is
/// about the namespace in which it is called, or the one that --netns names.
#[derive(Debug, Parser)]
#[command(name = "bpvs", version, max_term_width = 100, after_help = EXAMPLES)]
pub struct Cli {
    /// Where the daemon's socket and journal are
    #[arg(
        long,
        value_name = "DIR",
        env = "BPVS_RUN_DIR",
        hide_env_values = true,
        help_heading = "Options of every command",
        default_value = "/run/bpvs",
        global = true
    )]
    pub run_dir: PathBuf,

    /// Act on this network namespace: a name under /run/netns, or a path
    #[arg(
        long,
        value_name = "NAME|PATH",
        global = true,
        help_heading = "Options of every command"
    )]
    pub netns: Option<String>,

    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  bpvs run &                                              start the daemon
  bpvs service add tcp:10.0.0.100:80 --answer             a virtual service
  bpvs server add tcp:10.0.0.100:80 10.0.1.11:80          a real server for it
  bpvs list                                               what is served
  bpvs server edit tcp:10.0.0.100:80 10.0.1.11:80 --weight 0
                                                          no new connections for that server
  bpvs apply lb.toml                                      the same from a file, as a whole
  bpvs --netns lb list --json                             another namespace, for programs
  bpvs down                                               remove everything

Exit status: 0 done, 1 failed, 2 wrong usage.";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon in the foreground
    ///
    /// Loads the programs, or takes up those that an earlier daemon left, and serves until it is told to end. SIGTERM
    /// and SIGINT end it and leave the datapath working; `bpvs down` removes everything. Logs go to stderr; BPVS_LOG
    /// sets how much (error, warn, info, debug).
    Run(RunArgs),
    /// Remove everything: services, connections, programs; and end the daemon
    ///
    /// Works without a running daemon, too.
    Down(DownArgs),
    /// Say whether a file is right, and change nothing
    Check(CheckArgs),
    /// Make the tables as a file says, and print the difference
    ///
    /// What the file brought before and no longer says is removed; what commands added stays. It is applied whole or
    /// not at all, in an order in which no service loses its last server on the way.
    Apply(ApplyArgs),
    /// Add, edit and remove virtual services
    #[command(subcommand)]
    Service(ServiceCommand),
    /// Add, edit and remove the real servers of a service
    #[command(subcommand)]
    Server(ServerCommand),
    /// Add, remove and list mark rules
    ///
    /// A mark rule gives packets a firewall mark, and a fwmark service takes the packets with that mark. The rules are
    /// looked at in their order; the last one that matches wins.
    #[command(subcommand)]
    Mark(MarkCommand),
    /// Show or change the settings of a scope
    ///
    /// Timeouts, and the sysctls of IPVS by their names (net.ipv4.vs). Without a command all are shown.
    #[command(after_help = "\
Examples:
  bpvs settings                                           all of them
  bpvs settings get conn_reuse_mode                       one value
  bpvs settings set expire_nodest_conn=1 timeouts.udp=30s")]
    Settings(SettingsArgs),
    /// List services and servers, newest server first
    List(ReadArgs),
    /// List connections
    Conns(ReadArgs),
    /// Show what passed, and how packets left
    Stats(StatsArgs),
    /// Show counters from 0 on: of a service with its servers, or of all
    ///
    /// Rates begin at 0 too. In which ways packets left goes on counting.
    Zero {
        /// The service
        #[arg(value_name = "SERVICE", value_parser = service_key)]
        key: Option<ServiceKey>,
    },
    /// Show the daemon and its scopes
    ///
    /// Also what commands have changed of what a file had declared, and what does not work at present.
    Status(ReadArgs),
    /// Show the Docker Swarm that the daemon follows: networks, services, tasks
    ///
    /// The daemon follows one with `bpvs run --swarm`, or with [provider.swarm] in its file.
    Swarm(ReadArgs),
    /// Be ipvsadm: the same commands, options and output
    ///
    /// The program is ipvsadm by itself where it is called by that name, as by a link. `bpvs ipvsadm -h` lists its
    /// options. What IPVS has and bpvs has not is refused, with exit status 3.
    #[command(disable_help_flag = true, disable_version_flag = true)]
    Ipvsadm {
        /// ipvsadm's own
        #[arg(
            value_name = "ARGUMENT",
            trailing_var_arg = true,
            allow_hyphen_values = true
        )]
        arguments: Vec<OsString>,
    },
    /// Print completions for a shell
    #[command(hide = true)]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Write the man pages to a folder
    #[command(hide = true)]
    Man {
        /// Which folder
        dir: PathBuf,
    },
}

/// Of `bpvs run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Apply this file before serving
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "its fields are documented")]
    pub bpffs: BpffsArgs,
    /// Serve the Docker Swarm of this node, as IPVS would; dockerd's socket, if it is elsewhere
    #[arg(
        long,
        value_name = "SOCKET",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = swarm::DOCKER
    )]
    pub swarm: Option<String>,
    /// With --swarm: where dockerd has its sandboxes (netns in its --exec-root)
    #[arg(long, value_name = "DIR", requires = "swarm", default_value = swarm::SANDBOXES)]
    pub swarm_sandboxes: PathBuf,
    /// Room for this many connections
    #[arg(long, value_name = "N", default_value_t = 262_144, value_parser = value_parser!(u32).range(1024..=67_108_864))]
    pub connections: u32,
    /// Room for this many services, in all scopes together
    #[arg(long, value_name = "N", default_value_t = 16_384, value_parser = value_parser!(u32).range(16..=1_048_576))]
    pub services: u32,
    /// Room for this many servers, in all scopes together [default: 131072; less with more than 12 CPUs]
    ///
    /// Each has counters of 40 bytes for each CPU: unless given, they take 64 MiB at most, or room for 16384 servers.
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(16..=8_388_608))]
    pub servers: Option<u32>,
    /// Room for this many persistence templates, in all scopes together
    #[arg(long, value_name = "N", default_value_t = 65_536, value_parser = value_parser!(u32).range(16..=16_777_216))]
    pub templates: u32,
    /// Room for the tables of the schedulers dh and sh (256 each) and mh (4093 each), in all scopes together
    #[arg(long, value_name = "N", default_value_t = 131_072, value_parser = value_parser!(u32).range(4096..=67_108_864))]
    pub buckets: u32,
    /// Tell in the log of every packet that is dropped, and why: to look into a problem
    ///
    /// Dropping gets slower by it, nothing else.
    #[arg(long)]
    pub log_drops: bool,
}

/// Where the datapath is pinned.
#[derive(Debug, Args)]
pub struct BpffsArgs {
    /// Folder on a BPF file system for programs and maps
    #[arg(
        long,
        value_name = "DIR",
        env = "BPVS_BPFFS",
        hide_env_values = true,
        default_value = "/sys/fs/bpf/bpvs"
    )]
    pub bpffs: PathBuf,
}

/// Of `bpvs down`.
#[derive(Debug, Args)]
pub struct DownArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "its fields are documented")]
    pub bpffs: BpffsArgs,
}

/// Of `bpvs check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The file
    pub file: PathBuf,
}

/// Of `bpvs apply`.
#[derive(Debug, Args)]
pub struct ApplyArgs {
    /// The file
    pub file: PathBuf,
    /// Only print the difference
    #[arg(long)]
    pub dry_run: bool,
}

/// Of commands that read.
#[derive(Debug, Args)]
pub struct ReadArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Of `bpvs settings`.
#[derive(Debug, Args)]
pub struct SettingsArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// What to do with them
    #[command(subcommand)]
    pub command: Option<SettingsCommand>,
}

/// `bpvs settings …`.
#[derive(Debug, Subcommand)]
pub enum SettingsCommand {
    /// Print the values of some settings; of one by itself
    Get {
        /// As timeouts.tcp, conn_reuse_mode
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Change settings, all of those named or none
    Set {
        /// As conn_reuse_mode=0, timeouts.tcp=2h
        #[arg(value_name = "NAME=VALUE", required = true, value_parser = assignment)]
        assignments: Vec<(String, String)>,
    },
}

/// Of `bpvs stats`.
#[derive(Debug, Args)]
pub struct StatsArgs {
    /// Print JSON; with --watch one object a line
    #[arg(long)]
    pub json: bool,
    /// Show rates: averages of some seconds, by the rule of IPVS
    #[arg(long, conflicts_with = "watch")]
    pub rate: bool,
    /// Show what was added each second, every second anew
    #[arg(long)]
    pub watch: bool,
}

/// `bpvs service …`.
#[derive(Debug, Subcommand)]
pub enum ServiceCommand {
    /// Add a virtual service
    #[command(after_help = "\
Examples:
  bpvs service add tcp:10.0.0.100:80
  bpvs service add udp:10.0.0.100:53 --source-nat --answer --udp-timeout 30s
  bpvs service add fwmark:256 --scheduler wrr --persistent=1h --netmask 24")]
    Add {
        /// Protocol, address and port, as tcp:10.0.0.100:80, or a firewall mark, as fwmark:256
        #[arg(value_name = "SERVICE", value_parser = service_key)]
        key: ServiceKey,
        /// How it picks a server: rr (in turn) or wrr (in turn, as often as the weight says)
        #[arg(long, value_parser = scheduler, default_value = "rr")]
        scheduler: Scheduler,
        /// What the scheduler is told besides: sh-port, sh-fallback, mh-port, mh-fallback, flag-1, flag-2, flag-3
        #[arg(long, value_name = "FLAG[,FLAG]", value_parser = scheduler_flags, default_value = "none", hide_default_value = true)]
        scheduler_flags: SchedulerFlags,
        /// Lead a client's new connections to the server of its earlier ones, until TIME (6m unless given) after the last
        #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true,
              default_missing_value = "6m", value_parser = timeout)]
        persistent: Option<Duration>,
        /// Take clients whose addresses agree in these bits for one: 255.255.255.0, or 24
        #[arg(long, value_name = "MASK", requires = "persistent")]
        netmask: Option<String>,
        /// Schedule each datagram by itself; UDP or a firewall mark
        #[arg(long)]
        one_packet: bool,
        /// Answer TCP segments of no known connection by a reset; TCP or a firewall mark
        #[arg(long)]
        reset: bool,
        /// Rewrite the client's address, to the output interface's or to ADDR
        #[arg(long, value_name = "ADDR", num_args = 0..=1, require_equals = true,
              default_missing_value = "interface", default_value = "off", hide_default_value = true, value_parser = source_nat)]
        source_nat: SourceNat,
        /// Answer ARP and ping for the address where no interface owns it
        #[arg(long)]
        answer: bool,
        /// Have the socket hook leave it alone: --socket=false
        #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, action = clap::ArgAction::Set,
              default_missing_value = "true", default_value = "true", hide_default_value = true)]
        socket: bool,
        /// Let local sockets reach it at 127.0.0.1 too
        #[arg(long)]
        loopback: bool,
        /// Send every packet of the mark to the newest server as it is, and remember nothing; a firewall mark
        #[arg(long)]
        relay: bool,
        /// Lower the MSS in TCP's SYNs to what fits through this host
        #[arg(long)]
        clamp_mss: bool,
        /// Forget an idle established TCP connection after this time, as 15m or 2h
        #[arg(long, value_name = "TIME", value_parser = timeout)]
        tcp_timeout: Option<Duration>,
        /// Forget an idle UDP exchange after this time
        #[arg(long, value_name = "TIME", value_parser = timeout)]
        udp_timeout: Option<Duration>,
    },
    /// Change a virtual service; what is not named stays
    #[command(group = clap::ArgGroup::new("change").required(true).multiple(true))]
    Edit {
        /// The service
        #[arg(value_name = "SERVICE", value_parser = service_key)]
        key: ServiceKey,
        /// How it picks a server: rr or wrr
        #[arg(long, value_parser = scheduler, group = "change")]
        scheduler: Option<Scheduler>,
        /// Other scheduler flags in place of all that there are, or `none`
        #[arg(long, value_name = "FLAG[,FLAG]", value_parser = scheduler_flags, group = "change")]
        scheduler_flags: Option<SchedulerFlags>,
        /// Lead a client's connections to one server: --persistent, --persistent=TIME, --persistent=off
        #[arg(long, value_name = "TIME|off", num_args = 0..=1, require_equals = true,
              default_missing_value = "6m", value_parser = timeout_or_off, group = "change")]
        persistent: Option<TimeoutEdit>,
        /// Take clients whose addresses agree in these bits for one: 255.255.255.0, or 24
        #[arg(long, value_name = "MASK", group = "change")]
        netmask: Option<String>,
        /// Schedule each datagram by itself: --one-packet, --one-packet=false
        #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
              default_missing_value = "true", group = "change")]
        one_packet: Option<bool>,
        /// Reset TCP segments of no known connection: --reset, --reset=false
        #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
              default_missing_value = "true", group = "change")]
        reset: Option<bool>,
        /// Rewrite the client's address: --source-nat, --source-nat=ADDR, --source-nat=off
        #[arg(long, value_name = "ADDR|off", num_args = 0..=1, require_equals = true,
              default_missing_value = "interface", value_parser = source_nat, group = "change")]
        source_nat: Option<SourceNat>,
        /// Answer ARP and ping for the address: --answer, --answer=false
        #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
              default_missing_value = "true", group = "change")]
        answer: Option<bool>,
        /// Have the socket hook serve it, or not: --socket, --socket=false
        #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
              default_missing_value = "true", group = "change")]
        socket: Option<bool>,
        /// Let local sockets reach it at 127.0.0.1 too: --loopback, --loopback=false
        #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
              default_missing_value = "true", group = "change")]
        loopback: Option<bool>,
        /// Lower the MSS in TCP's SYNs: --clamp-mss, --clamp-mss=false
        #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", group = "change")]
        clamp_mss: Option<bool>,
        /// Timeout of an established TCP connection, or `default` for the scope's
        #[arg(long, value_name = "TIME|default", value_parser = timeout_or_default, group = "change")]
        tcp_timeout: Option<TimeoutEdit>,
        /// Timeout of a UDP exchange, or `default` for the scope's
        #[arg(long, value_name = "TIME|default", value_parser = timeout_or_default, group = "change")]
        udp_timeout: Option<TimeoutEdit>,
    },
    /// Remove a virtual service and its servers
    Remove {
        /// The service
        #[arg(value_name = "SERVICE", value_parser = service_key)]
        key: ServiceKey,
    },
    /// Remove all virtual services and their servers
    Clear,
}

/// `bpvs server …`.
#[derive(Debug, Subcommand)]
pub enum ServerCommand {
    /// Add a real server to a service
    #[command(after_help = "\
Examples:
  bpvs server add tcp:10.0.0.100:80 10.0.1.11:8080
  bpvs server add tcp:10.0.0.100:80 10.0.1.12 --weight 3      (port 80, as the service)
  bpvs server add fwmark:256 10.0.1.11                        (the port of each packet)")]
    Add {
        /// The service
        #[arg(value_name = "SERVICE", value_parser = service_key)]
        service: ServiceKey,
        /// The server's address and port; without a port the service's
        #[arg(value_name = "ADDRESS[:PORT]")]
        address: String,
        /// With 0 it gets no new connections
        #[arg(long, default_value_t = 1, value_parser = value_parser!(u32).range(0..=i64::from(MAX_WEIGHT)))]
        weight: u32,
        /// How packets get there: masq (their destination is rewritten) or direct (only the MAC address is)
        #[arg(long, value_parser = method, default_value = "masq")]
        method: ForwardingMethod,
        /// No new connections from so many connections on; 0: as many as come
        #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true, value_parser = value_parser!(u32).range(0..=i64::from(MAX_THRESHOLD)))]
        upper_threshold: u32,
        /// And new ones again below so many; 0: three quarters of the upper threshold
        #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true, value_parser = value_parser!(u32).range(0..=i64::from(MAX_THRESHOLD)))]
        lower_threshold: u32,
    },
    /// Change a real server; what is not named stays
    #[command(group = clap::ArgGroup::new("change").required(true).multiple(true))]
    Edit {
        /// The service
        #[arg(value_name = "SERVICE", value_parser = service_key)]
        service: ServiceKey,
        /// The server
        #[arg(value_name = "ADDRESS[:PORT]")]
        address: String,
        /// With 0 it gets no new connections and keeps those that it has
        #[arg(long, value_parser = value_parser!(u32).range(0..=i64::from(MAX_WEIGHT)), group = "change")]
        weight: Option<u32>,
        /// How packets of new connections get there: masq or direct
        #[arg(long, value_parser = method, group = "change")]
        method: Option<ForwardingMethod>,
        /// No new connections from so many connections on; 0: as many as come
        #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(0..=i64::from(MAX_THRESHOLD)), group = "change")]
        upper_threshold: Option<u32>,
        /// And new ones again below so many; 0: three quarters of the upper threshold
        #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(0..=i64::from(MAX_THRESHOLD)), group = "change")]
        lower_threshold: Option<u32>,
    },
    /// Remove a real server from a service
    Remove {
        /// The service
        #[arg(value_name = "SERVICE", value_parser = service_key)]
        service: ServiceKey,
        /// The server
        #[arg(value_name = "ADDRESS[:PORT]")]
        address: String,
    },
}

/// `bpvs mark …`.
#[derive(Debug, Subcommand)]
pub enum MarkCommand {
    /// Add a mark rule, after all others
    #[command(after_help = "\
Example: a published port, served by a fwmark service
  bpvs mark add --mark 256 --interface eth0 --protocol tcp --ports 8080
  bpvs service add fwmark:256 --source-nat
  bpvs server add fwmark:256 10.0.1.11:8000")]
    Add(MarkArgs),
    /// Remove a mark rule; name all of its fields
    Remove(MarkArgs),
    /// List the mark rules in the order in which they apply
    List(ReadArgs),
}

/// A mark rule.
#[derive(Debug, Args)]
pub struct MarkArgs {
    /// The mark, as 256 or 0x100; with a mask only those bits are set, as 0x100/0xff00
    #[arg(long, value_name = "MARK[/MASK]", value_parser = mark_value)]
    pub mark: MarkValue,
    /// Packets that come in by this interface
    #[arg(long, value_name = "NAME")]
    pub interface: Option<String>,
    /// Packets from here
    #[arg(long, value_name = "CIDR", value_parser = prefix)]
    pub source: Option<IpNet>,
    /// Packets to there
    #[arg(long, value_name = "CIDR", value_parser = prefix)]
    pub destination: Option<IpNet>,
    /// Packets of this protocol: tcp, udp, sctp
    #[arg(long, value_parser = protocol)]
    pub protocol: Option<Protocol>,
    /// Packets to these ports, as 80 or 8000-8099; needs --protocol
    #[arg(long, value_name = "PORT[-PORT]", requires = "protocol", value_parser = ports)]
    pub ports: Option<PortRange>,
}

/// A range of ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortRange(pub std::ops::RangeInclusive<u16>);

/// Another timeout, or (None) the scope's, or no persistence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeoutEdit(pub Option<Duration>);

/// What is wrong and, in a second line, what would be right.
fn said(error: ModelError) -> String {
    match error.hint() {
        Some(hint) => format!("{error}\nhint: {hint}"),
        None => error.to_string(),
    }
}

fn service_key(text: &str) -> Result<ServiceKey, String> {
    text.parse().map_err(said)
}

fn scheduler(text: &str) -> Result<Scheduler, String> {
    text.parse().map_err(said)
}

fn method(text: &str) -> Result<ForwardingMethod, String> {
    text.parse().map_err(said)
}

fn protocol(text: &str) -> Result<Protocol, String> {
    text.parse().map_err(said)
}

fn mark_value(text: &str) -> Result<MarkValue, String> {
    text.parse().map_err(said)
}

fn prefix(text: &str) -> Result<IpNet, String> {
    parse_prefix(text).map_err(said)
}

fn ports(text: &str) -> Result<PortRange, String> {
    MarkRule::parse_ports(text).map(PortRange).map_err(said)
}

fn timeout(text: &str) -> Result<Duration, String> {
    parse_duration(text).and_then(check_timeout).map_err(said)
}

fn timeout_or_default(text: &str) -> Result<TimeoutEdit, String> {
    match text {
        "default" => Ok(TimeoutEdit(None)),
        _ => timeout(text).map(|timeout| TimeoutEdit(Some(timeout))),
    }
}

fn assignment(text: &str) -> Result<(String, String), String> {
    let (name, value) = text
        .split_once('=')
        .ok_or("hint: write NAME=VALUE, as in conn_reuse_mode=0")?;
    SettingsEdit::default().assign(name, value).map_err(said)?;
    Ok((name.to_owned(), value.to_owned()))
}

fn timeout_or_off(text: &str) -> Result<TimeoutEdit, String> {
    match text {
        "off" => Ok(TimeoutEdit(None)),
        _ => timeout(text).map(|timeout| TimeoutEdit(Some(timeout))),
    }
}

fn scheduler_flags(text: &str) -> Result<SchedulerFlags, String> {
    text.parse().map_err(said)
}

fn source_nat(text: &str) -> Result<SourceNat, String> {
    match text {
        "off" => Ok(SourceNat::Off),
        "interface" => Ok(SourceNat::Interface),
        _ => text
            .parse()
            .map(SourceNat::Address)
            .map_err(|_| said(ModelError::Address(text.into()))),
    }
}
