//! The distinct outcomes as a table for people: `tests/contract/decisions.txt`. `UPDATE_GOLDEN=1` writes it anew.

use planner::{Act, Decision, Side, State};

use crate::classes::{BOOTED, Class, DIMENSIONS, REQUESTED, facts, relevant, spec};
use crate::reachable::plain;
use crate::sample::decided;

const PATH: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../tests/contract/decisions.txt"
);

const HEAD: &str = "\
# What is decided: position, request, booted side and facts -> new position, valid next stages, act, text. One line per distinct
# outcome; written by the planner's tests (UPDATE_GOLDEN=1 cargo test -p planner --test decisions golden).
#
# requested   `-` = no stage; `Nap` stands for every word that is no stage.
# run         The latest run of this position's plan (`other-` = of another one). Failures by kind: Transient, Busy, Permanent,
#             Contradiction, Interrupted; `+` = the time until the next attempt is over.
#             `free` = none, cut-off, done, other-failed, T+, B+, I, I+: nothing is in the way of running the plan.
#             `idle` = all but runs and other-runs.
# booted      The booted side; `booted=unknown` among the facts = nobody knows the deployment.
# have        What Prep has reached; `wrong-content` = a seed of another version than asked for; `no-target` = less than target.
# facts       What is not named makes no difference. `all` in a column: no value of it does.
# act         `+5s` = looks again after that time even if nothing happens. A refusal is told once; the work of the position, which
#             is what the row with `Nap` says, goes on in the next pass.
# text        Of the condition that speaks for the position; `(kept)` = as it was. ERROR, PROGRESS: what a run says.
";

/// A point of the table: side, request and class, by index.
type Point = (usize, usize, Class);

const SIDES: [Side; 2] = [Side::Origin, Side::Target];

/// A line of the table: for every column the values that share the outcome, `None` = all.
#[derive(Clone, PartialEq)]
struct Line {
    columns: Vec<Option<Vec<usize>>>,
    outcome: Vec<String>,
}

/// The columns that are split, in this order; the first two are request and side.
fn axes(state: State) -> Vec<Axis> {
    let mut axes = vec![Axis::Dimension(BOOTED), Axis::Requested, Axis::Side];
    for side in SIDES {
        for dimension in relevant(state, side) {
            let axis = Axis::Dimension(*dimension);
            if !axes.contains(&axis) {
                axes.push(axis);
            }
        }
    }
    axes
}

#[derive(Clone, Copy, PartialEq)]
enum Axis {
    Requested,
    Side,
    Dimension(usize),
}

impl Axis {
    fn values(self) -> usize {
        match self {
            Axis::Requested => REQUESTED.len(),
            Axis::Side => SIDES.len(),
            Axis::Dimension(at) => DIMENSIONS[at].values.len(),
        }
    }

    fn set(self, point: &mut Point, value: usize) {
        match self {
            Axis::Side => point.0 = value,
            Axis::Requested => point.1 = value,
            Axis::Dimension(at) => point.2[at] = value,
        }
    }

    fn word(self, value: usize) -> &'static str {
        match self {
            Axis::Side => ["origin", "target"][value],
            Axis::Requested => REQUESTED[value].unwrap_or("-"),
            Axis::Dimension(at) => DIMENSIONS[at].values[value],
        }
    }
}

/// Splits along the axes and merges values that lead to the same lines.
fn lines(axes: &[Axis], point: Point, outcome: &dyn Fn(&Point) -> Vec<String>) -> Vec<Line> {
    let Some((axis, rest)) = axes.split_first() else {
        return vec![Line {
            columns: Vec::new(),
            outcome: outcome(&point),
        }];
    };
    let mut groups: Vec<(Vec<usize>, Vec<Line>)> = Vec::new();
    for value in 0..axis.values() {
        let mut point = point;
        axis.set(&mut point, value);
        let below = lines(rest, point, outcome);
        match groups.iter_mut().find(|(_, known)| *known == below) {
            Some((values, _)) => values.push(value),
            None => groups.push((vec![value], below)),
        }
    }
    let whole = groups.len() == 1;
    let mut all = Vec::new();
    for (values, below) in groups {
        for line in below {
            let own = if whole { None } else { Some(values.clone()) };
            let mut columns = vec![own];
            columns.extend(line.columns);
            all.push(Line {
                columns,
                outcome: line.outcome,
            });
        }
    }
    all
}

