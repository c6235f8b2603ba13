//! Metrics: what the run tells, counted, and where it is now (docs/metrics.md).

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use engine::{Event, RunView, Unit};
use node::LatestRun;
use planner::State;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

/// The media type of [`Metrics::text`].
pub(crate) const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds of a run's duration, in seconds: clean-ups take seconds, a Prep over a poor link hours.
const DURATIONS: [f64; 11] = [
    1.0, 5.0, 15.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0,
];

type Labels = Vec<(&'static str, String)>;
type Durations = Family<Labels, Histogram, fn() -> Histogram>;

/// The metrics of this process. Clones share them.
#[derive(Clone)]
pub(crate) struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    now: Now,
    steps_started: Family<Labels, Counter>,
    steps_completed: Family<Labels, Counter>,
    steps_failed: Family<Labels, Counter>,
    steps_retried: Family<Labels, Counter>,
    runs_resumed: Family<Labels, Counter>,
    durations: Durations,
    last_success: Family<Labels, Gauge>,
    last_failure: Family<Labels, Gauge>,
}

/// Where the agent is at the moment of a scrape; nothing is kept up to date meanwhile.
#[derive(Clone, Default)]
struct Now(Arc<Mutex<Position>>);

#[derive(Default)]
struct Position {
    state: Option<State>,
    latest: LatestRun,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let version = vec![("version", env!("CARGO_PKG_VERSION"))];
        registry.register(
            "lifecycle_agent_build",
            "Version of the agent that runs",
            Info::new(version),
        );
        let now = Now::default();
        registry.register_collector(Box::new(now.clone()));
        let mut counter = |name: &str, help: &str| {
            let family = Family::<Labels, Counter>::default();
            registry.register(format!("lifecycle_agent_{name}"), help, family.clone());
            family
        };
        let steps_started = counter("steps_started", "Steps begun, each attempt of one too");
        let steps_completed = counter("steps_completed", "Steps completed");
        let steps_failed = counter("steps_failed", "Attempts of steps that failed, by kind");
        let steps_retried = counter("steps_retried", "Steps begun again after they failed");
        let runs_resumed = counter(
            "runs_resumed",
            "Runs gone on with after an interruption or a failure",
        );
        let durations = Durations::new_with_constructor(|| Histogram::new(DURATIONS));
        registry.register(
            "lifecycle_agent_run_duration_seconds",
            "Time from the begin of a plan's run to its completion, interruptions included",
            durations.clone(),
        );
        let mut time = |name: &str, help: &str| {
            let family = Family::<Labels, Gauge>::default();
            registry.register(format!("lifecycle_agent_{name}"), help, family.clone());
            family
        };
        let last_success = time(
            "last_success_timestamp_seconds",
            "When a plan was last completed, unix seconds",
        );
        let last_failure = time(
            "last_failure_timestamp_seconds",
            "When a step of a plan last failed, unix seconds",
        );
        Self(Arc::new(Inner {
            registry,
            now,
            steps_started,
            steps_completed,
            steps_failed,
            steps_retried,
            runs_resumed,
            durations,
            last_success,
            last_failure,
        }))
    }
}

impl Metrics {
    /// Where to look for the run under way.
    pub(crate) fn follow(&self, latest: LatestRun) {
        self.0.now.lock(|position| position.latest = latest);
    }

    /// The position that a pass found.
    pub(crate) fn enter(&self, state: State) {
        self.0.now.lock(|position| position.state = Some(state));
    }

    /// Counts an event of the run, behind its view.
    pub(crate) fn record(&self, event: &Event) {
        let inner = &*self.0;
        if event.lossy() {
            return;
        }
        let view = inner.now.lock(|position| position.latest.view());
        let plan = || vec![("plan", view.plan_name.clone())];
        let of = |step: &str| [plan(), vec![("step", step.to_owned())]].concat();
        let time = |at: u64| i64::try_from(at).unwrap_or(i64::MAX);
        match event {
            Event::StepStarted { step, .. } => {
                inner.steps_started.get_or_create(&of(&step.name)).inc();
                // Kept by the view until the step that failed is done.
                let failed = view.last_error.as_ref().map(|last| &last.step);
                if failed == Some(step) {
                    inner.steps_retried.get_or_create(&of(&step.name)).inc();
                }
            }
            Event::StepDone { step, .. } => {
                inner.steps_completed.get_or_create(&of(&step.name)).inc();
            }
            Event::StepFailed { step, kind, at, .. } => {
                let labels = [of(&step.name), vec![("kind", kind.clone())]].concat();
                inner.steps_failed.get_or_create(&labels).inc();
                inner.last_failure.get_or_create(&plan()).set(time(*at));
            }
            Event::RunResumed { .. } => {
                inner.runs_resumed.get_or_create(&plan()).inc();
            }
            Event::RunCompleted { at } => {
                inner.last_success.get_or_create(&plan()).set(time(*at));
                if let Some(started) = view.started {
                    let seconds = u32::try_from(at.saturating_sub(started)).unwrap_or(u32::MAX);
                    let durations = inner.durations.get_or_create(&plan());
                    durations.observe(f64::from(seconds));
                }
            }
            Event::RunStarted { .. }
            | Event::StepProgress { .. }
            | Event::JournalRepaired { .. }
            | Event::WorldDisagreed { .. }
            | Event::RunStopped { .. }
            | Event::RunFailed { .. }
            | Event::JournalFailed { .. }
            | Event::RunClosed { .. }
            | Event::Unknown => {}
        }
    }

