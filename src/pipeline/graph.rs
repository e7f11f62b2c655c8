//! Things that wait for each other.

use std::{collections::BTreeSet, fmt::Display};

/// A circle in the graph, if there is one: each waits for the next, and the last for the first.
pub(super) fn circle<'a, N: Ord + Clone + 'a>(
    nodes: impl IntoIterator<Item = &'a N>,
    waits_for: impl Fn(&N) -> Vec<N>,
) -> Option<Vec<N>> {
    let mut sound = BTreeSet::new();
    for start in nodes {
        // The way from the start to here, each with what it still waits for.
        let mut way = vec![(start.clone(), waits_for(start))];
        while let Some((node, rest)) = way.last_mut() {
            let Some(next) = rest.pop() else {
                sound.insert(node.clone());
                way.pop();
                continue;
            };
            if let Some(at) = way.iter().position(|(n, _)| *n == next) {
                return Some(way.split_off(at).into_iter().map(|(n, _)| n).collect());
            }
            if !sound.contains(&next) {
                let rest = waits_for(&next);
                way.push((next, rest));
            }
        }
    }
    None
}

/// `a -> b -> a`.
pub(super) fn arrows<N: Display>(circle: &[N]) -> String {
    let names = circle.iter().chain(circle.first());
    names.map(|n| format!("`{n}`")).collect::<Vec<_>>().join(" -> ")
}

/// Each after those it waits for, and otherwise as they came. The graph must have no circle.
pub(super) fn in_order<T, N: PartialEq>(
    mut rest: Vec<T>,
    name: impl Fn(&T) -> &N,
    after: impl Fn(&T) -> &Vec<N>,
) -> Vec<T> {
    let mut sorted: Vec<T> = Vec::new();
    while !rest.is_empty() {
        let free = |item: &T| after(item).iter().all(|n| !rest.iter().any(|other| name(other) == n));
        let next = rest.iter().position(free).unwrap_or(0);
        sorted.push(rest.remove(next));
    }
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(text: &str) -> Vec<(String, Vec<String>)> {
        let item = |part: &str| {
            let mut words = part.split_whitespace().map(str::to_owned);
            (words.next().expect("a name"), words.collect())
        };
        text.split(',').map(item).collect()
    }

    fn circle_in(text: &str) -> Option<Vec<String>> {
        let graph = graph(text);
        let waits = |n: &String| graph.iter().find(|(m, _)| m == n).map_or(Vec::new(), |(_, after)| after.clone());
        circle(graph.iter().map(|(n, _)| n), waits)
    }

    #[test]
    fn circles_are_found_and_only_circles() {
        assert_eq!(circle_in("a, b a, c a b, d c"), None);
        assert_eq!(circle_in("a a"), Some(vec!["a".to_owned()]));
        assert_eq!(circle_in("x, a b, b c, c a").map(|c| arrows(&c)), Some("`a` -> `b` -> `c` -> `a`".to_owned()));
    }

    #[test]
    fn order_keeps_what_it_can() {
        let sorted = in_order(graph("d c, a, c a b, b"), |i| &i.0, |i| &i.1);
        assert_eq!(sorted.iter().map(|i| i.0.as_str()).collect::<Vec<_>>(), ["a", "b", "c", "d"]);
    }
}
