//! A director whose programs are timed: bpvs as it comes, with XDP on both cables, and packets that no cable has carried.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use aya::programs::{ProgramFd, ProgramInfo};
use nix::net::if_::if_nametoindex;
use nix::time::{ClockId, clock_gettime};

use super::packets::{Kind, PORT};
use super::restorer::{Order, Restorer, Template, empty, look_up};
use crate::bench::directors::by_xdp;
use crate::bench::kernel::{self, Hook};
use crate::daemon::Daemon;
use crate::lab::Lab;
use crate::offload::like_a_wire;
use crate::topology::director::{CLIENT, Director, Options, SERVICE, server_address};
use crate::wire::mac;

/// Where clients are, behind the client.
const CLIENTS: &str = "10.64.0.0/12";
/// How many are opened at a time: until they are open they are half-open, of which there is room for fewer.
const PART: u64 = 1 << 14;
/// What programs answer.
const XDP_PASS: u32 = 2;
const XDP_REDIRECT: u32 = 4;
const TC_NEXT: u32 = u32::MAX;
const TC_REDIRECT: u32 = 7;

/// The Ethernet addresses of a cable: where frames go, and where they come from.
type Cable = ([u8; 6], [u8; 6]);

/// The director.
#[derive(Debug)]
pub struct Stand {
    /// The network.
    pub net: Director,
    /// Its bpvs.
    pub daemon: Daemon,
    /// Index and cable of the interfaces towards the client and the real server.
    interfaces: [(u32, Cable); 2],
    programs: BTreeMap<Hook, ProgramFd>,
    floors: BTreeMap<Hook, OwnedFd>,
    look_ups: BTreeMap<Hook, OwnedFd>,
    /// Flows below have been used for TCP, and for UDP.
    used: BTreeMap<bool, u64>,
}

/// What is run behind the one that restores the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// bpvs' program.
    Bpvs,
    /// One that finds the connection and does nothing else.
    LookUp,
    /// One that does nothing.
    Empty,
}

/// A packet on its way to a program, and to one that does nothing.
#[derive(Debug)]
pub struct Timed {
    expected: u32,
    subject: Restorer,
    floor: Restorer,
}

impl Stand {
    /// Builds it. Programs are run in the director's namespace.
    ///
    /// # Errors
    ///
    /// Where bpvs or the kernel refuses a step.
    pub fn build(lab: &Lab, bpvs: &Path, arguments: &[&str]) -> Result<Self> {
        let net = Director::build(
            lab,
            &Options {
                servers: 1,
                cables: true,
                ..Options::default()
            },
        )?;
        let director = &net.director;
        for (host, interface) in [
            (&net.client, "eth0"),
            (&net.servers[0], "eth0"),
            (director, "eth0"),
            (director, "rs1"),
        ] {
            like_a_wire(host, interface)?;
        }
        director.ip(&format!("route add {CLIENTS} via {CLIENT}"))?;
        // The kernel must know the neighbours.
        let first_words =
            || std::net::UdpSocket::bind("0.0.0.0:0")?.send_to(b"hello", "10.0.0.1:9");
        net.client.run(first_words)??;
        let daemon = Daemon::start(lab, bpvs, director, arguments)?;
        for protocol in ["tcp", "udp"] {
            let service = format!("{protocol}:{SERVICE}:{PORT}");
            daemon.bpvs(director, &format!("service add {service} --scheduler rr"))?;
            let server = server_address(1);
            daemon.bpvs(director, &format!("server add {service} {server}:{PORT}"))?;
        }
        daemon.bpvs(director, "settings set xdp=eth0,rs1")?;
        by_xdp(director, &daemon)?;
        let interface = |name: &str, peer| -> Result<_> {
            let index = director.run(|| if_nametoindex(name))??;
            Ok((index, (mac(peer, "eth0")?, mac(director, name)?)))
        };
        let interfaces = [
            interface("eth0", &net.client)?,
            interface("rs1", &net.servers[0])?,
        ];
        let mut stand = Self {
            programs: BTreeMap::new(),
            floors: BTreeMap::new(),
            look_ups: BTreeMap::new(),
            used: BTreeMap::new(),
            interfaces,
            net,
            daemon,
        };
        for hook in [Hook::Xdp, Hook::Tc] {
            stand.programs.insert(hook, stand.pinned(hook)?);
            let answer = stand.answer(hook, true).cast_signed();
            stand.floors.insert(hook, empty(hook, answer)?);
            let table = kernel::pinned(&stand.pin("CONNS")?)?;
            let look_up = look_up(hook, &table, stand.scope()?, answer)?;
            stand.look_ups.insert(hook, look_up);
        }
        Ok(stand)
    }

    /// A pinned program of the scope.
    fn pinned(&self, hook: Hook) -> Result<ProgramFd> {
        let path = match hook {
            Hook::Xdp => self.pin("xdp_prog_")?,
            Hook::Tc => self.pin("ingress_prog_")?,
        };
        Ok(ProgramInfo::from_pin(&path)?.fd()?)
    }

    /// The number of the scope, out of the path of its programs.
    fn scope(&self) -> Result<u32> {
        let pin = self.pin("ingress_prog_")?;
        let folder = pin.parent().and_then(Path::file_name);
        let number = folder.and_then(|name| name.to_str()?.parse().ok());
        number.with_context(|| format!("no number of a scope in {}", pin.display()))
    }

