//! Writes down what the real ipvsadm does.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::real::Real;
use super::transcript::play;

/// Runs the commands of transcripts with the real program, each file on an empty table, and writes them anew.
///
/// # Errors
/// There is no IPVS here, or a file cannot be read or written.
pub fn record(program: &Path, files: &[PathBuf], folder: &Path) -> Result<()> {
    let texts = files
        .iter()
        .map(|file| {
            let text = std::fs::read_to_string(file);
            text.with_context(|| format!("cannot read {}", file.display()))
        })
        .collect::<Result<Vec<_>>>()?;
    let real = Real::enter(program)?;
    for (file, text) in files.iter().zip(texts) {
        real.reset()?;
        let played = play(&text, |words, input| real.run(words, input))?;
        let place = folder.join(file.file_name().context("not a file")?);
        std::fs::write(&place, played)
            .with_context(|| format!("cannot write {}", place.display()))?;
        eprintln!("{} written", place.display());
    }
    Ok(())
}
