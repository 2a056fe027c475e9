//! A table in memory that judges as the kernel does: what tests carry commands out on.

use std::net::{IpAddr, Ipv4Addr};

use nix::errno::Errno;

use super::ipvs::{Change, Ipvs, IpvsError};
use super::view::{
    Connection, Destination, DestinationId, DestinationSpec, Method, Service, ServiceId,
    ServiceSpec, Stats, SyncDaemon, SyncRole, Timeouts, Version,
};

/// The schedulers of Linux 6.1, and the word for no scheduler.
const SCHEDULERS: [&str; 15] = [
    "rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh", "twos",
    "none",
];

/// Services, connections, timeouts and sync daemons, with nothing behind them.
#[derive(Debug, Clone)]
pub struct MemoryIpvs {
    /// In the order in which they were added.
    pub services: Vec<Service>,
    /// As they are to be listed.
    pub connections: Vec<Connection>,
    /// At IPVS's defaults in the beginning.
    pub timeouts: Timeouts,
    daemons: Vec<SyncDaemon>,
}

impl Default for MemoryIpvs {
    fn default() -> Self {
        Self {
            services: Vec::new(),
            connections: Vec::new(),
            timeouts: Timeouts {
                tcp: 900,
                tcp_fin: 120,
                udp: 300,
            },
            daemons: Vec::new(),
        }
    }
}

impl MemoryIpvs {
    fn find(&mut self, id: &ServiceId) -> Result<&mut Service, Errno> {
        let mut services = self.services.iter_mut();
        services
            .find(|service| service.spec.id == *id)
            .ok_or(Errno::ESRCH)
    }

    fn make(&mut self, change: &Change) -> Result<(), IpvsError> {
        match change {
            Change::AddService(spec) => self.add_service(spec),
            Change::EditService(spec) => self.edit_service(spec),
            Change::DeleteService(id) => self.delete_service(id),
            Change::AddDestination(service, spec) => self.add_destination(service, spec),
            Change::EditDestination(service, spec) => self.edit_destination(service, spec),
            Change::DeleteDestination(service, id) => self.delete_destination(service, id),
        }
    }

    fn add_service(&mut self, spec: &ServiceSpec) -> Result<(), IpvsError> {
        if self.find(&spec.id).is_ok() {
            return Err(Errno::EEXIST.into());
        }
        check_service(spec)?;
        self.services.push(Service {
            spec: spec.clone(),
            stats: Stats::default(),
            destinations: Vec::new(),
        });
        Ok(())
    }

    fn edit_service(&mut self, spec: &ServiceSpec) -> Result<(), IpvsError> {
        let service = self.find(&spec.id)?;
        check_service(spec)?;
        service.spec = spec.clone();
        Ok(())
    }

    fn delete_service(&mut self, id: &ServiceId) -> Result<(), IpvsError> {
        self.find(id)?;
        self.services.retain(|service| service.spec.id != *id);
        Ok(())
    }

    fn add_destination(
        &mut self,
        service: &ServiceId,
        spec: &DestinationSpec,
    ) -> Result<(), IpvsError> {
        let service = self.find(service)?;
        check_thresholds(spec)?;
        if service
            .destinations
            .iter()
            .any(|there| there.spec.id == spec.id)
        {
            return Err(Errno::EEXIST.into());
        }
        let family = spec.id.address.is_ipv4()
            == matches!(service.spec.id.family(), crate::model::AddressFamily::V4);
        let fits = family || matches!(spec.method, Method::Tunnel(_));
        if !fits || !is_local_or_unicast(spec.id.address) {
            return Err(Errno::EINVAL.into());
        }
        let destination = Destination {
            spec: *spec,
            active: 0,
            inactive: 0,
            persistent: 0,
            stats: Stats::default(),
        };
        service.destinations.insert(0, destination);
        Ok(())
    }

    fn edit_destination(
        &mut self,
        service: &ServiceId,
        spec: &DestinationSpec,
    ) -> Result<(), IpvsError> {
        let service = self.find(service)?;
        check_thresholds(spec)?;
        let mut there = service.destinations.iter_mut();
        let destination = there
            .find(|there| there.spec.id == spec.id)
            .ok_or(Errno::ENOENT)?;
        destination.spec = *spec;
        Ok(())
    }

