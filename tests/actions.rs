//! The script behind the actions, in a runner's environment, with a stand-in for piton that says what the test wants.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

fn actions() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(".github/actions")
}

/// A runner's folders and files.
struct Runner {
    dir: TempDir,
    variables: BTreeMap<String, String>,
}

struct Ended {
    code: i32,
    stdout: String,
    stderr: String,
    outputs: BTreeMap<String, String>,
    summary: String,
}

impl Runner {
    /// With a stand-in that runs this shell script; `$1`… are piton's arguments.
    fn new(stand_in: &str) -> Runner {
        let dir = tempfile::tempdir().expect("a folder");
        let piton = dir.path().join("piton");
        fs::write(&piton, format!("#!/usr/bin/env bash\n{stand_in}\n")).expect("the stand-in is written");
        fs::set_permissions(&piton, fs::Permissions::from_mode(0o755)).expect("it may be run");
        for name in ["output", "summary"] {
            fs::write(dir.path().join(name), "").expect("the runner's file is written");
        }
        fs::create_dir(dir.path().join("temp")).expect("a folder");
        let path = |name: &str| dir.path().join(name).display().to_string();
        let variables = BTreeMap::from([
            ("GITHUB_ACTIONS".to_owned(), "true".to_owned()),
            ("GITHUB_ACTOR".to_owned(), "octocat".to_owned()),
            ("GITHUB_OUTPUT".to_owned(), path("output")),
            ("GITHUB_STEP_SUMMARY".to_owned(), path("summary")),
            ("RUNNER_TEMP".to_owned(), path("temp")),
            ("HOME".to_owned(), path("")),
            ("PATH".to_owned(), std::env::var("PATH").unwrap_or_default()),
            ("PITON_BINARY".to_owned(), path("piton")),
            ("PITON_DIR".to_owned(), path("")),
            ("PITON_PIPELINE".to_owned(), String::new()),
            ("PITON_COMMAND".to_owned(), "promote".to_owned()),
            ("PITON_ENVIRONMENT".to_owned(), "production".to_owned()),
        ]);
        Runner { dir, variables }
    }

    /// With a stand-in that prints this line last, and ends with this code. `show` it does not know.
    fn answering(code: i32, answer: &str) -> Runner {
        let runner = Runner::new(&format!("[ \"$1\" != show ] || exit 2\ncat \"${{0%/*}}/answer\"\nexit {code}"));
        fs::write(runner.dir.path().join("answer"), format!("{answer}\n")).expect("the answer is written");
        runner
    }

    fn with(mut self, name: &str, value: &str) -> Runner {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    fn command(&self) -> Command {
        let mut command = Command::new("bash");
        command.arg(actions().join("piton.sh")).env_clear().envs(&self.variables).stdin(Stdio::null());
        command
    }

    fn run(&self) -> Ended {
        self.ended(self.command().output().expect("bash is there"))
    }

    fn ended(&self, output: Output) -> Ended {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it is text");
        let file = |name: &str| fs::read_to_string(self.dir.path().join(name)).expect("the runner's file is there");
        let left: Vec<_> = fs::read_dir(self.dir.path().join("temp"))
            .expect("the folder is there")
            .map(|entry| entry.expect("it can be listed").file_name().to_string_lossy().into_owned())
            .filter(|name| name.starts_with("piton-step"))
            .collect();
        assert_eq!(left, [] as [&str; 0], "the script left files behind");
        Ended {
            code: output.status.code().expect("it was not killed"),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
            outputs: outputs(&file("output")),
            summary: file("summary"),
        }
    }
}

/// The file of outputs, as a runner reads it.
fn outputs(text: &str) -> BTreeMap<String, String> {
    let mut outputs = BTreeMap::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let (name, delimiter) = line.split_once("<<").unwrap_or_else(|| panic!("not an output: {line}"));
        let value: Vec<&str> = lines.by_ref().take_while(|line| *line != delimiter).collect();
        outputs.insert(name.to_owned(), value.join("\n"));
    }
    outputs
}

/// The commands that a runner takes from the output: none between `stop-commands` and its token.
fn commands(output: &str) -> Vec<String> {
    let mut fence: Option<String> = None;
    let mut commands = Vec::new();
    for line in output.lines() {
        if let Some(token) = &fence {
            if line.trim_start() == format!("::{token}::") {
                fence = None;
            }
            continue;
        }
        match line.trim_start().strip_prefix("::stop-commands::") {
            Some(token) => fence = Some(token.to_owned()),
            None if line.trim_start().starts_with("::") || line.contains("##[") => commands.push(line.to_owned()),
            None => {}
        }
    }
    assert_eq!(fence, None, "the fence was never opened again");
    commands
}

