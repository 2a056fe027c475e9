//! The sections of a file and what they mean.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::ops::Range;
use std::time::Duration;

use toml::de::DeTable;

use super::problem::place;
use super::section::{FlagOrText, Section, Words, server_without_service};
use super::{Config, Problem, ScopeConfig};
use crate::control::{Declared, support};
use crate::model::{
    DEFAULT_PERSISTENCE, Fixed, MAX_MARK_SHAPES, MAX_THRESHOLD, MAX_WEIGHT, MarkRule, MarkShape,
    MarkValue, ModelError, Netmask, Persistence, Server, Service, ServiceKey, Setting, Settings,
    SettingsEdit, SourceNat, TableError, Xdp, check_timeout, parse_duration, parse_prefix,
};
use crate::provider::swarm;

const TIMEOUTS_EXAMPLE: &str = "timeouts = { tcp = \"15m\", udp = \"5m\" }";

/// How the sections of a scope are called in errors: at the top of the file, and inside a `[[scope]]`.
struct Names {
    service: &'static str,
    server: &'static str,
    mark: &'static str,
    settings: &'static str,
}

const HERE: Names = Names {
    service: "[[service]]",
    server: "[[service.server]]",
    mark: "[[mark]]",
    settings: "[settings]",
};
const SCOPE: Names = Names {
    service: "[[scope.service]]",
    server: "[[scope.service.server]]",
    mark: "[[scope.mark]]",
    settings: "[scope.settings]",
};

pub(super) fn document(text: &str) -> Result<Config, Problem> {
    let document = DeTable::parse(text).map_err(|error| syntax(text, &error))?;
    let table = document.get_ref();
    if let Some((key, _)) = table.get_key_value("server") {
        return Err(Problem::new(key.span(), "a server without a service")
            .hint("write [[service.server]] below its [[service]]"));
    }
    let top = Section::new(
        "the file",
        document.span(),
        table,
        &["service", "mark", "settings", "scope", "provider"],
    )?;
    let here = declared(text, &top, &HERE)?;

    let mut scopes: Vec<ScopeConfig> = Vec::new();
    for section in top.tables(
        "scope",
        "[[scope]]",
        &["netns", "service", "mark", "settings"],
    )? {
        let netns = section.required("netns", "lb")?;
        if scopes.iter().any(|scope| scope.netns == netns.value) {
            return Err(Problem::new(
                netns.span,
                format!("the scope of netns {} is there twice", netns.value),
            )
            .hint("put all of its services below one [[scope]]"));
        }
        if netns.value.is_empty() {
            return Err(Problem::new(netns.span, "netns is empty")
                .hint("give a name under /run/netns, as in netns = \"lb\", or a path"));
        }
        scopes.push(ScopeConfig {
            netns: netns.value.into(),
            declared: declared(text, &section, &SCOPE)?,
        });
    }
    Ok(Config {
        here,
        scopes,
        swarm: swarm(&top)?,
    })
}

/// `[provider.swarm]`.
fn swarm(top: &Section<'_>) -> Result<Option<swarm::Options>, Problem> {
    let example = "[provider.swarm]";
    let Some(providers) = top.table("provider", "[provider]", &["swarm"], example)? else {
        return Ok(None);
    };
    let known = ["docker", "sandboxes", "timeout", "client-address"];
    let Some(section) = providers.table("swarm", example, &known, example)? else {
        return Ok(None);
    };
    let mut options = swarm::Options::default();
    if let Some(docker) = section.text("docker", swarm::DOCKER)? {
        options.docker = docker.value.into();
    }
    if let Some(folder) = section.text("sandboxes", swarm::SANDBOXES)? {
        options.sandboxes = folder.value.into();
    }
    if let Some(timeout) = timeout(&section, "timeout")? {
        options.tcp_timeout = timeout;
    }
    if let Some(clients) = section.word("client-address", "\"keep\"", str::parse)? {
        options.clients = clients;
    }
    Ok(Some(options))
}

/// What TOML itself does not allow, but for the one case in which its message would lead astray.
fn syntax(text: &str, error: &toml::de::Error) -> Problem {
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        let header = line.trim_start();
        if header.starts_with("[[service]]") {
            break;
        }
        if header.starts_with("[[service.server]]") {
            // As TOML's own errors do, it points behind the brackets.
            let start = offset + line.len() - header.len() + 2;
            return server_without_service(start..start, "[[service]]");
        }
        offset += line.len();
    }
    let message = error
        .message()
        .lines()
        .next()
        .unwrap_or("not TOML")
        .to_owned();
    Problem::new(error.span().unwrap_or(0..0), message)
}

