//! From words to a [`Command`]. Options are judged as they are met, so what is said depends on their order.

use std::net::{IpAddr, Ipv4Addr};

use super::address::{endpoint, ipv4};
use super::command::{Command, Format};
use super::failure::Failure;
use super::ipvs::Change;
use super::legality::{
    Given, Subject, check_command, check_list, check_tunnel, has_tunnel_options, is_command,
};
use super::names::Names;
use super::options::Opt;
use super::scan::{Found, Scanner};
use super::values::{
    fwmark, leading_number, multicast_group, number, persistence, scheduler_flags, timeout,
    tunnel_kind,
};
use super::view::{
    DEFAULT_SCHEDULER, DestinationId, DestinationSpec, Method, Netmask, Persistence,
    SchedulerFlags, ServiceId, ServiceSpec, SyncDaemon, SyncRole, Timeouts, Tunnel, TunnelChecksum,
    TunnelKind,
};
use crate::model::{AddressFamily, Protocol};

/// The interface of a sync daemon when none is given.
const DEFAULT_INTERFACE: &str = "eth0";

/// The highest weight and the highest threshold.
const MOST: i64 = i32::MAX as i64;

/// The longest names that IPVS keeps, without the zero at their end.
const LONGEST_NAME: usize = 15;

/// Reads the words behind the program's name.
pub(super) fn parse(
    program: &str,
    words: &[String],
    names: &dyn Names,
) -> Result<Command, Failure> {
    let mut scanner = Scanner::new(words);
    let first = match scanner.option() {
        Ok(Some(found)) => found,
        Ok(None) | Err(_) => return Err(Failure::no_command(program)),
    };
    let role = match (first.option, first.value.as_deref()) {
        (Opt::Help, _) => return Ok(Command::Help),
        (Opt::Version, _) => return Ok(Command::Version),
        (Opt::StartDaemon, value) => Some(
            sync_role(value)
                .ok_or_else(|| Failure::fatal("illegal start-daemon parameter specified"))?,
        ),
        (Opt::StopDaemon, value) => {
            Some(sync_role(value).ok_or_else(|| Failure::fatal("illegal start_daemon specified"))?)
        }
        (option, _) if is_command(option) => None,
        _ => return Err(Failure::no_command(program)),
    };
    let mut entry = Entry::new(names);
    loop {
        match scanner.option() {
            Ok(Some(found)) => entry.take(&found, &scanner)?,
            Ok(None) => break,
            Err(error) => {
                return Err(Failure::passing(format!(
                    "{}: {}",
                    scanner.last_word(),
                    error.text()
                )));
            }
        }
    }
    let mut rest = scanner.into_words();
    let timeouts = match first.option {
        Opt::Set => Some(timeouts(&mut rest)?),
        _ => None,
    };
    if let Some(word) = rest.next() {
        return Err(Failure::fatal(format!("unexpected argument {word}")));
    }
    entry.finish(program, first.option, role, timeouts)
}

fn sync_role(word: Option<&str>) -> Option<SyncRole> {
    match word {
        Some("master") => Some(SyncRole::Master),
        Some("backup") => Some(SyncRole::Backup),
        _ => None,
    }
}

fn timeouts<'a>(words: &mut impl Iterator<Item = &'a str>) -> Result<Timeouts, Failure> {
    let (Some(tcp), Some(tcp_fin), Some(udp)) = (words.next(), words.next(), words.next()) else {
        return Err(Failure::fatal("--set option requires 3 timeout values"));
    };
    Ok(Timeouts {
        tcp: timeout(tcp, 0)?,
        tcp_fin: timeout(tcp_fin, 0)?,
        udp: timeout(udp, 0)?,
    })
}

/// The service as far as it is known.
#[derive(Debug, Clone, Copy)]
enum Target {
    Unknown,
    Known(ServiceId),
}

/// All that the options have said.
struct Entry<'a> {
    names: &'a dyn Names,
    given: Given,
    format: Format,
    target: Target,
    scheduler: String,
    persistence: Option<u32>,
    netmask: Option<Netmask>,
    one_packet: bool,
    engine: String,
    flags: Option<String>,
    server: DestinationId,
    method: Method,
    tunnel: Tunnel,
    tunnel_port: u16,
    weight: u32,
    upper: u32,
    lower: u32,
    daemon: SyncDaemon,
}

