//! Random scripts. A seed always gives the same script.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::names;
use super::run::Script;
use super::step::{FLAGS, Kind, Packet, Protocol, Show, Step, Sum, Way, flags};

/// Of what random scripts are made.
#[derive(Debug, Clone, Copy)]
pub struct Profile {
    name: &'static str,
    schedulers: &'static [&'static str],
    /// Whether some real servers are reached by direct routing.
    direct: bool,
    /// Persistence, one-packet scheduling, thresholds.
    options: bool,
    /// Firewall marks.
    marks: bool,
    settings: bool,
    errors: bool,
}

/// The profiles that there are. `twos` draws at random and is compared elsewhere.
const PROFILES: &[Profile] = &[
    Profile {
        name: "all",
        schedulers: &[
            "rr", "wrr", "lc", "wlc", "sed", "nq", "fo", "ovf", "dh", "sh", "mh", "lblc", "lblcr",
        ],
        direct: true,
        options: true,
        marks: true,
        settings: true,
        errors: true,
    },
    Profile {
        name: "schedulers",
        schedulers: &[
            "rr", "wrr", "lc", "wlc", "sed", "nq", "fo", "ovf", "dh", "sh", "mh", "lblc", "lblcr",
        ],
        direct: false,
        options: false,
        marks: false,
        settings: false,
        errors: false,
    },
    Profile {
        name: "basic",
        schedulers: &["rr", "wrr"],
        direct: false,
        options: false,
        marks: false,
        settings: false,
        errors: true,
    },
];

/// Flags of a segment.
const SYN: u8 = 2;
const RST: u8 = 4;

/// A service of the script.
#[derive(Debug, Clone)]
struct Service {
    /// Its option and address for ipvsadm.
    key: Vec<String>,
    protocol: Protocol,
    address: SocketAddrV4,
    servers: Vec<String>,
    /// Whether the choice of a server depends on how many connections each has.
    counts: bool,
}

/// A script in the making.
struct Maker {
    profile: Profile,
    random: Random,
    services: Vec<Service>,
    flows: Vec<(Protocol, SocketAddrV4, SocketAddrV4)>,
    /// How many clients came that had to be new ones.
    newcomers: usize,
    /// Whether both count alike: what a removed server still sends is counted by bpvs only, and an
    /// error of the director's own about direct routing by IPVS only.
    counts_alike: bool,
    steps: Vec<Step>,
}

impl Profile {
    /// The profile of this name.
    ///
    /// # Errors
    ///
    /// Where there is none.
    pub fn named(name: &str) -> Result<Self, String> {
        let names: Vec<_> = PROFILES.iter().map(|profile| profile.name).collect();
        PROFILES
            .iter()
            .copied()
            .find(|profile| profile.name == name)
            .ok_or_else(|| format!("there are {}", names.join(", ")))
    }

    /// The script of this seed, of about so many steps.
    pub fn script(&self, seed: u64, steps: usize) -> Script {
        let mut maker = Maker {
            profile: *self,
            random: Random::of(seed),
            services: Vec::new(),
            flows: Vec::new(),
            newcomers: 0,
            counts_alike: true,
            steps: Vec::new(),
        };
        for _ in 0..1 + maker.random.below(2) {
            maker.add_service();
            for _ in 0..1 + maker.random.below(4) {
                maker.add_server();
            }
        }
        while maker.steps.len() < steps {
            maker.step();
        }
        for show in [Show::Services, Show::Connections, Show::Persistent] {
            maker.steps.push(Step::Show(show));
        }
        if maker.counts_alike {
            maker.steps.push(Step::Show(Show::Stats));
        }
        Script {
            name: format!("random/{}-{seed}", self.name),
            steps: maker.steps,
        }
    }
}

impl Maker {
    fn step(&mut self) {
        match self.random.below(100) {
            0..50 => self.exchange(),
            50..72 => self.open(),
            72..76 => self.stray(),
            76..80 if self.profile.errors => self.error(),
            80..84 => self.add_server(),
            84..88 => self.edit_server(),
            88..90 => self.delete_server(),
            90..92 => self.edit_service(),
            92..93 => self.add_service(),
            93..94 => self.delete_service(),
            94..96 if self.profile.settings => self.setting(),
            96..97 => self.steps.push(Step::Wait(1 + self.random.below(2) as u32)),
            _ => {
                let shows = [Show::Services, Show::Connections];
                let show = *self.random.one(&shows);
                self.steps.push(Step::Show(show));
            }
        }
    }

    fn ipvsadm(&mut self, words: impl IntoIterator<Item = impl Into<String>>) {
        let words = words.into_iter().map(Into::into).collect();
        self.steps.push(Step::Ipvsadm(words));
    }

