//! From a release's files to its objects: plain manifests, kustomize, or a Helm chart. Nothing is fetched from the network.

mod helm;
mod kustomize;
mod plain;

use std::path::{Path, PathBuf};

use super::{
    config::{Config, Seat, Source},
    manifest::{self, Manifest, ManifestError},
};
use crate::{
    clients::process::{Program, Ran},
    model::{Span, TreeId},
    targets::{Site, TargetError, checkouts},
};

/// The longest that a renderer may take.
const RENDER_WITHIN: Span = Span::minutes(2);
/// More than this is no release any more.
const RENDERED_BYTES_MAX: usize = 256 * 1024 * 1024;
/// How many checkouts stay on the disk.
const CHECKOUTS_KEPT: usize = 5;

/// What a release is in objects.
#[derive(Debug, Clone, PartialEq)]
pub struct Rendered {
    pub manifests: Vec<Manifest>,
    /// The renderer and its version, such as `helm v3.21.4`; `None` for plain manifests.
    pub renderer: Option<String>,
    /// Encrypted files that were left alone.
    pub opaque: Vec<String>,
}

/// Why a release cannot be rendered.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    #[error("{0}")]
    Manifest(#[from] ManifestError),
    #[error("the pattern `{0}` matches no file of the release")]
    NoFile(String),
    #[error("cannot read {file} of the release: {why}")]
    File { file: String, why: String },
    #[error("{file} leads out of the release; a release is rendered from its own files alone")]
    Outside { file: String },
    #[error("cannot render the release: {0}")]
    Program(String),
    #[error("there is no `{0}` on this machine, which renders this release; install it, or use an image that has it")]
    NoProgram(String),
    #[error("this machine renders with {found}, but the pipeline says `renderer: {wanted}`")]
    Version { found: String, wanted: String },
    #[error("{file} takes `{entry}` from outside the release; put a copy of it into the repository")]
    Remote { file: String, entry: String },
    #[error(
        "the chart has hooks ({0}), which belong to the order in which Helm installs; use the target `helm`, or leave them out \
         with the flag `--no-hooks`"
    )]
    Hooks(String),
}

impl RenderError {
    /// Whether the release is at fault, and not the machine that renders it.
    fn blames_release(&self) -> bool {
        match self {
            RenderError::NoProgram(_) | RenderError::Version { .. } => false,
            RenderError::Manifest(_)
            | RenderError::NoFile(_)
            | RenderError::File { .. }
            | RenderError::Outside { .. }
            | RenderError::Program(_)
            | RenderError::Remote { .. }
            | RenderError::Hooks(_) => true,
        }
    }
}

impl From<RenderError> for TargetError {
    fn from(error: RenderError) -> TargetError {
        match error.blames_release() {
            true => TargetError::Release(error.to_string()),
            false => TargetError::World { what: error.to_string(), source: None },
        }
    }
}

/// Renders a release for one cluster and namespace, by a renderer whose version begins as wanted.
pub async fn render(
    site: &Site,
    config: &Config,
    seat: &Seat,
    tree: &TreeId,
    wanted: Option<&str>,
) -> Result<Rendered, TargetError> {
    let dir = checkouts::bring(site, &checkouts::Build::default(), tree).await?;
    let rendered = in_dir(&dir, &site.state_dir, config, seat, wanted).await?;
    let (state_dir, needed) = (site.state_dir.clone(), vec![tree.as_str().into()]);
    let pruned = tokio::task::spawn_blocking(move || checkouts::prune(&state_dir, &needed, CHECKOUTS_KEPT)).await;
    if let Ok(Err(error)) = pruned {
        tracing::warn!(%error, "cannot remove old checkouts in {}", site.state_dir.display());
    }
    Ok(rendered)
}

