//! Between ipvsadm's view of a table and the API's: what can be said there, and what is refused here because bpvs cannot
//! serve it.

use std::net::SocketAddr;
use std::time::Duration;

use nix::errno::Errno;

use super::ipvs::IpvsError;
use super::view::{
    Connection, Destination, DestinationId, DestinationSpec, Method, Netmask, Persistence,
    SchedulerFlags, Service, ServiceId, ServiceSpec, Stats, Timeouts, Version,
};
use crate::api::wire::{
    Connection as WireConnection, Counters, ListedServer, ListedService, Server, ServerEdit,
    Service as WireService, ServiceEdit, Settings, SettingsEdit, Status,
};
use crate::model::{
    self, AddressFamily, ForwardingMethod, ModelError, Protocol, Scheduler, ServiceKey,
    format_duration, parse_duration,
};

/// IPVS would do it.
pub(super) fn not_there(what: &str) -> IpvsError {
    IpvsError::NotThere(format!("bpvs: {what} is not there yet"))
}

fn unreadable(what: &str) -> IpvsError {
    IpvsError::Failed(format!(
        "bpvs: the daemon's answer cannot be read: {what}; client and daemon may be of different versions"
    ))
}

/// What bpvs says of a value of its own.
fn refused(error: &ModelError) -> IpvsError {
    match error {
        ModelError::NotUnicast(_) => Errno::EINVAL.into(),
        other => IpvsError::NotThere(format!("bpvs: {other}")),
    }
}

/// The key of a service; none for one that bpvs cannot have, so that it is certainly not there.
pub(super) fn key(id: &ServiceId) -> Option<ServiceKey> {
    match *id {
        ServiceId::Address {
            protocol,
            address,
            port,
        } => ServiceKey::address(protocol, SocketAddr::new(address, port)).ok(),
        ServiceId::Fwmark { mark, family } => ServiceKey::fwmark(mark, family).ok(),
    }
}

/// The key of a service that is to be.
fn new_key(id: &ServiceId) -> Result<ServiceKey, IpvsError> {
    if id.family() == AddressFamily::V6 {
        return Err(not_there("IPv6"));
    }
    let key = match *id {
        ServiceId::Address {
            protocol: Protocol::Sctp,
            ..
        } => return Err(not_there("SCTP")),
        ServiceId::Address {
            protocol,
            address,
            port,
        } => ServiceKey::address(protocol, SocketAddr::new(address, port)),
        ServiceId::Fwmark { mark, family } => ServiceKey::fwmark(mark, family),
    };
    // That an address is not unicast is nothing to IPVS.
    key.map_err(|error| IpvsError::NotThere(format!("bpvs: {error}")))
}

/// A service that is to be, as bpvs's own.
fn model_service(spec: &ServiceSpec) -> Result<model::Service, IpvsError> {
    let scheduler = spec
        .scheduler
        .parse::<Scheduler>()
        .map_err(|_| Errno::ENOENT)?;
    match spec.engine.as_str() {
        "" => {}
        "sip" => return Err(not_there("the persistence engine sip")),
        _ => return Err(Errno::ENOENT.into()),
    }
    let mut service = model::Service::new(new_key(&spec.id)?, scheduler);
    service.scheduler_flags = model::SchedulerFlags::new(spec.flags.0);
    service.one_packet = spec.one_packet;
    service.persistence = spec.persistence.map(persistence).transpose()?;
    service
        .checked()
        .map_err(|error| IpvsError::NotThere(format!("bpvs: {error}")))
}

fn persistence(persistence: Persistence) -> Result<model::Persistence, IpvsError> {
    Ok(model::Persistence {
        timeout: Duration::from_secs(u64::from(persistence.timeout)),
        netmask: match persistence.netmask {
            Netmask::V4(mask) => model::Netmask::V4(mask),
            Netmask::V6(bits) => model::Netmask::V6(u8::try_from(bits).map_err(|_| Errno::EINVAL)?),
        },
    })
}

/// A service that is to be.
pub(super) fn service(spec: &ServiceSpec) -> Result<WireService, IpvsError> {
    model_service(spec).map(|service| WireService::from(&service))
}