/// The entries of one scope.
fn declared(text: &str, section: &Section<'_>, names: &Names) -> Result<Declared, Problem> {
    let mut declared = Declared::default();

    let known = [
        "address",
        "scheduler",
        "scheduler-flags",
        "persistent",
        "netmask",
        "one-packet",
        "reset",
        "source-nat",
        "answer",
        "socket",
        "loopback",
        "relay",
        "clamp-mss",
        "timeouts",
        "server",
    ];
    let mut seen: HashMap<ServiceKey, usize> = HashMap::new();
    for section in section.tables("service", names.service, &known)? {
        let (service, span) = service(text, &section, names)?;
        if let Some(first) = seen.insert(service.key, span.start) {
            let (line, _) = place(text, first);
            return Err(
                Problem::new(span, format!("service {} is there twice", service.key)).hint(
                    format!(
                        "the first is in line {line}; put all of its servers below one {}",
                        names.service
                    ),
                ),
            );
        }
        declared
            .table
            .add_service(service)
            .map_err(|error| Problem::table(span, &error))?;
    }

    let known = [
        "mark",
        "interface",
        "source",
        "destination",
        "protocol",
        "ports",
    ];
    let mut rules: Vec<MarkRule> = Vec::new();
    let mut seen: HashSet<MarkRule> = HashSet::new();
    let mut shapes: BTreeSet<MarkShape> = BTreeSet::new();
    for section in section.tables("mark", names.mark, &known)? {
        let rule = mark_rule(&section)?;
        let span = section.span.clone();
        if !seen.insert(rule.clone()) {
            return Err(Problem::new(
                span,
                format!("mark rule `{rule}` is there twice"),
            ));
        }
        shapes.extend(rule.shapes());
        if shapes.len() > MAX_MARK_SHAPES {
            let shapes = shapes.len();
            return Err(Problem::table(
                span,
                &TableError::TooManyMarkShapes { shapes },
            ));
        }
        rules.push(rule);
    }
    let span = section.span.clone();
    declared
        .table
        .set_marks(rules)
        .map_err(|error| Problem::table(span, &error))?;

    if let Some(section) =
        section.table("settings", names.settings, &settings_keys(), names.settings)?
    {
        declared
            .table
            .set_settings(settings(&section)?)
            .map_err(|error| Problem::table(section.span.clone(), &error))?;
        declared.has_settings = true;
    }
    Ok(declared)
}

/// A service, and where its address stands.
fn service(
    text: &str,
    section: &Section<'_>,
    names: &Names,
) -> Result<(Service, Range<usize>), Problem> {
    let address = section.required("address", "tcp:10.0.0.100:80")?;
    let key = address
        .value
        .parse()
        .map_err(|error| Problem::model(address.span.clone(), &error))?;
    let mut service = Service::new(key, section.parsed("scheduler", "rr")?.unwrap_or_default());

    service.source_nat = match section.flag_or_text("source-nat", "10.0.1.5")? {
        None | Some(FlagOrText::Flag(false)) => SourceNat::Off,
        Some(FlagOrText::Flag(true)) => SourceNat::Interface,
        Some(FlagOrText::Text(text)) => {
            let address = text.value.parse().map_err(|_| {
                Problem::model(text.span.clone(), &ModelError::Address(text.value.into()))
            })?;
            service.source_nat = SourceNat::Address(address);
            service
                .clone()
                .checked()
                .map_err(|error| Problem::model(text.span, &error))?;
            service.source_nat
        }
    };
    service.answer = section.flag("answer")?.unwrap_or(false);
    service.socket = section.flag("socket")?.unwrap_or(true);
    service.loopback = section.flag("loopback")?.unwrap_or(false);
    service.relay = section.flag("relay")?.unwrap_or(false);
    service.clamp_mss = section.flag("clamp-mss")?.unwrap_or(false);
    service.scheduler_flags = section
        .parsed("scheduler-flags", "sh-port")?
        .unwrap_or_default();
    service.persistence = persistence(section, &service.key)?;
    service.one_packet = section.flag("one-packet")?.unwrap_or(false);
    service.reset = section.flag("reset")?.unwrap_or(false);
    if let Some(timeouts) =
        section.table("timeouts", "timeouts", &["tcp", "udp"], TIMEOUTS_EXAMPLE)?
    {
        service.timeouts.tcp = timeout(&timeouts, "tcp")?;
        service.timeouts.udp = timeout(&timeouts, "udp")?;
    }
    support::service(&service).map_err(|error| Problem::not_yet(address.span.clone(), &error))?;
    let mut service = service
        .checked()
        .map_err(|error| Problem::model(address.span.clone(), &error))?;

    let mut seen = HashMap::new();
    let known = [
        "address",
        "weight",
        "method",
        "via",
        "return-via",
        "upper-threshold",
        "lower-threshold",
    ];
    for section in section.tables("server", names.server, &known)? {
        let (server, span) = server(&section, &service.key)?;
        if let Some(first) = seen.insert(server.socket(), span.start) {
            let (line, _) = place(text, first);
            return Err(Problem::new(
                span,
                format!(
                    "server {} is there twice in service {}",
                    server.socket(),
                    service.key
                ),
            )
            .hint(format!(
                "the first is in line {line}; to send it more, give it a higher weight"
            )));
        }
        service.servers.push(server);
    }
    // Each was added at the head.
    service.servers.reverse();
    Ok((service, address.span))
}

