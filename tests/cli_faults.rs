//! Bad input and a bad world: a clear sentence, an honest exit code, nothing half-done.

mod support;

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    path::Path,
    process::Command,
};

use serde_json::json;
use support::{ONE, Sandbox, pipeline, until};

// ---- the pipeline file

#[test]
fn pipeline_files_that_are_none() {
    let sandbox = Sandbox::empty();
    sandbox.piton(&["check"]).ends(2).complains("no `pipelines` folder");
    for (bytes, because) in [
        (&b""[..], "empty"),
        (b"\n# nothing\n", "empty"),
        (b"\x7fELF\x02\x01\x00\x00\x00", "YAML"),
        (b"\xff\xfen\x00a\x00m\x00e\x00", "UTF-8"),
        (b"- a\n- list\n", "mapping"),
        (b"components: {", "components"),
    ] {
        sandbox.write("pipelines/sandbox.yaml", bytes);
        for words in [&["check"][..], &["promote", "production"], &["rollback", "production"], &["status"]] {
            let ran = sandbox.piton(words).ends(2);
            assert!(ran.err.contains(because) && ran.err.contains("sandbox.yaml"), "no {because:?} in {ran}");
        }
        assert_eq!(sandbox.piton(&["check", "--json"]).ends(2).json()["reason_code"], "pipeline");
    }
    sandbox.write("pipelines/other.yaml", ONE);
    sandbox.piton(&["check"]).ends(2).complains("several pipeline files");
    sandbox.piton(&["check", "--pipeline", "pipelines/nothing.yaml"]).ends(2).complains("pipelines/nothing.yaml");
}

#[test]
fn names_that_would_be_paths_or_commands() {
    let sandbox = Sandbox::new(ONE);
    let text = sandbox.read("pipelines/sandbox.yaml");
    for name in ["'../store'", "'a/b'", "\"a\\nb\"", "'$(reboot)'", "'a;b'", "'-x'", "''"] {
        sandbox.write("pipelines/sandbox.yaml", text.replace("  store: { file", &format!("  {name}: {{ file")));
        let ran = sandbox.piton(&["check"]).ends(2);
        assert!(ran.err.contains("component name"), "{ran}");
    }
    for file in ["../outside.yaml", "/etc/passwd", "services/../../x.yaml", ".git/config"] {
        sandbox.write("pipelines/sandbox.yaml", text.replace("file: services/store.yaml", &format!("file: {file}")));
        sandbox.piton(&["check"]).ends(2).complains("error");
    }
    for environment in ["../production", "a b", "x\ny", "$(reboot)", "production.lock", "a..b"] {
        let ran = sandbox.piton(&["promote", environment]).ends(2);
        assert!(!ran.err.is_empty(), "{ran}");
    }
}

#[test]
fn a_version_is_never_a_command() {
    let text = pipeline(ONE)
        .replace("front, work", "front, said")
        .replace("  work:", "  said: { command: { run: [sh, -c, 'echo \"$PITON_SOURCE\"'] }, every: 100ms }\n  work:");
    let text =
        text.replace("          stop: 1s\n", "          stop: 1s\n          env: { VERSION: '${version.web}' }\n");
    let sandbox = Sandbox::with_pipeline(&text);
    let version = "1; touch $(pwd)/../../../owned `touch owned` ${port}";
    sandbox.piton(&["edit", "services/web.yaml", "version", version]).ends(0);
    sandbox.commit("a strange version");
    sandbox.piton(&["promote", "production"]).ends(0);
    assert_eq!(sandbox.served("production"), version);
    let owned = Command::new("find").arg(sandbox.root()).args(["-name", "owned*"]).output().expect("find is there");
    assert_eq!(String::from_utf8_lossy(&owned.stdout), "");
}

