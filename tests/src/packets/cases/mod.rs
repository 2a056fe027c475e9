//! The cases, by what they are about.

mod checksums;
mod choice;
mod classify;
mod errors;
mod fragments;
mod lengths;
mod lifetime;
mod link;
mod masquerade;
mod methods;
mod neighbours;
mod persistence;
mod refusals;
mod relay;
mod room;
mod schedule;
mod source_nat;
mod states;
mod strangers;

use super::case::Case;

/// All cases.
pub fn all() -> Vec<Case> {
    [
        link::cases,
        lengths::cases,
        masquerade::cases,
        checksums::cases,
        source_nat::cases,
        classify::cases,
        schedule::cases,
        choice::cases,
        methods::cases,
        relay::cases,
        neighbours::cases,
        persistence::cases,
        states::cases,
        strangers::cases,
        lifetime::cases,
        fragments::cases,
        errors::cases,
        refusals::cases,
        room::cases,
    ]
    .iter()
    .flat_map(|cases| cases())
    .collect()
}
