//! The command line of `lab`.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand, ValueEnum};

use crate::lab::Lab;
use crate::topology::{director, one_arm, two_nodes};
use crate::{client, daemon, demo, differential, icmp, serve, signals, state, suite, swarm};

/// Throw-away networks for bpvs: the demo, the end-to-end suite, and hosts to try things on.
#[derive(Parser)]
#[command(name = "lab", version, max_term_width = 100)]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show bpvs at work on two nodes joined by an overlay network.
    Demo {
        /// Serve a real Docker Swarm of two engines instead.
        #[arg(long, conflicts_with = "keep")]
        swarm: bool,
        /// Leave the network standing at the end, and say how to enter its hosts.
        #[arg(long)]
        keep: bool,
        /// No colour.
        #[arg(long)]
        plain: bool,
        /// The bpvs program [default: env BPVS, or the one beside this program].
        #[arg(long, value_name = "PATH")]
        bpvs: Option<PathBuf>,
    },
    /// Run the end-to-end cases, each on a network of its own.
    Test {
        /// Also run the cases that take long.
        #[arg(long)]
        long: bool,
        /// Run only cases whose name contains this.
        #[arg(long, value_name = "TEXT")]
        filter: Option<String>,
        /// Leave out cases whose name contains this.
        #[arg(long, value_name = "TEXT")]
        without: Option<String>,
        /// Only list the cases and what each would catch.
        #[arg(long)]
        list: bool,
        /// Leave the network of a case that fails standing.
        #[arg(long)]
        keep: bool,
        /// The bpvs program [default: env BPVS, or the one beside this program].
        #[arg(long, value_name = "PATH")]
        bpvs: Option<PathBuf>,
    },
    /// Run the same commands and packets on the kernel's IPVS and on bpvs, and compare.
    Differential(differential::Options),
    /// Measure bpvs against other ways through a director, round by round.
    Bench(crate::bench::Options),
    /// Hold the far ends of a guest's cables for `bench --alone`, as UNIX datagram sockets in a folder.
    #[command(hide = true)]
    FarEnd {
        /// The folder.
        folder: PathBuf,
    },
    /// Measure bpvs with many services and many connections, each figure beside its goal.
    Scale(crate::scale::Options),
    /// Load bpvs for minutes or hours while its daemon is killed and its table changes; nothing may be lost or left.
    Soak(crate::soak::Options),
    /// Build a network with its servers and leave it standing, to try things by hand.
    Up {
        /// Which network.
        topology: Topology,
        /// How many real servers or tasks.
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=50))]
        servers: u8,
    },
    /// Load the programs and say what they cost the verifier, and how deep their stacks get.
    BpfStats {
        /// For other programs to read.
        #[arg(long)]
        json: bool,
        /// Another object file than the one that is built in.
        #[arg(long, value_name = "FILE")]
        object: Option<PathBuf>,
    },
    /// Give bpvs's ipvsadm and the real one the same tables, made at random, and compare all that they say.
    ///
    /// Needs a kernel with IPVS, as a guest has. Runs in namespaces of its own.
    IpvsadmParity {
        /// How many tables.
        #[arg(long, default_value_t = 200)]
        tables: u64,
        /// The first one's seed; the others' follow it.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// The real program.
        #[arg(long, value_name = "PATH", default_value = "/usr/sbin/ipvsadm")]
        ipvsadm: PathBuf,
    },
    /// Run the commands of transcripts with the real ipvsadm, and write down what comes of them.
    ///
    /// As IpvsadmParity, in a guest.
    IpvsadmRecord {
        /// Transcripts; what is in them besides the commands does not count.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Where the recordings go.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// The real program.
        #[arg(long, value_name = "PATH", default_value = "/usr/sbin/ipvsadm")]
        ipvsadm: PathBuf,
    },
    /// Have a real Docker Swarm balanced by the kernel's IPVS and then by bpvs, and compare answers and failures.
    ///
    /// Needs a kernel with IPVS, as a guest has.
    SwarmCompare(swarm::Comparison),
    /// Play a scene of a real Swarm, as process 1 of a world of its own.
    #[command(hide = true)]
    SwarmInside(swarm::Inside),
    /// Take away what runs that have ended have left standing.
    Clean,
    /// Be a small real server, until SIGTERM.
    Serve(serve::Options),
    /// Fetch a page over HTTP, from where this is run.
    Get {
        /// ADDRESS:PORT or ADDRESS:PORT/PATH.
        target: String,
    },
    /// Send a datagram from where this is run, and show the answer.
    Udp {
        /// ADDRESS:PORT.
        target: SocketAddrV4,
        /// What to send.
        #[arg(default_value = "hello")]
        text: String,
    },
    /// Ping an address once, from where this is run.
    Ping {
        /// The address.
        target: Ipv4Addr,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Topology {
    /// A director between a client and real servers.
    Director,
    /// A director on the segment of client and servers.
    OneArm,
    /// Two nodes of a Swarm.
    TwoNodes,
}

/// Runs the program: exit status 0 for success, 1 for failure, 2 for wrong use.
pub fn main() -> ExitCode {
    let options = Options::parse();
    match run(options.command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Demo {
            swarm: true,
            plain,
            bpvs,
            ..
        } => {
            prepare()?;
            swarm::demo(&daemon::find_bpvs(bpvs)?, plain)?;
        }
        Command::SwarmCompare(options) => {
            prepare()?;
            swarm::compare(&options)?;
        }
        Command::SwarmInside(inside) => {
            prepare()?;
            return swarm::inside(&inside);
        }
        Command::Demo {
            keep, plain, bpvs, ..
        } => {
            prepare()?;
            demo::run(&daemon::find_bpvs(bpvs)?, keep, plain)?;
        }
        Command::Test {
            long,
            filter,
            without,
            list,
            keep,
            bpvs,
        } => {
            let choice = suite::Choice {
                long,
                filter,
                without,
                keep,
            };
            if list {
                suite::list(&choice);
                return Ok(ExitCode::SUCCESS);
            }
            prepare()?;
            if !suite::run(bpvs.as_ref(), &choice)? {
                return Ok(ExitCode::FAILURE);
            }
        }
        Command::Differential(options) => {
            // Scripts can be printed by anybody.
            if !options.only_prints() {
                prepare()?;
            }
            if !differential::run(&options)? {
                return Ok(ExitCode::FAILURE);
            }
        }
        Command::Bench(options) => {
            prepare()?;
            crate::bench::run(&options)?;
        }
        Command::FarEnd { folder } => crate::bench::far_end::run(&folder)?,
        Command::Scale(options) => {
            prepare()?;
            crate::scale::run(&options)?;
        }
        Command::Soak(options) => {
            prepare()?;
            crate::soak::run(&options)?;
        }
        Command::Up { topology, servers } => {
            prepare()?;
            up(topology, servers)?;
        }
        Command::IpvsadmParity {
            tables,
            seed,
            ipvsadm,
        } => {
            if !crate::ipvsadm::parity::run(&ipvsadm, tables, seed)? {
                return Ok(ExitCode::FAILURE);
            }
        }
        Command::IpvsadmRecord {
            files,
            out,
            ipvsadm,
        } => crate::ipvsadm::record::record(&ipvsadm, &files, &out)?,
        Command::BpfStats { json, object } => crate::bpf::stats::run(json, object.as_deref())?,
        Command::Clean => clean()?,
        Command::Serve(options) => serve::serve(&options)?,
        Command::Get { target } => {
            let (address, path) = target
                .trim_start_matches("http://")
                .split_once('/')
                .unwrap_or((&target, ""));
            let address = address
                .trim_start_matches("http://")
                .parse()
                .with_context(|| format!("{address:?} is not ADDRESS:PORT"))?;
            println!("{}", client::get_here(address, &format!("/{path}"))?);
        }
        Command::Udp { target, text } => println!("{}", client::ask_udp_here(target, &text)?),
        Command::Ping { target } => match icmp::ping_here(target, client::patience())? {
            Some(took) => println!(
                "answer from {target} after {:.2} ms",
                took.as_secs_f64() * 1000.0
            ),
            None => bail!(
                "no answer from {target} within {} s",
                client::patience().as_secs()
            ),
        },
    }
    Ok(ExitCode::SUCCESS)
}

/// What every command needs that makes namespaces.
fn prepare() -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("namespaces, mounts and eBPF programs need root");
    }
    signals::install()
}

