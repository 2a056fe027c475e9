//! A real server of a virtual service.

use std::net::{IpAddr, SocketAddr};

use super::address::{join, parse_address, parse_port, split_port};
use super::{AddressFamily, ForwardingMethod, ModelError, ServiceKey, unicast};

/// The highest weight: what the kernel's IPVS takes (a C `int`).
pub const MAX_WEIGHT: u32 = i32::MAX as u32;

/// The highest threshold, likewise.
pub const MAX_THRESHOLD: u32 = i32::MAX as u32;

/// A real server: where a service's connections go. Inside a service it is known by address and port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Server {
    /// Its address, unicast.
    pub address: IpAddr,
    /// Its port; 0 keeps the packet's own.
    pub port: u16,
    /// 0 to [`MAX_WEIGHT`]; with 0 it gets no new connections and keeps those that it has.
    pub weight: u32,
    /// How packets get there.
    pub method: ForwardingMethod,
    /// Connections, active or not, from which on it gets no new ones, at most [`MAX_THRESHOLD`]; 0: as many as come.
    pub upper_threshold: u32,
    /// Connections below which it gets new ones again, at most the upper threshold; 0: three quarters of that.
    pub lower_threshold: u32,
    /// The neighbour by which packets get there whatever the routes say; unicast, of the same family.
    pub via: Option<IpAddr>,
    /// The neighbour by which the replies of its connections go, instead of by the route to the client; likewise.
    pub return_via: Option<IpAddr>,
}

impl Server {
    /// A server for the service `service`, without thresholds.
    ///
    /// # Errors
    /// An address that is not unicast or of the other family, another port than the service's where the forwarding method
    /// keeps it, a weight out of range.
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
            upper_threshold: 0,
            lower_threshold: 0,
            via: None,
            return_via: None,
        };
        server.check(service)?;
        Ok(server)
    }

    /// Whether this server can be one of `service`.
    ///
    /// # Errors
    /// As [`Server::new`]; a threshold out of range, a lower threshold above the upper one.
    pub fn check(&self, service: &ServiceKey) -> Result<(), ModelError> {
        for address in [Some(self.address), self.via, self.return_via] {
            let Some(address) = address else { continue };
            unicast(address)?;
            if AddressFamily::of(address) != service.family() {
                return Err(ModelError::Family {
                    server: address,
                    service: service.to_string(),
                });
            }
        }
        if let (true, Some(port)) = (self.method.keeps_port(), service.port())
            && self.port != port
        {
            return Err(ModelError::ServerPort {
                method: self.method,
                port: self.port,
                service: port,
            });
        }
        if self.upper_threshold > MAX_THRESHOLD {
            return Err(ModelError::Threshold(u64::from(self.upper_threshold)));
        }
        if self.lower_threshold > self.upper_threshold {
            return Err(ModelError::LowerThreshold {
                lower: self.lower_threshold,
                upper: self.upper_threshold,
            });
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

    /// Reads `ADDRESS[:PORT]`; without a port it is the service's, or for a service of all ports the packet's own (0).
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

#[cfg(test)]
mod tests {
    use super::*;

    fn server(
        service: &str,
        address: &str,
        method: ForwardingMethod,
    ) -> Result<Server, ModelError> {
        let key: ServiceKey = service.parse().unwrap();
        let socket = Server::parse_socket(address, &key)?;
        Server::new(&key, socket, 1, method)
    }

    #[test]
    fn direct_routing_keeps_the_port() {
        let direct = ForwardingMethod::Direct;
        assert_eq!(
            server("tcp:10.0.0.1:80", "10.1.0.1", direct).unwrap().port,
            80
        );
        assert_eq!(
            server("tcp:10.0.0.1:80", "10.1.0.1:8080", direct)
                .unwrap_err()
                .to_string(),
            "direct cannot send to port 8080 what came for port 80"
        );
        assert!(server("tcp:10.0.0.1:80", "10.1.0.1:0", direct).is_err());
        // The kernel looks at no port there, and takes any.
        assert!(server("fwmark:7", "10.1.0.1:8080", direct).is_ok());
        let masq = ForwardingMethod::Masquerade;
        assert!(server("tcp:10.0.0.1:80", "10.1.0.1:0", masq).is_ok());
    }

    #[test]
    fn thresholds_and_weights() {
        let there = server("tcp:10.0.0.1:80", "10.1.0.1", ForwardingMethod::Masquerade).unwrap();
        let key: ServiceKey = "tcp:10.0.0.1:80".parse().unwrap();
        let check = |weight, upper_threshold, lower_threshold| {
            Server {
                weight,
                upper_threshold,
                lower_threshold,
                ..there
            }
            .check(&key)
        };
        assert!(check(MAX_WEIGHT, MAX_THRESHOLD, MAX_THRESHOLD).is_ok());
        assert!(check(0, 10, 10).is_ok());
        assert_eq!(
            check(1, 10, 11).unwrap_err().to_string(),
            "the lower threshold 11 is above the upper threshold 10"
        );
        // ERANGE in the kernel, too.
        assert!(check(1, 0, 1).is_err());
        assert_eq!(
            check(1, MAX_THRESHOLD + 1, 0).unwrap_err().to_string(),
            "threshold 2147483648 is out of range"
        );
        assert!(check(MAX_WEIGHT + 1, 0, 0).is_err());
    }
}
