//! Names of hosts and services.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs as _};
use std::sync::{Mutex, PoisonError};

use crate::model::Protocol;

/// Looks up names, both ways.
pub trait Names {
    /// The IPv4 address of a host; ipvsadm looks up no other.
    fn address(&self, host: &str) -> Option<Ipv4Addr>;

    /// The port of a service.
    fn port(&self, service: &str, protocol: Protocol) -> Option<u16>;

    /// The name of the host with this address.
    fn host(&self, address: IpAddr) -> Option<String>;

    /// The name of the service at this port.
    fn service(&self, port: u16, protocol: Protocol) -> Option<String>;
}

/// The names that this machine knows.
#[derive(Debug, Clone, Copy, Default)]
pub struct System;

/// The functions below answer in memory that the next call overwrites.
static SERVICES: Mutex<()> = Mutex::new(());

impl Names for System {
    fn address(&self, host: &str) -> Option<Ipv4Addr> {
        if host.is_empty() {
            return None;
        }
        let found = (host, 0).to_socket_addrs().ok()?;
        found
            .filter_map(|address| match address {
                SocketAddr::V4(address) => Some(*address.ip()),
                SocketAddr::V6(_) => None,
            })
            .next()
    }

    fn port(&self, service: &str, protocol: Protocol) -> Option<u16> {
        let service = CString::new(service).ok()?;
        let protocol = CString::new(protocol.to_string()).ok()?;
        let _alone = SERVICES.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: both arguments are strings that end with a zero and outlive the call. The answer is null or points to
        // memory of the C library that stays as it is until the next call, which the lock keeps away.
        let port =
            unsafe { libc::getservbyname(service.as_ptr(), protocol.as_ptr()).as_ref()? }.s_port;
        u16::try_from(port).ok().map(u16::from_be)
    }

    fn host(&self, address: IpAddr) -> Option<String> {
        // Where there is no name, it writes the address.
        dns_lookup::lookup_addr(&address)
            .ok()
            .filter(|name| name.parse::<IpAddr>().is_err())
    }

    fn service(&self, port: u16, protocol: Protocol) -> Option<String> {
        let protocol = CString::new(protocol.to_string()).ok()?;
        let _alone = SERVICES.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: as in `port`; the name is a string that ends with a zero, and copied before the lock is given back.
        let name = unsafe {
            let found = libc::getservbyport(i32::from(port.to_be()), protocol.as_ptr()).as_ref()?;
            CStr::from_ptr(found.s_name)
        };
        Some(name.to_string_lossy().into_owned())
    }
}

/// Names out of texts in the forms of `/etc/hosts` and `/etc/services`; nothing else is known.
#[derive(Debug, Clone, Default)]
pub struct Table {
    addresses: HashMap<String, Vec<IpAddr>>,
    hosts: HashMap<IpAddr, String>,
    ports: HashMap<(String, String), u16>,
    services: HashMap<(u16, String), String>,
}

impl Table {
    /// Reads the texts. What comes first counts; what is not understood is left out.
    #[must_use]
    pub fn new(hosts: &str, services: &str) -> Self {
        let mut table = Self::default();
        for mut words in hosts.lines().map(str::split_whitespace) {
            let Some(address) = words.next().and_then(|word| word.parse::<IpAddr>().ok()) else {
                continue;
            };
            for name in words {
                let host = table.hosts.entry(address);
                host.or_insert_with(|| name.to_owned());
                let addresses = table.addresses.entry(name.to_lowercase());
                addresses.or_default().push(address);
            }
        }
        for mut words in services.lines().map(str::split_whitespace) {
            let (Some(name), Some((port, protocol))) = (
                words.next(),
                words.next().and_then(|word| word.split_once('/')),
            ) else {
                continue;
            };
            let Ok(port) = port.parse() else { continue };
            let service = table.services.entry((port, protocol.to_owned()));
            service.or_insert_with(|| name.to_owned());
            for name in std::iter::once(name).chain(words) {
                let number = table.ports.entry((name.to_owned(), protocol.to_owned()));
                number.or_insert(port);
            }
        }
        table
    }
}

impl Names for Table {
    fn address(&self, host: &str) -> Option<Ipv4Addr> {
        let addresses = self.addresses.get(&host.to_lowercase())?;
        addresses.iter().find_map(|address| match address {
            IpAddr::V4(address) => Some(*address),
            IpAddr::V6(_) => None,
        })
    }

    fn port(&self, service: &str, protocol: Protocol) -> Option<u16> {
        let key = (service.to_owned(), protocol.to_string());
        self.ports.get(&key).copied()
    }

    fn host(&self, address: IpAddr) -> Option<String> {
        self.hosts.get(&address).cloned()
    }

    fn service(&self, port: u16, protocol: Protocol) -> Option<String> {
        self.services.get(&(port, protocol.to_string())).cloned()
    }
}
