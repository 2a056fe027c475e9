//! The ports that a namespace's kernel gives to sockets by itself.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::netns::NetNs;

/// Where they are told, of the namespace of whoever opens it. It is IPv6's as well.
const PATH: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// The setting of one namespace. Once open, the file is that namespace's wherever it is read.
#[derive(Debug)]
pub(super) struct LocalPorts(Option<File>);

impl LocalPorts {
    /// Nobody announces a change, so it is to be read now and then.
    pub(super) fn open(netns: &NetNs) -> Self {
        let file = netns.run_in(|| File::open(PATH));
        match file {
            Ok(Ok(file)) => Self(Some(file)),
            Ok(Err(error)) => {
                tracing::debug!(%netns, "{PATH}: {error}");
                Self(None)
            }
            Err(error) => {
                tracing::debug!(%netns, "{PATH}: {error}");
                Self(None)
            }
        }
    }

    /// The first and the last one; None where that is not to be found out.
    pub(super) fn read(&self) -> Option<(u16, u16)> {
        let mut text = [0; 32];
        let length = self.0.as_ref()?.read_at(&mut text, 0).ok()?;
        parse(str::from_utf8(text.get(..length)?).ok()?)
    }
}

fn parse(text: &str) -> Option<(u16, u16)> {
    let mut words = text.split_whitespace().map(str::parse);
    match (words.next()?, words.next()?, words.next()) {
        (Ok(first), Ok(last), None) if first <= last => Some((first, last)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says() {
        assert_eq!(parse("32768\t60999\n"), Some((32_768, 60_999)));
        for wrong in ["", "1024", "9 8", "1 2 3", "-1 5", "1 65536"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn of_this_namespace() {
        let read = LocalPorts::open(&NetNs::current().unwrap()).read();
        assert_eq!(read, parse(&std::fs::read_to_string(PATH).unwrap()));
        assert!(read.is_some());
    }
}
