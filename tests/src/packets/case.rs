//! A case: a sentence, the tables before it, and what happens packet by packet.

use std::rc::Rc;

use lb_common::{
    abi::{ServerStats, V4},
    conn::state::State,
    host::{Bytes, ServerSpec},
    verdict::{Action, Reason},
};

use super::{
    packet::Frame,
    world::{BACK, CLIENT, FRONT, Station, World, asks, to_client, to_server},
};

/// Builds a packet from what came out so far.
pub type Next = dyn Fn(&[Vec<u8>]) -> Bytes;
/// Judges what came out so far, the packet in question last.
pub type Judge = dyn Fn(&[Vec<u8>]) -> Result<(), String>;

/// One case of the list.
#[derive(Clone)]
pub struct Case {
    /// What it shows, as a sentence.
    pub sentence: String,
    /// The tables before the first packet.
    pub world: World,
    /// What happens, in order.
    pub steps: Vec<Step>,
    /// Why only the host's pipeline can run it, if that is so.
    pub host_only: Option<&'static str>,
}

/// One thing that happens in a case.
#[derive(Clone)]
pub enum Step {
    /// A packet arrives or is sent.
    Packet(Input, Expected),
    /// Seconds pass.
    Wait(u32),
    /// The daemon changes something.
    Change(Change),
    /// The tables are looked at.
    Check(Check),
}

/// A packet to handle.
#[derive(Clone)]
pub enum Input {
    /// This one.
    Packet(Bytes),
    /// One that depends on what came out so far, packet by packet.
    After(Rc<Next>),
}

/// What must become of a packet.
#[derive(Clone)]
pub struct Expected {
    /// What the program does with it.
    pub action: Action,
    /// By which interface, where the action names one; else 0.
    pub ifindex: u32,
    /// The counter that it moves.
    pub reason: Reason,
    /// Its bytes afterwards.
    pub output: Output,
}

/// The bytes of a packet that was handled.
#[derive(Clone)]
pub enum Output {
    /// As they came.
    Same,
    /// These.
    Bytes(Vec<u8>),
    /// Nobody will see them.
    Any,
    /// Whatever passes this check, which gets what came out so far, this packet last.
    Check(Rc<Judge>),
}

/// A change that the daemon makes. Real servers are numbered as in [`World::usual`], added ones go on from there.
#[derive(Clone, Debug)]
pub enum Change {
    /// A new real server at the head of the list of the service with this number.
    AddServer(usize, ServerSpec<V4>),
    /// Another weight.
    Weight(usize, u32),
    /// Out of its service's list.
    RemoveServer(usize),
    /// A service gets another scheduler (`SCHEDULER_…`).
    Scheduler(usize, u8),
    /// A service goes, with its real servers.
    RemoveService(usize),
    /// The connection of this client packet is put into a state by force.
    State(Flow, State),
    /// No more than this many ICMP errors from now on.
    ErrorBudget(u32),
    /// Another forwarding method (`METHOD_…`).
    Method(usize, u8),
    /// Thresholds: the upper one, and the lower one.
    Thresholds(usize, u32, u32),
    /// The service with this number becomes persistent: seconds, netmask.
    Persistent(usize, u32, [u8; 4]),
    /// The service with this number gets more options (`RELAY` and others).
    Options(usize, u8),
    /// The neighbours by which packets to the real server go, and replies; zero for what the routes say.
    Neighbours(usize, [u8; 4], [u8; 4]),
    /// Flags of the scope (`SCOPE_…`) are set.
    Settings(u32),
    /// One of so many new connections is dropped.
    DropRate(u32),
    /// After so many seconds lblc and lblcr forget a destination.
    Expiration(u32),
}

/// A connection, named as its client's packets are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flow {
    /// Protocol number.
    pub protocol: u8,
    /// The client.
    pub src: [u8; 4],
    /// Its port.
    pub sport: u16,
    /// The service address.
    pub dst: [u8; 4],
    /// The service port.
    pub dport: u16,
}

impl Flow {
    /// The connection that this packet of a client belongs to.
    pub fn of(frame: &Frame) -> Self {
        let mut frame = frame.clone();
        let (sport, dport) = frame.ports();
        let (sport, dport) = (*sport, *dport);
        Self {
            protocol: frame.ip.body.protocol(),
            src: frame.ip.src,
            sport,
            dst: frame.ip.dst,
            dport,
        }
    }
}

/// Something that the tables must say.
#[derive(Clone, Debug)]
pub enum Check {
    /// The connection's state, and the seconds until it expires, give or take one.
    State(Flow, State, u32),
    /// No such connection.
    Gone(Flow),
    /// Active and inactive connections of a real server, as IPVS lists them.
    Counts(usize, u32, u32),
    /// What a real server's counters say.
    Stats(usize, ServerStats),
    /// Entries in the connection table: two for each connection.
    Entries(usize),
    /// Persistence templates that name a real server.
    Templates(usize, u32),
}

impl From<&Frame> for Input {
    fn from(frame: &Frame) -> Self {
        let director_side = if frame.to == super::world::BACK_MAC {
            BACK
        } else {
            FRONT
        };
        Self::Packet(Bytes::received(frame.bytes(), director_side))
    }
}

