//! Answers on stdout, remarks on stderr; a closed pipe ends quietly.

use std::io::Write;

/// Where a command writes.
pub struct Out<'a> {
    answers: &'a mut (dyn Write + Send),
    remarks: &'a mut (dyn Write + Send),
}

impl<'a> Out<'a> {
    pub fn new(answers: &'a mut (dyn Write + Send), remarks: &'a mut (dyn Write + Send)) -> Self {
        Self { answers, remarks }
    }

    /// Writes an answer. A reader that has seen enough (`| head`) is no error.
    pub fn answer(&mut self, text: &str) {
        let _ = self.answers.write_all(text.as_bytes()).and_then(|()| self.answers.flush());
    }

    /// Writes one line beside the answer: a warning, a hint, an error.
    pub fn remark(&mut self, line: &str) {
        let _ = writeln!(self.remarks, "{line}");
    }
}

impl std::fmt::Debug for Out<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Out")
    }
}
