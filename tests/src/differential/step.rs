//! The language of scripts: a line a step.
//!
//! ```text
//! ipvsadm -A -t v1:80 -s wlc            a command, with names for addresses (see `names`)
//! setting expire_nodest_conn 1          a setting below net.ipv4.vs
//! mark tcp v1:80 7                      what clients send there gets the firewall mark 7
//! c1:1000 > v1:80 tcp S                 a segment from a client: flags of SFRAPU, or - for none
//! c1:1000 < v1:80 tcp SA                the same connection's server answers
//! s1:80 > c1:1000 tcp A                 a real server sends by itself
//! c1:1000 > v1:80 udp ttl=1             options: ttl=N tos=N len=N (of the payload) df nosum badsum
//! c1:1000 > v1:80 icmp 3/1 about=tcp    the client's side refuses what came from the service
//! c1:1000 < v1:80 icmp 3/4 about=udp    the server's side refuses what came from the client (by=s9: a router)
//! c1:0 > v1:0 echo                      a ping
//! c1..c9:1000 > v1:80 tcp S             nine steps
//! wait 3                                seconds
//! needs ip_vs_twos                      a module of the kernel, without which the script is left out
//! loosely                               from here on compare shares of real servers, not each choice
//! show services                         also: connections, stats, rate, thresholds, persistent, save, timeouts
//! ```

use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::{Context, Result, bail};

use super::names;

/// One step of a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Arguments of ipvsadm, with names.
    Ipvsadm(Vec<String>),
    /// A setting and its value.
    Setting(String, String),
    /// What clients send by this protocol to this address and port gets this mark.
    Mark(Protocol, SocketAddrV4, u32),
    /// Seconds.
    Wait(u32),
    /// A module of the kernel, without which the script is left out.
    Needs(String),
    /// From here on real servers are drawn by lot: shares are compared, not choices.
    Loosely,
    /// A frame.
    Packet(Packet),
    /// Something that both can show, to be compared.
    Show(Show),
}

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// What can be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Show {
    /// `-Ln`
    Services,
    /// `-Lnc`
    Connections,
    /// `-Ln --stats`
    Stats,
    /// `-Ln --rate`
    Rate,
    /// `-Ln --thresholds`
    Thresholds,
    /// `-Ln --persistent-conn`
    Persistent,
    /// `-S -n`
    Save,
    /// `-L --timeout`
    Timeouts,
}

/// Who sends a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The client, to the service.
    Request,
    /// The real server that got the last request, to the client.
    Reply,
    /// A real server by itself; its address stands in place of the service's.
    Server,
}

/// A packet, as seen from the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// The client's address and port.
    pub client: SocketAddrV4,
    /// Who sends it.
    pub way: Way,
    /// The service's, or the real server's, address and port.
    pub service: SocketAddrV4,
    /// What it is.
    pub kind: Kind,
    /// Hop limit.
    pub ttl: u8,
    /// Type of service.
    pub tos: u8,
    /// Bytes of payload.
    pub length: u16,
    /// Must not be fragmented.
    pub dont_fragment: bool,
    /// What stands in the checksum of TCP, UDP or ICMP.
    pub sum: Sum,
    /// A router that sends an ICMP error in place of the real server.
    pub by: Option<Ipv4Addr>,
}

/// What a packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A segment with these flags.
    Tcp(u8),
    /// A datagram.
    Udp,
    /// An ICMP error: type, code, and the protocol of what it is about.
    Error(u8, u8, Protocol),
    /// A ping.
    Echo,
}

/// What stands in a checksum field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sum {
    /// What belongs there.
    Right,
    /// Nothing (UDP).
    None,
    /// Something else.
    Wrong,
}

/// The letters of TCP's flags, lowest bit first.
pub const FLAGS: &str = "FSRPAU";

impl Packet {
    /// A packet with hop limit 64 and, but for a SYN, some payload.
    pub fn new(client: SocketAddrV4, way: Way, service: SocketAddrV4, kind: Kind) -> Self {
        let length = match kind {
            Kind::Tcp(_) => 0,
            Kind::Udp | Kind::Error(..) | Kind::Echo => 11,
        };
        Self {
            client,
            way,
            service,
            kind,
            ttl: 64,
            tos: 0,
            length,
            dont_fragment: false,
            sum: Sum::Right,
            by: None,
        }
    }

    /// The protocol of the connection that the packet belongs to.
    pub fn protocol(&self) -> Option<Protocol> {
        match self.kind {
            Kind::Tcp(_) => Some(Protocol::Tcp),
            Kind::Udp => Some(Protocol::Udp),
            Kind::Error(_, _, protocol) => Some(protocol),
            Kind::Echo => None,
        }
    }
}

