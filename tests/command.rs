//! The target `command` with real programs.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use piton::{
    model::{CommitId, ComponentName, EnvironmentName, Portion, Release, Share, TreeId, Version},
    targets::{Act, Checkout, Done, Live, Site, Target, TargetError, command::CommandTarget},
};
use serde_json::{Value, json};

/// Every tree holds one script, which writes down how it was called.
struct Script;

const SCRIPT: &str = r#"
echo "$* tree=${PITON_TREE:-} share=${PITON_SHARE:-} members=${PITON_MEMBERS:-} from=${PITON_FROM:-} hub=${PITON_VERSION_MY_HUB:-} fence=${PITON_FENCE:-}" >> "$PITON_STATE_DIR/calls"
test "$PITON_ENVIRONMENT" = production || exit 9
test "$1" = live || test "$PWD" = "$PITON_RELEASE_DIR" || exit 8
case "$1" in
  fail) echo one; echo "cannot connect with $PATH" >&2; exit 3;;
  retry) exit 75;;
  hang) sleep 600 & wait;;
  live) echo "1111111111111111111111111111111111111111 100%"; echo "fact url=http://hub.example";;
esac
"#;

impl Checkout for Script {
    fn checkout(&self, _: &TreeId, dir: &Path) -> Result<(), TargetError> {
        fs::create_dir_all(dir).expect("room");
        fs::write(dir.join("do"), SCRIPT).expect("room");
        Ok(())
    }
}

struct World {
    dir: tempfile::TempDir,
    target: CommandTarget,
}

impl World {
    fn new(config: Value) -> World {
        let dir = tempfile::tempdir().expect("a folder");
        let site = Site {
            environment: EnvironmentName::new("production").expect("a name"),
            owner: piton::targets::Owner { pipeline: "shop".into(), branch: "piton/production".into() },
            state_dir: dir.path().join("state"),
            trees: Arc::new(Script),
            program: env!("CARGO_BIN_EXE_piton").into(),
            progress: piton::targets::Progress::default(),
        };
        let target = CommandTarget::new(&config, site).expect("a good configuration");
        World { dir, target }
    }

    async fn act(&self, act: Act) -> Result<Done, TargetError> {
        self.target.perform(&act, 4).await
    }

    async fn done(&self, act: Act) -> String {
        self.act(act).await.expect("it is done").note
    }

    async fn live(&self) -> Live {
        self.target.live().await.expect("it can be looked at")
    }

    /// How the script was called since the last time this was asked.
    fn calls(&self) -> Vec<String> {
        let path = self.dir.path().join("state/calls");
        let calls = fs::read_to_string(&path).unwrap_or_default();
        fs::write(path, "").expect("room");
        calls.lines().map(str::to_owned).collect()
    }
}

fn release(digit: char) -> Release {
    let id = digit.to_string().repeat(40);
    let versions =
        [(ComponentName::new("my-hub").expect("a name"), Version::new(format!("{digit}.0")).expect("a version"))];
    Release {
        tree: TreeId::new(&id).expect("an id"),
        source: CommitId::new(&id).expect("an id"),
        versions: BTreeMap::from(versions),
    }
}

fn apply(digit: char) -> Act {
    Act::Apply { release: release(digit) }
}

fn shift(digit: char, share: &str) -> Act {
    Act::Shift { release: release(digit), to: Portion::Share(share.parse::<Share>().expect("a share")) }
}

fn members(digit: char, names: &[&str]) -> Act {
    Act::Shift { release: release(digit), to: Portion::Members(names.iter().map(|n| (*n).to_owned()).collect()) }
}

fn retreat(from: char, to: Option<char>) -> Act {
    Act::Retreat { from: release(from), to: to.map(release) }
}

fn settle(digit: char) -> Act {
    Act::Settle { keep: Some(release(digit)) }
}

fn tree(digit: char) -> String {
    digit.to_string().repeat(40)
}

#[tokio::test]
async fn one_command_that_deploys_is_enough() {
    let world = World::new(json!({ "apply": ["sh", "do", "deploy", "${version.my-hub}"] }));
    let error = world.target.live().await.expect_err("nothing is known").to_string();
    assert!(error.starts_with("cannot tell what is live"), "{error}");
    world.done(apply('1')).await;
    assert_eq!(world.calls(), Vec::<String>::new(), "users would be moved by it");
    assert_eq!(world.done(shift('1', "100%")).await, "`apply` of release 1111111111 is done");
    let call = format!("deploy 1.0 tree={} share=100 members= from= hub=1.0 fence=4", tree('1'));
    assert_eq!(world.calls(), [call]);
    world.done(settle('1')).await;
    world.done(apply('2')).await;
    world.done(shift('2', "100%")).await;
    world.calls();
    world.done(retreat('2', Some('1'))).await;
    let call = format!("deploy 1.0 tree={} share=100 members= from={} hub=1.0 fence=4", tree('1'), tree('2'));
    assert_eq!(world.calls(), [call], "the old release again");
    assert_eq!(world.live().await.releases, BTreeMap::from([(release('1').tree, 10_000)]));
    let error = world.act(shift('1', "10%")).await.expect_err("no weight").to_string();
    assert_eq!(error, "cannot move 10% of the users: the target has no `weight` command");
}

