//! A packet as bytes.

use std::vec::Vec;

use crate::{
    abi::{Be16, Be32},
    packet::{Arrival, ETHERNET, Packet},
};

/// What is found in bytes that were inserted and not written yet.
const UNWRITTEN: u8 = 0xa5;

/// A packet from its Ethernet header on, and what its arrival says about it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Bytes {
    /// The packet.
    pub data: Vec<u8>,
    /// How it arrived; `length` is taken from `data` instead.
    pub arrival: Arrival,
    /// Payload bytes of each segment of a GSO packet; 0 if it is not one.
    pub segment_size: u32,
    /// Its sender left the transport checksum to the hardware (`CHECKSUM_PARTIAL`): the field holds the sum
    /// of the pseudo header only, not inverted.
    pub partial: bool,
    /// The cookie of the local socket that sends it; 0 for none.
    pub cookie: u64,
}

impl Bytes {
    /// A packet that was received for this host on the interface `ifindex`.
    pub fn received(data: Vec<u8>, ifindex: u32) -> Self {
        let arrival = Arrival {
            ifindex,
            wire: ifindex,
            to_host: true,
            ..Arrival::default()
        };
        Self {
            data,
            arrival,
            ..Self::default()
        }
    }

    /// A packet that this host sends on the interface `ifindex`.
    pub fn sent(data: Vec<u8>, ifindex: u32) -> Self {
        let arrival = Arrival {
            ifindex,
            egress: true,
            ..Arrival::default()
        };
        Self {
            data,
            arrival,
            ..Self::default()
        }
    }

    fn read<const N: usize>(&self, at: u32) -> Option<[u8; N]> {
        let at = at as usize;
        self.data.get(at..at.checked_add(N)?)?.try_into().ok()
    }

    fn write(&mut self, at: u32, bytes: &[u8]) -> Option<()> {
        let at = at as usize;
        self.data
            .get_mut(at..at.checked_add(bytes.len())?)?
            .copy_from_slice(bytes);
        Some(())
    }

    /// Adds a difference to a transport checksum as the kernel does (`inet_proto_csum_replace_by_diff`),
    /// down to which of the two zeros of one's complement results.
    fn replace_by_difference(
        &mut self,
        at: u32,
        difference: u16,
        pseudo: bool,
        zero_is_none: bool,
    ) -> Option<()> {
        let old = self.u16(at)?.raw();
        if zero_is_none && old == 0 {
            return Some(());
        }
        let mut new = if !self.partial {
            !fold(u64::from(!u32::from(old)) + u64::from(difference))
        } else if pseudo {
            fold(u64::from(old) + u64::from(difference))
        } else {
            old
        };
        if zero_is_none && new == 0 {
            new = 0xffff;
        }
        self.set_u16(at, Be16::from_raw(new))
    }
}

/// Folds with end-around carry. Kept apart from the pipeline's own, which it checks.
fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum as u16
}

impl Packet for Bytes {
    fn u8(&self, at: u32) -> Option<u8> {
        self.read::<1>(at).map(|[byte]| byte)
    }

    fn u16(&self, at: u32) -> Option<Be16> {
        self.read(at)
            .map(|bytes| Be16::from_raw(u16::from_ne_bytes(bytes)))
    }

    fn u32(&self, at: u32) -> Option<Be32> {
        self.read(at)
            .map(|bytes| Be32::from_raw(u32::from_ne_bytes(bytes)))
    }

    fn set_u8(&mut self, at: u32, value: u8) -> Option<()> {
        self.write(at, &[value])
    }

    fn set_u16(&mut self, at: u32, value: Be16) -> Option<()> {
        self.write(at, &value.raw().to_ne_bytes())
    }

    fn set_u32(&mut self, at: u32, value: Be32) -> Option<()> {
        self.write(at, &value.raw().to_ne_bytes())
    }

    fn update_checksum(
        &mut self,
        at: u32,
        addresses: u16,
        ports: u16,
        zero_is_none: bool,
    ) -> Option<()> {
        self.replace_by_difference(at, addresses, true, zero_is_none)?;
        if ports == 0 || ports == 0xffff {
            return Some(());
        }
        self.replace_by_difference(at, ports, false, zero_is_none)
    }

    fn segment_size(&self) -> u32 {
        self.segment_size
    }

    fn truncate(&mut self, length: u32) -> Option<()> {
        if length as usize > self.data.len() {
            return None;
        }
        self.data.truncate(length as usize);
        self.segment_size = 0;
        Some(())
    }

    fn insert_after_ethernet(&mut self, bytes: u32) -> Option<()> {
        let at = ETHERNET as usize;
        if self.data.len() < at {
            return None;
        }
        self.data
            .splice(at..at, core::iter::repeat_n(UNWRITTEN, bytes as usize));
        self.partial = false;
        Some(())
    }

    fn arrival(&self) -> Arrival {
        Arrival {
            length: self.data.len() as u32,
            ..self.arrival
        }
    }

    fn cookie(&self) -> u64 {
        self.cookie
    }
}
