//! Tables made at random, as lines for `--restore`, with a few lines in them that IPVS refuses.
//!
//! Addresses and marks of services stay in the lower half of their range: across the middle ipvsadm's order depends on
//! the kernel's, and that on where things lie in its memory.

use fastrand::Rng;

/// Schedulers of Linux 6.1.
const SCHEDULERS: [&str; 13] = [
    "rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh",
];

/// A table: the lines that make it, and its services as options.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) lines: Vec<String>,
    pub(super) services: Vec<String>,
}

/// The table of this seed.
pub(super) fn table(seed: u64) -> Table {
    let mut random = Rng::with_seed(seed);
    let mut table = Table {
        lines: Vec::new(),
        services: Vec::new(),
    };
    for _ in 0..random.u32(0..8) {
        service(&mut random, &mut table);
    }
    if random.u8(0..4) == 0 {
        let mut seconds = || random.u32(0..4000);
        table
            .lines
            .push(format!("--set {} {} {}", seconds(), seconds(), seconds()));
    }
    table
}

fn service(random: &mut Rng, table: &mut Table) {
    let persistent = random.u8(0..3) == 0;
    let v6 = random.u8(0..4) == 0;
    let address = if v6 {
        address_v6(random)
    } else {
        address_v4(random)
    };
    // Only a persistent service can have port 0.
    let port = match random.u8(0..8) {
        0 if persistent => 0,
        1 => 80,
        2 => 443,
        3 => 53,
        4 => 9000,
        _ => random.u16(1..=u16::MAX),
    };
    let (name, kind) = match random.u8(0..8) {
        0 => (
            format!(
                "-f {}{}",
                random.u32(1..1 << 31),
                if v6 { " -6" } else { "" }
            ),
            Kind::Mark,
        ),
        1 | 2 => (format!("-u {address}:{port}"), Kind::Udp),
        3 => (format!("--sctp-service {address}:{port}"), Kind::Other),
        _ => (format!("-t {address}:{port}"), Kind::Other),
    };
    if table.services.contains(&name) {
        return;
    }
    let attributes = attributes(random, v6, persistent, kind);
    table.lines.push(format!("-A {name}{attributes}"));
    let mut servers: Vec<String> = Vec::new();
    for _ in 0..random.u32(0..6) {
        let server = server(random, v6);
        table
            .lines
            .push(format!("-a {name} -r {server}{}", method(random)));
        servers.push(server);
        if random.u8(0..6) == 0 {
            // Most of the time one that is there, which may have been forced to another port.
            let server = random.choice(&servers).cloned().unwrap_or_default();
            let command = ["-a", "-e", "-e", "-d"][random.usize(0..4)];
            let method = if command == "-d" {
                String::new()
            } else {
                method(random)
            };
            table
                .lines
                .push(format!("{command} {name} -r {server}{method}"));
        }
    }
    match random.u8(0..12) {
        0 => {
            table.lines.push(format!("-D {name}"));
            return;
        }
        1 => {
            let attributes = self::attributes(random, v6, persistent, kind);
            table.lines.push(format!("-E {name}{attributes}"));
        }
        2 => table.lines.push(format!("-A {name} -p")),
        _ => {}
    }
    table.services.push(name);
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Udp,
    Mark,
    Other,
}

/// The options of a service. Their order is ipvsadm's to bear; the netmask comes behind the service.
fn attributes(random: &mut Rng, v6: bool, persistent: bool, kind: Kind) -> String {
    let mut options = Vec::new();
    let scheduler = SCHEDULERS[random.usize(0..SCHEDULERS.len())];
    if random.u8(0..4) > 0 {
        options.push(format!("-s {scheduler}"));
        match (random.u8(0..6), scheduler) {
            (0, "sh" | "mh") => options.push(format!("-b {scheduler}-port")),
            (1, "sh" | "mh") => options.push(format!("-b {scheduler}-fallback,flag-2")),
            (2, _) => options.push(format!("-b flag-{}", random.u8(1..=3))),
            (3, _) => options.push("-b flag-3,flag-1".to_owned()),
            _ => {}
        }
    }
    if persistent {
        options.push(match random.u8(0..3) {
            0 => "--persistent".to_owned(),
            1 => format!("-p {}", random.u32(1..=2_678_400)),
            _ => format!("--persistent={}", random.u32(1..1000)),
        });
        if random.bool() {
            options.push(if v6 {
                format!("-M {}", random.u8(1..=128))
            } else {
                let bits = u32::MAX << random.u32(0..32);
                format!("-M {}", std::net::Ipv4Addr::from_bits(bits))
            });
        }
        if kind == Kind::Udp && random.u8(0..3) == 0 {
            options.push("--pe sip".to_owned());
        }
    }
    if kind != Kind::Other && random.u8(0..3) == 0 {
        options.push("-o".to_owned());
    }
    random.shuffle(&mut options);
    options.iter().map(|option| format!(" {option}")).collect()
}

