//! Where a run is, as one line of text and found again in it.

use std::fmt;

use engine::{Progress, RunView, Unit};

/// Most characters of an object's name that are told; images and layers are known by their end.
const OBJECT_LIMIT: usize = 96;
/// Most characters of an earlier error that are told beside what goes on; the journal has all of it.
const ERROR_LIMIT: usize = 200;
/// Digits of a digest that are told.
const DIGEST_DIGITS: usize = 12;
/// What stands before the error of an earlier attempt.
const AFTER: &str = "; after an error: ";
/// One of what bytes are told in.
const MIB: u64 = 1 << 20;

/// Where a run is, in one line:
/// `step import-commit (2 of 8): 118 of 611 MiB, 85 MiB/s, 6 s left (sha256:0123456789ab)`. Empty between steps.
pub fn describe(view: &RunView) -> String {
    Place::of(view).map_or_else(String::new, |place| place.to_string())
}

/// Where a run is: the end of an in-progress condition's message, for programs that show it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Place {
    /// The step's name.
    pub step: String,
    /// The step's number, from 1.
    pub number: usize,
    /// How many steps the plan has.
    pub steps: usize,
    /// How far the step is, where it tells.
    pub amount: Option<Amount>,
    /// Rate and remaining time, `85 MiB/s, 6 s left`; empty while not known.
    pub pace: String,
    /// What is worked on; empty where there is nothing to name.
    pub object: String,
    /// Why an earlier attempt failed, until the step that failed is done; else empty.
    pub error: String,
}

/// How far a step is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Amount {
    /// Units done.
    pub done: u64,
    /// Units altogether, where known.
    pub total: Option<u64>,
    /// ` MiB`, or empty for things that are counted.
    pub unit: String,
}

impl Place {
    /// The place of a run that is carried out; `None` between its steps.
    pub fn of(view: &RunView) -> Option<Self> {
        let at = view.current?;
        let step = view.steps.get(at)?;
        let progress = view.progress.as_ref();
        let error = view.last_error.as_ref();
        Some(Self {
            step: step.name.clone(),
            number: at + 1,
            steps: view.steps.len(),
            amount: progress.map(Amount::of),
            pace: progress.map_or_else(String::new, |progress| {
                let left = view.pace.left(progress.total);
                pace(progress.unit, view.pace.rate(), left)
            }),
            object: progress.map_or_else(String::new, |progress| object(&progress.object)),
            error: error.map_or_else(String::new, |last| beginning(&last.error, ERROR_LIMIT)),
        })
    }

    /// Finds the place that a message ends in, and what stands before it.
    pub fn find(message: &str) -> Option<(&str, Place)> {
        // What stands before may have the word too.
        message.match_indices("step ").find_map(|(at, _)| {
            let (before, text) = message.split_at_checked(at)?;
            Some((before.trim_end_matches([' ', '.']), Self::parse(text)?))
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let (step, rest) = text.strip_prefix("step ")?.split_once(" (")?;
        let (count, rest) = rest.split_once(')')?;
        let (number, steps) = count.split_once(" of ")?;
        let (rest, error) = rest.split_once(AFTER).unwrap_or((rest, ""));
        let mut place = Self {
            step: step.to_owned(),
            number: number.parse().ok()?,
            steps: steps.parse().ok()?,
            error: error.to_owned(),
            ..Self::default()
        };
        if rest.is_empty() {
            return Some(place);
        }
        let rest = rest.strip_prefix(": ")?;
        let (figures, object) = match rest.split_once(" (") {
            Some((figures, object)) => (figures, object.strip_suffix(')')?),
            None => (rest, ""),
        };
        let (amount, pace) = figures.split_once(", ").unwrap_or((figures, ""));
        place.amount = Some(Amount::parse(amount)?);
        place.pace = pace.to_owned();
        place.object = object.to_owned();
        Some(place)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "step {} ({} of {})", self.step, self.number, self.steps)?;
        if let Some(amount) = &self.amount {
            write!(f, ": {amount}")?;
            if !self.pace.is_empty() {
                write!(f, ", {}", self.pace)?;
            }
            if !self.object.is_empty() {
                write!(f, " ({})", self.object)?;
            }
        }
        if !self.error.is_empty() {
            write!(f, "{AFTER}{}", self.error)?;
        }
        Ok(())
    }
}

impl Amount {
    /// How far a step is, bytes as whole MiB.
    pub fn of(progress: &Progress) -> Self {
        let (scale, unit) = match progress.unit {
            Unit::Bytes => (MIB, " MiB"),
            Unit::Items => (1, ""),
        };
        Self {
            done: progress.done / scale,
            total: progress.total.map(|total| total / scale),
            unit: unit.to_owned(),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let (text, unit) = match text.strip_suffix(" MiB") {
            Some(number) => (number, " MiB"),
            None => (text, ""),
        };
        let (done, total) = match text.split_once(" of ") {
            Some((done, total)) => (done, Some(total.parse().ok()?)),
            None => (text, None),
        };
        Some(Self {
            done: done.parse().ok()?,
            total,
            unit: unit.to_owned(),
        })
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.total {
            Some(total) => write!(f, "{} of {total}{}", self.done, self.unit),
            None => write!(f, "{}{}", self.done, self.unit),
        }
    }
}

/// `85 MiB/s, 6 s left`, as far as it is known. The rate is in thousandths.
pub(crate) fn pace(unit: Unit, per_second: Option<u64>, left: Option<u64>) -> String {
    let rate = per_second.and_then(|thousandths| rate(unit, thousandths));
    let left = left.map(|left| format!("{} left", duration(left)));
    let known: Vec<String> = rate.into_iter().chain(left).collect();
    known.join(", ")
}

/// A rate of so many thousandths a second; `None` for one that rounds to nothing.
fn rate(unit: Unit, thousandths: u64) -> Option<String> {
    let whole = thousandths / 1000;
    match unit {
        Unit::Bytes if whole >= MIB => Some(format!("{} MiB/s", whole / MIB)),
        Unit::Bytes if whole >= 1 << 10 => Some(format!("{} KiB/s", whole >> 10)),
        Unit::Items if whole >= 1 => Some(format!("{whole}/s")),
        Unit::Items if thousandths >= 17 => Some(format!("{}/min", thousandths * 60 / 1000)),
        Unit::Bytes | Unit::Items => None,
    }
}

/// A time to wait, no more exact than it can be known.
fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds.div_ceil(60)),
        _ => {
            let minutes = seconds.div_ceil(60);
            format!("{} h {} min", minutes / 60, minutes % 60)
        }
    }
}