    fn delete_destination(
        &mut self,
        service: &ServiceId,
        id: &DestinationId,
    ) -> Result<(), IpvsError> {
        let service = self.find(service)?;
        let before = service.destinations.len();
        service.destinations.retain(|there| there.spec.id != *id);
        if service.destinations.len() == before {
            return Err(Errno::ENOENT.into());
        }
        Ok(())
    }
}

fn check_service(spec: &ServiceSpec) -> Result<(), Errno> {
    let known = SCHEDULERS.contains(&spec.scheduler.as_str())
        && ["", "sip"].contains(&spec.engine.as_str());
    if known { Ok(()) } else { Err(Errno::ENOENT) }
}

fn check_thresholds(spec: &DestinationSpec) -> Result<(), Errno> {
    if spec.lower > spec.upper {
        return Err(Errno::ERANGE);
    }
    Ok(())
}

fn is_local_or_unicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let local_broadcast = Ipv4Addr::new(127, 255, 255, 255);
            !(address.is_multicast()
                || address.is_unspecified()
                || address.is_broadcast()
                || address == local_broadcast)
        }
        IpAddr::V6(address) => {
            !(address.is_multicast()
                || address.is_unspecified()
                || address.is_unicast_link_local()
                || address.to_ipv4_mapped().is_some())
        }
    }
}

impl Ipvs for MemoryIpvs {
    fn version(&mut self) -> Result<Version, IpvsError> {
        Ok(Version {
            version: [1, 2, 1],
            size: 4096,
        })
    }

    fn services(&mut self) -> Result<Vec<Service>, IpvsError> {
        Ok(self.services.clone())
    }

    fn service(&mut self, id: &ServiceId) -> Result<Service, IpvsError> {
        Ok(self.find(id)?.clone())
    }

    fn connections(&mut self) -> Result<Vec<Connection>, IpvsError> {
        Ok(self.connections.clone())
    }

    fn change(&mut self, changes: &[Change]) -> Vec<Result<(), IpvsError>> {
        changes.iter().map(|change| self.make(change)).collect()
    }

    fn flush(&mut self) -> Result<(), IpvsError> {
        self.services.clear();
        Ok(())
    }

    fn zero(&mut self, service: Option<&ServiceId>) -> Result<(), IpvsError> {
        let clear = |service: &mut Service| {
            service.stats = Stats::default();
            for destination in &mut service.destinations {
                destination.stats = Stats::default();
            }
        };
        match service {
            Some(id) => clear(self.find(id)?),
            None => self.services.iter_mut().for_each(clear),
        }
        Ok(())
    }

    fn timeouts(&mut self) -> Result<Timeouts, IpvsError> {
        Ok(self.timeouts)
    }

    fn set_timeouts(&mut self, timeouts: &Timeouts) -> Result<(), IpvsError> {
        let there = &mut self.timeouts;
        for (there, new) in [
            (&mut there.tcp, timeouts.tcp),
            (&mut there.tcp_fin, timeouts.tcp_fin),
            (&mut there.udp, timeouts.udp),
        ] {
            if new != 0 {
                *there = new;
            }
        }
        Ok(())
    }

    fn daemons(&mut self) -> Result<Vec<SyncDaemon>, IpvsError> {
        Ok(self.daemons.clone())
    }

    fn start_daemon(&mut self, daemon: &SyncDaemon) -> Result<(), IpvsError> {
        if self.daemons.iter().any(|there| there.role == daemon.role) {
            return Err(Errno::EEXIST.into());
        }
        let or = |given: u16, default| if given == 0 { default } else { given };
        let daemon = SyncDaemon {
            max_length: or(daemon.max_length, 1472),
            group: daemon
                .group
                .or(Some(IpAddr::V4(Ipv4Addr::new(224, 0, 0, 81)))),
            port: or(daemon.port, 8848),
            ttl: daemon.ttl.max(1),
            ..daemon.clone()
        };
        self.daemons.push(daemon);
        self.daemons
            .sort_by_key(|daemon| daemon.role == SyncRole::Backup);
        Ok(())
    }

    fn stop_daemon(&mut self, role: SyncRole) -> Result<(), IpvsError> {
        let before = self.daemons.len();
        self.daemons.retain(|there| there.role != role);
        if self.daemons.len() == before {
            return Err(Errno::ESRCH.into());
        }
        Ok(())
    }
}
