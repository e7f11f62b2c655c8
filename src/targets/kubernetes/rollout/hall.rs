//! One watch of a kind in a namespace for everybody who stands guard over objects of it: a controller with thousands of
//! environments in one namespace keeps as many watches open as one with ten.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::sync::{
    Notify,
    mpsc::{Receiver, Sender, channel},
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    feed::{self, Change, Need, Pace},
    picture::is_refusal,
    related::text,
    wanted::Wanted,
};
use crate::clients::kube::{Cluster, KubeError};

/// So many watches of a kind in a namespace are opened one by one, and ask for what they need alone; who comes after
/// them shares one of everything there.
const ALONE_MAX: usize = 8;
/// What nobody here looks at, such as the pods of a hub's users, may be kept until it is more than this and more than what
/// somebody looks at: a small namespace is remembered whole, so that who comes later hears of all of it at once.
const FOREIGN_MAX: usize = 1_000;
/// So long those who look come one after the other, as when a controller starts.
const ARRIVAL: Duration = Duration::from_secs(60);
/// Changes that may be on their way into the hall.
const CHANGES_WAITING_MAX: usize = 256;

/// Begins to watch; it ends when the handle is dropped. Only who stands guard sits with others: a rollout judges what it has
/// just written, and what the hall knows may be from before that.
pub fn open(cluster: &Cluster, need: Need, pace: Pace, to: Sender<(Need, Change)>) -> AbortOnDropHandle<()> {
    let seat = (pace == Pace::STANDING).then(|| seat(cluster, &need, pace)).flatten();
    let Some(seat) = seat else { return feed::open(cluster, need, pace, to) };
    let (cluster, wanted) = (cluster.clone(), Wanted::of(&need));
    AbortOnDropHandle::new(tokio::spawn(async move {
        match seat {
            Seat::Alone(_token) => in_person(&cluster, need, pace, to).await,
            Seat::InTheHall(hall) => {
                let Some(guest) = hall.admit(wanted) else {
                    drop(hall);
                    return in_person(&cluster, need, pace, to).await;
                };
                drop(hall);
                let left = guest.listen(&need, &to).await;
                drop(guest);
                if left == Left::Refused {
                    // Not everybody who may look at one object may look at all of them.
                    in_person(&cluster, need, pace, to).await;
                }
            }
        }
    }))
}

async fn in_person(cluster: &Cluster, need: Need, pace: Pace, to: Sender<(Need, Change)>) {
    let _feed = feed::open(cluster, need, pace, to.clone());
    to.closed().await;
}

enum Seat {
    /// Counted as long as it is held.
    Alone(Arc<()>),
    InTheHall(Arc<Hall>),
}

/// What is known of one kind in one namespace of one cluster.
struct Place {
    key: (tokio::runtime::Id, usize, Need),
    alone: Vec<Weak<()>>,
    hall: Weak<Hall>,
}

static PLACES: Mutex<Vec<Place>> = Mutex::new(Vec::new());

/// `None`: outside of a runtime nothing can be shared.
fn seat(cluster: &Cluster, need: &Need, pace: Pace) -> Option<Seat> {
    let runtime = tokio::runtime::Handle::try_current().ok()?.id();
    let all = Wanted::everything(need);
    let mut places = PLACES.lock().unwrap_or_else(PoisonError::into_inner);
    places.retain_mut(|place| {
        place.alone.retain(|token| token.strong_count() > 0);
        !place.alone.is_empty() || place.hall.strong_count() > 0
    });
    let key = (runtime, cluster.number(), all.clone());
    let at = places.iter().position(|place| place.key == key).unwrap_or_else(|| {
        places.push(Place { key, alone: Vec::new(), hall: Weak::new() });
        places.len() - 1
    });
    let place = places.get_mut(at)?;
    let hall = place.hall.upgrade();
    // What a hall has forgotten it cannot tell of: who comes then asks for what they need alone.
    let knows_all = hall.as_ref().is_none_or(|hall| !hall.inside().forgetful);
    if let Some(hall) = hall.filter(|_| knows_all) {
        return Some(Seat::InTheHall(hall));
    }
    if place.alone.len() < ALONE_MAX || !knows_all {
        let token = Arc::new(());
        place.alone.push(Arc::downgrade(&token));
        return Some(Seat::Alone(token));
    }
    let hall = Hall::open(cluster, all, pace);
    place.hall = Arc::downgrade(&hall);
    Some(Seat::InTheHall(hall))
}

