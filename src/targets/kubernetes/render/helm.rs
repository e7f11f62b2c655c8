//! A chart of the release, rendered by `helm template`.

use std::path::Path;

use serde_json::Value;

use super::{RENDER_WITHIN, RenderError, Rendered, check_version, named, run, within};
use crate::{
    clients::process::Program,
    targets::{
        checkouts,
        kubernetes::{
            config::Chart,
            manifest::{self, Manifest},
        },
    },
};

const HOOK: &str = "helm.sh/hook";

pub async fn render(
    dir: &Path,
    state_dir: &Path,
    chart: &Chart,
    namespace: &str,
    wanted: Option<&str>,
) -> Result<Rendered, RenderError> {
    let renderer = renderer(dir, state_dir, chart, wanted).await?;
    for file in chart.values.iter().chain([&chart.chart]) {
        within(dir, Path::new(file))?;
    }
    nothing_leads_out(dir, &chart.chart)?;
    let mut words =
        vec!["template", &chart.release, &chart.chart, "--namespace", namespace, "--include-crds", "--skip-tests"];
    words.extend(chart.values.iter().flat_map(|file| ["--values", file]));
    words.extend(chart.flags.iter().map(String::as_str));
    let text = run(helm(chart, words, state_dir), dir).await?;
    let mut manifests = manifest::parse("what `helm template` printed", text.as_bytes())?;
    name_sources(&text, &mut manifests);
    refuse_hooks(&manifests)?;
    Ok(Rendered { manifests, renderer: Some(renderer), opaque: Vec::new() })
}

pub async fn renderer(
    dir: &Path,
    state_dir: &Path,
    chart: &Chart,
    wanted: Option<&str>,
) -> Result<String, RenderError> {
    let version = run(helm(chart, ["version", "--short"], state_dir), dir).await?;
    // `v3.21.4+g5e0c1a2`: what stands after the plus says how it was built.
    let version = version.trim().split('+').next().unwrap_or_default();
    check_version("helm", version, wanted)
}

/// Helm follows the links of a chart wherever they lead.
pub(super) fn nothing_leads_out(dir: &Path, chart: &str) -> Result<(), RenderError> {
    match checkouts::leads_out(dir, Path::new(chart)) {
        Ok(None) => Ok(()),
        Ok(Some(link)) => Err(RenderError::Outside { file: named(&link) }),
        Err(error) => Err(RenderError::File { file: chart.to_owned(), why: error.to_string() }),
    }
}

/// Helm with folders of its own and no cluster: what a person configured on this machine must not change what is rendered.
fn helm<'a>(chart: &'a Chart, words: impl IntoIterator<Item = &'a str>, state_dir: &Path) -> Program {
    let mut program = Program::new([chart.program.as_str()].into_iter().chain(words), RENDER_WITHIN);
    for name in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        program.env.insert(name.to_owned(), state_dir.join("helm").display().to_string());
    }
    program.env.insert("KUBECONFIG".to_owned(), "/dev/null".to_owned());
    program
}

/// Helm writes above each object which template it comes from.
fn name_sources(text: &str, manifests: &mut [Manifest]) {
    let sources: Vec<(usize, &str)> =
        text.lines().enumerate().filter_map(|(at, line)| Some((at + 1, line.strip_prefix("# Source: ")?))).collect();
    for manifest in manifests {
        let before = sources.partition_point(|(line, _)| *line < manifest.line);
        if let Some((_, source)) = before.checked_sub(1).and_then(|at| sources.get(at)) {
            manifest.file = (*source).to_owned();
            manifest.line = 0;
        }
    }
}

fn refuse_hooks(manifests: &[Manifest]) -> Result<(), RenderError> {
    let hook = |manifest: &Manifest| match &manifest.object["metadata"]["annotations"][HOOK] {
        Value::String(when) if when != "crd-install" => Some(format!("{}: {when}", manifest.id)),
        _ => None,
    };
    let hooks: Vec<String> = manifests.iter().filter_map(hook).collect();
    match hooks.is_empty() {
        true => Ok(()),
        false => Err(RenderError::Hooks(hooks.join("; "))),
    }
}
