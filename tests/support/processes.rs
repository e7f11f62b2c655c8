use std::{fs, os::unix::ffi::OsStrExt, path::Path};

/// Running processes whose words, variables or folder name this folder.
pub fn of(root: &Path) -> Vec<(i32, String)> {
    let pids = fs::read_dir("/proc").expect("linux").flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| is_running(*pid) && belongs(*pid, root)).map(|pid| (pid, words(pid))).collect()
}

/// A zombie is not running.
fn is_running(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

fn belongs(pid: i32, root: &Path) -> bool {
    let mark = root.as_os_str().as_bytes();
    let named = |file: &str| {
        let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        bytes.windows(mark.len()).any(|window| window == mark)
    };
    let inside = fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|folder| folder.starts_with(root));
    pid != std::process::id() as i32 && (inside || named("cmdline") || named("environ"))
}

fn words(pid: i32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}