#[test]
fn a_component_that_is_not_where_the_pipeline_says() {
    let sandbox = Sandbox::new(ONE);
    for (there, text) in [("no `version`", "name: web\n"), ("no file", ""), ("cannot be read", "version: [1.0.0\n")] {
        match text {
            "" => fs::remove_file(sandbox.deploy().join("services/web.yaml")).expect("it is there"),
            text => sandbox.write("services/web.yaml", text),
        }
        sandbox.commit(there);
        for words in [["plan", "production"], ["promote", "production"]] {
            let ran = sandbox.piton(&words).ends(2);
            assert!(ran.err.contains("`web`") && ran.err.contains("services/web.yaml"), "{ran}");
        }
    }
    assert!(sandbox.status("production")["head"].is_null(), "nothing was begun");
}

// ---- the branch of an environment

/// A commit on the environment's branch in the origin, made by a person with git.
fn by_hand(sandbox: &Sandbox, change: impl Fn(&Path), message: &str) {
    let hand = sandbox.path("hand");
    if !hand.exists() {
        sandbox.git_in(sandbox.root(), &["clone", "--quiet", "origin.git", "hand"]);
    }
    sandbox.git_in(&hand, &["fetch", "--quiet", "origin"]);
    sandbox.git_in(&hand, &["checkout", "--quiet", "-B", "piton/production", "origin/piton/production"]);
    change(&hand);
    sandbox.git_in(&hand, &["add", "--all"]);
    sandbox.git_in(&hand, &["commit", "--quiet", "--allow-empty", "--message", message]);
    sandbox.git_in(&hand, &["push", "--quiet", "origin", "piton/production"]);
}

#[test]
fn a_version_changed_by_hand_on_the_branch() {
    let sandbox = Sandbox::established(ONE);
    let edit = |hand: &Path| {
        let file = hand.join("services/web.yaml");
        let text = fs::read_to_string(&file).expect("it is there").replacen("1.0.0", "6.6.6", 1);
        fs::write(file, text).expect("room on the disk");
    };
    by_hand(&sandbox, edit, "quick fix");
    sandbox.bump("web", "1.1.0");
    sandbox.piton(&["promote", "production"]).ends(4).complains("piton did not write");
    sandbox.piton(&["status"]).ends(0).says("was not written by piton");
    assert_eq!(sandbox.status("production")["foreign"]["author"], "author");
    sandbox.piton(&["rollback", "production"]).ends(0);
    assert!(sandbox.deployed("production", "services/web.yaml").contains("version: 1.0.0"));
    assert_eq!(sandbox.served("production"), "1.0.0");
    assert!(sandbox.subjects("production").contains(&"quick fix".to_owned()), "history is append-only");
    sandbox.piton(&["promote", "production"]).ends(0).says("web 1.0.0 → 1.1.0");
}

#[test]
fn garbage_in_the_trailers() {
    let sandbox = Sandbox::established(ONE);
    by_hand(&sandbox, |_| {}, "release the lease\n\nPiton-Schema: 1\nPiton-Page: 7\nPiton-Event: {\"at\":\"yester");
    sandbox.bump("web", "1.1.0");
    sandbox.piton(&["promote", "production"]).ends(4).complains("piton did not write");
    sandbox.piton(&["history", "production"]).ends(0);
    sandbox.piton(&["rollback", "production"]).ends(0);
    sandbox.piton(&["promote", "production"]).ends(0);
}

#[test]
fn a_page_of_a_newer_piton() {
    let sandbox = Sandbox::established(ONE);
    let head = sandbox.head("production");
    by_hand(&sandbox, |_| {}, "from the future\n\nPiton-Schema: 999\nPiton-Event: {\"new\":true}");
    for words in [["promote", "production"], ["tick", "production"], ["status", "production"]] {
        let ran = sandbox.piton(&words).ends(2);
        assert!(format!("{}{}", ran.out, ran.err).contains("newer piton"), "{ran}");
    }
    sandbox.git_in(&sandbox.origin(), &["merge-base", "--is-ancestor", &head, "piton/production"]);
}