/// The flags that these letters stand for.
pub fn flags(letters: &str) -> Result<u8> {
    if letters == "-" {
        return Ok(0);
    }
    letters.chars().try_fold(0, |flags, letter| {
        let bit = FLAGS
            .find(letter)
            .with_context(|| format!("{letter:?} is no TCP flag ({FLAGS})"))?;
        Ok(flags | 1 << bit)
    })
}

fn letters(flags: u8) -> String {
    let letters: String = FLAGS
        .chars()
        .enumerate()
        .filter(|(bit, _)| flags >> bit & 1 == 1)
        .map(|(_, letter)| letter)
        .collect();
    if letters.is_empty() {
        "-".into()
    } else {
        letters
    }
}

/// The steps of a script's text; blank lines and what follows `#` do not count.
pub fn parse(text: &str) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.split('#').next().unwrap_or_default().trim();
        if !line.is_empty() {
            parse_line(line, &mut steps).with_context(|| format!("line {number}: {line}"))?;
        }
    }
    Ok(steps)
}

fn parse_line(line: &str, steps: &mut Vec<Step>) -> Result<()> {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words[..] {
        ["ipvsadm", ref arguments @ ..] => {
            let arguments = arguments.iter().map(|&word| word.into()).collect();
            steps.push(Step::Ipvsadm(arguments));
        }
        ["setting", name, value] => steps.push(Step::Setting(name.into(), value.into())),
        ["mark", protocol, to, mark] => {
            steps.push(Step::Mark(
                protocol_of(protocol)?,
                endpoint(to)?,
                mark.parse()?,
            ));
        }
        ["needs", module] => steps.push(Step::Needs(module.into())),
        ["loosely"] => steps.push(Step::Loosely),
        ["wait", seconds] => steps.push(Step::Wait(seconds.parse()?)),
        ["show", what] => {
            let show = Show::ALL
                .into_iter()
                .find(|show| show.word() == what)
                .context("what is to be shown?")?;
            steps.push(Step::Show(show));
        }
        [from, arrow @ (">" | "<"), to, ref rest @ ..] => match from.split_once("..") {
            None => steps.push(Step::Packet(packet(from, arrow, to, rest)?)),
            Some((first, last)) => {
                let (last, port) = last.split_once(':').context("ADDRESS:PORT is wanted")?;
                let number = |name: &str| name.strip_prefix('c').map(str::parse::<u16>);
                let (Some(first), Some(last)) = (number(first), number(last)) else {
                    bail!("a range is cN..cM:PORT");
                };
                for client in first?..=last? {
                    let from = format!("c{client}:{port}");
                    steps.push(Step::Packet(packet(&from, arrow, to, rest)?));
                }
            }
        },
        _ => bail!("no such step"),
    }
    Ok(())
}

fn protocol_of(word: &str) -> Result<Protocol> {
    match word {
        "tcp" => Ok(Protocol::Tcp),
        "udp" => Ok(Protocol::Udp),
        _ => bail!("{word:?} is neither tcp nor udp"),
    }
}

fn endpoint(word: &str) -> Result<SocketAddrV4> {
    let expanded = names::expanded(word);
    expanded
        .parse()
        .with_context(|| format!("{word:?} is not NAME:PORT"))
}

fn packet(from: &str, arrow: &str, to: &str, rest: &[&str]) -> Result<Packet> {
    let (from, to) = (endpoint(from)?, endpoint(to)?);
    let (client, way, service) = match (arrow, names::place(*from.ip())) {
        (">", Some(_)) => (to, Way::Server, from),
        (">", None) => (from, Way::Request, to),
        _ => (from, Way::Reply, to),
    };
    let (kind, options) = match rest {
        ["tcp", letters, options @ ..] => (Kind::Tcp(flags(letters)?), options),
        ["udp", options @ ..] => (Kind::Udp, options),
        ["echo", options @ ..] => (Kind::Echo, options),
        ["icmp", what, options @ ..] => {
            let (kind, code) = what.split_once('/').context("TYPE/CODE is wanted")?;
            (
                Kind::Error(kind.parse()?, code.parse()?, Protocol::Tcp),
                options,
            )
        }
        _ => bail!("no such packet"),
    };
    let mut packet = Packet::new(client, way, service, kind);
    for option in options {
        match option.split_once('=') {
            Some(("ttl", value)) => packet.ttl = value.parse()?,
            Some(("tos", value)) => packet.tos = value.parse()?,
            Some(("len", value)) => packet.length = value.parse()?,
            Some(("by", name)) => {
                packet.by = Some(names::address(name).context("by whom?")?);
            }
            Some(("about", value)) => {
                let Kind::Error(_, _, about) = &mut packet.kind else {
                    bail!("only an ICMP error is about something");
                };
                *about = protocol_of(value)?;
            }
            None if *option == "df" => packet.dont_fragment = true,
            None if *option == "nosum" => packet.sum = Sum::None,
            None if *option == "badsum" => packet.sum = Sum::Wrong,
            _ => bail!("no such option: {option}"),
        }
    }
    Ok(packet)
}