/// What renders releases on this machine, and its version; `None` for plain manifests.
pub async fn renderer(site: &Site, seat: &Seat) -> Result<Option<String>, RenderError> {
    let dir = std::env::temp_dir();
    Ok(match &seat.source {
        Source::Plain(_) => None,
        Source::Kustomize(_) => Some(kustomize::renderer(&dir, None).await?.1),
        Source::Helm(chart) => Some(helm::renderer(&dir, &site.state_dir, chart, None).await?),
    })
}

async fn in_dir(
    dir: &Path,
    state_dir: &Path,
    config: &Config,
    seat: &Seat,
    wanted: Option<&str>,
) -> Result<Rendered, RenderError> {
    let rendered = match &seat.source {
        Source::Plain(patterns) => {
            let (dir, patterns, opaque) = (dir.to_owned(), patterns.clone(), config.opaque().to_vec());
            let read = tokio::task::spawn_blocking(move || plain::read(&dir, &patterns, &opaque)).await;
            read.map_err(|error| RenderError::Program(error.to_string()))??
        }
        Source::Kustomize(folder) => kustomize::render(dir, folder, wanted).await?,
        Source::Helm(chart) => helm::render(dir, state_dir, chart, &seat.namespace, wanted).await?,
    };
    manifest::check(&rendered.manifests)?;
    Ok(rendered)
}

/// Runs a renderer and gives all that it printed.
async fn run(mut program: Program, dir: &Path) -> Result<String, RenderError> {
    program.output_kept_bytes = RENDERED_BYTES_MAX;
    program.dir = Some(dir.to_owned());
    let ran = program.run().await.map_err(|error| unstarted(&program, &error))?;
    if !ran.succeeded() {
        return Err(RenderError::Program(last_words(&program, &ran)));
    }
    match ran.stdout.starts_with('[')
        && ran.stdout.lines().next().is_some_and(|line| line.ends_with("bytes before this]"))
    {
        true => Err(RenderError::Program(format!("`{}` printed more than {RENDERED_BYTES_MAX} bytes", program.name()))),
        false => Ok(ran.stdout),
    }
}

/// Renderers say what is wrong on one long line, which is worth more than the usual beginning of it.
fn last_words(program: &Program, ran: &Ran) -> String {
    let said = crate::clients::process::last_lines(&ran.stderr);
    match said {
        Some(said) => format!("`{}` failed: {said}", program.name()),
        None => ran.sentence(program.name()),
    }
}

fn unstarted(program: &Program, error: &crate::clients::process::ProcessError) -> RenderError {
    use crate::clients::process::ProcessError;
    match error {
        ProcessError::Start { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            RenderError::NoProgram(program.name().to_owned())
        }
        ProcessError::Empty | ProcessError::Start { .. } | ProcessError::Wait { .. } => {
            RenderError::Program(error.to_string())
        }
    }
}

/// Refuses a renderer whose version the pipeline does not want; `v` before a number says nothing.
fn check_version(name: &str, version: &str, wanted: Option<&str>) -> Result<String, RenderError> {
    let found = format!("{name} {version}");
    let bare = |text: &str| text.trim().trim_start_matches('v').to_owned();
    let (have, want) = (bare(version), wanted.map(bare).unwrap_or_default());
    let fits =
        have.strip_prefix(&want).is_some_and(|rest| want.is_empty() || !rest.starts_with(|c: char| c.is_ascii_digit()));
    match fits {
        true => Ok(found),
        false => Err(RenderError::Version { found, wanted: wanted.unwrap_or_default().to_owned() }),
    }
}

/// A path of the release as it is named in messages.
fn named(path: &Path) -> String {
    path.display().to_string()
}

/// The file itself, unless a link leads out of the release.
fn within(dir: &Path, path: &Path) -> Result<PathBuf, RenderError> {
    let file = named(path);
    let cannot = |error: std::io::Error| RenderError::File { file: file.clone(), why: error.to_string() };
    let root = dir.canonicalize().map_err(cannot)?;
    let real = dir.join(path).canonicalize().map_err(cannot)?;
    match real.starts_with(&root) {
        true => Ok(real),
        false => Err(RenderError::Outside { file }),
    }
}

#[cfg(test)]
mod tests;
