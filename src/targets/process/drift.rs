//! What of the processes is not as the release says: instances that are missing or failed, files changed by hand.

use std::{collections::BTreeSet, path::PathBuf};

use super::{Config, wire::InstanceReport};
use crate::{
    model::{Difference, Release},
    targets::{TargetError, checkouts, compare::difference},
};

/// Instances that should run and do not.
pub fn instances(config: &Config, release: &Release, reports: &[InstanceReport]) -> Vec<Difference> {
    let mut differences = Vec::new();
    for (name, service) in config.services.iter() {
        let ours: Vec<&InstanceReport> = reports
            .iter()
            .filter(|report| report.service == *name && report.releases.contains(&release.tree))
            .collect();
        let wanted = usize::from(service.instances.get());
        if ours.len() != wanted {
            differences.push(Difference {
                wanted: Some(wanted.into()),
                live: Some(ours.len().into()),
                ..difference("service", name, "instances")
            });
        }
        // One that starts is on its way; one that failed is not.
        for report in ours.iter().filter(|report| report.condition.starts_with("failed")) {
            differences.push(Difference {
                wanted: Some("ready".into()),
                live: Some(report.condition.as_str().into()),
                ..difference("service", name, &format!("instance {}", report.index))
            });
        }
    }
    differences
}

/// Files of the release that somebody changed where it runs.
pub async fn files(release: &Release, reports: &[InstanceReport]) -> Result<Vec<Difference>, TargetError> {
    let of_release = reports.iter().filter(|report| report.releases.contains(&release.tree));
    let dirs: BTreeSet<PathBuf> = of_release.map(|report| report.dir.clone()).collect();
    let looked = tokio::task::spawn_blocking(move || {
        let mut changed = Vec::new();
        for dir in dirs {
            changed.extend(checkouts::changed_by_hand(&dir)?);
        }
        Ok(changed)
    });
    let changed = looked.await.map_err(std::io::Error::other).and_then(|looked| looked);
    let changed = changed.map_err(|error| TargetError::World {
        what: "cannot look whether the files of the release were changed".to_owned(),
        source: Some(Box::new(error)),
    })?;
    let told = changed.into_iter().map(|(file, at)| match at {
        Some(at) => Difference {
            wanted: Some("as in the release".into()),
            live: Some("changed where it runs".into()),
            at: Some(at),
            ..difference("file", &file, "")
        },
        None => Difference { wanted: Some("as in the release".into()), ..difference("file", &file, "") },
    });
    Ok(told.collect())
}
