//! The chart of a release: where it lies, that nothing of it is missing, and its digest.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use ring::digest::{Context, SHA256};
use serde::Deserialize;

use super::{
    config::{Chart, Dependencies, Packaged, is_digest},
    oci,
    program::Helm,
};
use crate::targets::TargetError;

/// A chart on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// A folder or a packaged chart.
    pub path: PathBuf,
    /// `sha256:` of the package, or of the folder's files.
    pub digest: String,
}

/// Finds the chart of a release that is checked out in `dir`; `expand` puts values in for variables.
pub async fn find(
    helm: &Helm,
    chart: &Chart,
    dependencies: Dependencies,
    dir: &Path,
    store: &Path,
    expand: impl Fn(&str) -> Result<String, TargetError>,
) -> Result<Found, TargetError> {
    match chart {
        Chart::Folder(folder) => {
            let path = dir.join(folder);
            let missing = missing_dependencies(&path, folder)?;
            match dependencies {
                _ if missing.is_empty() => {}
                Dependencies::Update => helm.update_dependencies(&path).await?,
                Dependencies::Vendored => return Err(TargetError::Release(not_vendored(folder, &missing))),
            }
            let digest =
                folder_digest(&path).map_err(|error| world(&format!("cannot read chart `{folder}`"), error))?;
            Ok(Found { path, digest })
        }
        Chart::Packaged(packaged) => {
            let version = expand(&packaged.version)?;
            let digest = wanted_digest(packaged, &version, dir)?;
            let path = fetched(helm, packaged, &version, &digest, store).await?;
            Ok(Found { path, digest })
        }
    }
}

#[derive(Debug, Deserialize)]
struct ChartFile {
    #[serde(default)]
    dependencies: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
    #[serde(default)]
    version: String,
}

/// The dependencies that `charts/` does not hold, those of unpacked charts in it included.
fn missing_dependencies(chart: &Path, shown: &str) -> Result<Vec<String>, TargetError> {
    let file = chart.join("Chart.yaml");
    let text = fs::read_to_string(&file).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            TargetError::Release(format!("there is no chart at `{shown}`: it has no Chart.yaml"))
        }
        _ => world(&format!("cannot read {}", file.display()), error),
    })?;
    let read: ChartFile = serde_yaml::from_str(&text)
        .map_err(|error| TargetError::Release(format!("{shown}/Chart.yaml cannot be read: {error}")))?;
    let mut missing = Vec::new();
    for Dependency { name, version } in read.dependencies {
        let unpacked = chart.join("charts").join(&name);
        if unpacked.join("Chart.yaml").is_file() {
            missing.extend(missing_dependencies(&unpacked, &format!("{shown}/charts/{name}"))?);
        } else if !has_package(&chart.join("charts"), &name) {
            missing.push(format!("`{name}` {version}").trim_end().to_owned());
        }
    }
    Ok(missing)
}

/// A package is NAME-VERSION.tgz, and a version begins with a digit or `v`.
fn has_package(charts: &Path, name: &str) -> bool {
    let entries = fs::read_dir(charts).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name()).any(|file| {
        let file = file.to_string_lossy();
        let version = file.strip_prefix(name).and_then(|rest| rest.strip_prefix('-'));
        let version = version.and_then(|rest| rest.strip_suffix(".tgz"));
        version.is_some_and(|version| version.trim_start_matches('v').starts_with(|c: char| c.is_ascii_digit()))
    })
}

fn not_vendored(folder: &str, missing: &[String]) -> String {
    let missing = missing.join(", ");
    format!(
        "chart `{folder}` depends on {missing}, which `{folder}/charts` does not hold, and a deploy must not depend on \
         what the network has today: run `helm dependency update {folder}` and commit `{folder}/charts`, \
         or write `dependencies: update`"
    )
}

fn wanted_digest(packaged: &Packaged, version: &str, dir: &Path) -> Result<String, TargetError> {
    if let Some(digest) = &packaged.digest {
        return Ok(digest.clone());
    }
    let file = packaged.digests.as_deref().unwrap_or_default();
    let text = fs::read_to_string(dir.join(file))
        .map_err(|error| TargetError::Release(format!("cannot read the chart digests in `{file}`: {error}")))?;
    let known: std::collections::BTreeMap<String, String> = serde_yaml::from_str(&text)
        .map_err(|error| TargetError::Release(format!("`{file}` is not a list of versions and digests: {error}")))?;
    let digest = known.get(version).ok_or_else(|| {
        TargetError::Release(format!("`{file}` has no digest for version `{version}` of the chart {}", packaged.from))
    })?;
    is_digest(digest).map_err(|why| TargetError::Release(format!("`{file}`: {why}")))?;
    Ok(digest.clone())
}

