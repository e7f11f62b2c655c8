//! Charts in OCI registries: what `helm push` and `helm pull` call their digest is that of a manifest, which names the
//! package.

use std::{fs, path::Path};

use serde_json::Value;

use super::{charts::digest_of, config::Packaged};
use crate::{
    clients::registry::{Logins, Reference},
    targets::TargetError,
};

/// How a layer is marked that is a chart's package.
const CHART_LAYER: &str = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";

/// The digest of the package that a manifest with this digest names; `None`: the digest is the package's own. The
/// manifest is kept beside the packages, so that going back needs no registry.
pub async fn content(packaged: &Packaged, digest: &str, store: &Path) -> Result<Option<String>, TargetError> {
    let Some(name) = packaged.from.strip_prefix("oci://") else { return Ok(None) };
    let kept = store.join(format!("{}.json", digest.trim_start_matches("sha256:")));
    if let Ok(bytes) = fs::read(&kept)
        && digest_of(&bytes) == digest
    {
        return package(&bytes, name).map(Some);
    }
    let reference: Reference = format!("{}@{digest}", name.trim_end_matches('/')).parse().map_err(|_| {
        TargetError::Release(format!("`{}` is not the address of a chart in a registry", packaged.from))
    })?;
    let found = reference.manifest(&Logins::of_this_machine()).await;
    let found =
        found.map_err(|error| world(format!("cannot look up the chart {} by its digest", packaged.from), error))?;
    // A registry that knows no such manifest may know such a package.
    let Some(bytes) = found else { return Ok(None) };
    if digest_of(&bytes) != digest {
        let what = format!("the registry answers with another manifest than {digest} for the chart {}", packaged.from);
        return Err(TargetError::World { what, source: None });
    }
    let package = package(&bytes, name)?;
    // Another runner may read it at this moment: it is whole or not there.
    let fresh = store.join(format!("new-{}.json", std::process::id()));
    let written = fs::write(&fresh, &bytes).and_then(|()| fs::rename(&fresh, &kept));
    written.map_err(|error| world(format!("cannot keep a chart in {}", store.display()), error))?;
    Ok(Some(package))
}

fn package(manifest: &[u8], name: &str) -> Result<String, TargetError> {
    let manifest: Value = serde_json::from_slice(manifest).unwrap_or_default();
    let mut layers = manifest["layers"].as_array().into_iter().flatten();
    let package = layers.find(|layer| layer["mediaType"] == CHART_LAYER).and_then(|layer| layer["digest"].as_str());
    package.map(str::to_owned).ok_or_else(|| {
        TargetError::Release(format!("the digest of the chart `oci://{name}` is that of something that is not a chart"))
    })
}

fn world(what: String, source: impl std::error::Error + Send + Sync + 'static) -> TargetError {
    TargetError::World { what, source: Some(Box::new(source)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_names_its_package() {
        let manifest =
            |kind: &str| format!(r#"{{"layers":[{{"mediaType":"x"}},{{"mediaType":"{kind}","digest":"sha256:1"}}]}}"#);
        assert_eq!(package(manifest(CHART_LAYER).as_bytes(), "r/web").expect("it has one"), "sha256:1");
        let error =
            package(manifest("application/vnd.oci.image.layer.v1.tar").as_bytes(), "r/web").expect_err("an image");
        assert!(error.to_string().contains("is not a chart"), "{error}");
    }
}
