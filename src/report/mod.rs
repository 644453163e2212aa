//! What a person or a program is shown: what stands there now, what a migration would do, and how a
//! rehearsal went.

mod preview;
mod rehearse;
mod status;

pub use preview::{Preview, PreviewKeyspace, PreviewStep, preview};
pub use rehearse::{Rehearsal, RehearsedKeyspace};
pub use status::{
    QuarantineStatus, QuarantinedKeyspace, SourceStatus, Status, TargetStatus, status,
};
