//! `ipvsadm-save` and `ipvsadm-restore`: the small commands beside ipvsadm, known by the name that they are called by.

use std::path::Path;

use super::execute::Front;

/// Whether a program of this name is ipvsadm, or one of those beside it.
#[must_use]
pub fn is_ipvsadm(program: &str) -> bool {
    ["ipvsadm", "ipvsadm-save", "ipvsadm-restore"].contains(&file_name(program))
}

impl Front<'_> {
    /// Does what the program does that has this name; the exit status.
    pub fn call(&mut self, words: &[String]) -> u8 {
        let name = file_name(self.program);
        match name {
            "ipvsadm-save" => {
                self.program = "ipvsadm";
                let mut arguments = vec!["-S".to_owned()];
                for word in words {
                    match word.as_str() {
                        "-n" => arguments.truncate(1),
                        word if word.starts_with('-') => return self.explain(name),
                        _ => continue,
                    }
                    arguments.push("-n".to_owned());
                }
                self.run(&arguments)
            }
            "ipvsadm-restore" => {
                self.program = "ipvsadm";
                self.restore_anew()
            }
            _ => self.run(words),
        }
    }

    fn explain(&mut self, name: &str) -> u8 {
        // Without stderr there is nobody to tell.
        let _ = writeln!(
            self.err,
            "{name}: Script to save the IPVS table to stdout.\n   \
             With the -n option, prints out the table in numeric format."
        );
        1
    }
}

fn file_name(program: &str) -> &str {
    Path::new(program)
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or(program)
}
