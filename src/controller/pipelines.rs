//! The pipeline files of one repository, as they are at the tip of the branch that is followed.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use super::clone::REMOTE;
use crate::{
    ledger::{GitLedger, Glance, Repository, RepositoryError},
    model::{CommitId, EnvironmentName},
    pipeline::{self, Pipeline},
    planner::{Trees, TreesError},
    rack::{self, AllKinds},
    runner::sentence,
};

/// Where they lie.
const FOLDER: &str = "pipelines";

/// How many earlier versions of a broken file are tried.
const EARLIER_MAX: usize = 50;

/// Why the pipeline files could not be listed.
#[derive(Debug, thiserror::Error)]
pub enum PipelinesError {
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    #[error(transparent)]
    Trees(#[from] TreesError),
}

/// Every pipeline file that is known.
#[derive(Default)]
pub struct Pipelines {
    files: BTreeMap<String, File>,
    ledgers: BTreeMap<LedgerKey, (Repository, GitLedger)>,
}

/// One pipeline file.
pub struct File {
    /// What was read; nothing while it has to be read again, for a reason that does not lie in it.
    blob: Option<String>,
    /// As it was when it could be read last, here or in the history of its branch.
    pub good: Option<Known>,
    /// What is wrong with it as it is.
    fault: Option<String>,
    /// What it claims that another file has.
    claim: Option<String>,
}

impl File {
    fn broken(blob: String, fault: String) -> File {
        File { blob: Some(blob), good: None, fault: Some(fault), claim: None }
    }

    fn wrong(&self) -> impl Iterator<Item = &String> {
        self.fault.iter().chain(&self.claim)
    }
}

/// Why there is no pipeline in a file.
enum Unread {
    /// It says what it should not.
    Wrong(String),
    /// Something else was in the way, and may not be there the next time.
    ThisTime(String),
}

/// A pipeline that can be carried on.
#[derive(Clone)]
pub struct Known {
    pub pipeline: Arc<Pipeline>,
    pub repository: Repository,
    pub ledger: GitLedger,
    /// Those that no file before this one has claimed.
    pub environments: Vec<EnvironmentName>,
}

/// Pipelines that keep their branches alike share the clone's ledger.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct LedgerKey {
    prefix: String,
    signers: Option<String>,
    sign_with: Option<String>,
}

impl Pipelines {
    /// The pipelines as far as they can be read, each with whether its file can be read as it is.
    pub fn known(&self) -> impl Iterator<Item = (&String, &Known, bool)> {
        self.files.iter().filter_map(|(name, file)| Some((name, file.good.as_ref()?, file.wrong().next().is_none())))
    }

    /// What is wrong, a sentence each.
    pub fn faults(&self) -> Vec<String> {
        self.files.values().flat_map(File::wrong).cloned().collect()
    }

    /// Whether some file is to be read again although it has not changed.
    pub fn is_unread(&self) -> bool {
        self.files.values().any(|file| file.blob.is_none())
    }

    /// Reads what has changed. One file that cannot be read says so and stops no other.
    pub fn read(
        &mut self,
        source: &Repository,
        clone: &Path,
        glance: &Glance,
        tip: &CommitId,
    ) -> Result<(), PipelinesError> {
        let tree = source.tree_of(tip)?;
        let listed: BTreeMap<String, String> = source
            .files_in(&tree, FOLDER)?
            .into_iter()
            .filter(|(name, _)| name.ends_with(".yaml") || name.ends_with(".yml"))
            .collect();
        self.files.retain(|name, _| listed.contains_key(name));
        for (name, blob) in listed {
            if self.files.get(&name).is_some_and(|file| file.blob.as_ref() == Some(&blob)) {
                continue;
            }
            let path = format!("{FOLDER}/{name}");
            let read = match source.read(&tree, &path) {
                Ok(bytes) => self.one(&path, &bytes.unwrap_or_default(), clone, glance),
                Err(error) => Err(Unread::ThisTime(sentence(&error))),
            };
            let before = self.files.remove(&name).and_then(|file| file.good);
            let file = match read {
                Ok(known) => File { blob: Some(blob), good: Some(known), fault: None, claim: None },
                Err(Unread::ThisTime(fault)) => File { blob: None, good: before, fault: Some(fault), claim: None },
                Err(Unread::Wrong(fault)) => match before {
                    Some(before) => File { blob: Some(blob), good: Some(before), fault: Some(fault), claim: None },
                    None => self.as_it_was(source, tip, &path, clone, glance, File::broken(blob, fault)),
                },
            };
            self.files.insert(name, file);
        }
        self.settle_claims();
        Ok(())
    }

