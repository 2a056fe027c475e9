//! What a real server carries: its counts, and whether its thresholds let it take more (ip_vs_bind_dest,
//! ip_vs_unbind_dest).

use crate::{
    abi::{Address, Server},
    tables::Tables,
};

/// A connection has come.
#[inline(always)]
pub fn bind<A: Address, T: Tables<A>>(tables: &T, server: &Server) {
    tables.add(&server.total, 1);
    check_upper(server);
}

/// A connection has gone; `active`: it counted as active.
#[inline(always)]
pub fn unbind<A: Address, T: Tables<A>>(tables: &T, server: &Server, active: bool) {
    tables.add(&server.total, u32::MAX);
    if active {
        tables.add(&server.active, u32::MAX);
    }
    check_lower(server);
}

/// A persistence template names it.
#[inline(always)]
pub fn bind_template<A: Address, T: Tables<A>>(tables: &T, server: u32) {
    if let Some(server) = tables.server(server) {
        tables.add(&server.templates, 1);
        check_upper(server);
    }
}

/// A persistence template that named it has gone.
#[inline(always)]
pub fn unbind_template<A: Address, T: Tables<A>>(tables: &T, server: u32) {
    if let Some(server) = tables.server(server) {
        tables.add(&server.templates, u32::MAX);
        check_lower(server);
    }
}

#[inline(always)]
fn check_upper(server: &Server) {
    let upper = server.upper_threshold.load();
    if upper != 0 && server.total.load() >= upper {
        server.overload.store(1);
    }
}

#[inline(always)]
fn check_lower(server: &Server) {
    if server.overload.load() == 0 {
        return;
    }
    let total = u64::from(server.total.load());
    let lower = u64::from(server.lower_threshold.load());
    let upper = u64::from(server.upper_threshold.load());
    let clear = if lower != 0 {
        total < lower
    } else {
        upper == 0 || total * 4 < upper * 3
    };
    if clear {
        server.overload.store(0);
    }
}
