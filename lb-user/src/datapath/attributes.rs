//! What the maps say of a service and of a server, but for how they hang together.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use lb_common::abi::{
    self, ANSWER, Address, Be16, Be32, CLAMP_MSS, LOOPBACK, METHOD_DIRECT, METHOD_MASQUERADE,
    NO_SOCKET, ONE_PACKET, PERSISTENT, RELAY, RESET, SCHEDULER_FLAG_1, SCHEDULER_FLAG_2,
    SCHEDULER_FLAG_3, SOURCE_NAT, V4,
};

use super::{DatapathError, words};
use crate::model::{
    ForwardingMethod, Netmask, Persistence, SchedulerFlags, Server, Service, ServiceKey,
    ServiceTimeouts, SourceNat,
};

const SCHEDULER_FLAGS: [u8; 3] = [SCHEDULER_FLAG_1, SCHEDULER_FLAG_2, SCHEDULER_FLAG_3];

/// Writes all that is set of a service but its scheduler, which is bound together with its table. New connections may meet
/// some of it before the rest; that it is persistent they learn after how, and that it no longer is before the rest of it
/// goes.
pub(super) fn write_service(place: &abi::Service, service: &Service) -> Result<(), DatapathError> {
    let (nat, address) = match service.source_nat {
        SourceNat::Off => (0, [Be32::ZERO; 4]),
        SourceNat::Interface => (SOURCE_NAT, [Be32::ZERO; 4]),
        SourceNat::Address(address) => (SOURCE_NAT, words::address_words(address)?),
    };
    let persistence = service.persistence;
    let netmask = persistence
        .map(|persistence| netmask_words(persistence.netmask))
        .transpose()?;

    let switches = [
        (service.answer, ANSWER),
        (persistence.is_some(), PERSISTENT),
        (service.one_packet, ONE_PACKET),
        (service.reset, RESET),
    ];
    let scheduler = service
        .scheduler_flags
        .bits()
        .into_iter()
        .zip(SCHEDULER_FLAGS);
    let flags = switches
        .into_iter()
        .chain(scheduler)
        .filter(|(set, _)| *set)
        .fold(nat, |all, (_, flag)| all | flag);

    let (tcp, udp) = (service.timeouts.tcp, service.timeouts.udp);
    place.tcp_timeout.store(tcp.map_or(0, words::ticks));
    place.udp_timeout.store(udp.map_or(0, words::ticks));
    place.tcp_seconds.store(tcp.map_or(0, words::seconds));
    place.udp_seconds.store(udp.map_or(0, words::seconds));
    place.nat_address.store(address);
    let options = [
        (!service.socket, NO_SOCKET),
        (service.loopback, LOOPBACK),
        (service.relay, RELAY),
        (service.clamp_mss, CLAMP_MSS),
    ];
    place.options.store(
        options
            .into_iter()
            .filter(|(set, _)| *set)
            .fold(0, |all, (_, option)| all | option),
    );
    if persistence.is_none() {
        place.flags.store(flags);
    }
    let timeout = persistence.map(|persistence| persistence.timeout);
    place.netmask.store(netmask.unwrap_or_default());
    place.persistence.store(timeout.map_or(0, words::ticks));
    place
        .persistence_seconds
        .store(timeout.map_or(0, words::seconds));
    place.flags.store(flags);
    Ok(())
}

/// What of a service's key its packets are judged by.
pub(super) fn write_key(place: &abi::Service, key: &ServiceKey) {
    let (mark, port) = match *key {
        ServiceKey::Address { port, .. } => (0, port),
        ServiceKey::Fwmark { mark, .. } => (mark, 0),
    };
    place.mark.store(mark);
    place.port.store(Be16::new(port));
}

/// Back from [`write_service`], without servers.
pub(super) fn read_service(place: &abi::Service, key: ServiceKey) -> Service {
    let flags = place.flags.load();
    let own = V4::from_words(place.nat_address.load());
    let source_nat = match (flags & SOURCE_NAT != 0, own) {
        (false, _) => SourceNat::Off,
        (true, V4(Be32::ZERO)) => SourceNat::Interface,
        (true, own) => SourceNat::Address(words::address(own)),
    };
    let span = |seconds: u32| Duration::from_secs(seconds.into());
    let some = |seconds: u32| (seconds != 0).then(|| span(seconds));
    let persistence = (flags & PERSISTENT != 0).then(|| Persistence {
        timeout: span(place.persistence_seconds.load()),
        netmask: netmask(place.netmask.load()),
    });
    Service {
        scheduler_flags: SchedulerFlags::new(SCHEDULER_FLAGS.map(|flag| flags & flag != 0)),
        persistence,
        one_packet: flags & ONE_PACKET != 0,
        reset: flags & RESET != 0,
        source_nat,
        answer: flags & ANSWER != 0,
        socket: place.options.load() & NO_SOCKET == 0,
        loopback: place.options.load() & LOOPBACK != 0,
        relay: place.options.load() & RELAY != 0,
        clamp_mss: place.options.load() & CLAMP_MSS != 0,
        timeouts: ServiceTimeouts {
            tcp: some(place.tcp_seconds.load()),
            udp: some(place.udp_seconds.load()),
        },
        ..Service::new(key, words::scheduler(place.scheduler.load()))
    }
}

