//! The options of ipvsadm 1.31: what the command line understands, and what the help says of it.
//!
//! One row an option. Its order is that of the help text; a row without a text is not in the help.

/// An option, commands included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opt {
    AddService,
    EditService,
    DeleteService,
    Clear,
    Restore,
    Save,
    AddServer,
    EditServer,
    DeleteServer,
    List,
    Zero,
    Set,
    StartDaemon,
    StopDaemon,
    Help,
    Version,
    Tcp,
    Udp,
    Sctp,
    Fwmark,
    Ipv6,
    Scheduler,
    Engine,
    Persistent,
    Netmask,
    RealServer,
    Gatewaying,
    Ipip,
    Masquerading,
    TunnelType,
    TunnelPort,
    TunnelNoChecksum,
    TunnelChecksum,
    TunnelRemoteChecksum,
    Weight,
    UpperThreshold,
    LowerThreshold,
    Connection,
    Timeout,
    Daemon,
    Stats,
    Rate,
    Exact,
    Thresholds,
    PersistentConn,
    TunnelInfo,
    NoSort,
    Sort,
    OnePacket,
    Numeric,
    SchedulerFlags,
    SyncId,
    SyncMaxLength,
    MulticastInterface,
    MulticastGroup,
    MulticastPort,
    MulticastTtl,
}

/// Whether an option has a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value {
    None,
    Needed,
    Optional,
}

/// The part of the help that an option stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Commands,
    VirtualService,
    Options,
    DaemonOptions,
}

/// An option: its names, and its line in the help.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) option: Opt,
    pub(super) long: Option<&'static str>,
    pub(super) short: Option<char>,
    pub(super) value: Value,
    pub(super) part: Part,
    /// What the help calls the value.
    pub(super) placeholder: &'static str,
    /// What the help says; a further line for each `\n`. Empty: not in the help.
    pub(super) text: &'static str,
}

const fn row(
    part: Part,
    option: Opt,
    long: &'static str,
    short: Option<char>,
    value: Value,
    placeholder: &'static str,
    text: &'static str,
) -> Row {
    Row {
        option,
        long: Some(long),
        short,
        value,
        part,
        placeholder,
        text,
    }
}

/// A command without a value.
const fn command(option: Opt, long: &'static str, short: char, text: &'static str) -> Row {
    row(
        Part::Commands,
        option,
        long,
        Some(short),
        Value::None,
        "",
        text,
    )
}

/// `-t`, `-u`, `-f` and their like.
const fn service(
    option: Opt,
    long: &'static str,
    short: Option<char>,
    placeholder: &'static str,
    text: &'static str,
) -> Row {
    row(
        Part::VirtualService,
        option,
        long,
        short,
        Value::Needed,
        placeholder,
        text,
    )
}

/// An option that is there or not.
const fn switch(option: Opt, long: &'static str, short: Option<char>, text: &'static str) -> Row {
    row(Part::Options, option, long, short, Value::None, "", text)
}

/// An option with a value.
const fn valued(
    option: Opt,
    long: &'static str,
    short: Option<char>,
    placeholder: &'static str,
    text: &'static str,
) -> Row {
    row(
        Part::Options,
        option,
        long,
        short,
        Value::Needed,
        placeholder,
        text,
    )
}

/// An option of the sync daemon.
const fn daemon(
    option: Opt,
    long: &'static str,
    placeholder: &'static str,
    text: &'static str,
) -> Row {
    row(
        Part::DaemonOptions,
        option,
        long,
        None,
        Value::Needed,
        placeholder,
        text,
    )
}

const ADDRESS: &str = "service-address is host[:port]";

