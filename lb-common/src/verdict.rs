//! What becomes of a packet, and why. Each packet leaves by one [`Reason`] and moves exactly that counter.

/// What the program does with the packet.
#[must_use]
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// It goes on to whatever comes next: the host's own stack, or the wire.
    Pass,
    /// It ends here.
    Drop,
    /// It leaves by the interface as it is: its Ethernet addresses are written. With [`ENTER`](crate::abi::ENTER) it goes on
    /// behind the interface, unless this host sends it: from there no packet can.
    Transmit,
    /// It leaves by the interface; the kernel finds the neighbour.
    Resolve,
    /// It is handed to this host's stack as if received on the interface.
    Receive,
    /// An ICMP error about it is to go back to its sender: a step's wish, which the pipeline turns into one of the others.
    Refuse,
    /// It is left to the layer that comes next, as it came and uncounted.
    HandOver,
}

impl Action {
    /// Whether the packet goes on by what the program does, and not by what comes next.
    #[inline(always)]
    pub const fn leaves(self) -> bool {
        matches!(self, Self::Transmit | Self::Resolve | Self::Receive)
    }
}

/// The end of a packet's way through the pipeline.
///
/// Plain fields, always set: a payload that only some variants have is left undefined in the others, and the verifier
/// refuses programs that move undefined words about.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Verdict {
    /// What to do.
    pub action: Action,
    /// By which interface, where the action names one; else 0.
    pub ifindex: u32,
    /// With the tag of which VLAN, where the interface itself does not set it: XDP sends by what carries the VLAN. Else 0.
    pub vlan: u16,
    /// Why. Of no meaning for a packet that is handed over.
    pub reason: Reason,
}

impl Verdict {
    /// Do this, by this interface.
    #[inline(always)]
    pub const fn new(action: Action, ifindex: u32, reason: Reason) -> Self {
        Self {
            action,
            ifindex,
            vlan: 0,
            reason,
        }
    }

    /// The same, with the tag of this VLAN.
    #[inline(always)]
    pub const fn tagged(self, vlan: u16) -> Self {
        Self { vlan, ..self }
    }

    /// Leave it to the next layer.
    #[inline(always)]
    pub const fn hand_over() -> Self {
        Self::new(Action::HandOver, 0, Reason::NotIp)
    }

    /// Let it go on, untouched.
    #[inline(always)]
    pub const fn pass(reason: Reason) -> Self {
        Self::new(Action::Pass, 0, reason)
    }

    /// End it.
    #[inline(always)]
    pub const fn drop(reason: Reason) -> Self {
        Self::new(Action::Drop, 0, reason)
    }

    /// Tell its sender why it ends here. `mtu` is what the next hop carries, where the reason is the size.
    #[inline(always)]
    pub const fn refuse(reason: Reason, mtu: u32, is_reply: bool) -> Self {
        Self::new(
            Action::Refuse,
            mtu & 0xffff | (is_reply as u32) << 16,
            reason,
        )
    }

    /// In one word: how a function with a stack frame of its own returns it. The reason is in the lowest byte, the action
    /// in the next, then the VLAN, the interface in the upper half.
    #[inline(always)]
    pub const fn word(self) -> u64 {
        self.reason as u64
            | (self.action as u64) << 8
            | (self.vlan as u64) << 16
            | (self.ifindex as u64) << 32
    }

    /// From [`Verdict::word`].
    #[inline(always)]
    pub fn from_word(word: u64) -> Self {
        let action = match word >> 8 & 0xff {
            0 => Action::Pass,
            1 => Action::Drop,
            2 => Action::Transmit,
            3 => Action::Resolve,
            4 => Action::Receive,
            5 => Action::Refuse,
            _ => Action::HandOver,
        };
        Self::new(action, (word >> 32) as u32, REASONS[(word & 0xff) as usize])
            .tagged((word >> 16) as u16)
    }
}

