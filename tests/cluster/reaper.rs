//! Ends everything that was started, however the process that started it ends.

use std::{
    io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

/// Waits for the end of its input, which comes with the end of our process; then kills the group, does what else was asked
/// for, and removes the folder, unless something is still mounted in it. A process that is being killed may still write, so that it removes more than once.
const SCRIPT: &str = r#"
trap '' INT TERM HUP
cat >/dev/null
kill -s KILL -- "-$1" 2>/dev/null
if test -e "$2/at-end.sh"; then sh "$2/at-end.sh" >/dev/null 2>&1; fi
if grep -q " $2/" /proc/mounts; then exit 1; fi
for i in 1 2 3 4 5 6 7 8 9 10; do rm -rf "$2" 2>/dev/null && break; sleep 0.2; done
"#;

/// A process group and a folder, which end together.
#[derive(Debug)]
pub struct Reaper {
    /// Leads the group, so that the group is there before the first and after the last program.
    leader: Child,
    reaper: Child,
    pub folder: PathBuf,
}

impl Reaper {
    pub fn new(folder: &Path) -> io::Result<Reaper> {
        let quiet = |command: &mut Command| {
            command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0).spawn()
        };
        let leader = quiet(&mut Command::new("cat"))?;
        let mut script = Command::new("sh");
        script.args(["-c", SCRIPT, "piton-test-reaper"]).arg(leader.id().to_string()).arg(folder).current_dir("/");
        let reaper = quiet(&mut script)?;
        Ok(Reaper { leader, reaper, folder: folder.to_owned() })
    }

    /// The group that programs must join to be ended.
    pub fn group(&self) -> i32 {
        self.leader.id().cast_signed()
    }

    /// Ends everything, and waits until it is gone.
    pub fn reap(&mut self) {
        let _ = killpg(Pid::from_raw(self.group()), Signal::SIGKILL);
        drop(self.reaper.stdin.take());
        let _ = self.reaper.wait();
        let _ = self.leader.wait();
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        self.reap();
    }
}
