//! The graph of the states, as the searches walked it.

use super::life::{Faults, Life};
use super::mutants::Mutant;
use super::search::explore;
use cutover::protocol::State;
use std::collections::BTreeMap;
use std::fmt::Write;

/// A state's name, a rerun told apart.
pub const fn node(state: State) -> &'static str {
    match state {
        State::Migrating { rerun: true } => "Rerunning",
        other => other.name(),
    }
}

#[test]
fn the_graph_of_the_states_is_the_one_that_is_committed() {
    let mut arrows: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
    for faults in [Faults::PowerCuts, Faults::OldCopies] {
        let mut life = Life::<1>::new(faults, Mutant::Shipped);
        explore(&mut life, usize::MAX);
        for (from, to, step, wanted) in &life.met.edges {
            let labels = arrows.entry((node(*from), node(*to))).or_default();
            let label = format!("{wanted}: {step}");
            if !labels.contains(&label) {
                labels.push(label);
            }
        }
    }
    let mut text = String::from(
        "# The states, and the steps between them\n\n\
         As the model walked them, with one source; `Rerunning` is Migrating from the retired \
         stores.\nWritten by \
         `CUTOVER_PIN=1 cargo test --all-features --test model the_graph_of_the_states`.\n\n\
         ```mermaid\nstateDiagram-v2\n    [*] --> Fresh\n",
    );
    for ((from, to), labels) in &mut arrows {
        labels.sort();
        writeln!(text, "    {from} --> {to}: {}", labels.join("<br/>")).unwrap();
    }
    text.push_str("```\n");
    crate::common::pinned("docs/states.md", &text);
}
