//! One watch: a list, then its changes, for as long as anyone listens. It lives through everything that ends watches.

use std::time::Duration;

use futures_util::StreamExt;
use kube::{
    Api,
    api::{DynamicObject, ListParams, WatchEvent, WatchParams},
};
use serde_json::Value;
use tokio::{
    sync::mpsc::Sender,
    time::{Instant, sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use super::{selector::Selector, slim};
use crate::clients::kube::{Cluster, KubeError, ObjectId};

/// How long a list, or the beginning of a watch, may take to be answered.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Objects of one page of a list.
const PAGE_OBJECTS: u32 = 500;
/// The pause after a failure grows from the one to the other. The longest is short: somebody waits.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// A watch that ends sooner than this is paused after, as a failure is.
const LIFE_MIN: Duration = Duration::from_secs(1);
/// The server says that it wants to be left alone for a while, but not longer than this.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(10);

/// What is watched: the objects of one kind, in one namespace, by labels or fields.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Need {
    pub api_version: String,
    pub kind: String,
    pub namespace: Option<String>,
    pub labels: Option<Selector>,
    pub fields: Option<String>,
    /// Where many watches became one: it tells only of what one of these selects; empty, of everything. The server takes one
    /// selector at most, and what others run beside us, such as the pods of a hub's users, must not fill our memory.
    pub among: Vec<Selector>,
}

/// How long a watch lasts, and how long it may be silent: the server sends a bookmark about every minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    pub watch_seconds: u32,
    pub silence: Duration,
}

impl Pace {
    /// Somebody waits for the end: silence is noticed soon, by watches that the server ends often.
    pub const ROLLOUT: Pace = Pace { watch_seconds: 20, silence: Duration::from_secs(25) };
    /// For hours: as few requests as possible.
    pub const STANDING: Pace = Pace { watch_seconds: 290, silence: Duration::from_secs(100) };
}

/// What a watch tells.
#[derive(Debug)]
pub enum Change {
    /// Everything there is; what was known before and is not here is gone.
    Listed(Vec<Value>),
    Applied(Value),
    Gone(Value),
    /// The watch goes on where it was.
    Resumed,
    /// Nothing is heard at this moment; it is tried again.
    Lost(KubeError),
}

/// Begins to watch; it ends when the handle is dropped.
pub fn open(cluster: &Cluster, need: Need, pace: Pace, to: Sender<(Need, Change)>) -> AbortOnDropHandle<()> {
    let feed = Feed { cluster: cluster.clone(), need, pace, to, version: None };
    AbortOnDropHandle::new(tokio::spawn(feed.follow()))
}

struct Feed {
    cluster: Cluster,
    need: Need,
    pace: Pace,
    to: Sender<(Need, Change)>,
    /// Where to go on; `None` asks for a new list.
    version: Option<String>,
}

/// Why one round of a watch ended.
enum Over {
    /// The server has ended it, as it does from time to time.
    Closed,
    /// What we last saw is too old for the server.
    TooOld,
    Failed(KubeError),
    /// Nobody listens any more.
    Unheard,
}