#[test]
fn a_branch_that_was_rewritten() {
    let sandbox = Sandbox::established(ONE);
    sandbox.bump("web", "1.1.0");
    sandbox.piton(&["promote", "production"]).ends(0);
    let head = sandbox.head("production");
    sandbox.git_in(&sandbox.origin(), &["update-ref", "refs/heads/piton/production", "piton/production~5"]);
    let refused = sandbox.piton(&["promote", "production"]).ends(5).complains("was rewritten");
    refused.complains("`piton rollback ENV --accept-rewritten`");
    sandbox.piton(&["status", "production"]).ends(5).complains(&head[..7]);
    // The way back is open all the same, from what was seen last.
    sandbox.piton(&["rollback", "production"]).ends(0).says("from the mirror").says("was rewritten");
    assert_eq!(sandbox.served("production"), "1.0.0");
    let source = sandbox.git(&["rev-parse", "HEAD~1"]);
    sandbox.piton(&["rollback", "production", "--accept-rewritten", "--to", &source]).ends(0);
    assert_eq!(sandbox.served("production"), "1.0.0");
    sandbox.bump("web", "1.2.0");
    sandbox.piton(&["promote", "production"]).ends(0);
    assert_eq!(sandbox.served("production"), "1.2.0");
}

#[test]
fn an_environment_that_cannot_be_read_hides_no_other() {
    let both = format!("{ONE}\n{}", ONE.replace("production", "another"));
    let sandbox = Sandbox::new(&both);
    sandbox.piton(&["promote", "production"]).ends(0);
    // One was never seen here, and nobody is asked.
    let ran = sandbox.piton(&["status", "--offline"]).ends(75);
    ran.says("cannot be read").says("quiet").says("the origin was not asked");
    let line = sandbox.piton(&["status", "--offline", "--json"]).ends(75).json();
    assert_eq!(line["reason_code"], "unreachable", "{line}");
    assert_eq!(line["environments"]["another"]["exit_code"], 75, "{line}");
    assert_eq!(line["environments"]["production"]["now"], "quiet", "{line}");
    sandbox.piton(&["status"]).ends(0);
    sandbox.git_in(&sandbox.origin(), &["update-ref", "refs/heads/piton/production", "piton/production~1"]);
    let ran = sandbox.piton(&["status"]).ends(5);
    ran.says("cannot be read").says("nothing deployed").says("`piton rollback ENV --accept-rewritten`");
}

#[test]
fn a_branch_that_was_removed() {
    let sandbox = Sandbox::established(ONE);
    sandbox.git_in(&sandbox.origin(), &["update-ref", "-d", "refs/heads/piton/production"]);
    sandbox.bump("web", "1.1.0");
    sandbox.piton(&["promote", "production"]).ends(5).complains("is gone from the origin");
    assert_eq!(sandbox.served("production"), "1.0.0");
    let source = sandbox.git(&["rev-parse", "HEAD~1"]);
    sandbox.piton(&["rollback", "production", "--accept-rewritten", "--to", &source]).ends(0);
    sandbox.piton(&["promote", "production"]).ends(0);
    assert_eq!(sandbox.served("production"), "1.1.0");
}

#[test]
fn events_and_a_lease_of_a_clock_that_was_ahead() {
    let sandbox = Sandbox::established(ONE);
    let lease = json!({ "holder": "a wrong clock", "nonce": "ff", "fence": 9, "until": "2099-01-01T00:03:00.000Z" });
    let event = json!({ "at": "2099-01-01T00:00:00.000Z", "by": "x", "event": "leased", "lease": lease });
    let page = sandbox.subjects("production").len() + 1;
    let message = format!("lease 9\n\nPiton-Schema: 1\nPiton-Page: {page}\nPiton-Nonce: ff-1\nPiton-Event: {event}");
    by_hand(&sandbox, |_| {}, &message);
    let status = sandbox.status("production");
    assert_eq!((&status["foreign"], &status["lease"]["nonce"]), (&json!(null), &json!("ff")), "{status}");
    sandbox.bump("web", "1.1.0");
    sandbox.piton(&["promote", "production"]).ends(0);
    assert_eq!(sandbox.served("production"), "1.1.0");
    sandbox.piton(&["rollback", "production", "--to", "0s", "--dry-run"]).ends(0);
    sandbox.piton(&["rollback", "production"]).ends(0);
}

// ---- the repository