fn up(topology: Topology, servers: u8) -> Result<()> {
    let start = Instant::now();
    let lab = Lab::new()?;
    lab.keep();
    // What is built is let go at the end of each arm; that the lab is kept is what keeps it.
    match topology {
        Topology::Director => drop(director::Director::build(
            &lab,
            &director::Options {
                servers,
                ..Default::default()
            },
        )?),
        Topology::OneArm => drop(one_arm::OneArm::build(&lab, servers)?),
        Topology::TwoNodes => {
            let mut nodes = two_nodes::TwoNodes::build(&lab)?;
            let places: Vec<usize> = (0..servers).map(|number| usize::from(number % 2)).collect();
            nodes.add_tasks(&places)?;
        }
    }
    eprintln!(
        "built in {:.2} s; take it away with: lab clean",
        start.elapsed().as_secs_f32()
    );
    print!("{}", how_to_enter(&lab));
    Ok(())
}

/// A line for each host: how to get a shell on it.
pub(crate) fn how_to_enter(lab: &Lab) -> String {
    let width = lab
        .all_hosts()
        .iter()
        .map(|host| host.name().len())
        .max()
        .unwrap_or(0);
    lab.all_hosts()
        .iter()
        .map(|host| {
            format!(
                "  {:width$}  ip netns exec {} bash\n",
                host.name(),
                host.namespace()
            )
        })
        .collect()
}

fn clean() -> Result<()> {
    let mut failed = None;
    let mut removed = 0;
    for (name, alive) in state::labs() {
        if alive {
            eprintln!("{name}: its run has not ended, left alone");
            continue;
        }
        match state::remove(&name) {
            Ok(()) => {
                removed += 1;
                eprintln!("{name}: removed");
            }
            Err(error) => failed = Some(error.context(name)),
        }
    }
    if removed == 0 && failed.is_none() {
        eprintln!("nothing to clean up");
    }
    // The kernel takes the interfaces of a namespace away a moment after its name.
    std::thread::sleep(Duration::from_millis(if removed > 0 { 100 } else { 0 }));
    failed.map_or(Ok(()), Err)
}