#[tokio::test]
async fn a_weight_command_makes_shares() {
    let world = World::new(json!({
        "apply": ["sh", "do", "up"], "weight": ["sh", "do", "weight", "${share}"], "settle": ["sh", "do", "down"],
    }));
    for act in [apply('1'), shift('1', "100%"), settle('1'), apply('2'), shift('2', "0.5%")] {
        world.done(act).await;
    }
    let names: Vec<String> =
        world.calls().iter().map(|call| call.split(" tree=").next().expect("some").to_owned()).collect();
    assert_eq!(names, ["up", "weight 100", "down", "up", "weight 0.5"]);
    let live = world.live().await.releases;
    assert_eq!(live, BTreeMap::from([(release('1').tree, 9_950), (release('2').tree, 50)]));
    world.done(retreat('2', Some('1'))).await;
    let calls = world.calls();
    assert_eq!(calls.len(), 1, "the old release is still up: {calls:?}");
    assert!(calls[0].starts_with(&format!("weight 100 tree={}", tree('1'))), "{calls:?}");
}

#[tokio::test]
async fn members_are_moved_one_after_the_other_and_back() {
    let world = World::new(json!({ "apply": ["sh", "do", "to", "${member}"], "members": ["a", "b", "c"] }));
    for act in [apply('1'), shift('1', "100%"), settle('1'), apply('2')] {
        world.done(act).await;
    }
    let called = |world: &World| world.calls().iter().map(|call| call[..4].to_owned()).collect::<Vec<_>>();
    assert_eq!(called(&world), ["to a", "to b", "to c"]);
    world.done(members('2', &["b"])).await;
    assert_eq!(called(&world), ["to b"]);
    assert_eq!(world.live().await.releases, BTreeMap::from([(release('1').tree, 6_666), (release('2').tree, 3_333)]));
    let error = world.act(members('2', &["x"])).await.expect_err("unknown").to_string();
    assert_eq!(error, "there is no member `x`; there are `a`, `b`, `c`");
    world.done(retreat('2', Some('1'))).await;
    assert_eq!(called(&world), ["to b"], "only who had left");
    assert_eq!(world.done(shift('1', "100%")).await, "all members have release 1111111111 already");
}

#[tokio::test]
async fn a_rollback_command_gets_both_releases() {
    let world = World::new(json!({ "apply": ["sh", "do", "up"], "rollback": ["sh", "do", "back"] }));
    world.done(retreat('2', Some('1'))).await;
    world.done(retreat('2', None)).await;
    let calls = world.calls();
    assert!(
        calls[0].starts_with(&format!("back tree={} share=100 members= from={}", tree('1'), tree('2'))),
        "{calls:?}"
    );
    assert!(calls[1].starts_with(&format!("back tree={} share= members= from={}", tree('2'), tree('2'))), "{calls:?}");
}

#[tokio::test]
async fn failures_are_told_with_the_output_and_without_secrets() {
    // A variable that is set everywhere plays the secret.
    let failing = |how: &str| World::new(json!({ "apply": ["sh", "do", how], "secrets": ["PATH"] }));
    let world = failing("fail");
    let error = world.act(shift('1', "100%")).await.expect_err("it fails");
    assert!(matches!(error, TargetError::Release(_)), "{error:?}");
    let expected =
        "`apply` of release 1111111111 failed: `sh` exited with 3; its output ends with: one / cannot connect with •••";
    assert_eq!(error.to_string(), expected);
    let error = failing("retry").act(shift('1', "100%")).await.expect_err("it fails");
    assert!(matches!(error, TargetError::World { .. }), "{error:?}");
}

#[tokio::test]
async fn a_command_that_hangs_is_killed_with_its_children() {
    let world = World::new(json!({ "apply": ["sh", "do", "hang"], "timeout": "300ms" }));
    let error = world.act(shift('1', "100%")).await.expect_err("it hangs").to_string();
    assert!(error.contains("`sh` was killed after its time-out of 300ms"), "{error}");
}

#[tokio::test]
async fn an_older_fence_is_refused() {
    let world = World::new(json!({ "apply": ["sh", "do", "up"] }));
    world.done(apply('1')).await;
    let error = world.target.perform(&shift('1', "100%"), 3).await.expect_err("it is older");
    assert!(matches!(error, TargetError::Fenced { ours: 3, seen: 4 }), "{error:?}");
    assert_eq!(world.calls(), Vec::<String>::new());
}

#[tokio::test]
async fn a_live_command_is_believed() {
    let world = World::new(json!({ "apply": ["sh", "do", "up"], "live": ["sh", "do", "live", "${environment}"] }));
    world.done(apply('2')).await;
    let live = world.live().await;
    assert_eq!(live.releases, BTreeMap::from([(release('1').tree, 10_000)]));
    assert_eq!(live.facts["url"], "http://hub.example");
    assert!(world.calls()[0].starts_with("live production "));
}

#[tokio::test]
async fn there_is_nothing_to_go_back_to() {
    let world = World::new(json!({ "apply": ["sh", "do", "up"] }));
    world.done(apply('1')).await;
    world.done(retreat('1', None)).await;
    world.done(shift('1', "100%")).await;
    let error = world.act(retreat('1', None)).await.expect_err("it stays").to_string();
    assert!(error.contains("no `rollback` command"), "{error}");
}