impl Feed {
    async fn follow(mut self) {
        let mut pause = PAUSE_MIN;
        loop {
            let began = Instant::now();
            let over = self.round().await;
            if began.elapsed() > LIFE_MIN {
                pause = PAUSE_MIN;
            }
            let mut wait = pause;
            match over {
                Over::Unheard => return,
                Over::Closed if began.elapsed() > LIFE_MIN => continue,
                Over::Closed => {}
                Over::TooOld => self.version = None,
                Over::Failed(error) => {
                    wait = wait.max(retry_after(&error));
                    if self.tell(Change::Lost(error)).await.is_err() {
                        return;
                    }
                }
            }
            sleep(wait).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Lists where that is needed, and watches until something ends it.
    async fn round(&mut self) -> Over {
        let api = match answered("find its kind", self.cluster.api(&self.need.any())).await {
            Ok(Ok(api)) => api,
            Ok(Err(error)) | Err(error) => return Over::Failed(error),
        };
        let version = match &self.version {
            Some(version) => version.clone(),
            None => match self.list(&api).await {
                Ok(version) => version,
                Err(over) => return over,
            },
        };
        self.version = Some(version.clone());
        let params = WatchParams {
            label_selector: self.need.labels.as_ref().map(ToString::to_string),
            field_selector: self.need.fields.clone(),
            timeout: Some(self.pace.watch_seconds),
            bookmarks: true,
            send_initial_events: false,
        };
        let stream = match answered("watch", api.watch(&params, &version)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return failed(error.into()),
            Err(error) => return Over::Failed(error),
        };
        if self.tell(Change::Resumed).await.is_err() {
            return Over::Unheard;
        }
        let mut stream = std::pin::pin!(stream);
        loop {
            let Ok(next) = timeout(self.pace.silence, stream.next()).await else {
                self.version = None;
                let why = format!("its watch was silent for {} s", self.pace.silence.as_secs());
                return Over::Failed(KubeError::Unreachable(why));
            };
            let change = match next {
                None => return Over::Closed,
                Some(Err(error)) => return failed(error.into()),
                Some(Ok(WatchEvent::Error(status))) => return failed(KubeError::Refused(status.boxed())),
                Some(Ok(WatchEvent::Bookmark(mark))) => {
                    self.version = Some(mark.metadata.resource_version);
                    continue;
                }
                Some(Ok(WatchEvent::Added(object) | WatchEvent::Modified(object))) => {
                    self.version = object.metadata.resource_version.clone();
                    let object = self.read(object);
                    // Labels may change: what was selected once and is not any more is gone.
                    if self.need.wants(&object) { Change::Applied(object) } else { Change::Gone(object) }
                }
                Some(Ok(WatchEvent::Deleted(object))) => {
                    self.version = object.metadata.resource_version.clone();
                    Change::Gone(self.read(object))
                }
            };
            if self.tell(change).await.is_err() {
                return Over::Unheard;
            }
        }
    }

    /// Everything there is, page by page, and the version to watch from.
    async fn list(&self, api: &Api<DynamicObject>) -> Result<String, Over> {
        let mut params = ListParams {
            label_selector: self.need.labels.as_ref().map(ToString::to_string),
            field_selector: self.need.fields.clone(),
            limit: Some(PAGE_OBJECTS),
            ..ListParams::default()
        };
        let mut objects = Vec::new();
        if self.need.kind == "Event" {
            // Nobody reads warnings of before, and the server reads events from its disk, all of them for a few: thousands of
            // rollouts at once would keep it busy with nothing else.
            params = ListParams { limit: Some(1), ..ListParams::default() };
        }
        loop {
            let page = match answered("list", api.list(&params)).await {
                Ok(Ok(page)) => page,
                Ok(Err(error)) => return Err(failed(error.into())),
                Err(error) => return Err(Over::Failed(error)),
            };
            if self.need.kind == "Event" {
                self.tell(Change::Listed(Vec::new())).await?;
                return Ok(page.metadata.resource_version.unwrap_or_default());
            }
            let read = page.items.into_iter().map(|object| self.read(object));
            objects.extend(read.filter(|object| self.need.wants(object)));
            params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
            if params.continue_token.is_none() {
                self.tell(Change::Listed(objects)).await?;
                return Ok(page.metadata.resource_version.unwrap_or_default());
            }
        }
    }

    /// The object as data, with its kind, which lists leave out, and without what nobody here reads.
    fn read(&self, object: DynamicObject) -> Value {
        let mut value = serde_json::to_value(object).unwrap_or_default();
        value["apiVersion"] = self.need.api_version.clone().into();
        value["kind"] = self.need.kind.clone().into();
        slim::slim(value)
    }

    async fn tell(&self, change: Change) -> Result<(), Over> {
        self.to.send((self.need.clone(), change)).await.map_err(|_| Over::Unheard)
    }
}

impl Need {
    /// Whether it is worth telling of this object.
    pub fn wants(&self, object: &Value) -> bool {
        self.among.is_empty() || self.among.iter().any(|selector| selector.matches(&object["metadata"]["labels"]))
    }

    /// Whether a watch of this tells all that the other asks for.
    pub fn covers(&self, other: &Need) -> bool {
        let same = self.api_version == other.api_version && self.kind == other.kind;
        let narrowed = match (&self.labels, &other.labels) {
            (None, Some(labels)) => self.among.is_empty() || self.among.contains(labels),
            (mine, theirs) => mine == theirs && self.among == other.among,
        };
        same && self.namespace == other.namespace && self.fields == other.fields && narrowed
    }

    /// A name that stands for all of its objects.
    fn any(&self) -> ObjectId {
        ObjectId {
            api_version: self.api_version.clone(),
            kind: self.kind.clone(),
            namespace: self.namespace.clone(),
            name: String::new(),
        }
    }
}

fn failed(error: KubeError) -> Over {
    if error.code() == Some(410) { Over::TooOld } else { Over::Failed(error) }
}

/// How long the server asks us to stay away.
fn retry_after(error: &KubeError) -> Duration {
    let KubeError::Refused(status) = error else { return Duration::ZERO };
    let seconds = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
    Duration::from_secs(u64::from(seconds)).min(RETRY_AFTER_MAX)
}

async fn answered<T>(what: &str, answer: impl Future<Output = T>) -> Result<T, KubeError> {
    let late =
        || KubeError::Unreachable(format!("no answer within {} s when asked to {what}", ANSWER_WITHIN.as_secs()));
    timeout(ANSWER_WITHIN, answer).await.map_err(|_| late())
}
