//! The parts of a packet's way without functions of their own.

use crate::{
    family::Family,
    packet::Packet,
    pipeline::{self, Parts},
    relay,
    tables::Tables,
};

/// The parts, called directly: everywhere but in a program.
pub struct Direct<'a, F, P, T> {
    packet: &'a mut P,
    tables: &'a T,
    family: core::marker::PhantomData<F>,
}

impl<'a, F: Family, P: Packet, T: Tables<F::Address>> Direct<'a, F, P, T> {
    /// For this packet and these tables.
    pub fn new(packet: &'a mut P, tables: &'a T) -> Self {
        Self {
            packet,
            tables,
            family: core::marker::PhantomData,
        }
    }
}

impl<F: Family, P: Packet, T: Tables<F::Address>> Parts for Direct<'_, F, P, T> {
    const REFUSES: bool = !P::EARLY;

    fn follow(&mut self) -> u64 {
        pipeline::follow::<F, P, T>(self.packet, self.tables)
    }

    fn classify(&mut self) -> u64 {
        pipeline::classify::<F, P, T>(self.packet, self.tables)
    }

    fn relay(&mut self) -> u64 {
        relay::relay::<F, P, T>(self.packet, self.tables)
    }

    fn schedule(&mut self) -> u64 {
        pipeline::schedule(self.tables)
    }

    fn persist(&mut self) -> u64 {
        pipeline::persist(self.tables)
    }

    fn create(&mut self) -> u64 {
        pipeline::create(self.tables)
    }

    fn once(&mut self) -> u64 {
        pipeline::once::<F, P, T>(self.packet, self.tables)
    }

    fn control(&mut self) -> u64 {
        F::control(self.packet, self.tables)
    }

    fn refuse(&mut self, why: u64) -> u64 {
        pipeline::refuse::<F, P, T>(self.packet, self.tables, why)
    }

    fn arp(&mut self) -> u64 {
        F::arp(self.packet, self.tables)
    }
}