    /// Who has just started knows no better version of a broken file: what is under way goes on by the newest one in the
    /// history that can be read.
    fn as_it_was(
        &mut self,
        source: &Repository,
        tip: &CommitId,
        path: &str,
        clone: &Path,
        glance: &Glance,
        broken: File,
    ) -> File {
        let earlier = match source.earlier(tip, path, EARLIER_MAX) {
            Ok(earlier) => earlier,
            Err(_) => return File { blob: None, ..broken },
        };
        for bytes in earlier {
            match self.one(path, &bytes, clone, glance) {
                Ok(known) => return File { good: Some(known), ..broken },
                Err(Unread::Wrong(_)) => {}
                Err(Unread::ThisTime(_)) => return File { blob: None, ..broken },
            }
        }
        broken
    }

    fn one(&mut self, path: &str, bytes: &[u8], clone: &Path, glance: &Glance) -> Result<Known, Unread> {
        let kinds = AllKinds::known();
        let pipeline =
            pipeline::parse(path, bytes, &kinds.kinds()).map_err(|refusal| Unread::Wrong(refusal.render(false)))?;
        let key = LedgerKey {
            prefix: pipeline.prefix.clone(),
            signers: pipeline.signing.allowed_signers.clone(),
            sign_with: pipeline.signing.key_variable.clone(),
        };
        let (repository, ledger) = match self.ledgers.get(&key) {
            Some(known) => known.clone(),
            None => {
                let opened = open(clone, &pipeline.prefix, glance);
                let repository = opened.map_err(|error| unopened(path, &error))?;
                let ledger = GitLedger::new(repository.clone(), rack::settings(&pipeline));
                self.ledgers.entry(key).or_insert((repository, ledger)).clone()
            }
        };
        let environments = pipeline.environments.iter().map(|e| e.name.clone()).collect();
        Ok(Known { pipeline: Arc::new(pipeline), repository, ledger, environments })
    }

    /// A branch has one pipeline: of two that claim it, the first by name keeps it.
    fn settle_claims(&mut self) {
        let mut claimed: BTreeMap<(String, EnvironmentName), String> = BTreeMap::new();
        for (name, file) in &mut self.files {
            let Some(known) = &mut file.good else { continue };
            let mut doubled = BTreeSet::new();
            known.environments.clear();
            for environment in &known.pipeline.environments {
                let key = (known.pipeline.prefix.clone(), environment.name.clone());
                match claimed.get(&key) {
                    Some(other) => {
                        doubled.insert(format!(
                            "{FOLDER}/{name}: the branch `{}/{}` belongs to {FOLDER}/{other}; give one of the two \
                             environments another name, or one pipeline another `prefix` and its environments namespaces \
                             of their own",
                            key.0, key.1
                        ));
                    }
                    None => {
                        known.environments.push(environment.name.clone());
                        claimed.insert(key, name.clone());
                    }
                }
            }
            // Found anew each time: the other file may have let it go.
            file.claim = (!doubled.is_empty()).then(|| doubled.into_iter().collect::<Vec<_>>().join("; "));
        }
    }
}

/// Only a prefix that cannot be one is the file's own fault.
fn unopened(path: &str, error: &RepositoryError) -> Unread {
    let fault = format!("{path}: {}", sentence(error));
    match error {
        RepositoryError::Prefix(_) => Unread::Wrong(fault),
        RepositoryError::Missing { .. }
        | RepositoryError::Unsupported { .. }
        | RepositoryError::Absent { .. }
        | RepositoryError::CheckedOut { .. }
        | RepositoryError::Unreachable { .. }
        | RepositoryError::Shallow { .. }
        | RepositoryError::Git { .. } => Unread::ThisTime(fault),
    }
}

/// The clone, with branches of this prefix.
pub fn open(clone: &Path, prefix: &str, glance: &Glance) -> Result<Repository, RepositoryError> {
    Repository::open_with(clone, Some(REMOTE), prefix, Some(glance.clone()))
}
