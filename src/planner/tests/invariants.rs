use super::*;
use crate::pipeline::{Bound, Invariant, Taken};

/// A federation's weights, each a component, and the invariants that some member serves and that the prime one does.
fn federation(first: &str) -> Desk {
    let mut desk = Desk::empty();
    let weight = |of: &str| Component {
        place: Place {
            file: "prod.yaml".to_owned(),
            at: At::Path(format!("hosts.{of}.weight").parse().expect("a path")),
            part: Part::Whole,
        },
        order: Order::Opaque,
        within: None,
        restarts: None,
    };
    desk.pipeline.components = ["bids", "gesis"].map(|of| (name(of), weight(of))).into();
    let of_weights = |what: &str, path: &str, bounds: &[(Taken, Bound)]| Invariant {
        name: what.parse().expect("a name"),
        file: "prod.yaml".to_owned(),
        path: path.parse().expect("a path"),
        absent: None,
        bounds: bounds.to_vec(),
    };
    desk.environment.invariants = vec![
        of_weights(
            "somebody-serves",
            "hosts[*].weight",
            &[(Taken::All, Bound::AtLeast(0.0)), (Taken::Sum, Bound::Above(0.0))],
        ),
        of_weights("no-giant", "hosts[*].weight", &[(Taken::Max, Bound::AtMost(100.0))]),
    ];
    desk.commit(&[("prod.yaml", first)]);
    let plan = desk.next();
    desk.take(&plan);
    desk
}

fn weights(bids: &str, gesis: &str) -> String {
    format!("hosts:\n  bids: {{ weight: {bids} }}\n  gesis: {{ weight: {gesis} }}\n")
}

fn refused(desk: &Desk) -> String {
    plan(&desk.context(&[]), &desk.commits).expect_err("an invariant is broken").to_string()
}

#[test]
fn a_release_that_breaks_an_invariant_is_not_planned() {
    let both = "(`hosts.bids.weight` 0, `hosts.gesis.weight` 0)";
    let sum = format!("the sum of `hosts[*].weight` in prod.yaml is 0 {both}, and must be above 0");
    for (bids, gesis, why) in [
        ("0", "0", &*sum),
        ("-1", "50", "`hosts.bids.weight` in prod.yaml is -1, and must be at least 0"),
        ("much", "50", "`hosts.bids.weight` in prod.yaml is \"much\", which is no number"),
        ("50", "101", "the greatest of `hosts[*].weight` in prod.yaml is 101"),
    ] {
        let mut desk = federation(&weights("50", "50"));
        desk.environment.pace = Pace::Commit;
        desk.commit(&[("prod.yaml", &weights(bids, gesis))]);
        let said = refused(&desk);
        assert!(said.contains(why) && said.contains("breaks the invariant `"), "{said}");
        let jumped = jump(&desk.context(&[]), desk.commits.last().expect("a commit"));
        assert!(matches!(jumped, Err(PlanError::Invariant { .. })), "{jumped:?}");
    }
}

#[test]
fn a_host_without_a_weight_breaks_the_invariant_unless_it_counts_as_something() {
    let mut desk = federation(&weights("50", "50"));
    desk.commit(&[("prod.yaml", &format!("{}  new: {{ health: / }}\n", weights("50", "50")))]);
    assert!(refused(&desk).contains("`hosts.new.weight` in prod.yaml has no value"));
    desk.environment.invariants.iter_mut().for_each(|invariant| invariant.absent = Some(1.0));
    desk.next();
}

#[test]
fn a_later_commit_that_keeps_the_invariant_is_planned() {
    let mut desk = federation(&weights("50", "50"));
    desk.commit(&[("prod.yaml", &weights("0", "0"))]);
    refused(&desk);
    desk.commit(&[("prod.yaml", &weights("0", "30"))]);
    desk.steps();
    let live = desk.state.live.as_ref().expect("it is live");
    assert_eq!(desk.trees.text(&live.tree, "prod.yaml"), weights("0", "30"));
}

#[test]
fn what_only_half_a_commit_would_break_is_taken_whole() {
    let mut desk = federation(&weights("50", "0"));
    desk.commit(&[("prod.yaml", &weights("0", "50"))]);
    let plan = desk.next();
    assert_eq!(plan.bumps.len(), 2, "{plan:?}");
    assert!(plan.completes_source);
}

#[test]
fn a_pin_that_breaks_an_invariant_is_not_planned() {
    let mut desk = federation(&weights("50", "0"));
    let (component, reason) = (name("bids"), "away".to_owned());
    let pin = Pin { component, version: version("0"), reason, by: actor(), since: NOW, until: None };
    desk.state.pins.insert(name("bids"), pin);
    assert!(refused(&desk).contains("`somebody-serves`"));
}

#[test]
fn one_component_goes_back_only_where_the_invariants_hold() {
    let desk = federation(&weights("50", "0"));
    let back = without(&desk.context(&[]), &name("bids"), Some(&version("0")));
    assert!(matches!(back, Err(PlanError::Invariant { .. })), "{back:?}");
    assert!(without(&desk.context(&[]), &name("bids"), Some(&version("20"))).is_ok());
}