impl Show {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Services,
        Self::Connections,
        Self::Stats,
        Self::Rate,
        Self::Thresholds,
        Self::Persistent,
        Self::Save,
        Self::Timeouts,
    ];

    /// Its word in scripts.
    pub fn word(self) -> &'static str {
        match self {
            Self::Services => "services",
            Self::Connections => "connections",
            Self::Stats => "stats",
            Self::Rate => "rate",
            Self::Thresholds => "thresholds",
            Self::Persistent => "persistent",
            Self::Save => "save",
            Self::Timeouts => "timeouts",
        }
    }

    /// ipvsadm's arguments for it.
    pub fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Services => &["-Ln"],
            Self::Connections => &["-Lnc"],
            Self::Stats => &["-Ln", "--stats"],
            Self::Rate => &["-Ln", "--rate"],
            Self::Thresholds => &["-Ln", "--thresholds"],
            Self::Persistent => &["-Ln", "--persistent-conn"],
            Self::Save => &["-S", "-n"],
            Self::Timeouts => &["-L", "--timeout"],
        }
    }
}

impl Protocol {
    /// Its number.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

fn short(endpoint: SocketAddrV4) -> String {
    format!("{}:{}", names::name(*endpoint.ip()), endpoint.port())
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ipvsadm(words) => write!(f, "ipvsadm {}", words.join(" ")),
            Self::Setting(name, value) => write!(f, "setting {name} {value}"),
            Self::Mark(protocol, to, mark) => write!(f, "mark {protocol} {} {mark}", short(*to)),
            Self::Wait(seconds) => write!(f, "wait {seconds}"),
            Self::Needs(module) => write!(f, "needs {module}"),
            Self::Loosely => f.write_str("loosely"),
            Self::Packet(packet) => packet.fmt(f),
            Self::Show(show) => write!(f, "show {}", show.word()),
        }
    }
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (client, service) = (short(self.client), short(self.service));
        match self.way {
            Way::Request => write!(f, "{client} > {service} ")?,
            Way::Reply => write!(f, "{client} < {service} ")?,
            Way::Server => write!(f, "{service} > {client} ")?,
        }
        match self.kind {
            Kind::Tcp(flags) => write!(f, "tcp {}", letters(flags))?,
            Kind::Udp => f.write_str("udp")?,
            Kind::Echo => f.write_str("echo")?,
            Kind::Error(kind, code, about) => write!(f, "icmp {kind}/{code} about={about}")?,
        }
        let usual = Self::new(self.client, self.way, self.service, self.kind);
        if self.ttl != usual.ttl {
            write!(f, " ttl={}", self.ttl)?;
        }
        if self.tos != usual.tos {
            write!(f, " tos={}", self.tos)?;
        }
        if self.length != usual.length {
            write!(f, " len={}", self.length)?;
        }
        if self.dont_fragment {
            f.write_str(" df")?;
        }
        match self.sum {
            Sum::Right => {}
            Sum::None => f.write_str(" nosum")?,
            Sum::Wrong => f.write_str(" badsum")?,
        }
        self.by
            .map_or(Ok(()), |by| write!(f, " by={}", names::name(by)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_what_is_read() -> Result<()> {
        let text = "\
ipvsadm -A -t v1:80 -s rr
setting conn_reuse_mode 0
mark udp v2:53 7
c1:1000 > v1:80 tcp S
c1:1000 < v1:80 tcp SA ttl=1 tos=8 len=1400 df badsum
s1:80 > c1:1000 tcp -
c300:1000 > v1:53 udp nosum
c1:1000 < v1:80 icmp 3/4 about=udp by=s9
c1:0 > v1:0 echo
wait 3
needs ip_vs_twos
loosely
show connections
";
        let steps = parse(text)?;
        let printed: String = steps.iter().map(|step| format!("{step}\n")).collect();
        assert_eq!(printed, text);
        Ok(())
    }

    #[test]
    fn ranges_are_several_steps() -> Result<()> {
        let steps = parse("c8..c10:99 < v1:80 tcp A # three")?;
        assert_eq!(steps.len(), 3);
        assert_eq!(steps[2].to_string(), "c10:99 < v1:80 tcp A");
        Ok(())
    }

    #[test]
    fn nonsense_is_refused() {
        for line in [
            "c1 > v1:80 tcp S",
            "c1:1 > v1:80 tcp X",
            "jump",
            "show all",
            "wait a",
            "c1:1 > v1:1 udp speed=3",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
