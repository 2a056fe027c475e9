//! What a scope can have set for all of its services: timeouts, and IPVS's sysctls by their names.

use std::time::Duration;

use super::{ModelError, Xdp, format_duration, nearest, parse_duration};

/// The longest timeout: 31 days, as with ipvsadm.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(31 * 86_400);

/// Passes a timeout of 1 s to 31 days in whole seconds.
///
/// # Errors
/// [`ModelError::Timeout`].
pub fn check_timeout(timeout: Duration) -> Result<Duration, ModelError> {
    if timeout.as_secs() >= 1 && timeout <= MAX_TIMEOUT && timeout.subsec_nanos() == 0 {
        Ok(timeout)
    } else {
        Err(ModelError::Timeout(format_duration(timeout)))
    }
}

/// The timeouts of idle connections that can be set, as `ipvsadm --set` has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// An established TCP connection; 15 minutes unless set.
    pub tcp: Duration,
    /// A TCP connection that is being closed (`FIN_WAIT`); 2 minutes unless set.
    pub tcp_fin: Duration,
    /// A UDP exchange; 5 minutes unless set.
    pub udp: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            tcp: Duration::from_secs(900),
            tcp_fin: Duration::from_secs(120),
            udp: Duration::from_secs(300),
        }
    }
}

impl Timeouts {
    /// The names under which they are among the settings.
    pub const NAMES: [&str; 3] = ["timeouts.tcp", "timeouts.tcp-fin", "timeouts.udp"];

    /// The same, if each is in range.
    ///
    /// # Errors
    /// [`ModelError::Timeout`].
    pub fn checked(self) -> Result<Self, ModelError> {
        self.all()
            .into_iter()
            .try_for_each(|timeout| check_timeout(timeout).map(drop))?;
        Ok(self)
    }

    /// In the order of [`Timeouts::NAMES`].
    #[must_use]
    pub const fn all(&self) -> [Duration; 3] {
        [self.tcp, self.tcp_fin, self.udp]
    }

    fn of_name(&mut self, name: &str) -> Option<&mut Duration> {
        let place = Self::NAMES.iter().position(|known| *known == name)?;
        [&mut self.tcp, &mut self.tcp_fin, &mut self.udp]
            .into_iter()
            .nth(place)
    }
}

/// A sysctl of IPVS (`/proc/sys/net/ipv4/vs/`) that bpvs has, for each scope; and one of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Setting {
    /// Whether a SYN on a connection that has ended begins anew: 0 no; 1 yes; 2 and 3 also where direct routing has only
    /// seen the client's end of it.
    ConnReuseMode,
    /// 1: a packet of a connection whose server was removed begins anew, and such connections are removed at once.
    ExpireNodestConn,
    /// 1: a client is not led to a server of weight 0 by persistence.
    ExpireQuiescentTemplate,
    /// 1: any TCP segment but a reset may open a connection.
    SloppyTcp,
    /// 1: where a fwmark service has no server, packets go on to where they were sent.
    CacheBypass,
    /// Whether half-open connections are removed early: 0 never; 1, 2 while memory is short; 3 always.
    DropEntry,
    /// Whether some new connections are dropped: likewise.
    DropPacket,
    /// Whether only what real servers say establishes a TCP connection: likewise.
    SecureTcp,
    /// With `drop_packet` 3: one of so many new connections is dropped.
    AmDroprate,
    /// Memory is short when less than so many pages are free.
    Amemthresh,
    /// After how many seconds lblc forgets a destination that nobody asked for.
    LblcExpiration,
    /// After how many seconds lblcr does, and an unchanged set of its loses a server.
    LblcrExpiration,
    /// 1: rates are computed.
    RunEstimation,
    /// 1: a real server whose packet belongs to no connection is told so.
    NatIcmpSend,
    /// 1: an ICMP error about no connection may open one.
    ScheduleIcmp,
    /// 1: a SYN on a connection whose server was removed begins anew; 0: it is dropped, as in IPVS. Not one of IPVS's.
    ReopenRemoved,
    /// 1: local sockets are led to servers when they connect. Not IPVS's.
    SocketHook,
    /// How far packets to servers on this host go by the shortest way: 0 by the interface of their route, 1 straight to the
    /// bridge's port, 2 into the namespace behind it. Not IPVS's.
    Shortcut,
}

/// A sysctl of IPVS that has no meaning in bpvs: it can be read, and set to what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fixed {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub value: &'static str,
    /// Why it can be nothing else.
    pub reason: &'static str,
}

