//! Where the programs attach. Pure.
//!
//! One rule stands behind all: a packet must meet the programs exactly once, and where the scope has its IP stack. A
//! packet that arrives on a bridge port is seen there and again on the bridge; the stack is behind the bridge. So:
//!
//! | interface | attach | because |
//! |---|---|---|
//! | physical, veth, netkit, VXLAN, other Ethernet tunnels, TAP, without a master | yes | the stack is behind it |
//! | bridge, bond, team | yes | its ports' packets come to the stack through it |
//! | port of a bridge, bond, team or switch | no | the master has the packet next |
//! | member of a VRF | yes | the stack is behind it: a VRF only changes the table |
//! | the VRF itself | no | its members have had the packet |
//! | VLAN, MACVLAN, IPVLAN | yes | the stack is behind it |
//! | their parent | yes | the stack is behind it too, for the parent's own frames: the programs let pass what carries a tag or another's MAC address |
//! | MACVTAP, IPVTAP | no | a program reads it, mostly a virtual machine |
//! | dummy, IFB | no | nothing arrives there from anywhere |
//! | loopback | as set | local clients, and only if the socket hook does not serve them |
//! | TUN, PPP, WireGuard, IP tunnels | no | their packets have no Ethernet header, which the programs read first |
//!
//! Whether it is up does not matter: attached early, no packet is missed when it comes up.

use std::collections::BTreeMap;
use std::str::Chars;

use super::snapshot::{Link, LinkKind};

/// The number of Ethernet among the kinds of link-layer headers.
pub(super) const ARPHRD_ETHER: u16 = 1;

/// What an administrator wants different.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttachSettings {
    /// Attach to the loopback interface too.
    pub loopback: bool,
    /// Patterns of interface names, `*` for any characters and `?` for one. Where some are given, an interface that
    /// none matches is left alone. One that begins with `!` takes out what it matches, wherever it stands.
    pub names: Vec<String>,
}

/// Whether to attach, and why or why not in a few words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Attach.
    pub attach: bool,
    /// For a person: what the interface is.
    pub reason: &'static str,
}

impl Decision {
    const fn yes(reason: &'static str) -> Self {
        Self {
            attach: true,
            reason,
        }
    }

    const fn no(reason: &'static str) -> Self {
        Self {
            attach: false,
            reason,
        }
    }
}

/// Decides for one link; `links` are all of its namespace, by index.
#[must_use]
pub fn decide(link: &Link, links: &BTreeMap<u32, Link>, settings: &AttachSettings) -> Decision {
    if !settings.selects(&link.name) {
        return Decision::no("left out by the settings");
    }
    if link.loopback {
        return if settings.loopback {
            Decision::yes("loopback, by the settings")
        } else {
            Decision::no("loopback")
        };
    }
    if link.header_type != ARPHRD_ETHER {
        return Decision::no("its packets have no Ethernet header");
    }
    if let Some(master) = link.master {
        return match links.get(&master).map(|master| &master.kind) {
            Some(LinkKind::Vrf) => Decision::yes("member of a VRF"),
            Some(LinkKind::Bridge { .. }) => Decision::no("port of a bridge"),
            Some(LinkKind::Bond | LinkKind::Team) => Decision::no("port of a bond"),
            Some(_) | None => Decision::no("belongs to another interface"),
        };
    }
    match &link.kind {
        LinkKind::Physical => Decision::yes("Ethernet interface"),
        LinkKind::Bridge { .. } => Decision::yes("bridge"),
        LinkKind::Bond | LinkKind::Team => Decision::yes("bond"),
        LinkKind::Vlan { .. } => Decision::yes("VLAN"),
        LinkKind::Macvlan => Decision::yes("MACVLAN"),
        LinkKind::Ipvlan => Decision::yes("IPVLAN"),
        LinkKind::Vxlan { .. } => Decision::yes("VXLAN"),
        LinkKind::Veth => Decision::yes("veth"),
        LinkKind::Netkit => Decision::yes("netkit"),
        LinkKind::Tun => Decision::yes("TAP"),
        LinkKind::Other(_) => Decision::yes("Ethernet interface"),
        LinkKind::Vrf => Decision::no("its members have had the packets"),
        LinkKind::Macvtap | LinkKind::Ipvtap => Decision::no("a program reads its packets"),
        LinkKind::Dummy => Decision::no("nothing arrives on a dummy"),
        LinkKind::Ifb => Decision::no("packets only pass through it"),
    }
}

