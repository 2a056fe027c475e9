//! Source ports of connections whose source address is translated to one of the director's own.
//!
//! The director's sockets have that address too, and know nothing of the ports that are in use here. One that got the
//! port of a translated connection to the same real server would have its answers led to that connection's client. So
//! the ports that the kernel gives to sockets by itself are not given out while there are others.

use crate::abi::{Be16, Ports};

/// The lowest source port given out, as the kernel's own translation has it.
const FIRST: u32 = 1024;
/// How many ports there are from that one on.
const ALL: u32 = u16::MAX as u32 + 1 - FIRST;

/// The port to try first for a client that has `own`: for a local port always the same other one, and for each another
/// while there are enough. A client that comes back to a port after a while so comes back to its port at the real server,
/// too, where the last connection may be in TIME_WAIT: the server takes a new one only from who has had that.
#[inline(always)]
pub fn first(local: Ports, own: Be16) -> Be16 {
    if local.contain(own.get()) {
        another(local, u32::from(own.get() - local.first))
    } else {
        own
    }
}

/// The port with this number, counted again and again through all ports but the local ones; through all where there are
/// no others.
#[inline(always)]
pub fn another(local: Ports, number: u32) -> Be16 {
    let others = ALL.saturating_sub(local.count());
    let port = if others == 0 {
        FIRST + number % ALL
    } else {
        let port = FIRST + number % others;
        let beyond = local.first != 0 && port >= u32::from(local.first);
        port + if beyond { local.count() } else { 0 }
    };
    Be16::new(port as u16)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn all(local: Ports) -> BTreeSet<u16> {
        (0..ALL)
            .map(|number| another(local, number).get())
            .collect()
    }

    #[test]
    fn all_but_the_local_ones() {
        for (first, last) in [
            (32_768, 60_999),
            (1024, 1024),
            (1024, 65_534),
            (2000, u16::MAX),
        ] {
            let wanted = (1024..=u16::MAX).filter(|port| !(first..=last).contains(port));
            assert_eq!(
                all(Ports { first, last }),
                wanted.collect(),
                "{first} to {last}"
            );
        }
    }

    #[test]
    fn all_where_there_are_no_others() {
        let whole = (1024..=u16::MAX).collect::<BTreeSet<_>>();
        assert_eq!(all(Ports::default()), whole);
        assert_eq!(
            all(Ports {
                first: 1024,
                last: u16::MAX
            }),
            whole
        );
    }

    #[test]
    fn a_clients_own_unless_a_socket_may_have_it() {
        let local = Ports {
            first: 32_768,
            last: 60_999,
        };
        for own in [1, 1023, 1024, 32_767, 61_000, u16::MAX] {
            assert_eq!(first(local, Be16::new(own)).get(), own);
        }
        for own in [32_768, 45_000, 60_999] {
            assert!(!local.contain(first(local, Be16::new(own)).get()));
            assert_eq!(first(Ports::default(), Be16::new(own)).get(), own);
        }
    }

    /// Else two ports of a client's would be one at the real server.
    #[test]
    fn each_local_port_has_its_own_other_one() {
        let local = Ports {
            first: 32_768,
            last: 60_999,
        };
        let others: BTreeSet<u16> = (local.first..=local.last)
            .map(|own| first(local, Be16::new(own)).get())
            .collect();
        assert_eq!(others.len() as u32, local.count());
    }
}
