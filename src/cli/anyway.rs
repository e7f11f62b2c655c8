use futures_util::future::BoxFuture;

use crate::{
    ledger::{Appended, Entry, Freshness, GitLedger, Ledger, LedgerError, Opened, Page},
    model::{CommitId, EnvironmentName},
};

/// The ledger for the way back: whatever is wrong with the origin (down, hanging, rewritten), what was seen last must do.
pub struct Anyway<'a>(pub &'a GitLedger);

/// The mirror says what is wrong with the origin.
fn because(mirror: Opened, error: &LedgerError) -> Opened {
    let unpushed = match mirror.freshness {
        Freshness::Mirror { unpushed, .. } => unpushed,
        Freshness::Origin => 0,
    };
    Opened { freshness: Freshness::Mirror { why: error.to_string(), unpushed }, ..mirror }
}

impl Ledger for Anyway<'_> {
    fn open<'a>(&'a self, environment: &'a EnvironmentName) -> BoxFuture<'a, Result<Opened, LedgerError>> {
        Box::pin(async move {
            match self.0.open(environment).await {
                Ok(opened) => Ok(opened),
                Err(error) => match self.0.open_mirror(environment).await {
                    Ok(mirror) if mirror.head.is_some() => Ok(because(mirror, &error)),
                    Ok(_) | Err(_) => Err(error),
                },
            }
        })
    }

    fn append<'a>(
        &'a self,
        environment: &'a EnvironmentName,
        seen: Option<&'a CommitId>,
        page: Page,
    ) -> BoxFuture<'a, Result<Appended, LedgerError>> {
        self.0.append(environment, seen, page)
    }

    fn pages<'a>(
        &'a self,
        environment: &'a EnvironmentName,
        before: Option<&'a CommitId>,
        most: usize,
    ) -> BoxFuture<'a, Result<Vec<Entry>, LedgerError>> {
        self.0.pages(environment, before, most)
    }
}
