//! ipvsadm's commands in bpvs's own words, for a bpvs that cannot be called as ipvsadm.

/// The arguments of `bpvs` that do what these arguments of `ipvsadm` do, or what is missing for
/// that.
pub fn ipvsadm(words: &[&str]) -> Result<Vec<String>, String> {
    let plain = match words {
        ["-Ln"] => Some("list".to_owned()),
        ["-Lnc"] => Some("conns".to_owned()),
        ["-Z"] => Some("zero".to_owned()),
        ["--set", tcp, fin, udp] => {
            // 0 leaves a timeout as it is.
            let set: String = [("tcp", tcp), ("tcp-fin", fin), ("udp", udp)]
                .into_iter()
                .filter(|(_, value)| **value != "0")
                .map(|(name, value)| format!(" timeouts.{name}={value}s"))
                .collect();
            Some(format!("settings set{set}"))
        }
        _ => None,
    };
    if let Some(plain) = plain {
        return Ok(plain.split(' ').map(str::to_owned).collect());
    }
    let missing = |what: &str| Err(format!("ipvsadm {what}"));
    let mut said = Said::default();
    let mut rest = words.iter().copied();
    while let Some(word) = rest.next() {
        let mut value = || rest.next().unwrap_or_default().to_owned();
        match word {
            "-A" | "-E" | "-D" | "-a" | "-e" | "-d" | "-Z" => said.command = word.to_owned(),
            "-t" => said.service = format!("tcp:{}", value()),
            "-u" => said.service = format!("udp:{}", value()),
            "-f" => said.service = format!("fwmark:{}", value()),
            "-r" => said.server = value(),
            "-s" => said.scheduler = Some(value()),
            "-b" => said.flags = Some(value()),
            "-p" => said.persistent = Some(value()),
            "-M" => said.netmask = Some(value()),
            "-o" => said.one_packet = true,
            "-w" => said.weight = Some(value()),
            "-x" => said.upper = Some(value()),
            "-y" => said.lower = Some(value()),
            "-m" => said.method = Some("masq"),
            "-g" => said.method = Some("direct"),
            "-i" => said.method = Some("tunnel"),
            _ => return missing(word),
        }
    }
    said.words().map_or_else(|| missing(&words.join(" ")), Ok)
}

/// What a command of ipvsadm said.
#[derive(Default)]
struct Said {
    command: String,
    service: String,
    server: String,
    scheduler: Option<String>,
    flags: Option<String>,
    persistent: Option<String>,
    netmask: Option<String>,
    one_packet: bool,
    weight: Option<String>,
    upper: Option<String>,
    lower: Option<String>,
    method: Option<&'static str>,
}

impl Said {
    fn words(self) -> Option<Vec<String>> {
        let or = |value: Option<String>, usual: &str| value.unwrap_or_else(|| usual.to_owned());
        let mut words = match self.command.as_str() {
            "-Z" => vec!["zero"],
            "-A" => vec!["service", "add"],
            "-E" => vec!["service", "edit"],
            "-D" => vec!["service", "remove"],
            "-a" => vec!["server", "add"],
            "-e" => vec!["server", "edit"],
            "-d" => vec!["server", "remove"],
            _ => return None,
        }
        .into_iter()
        .map(str::to_owned)
        .collect::<Vec<_>>();
        words.push(self.service);
        let edit = self.command == "-E";
        match self.command.as_str() {
            // What ipvsadm's -E and -e do not name is as with -A and -a; with bpvs it stays.
            "-A" | "-E" => {
                words.extend(["--scheduler".into(), or(self.scheduler, "wlc")]);
                words.extend(["--scheduler-flags".into(), or(self.flags, "none")]);
                match self.persistent {
                    Some(seconds) => words.push(format!("--persistent={seconds}s")),
                    None if edit => words.push("--persistent=off".into()),
                    None => {}
                }
                if let Some(netmask) = self.netmask {
                    words.extend(["--netmask".into(), netmask]);
                }
                match (self.one_packet, edit) {
                    (true, _) => words.push("--one-packet".into()),
                    (false, true) => words.push("--one-packet=false".into()),
                    (false, false) => {}
                }
            }
            "-a" | "-e" => {
                words.push(self.server);
                words.extend(["--weight".into(), or(self.weight, "1")]);
                words.extend(["--method".into(), self.method.unwrap_or("direct").into()]);
                words.extend(["--upper-threshold".into(), or(self.upper, "0")]);
                words.extend(["--lower-threshold".into(), or(self.lower, "0")]);
            }
            "-d" => words.push(self.server),
            _ => {}
        }
        Some(words)
    }
}

#[cfg(test)]
mod tests {
    use super::ipvsadm;

    fn said(text: &str) -> String {
        let words: Vec<&str> = text.split(' ').collect();
        ipvsadm(&words).map_or_else(|missing| missing, |words| words.join(" "))
    }

    #[test]
    fn what_an_edit_does_not_name_is_said_all_the_same() {
        assert_eq!(
            said("-E -t 10.9.0.1:80"),
            "service edit tcp:10.9.0.1:80 --scheduler wlc --scheduler-flags none --persistent=off \
             --one-packet=false"
        );
        assert_eq!(
            said("-e -f 7 -r 10.1.0.11"),
            "server edit fwmark:7 10.1.0.11 --weight 1 --method direct --upper-threshold 0 \
             --lower-threshold 0"
        );
        assert_eq!(
            said("--set 20 0 4"),
            "settings set timeouts.tcp=20s timeouts.udp=4s"
        );
        assert_eq!(said("-S -n"), "ipvsadm -S");
    }
}