impl<'a> Entry<'a> {
    fn new(names: &'a dyn Names) -> Self {
        Self {
            names,
            given: Given::default(),
            format: Format::default(),
            target: Target::Unknown,
            scheduler: String::new(),
            persistence: None,
            netmask: None,
            one_packet: false,
            engine: String::new(),
            flags: None,
            server: DestinationId {
                address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                port: 0,
            },
            method: Method::Direct,
            tunnel: Tunnel {
                kind: TunnelKind::Ipip,
                checksum: TunnelChecksum::None,
            },
            tunnel_port: 0,
            weight: 1,
            upper: 0,
            lower: 0,
            daemon: SyncDaemon {
                role: SyncRole::Master,
                interface: String::new(),
                sync_id: 0,
                max_length: 0,
                group: None,
                port: 0,
                ttl: 0,
            },
        }
    }

    fn take(&mut self, found: &Found, scanner: &Scanner<'_>) -> Result<(), Failure> {
        let value = found.value.as_deref().unwrap_or_default();
        let option = found.option;
        if let Some(subject) = subject(option) {
            self.given.set(subject)?;
        }
        match option {
            Opt::Tcp => self.service(value, Protocol::Tcp)?,
            Opt::Udp => self.service(value, Protocol::Udp)?,
            Opt::Sctp => self.service(value, Protocol::Sctp)?,
            Opt::Fwmark => {
                self.target = Target::Known(ServiceId::Fwmark {
                    mark: fwmark(value)?,
                    family: AddressFamily::V4,
                });
            }
            Opt::Ipv6 => self.ipv6()?,
            Opt::Scheduler => self.scheduler = value.chars().take(LONGEST_NAME).collect(),
            Opt::Persistent => self.persistence = Some(persistence(found.value.as_deref())?),
            Opt::Netmask => self.netmask = Some(self.netmask(value)?),
            Opt::Engine => self.engine = value.chars().take(LONGEST_NAME).collect(),
            Opt::SchedulerFlags => self.flags = Some(value.to_owned()),
            Opt::OnePacket => self.one_packet = true,
            Opt::RealServer => self.real_server(value)?,
            Opt::Gatewaying => self.method = Method::Direct,
            Opt::Masquerading => self.method = Method::Masquerade,
            Opt::Ipip => self.method = Method::Tunnel(self.tunnel),
            Opt::TunnelType => self.tunnel.kind = tunnel_kind(value)?,
            Opt::TunnelPort => self.tunnel_port = ranged(value, 1, 65535, "tunnel port")?,
            Opt::TunnelNoChecksum => self.tunnel.checksum = TunnelChecksum::None,
            Opt::TunnelChecksum => self.tunnel.checksum = TunnelChecksum::Full,
            Opt::TunnelRemoteChecksum => self.tunnel.checksum = TunnelChecksum::Remote,
            Opt::Weight => self.weight = ranged(value, 0, MOST, "weight")?,
            Opt::UpperThreshold => self.upper = ranged(value, 0, MOST, "u_threshold")?,
            Opt::LowerThreshold => self.lower = ranged(value, 0, MOST, "l_threshold")?,
            Opt::SyncId => self.daemon.sync_id = ranged(value, 0, 255, "syncid")?,
            Opt::SyncMaxLength => self.daemon.max_length = ranged(value, 1, 65507, "sync-maxlen")?,
            Opt::MulticastInterface => {
                self.daemon.interface = value.chars().take(LONGEST_NAME).collect();
            }
            Opt::MulticastGroup => self.daemon.group = Some(multicast_group(value)?),
            Opt::MulticastPort => self.daemon.port = ranged(value, 1, 65535, "mcast-port")?,
            Opt::MulticastTtl => self.daemon.ttl = ranged(value, 1, 255, "mcast-ttl")?,
            Opt::Numeric => self.format.numeric = true,
            Opt::Exact => self.format.exact = true,
            Opt::NoSort => self.format.unsorted = true,
            Opt::Stats => self.format.stats = true,
            Opt::Rate => self.format.rate = true,
            Opt::Thresholds => self.format.thresholds = true,
            Opt::PersistentConn => self.format.persistent_conn = true,
            Opt::TunnelInfo => self.format.tunnels = true,
            Opt::Connection | Opt::Timeout | Opt::Daemon | Opt::Sort => {}
            Opt::AddService
            | Opt::EditService
            | Opt::DeleteService
            | Opt::Clear
            | Opt::Restore
            | Opt::Save
            | Opt::AddServer
            | Opt::EditServer
            | Opt::DeleteServer
            | Opt::List
            | Opt::Zero
            | Opt::Set
            | Opt::StartDaemon
            | Opt::StopDaemon
            | Opt::Help
            | Opt::Version => {
                let word = scanner.last_word();
                return Err(Failure::fatal(format!("invalid option `{word}'")));
            }
        }
        Ok(())
    }

    fn service(&mut self, value: &str, protocol: Protocol) -> Result<(), Failure> {
        let endpoint = endpoint(value, Some(protocol), self.names)
            .ok_or_else(|| Failure::fatal("illegal virtual server address[:port] specified"))?;
        self.target = Target::Known(ServiceId::Address {
            protocol,
            address: endpoint.address,
            port: endpoint.port.unwrap_or(0),
        });
        if endpoint.address.is_ipv6() {
            self.netmask = None;
        }
        Ok(())
    }