    /// The mark of what is sent there: the one that it has, for TC and bpvs order rules for the same packets each in a
    /// way of their own, or this one from now on.
    fn mark(&mut self, protocol: Protocol, to: SocketAddrV4, drawn: u32) -> u32 {
        let given = self.steps.iter().find_map(|step| match step {
            Step::Mark(of, at, mark) if (*of, *at) == (protocol, to) => Some(*mark),
            _ => None,
        });
        given.unwrap_or_else(|| {
            self.steps.push(Step::Mark(protocol, to, drawn));
            drawn
        })
    }

    fn add_service(&mut self) {
        let protocol = *self
            .random
            .one(&[Protocol::Tcp, Protocol::Tcp, Protocol::Udp]);
        let number = 1 + self.random.below(3);
        let port = *self.random.one(&[80, 81]);
        let address = SocketAddrV4::new(Ipv4Addr::new(10, 9, 0, number as u8), port);
        let mark = self.profile.marks && self.random.one_in(6);
        let key = if mark {
            let drawn = 1 + self.random.below(3) as u32;
            let mark = self.mark(protocol, address, drawn);
            vec!["-f".to_owned(), mark.to_string()]
        } else {
            let option = if protocol == Protocol::Tcp {
                "-t"
            } else {
                "-u"
            };
            vec![option.to_owned(), format!("v{number}:{port}")]
        };
        let attributes = self.attributes(protocol == Protocol::Udp && !mark);
        if self.services.iter().all(|service| service.key != key) {
            self.services.push(Service {
                key: key.clone(),
                protocol,
                address,
                servers: Vec::new(),
                counts: counts(&attributes),
            });
        }
        let mut words = vec!["-A".to_owned()];
        words.extend(key);
        words.extend(attributes);
        self.ipvsadm(words);
    }

    /// What follows the address in `-A` and `-E`.
    fn attributes(&mut self, udp: bool) -> Vec<String> {
        let scheduler = *self.random.one(self.profile.schedulers);
        let once = udp && !self.is_said("schedule_icmp");
        let mut words = vec!["-s".to_owned(), scheduler.to_owned()];
        let mut add = |more: &[&str]| words.extend(more.iter().map(|&word| word.to_owned()));
        if scheduler == "sh" || scheduler == "mh" {
            match self.random.below(4) {
                0 => add(&["-b", &format!("{scheduler}-fallback")]),
                1 => add(&["-b", &format!("{scheduler}-port")]),
                2 => add(&["-b", &format!("{scheduler}-fallback,{scheduler}-port")]),
                _ => {}
            }
        }
        if self.profile.options {
            match self.random.below(8) {
                0 => add(&["-p", "300"]),
                1 => add(&["-p", "600", "-M", "255.255.255.0"]),
                2 if once => add(&["-o"]),
                _ => {}
            }
        }
        words
    }

    fn service(&mut self) -> Option<usize> {
        let count = self.services.len();
        (count > 0).then(|| self.random.below(count))
    }

    fn add_server(&mut self) {
        let Some(index) = self.service() else { return };
        let number = 1 + self.random.below(5);
        let mark = self.services[index].key[0] == "-f";
        let server = if mark || self.random.one_in(3) {
            format!("s{number}")
        } else {
            format!("s{number}:{}", 8000 + self.random.below(2))
        };
        let mut words = vec!["-a".to_owned()];
        words.extend(self.services[index].key.clone());
        words.extend(["-r".to_owned(), server.clone()]);
        words.extend(self.server_attributes(index, &server));
        self.ipvsadm(words);
        if !self.services[index].servers.contains(&server) {
            self.services[index].servers.push(server);
        }
    }

    fn server_attributes(&mut self, service: usize, server: &str) -> Vec<String> {
        // Always the same method for a server: a kernel that goes over to direct routing keeps the
        // route that it had for masquerading.
        let direct = self.profile.direct && server.starts_with("s5");
        let method = if direct { "-g" } else { "-m" };
        let weight = *self.random.one(&["1", "1", "2", "3", "5", "0"]);
        let mut words = vec![method.to_owned(), "-w".to_owned(), weight.to_owned()];
        if self.profile.options && self.random.one_in(8) {
            let upper = 1 + self.random.below(4);
            words.extend(["-x".to_owned(), upper.to_string()]);
            self.services[service].counts = true;
            if self.random.one_in(2) {
                let lower = self.random.below(upper + 1);
                words.extend(["-y".to_owned(), lower.to_string()]);
            }
        }
        words
    }

    /// A service with real servers, and one of them.
    fn server(&mut self) -> Option<(Vec<String>, String, usize)> {
        let index = self.service()?;
        let servers = self.services[index].servers.clone();
        if servers.is_empty() {
            return None;
        }
        let server = self.random.one(&servers).clone();
        Some((self.services[index].key.clone(), server, index))
    }

