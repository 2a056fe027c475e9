//! Packets, field by field. Every checksum is computed from scratch, in another way than the pipeline's.

/// An Ethernet address.
pub type Mac = [u8; 6];
/// An IPv4 address.
pub type Ip4 = [u8; 4];

/// What stands in a checksum field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sum {
    /// The right checksum.
    Right,
    /// The right one plus this, in one's complement: wrong by a known amount.
    Off(u16),
    /// Zero: none (UDP).
    Zero,
    /// The sum of the pseudo header, not inverted: the hardware is to do the rest.
    Partial,
}

/// An IPv4 packet in an Ethernet frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    /// Ethernet destination.
    pub to: Mac,
    /// Ethernet source.
    pub from: Mac,
    /// VLAN tags: ethertype and tag.
    pub tags: Vec<(u16, u16)>,
    /// The packet.
    pub ip: Ip,
    /// Bytes behind the packet: what a short frame is padded with.
    pub padding: usize,
}

/// An IPv4 packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ip {
    /// Source address.
    pub src: Ip4,
    /// Destination address.
    pub dst: Ip4,
    /// Hop limit.
    pub ttl: u8,
    /// Type of service.
    pub tos: u8,
    /// Identification.
    pub id: u16,
    /// Must not be fragmented.
    pub dont_fragment: bool,
    /// Not its packet's last fragment.
    pub more_fragments: bool,
    /// Offset of this fragment in bytes: a multiple of 8.
    pub offset: u16,
    /// Options: a multiple of 4 bytes, at most 40.
    pub options: Vec<u8>,
    /// The header's checksum.
    pub sum: Sum,
    /// The total length, where it is not what it should be.
    pub total: Option<u16>,
    /// What it carries.
    pub body: Body,
}

/// What a packet carries.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body {
    /// A TCP segment.
    Tcp(Tcp),
    /// A UDP datagram.
    Udp(Udp),
    /// An ICMP message.
    Icmp(Icmp),
    /// A protocol number and bytes as they are: a later fragment, say.
    Raw(u8, Vec<u8>),
}

/// A TCP segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tcp {
    /// Source port.
    pub sport: u16,
    /// Destination port.
    pub dport: u16,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// All eight flag bits.
    pub flags: u8,
    /// Window.
    pub window: u16,
    /// Options: a multiple of 4 bytes, at most 40.
    pub options: Vec<u8>,
    /// Payload.
    pub data: Vec<u8>,
    /// The checksum.
    pub sum: Sum,
}

/// A UDP datagram.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Udp {
    /// Source port.
    pub sport: u16,
    /// Destination port.
    pub dport: u16,
    /// Payload.
    pub data: Vec<u8>,
    /// The checksum.
    pub sum: Sum,
}

/// An ICMP message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Icmp {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// The rest of the header.
    pub rest: [u8; 4],
    /// What follows: the packet that an error is about.
    pub data: Vec<u8>,
    /// The checksum.
    pub sum: Sum,
}

