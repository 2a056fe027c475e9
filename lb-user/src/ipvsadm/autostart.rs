//! Starting the daemon where none runs, for those who asked for it with `BPVS_AUTOSTART=1`.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Whether it was asked for.
pub(super) fn wanted() -> bool {
    std::env::var_os("BPVS_AUTOSTART").is_some_and(|value| value == "1")
}

/// How long the daemon may take until it answers: its programs have to pass the verifier.
const PATIENCE: Duration = Duration::from_secs(30);

/// How much of the log is shown of a daemon that ended at once.
const LAST_BYTES: u64 = 2000;

/// Starts a daemon of this program that outlives the caller, and waits until it answers at `socket`. Its log goes to
/// `bpvs.log` in the run directory.
///
/// # Errors
/// A sentence that says why there is still none.
pub(super) fn start(run_dir: &Path, socket: &Path) -> Result<(), String> {
    let path = run_dir.join("bpvs.log");
    let failed = |error: io::Error| format!("cannot start `bpvs run`: {error}");
    let (mut log, begin) = open_log(run_dir, &path).map_err(failed)?;
    let program = std::env::current_exe().map_err(failed)?;
    let mut daemon = Command::new(program)
        .arg("--run-dir")
        .arg(run_dir)
        .arg("run")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log.try_clone().map_err(failed)?)
        // Ctrl-C at the caller's terminal is not for it.
        .process_group(0)
        .spawn()
        .map_err(failed)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        // A daemon that somebody else started meanwhile will do as well.
        if UnixStream::connect(socket).is_ok() {
            return Ok(());
        }
        if let Some(status) = daemon.try_wait().map_err(failed)? {
            let last = last_words(&mut log, begin);
            return Err(format!("`bpvs run` ended at once ({status}): {last}"));
        }
        if Instant::now() > deadline {
            return Err(format!(
                "`bpvs run` was started and does not answer; its log is {}",
                path.display()
            ));
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// The log, and where this daemon's part of it begins.
fn open_log(run_dir: &Path, path: &Path) -> io::Result<(File, u64)> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(run_dir)?;
    let mut log = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)?;
    let end = log.seek(SeekFrom::End(0))?;
    Ok((log, end))
}

/// What the daemon said at last, in one line.
fn last_words(log: &mut File, begin: u64) -> String {
    let mut text = Vec::new();
    let read = log
        .metadata()
        .map(|metadata| begin.max(metadata.len().saturating_sub(LAST_BYTES)))
        .and_then(|from| log.seek(SeekFrom::Start(from)))
        .and_then(|_| log.read_to_end(&mut text));
    match read {
        Ok(_) => {
            let text = String::from_utf8_lossy(&text);
            let lines: Vec<&str> = text.lines().map(str::trim).collect();
            lines.join("; ")
        }
        Err(error) => error.to_string(),
    }
}
