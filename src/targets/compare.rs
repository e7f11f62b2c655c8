//! What every target can say of drift: who has the users, and which versions the services report.

use super::{Difference, Live};
use crate::model::{Release, Share};

/// All users should be on the release, and every service should report the release's version.
pub fn compare(live: &Live, release: &Release) -> Vec<Difference> {
    let share = |hundredths: u16| {
        let share = Share::of_hundredths(hundredths.min(10_000)).unwrap_or_default();
        Some(share.to_string().into())
    };
    let users = |tree: &crate::model::TreeId, wanted: u16, live: u16| Difference {
        wanted: share(wanted),
        live: share(live),
        ..difference("release", tree.short(), "users")
    };
    let mut differences = Vec::new();
    match live.releases.get(&release.tree) {
        None => differences
            .push(Difference { wanted: Some("up".into()), ..difference("release", release.tree.short(), "") }),
        Some(10_000) => {}
        Some(had) => differences.push(users(&release.tree, 10_000, *had)),
    }
    let others = live.releases.iter().filter(|(tree, had)| **tree != release.tree && **had > 0);
    differences.extend(others.map(|(tree, had)| users(tree, 0, *had)));
    for (component, wanted) in &release.versions {
        let Some(reported) = live.versions.get(component).filter(|reported| *reported != wanted) else { continue };
        differences.push(Difference {
            wanted: Some(wanted.as_str().into()),
            live: Some(reported.as_str().into()),
            ..difference("component", component.as_str(), "version")
        });
    }
    differences
}

/// A difference of which only the place is known.
pub fn difference(kind: &str, name: &str, field: &str) -> Difference {
    Difference {
        object: format!("{kind} {name}"),
        field: field.to_owned(),
        wanted: None,
        live: None,
        by: None,
        at: None,
        source: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{CommitId, ComponentName, TreeId, Version};

    fn tree(digit: &str) -> TreeId {
        TreeId::new(digit.repeat(40)).expect("hexadecimal digits")
    }

    fn release() -> Release {
        let hub = ComponentName::new("hub").expect("a name");
        let versions = [(hub, Version::new("4.1").expect("a version"))].into();
        Release { tree: tree("1"), source: CommitId::new("c".repeat(40)).expect("hexadecimal digits"), versions }
    }

    fn seen(releases: &[(&str, u16)], version: &str) -> Vec<String> {
        let releases = releases.iter().map(|(digit, share)| (tree(digit), *share)).collect();
        let hub = ComponentName::new("hub").expect("a name");
        let versions = [(hub, Version::new(version).expect("a version"))].into();
        let live = Live { releases, versions, ..Live::default() };
        compare(&live, &release()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn users_and_versions_are_compared() {
        assert_eq!(seen(&[("1", 10_000)], "4.1"), [] as [&str; 0]);
        assert_eq!(seen(&[("1", 10_000), ("2", 0)], "4.1"), [] as [&str; 0], "one that is only up is no drift");
        assert_eq!(seen(&[], "4.1"), [format!("release {} is missing", tree("1").short())]);
        let (one, two) = (tree("1"), tree("2"));
        assert_eq!(
            seen(&[("1", 9_000), ("2", 1_000)], "4.0"),
            [
                format!("release {} users is 90% and should be 100%", one.short()),
                format!("release {} users is 10% and should be 0%", two.short()),
                "component hub version is 4.0 and should be 4.1".to_owned(),
            ]
        );
    }
}
