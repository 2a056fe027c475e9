//! Several networks with the same addresses in each, side by side: what only keeping scopes apart
//! can serve.

use anyhow::Result;

use super::director::{Director, Options};
use crate::lab::Lab;

/// Builds `count` director networks; hosts and tasks of the first are `s1-client`, `s1-director`,
/// `s1-rs1` and so on.
pub fn build(lab: &Lab, count: u8) -> Result<Vec<Director>> {
    (1..=count)
        .map(|number| {
            Director::build(
                lab,
                &Options {
                    prefix: format!("s{number}-"),
                    ..Options::default()
                },
            )
        })
        .collect()
}
