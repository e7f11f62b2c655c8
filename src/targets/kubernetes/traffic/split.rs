//! A list of backends with weights, as most routers have it: what the canary gets in it, and how to give it another share.

use serde_json::{Map, Value};

use super::{Fault, Path};
use crate::model::Share;

/// The most that a weight may be off from the share that was asked for: one percent of the users.
const OFF_HUNDREDTHS_MAX: u64 = 100;

/// How one kind of route writes down who gets how much.
#[derive(Debug, Clone, PartialEq)]
pub struct Form {
    /// The text field that holds JSON, where the lists are in there and not in the object itself.
    pub embedded: Option<Path>,
    pub places: Places,
    /// The sum of our weights when nobody else is in the list.
    pub total: u64,
    /// All weights of a list must add up to `total`, those of others included.
    pub percent: bool,
}

/// Where the weights are.
#[derive(Debug, Clone, PartialEq)]
pub enum Places {
    Lists(Lists),
    /// The weights themselves; without the stable one, what is left of the total is stable's.
    Weights {
        canary: Path,
        stable: Option<Path>,
    },
}

#[derive(Debug, Clone, PartialEq)]
pub struct Lists {
    pub at: Vec<Path>,
    /// What an entry for the stable Service looks like, and one for the canary's.
    pub stable: Vec<Mark>,
    pub canary: Vec<Mark>,
    pub weight: Path,
    /// What a missing weight means, and what it means for an only entry.
    pub missing: u64,
    pub alone: u64,
    /// A list without any weight gives every entry the same.
    pub even: bool,
    /// The canary's entry is ours: it comes with the canary and goes with it.
    pub owned: bool,
}

/// A field by which an entry is known.
#[derive(Debug, Clone, PartialEq)]
pub struct Mark {
    pub at: Path,
    /// Any of these; the first is what is written.
    pub values: Vec<String>,
    /// The field may also be absent.
    pub or_missing: bool,
}

/// The weights at one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weighed {
    pub at: Path,
    pub stable: u64,
    pub canary: u64,
    /// What the others have.
    pub foreign: u64,
}

impl Mark {
    pub fn new(at: &str, values: impl IntoIterator<Item = String>) -> Mark {
        Mark { at: Path::of(at), values: values.into_iter().collect(), or_missing: false }
    }

    pub fn or_missing(self) -> Mark {
        Mark { or_missing: true, ..self }
    }

    fn holds(&self, entry: &Value) -> bool {
        match self.at.get(entry) {
            Some(Value::String(text)) => self.values.contains(text),
            Some(Value::Null) | None => self.or_missing,
            Some(_) => false,
        }
    }
}

impl Weighed {
    /// What the canary gets of our part, in hundredths of a percent.
    pub fn share(&self) -> Share {
        let ours = self.stable + self.canary;
        let hundredths = (self.canary * 10_000 + ours / 2).checked_div(ours).unwrap_or(0);
        Share::of_hundredths(u16::try_from(hundredths).unwrap_or(10_000)).unwrap_or(Share::WHOLE)
    }
}

/// Whether an entry with these marks is in the list.
pub fn is_among(list: &Value, marks: &[Mark]) -> bool {
    let entries = list.as_array().map(Vec::as_slice).unwrap_or_default();
    entries.iter().any(|entry| marks.iter().all(|mark| mark.holds(entry)))
}

/// Reads the weights in every place that the stable Service or the canary is in.
pub fn read(form: &Form, route: &Value) -> Result<Vec<Weighed>, Fault> {
    let root = open(form, route)?;
    match &form.places {
        Places::Lists(lists) => {
            let found: Result<Vec<Weighed>, Fault> =
                lists.found(&root)?.into_iter().map(|at| lists.weigh(&root, at)).collect();
            found
        }
        Places::Weights { canary, stable } => {
            let number = |path: &Path| weight(path.get(&root), path, 0);
            let canary_weight = number(canary)?;
            let rest = form.total.saturating_sub(canary_weight);
            let stable_weight = stable.as_ref().map_or(Ok(rest), number)?;
            Ok(vec![Weighed { at: canary.clone(), stable: stable_weight, canary: canary_weight, foreign: 0 }])
        }
    }
}