/// What is of interest of a kind in a namespace, or all of it where that is not much more, and who looks at what.
struct Hall {
    inside: Arc<Mutex<Inside>>,
    _keeper: AbortOnDropHandle<()>,
}

struct Inside {
    listed: bool,
    /// What nobody looks at is not kept.
    forgetful: bool,
    opened: Instant,
    /// So many objects may be there before somebody looks again whether they are wanted.
    room: usize,
    /// Why nothing is heard, if it is so.
    lost: Option<KubeError>,
    objects: BTreeMap<String, Value>,
    guests: BTreeMap<u64, (Wanted, Weak<Inbox>)>,
    /// Guests by what their objects must have, so that a change is told to a few and not offered to all.
    by_mark: BTreeMap<String, BTreeSet<u64>>,
    next_guest: u64,
}

impl Hall {
    fn open(cluster: &Cluster, all: Need, pace: Pace) -> Arc<Hall> {
        let (tell, told) = channel(CHANGES_WAITING_MAX);
        let feed = feed::open(cluster, all, pace, tell);
        let inside = Arc::new(Mutex::new(Inside::empty()));
        let keeper = AbortOnDropHandle::new(tokio::spawn(keep(inside.clone(), told, feed)));
        Arc::new(Hall { inside, _keeper: keeper })
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A guest hears at once what is known already; `None`: some of it was forgotten.
    fn admit(self: &Arc<Hall>, wanted: Wanted) -> Option<Guest> {
        let inbox = Arc::new(Inbox::default());
        let mut inside = self.inside();
        if inside.forgetful {
            return None;
        }
        let number = inside.next_guest;
        inside.next_guest += 1;
        if inside.listed {
            inbox.put(|mail| mail.list(inside.wanted_by(&wanted)));
        }
        if let Some(error) = &inside.lost {
            inbox.put(|mail| mail.lost = Some(copy(error)));
        }
        for mark in wanted.marks() {
            inside.by_mark.entry(mark).or_default().insert(number);
        }
        inside.guests.insert(number, (wanted, Arc::downgrade(&inbox)));
        drop(inside);
        Some(Guest { hall: self.clone(), number, inbox })
    }
}

async fn keep(inside: Arc<Mutex<Inside>>, mut told: Receiver<(Need, Change)>, _feed: AbortOnDropHandle<()>) {
    while let Some((_, change)) = told.recv().await {
        inside.lock().unwrap_or_else(PoisonError::into_inner).learn(change);
    }
}

impl Inside {
    fn empty() -> Inside {
        Inside {
            listed: false,
            forgetful: false,
            opened: Instant::now(),
            room: FOREIGN_MAX,
            lost: None,
            objects: BTreeMap::new(),
            guests: BTreeMap::new(),
            by_mark: BTreeMap::new(),
            next_guest: 0,
        }
    }

    /// Forgets what nobody looks at, where it has become much; all of it from then on.
    fn tidy(&mut self) {
        let much = |foreign: usize, own: usize| foreign > FOREIGN_MAX && foreign > own;
        if self.forgetful || self.objects.len() <= self.room || self.opened.elapsed() < ARRIVAL {
            return;
        }
        let own = self.objects.values().filter(|object| self.is_wanted(object)).count();
        self.room = self.objects.len() * 2;
        if much(self.objects.len() - own, own) {
            self.forgetful = true;
            self.keep_wanted();
        }
    }

    fn keep_wanted(&mut self) {
        let mut objects = std::mem::take(&mut self.objects);
        objects.retain(|_, object| self.is_wanted(object));
        self.objects = objects;
    }

    fn is_wanted(&self, object: &Value) -> bool {
        let numbers = Wanted::marks_of(object).into_iter().filter_map(|mark| self.by_mark.get(&mark)).flatten();
        let mut guests = numbers.filter_map(|number| self.guests.get(number));
        guests.any(|(wanted, _)| wanted.takes(object))
    }

    fn learn(&mut self, change: Change) {
        self.take_in(change);
        self.tidy();
    }

