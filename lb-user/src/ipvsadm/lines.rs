//! The lines of what `--restore` reads, as many at once as are there: nobody who types them waits for more to come.

use std::io::{self, BufRead};

/// What was read, and not yet given out.
#[derive(Debug, Default)]
pub(super) struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    /// The next lines, of what can be read without waiting once there is one; none at the end.
    pub(super) fn next(&mut self, input: &mut dyn BufRead) -> io::Result<Vec<String>> {
        loop {
            let more = input.fill_buf()?;
            let read = more.len();
            self.rest.extend_from_slice(more);
            input.consume(read);
            let whole = match self.rest.iter().rposition(|byte| *byte == b'\n') {
                Some(last) => last + 1,
                // The last one need not end.
                None if read == 0 => self.rest.len(),
                None => continue,
            };
            let lines = self.rest[..whole].split_inclusive(|byte| *byte == b'\n');
            let lines = lines.map(|line| String::from_utf8_lossy(line).into_owned());
            let lines = lines.collect();
            self.rest.drain(..whole);
            return Ok(lines);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Read};

    use super::*;

    /// Gives one part with each read, as a pipe does.
    struct Parts(Vec<&'static str>);

    impl Read for Parts {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() {
                return Ok(0);
            }
            let part = self.0.remove(0).as_bytes();
            buffer[..part.len()].copy_from_slice(part);
            Ok(part.len())
        }
    }

    #[test]
    fn what_is_there_is_given_out_and_what_is_begun_is_kept() {
        let mut input = BufReader::new(Parts(vec![
            "-A one\n-A t",
            "wo\n",
            "-a th",
            "ree",
            "\n\n-C",
        ]));
        let mut lines = Lines::default();
        let mut next = || lines.next(&mut input).unwrap();
        assert_eq!(next(), ["-A one\n"]);
        assert_eq!(next(), ["-A two\n"]);
        assert_eq!(next(), ["-a three\n", "\n"]);
        assert_eq!(next(), ["-C"]);
        assert!(next().is_empty());
    }
}
