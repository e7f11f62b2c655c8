//! The incident of 2017-03-23 with real packages: ipython 9.16.0 installs without complaint beside ipykernel 5.5.6, every
//! page loads, kernels call themselves idle, and nothing ever executes.

use std::{fs, process::Command};

use piton::model::Saw;
use reqwest::Method;
use serde_json::{Value, json};

use super::world::{TOKEN_VARIABLE, World, kernel_gate, token};

const GOOD_OLD: &str = "9.14.1";
const GOOD: &str = "9.15.0";
const BAD: &str = "9.16.0";

const ENVIRONMENTS: &[&str] = &["staging", "production"];

/// How many ticks the watch may take to see it; one look is enough.
const TICKS_MAX: usize = 20;

#[tokio::test]
async fn the_kernel_gate_stops_the_bad_bump_in_staging() {
    let story = Story::begin(GOOD_OLD, |pipeline| pipeline).await;
    for version in [GOOD_OLD, GOOD] {
        if version != GOOD_OLD {
            story.bump(version);
        }
        for environment in ENVIRONMENTS {
            assert_eq!(story.promote(environment), (0, "promoted".to_owned()), "{version}");
            assert_eq!(story.world.live_ipython(environment), version);
        }
    }
    story.bump(BAD);
    let (code, answer) = story.piton(&["promote", "staging"]);
    assert_eq!((code, answer["reason_code"].as_str()), (1, Some("rolled_back")), "{answer}");
    let cause = answer["cause"].as_str().unwrap_or_default();
    assert!(cause.contains("kernel") && cause.contains("never executed"), "{cause}");
    assert_eq!(story.world.live_ipython("staging"), GOOD);
    assert_eq!(story.branch_ipython("staging"), GOOD);
    // Nothing that staging has not proven comes here, and staging does not try it again.
    assert_eq!(story.promote("production"), (0, "up_to_date".to_owned()));
    assert_eq!(story.world.live_ipython("production"), GOOD);
    assert_eq!(story.promote("staging"), (0, "up_to_date".to_owned()));
    assert!(story.world.users("staging").await.is_empty(), "the gate left a user behind");
}

#[tokio::test]
async fn with_the_shallow_check_only_the_watch_rolls_production_back_and_users_notice_nothing() {
    let shallow = |text: String| text.replace("after: [page, kernel]", "after: [page]");
    let story = Story::begin(GOOD, shallow).await;
    for environment in ENVIRONMENTS {
        assert_eq!(story.promote(environment), (0, "promoted".to_owned()));
    }
    let ada = story.ada_works().await;
    story.bump(BAD);
    for environment in ENVIRONMENTS {
        assert_eq!(story.promote(environment), (0, "promoted".to_owned()), "the shallow check sees nothing");
        assert_eq!(story.world.live_ipython(environment), BAD);
    }
    story.ada_still_works(&ada).await;

    let cause = story.tick_until_rolled_back("production");
    assert!(cause.contains("never executed"), "{cause}");
    assert_eq!(
        (story.world.live_ipython("production"), story.branch_ipython("production")),
        (GOOD.into(), GOOD.into())
    );
    story.ada_still_works(&ada).await;
    let saw = story.world.look("production", "kernel", kernel_gate()).await;
    assert!(matches!(saw, Saw::Good(_)), "new servers are not as before: {saw:?}");
    assert_eq!(story.world.users("production").await, ["ada"]);
    // The bad version stays out until a person says otherwise.
    assert_eq!(story.promote("production"), (0, "up_to_date".to_owned()));
}

/// A deploy repository with a bare origin, and piton as people run it.
struct Story {
    world: World,
}

impl Story {
    /// The pipeline of this repository, without its long waits, and changed by the function.
    async fn begin(ipython: &str, change: impl Fn(String) -> String) -> Story {
        let story = Story { world: World::new(ENVIRONMENTS).await };
        let text = fs::read_to_string(story.world.pipeline()).expect("the pipeline");
        let mut text = change(text.replace("bake: 1m", "bake: 0s").replace("bake: 5m", "bake: 0s"));
        if let Ok(cache) = std::env::var("PITON_TEST_CACHE") {
            let env = format!("      env: {{PITON_TEST_CACHE: {}}}\n", json!(cache));
            text = text.replace("      secrets: [HUB_TOKEN]\n", &format!("      secrets: [HUB_TOKEN]\n{env}"));
        }
        fs::write(story.world.pipeline(), text).expect("the folder is ours");
        story.world.require(ipython);
        let origin = story.world.path().join("origin.git");
        let origin = origin.to_str().expect("UTF-8");
        story.git(&["init", "--quiet", "--bare", "--initial-branch=main", origin]);
        story.git(&["init", "--quiet", "--initial-branch=main"]);
        story.git(&["remote", "add", "origin", origin]);
        story.commit("the first release");
        story
    }

