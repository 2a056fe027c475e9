//! Between ipvsadm's view of a table and the API's: what can be said there, and what is refused here because bpvs cannot
//! serve it.

use std::net::{IpAddr, SocketAddr};

use nix::errno::Errno;

use super::ipvs::IpvsError;
use super::view::{
    Connection, Destination, DestinationId, DestinationSpec, Method, SchedulerFlags, Service,
    ServiceId, ServiceSpec, Stats, Timeouts, Version,
};
use crate::api::wire::{
    Connection as WireConnection, Counters, ListedServer, ListedService, Server, ServerEdit,
    Service as WireService, ServiceEdit, Settings, Status,
};
use crate::model::{
    AddressFamily, ForwardingMethod, MAX_WEIGHT, ModelError, Protocol, Scheduler, ServiceKey,
    parse_duration,
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
pub(super) fn key(id: &ServiceId) -> Result<Option<ServiceKey>, IpvsError> {
    Ok(match *id {
        ServiceId::Address {
            protocol,
            address,
            port,
        } => ServiceKey::address(protocol, SocketAddr::new(address, port)).ok(),
        ServiceId::Fwmark { mark, family } => ServiceKey::fwmark(mark, family).ok(),
    })
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

fn scheduler(name: &str) -> Result<String, IpvsError> {
    match name.parse::<Scheduler>() {
        Ok(scheduler) => Ok(scheduler.to_string()),
        Err(error @ ModelError::SchedulerNotYet(_)) => Err(refused(&error)),
        Err(_) => Err(Errno::ENOENT.into()),
    }
}

/// What a service of bpvs cannot have, of that which all services have in common.
fn check(spec: &ServiceSpec) -> Result<(), IpvsError> {
    match spec.engine.as_str() {
        "" => {}
        "sip" => return Err(not_there("the persistence engine sip")),
        _ => return Err(Errno::ENOENT.into()),
    }
    if spec.persistence.is_some() {
        return Err(not_there("persistence"));
    }
    if spec.one_packet {
        return Err(not_there("one-packet scheduling"));
    }
    if spec.flags != SchedulerFlags::default() {
        return Err(not_there("a flag for schedulers"));
    }
    Ok(())
}

/// A service that is to be.
pub(super) fn service(spec: &ServiceSpec) -> Result<WireService, IpvsError> {
    let scheduler = scheduler(&spec.scheduler)?;
    check(spec)?;
    Ok(WireService {
        address: new_key(&spec.id)?.to_string(),
        scheduler,
        source_nat: Default::default(),
        answer: false,
        timeouts: Default::default(),
        servers: Vec::new(),
    })
}

/// What is to become of a service. What ipvsadm knows nothing of stays.
pub(super) fn service_edit(spec: &ServiceSpec) -> Result<ServiceEdit, IpvsError> {
    let scheduler = scheduler(&spec.scheduler)?;
    check(spec)?;
    Ok(ServiceEdit {
        scheduler: Some(scheduler),
        ..ServiceEdit::default()
    })
}

/// A server that is to be, or to become so.
pub(super) fn server(key: &ServiceKey, spec: &DestinationSpec) -> Result<Server, IpvsError> {
    if spec.lower > spec.upper {
        return Err(Errno::ERANGE.into());
    }
    let method = match spec.method {
        Method::Masquerade | Method::Local => ForwardingMethod::Masquerade.to_string(),
        Method::Direct => return Err(not_there("direct routing (-g)")),
        Method::Tunnel(_) => return Err(not_there("tunneling (-i)")),
    };
    if spec.upper > 0 {
        return Err(not_there("a threshold"));
    }
    if spec.weight > MAX_WEIGHT {
        return Err(IpvsError::NotThere(format!(
            "bpvs: a weight is {MAX_WEIGHT} at most"
        )));
    }
    let address = SocketAddr::new(spec.id.address, spec.id.port);
    let server = crate::model::Server::new(key, address, spec.weight, ForwardingMethod::Masquerade)
        .map_err(|error| refused(&error))?;
    Ok(Server {
        address: server.socket().to_string(),
        weight: spec.weight,
        method,
    })
}

/// The same as changes.
pub(super) fn server_edit(server: &Server) -> ServerEdit {
    ServerEdit {
        weight: Some(server.weight),
        method: Some(server.method.clone()),
    }
}

/// The address of a server; none for one that bpvs cannot have.
pub(super) fn server_address(key: &ServiceKey, id: &DestinationId) -> Option<String> {
    let fits = AddressFamily::of(id.address) == key.family() && (id.port != 0 || key.port().is_none());
    fits.then(|| SocketAddr::new(id.address, id.port).to_string())
}

/// What bpvs says of itself in IPVS's terms.
pub(super) fn version(_status: &Status) -> Version {
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
    Ok(Service {
        spec: ServiceSpec {
            id,
            scheduler: listed.scheduler.clone(),
            flags: SchedulerFlags::default(),
            one_packet: false,
            persistence: None,
            engine: String::new(),
        },
        stats: stats(&listed.counters),
        destinations: listed
            .servers
            .iter()
            .map(destination_view)
            .collect::<Result<_, _>>()?,
    })
}

fn destination_view(listed: &ListedServer) -> Result<Destination, IpvsError> {
    let count = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    Ok(Destination {
        spec: DestinationSpec {
            id: end(&listed.address)?,
            method: match listed.method.parse() {
                Ok(ForwardingMethod::Masquerade) => Method::Masquerade,
                Err(_) => return Err(unreadable(&listed.method)),
            },
            weight: listed.weight,
            upper: 0,
            lower: 0,
        },
        active: count(listed.active),
        inactive: count(listed.inactive),
        persistent: 0,
        stats: stats(&listed.counters),
    })
}

fn stats(counters: &Counters) -> Stats {
    Stats {
        connections: counters.connections,
        in_packets: counters.in_packets,
        out_packets: counters.out_packets,
        in_bytes: counters.in_bytes,
        out_bytes: counters.out_bytes,
        ..Stats::default()
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
    let protocol = listed.protocol.parse();
    Ok(Connection {
        protocol: Some(protocol.map_err(|_| unreadable(&listed.protocol))?),
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
    let read = |text: &Option<String>| {
        let text = text.as_deref().unwrap_or_default();
        parse_duration(text)
            .ok()
            .and_then(|duration| u32::try_from(duration.as_secs()).ok())
            .ok_or_else(|| unreadable(text))
    };
    let timeouts = &settings.timeouts;
    Ok(Timeouts {
        tcp: read(&timeouts.tcp)?,
        tcp_fin: read(&timeouts.tcp_fin)?,
        udp: read(&timeouts.udp)?,
    })
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
            address: address.parse::<IpAddr>().unwrap(),
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
