//! Which option may stand with which command, and with which kind of tunnel.

use super::failure::Failure;
use super::options::Opt;
use super::view::TunnelKind;

/// What the rules are about: an option, or several that stand for one thing. The order is that in which they are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    Numeric,
    Connection,
    Service,
    Scheduler,
    Persistent,
    Netmask,
    RealServer,
    Forwarding,
    Weight,
    UpperThreshold,
    LowerThreshold,
    MulticastInterface,
    Timeout,
    Daemon,
    Stats,
    Rate,
    Thresholds,
    PersistentConn,
    NoSort,
    SyncId,
    Exact,
    OnePacket,
    Engine,
    SchedulerFlags,
    MulticastGroup,
    MulticastPort,
    MulticastTtl,
    SyncMaxLength,
    TunnelInfo,
    TunnelType,
    TunnelPort,
    TunnelNoChecksum,
    TunnelChecksum,
    TunnelRemoteChecksum,
}

use Subject as S;

/// All subjects with the names that complaints give them.
const SUBJECTS: [(Subject, &str); 34] = [
    (S::Numeric, "numeric"),
    (S::Connection, "connection"),
    (S::Service, "service-address"),
    (S::Scheduler, "scheduler"),
    (S::Persistent, "persistent"),
    (S::Netmask, "netmask"),
    (S::RealServer, "real-server"),
    (S::Forwarding, "forwarding-method"),
    (S::Weight, "weight"),
    (S::UpperThreshold, "u-threshold"),
    (S::LowerThreshold, "l-threshold"),
    (S::MulticastInterface, "mcast-interface"),
    (S::Timeout, "timeout"),
    (S::Daemon, "daemon"),
    (S::Stats, "stats"),
    (S::Rate, "rate"),
    (S::Thresholds, "thresholds"),
    (S::PersistentConn, "persistent-conn"),
    (S::NoSort, "nosort"),
    (S::SyncId, "syncid"),
    (S::Exact, "exact"),
    (S::OnePacket, "ops"),
    (S::Engine, "pe"),
    (S::SchedulerFlags, "sched-flags"),
    (S::MulticastGroup, "mcast-group"),
    (S::MulticastPort, "mcast-port"),
    (S::MulticastTtl, "mcast-ttl"),
    (S::SyncMaxLength, "sync-maxlen"),
    (S::TunnelInfo, "tun-info"),
    (S::TunnelType, "tun-type"),
    (S::TunnelPort, "tun-port"),
    (S::TunnelNoChecksum, "tun-nocsum"),
    (S::TunnelChecksum, "tun-csum"),
    (S::TunnelRemoteChecksum, "tun-remcsum"),
];

/// What of the subjects has been met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Given(u64);

impl Given {
    /// Notes a subject.
    ///
    /// # Errors
    /// It has been met before.
    pub(super) fn set(&mut self, subject: Subject) -> Result<(), Failure> {
        if self.has(subject) {
            let (_, name) = SUBJECTS[subject as usize];
            return Err(Failure::fatal(format!(
                "multiple '{name}' options specified"
            )));
        }
        self.0 |= 1 << subject as u32;
        Ok(())
    }

    /// Whether it has been met.
    pub(super) const fn has(self, subject: Subject) -> bool {
        self.0 & (1 << subject as u32) != 0
    }

    /// Whether one of them has been met.
    pub(super) fn any(self, subjects: &[Subject]) -> bool {
        subjects.iter().any(|subject| self.has(*subject))
    }
}

/// What a command, or a kind of tunnel, needs and takes.
struct Rules {
    /// What complaints call it.
    name: &'static str,
    needed: &'static [Subject],
    taken: &'static [Subject],
    /// Of these at most one.
    one_of: &'static [Subject],
}

const SERVICE_ATTRIBUTES: &[Subject] = &[
    S::Scheduler,
    S::Persistent,
    S::Netmask,
    S::OnePacket,
    S::Engine,
    S::SchedulerFlags,
];

const SERVER_ATTRIBUTES: &[Subject] = &[
    S::Forwarding,
    S::Weight,
    S::UpperThreshold,
    S::LowerThreshold,
    S::TunnelType,
    S::TunnelPort,
    S::TunnelNoChecksum,
    S::TunnelChecksum,
    S::TunnelRemoteChecksum,
];

const TUNNEL_OPTIONS: &[Subject] = &[
    S::TunnelType,
    S::TunnelPort,
    S::TunnelNoChecksum,
    S::TunnelChecksum,
    S::TunnelRemoteChecksum,
];

const fn rules(
    name: &'static str,
    needed: &'static [Subject],
    taken: &'static [Subject],
    one_of: &'static [Subject],
) -> Rules {
    Rules {
        name,
        needed,
        taken,
        one_of,
    }
}

