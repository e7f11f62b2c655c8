//! One log file per instance. The services write into it directly, so that it goes on when the supervisor is gone.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use crate::clients::process::{Redaction, last_lines};

/// At this size a log becomes `NAME.log.1`, and the one of that name before is gone.
pub const LOG_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// How many logs of instances that are gone stay for a look.
const LOGS_KEPT: usize = 50;

/// How much of a log's end is looked at for an error's text.
const TAIL_BYTES: u64 = 8 * 1024;

#[derive(Debug, Clone)]
pub struct Log {
    path: PathBuf,
}

impl Log {
    pub fn at(path: PathBuf) -> Log {
        Log { path }
    }

    /// For a service to write to; it only ever appends, so that cutting the file short is safe while it runs.
    pub fn open(&self) -> io::Result<File> {
        if let Some(dir) = self.path.parent() {
            fs::create_dir_all(dir)?;
        }
        OpenOptions::new().create(true).append(true).mode(0o600).open(&self.path)
    }

    /// Where the next line will be written.
    pub fn end(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |meta| meta.len())
    }

    /// Copies a large log aside and begins it anew. A line written between the two steps is lost.
    pub fn rotate(&self) -> io::Result<()> {
        if self.end() < LOG_BYTES_MAX {
            return Ok(());
        }
        fs::copy(&self.path, self.path.with_extension("log.1"))?;
        OpenOptions::new().write(true).open(&self.path)?.set_len(0)
    }

    /// The last lines written since `start`, in one line, without secrets; `None` when nothing was written.
    pub fn last_lines(&self, start: u64, redaction: &Redaction) -> Option<String> {
        let mut file = File::open(&self.path).ok()?;
        let end = file.metadata().ok()?.len();
        // After a rotation the file is shorter than where we began.
        let start = if start > end { 0 } else { start };
        file.seek(SeekFrom::Start(start.max(end.saturating_sub(TAIL_BYTES)))).ok()?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes).ok()?;
        let text = redaction.apply(&String::from_utf8_lossy(&bytes));
        last_lines(&text)
    }
}

/// Removes the oldest logs of instances that are gone.
pub fn remove_old(dir: &Path, in_use: &[Log]) -> io::Result<()> {
    let mut gone = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let path = entry?.path();
        if !in_use.iter().any(|log| path == log.path || path == log.path.with_extension("log.1")) {
            gone.push((fs::metadata(&path)?.modified()?, path));
        }
    }
    gone.sort();
    let surplus = gone.len().saturating_sub(LOGS_KEPT);
    gone.into_iter().take(surplus).try_for_each(|(_, path)| fs::remove_file(path))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_large_log_is_put_aside_and_the_end_is_quoted_without_secrets() {
        let dir = tempfile::tempdir().expect("a folder");
        let log = Log::at(dir.path().join("logs/web-0.log"));
        let mut file = log.open().expect("a log");
        file.write_all(&vec![b'x'; LOG_BYTES_MAX as usize]).expect("room");
        log.rotate().expect("rotates");
        assert_eq!(log.end(), 0);
        assert_eq!(fs::metadata(dir.path().join("logs/web-0.log.1")).expect("aside").len(), LOG_BYTES_MAX);
        file.write_all(b"one\n\ntoken hunter22 \xff\x1b[1m\n").expect("room");
        let redaction = Redaction::of_values(["hunter22".to_owned()]);
        assert_eq!(log.last_lines(LOG_BYTES_MAX, &redaction).as_deref(), Some("one / token ••• \u{fffd} [1m"));
        assert_eq!(log.last_lines(log.end(), &redaction), None);
    }
}