    fn ipv6(&mut self) -> Result<(), Failure> {
        match &mut self.target {
            Target::Known(ServiceId::Fwmark { family, .. }) => {
                *family = AddressFamily::V6;
                self.netmask = None;
                Ok(())
            }
            // The newline is ipvsadm's.
            _ => Err(Failure::fatal("-6 used before -f\n")),
        }
    }

    fn netmask(&self, value: &str) -> Result<Netmask, Failure> {
        match self.target {
            Target::Known(id) if id.family() == AddressFamily::V6 => {
                u32::try_from(leading_number(value))
                    .ok()
                    .filter(|length| (1..=128).contains(length))
                    .map(Netmask::V6)
                    .ok_or_else(|| Failure::fatal("illegal ipv6 netmask specified"))
            }
            _ => ipv4(value, self.names)
                .map(Netmask::V4)
                .ok_or_else(|| Failure::fatal("illegal virtual server persistent mask specified")),
        }
    }

    /// The real server; without a port it has the service's, if that has been said by now.
    fn real_server(&mut self, value: &str) -> Result<(), Failure> {
        let (protocol, port) = match self.target {
            Target::Known(ServiceId::Address { protocol, port, .. }) => (Some(protocol), port),
            Target::Known(ServiceId::Fwmark { .. }) => (Some(Protocol::Tcp), 0),
            Target::Unknown => (None, 0),
        };
        let endpoint = endpoint(value, protocol, self.names)
            .ok_or_else(|| Failure::fatal("illegal real server address[:port] specified"))?;
        self.server = DestinationId {
            address: endpoint.address,
            port: endpoint.port.unwrap_or(port),
        };
        Ok(())
    }

    fn finish(
        self,
        program: &str,
        command: Opt,
        role: Option<SyncRole>,
        timeouts: Option<Timeouts>,
    ) -> Result<Command, Failure> {
        let flags = match &self.flags {
            Some(text) => scheduler_flags(text, &self.scheduler)?,
            None => SchedulerFlags::default(),
        };
        check_command(command, self.given)?;
        let service = match self.target {
            Target::Known(id) => Some(id),
            Target::Unknown => None,
        };
        let wrong = || Failure::no_command(program);
        Ok(match command {
            Opt::AddService => Command::Change(Change::AddService(
                self.service_spec(service.ok_or_else(wrong)?, flags)?,
            )),
            Opt::EditService => Command::Change(Change::EditService(
                self.service_spec(service.ok_or_else(wrong)?, flags)?,
            )),
            Opt::DeleteService => {
                Command::Change(Change::DeleteService(service.ok_or_else(wrong)?))
            }
            Opt::AddServer => {
                let service = service.ok_or_else(wrong)?;
                let destination = self.destination(&service)?;
                Command::Change(Change::AddDestination(service, destination))
            }
            Opt::EditServer => {
                let service = service.ok_or_else(wrong)?;
                let destination = self.destination(&service)?;
                Command::Change(Change::EditDestination(service, destination))
            }
            Opt::DeleteServer => Command::Change(Change::DeleteDestination(
                service.ok_or_else(wrong)?,
                self.server,
            )),
            Opt::Clear => Command::Clear,
            Opt::Restore => Command::Restore,
            Opt::Save => Command::Save(self.format),
            Opt::Zero => Command::Zero(service),
            Opt::Set => Command::Set(timeouts.ok_or_else(wrong)?),
            Opt::StartDaemon => Command::StartDaemon(self.sync_daemon(role.ok_or_else(wrong)?)),
            Opt::StopDaemon => Command::StopDaemon(role.ok_or_else(wrong)?),
            Opt::List => self.list(service)?,
            _ => return Err(wrong()),
        })
    }

    fn list(&self, service: Option<ServiceId>) -> Result<Command, Failure> {
        check_list(self.given)?;
        Ok(if self.given.has(Subject::Connection) {
            Command::ListConnections(self.format)
        } else if self.given.has(Subject::Timeout) {
            Command::ListTimeouts
        } else if self.given.has(Subject::Daemon) {
            Command::ListDaemons
        } else {
            Command::List {
                service,
                format: self.format,
            }
        })
    }

