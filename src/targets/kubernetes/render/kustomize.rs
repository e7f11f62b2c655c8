//! Overlays, rendered by `kustomize build` or, without it, by `kubectl kustomize`.

use std::{fs, path::Path};

use serde_json::Value;

use super::{RENDER_WITHIN, RenderError, Rendered, check_version, named, run, within};
use crate::{clients::process::Program, targets::kubernetes::manifest};

const FILES: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];
/// Overlays of overlays; a ring of them ends here.
const LEVELS_MAX: usize = 32;

pub async fn render(dir: &Path, folder: &Path, wanted: Option<&str>) -> Result<Rendered, RenderError> {
    stays_inside(dir, folder, 0)?;
    let (words, renderer) = renderer(dir, wanted).await?;
    let argv = words.into_iter().chain([".".to_owned()]);
    let text = run(Program::new(argv, RENDER_WITHIN), &within(dir, folder)?).await?;
    let mut manifests = manifest::parse(&format!("{} as kustomize renders it", named(folder)), text.as_bytes())?;
    for manifest in &mut manifests {
        manifest.line = 0;
    }
    Ok(Rendered { manifests, renderer: Some(renderer), opaque: Vec::new() })
}

/// The program that is there, and what it is called in messages.
pub async fn renderer(dir: &Path, wanted: Option<&str>) -> Result<(Vec<String>, String), RenderError> {
    let (words, version) = find(dir).await?;
    Ok((words, check_version("kustomize", &version, wanted)?))
}

/// The program that is there, and the version of kustomize in it.
async fn find(dir: &Path) -> Result<(Vec<String>, String), RenderError> {
    match run(Program::new(["kustomize", "version"], RENDER_WITHIN), dir).await {
        Ok(version) => return Ok((vec!["kustomize".to_owned(), "build".to_owned()], version.trim().to_owned())),
        Err(RenderError::NoProgram(_)) => {}
        Err(other) => return Err(other),
    }
    let asked = run(Program::new(["kubectl", "version", "--client", "-o", "json"], RENDER_WITHIN), dir).await;
    let text = match asked {
        Err(RenderError::NoProgram(_)) => return Err(RenderError::NoProgram("kustomize` or `kubectl".to_owned())),
        asked => asked?,
    };
    let version: Value = serde_json::from_str(&text).unwrap_or_default();
    let Some(version) = version["kustomizeVersion"].as_str() else {
        return Err(RenderError::Program(
            "`kubectl version --client` does not name the version of its kustomize".to_owned(),
        ));
    };
    Ok((vec!["kubectl".to_owned(), "kustomize".to_owned()], version.to_owned()))
}

/// Refuses what kustomize would fetch from the network, in the overlay and in all that it is laid over.
fn stays_inside(dir: &Path, folder: &Path, level: usize) -> Result<(), RenderError> {
    let Some(file) = FILES.iter().map(|name| folder.join(name)).find(|file| dir.join(file).is_file()) else {
        // What is there, kustomize itself says best.
        return Ok(());
    };
    let path = within(dir, &file)?;
    let text = fs::read(&path).map_err(|error| RenderError::File { file: named(&file), why: error.to_string() })?;
    let Ok(read) = serde_saphyr::from_slice::<Value>(&text) else { return Ok(()) };
    let lists = ["resources", "bases", "components", "crds", "configurations", "generators", "transformers"];
    let entries = lists.iter().flat_map(|list| read[*list].as_array().into_iter().flatten()).filter_map(Value::as_str);
    for entry in entries {
        let local = dir.join(folder).join(entry);
        if entry.contains("://") || entry.contains("?ref=") || (!entry.contains('\n') && !local.exists()) {
            return Err(RenderError::Remote { file: named(&file), entry: entry.to_owned() });
        }
        if local.is_dir() && level < LEVELS_MAX {
            let root = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
            let below = within(dir, &folder.join(entry))?;
            stays_inside(&root, below.strip_prefix(&root).unwrap_or(&below), level + 1)?;
        }
    }
    Ok(())
}
