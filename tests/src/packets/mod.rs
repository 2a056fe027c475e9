//! The packet cases: one list for every way to run the pipeline.
//!
//! A [`case::Case`] is a sentence, the tables before it ([`world::World`]), and what happens packet by packet: what goes
//! in, the verdict, the bytes that come out, the counters that move. A [`runner::Runner`] carries it out; what a
//! runner must agree on, down to the bit, is compared in one place for all of them.

pub mod case;
mod cases;
pub mod host;
pub mod ipv6;
pub mod kernel;
pub mod packet;
pub mod runner;
pub mod world;

pub use cases::all;

#[cfg(test)]
mod tests {
    use super::{all, host::Host, runner::run_all};

    #[test]
    fn on_the_host() {
        let cases = all();
        let summary = run_all(&mut Host::default(), &cases);
        println!("host: {summary}");
        assert!(summary.refused.is_empty(), "the host runs every case");
        assert!(summary.failed.is_empty(), "{summary}");
    }

    #[test]
    fn on_the_host_through_xdp() {
        let cases = all();
        let mut host = Host::early();
        let summary = run_all(&mut host, &cases);
        println!("host, XDP first: {summary}");
        for (sentence, reason) in &summary.refused {
            println!("  {sentence}: {reason}");
        }
        assert!(summary.failed.is_empty(), "{summary}");
        // Most are about packets that go on; a pipeline that handed all over would pass every case.
        assert!(host.finished() > summary.packets / 2, "{}", host.finished());
    }

    #[test]
    fn a_tcp_connection_with_128_bit_addresses() {
        assert_eq!(super::ipv6::check(), Ok(()));
    }

    #[test]
    fn every_sentence_is_there_once() {
        let cases = all();
        let mut sentences: Vec<_> = cases.iter().map(|case| &case.sentence).collect();
        sentences.sort();
        let count = sentences.len();
        sentences.dedup();
        assert_eq!(sentences.len(), count);
    }
}