    /// All of them in the OpenMetrics text format.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.0.registry);
        text
    }
}

impl Now {
    fn lock<T>(&self, look: impl FnOnce(&mut Position) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Now {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Now(..)")
    }
}

impl Collector for Now {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let (state, view) = self.lock(|position| (position.state, position.latest.view()));
        if let Some(now) = state {
            let mut gauge = encoder.encode_descriptor(
                "lifecycle_agent_state",
                "1 for the position that the upgrade is in, 0 for all others.",
                None,
                MetricType::Gauge,
            )?;
            for state in State::ALL {
                one(
                    &mut gauge,
                    &[("state", state.to_string())],
                    u64::from(state == now),
                )?;
            }
        }
        encode_step(&view, &mut encoder)
    }
}

/// The step that runs now and how far it is; nothing between steps.
fn encode_step(view: &RunView, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
    let Some(step) = view.current.and_then(|at| view.steps.get(at)) else {
        return Ok(());
    };
    let labels = [
        ("plan", view.plan_name.clone()),
        ("step", step.name.clone()),
    ];
    let mut gauge = |name: &str, help: &str, value: Option<u64>| {
        let Some(value) = value else { return Ok(()) };
        let name = format!("lifecycle_agent_step{name}");
        let mut gauge = encoder.encode_descriptor(&name, help, None, MetricType::Gauge)?;
        one(&mut gauge, &labels, value)
    };
    gauge("", "1 for the step that runs now.", Some(1))?;
    let Some(progress) = &view.progress else {
        return Ok(());
    };
    let rate = view.pace.rate();
    match progress.unit {
        Unit::Bytes => {
            gauge(
                "_done_bytes",
                "Bytes that the step has done.",
                Some(progress.done),
            )?;
            gauge(
                "_total_bytes",
                "Bytes that the step has to do, where known.",
                progress.total,
            )?;
            gauge(
                "_bytes_per_second",
                "Mean rate of the step over about ten seconds, where known.",
                rate.map(|thousandths| thousandths / 1000),
            )?;
        }
        Unit::Items => {
            gauge(
                "_done_items",
                "Things that the step has done.",
                Some(progress.done),
            )?;
            gauge(
                "_total_items",
                "Things that the step has to do, where known.",
                progress.total,
            )?;
        }
    }
    gauge(
        "_remaining_seconds",
        "Time that the step still takes at its rate, where known.",
        view.pace.left(progress.total),
    )
}

