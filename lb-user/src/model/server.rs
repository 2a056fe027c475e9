//! A real server of a virtual service.

use std::net::{IpAddr, SocketAddr};

use super::address::{join, parse_address, parse_port, split_port};
use super::{AddressFamily, ForwardingMethod, ModelError, ServiceKey, unicast};

/// The highest weight, as with ipvsadm.
pub const MAX_WEIGHT: u32 = 65_535;

/// A real server: where a service's connections go. Inside a service it is known by address and port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Server {
    /// Its address, unicast.
    pub address: IpAddr,
    /// Its port; 0 keeps the packet's own, which only a fwmark service can have.
    pub port: u16,
    /// 0 to [`MAX_WEIGHT`]; with 0 it gets no new connections and keeps those that it has.
    pub weight: u32,
    /// How packets get there.
    pub method: ForwardingMethod,
}

impl Server {
    /// A server for the service `service`.
    ///
    /// # Errors
    /// An address that is not unicast or of the other family, port 0 where the service has a port, a weight out of
    /// range.
    pub fn new(
        service: &ServiceKey,
        address: SocketAddr,
        weight: u32,
        method: ForwardingMethod,
    ) -> Result<Self, ModelError> {
        let server = Self {
            address: unicast(address.ip())?,
            port: address.port(),
            weight,
            method,
        };
        server.check(service)?;
        Ok(server)
    }

    /// Whether this server can be one of `service`.
    ///
    /// # Errors
    /// As [`Server::new`].
    pub fn check(&self, service: &ServiceKey) -> Result<(), ModelError> {
        unicast(self.address)?;
        if AddressFamily::of(self.address) != service.family() {
            return Err(ModelError::Family {
                server: self.address,
                service: service.to_string(),
            });
        }
        if let (0, Some(port)) = (self.port, service.port()) {
            return Err(ModelError::PortZeroServer(port));
        }
        if self.weight > MAX_WEIGHT {
            return Err(ModelError::Weight(u64::from(self.weight)));
        }
        Ok(())
    }

    /// By which it is known inside its service.
    #[must_use]
    pub fn socket(&self) -> SocketAddr {
        join(self.address, self.port)
    }

    /// Reads `ADDRESS[:PORT]`; without a port it is the service's, or for a fwmark service the packet's own (0).
    ///
    /// # Errors
    /// [`ModelError::ServerAddress`], or what is wrong with its parts.
    pub fn parse_socket(text: &str, service: &ServiceKey) -> Result<SocketAddr, ModelError> {
        let (address, port) = split_port(text);
        let address = parse_address(address).map_err(|_| ModelError::ServerAddress(text.into()))?;
        let port = match port {
            Some(port) => parse_port(port)?,
            None => service.port().unwrap_or(0),
        };
        Ok(join(address, port))
    }
}
