use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{clients::http::Ask, model::Span};

/// Requests per second, two of three for the work behind the page.
const REQUESTS_PER_SECOND: u64 = 150;

const ANSWER_WITHIN: Span = Span::seconds(5);

/// Steady users of an environment.
pub struct Traffic {
    stop: CancellationToken,
    task: JoinHandle<()>,
    served: Arc<Served>,
}

/// What the users got.
#[derive(Debug, Default)]
pub struct Served {
    pub good: AtomicU64,
    pub bad: AtomicU64,
    /// What the bad answers were, and how many of each.
    pub complaints: Mutex<BTreeMap<String, u64>>,
}

impl Served {
    fn count(&self, answer: Result<u16, String>) {
        let complaint = match answer {
            Ok(status) if status < 500 => {
                self.good.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Ok(status) => format!("status {status}"),
            Err(why) => why,
        };
        self.bad.fetch_add(1, Ordering::Relaxed);
        *self.complaints.lock().unwrap_or_else(PoisonError::into_inner).entry(complaint).or_default() += 1;
    }
}

impl Traffic {
    /// Starts as soon as the address is known.
    pub fn start(url: impl Future<Output = String> + Send + 'static) -> Traffic {
        let (stop, served) = (CancellationToken::new(), Arc::new(Served::default()));
        let (counts, ends) = (served.clone(), stop.clone());
        let task = tokio::spawn(async move {
            tokio::select! {
                biased;
                () = ends.cancelled() => {}
                url = url => drive(url.trim_end_matches('/').to_owned(), counts, ends.clone()).await,
            }
        });
        Traffic { stop, task, served }
    }

    /// Ends the traffic and says what users got.
    pub async fn stop(self) -> Arc<Served> {
        self.stop.cancel();
        // A driver that broke has counted what it saw.
        let _ = self.task.await;
        self.served
    }
}

async fn drive(url: String, served: Arc<Served>, stop: CancellationToken) {
    let mut tick = tokio::time::interval(Duration::from_millis(1_000 / REQUESTS_PER_SECOND));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut requests = tokio::task::JoinSet::new();
    for number in 0_u64.. {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            _ = tick.tick() => {}
        }
        let path = if number % 3 == 0 { "/" } else { "/work" };
        let (address, served) = (format!("{url}{path}"), served.clone());
        requests.spawn(async move {
            let answer = Ask::get(address, ANSWER_WITHIN).send().await;
            served.count(answer.map(|answer| answer.status).map_err(|error| error.to_string()));
        });
        while requests.try_join_next().is_some() {}
    }
    while requests.join_next().await.is_some() {}
}