/// The bits as they lie in an address.
fn netmask_words(netmask: Netmask) -> Result<[Be32; 4], DatapathError> {
    match netmask {
        Netmask::V4(mask) => Ok(V4::new(mask.octets()).words()),
        Netmask::V6(bits) => Err(DatapathError::Unsupported {
            what: format!("an IPv6 netmask ({bits})"),
        }),
    }
}

/// Back from [`netmask_words`].
fn netmask(words: [Be32; 4]) -> Netmask {
    Netmask::V4(Ipv4Addr::from(V4::from_words(words).0.octets()))
}

/// Writes all that can be edited of a server. `new`: it was not in a list before.
pub(super) fn write_server(place: &abi::Server, server: &Server, new: bool) {
    place.method.store(method_number(server.method));
    place.upper_threshold.store(server.upper_threshold);
    place.lower_threshold.store(server.lower_threshold);
    // One of another family is refused before.
    let neighbour = |address: Option<IpAddr>| {
        let words = address.and_then(|address| words::address_words(address).ok());
        words.unwrap_or_default()
    };
    place.via.store(neighbour(server.via));
    place.return_via.store(neighbour(server.return_via));
    place.overload.store(u32::from(overloaded(
        server,
        place.total.load(),
        place.overload.load() != 0,
    )));
    // What mh goes by: a server that is taken out of rotation keeps its part of the table (__ip_vs_update_dest).
    if new || server.weight != 0 {
        place.last_weight.store(server.weight);
    }
    place.weight.store(server.weight);
}

/// Whether a server takes no more, with so many connections: it has reached its upper threshold, or has done so and not
/// yet come below the lower one (`ip_vs_dest_update_overload`).
fn overloaded(server: &Server, connections: u32, before: bool) -> bool {
    let upper = server.upper_threshold;
    let lower = match server.lower_threshold {
        0 => upper - upper / 4,
        lower => lower,
    };
    upper != 0 && (connections >= upper || before && connections >= lower)
}

/// Back from [`write_server`].
pub(super) fn read_server(place: &abi::Server) -> Server {
    let neighbour = |next: Option<V4>| next.map(words::address);
    Server {
        address: words::address(V4::from_words(place.address.load())),
        port: place.port.load().get(),
        weight: place.weight.load(),
        method: method(place.method.load()),
        upper_threshold: place.upper_threshold.load(),
        lower_threshold: place.lower_threshold.load(),
        via: neighbour(place.next(false)),
        return_via: neighbour(place.next(true)),
    }
}

const fn method_number(method: ForwardingMethod) -> u8 {
    match method {
        ForwardingMethod::Masquerade => METHOD_MASQUERADE,
        ForwardingMethod::Direct => METHOD_DIRECT,
    }
}