#[test]
fn an_origin_that_is_not_there() {
    let sandbox = Sandbox::new(ONE);
    fs::rename(sandbox.origin(), sandbox.path("away.git")).expect("it can be moved");
    for words in [["promote", "production"], ["plan", "production"], ["status", "production"]] {
        let ran = sandbox.piton(&words).ends(75);
        assert!(ran.err.contains("cannot reach"), "{ran}");
    }
    sandbox.piton(&["rollback", "production", "--json"]).ends(75).reason("unreachable");
    sandbox.git(&["remote", "remove", "origin"]);
    // A repository without a remote is its own origin.
    sandbox.piton(&["promote", "production"]).ends(0);
    assert_eq!(sandbox.served("production"), "1.0.0");
    let nowhere = sandbox.path("nowhere");
    fs::create_dir_all(nowhere.join("pipelines")).expect("a folder");
    fs::write(nowhere.join("pipelines/p.yaml"), pipeline(ONE)).expect("room on the disk");
    let dir = nowhere.display().to_string();
    sandbox.piton(&["-C", &dir, "status"]).ends(2).complains("repository");
}

#[test]
fn a_dirty_and_detached_work_tree_is_left_alone() {
    let sandbox = Sandbox::established(ONE);
    sandbox.bump("web", "1.1.0");
    sandbox.git(&["checkout", "--quiet", "--detach", "HEAD~1"]);
    sandbox.write("services/store.yaml", "half an edit");
    sandbox.write("notes.txt", "mine");
    sandbox.git(&["add", "notes.txt"]);
    let look = || {
        let index = sandbox.git(&["ls-files", "--stage"]);
        (sandbox.git(&["rev-parse", "HEAD"]), sandbox.git(&["status", "--porcelain"]), index, sandbox.read("notes.txt"))
    };
    let before = look();
    sandbox.piton(&["promote", "production"]).ends(0);
    assert_eq!(sandbox.served("production"), "1.1.0");
    sandbox.piton(&["rollback", "production"]).ends(0);
    assert_eq!(look(), before);
    assert_eq!(sandbox.read("services/store.yaml"), "half an edit");
}

// ---- the disk

/// A small disk, where we may mount one.
struct Disk<'a>(&'a Path);

impl<'a> Disk<'a> {
    fn mount(at: &'a Path, options: &str) -> Option<Disk<'a>> {
        fs::create_dir_all(at).expect("a folder");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(at).output();
        if mounted.is_ok_and(|ran| ran.status.success()) {
            return Some(Disk(at));
        }
        eprintln!("SKIPPED: no file system can be mounted here, so full and read-only disks are not tried");
        None
    }

    fn again(&self, options: &str) {
        let ran = Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(self.0).status();
        assert!(ran.expect("mount is there").success());
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0).status();
    }
}

#[test]
fn a_disk_that_is_full_or_read_only_under_the_state() {
    let sandbox = Sandbox::new(ONE);
    let state = sandbox.state_dir();
    let Some(disk) = Disk::mount(&state, "size=64k") else { return };
    fs::write(state.join("full"), vec![0_u8; 48 * 1024]).expect("room for that much");
    let ran = sandbox.piton(&["promote", "production"]).ends(75);
    assert!(ran.out.contains("No space left"), "{ran}");
    fs::remove_file(state.join("full")).expect("it is there");
    disk.again("size=64m,ro");
    let ran = sandbox.piton(&["rollback", "production", "--to", &sandbox.git(&["rev-parse", "HEAD"])]);
    let ran = ran.ends(5);
    assert!(ran.out.contains("Read-only file system"), "{ran}");
    disk.again("size=64m,rw");
    sandbox.piton(&["status"]).ends(0).says("STUCK");
    sandbox.piton(&["rollback", "production", "--to", &sandbox.git(&["rev-parse", "HEAD"])]).ends(0);
    assert_eq!(sandbox.served("production"), "1.0.0");
    support::run({
        let state = state.join("production");
        async move { piton::targets::process::shutdown(&state, false).await.expect("it ends") }
    });
}

