//! The same Swarm twice: balanced by the kernel's IPVS, as dockerd has it, and by bpvs, which takes over. What is asked and
//! what is done to its tasks is the same; what comes of it is laid side by side.
//!
//! bpvs takes over in the running Swarm instead of getting a second one without IPVS: nothing else differs then, down to
//! the containers, and that is how somebody would come to bpvs. What it does where there is no IPVS the other scenes show.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::cluster::{Cluster, SERVICE};
use super::{Inside, cost, questions, scenes};
use crate::demo::Transcript;
use crate::host::Host;
use crate::load::{Kind, Load, Report, Running};
use crate::slow::patient;

/// How long a load may take at most.
const AT_MOST: Duration = Duration::from_secs(1200);

/// All that one balancer has done.
#[derive(Debug, Default)]
struct Column {
    /// What was asked, and what came back or went wrong.
    answers: Vec<(String, Result<String, String>)>,
    /// What was done under load, and what became of the requests.
    loads: Vec<(String, Report)>,
    /// How many connections IPVS has begun meanwhile.
    ipvs: u64,
}

pub(super) fn play(out: &Transcript, cluster: &mut Cluster, options: &Inside) -> Result<()> {
    ensure!(
        has_ipvs(),
        "this kernel has no IPVS: run it in a guest, by `cargo xtask demo --swarm --compare`"
    );
    forward(cluster)?;
    if options.instructions {
        return cost::play(out, cluster, options);
    }
    out.heading("Balanced by the kernel's IPVS");
    let ipvs = column(out, cluster, options.rounds)?;
    scenes::start(out, cluster, &options.bpvs)?;
    out.heading("Balanced by bpvs");
    let bpvs = column(out, cluster, options.rounds)?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let report = json!({
        "kernel": kernel.trim(),
        "updates": options.rounds,
        "answers": answers(&ipvs, &bpvs),
        "loads": loads(&ipvs, &bpvs),
        "connections that IPVS began": { "ipvs": ipvs.ipvs, "bpvs": bpvs.ipvs },
    });
    let text = table(&ipvs, &bpvs)?;
    out.heading("Side by side");
    out.answer(&text);
    if let Some(path) = &options.report {
        fs::write(path, format!("{report:#}\n"))?;
    }
    ensure!(ipvs.ipvs > 0, "IPVS had nothing to do while it was asked");
    ensure!(
        bpvs.ipvs == 0,
        "IPVS has begun {} connections meanwhile",
        bpvs.ipvs
    );
    let differ = ipvs
        .answers
        .iter()
        .zip(&bpvs.answers)
        .filter(|(a, b)| a != b);
    let differ = differ.count();
    ensure!(differ == 0, "{differ} answers differ");
    let failed: u64 = bpvs
        .loads
        .iter()
        .map(|(what, report)| {
            // Who was connected to a task that is killed has lost that connection.
            if what.starts_with("kill") {
                0
            } else {
                report.failures()
            }
        })
        .sum();
    ensure!(failed == 0, "{failed} requests failed with bpvs");
    Ok(())
}

/// Whether this kernel has IPVS now; dockerd loads it.
pub(super) fn has_ipvs() -> bool {
    Path::new("/proc/net/ip_vs").exists()
}

/// A new namespace has the initial one's `ip_forward`, which is where dockerd runs otherwise and has set it. IPVS depends on
/// it in the sandboxes.
pub(super) fn forward(cluster: &Cluster) -> Result<()> {
    for sandbox in sandboxes(cluster)? {
        sandbox.sysctl("net.ipv4.ip_forward", "1")?;
    }
    Ok(())
}

/// Where the nodes' services are balanced.
fn sandboxes(cluster: &Cluster) -> Result<Vec<Host>> {
    let mut all = Vec::new();
    for (index, node) in cluster.nodes.iter().enumerate() {
        all.push(cluster.sandbox(index)?);
        all.push(Host::at("ingress", &node.sandboxes().join("ingress_sbox"))?);
    }
    Ok(all)
}

/// How many connections IPVS has begun in all sandboxes.
fn begun(cluster: &Cluster) -> Result<u64> {
    let mut all = 0;
    for sandbox in sandboxes(cluster)? {
        // A heading of two lines, and then connections, packets and bytes in hexadecimal digits.
        let text = sandbox.run(|| fs::read_to_string("/proc/thread-self/net/ip_vs_stats"))??;
        let line = text.lines().nth(2).context("no counters")?;
        let word = line.split_whitespace().next().context("no counter")?;
        all += u64::from_str_radix(word, 16)?;
    }
    Ok(all)
}

fn column(out: &Transcript, cluster: &Cluster, updates: u32) -> Result<Column> {
    let before = begun(cluster)?;
    let begin = Instant::now();
    let mut column = Column::default();
    for check in questions::all(cluster)? {
        let outcome = check
            .outcome
            .map_err(|error| error.root_cause().to_string());
        match &outcome {
            Ok(said) => out.answer(&format!("{}: {said}", check.what)),
            Err(said) => out.result(false, &format!("{}: {said}", check.what)),
        }
        column.answers.push((check.what, outcome));
    }
    scaled(out, cluster, &mut column)?;
    killed(out, cluster, &mut column)?;
    if updates > 0 {
        updated(out, cluster, updates, &mut column)?;
    }
    // IPVS counts a moment later.
    std::thread::sleep(Duration::from_secs(3));
    column.ipvs = begun(cluster)? - before;
    out.remark(&format!("{:.0} s", begin.elapsed().as_secs_f32()));
    Ok(column)
}

