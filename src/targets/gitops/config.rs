use std::{collections::BTreeMap, fmt};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{model::Span, targets::helm::ClusterConfig};

/// The configuration of the target `gitops`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The branch that the GitOps tool follows; each of its commits is exactly one release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// An Argo CD `Application`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application: Option<Name>,
    /// A Flux `Kustomization`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kustomization: Option<Name>,
    /// A Flux `HelmRelease` whose chart comes from a `GitRepository`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub helmrelease: Option<Name>,
    /// The cluster in which these objects are; each member may have its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterConfig>,
    /// Several of these, each with a branch of its own, that can be moved one after the other.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub members: BTreeMap<String, Member>,
    /// The cluster in which the pods run, where the tool deploys to another one than its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workloads: Option<ClusterConfig>,
    /// Looks at the pods as well, and decides by what is visibly broken without waiting for the tool to say so.
    #[serde(default = "yes")]
    pub pods: bool,
    /// Asks the tool to look at once, by an annotation.
    #[serde(default = "yes")]
    pub nudge: bool,
    /// The longest from the push until all is synced and healthy.
    #[serde(default = "default_within")]
    pub within: Span,
}

/// One of several.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Member {
    pub branch: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application: Option<Name>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kustomization: Option<Name>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub helmrelease: Option<Name>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterConfig>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workloads: Option<ClusterConfig>,
}

/// An object of the GitOps tool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Name {
    pub name: String,
    pub namespace: String,
}

/// Whose object it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    ArgoCd,
    FluxKustomization,
    FluxHelmRelease,
}

/// One branch and what follows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Unit {
    /// `None` when there are no members.
    pub member: Option<String>,
    pub branch: String,
    pub tool: Tool,
    pub name: Name,
    pub cluster: ClusterConfig,
    /// Where its pods run, if that is another cluster.
    pub workloads: Option<ClusterConfig>,
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(member) = &self.member {
            write!(f, "{member}: ")?;
        }
        let kind = match self.tool {
            Tool::ArgoCd => "Application",
            Tool::FluxKustomization => "Kustomization",
            Tool::FluxHelmRelease => "HelmRelease",
        };
        write!(f, "{kind} {}/{}", self.name.namespace, self.name.name)
    }
}

fn yes() -> bool {
    true
}

fn default_within() -> Span {
    Span::minutes(10)
}

/// Where piton's own records are; see the setting of their first part.
const LEDGER_BRANCHES: &str = "piton/";

impl Config {
    /// What is deployed: one unit, or one for each member. The error is a sentence on what is wrong.
    pub fn units(&self) -> Result<Vec<Unit>, String> {
        let above = [&self.application, &self.kustomization, &self.helmrelease];
        if self.members.is_empty() {
            let branch =
                self.branch.as_ref().ok_or("`branch` is missing: which branch does the GitOps tool follow?")?;
            let unit = unit(None, branch, above, self.cluster.as_ref())?;
            return Ok(vec![Unit { workloads: self.workloads.clone(), ..unit }]);
        }
        if self.branch.is_some() || above.iter().any(|of| of.is_some()) {
            return Err("with `members`, each has its own `branch` and object; leave them out above".to_owned());
        }
        let mut units: Vec<Unit> = Vec::new();
        for (name, member) in &self.members {
            let of = [&member.application, &member.kustomization, &member.helmrelease];
            let cluster = member.cluster.as_ref().or(self.cluster.as_ref());
            let workloads = member.workloads.as_ref().or(self.workloads.as_ref());
            let next = unit(Some(name), &member.branch, of, cluster)?;
            let next = Unit { workloads: workloads.cloned(), ..next };
            if let Some(same) = units.iter().find(|unit| unit.branch == next.branch) {
                let other = same.member.as_deref().unwrap_or_default();
                let branch = &member.branch;
                return Err(format!(
                    "members `{other}` and `{name}` share the branch `{branch}`, so they cannot be moved apart"
                ));
            }
            units.push(next);
        }
        Ok(units)
    }
}

fn unit(
    member: Option<&String>,
    branch: &str,
    [application, kustomization, helmrelease]: [&Option<Name>; 3],
    cluster: Option<&ClusterConfig>,
) -> Result<Unit, String> {
    let of = member.map_or_else(String::new, |name| format!(" for member `{name}`"));
    let (tool, name) = match (application, kustomization, helmrelease) {
        (Some(name), None, None) => (Tool::ArgoCd, name),
        (None, Some(name), None) => (Tool::FluxKustomization, name),
        (None, None, Some(name)) => (Tool::FluxHelmRelease, name),
        _ => return Err(format!("say exactly one of `application`, `kustomization` and `helmrelease`{of}")),
    };
    if branch.starts_with(LEDGER_BRANCHES) {
        return Err(format!(
            "`{branch}` is a branch of piton's own records; name another, such as `deploy/production`"
        ));
    }
    if !git_branch(branch) {
        return Err(format!("{branch:?} cannot be a branch"));
    }
    if member.is_some_and(|name| name.is_empty() || name.chars().any(|c| c.is_whitespace() || c.is_control())) {
        return Err(format!("member {:?} must be one word", member.map_or("", |name| name)));
    }
    let cluster = cluster.ok_or_else(|| format!("`cluster` is missing{of}: say which cluster is meant"))?;
    let (member, branch) = (member.cloned(), branch.to_owned());
    Ok(Unit { member, branch, tool, name: name.clone(), cluster: cluster.clone(), workloads: None })
}

/// What git allows, a little stricter.
fn git_branch(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    let steps_are_names = name.split('/').all(|step| {
        !step.is_empty() && !step.starts_with(['.', '-']) && !step.ends_with('.') && !step.ends_with(".lock")
    });
    name.chars().all(plain) && !name.contains("..") && steps_are_names
}

/// A unit for tests.
#[cfg(test)]
pub fn unit_of(tool: Tool) -> Unit {
    let name = Name { name: "hub".to_owned(), namespace: "apps".to_owned() };
    let cluster = ClusterConfig { identity: "x".to_owned(), context: None, kubeconfig: None };
    Unit { member: None, branch: "deploy/prod".to_owned(), tool, name, cluster, workloads: None }
}