impl From<Bytes> for Input {
    fn from(packet: Bytes) -> Self {
        Self::Packet(packet)
    }
}

impl Expected {
    fn new(action: Action, ifindex: u32, reason: Reason, output: Output) -> Self {
        Self {
            action,
            ifindex,
            reason,
            output,
        }
    }

    /// It goes on as it came.
    pub fn pass(reason: Reason) -> Self {
        Self::new(Action::Pass, 0, reason, Output::Same)
    }

    /// It goes on changed.
    pub fn pass_as(reason: Reason, frame: &Frame) -> Self {
        Self::new(Action::Pass, 0, reason, Output::Bytes(frame.bytes()))
    }

    /// It ends here.
    pub fn drop(reason: Reason) -> Self {
        Self::new(Action::Drop, 0, reason, Output::Any)
    }

    /// This leaves by an interface.
    pub fn transmit(ifindex: u32, reason: Reason, frame: &Frame) -> Self {
        Self::transmit_bytes(ifindex, reason, frame.bytes())
    }

    /// These bytes leave by an interface.
    pub fn transmit_bytes(ifindex: u32, reason: Reason, bytes: Vec<u8>) -> Self {
        Self::new(Action::Transmit, ifindex, reason, Output::Bytes(bytes))
    }

    /// This leaves by an interface, and the kernel finds the neighbour.
    pub fn resolve(ifindex: u32, reason: Reason, frame: &Frame) -> Self {
        Self::new(
            Action::Resolve,
            ifindex,
            reason,
            Output::Bytes(frame.bytes()),
        )
    }

    /// This is handed to the host's stack as if received.
    pub fn receive(ifindex: u32, reason: Reason, bytes: Vec<u8>) -> Self {
        Self::new(Action::Receive, ifindex, reason, Output::Bytes(bytes))
    }

    /// Something that passes a check leaves by an interface.
    pub fn checked(
        ifindex: u32,
        reason: Reason,
        check: impl Fn(&[Vec<u8>]) -> Result<(), String> + 'static,
    ) -> Self {
        Self::new(
            Action::Transmit,
            ifindex,
            reason,
            Output::Check(Rc::new(check)),
        )
    }

    /// The same, without looking at the bytes.
    #[must_use]
    pub fn whatever(self) -> Self {
        Self {
            output: Output::Any,
            ..self
        }
    }
}

impl Case {
    /// A case without steps.
    pub fn new(sentence: impl Into<String>, world: World) -> Self {
        Self {
            sentence: sentence.into(),
            world,
            steps: Vec::new(),
            host_only: None,
        }
    }

    /// A packet, and what must become of it.
    #[must_use]
    pub fn packet(mut self, input: impl Into<Input>, expected: Expected) -> Self {
        self.steps.push(Step::Packet(input.into(), expected));
        self
    }

    /// A packet that depends on what came out before, and what must become of it.
    #[must_use]
    pub fn then(
        mut self,
        input: impl Fn(&[Vec<u8>]) -> Bytes + 'static,
        expected: Expected,
    ) -> Self {
        self.steps
            .push(Step::Packet(Input::After(Rc::new(input)), expected));
        self
    }

    /// A client's packet that must reach a real server on its usual port.
    #[must_use]
    pub fn asks(self, sent: &Frame, server: &Station) -> Self {
        let out = to_server(sent, server);
        self.packet(sent, Expected::transmit(BACK, Reason::Forwarded, &out))
    }

    /// A real server's packet that must reach [`CLIENT`] from the usual service.
    #[must_use]
    pub fn answers(self, sent: &Frame) -> Self {
        let out = to_client(sent, &CLIENT);
        self.packet(sent, Expected::transmit(FRONT, Reason::Replied, &out))
    }

    /// A connection of [`CLIENT`] from this port is opened and reaches this real server: three packets.
    #[must_use]
    pub fn opened(self, sport: u16, server: &Station) -> Self {
        use super::packet::{flag, tcp};
        use super::world::{PORT, SERVER_PORT, answers};
        self.asks(&asks(&CLIENT, tcp(sport, PORT, flag::SYN)), server)
            .answers(&answers(
                server,
                CLIENT.ip,
                tcp(SERVER_PORT, sport, flag::SYN | flag::ACK),
            ))
            .asks(&asks(&CLIENT, tcp(sport, PORT, flag::ACK)), server)
    }

    /// Seconds pass.
    #[must_use]
    pub fn wait(mut self, seconds: u32) -> Self {
        self.steps.push(Step::Wait(seconds));
        self
    }

    /// The daemon changes something.
    #[must_use]
    pub fn change(mut self, change: Change) -> Self {
        self.steps.push(Step::Change(change));
        self
    }

    /// The tables are looked at.
    #[must_use]
    pub fn check(mut self, check: Check) -> Self {
        self.steps.push(Step::Check(check));
        self
    }

    /// Only the host's pipeline can run it, for this reason.
    #[must_use]
    pub fn host_only(mut self, reason: &'static str) -> Self {
        self.host_only = Some(reason);
        self
    }
}
