//! The transition table as text for people, printed from the functions that decide.

use api::Stage;

use crate::check::CHECKS;
use crate::state::{Side, State};
use crate::transition::{Transition, transition, valid_next};

/// The checks of Prep and `plan`, in order: name, when it can be answered, what a failure and what ignorance means, and
/// what it reads. Ends with a line end.
pub fn explain_checks() -> String {
    let mut rows = vec![["check", "moment", "failed", "unknown", "reads"].map(str::to_owned)];
    rows.extend(CHECKS.iter().map(|check| {
        [
            check.name.to_owned(),
            check.moment.to_string(),
            check.failed.as_str().to_owned(),
            check.unknown.as_str().to_owned(),
            check.reads.to_owned(),
        ]
    }));
    let width = |column: usize| rows.iter().map(|row| row[column].len()).fold(0, usize::max);
    let widths = [width(0), width(1), width(2), width(3)];
    let mut text = String::new();
    for [name, moment, failed, unknown, reads] in &rows {
        let [a, b, c, d] = widths;
        text.push_str(&format!(
            "{name:a$}  {moment:b$}  {failed:c$}  {unknown:d$}  {reads}\n"
        ));
    }
    text
}

/// The transition table: for every position and booted side the stages that may be asked for, then what asking for each
/// stage leads to: `-> <position>`, `stays`, `tries again`, or why it is refused. One line per row, ends with a line end.
pub fn explain_stages() -> String {
    let rows: Vec<Row> = State::ALL.into_iter().flat_map(rows).collect();
    let heads = ["state", "booted", "validNextStages"];
    let width = |head: &str, column: fn(&Row) -> &str| {
        rows.iter()
            .map(|row| column(row).len())
            .fold(head.len(), usize::max)
    };
    let state = width(heads[0], |row| &row.state);
    let side = width(heads[1], |row| row.side);
    let next = width(heads[2], |row| &row.next);
    let mut text = format!(
        "{:state$}  {:side$}  {:next$}  requested stage and what follows\n",
        heads[0], heads[1], heads[2]
    );
    for row in &rows {
        let mut first = (row.state.as_str(), row.side, row.next.as_str());
        for line in &row.leads {
            let (a, b, c) = first;
            text.push_str(&format!("{a:state$}  {b:side$}  {c:next$}  {line}\n"));
            first = ("", "", "");
        }
    }
    text
}

/// A position, on one side or on both where the side makes no difference.
struct Row {
    state: String,
    side: &'static str,
    next: String,
    leads: Vec<String>,
}

fn rows(state: State) -> Vec<Row> {
    let row = |side: Side, name: &'static str| Row {
        state: state.to_string(),
        side: name,
        next: listed(valid_next(state, side)),
        leads: leads(state, side),
    };
    let (origin, target) = (row(Side::Origin, "origin"), row(Side::Target, "target"));
    if origin.next == target.next && origin.leads == target.leads {
        vec![Row {
            side: "either",
            ..origin
        }]
    } else {
        vec![origin, target]
    }
}

/// One line per outcome, with the stages that share it.
fn leads(state: State, side: Side) -> Vec<String> {
    let mut outcomes: Vec<(String, Vec<Stage>)> = Vec::new();
    for stage in Stage::ALL {
        let outcome = match transition(state, side, stage) {
            Transition::Stay if valid_next(state, side).contains(&stage) => {
                "tries again".to_owned()
            }
            Transition::Stay => "stays".to_owned(),
            Transition::Move(to) => format!("-> {to}"),
            Transition::Refuse(refusal) => format!("refused: {}", refusal.message()),
        };
        match outcomes.iter_mut().find(|(known, _)| *known == outcome) {
            Some((_, stages)) => stages.push(stage),
            None => outcomes.push((outcome, vec![stage])),
        }
    }
    outcomes
        .iter()
        .map(|(outcome, stages)| format!("{} {outcome}", listed(stages)))
        .collect()
}

fn listed(stages: &[Stage]) -> String {
    if stages.is_empty() {
        return "none".to_owned();
    }
    let words: Vec<&str> = stages.iter().map(|stage| stage.as_str()).collect();
    words.join(", ")
}
