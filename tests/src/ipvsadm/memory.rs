//! bpvs's ipvsadm on a table in memory.

use lb_user::ipvsadm::Front;
use lb_user::ipvsadm::memory::MemoryIpvs;
use lb_user::ipvsadm::names::Names;

use super::transcript::Outcome;

/// Runs one command, whose first word is the program's name.
pub fn run(ipvs: &mut MemoryIpvs, names: &dyn Names, words: &[String], input: &[u8]) -> Outcome {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let (program, arguments) = words
        .split_first()
        .map_or(("", words), |(program, arguments)| {
            (program.as_str(), arguments)
        });
    let status = Front {
        program,
        names,
        ipvs,
        input: &mut &input[..],
        out: &mut out,
        err: &mut err,
    }
    .call(arguments);
    Outcome {
        out,
        err,
        status: Some(i32::from(status)),
    }
}