    fn service_spec(self, id: ServiceId, flags: SchedulerFlags) -> Result<ServiceSpec, Failure> {
        if let ServiceId::Address { protocol, port, .. } = id {
            if port == 0 && self.persistence.is_none() {
                return Err(Failure::fatal(
                    "Zero port specified for non-persistent service",
                ));
            }
            if self.one_packet && protocol != Protocol::Udp {
                return Err(Failure::fatal(
                    "One-Packet Scheduling is only for UDP virtual services",
                ));
            }
        }
        let scheduler = if self.scheduler.is_empty() {
            DEFAULT_SCHEDULER.to_owned()
        } else {
            self.scheduler
        };
        let netmask = self.netmask.unwrap_or(Netmask::full(id.family()));
        Ok(ServiceSpec {
            id,
            scheduler,
            flags,
            one_packet: self.one_packet,
            persistence: self
                .persistence
                .map(|timeout| Persistence { timeout, netmask }),
            engine: self.engine,
        })
    }

    fn destination(&self, service: &ServiceId) -> Result<DestinationSpec, Failure> {
        let mut id = self.server;
        // Without rewriting a port cannot change.
        if let (ServiceId::Address { port, .. }, Method::Direct | Method::Tunnel(_)) =
            (service, self.method)
        {
            id.port = *port;
        }
        let tunnels = matches!(self.method, Method::Tunnel(_));
        if AddressFamily::of(id.address) != service.family() && !tunnels {
            return Err(Failure::fatal(
                "Different address family is allowed only for tunneling servers",
            ));
        }
        let method = if tunnels {
            check_tunnel(self.tunnel.kind, self.given)?;
            let kind = match self.tunnel.kind {
                TunnelKind::Gue { .. } => TunnelKind::Gue {
                    port: self.tunnel_port,
                },
                other => other,
            };
            Method::Tunnel(Tunnel {
                kind,
                checksum: self.tunnel.checksum,
            })
        } else if has_tunnel_options(self.given) {
            return Err(Failure::fatal(
                "Tunnel options conflict with forward method",
            ));
        } else {
            self.method
        };
        Ok(DestinationSpec {
            id,
            method,
            weight: self.weight,
            upper: self.upper,
            lower: self.lower,
        })
    }

    fn sync_daemon(self, role: SyncRole) -> SyncDaemon {
        let mut daemon = SyncDaemon {
            role,
            ..self.daemon
        };
        if daemon.interface.is_empty() {
            DEFAULT_INTERFACE.clone_into(&mut daemon.interface);
        }
        daemon
    }
}

/// What the rules of legality call an option; none for those that may be repeated.
const fn subject(option: Opt) -> Option<Subject> {
    Some(match option {
        Opt::Tcp | Opt::Udp | Opt::Sctp | Opt::Fwmark => Subject::Service,
        Opt::Scheduler => Subject::Scheduler,
        Opt::Persistent => Subject::Persistent,
        Opt::Netmask => Subject::Netmask,
        Opt::Engine => Subject::Engine,
        Opt::SchedulerFlags => Subject::SchedulerFlags,
        Opt::OnePacket => Subject::OnePacket,
        Opt::RealServer => Subject::RealServer,
        Opt::Gatewaying | Opt::Masquerading | Opt::Ipip => Subject::Forwarding,
        Opt::TunnelType => Subject::TunnelType,
        Opt::TunnelPort => Subject::TunnelPort,
        Opt::TunnelNoChecksum => Subject::TunnelNoChecksum,
        Opt::TunnelChecksum => Subject::TunnelChecksum,
        Opt::TunnelRemoteChecksum => Subject::TunnelRemoteChecksum,
        Opt::Weight => Subject::Weight,
        Opt::UpperThreshold => Subject::UpperThreshold,
        Opt::LowerThreshold => Subject::LowerThreshold,
        Opt::SyncId => Subject::SyncId,
        Opt::SyncMaxLength => Subject::SyncMaxLength,
        Opt::MulticastInterface => Subject::MulticastInterface,
        Opt::MulticastGroup => Subject::MulticastGroup,
        Opt::MulticastPort => Subject::MulticastPort,
        Opt::MulticastTtl => Subject::MulticastTtl,
        Opt::Numeric => Subject::Numeric,
        Opt::Exact => Subject::Exact,
        Opt::NoSort => Subject::NoSort,
        Opt::Stats => Subject::Stats,
        Opt::Rate => Subject::Rate,
        Opt::Thresholds => Subject::Thresholds,
        Opt::PersistentConn => Subject::PersistentConn,
        Opt::TunnelInfo => Subject::TunnelInfo,
        Opt::Connection => Subject::Connection,
        Opt::Timeout => Subject::Timeout,
        Opt::Daemon => Subject::Daemon,
        _ => return None,
    })
}

/// A number in a range, or `illegal … specified`.
fn ranged<T: TryFrom<i64>>(value: &str, least: i64, most: i64, name: &str) -> Result<T, Failure> {
    number(value, least, most).ok_or_else(|| Failure::fatal(format!("illegal {name} specified")))
}
