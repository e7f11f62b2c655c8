#![doc = include_str!("README.md")]

mod checked;
mod clone;
mod events;
mod eyes;
mod follower;
mod hook;
mod house;
mod http;
mod lease;
mod metrics;
mod pace;
mod pipelines;
mod post;
mod traces;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use events::Announcer;
use follower::Follower;
use house::{Ground, House};
use lease::{Election, Hold, LeaseTimes, Standing, Term};
use metrics::Metrics;
use traces::Traces;

pub use house::LOST;

use crate::{
    clients::{
        git,
        kube::{Cluster, KubeError, Place},
    },
    commands::{FollowName, LeaseName, Serve},
    model::Actor,
    runner::{self, PollPace},
};

/// Nudges that wait; one more means that it is looked at anyway.
const NUDGES_MAX: usize = 16;

/// Written and taken away again at the start; a folder of a followed repository cannot be called so.
const TRIAL_FILE: &str = ".trial";

/// What the controller needs to know of its surroundings.
pub struct Surroundings {
    /// In whose name pages are written.
    pub actor: Actor,
    /// Where clones and targets keep their files.
    pub state_dir: PathBuf,
    /// This program itself.
    pub program: PathBuf,
    /// Cancelled by SIGTERM.
    pub stop: CancellationToken,
    /// Told the address as soon as it is listened on.
    pub listening: Box<dyn FnOnce(SocketAddr) + Send>,
}