impl Fixed {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::new("backup_only", "0", NO_SYNC),
        Self::new(
            "conn_max",
            "1073741824",
            "room for connections is made by `bpvs run --connections`",
        ),
        Self::new(
            "conntrack",
            "0",
            "bpvs does not use the kernel's connection tracking",
        ),
        Self::new(
            "debug_level",
            "0",
            "what the daemon logs is set by BPVS_LOG",
        ),
        Self::new(
            "ignore_tunneled",
            "0",
            "packets of other protocols are never looked at again",
        ),
        Self::new("pmtu_disc", "1", "there are no tunnels"),
        Self::new("sloppy_sctp", "0", "there are no SCTP services"),
        Self::new(
            "snat_reroute",
            "1",
            "a reply's way is always that of its new source",
        ),
        Self::new("sync_persist_mode", "0", NO_SYNC),
        Self::new("sync_ports", "1", NO_SYNC),
        Self::new("sync_refresh_period", "0", NO_SYNC),
        Self::new("sync_retries", "0", NO_SYNC),
        Self::new("sync_sock_size", "0", NO_SYNC),
        Self::new("sync_threshold", "3 50", NO_SYNC),
        Self::new("sync_version", "1", NO_SYNC),
    ];

    const fn new(name: &'static str, value: &'static str, reason: &'static str) -> Self {
        Self {
            name,
            value,
            reason,
        }
    }
}

const NO_SYNC: &str = "connections are not synchronised with other directors";

impl Setting {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::ConnReuseMode,
        Self::ExpireNodestConn,
        Self::ExpireQuiescentTemplate,
        Self::SloppyTcp,
        Self::CacheBypass,
        Self::DropEntry,
        Self::DropPacket,
        Self::SecureTcp,
        Self::AmDroprate,
        Self::Amemthresh,
        Self::LblcExpiration,
        Self::LblcrExpiration,
        Self::RunEstimation,
        Self::NatIcmpSend,
        Self::ScheduleIcmp,
        Self::ReopenRemoved,
        Self::SocketHook,
        Self::Shortcut,
    ];

    /// IPVS's name, for those that IPVS has.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ConnReuseMode => "conn_reuse_mode",
            Self::ExpireNodestConn => "expire_nodest_conn",
            Self::ExpireQuiescentTemplate => "expire_quiescent_template",
            Self::SloppyTcp => "sloppy_tcp",
            Self::CacheBypass => "cache_bypass",
            Self::DropEntry => "drop_entry",
            Self::DropPacket => "drop_packet",
            Self::SecureTcp => "secure_tcp",
            Self::AmDroprate => "am_droprate",
            Self::Amemthresh => "amemthresh",
            Self::LblcExpiration => "lblc_expiration",
            Self::LblcrExpiration => "lblcr_expiration",
            Self::RunEstimation => "run_estimation",
            Self::NatIcmpSend => "nat_icmp_send",
            Self::ScheduleIcmp => "schedule_icmp",
            Self::ReopenRemoved => "reopen_removed",
            Self::SocketHook => "socket_hook",
            Self::Shortcut => "shortcut",
        }
    }

    /// The setting of this name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|setting| setting.name() == name)
    }

    /// What it is unless it is set; as in IPVS.
    #[must_use]
    pub const fn default_value(self) -> u32 {
        match self {
            Self::ConnReuseMode
            | Self::RunEstimation
            | Self::ReopenRemoved
            | Self::SocketHook
            | Self::Shortcut => 1,
            Self::AmDroprate => 10,
            Self::Amemthresh => 1024,
            Self::LblcExpiration | Self::LblcrExpiration => 86_400,
            _ => 0,
        }
    }

    /// The lowest and the highest value.
    #[must_use]
    pub const fn range(self) -> (u32, u32) {
        match self {
            Self::ConnReuseMode | Self::DropEntry | Self::DropPacket | Self::SecureTcp => (0, 3),
            Self::Shortcut => (0, 2),
            Self::AmDroprate | Self::Amemthresh => (0, i32::MAX as u32),
            Self::LblcExpiration | Self::LblcrExpiration => (0, MAX_TIMEOUT.as_secs() as u32),
            _ => (0, 1),
        }
    }

    /// Passes a value in range.
    ///
    /// # Errors
    /// [`ModelError::SettingValue`].
    pub fn checked(self, value: u32) -> Result<u32, ModelError> {
        let (least, most) = self.range();
        if (least..=most).contains(&value) {
            Ok(value)
        } else {
            Err(self.wrong(&value.to_string()))
        }
    }

    fn wrong(self, value: &str) -> ModelError {
        let (least, most) = self.range();
        ModelError::SettingValue {
            name: self.name(),
            value: value.into(),
            right: format!(
                "{} is a number from {least} to {most}, {} unless set",
                self.name(),
                self.default_value()
            ),
        }
    }

    /// The name of a setting that was probably meant.
    #[must_use]
    pub fn nearest(name: &str) -> Option<&'static str> {
        let settings = Self::ALL.into_iter().map(Self::name);
        let fixed = Fixed::ALL.into_iter().map(|fixed| fixed.name);
        let all: Vec<_> = settings
            .chain(fixed)
            .chain(Timeouts::NAMES)
            .chain([Xdp::NAME])
            .collect();
        nearest(name, &all)
    }
}

