//! The pipeline files of one repository, as they are at the tip of the branch that is followed.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use super::clone::REMOTE;
use crate::{
    ledger::{GitLedger, Glance, Repository, RepositoryError},
    model::{EnvironmentName, TreeId},
    pipeline::{self, Pipeline},
    planner::{Trees, TreesError},
    rack::{self, AllKinds},
};

/// Where they lie.
const FOLDER: &str = "pipelines";

/// Every pipeline file that is known.
#[derive(Default)]
pub struct Pipelines {
    files: BTreeMap<String, File>,
    ledgers: BTreeMap<LedgerKey, (Repository, GitLedger)>,
}

/// One pipeline file.
pub struct File {
    blob: String,
    /// As it was when it could be read last.
    pub good: Option<Known>,
    /// What is wrong with it as it is.
    fault: Option<String>,
    /// What it claims that another file has.
    claim: Option<String>,
}

impl File {
    fn wrong(&self) -> impl Iterator<Item = &String> {
        self.fault.iter().chain(&self.claim)
    }
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

    /// Reads what has changed. One file that cannot be read says so and stops no other.
    pub fn read(
        &mut self,
        source: &Repository,
        clone: &Path,
        glance: &Glance,
        tree: &TreeId,
    ) -> Result<(), TreesError> {
        let listed: BTreeMap<String, String> = source
            .files_in(tree, FOLDER)?
            .into_iter()
            .filter(|(name, _)| name.ends_with(".yaml") || name.ends_with(".yml"))
            .collect();
        self.files.retain(|name, _| listed.contains_key(name));
        for (name, blob) in listed {
            if self.files.get(&name).is_some_and(|file| file.blob == blob) {
                continue;
            }
            let path = format!("{FOLDER}/{name}");
            let bytes = source.read(tree, &path)?.unwrap_or_default();
            let read = self.one(&path, &bytes, clone, glance);
            let before = self.files.remove(&name).and_then(|file| file.good);
            let file = match read {
                Ok(known) => File { blob, good: Some(known), fault: None, claim: None },
                Err(fault) => File { blob, good: before, fault: Some(fault), claim: None },
            };
            self.files.insert(name, file);
        }
        self.settle_claims();
        Ok(())
    }

    fn one(&mut self, path: &str, bytes: &[u8], clone: &Path, glance: &Glance) -> Result<Known, String> {
        let kinds = AllKinds::known();
        let pipeline = pipeline::parse(path, bytes, &kinds.kinds()).map_err(|refusal| refusal.render(false))?;
        let key = LedgerKey {
            prefix: pipeline.prefix.clone(),
            signers: pipeline.signing.allowed_signers.clone(),
            sign_with: pipeline.signing.key_variable.clone(),
        };
        let (repository, ledger) = match self.ledgers.get(&key) {
            Some(known) => known.clone(),
            None => {
                let repository = open(clone, &pipeline.prefix, glance).map_err(|e| format!("{path}: {e}"))?;
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

/// The clone, with branches of this prefix.
pub fn open(clone: &Path, prefix: &str, glance: &Glance) -> Result<Repository, RepositoryError> {
    Repository::open_with(clone, Some(REMOTE), prefix, Some(glance.clone()))
}