    fn edit_server(&mut self) {
        if let Some((key, server, index)) = self.server() {
            let attributes = self.server_attributes(index, &server);
            let mut words = vec!["-e".to_owned()];
            words.extend(key);
            words.extend(["-r".to_owned(), server]);
            words.extend(attributes);
            self.ipvsadm(words);
        }
    }

    fn delete_server(&mut self) {
        if let Some((key, server, index)) = self.server() {
            self.counts_alike = false;
            self.services[index]
                .servers
                .retain(|other| *other != server);
            let mut words = vec!["-d".to_owned()];
            words.extend(key);
            words.extend(["-r".to_owned(), server]);
            self.ipvsadm(words);
        }
    }

    fn edit_service(&mut self) {
        let Some(index) = self.service() else { return };
        let Service { key, protocol, .. } = self.services[index].clone();
        let mut words = vec!["-E".to_owned()];
        let attributes = self.attributes(protocol == Protocol::Udp && key[0] != "-f");
        self.services[index].counts |= counts(&attributes);
        words.extend(key);
        words.extend(attributes);
        self.ipvsadm(words);
    }

    fn delete_service(&mut self) {
        if self.services.len() > 1 {
            self.counts_alike = false;
            let index = self.random.below(self.services.len());
            let service = self.services.remove(index);
            let mut words = vec!["-D".to_owned()];
            words.extend(service.key);
            self.ipvsadm(words);
        }
    }

    fn setting(&mut self) {
        let (name, highest) = *self.random.one(&[
            ("expire_nodest_conn", 1),
            ("expire_quiescent_template", 1),
            ("conn_reuse_mode", 3),
            ("sloppy_tcp", 1),
            ("nat_icmp_send", 1),
            ("schedule_icmp", 1),
        ]);
        let value = self.random.below(highest + 1).to_string();
        // With both, IPVS schedules errors one by one, as bpvs does not.
        if name == "schedule_icmp" && self.is_said("-o") {
            return;
        }
        self.steps.push(Step::Setting(name.to_owned(), value));
    }

    /// Whether some step so far has this word.
    fn is_said(&self, word: &str) -> bool {
        self.steps.iter().any(|step| match step {
            Step::Ipvsadm(words) => words.iter().any(|said| said == word),
            Step::Setting(name, _) => name == word,
            _ => false,
        })
    }

    /// Whether it matters for some service at this address how many connections a server has.
    fn counting(&self, address: SocketAddrV4) -> bool {
        self.services
            .iter()
            .any(|service| service.address == address && service.counts)
    }

    /// The first packet of a connection: a new one, or one there was.
    fn open(&mut self) {
        let Some(index) = self.service() else { return };
        let Service {
            protocol, address, ..
        } = self.services[index].clone();
        let number = 1 + self.random.below(12);
        // Two networks of clients, for netmasks.
        let number = if self.random.one_in(3) {
            300 + number
        } else {
            number
        };
        // No port for two services: where both lead to one real server and port, IPVS cannot tell
        // their replies apart, and bpvs takes another source port.
        let own = u16::from(address.ip().octets()[3]) * 100 + address.port() % 10 * 10;
        let port = 1000 + own + self.random.below(4) as u16;
        let Some(client) = names::address(&format!("c{number}")) else {
            return;
        };
        let mut flow = (protocol, SocketAddrV4::new(client, port), address);
        if self.flows.contains(&flow) && self.counting(address) {
            // IPVS still counts the connection that this one takes the place of; bpvs does not.
            self.newcomers += 1;
            let newcomer = names::address(&format!("c{}", 12 + self.newcomers));
            flow.1 = SocketAddrV4::new(newcomer.unwrap_or(client), port);
        }
        if !self.flows.contains(&flow) {
            self.flows.push(flow);
        }
        let kind = match protocol {
            Protocol::Tcp => Kind::Tcp(2),
            Protocol::Udp => Kind::Udp,
        };
        self.packet(flow, Way::Request, kind);
    }

    /// A packet of a connection there is.
    fn exchange(&mut self) {
        if self.flows.is_empty() {
            return;
        }
        // Mostly one of the newest, so that connections get somewhere.
        let count = self.flows.len();
        let index = if self.random.one_in(4) {
            self.random.below(count)
        } else {
            count - 1 - self.random.below(count.min(4))
        };
        let flow = self.flows[index];
        let way = *self.random.one(&[Way::Request, Way::Reply]);
        let kind = match (flow.0, way) {
            (Protocol::Udp, _) => Kind::Udp,
            (_, Way::Request) => {
                let kind = self.segment(&["A", "A", "A", "PA", "FA", "FA", "R", "S"]);
                match kind {
                    Kind::Tcp(flags) if flags & RST != 0 || self.counting(flow.2) => {
                        Kind::Tcp(flags & !SYN)
                    }
                    other => other,
                }
            }
            _ => self.segment(&["SA", "SA", "A", "PA", "FA", "R"]),
        };
        self.packet(flow, way, kind);
    }

