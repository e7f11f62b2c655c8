//! What this machine did last, for targets that cannot be looked at.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{live::shares_of, world};
use crate::{
    model::{Share, TreeId},
    targets::{Live, TargetError, checkouts::replace_file},
};

const SCHEMA: u32 = 1;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    schema: u32,
    /// The highest number that anyone acted with.
    fence: u64,
    pub stable: Option<TreeId>,
    /// The release that was applied last.
    pub trial: Option<TreeId>,
    /// The share of `trial` in hundredths of a percent.
    share: u16,
    pub members: BTreeMap<String, TreeId>,
    /// A command whose end nobody saw yet.
    pub doing: Option<String>,
}

/// The memory, with nobody else acting here at the same time.
pub struct Held {
    pub memory: Memory,
    path: PathBuf,
    _lock: File,
}

/// Waits for whoever acts here, then refuses those who come too late.
pub async fn hold(state_dir: &Path, fence: u64) -> Result<Held, TargetError> {
    let cannot = |error: io::Error| world(&format!("cannot use the folder {}", state_dir.display()), error);
    let folder = state_dir.to_owned();
    let locked = tokio::task::spawn_blocking(move || {
        fs::create_dir_all(&folder)?;
        let lock = File::create(folder.join("command.lock"))?;
        lock.lock()?;
        Ok(lock)
    });
    let lock = locked.await.map_err(io::Error::other).flatten().map_err(cannot)?;
    let mut memory = read(state_dir)?;
    if fence < memory.fence {
        return Err(TargetError::Fenced { ours: fence, seen: memory.fence });
    }
    memory.fence = fence;
    let held = Held { memory, path: path(state_dir), _lock: lock };
    held.keep()?;
    Ok(held)
}

/// What is remembered; nothing on a machine that did nothing.
pub fn read(state_dir: &Path) -> Result<Memory, TargetError> {
    let path = path(state_dir);
    let cannot = || format!("cannot read what was done last from {}", path.display());
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Memory::default()),
        Err(error) => return Err(world(&cannot(), error)),
    };
    let memory: Memory = serde_json::from_slice(&text).map_err(|error| world(&cannot(), error))?;
    if memory.schema != SCHEMA {
        return Err(world(&cannot(), io::Error::other(format!("schema {} is not {SCHEMA}", memory.schema))));
    }
    Ok(memory)
}

fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("command.json")
}

impl Held {
    /// Writes it down.
    pub fn keep(&self) -> Result<(), TargetError> {
        let memory = Memory { schema: SCHEMA, ..self.memory.clone() };
        let text = serde_json::to_vec(&memory).map_err(io::Error::other);
        let written = text.and_then(|text| replace_file(&self.path, &text));
        written.map_err(|error| world(&format!("cannot write {}", self.path.display()), error))
    }
}

impl Memory {
    pub fn shift(&mut self, tree: &TreeId, share: Share) {
        if self.stable.as_ref() != Some(tree) {
            self.trial = Some(tree.clone());
            self.share = share.hundredths();
        }
    }

    pub fn all_on(&mut self, tree: &TreeId, members: &[String]) {
        self.stable = Some(tree.clone());
        self.trial = Some(tree.clone());
        self.share = 0;
        self.members = members.iter().map(|member| (member.clone(), tree.clone())).collect();
    }

    pub fn forget(&mut self, tree: &TreeId) {
        self.members.retain(|_, at| at != tree);
        for known in [&mut self.stable, &mut self.trial] {
            known.take_if(|known| known == tree);
        }
        self.share = 0;
    }

    /// Those that still have another release, or are not known to have this one.
    pub fn members_without(&self, members: &[String], tree: &TreeId) -> Vec<String> {
        members.iter().filter(|member| self.members.get(*member) != Some(tree)).cloned().collect()
    }

    /// Whether it is what users were on before the trial.
    pub fn is_up(&self, tree: &TreeId) -> bool {
        self.stable.as_ref() == Some(tree)
    }

    pub fn has_users(&self, tree: &TreeId) -> bool {
        self.stable.as_ref() == Some(tree)
            || (self.trial.as_ref() == Some(tree) && (self.share > 0 || self.doing.is_some()))
            || self.members.values().any(|at| at == tree)
    }

    /// As far as this machine knows.
    pub fn live(&self) -> Result<Live, TargetError> {
        let mut live = Live::default();
        if self.stable.is_none() && self.trial.is_none() {
            let what =
                "cannot tell what is live: the target has no `live` command, and nothing was applied from this machine";
            return Err(TargetError::World { what: what.to_owned(), source: None });
        }
        if self.members.values().any(|at| Some(at) != self.stable.as_ref()) {
            live.releases = shares_of(self.members.values());
        } else {
            let on_trial = self.trial.iter().filter(|trial| Some(*trial) != self.stable.as_ref());
            live.releases.extend(on_trial.map(|trial| (trial.clone(), self.share)));
            live.releases.extend(self.stable.iter().map(|stable| (stable.clone(), 10_000 - self.share)));
        }
        if let Some(doing) = &self.doing {
            live.facts.insert("unfinished".to_owned(), doing.clone());
        }
        Ok(live)
    }
}
