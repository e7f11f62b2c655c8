//! Whose what is written in a cluster is. Two pipelines may give their environments one name, and may use one namespace: then
//! neither may take the other's objects for its own, since the numbers of their leases come from two ledgers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Site, TargetError};
use crate::model::TreeId;

/// On what we keep in a cluster: whose it is, as JSON.
pub const ANNOTATION: &str = "piton.dev/owner";

/// The pipeline and the branch of an environment. What the repository is called and where it lies does not count: both change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// For people.
    pub pipeline: String,
    /// The environment's branch, with its prefix: of all pipelines in one repository only one has it.
    pub branch: String,
}

impl Owner {
    /// Who wrote these annotations; `None`: an older piton, which did not say.
    pub fn of(annotations: Option<&BTreeMap<String, String>>) -> Option<Owner> {
        serde_json::from_str(annotations?.get(ANNOTATION)?).ok()
    }

    /// As it is written.
    pub fn annotation(&self) -> (String, String) {
        let text = serde_json::json!({ "pipeline": self.pipeline, "branch": self.branch }).to_string();
        (ANNOTATION.to_owned(), text)
    }
}

/// Refuses what another pipeline keeps at `place`. `trees` are the releases that stand there: of a repository that has none of
/// them it is not, however alike the two are.
pub fn check(
    site: &Site,
    place: &str,
    annotations: Option<&BTreeMap<String, String>>,
    trees: &[&TreeId],
) -> Result<(), TargetError> {
    let Some(there) = Owner::of(annotations) else { return Ok(()) };
    let whose = match there.branch == site.owner.branch {
        false => format!("the branch `{}`", there.branch),
        true if trees.is_empty() || trees.iter().any(|tree| site.trees.knows(tree)) => return Ok(()),
        true => "another repository".to_owned(),
    };
    let what = format!(
        "the ConfigMap {place} belongs to the pipeline `{}` of {whose}, and two environments cannot keep their objects in one list, \
         so nothing was done; give this one another namespace or another name, or, if the other is no more, take the annotation \
         `{ANNOTATION}` off",
        there.pipeline
    );
    Err(TargetError::World { what, source: None })
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::Arc};

    use super::*;
    use crate::targets::Checkout;

    /// A repository with one release.
    struct One(TreeId);

    impl Checkout for One {
        fn checkout(&self, _: &TreeId, _: &Path) -> Result<(), TargetError> {
            Ok(())
        }

        fn knows(&self, tree: &TreeId) -> bool {
            self.0 == *tree
        }
    }

    fn tree(digit: char) -> TreeId {
        digit.to_string().repeat(40).parse().expect("a tree")
    }

    fn owner(pipeline: &str, branch: &str) -> Owner {
        Owner { pipeline: pipeline.to_owned(), branch: branch.to_owned() }
    }

    #[test]
    fn what_another_pipeline_keeps_is_refused() {
        let site = Site {
            environment: "production".parse().expect("a name"),
            owner: owner("hub", "piton/production"),
            state_dir: "/nowhere".into(),
            trees: Arc::new(One(tree('a'))),
            program: "/nowhere".into(),
            progress: Default::default(),
        };
        let (mine, other) = (tree('a'), tree('b'));
        let refused = |owner: Option<Owner>, trees: &[&TreeId]| {
            let annotations: BTreeMap<String, String> = owner.iter().map(Owner::annotation).collect();
            check(&site, "shop/piton-production", Some(&annotations), trees).err().map(|error| error.to_string())
        };
        let good: [(_, &[&TreeId]); 6] = [
            (Some(owner("hub", "piton/production")), &[]),
            (Some(owner("hub", "piton/production")), &[&mine]),
            // A branch that was rewritten has some of its releases still.
            (Some(owner("hub", "piton/production")), &[&other, &mine]),
            // The pipeline has another name today.
            (Some(owner("platform", "piton/production")), &[&mine]),
            // An older piton did not say.
            (None, &[&other]),
            (None, &[]),
        ];
        for (owner, trees) in good {
            assert_eq!(refused(owner.clone(), trees), None, "{owner:?} {trees:?}");
        }
        let other_branch = refused(Some(owner("shop", "second/production")), &[&mine]).expect("it is another's");
        assert!(
            other_branch.starts_with(
                "the ConfigMap shop/piton-production belongs to the pipeline `shop` of the branch `second/production`, "
            ),
            "{other_branch}"
        );
        assert!(refused(Some(owner("shop", "second/production")), &[]).is_some());
        let elsewhere = refused(Some(owner("hub", "piton/production")), &[&other]).expect("it is another's");
        assert!(elsewhere.contains("the pipeline `hub` of another repository, "), "{elsewhere}");
        assert_eq!(check(&site, "shop/piton-production", None, &[&other]).map_err(|e| e.to_string()), Ok(()));
    }
}
