use super::{PlanError, Trees};
use crate::{
    edit::{self, Selected},
    model::TreeId,
    pipeline::{Bound, Invariant, Taken},
};

/// Refuses a tree in which one of these does not hold, or cannot be seen to hold.
pub(super) fn check(invariants: &[Invariant], trees: &dyn Trees, tree: &TreeId) -> Result<(), PlanError> {
    invariants.iter().try_for_each(|invariant| check_one(invariant, trees, tree))
}

fn check_one(invariant: &Invariant, trees: &dyn Trees, tree: &TreeId) -> Result<(), PlanError> {
    let Invariant { name, file, path, .. } = invariant;
    let bytes = trees.read(tree, file)?;
    let broken = |why: String| PlanError::Invariant { invariant: name.clone(), why, tree: tree.clone() };
    let bytes = bytes.ok_or_else(|| broken(format!("there is no file {file}")))?;
    let unreadable = |source| PlanError::InvariantUnread { invariant: name.clone(), source };
    let values = edit::select(&bytes, file, path).map_err(unreadable)?;
    if values.is_empty() {
        return Err(broken(format!("`{path}` in {file} leads to no value")));
    }
    let values: Vec<(String, f64)> =
        values.into_iter().map(|value| number(value, invariant)).collect::<Result<_, _>>().map_err(broken)?;
    match invariant.bounds.iter().find_map(|(taken, bound)| against(*taken, *bound, &values, invariant)) {
        Some(why) => Err(broken(why)),
        None => Ok(()),
    }
}

fn number(value: Selected, invariant: &Invariant) -> Result<(String, f64), String> {
    let Selected { path, text } = value;
    let number = match text.as_deref() {
        None => invariant.absent.ok_or_else(|| format!("`{path}` in {} has no value", invariant.file))?,
        Some("true") => 1.0,
        Some("false") => 0.0,
        Some(text) => text
            .parse()
            .ok()
            .filter(|number: &f64| number.is_finite())
            .ok_or_else(|| format!("`{path}` in {} is {text:?}, which is no number", invariant.file))?,
    };
    Ok((path, number))
}

/// Why the values do not keep the bound.
fn against(taken: Taken, bound: Bound, values: &[(String, f64)], invariant: &Invariant) -> Option<String> {
    let numbers = || values.iter().map(|(_, number)| *number);
    let whole = |what: &str, number: f64| {
        let each: Vec<String> = values.iter().map(|(path, number)| format!("`{path}` {number}")).collect();
        let (path, file, each) = (&invariant.path, &invariant.file, each.join(", "));
        (!keeps(bound, number))
            .then(|| format!("{what} `{path}` in {file} is {number} ({each}), and must be {}", said(bound)))
    };
    match taken {
        Taken::All => values
            .iter()
            .find(|(_, number)| !keeps(bound, *number))
            .map(|(path, number)| format!("`{path}` in {} is {number}, and must be {}", invariant.file, said(bound))),
        Taken::Sum => whole("the sum of", numbers().sum()),
        Taken::Min => whole("the least of", numbers().fold(f64::INFINITY, f64::min)),
        Taken::Max => whole("the greatest of", numbers().fold(f64::NEG_INFINITY, f64::max)),
    }
}

fn keeps(bound: Bound, number: f64) -> bool {
    // A sum of decimal fractions is off in its last digits.
    let same = |a: f64, b: f64| (a - b).abs() <= f64::EPSILON * 16.0 * a.abs().max(b.abs());
    match bound {
        Bound::Above(limit) => number > limit && !same(number, limit),
        Bound::Below(limit) => number < limit && !same(number, limit),
        Bound::AtLeast(limit) => number > limit || same(number, limit),
        Bound::AtMost(limit) => number < limit || same(number, limit),
        Bound::Is(wanted) => same(number, wanted),
        Bound::IsNot(unwanted) => !same(number, unwanted),
    }
}

fn said(bound: Bound) -> String {
    match bound {
        Bound::Above(limit) => format!("above {limit}"),
        Bound::Below(limit) => format!("below {limit}"),
        Bound::AtLeast(limit) => format!("at least {limit}"),
        Bound::AtMost(limit) => format!("at most {limit}"),
        Bound::Is(wanted) => format!("{wanted}"),
        Bound::IsNot(unwanted) => format!("anything but {unwanted}"),
    }
}