    /// The pin whose name begins so.
    pub fn pin(&self, name: &str) -> Result<PathBuf> {
        let pins = self.daemon.pins()?;
        let found = pins.iter().find(|pin| {
            let file = pin.rsplit('/').next().unwrap_or_default();
            file.starts_with(name)
        });
        let pin = found.with_context(|| format!("bpvs has pinned no {name}…: {pins:?}"))?;
        Ok(self.daemon.bpf_folder().join(pin))
    }

    /// What a program answers where it sends the packet on, or lets it pass.
    fn answer(&self, hook: Hook, sends: bool) -> u32 {
        match (hook, sends) {
            (Hook::Xdp, true) => XDP_REDIRECT,
            (Hook::Xdp, false) => XDP_PASS,
            (Hook::Tc, true) => TC_REDIRECT,
            (Hook::Tc, false) => TC_NEXT,
        }
    }

    fn restorer(&self, hook: Hook, kind: Kind, subject: Subject) -> Result<Restorer> {
        let (ifindex, cable) = self.interfaces[usize::from(kind.comes_back())];
        let template: Template = kind.template(cable);
        let program = match subject {
            Subject::Empty => self.floors[&hook].as_fd(),
            Subject::LookUp => self.look_ups[&hook].as_fd(),
            Subject::Bpvs => self.programs[&hook].as_fd(),
        };
        Restorer::new(hook, &template, ifindex, program)
    }

    /// A packet to be timed.
    pub fn timed(&self, hook: Hook, kind: Kind, subject: Subject) -> Result<Timed> {
        let sends = !matches!(kind, Kind::Other | Kind::Protocol | Kind::Ipv6);
        Ok(Timed {
            expected: self.answer(hook, sends),
            subject: self.restorer(hook, kind, subject)?,
            floor: self.restorer(hook, kind, Subject::Empty)?,
        })
    }

    /// Waits until XDP can send a packet on to both sides by itself.
    ///
    /// # Errors
    ///
    /// Where it cannot after ten seconds.
    pub fn settle(&self) -> Result<()> {
        let [syn, back] =
            [Kind::Syn, Kind::SynAck].map(|kind| self.restorer(Hook::Xdp, kind, Subject::Bpvs));
        let (syn, back) = (syn?, back?);
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let answers = [syn.run(1)?, back.run(1)?];
            if answers == [XDP_REDIRECT; 2] {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "XDP does not send on what clients and real servers say: {answers:?}"
            );
            // A neighbour that nobody has spoken to is found by a word.
            let word = || std::net::UdpSocket::bind("0.0.0.0:0")?.send_to(b"hello", "10.0.1.11:9");
            self.net.director.run(word)??;
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Opens so many connections that no other call has opened; the number of the first.
    pub fn open(&mut self, tcp: bool, count: u64) -> Result<u64> {
        let steps: &[Kind] = if tcp {
            &[Kind::Syn, Kind::SynAck, Kind::Ack]
        } else {
            &[Kind::Datagram, Kind::DatagramBack]
        };
        let steps = steps
            .iter()
            .map(|kind| self.restorer(Hook::Xdp, *kind, Subject::Bpvs))
            .collect::<Result<Vec<_>>>()?;
        let first = self.fresh(tcp, count);
        let mut opened = 0;
        while opened < count {
            let part = PART.min(count - opened);
            for step in &steps {
                step.flows(first + opened, part, Order::Turn)?;
                expect(XDP_REDIRECT, step.run(part as u32)?)?;
            }
            opened += part;
        }
        Ok(first)
    }

    /// Has the real server answer connections that have been begun.
    pub fn complete(&self, tcp: bool, first: u64, count: u64) -> Result<()> {
        let steps: &[Kind] = if tcp {
            &[Kind::SynAck, Kind::Ack]
        } else {
            &[Kind::DatagramBack]
        };
        for kind in steps {
            let step = self.restorer(Hook::Xdp, *kind, Subject::Bpvs)?;
            step.flows(first, count, Order::Turn)?;
            expect(XDP_REDIRECT, step.run(count as u32)?)?;
        }
        Ok(())
    }

    /// So many flows that nobody has used; the number of the first.
    pub fn fresh(&mut self, tcp: bool, count: u64) -> u64 {
        let used = self.used.entry(tcp).or_insert(PART);
        let first = *used;
        *used += count;
        first
    }
}

impl Timed {
    /// Packets are of these flows.
    pub fn flows(&self, first: u64, count: u64, order: Order) -> Result<()> {
        self.subject.flows(first, count, order)?;
        self.floor.flows(first, count, order)
    }

    /// Lets so many packets go to the program without timing them.
    pub fn pass(&self, packets: u32) -> Result<()> {
        expect(self.expected, self.subject.run(packets)?)
    }

    /// Nanoseconds of a packet in the program, over one that does nothing.
    pub fn time(&self, packets: u32) -> Result<f64> {
        let mut answer = 0;
        let mut spent = |restorer: &Restorer| -> Result<f64> {
            let before = processor_time()?;
            answer = restorer.run(packets)?;
            Ok((processor_time()? - before).as_secs_f64() * 1e9 / f64::from(packets))
        };
        let floor = spent(&self.floor)?;
        let subject = spent(&self.subject)?;
        expect(self.expected, answer)?;
        Ok(subject - floor)
    }
}

fn expect(expected: u32, answer: u32) -> Result<()> {
    ensure!(
        answer == expected,
        "a program answered {} where {} was expected: a figure of that is none",
        answer.cast_signed(),
        expected.cast_signed()
    );
    Ok(())
}

/// Of the calling thread: what others do meanwhile is not in it.
fn processor_time() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}