/// Gives the canary a share in every place; what others have, and the order, stay. Says what was written.
pub fn write(form: &Form, route: &mut Value, share: Share) -> Result<Vec<Weighed>, Fault> {
    let before = read(form, route)?;
    let mut root = open(form, route)?;
    let mut after = Vec::new();
    for weighed in before {
        let ours = match ours(form, &weighed) {
            // Somebody leads all users elsewhere: nobody is on the canary, and none is to be.
            Err(Fault::Weightless { .. }) if share == Share::NONE => 0,
            ours => ours?,
        };
        let canary = (ours * u64::from(share.hundredths())).div_ceil(10_000);
        let new = Weighed { canary, stable: ours - canary, ..weighed };
        fine_enough(&new, share)?;
        match &form.places {
            Places::Lists(lists) => lists.put(&mut root, &new)?,
            Places::Weights { canary, stable } => {
                put(&mut root, canary, new.canary)?;
                stable.as_ref().map_or(Ok(()), |stable| put(&mut root, stable, new.stable))?;
            }
        }
        after.push(new);
    }
    close(form, route, root);
    Ok(after)
}

/// Takes the canary out: its own entries are removed, and the stable one gets the weight that it had before.
pub fn clear(form: &Form, route: &mut Value, before: &Map<String, Value>) -> Result<(), Fault> {
    let there = write(form, route, Share::NONE)?;
    let mut root = open(form, route)?;
    if let Places::Lists(lists) = &form.places {
        for at in lists.found(&root)? {
            let entries = at.get_mut(&mut root).and_then(Value::as_array_mut);
            let Some(entries) = entries else { continue };
            let has_stable = entries.iter().any(|entry| lists.is_stable(entry));
            if lists.owned && has_stable {
                entries.retain(|entry| !lists.is_canary(entry));
            }
            // Where somebody leads all users elsewhere, they stay there.
            if there.iter().any(|weighed| weighed.at == at && weighed.stable == 0) {
                continue;
            }
            let before = before.get(&at.to_string());
            if before.and_then(Value::as_str) == Some(EVEN) {
                entries.iter_mut().for_each(|entry| lists.weight.remove(entry));
                continue;
            }
            for entry in entries.iter_mut().filter(|entry| lists.is_stable(entry)) {
                match before {
                    Some(Value::Null) => lists.weight.remove(entry),
                    Some(weight) => drop(lists.weight.set(entry, weight.clone())),
                    None => {}
                }
            }
        }
    }
    close(form, route, root);
    Ok(())
}

/// In the memory of a place: its entries had no weights, and all got the same.
const EVEN: &str = "even";

/// The stable entries' weights as they are written, by place: what `clear` needs later.
pub fn remember(form: &Form, route: &Value) -> Result<Map<String, Value>, Fault> {
    let root = open(form, route)?;
    let Places::Lists(lists) = &form.places else { return Ok(Map::new()) };
    let written = |at: &Path| {
        let entries = at.get(&root).and_then(Value::as_array)?;
        let stable = entries.iter().find(|entry| lists.is_stable(entry))?;
        if lists.is_even(entries) {
            return Some(Value::from(EVEN));
        }
        Some(lists.weight.get(stable).cloned().unwrap_or(Value::Null))
    };
    Ok(lists.found(&root)?.iter().filter_map(|at| Some((at.to_string(), written(at)?))).collect())
}

/// The sum that stable and canary share at one place.
fn ours(form: &Form, weighed: &Weighed) -> Result<u64, Fault> {
    let sum = match (form.percent, weighed.foreign) {
        (true, foreign) => form.total.saturating_sub(foreign),
        (false, 0) => form.total,
        // Another total would change what the others get.
        (false, _) => weighed.stable + weighed.canary,
    };
    if sum == 0 { Err(Fault::Weightless { at: weighed.at.clone() }) } else { Ok(sum) }
}

/// A weight is a whole number; where the sum is small, it may be far from the share.
fn fine_enough(new: &Weighed, share: Share) -> Result<(), Fault> {
    let off = u64::from(new.share().hundredths().abs_diff(share.hundredths()));
    if off <= OFF_HUNDREDTHS_MAX {
        return Ok(());
    }
    Err(Fault::Coarse { at: new.at.clone(), share, nearest: new.share(), sum: new.stable + new.canary })
}

impl Form {
    /// Whether an entry of a list is the stable Service.
    pub fn is_stable(&self, entry: &Value) -> bool {
        match &self.places {
            Places::Lists(lists) => lists.is_stable(entry),
            Places::Weights { .. } => false,
        }
    }

    /// The lists that one of our backends is in.
    pub fn lists_in(&self, route: &Value) -> Vec<Path> {
        match &self.places {
            Places::Lists(lists) => lists.found(route).unwrap_or_default(),
            Places::Weights { .. } => Vec::new(),
        }
    }
}

impl Lists {
    fn is_stable(&self, entry: &Value) -> bool {
        self.stable.iter().all(|mark| mark.holds(entry))
    }

    fn is_canary(&self, entry: &Value) -> bool {
        self.canary.iter().all(|mark| mark.holds(entry))
    }