    fn segment(&mut self, usual: &[&'static str]) -> Kind {
        if self.random.one_in(12) {
            return Kind::Tcp(self.random.below(1 << FLAGS.len()) as u8);
        }
        // The letters are flags all.
        let letters: &&str = self.random.one(usual);
        Kind::Tcp(flags(letters).unwrap_or_default())
    }

    fn packet(&mut self, flow: (Protocol, SocketAddrV4, SocketAddrV4), way: Way, kind: Kind) {
        let mut packet = Packet::new(flow.1, way, flow.2, kind);
        match self.random.below(60) {
            // Of a reply that passes by: with `accept_local` the kernel's error comes from elsewhere.
            0 if way == Way::Request || !self.profile.direct => {
                packet.ttl = 1;
                self.counts_alike &= !self.profile.direct;
            }
            1 => packet.tos = 0xb8,
            2 => packet.length = 1400,
            3 => packet.dont_fragment = true,
            4 => packet.sum = Sum::Wrong,
            5 if kind == Kind::Udp => packet.sum = Sum::None,
            _ => {}
        }
        self.steps.push(Step::Packet(packet));
    }

    /// A packet of no connection.
    fn stray(&mut self) {
        let number = 1 + self.random.below(12);
        let Some(client) = names::address(&format!("c{number}")) else {
            return;
        };
        let client = SocketAddrV4::new(client, 2000);
        let kind = *self
            .random
            .one(&[Kind::Tcp(16), Kind::Tcp(4), Kind::Tcp(18), Kind::Udp]);
        if self.random.one_in(2) {
            let server = SocketAddrV4::new(Ipv4Addr::new(10, 1, 0, 11), 80);
            let packet = Packet::new(client, Way::Server, server, kind);
            self.steps.push(Step::Packet(packet));
        } else {
            let address = Ipv4Addr::new(10, 9, 0, 1 + self.random.below(3) as u8);
            let port = *self.random.one(&[80, 81, 82]);
            let service = SocketAddrV4::new(address, port);
            let kind = if self.random.one_in(6) {
                Kind::Echo
            } else {
                kind
            };
            let packet = Packet::new(client, Way::Request, service, kind);
            self.steps.push(Step::Packet(packet));
        }
    }

    /// An ICMP error about a connection.
    fn error(&mut self) {
        if self.flows.is_empty() {
            return;
        }
        let flows = self.flows.clone();
        let flow = *self.random.one(&flows);
        let way = *self.random.one(&[Way::Request, Way::Reply]);
        let (kind, code) = *self.random.one(&[(3, 1), (3, 3), (3, 4), (11, 0), (12, 0)]);
        let mut packet = Packet::new(flow.1, way, flow.2, Kind::Error(kind, code, flow.0));
        if self.random.one_in(3) {
            let router = if way == Way::Reply { "s9" } else { "c400" };
            packet.by = names::address(router);
        }
        self.steps.push(Step::Packet(packet));
    }
}

/// Whether `-A` or `-E` with these words makes a service that looks at InActConn.
fn counts(attributes: &[String]) -> bool {
    let counting = ["lc", "wlc", "lblc", "lblcr"];
    attributes
        .get(1)
        .is_some_and(|scheduler| counting.contains(&scheduler.as_str()))
}

/// Random numbers that are the same for the same seed everywhere (splitmix64).
struct Random(u64);

impl Random {
    /// Those of this seed. Mixed first: the sequence of one seed is not to be that of the next, one
    /// number later.
    fn of(seed: u64) -> Self {
        let mut random = Self(seed);
        Self(random.next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// Less than this.
    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn one<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

#[cfg(test)]
mod tests {
    use super::super::step::parse;
    use super::*;

    #[test]
    fn a_seed_is_a_script_that_can_be_written_down() -> Result<(), String> {
        let profile = Profile::named("all")?;
        for seed in 0..50 {
            let script = profile.script(seed, 200);
            assert_eq!(script.steps, profile.script(seed, 200).steps);
            let text: String = script
                .steps
                .iter()
                .map(|step| format!("{step}\n"))
                .collect();
            assert_eq!(
                parse(&text).map_err(|error| format!("{error:#}"))?,
                script.steps
            );
        }
        let (one, two) = (profile.script(1, 50), profile.script(2, 50));
        assert_ne!(one.steps, two.steps);
        Ok(())
    }
}
