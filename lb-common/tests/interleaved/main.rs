//! Two processors on one connection table, in every order (up to a number of preemptions) of the operations that they
//! can notice of each other. Memory of a deleted entry is used again at once, as the kernel does.

mod explore;
mod packets;
mod processor;
mod scenarios;

use explore::explore;

/// How often a processor is interrupted in the middle, at most. `BPVS_PREEMPTIONS` explores deeper.
fn preemptions() -> usize {
    std::env::var("BPVS_PREEMPTIONS")
        .ok()
        .and_then(|number| number.parse().ok())
        .unwrap_or(3)
}

#[test]
fn no_order_breaks_a_rule() {
    let mut faults = Vec::new();
    for scenario in scenarios::all() {
        match explore(&scenario, preemptions()) {
            Ok(orders) => println!("{}: {orders} orders", scenario.name),
            Err(fault) => faults.push(fault),
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
