//! What many noisy rounds say: medians, spread, and ratios that are paired round by round.

use std::cmp::Ordering;

/// The share of resamples below which a lower bound lies: one-sided 97.5 %, the lower end of a 95 % interval.
const LOWER: f64 = 0.025;
/// How often the rounds are drawn anew.
const RESAMPLES: usize = 2000;

/// The middle of the values; 0 of none.
pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// The least of the values; 0 of none. For counts to which what else goes on can only add.
pub fn least(values: &[f64]) -> f64 {
    quantile(values, 0.0)
}

/// The value below which this share of the values lies.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(|a, b| a.partial_cmp(b).unwrap_or(Ordering::Equal));
    let last = sorted.len().saturating_sub(1);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index, bounded below"
    )]
    let place = (last as f64 * share).round() as usize;
    sorted.get(place.min(last)).copied().unwrap_or(0.0)
}

/// Ratio of what one gets to what another gets in the same rounds: the median, and what it is between with 95 %
/// confidence (bootstrap over rounds, the same draws each time).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ratio {
    /// Median of the rounds' ratios.
    pub median: f64,
    /// Lower bound.
    pub low: f64,
    /// Upper bound.
    pub high: f64,
}

/// A median, and what it is between with 95 % confidence, likewise.
pub type Interval = Ratio;

/// See [`Ratio`].
pub fn ratio(ours: &[f64], theirs: &[f64]) -> Ratio {
    let ratios: Vec<f64> = ours
        .iter()
        .zip(theirs)
        .filter(|(_, theirs)| **theirs > 0.0)
        .map(|(ours, theirs)| ours / theirs)
        .collect();
    interval(&ratios)
}

/// See [`Interval`].
pub fn interval(values: &[f64]) -> Interval {
    let mut random = fastrand::Rng::with_seed(1);
    let resampled: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let drawn: Vec<f64> = (0..values.len())
                .filter_map(|_| random.choice(values).copied())
                .collect();
            median(&drawn)
        })
        .collect();
    Interval {
        median: median(values),
        low: quantile(&resampled, LOWER),
        high: quantile(&resampled, 1.0 - LOWER),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-9, "{a} {b}");
    }

    #[test]
    fn the_middle_is_not_moved_by_one_bad_round() {
        near(median(&[3.0, 1.0, 2.0, 2.0, 1000.0]), 2.0);
        near(median(&[]), 0.0);
    }

    #[test]
    fn a_ratio_is_of_rounds_and_not_of_medians() {
        // The machine is three times as fast in some rounds: each round says twice.
        let theirs = [10.0, 30.0, 10.0, 30.0, 11.0];
        let ours = theirs.map(|value| value * 2.0);
        let twice = ratio(&ours, &theirs);
        near(twice.median, 2.0);
        near(twice.low, 2.0);
        near(twice.high, 2.0);
    }

    #[test]
    fn bounds_hold_what_the_rounds_disagree_about() {
        let theirs = [1.0; 9];
        let ours = [0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6];
        let ratio = ratio(&ours, &theirs);
        near(ratio.median, 1.2);
        assert!(ratio.low < 1.1 && ratio.high > 1.3, "{ratio:?}");
    }
}