fn server(random: &mut Rng, v6: bool) -> String {
    let port = match random.u8(0..4) {
        0 => None,
        1 => Some(80),
        2 => Some(8080),
        _ => Some(random.u16(..)),
    };
    match (v6, port) {
        (true, Some(port)) => format!("{}:{port}", address_v6(random)),
        (true, None) => address_v6(random).trim_matches(['[', ']']).to_owned(),
        // The whole range: destinations come from the kernel in a known order. Broadcast and multicast ones are refused.
        (false, _) if random.u8(0..4) == 0 => {
            format!("{}:80", std::net::Ipv4Addr::from_bits(random.u32(..)))
        }
        (false, Some(port)) => format!("{}:{port}", address_v4(random)),
        (false, None) => address_v4(random),
    }
}

fn method(random: &mut Rng) -> String {
    let mut options = Vec::new();
    match random.u8(0..8) {
        0 => {}
        1 => options.push("-g".to_owned()),
        2 => options.push("-i".to_owned()),
        3 => options.push(format!(
            "-i --tun-type gue --tun-port {}{}",
            random.u16(1..),
            ["", " --tun-csum", " --tun-nocsum", " --tun-remcsum"][random.usize(0..4)]
        )),
        4 => options.push(format!(
            "-i --tun-type gre{}",
            ["", " --tun-csum", " --tun-nocsum"][random.usize(0..3)]
        )),
        _ => options.push("-m".to_owned()),
    }
    match random.u8(0..6) {
        0 => options.push("-w 0".to_owned()),
        1 => options.push(format!("--weight {}", random.u32(0..=65_535))),
        2 => options.push(format!("-w{}", random.u32(0..1 << 31))),
        _ => {}
    }
    if random.u8(0..4) == 0 {
        let digits = random.u32(1..31);
        let upper = random.u32(0..1 << digits);
        options.push(format!("-x {upper}"));
        if random.bool() {
            // Now and then above the other, which is refused.
            options.push(format!(
                "-y {}",
                random.u32(0..=upper.saturating_add(upper / 8))
            ));
        }
    }
    random.shuffle(&mut options);
    options.iter().map(|option| format!(" {option}")).collect()
}

fn address_v4(random: &mut Rng) -> String {
    match random.u8(0..6) {
        // One of those that have a name.
        0 => format!("10.9.0.{}", random.u8(1..=4)),
        1 => format!("10.0.0.{}", random.u8(1..4)),
        _ => std::net::Ipv4Addr::from_bits(random.u32(1 << 24..127 << 24)).to_string(),
    }
}

fn address_v6(random: &mut Rng) -> String {
    match random.u8(0..4) {
        0 => format!("[fd09::{}]", random.u8(4..=6)),
        1 => format!("[fd00::{:x}]", random.u16(1..)),
        _ => {
            // Each 32 bits in the lower half of their range, some of them 0, which is written in short.
            let mut groups = [0xfd00, 0, 0, 0, 0, 0, 0, 0];
            for group in &mut groups[2..] {
                if random.bool() {
                    *group = random.u16(..1 << 15);
                }
            }
            format!("[{}]", std::net::Ipv6Addr::from(groups))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_one_table_and_another_seed_another() {
        let lines = |seed| table(seed).lines;
        assert_eq!(lines(1), lines(1));
        assert!((1..20).any(|seed| lines(seed) != lines(seed + 1)));
        assert!((0..50).map(|seed| lines(seed).len()).max() > Some(20));
    }
}