    /// Whether no entry has a weight, in a list where all of them get the same then.
    fn is_even(&self, entries: &[Value]) -> bool {
        let weightless = |entry: &Value| self.weight.get(entry).is_none_or(|weight| weight.is_null() || weight == 0);
        self.even && entries.len() > 1 && entries.iter().all(weightless)
    }

    /// The lists with one of our two backends in them.
    fn found(&self, root: &Value) -> Result<Vec<Path>, Fault> {
        let ours = |at: &Path| {
            let entries = at.get(root).and_then(Value::as_array);
            entries.is_some_and(|entries| entries.iter().any(|entry| self.is_stable(entry) || self.is_canary(entry)))
        };
        let all: Vec<Path> = self.at.iter().flat_map(|at| at.places(root)).collect();
        let found: Vec<Path> = all.iter().filter(|at| ours(at)).cloned().collect();
        if !found.is_empty() {
            return Ok(found);
        }
        let wanted = self.stable.first().and_then(|mark| mark.values.first()).cloned().unwrap_or_default();
        let name = self.stable.first().map(|mark| &mark.at);
        let names = all.iter().filter_map(|at| at.get(root).and_then(Value::as_array)).flatten();
        let others = names.filter_map(|entry| name?.get(entry)?.as_str().map(str::to_owned)).collect();
        Err(Fault::NoStable { wanted, others, places: self.at.clone() })
    }

    fn weigh(&self, root: &Value, at: Path) -> Result<Weighed, Fault> {
        let entries = at.get(root).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let missing = if entries.len() == 1 { self.alone } else { self.missing };
        // Fine enough to be shared between stable and canary.
        let each = self.is_even(entries).then_some(self.alone);
        let mut weighed = Weighed { at: at.clone(), stable: 0, canary: 0, foreign: 0 };
        for entry in entries {
            let weight = each.map_or_else(|| weight(self.weight.get(entry), &at, missing), Ok)?;
            match (self.is_canary(entry), self.is_stable(entry)) {
                (true, _) => weighed.canary += weight,
                (false, true) => weighed.stable += weight,
                (false, false) => weighed.foreign += weight,
            }
        }
        Ok(weighed)
    }

    fn put(&self, root: &mut Value, new: &Weighed) -> Result<(), Fault> {
        let missing = || Fault::NoPlace { at: new.at.clone() };
        let entries = new.at.get_mut(root).and_then(Value::as_array_mut).ok_or_else(missing)?;
        // The first weight in such a list would leave the others with none.
        if self.is_even(entries) {
            for entry in entries.iter_mut() {
                self.weight.set(entry, self.alone.into());
            }
        }
        let stable = entries.iter().position(|entry| self.is_stable(entry));
        if !entries.iter().any(|entry| self.is_canary(entry)) && new.canary > 0 {
            let stable = stable.ok_or_else(missing)?;
            let mut canary = entries[stable].clone();
            for mark in self.canary.iter().filter(|mark| !mark.holds(&entries[stable])) {
                mark.at.set(&mut canary, Value::from(mark.values.first().cloned()));
            }
            entries.insert(stable + 1, canary);
        }
        // Two entries for one Service share its weight: the first carries it.
        let (mut stable_left, mut canary_left) = (new.stable, new.canary);
        for entry in entries {
            let part = match (self.is_canary(entry), self.is_stable(entry)) {
                (true, _) => std::mem::take(&mut canary_left),
                (false, true) => std::mem::take(&mut stable_left),
                (false, false) => continue,
            };
            self.weight.set(entry, part.into());
        }
        Ok(())
    }
}

fn put(root: &mut Value, at: &Path, weight: u64) -> Result<(), Fault> {
    if at.set(root, weight.into()) { Ok(()) } else { Err(Fault::NoPlace { at: at.clone() }) }
}

fn weight(found: Option<&Value>, at: &Path, missing: u64) -> Result<u64, Fault> {
    match found {
        None | Some(Value::Null) => Ok(missing),
        Some(value) => value.as_u64().ok_or_else(|| Fault::NotAWeight { at: at.clone(), found: value.to_string() }),
    }
}

/// What the places are looked for in.
fn open(form: &Form, route: &Value) -> Result<Value, Fault> {
    let Some(embedded) = &form.embedded else { return Ok(route.clone()) };
    let missing = || Fault::NoPlace { at: embedded.clone() };
    let text = embedded.get(route).and_then(Value::as_str).ok_or_else(missing)?;
    serde_json::from_str(text).map_err(|error| Fault::NotJson { at: embedded.clone(), why: error.to_string() })
}

fn close(form: &Form, route: &mut Value, root: Value) {
    match &form.embedded {
        Some(embedded) => drop(embedded.set(route, Value::from(root.to_string()))),
        None => *route = root,
    }
}