    fn bump(&self, ipython: &str) {
        self.world.require(ipython);
        self.commit(&format!("ipython {ipython}"));
    }

    fn commit(&self, subject: &str) {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", subject]);
        self.git(&["push", "--quiet", "origin", "main"]);
    }

    fn git(&self, arguments: &[&str]) -> String {
        let name = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"];
        let ran = Command::new("git").args(name).args(arguments).current_dir(self.world.repo()).output();
        let ran = ran.expect("git is there");
        assert!(ran.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8(ran.stdout).expect("UTF-8")
    }

    /// Exit code and the answer for scripts.
    fn piton(&self, arguments: &[&str]) -> (i32, Value) {
        let ran = Command::new(env!("CARGO_BIN_EXE_piton"))
            .args(arguments)
            .args(["--json", "--as", "ada"])
            .current_dir(self.world.repo())
            .env("PITON_STATE_DIR", self.world.state())
            .env("HUB_TOKEN", token().reveal())
            .env_remove("PITON_PIPELINE")
            .output()
            .expect("piton is built");
        let (said, errors) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        let answer = said.lines().last().and_then(|line| serde_json::from_str(line).ok());
        let answer = answer.unwrap_or_else(|| panic!("piton {arguments:?} gave no answer: {said}\n{errors}"));
        (ran.status.code().unwrap_or(-1), answer)
    }

    fn promote(&self, environment: &str) -> (i32, String) {
        let (code, answer) = self.piton(&["promote", environment]);
        (code, answer["reason_code"].as_str().unwrap_or_default().to_owned())
    }

    /// What a schedule does; the tick that went back says so with its exit code. Gives the cause.
    fn tick_until_rolled_back(&self, environment: &str) -> String {
        for _ in 0..TICKS_MAX {
            let (code, _) = self.piton(&["tick", environment]);
            let (_, status) = self.piton(&["status"]);
            let ending = &status["environments"][environment]["last"]["ending"];
            if let Some(cause) = ending.pointer("/rolled_back/cause") {
                assert_eq!(code, 1, "{ending}");
                return cause.to_string();
            }
            assert_eq!(code, 0, "{status}");
        }
        panic!("the watch saw nothing: {}", self.piton(&["status"]).1);
    }

    /// The version in the tree of the environment's branch, as the origin has it.
    fn branch_ipython(&self, environment: &str) -> String {
        self.git(&["fetch", "--quiet", "origin"]);
        let at = format!("origin/piton/{environment}:fixtures/jupyterhub/requirements.txt");
        let text = self.git(&["show", &at]);
        text.lines().find_map(|line| line.strip_prefix("ipython==")).expect("a pinned version").to_owned()
    }

    /// A user with a server and a kernel in production: when the server started, and which kernel it is.
    async fn ada_works(&self) -> (Value, Value) {
        self.world.ask("production", Method::POST, "/hub/api/users/ada").await;
        self.world.ask("production", Method::POST, "/hub/api/users/ada/server").await;
        loop {
            let user = self.world.ask("production", Method::GET, "/hub/api/users/ada").await;
            let server = user.pointer("/servers/").unwrap_or_else(|| panic!("{}", self.world.log("production")));
            if server["ready"] == true {
                let kernel = self.world.ask("production", Method::POST, "/user/ada/api/kernels").await;
                return (server["started"].clone(), kernel["id"].clone());
            }
        }
    }

    /// The same server, the same kernel, and code still executes there.
    async fn ada_still_works(&self, (started, kernel): &(Value, Value)) {
        let user = self.world.ask("production", Method::GET, "/hub/api/users/ada").await;
        assert_eq!((&user["servers"][""]["started"], &user["servers"][""]["ready"]), (started, &json!(true)));
        let path = format!("/user/ada/api/kernels/{}", kernel.as_str().expect("an id"));
        assert_eq!(&self.world.ask("production", Method::GET, &path).await["id"], kernel);
        let gate = json!({"server": "${url}/user/ada/", "token": TOKEN_VARIABLE, "hold": "0s"});
        let saw = self.world.look("production", "kernel", gate).await;
        assert!(matches!(saw, Saw::Good(_)), "ada's server was disturbed: {saw:?}");
    }
}
