use std::path::PathBuf;

use tokio_util::sync::CancellationToken;

use super::{
    answer::{Answer, Failure},
    voice::Voice,
};
use crate::{
    commands::{Common, Serve},
    controller::{self, ServeError, Surroundings},
    model::Actor,
};

/// In whose name the controller writes when nobody says another.
const ACTOR: &str = "piton";

/// `piton serve`
pub async fn run(common: &Common, args: &Serve, voice: &Voice, stop: CancellationToken) -> Result<Answer, Failure> {
    let actor = Actor::new(common.actor.as_deref().unwrap_or(ACTOR)).map_err(|e| Failure::usage(e.to_string()))?;
    let program = std::env::current_exe().map_err(|e| Failure::world("cannot find this program", &e))?;
    let speaker = voice.clone();
    let listening = Box::new(move |address| speaker.say(format!("serving on http://{address}")));
    let surroundings = Surroundings { actor, state_dir: state_dir(common)?, program, stop, listening };
    controller::serve(args, surroundings).await?;
    Ok(Answer::done("stopped"))
}

fn state_dir(common: &Common) -> Result<PathBuf, Failure> {
    let dir = common.state_dir.as_ref().ok_or_else(|| {
        Failure::usage("the controller needs a folder for its clones").hint("name it with `--state-dir DIR`")
    })?;
    std::path::absolute(dir).map_err(|e| Failure::world("cannot use the state folder", &e))
}

impl From<ServeError> for Failure {
    fn from(error: ServeError) -> Failure {
        let message = super::answer::words(&error);
        match error {
            ServeError::Twice { .. } | ServeError::Times => Failure::usage(message),
            ServeError::StateDir { .. } => Failure::world("cannot serve", &error)
                .hint("name a folder that can be written to with `--state-dir DIR`"),
            ServeError::Listen { .. } | ServeError::Cluster(_) | ServeError::Chance(_) => {
                Failure::world("cannot serve", &error)
            }
            ServeError::Lost(_) => Failure::try_again("lease_lost", message),
        }
    }
}