    fn take_in(&mut self, change: Change) {
        match change {
            Change::Listed(objects) => {
                (self.listed, self.lost) = (true, None);
                self.objects = objects.into_iter().map(|object| (name(&object), object)).collect();
                if self.forgetful {
                    self.keep_wanted();
                }
                for (wanted, inbox) in self.guests.values() {
                    if let Some(inbox) = inbox.upgrade() {
                        inbox.put(|mail| mail.list(self.wanted_by(wanted)));
                    }
                }
            }
            Change::Applied(object) => {
                let before = match self.forgetful && !self.is_wanted(&object) {
                    true => self.objects.remove(&name(&object)),
                    false => self.objects.insert(name(&object), object.clone()),
                };
                self.tell(before.as_ref(), Some(&object));
            }
            Change::Gone(object) => {
                let before = self.objects.remove(&name(&object)).unwrap_or(object);
                self.tell(Some(&before), None);
            }
            Change::Resumed => {
                self.lost = None;
                self.tell_all(|mail| (mail.lost, mail.resumed) = (None, true));
            }
            Change::Lost(error) => {
                self.tell_all(|mail| mail.lost = Some(copy(&error)));
                self.lost = Some(error);
            }
        }
    }

    fn wanted_by(&self, wanted: &Wanted) -> Vec<Value> {
        match wanted.name() {
            Some(name) => self.objects.get(name).cloned().into_iter().collect(),
            None => self.objects.values().filter(|object| wanted.takes(object)).cloned().collect(),
        }
    }

    /// Whoever wanted the object as it was, or wants it as it is.
    fn tell(&self, before: Option<&Value>, after: Option<&Value>) {
        let Some(either) = after.or(before) else { return };
        let marks: BTreeSet<String> = before.into_iter().chain(after).flat_map(Wanted::marks_of).collect();
        let numbers: BTreeSet<u64> =
            marks.iter().filter_map(|mark| self.by_mark.get(mark)).flatten().copied().collect();
        for (wanted, inbox) in numbers.iter().filter_map(|number| self.guests.get(number)) {
            let Some(inbox) = inbox.upgrade() else { continue };
            let is = after.filter(|object| wanted.takes(object));
            let was = before.is_some_and(|object| wanted.takes(object));
            match is {
                Some(object) => inbox.put(|mail| drop(mail.changed.insert(name(object), Ok(object.clone())))),
                None if was => inbox.put(|mail| drop(mail.changed.insert(name(either), Err(either.clone())))),
                None => {}
            }
        }
    }

    fn tell_all(&self, write: impl Fn(&mut Mail)) {
        self.guests.values().filter_map(|(_, inbox)| inbox.upgrade()).for_each(|inbox| inbox.put(&write));
    }
}

/// One who looks; the hall forgets it when it goes.
struct Guest {
    hall: Arc<Hall>,
    number: u64,
    inbox: Arc<Inbox>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    /// Nobody listens any more.
    Unheard,
    /// All of the kind may not be looked at.
    Refused,
}

impl Guest {
    async fn listen(&self, need: &Need, to: &Sender<(Need, Change)>) -> Left {
        loop {
            self.inbox.bell.notified().await;
            let mail = std::mem::take(&mut *self.inbox.mail());
            if mail.lost.as_ref().is_some_and(is_refusal) {
                return Left::Refused;
            }
            for change in mail.changes() {
                if to.send((need.clone(), change)).await.is_err() {
                    return Left::Unheard;
                }
            }
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut inside = self.hall.inside();
        let Some((wanted, _)) = inside.guests.remove(&self.number) else { return };
        for mark in wanted.marks() {
            let Some(numbers) = inside.by_mark.get_mut(&mark) else { continue };
            numbers.remove(&self.number);
            if numbers.is_empty() {
                inside.by_mark.remove(&mark);
            }
        }
    }
}

/// What a guest has not taken in yet: of each object the newest, so that who is slow has no more to read than there is.
#[derive(Default)]
struct Inbox {
    mail: Mutex<Mail>,
    bell: Notify,
}

#[derive(Default)]
struct Mail {
    listed: Option<Vec<Value>>,
    /// As it is, or as it was when it went.
    changed: BTreeMap<String, Result<Value, Value>>,
    resumed: bool,
    lost: Option<KubeError>,
}

impl Inbox {
    fn mail(&self) -> MutexGuard<'_, Mail> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, write: impl FnOnce(&mut Mail)) {
        write(&mut self.mail());
        self.bell.notify_one();
    }
}

impl Mail {
    fn list(&mut self, objects: Vec<Value>) {
        *self = Mail { listed: Some(objects), ..Mail::default() };
    }

