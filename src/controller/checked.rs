//! The ledger as the controller uses it: nothing is written by one who leads no more, and races are counted.

use futures_util::future::BoxFuture;

use super::{
    house::House,
    metrics::{Metrics, Place},
};
use crate::{
    ledger::{Appended, Entry, GitLedger, Ledger, LedgerError, Opened, Page},
    model::{CommitId, EnvironmentName, Span},
};

/// A ledger behind the Lease.
pub struct Checked<'a> {
    pub ledger: &'a GitLedger,
    pub house: &'a House,
    pub place: &'a Place,
}

impl Checked<'_> {
    fn metrics(&self) -> &Metrics {
        &self.house.metrics
    }
}

impl Ledger for Checked<'_> {
    fn open<'a>(&'a self, environment: &'a EnvironmentName) -> BoxFuture<'a, Result<Opened, LedgerError>> {
        self.ledger.open(environment)
    }

    fn append<'a>(
        &'a self,
        environment: &'a EnvironmentName,
        seen: Option<&'a CommitId>,
        page: Page,
    ) -> BoxFuture<'a, Result<Appended, LedgerError>> {
        Box::pin(async move {
            self.house.must_lead();
            let appended = self.ledger.append(environment, seen, page).await;
            let result = match &appended {
                Ok(_) => "written",
                Err(LedgerError::Lost { .. }) => "lost",
                Err(_) => "failed",
            };
            self.metrics().appended(self.place, result);
            appended
        })
    }

    fn pages<'a>(
        &'a self,
        environment: &'a EnvironmentName,
        before: Option<&'a CommitId>,
        most: usize,
    ) -> BoxFuture<'a, Result<Vec<Entry>, LedgerError>> {
        self.ledger.pages(environment, before, most)
    }

    fn courtesy(&self, environment: &EnvironmentName) -> Span {
        self.ledger.courtesy(environment)
    }
}