/// An object's name on one line and of bounded length: digests shortened, then the beginning cut off.
pub(crate) fn object(name: &str) -> String {
    let mut short = String::new();
    let mut rest = name;
    while let Some(at) = rest.find("sha256:") {
        let digits = rest.split_at(at + "sha256:".len());
        short.push_str(digits.0);
        let end = digits.1.find(|c: char| !c.is_ascii_hexdigit());
        let (digest, behind) = digits.1.split_at(end.unwrap_or(digits.1.len()));
        short.extend(digest.chars().take(DIGEST_DIGITS));
        rest = behind;
    }
    short.push_str(rest);
    let clean: Vec<char> = short
        .chars()
        .map(|c| match c {
            c if c.is_control() => ' ',
            // Ends the name where it is told.
            ';' => ',',
            c => c,
        })
        .collect();
    match clean.len().checked_sub(OBJECT_LIMIT) {
        None | Some(0) => clean.into_iter().collect(),
        Some(over) => "..."
            .chars()
            .chain(clean.into_iter().skip(over + 3))
            .collect(),
    }
}

/// The beginning of a text, on one line.
pub fn beginning(text: &str, limit: usize) -> String {
    let line = text.replace(char::is_control, " ");
    if line.chars().count() <= limit {
        return line;
    }
    line.chars()
        .take(limit.saturating_sub(3))
        .chain("...".chars())
        .collect()
}

#[cfg(test)]
mod tests {
    use engine::{Event, RunId, StepRef};

    use super::*;

    fn amount(done: u64, total: Option<u64>, unit: &str) -> Option<Amount> {
        let unit = unit.to_owned();
        Some(Amount { done, total, unit })
    }

    #[test]
    fn a_place_is_found_again_in_the_message_that_it_ends() {
        let plain = Place {
            step: "unpack-var".to_owned(),
            number: 5,
            steps: 8,
            ..Place::default()
        };
        let text = ToOwned::to_owned;
        let places = [
            plain.clone(),
            Place {
                amount: amount(118, Some(611), " MiB"),
                ..plain.clone()
            },
            Place {
                amount: amount(118, None, " MiB"),
                object: text("layer (2 of 3) step x (1 of 2)"),
                ..plain.clone()
            },
            Place {
                amount: amount(3, Some(9), ""),
                pace: text("4/min, 2 h 5 min left"),
                error: text("connecting: refused (step 1)"),
                ..plain.clone()
            },
            Place {
                amount: amount(3, Some(9), " MiB"),
                pace: text("85 MiB/s"),
                object: text("sha256:0123456789ab"),
                error: text("reset"),
                ..plain.clone()
            },
            Place {
                error: text("no space left"),
                ..plain
            },
        ];
        for place in places {
            for before in ["", "Stateroot setup job in progress", "one step back (x"] {
                let message = format!("{before}. {place}");
                let found = Place::find(&message);
                assert_eq!(found, Some((before, place.clone())), "{message}");
            }
        }
        for message in ["", "In progress", "step by step", "step x (1 of 2): soon"] {
            assert_eq!(Place::find(message), None, "{message}");
        }
    }