/// What is to become of a service. What ipvsadm knows nothing of (source NAT, answering) stays.
pub(super) fn service_edit(spec: &ServiceSpec) -> Result<ServiceEdit, IpvsError> {
    let service = model_service(spec)?;
    let persistent = service.persistence;
    Ok(ServiceEdit {
        scheduler: Some(service.scheduler.to_string()),
        scheduler_flags: Some(service.scheduler_flags.to_string()),
        persistent: Some(persistent.map_or_else(
            || "off".to_owned(),
            |persistence| format_duration(persistence.timeout),
        )),
        netmask: persistent.map(|persistence| persistence.netmask.to_string()),
        one_packet: Some(service.one_packet),
        ..ServiceEdit::default()
    })
}

/// A server that is to be, or to become so.
pub(super) fn server(key: &ServiceKey, spec: &DestinationSpec) -> Result<Server, IpvsError> {
    if spec.lower > spec.upper {
        return Err(Errno::ERANGE.into());
    }
    let method = match spec.method {
        Method::Masquerade | Method::Local => ForwardingMethod::Masquerade,
        Method::Direct => ForwardingMethod::Direct,
        Method::Tunnel(_) => return Err(not_there("tunneling (-i)")),
    };
    let server = model::Server {
        address: spec.id.address,
        port: spec.id.port,
        weight: spec.weight,
        method,
        upper_threshold: spec.upper,
        lower_threshold: spec.lower,
        via: None,
        return_via: None,
    };
    server.check(key).map_err(|error| refused(&error))?;
    Ok(Server::from(&server))
}

/// The same as changes.
pub(super) fn server_edit(server: &Server) -> ServerEdit {
    ServerEdit {
        weight: Some(server.weight),
        method: Some(server.method.clone()),
        upper_threshold: Some(server.upper_threshold),
        lower_threshold: Some(server.lower_threshold),
    }
}

/// The address of a server; none for one that bpvs cannot have.
pub(super) fn server_address(key: &ServiceKey, id: &DestinationId) -> Option<String> {
    let fits = AddressFamily::of(id.address) == key.family();
    fits.then(|| SocketAddr::new(id.address, id.port).to_string())
}

/// What bpvs says of itself in IPVS's terms: the version whose interface this is, and the size of IPVS's own table unless
/// it is set. bpvs's table of connections has no such number.
pub(super) const fn version(_status: &Status) -> Version {
    Version {
        version: [1, 2, 1],
        size: 4096,
    }
}

/// A service as it is listed.
pub(super) fn service_view(listed: &ListedService) -> Result<Service, IpvsError> {
    let key: ServiceKey = listed
        .address
        .parse()
        .map_err(|_| unreadable(&listed.address))?;
    let id = match key {
        ServiceKey::Address {
            protocol,
            address,
            port,
        } => ServiceId::Address {
            protocol,
            address,
            port,
        },
        ServiceKey::Fwmark { mark, family } => ServiceId::Fwmark { mark, family },
    };
    let flags: model::SchedulerFlags = match listed.scheduler_flags.as_deref() {
        Some(text) => text.parse().map_err(|_| unreadable(text))?,
        None => model::SchedulerFlags::NONE,
    };
    Ok(Service {
        spec: ServiceSpec {
            id,
            scheduler: listed.scheduler.clone(),
            flags: SchedulerFlags(flags.bits()),
            one_packet: listed.one_packet,
            persistence: persistence_view(listed, key.family())?,
            engine: String::new(),
        },
        stats: stats(&listed.counters, &listed.rates),
        destinations: listed
            .servers
            .iter()
            .map(destination_view)
            .collect::<Result<_, _>>()?,
    })
}

fn persistence_view(
    listed: &ListedService,
    family: AddressFamily,
) -> Result<Option<Persistence>, IpvsError> {
    let Some(timeout) = listed.persistent.as_deref() else {
        return Ok(None);
    };
    let netmask = match listed.netmask.as_deref() {
        Some(text) => match model::Netmask::parse(text, family) {
            Ok(model::Netmask::V4(mask)) => Netmask::V4(mask),
            Ok(model::Netmask::V6(bits)) => Netmask::V6(u32::from(bits)),
            Err(_) => return Err(unreadable(text)),
        },
        None => Netmask::full(family),
    };
    Ok(Some(Persistence {
        timeout: seconds(timeout)?,
        netmask,
    }))
}

fn seconds(text: &str) -> Result<u32, IpvsError> {
    parse_duration(text)
        .ok()
        .and_then(|duration| u32::try_from(duration.as_secs()).ok())
        .ok_or_else(|| unreadable(text))
}