/// Why the controller ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("`{name}` is followed twice")]
    Twice { name: String },
    #[error("the Lease must be held longer than the deadline, and the deadline be longer than two tries")]
    Times,
    #[error("cannot keep anything in the state folder {dir}")]
    StateDir {
        dir: String,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot listen on {address}")]
    Listen {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Cluster(#[from] KubeError),
    #[error("no randomness: {0}")]
    Chance(getrandom::Error),
    #[error("{0}")]
    Lost(String),
}

/// Follows repositories and carries their environments on until the stop.
pub async fn serve(args: &Serve, surroundings: Surroundings) -> Result<(), ServeError> {
    check(args)?;
    let Surroundings { actor, state_dir, program, stop, listening } = surroundings;
    usable(&state_dir).map_err(|source| ServeError::StateDir { dir: state_dir.display().to_string(), source })?;
    let (listener, address) = listen(args.listen).await?;
    listening(address);
    let me = runner::holder(actor).map_err(ServeError::Chance)?;
    let metrics = Metrics::new();
    let counted = metrics.clone();
    git::observe(move |operation, took, succeeded| counted.ran_git(operation, took, succeeded));
    let resign = CancellationToken::new();
    let candidate = Candidate::new(args, &me.nonce, &metrics).await?;
    let (announcer, traces) = (candidate.announcer(&metrics), Traces::from_surroundings());
    let (standing, hold) = (candidate.standing.clone(), candidate.hold.clone());
    // Who is looked at seldom is written down seldom, too.
    let usual = PollPace::default();
    let pace = PollPace { others: args.others, readings: usual.readings.max(args.others) };
    let ground =
        Ground { state_dir, program, me, poll: args.poll, pace, hold, standing, metrics, announcer, traces, stop };
    let house = House::new(ground, args.follow.iter().map(|follow| follow.name.clone()));
    let mut outside = JoinSet::new();
    let (nudges, followers) = followers(args, &house);
    let to_leader = candidate.start(&mut outside, nudges.clone(), resign.clone());
    let desk = http::Desk::new(house.clone(), args.hook_secret.clone(), nudges, to_leader);
    tracing::info!(%address, repositories = args.follow.len(), "serving");
    // It ends with the program.
    let served = outside.spawn(http::answer(listener, desk.router()));
    let ended = until_the_end(args, &house, followers).await;
    served.abort();
    if ended.is_ok() {
        if let Some(traces) = house.traces.clone() {
            // It blocks: not on a thread that others need.
            let _ = tokio::task::spawn_blocking(move || traces.flush()).await;
        }
        resign.cancel();
        while outside.join_next().await.is_some() {}
    } else {
        // The next leader does not wait for us: nothing is worth staying for.
        outside.detach_all();
    }
    ended
}

/// Where it listens: where the system chooses the port, the one that it chose.
async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ServeError> {
    let bound = async {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    bound.await.map_err(|source| ServeError::Listen { address, source })
}

/// Whether clones can be kept there: a folder that can never be written to is a fault of the settings, and trying again
/// would only hide it.
fn usable(state_dir: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(state_dir)?;
    let trial = state_dir.join(TRIAL_FILE);
    std::fs::write(&trial, "")?;
    match std::fs::remove_file(trial) {
        // Another replica in the same folder was faster.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

fn check(args: &Serve) -> Result<(), ServeError> {
    let mut names: Vec<&FollowName> = args.follow.iter().map(|follow| &follow.name).collect();
    names.sort();
    if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(ServeError::Twice { name: twice[0].to_string() });
    }
    let right = args.lease_duration > args.lease_deadline && args.lease_deadline.0 > 2 * args.lease_retry.0;
    if right || args.no_lease { Ok(()) } else { Err(ServeError::Times) }
}

type Nudges = BTreeMap<FollowName, mpsc::Sender<()>>;

fn followers(args: &Serve, house: &Arc<House>) -> (Nudges, JoinSet<()>) {
    let (mut nudges, mut followers) = (Nudges::new(), JoinSet::new());
    for follow in &args.follow {
        let (nudge, nudged) = mpsc::channel(NUDGES_MAX);
        nudges.insert(follow.name.clone(), nudge);
        followers.spawn(Follower::new(house.clone(), follow.clone()).follow(nudged));
    }
    (nudges, followers)
}

/// Until everybody has come home after the stop; or until the Lease is lost, and then at once.
async fn until_the_end(args: &Serve, house: &House, mut followers: JoinSet<()>) -> Result<(), ServeError> {
    let mut standing = house.standing.clone();
    loop {
        let now = standing.borrow_and_update().clone();
        match now {
            Standing::Lost(why) => {
                followers.detach_all();
                return Err(ServeError::Lost(why));
            }
            Standing::Leading(term) => house.metrics.leads(true, term.transitions),
            Standing::Standby { .. } | Standing::Unknown(_) => house.metrics.leads(false, 0),
        }
        tokio::select! {
            biased;
            () = house.stop.cancelled() => break,
            changed = standing.changed() => {
                if changed.is_err() {
                    // Without an election nothing changes any more.
                    house.stop.cancelled().await;
                    break;
                }
            }
        }
    }
    tracing::info!("leaving: what is under way is written down and its leases are released");
    let home = async { while followers.join_next().await.is_some() {} };
    if tokio::time::timeout(args.stop_within.as_duration(), home).await.is_err() {
        tracing::warn!("not everybody came home within {}: the next runner takes over", args.stop_within);
    }
    Ok(())
}

/// This replica's part in the election, if there is one.
struct Candidate {
    hold: Hold,
    standing: watch::Receiver<Standing>,
    election: Option<Campaign>,
}

struct Campaign {
    cluster: Cluster,
    name: LeaseName,
    times: LeaseTimes,
    replica: String,
    nonce: String,
    standing: watch::Sender<Standing>,
    metrics: Metrics,
}

impl Candidate {
    async fn new(args: &Serve, nonce: &str, metrics: &Metrics) -> Result<Candidate, ServeError> {
        let Some(name) = args.lease.clone() else {
            let (sender, standing) = watch::channel(Standing::Leading(Term::default()));
            drop(sender);
            return Ok(Candidate { hold: Hold::for_ever(), standing, election: None });
        };
        let cluster = Cluster::connect(&Place { kubeconfig: args.kubeconfig.clone(), context: None }).await?;
        let (sender, standing) = watch::channel(Standing::Unknown("the Lease was not looked at yet".to_owned()));
        let (duration, deadline, retry) = (args.lease_duration, args.lease_deadline, args.lease_retry);
        let times = LeaseTimes { duration, deadline, retry };
        let (replica, nonce, metrics) = (replica(args), nonce.to_owned(), metrics.clone());
        let campaign = Campaign { cluster, name, times, replica, nonce, standing: sender, metrics };
        Ok(Candidate { hold: Hold::not_yet(), standing, election: Some(campaign) })
    }

    fn announcer(&self, metrics: &Metrics) -> Announcer {
        let start = |c: &Campaign| Announcer::start(&c.cluster, &c.name, c.replica.clone(), metrics.clone());
        self.election.as_ref().map_or_else(Announcer::default, start)
    }

    /// Takes part; gives where a standby's webhooks go.
    fn start(
        self,
        tasks: &mut JoinSet<()>,
        nudges: Nudges,
        resign: CancellationToken,
    ) -> Option<mpsc::Sender<FollowName>> {
        let Campaign { cluster, name, times, replica, nonce, standing, metrics } = self.election?;
        let identity = format!("{replica}_{nonce}");
        let (heard, mut looks) = mpsc::channel::<String>(NUDGES_MAX);
        let election = Election::new(&cluster, name.clone(), identity, times, self.hold, heard, metrics);
        tasks.spawn(election.run(standing, resign));
        let (to_leader, mut told) = mpsc::channel::<FollowName>(NUDGES_MAX);
        // These two end with the program, or when nobody speaks to them any more.
        tokio::spawn(async move {
            while let Some(followed) = looks.recv().await {
                let nudge = nudges.iter().find(|(name, _)| name.as_str() == followed).map(|(_, nudge)| nudge);
                let _ = nudge.map(|nudge| nudge.try_send(()));
            }
        });
        tokio::spawn(async move {
            while let Some(followed) = told.recv().await {
                if let Err(error) = lease::tell_leader(&cluster, &name, &followed).await {
                    tracing::warn!(%error, "the leader could not be told of a webhook; it polls");
                }
            }
        });
        Some(to_leader)
    }
}

fn replica(args: &Serve) -> String {
    let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").map(|name| name.trim().to_owned());
    args.replica
        .clone()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| host().unwrap_or_else(|_| "piton".to_owned()))
}
