//! Whether a release could be started again: its tree can be checked out and its programs exist.

use std::{
    collections::BTreeSet,
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use super::Config;
use crate::{
    model::{Rehearsal, Release},
    targets::{Site, TargetError},
};

/// Looks without leaving anything behind.
pub async fn rehearse(config: &Config, site: &Site, release: &Release) -> Result<Rehearsal, TargetError> {
    let (config, site, release) = (config.clone(), site.clone(), release.clone());
    let looked = tokio::task::spawn_blocking(move || look(&config, &site, &release)).await;
    looked.map_err(|error| TargetError::World {
        what: "cannot try the way back".to_owned(),
        source: Some(Box::new(error)),
    })?
}

fn look(config: &Config, site: &Site, release: &Release) -> Result<Rehearsal, TargetError> {
    let world = |what: String, error: io::Error| TargetError::World { what, source: Some(Box::new(error)) };
    std::fs::create_dir_all(&site.state_dir)
        .map_err(|error| world(format!("cannot make {}", site.state_dir.display()), error))?;
    let draft = Draft(site.state_dir.join(format!("rehearsal-{}-{}", release.tree, std::process::id())));
    let fresh = draft.0.join("release");
    std::fs::create_dir_all(&draft.0).map_err(|error| world(format!("cannot make {}", draft.0.display()), error))?;
    let mut obstacles = Vec::new();
    match site.trees.checkout(&release.tree, &fresh) {
        Ok(()) => {
            let built = site.state_dir.join("releases").join(release.tree.as_str());
            obstacles.extend(missing_programs(config, &fresh, &built));
        }
        Err(error @ TargetError::Release(_)) => obstacles.push(error.to_string()),
        Err(error) => {
            let why = sentence(&error);
            obstacles.push(format!("release {} cannot be checked out: {why}", release.tree.short()));
        }
    }
    Ok(Rehearsal { obstacles, ..Rehearsal::default() })
}

/// A folder that goes when nobody looks at it any longer.
struct Draft(PathBuf);

impl Drop for Draft {
    fn drop(&mut self) {
        // What stays behind costs disk space, and the next rehearsal of the release by this process takes it away.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// An error and its causes.
fn sentence(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", sentence(cause)),
        None => error.to_string(),
    }
}

/// Programs that nobody could start: not of the tree, not made by the build that is still there, not installed.
fn missing_programs(config: &Config, fresh: &Path, built: &Path) -> Vec<String> {
    let build = config.build.first().map(|program| ("the build".to_owned(), program));
    let services = config.services.iter().filter_map(|(name, service)| {
        let program = service.run.first()?;
        Some((format!("service `{name}`"), program))
    });
    let mut told = BTreeSet::new();
    for (who, program) in build.into_iter().chain(services) {
        // What a variable or a build makes of it is known only then.
        let comes_later = program.contains("${") || (!config.build.is_empty() && who != "the build");
        let found = [fresh, built].iter().any(|dir| is_there(program, dir));
        if found || (comes_later && program.contains('/')) {
            continue;
        }
        told.insert(format!("the program `{program}` of {who} is not there"));
    }
    told.into_iter().collect()
}

fn is_there(program: &str, dir: &Path) -> bool {
    let runs =
        |path: PathBuf| path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0);
    if program.contains('/') {
        return runs(dir.join(program));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| runs(folder.join(program)))
}