fn outcome(state: State, decision: &Decision, spoken: &str) -> Vec<String> {
    let new = if decision.state == state {
        "=".to_owned()
    } else {
        decision.state.to_string()
    };
    let mut next: Vec<&str> = decision.valid_next.iter().map(|s| s.as_str()).collect();
    if next.is_empty() {
        next.push("none");
    }
    let mut act = match &decision.act {
        Act::Nothing => "nothing".to_owned(),
        Act::Wait(why) => format!("wait({why:?})"),
        Act::Refuse(refusal) => format!("refuse({refusal:?})"),
        Act::Record => "record".to_owned(),
        Act::Run(plan) => format!("run({})", plan.name.as_str()),
    };
    // When a refusal has been told depends on the work that it interrupts; the row of that work says so.
    let refuses = matches!(decision.act, Act::Refuse(_));
    if let Some(seconds) = decision.look_again.filter(|_| !refuses) {
        act.push_str(&format!(" +{seconds}s"));
    }
    let text = match decision.act {
        Act::Refuse(refusal) => refusal.message().to_owned(),
        _ if decision.said.message == spoken && decision.state == state => "(kept)".to_owned(),
        _ => stem(&decision.said.message),
    };
    vec![new, next.join(","), act, text]
}

/// The beginning of a message, and its end where a run's words are.
fn stem(message: &str) -> String {
    const HEAD: usize = 44;
    const TAIL: usize = 32;
    let letters: Vec<char> = message.chars().collect();
    if letters.len() <= HEAD + TAIL + 3 {
        return message.to_owned();
    }
    let head: String = letters[..HEAD].iter().collect();
    let tail: String = letters[letters.len() - TAIL..].iter().collect();
    format!("{head}...{tail}")
}

/// Names for the lists of runs that come again and again.
fn abbreviated(words: &str) -> String {
    words
        .replace(
            "none|cut-off|done|other-failed|T|T+|B|B+|P|P+|C|C+|I|I+",
            "idle",
        )
        .replace(
            "none|cut-off|done|other-failed|T+|B+|P+|C+|I|I+",
            "free|P+|C+",
        )
        .replace("none|cut-off|done|other-failed|T+|B+|I|I+", "free")
        .replace("nothing|bad-label|pin|wrong-content|content", "no-target")
}

fn rows() -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for state in State::ALL {
        let status = plain(state);
        let spoken = format!("text of {state}");
        let specs = REQUESTED.map(spec);
        let axes = axes(state);
        let outcome = |point: &Point| {
            let (side, requested, class) = *point;
            let facts = facts(state, SIDES[side], &class);
            let decision = decided(&specs[requested], &status.conditions, &facts);
            outcome(state, &decision, &spoken)
        };
        for line in lines(&axes, (0, 0, [0; DIMENSIONS.len()]), &outcome) {
            let words = |wanted: &dyn Fn(Axis) -> bool, whole: &str| {
                let mut found = Vec::new();
                for (axis, values) in axes.iter().zip(&line.columns) {
                    let Some(values) = values.as_ref().filter(|_| wanted(*axis)) else {
                        continue;
                    };
                    if (*axis, values.as_slice()) == (Axis::Dimension(BOOTED), &[0]) {
                        continue;
                    }
                    let words: Vec<&str> = values.iter().map(|at| axis.word(*at)).collect();
                    let words = abbreviated(&words.join("|"));
                    let name = match axis {
                        Axis::Dimension(at) => format!("{}=", DIMENSIONS[*at].name),
                        _ => String::new(),
                    };
                    found.push(format!("{name}{words}"));
                }
                if found.is_empty() {
                    found.push(whole.to_owned());
                }
                found.join(" ")
            };
            let mut row = vec![
                state.to_string(),
                words(&|axis| axis == Axis::Requested, "all"),
                words(&|axis| axis == Axis::Side, "all"),
                words(&|axis| matches!(axis, Axis::Dimension(_)), "-"),
                "->".to_owned(),
            ];
            row.extend(line.outcome);
            rows.push(row);
        }
    }
    rows
}

fn table() -> String {
    let heads = [
        "position",
        "requested",
        "booted",
        "facts",
        "->",
        "new",
        "validNextStages",
        "act",
        "text",
    ];
    let mut rows = rows();
    rows.insert(0, heads.map(str::to_owned).to_vec());
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let mut text = HEAD.to_owned();
    let mut position = String::new();
    for row in &rows {
        if position != row[0] {
            text.push('\n');
            position.clone_from(&row[0]);
        }
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the golden file is this test's own"
)]
fn outcomes_equal_the_golden_table() {
    let table = table();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(PATH, &table).unwrap();
    }
    let golden = std::fs::read_to_string(PATH).unwrap_or_default();
    for (at, (found, expected)) in table.lines().zip(golden.lines()).enumerate() {
        let line = at + 1;
        assert_eq!(
            found, expected,
            "decisions.txt, line {line}; UPDATE_GOLDEN=1 writes it anew"
        );
    }
    assert_eq!(table.lines().count(), golden.lines().count());
}