/// One task of two goes, and comes again.
fn scaled(out: &Transcript, cluster: &Cluster, column: &mut Column) -> Result<()> {
    let loads = scenes::load(cluster)?;
    for tasks in [1, 2] {
        let command = format!("service scale --detach {SERVICE}={tasks}");
        out.prompt("n1", format_args!("docker {command}"));
        cluster.nodes[0].docker(&command)?;
        cluster.running(SERVICE, tasks)?;
        // Until the one that goes has gone, and everybody knows.
        cluster.until("the engines know the tasks", || {
            Ok(cluster.tasks(SERVICE)?.len() == tasks)
        })?;
        std::thread::sleep(patient(Duration::from_secs(1)));
    }
    take(out, "scaled to one task and back", loads, column)
}

fn killed(out: &Transcript, cluster: &Cluster, column: &mut Column) -> Result<()> {
    let address = std::net::SocketAddrV4::new(cluster.address(SERVICE)?, super::checks::PORT);
    let load = |kind| {
        Load::new(kind, address)
            .clients(8)
            .endless(AT_MOST)
            .pause(patient(Duration::from_millis(50)))
            .start(&cluster.probes[0])
    };
    let loads = vec![
        (
            "a connection for each of 8 clients",
            load(Kind::KeepAlive { requests: 0 })?,
        ),
        ("a connection for each request", load(Kind::Short)?),
    ];
    loads.iter().try_for_each(|(_, load)| load.wait_for(80))?;
    let node = &cluster.nodes[1];
    let container = cluster.task_on(node)?;
    out.prompt("n2", format_args!("docker kill {container}"));
    node.docker(&format!("kill {container}"))?;
    cluster.until("it is replaced", || Ok(cluster.task_on(node)? != container))?;
    cluster.running(SERVICE, 2)?;
    cluster.until("the engines know the new task", || {
        Ok(cluster.tasks(SERVICE)?.len() == 2)
    })?;
    loads.iter().try_for_each(|(_, load)| load.wait_for(80))?;
    take(out, "killed a task", loads, column)
}

fn updated(out: &Transcript, cluster: &Cluster, updates: u32, column: &mut Column) -> Result<()> {
    let loads = scenes::load(cluster)?;
    scenes::updates(out, cluster, updates)?;
    take(out, &format!("{updates} rolling updates"), loads, column)
}

fn take(
    out: &Transcript,
    what: &str,
    loads: Vec<(&'static str, Running)>,
    column: &mut Column,
) -> Result<()> {
    for (who, load) in loads {
        let report = load.stop()?;
        out.answer(&format!("{what}; {who}: {report}"));
        column.loads.push((format!("{what}; {who}"), report));
    }
    Ok(())
}

fn answers(ipvs: &Column, bpvs: &Column) -> Vec<Value> {
    let said = |outcome: &Result<String, String>| match outcome {
        Ok(said) => json!({ "answer": said }),
        Err(why) => json!({ "failed": why }),
    };
    let pairs = ipvs.answers.iter().zip(&bpvs.answers);
    pairs
        .map(|((what, a), (_, b))| {
            json!({ "what": what, "ipvs": said(a), "bpvs": said(b), "same": a == b })
        })
        .collect()
}

fn loads(ipvs: &Column, bpvs: &Column) -> Vec<Value> {
    let sum = |report: &Report| {
        let failed = report.failed.iter();
        let failed: serde_json::Map<String, Value> = failed
            .map(|(why, count)| (why.to_string(), json!(count)))
            .collect();
        json!({
            "answered": report.ok,
            "failed": failed,
            "half within (ms)": report.latency(0.5).as_secs_f64() * 1e3,
            "99 % within (ms)": report.latency(0.99).as_secs_f64() * 1e3,
        })
    };
    let pairs = ipvs.loads.iter().zip(&bpvs.loads);
    pairs
        .map(|((what, a), (_, b))| json!({ "what": what, "ipvs": sum(a), "bpvs": sum(b) }))
        .collect()
}

/// What is the same once, what differs one below the other.
fn table(ipvs: &Column, bpvs: &Column) -> Result<String> {
    let mut text = String::new();
    let said = |outcome: &Result<String, String>| match outcome {
        Ok(said) => said.clone(),
        Err(why) => format!("FAILED: {why}"),
    };
    for ((what, a), (_, b)) in ipvs.answers.iter().zip(&bpvs.answers) {
        let (a, b) = (said(a), said(b));
        if a == b {
            writeln!(text, "{what:62} both   {a}")?;
        } else {
            writeln!(text, "{what:62} IPVS   {a}\n{:62} bpvs   {b}", "")?;
        }
    }
    writeln!(text)?;
    let counted = |report: &Report| {
        let why: Vec<String> = report
            .failed
            .iter()
            .map(|(why, count)| format!("{count} {why}"))
            .collect();
        let why = if why.is_empty() {
            String::new()
        } else {
            format!(": {}", why.join(", "))
        };
        format!(
            "{} of {} failed{why}",
            report.failures(),
            report.ok + report.failures()
        )
    };
    for ((what, a), (_, b)) in ipvs.loads.iter().zip(&bpvs.loads) {
        writeln!(
            text,
            "{what}\n  IPVS   {}\n  bpvs   {}",
            counted(a),
            counted(b)
        )?;
    }
    writeln!(
        text,
        "\nconnections that IPVS began in the nodes' sandboxes meanwhile: {} and {}",
        ipvs.ipvs, bpvs.ipvs
    )?;
    Ok(text)
}
