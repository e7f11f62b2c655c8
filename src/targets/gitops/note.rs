//! The message of a deploy's commit: for people who read the branch, and for the next runner.

use crate::{
    model::{EnvironmentName, Release},
    targets::Head,
};

const ENVIRONMENT: &str = "Piton-Environment";
const TREE: &str = "Piton-Tree";
const SOURCE: &str = "Piton-Source";
const FENCE: &str = "Piton-Fence";

/// What a commit's message says of whoever pushed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pusher {
    pub environment: String,
    pub fence: u64,
}

/// The message for a release.
pub fn write(environment: &EnvironmentName, release: &Release, back: bool, fence: u64) -> String {
    let what = if back { "back to release" } else { "release" };
    let mut text = format!("{environment}: {what} {}\n\n", release.tree.short());
    for (component, version) in &release.versions {
        text.push_str(&format!("{component} {version}\n"));
    }
    if !release.versions.is_empty() {
        text.push('\n');
    }
    let trailers = [(ENVIRONMENT, environment.to_string()), (TREE, release.tree.to_string())];
    let more = [(SOURCE, release.source.to_string()), (FENCE, fence.to_string())];
    trailers.iter().chain(&more).for_each(|(name, value)| text.push_str(&format!("{name}: {value}\n")));
    text
}

/// Who pushed a commit; `None`: not piton. Only the message's last paragraph counts, as in git.
pub fn read(message: &str) -> Option<Pusher> {
    let last = message.trim_end().rsplit("\n\n").next()?;
    let value = |name: &str| last.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    Some(Pusher { environment: value(ENVIRONMENT)?.to_owned(), fence: value(FENCE)?.parse().ok()? })
}

/// A commit in a few words: its beginning, its subject, its author.
pub fn short(head: &Head) -> String {
    let subject = head.message.lines().next().unwrap_or_default();
    format!("{} ({subject:?} by {})", head.commit.short(), head.author)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_trailers_of_the_last_paragraph_count() {
        let text = "prod: release\n\nhub 4\n\nPiton-Environment: prod\nPiton-Tree: x\nPiton-Fence: 12\n";
        assert_eq!(read(text), Some(Pusher { environment: "prod".to_owned(), fence: 12 }));
        assert_eq!(read("Piton-Environment: prod\nPiton-Fence: 12\n\nno: trailers\n"), None);
        assert_eq!(read("fix: something"), None);
    }
}
