//! The clock of the datapath.

/// A point in time or a span, in units of 2^24 ns (16.8 ms) of `CLOCK_MONOTONIC`.
///
/// A shift instead of a division per packet. 32 bits wrap after 834 days; comparisons are of signed differences, so a
/// deadline may lie up to 417 days ahead, far beyond the 31 days that IPVS allows.
#[repr(transparent)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Tick(pub u32);

impl Tick {
    /// log2 of the nanoseconds of one tick.
    pub const SHIFT: u32 = 24;
    /// The ticks of one second, rounded down: the granularity at which deadlines are written back.
    pub const SECOND: u32 = 59;

    /// From nanoseconds of `CLOCK_MONOTONIC`.
    #[inline(always)]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self((nanos >> Self::SHIFT) as u32)
    }

    /// The ticks of a span in seconds, rounded up.
    pub const fn from_secs(secs: u32) -> Self {
        Self::from_nanos(secs as u64 * 1_000_000_000 + (1 << Self::SHIFT) - 1)
    }

    /// A span in nanoseconds.
    pub const fn nanos(self) -> u64 {
        (self.0 as u64) << Self::SHIFT
    }

    /// This point in time plus a span.
    #[inline(always)]
    #[must_use]
    pub const fn plus(self, span: u32) -> Self {
        Self(self.0.wrapping_add(span))
    }

    /// Ticks from `earlier` to this; negative if this lies before it.
    #[inline(always)]
    pub const fn since(self, earlier: Self) -> i32 {
        self.0.wrapping_sub(earlier.0) as i32
    }
}