/// A step of the pipeline: what the next step needs, or the end.
pub type Step<T> = Result<T, Verdict>;

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// Every way in which a packet can leave the pipeline.
        #[repr(u8)]
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Reason {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Reason {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Whether the packet ends here, be it answered by an error or not: those that do come last.
            #[inline(always)]
            pub const fn ends(self) -> bool {
                self as u8 >= Self::NoServer as u8
            }

            /// Whether the packet goes on as it came, and no real server has to do with it: they come between the others.
            pub const fn passes(self) -> bool {
                self as u8 >= Self::NotIp as u8 && !self.ends()
            }

            /// Its name in listings and metrics.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

reasons! {
    /// From a client, sent on to a real server.
    Forwarded = "forwarded",
    /// From a real server, sent back to the client.
    Replied = "replied",
    /// ICMP error about a connection, sent on with the packet inside rewritten.
    IcmpRelated = "icmp-related",
    /// ARP request for a service address, answered.
    ArpAnswered = "arp-answered",
    /// Ping of a service address, answered.
    PingAnswered = "ping-answered",
    /// No packet: a connection of a local socket, led to a real server by the socket hook.
    Socket = "socket",
    /// Passed: not an IP packet, or of a family without services.
    NotIp = "not-ip",
    /// Passed: the Ethernet destination is not this host.
    NotToHost = "not-to-host",
    /// Passed: it has a VLAN tag, and is handled on the VLAN's own interface.
    Tagged = "tagged",
    /// Passed: not TCP, UDP or an ICMP error.
    OtherProtocol = "other-protocol",
    /// Passed: too short for its headers, or they contradict its length.
    Malformed = "malformed",
    /// Passed: no service for it.
    NoService = "no-service",
    /// Passed: a TCP segment that opens no connection, and none is known.
    NoConnection = "no-connection",
    /// Passed: a later fragment, and its first one has not been seen.
    FragmentEarly = "fragment-early",
    /// Passed: an ICMP error about no known connection.
    IcmpUnrelated = "icmp-unrelated",
    /// Passed: the fwmark service has no real server, and packets go on past it (`cache_bypass`).
    Bypassed = "bypassed",
    /// Dropped: the service has no real server that takes connections; answered by ICMP port unreachable.
    NoServer = "no-server",
    /// Dropped: nothing listens on this port of an answered service address; answered by ICMP port unreachable.
    PortClosed = "port-closed",
    /// Dropped: a TCP segment of no known connection, for a service that answers those by a reset.
    Reset = "reset",
    /// Dropped: from a real server, of no known connection; answered by ICMP port unreachable (`nat_icmp_send`).
    UnknownReply = "unknown-reply",
    /// Dropped: a new connection, by the defence against floods (`drop_packet`).
    DropDefence = "drop-defence",
    /// Dropped: the real server has been removed from the service.
    ServerRemoved = "server-removed",
    /// Dropped: the connection table is full.
    TableFull = "table-full",
    /// Dropped: no free source port for the connection was found.
    NoPort = "no-port",
    /// Dropped: two processors met on the same entry; the sender will try again.
    Busy = "busy",
    /// Dropped: the hop limit ended here; answered by ICMP time exceeded.
    TimeExceeded = "time-exceeded",
    /// Dropped: larger than the next hop carries; answered by ICMP fragmentation needed.
    TooBig = "too-big",
    /// Dropped: no route to the real server or client, or one that forbids it.
    NoRoute = "no-route",
    /// Dropped: the packet could not be rewritten.
    RewriteFailed = "rewrite-failed",
}

/// The reasons by their numbers; as many as a byte has values, so that no number is out of bounds.
static REASONS: [Reason; 256] = {
    let mut reasons = [Reason::RewriteFailed; 256];
    let mut number = 0;
    while number < Reason::ALL.len() {
        reasons[number] = Reason::ALL[number];
        number += 1;
    }
    reasons
};
