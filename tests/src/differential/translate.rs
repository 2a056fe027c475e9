//! ipvsadm's commands in bpvs's own words, as far as bpvs has them.

/// The arguments of `bpvs` that do what these arguments of `ipvsadm` do, or what is missing for
/// that.
pub fn ipvsadm(words: &[&str]) -> Result<Vec<String>, String> {
    match words {
        ["-Ln"] => return Ok(vec!["list".into()]),
        ["-Lnc"] => return Ok(vec!["conns".into()]),
        _ => {}
    }
    let missing = |what: &str| Err(format!("no ipvsadm {what}"));
    let (mut command, mut service, mut server) = (None, None, None);
    let (mut scheduler, mut weight, mut method) = ("wlc", "1", "route");
    let mut rest = words.iter().copied();
    while let Some(word) = rest.next() {
        let mut value = || rest.next().unwrap_or_default();
        match word {
            "-A" | "-E" | "-D" | "-a" | "-e" | "-d" => command = Some(word),
            "-t" => service = Some(format!("tcp:{}", value())),
            "-u" => service = Some(format!("udp:{}", value())),
            "-f" => service = Some(format!("fwmark:{}", value())),
            "-r" => server = Some(value().to_owned()),
            "-s" => scheduler = value(),
            "-w" => weight = value(),
            "-m" => method = "masq",
            "-g" => method = "route",
            "-i" => method = "tunnel",
            _ => return missing(word),
        }
    }
    let (Some(command), Some(service)) = (command, service) else {
        return missing(&words.join(" "));
    };
    let words: Vec<String> = match (command, server) {
        ("-D", None) => vec!["service".into(), "remove".into(), service],
        ("-A" | "-E", None) => {
            if !["rr", "wrr"].contains(&scheduler) {
                return missing(&format!("-s {scheduler}"));
            }
            let verb = if command == "-A" { "add" } else { "edit" };
            vec![
                "service".into(),
                verb.into(),
                service,
                "--scheduler".into(),
                scheduler.into(),
            ]
        }
        ("-d", Some(server)) => vec!["server".into(), "remove".into(), service, server],
        ("-a" | "-e", Some(server)) => {
            if method != "masq" {
                return missing(&format!("forwarding method {method}"));
            }
            let verb = if command == "-a" { "add" } else { "edit" };
            vec![
                "server".into(),
                verb.into(),
                service,
                server,
                "--weight".into(),
                weight.into(),
                "--method".into(),
                method.into(),
            ]
        }
        _ => return missing(&words.join(" ")),
    };
    Ok(words)
}