    fn view(events: &[(u64, Progress)]) -> RunView {
        let mut view = RunView::default();
        let run: RunId = "r1".parse().unwrap();
        let steps = vec!["fetch-seed".to_owned()];
        let plan = "fetch-seed".to_owned();
        let step = StepRef {
            index: 0,
            name: "fetch-seed".to_owned(),
        };
        view.apply(&Event::RunStarted {
            run,
            plan,
            steps,
            at: 1,
        });
        view.apply(&Event::StepStarted {
            step: step.clone(),
            at: 1,
        });
        for (second, progress) in events {
            let event = Event::StepProgress {
                step: step.clone(),
                progress: progress.clone(),
            };
            view.apply_at(&event, *second);
        }
        view
    }

    fn check(unit: Unit, total: Option<u64>, seen: &[(u64, u64)], object: &str, expect: &str) {
        let events: Vec<_> = seen
            .iter()
            .map(|(second, done)| {
                let progress = Progress {
                    done: *done,
                    total,
                    unit,
                    object: object.to_owned(),
                };
                (*second, progress)
            })
            .collect();
        let text = describe(&view(&events));
        assert_eq!(text.strip_prefix("step fetch-seed (1 of 1)"), Some(expect));
        let (_, place) = Place::find(&text).unwrap();
        assert_eq!(place.to_string(), text);
    }

    #[test]
    fn a_step_tells_as_much_as_is_known() {
        let (bytes, items) = (Unit::Bytes, Unit::Items);
        let layer = format!("layer sha256:{}", "ab12".repeat(16));
        check(bytes, None, &[], "", "");
        check(bytes, Some(1830 * MIB), &[(7, 0)], "", ": 0 of 1830 MiB");
        check(
            bytes,
            Some(1830 * MIB),
            &[(0, 0), (3, 255 * MIB), (6, 510 * MIB)],
            &layer,
            ": 510 of 1830 MiB, 85 MiB/s, 16 s left (layer sha256:ab12ab12ab12)",
        );
        let hour = 3600 * MIB;
        let quick = [(0, 0), (4, 4 * MIB)];
        check(
            bytes,
            Some(hour + 5),
            &quick,
            "",
            ": 4 of 3600 MiB, 1 MiB/s, 60 min left",
        );
        check(
            bytes,
            Some(2 * hour),
            &quick,
            "",
            ": 4 of 7200 MiB, 1 MiB/s, 2 h 0 min left",
        );
        // More than anybody waits for, and no total: the rate alone.
        check(
            bytes,
            Some(u64::MAX),
            &quick,
            "",
            ": 4 of 17592186044415 MiB, 1 MiB/s",
        );
        check(bytes, None, &quick, "x", ": 4 MiB, 1 MiB/s (x)");
        // Slow, very slow, standing still.
        check(
            bytes,
            None,
            &[(0, 0), (4, 40 << 10)],
            "",
            ": 0 MiB, 10 KiB/s",
        );
        check(
            bytes,
            Some(99),
            &[(0, 0), (10, 9)],
            "",
            ": 0 of 0 MiB, 2 min left",
        );
        check(bytes, Some(MIB), &[(0, 9), (10, 9)], "", ": 0 of 1 MiB");
        // Back to the start: what was known is void.
        check(
            bytes,
            Some(8 * MIB),
            &[(0, 0), (5, 5 * MIB), (6, MIB)],
            "",
            ": 1 of 8 MiB",
        );
        check(
            items,
            Some(120),
            &[(0, 0), (60, 30)],
            "",
            ": 30 of 120, 30/min, 3 min left",
        );
        check(
            items,
            Some(120),
            &[(0, 0), (10, 30)],
            "",
            ": 30 of 120, 3/s, 30 s left",
        );
        // Names that are long, or would break the line.
        check(items, None, &[(0, 1)], "a\nb;c", ": 1 (a b,c)");
        let long = format!("{}/{}", "registry".repeat(20), "n".repeat(60));
        let kept = format!("...{}/{}", &"registry".repeat(20)[128..], "n".repeat(60));
        check(items, None, &[(0, 1)], &long, &format!(": 1 ({kept})"));
    }

    #[test]
    fn an_earlier_error_is_told_until_its_step_is_done() {
        let mut view = view(&[]);
        let step = StepRef {
            index: 0,
            name: "fetch-seed".to_owned(),
        };
        view.apply(&Event::StepFailed {
            step: step.clone(),
            kind: "transient".to_owned(),
            error: format!("reset\nby {}", "peer".repeat(100)),
            at: 2,
        });
        assert_eq!(describe(&view), "");
        view.apply(&Event::StepStarted { step, at: 3 });
        let told = describe(&view);
        let expect = "step fetch-seed (1 of 1); after an error: reset by peerpeer";
        assert!(told.starts_with(expect) && told.ends_with("..."), "{told}");
        assert!(told.len() < 300, "{}", told.len());
    }
}
