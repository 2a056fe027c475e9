//! A packet as bytes, before the layer that handles every packet: as in XDP.

use crate::{
    abi::{Be16, Be32},
    host::Bytes,
    packet::{Arrival, Packet},
};

/// A packet as XDP sees it. What is handed over is as it was.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Early(pub Bytes);

impl Packet for Early {
    const EARLY: bool = true;

    fn u8(&self, at: u32) -> Option<u8> {
        self.0.u8(at)
    }

    fn u16(&self, at: u32) -> Option<Be16> {
        self.0.u16(at)
    }

    fn u32(&self, at: u32) -> Option<Be32> {
        self.0.u32(at)
    }

    fn set_u8(&mut self, at: u32, value: u8) -> Option<()> {
        self.0.set_u8(at, value)
    }

    fn set_u16(&mut self, at: u32, value: Be16) -> Option<()> {
        self.0.set_u16(at, value)
    }

    fn set_u32(&mut self, at: u32, value: Be32) -> Option<()> {
        self.0.set_u32(at, value)
    }

    fn update_checksum(
        &mut self,
        at: u32,
        addresses: u16,
        ports: u16,
        zero_is_none: bool,
    ) -> Option<()> {
        self.0.update_checksum(at, addresses, ports, zero_is_none)
    }

    fn segment_size(&self) -> u32 {
        0
    }

    fn truncate(&mut self, _length: u32) -> Option<()> {
        None
    }

    fn insert_after_ethernet(&mut self, _bytes: u32) -> Option<()> {
        None
    }

    fn arrival(&self) -> Arrival {
        self.0.arrival()
    }
}
