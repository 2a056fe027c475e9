//! `bpvs stats`.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::args::StatsArgs;
use super::output::Output;
use super::table::{counters, large, service_name};
use super::{CliError, Context};
use crate::api::wire::{self, Counters};

/// Moves to the top left and clears the screen.
const CLEAR: &str = "\x1b[H\x1b[2J";

pub(super) async fn stats(
    context: &Context,
    args: &StatsArgs,
    output: &mut Output,
) -> Result<(), CliError> {
    let mut client = context.client().await?;
    let mut last: wire::Stats = client.get("/v1/stats").await?;
    if !args.watch {
        return if args.json {
            output.json(&last)
        } else if args.rate {
            output.text(&rendered(&averages(last), RATES))
        } else {
            output.text(&rendered(&last, TOTALS))
        };
    }
    let mut read = Instant::now();
    let mut second = tokio::time::interval(Duration::from_secs(1));
    second.tick().await;
    loop {
        second.tick().await;
        let now: wire::Stats = client.get("/v1/stats").await?;
        let rates = rates(&last, &now, read.elapsed());
        read = Instant::now();
        if args.json {
            output.json_line(&rates)?;
        } else {
            let clear = if output.is_terminal() { CLEAR } else { "" };
            output.text(&format!("{clear}{}", rendered(&rates, RATES)))?;
        }
        last = now;
    }
}

/// The heads of the columns.
pub(super) type Heads = [&'static str; 5];
/// For counts since the beginning.
pub(super) const TOTALS: Heads = ["Conns", "InPkts", "OutPkts", "InBytes", "OutBytes"];
/// For rates a second.
pub(super) const RATES: Heads = ["CPS", "InPPS", "OutPPS", "InBPS", "OutBPS"];

/// The columns of `ipvsadm -Ln --stats`, and below them in which ways packets left.
pub(super) fn rendered(stats: &wire::Stats, heads: Heads) -> String {
    let mut text = format!("{:<33}", "Prot LocalAddress:Port");
    for head in heads {
        text.push_str(&format!("{head:>9}"));
    }
    text.push_str("\n  -> RemoteAddress:Port\n");
    for service in &stats.services {
        let name = service_name(&service.address);
        text.push_str(&format!("{name:<33}{}\n", counters(&service.counters)));
        for server in &service.servers {
            text.push_str(&format!(
                "  -> {:<28}{}\n",
                server.address,
                counters(&server.counters)
            ));
        }
    }
    let seen: Vec<_> = stats
        .reasons
        .iter()
        .filter(|reason| reason.packets > 0)
        .collect();
    if !seen.is_empty() {
        text.push_str(&format!(
            "\n{:<42}{:>9}{:>9}\n",
            "Packets left as",
            heads[1].trim_start_matches("In"),
            heads[3].trim_start_matches("In")
        ));
        for reason in seen {
            text.push_str(&format!(
                "  {:<40}{}{}\n",
                reason.reason,
                large(reason.packets),
                large(reason.bytes)
            ));
        }
    }
    text
}

/// The rates that the daemon keeps, in place of the counters.
fn averages(mut stats: wire::Stats) -> wire::Stats {
    for service in &mut stats.services {
        service.counters = service.rates;
        for server in &mut service.servers {
            server.counters = server.rates;
        }
    }
    // Of these it keeps none.
    stats.reasons.clear();
    stats.counters = stats.rates;
    stats
}

/// What was added a second between two readings.
pub(super) fn rates(last: &wire::Stats, now: &wire::Stats, elapsed: Duration) -> wire::Stats {
    let milliseconds = u64::try_from(elapsed.as_millis())
        .unwrap_or(u64::MAX)
        .max(1);
    let rate =
        |before: u64, after: u64| after.saturating_sub(before).saturating_mul(1000) / milliseconds;
    let between = |before: Counters, after: Counters| Counters {
        connections: rate(before.connections, after.connections),
        in_packets: rate(before.in_packets, after.in_packets),
        out_packets: rate(before.out_packets, after.out_packets),
        in_bytes: rate(before.in_bytes, after.in_bytes),
        out_bytes: rate(before.out_bytes, after.out_bytes),
    };
    let services: HashMap<_, _> = last
        .services
        .iter()
        .map(|service| (&service.address, service))
        .collect();
    let reasons: HashMap<_, _> = last
        .reasons
        .iter()
        .map(|reason| (&reason.reason, reason))
        .collect();
    let mut rates = now.clone();
    rates.counters = between(last.counters, now.counters);
    for service in &mut rates.services {
        let before = services.get(&service.address);
        service.counters = between(
            before.map(|there| there.counters).unwrap_or_default(),
            service.counters,
        );
        for server in &mut service.servers {
            let there = before.and_then(|service| {
                service
                    .servers
                    .iter()
                    .find(|there| there.address == server.address)
            });
            server.counters = between(
                there.map(|there| there.counters).unwrap_or_default(),
                server.counters,
            );
        }
    }
    for reason in &mut rates.reasons {
        let before = reasons.get(&reason.reason);
        reason.packets = rate(before.map_or(0, |there| there.packets), reason.packets);
        reason.bytes = rate(before.map_or(0, |there| there.bytes), reason.bytes);
    }
    rates
}