    fn changes(self) -> impl Iterator<Item = Change> {
        let Mail { listed, changed, resumed, lost } = self;
        let changed = changed.into_values().map(|object| match object {
            Ok(is) => Change::Applied(is),
            Err(was) => Change::Gone(was),
        });
        let resumed = resumed.then_some(Change::Resumed);
        listed.map(Change::Listed).into_iter().chain(changed).chain(resumed).chain(lost.map(Change::Lost))
    }
}

fn name(object: &Value) -> String {
    text(&object["metadata"]["name"]).to_owned()
}

/// The same failure for somebody else.
fn copy(error: &KubeError) -> KubeError {
    match error {
        KubeError::Refused(status) => KubeError::Refused(status.clone()),
        KubeError::UnknownKind { api_version, kind } => {
            KubeError::UnknownKind { api_version: api_version.clone(), kind: kind.clone() }
        }
        KubeError::Config(why) => KubeError::Config(why.clone()),
        KubeError::Unreachable(why) => KubeError::Unreachable(why.clone()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::targets::kubernetes::rollout::selector::Selector;

    fn hall() -> Arc<Hall> {
        let keeper = AbortOnDropHandle::new(tokio::spawn(std::future::pending()));
        Arc::new(Hall { inside: Arc::new(Mutex::new(Inside::empty())), _keeper: keeper })
    }

    fn admitted(hall: &Arc<Hall>, wanted: Wanted) -> Guest {
        hall.admit(wanted).expect("it knows all")
    }

    fn some_time_later(hall: &Hall) {
        let opened = &mut hall.inside().opened;
        *opened = opened.checked_sub(ARRIVAL).expect("the machine is up for longer");
    }

    fn wanted(labels: Option<Selector>, fields: Option<&str>, among: &[&str]) -> Wanted {
        Wanted::of(&Need {
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            namespace: Some("shop".to_owned()),
            labels,
            fields: fields.map(str::to_owned),
            among: among.iter().map(|app| Selector::of_label("app", app)).collect(),
        })
    }

    fn of_app(app: &str) -> Wanted {
        wanted(Some(Selector::of_label("app", app)), None, &[])
    }

    fn pod(name: &str, app: &str, phase: &str) -> Value {
        json!({"metadata": {"name": name, "labels": {"app": app}}, "status": {"phase": phase}})
    }

    fn heard(guest: &Guest) -> Vec<String> {
        let say = |change: Change| match change {
            Change::Listed(all) => format!("listed {}", all.iter().map(name).collect::<Vec<_>>().join(" ")),
            Change::Applied(object) => format!("{} {}", name(&object), text(&object["status"]["phase"])),
            Change::Gone(object) => format!("{} gone", name(&object)),
            Change::Resumed => "resumed".to_owned(),
            Change::Lost(error) => format!("lost: {error}"),
        };
        std::mem::take(&mut *guest.inbox.mail()).changes().map(say).collect()
    }

    #[tokio::test]
    async fn everybody_hears_of_their_own() {
        let hall = hall();
        let early = admitted(&hall, of_app("a"));
        assert_eq!(heard(&early), [""; 0], "nothing was looked at yet");
        let learn = |change| hall.inside().learn(change);
        learn(Change::Listed(vec![pod("a-1", "a", "Pending"), pod("b-1", "b", "Pending")]));
        let late = admitted(&hall, of_app("b"));
        let one = admitted(&hall, wanted(None, Some("metadata.name=a-1"), &[]));
        assert_eq!(heard(&early), ["listed a-1"]);
        assert_eq!(heard(&late), ["listed b-1"]);
        assert_eq!(heard(&one), ["listed a-1"]);
        learn(Change::Applied(pod("a-1", "a", "Pending")));
        learn(Change::Applied(pod("a-1", "a", "Running")));
        assert_eq!(heard(&early), ["a-1 Running"], "only the newest is of interest");
        assert_eq!(heard(&late), [""; 0]);
        assert_eq!(heard(&one), ["a-1 Running"]);
        // Its label is taken off: for one it is gone, for the other it is there.
        learn(Change::Applied(pod("a-1", "b", "Running")));
        assert_eq!(heard(&early), ["a-1 gone"]);
        assert_eq!(heard(&late), ["a-1 Running"]);
        learn(Change::Gone(pod("a-1", "b", "Running")));
        assert_eq!(heard(&late), ["a-1 gone"]);
        assert_eq!(heard(&one), ["a-1 gone"]);
    }

    #[tokio::test]
    async fn whoever_wants_some_of_several_hears_of_each() {
        let hall = hall();
        hall.inside().learn(Change::Listed(vec![pod("a-1", "a", "Pending"), pod("c-1", "c", "Pending")]));
        let some = admitted(&hall, wanted(None, None, &["a", "b"]));
        assert_eq!(heard(&some), ["listed a-1"]);
        for app in ["a", "b", "c"] {
            hall.inside().learn(Change::Applied(pod(&format!("{app}-1"), app, "Running")));
        }
        assert_eq!(heard(&some), ["a-1 Running", "b-1 Running"]);
        drop(some);
        assert!(hall.inside().by_mark.is_empty());
    }

    #[tokio::test]
    async fn what_nobody_looks_at_is_forgotten_where_it_is_much() {
        let hall = hall();
        let ours = admitted(&hall, of_app("ours"));
        let user = |number: usize| pod(&format!("user-{number:04}"), "hub", "Running");
        let many = |count| (0..count).map(user).chain([pod("ours-1", "ours", "Pending")]).collect();
        let learn = |change| hall.inside().learn(change);
        let kept = || hall.inside().objects.len();
        learn(Change::Listed(many(2 * FOREIGN_MAX)));
        assert_eq!(kept(), 2 * FOREIGN_MAX + 1, "others may be about to come");
        assert_eq!(heard(&ours), ["listed ours-1"]);
        some_time_later(&hall);
        learn(Change::Applied(pod("ours-1", "ours", "Running")));
        assert_eq!(kept(), 1);
        assert_eq!(heard(&ours), ["ours-1 Running"]);
        assert!(hall.admit(of_app("hub")).is_none(), "it cannot tell of what it has forgotten");
        learn(Change::Applied(user(7)));
        learn(Change::Listed(many(2 * FOREIGN_MAX)));
        assert_eq!(kept(), 1);
        assert_eq!(heard(&ours), ["listed ours-1"]);
        // Somebody takes its label off, and puts it back.
        learn(Change::Applied(pod("ours-1", "hub", "Running")));
        assert_eq!((heard(&ours), kept()), (vec!["ours-1 gone".to_owned()], 0));
        learn(Change::Applied(pod("ours-1", "ours", "Running")));
        assert_eq!((heard(&ours), kept()), (vec!["ours-1 Running".to_owned()], 1));
    }

    #[tokio::test]
    async fn a_small_namespace_is_remembered_whole() {
        let hall = hall();
        let _ours = admitted(&hall, of_app("ours"));
        some_time_later(&hall);
        let few = (0..FOREIGN_MAX).map(|number| pod(&format!("user-{number:04}"), "hub", "Running")).collect();
        hall.inside().learn(Change::Listed(few));
        assert!(!hall.inside().forgetful);
        assert_eq!(heard(&admitted(&hall, of_app("hub"))).join(" ").split(' ').count(), FOREIGN_MAX + 1);
    }

    #[tokio::test]
    async fn whoever_comes_while_nothing_is_heard_hears_that() {
        let hall = hall();
        let early = admitted(&hall, of_app("a"));
        hall.inside().learn(Change::Lost(KubeError::Unreachable("no answer".to_owned())));
        let late = admitted(&hall, of_app("b"));
        for guest in [&early, &late] {
            assert_eq!(heard(guest), ["lost: the API server did not answer: no answer"]);
        }
        hall.inside().learn(Change::Resumed);
        assert_eq!(heard(&late), ["resumed"]);
        drop(late);
        assert_eq!(hall.inside().guests.len(), 1);
        assert_eq!(hall.inside().by_mark.len(), 1);
    }
}
