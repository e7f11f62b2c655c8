use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt};

use super::{Mutation, World, laws::Moment};
use crate::{
    clients::clock::Clock,
    ledger::{Appended, Durability, Entry, Freshness, Ledger, LedgerError, Opened, Page},
    model::{Actor, CommitId, EnvironmentName},
};

/// A ledger in memory that is sometimes down, and sometimes does not say what it did.
pub(super) struct SimLedger(pub Arc<World>);

impl Ledger for SimLedger {
    fn open<'a>(&'a self, environment: &'a EnvironmentName) -> BoxFuture<'a, Result<Opened, LedgerError>> {
        async move {
            self.0.breathe().await;
            if self.0.roll(|faults| faults.ledger_down) {
                return Err(unreachable(environment));
            }
            let inner = self.0.inner();
            let last = inner.pages.last();
            Ok(Opened {
                head: last.map(|page| page.commit.clone()),
                tree: last.map(|page| page.tree.clone()),
                state: inner.state.clone(),
                freshness: Freshness::Origin,
            })
        }
        .boxed()
    }

    fn append<'a>(
        &'a self,
        environment: &'a EnvironmentName,
        seen: Option<&'a CommitId>,
        page: Page,
    ) -> BoxFuture<'a, Result<Appended, LedgerError>> {
        async move {
            self.0.breathe().await;
            if page.durability == Durability::Origin && self.0.roll(|faults| faults.ledger_down) {
                return Err(unreachable(environment));
            }
            let commit = self.land(environment, seen, page)?;
            self.0.breathe().await;
            if self.0.roll(|faults| faults.ledger_answer_lost) {
                let lost = self.0.inner().chance.per_mille(500);
                let raced = LedgerError::Lost { environment: environment.clone() };
                return Err(if lost { raced } else { unreachable(environment) });
            }
            Ok(Appended { commit, pushed: true })
        }
        .boxed()
    }

    fn pages<'a>(
        &'a self,
        _: &'a EnvironmentName,
        before: Option<&'a CommitId>,
        most: usize,
    ) -> BoxFuture<'a, Result<Vec<Entry>, LedgerError>> {
        async move {
            self.0.breathe().await;
            let inner = self.0.inner();
            let newest_first = inner.pages.iter().rev().skip_while(|page| before.is_some_and(|b| page.commit != *b));
            Ok(newest_first.skip(usize::from(before.is_some())).take(most).cloned().collect())
        }
        .boxed()
    }
}

impl SimLedger {
    fn land(
        &self,
        environment: &EnvironmentName,
        seen: Option<&CommitId>,
        mut page: Page,
    ) -> Result<CommitId, LedgerError> {
        let at = self.0.clock.now();
        let mut inner = self.0.inner();
        let inner = &mut *inner;
        let head = inner.pages.last().map(|page| page.commit.clone());
        if head.as_ref() != seen && inner.mutation != Some(Mutation::LedgerWithoutRaces) {
            inner.trace.push(format!("{at} lost race: {}", page.subject));
            return Err(LedgerError::Lost { environment: environment.clone() });
        }
        inner.mutation.iter().for_each(|mutation| mutation.spoil(&mut page));
        let number = inner.pages.len() + 1;
        let commit = CommitId::new(format!("{number:040x}")).expect("hexadecimal digits");
        let before = inner.state.clone();
        let now = Moment { tick: inner.yields, elapsed: inner.elapsed, jumped: inner.jumped };
        inner.laws.page_begins(seen, head.as_ref());
        for event in &page.events {
            inner.laws.event(&inner.state, event, &inner.users, now);
            inner.state.apply(&commit, event);
            inner.laws.moved(&inner.state, now);
        }
        inner.laws.page_ends(&before, &inner.state, &page, &inner.users);
        let names: Vec<String> = page.events.iter().map(|event| super::event_name(&event.what)).collect();
        inner.trace.push(format!("{at} page {number}: {} [{}]", page.subject, names.join(" ")));
        let author = page.events.first().map_or_else(nobody, |event| event.by.clone());
        let Page { subject, events, tree, .. } = page;
        inner.pages.push(Entry { commit: commit.clone(), tree, at, author, subject, events, foreign: None });
        Ok(commit)
    }
}

fn nobody() -> Actor {
    Actor::new("nobody").expect("an actor")
}

fn unreachable(environment: &EnvironmentName) -> LedgerError {
    LedgerError::Unreachable { environment: environment.clone(), why: "the simulated host is down".to_owned() }
}