/// The package with this digest: the one that was fetched before, or it is fetched and checked.
async fn fetched(
    helm: &Helm,
    packaged: &Packaged,
    version: &str,
    digest: &str,
    store: &Path,
) -> Result<PathBuf, TargetError> {
    let cannot = |error: io::Error| world(&format!("cannot keep a chart in {}", store.display()), error);
    fs::create_dir_all(store).map_err(cannot)?;
    let kept = |digest: &str| store.join(format!("{}.tgz", digest.trim_start_matches("sha256:")));
    if holds(&kept(digest), digest) {
        return Ok(kept(digest));
    }
    let content = oci::content(packaged, digest, store).await?;
    let digest = content.as_deref().unwrap_or(digest);
    let kept = kept(digest);
    if holds(&kept, digest) {
        return Ok(kept);
    }
    // Two runners may fetch at once: each into its own folder.
    let fresh = store.join(format!("new-{}", std::process::id()));
    match fs::remove_dir_all(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(cannot(error)),
        Ok(()) | Err(_) => fs::create_dir_all(&fresh).map_err(cannot)?,
    }
    let name = helm.pull(packaged, version, &fresh).await?;
    let bytes = fs::read(&name).map_err(cannot)?;
    let found = digest_of(&bytes);
    if found != digest {
        let from = &packaged.from;
        return Err(TargetError::Release(format!(
            "the chart {from} {version} is not the one that the release names: its digest is {found}, and should be \
             {digest}; somebody published other content under the same version"
        )));
    }
    fs::rename(&name, &kept).map_err(cannot)?;
    fs::remove_dir_all(&fresh).map_err(cannot)?;
    Ok(kept)
}

fn holds(file: &Path, digest: &str) -> bool {
    fs::read(file).is_ok_and(|bytes| digest_of(&bytes) == digest)
}

pub(super) fn digest_of(bytes: &[u8]) -> String {
    named(ring::digest::digest(&SHA256, bytes))
}

/// Of the names and contents of all files, in the order of their names.
fn folder_digest(dir: &Path) -> io::Result<String> {
    let mut files = Vec::new();
    list(dir, &mut files)?;
    files.sort();
    let mut context = Context::new(&SHA256);
    for file in files {
        let content = match fs::symlink_metadata(&file)?.is_symlink() {
            true => fs::read_link(&file)?.into_os_string().into_encoded_bytes(),
            false => fs::read(&file)?,
        };
        let name = file.strip_prefix(dir).unwrap_or(&file).as_os_str().as_encoded_bytes().to_owned();
        for part in [&name, &content] {
            context.update(&part.len().to_le_bytes());
            context.update(part);
        }
    }
    Ok(named(context.finish()))
}

fn list(dir: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => list(&entry.path(), files)?,
            false => files.push(entry.path()),
        }
    }
    Ok(())
}

fn named(digest: ring::digest::Digest) -> String {
    let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn world(what: &str, source: io::Error) -> TargetError {
    TargetError::World { what: what.to_owned(), source: Some(Box::new(source)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(dir: &Path, text: &str) {
        fs::create_dir_all(dir.join("charts")).expect("a folder");
        fs::write(dir.join("Chart.yaml"), text).expect("a file");
    }

    #[test]
    fn dependencies_that_are_not_in_the_tree_are_named() {
        let dir = tempfile::tempdir().expect("a folder");
        let chart_dir = dir.path().join("hub");
        let text = "name: hub\ndependencies: [{name: redis, version: 1.x}, {name: proxy, version: 4.1.0}, {name: db}]";
        chart(&chart_dir, text);
        fs::write(chart_dir.join("charts/redis-1.2.3.tgz"), "").expect("a file");
        fs::write(chart_dir.join("charts/proxy-extra-4.1.0.tgz"), "").expect("a file");
        chart(&chart_dir.join("charts/db"), "name: db\ndependencies: [{name: common, version: 2.0.0}]");
        let missing = missing_dependencies(&chart_dir, "hub").expect("it reads");
        assert_eq!(missing, ["`proxy` 4.1.0", "`common` 2.0.0"]);
        let said = not_vendored("hub", &missing);
        assert!(said.contains("run `helm dependency update hub` and commit `hub/charts`"), "{said}");
    }

    #[test]
    fn a_folder_has_one_digest_until_something_changes() {
        let dir = tempfile::tempdir().expect("a folder");
        chart(dir.path(), "name: hub");
        let before = folder_digest(dir.path()).expect("it reads");
        assert_eq!(is_digest(&before), Ok(()));
        assert_eq!(folder_digest(dir.path()).expect("it reads"), before);
        fs::write(dir.path().join("values.yaml"), "a: 1").expect("a file");
        assert_ne!(folder_digest(dir.path()).expect("it reads"), before);
    }
}