#[test]
fn a_disk_that_is_full_or_read_only_under_the_repository() {
    let sandbox = Sandbox::established(ONE);
    sandbox.bump("web", "1.1.0");
    let small = sandbox.path("small");
    let Some(disk) = Disk::mount(&small, "size=1m") else { return };
    sandbox.git_in(sandbox.root(), &["clone", "--quiet", "origin.git", "small/deploy"]);
    let dir = small.join("deploy").display().to_string();
    sandbox.piton(&["-C", &dir, "status"]).ends(0);
    let head = sandbox.head("production");
    let mut filler = fs::File::create(small.join("full")).expect("room for a name");
    while filler.write_all(&[0; 4096]).is_ok() {}
    drop(filler);
    let ran = sandbox.piton(&["-C", &dir, "promote", "production"]);
    assert!([Some(2), Some(75)].contains(&ran.code) && ran.err.contains("No space left"), "{ran}");
    fs::remove_file(small.join("full")).expect("it is there");
    disk.again("ro");
    let ran = sandbox.piton(&["-C", &dir, "promote", "production"]);
    assert!([Some(2), Some(75)].contains(&ran.code) && ran.err.contains("Read-only file system"), "{ran}");
    assert_eq!(sandbox.head("production"), head, "nothing was begun");
    disk.again("rw");
    sandbox.piton(&["-C", &dir, "promote", "production"]).ends(0);
    assert_eq!(sandbox.served("production"), "1.1.0");
}

// ---- what gates see

/// A server whose every answer is made by a function that may take its time; it ends with the test.
fn server(answer: impl Fn(&mut dyn Write) -> std::io::Result<()> + Send + Sync + Clone + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it listens");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = answer.clone();
            std::thread::spawn(move || {
                let mut stream = stream;
                let _ = stream.read(&mut [0; 4096]);
                let _ = answer(&mut stream);
            });
        }
    });
    format!("http://{address}/")
}

fn with_gate(gate: &str) -> Sandbox {
    let text = pipeline(ONE).replace("front, work", "front, strange");
    Sandbox::with_pipeline(&text.replace("  work:", &format!("  strange: {gate}\n  work:")))
}

#[test]
fn a_body_of_ten_megabytes_and_one_that_never_ends() {
    let large = server(|out| {
        out.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10485760\r\n\r\n")?;
        (0..160).try_for_each(|_| out.write_all(&[b'x'; 65_536]))
    });
    let sandbox = with_gate(&format!(
        "{{ http: {{ url: '{large}', expect: {{ status: 200, body: {{ contains: y }} }} }}, every: 100ms, timeout: 5s }}"
    ));
    let ran = sandbox.piton(&["promote", "production"]).ends(1);
    assert!(ran.out.len() < 20_000, "{} bytes", ran.out.len());
    let log = sandbox.git_in(&sandbox.origin(), &["log", "--format=%B", "piton/production"]);
    assert!(!log.contains(&"x".repeat(500)), "only the beginning of a body is quoted");

    let slow = server(|out| {
        out.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")?;
        loop {
            out.write_all(b"z")?;
            std::thread::park_timeout(std::time::Duration::from_millis(100));
        }
    });
    let sandbox = with_gate(&format!(
        "{{ http: {{ url: '{slow}', expect: {{ body: {{ contains: y }} }} }}, every: 100ms, timeout: 500ms }}"
    ));
    let ran = sandbox.piton(&["promote", "production"]).ends(1);
    assert!(ran.out.contains("500ms"), "how long it waited: {ran}");
}