/// A server, and where its address stands.
fn server(section: &Section<'_>, key: &ServiceKey) -> Result<(Server, Range<usize>), Problem> {
    let address = section.required("address", "10.0.1.11:80")?;
    let wrong = |error: ModelError| Problem::model(address.span.clone(), &error);
    let socket = Server::parse_socket(address.value, key).map_err(wrong)?;
    let weight = section
        .number("weight", u64::from(MAX_WEIGHT), ModelError::Weight)?
        .unwrap_or(1);
    let method = section.parsed("method", "masq")?.unwrap_or_default();
    let threshold = |name| -> Result<u32, Problem> {
        let given = section.number(name, u64::from(MAX_THRESHOLD), ModelError::Threshold)?;
        Ok(given.unwrap_or(0) as u32)
    };
    let neighbour = |name| -> Result<Option<IpAddr>, Problem> {
        let read = |text: &str| {
            let wrong = |_| ModelError::Address(text.into());
            text.parse().map_err(wrong)
        };
        section.word(name, "10.0.1.1", read)
    };
    let server = Server {
        upper_threshold: threshold("upper-threshold")?,
        lower_threshold: threshold("lower-threshold")?,
        via: neighbour("via")?,
        return_via: neighbour("return-via")?,
        ..Server::new(key, socket, weight as u32, method).map_err(wrong)?
    };
    server.check(key).map_err(wrong)?;
    Ok((server, address.span))
}

fn mark_rule(section: &Section<'_>) -> Result<MarkRule, Problem> {
    let Some(value) = section.word("mark", "256", str::parse::<MarkValue>)? else {
        return Err(Problem::new(
            section.span.clone(),
            format!("{} without `mark`", section.name),
        )
        .hint("write mark = 256"));
    };
    let mut rule = MarkRule::new(value);
    rule.interface = section
        .text("interface", "eth0")?
        .map(|text| text.value.to_owned());
    rule.source = section.parsed_by("source", "10.0.0.0/24", parse_prefix)?;
    rule.destination = section.parsed_by("destination", "10.0.0.100/32", parse_prefix)?;
    rule.protocol = section.parsed("protocol", "tcp")?;
    rule.ports = section.word("ports", "\"8000-8099\"", MarkRule::parse_ports)?;
    let rule = rule
        .checked()
        .map_err(|error| Problem::model(section.span.clone(), &error))?;
    support::mark_rule(&rule).map_err(|error| Problem::not_yet(section.span.clone(), &error))?;
    Ok(rule)
}

/// `persistent = true` or `persistent = "15m"`, with a netmask if it has one.
fn persistence(section: &Section<'_>, key: &ServiceKey) -> Result<Option<Persistence>, Problem> {
    let timeout = match section.flag_or_text("persistent", "6m")? {
        None | Some(FlagOrText::Flag(false)) => None,
        Some(FlagOrText::Flag(true)) => Some(DEFAULT_PERSISTENCE),
        Some(FlagOrText::Text(text)) => {
            let read = parse_duration(text.value).and_then(check_timeout);
            Some(read.map_err(|error| Problem::model(text.span, &error))?)
        }
    };
    let mut persistence = timeout.map(|timeout| Persistence::new(timeout, key.family()));
    section.word("netmask", "24", |text| {
        let netmask = Netmask::parse(text, key.family())?;
        match &mut persistence {
            Some(persistence) => persistence.netmask = netmask,
            None => return Err(ModelError::NetmaskWithoutPersistence(key.to_string())),
        }
        Ok(())
    })?;
    Ok(persistence)
}

fn settings_keys() -> Vec<&'static str> {
    let settings = Setting::ALL.into_iter().map(Setting::name);
    let fixed = Fixed::ALL.iter().map(|fixed| fixed.name);
    ["timeouts", Xdp::NAME]
        .into_iter()
        .chain(settings)
        .chain(fixed)
        .collect()
}

fn settings(section: &Section<'_>) -> Result<Settings, Problem> {
    let mut settings = Settings::default();
    if let Some(given) = section.table(
        "timeouts",
        "timeouts",
        &["tcp", "tcp-fin", "udp"],
        TIMEOUTS_EXAMPLE,
    )? {
        let timeouts = &mut settings.timeouts;
        timeouts.tcp = timeout(&given, "tcp")?.unwrap_or(timeouts.tcp);
        timeouts.tcp_fin = timeout(&given, "tcp-fin")?.unwrap_or(timeouts.tcp_fin);
        timeouts.udp = timeout(&given, "udp")?.unwrap_or(timeouts.udp);
    }
    let mut edit = SettingsEdit::default();
    if let Some(xdp) = section.words(Xdp::NAME, "[\"eth0\"]", |words| match words {
        Words::One(text) => text.parse(),
        Words::Several(names) => Xdp::named(names),
    })? {
        settings.xdp = xdp;
    }
    for name in settings_keys().into_iter().skip(2) {
        section.word(name, "1", |text| edit.assign(name, text))?;
    }
    Ok(edit.edited(&settings))
}

fn timeout(section: &Section<'_>, key: &str) -> Result<Option<Duration>, Problem> {
    section.parsed_by(key, "15m", |text| {
        parse_duration(text).and_then(check_timeout)
    })
}