const fn method(number: u8) -> ForwardingMethod {
    match number {
        METHOD_DIRECT => ForwardingMethod::Direct,
        _ => ForwardingMethod::Masquerade,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::control::testing::table_strategy;

    /// Map memory as it may have been left: with ones everywhere that nobody may read.
    fn service_place() -> abi::Service {
        let all = Be32::from_raw(u32::MAX);
        abi::Service {
            cursor: 0.into_shared(),
            head: 0.into_shared(),
            wrr_start: 0.into_shared(),
            wrr_step: 0.into_shared(),
            scheduler: u8::MAX.into_shared(),
            flags: u8::MAX.into_shared(),
            kind: 0.into_shared(),
            options: abi::Shared::new(0),
            nat_address: [all; 4].into_shared(),
            tcp_timeout: u32::MAX.into_shared(),
            udp_timeout: u32::MAX.into_shared(),
            tcp_seconds: u32::MAX.into_shared(),
            udp_seconds: u32::MAX.into_shared(),
            buckets: 0.into_shared(),
            netmask: [all; 4].into_shared(),
            persistence: u32::MAX.into_shared(),
            persistence_seconds: u32::MAX.into_shared(),
            mark: u32::MAX.into_shared(),
            port: Be16::from_raw(u16::MAX).into_shared(),
            pad2: 0,
            bound: 0.into_shared(),
            pad3: [0; 7],
        }
    }

    trait IntoShared: Copy {
        fn into_shared(self) -> abi::Shared<Self>;
    }

    impl<T: Copy> IntoShared for T {
        fn into_shared(self) -> abi::Shared<Self> {
            abi::Shared::new(self)
        }
    }

    fn server_place() -> abi::Server {
        abi::Server {
            address: [Be32::ZERO; 4].into_shared(),
            port: Be16::ZERO.into_shared(),
            method: 0.into_shared(),
            flags: 0.into_shared(),
            service: 0.into_shared(),
            next: 0.into_shared(),
            weight: 0.into_shared(),
            upper_threshold: 0.into_shared(),
            lower_threshold: 0.into_shared(),
            last_weight: 0.into_shared(),
            life: 0.into_shared(),
            via: [Be32::ZERO; 4].into_shared(),
            active: 0.into_shared(),
            total: 0.into_shared(),
            templates: 0.into_shared(),
            overload: 0.into_shared(),
            return_via: [Be32::ZERO; 4].into_shared(),
            pad2: [0; 8],
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(table in table_strategy()) {
            for service in table.services() {
                let place = service_place();
                place.scheduler.store(words::scheduler_number(service.scheduler));
                write_service(&place, service).unwrap();
                prop_assert_eq!(&read_service(&place, service.key), &service.without_servers());
                for server in &service.servers {
                    let place = server_place();
                    place.address.store(words::address_words(server.address).unwrap());
                    place.port.store(Be16::new(server.port));
                    write_server(&place, server, true);
                    prop_assert_eq!(&read_server(&place), server);
                }
            }
        }
    }

    #[test]
    fn the_netmask_is_in_network_order_and_the_timeout_in_both_units() {
        let mut service = Service::new("tcp:10.0.0.1:80".parse().unwrap(), "rr".parse().unwrap());
        service.persistence = Some(Persistence {
            timeout: Duration::from_secs(360),
            netmask: Netmask::V4([255, 255, 255, 0].into()),
        });
        let place = service_place();
        write_service(&place, &service).unwrap();
        write_key(&place, &service.key);
        assert_eq!(place.netmask.load()[0].octets(), [255, 255, 255, 0]);
        assert_eq!(place.netmask.load()[1], Be32::ZERO);
        assert_eq!(place.persistence_seconds.load(), 360);
        assert_eq!(
            place.persistence.load(),
            words::ticks(Duration::from_secs(360))
        );
        assert_eq!((place.port.load().get(), place.mark.load()), (80, 0));
        write_key(&place, &"fwmark:256".parse().unwrap());
        assert_eq!((place.port.load().get(), place.mark.load()), (0, 256));
    }

    #[test]
    fn overload_is_judged_anew_by_an_edit() {
        let server = |upper_threshold, lower_threshold| {
            let key = "tcp:10.0.0.1:80".parse().unwrap();
            let socket = "10.1.0.1:80".parse().unwrap();
            let server = Server::new(&key, socket, 1, ForwardingMethod::Masquerade).unwrap();
            Server {
                upper_threshold,
                lower_threshold,
                ..server
            }
        };
        // upper, lower, connections, before, after
        for (upper, lower, connections, before, after) in [
            (0, 0, 1_000_000, true, false),
            (10, 0, 9, false, false),
            (10, 0, 10, false, true),
            (10, 0, 8, true, true),
            (10, 0, 7, true, false),
            (10, 2, 2, true, true),
            (10, 2, 1, true, false),
            (1, 0, 0, true, false),
            (1, 0, 1, false, true),
        ] {
            let place = server_place();
            place.total.store(connections);
            place.overload.store(u32::from(before));
            write_server(&place, &server(upper, lower), false);
            let says = format!("{upper} {lower} {connections} {before}");
            assert_eq!(place.overload.load() != 0, after, "{says}");
        }
    }

    #[test]
    fn the_last_weight_that_was_not_zero_is_kept() {
        let key = "tcp:10.0.0.1:80".parse().unwrap();
        let socket = "10.1.0.1:80".parse().unwrap();
        let weighing = |weight| Server::new(&key, socket, weight, ForwardingMethod::Masquerade);
        let place = server_place();
        let last = |weight, new| {
            write_server(&place, &weighing(weight).unwrap(), new);
            (place.weight.load(), place.last_weight.load())
        };
        assert_eq!(last(5, true), (5, 5));
        assert_eq!(last(0, false), (0, 5));
        assert_eq!(last(7, false), (7, 7));
        assert_eq!(last(0, true), (0, 0));
    }
}
