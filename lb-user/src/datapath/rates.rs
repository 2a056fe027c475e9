//! Rates, by IPVS's rule: every two seconds the average moves a quarter of the way to what was seen since.

use std::time::Duration;

use super::Counters;

/// One part of so many that a count of connections or packets a second is kept in (2^10), and one of bytes (2^5).
const SCALES: [u32; 5] = [10, 10, 10, 5, 5];

/// What is remembered of one service, server or scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Estimate {
    last: [u64; 5],
    average: [u64; 5],
}

impl Estimate {
    /// One that begins now.
    pub(super) fn new(now: Counters) -> Self {
        Self {
            last: now.to_array(),
            average: [0; 5],
        }
    }

    /// Moves the averages by what was counted since the last step (`ip_vs_chain_estimation`).
    pub(super) fn step(&mut self, now: Counters, elapsed: Duration) {
        let milliseconds = elapsed.as_millis().max(1);
        let now = now.to_array();
        for (place, scale) in SCALES.into_iter().enumerate() {
            // Less than before: its place is another one's now, which began at nothing.
            let counted = now[place].checked_sub(self.last[place]);
            let counted = u128::from(counted.unwrap_or(now[place]));
            let rate = ((counted << scale) * 1000 / milliseconds) as i128;
            let average = i128::from(self.average[place]);
            // Rounded towards the smaller, as the kernel's shift does.
            self.average[place] = (average + ((rate - average) >> 2)) as u64;
            self.last[place] = now[place];
        }
    }

    /// Whether another step without anything counted changes nothing.
    pub(super) fn rests(&self) -> bool {
        self.average == [0; 5]
    }

    /// A second, rounded as IPVS shows it.
    pub(super) fn rates(&self) -> Counters {
        let mut shown = [0; 5];
        for ((shown, average), scale) in shown.iter_mut().zip(self.average).zip(SCALES) {
            *shown = (average + (1 << (scale - 1)) - 1) >> scale;
        }
        Counters::from_array(shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: Duration = Duration::from_secs(2);

    fn counters(connections: u64, in_bytes: u64) -> Counters {
        Counters {
            connections,
            in_bytes,
            ..Counters::default()
        }
    }

    /// The kernel's words for a tick of exactly two seconds: `rate = counted << 9` and `<< 4`, `avg += (rate - avg) >> 2`,
    /// shown `(avg + 0x1ff) >> 10` and `(avg + 0xf) >> 5`.
    fn kernel(counts: &[(u64, u64)]) -> (u64, u64) {
        let (mut cps, mut bps) = (0_i64, 0_i64);
        for (connections, bytes) in counts {
            cps += (((connections << 9) as i64) - cps) >> 2;
            bps += (((bytes << 4) as i64) - bps) >> 2;
        }
        ((cps as u64 + 0x1ff) >> 10, (bps as u64 + 0xf) >> 5)
    }

    #[test]
    fn the_figures_are_the_kernels() {
        let counts = [
            (200, 1000),
            (200, 1_000_000),
            (0, 0),
            (1, 7),
            (0, 0),
            (0, 0),
            (3, 3),
            (1_000_000, u64::from(u32::MAX)),
            (0, 0),
            (0, 0),
        ];
        let mut sum = counters(5, 5);
        let mut estimate = Estimate::new(sum);
        for (step, (connections, bytes)) in counts.into_iter().enumerate() {
            sum.connections += connections;
            sum.in_bytes += bytes;
            estimate.step(sum, TWO);
            let shown = estimate.rates();
            assert_eq!(
                (shown.connections, shown.in_bytes),
                kernel(&counts[..=step]),
                "after step {step}"
            );
        }
    }

    #[test]
    fn a_steady_rate_is_reached_and_left() {
        let mut sum = counters(0, 0);
        let mut estimate = Estimate::new(sum);
        for _ in 0..40 {
            sum.connections += 100;
            sum.in_bytes += 4000;
            estimate.step(sum, TWO);
        }
        assert_eq!(estimate.rates(), counters(50, 2000));
        for _ in 0..60 {
            estimate.step(sum, TWO);
        }
        assert_eq!(estimate.rates(), counters(0, 0));
    }

    #[test]
    fn it_rests_once_nothing_is_left_of_what_was_counted() {
        let mut estimate = Estimate::new(counters(0, 0));
        assert!(estimate.rests());
        estimate.step(counters(100, 4000), TWO);
        assert!(!estimate.rests());
        for _ in 0..100 {
            estimate.step(counters(100, 4000), TWO);
        }
        assert!(estimate.rests());
    }

    #[test]
    fn a_place_that_is_anothers_now_has_no_rate_of_billions() {
        let mut estimate = Estimate::new(counters(1_000_000, 7));
        estimate.step(counters(8, 7), TWO);
        assert_eq!(estimate.rates().connections, 1);
    }

    #[test]
    fn a_late_tick_is_no_higher_rate() {
        let step = |elapsed| {
            let mut estimate = Estimate::new(counters(0, 0));
            estimate.step(counters(3000, 0), elapsed);
            estimate.rates().connections
        };
        assert_eq!(step(Duration::from_secs(3)), 250);
        assert_eq!(step(TWO), 375);
    }
}