/// The one's complement sum of bytes as big-endian words (RFC 1071).
fn add_up(bytes: &[u8], mut sum: u32) -> u32 {
    for pair in bytes.chunks(2) {
        let low = pair.get(1).copied().unwrap_or(0);
        sum += u32::from(pair[0]) << 8 | u32::from(low);
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum
}

/// What stands in the field for these sums of pseudo header and content (the field itself as zero).
fn field(kind: Sum, pseudo: u32, bytes: &[u8]) -> u16 {
    let right = !(add_up(bytes, pseudo) as u16);
    match kind {
        Sum::Right => right,
        Sum::Zero => 0,
        Sum::Partial => pseudo as u16,
        Sum::Off(off) => {
            let sum = u32::from(right) + u32::from(off);
            (sum + (sum >> 16)) as u16
        }
    }
}

fn put(bytes: &mut [u8], at: usize, word: u16) {
    bytes[at..at + 2].copy_from_slice(&word.to_be_bytes());
}

impl Body {
    /// Its protocol number.
    pub const fn protocol(&self) -> u8 {
        match self {
            Self::Icmp(_) => 1,
            Self::Tcp(_) => 6,
            Self::Udp(_) => 17,
            Self::Raw(protocol, _) => *protocol,
        }
    }

    /// Its bytes in a packet between these addresses.
    pub fn bytes(&self, src: Ip4, dst: Ip4) -> Vec<u8> {
        let pseudo = |length: usize| {
            let sum = add_up(&src, 0);
            let sum = add_up(&dst, sum);
            add_up(
                &[0, self.protocol(), (length >> 8) as u8, length as u8],
                sum,
            )
        };
        match self {
            Self::Tcp(tcp) => {
                let mut bytes = Vec::new();
                bytes.extend(tcp.sport.to_be_bytes());
                bytes.extend(tcp.dport.to_be_bytes());
                bytes.extend(tcp.seq.to_be_bytes());
                bytes.extend(tcp.ack.to_be_bytes());
                bytes.push(((20 + tcp.options.len()) as u8 / 4) << 4);
                bytes.push(tcp.flags);
                bytes.extend(tcp.window.to_be_bytes());
                bytes.extend([0; 4]);
                bytes.extend(&tcp.options);
                bytes.extend(&tcp.data);
                let sum = field(tcp.sum, pseudo(bytes.len()), &bytes);
                put(&mut bytes, 16, sum);
                bytes
            }
            Self::Udp(udp) => {
                let mut bytes = Vec::new();
                bytes.extend(udp.sport.to_be_bytes());
                bytes.extend(udp.dport.to_be_bytes());
                bytes.extend((udp.data.len() as u16 + 8).to_be_bytes());
                bytes.extend([0, 0]);
                bytes.extend(&udp.data);
                let mut sum = field(udp.sum, pseudo(bytes.len()), &bytes);
                // Zero says "none": a sum of zero is sent as its other form (RFC 768).
                if sum == 0 && udp.sum != Sum::Zero {
                    sum = 0xffff;
                }
                put(&mut bytes, 6, sum);
                bytes
            }
            Self::Icmp(icmp) => {
                let mut bytes = vec![icmp.kind, icmp.code, 0, 0];
                bytes.extend(icmp.rest);
                bytes.extend(&icmp.data);
                let sum = field(icmp.sum, 0, &bytes);
                put(&mut bytes, 2, sum);
                bytes
            }
            Self::Raw(_, bytes) => bytes.clone(),
        }
    }
}

impl Ip {
    /// A packet with hop limit 64.
    pub fn new(src: Ip4, dst: Ip4, body: Body) -> Self {
        Self {
            src,
            dst,
            ttl: 64,
            tos: 0,
            id: 0x1234,
            dont_fragment: false,
            more_fragments: false,
            offset: 0,
            options: Vec::new(),
            sum: Sum::Right,
            total: None,
            body,
        }
    }

    /// From its header on.
    pub fn bytes(&self) -> Vec<u8> {
        let body = self.body.bytes(self.src, self.dst);
        let length = 20 + self.options.len();
        let total = self.total.unwrap_or((length + body.len()) as u16);
        let mut bytes = vec![0x40 | (length / 4) as u8, self.tos];
        bytes.extend(total.to_be_bytes());
        bytes.extend(self.id.to_be_bytes());
        let flags = u16::from(self.dont_fragment) << 14 | u16::from(self.more_fragments) << 13;
        bytes.extend((flags | (self.offset / 8)).to_be_bytes());
        bytes.extend([self.ttl, self.body.protocol(), 0, 0]);
        bytes.extend(self.src);
        bytes.extend(self.dst);
        bytes.extend(&self.options);
        let sum = field(self.sum, 0, &bytes);
        put(&mut bytes, 10, sum);
        bytes.extend(body);
        bytes
    }

    /// Cuts the packet into fragments that carry at most `size` bytes each, a multiple of 8.
    pub fn fragments(&self, size: usize) -> Vec<Self> {
        let body = self.body.bytes(self.src, self.dst);
        let count = body.len().div_ceil(size);
        body.chunks(size)
            .enumerate()
            .map(|(index, part)| Self {
                more_fragments: index + 1 < count,
                offset: (index * size) as u16,
                body: Body::Raw(self.body.protocol(), part.to_vec()),
                ..self.clone()
            })
            .collect()
    }
}

impl Frame {
    /// The bytes on the wire.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(self.to);
        bytes.extend(self.from);
        for (ethertype, tag) in &self.tags {
            bytes.extend(ethertype.to_be_bytes());
            bytes.extend(tag.to_be_bytes());
        }
        bytes.extend([0x08, 0x00]);
        bytes.extend(self.ip.bytes());
        bytes.extend(std::iter::repeat_n(0, self.padding));
        bytes
    }

    /// The same packet with something changed.
    #[must_use]
    pub fn with(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut changed = self.clone();
        change(&mut changed);
        changed
    }

    /// Its ports.
    ///
    /// # Panics
    /// If it carries neither TCP nor UDP: a mistake in the case.
    pub fn ports(&mut self) -> (&mut u16, &mut u16) {
        match &mut self.ip.body {
            Body::Tcp(tcp) => (&mut tcp.sport, &mut tcp.dport),
            Body::Udp(udp) => (&mut udp.sport, &mut udp.dport),
            body => panic!("protocol {} has no ports", body.protocol()),
        }
    }

    /// Its TCP segment.
    ///
    /// # Panics
    /// If it carries none: a mistake in the case.
    pub fn tcp(&mut self) -> &mut Tcp {
        match &mut self.ip.body {
            Body::Tcp(tcp) => tcp,
            body => panic!("protocol {} is not TCP", body.protocol()),
        }
    }

    /// Its UDP datagram.
    ///
    /// # Panics
    /// If it carries none: a mistake in the case.
    pub fn udp(&mut self) -> &mut Udp {
        match &mut self.ip.body {
            Body::Udp(udp) => udp,
            body => panic!("protocol {} is not UDP", body.protocol()),
        }
    }
}

/// The flag bits of TCP.
pub mod flag {
    /// No more data.
    pub const FIN: u8 = 1;
    /// Open.
    pub const SYN: u8 = 2;
    /// Abort.
    pub const RST: u8 = 4;
    /// Acknowledgement.
    pub const ACK: u8 = 16;
}

/// A segment with these flags and some data.
pub fn tcp(sport: u16, dport: u16, flags: u8) -> Body {
    let data = if flags & flag::SYN == 0 {
        b"GET / HTTP/1.1\r\n".to_vec()
    } else {
        Vec::new()
    };
    Body::Tcp(Tcp {
        sport,
        dport,
        seq: 0x0102_0304,
        ack: 0x0506_0708,
        flags,
        window: u16::MAX,
        options: Vec::new(),
        data,
        sum: Sum::Right,
    })
}

/// A datagram with some data.
pub fn udp(sport: u16, dport: u16) -> Body {
    Body::Udp(Udp {
        sport,
        dport,
        data: b"a question, odd".to_vec(),
        sum: Sum::Right,
    })
}

/// An ICMP message.
pub fn icmp(kind: u8, code: u8, rest: [u8; 4], data: Vec<u8>) -> Body {
    Body::Icmp(Icmp {
        kind,
        code,
        rest,
        data,
        sum: Sum::Right,
    })
}
