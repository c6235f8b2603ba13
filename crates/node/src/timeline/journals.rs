//! The journals of all releases on the node.

use api::StaterootName;
use engine::{Course, JournalStore};

use crate::journal_files::JournalFiles;
use crate::ports::Files;

/// The runs that journals on this node tell of.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Journals {
    /// In no order.
    pub courses: Vec<Course>,
    /// What could not be read, and why.
    pub problems: Vec<String>,
}

impl Journals {
    /// Reads the running release's journals and those of these other stateroots. Never fails: what cannot be read is a problem
    /// that is told.
    pub fn read(files: &dyn Files, others: &[StaterootName]) -> Self {
        let mut found = Self::default();
        found.read_from(&JournalFiles::new(files), "this release");
        for stateroot in others {
            let store = JournalFiles::in_stateroot(files, stateroot);
            found.read_from(&store, stateroot.as_str());
        }
        if found.courses.is_empty() && found.problems.is_empty() {
            found
                .problems
                .push("there are no journals of runs on this node".to_owned());
        }
        found
    }

    fn read_from(&mut self, store: &JournalFiles<'_>, whose: &str) {
        let runs = match store.list() {
            Ok(runs) => runs,
            Err(error) => {
                let error = engine::error_chain(&error);
                self.problems.push(format!("journals of {whose}: {error}"));
                return;
            }
        };
        for run in runs {
            let bytes = match store.read(&run) {
                Ok(Some(bytes)) => bytes,
                // Removed meanwhile.
                Ok(None) => continue,
                Err(error) => {
                    let error = engine::error_chain(&error);
                    self.problems
                        .push(format!("journal {run} of {whose}: {error}"));
                    continue;
                }
            };
            match Course::from_journal(&bytes) {
                Ok(course) => {
                    if course.torn {
                        self.problems.push(format!(
                            "journal {run} of {whose} is torn: its last line is missing"
                        ));
                    }
                    self.courses.push(course);
                }
                Err(error) => {
                    let error = engine::error_chain(&error);
                    self.problems
                        .push(format!("journal {run} of {whose}: {error}"));
                }
            }
        }
    }
}
