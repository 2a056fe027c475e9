//! Local sockets on the host.

use super::Memory;
use crate::{
    abi::{Address, ConnKey, KIND_ADDRESS, LOOPBACK, SCOPE_SOCKETS, ServiceKey},
    socket::Sockets,
    tables::InsertError,
};

impl<A: Address> Memory<A> {
    /// Has the socket hook serve the scope, or not.
    pub fn set_socket_hook(&mut self, on: bool) {
        self.set_flag(SCOPE_SOCKETS, on);
    }

    /// Gives a service options: `NO_SOCKET`, `LOOPBACK`.
    pub fn set_options(&mut self, service: u32, options: u8) {
        self.services[service as usize].options.store(options);
        let own = |(key, index): (&ServiceKey<A>, &u32)| {
            (*index == service && key.kind == KIND_ADDRESS).then_some(*key)
        };
        if options & LOOPBACK != 0
            && let Some(key) = self.service_keys.iter().find_map(own)
        {
            let loopback = ServiceKey::loopback(key.scope, key.protocol, key.port);
            self.service_keys.insert(loopback, service);
        }
    }

    /// How many sockets are remembered.
    pub fn sockets(&self) -> usize {
        self.sockets.borrow().len()
    }
}

impl<A: Address> Sockets<A> for Memory<A> {
    fn socket(&self, cookie: u64) -> Option<ConnKey<A>> {
        self.sockets.borrow().get(&cookie).copied()
    }

    fn remember_socket(&self, cookie: u64, connection: &ConnKey<A>) -> Result<(), InsertError> {
        self.sockets.borrow_mut().insert(cookie, *connection);
        Ok(())
    }

    fn forget_socket(&self, cookie: u64) {
        self.sockets.borrow_mut().remove(&cookie);
    }
}