impl AttachSettings {
    fn selects(&self, name: &str) -> bool {
        let mut wanted = None;
        for pattern in &self.names {
            match pattern.strip_prefix('!') {
                Some(pattern) if matches(pattern, name) => return false,
                Some(_) => {}
                None => wanted = Some(wanted.unwrap_or(false) || matches(pattern, name)),
            }
        }
        wanted.unwrap_or(true)
    }
}

/// Whether a name matches a pattern of `*`, `?` and characters that stand for themselves.
fn matches(pattern: &str, name: &str) -> bool {
    let (mut pattern, mut name) = (pattern.chars(), name.chars());
    // Where to go on when what follows the last star turns out not to fit: the star takes one character more.
    let mut retry: Option<(Chars<'_>, Chars<'_>)> = None;
    loop {
        let before = name.clone();
        let fits = match (pattern.next(), name.next()) {
            (Some('*'), _) => {
                name = before.clone();
                retry = Some((pattern.clone(), before));
                true
            }
            (Some('?'), Some(_)) => true,
            (Some(wanted), Some(found)) => wanted == found,
            (None, None) => return true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        if !fits {
            let Some((after_star, taken)) = &mut retry else {
                return false;
            };
            if taken.next().is_none() {
                return false;
            }
            pattern = after_star.clone();
            name = taken.clone();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARPHRD_NONE: u16 = 0xfffe;

    fn link(ifindex: u32, kind: LinkKind) -> Link {
        Link {
            ifindex,
            name: format!("if{ifindex}"),
            header_type: ARPHRD_ETHER,
            mac: Some([2, 0, 0, 0, 0, 1]),
            mtu: 1500,
            up: true,
            loopback: false,
            master: None,
            forwards: false,
            peer: None,
            peer_namespace: None,
            kind,
        }
    }

    fn with(links: &[Link]) -> BTreeMap<u32, Link> {
        links
            .iter()
            .map(|link| (link.ifindex, link.clone()))
            .collect()
    }

    fn alone(link: &Link) -> bool {
        decide(
            link,
            &with(std::slice::from_ref(link)),
            &AttachSettings::default(),
        )
        .attach
    }

    #[test]
    fn where_the_stack_is_behind_the_interface() {
        for kind in [
            LinkKind::Physical,
            LinkKind::Bridge { filters: false },
            LinkKind::Bond,
            LinkKind::Team,
            LinkKind::Vlan { id: 7 },
            LinkKind::Macvlan,
            LinkKind::Ipvlan,
            LinkKind::Vxlan { vni: Some(4097) },
            LinkKind::Veth,
            LinkKind::Netkit,
            LinkKind::Tun,
            LinkKind::Other("gretap".to_owned()),
        ] {
            assert!(alone(&link(2, kind.clone())), "{kind:?}");
        }
    }

    #[test]
    fn where_nothing_arrives_or_somebody_else_reads() {
        for kind in [
            LinkKind::Dummy,
            LinkKind::Ifb,
            LinkKind::Vrf,
            LinkKind::Macvtap,
            LinkKind::Ipvtap,
        ] {
            assert!(!alone(&link(2, kind.clone())), "{kind:?}");
        }
    }

    #[test]
    fn a_port_leaves_it_to_its_master() {
        for master in [
            LinkKind::Bridge { filters: false },
            LinkKind::Bond,
            LinkKind::Team,
            LinkKind::Other("openvswitch".to_owned()),
        ] {
            for kind in [
                LinkKind::Physical,
                LinkKind::Veth,
                LinkKind::Vlan { id: 7 },
                LinkKind::Vxlan { vni: None },
                LinkKind::Bond,
            ] {
                let mut port = link(3, kind.clone());
                port.master = Some(2);
                let links = with(&[link(2, master.clone()), port.clone()]);
                let decision = decide(&port, &links, &AttachSettings::default());
                assert!(!decision.attach, "{kind:?} in {master:?}");
            }
        }
        // A master that is not known is still a master.
        let mut port = link(3, LinkKind::Veth);
        port.master = Some(99);
        assert!(!alone(&port));
    }

    #[test]
    fn a_vrf_is_no_master_in_this_sense() {
        let mut member = link(3, LinkKind::Physical);
        member.master = Some(2);
        let links = with(&[link(2, LinkKind::Vrf), member.clone()]);
        assert!(decide(&member, &links, &AttachSettings::default()).attach);
    }

    #[test]
    fn the_parent_of_a_vlan_is_attached_beside_it() {
        let parent = link(2, LinkKind::Physical);
        let mut vlan = link(3, LinkKind::Vlan { id: 7 });
        vlan.peer = Some(2);
        let links = with(&[parent.clone(), vlan.clone()]);
        assert!(decide(&parent, &links, &AttachSettings::default()).attach);
        assert!(decide(&vlan, &links, &AttachSettings::default()).attach);
    }

    #[test]
    fn it_does_not_matter_whether_the_interface_is_up() {
        let mut down = link(2, LinkKind::Veth);
        down.up = false;
        assert!(alone(&down));
    }

    #[test]
    fn without_an_ethernet_header_there_is_nothing_to_read() {
        let mut tun = link(2, LinkKind::Tun);
        tun.header_type = ARPHRD_NONE;
        tun.mac = None;
        let decision = decide(&tun, &with(&[tun.clone()]), &AttachSettings::default());
        assert!(!decision.attach);
        assert!(decision.reason.contains("no Ethernet header"));
    }

    #[test]
    fn loopback_is_attached_only_when_asked_for() {
        let mut lo = link(1, LinkKind::Physical);
        lo.loopback = true;
        lo.header_type = 772;
        assert!(!alone(&lo));
        let settings = AttachSettings {
            loopback: true,
            ..AttachSettings::default()
        };
        assert!(decide(&lo, &with(&[lo.clone()]), &settings).attach);
    }

    #[test]
    fn names_choose_among_what_could_be_attached() {
        let chosen = |names: &[&str]| {
            let settings = AttachSettings {
                names: names.iter().map(|name| (*name).to_owned()).collect(),
                ..AttachSettings::default()
            };
            ["eth0", "eth1", "br0", "veth4f3a"]
                .into_iter()
                .filter(|name| settings.selects(name))
                .collect::<Vec<_>>()
        };
        assert_eq!(chosen(&[]), ["eth0", "eth1", "br0", "veth4f3a"]);
        assert_eq!(chosen(&["eth*"]), ["eth0", "eth1"]);
        assert_eq!(chosen(&["eth?", "br0"]), ["eth0", "eth1", "br0"]);
        assert_eq!(chosen(&["!veth*"]), ["eth0", "eth1", "br0"]);
        assert_eq!(chosen(&["!eth1", "eth*"]), ["eth0"]);
        assert_eq!(chosen(&["*h*a", "*0"]), ["eth0", "br0", "veth4f3a"]);
        assert_eq!(chosen(&["*", "!*0"]), ["eth1", "veth4f3a"]);
        assert_eq!(chosen(&["*th?", "*4f*3a*"]), ["eth0", "eth1", "veth4f3a"]);
        assert_eq!(chosen(&["eth"]), Vec::<&str>::new());
        // Chosen by name does not make a port attachable.
        let mut port = link(3, LinkKind::Veth);
        port.master = Some(2);
        let settings = AttachSettings {
            names: vec!["if3".to_owned()],
            ..AttachSettings::default()
        };
        let links = with(&[link(2, LinkKind::Bridge { filters: false }), port.clone()]);
        assert!(!decide(&port, &links, &settings).attach);
    }
}
