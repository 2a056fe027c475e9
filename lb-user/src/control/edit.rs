//! What is to be different about a service or a server; all that is not named stays.

use std::time::Duration;

use crate::model::{
    ForwardingMethod, ModelError, Netmask, Persistence, Scheduler, SchedulerFlags, Server, Service,
    SourceNat,
};

/// Attributes of a service; what is `None` stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ServiceEdit {
    /// Another scheduler.
    pub scheduler: Option<Scheduler>,
    /// Other scheduler flags, in place of all that there are.
    pub scheduler_flags: Option<SchedulerFlags>,
    /// Another timeout of persistence, or (inner `None`) no persistence. What becomes persistent has the full netmask.
    pub persistent: Option<Option<Duration>>,
    /// Another netmask of persistence.
    pub netmask: Option<Netmask>,
    /// Whether each datagram is scheduled by itself.
    pub one_packet: Option<bool>,
    /// Whether segments of no known connection are reset.
    pub reset: Option<bool>,
    /// Another source NAT.
    pub source_nat: Option<SourceNat>,
    /// Whether the address is answered for.
    pub answer: Option<bool>,
    /// Whether the socket hook serves it.
    pub socket: Option<bool>,
    /// Whether it is reached at the loopback addresses.
    pub loopback: Option<bool>,
    /// Whether the MSS in its SYNs is lowered.
    pub clamp_mss: Option<bool>,
    /// A timeout of its own for established TCP connections, or (inner `None`) the scope's.
    pub tcp_timeout: Option<Option<Duration>>,
    /// A timeout of its own for UDP, or (inner `None`) the scope's.
    pub udp_timeout: Option<Option<Duration>>,
}

impl ServiceEdit {
    /// The service as it is to be.
    ///
    /// # Errors
    /// [`ModelError::NetmaskWithoutPersistence`]. Whether the parts fit together is not known before
    /// [`Service::checked`].
    pub fn edited(&self, service: &Service) -> Result<Service, ModelError> {
        let mut service = service.clone();
        service.scheduler = self.scheduler.unwrap_or(service.scheduler);
        service.scheduler_flags = self.scheduler_flags.unwrap_or(service.scheduler_flags);
        if let Some(timeout) = self.persistent {
            let new = |timeout| Persistence::new(timeout, service.key.family());
            service.persistence = timeout.map(|timeout| Persistence {
                timeout,
                ..service.persistence.unwrap_or_else(|| new(timeout))
            });
        }
        if let Some(netmask) = self.netmask {
            match &mut service.persistence {
                Some(persistence) => persistence.netmask = netmask,
                None => {
                    return Err(ModelError::NetmaskWithoutPersistence(
                        service.key.to_string(),
                    ));
                }
            }
        }
        service.one_packet = self.one_packet.unwrap_or(service.one_packet);
        service.reset = self.reset.unwrap_or(service.reset);
        service.source_nat = self.source_nat.unwrap_or(service.source_nat);
        service.answer = self.answer.unwrap_or(service.answer);
        service.socket = self.socket.unwrap_or(service.socket);
        service.loopback = self.loopback.unwrap_or(service.loopback);
        service.clamp_mss = self.clamp_mss.unwrap_or(service.clamp_mss);
        service.timeouts.tcp = self.tcp_timeout.unwrap_or(service.timeouts.tcp);
        service.timeouts.udp = self.udp_timeout.unwrap_or(service.timeouts.udp);
        Ok(service)
    }
}

/// Attributes of a server; what is `None` stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ServerEdit {
    /// Another weight.
    pub weight: Option<u32>,
    /// Another forwarding method.
    pub method: Option<ForwardingMethod>,
    /// Another upper threshold.
    pub upper_threshold: Option<u32>,
    /// Another lower threshold.
    pub lower_threshold: Option<u32>,
}

impl ServerEdit {
    /// The server as it is to be.
    #[must_use]
    pub fn edited(&self, server: &Server) -> Server {
        Server {
            weight: self.weight.unwrap_or(server.weight),
            method: self.method.unwrap_or(server.method),
            upper_threshold: self.upper_threshold.unwrap_or(server.upper_threshold),
            lower_threshold: self.lower_threshold.unwrap_or(server.lower_threshold),
            ..*server
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::AddressFamily;

    #[test]
    fn persistence_comes_changes_and_goes() {
        let there = Service::new("tcp:10.0.0.1:80".parse().unwrap(), Scheduler::default());
        let netmask = Netmask::parse("24", AddressFamily::V4).unwrap();
        let minute = Duration::from_secs(60);
        let masked = ServiceEdit {
            netmask: Some(netmask),
            ..ServiceEdit::default()
        };
        assert_eq!(
            masked.edited(&there).unwrap_err().to_string(),
            "the service tcp:10.0.0.1:80 is not persistent, so a netmask means nothing to it"
        );
        let lasting = ServiceEdit {
            persistent: Some(Some(minute)),
            ..ServiceEdit::default()
        };
        let service = lasting.edited(&there).unwrap();
        let full = Persistence::new(minute, AddressFamily::V4);
        assert_eq!(service.persistence, Some(full));
        let service = masked.edited(&service).unwrap();
        // A new timeout keeps the netmask.
        let longer = ServiceEdit {
            persistent: Some(Some(2 * minute)),
            ..ServiceEdit::default()
        };
        let service = longer.edited(&service).unwrap();
        assert_eq!(
            service.persistence,
            Some(Persistence {
                timeout: 2 * minute,
                netmask
            })
        );
        let over = ServiceEdit {
            persistent: Some(None),
            ..ServiceEdit::default()
        };
        assert_eq!(over.edited(&service).unwrap(), there);
    }
}