fn destination_view(listed: &ListedServer) -> Result<Destination, IpvsError> {
    let count = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    Ok(Destination {
        spec: DestinationSpec {
            id: end(&listed.address)?,
            method: match listed.method.parse() {
                Ok(ForwardingMethod::Masquerade) => Method::Masquerade,
                Ok(ForwardingMethod::Direct) => Method::Direct,
                Err(_) => return Err(unreadable(&listed.method)),
            },
            weight: listed.weight,
            upper: listed.upper_threshold,
            lower: listed.lower_threshold,
        },
        active: count(listed.active),
        inactive: count(listed.inactive),
        persistent: count(listed.persistent),
        stats: stats(&listed.counters, &listed.rates),
    })
}

const fn stats(counters: &Counters, rates: &Counters) -> Stats {
    Stats {
        connections: counters.connections,
        in_packets: counters.in_packets,
        out_packets: counters.out_packets,
        in_bytes: counters.in_bytes,
        out_bytes: counters.out_bytes,
        connections_rate: rates.connections,
        in_packets_rate: rates.in_packets,
        out_packets_rate: rates.out_packets,
        in_bytes_rate: rates.in_bytes,
        out_bytes_rate: rates.out_bytes,
    }
}

fn end(text: &str) -> Result<DestinationId, IpvsError> {
    let socket: SocketAddr = text.parse().map_err(|_| unreadable(text))?;
    Ok(DestinationId {
        address: socket.ip(),
        port: socket.port(),
    })
}

/// A connection as it is listed.
pub(super) fn connection_view(listed: &WireConnection) -> Result<Connection, IpvsError> {
    let protocol = match listed.protocol.as_str() {
        "ip" => None,
        text => Some(text.parse().map_err(|_| unreadable(text))?),
    };
    Ok(Connection {
        protocol,
        client: end(&listed.client)?,
        service: end(&listed.service)?,
        destination: end(&listed.server)?,
        state: listed.state.clone(),
        expires: u32::try_from(listed.expires).unwrap_or(u32::MAX),
        engine: None,
    })
}

/// The timeouts of a scope.
pub(super) fn timeouts_view(settings: &Settings) -> Result<Timeouts, IpvsError> {
    let timeouts = &settings.timeouts;
    let read = |text: &Option<String>| seconds(text.as_deref().unwrap_or_default());
    Ok(Timeouts {
        tcp: read(&timeouts.tcp)?,
        tcp_fin: read(&timeouts.tcp_fin)?,
        udp: read(&timeouts.udp)?,
    })
}

/// The timeouts that are to be different: those that are not 0.
pub(super) fn timeouts_edit(timeouts: &Timeouts) -> SettingsEdit {
    let Timeouts { tcp, tcp_fin, udp } = *timeouts;
    model::Timeouts::NAMES
        .into_iter()
        .zip([tcp, tcp_fin, udp])
        .filter(|(_, seconds)| *seconds != 0)
        .map(|(name, seconds)| {
            let timeout = Duration::from_secs(u64::from(seconds));
            (name.to_owned(), format_duration(timeout))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_told_from_what_is_wrong() {
        let spec = |id| ServiceSpec {
            id,
            scheduler: "rr".into(),
            flags: SchedulerFlags::default(),
            one_packet: false,
            persistence: None,
            engine: String::new(),
        };
        let at = |protocol, address: &str, port| ServiceId::Address {
            protocol,
            address: address.parse().unwrap(),
            port,
        };
        let tcp = at(Protocol::Tcp, "10.0.0.1", 80);
        assert_eq!(service(&spec(tcp)).unwrap().address, "tcp:10.0.0.1:80");
        for id in [
            at(Protocol::Tcp, "fd00::1", 80),
            at(Protocol::Sctp, "10.0.0.1", 80),
            at(Protocol::Tcp, "224.0.0.1", 80),
            ServiceId::Fwmark {
                mark: 7,
                family: AddressFamily::V6,
            },
        ] {
            let error = service(&spec(id)).unwrap_err();
            assert!(matches!(error, IpvsError::NotThere(_)), "{error}");
        }
        let unknown = ServiceSpec {
            scheduler: "nosuch".into(),
            ..spec(tcp)
        };
        assert_eq!(service(&unknown), Err(Errno::ENOENT.into()));
        let engine = ServiceSpec {
            engine: "sip".into(),
            ..spec(tcp)
        };
        assert!(matches!(service(&engine), Err(IpvsError::NotThere(_))));
    }
}