/// All options.
pub(super) const OPTIONS: &[Row] = &[
    command(
        Opt::AddService,
        "add-service",
        'A',
        "add virtual service with options",
    ),
    command(
        Opt::EditService,
        "edit-service",
        'E',
        "edit virtual service with options",
    ),
    command(
        Opt::DeleteService,
        "delete-service",
        'D',
        "delete virtual service",
    ),
    command(Opt::Clear, "clear", 'C', "clear the whole table"),
    command(Opt::Restore, "restore", 'R', "restore rules from stdin"),
    command(Opt::Save, "save", 'S', "save rules to stdout"),
    command(
        Opt::AddServer,
        "add-server",
        'a',
        "add real server with options",
    ),
    command(
        Opt::EditServer,
        "edit-server",
        'e',
        "edit real server with options",
    ),
    command(
        Opt::DeleteServer,
        "delete-server",
        'd',
        "delete real server",
    ),
    command(Opt::List, "list", 'L', "list the table"),
    Row {
        option: Opt::List,
        long: None,
        short: Some('l'),
        value: Value::None,
        part: Part::Commands,
        placeholder: "",
        text: "",
    },
    command(
        Opt::Zero,
        "zero",
        'Z',
        "zero counters in a service or all services",
    ),
    row(
        Part::Commands,
        Opt::Set,
        "set",
        None,
        Value::None,
        "tcp tcpfin udp",
        "set connection timeout values",
    ),
    row(
        Part::Commands,
        Opt::StartDaemon,
        "start-daemon",
        None,
        Value::Needed,
        "",
        "start connection sync daemon",
    ),
    row(
        Part::Commands,
        Opt::StopDaemon,
        "stop-daemon",
        None,
        Value::Needed,
        "",
        "stop connection sync daemon",
    ),
    command(Opt::Help, "help", 'h', "display this help message"),
    command(Opt::Version, "version", 'v', ""),
    service(
        Opt::Tcp,
        "tcp-service",
        Some('t'),
        "service-address",
        ADDRESS,
    ),
    service(
        Opt::Udp,
        "udp-service",
        Some('u'),
        "service-address",
        ADDRESS,
    ),
    service(Opt::Sctp, "sctp-service", None, "service-address", ADDRESS),
    service(
        Opt::Fwmark,
        "fwmark-service",
        Some('f'),
        "fwmark",
        "fwmark is an integer greater than zero",
    ),
    switch(Opt::Ipv6, "ipv6", Some('6'), "fwmark entry uses IPv6"),
    valued(
        Opt::Scheduler,
        "scheduler",
        Some('s'),
        "scheduler",
        "one of rr|wrr|lc|wlc|lblc|lblcr|dh|sh|sed|nq|fo|ovf|mh,\nthe default scheduler is wlc.",
    ),
    valued(
        Opt::Engine,
        "pe",
        None,
        "engine",
        "alternate persistence engine may be sip,\nnot set by default.",
    ),
    row(
        Part::Options,
        Opt::Persistent,
        "persistent",
        Some('p'),
        Value::Optional,
        "[timeout]",
        "persistent service",
    ),
    valued(
        Opt::Netmask,
        "netmask",
        Some('M'),
        "netmask",
        "persistent granularity mask",
    ),
    valued(
        Opt::RealServer,
        "real-server",
        Some('r'),
        "server-address",
        "server-address is host (and port)",
    ),
    switch(
        Opt::Gatewaying,
        "gatewaying",
        Some('g'),
        "gatewaying (direct routing) (default)",
    ),
    switch(
        Opt::Ipip,
        "ipip",
        Some('i'),
        "ipip encapsulation (tunneling)",
    ),
    switch(
        Opt::Masquerading,
        "masquerading",
        Some('m'),
        "masquerading (NAT)",
    ),
    valued(
        Opt::TunnelType,
        "tun-type",
        None,
        "type",
        "one of ipip|gue|gre,\nthe default tunnel type is ipip.",
    ),
    valued(
        Opt::TunnelPort,
        "tun-port",
        None,
        "port",
        "tunnel destination port",
    ),
    switch(
        Opt::TunnelNoChecksum,
        "tun-nocsum",
        None,
        "tunnel encapsulation without checksum",
    ),
    switch(
        Opt::TunnelChecksum,
        "tun-csum",
        None,
        "tunnel encapsulation with checksum",
    ),
    switch(
        Opt::TunnelRemoteChecksum,
        "tun-remcsum",
        None,
        "tunnel encapsulation with remote checksum",
    ),
    valued(
        Opt::Weight,
        "weight",
        Some('w'),
        "weight",
        "capacity of real server",
    ),
    valued(
        Opt::UpperThreshold,
        "u-threshold",
        Some('x'),
        "uthreshold",
        "upper threshold of connections",
    ),
    valued(
        Opt::LowerThreshold,
        "l-threshold",
        Some('y'),
        "lthreshold",
        "lower threshold of connections",
    ),
    switch(
        Opt::Connection,
        "connection",
        Some('c'),
        "output of current IPVS connections",
    ),
    switch(
        Opt::Timeout,
        "timeout",
        None,
        "output of timeout (tcp tcpfin udp)",
    ),
    switch(Opt::Daemon, "daemon", None, "output of daemon information"),
    switch(
        Opt::Stats,
        "stats",
        None,
        "output of statistics information",
    ),
    switch(Opt::Rate, "rate", None, "output of rate information"),
    // -X has no place in the help's line.
    switch(
        Opt::Exact,
        "exact",
        Some('X'),
        "expand numbers (display exact values)",
    ),
    switch(
        Opt::Thresholds,
        "thresholds",
        None,
        "output of thresholds information",
    ),
    switch(
        Opt::PersistentConn,
        "persistent-conn",
        None,
        "output of persistent connection info",
    ),
    switch(
        Opt::TunnelInfo,
        "tun-info",
        None,
        "output of tunnel information",
    ),
    switch(
        Opt::NoSort,
        "nosort",
        None,
        "disable sorting output of service/server entries",
    ),
    switch(
        Opt::Sort,
        "sort",
        None,
        "does nothing, for backwards compatibility",
    ),
    switch(Opt::OnePacket, "ops", Some('o'), "one-packet scheduling"),
    switch(
        Opt::Numeric,
        "numeric",
        Some('n'),
        "numeric output of addresses and ports",
    ),
    valued(
        Opt::SchedulerFlags,
        "sched-flags",
        Some('b'),
        "flags",
        "scheduler flags (comma-separated)",
    ),
    daemon(
        Opt::SyncId,
        "syncid",
        "sid",
        "syncid for connection sync (default=255)",
    ),
    daemon(
        Opt::SyncMaxLength,
        "sync-maxlen",
        "length",
        "Max sync message length (default=1472)",
    ),
    daemon(
        Opt::MulticastInterface,
        "mcast-interface",
        "interface",
        "multicast interface for connection sync",
    ),
    daemon(
        Opt::MulticastGroup,
        "mcast-group",
        "address",
        "IPv4/IPv6 group (default=224.0.0.81)",
    ),
    daemon(
        Opt::MulticastPort,
        "mcast-port",
        "port",
        "UDP port (default=8848)",
    ),
    daemon(
        Opt::MulticastTtl,
        "mcast-ttl",
        "ttl",
        "Multicast TTL (default=1)",
    ),
];