/// What is set for a whole scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// When idle connections are forgotten.
    pub timeouts: Timeouts,
    /// On which interfaces packets are handled in XDP already.
    pub xdp: Xdp,
    /// The sysctls, in the order of [`Setting::ALL`].
    values: [u32; Setting::ALL.len()],
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            timeouts: Timeouts::default(),
            xdp: Xdp::default(),
            values: Setting::ALL.map(Setting::default_value),
        }
    }
}

impl Settings {
    /// The value of a sysctl.
    #[must_use]
    pub const fn get(&self, setting: Setting) -> u32 {
        self.values[setting as usize]
    }

    /// Whether a sysctl is anything but 0.
    #[must_use]
    pub const fn is_on(&self, setting: Setting) -> bool {
        self.get(setting) != 0
    }

    /// Gives a sysctl another value.
    ///
    /// # Errors
    /// [`ModelError::SettingValue`] out of range.
    pub fn set(&mut self, setting: Setting, value: u32) -> Result<(), ModelError> {
        self.values[setting as usize] = setting.checked(value)?;
        Ok(())
    }

    /// The sysctls that are not at their defaults.
    pub fn changed(&self) -> impl Iterator<Item = (Setting, u32)> + '_ {
        Setting::ALL
            .into_iter()
            .map(|setting| (setting, self.get(setting)))
            .filter(|(setting, value)| *value != setting.default_value())
    }

    /// The same, if each timeout is in range.
    ///
    /// # Errors
    /// [`ModelError::Timeout`].
    pub fn checked(self) -> Result<Self, ModelError> {
        self.timeouts.checked()?;
        Ok(self)
    }

    /// The value of anything that can be read, by its name.
    ///
    /// # Errors
    /// [`ModelError::Setting`]: there is nothing of that name.
    pub fn read(&self, name: &str) -> Result<String, ModelError> {
        let mut timeouts = self.timeouts;
        if let Some(timeout) = timeouts.of_name(name) {
            return Ok(format_duration(*timeout));
        }
        if name == Xdp::NAME {
            return Ok(self.xdp.to_string());
        }
        if let Some(setting) = Setting::of_name(name) {
            return Ok(self.get(setting).to_string());
        }
        Fixed::ALL
            .iter()
            .find(|fixed| fixed.name == name)
            .map(|fixed| fixed.value.to_owned())
            .ok_or_else(|| ModelError::Setting(name.into()))
    }
}

/// Settings that are to be different; all others stay.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SettingsEdit {
    timeouts: Vec<(usize, Duration)>,
    values: Vec<(Setting, u32)>,
    xdp: Option<Xdp>,
}

impl SettingsEdit {
    /// Adds one by its name, with its value as it is written: `15m`, `1`.
    ///
    /// # Errors
    /// There is no such setting, or it cannot have this value.
    pub fn assign(&mut self, name: &str, value: &str) -> Result<(), ModelError> {
        if let Some(place) = Timeouts::NAMES.iter().position(|known| *known == name) {
            let timeout = parse_duration(value).and_then(check_timeout)?;
            self.timeouts.push((place, timeout));
            return Ok(());
        }
        if name == Xdp::NAME {
            self.xdp = Some(value.parse()?);
            return Ok(());
        }
        if let Some(setting) = Setting::of_name(name) {
            let number = value.parse().map_err(|_| setting.wrong(value))?;
            self.values.push((setting, setting.checked(number)?));
            return Ok(());
        }
        match Fixed::ALL.iter().find(|fixed| fixed.name == name) {
            Some(fixed) if fixed.value == value => Ok(()),
            Some(fixed) => Err(ModelError::SettingFixed {
                name: fixed.name,
                value: value.into(),
                default: fixed.value,
                reason: fixed.reason,
            }),
            None => Err(ModelError::Setting(name.into())),
        }
    }

