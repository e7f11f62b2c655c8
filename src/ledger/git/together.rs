//! Pages of many environments that wait at the same time leave in one `git push`: a host takes a hundred branches in one
//! push sooner than in a hundred. Each branch is moved for itself, by its own lease: who loses a race loses alone.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::join_all;
use tokio::sync::{Semaphore, oneshot};

use crate::{
    clients::git::{Git, GitError, Move},
    model::Span,
};

/// Pushes under way at the same time; what comes meanwhile waits for the next one.
const AT_ONCE: usize = 4;
/// Branches of one push: a command line has an end, and hosts look askance at larger ones.
const BRANCHES_MAX: usize = 100;

/// Where pages wait for a push. Clones of this value share it.
#[derive(Clone)]
pub(super) struct Together(Arc<Shared>);

struct Shared {
    turns: Semaphore,
    waiting: Mutex<Vec<Letter>>,
}

struct Letter {
    moved: Move,
    answer: oneshot::Sender<Result<(), GitError>>,
}

impl Together {
    pub fn new() -> Together {
        Together(Arc::new(Shared { turns: Semaphore::new(AT_ONCE), waiting: Mutex::default() }))
    }

    /// Moves one branch, in whichever push it gets into.
    pub async fn push(&self, git: &Git, remote: &str, moved: Move, timeout: Span) -> Result<(), GitError> {
        let (answer, answered) = oneshot::channel();
        self.waiting().push(Letter { moved, answer });
        // A task of its own: whoever gives up waiting must not take the others' pages down.
        let (desk, git, remote) = (self.clone(), git.clone(), remote.to_owned());
        tokio::spawn(async move { desk.carry(&git, &remote, timeout).await });
        let lost = |_| GitError::Failed("the push ended without an answer".to_owned());
        answered.await.map_err(lost)?
    }

    /// Takes a turn and with it all that waits by then; nothing, where an earlier turn took it.
    async fn carry(&self, git: &Git, remote: &str, timeout: Span) {
        // It is never closed.
        let Ok(_turn) = self.0.turns.acquire().await else { return };
        let letters: Vec<Letter> = {
            let mut waiting = self.waiting();
            // What nobody waits for any more would come late, and be a surprise.
            waiting.retain(|letter| !letter.answer.is_closed());
            let most = waiting.len().min(BRANCHES_MAX);
            waiting.drain(..most).collect()
        };
        let moves: Vec<Move> = letters.iter().map(|letter| letter.moved.clone()).collect();
        let told = match moves.as_slice() {
            [] => return,
            [one] => vec![git.push(remote, std::slice::from_ref(one), timeout).await],
            many => git.push_each(remote, many, timeout).await.unwrap_or_else(|error| all_failed(many, &error)),
        };
        let alone = letters.len() == 1;
        let mut refused = Vec::new();
        for (letter, told) in letters.into_iter().zip(told) {
            match told {
                // A hook may have refused all of them for the sake of one.
                Err(GitError::Refused(_)) if !alone => refused.push(letter),
                told => letter.tell(told),
            }
        }
        let again = |letter: Letter| async move {
            let told = git.push(remote, std::slice::from_ref(&letter.moved), timeout).await;
            letter.tell(told);
        };
        join_all(refused.into_iter().map(again)).await;
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Vec<Letter>> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Letter {
    fn tell(self, told: Result<(), GitError>) {
        // Whoever does not listen any more looks again when it comes back.
        let _ = self.answer.send(told);
    }
}

/// What became of each is unknown: whoever waits looks at the origin.
fn all_failed(moves: &[Move], error: &GitError) -> Vec<Result<(), GitError>> {
    moves.iter().map(|_| Err(GitError::Failed(error.to_string()))).collect()
}