fn line(decision: &str, reason: &str, rest: &str) -> String {
    format!(
        r#"{{"schema_version":1,"decision":"{decision}","reason_code":"{reason}","environment":"production"{rest}}}"#
    )
}

#[test]
fn a_promotion_gives_outputs_and_a_summary() {
    let good = "a".repeat(40);
    let answer = line("complete", "promoted", &format!(r#","exit_code":0,"good":"{good}","attempt":12"#));
    let ended = Runner::answering(0, &answer).run();
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
    let output = |name: &str| ended.outputs[name].as_str();
    assert_eq!((output("decision"), output("reason_code")), ("complete", "promoted"));
    assert_eq!((output("environment"), output("commit"), output("attempt")), ("production", good.as_str(), "12"));
    assert_eq!((output("exit_code"), output("message"), output("json")), ("0", "", answer.as_str()));
    assert!(ended.summary.contains("| decision | complete |"), "{}", ended.summary);
    assert_eq!(commands(&ended.stdout), [] as [&str; 0]);
}

#[test]
fn every_exit_code_is_passed_on_and_said() {
    for (code, said) in [
        (1, "::error title=piton%3A rolled back (production)::the hub is slow"),
        (2, "::error title=piton%3A usage or configuration (production)::the hub is slow"),
        (3, "::notice title=piton%3A changes pending (production)::the hub is slow"),
        (4, "::warning title=piton%3A refused by policy (production)::the hub is slow"),
        (5, "::error title=piton%3A STUCK%2C a person must act (production)::the hub is slow"),
        (75, "::warning title=piton%3A try again (production)::the hub is slow"),
        (101, "::error title=piton%3A ended with 101 (production)::the hub is slow"),
    ] {
        let ended = Runner::answering(code, &line("failure", "why", r#","message":"the hub is slow""#)).run();
        assert_eq!(ended.code, code);
        assert_eq!(commands(&ended.stdout), [said], "{code}");
        assert_eq!(ended.outputs["exit_code"], code.to_string());
    }
}

#[test]
fn words_of_others_stay_words() {
    let evil = r#"::set-output name=decision::promoted\n::error::boo\r\n%0A<img src=x>|`@here` *a*\nEOF\nx=1"#;
    let answer = line("failure", "rolled_back", &format!(r#","cause":"{evil}","advice":"::stop-commands::x""#));
    let runner = Runner::new(
        "[ \"$1\" != show ] || exit 2
         printf '::add-mask::a\\n::set-output name=decision::promoted\\n##[error]x\\nno end of line' >&2
         printf '::set-env name=PATH::/evil\\n::piton::\\n'
         cat \"${0%/*}/answer\"; exit 1",
    );
    fs::write(runner.dir.path().join("answer"), format!("{answer}\n")).expect("the answer is written");
    // One stream, as the runner sees it.
    let mut command = Command::new("bash");
    command.args(["-c", "exec 2>&1; exec bash \"$0\""]).arg(actions().join("piton.sh"));
    let output = command.env_clear().envs(&runner.variables).stdin(Stdio::null()).output().expect("bash is there");
    let ended = runner.ended(output);
    assert_eq!(ended.code, 1);
    let commands = commands(&ended.stdout);
    assert_eq!(commands.len(), 1, "{commands:?}");
    assert_eq!(
        commands[0],
        "::error title=piton%3A rolled back (production)::::set-output name=decision::promoted%0A::error::boo%0D%0A%250A<img src=x>|`@here` *a*%0AEOF%0Ax=1%0Ahint: ::stop-commands::x"
    );
    assert_eq!(ended.outputs["decision"], "failure");
    assert!(ended.outputs["message"].ends_with("EOF\nx=1"), "{}", ended.outputs["message"]);
    assert!(!ended.outputs.contains_key("x"));
    assert!(!ended.summary.contains("<img") && !ended.summary.contains("@here"), "{}", ended.summary);
    assert_eq!(ended.summary.lines().count(), 8, "{}", ended.summary);
}

#[test]
fn no_answer_is_no_success() {
    for (stand_in, code, reason) in [
        ("exit 0", 5, "no_answer"),
        ("echo done; exit 0", 5, "no_answer"),
        ("echo '{\"schema_version\":2,\"decision\":\"complete\"}'; exit 0", 5, "no_answer"),
        ("echo '[1]'; exit 0", 5, "no_answer"),
        ("exit 101", 101, "no_answer"),
        ("kill -KILL $$", 137, "no_answer"),
    ] {
        let ended = Runner::new(stand_in).run();
        assert_eq!((ended.code, ended.outputs["reason_code"].as_str()), (code, reason), "{stand_in}");
        assert_eq!(ended.outputs["decision"], "failure", "{stand_in}");
    }
}

#[test]
fn inputs_become_arguments_and_never_options_of_their_own() {
    let echo = "[ \"$1\" != show ] || exit 2
                printf '%s\\n' \"$@\" \"as=$PITON_ACTOR\" \"pipeline=${PITON_PIPELINE-unset}\" >\"${0%/*}/arguments\"
                echo '{\"schema_version\":1,\"decision\":\"complete\",\"reason_code\":\"ok\"}'";
    let arguments = |runner: Runner| {
        let ended = runner.run();
        assert_eq!(ended.code, 0, "{}{}", ended.stdout, ended.stderr);
        fs::read_to_string(runner.dir.path().join("arguments"))
            .expect("the stand-in ran")
            .lines()
            .collect::<Vec<_>>()
            .join(" ")
    };
    let promote = Runner::new(echo).with("PITON_TO", "--help").with("PITON_WAIT", "true").with("PITON_ALL", "false");
    assert_eq!(arguments(promote), "promote --json --to=--help --wait -- production as=octocat pipeline=unset");
    let tick = Runner::new(echo).with("PITON_COMMAND", "tick").with("PITON_ENVIRONMENT", "staging\n production ");
    let tick = tick.with("PITON_BEGIN", "true").with("PITON_ACTOR", "cron").with("PITON_PIPELINE", "p.yaml");
    assert_eq!(arguments(tick), "tick --json --promote -- staging production as=cron pipeline=p.yaml");
    let all = Runner::new(echo).with("PITON_COMMAND", "tick").with("PITON_ENVIRONMENT", "");
    assert_eq!(arguments(all), "tick --json -- as=octocat pipeline=unset");
    let back = Runner::new(echo).with("PITON_COMMAND", "rollback").with("PITON_REASON", "users; $(reboot) `x` \"y\"");
    let back = back.with("PITON_DRY_RUN", "true").with("PITON_ENVIRONMENT", "--to=x");
    assert_eq!(
        arguments(back),
        "rollback --json --reason=users; $(reboot) `x` \"y\" --dry-run -- --to=x as=octocat pipeline=unset"
    );
}

#[test]
fn wrong_inputs_are_usage() {
    for (name, value, said) in [
        ("PITON_COMMAND", "demo", "PITON_COMMAND is promote, tick or rollback, not `demo`"),
        ("PITON_WAIT", "yes", "`--wait` is switched on with `true` or off with `false`, not with `yes`"),
        ("PITON_ENVIRONMENT", "", "promote takes one environment, not 0"),
        ("PITON_ENVIRONMENT", "a b", "promote takes one environment, not 2"),
        ("PITON_DIR", "/no/such/folder", "there is no folder `/no/such/folder`"),
        ("PITON_BINARY", "/no/such/piton", "there is no program `/no/such/piton`"),
    ] {
        let ended = Runner::answering(0, &line("complete", "ok", "")).with(name, value).run();
        assert_eq!(ended.code, 2, "{name}={value}");
        assert!(ended.stdout.contains(&format!("::error title=piton%3A usage::{said}")), "{}", ended.stdout);
    }
}

#[test]
fn the_summary_holds_what_piton_shows_and_has_an_end() {
    let stand_in = "if [ \"$*\" = 'show --markdown -- production' ]; then echo '### production'; yes filler | head -c 3000000; exit; fi
        case $2 in --svg=*) echo '<svg/>' >\"${2#--svg=}\"; exit;; esac
        cat \"${0%/*}/answer\"; exit 1";
    let runner = Runner::new(stand_in);
    fs::write(runner.dir.path().join("answer"), line("failure", "rolled_back", "")).expect("the answer is written");
    let ended = runner.run();
    assert!(ended.summary.contains("### production\nfiller\n"));
    assert!(ended.summary.len() <= 1024 * 1024, "{}", ended.summary.len());
    let picture = fs::read_to_string(&ended.outputs["picture"]).expect("the picture is there");
    assert_eq!(picture, "<svg/>\n");
}

#[test]
fn a_tick_tells_of_every_environment_in_which_something_happened() {
    let answer = r#"{"schema_version":1,"decision":"failure","reason_code":"ticked","environments":{
        "production":{"exit_code":1,"reason_code":"rolled_back"},"staging":{"exit_code":0,"reason_code":"nothing_to_do"}}}"#;
    let runner = Runner::new("[ \"$1\" != show ] || { echo \"shown: $4\"; exit; }; cat \"${0%/*}/answer\"; exit 1");
    fs::write(runner.dir.path().join("answer"), answer.replace('\n', "")).expect("the answer is written");
    let ended = runner.with("PITON_COMMAND", "tick").with("PITON_ENVIRONMENT", "").run();
    let said = "::error title=piton%3A rolled back::production: rolled_back, staging: nothing_to_do";
    assert_eq!((ended.code, commands(&ended.stdout)), (1, vec![said.to_owned()]));
    assert!(
        ended.summary.contains("shown: production\n") && !ended.summary.contains("shown: staging"),
        "{}",
        ended.summary
    );
}

#[test]
fn faults_of_a_pipeline_file_are_told_at_their_places() {
    let faults = r#","message":"3 faults","faults":[{"file":"pipelines/a,b.yaml","line":7,"column":3,"message":"unknown key `x`\nhelp: y"}]"#;
    let ended = Runner::answering(2, &line("failure", "pipeline", faults)).run();
    assert_eq!(
        commands(&ended.stdout)[1],
        "::error file=pipelines/a%2Cb.yaml,line=7,col=3,title=piton%3A pipeline::unknown key `x`%0Ahelp: y"
    );
}

#[test]
fn outside_github_there_are_no_commands_and_a_file_of_variables() {
    let answer = line("failure", "rolled_back", r#","cause":"bad\nnews","attempt":3"#);
    let runner = Runner::answering(1, &answer).with("GITHUB_ACTIONS", "");
    let dotenv = runner.dir.path().join("piton.env");
    let runner = runner.with("PITON_DOTENV", &dotenv.display().to_string());
    let ended = runner.run();
    assert!(!ended.stdout.contains("::"), "{}", ended.stdout);
    assert!(ended.stderr.contains("error: piton: rolled back (production): bad\nnews"), "{}", ended.stderr);
    let text = fs::read_to_string(dotenv).expect("it was written");
    assert!(text.starts_with("PITON_DECISION=failure\nPITON_REASON_CODE=rolled_back\nPITON_EXIT_CODE=1\n"), "{text}");
    assert!(text.contains("\nPITON_MESSAGE=bad news\n"), "{text}");
}

/// Kills the script's process group when the test ends early.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        let group = nix::unistd::Pid::from_raw(-i32::try_from(self.0.id()).expect("a process id"));
        // Already gone is what we want.
        let _ = nix::sys::signal::kill(group, nix::sys::signal::Signal::SIGKILL);
        let _ = self.0.wait();
    }
}

#[test]
fn a_cancelled_job_lets_piton_write_down_what_it_has() {
    use std::os::unix::process::CommandExt;
    for signal in [nix::sys::signal::Signal::SIGTERM, nix::sys::signal::Signal::SIGINT] {
        let runner = Runner::new(
            "trap 'echo written >\"${0%/*}/ledger\"; kill $child; cat \"${0%/*}/answer\"; exit 75' TERM
             tail -f /dev/null & child=$!
             echo ready >&2
             while :; do wait; done",
        );
        fs::write(runner.dir.path().join("answer"), line("continue", "stopped", "")).expect("the answer is written");
        let mut command = runner.command();
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut group = Group(command.spawn().expect("bash is there"));
        let mut stderr = BufReader::new(group.0.stderr.take().expect("it is piped"));
        let mut stdout = group.0.stdout.take().expect("it is piped");
        let (said, heard) = mpsc::channel();
        std::thread::spawn(move || {
            let mut first = String::new();
            let _ = stderr.read_line(&mut first);
            let _ = said.send(first);
            let mut all = String::new();
            let _ = stdout.read_to_string(&mut all);
            let _ = said.send(all);
        });
        let next = || heard.recv_timeout(Duration::from_secs(60)).expect("the script goes on");
        assert_eq!(next(), "ready\n");
        let script = nix::unistd::Pid::from_raw(i32::try_from(group.0.id()).expect("a process id"));
        nix::sys::signal::kill(script, signal).expect("the script runs");
        let stdout = next();
        let code = group.0.wait().expect("it ended").code();
        let written = fs::read_to_string(runner.dir.path().join("ledger")).expect("piton was told");
        assert_eq!((code, written.as_str()), (Some(75), "written\n"), "{signal}: {stdout}");
        let file = fs::read_to_string(runner.dir.path().join("output")).expect("it is there");
        assert_eq!(outputs(&file)["reason_code"], "stopped");
    }
}

#[test]
fn a_release_is_used_only_with_the_pinned_checksum() {
    let runner = Runner::answering(0, &line("complete", "ok", ""));
    let dir = runner.dir.path();
    let machine = Command::new("uname").arg("-m").output().expect("uname is there");
    let machine = String::from_utf8(machine.stdout).expect("it is text");
    let release = dir.join("releases/v1.2.3");
    fs::create_dir_all(&release).expect("a folder");
    let archive = release.join(format!("piton-{}-unknown-linux-musl.tar.gz", machine.trim()));
    let stand_in =
        "#!/bin/sh\necho '{\"schema_version\":1,\"decision\":\"complete\",\"reason_code\":\"from_release\"}'\n";
    let inner = dir.join("inner");
    fs::create_dir(&inner).expect("a folder");
    fs::write(inner.join("piton"), stand_in).expect("it is written");
    fs::set_permissions(inner.join("piton"), fs::Permissions::from_mode(0o755)).expect("it may be run");
    let packed = Command::new("tar").arg("-czf").arg(&archive).arg("-C").arg(&inner).arg("piton").status();
    assert!(packed.expect("tar is there").success());
    let sum = Command::new("sha256sum").arg(&archive).output().expect("sha256sum is there");
    let sum = String::from_utf8(sum.stdout).expect("it is text")[..64].to_owned();

    let releases = format!("file://{}", dir.join("releases").display());
    let runner = runner.with("PITON_BINARY", "").with("PITON_VERSION", "1.2.3").with("PITON_RELEASES", &releases);
    assert_eq!(runner.run().code, 2, "without a checksum");
    let runner = runner.with("PITON_SHA256", &"0".repeat(64));
    assert_eq!(runner.run().code, 2, "with a wrong checksum");
    let runner = runner.with("PITON_SHA256", &sum);
    assert_eq!(runner.run().outputs["reason_code"], "from_release");
    let runner = runner.with("PITON_VERSION", "9.9.9");
    assert_eq!(runner.run().code, 75, "a release that is not there");
}

#[test]
fn without_a_piton_it_is_built() {
    let runner = Runner::answering(0, &line("complete", "ok", ""));
    let tools = runner.dir.path().join("tools");
    fs::create_dir(&tools).expect("a folder");
    let cargo = "#!/usr/bin/env bash\nroot=; while [ $# -gt 0 ]; do [ \"$1\" != --root ] || root=$2; shift; done
        echo '::error::from a build script'
        mkdir -p \"$root/bin\" && cp \"$STAND_IN\" \"$root/bin/piton\" && cp \"${STAND_IN%/*}/answer\" \"$root/bin/answer\"";
    fs::write(tools.join("cargo"), cargo).expect("it is written");
    fs::set_permissions(tools.join("cargo"), fs::Permissions::from_mode(0o755)).expect("it may be run");
    let stand_in = runner.variables["PITON_BINARY"].clone();
    let path = format!("{}:{}", tools.display(), runner.variables["PATH"]);
    let ended = runner.with("PITON_BINARY", "").with("STAND_IN", &stand_in).with("PATH", &path).run();
    assert_eq!((ended.code, commands(&ended.stdout)), (0, Vec::<String>::new()), "{}", ended.stderr);
}

/// No value reaches the text of a script, and every input and output is wired.
#[test]
fn the_actions_are_wired() {
    for name in ["promote", "tick", "rollback"] {
        let text = fs::read_to_string(actions().join(name).join("action.yml")).expect("the action is there");
        let action: Value = serde_saphyr::from_str(&text).expect("it is YAML");
        let steps = action["runs"]["steps"].as_array().expect("it has steps");
        let [step] = steps.as_slice() else { panic!("{name} has one step") };
        assert_eq!((&action["runs"]["using"], &step["shell"]), (&Value::from("composite"), &Value::from("bash")));
        assert!(!step["run"].as_str().expect("it runs something").contains("${{"), "{name}");
        assert_eq!(step["env"]["PITON_COMMAND"], name);
        let script = fs::read_to_string(actions().join("piton.sh")).expect("the script is there");
        let variables = step["env"].as_object().expect("it has variables");
        for input in action["inputs"].as_object().expect("it has inputs").keys() {
            let variable = variables.iter().find(|(_, value)| **value == format!("${{{{ inputs.{input} }}}}"));
            let (variable, _) = variable.unwrap_or_else(|| panic!("{name}: the input {input} goes nowhere"));
            assert!(script.contains(&format!("${{{variable}")), "{name}: nothing reads {variable}");
        }
        for (output, how) in action["outputs"].as_object().expect("it has outputs") {
            assert_eq!(how["value"], format!("${{{{ steps.piton.outputs.{output} }}}}"), "{name}");
            assert!(script.contains(&format!("put {output} ")), "{name}: nothing writes {output}");
        }
    }
}

/// Every action is pinned to a commit, and the examples use inputs that exist.
#[test]
fn examples_and_workflows_are_sound() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut uses = 0;
    for file in ["fixtures/ci/github-deploy.yml", "fixtures/ci/gitlab-ci.yml", ".github/workflows/ci.yml"] {
        let text = fs::read_to_string(root.join(file)).expect("the file is there");
        let workflow: Value = serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
        for step in steps(&workflow) {
            let Some(action) = step["uses"].as_str() else { continue };
            uses += 1;
            let (name, at) = action.split_once('@').unwrap_or_else(|| panic!("{file}: {action} is not pinned"));
            let pinned = at.len() == 40 && at.bytes().all(|b| b.is_ascii_hexdigit());
            let Some(own) = name.strip_prefix("example/piton/.github/actions/") else {
                assert!(pinned, "{file}: {action} is not pinned to a commit");
                continue;
            };
            let action = fs::read_to_string(actions().join(own).join("action.yml")).expect("the action is there");
            let action: Value = serde_saphyr::from_str(&action).expect("it is YAML");
            for input in step["with"].as_object().into_iter().flat_map(|with| with.keys()) {
                assert!(!action["inputs"][input].is_null(), "{file}: {own} has no input {input}");
            }
        }
    }
    assert!(uses >= 6, "only {uses} uses of actions were looked at");
}

fn steps(workflow: &Value) -> Vec<Value> {
    let jobs = workflow["jobs"].as_object().into_iter().flat_map(|jobs| jobs.values());
    jobs.flat_map(|job| job["steps"].as_array().cloned().unwrap_or_default()).collect()
}

/// A deploy repository with a bare origin, and the real piton.
struct Deploy(Runner);

impl Deploy {
    fn new(gates: &str) -> Deploy {
        let runner = Runner::new("exit 99").with("PITON_BINARY", env!("CARGO_BIN_EXE_piton"));
        let dir = runner.dir.path().to_owned();
        let work = dir.join("work");
        let deploy = Deploy(runner.with("PITON_ENVIRONMENT", "staging").with("PITON_DIR", &work.display().to_string()));
        deploy.git(&dir, &["init", "-q", "--bare", "-b", "main", "origin.git"]);
        deploy.git(&dir, &["clone", "-q", "origin.git", "work"]);
        deploy.git(&work, &["symbolic-ref", "HEAD", "refs/heads/main"]);
        fs::create_dir(work.join("pipelines")).expect("a folder");
        let pipeline = format!(
            "components:\n  web: {{ file: versions.yaml, path: web }}\nenvironments:\n  staging:\n    \
             target: {{ command: {{ apply: [\"true\"] }} }}\n    bake: 0s\n    gates: {gates}\n"
        );
        fs::write(work.join("pipelines/main.yaml"), pipeline).expect("the pipeline is written");
        deploy.bump("1.0.0");
        deploy
    }

    fn git(&self, dir: &Path, arguments: &[&str]) {
        let mut command = Command::new("git");
        command.args(["-c", "user.name=Ann", "-c", "user.email=ann@example.org"]).args(arguments).current_dir(dir);
        let output = command.env_clear().envs(&self.0.variables).output().expect("git is there");
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn bump(&self, version: &str) {
        let work = self.0.dir.path().join("work");
        fs::write(work.join("versions.yaml"), format!("web: \"{version}\"\n")).expect("the version is written");
        self.git(&work, &["add", "--all"]);
        self.git(&work, &["commit", "-q", "-m", version]);
        self.git(&work, &["push", "-q", "origin", "main"]);
    }
}

#[test]
fn the_real_piton_promotes_and_rolls_back_in_a_job() {
    let deploy = Deploy::new(
        "{ after: [{ command: { run: [test, \"${version.web}\", \"!=\", \"1.1.0\"] }, name: not-that, every: 200ms }] }",
    );
    let ended = deploy.0.run();
    assert_eq!(ended.code, 0, "{}{}", ended.stdout, ended.stderr);
    assert_eq!((ended.outputs["reason_code"].as_str(), ended.outputs["attempt"].as_str()), ("promoted", "1"));
    let good = ended.outputs["commit"].clone();
    assert!(good.len() == 40 && ended.summary.contains("✅ promoted"), "{good} {}", ended.summary);

    deploy.bump("1.1.0");
    let ended = deploy.0.run();
    assert_eq!((ended.code, ended.outputs["reason_code"].as_str()), (1, "rolled_back"), "{}", ended.stderr);
    assert_eq!(ended.outputs["commit"], good);
    assert!(ended.outputs["message"].starts_with("gate `not-that` failed"), "{}", ended.outputs["message"]);
    assert!(ended.summary.contains("↩️ rolled back") && ended.summary.contains("Kept out from here on: web 1.1.0"));
    let picture = fs::read_to_string(&ended.outputs["picture"]).expect("there is a picture");
    assert!(picture.starts_with("<svg") && picture.contains("not-that"));

    let ended = deploy.0.run();
    assert_eq!(
        (ended.code, ended.outputs["reason_code"].as_str()),
        (0, "up_to_date"),
        "it does not walk back into the fault"
    );
}

#[test]
fn a_pipeline_with_faults_is_refused_in_a_job() {
    let deploy = Deploy::new("{ afer: [] }");
    let ended = deploy.0.run();
    assert_eq!((ended.code, ended.outputs["reason_code"].as_str()), (2, "pipeline"), "{}", ended.stdout);
    assert!(commands(&ended.stdout)[0].contains("unknown key `afer`"), "{}", ended.stdout);
}

#[test]
fn the_next_job_takes_up_what_a_cancelled_one_left() {
    use std::os::unix::process::CommandExt;
    let fifo_dir = tempfile::tempdir().expect("a folder");
    let fifo = fifo_dir.path().join("looked");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a named pipe");
    let deploy = Deploy::new(&format!(
        "{{ before: [{{ command: {{ run: [sh, -c, \"echo looked > {}\"] }}, every: 200ms }}, {{ approval: {{ not_author: false }} }}] }}",
        fifo.display()
    ));
    let runner = &deploy.0;
    let waiting = |name: &str, value: &str| {
        let mut command = runner.command();
        command.env(name, value).process_group(0).stdout(Stdio::null()).stderr(Stdio::null());
        Group(command.spawn().expect("bash is there"))
    };
    let mut job = waiting("PITON_WAIT", "true");
    // The pipe opens when the gate looks for the first time, and stays open for its later looks.
    let (said, heard) = mpsc::channel();
    std::thread::spawn(move || said.send(fs::File::open(fifo)));
    let _open = heard.recv_timeout(Duration::from_secs(60)).expect("the gate looks").expect("the pipe opens");
    let script = nix::unistd::Pid::from_raw(i32::try_from(job.0.id()).expect("a process id"));
    nix::sys::signal::kill(script, nix::sys::signal::Signal::SIGTERM).expect("the script runs");
    assert_eq!(job.0.wait().expect("it ended").code(), Some(75));

    let work = runner.dir.path().join("work");
    let mut approve = Command::new(env!("CARGO_BIN_EXE_piton"));
    approve.args(["approve", "staging", "--as", "ann"]).current_dir(&work).env_clear().envs(&runner.variables);
    approve.env_remove("PITON_PIPELINE");
    let approved = approve.output().expect("piton is there");
    assert!(approved.status.success(), "{}", String::from_utf8_lossy(&approved.stderr));
    let ended = runner.run();
    assert_eq!(
        (ended.code, ended.outputs["reason_code"].as_str()),
        (0, "promoted"),
        "{}{}",
        ended.stdout,
        ended.stderr
    );
    assert_eq!(ended.outputs["attempt"], "1", "it is the same promotion");
}
