use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr};

use clap::Args;

use crate::model::Span;

/// `piton serve`
#[derive(Debug, Clone, Args)]
pub struct Serve {
    /// A deploy repository to follow; may be given several times. The branch holds the pipeline files, by default `main`.
    #[arg(
        long = "follow",
        value_name = "NAME=ADDRESS[#BRANCH]",
        env = "PITON_FOLLOW",
        value_delimiter = ' ',
        required = true
    )]
    pub follow: Vec<Follow>,
    /// Where health, metrics and webhooks are served.
    #[arg(long, value_name = "ADDRESS:PORT", env = "PITON_LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// How often the repositories are looked at when no webhook says anything.
    #[arg(long, value_name = "TIME", env = "PITON_POLL", default_value = "30s")]
    pub poll: Span,
    /// How often others' pages are looked for while something is under way.
    #[arg(long, value_name = "TIME", env = "PITON_OTHERS", default_value = "10s")]
    pub others: Span,
    /// The Kubernetes Lease by which one of several replicas is chosen.
    #[arg(long, value_name = "NAMESPACE/NAME", env = "PITON_LEASE", required_unless_present = "no_lease")]
    pub lease: Option<LeaseName>,
    /// Without a cluster: the leases in the git ledgers alone keep runners apart.
    #[arg(long, conflicts_with = "lease")]
    pub no_lease: bool,
    /// How long the Lease holds without being renewed.
    #[arg(long, value_name = "TIME", default_value = "15s")]
    pub lease_duration: Span,
    /// A leader that could not renew for so long exits.
    #[arg(long, value_name = "TIME", default_value = "10s")]
    pub lease_deadline: Span,
    /// How often the Lease is renewed, or looked at.
    #[arg(long, value_name = "TIME", default_value = "2s")]
    pub lease_retry: Span,
    /// This replica's name; by default POD_NAME, or the host's name.
    #[arg(long, value_name = "NAME", env = "POD_NAME")]
    pub replica: Option<String>,
    /// The variable that holds the webhooks' secret; a line for each secret while it is being changed.
    #[arg(long, value_name = "VARIABLE", default_value = "PITON_WEBHOOK_SECRET")]
    pub hook_secret: String,
    /// The kubeconfig file for the Lease and Events; by default what surrounds us, in a pod its service account.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// How long leaving may take before it is left to the next runner.
    #[arg(long, value_name = "TIME", default_value = "20s")]
    pub stop_within: Span,
}

/// A deploy repository to follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Follow {
    pub name: FollowName,
    pub address: String,
    pub branch: String,
}

/// What a followed repository is called: in paths, logs and metrics.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FollowName(String);

/// A Kubernetes Lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseName {
    pub namespace: String,
    pub name: String,
}

const NAME_LENGTH_MAX: usize = 40;
const BRANCH_DEFAULT: &str = "main";

impl FollowName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FollowName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Small letters, digits and `-`: it is part of a path, a label and an annotation.
fn is_name(text: &str) -> bool {
    let ok = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !text.is_empty() && text.len() <= NAME_LENGTH_MAX && text.chars().all(ok) && !text.starts_with('-')
}

impl FromStr for Follow {
    type Err = String;
    fn from_str(text: &str) -> Result<Follow, String> {
        let Some((name, rest)) = text.split_once('=').filter(|(name, _)| is_name(name)) else {
            return Err(format!(
                "{text:?} names no repository; write `NAME=ADDRESS`, the name in small letters, digits and `-`"
            ));
        };
        let (address, branch) = match rest.rsplit_once('#') {
            Some((address, branch)) => (address, branch),
            None => (rest, BRANCH_DEFAULT),
        };
        if address.is_empty() || address.starts_with('-') || branch.is_empty() || branch.starts_with('-') {
            return Err(format!("`{name}` has no usable address or branch; write `{name}=ADDRESS#BRANCH`"));
        }
        let name = FollowName(name.to_owned());
        Ok(Follow { name, address: address.to_owned(), branch: branch.to_owned() })
    }
}

impl FromStr for LeaseName {
    type Err = String;
    fn from_str(text: &str) -> Result<LeaseName, String> {
        match text.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
                Ok(LeaseName { namespace: namespace.to_owned(), name: name.to_owned() })
            }
            _ => Err(format!("{text:?} is no Lease; write `NAMESPACE/NAME`")),
        }
    }
}

impl fmt::Display for LeaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_and_leases_are_read_and_refused() {
        let follow: Follow = "hub=https://git.example/hub.git#release".parse().expect("it is right");
        assert_eq!((follow.name.as_str(), follow.branch.as_str()), ("hub", "release"));
        assert_eq!("hub=/srv/hub.git".parse::<Follow>().expect("it is right").branch, "main");
        for bad in ["https://git.example/x", "Hub=x", "=x", "hub=", "hub=--upload-pack=x", "hub=x#", "hub=x#-b"] {
            assert!(bad.parse::<Follow>().is_err(), "{bad} was taken");
        }
        assert_eq!("piton/leader".parse::<LeaseName>().expect("it is right").to_string(), "piton/leader");
        for bad in ["leader", "/leader", "a/b/c", "a/"] {
            assert!(bad.parse::<LeaseName>().is_err(), "{bad} was taken");
        }
    }
}
