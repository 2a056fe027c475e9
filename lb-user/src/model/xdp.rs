//! On which interfaces of a scope packets are handled in XDP already.

use std::fmt;
use std::str::FromStr;

use super::ModelError;

/// The longest name that an interface can have.
const LONGEST: usize = 15;

/// Which interfaces. In text: `off`, `auto`, or names with commas between.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Xdp {
    /// None.
    #[default]
    Off,
    /// Those that carry frames of a wire, as far as their drivers can.
    Auto,
    /// These, by their names.
    Named(Vec<String>),
}

impl Xdp {
    /// The name under which it is among the settings.
    pub const NAME: &'static str = "xdp";

    /// These interfaces.
    ///
    /// # Errors
    /// [`ModelError::Xdp`]: there is none, or one cannot be the name of an interface.
    pub fn named(names: impl IntoIterator<Item = impl Into<String>>) -> Result<Self, ModelError> {
        let mut all: Vec<String> = Vec::new();
        for name in names {
            let name = name.into();
            let usable = |c: char| !c.is_whitespace() && !matches!(c, '/' | ',' | ':');
            let possible = (1..=LONGEST).contains(&name.len())
                && name.chars().all(usable)
                && !matches!(&*name, "." | ".." | "off" | "auto");
            if !possible {
                return Err(ModelError::Xdp(name));
            }
            if !all.contains(&name) {
                all.push(name);
            }
        }
        if all.is_empty() {
            return Err(ModelError::Xdp(String::new()));
        }
        Ok(Self::Named(all))
    }

    /// Whether an interface was asked for by its name.
    #[must_use]
    pub fn names(&self, interface: &str) -> bool {
        matches!(self, Self::Named(names) if names.iter().any(|name| name == interface))
    }
}

impl FromStr for Xdp {
    type Err = ModelError;

    fn from_str(text: &str) -> Result<Self, ModelError> {
        match text {
            "off" => Ok(Self::Off),
            "auto" => Ok(Self::Auto),
            names => Self::named(names.split(',').map(str::trim)),
        }
    }
}

impl fmt::Display for Xdp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Auto => f.write_str("auto"),
            Self::Named(names) => f.write_str(&names.join(",")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_written() {
        for text in ["off", "auto", "eth0", "eth0,enp3s0f1np1"] {
            assert_eq!(text.parse::<Xdp>().unwrap().to_string(), text);
        }
        assert_eq!(" eth0, eth1,eth0 ".parse(), Xdp::named(["eth0", "eth1"]));
        assert!(Xdp::named(["eth0"]).unwrap().names("eth0"));
        assert!(!Xdp::Auto.names("auto"));
    }

    #[test]
    fn what_no_interface_is_called_is_refused() {
        for text in [
            "",
            "eth0,",
            "a/b",
            "eth0,auto",
            "sixteen-letters-",
            "e th0",
            "..",
        ] {
            assert!(text.parse::<Xdp>().is_err(), "{text:?}");
        }
        assert!(Xdp::named(["eth0,eth1"]).is_err());
        assert!(Xdp::named(Vec::<String>::new()).is_err());
    }
}
