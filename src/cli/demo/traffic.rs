use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{clients::http::Ask, model::Span};

/// Requests per second, two of three for the work behind the page.
const REQUESTS_PER_SECOND: u64 = 120;

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

    /// Ends the traffic and says how many got a good and a bad answer.
    pub async fn stop(self) -> (u64, u64) {
        self.stop.cancel();
        // A driver that broke has counted what it saw.
        let _ = self.task.await;
        (self.served.good.load(Ordering::Relaxed), self.served.bad.load(Ordering::Relaxed))
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
            let good = Ask::get(address, ANSWER_WITHIN).send().await.is_ok_and(|answer| answer.status < 500);
            let count = if good { &served.good } else { &served.bad };
            count.fetch_add(1, Ordering::Relaxed);
        });
        while requests.try_join_next().is_some() {}
    }
    while requests.join_next().await.is_some() {}
}