/// The rules of a command; none for options that are no commands.
const fn of_command(command: Opt) -> Option<Rules> {
    Some(match command {
        Opt::AddService => rules("add-service", &[S::Service], SERVICE_ATTRIBUTES, &[]),
        Opt::EditService => rules("edit-service", &[S::Service], SERVICE_ATTRIBUTES, &[]),
        Opt::DeleteService => rules("delete-service", &[S::Service], &[], &[]),
        Opt::Clear => rules("flush", &[], &[], &[]),
        Opt::List => rules(
            "list",
            &[],
            &[
                S::Numeric,
                S::Stats,
                S::Rate,
                S::Thresholds,
                S::PersistentConn,
                S::NoSort,
                S::SyncId,
                S::Exact,
                S::TunnelInfo,
            ],
            &[S::Connection, S::Service, S::Timeout, S::Daemon],
        ),
        Opt::AddServer => rules(
            "add-server",
            &[S::Service, S::RealServer],
            SERVER_ATTRIBUTES,
            &[],
        ),
        Opt::EditServer => rules(
            "edit-server",
            &[S::Service, S::RealServer],
            SERVER_ATTRIBUTES,
            &[],
        ),
        Opt::DeleteServer => rules("delete-server", &[S::Service, S::RealServer], &[], &[]),
        Opt::Set => rules("set", &[], &[], &[]),
        Opt::StartDaemon => rules(
            "start-daemon",
            &[],
            &[
                S::MulticastInterface,
                S::SyncId,
                S::MulticastGroup,
                S::MulticastPort,
                S::MulticastTtl,
                S::SyncMaxLength,
            ],
            &[],
        ),
        Opt::StopDaemon => rules("stop-daemon", &[], &[S::SyncId], &[]),
        Opt::Restore => rules("restore", &[], &[], &[]),
        Opt::Save => rules("save", &[], &[S::Numeric], &[]),
        Opt::Zero => rules("zero", &[], &[S::Service], &[]),
        _ => return None,
    })
}

const fn of_tunnel(kind: TunnelKind) -> Rules {
    use Subject::{TunnelChecksum, TunnelNoChecksum, TunnelPort, TunnelRemoteChecksum, TunnelType};
    match kind {
        TunnelKind::Ipip => rules("ipip", &[], &[TunnelType], &[]),
        TunnelKind::Gue { .. } => rules(
            "gue",
            &[TunnelPort],
            &[TunnelType],
            &[TunnelNoChecksum, TunnelChecksum, TunnelRemoteChecksum],
        ),
        TunnelKind::Gre => rules(
            "gre",
            &[],
            &[TunnelType],
            &[TunnelNoChecksum, TunnelChecksum],
        ),
    }
}

/// Whether an option is a command with rules.
pub(super) const fn is_command(option: Opt) -> bool {
    of_command(option).is_some()
}

/// Whether the command may stand with what was given.
pub(super) fn check_command(command: Opt, given: Given) -> Result<(), Failure> {
    match of_command(command) {
        Some(rules) => check(&rules, given, "command", |_| true),
        None => Ok(()),
    }
}

/// Whether the kind of tunnel may stand with what was given.
pub(super) fn check_tunnel(kind: TunnelKind, given: Given) -> Result<(), Failure> {
    let about_tunnels = |subject| TUNNEL_OPTIONS.contains(&subject);
    check(&of_tunnel(kind), given, "tunnel type", about_tunnels)
}

/// Whether options for tunnels were given.
pub(super) fn has_tunnel_options(given: Given) -> bool {
    given.any(TUNNEL_OPTIONS)
}

/// What can be listed is one thing; these options go with services only.
pub(super) fn check_list(given: Given) -> Result<(), Failure> {
    let columns = given.any(&[S::Stats, S::Rate, S::Thresholds]);
    let lists = given.any(&[S::Connection, S::Timeout, S::Daemon]);
    let single = given.any(&[S::Timeout, S::Daemon]);
    if (lists && columns) || (single && given.has(S::PersistentConn)) {
        return Err(Failure::fatal("options conflicts in the list command"));
    }
    Ok(())
}

fn check(
    rules: &Rules,
    given: Given,
    what: &str,
    judged: impl Fn(Subject) -> bool,
) -> Result<(), Failure> {
    let name = rules.name;
    let mut one: Option<&str> = None;
    for (subject, option) in SUBJECTS.into_iter().filter(|(subject, _)| judged(*subject)) {
        let needed = rules.needed.contains(&subject);
        if !given.has(subject) {
            if needed {
                return Err(Failure::fatal(format!(
                    "You need to supply the '{option}' option for the '{name}' {what}"
                )));
            }
        } else if rules.one_of.contains(&subject) {
            if let Some(other) = one {
                return Err(Failure::fatal(format!(
                    "The option '{option}' conflicts with the '{other}' option in the '{name}' {what}"
                )));
            }
            one = Some(option);
        } else if !needed && !rules.taken.contains(&subject) {
            return Err(Failure::fatal(format!(
                "Illegal '{option}' option with the '{name}' {what}"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subject_stands_in_its_place() {
        for (place, (subject, _)) in SUBJECTS.into_iter().enumerate() {
            assert_eq!(subject as usize, place);
        }
    }
}
