//! The binary `bpvs`: the daemon and its command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    lb_user::cli::main()
}