#[test]
fn commands_that_print_nonsense_or_too_much() {
    let sandbox = with_gate(
        r"{ command: { run: [sh, -c, 'printf ''\377\376\033[31mred\000\r\nbad \200 end\n''; exit 3'] }, every: 100ms }",
    );
    let ran = sandbox.piton(&["promote", "production"]).ends(1);
    assert!(!ran.out.contains('\u{1b}') && !ran.out.contains('\0'), "{ran:?}");
    assert!(ran.out.contains("end"), "{ran}");
    let sandbox = with_gate("{ command: { run: [sh, -c, 'yes | head -c 10000000; exit 1'] }, every: 100ms }");
    let ran = sandbox.piton(&["promote", "production"]).ends(1);
    assert!(ran.out.len() < 20_000, "{} bytes", ran.out.len());
    let sandbox = with_gate("{ command: { run: [sh, -c, 'sleep 1000 & sleep 1000'] }, every: 100ms, timeout: 300ms }");
    sandbox.piton(&["promote", "production"]).ends(1).says("300ms");
    until("the sleepers to be gone", || {
        sandbox.processes().iter().all(|(_, words)| !words.contains("sleep")).then_some(())
    });
    let sandbox = with_gate("{ command: { run: [./no-such-program] }, every: 100ms }");
    let text = sandbox.read("pipelines/sandbox.yaml").replace("    bake: 300ms", "    bake: 300ms\n    blind: 1s");
    sandbox.write("pipelines/sandbox.yaml", text);
    let ran = sandbox.piton(&["promote", "production"]).ends(75);
    assert!(ran.out.contains("cannot see") && ran.out.contains("no-such-program"), "{ran}");
}

// ---- secrets

const SECRET: &str = "hunter2-Zm9vYmFy";

#[test]
fn a_secret_is_written_down_nowhere() {
    let leaky = r#"["sh", "-c", "test -n $TOKEN && exec @PITON@ sample --port ${port} --file services/web.yaml --call ${service.store.url}"]"#;
    let leaky = leaky.replace("@PITON@", env!("CARGO_BIN_EXE_piton"));
    let text = pipeline(ONE);
    let line = text.lines().find(|line| line.contains("--call")).expect("the service web").to_owned();
    let text = text.replace(&line, &format!("          run: {leaky}\n          secrets: [TOKEN]"));
    let text = text.replace("front, work", "front, echo, header, fails").replace(
        "  work:",
        "  echo: { command: { run: [sh, -c, 'echo it is $TOKEN'], secrets: [TOKEN] }, every: 100ms }
  header: { http: { url: '${candidate_url}/headers', token: TOKEN, expect: { body: { contains: bearer } } }, every: 100ms }
  fails: { command: { run: [sh, -c, 'echo $TOKEN; echo $TOKEN >&2; exit 1'], secrets: [TOKEN] }, every: 100ms }
  work:",
    );
    let sandbox = Sandbox::with_pipeline(&text);
    let ran = sandbox.piton_with(&[("TOKEN", SECRET)], &["promote", "production"]).ends(1);
    assert!(ran.out.contains("fails"), "{ran}");
    sandbox.piton_with(&[("TOKEN", SECRET)], &["status", "--json"]).ends(0);
    sandbox.piton_with(&[("TOKEN", SECRET)], &["show", "production", "--json"]).ends(0);
    assert_nowhere(&sandbox, SECRET);
}

#[test]
fn a_secret_that_is_echoed_is_not_quoted() {
    let text = pipeline(ONE).replace("front, work", "front, header").replace(
        "  work:",
        "  header: { http: { url: '${candidate_url}/headers', token: TOKEN, expect: { body: { contains: no such text } } }, every: 100ms }
  work:",
    );
    let sandbox = Sandbox::with_pipeline(&text);
    let ran = sandbox.piton_with(&[("TOKEN", SECRET)], &["promote", "production"]).ends(1);
    assert!(ran.out.contains("no such text") && ran.out.contains("•••"), "{ran}");
    assert_nowhere(&sandbox, SECRET);
}

/// Not in a file of the sandbox, what the program printed included, nor in an object of either repository.
fn assert_nowhere(sandbox: &Sandbox, secret: &str) {
    let grep = Command::new("grep").args(["-r", "-l", "-a", "-F", secret]).arg(sandbox.root()).output();
    assert_eq!(String::from_utf8_lossy(&grep.expect("grep is there").stdout), "");
    for dir in [sandbox.origin(), sandbox.deploy()] {
        let objects =
            Command::new("git").args(["cat-file", "--batch", "--batch-all-objects"]).current_dir(dir).output();
        let objects = objects.expect("git is there").stdout;
        assert!(objects.len() > 1000 && !String::from_utf8_lossy(&objects).contains(secret));
    }
}