    /// The settings as they are to be.
    #[must_use]
    pub fn edited(&self, settings: &Settings) -> Settings {
        let mut settings = settings.clone();
        for (place, timeout) in &self.timeouts {
            if let Some(there) = settings.timeouts.of_name(Timeouts::NAMES[*place]) {
                *there = *timeout;
            }
        }
        if let Some(xdp) = &self.xdp {
            settings.xdp.clone_from(xdp);
        }
        for (setting, value) in &self.values {
            settings.values[*setting as usize] = *value;
        }
        settings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_there_once() {
        let mut names: Vec<_> = Setting::ALL.into_iter().map(Setting::name).collect();
        names.extend(Fixed::ALL.iter().map(|fixed| fixed.name));
        names.extend(Timeouts::NAMES);
        names.push(Xdp::NAME);
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        for (place, setting) in Setting::ALL.into_iter().enumerate() {
            assert_eq!(setting as usize, place);
            assert!(setting.checked(setting.default_value()).is_ok());
        }
    }

    #[test]
    fn defaults_are_those_of_ipvs() {
        let settings = Settings::default();
        for (name, value) in [
            ("conn_reuse_mode", "1"),
            ("expire_nodest_conn", "0"),
            ("expire_quiescent_template", "0"),
            ("sloppy_tcp", "0"),
            ("cache_bypass", "0"),
            ("drop_entry", "0"),
            ("drop_packet", "0"),
            ("am_droprate", "10"),
            ("amemthresh", "1024"),
            ("run_estimation", "1"),
            ("nat_icmp_send", "0"),
            ("schedule_icmp", "0"),
            ("reopen_removed", "1"),
            ("lblc_expiration", "86400"),
            ("lblcr_expiration", "86400"),
            ("conntrack", "0"),
            ("snat_reroute", "1"),
            ("sync_threshold", "3 50"),
            ("pmtu_disc", "1"),
            ("timeouts.tcp", "15m"),
            ("timeouts.tcp-fin", "2m"),
            ("timeouts.udp", "5m"),
        ] {
            assert_eq!(settings.read(name).unwrap(), value, "{name}");
        }
        assert_eq!(settings.changed().count(), 0);
    }

    #[test]
    fn an_edit_changes_what_it_names() {
        let mut edit = SettingsEdit::default();
        for (name, value) in [
            ("drop_packet", "3"),
            ("timeouts.tcp-fin", "30s"),
            ("conntrack", "0"),
            ("xdp", "eth0,eth1"),
        ] {
            edit.assign(name, value).unwrap();
        }
        let settings = edit.edited(&Settings::default());
        assert_eq!(
            settings.changed().collect::<Vec<_>>(),
            [(Setting::DropPacket, 3)]
        );
        assert_eq!(settings.read("xdp").unwrap(), "eth0,eth1");
        assert_eq!(settings.timeouts.tcp_fin, Duration::from_secs(30));
        assert_eq!(settings.timeouts.tcp, Timeouts::default().tcp);
    }

    #[test]
    fn wrong_settings_say_what_would_be_right() {
        for (name, value, message, hint) in [
            (
                "drop_packets",
                "1",
                "there is no setting `drop_packets`",
                "did you mean drop_packet? `bpvs settings` shows them all",
            ),
            (
                "drop_packet",
                "4",
                "drop_packet cannot be `4`",
                "drop_packet is a number from 0 to 3, 0 unless set",
            ),
            (
                "sloppy_tcp",
                "yes",
                "sloppy_tcp cannot be `yes`",
                "sloppy_tcp is a number from 0 to 1, 0 unless set",
            ),
            (
                "conntrack",
                "1",
                "conntrack cannot be set to 1: bpvs does not use the kernel's connection tracking",
                "leave conntrack at 0",
            ),
            (
                "xdp",
                "eth0 eth1",
                "xdp cannot be `eth0 eth1`",
                "xdp is off, auto, or the names of interfaces, as in eth0 or eth0,eth1",
            ),
            (
                "timeouts.udp",
                "0s",
                "timeout 0s is out of range",
                "a timeout is at least 1s and at most 31d, in whole seconds",
            ),
        ] {
            let error = SettingsEdit::default().assign(name, value).unwrap_err();
            assert_eq!(error.to_string(), message);
            assert_eq!(error.hint().unwrap(), hint);
        }
    }
}
