//! The order of listings.
//!
//! ipvsadm compares addresses, ports and marks by the sign of a 32-bit difference. Numbers that are more than 2^31
//! apart compare the wrong way around, so that the order is none in the mathematical sense and the result depends on
//! how it is sorted: by merging, as the C library's `qsort` does. The standard library's sort may panic on such an
//! order, so this is a merge sort of its own.

use std::cmp::Ordering;
use std::net::IpAddr;

use super::super::command::Format;
use super::super::view::{Destination, Service, ServiceId};
use crate::model::{AddressFamily, Protocol};

/// Services and their destinations in ipvsadm's order, or in the kernel's if the format says so.
pub(in super::super) fn sorted(services: Vec<Service>, format: Format) -> Vec<Service> {
    if format.unsorted {
        return services;
    }
    let mut services = services;
    merge_sort(&mut services, &|a, b| by_service(&a.spec.id, &b.spec.id));
    for service in &mut services {
        merge_sort(&mut service.destinations, &by_destination);
    }
    services
}

/// By mark, family, protocol, address and port. A service without a mark has the mark 0, one with a mark no address.
fn by_service(a: &ServiceId, b: &ServiceId) -> Ordering {
    let key = |id: &ServiceId| match *id {
        ServiceId::Address {
            protocol,
            address,
            port,
        } => (
            0,
            AddressFamily::of(address),
            number(Some(protocol)),
            words(address),
            port,
        ),
        ServiceId::Fwmark { mark, family } => (mark, family, number(None), [0; 4], 0),
    };
    let (a, b) = (key(a), key(b));
    difference(a.0, b.0)
        .then(a.1.cmp(&b.1))
        .then(a.2.cmp(&b.2))
        .then_with(|| by_words(a.3, b.3))
        .then(a.4.cmp(&b.4))
}

/// By address and port; an IPv4 address counts as the first word of an IPv6 one.
fn by_destination(a: &Destination, b: &Destination) -> Ordering {
    let (a, b) = (a.spec.id, b.spec.id);
    let (mut of_a, mut of_b) = (words(a.address), words(b.address));
    if a.address.is_ipv4() {
        // Only the first word is looked at then.
        of_a[1..].fill(0);
        of_b[1..].fill(0);
    }
    by_words(of_a, of_b).then(a.port.cmp(&b.port))
}

fn by_words(a: [u32; 4], b: [u32; 4]) -> Ordering {
    a.into_iter().zip(b).fold(Ordering::Equal, |order, (a, b)| {
        order.then(difference(a, b))
    })
}

/// The sign of the difference as a 32-bit number.
fn difference(a: u32, b: u32) -> Ordering {
    a.wrapping_sub(b).cast_signed().cmp(&0)
}

/// The number of a protocol in IP.
const fn number(protocol: Option<Protocol>) -> u8 {
    match protocol {
        None => 0,
        Some(Protocol::Tcp) => 6,
        Some(Protocol::Udp) => 17,
        Some(Protocol::Sctp) => 132,
    }
}

fn words(address: IpAddr) -> [u32; 4] {
    match address {
        IpAddr::V4(address) => [address.to_bits(), 0, 0, 0],
        IpAddr::V6(address) => {
            let bits = address.to_bits();
            [96, 64, 32, 0].map(|shift| ((bits >> shift) & u128::from(u32::MAX)) as u32)
        }
    }
}

/// Sorts the lower half, then the upper one, and merges them; what compares equal keeps its order.
fn merge_sort<T: Clone>(items: &mut [T], order: &dyn Fn(&T, &T) -> Ordering) {
    if items.len() < 2 {
        return;
    }
    let (lower, upper) = items.split_at_mut(items.len() / 2);
    merge_sort(lower, order);
    merge_sort(upper, order);
    let mut merged = Vec::with_capacity(lower.len() + upper.len());
    let (mut a, mut b) = (lower.iter().peekable(), upper.iter().peekable());
    while let (Some(first), Some(second)) = (a.peek(), b.peek()) {
        let from = if order(first, second).is_gt() {
            &mut b
        } else {
            &mut a
        };
        merged.extend(from.next().cloned());
    }
    merged.extend(a.cloned());
    merged.extend(b.cloned());
    items.clone_from_slice(&merged);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merges_as_qsort_does_where_the_order_is_none() {
        // As listed by ipvsadm in a guest; the kernel's order first.
        let mut numbers = [60_u32, 150, 100, 200, 10].map(|byte| byte << 24);
        merge_sort(&mut numbers, &|a, b| difference(*a, *b));
        assert_eq!(numbers.map(|word| word >> 24), [60, 100, 150, 200, 10]);
    }

    #[test]
    fn equal_items_keep_their_order() {
        let mut items = [(1, 'a'), (0, 'b'), (1, 'c'), (0, 'd'), (1, 'e')];
        merge_sort(&mut items, &|a, b| a.0.cmp(&b.0));
        assert_eq!(items, [(0, 'b'), (0, 'd'), (1, 'a'), (1, 'c'), (1, 'e')]);
    }
}