fn one(
    gauge: &mut MetricEncoder<'_>,
    labels: &[(&'static str, String)],
    value: u64,
) -> Result<(), fmt::Error> {
    // The format's integers end there.
    let value = i64::try_from(value).unwrap_or(i64::MAX);
    ConstGauge::new(value).encode(gauge.encode_family(&labels)?)
}

#[cfg(test)]
mod tests {
    use engine::{Presence, Progress, StepRef};
    use planner::PlanName;

    use super::*;

    /// A run whose every event is told as the agent tells it: to the view, then to the metrics.
    struct Script {
        metrics: Metrics,
        latest: LatestRun,
    }

    impl Script {
        fn tell(&self, uptime: u64, event: Event) {
            self.latest.record(&event, uptime);
            self.metrics.record(&event);
        }

        fn progress(&self, uptime: u64, done: u64, unit: Unit) {
            self.tell(
                uptime,
                Event::StepProgress {
                    step: step(),
                    progress: Progress {
                        done,
                        total: Some(1000),
                        unit,
                        object: "secret name".to_owned(),
                    },
                },
            );
        }
    }

    fn step() -> StepRef {
        StepRef {
            index: 0,
            name: "fetch-seed".to_owned(),
        }
    }

    fn script() -> Script {
        let script = Script {
            metrics: Metrics::default(),
            latest: LatestRun::default(),
        };
        drop(script.latest.begin(PlanName::FetchSeed));
        script.metrics.follow(script.latest.clone());
        script.tell(
            1,
            Event::RunStarted {
                run: "r1".parse().unwrap(),
                plan: "fetch-seed".to_owned(),
                steps: vec!["fetch-seed".to_owned()],
                at: 1000,
            },
        );
        script.tell(
            1,
            Event::StepStarted {
                step: step(),
                at: 1000,
            },
        );
        script
    }

    /// Lines that are no comments, sorted: families keep their members in no order.
    fn samples(text: &str) -> Vec<&str> {
        let mut samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        samples.sort_unstable();
        samples
    }

    #[test]
    fn a_step_shows_how_far_it_is_while_it_runs() {
        let script = script();
        for (uptime, done) in [(1, 0), (5, 400)] {
            script.progress(uptime, done, Unit::Bytes);
        }
        let text = script.metrics.text();
        let labels = r#"{plan="fetch-seed",step="fetch-seed"}"#;
        let expect = [
            r#"lifecycle_agent_build_info{version="0.1.0"} 1"#.to_owned(),
            format!("lifecycle_agent_step_bytes_per_second{labels} 100"),
            format!("lifecycle_agent_step_done_bytes{labels} 400"),
            format!("lifecycle_agent_step_remaining_seconds{labels} 6"),
            format!("lifecycle_agent_step_total_bytes{labels} 1000"),
            format!("lifecycle_agent_steps_started_total{labels} 1"),
            format!("lifecycle_agent_step{labels} 1"),
        ];
        assert_eq!(samples(&text), expect, "{text}");
        assert!(
            text.ends_with("# EOF\n") && !text.contains("secret name"),
            "{text}"
        );
        // Things that are counted have names of their own.
        script.progress(6, 7, Unit::Items);
        let text = script.metrics.text();
        assert!(
            text.contains(&format!("step_done_items{labels} 7\n")),
            "{text}"
        );
        assert!(!text.contains("_bytes"), "{text}");
    }

    #[test]
    fn what_has_happened_is_counted() {
        let script = script();
        script.metrics.enter(State::PrepInProgress);
        script.tell(
            2,
            Event::StepFailed {
                step: step(),
                kind: "transient".to_owned(),
                error: "reset".to_owned(),
                at: 1001,
            },
        );
        script.tell(
            2,
            Event::RunFailed {
                step: step(),
                at: 1001,
            },
        );
        let steps = vec!["fetch-seed".to_owned()];
        script.tell(
            3,
            Event::RunResumed {
                run: "r1".parse().unwrap(),
                plan: "fetch-seed".to_owned(),
                steps,
                done: 0,
                at: 1002,
            },
        );
        script.tell(
            3,
            Event::StepStarted {
                step: step(),
                at: 1002,
            },
        );
        script.tell(
            90,
            Event::StepDone {
                step: step(),
                presence: Presence::Absent,
                at: 1090,
            },
        );
        script.tell(90, Event::RunCompleted { at: 1090 });
        let text = script.metrics.text();
        let (buckets, rest): (Vec<&str>, Vec<&str>) = samples(&text)
            .into_iter()
            .filter(|line| !line.ends_with("} 0"))
            .partition(|line| line.contains("_bucket{"));
        let expect = r#"lifecycle_agent_build_info{version="0.1.0"} 1
lifecycle_agent_last_failure_timestamp_seconds{plan="fetch-seed"} 1001
lifecycle_agent_last_success_timestamp_seconds{plan="fetch-seed"} 1090
lifecycle_agent_run_duration_seconds_count{plan="fetch-seed"} 1
lifecycle_agent_run_duration_seconds_sum{plan="fetch-seed"} 90.0
lifecycle_agent_runs_resumed_total{plan="fetch-seed"} 1
lifecycle_agent_state{state="PrepInProgress"} 1
lifecycle_agent_steps_completed_total{plan="fetch-seed",step="fetch-seed"} 1
lifecycle_agent_steps_failed_total{plan="fetch-seed",step="fetch-seed",kind="transient"} 1
lifecycle_agent_steps_retried_total{plan="fetch-seed",step="fetch-seed"} 1
lifecycle_agent_steps_started_total{plan="fetch-seed",step="fetch-seed"} 2"#;
        assert_eq!(rest.join("\n"), expect, "{text}");
        // 90 s: in the bounds of 120 s and more, and in the one without end.
        assert_eq!(buckets.len(), 8, "{buckets:?}");
        let states = text.matches("lifecycle_agent_state{").count();
        assert_eq!(states, State::ALL.len());
    }

    #[test]
    fn the_table_of_the_documentation_is_whole() {
        let script = script();
        script.metrics.enter(State::Idle);
        script.progress(1, 1, Unit::Bytes);
        let bytes = script.metrics.text();
        script.progress(1, 1, Unit::Items);
        let text = bytes + &script.metrics.text();
        let documented = include_str!("../docs/metrics.md");
        let names = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let mut count = 0;
        for name in names.filter_map(|line| line.split(' ').next()) {
            assert!(documented.contains(&format!("`{name}")), "{name}");
            count += 1;
        }
        assert!(count > 10, "{count} metrics");
    }
}
