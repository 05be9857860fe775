//! `[train.checkpoint]`: what an unfinished run keeps.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What an unfinished run keeps, in the folder `resume/` of the model folder, until it has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct CheckpointSpec {
    /// Seconds between two writes, each at the end of an epoch; 0 writes after every epoch.
    pub every_seconds: u64,
    /// Whether to go on from what an unfinished run kept: `true` refuses the state of another run, and `"if-same"` says how
    /// it differs and starts anew.
    pub resume: Resume,
}

/// Whether to go on from what an unfinished run kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(from = "ResumeText", into = "ResumeText")]
pub enum Resume {
    /// Training starts from the start.
    #[default]
    No,
    /// It goes on, and refuses the state of another run.
    Yes,
    /// It goes on where the state is of the same run, and else starts anew.
    IfSame,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "true, false or \"if-same\" is wanted")]
enum ResumeText {
    Flag(bool),
    Word(ResumeWord),
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum ResumeWord {
    IfSame,
}

impl From<ResumeText> for Resume {
    fn from(text: ResumeText) -> Self {
        match text {
            ResumeText::Flag(false) => Self::No,
            ResumeText::Flag(true) => Self::Yes,
            ResumeText::Word(ResumeWord::IfSame) => Self::IfSame,
        }
    }
}

impl From<Resume> for ResumeText {
    fn from(resume: Resume) -> Self {
        match resume {
            Resume::No => Self::Flag(false),
            Resume::Yes => Self::Flag(true),
            Resume::IfSame => Self::Word(ResumeWord::IfSame),
        }
    }
}

impl Default for CheckpointSpec {
    fn default() -> Self {
        Self { every_seconds: 300, resume: Resume::No }
    }
}
