//! `bpvs ipvsadm`, and the program called by the name `ipvsadm`.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use super::Context;
use crate::daemon::SOCKET;
use crate::ipvsadm::daemon::{Place, run};
use crate::ipvsadm::is_ipvsadm;

/// Where the daemon is for the program called by another name, unless `BPVS_RUN_DIR` says otherwise.
const RUN_DIR: &str = "/run/bpvs";

/// Is ipvsadm, if that is the name that the program was called by.
pub(super) fn by_name() -> Option<ExitCode> {
    let mut arguments = env::args_os();
    let program = text(arguments.next()?);
    if !is_ipvsadm(&program) {
        return None;
    }
    let run_dir = env::var_os("BPVS_RUN_DIR").map_or_else(|| RUN_DIR.into(), PathBuf::from);
    let context = Context {
        run_dir,
        netns: None,
    };
    Some(call(&program, context, arguments.collect()))
}

/// Is ipvsadm, called by a command of bpvs.
pub(super) fn ipvsadm(context: Context, arguments: Vec<OsString>) -> ExitCode {
    call("bpvs ipvsadm", context, arguments)
}

fn call(program: &str, context: Context, arguments: Vec<OsString>) -> ExitCode {
    let words: Vec<String> = arguments.into_iter().map(text).collect();
    let place = Place {
        socket: context.run_dir.join(SOCKET),
        run_dir: context.run_dir,
        netns: context.netns,
    };
    ExitCode::from(run(program, &words, place))
}

/// Arguments that are no text get marks in place of what is none; no option takes such.
fn text(argument: OsString) -> String {
    argument.to_string_lossy().into_owned()
}
