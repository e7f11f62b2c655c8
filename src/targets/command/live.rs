//! What a `live` command prints.

use std::collections::BTreeMap;

use crate::{
    model::{ComponentName, Share, TreeId, Version},
    targets::Live,
};

/// Reads its lines; the error is a sentence with the line.
pub fn parse(text: &str) -> Result<Live, String> {
    let mut live = Live::default();
    let mut members: BTreeMap<&str, TreeId> = BTreeMap::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let wrong = |why: String| format!("`live` printed a line that piton cannot read: {line:?}: {why}");
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim();
        match word {
            "fact" => {
                let (key, value) = rest.split_once('=').ok_or_else(|| wrong("a fact is KEY=VALUE".to_owned()))?;
                live.facts.insert(key.trim().to_owned(), value.trim().to_owned());
            }
            "version" => {
                let (name, version) = two(rest).ok_or_else(|| wrong("NAME VERSION is expected".to_owned()))?;
                let name = ComponentName::new(name).map_err(|error| wrong(error.to_string()))?;
                live.versions.insert(name, Version::new(version).map_err(|error| wrong(error.to_string()))?);
            }
            "member" => {
                let (name, tree) = two(rest).ok_or_else(|| wrong("NAME TREE is expected".to_owned()))?;
                members.insert(name, TreeId::new(tree).map_err(|error| wrong(error.to_string()))?);
            }
            tree => {
                let tree = TreeId::new(tree).map_err(|error| wrong(error.to_string()))?;
                let share: Share = rest.parse().map_err(|error| wrong(format!("{error}")))?;
                live.releases.insert(tree, share.hundredths());
            }
        }
    }
    if live.releases.is_empty() {
        live.releases = shares_of(members.values());
    }
    Ok(live)
}

fn two(text: &str) -> Option<(&str, &str)> {
    let (first, second) = text.split_once(char::is_whitespace)?;
    Some((first, second.trim()))
}

/// Each member counts the same.
pub fn shares_of<'a>(members: impl ExactSizeIterator<Item = &'a TreeId>) -> BTreeMap<TreeId, u16> {
    let all = u32::try_from(members.len()).unwrap_or(u32::MAX).max(1);
    let mut counts: BTreeMap<TreeId, u32> = BTreeMap::new();
    for tree in members {
        *counts.entry(tree.clone()).or_default() += 1;
    }
    let share = |count: u32| u16::try_from(10_000 * count / all).unwrap_or(10_000);
    counts.into_iter().map(|(tree, count)| (tree, share(count))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "1111111111111111111111111111111111111111";
    const TWO: &str = "2222222222222222222222222222222222222222";

    #[test]
    fn lines_are_releases_facts_and_versions() {
        let text = format!("{ONE} 90%\n\n{TWO}  10% \nfact url = https://hub.example/?a=b\nversion hub 4.1.0 beta\n");
        let live = parse(&text).expect("it reads");
        assert_eq!(live.releases.values().copied().collect::<Vec<_>>(), [9_000, 1_000]);
        assert_eq!(live.facts["url"], "https://hub.example/?a=b");
        assert_eq!(live.versions.values().next().expect("one").as_str(), "4.1.0 beta");
    }

    #[test]
    fn members_make_shares() {
        let text = format!("member a {ONE}\nmember b {ONE}\nmember c {ONE}\nmember d {TWO}\n");
        let live = parse(&text).expect("it reads");
        assert_eq!(live.releases.values().copied().collect::<Vec<_>>(), [7_500, 2_500]);
    }

    #[test]
    fn other_lines_are_refused_with_the_line() {
        for line in ["hello world", &format!("{ONE} ten"), "fact nothing", "member a", "version x", ONE] {
            let why = parse(line).expect_err(line);
            assert!(why.contains(&format!("{line:?}")), "{why}");
        }
        assert!(parse("").expect("nothing is live").releases.is_empty());
    }
}
