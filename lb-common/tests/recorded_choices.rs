//! What the kernel's IPVS chose, packet by packet, recorded from Linux 6.1 (`fixtures/ipvs-choices.txt`, which says how to
//! read it): the schedulers must choose the same.

use std::collections::HashMap;

use lb_common::{
    abi::{
        Address as _, Be16, ConnKey, SCHEDULER_DH, SCHEDULER_FLAG_1, SCHEDULER_FLAG_2,
        SCHEDULER_FO, SCHEDULER_LBLC, SCHEDULER_LBLCR, SCHEDULER_LC, SCHEDULER_MH, SCHEDULER_NQ,
        SCHEDULER_OVF, SCHEDULER_RR, SCHEDULER_SED, SCHEDULER_SH, SCHEDULER_WLC, SCHEDULER_WRR, V4,
    },
    host::{Capacity, Memory, ServerSpec, ServiceSpec},
    schedule::{self, Request},
    tables::Tables as _,
};

const RECORD: &str = include_str!("fixtures/ipvs-choices.txt");

fn scheduler(name: &str) -> u8 {
    match name {
        "rr" => SCHEDULER_RR,
        "wrr" => SCHEDULER_WRR,
        "lc" => SCHEDULER_LC,
        "wlc" => SCHEDULER_WLC,
        "sed" => SCHEDULER_SED,
        "nq" => SCHEDULER_NQ,
        "fo" => SCHEDULER_FO,
        "ovf" => SCHEDULER_OVF,
        "dh" => SCHEDULER_DH,
        "sh" => SCHEDULER_SH,
        "mh" => SCHEDULER_MH,
        "lblc" => SCHEDULER_LBLC,
        "lblcr" => SCHEDULER_LBLCR,
        _ => panic!("no scheduler {name}"),
    }
}

fn address(text: &str) -> V4 {
    let address: std::net::Ipv4Addr = text.parse().expect("an address");
    V4::new(address.octets())
}

fn number<N: std::str::FromStr>(text: &str) -> N {
    text.parse().ok().expect("a number")
}

/// A service as the record goes through it.
struct Replay {
    memory: Memory<V4>,
    service: u32,
    /// By address and port; the upper threshold.
    servers: HashMap<(V4, u16), (u32, u32)>,
    chosen: usize,
}

impl Replay {
    fn new(name: &str, flags: &str, kind: &str) -> Self {
        let capacity = Capacity {
            objects: 64,
            ..Capacity::default()
        };
        let mut memory = Memory::new(1, capacity);
        let mut spec = match kind {
            "mark" => ServiceSpec::fwmark(1),
            _ => ServiceSpec::address(6, V4::new([10, 0, 0, 100]), 80),
        };
        spec.scheduler = scheduler(name);
        for flag in flags.split(',') {
            spec.flags |= match flag {
                "sh-fallback" | "mh-fallback" => SCHEDULER_FLAG_1,
                "sh-port" | "mh-port" => SCHEDULER_FLAG_2,
                "-" => 0,
                _ => panic!("no flag {flag}"),
            };
        }
        Self {
            service: memory.add_service(&spec).expect("room"),
            memory,
            servers: HashMap::new(),
            chosen: 0,
        }
    }

    fn line(&mut self, words: &[&str]) {
        match *words {
            ["server", host, port, weight, upper] => {
                let (address, port) = (address(host), number(port));
                let spec = ServerSpec {
                    address,
                    port,
                    weight: number(weight),
                };
                let index = self.memory.add_server(self.service, &spec).expect("room");
                self.servers.insert((address, port), (index, number(upper)));
            }
            ["weight", host, port, weight] => {
                let (index, _) = self.servers[&(address(host), number(port))];
                self.memory.set_weight(index, number(weight));
            }
            ["remove", host, port] => {
                let gone = self.servers.remove(&(address(host), number(port)));
                self.memory.remove_server(gone.expect("the real server").0);
            }
            ["scheduler", name, "-"] => {
                // As it took in the recording: what was used in the same tick would still count.
                self.memory.advance(std::time::Duration::from_secs(1));
                assert!(self.memory.set_scheduler(self.service, scheduler(name)));
            }
            ["packet", protocol, src, sport, dst, dport, wanted] => {
                let key = ConnKey {
                    src: address(src),
                    dst: address(dst),
                    sport: Be16::new(number(sport)),
                    dport: Be16::new(number(dport)),
                    scope_protocol: 0,
                };
                let chosen = self.connection(key, protocol == "tcp");
                assert_eq!(chosen, wanted, "{}", words.join(" "));
                self.chosen += 1;
            }
            _ => panic!("not understood: {}", words.join(" ")),
        }
    }

    /// Makes a connection, which counts as in IPVS from its first packet on.
    fn connection(&self, key: ConnKey<V4>, active: bool) -> String {
        let service = self.memory.service(self.service).expect("the service");
        let request = Request::new(service, self.service, key);
        let pick = schedule::pick(&self.memory, &request);
        if pick.server == 0 {
            return "none".to_owned();
        }
        assert!(schedule::commit(&self.memory, service, &pick));
        let server = self.memory.server(pick.server).expect("the real server");
        server.total.store(server.total.load() + 1);
        server
            .active
            .store(server.active.load() + u32::from(active));
        let upper = self
            .servers
            .values()
            .find(|(index, _)| *index == pick.server);
        let upper = upper.expect("one that is there").1;
        let full = upper != 0 && server.total.load() >= upper;
        server.overload.store(u32::from(full));
        let port = match server.port.load() {
            Be16::ZERO => key.dport,
            port => port,
        };
        let [a, b, c, d] = V4::from_words(server.address.load()).0.octets();
        format!("{a}.{b}.{c}.{d}:{}", port.get())
    }
}

#[test]
fn as_the_kernel_chose() {
    let mut cases: HashMap<&str, usize> = HashMap::new();
    let mut replay: Option<Replay> = None;
    let mut case = "";
    let lines = RECORD.lines().map(str::trim);
    for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match (words.as_slice(), &mut replay) {
            (["case", ..], _) => case = line,
            (["service", name, flags, kind], _) => replay = Some(Replay::new(name, flags, kind)),
            (words, Some(replay)) => {
                replay.line(words);
                cases.insert(case, replay.chosen);
            }
            _ => panic!("before any case: {line}"),
        }
    }
    // The record is there and has what it is for.
    for scheduler in [
        "dh",
        "sh -",
        "sh sh-port",
        "sh sh-fallback",
        "mh -",
        "mh mh-port",
        "mh mh-fallback",
    ] {
        let chosen = cases.get(format!("case {scheduler}").as_str()).copied();
        assert!(chosen.unwrap_or(0) >= 64, "{scheduler}: {chosen:?}");
    }
}
